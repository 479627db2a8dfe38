"""Entry: one logged name, what it means, and what came under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from levin.core.hooks import LogRule


class Reduction(Enum):
    """How an epoch's value comes from the values of its steps."""

    MEAN = "mean"
    SUM = "sum"
    MIN = "min"
    MAX = "max"

    @classmethod
    def parse(cls, fx: str | Callable[..., Any]) -> Reduction:
        """The reduction that ``reduce_fx`` names: a word, or the function of torch or Python of that name."""
        word = fx.lower() if isinstance(fx, str) else getattr(fx, "__name__", str(fx))
        if (isinstance(fx, str) and word in _REDUCTIONS) or fx in _REDUCING_FUNCTIONS:
            return _REDUCTIONS[word]
        raise MisconfigurationException(
            f"self.log(reduce_fx={fx!r}) is not possible. Use one of 'mean', 'sum', 'min', 'max' (or "
            "torch.mean, torch.sum, torch.min, torch.max); for anything else log a torchmetrics.Metric."
        )


_REDUCTIONS = {"avg": Reduction.MEAN, **{reduction.value: reduction for reduction in Reduction}}
_REDUCING_FUNCTIONS = (torch.mean, torch.sum, torch.min, torch.max, sum, min, max)
NUMBERS = (int, float, Real)  # Real holds NumPy's; the others are found faster


@dataclass(frozen=True)
class LogOptions:
    """The arguments of `self.log` that must be the same each time, with its defaults."""

    prog_bar: bool = False
    logger: bool | None = None
    on_step: bool | None = None
    on_epoch: bool | None = None
    reduce_fx: str | Callable[..., Any] = "mean"
    enable_graph: bool = False
    sync_dist: bool = False
    sync_dist_group: Any = None
    add_dataloader_idx: bool = True
    metric_attribute: str | None = None
    rank_zero_only: bool = False


