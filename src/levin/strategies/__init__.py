"""How a model is laid over devices. Nothing here knows a Trainer: a loop of your own can use it, too."""

from __future__ import annotations

from levin.strategies.averaging import LocalSGD
from levin.strategies.base import Strategy
from levin.strategies.compression import PowerSGD
from levin.strategies.ddp import DDPStrategy
from levin.strategies.layer_sync import LayerSync, TorchSyncBatchNorm
from levin.strategies.parallel import ParallelStrategy
from levin.strategies.registry import StrategyRegistry
from levin.strategies.single_device import SingleDeviceStrategy
from levin.utils.lazy import load_on_use

__all__ = [
    "DDPStrategy",
    "LayerSync",
    "LocalSGD",
    "ParallelStrategy",
    "PowerSGD",
    "SingleDeviceStrategy",
    "Strategy",
    "StrategyRegistry",
    "TorchSyncBatchNorm",
]

load_on_use(__name__, {})
