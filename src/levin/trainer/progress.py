"""Progress: the counters of a fit. Whoever needs to know "when" asks them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """How far a fit has come.

    Attributes:
        epoch: Epochs that are over; the number of the running one, from 0.
        batch: Training batches of this epoch that were run.
        total_batches: Training batches of all epochs that were run.
        step: Optimizer steps; several optimizers count each for itself.
        batches_that_stepped: Batches at which optimizers stepped: the x axis of loggers.
        samples: Samples that were trained on; counted only where validations go by them.
        validations: Validations that have computed their metrics, the sanity check excepted.
        validated: The `counts` at the last validation, or at the start of the epoch if that was later.
        validated_at: When the last validation ended, or the fit began, by the monotonic clock.
        scheduler_steps: Moves of learning-rate schedulers.
        is_last_batch: Whether the newest batch is the epoch's last one.
        in_batch: Whether the newest batch's hooks are still running: what is saved by then does not call it
            complete.
        is_logged: Whether the row of the newest batch, or of the epoch that ends, was written, if it had one.
        is_settled: Whether nothing more is to come after the newest batch: no row, validation or scheduler.
        in_epoch: Whether an epoch has begun and is not over.
        in_epoch_end: Whether the epoch's batches are over and its last hooks are running.
        is_cut_off: Whether the newest epoch ended before its data did, because the training was to stop: a
            run that goes on goes on in it.
        evaluated_batches: Batches that the running validation, or the last one, has run.
        unfinished: Batches of this epoch that were run before it was interrupted: they are passed over.
        steps_before: Optimizer steps before this epoch.
        moves_before: Moves of schedulers before this epoch.
    """

    epoch: int = 0
    batch: int = 0
    total_batches: int = 0
    step: int = 0
    batches_that_stepped: int = 0
    samples: int = 0
    validations: int = 0
    validated: dict[str, int] = field(default_factory=lambda: {"batches": 0, "updates": 0, "samples": 0})
    validated_at: float = 0.0
    scheduler_steps: int = 0
    is_last_batch: bool = False
    in_batch: bool = False
    is_logged: bool = True
    is_settled: bool = True
    in_epoch: bool = False
    in_epoch_end: bool = False
    is_cut_off: bool = False
    evaluated_batches: int = 0
    unfinished: int = 0
    steps_before: int = 0
    moves_before: int = 0
    _seconds_before: float = 0.0  # since the last validation, when the checkpoint was written

    @property
    def counts(self) -> dict[str, int]:
        """What was trained on so far, by unit."""
        return {"batches": self.total_batches, "updates": self.step, "samples": self.samples}

    def start_clock(self) -> None:
        """The fit begins, or goes on: from here on time counts."""
        self.validated_at, self._seconds_before = time.monotonic() - self._seconds_before, 0.0

    def start_epoch(self) -> None:
        """A new epoch begins with its first batch."""
        self.batch, self.unfinished, self.is_last_batch = 0, 0, False
        self.in_batch = self.in_epoch_end = self.is_cut_off = False  # an exception may have left them
        self.is_settled = True
        self.steps_before, self.moves_before, self.validated = self.step, self.scheduler_steps, self.counts

    def batch_done(self) -> None:
        """A batch was run; its last hooks, a row for the loggers, a validation are still to come."""
        self.batch += 1
        self.total_batches += 1
        self.in_batch, self.is_logged, self.is_settled = True, False, False

    def validation_done(self) -> None:
        """A validation has computed its metrics; its last hook is still to come."""
        self.validations += 1
        self.validated, self.validated_at = self.counts, time.monotonic()

    @property
    def epochs_processed(self) -> int:
        """Epochs whose batches are over."""
        return self.epoch + self.in_epoch_end

    def epoch_done(self) -> None:
        """An epoch and all its hooks are over."""
        self.epoch += 1
        self.in_epoch = self.in_epoch_end = False
        self.unfinished = 0

    def state_dict(self, *, automatic: bool, is_timed: bool = False) -> dict[str, Any]:
        """The state of the fit loop in the field's common form, whose counters follow from these.

        What that form has no place for stands under "levin".

        Args:
            automatic: Whether the steps were automatic optimization's.
            is_timed: Whether validations go by the clock.
        """
        steps, steps_now = self.step, self.step - self.steps_before
        moves, moves_now = self.scheduler_steps, self.scheduler_steps - self.moves_before
        all_steps = _counts(ready=steps, completed=steps)
        stepped = _progress(all_steps, _counts(ready=steps_now, completed=steps_now))
        unused = _progress(_counts(ready=0, completed=0), _counts(ready=0, completed=0))
        cleared, cleared_now = (steps, steps_now) if automatic else (0, 0)
        return {
            "state_dict": {"levin": self._own_state(is_timed)},
            "epoch_loop.state_dict": {"_batches_that_stepped": self.batches_that_stepped},
            "epoch_loop.batch_progress": {
                "total": self._stages(self.total_batches, self.total_batches - self.in_batch),
                "current": self._stages(self.batch, self.batch - self.in_batch),
                "is_last_batch": self.is_last_batch,
            },
            "epoch_loop.scheduler_progress": _progress(
                _counts(ready=moves, completed=moves), _counts(ready=moves_now, completed=moves_now)
            ),
            "epoch_loop.automatic_optimization.state_dict": {},
            "epoch_loop.automatic_optimization.optim_progress": {
                "optimizer": {
                    "step": stepped if automatic else unused,
                    "zero_grad": _progress(
                        _counts(ready=cleared, started=cleared, completed=cleared),
                        _counts(ready=cleared_now, started=cleared_now, completed=cleared_now),
                    ),
                }
            },
            "epoch_loop.manual_optimization.state_dict": {},
            # the field's form counts these over all epochs, in both places
            "epoch_loop.manual_optimization.optim_step_progress": (
                unused if automatic else _progress(all_steps, all_steps)
            ),
            "epoch_loop.val_loop.state_dict": {},
            "epoch_loop.val_loop.batch_progress": {
                "total": self._stages(self.evaluated_batches, self.evaluated_batches),
                "current": self._stages(self.evaluated_batches, self.evaluated_batches),
                "is_last_batch": self.validations > 0,
            },
            "epoch_progress": _progress(self._epochs(), self._epochs()),
        }

    def _own_state(self, is_timed: bool) -> dict[str, Any]:
        seconds = time.monotonic() - self.validated_at if is_timed else 0.0
        return {
            "is_logged": self.is_logged,
            "is_settled": self.is_settled,
            "is_cut_off": self.is_cut_off,
            "samples": self.samples,
            "validations": self.validations,
            "validated": dict(self.validated),
            "seconds_since_validation": seconds,
        }

    @staticmethod
    def _stages(run: int, completed: int) -> dict[str, int]:
        return _counts(ready=run, completed=completed, started=run, processed=run)

    def _epochs(self) -> dict[str, int]:
        begun = self.epoch + self.in_epoch
        return _counts(ready=begun, completed=self.epoch, started=begun, processed=self.epochs_processed)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, here or in Lightning."""
        batches = state["epoch_loop.batch_progress"]
        epochs = state["epoch_progress"]["current"]
        optim = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        manual = state["epoch_loop.manual_optimization.optim_step_progress"]["total"]
        self.step = optim["completed"] + manual["completed"]
        self.batches_that_stepped = state["epoch_loop.state_dict"].get("_batches_that_stepped", self.step)
        self.batch, self.total_batches = batches["current"]["processed"], batches["total"]["processed"]
        self.is_last_batch = batches["is_last_batch"]
        own = state["state_dict"].get("levin", {})
        is_over = epochs["ready"] == epochs["processed"]
        is_cut_off = is_over and own.get("is_cut_off", False)
        self.epoch = epochs["processed"] - is_cut_off
        self.unfinished = self.batch if is_cut_off or not is_over else 0
        self.scheduler_steps = state["epoch_loop.scheduler_progress"]["total"]["completed"]
        self.evaluated_batches = state["epoch_loop.val_loop.batch_progress"]["current"]["completed"]
        self.in_batch = self.in_epoch_end = self.is_cut_off = False
        self.in_epoch = bool(self.unfinished)
        self.is_logged = own.get("is_logged", True)
        self.samples, self.validations = own.get("samples", 0), own.get("validations", 0)
        # Lightning completes a batch after its last hooks, and validates then
        is_completed = batches["total"]["completed"] == batches["total"]["processed"]
        validated = {**self.counts, "batches": self.total_batches - (not is_completed)}
        self.validated = own.get("validated", validated)
        self._seconds_before = own.get("seconds_since_validation", 0.0)
        # Lightning counts a batch for its loggers at the very end, and is never found after that
        self.is_settled = not self.unfinished or own.get("is_settled", False)


def _progress(total: dict[str, int], current: dict[str, int]) -> dict[str, dict[str, int]]:
    return {"total": total, "current": current}


def _counts(**counts: int) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}
