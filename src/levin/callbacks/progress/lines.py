"""PlainLines: progress for a file, a line now and then that grep finds."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The first line comes this long after the start of a run, the others this long after one another.
FIRST_S = 5.0
CADENCE_S = 30.0

# A run writes at most one line in CADENCE_S, and this many more.
SPARE_LINES = 10

MAX_BYTES = 199


@dataclass
class Meter:
    """How fast one stage goes."""

    began: float
    seen: int = 0
    seen_at_mark: int = 0
    mark: float = 0.0
    first_batch_at: float | None = None

    def count(self, now: float) -> None:
        """A batch is done."""
        self.seen += 1
        if self.first_batch_at is None:
            self.first_batch_at = now

    def rate(self, now: float) -> float | None:
        """Batches per second since the last mark, None if there were none."""
        batches, seconds = self.seen - self.seen_at_mark, now - self.mark
        return batches / seconds if batches and seconds > 0 else None

    def mean_rate(self, now: float) -> float | None:
        """Batches per second since the first batch was over, which is often slow and tells little."""
        if self.first_batch_at is None or self.seen < 2 or now <= self.first_batch_at:
            return None
        return (self.seen - 1) / (now - self.first_batch_at)


@dataclass(frozen=True)
class Position:
    """Where a stage is.

    Attributes:
        label: What is counted: ``epoch 3/9  step``, ``validation``.
        batch: Batches that are done.
        total: Batches there are; infinity if nobody knows.
        remaining: Batches to the end of all that has to be done, infinity if there is no end.
    """

    label: str
    batch: int
    total: float
    remaining: float

    def __str__(self) -> str:
        if math.isinf(self.total):
            return f"{self.label} {self.batch}"
        percent = f" ({int(100 * self.batch / self.total)}%)" if self.total else ""
        return f"{self.label} {self.batch}/{int(self.total)}{percent}"


class PlainLines:
    """Writes where a run is: soon after it begins, every 30 seconds, where epochs end, and when it is over.

    Short epochs and validations do not add lines: a run of ``t`` seconds writes at most ``t / 30 + 10``. Each
    is shorter than 200 bytes and looks like::

        epoch 3/9  step 1200/5000 (24%)  12.3 it/s  eta 0:05:10  train_loss 0.1234

    In a Slurm job that knows when it will be ended, the time left follows the ETA.

    Args:
        clock: Gives seconds; any monotonic clock.
        write: Takes a line with its line break.

    Attributes:
        due_at: When the next line is due: cheap to compare with the clock after each batch.
    """

    def __init__(self, clock: Callable[[], float], write: Callable[[str], Any]) -> None:
        self._clock = clock
        self._write = write
        self._meters: list[Meter] = []
        self._began = self._milestone_at = 0.0
        self.due_at: float = 0.0
        self._written = 0
        self._last: tuple[str, str] = ("", "")

    def begin(self, position: Position | None = None) -> None:
        """A stage begins, perhaps within another one; with a ``position`` a line says so."""
        now = self._clock()
        if not self._meters:
            self._began = self._milestone_at = now
            self._written = 0
            self.due_at = now + FIRST_S
        self._meters.append(Meter(began=now, mark=now))
        if position is not None:
            self._line(str(position), [], {})

    def end(self) -> None:
        """The stage that began last is over; the one around it goes on."""
        ended = self._meters.pop()
        if self._meters:
            self._meters[-1].mark += self._clock() - ended.began  # its rate is that of its own time

    def batch_done(self) -> bool:
        """Count a batch; True if a line is due, which is `cadence`'s then."""
        now = self._clock()
        self._meters[-1].count(now)
        return now >= self.due_at

    def cadence(self, position: Position, metrics: Mapping[str, Any]) -> None:
        """Write the line that is due."""
        now = self._clock()
        self._report(now, position, metrics, self._outlook(now, position))

    def milestone(self, position: Position, metrics: Callable[[], Mapping[str, Any]]) -> None:
        """An epoch or a validation is over: write a line if there was none of this kind for a while."""
        now = self._clock()
        spare = SPARE_LINES - 2 + (now - self._began) / CADENCE_S - self._written
        if now - self._milestone_at >= CADENCE_S and spare >= 1:
            self._milestone_at = now
            self._report(now, position, metrics(), self._outlook(now, position))

    def final(self, position: Position, metrics: Mapping[str, Any]) -> None:
        """The outermost stage is over: write where it ended, unless the last line said just that."""
        if (str(position), _as_text(metrics)) != self._last and self._meters:
            now = self._clock()
            self._report(now, position, metrics, [f"took {_duration(now - self._meters[-1].began)}"])

    def _report(self, now: float, position: Position, metrics: Mapping[str, Any], outlook: list[str]) -> None:
        rate = self._meters[-1].rate(now)
        self._line(str(position), [] if rate is None else [f"{_rate(rate)} it/s"], metrics, outlook)
        self._last = (str(position), _as_text(metrics))
        self.due_at = now + CADENCE_S
        meter = self._meters[-1]
        meter.mark, meter.seen_at_mark = now, meter.seen

    def _outlook(self, now: float, position: Position) -> list[str]:
        rate = self._meters[-1].mean_rate(now)
        if rate is None or math.isinf(position.remaining):
            return []
        limit = _seconds_left()
        return [
            f"eta {_duration(position.remaining / rate)}"
            + ("" if limit is None else f" of {_duration(limit)} left")
        ]

    def _line(
        self, place: str, speed: list[str], metrics: Mapping[str, Any], outlook: list[str] | None = None
    ) -> None:
        text = "  ".join([place, *speed, *(outlook or [])])
        for name, value in metrics.items():
            longer = f"{text}  {name} {_number(value)}"
            if len(longer.encode()) >= MAX_BYTES:
                break
            text = longer
        self._written += 1
        self._write(text.encode()[: MAX_BYTES - 1].decode(errors="ignore") + "\n")


def _as_text(metrics: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in metrics.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rate(rate: float) -> str:
    if rate >= 100:
        return f"{rate:.0f}"
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(max(seconds, 0))))


def _seconds_left() -> float | None:
    """Seconds until Slurm ends this job, if it tells."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return int(end) - time.time() if end.isdecimal() else None
