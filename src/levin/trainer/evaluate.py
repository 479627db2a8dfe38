"""EvaluationLoop: validation, inside fit and on its own, and test."""

from __future__ import annotations

import inspect
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from levin.core.metrics import to_numbers
from levin.core.module import LightningModule
from levin.data.combined import length_of
from levin.data.reader import Readers
from levin.trainer import exact
from levin.trainer.dataloaders import (
    close_all,
    count_batches,
    draws_itself,
    flatten,
    is_short,
    one_at_a_time,
    one_pass,
    rebuild_loaders,
    set_epoch,
    tell_shortage,
    warn_if_shuffled,
    without_shuffling,
)
from levin.trainer.dividing import divide
from levin.trainer.states import RunningStage, TrainerFn
from levin.trainer.step import bind_step, num_arguments
from levin.utils.modes import modes_of, restore_modes
from levin.utils.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import nn

    from levin.data.fetch import Fetcher
    from levin.data.reader import Reader
    from levin.data.together import Together
    from levin.trainer.companions import Companions
    from levin.trainer.dataloaders import DataSource
    from levin.trainer.dispatch import Hooks
    from levin.trainer.states import Run


class EvaluationLoop:
    """Run a model over data without training it, and gather what it logs.

    Args:
        run: The run.
        stage: Validating or testing.

    Attributes:
        loaders: The loaders as the hook returned them; None before they were needed.
        max_batches: How many batches of each are run.
        results: What was logged, for each loader.
        evaluated: Batches of the running evaluation that were run.
    """

    def __init__(self, run: Run, stage: RunningStage) -> None:
        self._run = run
        self.stage = stage
        self.source: DataSource | None = None
        self.loaders: Any = None
        self.max_batches: list[int | float] = []
        self.results: list[dict[str, float]] = []
        self.evaluated: int = 0
        self.loaded_in_epoch: int = -1
        self._flat: list[Reader | Together] = []
        self._counts: list[int | float] = []  # what is to be taken; `max_batches` knows of loaders with less
        self._short: set[int] = set()  # those
        self._passes: list[Fetcher] = []
        self._rows: list[int] = []  # for each loader, the next row of values that are logged by step
        self._weights: list[tuple[int, int]] = []  # as they were when it began

    # ------------------------------------------------------------------ data

    @property
    def kind(self) -> str:
        """The loaders' word in `val_dataloader`, `limit_val_batches` ..."""
        return self.stage.dataloader_prefix

    @property
    def limit(self) -> int | float:
        """How much of the data is taken."""
        limit: int | float = getattr(self._run.limits, f"limit_{self.kind}_batches")
        return limit

    def reset(self, source: DataSource) -> None:
        """A new run begins, with other data."""
        self.source, self.loaders, self._flat, self._rows = source, None, [], []
        self._counts, self.max_batches, self._short, self._passes = [], [], set(), []
        self.loaded_in_epoch = -1

    def close(self) -> None:
        """Let go of the data, and end the worker processes that loaders keep from one pass to the next."""
        close_all([*self._passes, *self._flat])

    def rest(self) -> dict[str, Any]:
        """What the next evaluation will begin with, for a checkpoint."""
        drawn = None if self.source is None else self.source.drawn.get(self.kind)
        rest = {"rows": list(self._rows), "readers": exact.orders(self._flat)}
        return {**rest, "drawn": drawn, "loaded_in_epoch": self.loaded_in_epoch}

    def settle(self, rest: dict[str, Any]) -> None:
        """Take back what `rest` told."""
        if rest["readers"]:
            self.set_up_data()
            self.loaded_in_epoch = rest.get("loaded_in_epoch", self.loaded_in_epoch)
        exact.settle(self._flat, rest["readers"])
        self._rows = list(rest["rows"]) or self._rows

    def settle_order(self, rest: dict[str, Any]) -> None:
        """Put back the generators of the data, when all is opened that draws from them."""
        exact.restore_orders(self._flat, rest["readers"])

    def set_up_data(self) -> None:
        """Get the loaders, when they are needed for the first time and when they are due to be made anew."""
        run, every = self._run, self._run.intervals.reload_dataloaders_every_n_epochs
        is_due = (
            every > 0
            and run.progress.epoch - self.loaded_in_epoch >= every
            and run.state.fn is TrainerFn.FITTING
        )
        if self.source is None or not self.limit or (self.loaders is not None and not is_due):
            return
        loaders = self.source.load(self.kind)
        if run.limits.overfit_batches and run.state.fn is TrainerFn.FITTING:
            loaders = rebuild_loaders(loaders, without_shuffling)
        loaders = divide(run, loaders, self.kind)
        self.loaders, self.loaded_in_epoch = loaders, run.progress.epoch
        before = [reader for each in self._flat for reader in each.readers]
        readers = Readers(before, seeds_samples=run.seeds_samples)
        self._flat = one_at_a_time(loaders, readers)
        readers.close_rest()
        warn_if_shuffled(self.kind, flatten(loaders))
        self._counts = count_batches(self.kind, self._flat, self.limit)
        self.max_batches = list(self._counts)
        self._rows = self._rows or [0] * len(self._flat)
        check_arguments(getattr(run.module, f"{self.stage.hook_prefix}_step"), len(self._flat))
        if run.state.fn is not TrainerFn.FITTING:
            run.profiler.attach(run.module, sum(self.max_batches))

    @property
    def is_enabled(self) -> bool:
        """Whether there is a step to run, data for it, and a limit that lets some through."""
        module, step = self._run.attached, f"{self.stage.hook_prefix}_step"
        has_step = module is not None and overrides(module, step, LightningModule)
        return has_step and self.limit > 0 and self.source is not None and self.source.has(self.kind)

    # ------------------------------------------------------------------ running

    def run(
        self, *, at_most: int | float = math.inf, when_known: Callable[[], None] | None = None
    ) -> list[dict[str, float]]:
        """Evaluate.

        Args:
            at_most: How many batches of each loader at most; the sanity check takes few.
            when_known: Called when the metrics are known, before the last hook, in which checkpoints are
                written.

        Returns:
            For each loader, the names that went to loggers and their values over its batches.
        """
        run, prefix = self._run, self.stage.hook_prefix
        with self._no_gradients():
            self.set_up_data()
            counts = [min(count, at_most) for count in self._counts]
            if not run.any_has(sum(counts)):
                return []
            set_epoch(self.loaders, run.progress.epoch)
            passes = self._passes = [self._fetcher(index, count) for index, count in enumerate(counts)]
            passes[0].start()
            self._weights = _marks(run.module)
            with modes_kept(run.module) as modes:
                self._call(f"on_{prefix}_model_eval")
                self._evaluate(prefix, passes, when_known)
                self._model_train(prefix, modes)
        return self.results

    def _evaluate(self, prefix: str, passes: list[Fetcher], when_known: Callable[[], None] | None) -> None:
        """One evaluation, from its first hook to its last."""
        run, hooks = self._run, self._run.hooks
        is_in_training = run.state.fn is TrainerFn.FITTING and run.state.stage is RunningStage.VALIDATING
        run.metrics.start_evaluation()
        for hook in getattr(hooks, f"on_{prefix}_start"):
            hook()
        for hook in getattr(hooks, f"on_{prefix}_epoch_start"):
            hook()
        self.evaluated = 0
        logged = self._run_batches(prefix, passes)
        for hook in getattr(hooks, f"on_{prefix}_epoch_end"):
            hook()
        self._publish(logged)
        if when_known is not None:
            when_known()
        for hook in getattr(hooks, f"on_{prefix}_end"):
            hook()
        run.metrics.end_evaluation(in_step=is_in_training)

    def _run_batches(self, prefix: str, passes: list[Fetcher]) -> list[dict[str, Any]]:
        """All batches of all loaders; returns what was logged over each loader."""
        metrics, logged = self._run.metrics, []
        step = bind_step(self._run, f"{prefix}_step")
        start: Hooks = getattr(self._run.hooks, f"on_{prefix}_batch_start")
        end: Hooks = getattr(self._run.hooks, f"on_{prefix}_batch_end")
        is_over = False
        for index, batches in enumerate(passes):
            metrics.dataloader_idx = index if len(passes) > 1 else None
            metrics.start_batches()
            extra = (index,) if len(passes) > 1 else ()
            try:
                self._run_loader(batches, index, extra, (step, start, end), f"{prefix}_step")
            except StopIteration:  # a hook's way to end the evaluation
                is_over = True
            if self._run.companions is not None:
                self._stop_where_all_do(self._run.companions)
            metrics.end_batches()
            metrics.publish_fresh()
            logged.append(metrics.loggable())
            if is_over:
                break
        metrics.dataloader_idx = None
        metrics.end_batches()  # what was logged before the first loader belongs to none
        return logged

    def _run_loader(
        self,
        batches: Fetcher,
        index: int,
        extra: tuple[int, ...],
        calls: tuple[Callable[..., Any], Hooks, Hooks],
        scope: str,
    ) -> None:
        run, metrics = self._run, self._run.metrics
        step, on_start, on_end = calls
        is_fit = run.state.fn is TrainerFn.FITTING
        writes = bool(run.loggers) and run.state.stage is not RunningStage.SANITY_CHECKING
        for batch_idx, batch in enumerate(batches):
            metrics.batch = batch
            for hook in on_start:
                hook(batch, batch_idx, *extra)
            metrics.scope = scope
            output = step(batch, batch_idx, *extra)
            metrics.scope = ""
            self.evaluated += 1
            if is_fit:
                run.progress.evaluated_batches = self.evaluated
            for hook in on_end:
                hook(output, batch, batch_idx, *extra)
            if writes:
                run.write_logs(metrics.loggable(), step=self._rows[index])
                self._rows[index] += 1
            if run.companions is not None:
                run.companions.at_evaluated_batch(self.evaluated)
            if run.state.request is not None and self._may_end_here():
                raise run.state.request
        if is_short(self._flat[index], batches):
            self._correct_count(index, batches.fetched)

    def _stop_where_all_do(self, companions: Companions) -> None:
        """After the batches of a loader, before the processes wait for one another."""
        companions.after_evaluated_batches()
        if self._run.state.request is not None and self._may_end_here():
            raise self._run.state.request

    def _may_end_here(self) -> bool:
        """Whether what is saved now is the model that is trained.

        Hooks may have put averaged weights in its place for the validation: they take them out as it ends.
        """
        is_fit = self._run.state.fn is TrainerFn.FITTING
        return not is_fit or _marks(self._run.module) == self._weights

    def _correct_count(self, index: int, count: int) -> None:
        """A loader was found to have so many batches."""
        if index not in self._short:
            self._short.add(index)
            tell_shortage(self.kind, length_of(self._flat[index]), count)
        if count:
            self.max_batches[index] = count

    def _publish(self, logged: list[dict[str, Any]]) -> None:
        """Hand on what was logged: to the loggers in one row, to the caller for each loader."""
        run = self._run
        # what was logged in the last hooks belongs to no loader
        run.metrics.bring_together()
        run.metrics.publish_fresh()
        shared = run.metrics.loggable()
        if len(logged) == 1:
            logged = [shared]
        rows = {name: value for values in logged for name, value in values.items()} | shared
        if run.state.stage is RunningStage.SANITY_CHECKING:
            return
        run.write_logs(rows, epoch=run.progress.epoch)
        if run.state.fn is not TrainerFn.FITTING:
            self.results = [to_numbers(values | shared) for values in logged]

    def _fetcher(self, index: int, count: int | float) -> Fetcher:
        step, label = f"{self.stage.hook_prefix}_step", f"[EvaluationLoop].{self.kind}_next"
        return one_pass(self._run, step, self._flat[index], count, label=label, index=index)

    # ------------------------------------------------------------------ modes

    def _no_gradients(self) -> AbstractContextManager[Any]:
        """`no_grad` inside fit: what a user keeps can be trained on; else the faster `inference_mode`."""
        wants = self._run.debugging.inference_mode and self._run.state.fn is not TrainerFn.FITTING
        return torch.inference_mode() if wants else torch.no_grad()

    def _model_train(self, prefix: str, modes: dict[nn.Module, bool]) -> None:
        name = f"on_{prefix}_model_train"
        if overrides(self._run.module, name, LightningModule):
            self._call(name)
        else:
            restore_modes(modes)

    def _call(self, name: str) -> None:
        self._run.hooks.bind(name, self._run.module)()


