from __future__ import annotations

import re

import pytest
from torch.utils.data import DataLoader

from levin.data import waiting
from levin.data.fetch import DrawnFetcher, Fetcher
from levin.data.reader import Reader
from levin.data.waiting import Waiting, advice


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it: ``clock.now += 3``."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


class Slow:
    """Takes 3 s to open, 2 s for the first batch and 1 s for each of the others."""

    def __init__(self, clock, count):
        self.clock, self.count = clock, count

    def __iter__(self):
        self.clock.now += 3
        return self.read()

    def read(self):
        for number in range(self.count):
            self.clock.now += 1 if number else 2
            yield number


@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize("is_started", [False, True])
def test_opening_and_reading_are_waiting_and_the_rest_is_not(clock, ends_early, is_started):
    fetcher = Fetcher(Reader(Slow(clock, 5)), 5, lambda batch: batch, ends_early=ends_early)
    if is_started:
        fetcher.start()
        clock.now += 100  # hooks between the opening and the first batch
    for _ in fetcher:
        clock.now += 0.25
    waited = fetcher.waiting
    assert (waited.opening_s, waited.reading_s, waited.running_s) == (5, 4, 4 + 5 * 0.25)
    assert waited.share == pytest.approx(9 / (9 + 1.25))


def test_a_pass_that_is_broken_off_is_measured_to_that_point(clock):
    fetcher = Fetcher(Reader(Slow(clock, 5)), 5, lambda batch: batch)
    for batch in fetcher:
        clock.now += 10
        if batch == 2:
            break
    assert (fetcher.waiting.reading_s, fetcher.waiting.running_s) == (2, 32)


def test_the_share_can_be_read_meanwhile(clock):
    fetcher = Fetcher(Reader(Slow(clock, 5)), 5, lambda batch: batch)
    shares = []
    for _ in fetcher:
        clock.now += 4
        shares.append(fetcher.waiting.share)
    assert shares == [0.0, 6 / 10, 7 / 15, 8 / 20, 9 / 25]


def test_what_stands_aside_does_not_count(clock):
    fetcher = Fetcher(Reader(Slow(clock, 2)), 2, lambda batch: batch)
    for _ in fetcher:
        clock.now += 50
        fetcher.waiting.aside_s += 50
    assert fetcher.waiting.running_s == 1


@pytest.mark.parametrize("kind", [Fetcher, DrawnFetcher])
def test_waiting_that_a_busy_device_sees_out_does_not_count(clock, kind):
    answers = iter([True, False, False, True])
    fetcher = kind(Reader(Slow(clock, 4)), 4, lambda batch: batch, is_idle=lambda: next(answers))
    for batch in fetcher:
        if kind is DrawnFetcher:
            next(batch)
    assert fetcher.waiting.reading_s == 1


def test_what_steps_draw_themselves_is_waited_for_in_the_same_way(clock):
    fetcher = DrawnFetcher(Reader(Slow(clock, 6)), 6, lambda _: None)
    for iterator in fetcher:
        numbers = [next(iterator)[1] for _ in range(2)]
        clock.now += sum(numbers)
    waited = fetcher.waiting
    assert (waited.opening_s, waited.reading_s, waited.running_s) == (5, 5, 5 + sum(range(6)))


# ---------------------------------------------------------------------- advice


def workers(count, **settings):
    return DataLoader(range(4), num_workers=count, **settings)


def stream():
    yield 1


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr(waiting, "num_usable_cpus", lambda: 3)
    monkeypatch.setattr(waiting, "suggested_max_num_workers", lambda processes: max(1, 3 // processes - 1))


SLOW = Waiting(reading_s=5.0, newest=6.0)
ADVICE = [
    (SLOW, [workers(0)], 1, "83% of the epoch's time .*5.0 of 6.0 s.*num_workers=0.*try num_workers=2"),
    (SLOW, [workers(1)], 1, "num_workers=1.*try num_workers=2"),
    (SLOW, [workers(2), workers(1)], 2, "There are 3 workers for 3 cores.*make the dataset faster"),
    (SLOW, [workers(2)], 1, "There are 2 workers for 3 cores"),
    (SLOW, [stream()], 1, "comes from a generator.*If that reads in this process.*`DataLoader`"),
    (Waiting(opening_s=4.0, newest=60.0), [workers(1)], 1, "took 4.0 of the epoch's 64.0 s.*persistent"),
]  # fmt: skip


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize(("measured", "loaders", "processes", "said"), ADVICE)
def test_evidence_gives_advice(measured, loaders, processes, said):
    assert re.search(said, advice(measured, 500, loaders, num_processes=processes))


NO_ADVICE = [
    Waiting(),
    Waiting(reading_s=4.0, newest=100.0),  # too small a share
    Waiting(reading_s=0.15, newest=0.2),  # too little
    Waiting(reading_s=0.9, newest=2.0),  # 0.9 ms a batch
    Waiting(opening_s=0.5, newest=1.0),  # a fork
    Waiting(opening_s=2.0, newest=100.0),
]


@pytest.mark.parametrize("measured", NO_ADVICE, ids=str)
@pytest.mark.parametrize("count", [0, 2])
def test_without_evidence_there_is_none_whatever_the_number_of_workers(measured, count):
    assert advice(measured, 1000, [workers(count)], num_processes=1) is None


def test_a_moment_is_not_worth_a_line():
    assert advice(Waiting(reading_s=0.15, newest=0.2), 10, [workers(0)], num_processes=1) is None
    assert advice(Waiting(reading_s=0.25, newest=0.3), 10, [workers(0)], num_processes=1) is not None


def test_what_workers_take_to_send_a_batch_is_no_evidence_against_the_dataset():
    measured = Waiting(reading_s=3.0, newest=4.0)
    assert advice(measured, 1000, [workers(0)], num_processes=1) is not None
    assert advice(measured, 1000, [workers(2)], num_processes=1) is None
    # what stands behind another loader, nobody knows
    assert advice(measured, 1000, [stream()], num_processes=1) is None


@pytest.mark.parametrize("loader", [workers(0), workers(1, persistent_workers=True), stream()])
def test_who_keeps_workers_or_has_none_need_not_keep_them(loader):
    assert advice(Waiting(opening_s=20.0, newest=1.0), 1000, [loader], num_processes=1) is None
