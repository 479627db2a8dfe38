"""When a fit validates: the rule is chosen before an epoch, and asked after each of its batches."""

from __future__ import annotations

import difflib
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from levin.core.metrics import batch_size_of
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.trainer.arguments import Intervals
    from levin.trainer.states import Run

_UNITS = ("batches", "updates", "samples")
_SAID_OTHERWISE = {
    "epochs": "check_val_every_n_epoch={n}",
    "seconds": "val_check_interval=timedelta(seconds={n})",
    "steps": 'Every({n}, "updates")',
}


@dataclass(frozen=True)
class Every:
    """Every so many batches, updates or samples of a whole fit: ``Trainer(val_check_interval=Every(...))``.

    The counters go on over epochs, and over interruptions with the checkpoint, so that what is due is due at
    the same place in every run. Where a batch counts several it is the batch that reaches a multiple of
    ``n``. For epochs there is ``check_val_every_n_epoch``, and for time a time as ``val_check_interval``.

    Args:
        n: How many.
        unit: "updates" are steps of optimizers, as `trainer.global_step` counts them; "samples" are what the
            batches hold along their first dimension.

    Raises:
        MisconfigurationException: If ``n`` is no whole number from 1 on, or the unit is none of these.

    Examples:
        >>> Every(1000, "updates")
        Every(n=1000, unit='updates')
    """

    n: int
    unit: str

    def __post_init__(self) -> None:
        """Check both."""
        n: Any = self.n
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise MisconfigurationException(f"Every(n={n!r}, ...): n is a whole number from 1 on.")
        if self.unit in _UNITS:
            return
        other = _SAID_OTHERWISE.get(self.unit)
        near = difflib.get_close_matches(str(self.unit), _UNITS, n=1)
        hint = f" Say {other.format(n=n)}." if other else f" Did you mean {near[0]!r}?" if near else ""
        raise MisconfigurationException(
            f"Every({n}, {self.unit!r}): the unit is one of {list(_UNITS)}.{hint}"
        )


def batches_between_validations(intervals: Intervals, max_batches: int | float) -> int | float:
    """``val_check_interval`` as a number of training batches; infinite where batches are not what counts.

    Args:
        intervals: Where it stands.
        max_batches: Training batches in an epoch; infinite if nobody knows.

    Raises:
        ValueError: If it is longer than an epoch, and counted anew in each.
        MisconfigurationException: If it is a share of an epoch of unknown length.
    """
    interval, every = intervals.val_check_interval, intervals.check_val_every_n_epoch
    if isinstance(interval, int):
        if 0 < max_batches < interval and every is not None:
            raise ValueError(
                f"`val_check_interval={interval}` is more than the {max_batches} training batches of an "
                "epoch: there would be no validation. Lower it, or set check_val_every_n_epoch=None to count "
                "batches over epochs."
            )
        return interval
    if not isinstance(interval, float):
        return math.inf
    if max_batches == math.inf:
        if interval == 1.0:
            return math.inf
        raise MisconfigurationException(
            f"`val_check_interval={interval}` is a share of an epoch, and the training data has no length. "
            "Give 1.0, a number of batches or a time."
        )
    return max(1, int(max_batches * interval))


def validation_rule(run: Run, batches: int | float) -> Callable[[], bool]:
    """What says after a training batch whether the interval is over, by counters that checkpoints hold.

    Args:
        run: The run.
        batches: What `batches_between_validations` gave.
    """
    progress, intervals = run.progress, run.intervals
    interval = intervals.val_check_interval
    if isinstance(interval, timedelta):
        seconds = interval.total_seconds()
        return lambda: time.monotonic() - progress.validated_at >= seconds
    counts_on = intervals.check_val_every_n_epoch is None and batches != math.inf
    if interval == 1.0 and isinstance(interval, float) and not counts_on:
        return lambda: progress.is_last_batch  # the end of the epoch, wherever it comes
    if isinstance(interval, (int, float)) and counts_on:
        interval = Every(int(batches), "batches")
    if isinstance(interval, Every):
        n, unit = interval.n, interval.unit
        return lambda: progress.counts[unit] // n > progress.validated[unit] // n
    return lambda: progress.batch % batches == 0


def counting_samples(run: Run, run_step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that counts its batch's samples, where validations go by them; else the step itself."""
    interval, progress = run.intervals.val_check_interval, run.progress
    if not isinstance(interval, Every) or interval.unit != "samples":
        return run_step

    def run_and_count(batch: Any, batch_idx: int, is_last: bool) -> Any:
        outputs = run_step(batch, batch_idx, is_last)
        progress.samples += batch_size_of(batch, remedy='validate by "batches" or "updates"')
        return outputs

    return run_and_count
