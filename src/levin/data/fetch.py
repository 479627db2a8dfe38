"""Fetch batches, know the last one, and bring each to the device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from levin.data.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NOTHING = object()


class Fetcher:
    """The batches of one pass over the data, with the knowledge whether the one at hand is the last.

    Where the number of batches is known, each is read when the loop asks for it. Where it is not, one raw
    batch is read ahead: there is no other way to know the last one. Nothing but raw batches is fetched ahead;
    they are brought to the device, and the transfer hooks run, when their turn has come.

    The loader's iterator goes with the last batch, and its worker processes with it: who reads something else
    after that batch, as a validation does, has them out of the way.

    Args:
        batches: The batches.
        count: How many to take; infinite to take all there are.
        transfer: Brings a batch to the device.
        ends_early: Whether there may be fewer than ``count``, and the last one is to be known all the same.
        read: What reads a batch: `next`, or that and a profiler's clock around it.
        is_idle: Tells whether the device has nothing to do; None where it never works on its own. Time
            that it was busy in was not spent waiting for data.

    Attributes:
        count: How many there are to take.
        done: Whether the newest batch is the last one.
        fetched: The number of batches given out so far, those of an interrupted epoch included.
        waiting: How long the pass takes, and how much of that went into waiting.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        count: int | float,
        transfer: Callable[[Any], Any],
        *,
        ends_early: bool = False,
        read: Callable[..., Any] = next,
        is_idle: Callable[[], bool] | None = None,
    ) -> None:
        self._batches = batches
        self.count: int | float = count
        self._transfer = transfer
        self._ends_early = ends_early
        self._next = read
        self._is_idle = is_idle
        self._source: Iterator[Any] | None = None
        self._ahead: Any = _NOTHING
        self.done: bool = False
        self.fetched: int = 0
        self.waiting: Waiting = Waiting()

    @property
    def is_open(self) -> bool:
        """Whether the loader is open: from `start` to the last batch, or to `close`."""
        return self._source is not None

    def start(self, skip: int = 0) -> None:
        """Open the loader, and pass over batches that an interrupted epoch has had."""
        began = time.perf_counter()
        self._source = iter(self._batches)
        self.done, self.fetched = False, skip
        self.waiting = Waiting(opening_s=time.perf_counter() - began)
        for _ in range(skip if skip < self.count else 0):
            next(self._source, None)
        if self._ends_early:
            self._read_first()

    def close(self) -> None:
        """Let go of the loader's iterator."""
        self._source, self._ahead = None, _NOTHING

    def __iter__(self) -> Iterator[Any]:
        if self._source is None:
            self.start()
        if not self._ends_early:
            self._read_first()
        return self._give_out()

    def _read_first(self) -> None:
        """Read the first batch: that takes as long as workers need to begin."""
        began = time.perf_counter()
        self._ahead = self._next(self._source, _NOTHING) if self.fetched < self.count else _NOTHING
        self.waiting.opening_s += time.perf_counter() - began

    def _give_out(self) -> Iterator[Any]:
        count, ends_early, is_idle, waiting = self.count, self._ends_early, self._is_idle, self.waiting
        clock = time.perf_counter
        batch = self._ahead
        waiting.began = clock()
        try:
            while batch is not _NOTHING:
                self.fetched += 1
                is_full = self.fetched >= count
                if is_full and not ends_early:
                    self._be_done()
                if not ends_early:
                    yield self._transfer(batch)
                asked = clock()
                following = _NOTHING if is_full else self._next(self._source, _NOTHING)
                waiting.newest = clock()
                if is_idle is None or is_idle():
                    waiting.reading_s += waiting.newest - asked
                if ends_early and following is _NOTHING:
                    self._be_done()
                if ends_early:
                    yield self._transfer(batch)
                batch = following
        finally:
            self.close()
            waiting.newest = clock()

    def _be_done(self) -> None:
        self.done = True
        self.close()
