"""Fetch batches, know the last one, and bring each to the device."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from levin.data.waiting import Waiting
from levin.utils.seed import collect_rng_state, set_rng_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.data.reader import Reader
    from levin.data.together import Together
    from levin.distributed.collectives import Votes

_NOTHING = object()


class Pace:
    """Keeps the training of several processes together that have different numbers of batches.

    Before each step they ask one another who will have another batch; the answer is needed after it.

    Args:
        votes: How they ask; None where they know how many batches there are.
        num_processes: How many they are.
        policy: "stop_together": the pass ends with the first that has no more; so it does with "drop".
            "zero_weight": with the last, those that have none taking part without a batch. "error": it is an
            error if not all end at once.
    """

    def __init__(self, votes: Votes | None, num_processes: int, policy: str) -> None:
        self._votes, self._num_processes, self._policy = votes, num_processes, policy

    @property
    def waits_for_all(self) -> bool:
        """Whether processes without a batch go on."""
        return self._policy == "zero_weight"

    def ask(self, has_more: bool) -> None:
        """Say whether there is another batch here."""
        if self._votes is not None:
            self._votes.ask(has_more)

    def goes_on(self, has_more: bool) -> bool:
        """Whether there is another step for all.

        Raises:
            RuntimeError: If there is for some, and that is an error.
        """
        if self._votes is None:
            return True  # the count ends it
        count = self._votes.count()
        if self._policy == "error" and 0 < count < self._num_processes:
            state = "has more" if has_more else "is at its end"
            raise RuntimeError(
                f"The training data of {count} of {self._num_processes} processes has more batches, and that "
                f"of the others is at its end; here it {state}. With uneven='stop_together' an epoch ends "
                "there, with uneven='zero_weight' it goes on until the last is at its end."
            )
        return count > 0 if self._policy == "zero_weight" else count == self._num_processes


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
        pace: Keeps several processes together.

    Attributes:
        count: How many there are to take.
        done: Whether the newest batch is the last one.
        fetched: The number of batches given out so far, those of an interrupted epoch included.
        before: Batches of the epoch that came before this pass: another number of processes had them.
        waiting: How long the pass takes, and how much of that went into waiting.
    """

    def __init__(
        self,
        batches: Reader | Together,
        count: int | float,
        transfer: Callable[[Any], Any],
        *,
        ends_early: bool = False,
        read: Callable[..., Any] = next,
        is_idle: Callable[[], bool] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._batches = batches
        self.count: int | float = count
        self._transfer = transfer
        self._ends_early = ends_early
        self._next = read
        self._is_idle = is_idle
        self._pace = pace
        self._source: Iterator[Any] | None = None
        self._ahead: Any = _NOTHING
        self._position: dict[str, Any] | None = None  # noted before a batch was read ahead,
        self._rng_ahead: dict[str, Any] | None = None  # as was this
        self.done: bool = False
        self.fetched: int = 0
        self.before: int = 0
        self.waiting: Waiting = Waiting()

    @property
    def is_open(self) -> bool:
        """Whether the loader is open: from `start` to the last batch, or to `close`."""
        return self._source is not None

    def start(self, position: dict[str, Any] | None = None) -> None:
        """Open the loader, to begin a pass or to go on with one.

        Args:
            position: Where an interrupted pass was; that of one which was at its end leaves nothing to read.
        """
        began = time.perf_counter()
        self.done, self.fetched = False, 0 if position is None else position["taken"]
        if position is not None and (position.get("is_over") or self.fetched >= self.count):
            self.done, self._position, self._source = True, position, iter(())
        elif position is None:
            self._source = iter(self._batches)
        else:
            self._source = self._batches.go_on(position)
        self.waiting = Waiting(opening_s=time.perf_counter() - began)
        if self._ends_early:
            if self.fetched and position is not None and "rng_ahead" in position:
                set_rng_state(position["rng_ahead"])
            self._note_place()
            self._read_first()

    def position(self, taken: int) -> dict[str, Any]:
        """Where the pass is, for a checkpoint.

        Args:
            taken: How many batches of the epoch were trained on; the one at hand may not have been.
        """
        taken -= self.before
        position = self._position if self._position is not None else self._batches.position(taken)
        if self._rng_ahead is not None:
            position["rng_ahead"] = self._rng_ahead
        return {**position, "taken": taken, "is_over": self._is_used_up(taken)}

    def _note_place(self) -> None:
        """A batch is about to be read ahead."""
        if self._batches.knows_its_place:
            self._position = self._batches.position(self.fetched)
        if self._batches.draws_here:
            self._rng_ahead = collect_rng_state(include_cuda=False)

    def _is_used_up(self, taken: int) -> bool:
        return self.done and taken >= self.fetched

    def close(self) -> None:
        """Let go of the loader's iterator."""
        self._source, self._ahead = None, _NOTHING

    def __iter__(self) -> Iterator[Any]:
        if self._source is None:
            self.start()
        if not self._ends_early:
            self._read_first()
        return self._give_out() if self._pace is None else self._give_out_together(self._pace)

    def _give_out_together(self, pace: Pace) -> Iterator[Any]:
        """Give out as many batches as the other processes; which is the last one turns out after it."""
        batch = self._ahead
        try:
            pace.ask(batch is not _NOTHING)
            while pace.goes_on(batch is not _NOTHING) and self.fetched < self.count:
                self.fetched += 1
                is_full = self.fetched >= self.count
                if is_full and self.count < math.inf:
                    self.done = True
                self._note_place()
                following = _NOTHING if is_full or batch is _NOTHING else self._next(self._source, _NOTHING)
                pace.ask(following is not _NOTHING)
                yield None if batch is _NOTHING else self._transfer(batch)
                batch = following
        finally:
            self.close()

    def _read_first(self) -> None:
        """Read the first batch: that takes as long as workers need to begin."""
        began = time.perf_counter()
        if self.fetched >= self.count:
            self._ahead = _NOTHING
        elif self.fetched:
            self._ahead = self._next(self._source, _NOTHING)
        else:
            self._ahead = self._batches.read_first(self._next, self._source, _NOTHING)
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
                if ends_early:
                    self._note_place()
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


class DrawnFetcher(Fetcher):
    """The batches of one pass, drawn by the steps: ``training_step(self, dataloader_iter)``.

    It gives out the iterator that they draw from, once for each step. They may draw any number of batches;
    the pass is over when there is none left. Batches are given as the loader made them.

    Args:
        batches: The batches.
        count: How many there are to draw at most; infinite for all there are.
        tell: Gets each batch that is drawn.
        dataloader_idx: The loader's number.
        **options: More of `Fetcher`'s; ``ends_early`` makes no difference, since nobody knows what is drawn.
    """

    done: bool
    fetched: int

    def __init__(
        self,
        batches: Reader | Together,
        count: int | float,
        tell: Callable[[Any], Any],
        *,
        dataloader_idx: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(batches, count, tell, **options)
        self.dataloader_idx: int = dataloader_idx

    def _give_out(self) -> Iterator[Any]:
        iterator, waiting = BatchIterator(self), self.waiting
        waiting.began = waiting.newest = time.perf_counter()
        try:
            while self.has_more():
                self.done = self.fetched + 1 >= self.count  # if the step draws one, as nearly all do
                yield iterator
        finally:
            self.close()
            waiting.newest = time.perf_counter()

    def position(self, taken: int) -> dict[str, Any]:  # noqa: ARG002  # steps and batches are two things
        """Where the pass is, for a checkpoint: after what was drawn."""
        return super().position(self.fetched)

    def _is_used_up(self, taken: int) -> bool:  # noqa: ARG002  # see above
        return not self.is_open

    def has_more(self) -> bool:
        """Whether there is a batch to draw, which may have to be read to know it."""
        if self._ahead is _NOTHING and self._source is not None and self.fetched < self.count:
            asked = time.perf_counter()
            self._ahead = self._next(self._source, _NOTHING)
            self.waiting.newest = time.perf_counter()
            if self._is_idle is None or self._is_idle():
                self.waiting.reading_s += self.waiting.newest - asked
        return self._ahead is not _NOTHING

    def draw(self) -> Any:
        """Give out the next batch.

        Raises:
            StopIteration: There is none.
        """
        if not self.has_more():
            self.close()
            raise StopIteration
        batch, self._ahead = self._ahead, _NOTHING
        self.fetched += 1
        if self.fetched >= self.count:
            self.close()
        self._transfer(batch)
        return batch


class BatchIterator(Iterator[Any]):
    """What a step with an argument ``dataloader_iter`` gets.

    Each `next` is ``(batch, batch_idx, dataloader_idx)``. Batches are as the loader made them: on the CPU,
    and no transfer hook has run. At the end of the data there is a StopIteration, which ends the epoch where
    the step does not catch it.
    """

    def __init__(self, fetcher: DrawnFetcher) -> None:
        self._fetcher = fetcher

    def __next__(self) -> Any:
        fetcher = self._fetcher
        return fetcher.draw(), fetcher.fetched - 1, fetcher.dataloader_idx

    @property
    def fetched(self) -> int:
        """The number of batches drawn so far."""
        return self._fetcher.fetched

    @property
    def length(self) -> int | float:
        """How many there are to draw; infinite where it is not known."""
        return self._fetcher.count

    @property
    def done(self) -> bool:
        """Whether all of them are drawn."""
        return self._fetcher.fetched >= self._fetcher.count
