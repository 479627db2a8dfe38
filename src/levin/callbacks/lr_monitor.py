"""LearningRateMonitor: write learning rates to the loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.utils.errors import MisconfigurationException
from levin.utils.former_members import had

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer


@had(lr_sch_names="Use `lrs`: its keys are the names.")
class LearningRateMonitor(Callback):
    """Log the learning rate of each group of parameters, and let other callbacks see it.

    A rate is called by the ``name`` of its scheduler's configuration, else ``lr-<optimizer's class>``, with
    ``-1``, ``-2`` after a name that is taken already. Several groups of one optimizer add ``/pg1``, ``/pg2``,
    or ``/`` and their own ``name``. Without a scheduler there is a rate, too.

    Args:
        logging_interval: "step": at each step that is logged; "epoch": at the start of each epoch; None: as
            often as the scheduler changes it, which after a validation is at the next batch.
        log_momentum: Whether to log the momentum, or the first beta, as ``<name>-momentum``.
        log_weight_decay: Whether to log the weight decay as ``<name>-weight_decay``.

    Attributes:
        lrs: Name -> the learning rates that were logged.

    Raises:
        MisconfigurationException: If ``logging_interval`` is something else.
    """

    def __init__(
        self,
        logging_interval: str | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        super().__init__()
        if logging_interval not in (None, "step", "epoch"):
            raise MisconfigurationException(
                f"LearningRateMonitor(logging_interval={logging_interval!r}) must be 'step', 'epoch' or None."
            )
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self._validations = -1  # when rates that change with them were logged

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with empty lists.

        Raises:
            MisconfigurationException: If there is no logger to write to, or two groups have one name.
        """
        if not trainer.loggers:
            raise MisconfigurationException(
                "LearningRateMonitor has nowhere to log to: the Trainer has no logger. Give it one, such as "
                "Trainer(logger=True)."
            )
        self.lrs = {name: [] for name, *_ in _groups(trainer)}
        self._validations = -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Log what changes by the step, and what a validation has changed."""
        if self.logging_interval != "epoch" and trainer.should_log:
            self._log(trainer, "step")
        if self.logging_interval is None and self._validations != trainer.progress.validations:
            self._validations = trainer.progress.validations
            self._log(trainer, "validation")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what changes by the epoch."""
        if self.logging_interval != "step":
            self._log(trainer, "epoch")

    def _log(self, trainer: Trainer, interval: str) -> None:
        values: dict[str, float] = {}
        for name, group, changes in _groups(trainer):
            if self.logging_interval is not None or interval in changes:
                values[name] = float(group["lr"])
                self.lrs.setdefault(name, []).append(values[name])
                values.update(self._other_values(name, group))
        if not values:
            return
        trainer.metrics.publish(values)
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step=trainer.progress.batches_that_stepped)

    def _other_values(self, name: str, group: dict[str, Any]) -> dict[str, float]:
        values = {}
        momentum = group.get("momentum", next(iter(group.get("betas", ())), 0.0))
        if self.log_momentum:
            values[f"{name}-momentum"] = float(momentum)
        if self.log_weight_decay and "weight_decay" in group:
            values[f"{name}-weight_decay"] = float(group["weight_decay"])
        return values


def _groups(trainer: Trainer) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Each group of parameters: its name, the group, and when to log it: by "step", "epoch", "validation"."""
    taken: dict[str, int] = {}
    for optimizer, given, changes in _rates(trainer):
        name = given or f"lr-{type(optimizer).__name__}"
        taken[name] = taken.get(name, -1) + 1
        unique = f"{name}-{taken[name]}" if taken[name] else name
        for suffix, group in zip(
            _suffixes(unique, optimizer.param_groups), optimizer.param_groups, strict=True
        ):
            if "lr" in group:  # there may be no optimizer at all, only what stands for it
                yield unique + suffix, group, changes


def _rates(trainer: Trainer) -> Iterator[tuple[Optimizer, str | None, tuple[str, ...]]]:
    """Each optimizer with its scheduler's name and when it changes: those that have one first."""
    scheduled = []
    for config in trainer.lr_scheduler_configs:
        optimizer = config.scheduler.optimizer
        scheduled.append(optimizer)
        yield optimizer, config.name, (config.interval,)
    for optimizer in trainer.optimizers:
        if not any(optimizer is other for other in scheduled):
            yield optimizer, None, ("step", "epoch")


def _suffixes(name: str, groups: list[dict[str, Any]]) -> list[str]:
    own = [group["name"] for group in groups if group.get("name")]
    twice = sorted({each for each in own if own.count(each) > 1})
    if twice:
        raise MisconfigurationException(
            f"Several parameter groups of {name} have the same name: {twice}. Give each one its own."
        )
    if len(groups) == 1 and not own:
        return [""]
    return [f"/{group.get('name') or f'pg{index}'}" for index, group in enumerate(groups, start=1)]
