"""`configure_optimizers` -> optimizers and schedulers of settled meaning; optimizers as modules see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from levin.utils.errors import MisconfigurationException, SkipStep
from levin.utils.rank import rank_zero_warn
from levin.utils.types import LRSchedulerConfig, Stateful

if TYPE_CHECKING:
    from levin.core.module import LightningModule
    from levin.strategies.base import Strategy


class _NoOptimizer(Optimizer):
    """Stands where `configure_optimizers` returned None: everything runs, nothing is updated."""

    def __init__(self) -> None:
        super().__init__([torch.zeros(1)], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return closure() if closure is not None else None

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass

    def __repr__(self) -> str:
        return "No optimizer"


def configure(module: LightningModule) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """Call the module's `configure_optimizers` and settle what it returned.

    Raises:
        MisconfigurationException: If the form is none of the six that are known, or a scheduler's settings
            make no sense.
        RuntimeError: If there are several optimizers, or none, for automatic optimization.
        TypeError: If a scheduler's state can't be saved.
    """
    returned = module.configure_optimizers()
    if returned is None:
        rank_zero_warn(
            "`configure_optimizers` returned None: this fit will run without an optimizer, and nothing will "
            "be learnt."
        )
        return [_NoOptimizer()], []
    optimizers, schedulers, monitor = _parse(returned)
    for optimizer in optimizers:
        _check_optimizer(optimizer)
    if module.automatic_optimization and len(optimizers) != 1:
        raise RuntimeError(
            f"`configure_optimizers` returned {len(optimizers)} optimizers, and automatic optimization "
            "takes one. Set `self.automatic_optimization = False` and step each of them in `training_step`, "
            "or give one optimizer several parameter groups."
        )
    configs = [_parse_scheduler(scheduler, monitor, module) for scheduler in schedulers]
    for config in configs:
        _check_scheduler(config, optimizers)
    return optimizers, configs


_FORMS = (
    "None; an optimizer; a list or tuple of optimizers; ([optimizers], [schedulers]); "
    '{"optimizer": ..., "lr_scheduler": ..., "monitor": ...}; a list of such dicts'
)


def _parse(returned: Any) -> tuple[list[Optimizer], list[Any], str | None]:
    """The six forms -> optimizers, schedulers (bare or as dicts), and the metric that they monitor."""
    if isinstance(returned, Optimizer):
        return [returned], [], None
    if isinstance(returned, Mapping):
        return _parse_dict(returned)
    if isinstance(returned, (list, tuple)):
        if len(returned) == 2 and isinstance(returned[0], (list, tuple)):
            schedulers = returned[1] if isinstance(returned[1], (list, tuple)) else [returned[1]]
            return list(returned[0]), list(schedulers), None
        if all(isinstance(item, Optimizer) for item in returned):
            return list(returned), [], None
        if all(isinstance(item, Mapping) for item in returned):
            return _parse_dicts(returned)
    raise MisconfigurationException(
        f"`configure_optimizers` returned {_describe(returned)}, which is none of the forms that are known: "
        f"{_FORMS}."
    )


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        given = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else f"{optimizer!r}"
        raise MisconfigurationException(
            f"`configure_optimizers` returned {given} where an optimizer is due. Make one: "
            "torch.optim.SGD(self.parameters(), lr=0.1)."
        )


def _describe(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of [{', '.join(type(item).__name__ for item in value)}]"
    return f"a {type(value).__name__}"


def _parse_dict(returned: Mapping[str, Any]) -> tuple[list[Optimizer], list[Any], str | None]:
    if "optimizer" not in returned:
        raise MisconfigurationException(
            f"`configure_optimizers` returned a dict with the keys {list(returned)}: 'optimizer' is missing."
        )
    unknown = set(returned) - {"optimizer", "lr_scheduler", "monitor"}
    if unknown:
        rank_zero_warn(
            "`configure_optimizers` returned a dict with unknown keys, which do nothing: "
            f"{sorted(unknown)}. Known are 'optimizer', 'lr_scheduler' and 'monitor'.",
            category=RuntimeWarning,
        )
    scheduler = returned.get("lr_scheduler")
    schedulers = [] if scheduler is None else list(scheduler) if isinstance(scheduler, list) else [scheduler]
    return [returned["optimizer"]], schedulers, returned.get("monitor")


def _parse_dicts(returned: Sequence[Mapping[str, Any]]) -> tuple[list[Optimizer], list[Any], str | None]:
    optimizers: list[Optimizer] = []
    schedulers: list[Any] = []
    for item in returned:
        ours, theirs, monitor = _parse_dict(item)
        optimizers += ours
        schedulers += [_with_monitor(scheduler, monitor) for scheduler in theirs]
    return optimizers, schedulers, None


def _with_monitor(scheduler: Any, monitor: str | None) -> Any:
    given = dict(scheduler) if isinstance(scheduler, Mapping) else {"scheduler": scheduler}
    return given if monitor is None else {"monitor": monitor, **given}


_SCHEDULER_KEYS = frozenset(field.name for field in fields(LRSchedulerConfig))
_INTERVALS = ("epoch", "step", "validation")


def _parse_scheduler(scheduler: Any, monitor: str | None, module: LightningModule) -> LRSchedulerConfig:
    given = _with_monitor(scheduler, monitor)
    if "scheduler" not in given:
        raise MisconfigurationException(
            f"The lr_scheduler dict has the keys {list(given)}: 'scheduler' is missing. Give "
            f"{{'scheduler': ..., 'interval': 'step'}}."
        )
    unknown = set(given) - _SCHEDULER_KEYS
    if unknown:
        rank_zero_warn(
            f"The lr_scheduler dict has unknown keys, which do nothing: {sorted(unknown)}. Known are "
            f"{sorted(_SCHEDULER_KEYS)}.",
            category=RuntimeWarning,
        )
    if not module.automatic_optimization:
        ignored = sorted(set(given) & {"frequency", "reduce_on_plateau", "monitor", "strict"})
        if ignored and scheduler is not given["scheduler"]:
            rank_zero_warn(
                f"The lr_scheduler dict sets {ignored}, which do nothing in manual optimization: call "
                "`scheduler.step()` where you want it.",
                category=RuntimeWarning,
            )
    known = {key: value for key, value in given.items() if key in _SCHEDULER_KEYS}
    known.setdefault("reduce_on_plateau", isinstance(given["scheduler"], ReduceLROnPlateau))
    config = LRSchedulerConfig(**known)
    _check_settings(config, module)
    return config


def _check_settings(config: LRSchedulerConfig, module: LightningModule) -> None:
    name = type(config.scheduler).__name__
    if not isinstance(config.scheduler, Stateful):
        raise TypeError(
            f"{name} can't be a scheduler: it lacks `state_dict` or `load_state_dict`, so that no "
            "checkpoint could hold it."
        )
    if not module.automatic_optimization:  # where the settings do nothing
        return
    if config.interval not in _INTERVALS:
        raise MisconfigurationException(
            f"The lr_scheduler's interval is {config.interval!r}. It is one of {list(_INTERVALS)}."
        )
    frequency: Any = config.frequency
    if not isinstance(frequency, int) or frequency < 1:
        raise MisconfigurationException(
            f"The lr_scheduler's frequency is {frequency!r}. It is a whole number, at least 1."
        )
    if config.reduce_on_plateau and config.monitor is None:
        raise MisconfigurationException(
            f"{name} follows a metric, and none is named. Return "
            f"{{'optimizer': ..., 'lr_scheduler': ..., 'monitor': 'val_loss'}}."
        )
    is_torch = isinstance(config.scheduler, (LRScheduler, ReduceLROnPlateau))
    if not is_torch and not module.overrides_scheduler_step:
        raise MisconfigurationException(
            f"{name} is no scheduler of torch. Override `lr_scheduler_step(self, scheduler, metric)` to say "
            "how it moves."
        )
    if isinstance(config.scheduler, OneCycleLR) and config.interval == "epoch":
        rank_zero_warn(
            "OneCycleLR is planned in steps, and its interval is 'epoch'. You surely want "
            "{'scheduler': ..., 'interval': 'step'}.",
            category=RuntimeWarning,
        )


def _check_scheduler(config: LRSchedulerConfig, optimizers: list[Optimizer]) -> None:
    optimizer = getattr(config.scheduler, "optimizer", None)  # schedulers of a user's own need not have one
    if optimizer is not None and not any(optimizer is ours for ours in optimizers):
        raise MisconfigurationException(
            f"{type(config.scheduler).__name__} moves an optimizer that `configure_optimizers` did not "
            "return. Return that one, too."
        )


def _move(scheduler: Any, metric: Any) -> None:
    scheduler.step(*(() if metric is None else (metric,)))


class SchedulerSet:
    """The schedulers of a run, moved when they are due.

    Args:
        configs: The schedulers and when they move.
        move: Moves one: the module's `lr_scheduler_step`; by default its own `step`.
        metrics: Where schedulers find the metric that they follow.
    """

    def __init__(
        self,
        configs: list[LRSchedulerConfig],
        move: Callable[[Any, Any], None] = _move,
        metrics: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.configs = configs
        self._move = move
        self._metrics = metrics

    def step(self, interval: str, number: int, *, plateau: bool | None = None) -> int:
        """Move those that are due.

        Args:
            interval: "step", "epoch" or "validation".
            number: The number of the batch in the epoch, of the epoch, or of the validation; from 1.
            plateau: Whether it is the turn of those that follow a metric, or of the others; None: of all.

        Returns:
            How many moved.
        """
        due = [
            config
            for config in self.configs
            if config.interval == interval
            and plateau in (None, config.reduce_on_plateau)
            and number % config.frequency == 0
        ]
        return sum(self._step(config) for config in due)

    def _step(self, config: LRSchedulerConfig) -> bool:
        if not config.reduce_on_plateau:
            self._move(config.scheduler, None)
            return True
        metrics = self._metrics()
        if config.monitor is None or config.monitor not in metrics:
            message = (
                f"{type(config.scheduler).__name__} follows {config.monitor!r}, which was not logged. There "
                f"is: {sorted(metrics)}. Log it with self.log({config.monitor!r}, ...) by then, or choose "
                "another 'monitor'"
            )
            if config.strict:
                raise MisconfigurationException(f"{message}; 'strict': False lets the scheduler wait.")
            rank_zero_warn(f"{message}. The scheduler waits.", category=RuntimeWarning)
            return False
        self._move(config.scheduler, metrics[config.monitor])
        return True


if TYPE_CHECKING:
    _AnOptimizer = Optimizer
else:
    _AnOptimizer = object  # what it really inherits is the class of the optimizer that it wraps


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that an optimizer will step with; of sparse ones the values."""
    found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return [grad._values() if grad.is_sparse else grad for grad in found]  # noqa: SLF001  # no other way


