"""Fetch batches, know the last one, and bring each to the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NOTHING = object()


class Fetcher:
    """The batches of a pass over the data, with the knowledge whether the one at hand is the last.

    Where the number of batches is known, each is read when the loop asks for it. Where it is not, one raw
    batch is read ahead: there is no other way to know the last one. Nothing but raw batches is fetched ahead;
    they are brought to the device, and the transfer hooks run, when their turn has come.

    Args:
        batches: The batches.
        count: How many to take; infinite to take all there are.
        transfer: Brings a batch to the device.
        ends_early: Whether there may be fewer than ``count``, and the last one is to be known all the same.
        read: What reads a batch: `next`, or that and a profiler's clock around it.

    Attributes:
        done: Whether the newest batch is the last one.
        fetched: The number of batches given out so far, those of an interrupted epoch included.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        count: int | float,
        transfer: Callable[[Any], Any],
        *,
        ends_early: bool = False,
        read: Callable[..., Any] = next,
    ) -> None:
        self._batches = batches
        self._count = count
        self._transfer = transfer
        self._ends_early = ends_early
        self._next = read
        self._source: Iterator[Any] | None = None
        self._ahead: Any = _NOTHING
        self.done: bool = False
        self.fetched: int = 0

    def start(self, skip: int = 0) -> None:
        """Open the loader, and pass over batches that an interrupted epoch has had."""
        self._source = iter(self._batches)
        self.done, self.fetched = False, skip
        for _ in range(skip if skip < self._count else 0):
            next(self._source, None)
        if self._ends_early:
            self._ahead = self._read(self._source)

    def __iter__(self) -> Iterator[Any]:
        if self._source is None:
            self.start()
        source, self._source = self._source, None
        assert source is not None
        return self._read_ahead(source) if self._ends_early else self._counted(source)

    def _counted(self, source: Iterator[Any]) -> Iterator[Any]:
        while self.fetched < self._count:
            try:
                batch = self._next(source)
            except StopIteration:
                return  # the loader's length was a promise that it did not keep
            self.fetched += 1
            self.done = self.fetched >= self._count
            yield self._transfer(batch)

    def _read_ahead(self, source: Iterator[Any]) -> Iterator[Any]:
        while self._ahead is not _NOTHING:
            self.fetched += 1
            batch, self._ahead = self._ahead, self._read(source)
            self.done = self._ahead is _NOTHING
            yield self._transfer(batch)

    def _read(self, source: Iterator[Any]) -> Any:
        return self._next(source, _NOTHING) if self.fetched < self._count else _NOTHING
