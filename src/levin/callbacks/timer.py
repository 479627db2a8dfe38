"""Timer: how long a run takes, and its end when its time is up."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import rank_zero_info

if TYPE_CHECKING:
    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer

_DURATION = re.compile(r"(\d+):(\d+):(\d+):(\d+)")
_STAGES = ("train", "sanity_check", "validate", "test", "predict")


class Interval(str, Enum):
    """When a `Timer` looks at the clock."""

    step = "step"
    epoch = "epoch"


class Timer(Callback):
    """Measure the time that training and evaluation take, and end training when a given time is up.

    What a resumed run took before counts.

    Args:
        duration: The time for training: a text ``DD:HH:MM:SS``, a `timedelta`, or a dict of its arguments
            such as ``{"hours": 2}``. None only measures.
        interval: Look at the clock after each batch ("step") or each epoch.
        verbose: Whether to say why training ended.

    Raises:
        MisconfigurationException: If ``duration`` or ``interval`` is something else.
    """

    def __init__(
        self,
        duration: str | timedelta | dict[str, int] | None = None,
        interval: str = Interval.step,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        self._duration = None if duration is None else _seconds(duration)
        self._interval = _interval(interval)
        self._verbose = verbose
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._offset = dict.fromkeys(_STAGES, 0.0)
        self._has_told = False  # in this run: it may take some batches to end

    # ------------------------------------------------------------------ what it tells

    def start_time(self, stage: str = "train") -> float | None:
        """When the stage began, on the clock of `time.monotonic`; None if it has not."""
        return self._started.get(_stage(stage))

    def end_time(self, stage: str = "train") -> float | None:
        """When the stage ended; None if it has not."""
        return self._ended.get(_stage(stage))

    def time_elapsed(self, stage: str = "train") -> float:
        """The seconds that the stage has taken, in runs that this one was resumed from, too."""
        name = _stage(stage)
        start, offset = self._started.get(name), self._offset[name]
        if start is None:
            return offset
        return self._ended.get(name, time.monotonic()) - start + offset

    def time_remaining(self, stage: str = "train") -> float | None:
        """The seconds that are left of the duration; None if there is none."""
        return None if self._duration is None else self._duration - self.time_elapsed(stage)

    # ------------------------------------------------------------------ hooks

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run may have no time left."""
        self._has_told = False
        self._stop_if_up(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training."""
        self._start("train")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training."""
        self._end("train")

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the sanity check."""
        self._start("sanity_check")

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the sanity check."""
        self._end("sanity_check")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of validation."""
        if not trainer.sanity_checking:
            self._start("validate")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of validation."""
        if not trainer.sanity_checking:
            self._end("validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of testing."""
        self._start("test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of testing."""
        self._end("test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of prediction."""
        self._start("predict")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of prediction."""
        self._end("predict")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock."""
        if self._interval is Interval.step:
            self._stop_if_up(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        if self._interval is Interval.epoch:
            self._stop_if_up(trainer)

    def _start(self, stage: str) -> None:
        self._started[stage] = time.monotonic()
        self._ended.pop(stage, None)

    def _end(self, stage: str) -> None:
        self._ended[stage] = time.monotonic()

    def _stop_if_up(self, trainer: Trainer) -> None:
        if self._duration is None:
            return
        if self.time_elapsed() >= self._duration:  # of the first process whose clock says so, for all
            trainer.should_stop = True
            if self._verbose and not self._has_told:
                self._has_told = True
                elapsed = timedelta(seconds=int(self.time_elapsed()))
                rank_zero_info(f"The time for training is up after {elapsed}: training ends.")

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """The seconds that each stage has taken."""
        return {"time_elapsed": {stage: self.time_elapsed(stage) for stage in _STAGES}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from there."""
        self._offset.update(state_dict.get("time_elapsed", {}))


def _stage(stage: str) -> str:
    name = str(getattr(stage, "value", stage))
    if name not in _STAGES:
        raise ValueError(f"Timer measures {', '.join(_STAGES)}, but was asked for {name!r}.")
    return name


def _seconds(duration: Any) -> float:
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration.strip())
        if match is not None:
            days, hours, minutes, seconds = map(int, match.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    elif isinstance(duration, dict):
        return timedelta(**duration).total_seconds()
    elif isinstance(duration, timedelta):
        return duration.total_seconds()
    raise MisconfigurationException(
        f"Timer(duration={duration!r}) is no duration. Give a text DD:HH:MM:SS such as '00:12:00:00', a "
        "timedelta, or a dict such as {'hours': 12}."
    )


def _interval(interval: str) -> Interval:
    known = [each.value for each in Interval]
    if interval not in known:
        raise MisconfigurationException(f"Timer(interval={interval!r}) must be one of {known}.")
    return Interval(interval)