def divide_gradients(optimizer: Optimizer, divisor: Any) -> None:
    """Divide all gradients of an optimizer by a number, or a tensor of one."""
    gradients = gradients_of(optimizer)
    if gradients:
        torch._foreach_div_(gradients, divisor)


def _of_the_wrapped(name: str) -> property:
    return property(
        lambda self: getattr(self.optimizer, name), lambda self, value: setattr(self.optimizer, name, value)
    )


class LightningOptimizer(_AnOptimizer):
    """An optimizer as a module sees it: `step` goes through strategy and precision, all else is its own.

    It is an instance of the optimizer's class, too, so that schedulers and type checks take it for what it
    wraps.

    Args:
        optimizer: What `configure_optimizers` returned.
        strategy: What steps it.
        module: The module whose parameters it updates.
    """

    def __new__(cls, optimizer: Optimizer, *_: Any, **__: Any) -> LightningOptimizer:
        """Make an instance of a class that is both."""
        both = type(f"Lightning{type(optimizer).__name__}", (cls, type(optimizer)), {"__module__": __name__})
        return cast("LightningOptimizer", object.__new__(both))

    def __init__(self, optimizer: Optimizer, strategy: Strategy, module: LightningModule) -> None:
        self._optimizer = optimizer
        self._strategy = strategy
        self._module = module
        self.before_step: Callable[[Optimizer], None] | None = None
        self.after_step: Callable[[], None] | None = None
        self.num_accumulated: int = 0  # updates since its last step
        self.is_gathering: bool = False  # whether there was a backward since then

    if not TYPE_CHECKING:  # to a type checker they are an optimizer's
        # what torch's methods work on is the wrapped optimizer's, as it is now: loading a checkpoint replaces
        # these
        param_groups = _of_the_wrapped("param_groups")
        state = _of_the_wrapped("state")
        defaults = _of_the_wrapped("defaults")

    @property
    def optimizer(self) -> Optimizer:
        """The wrapped optimizer."""
        return self._optimizer

    def __getattr__(self, name: str) -> Any:
        """Everything else is the wrapped optimizer's."""
        if name == "_optimizer":  # not there yet: while unpickling
            raise AttributeError(name)
        return getattr(self._optimizer, name)

    def __reduce__(self) -> tuple[type[LightningOptimizer], tuple[Any, ...]]:
        """A copy wraps a copy, and has no part in the run."""
        return LightningOptimizer, (self._optimizer, self._strategy, self._module)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the wrapped optimizer's state."""
        self._optimizer.load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self._optimizer.zero_grad(set_to_none=set_to_none)

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Step the optimizer.

        Args:
            closure: Evaluates the model and returns the loss; the optimizer calls it, some of them several
                times.
            **kwargs: Passed to the wrapped optimizer.

        Returns:
            What the closure returned.

        Raises:
            MisconfigurationException: If ``closure`` can't be called.
        """
        if closure is not None and not callable(closure):
            raise MisconfigurationException(
                f"optimizer.step(closure) got a {type(closure).__name__}. Pass a function, or nothing."
            )
        if self.before_step is not None:
            closure = self._prepared(closure, self.before_step)
        try:
            result = self._strategy.optimizer_step(self._optimizer, closure, self._module, **kwargs)
        except SkipStep:
            if self.after_step is None:  # in automatic optimization the loop takes it
                raise
            return None
        if self.after_step is not None:
            self.after_step()
        self.is_gathering = False
        return result

    def _prepared(
        self, closure: Callable[[], Any] | None, before_step: Callable[[Optimizer], None]
    ) -> Callable[[], Any]:
        """The closure, followed by what comes before a step."""

        def evaluate_and_prepare() -> Any:
            result = closure() if closure is not None else None
            before_step(self._optimizer)
            return result

        return evaluate_and_prepare

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Within it, only this optimizer's parameters need gradients.

        Args:
            sync_grad: Whether gradients are averaged over processes; False while accumulating.
        """
        with self._strategy.block_backward_sync(enabled=not sync_grad), self._module.toggled_optimizer(self):
            yield


if TYPE_CHECKING:

    class OneOrSeveral(LightningOptimizer, list[LightningOptimizer]):
        """What a module's `optimizers` gives: no type can say whether it is one or a list of them."""
