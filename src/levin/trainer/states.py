"""What a trainer is doing, and what one call of fit, validate, test or predict works with."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from levin.checkpoint.index import Lineage
from levin.core.metrics import to_numbers
from levin.core.optimizers import LightningOptimizer
from levin.utils.former_members import had

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch.optim import Optimizer

    from levin.core.datamodule import LightningDataModule
    from levin.core.metrics import Metrics
    from levin.core.module import LightningModule
    from levin.loggers.base import Logger
    from levin.profilers.base import Profiler
    from levin.strategies.base import Strategy
    from levin.trainer.arguments import Debugging, Intervals, Limits, Updates
    from levin.trainer.companions import Companions
    from levin.trainer.dispatch import HookTable
    from levin.trainer.gradients import Watch
    from levin.trainer.progress import Progress
    from levin.utils.types import LRSchedulerConfig


class _Word(str, Enum):
    """An enum whose members are the words they stand for."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class TrainerStatus(_Word):
    """Whether a run goes on, and how the last one ended."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class TrainerFn(_Word):
    """Which of the Trainer's methods was called."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(_Word):
    """Which kind of batches is run now; fit has three of them."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Whether metrics are computed without training."""
        return self in (RunningStage.SANITY_CHECKING, RunningStage.VALIDATING, RunningStage.TESTING)

    @property
    def dataloader_prefix(self) -> str:
        """The stage's word in `val_dataloader`, `limit_val_batches` ..."""
        return "val" if self in (RunningStage.VALIDATING, RunningStage.SANITY_CHECKING) else self.value

    @property
    def hook_prefix(self) -> str:
        """The stage's word in `on_validation_start`, `validation_step` ..."""
        return "validation" if self in (RunningStage.VALIDATING, RunningStage.SANITY_CHECKING) else self.value


_PARTS = "Compare `trainer.state.fn`, `trainer.state.stage` or `trainer.state.status`: each is a word."


@had(
    **dict.fromkeys(
        (
            "INITIALIZING", "RUNNING", "FITTING", "VALIDATING", "TESTING", "PREDICTING", "TUNING", "FINISHED",
            "INTERRUPTED",
        ),
        _PARTS,
    )
)  # fmt: skip
@dataclass
class TrainerState:
    """What the trainer is doing.

    Attributes:
        status: Whether a run goes on.
        fn: Which of its methods runs, or ran last.
        stage: Which kind of batches is run now; None between runs.
        should_stop: Set it to end the fit after the current batch.
        request: What is to end the run: raised at the next point at which the run can be gone on from.
        ask_others: What makes a wish to end the run one of all processes (its kind, the exit status), where
            there are others.
    """

    status: TrainerStatus = TrainerStatus.INITIALIZING
    fn: TrainerFn | None = None
    stage: RunningStage | None = None
    should_stop: bool = False
    request: BaseException | None = None
    ask_others: Callable[[str, int], None] | None = None

    @property
    def finished(self) -> bool:
        """Whether the last run ended as it should."""
        return self.status is TrainerStatus.FINISHED


@dataclass
class Run:
    """What a run works with: made with the trainer, given to its loops.

    The loops read their settings here, so that a change of a setting is seen by the next epoch.
    """

    limits: Limits
    intervals: Intervals
    updates: Updates
    debugging: Debugging
    strategy: Strategy
    profiler: Profiler
    hooks: HookTable
    metrics: Metrics
    progress: Progress
    loggers: list[Logger]
    state: TrainerState = field(default_factory=TrainerState)
    lr_scheduler_configs: list[LRSchedulerConfig] = field(default_factory=list)
    wrapped_optimizers: list[LightningOptimizer] = field(default_factory=list)
    attached: LightningModule | None = None
    datamodule: LightningDataModule | None = None
    compiler: Callable[..., Any] | None = None
    seeds_samples: bool = True  # what workers draw follows from the sample
    stop_signals: dict[int, int] = field(default_factory=dict)  # number -> exit status
    divides_data: bool = True  # among processes
    goes_on_with_shards: bool = False  # the order of samples is that of several processes, here as well
    num_samples: int = 0  # of an epoch, over all processes, where that is known
    global_batch_size: int | None = None  # the samples of an optimizer step over all processes
    uneven: str = "stop_together"  # what happens where processes have different numbers of batches
    watch: Watch | None = None
    companions: Companions | None = None
    lineage: Lineage = field(default_factory=Lineage)
    resume_from: str | Path | None = None
    """The checkpoint that the first fit goes on from, unless it is told another one."""
    reset: frozenset[str] = frozenset()
    """What the fit takes from the program, and not from its checkpoint."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the fit is set to: see `levin.trainer.settings`."""

    def any_has(self, batches: int | float) -> bool:
        """Whether any process has batches to evaluate: those that have none take part all the same."""
        has_some = batches > 0
        if self.companions is None:
            return has_some
        return self.strategy.reduce_boolean_decision(has_some, all=False)

    def alike(self) -> AbstractContextManager[None]:
        """Within it, random numbers are the same in all processes."""
        return nullcontext() if self.companions is None else self.companions.alike()

    @property
    def module(self) -> LightningModule:
        """The module of the run."""
        if self.attached is None:
            raise RuntimeError("There is no module yet: call fit, validate, test or predict with one.")
        return self.attached

    def take_optimizers(self, optimizers: list[Optimizer]) -> None:
        """Train with these optimizers."""
        taken, module = self.strategy.setup_optimizers(optimizers), self.attached
        self.wrapped_optimizers = (
            []
            if module is None
            else [LightningOptimizer(optimizer, self.strategy, module) for optimizer in taken]
        )

    def write_logs(
        self, values: dict[str, Any], *, step: int | None = None, epoch: int | None = None
    ) -> None:
        """Give the loggers one row.

        Args:
            values: Name -> number or tensor; the tensors come from the device in one transfer.
            step: Its place on the x axis; by default the number of batches that stepped.
            epoch: Added to the row under "epoch", unless the user logged one. A value that the user logged as
                "step" is then the row's place, and the epoch is left out.
        """
        if not self.loggers or not values:
            return
        row = to_numbers(values)
        if step is None:
            step = self.progress.batches_that_stepped
        if epoch is not None:
            if "step" in row:
                step = int(row.pop("step"))
            else:
                row.setdefault("epoch", epoch)
        for logger in self.loggers:
            logger.log_metrics(metrics=dict(row), step=step)
            logger.save()
