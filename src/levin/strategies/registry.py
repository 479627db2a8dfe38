"""The strategies by name: the words for ``strategy=``."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from levin.strategies.ddp import DDPStrategy
from levin.utils.registry import Registry

if TYPE_CHECKING:
    from levin.strategies.base import Strategy

StrategyRegistry: Registry[Strategy] = Registry("strategy", entry_point_group="levin.strategies")
"""Strategies by name. ``StrategyRegistry.register("mine", MyStrategy, setting=1)`` adds one."""

_STARTS = {"": "popen", "_spawn": "spawn", "_fork": "fork", "_forkserver": "forkserver", "_notebook": "fork"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "_find_unused_parameters_true": {"find_unused_parameters": True},
    "_find_unused_parameters_false": {"find_unused_parameters": False},
    "_static_graph": {"static_graph": True},
}

for (_start, _method), (_option, _params) in product(_STARTS.items(), _OPTIONS.items()):
    StrategyRegistry.register(
        f"ddp{_start}{_option}",
        DDPStrategy,
        f"DistributedDataParallel; processes by {_method}"
        + "".join(f", {name}={value}" for name, value in _params.items()),
        start_method=_method,
        **_params,
    )
