"""The names that types are given: what steps return, what schedulers are, a dictionary with attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

STEP_OUTPUT = Tensor | Mapping[str, Any] | None
"""What `training_step`, `validation_step` and `test_step` return."""

EVALUATE_OUTPUT = list[Mapping[str, float]]
"""What `Trainer.validate` and `Trainer.test` return: name -> value for each dataloader."""

TRAIN_DATALOADERS = Any
"""What `train_dataloader` returns: an iterable of batches, or a (nested) collection of such."""

EVAL_DATALOADERS = Any
"""What the other dataloader hooks return: an iterable of batches, or several."""

LRSchedulerTypeTuple: tuple[type[LRScheduler], type[ReduceLROnPlateau]] = (LRScheduler, ReduceLROnPlateau)
"""The classes of torch's schedulers, for `isinstance`."""

LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau
"""A scheduler of torch's."""

LRSchedulerType = type[LRScheduler] | type[ReduceLROnPlateau]
"""A class of such schedulers."""


@runtime_checkable
class Stateful(Protocol):
    """What keeps state that belongs in a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state that ``state_dict`` gave."""
        ...


@runtime_checkable
class Steppable(Protocol):
    """What is stepped with a closure: an optimizer."""

    def step(self, closure: Any = ...) -> Any:
        """Make one step."""
        ...


@dataclass
class LRSchedulerConfig:
    """A learning rate scheduler and when it is to be stepped.

    Attributes:
        scheduler: The scheduler.
        name: The name it has in the logs.
        interval: ``"epoch"``, ``"step"`` or ``"validation"``.
        frequency: Step it at each so many epochs, batches or validations.
        reduce_on_plateau: Whether it is stepped with the value of a metric.
        monitor: The name of that metric.
        strict: Whether a missing metric is an error rather than a warning.
    """

    scheduler: LRSchedulerTypeUnion
    name: str | None = None
    interval: str = "epoch"
    frequency: int = 1
    reduce_on_plateau: bool = False
    monitor: str | None = None
    strict: bool = True


class LRSchedulerConfigType(TypedDict, total=False):
    """What ``configure_optimizers`` may say about a scheduler: :class:`LRSchedulerConfig` as a dictionary."""

    scheduler: LRSchedulerTypeUnion
    name: str | None
    interval: str
    frequency: int
    reduce_on_plateau: bool
    monitor: str | None
    strict: bool


class OptimizerConfig(TypedDict):
    """What ``configure_optimizers`` may return: an optimizer alone."""

    optimizer: Optimizer


class OptimizerLRSchedulerConfig(TypedDict, total=False):
    """What ``configure_optimizers`` may return: an optimizer and its scheduler."""

    optimizer: Optimizer
    lr_scheduler: LRSchedulerTypeUnion | LRSchedulerConfigType
    monitor: str


LRSchedulerPLType = LRSchedulerTypeUnion
"""A scheduler as modules see it."""

OptimizerLRScheduler = (
    Optimizer
    | Sequence[Optimizer]
    | tuple[Sequence[Optimizer], Sequence[LRSchedulerTypeUnion | LRSchedulerConfigType]]
    | OptimizerConfig
    | OptimizerLRSchedulerConfig
    | Sequence[OptimizerConfig]
    | Sequence[OptimizerLRSchedulerConfig]
    | None
)
"""What ``configure_optimizers`` returns."""


class AttributeDict(dict[str, Any]):
    """A dictionary whose entries are attributes too.

    Examples:
        >>> settings = AttributeDict(lr=0.1, layers=2)
        >>> settings.lr = 0.2
        >>> settings["lr"]
        0.2
        >>> settings
        "layers": 2
        "lr":     0.2
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no entry {name!r} among {sorted(map(str, self))}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"There is no entry {name!r} to delete.") from None

    def __repr__(self) -> str:
        if not self:
            return ""
        width = max(len(str(key)) for key in self) + 4
        rows = ("".join((f'"{key}":'.ljust(width), str(self[key]))) for key in sorted(self, key=str))
        return "\n".join(rows)