def _marks(module: nn.Module) -> list[tuple[int, int]]:
    """Where each weight is and how often it was written to: what changes as soon as a weight may have."""
    tensors = [*module.parameters(), *module.buffers()]
    return [(_address(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]  # noqa: SLF001  # torch has no other name for it


def _address(tensor: torch.Tensor) -> int:
    """Where its values are; 0 for one that has no such place: a sparse one, one that is not made yet."""
    try:
        return tensor.data_ptr()
    except (RuntimeError, ValueError):
        return 0


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[dict[nn.Module, bool]]:
    """Note the mode of each submodule, and give it back if an exception ends what is done meanwhile.

    Yields:
        The modes, for `restore_modes` when all went well.
    """
    modes = modes_of(module)
    try:
        yield modes
    except BaseException:
        restore_modes(modes)  # who goes on after it trains in the modes that he chose
        raise


def check_arguments(step: Callable[..., Any], num_loaders: int) -> None:
    """Refuse a step that needs the loader's number where there is one, or lacks it with several."""
    name = getattr(step, "__name__", "step")
    accepted = num_arguments(step)
    if num_loaders > 1 and accepted < 3 and not draws_itself(step):
        raise RuntimeError(
            f"There are {num_loaders} dataloaders, and `{name}` does not take their number. Define it as "
            f"`def {name}(self, batch, batch_idx, dataloader_idx=0)`."
        )
    if num_loaders == 1 and requires(step, "dataloader_idx"):
        raise RuntimeError(
            f"`{name}` requires `dataloader_idx`, and there is only one dataloader. Give it a default: `def "
            f"{name}(self, batch, batch_idx, dataloader_idx=0)`."
        )


def requires(fn: Callable[..., Any], argument: str) -> bool:
    """Whether a function can't be called without that argument."""
    found = inspect.signature(fn).parameters.get(argument)
    return found is not None and found.default is inspect.Parameter.empty
