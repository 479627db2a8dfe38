"""How a model is laid over devices. Nothing here knows a Trainer: a loop of your own can use it, too."""

from levin.strategies.base import Strategy
from levin.strategies.single_device import SingleDeviceStrategy

__all__ = ["SingleDeviceStrategy", "Strategy"]