class Entry:
    """One name logged in one hook: what it means, settled at the first call, and what came since then.

    Args:
        name: The name without any suffix, but with that of its dataloader.
        options: The arguments of the first call, as `Metrics.log` got them.
        settings: The same, by name.
        rule: The defaults of the hook.
        dataloader_idx: The evaluation loader that it belongs to; None where there is only one.
    """

    __slots__ = (
        "adds", "bare_name", "dataloader_idx", "epoch_name", "keeps_graph", "last", "logger", "metric",
        "on_epoch", "on_step",
        "options", "prog_bar", "reduction", "shared", "shared_step", "step_name", "syncs", "total",
        "weight", "weighted",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        options: tuple[Any, ...],
        settings: LogOptions,
        rule: LogRule,
        dataloader_idx: int | None,
    ) -> None:
        self.options: tuple[Any, ...] = options
        self.dataloader_idx: int | None = dataloader_idx
        self.on_step: bool = rule.on_step if settings.on_step is None else settings.on_step
        self.on_epoch: bool = rule.on_epoch if settings.on_epoch is None else settings.on_epoch
        self.prog_bar: bool = settings.prog_bar
        self.logger: bool = settings.logger is not False
        self.keeps_graph: bool = settings.enable_graph
        self.reduction: Reduction = Reduction.parse(settings.reduce_fx)
        suffix = "" if dataloader_idx is None else f"/dataloader_idx_{dataloader_idx}"
        is_forked = self.on_step and self.on_epoch
        self.bare_name: str = name + suffix
        self.step_name: str = f"{name}_step{suffix}" if is_forked else self.bare_name
        self.epoch_name: str = f"{name}_epoch{suffix}" if is_forked else self.bare_name
        self.weighted: bool = self.on_epoch and self.reduction is Reduction.MEAN
        self.adds: bool = self.reduction in (Reduction.MEAN, Reduction.SUM)
        self.metric: Any = None
        self.last: Any = None
        self.total: Any = None
        self.weight: int = 0
        self.syncs: bool = settings.sync_dist
        self.shared: tuple[Any, float] | None = None  # the epoch's value over all processes
        self.shared_step: Any = None  # the newest step's

    def form(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What another process needs to have the same entry, without any value."""
        return {**self.state_dict(metrics), "last": None, "total": None, "weight": 0}

    def step_summary(self) -> list[Any]:
        """What this process adds to the newest step's value of all."""
        return [0.0, 0.0] if self.last is None or self.metric is not None else [self.last, 1.0]

    def summary(self) -> list[Any]:
        """What this process adds to the value of all: a total and its weight, of which 0 means nothing."""
        if self.metric is not None:
            return [0.0, 1.0]
        if self.total is None:
            return [0.0, 0.0]
        return [self.total, float(self.weight) if self.weighted else 1.0]

    def state_dict(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Everything but the arguments of the call, which the next one brings.

        Args:
            metrics: The module's metric objects, by where they stand in it.
        """
        state = {name: getattr(self, name) for name in _ENTRY_STATE}
        path = next((path for path, metric in metrics.items() if metric is self.metric), None)
        return {**state, "reduction": self.reduction.value, "metric": path}

    @classmethod
    def restored(cls, state: Mapping[str, Any], metrics: Mapping[str, Any]) -> Entry:
        """The entry whose `state_dict` it was; `options` are those of no call."""
        entry = cls.__new__(cls)
        for name in _ENTRY_STATE:
            setattr(entry, name, state[name])
        entry.options, entry.reduction = (), Reduction(state["reduction"])
        entry.shared, entry.shared_step, entry.syncs = None, None, False
        entry.metric = metrics.get(state["metric"])
        return entry

    def add(self, value: Any, weight: int) -> None:
        """Take in one step's value; no host waits for a device here."""
        if self.metric is not None:
            self.last = _forward_value(self.metric)
            return
        if isinstance(value, Tensor):
            # a copy: ``loss /= n`` after ``self.log("loss", loss)`` must not change what was logged
            value = value.clone() if self.keeps_graph else value.detach().clone()
            if value.ndim:
                value = value.view(())
        else:
            value = float(value)
        self.last = value
        self.shared_step = None
        if not self.on_epoch:
            return
        self.shared = None
        if self.adds and isinstance(self.total, Tensor) and isinstance(value, Tensor):
            # one kernel; the sum is ours and wide, whatever the value's type
            self.total.add_(value.detach(), alpha=weight if self.weighted else 1)
            self.weight += weight
        else:
            self._accumulate(value, weight)

    def _accumulate(self, value: Any, weight: int) -> None:
        """Sums are kept in float64: an epoch of float32 additions loses digits, of bfloat16 all of them."""
        term = value.detach().to(wide_dtype(value), copy=True) if isinstance(value, Tensor) else value
        if self.weighted:
            term = term * weight
        self.weight += weight
        if self.total is None:
            self.total = term
        elif self.adds:
            self.total = self.total + term
        else:
            self.total = _extreme(self.reduction, self.total, term)

    def step_value(self) -> Any:
        """The newest value; None for a metric that was only updated."""
        if self.metric is not None:
            return None if self.last is None else _scalar(self.bare_name, self.last)
        if self.shared_step is not None:
            return self.shared_step
        if isinstance(self.last, Tensor) and not self.last.is_floating_point():
            return self.last.to(torch.get_default_dtype())
        return self.last

    def _as_logged(self, value: Any) -> Any:
        if self.metric is not None:
            return _scalar(self.bare_name, value)
        return value.to(torch.get_default_dtype())

    def epoch_value(self) -> Any:
        """The value over the epoch so far; None if nothing was logged."""
        if self.shared is not None:
            return self._as_logged(self.shared[0])
        if self.metric is not None:
            return _scalar(self.bare_name, self.metric.compute())
        if self.total is None:
            return None
        value = self.total
        if self.reduction is Reduction.MEAN:  # of no samples: NaN, as it is with tensors
            value = value / self.weight if isinstance(value, Tensor) or self.weight else math.nan
        return value.to(torch.get_default_dtype()) if isinstance(value, Tensor) else value


_ENTRY_STATE = (
    "adds", "bare_name", "dataloader_idx", "epoch_name", "keeps_graph", "last", "logger", "on_epoch",
    "on_step", "prog_bar", "step_name", "total", "weight", "weighted",
)  # fmt: skip


def wide_dtype(value: Tensor) -> torch.dtype:
    """The type that values are summed in."""
    return torch.float32 if value.device.type == "mps" else torch.float64


def _extreme(reduction: Reduction, left: Any, right: Any) -> Any:
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        return min(left, right) if reduction is Reduction.MIN else max(left, right)
    left, right = torch.as_tensor(left), torch.as_tensor(right)
    return torch.minimum(left, right) if reduction is Reduction.MIN else torch.maximum(left, right)


def _scalar(name: str, value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.view(())
    if isinstance(value, (int, float)):
        return value
    raise ValueError(
        f"The metric logged as {name!r} computes {value!r}, which is no single number. Log a metric with "
        "one value, or log each value of `metric.compute()` under its own name and call `metric.reset()` "
        "yourself."
    )


def _forward_value(metric: Any) -> Any:
    """The value of the last ``metric(preds, target)``; None if only `update` was called."""
    return metric._forward_cache  # noqa: SLF001  # torchmetrics has no public name for it
