"""How a model is laid over devices; used by Fabric and Trainer alike."""

from levin.strategies.base import Strategy
from levin.strategies.single_device import SingleDeviceStrategy

__all__ = ["SingleDeviceStrategy", "Strategy"]
