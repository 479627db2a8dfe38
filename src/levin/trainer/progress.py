"""Progress: the counters of a fit. Whoever needs to know "when" asks them."""

from __future__ import annotations

from dataclasses import dataclass
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
        validations: Validations that were run to their end, the sanity check excepted.
        scheduler_steps: Moves of learning-rate schedulers.
        is_last_batch: Whether the newest batch is the epoch's last one.
        in_batch: Whether the newest batch's hooks are still running: what is saved by then does not call it
            complete.
        in_epoch: Whether an epoch has begun and is not over.
        in_epoch_end: Whether the epoch's batches are over and its last hooks are running.
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
    validations: int = 0
    scheduler_steps: int = 0
    is_last_batch: bool = False
    in_batch: bool = False
    in_epoch: bool = False
    in_epoch_end: bool = False
    evaluated_batches: int = 0
    unfinished: int = 0
    steps_before: int = 0
    moves_before: int = 0

    def start_epoch(self) -> None:
        """A new epoch begins with its first batch."""
        self.batch, self.unfinished, self.is_last_batch = 0, 0, False
        self.in_batch = self.in_epoch_end = False  # an exception may have left them
        self.steps_before, self.moves_before = self.step, self.scheduler_steps

    def batch_done(self) -> None:
        """A batch was run; its last hooks are still to come."""
        self.batch += 1
        self.total_batches += 1
        self.in_batch = True

    @property
    def epochs_processed(self) -> int:
        """Epochs whose batches are over."""
        return self.epoch + self.in_epoch_end

    def epoch_done(self) -> None:
        """An epoch and all its hooks are over."""
        self.epoch += 1
        self.in_epoch = self.in_epoch_end = False
        self.unfinished = 0

    def state_dict(self, *, automatic: bool) -> dict[str, Any]:
        """The state of the fit loop in the field's common form, whose counters follow from these.

        Args:
            automatic: Whether the steps were automatic optimization's.
        """
        steps, steps_now = self.step, self.step - self.steps_before
        moves, moves_now = self.scheduler_steps, self.scheduler_steps - self.moves_before
        stepped = _progress(
            _counts(ready=steps, completed=steps), _counts(ready=steps_now, completed=steps_now)
        )
        unused = _progress(_counts(ready=0, completed=0), _counts(ready=0, completed=0))
        cleared, cleared_now = (steps, steps_now) if automatic else (0, 0)
        return {
            "state_dict": {},
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
            "epoch_loop.manual_optimization.optim_step_progress": unused if automatic else stepped,
            "epoch_loop.val_loop.state_dict": {},
            "epoch_loop.val_loop.batch_progress": {
                "total": self._stages(self.evaluated_batches, self.evaluated_batches),
                "current": self._stages(self.evaluated_batches, self.evaluated_batches),
                "is_last_batch": self.validations > 0,
            },
            "epoch_progress": _progress(self._epochs(), self._epochs()),
        }

    @staticmethod
    def _stages(run: int, completed: int) -> dict[str, int]:
        return _counts(ready=run, completed=completed, started=run, processed=run)

    def _epochs(self) -> dict[str, int]:
        begun = self.epoch + self.in_epoch
        return _counts(ready=begun, completed=self.epoch, started=begun, processed=self.epochs_processed)

    def load_state_dict(self, state: dict[str, Any], *, accumulate: int = 1) -> None:
        """Take back what `state_dict` gave, here or in Lightning.

        Args:
            state: The state of the fit loop.
            accumulate: Batches for one optimizer step.
        """
        batches = state["epoch_loop.batch_progress"]
        epochs = state["epoch_progress"]["current"]
        optim = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        manual = state["epoch_loop.manual_optimization.optim_step_progress"]["total"]
        self.step = optim["completed"] + manual["completed"]
        self.batches_that_stepped = state["epoch_loop.state_dict"].get("_batches_that_stepped", self.step)
        self.batch, self.total_batches = batches["current"]["processed"], batches["total"]["processed"]
        self.is_last_batch = batches["is_last_batch"]
        self.epoch = epochs["processed"]
        self.unfinished = self.batch if epochs["ready"] > epochs["processed"] else 0
        stepped = self.is_last_batch or self.batch % accumulate == 0
        if self.unfinished and stepped:  # the batch that it was saved at had not been counted yet
            self.batches_that_stepped += 1
        self.scheduler_steps = state["epoch_loop.scheduler_progress"]["total"]["completed"]
        self.evaluated_batches = state["epoch_loop.val_loop.batch_progress"]["current"]["completed"]
        self.in_batch = self.in_epoch = self.in_epoch_end = False


def _progress(total: dict[str, int], current: dict[str, int]) -> dict[str, dict[str, int]]:
    return {"total": total, "current": current}


def _counts(**counts: int) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}
