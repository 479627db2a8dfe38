from __future__ import annotations

import math

import pytest

from levin.data.fetch import DrawnFetcher, Fetcher
from levin.data.reader import Reader


class Source:
    """Batches 0, 1, ...; `calls` tells when it was opened and when each was read, given out and moved."""

    def __init__(self, count):
        self.count, self.calls = count, []

    def __iter__(self):
        self.calls.append("open")
        for number in range(self.count):
            self.calls.append(f"read {number}")
            yield number

    def move(self, batch):
        self.calls.append(f"move {batch}")
        return batch * 10

    def run(self, *args, **kwargs):
        """Return each batch with `done` as it was then."""
        fetcher = Fetcher(Reader(self), *args, transfer=self.move, **kwargs)
        return [(batch, fetcher.done, fetcher.fetched) for batch in fetcher]


def test_a_known_number_of_batches_is_read_one_by_one_as_they_are_asked_for():
    source = Source(5)
    assert source.run(2) == [(0, False, 1), (10, True, 2)]
    assert source.calls == ["open", "read 0", "move 0", "read 1", "move 1"]


def test_nothing_is_asked_of_the_source_after_the_last_batch():
    source = Source(2)
    source.run(2)
    assert source.calls[-1] == "move 1"


def test_of_an_unknown_number_one_raw_batch_is_read_ahead():
    source = Source(3)
    assert source.run(math.inf, ends_early=True) == [(0, False, 1), (10, False, 2), (20, True, 3)]
    expected = ["open", "read 0", "read 1", "move 0", "read 2", "move 1", "move 2"]
    assert source.calls == expected


@pytest.mark.parametrize(("count", "taken"), [(2, 2), (9, 3)])
def test_a_limit_and_an_early_end_together_know_the_last_batch(count, taken):
    batches = Source(3).run(count, ends_early=True)
    assert [done for _, done, _ in batches] == [False] * (taken - 1) + [True]


def test_a_limit_is_not_read_beyond():
    source = Source(9)
    source.run(2, ends_early=True)
    assert "read 2" not in source.calls


@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize(("rows", "count"), [(0, 3), (3, 0), (0, math.inf)])
def test_nothing_gives_nothing(rows, count, ends_early):
    assert Source(rows).run(count, ends_early=ends_early) == []


def test_a_promise_of_more_batches_than_there_are_ends_with_the_last_one():
    assert [batch for batch, _, _ in Source(2).run(5)] == [0, 10]


@pytest.mark.parametrize("ends_early", [False, True])
def test_batches_of_an_interrupted_epoch_are_passed_over_and_counted(ends_early):
    source = Source(4)
    fetcher = Fetcher(Reader(source), 4, source.move, ends_early=ends_early)
    fetcher.start({"taken": 2})
    assert [(batch, fetcher.fetched) for batch in fetcher] == [(20, 3), (30, 4)]
    assert not any(call in source.calls for call in ("move 0", "move 1"))


def test_an_epoch_that_was_over_has_no_batches_left():
    source = Source(4)
    fetcher = Fetcher(Reader(source), 4, source.move)
    fetcher.start({"taken": 4})
    assert list(fetcher) == []
    assert source.calls == []


def test_an_opened_source_is_not_opened_again_and_the_next_pass_opens_anew():
    source = Source(1)
    fetcher = Fetcher(Reader(source), 1, source.move)
    fetcher.start()
    assert list(fetcher) == list(fetcher) == [0]
    assert source.calls.count("open") == 2


def test_a_profilers_clock_may_stand_around_each_read():
    source, read = Source(2), []

    def measured(*args):
        read.append("measured")
        return next(*args)

    source.run(2, read=measured)
    assert len(read) == 2


# ---------------------------------------------------------------------- drawn by steps


def test_drawn_batches_are_read_as_they_are_needed_and_none_beyond_the_last():
    source = Source(9)
    fetcher = DrawnFetcher(Reader(source), 3, lambda batch: source.calls.append(f"tell {batch}"))
    is_open = []
    for iterator in fetcher:
        next(iterator)
        is_open.append(fetcher.is_open)
    assert source.calls == ["open", "read 0", "tell 0", "read 1", "tell 1", "read 2", "tell 2"]
    assert is_open == [True, True, False]


@pytest.mark.parametrize("count", [3, math.inf])
def test_a_step_that_draws_beyond_the_end_is_told_and_the_loader_let_go(count):
    fetcher = DrawnFetcher(Reader(Source(3)), count, lambda _: None)
    steps = iter(fetcher)
    iterator = next(steps)
    assert [next(iterator)[:2] for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    assert next(iterator, None) is None
    assert not fetcher.is_open
    assert next(steps, None) is None
