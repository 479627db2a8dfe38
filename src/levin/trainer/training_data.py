"""TrainingData: the batches of a fit. Where they come from, how many there are, where a pass goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from levin.data.combined import length_of
from levin.data.reader import Readers
from levin.data.waiting import Waiting, advice
from levin.trainer.arguments import batches_to_run
from levin.trainer.dataloaders import (
    close_all,
    flatten,
    idleness,
    one_pass,
    rebuild_loaders,
    set_epoch,
    together,
    without_shuffling,
)
from levin.trainer.dividing import common_length, divide, num_samples, pace
from levin.trainer.exact import Whereabouts, settle
from levin.trainer.moving import begun_elsewhere, go_on_among_samples
from levin.trainer.when import batches_between_validations
from levin.utils.errors import PossibleUserWarning
from levin.utils.rank import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from levin.data.combined import Mode
    from levin.data.fetch import Fetcher
    from levin.trainer.dataloaders import DataSource
    from levin.trainer.evaluate import EvaluationLoop
    from levin.trainer.states import Run


class TrainingData:
    """The batches of a fit, apart from what the fit loop does with them.

    Args:
        run: The run.
        validation: The loop that validates.

    Attributes:
        loaders: The training loaders as they are used; None before they were needed.
        max_batches: Training batches in an epoch; infinite where it is not known. What the loader's length
            says, until an epoch shows that it has fewer.
        val_check_batch: Training batches between two validations; infinite for none by count.
        loader_mode: How training loaders of different lengths are combined.
        loaded_in_epoch: The epoch for which the loaders were made.
    """

    def __init__(self, run: Run, validation: EvaluationLoop) -> None:
        self._run = run
        self.validation = validation
        self.source: DataSource | None = None
        self.loaders: Any = None
        self.max_batches: int | float = math.inf
        self.val_check_batch: int | float = math.inf
        self.loaded_in_epoch: int = -1
        self.loader_mode: Mode = "max_size_cycle"
        self._loader: Any = None
        self._batches: Fetcher | None = None
        self._length: int | float = math.inf  # what the loader says
        self._count: int | float = math.inf  # within that, what the limits let through
        self._is_short = False  # the loader was found to have less than it said
        self._has_advised = False
        self._where = Whereabouts(run, validation)

    def reset(self, source: DataSource) -> None:
        """A new run begins, with other data."""
        self.source, self.loaders, self._loader, self._batches = source, None, None, None
        self._is_short = self._has_advised = False
        self.max_batches = self.val_check_batch = math.inf
        self._where.reset()

    def load(self) -> None:
        """Get the training data, if nobody did yet."""
        if self.loaders is None:
            self._load()
            self._open_first()

    def _open_first(self) -> None:
        """Open the training data, if nobody did yet."""
        if self._loader is None:
            return
        if self._where.kept is not None:
            self._go_on(self._where.kept)
        elif self._batches is None:
            set_epoch(self.loaders, self._run.progress.epoch)  # before workers read ahead
            unfinished = self._run.progress.unfinished
            self._open({"taken": unfinished} if unfinished else None)

    def _load(self) -> None:
        run = self._run
        if not run.limits.limit_train_batches:
            self.max_batches = 0
            return
        is_first = self.loaders is None
        every = run.intervals.reload_dataloaders_every_n_epochs
        is_due = every > 0 and run.progress.epoch - self.loaded_in_epoch >= every
        if self.source is None or not (is_first or is_due):
            return
        loaders = self.source.load("train")
        if run.limits.overfit_batches:
            loaders = rebuild_loaders(loaders, without_shuffling)
        loaders = divide(run, loaders, "train")
        self.loaders, self.loaded_in_epoch = loaders, run.progress.epoch
        readers = Readers(
            self._loader.readers if self._loader is not None else (), seeds_samples=run.seeds_samples
        )
        self._loader = together(loaders, readers, self.loader_mode)
        readers.close_rest()
        run.num_samples = num_samples(loaders)
        length = common_length(run, length_of(self._loader))
        if length == 0:
            rank_zero_warn(
                "The training dataloader has no batches (its total length is zero): is the dataset empty, "
                "or smaller than a batch?"
            )
        self.max_batches = batches_to_run("train", length, run.limits.limit_train_batches)
        self._length, self._count = length, self.max_batches
        if self.validation.is_enabled:
            self.val_check_batch = batches_between_validations(run.intervals, self.max_batches)
        is_logged = bool(run.loggers) and not run.debugging.fast_dev_run
        if is_logged and is_first and 0 < self.max_batches < run.intervals.log_every_n_steps:
            rank_zero_warn(
                f"An epoch has {self.max_batches} training batches, and "
                f"log_every_n_steps={run.intervals.log_every_n_steps}: metrics of single steps will be "
                "logged less than once an epoch. Set a lower log_every_n_steps to see more.",
                category=PossibleUserWarning,
            )
        self._batches = None

    def _open(self, position: dict[str, Any] | None = None) -> None:
        run = self._run
        self._batches = one_pass(
            run,
            "training_step",
            self._loader,
            self._count,
            label="[FitLoop].train_dataloader_next",
            ends_early=self._length == math.inf or self._is_short,
            pace=pace(run, self._length),
            is_idle=idleness(run.strategy.root_device),
        )
        if begun_elsewhere(self.loaders):
            self._batches.before = run.progress.unfinished - (0 if position is None else position["taken"])
        self._batches.start(position)

    def close(self) -> None:
        """Let go of the data, and end the worker processes that loaders keep between epochs."""
        close_all([self._batches, self._loader])

    def _go_on(self, kept: dict[str, Any]) -> None:
        """Put the data where it was, which leaves the random states anywhere."""
        if self._batches is not None:  # opened before anybody knew where to go on
            self._batches.close()
            self._batches = None
        if kept["count"] is not None:
            self._is_short, self.max_batches = True, kept["count"]
        self.loaded_in_epoch = kept["loaded_in_epoch"]
        self.validation.settle(kept["validation"])
        position = kept.get("position")
        if position is None or position["is_over"]:
            settle([self._loader], kept["orders"])
        if position is not None and kept.get("moved"):
            self._go_on_elsewhere(kept)
        elif position is not None:
            set_epoch(self.loaders, self._run.progress.epoch)
            self._open(position)

    def _go_on_elsewhere(self, kept: dict[str, Any]) -> None:
        """Go on with an epoch that another number of processes began."""
        run, position = self._run, kept["position"]
        if position["is_over"]:
            self._open({"taken": position["taken"], "is_over": True})
        elif go_on_among_samples(self.loaders, kept, run.progress.epoch):
            whole, self._count = self._count, common_length(run, length_of(self._loader))
            self._open()
            self._count = whole
        else:
            rank_zero_warn(
                "The data of the epoch can't be gone on with by another number of processes: only that of "
                "one DataLoader over a map-style dataset can. The epoch's data begins anew."
            )
            self._open()

    @property
    def waiting(self) -> Waiting:
        """How long the newest epoch took, and how much of that went into waiting for its batches."""
        return Waiting() if self._batches is None else self._batches.waiting

    def _advise(self) -> None:
        """After the first epoch: say what would help if much of it went into waiting for data."""
        if self._has_advised or self._run.debugging.fast_dev_run or self._batches is None:
            return
        self._has_advised = True
        processes = self._run.strategy.world_size
        said = advice(self.waiting, self._batches.fetched, flatten(self.loaders), num_processes=processes)
        if said is not None:
            rank_zero_info(said)
