"""FitLoop: epochs and batches. Start reading at `run_epoch`; `step.py` holds what happens to a batch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch

from levin.core.optimizers import SchedulerSet
from levin.trainer.arguments import Setting
from levin.trainer.dataloaders import (
    is_short,
    set_epoch,
    tell_shortage,
)
from levin.trainer.dividing import tell_batch_size
from levin.trainer.exact import own_part, restore_window, restore_writings
from levin.trainer.gradients import Watch
from levin.trainer.moving import moved, place_among_samples
from levin.trainer.schedules import tell_plans
from levin.trainer.states import RunningStage
from levin.trainer.step import step_for
from levin.trainer.training_data import TrainingData
from levin.trainer.when import batches_between_validations, counting_samples, validation_rule
from levin.utils.errors import PossibleUserWarning
from levin.utils.former import LOOP_PARTS
from levin.utils.former_members import had
from levin.utils.rank import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.data.fetch import Fetcher
    from levin.trainer.evaluate import EvaluationLoop
    from levin.trainer.states import Run
    from levin.trainer.step import Step


@had(**LOOP_PARTS)
class FitLoop(TrainingData):
    """Train over epochs, and validate in between.

    Args:
        run: The run.
        validation: The loop that validates.
        look_again: Rebuilds the hook table; called at the start of each epoch.

    Attributes:
        max_epochs: The number of epochs after which training ends; -1 for no limit.
        min_epochs: The number of epochs before which nobody can stop the training.
    """

    max_epochs: Setting[int | None] = Setting("limits", run="_run")
    min_epochs: Setting[int | None] = Setting("limits", run="_run")

    def __init__(self, run: Run, validation: EvaluationLoop, look_again: Callable[[], None]) -> None:
        super().__init__(run, validation)
        self._look_again = look_again
        self._has_told_of_none = False
        self._step: Step | None = None
        self._schedulers = SchedulerSet([])
        self._validation_rule: Callable[[], bool] | None = None  # of the running epoch; None: no validation
        self._told_of_minimum = False

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Train until a limit is reached or somebody stops it."""
        run = self._run
        self.set_up()
        if run.companions is not None:
            run.companions.part()
        self._where.begin()
        if self.is_done():
            self._where.restore(self._where.kept, self._loader)
            return
        if self._must_load_validation():
            self.validation.set_up_data()
        tell_plans(run, self._schedulers.configs, self.max_batches, validates=self.validation.is_enabled)
        for hook in run.hooks.on_train_start:
            hook()
        tell_batch_size(run, self.loaders, self.max_batches)
        while not self.is_done():
            try:
                with run.profiler.profile("run_training_epoch"):
                    self.run_epoch()
            except StopIteration:  # the way of hooks, too, to end the epoch
                run.progress.in_batch = False
            self.end_epoch()
            self._advise()
        run.strategy.level(also_optimizers=True)
        for hook in run.hooks.on_train_end:
            hook()
        if run.companions is not None:
            run.companions.agree()

    def run_epoch(self) -> None:
        """Train over one epoch's batches; `_start_epoch` and `end_epoch` hold its first and last hooks."""
        run = self._run
        hooks, metrics, progress = run.hooks, run.metrics, run.progress
        batches, step = self._start_epoch()
        validation_is_due, logs = self._validation_rule, bool(run.loggers)
        run_step = run.profiler.wrap("run_training_batch", counting_samples(run, step.run))
        for batch in batches:
            metrics.batch, batch_idx, progress.is_last_batch = batch, progress.batch, batches.done
            if hooks.on_train_batch_start and _skips(hooks.on_train_batch_start, batch, batch_idx):
                progress.is_last_batch = True
                progress.batch_done()
                self._move_schedulers(True, plateau=False)
                progress.in_batch = False
                break
            outputs = (self._pass_over if batch is None else run_step)(batch, batch_idx, batches.done)
            progress.batch_done()
            if self._schedulers.configs:
                self._move_schedulers(step.stepped, plateau=False)
            for hook in hooks.on_train_batch_end:
                hook(outputs, batch, batch_idx)
            if logs and step.stepped and self.log_due():
                metrics.bring_steps_together()
                run.write_logs(metrics.loggable(), epoch=progress.epoch)
            progress.is_logged = True
            for hook in hooks.saves_on_train_batch_end:
                hook(outputs, batch, batch_idx)
            progress.in_batch = False
            if validation_is_due and (validation_is_due() or (run.state.should_stop and self.can_stop())):
                self.validate()
            if self._schedulers.configs:
                self._move_schedulers(step.stepped, plateau=True)
            progress.batches_that_stepped += step.stepped
            progress.is_settled = True
            if self._epoch_is_over():
                progress.is_cut_off = not progress.is_last_batch
                break
        else:
            self._end_data(batches, step)

    def end_epoch(self) -> None:
        """The epoch's batches are over: what comes after them."""
        run, progress = self._run, self._run.progress
        if run.watch is not None:
            run.watch.hear()
        if progress.is_cut_off:
            self._where.moment = self._own_state()
        run.metrics.end_batches()
        progress.in_epoch_end, progress.is_logged = True, False
        for hook in run.hooks.on_train_epoch_end:
            hook()
        self._log_epoch(progress.epoch)
        for hook in run.hooks.saves_on_train_epoch_end:
            hook()
        self._close_epoch(progress.epoch)
        progress.epoch_done()
        if run.companions is not None:
            run.companions.agree()

    def _log_epoch(self, epoch: int) -> None:
        run, progress = self._run, self._run.progress
        run.metrics.bring_together()  # the last hooks may have logged
        run.metrics.publish_fresh()
        # the row belongs to the last batch that stepped, and that one was counted already
        run.write_logs(run.metrics.loggable(), step=progress.batches_that_stepped - 1, epoch=epoch)
        progress.is_logged = True

    def _close_epoch(self, epoch: int) -> None:
        """What comes after the epoch's checkpoint."""
        progress = self._run.progress
        if progress.is_last_batch:  # not where the epoch was cut off
            progress.scheduler_steps += self._schedulers.step("epoch", epoch + 1, plateau=True)
        self._run.metrics.end_training_epoch()

    def take_optimizers(self) -> None:
        """Go on with other optimizers, if an epoch is running."""
        if self._step is not None:
            self._step.take_optimizers(self._run)

    def validate(self) -> None:
        """Run a validation within the training."""
        run = self._run
        run.state.stage = RunningStage.VALIDATING
        if self._step is not None and self._step.stepped:
            module = run.module
            run.hooks.bind("on_validation_model_zero_grad", module)()
        began = time.perf_counter()
        self._where.enter_validation(self._loader)
        run.strategy.level()
        self.validation.run(when_known=self._metrics_known)
        self._where.leave_validation()
        if run.companions is not None:
            run.companions.agree()
        self.waiting.aside_s += time.perf_counter() - began
        run.state.stage = RunningStage.TRAINING
        run.progress.validated_at = time.monotonic()  # to write a checkpoint takes its time, too

    def _metrics_known(self) -> None:
        """A validation has its metrics: what goes by validations moves before it is saved."""
        progress = self._run.progress
        progress.validation_done()
        progress.scheduler_steps += self._schedulers.step("validation", progress.validations)
        self._where.validated()

    # ------------------------------------------------------------------ stopping and going on

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the field's common form for a run that goes on to the same bits.

        Of several processes, what each of them needs; they all have to ask for it.
        """
        own, companions = self._own_state(), self._run.companions
        if companions is not None and companions.is_failing:  # nobody answers
            return own
        parts = self._run.strategy.gather_at_zero(own)
        return own if parts is None or len(parts) == 1 else {**parts[0], "others": parts[1:]}

    def _own_state(self) -> dict[str, Any]:
        companions = self._run.companions
        return {
            **({} if companions is None else companions.state_dict()),
            "drawn": {} if self.source is None else dict(self.source.drawn),
            "loaded_in_epoch": self.loaded_in_epoch,
            "count": self.max_batches if self._is_short else None,
            **(where := self._where.state_dict(self._loader, self._batches, self._step)),
            "samples": place_among_samples(self.loaders, where.get("position")),
        }

    def load_state_dict(self, kept: dict[str, Any] | None) -> None:
        """Take back what `state_dict` gave, each part when its time comes; None if there was nothing."""
        if kept is None or "random" not in kept:
            self._where.kept = None
            return
        own = own_part(kept, self._run.strategy)
        self._where.kept = moved(kept, self._run) if own is None else own

    def _take_up(self, kept: dict[str, Any]) -> None:
        """Be, before the first epoch, where the run was that wrote the checkpoint."""
        progress = self._run.progress
        restore_writings(self._run, kept)
        if kept["in_epoch_end"] and not progress.unfinished:
            if not progress.is_logged:
                self._log_epoch(progress.epoch - 1)
            self._close_epoch(progress.epoch - 1)

    # ------------------------------------------------------------------ what an epoch needs

    def _start_epoch(self) -> tuple[Fetcher, Step]:
        """Everything that is settled before the first batch."""
        run, progress = self._run, self._run.progress
        torch.set_grad_enabled(True)
        kept, self._where.kept, progress.in_epoch = self._where.kept, None, True
        if progress.epoch - self.loaded_in_epoch >= (
            run.intervals.reload_dataloaders_every_n_epochs or math.inf
        ):
            self._where.restore(kept, self._loader)  # a hook that makes loaders may draw
            kept = None
            self._load()
        self._settle_epoch(kept)
        if not progress.unfinished:
            progress.start_epoch()
            self._look_again()
            run.metrics.batch = None
            for hook in run.hooks.on_train_epoch_start:
                hook()
        if self._batches is None:
            self._open()
        assert self._batches is not None
        self._validation_rule = self._rule_for(progress.epoch)
        self._step = step_for(run)
        run.metrics.start_batches()
        if progress.unfinished:
            self._step.stepped = (
                progress.is_last_batch or progress.batch % run.updates.accumulate_grad_batches == 0
            )
            if kept is not None and "step" in kept:
                restore_window(run, kept, self._step)
            if not progress.is_settled:
                self._settle_batch(self._step)
        if self._epoch_is_over():  # somebody asked for it as the epoch began
            progress.is_cut_off = not progress.is_last_batch
            raise StopIteration
        return self._batches, self._step

    def _settle_epoch(self, kept: dict[str, Any] | None) -> None:
        """Tell samplers the epoch, unless they know it, and put random states back."""
        if self._batches is None or not self._batches.is_open:
            self._batches = None  # that was the pass of the last epoch
            set_epoch(self.loaders, self._run.progress.epoch)
        self._where.restore(kept, self._loader)

    def _settle_batch(self, step: Step) -> None:
        """Do what is still to come after the newest batch: the checkpoint was written before it was done."""
        run, progress = self._run, self._run.progress
        if not progress.is_logged and step.stepped and self.log_due():
            run.write_logs(run.metrics.loggable(), epoch=progress.epoch)
        is_known = progress.validated["batches"] == progress.total_batches
        self._settle(step.stepped, validates=not is_known and self.validation_due())

    def _settle(self, stepped: bool, *, validates: bool) -> None:
        """What comes after the row of a batch."""
        if validates:
            self.validate()
        self._move_schedulers(stepped, plateau=True)
        self._run.progress.batches_that_stepped += stepped
        self._run.progress.is_settled = True

    def set_up(self) -> None:
        """Get the data, and settle how often to validate."""
        run = self._run
        if run.limits.max_epochs is None:
            rank_zero_warn(
                "`max_epochs` was not set: it is 1000. For no limit set max_epochs=-1.",
                category=PossibleUserWarning,
            )
            self.max_epochs = 1000
        run.watch = None if run.updates.on_nonfinite == "ignore" else Watch(run)
        module = run.module
        configs = run.lr_scheduler_configs if module.automatic_optimization else []
        move = run.hooks.bind("lr_scheduler_step", module)
        self._schedulers = SchedulerSet(configs, move, lambda: run.metrics.callback_metrics)
        if self._where.kept is not None:
            self._take_up(self._where.kept)
        self._load()
        self._open_first()
        run.profiler.attach(module, self.max_batches)
        run.progress.start_clock()
        self._told_of_minimum = self._has_told_of_none = False

    def _must_load_validation(self) -> bool:
        """Whether the validation data is needed before the first epoch: its absence should be told early."""
        return (
            self.validation.is_enabled
            and self.validation.loaders is None
            and self._rule_for(self._run.progress.epoch) is not None
        )

    # ------------------------------------------------------------------ what the data turns out to be

    def _pass_over(self, batch: None, batch_idx: int, is_last: bool) -> None:
        """There is no batch in this place: a ``collate_fn`` may find nothing to make one of."""
        assert self._step is not None
        self._step.pass_over(batch_idx, is_last)
        if not self._has_told_of_none:
            self._has_told_of_none = True
            rank_zero_warn(
                f"The training dataloader gave {batch} as batch {batch_idx} of epoch "
                f"{self._run.progress.epoch}. Such a batch is counted and passed over: there is no "
                "`training_step` for it."
            )

    def _end_data(self, batches: Fetcher, step: Step) -> None:
        """The data is at its end: where it said that it would be, or before."""
        progress, count = self._run.progress, batches.fetched
        if progress.batch and not progress.is_last_batch:
            self._end_unforeseen(step)
        if not is_short(self._loader, batches):
            return
        if not self._is_short:
            tell_shortage("train", self._length, count)
        self._is_short = True
        if count:
            self.max_batches: int | float = count
            if self.validation.is_enabled and isinstance(self._run.intervals.val_check_interval, float):
                self.val_check_batch: int | float = batches_between_validations(self._run.intervals, count)

    def _end_unforeseen(self, step: Step) -> None:
        """Do what would have come with the newest batch, had anybody known that it is the last."""
        progress, interval = self._run.progress, self._run.intervals.val_check_interval
        progress.is_last_batch = True
        stepped = step.finish()
        progress.is_settled = not stepped
        self._move_schedulers(stepped, plateau=False)
        is_share = isinstance(interval, float)
        is_known = progress.validated["batches"] == progress.total_batches
        is_short = is_share and not is_known and progress.batch < self.val_check_batch
        self._settle(stepped, validates=self._validation_rule is not None and is_short)

    # ------------------------------------------------------------------ when

    def log_due(self) -> bool:
        """Whether loggers get this step: each n-th, the last before a stop, all of a dev run."""
        run = self._run
        every = run.intervals.log_every_n_steps
        if every > 0 and ((run.progress.batches_that_stepped + 1) % every == 0 or run.state.should_stop):
            return True
        return bool(run.debugging.fast_dev_run)

    def _rule_for(self, epoch: int) -> Callable[[], bool] | None:
        """What says after which batches of an epoch to validate; None in an epoch without validation."""
        every = self._run.intervals.check_val_every_n_epoch
        if not self.validation.is_enabled or (every is not None and (epoch + 1) % every):
            return None
        return validation_rule(self._run, self.val_check_batch)

    def validation_due(self) -> bool:
        """Whether a validation runs after the batch at hand."""
        if self._validation_rule is None:
            return False
        return self._validation_rule() or (self._run.state.should_stop and self.can_stop())

    def _move_schedulers(self, stepped: bool, *, plateau: bool) -> None:
        """Move what is due at the batch at hand; what follows a metric waits for the validation."""
        progress = self._run.progress
        if stepped and self._run.strategy.precision.stepped:  # not where fp16 overflowed
            progress.scheduler_steps += self._schedulers.step("step", progress.batch, plateau=plateau)
        if progress.is_last_batch and not plateau:
            progress.scheduler_steps += self._schedulers.step("epoch", progress.epoch + 1, plateau=False)

    def _epoch_is_over(self) -> bool:
        """Whether the epoch ends with the batch at hand, the last or not; the run does if asked to."""
        run = self._run
        if run.companions is not None:
            run.companions.at_batch(run.progress.total_batches, run.updates.accumulate_grad_batches)
        if run.state.request is not None:
            raise run.state.request
        return 0 <= run.limits.max_steps <= run.progress.step or (run.state.should_stop and self.can_stop())

    def can_stop(self) -> bool:
        """Whether ``min_epochs`` and ``min_steps`` allow a stop."""
        limits, progress = self._run.limits, self._run.progress
        return progress.epochs_processed >= (limits.min_epochs or 0) and progress.step >= (
            limits.min_steps or 0
        )

    def is_done(self) -> bool:
        """Whether training ends here; says why."""
        limits, progress, state = self._run.limits, self._run.progress, self._run.state
        max_epochs = -1 if limits.max_epochs is None else limits.max_epochs
        reason = None
        if self.max_batches == 0:
            reason = "No training batches."
        elif 0 <= limits.max_steps <= progress.step:
            reason = f"`max_steps={limits.max_steps}` reached."
        elif 0 <= max_epochs <= progress.epoch:
            reason = f"`max_epochs={max_epochs}` reached."
        if reason is not None:
            rank_zero_info(f"`Trainer.fit` stopped: {reason}")
            return True
        if state.should_stop and not self.can_stop() and not self._told_of_minimum:
            self._told_of_minimum = True
            rank_zero_info(
                f"A stop was asked for, and training goes on: min_epochs={limits.min_epochs} or "
                f"min_steps={limits.min_steps} is not reached yet."
            )
        return state.should_stop and self.can_stop()


def _skips(hooks: tuple[Callable[..., Any], ...], batch: Any, batch_idx: int) -> bool:
    """Call the hooks; whether one of them skips the rest of the epoch."""
    if batch is None:
        return False
    answers = [hook(batch, batch_idx) for hook in hooks]
    return -1 in answers
