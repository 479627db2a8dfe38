from __future__ import annotations

import itertools
import math

import pytest

from levin.callbacks.progress import lines as module
from levin.callbacks.progress.lines import PlainLines, Position


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written(clock):
    return []


@pytest.fixture
def lines(clock, written):
    return PlainLines(clock, lambda line: written.append((clock.now - 1000, line)))


def at(batch, total=5000, label="epoch 3/9  step", remaining=None):
    return Position(label, batch, total, total - batch if remaining is None else remaining)


def run_batches(lines, clock, seconds_each, batches, metrics=None):
    for batch in range(1, batches + 1):
        clock.now += seconds_each
        if lines.batch_done():
            lines.cadence(at(batch, batches), metrics or {})


def test_a_line_says_where_how_fast_and_how_long(lines, clock, written):
    lines.begin()
    for _ in range(1200):
        clock.now += 0.1
        lines.batch_done()
    lines.cadence(at(1200, remaining=3100), {"train_loss": 0.123456, "acc": 0.5})
    expected = "epoch 3/9  step 1200/5000 (24%)  10.0 it/s  eta 0:05:10  train_loss 0.1235  acc 0.5\n"
    assert written[-1][1] == expected


def test_the_first_line_comes_soon_and_the_others_every_thirty_seconds(lines, clock, written):
    lines.begin()
    run_batches(lines, clock, 1.0, 100)
    assert [time for time, _ in written] == [5, 35, 65, 95]


def test_a_position_at_the_beginning_is_written_at_once(lines, written):
    lines.begin(at(0))
    assert written == [(0, "epoch 3/9  step 0/5000 (0%)\n")]


def test_the_rate_is_that_of_the_time_since_the_last_line(lines, clock, written):
    lines.begin()
    run_batches(lines, clock, 1.0, 35)
    run_batches(lines, clock, 0.5, 60)
    assert ["1.0 it/s" in line for _, line in written] == [True, True, False]
    assert "2.0 it/s" in written[-1][1]


@pytest.mark.parametrize(("seconds", "text"), [(0.001, "1000 it/s"), (0.25, "4.0 it/s"), (8.0, "0.12 it/s")])
def test_rates_are_readable(lines, clock, written, seconds, text):
    lines.begin()
    run_batches(lines, clock, seconds, math.ceil(6 / seconds))
    assert text in written[0][1]


def test_the_slow_first_batch_does_not_spoil_the_eta(lines, clock, written):
    lines.begin()
    clock.now += 1000.0
    lines.batch_done()
    clock.now += 1.0
    lines.batch_done()
    lines.cadence(at(2, 12), {})
    assert "eta 0:00:10" in written[-1][1]


def test_a_stage_within_another_has_a_rate_of_its_own_and_takes_nothing_from_the_others(
    lines, clock, written
):
    lines.begin()
    for _ in range(10):
        clock.now += 1
        lines.batch_done()
    lines.begin()
    for _ in range(100):
        clock.now += 0.1
        lines.batch_done()
    lines.cadence(at(100, 200, "epoch 3  validation"), {})
    lines.end()
    lines.cadence(at(10), {})
    assert written[0][1] == "epoch 3  validation 100/200 (50%)  10.0 it/s  eta 0:00:10\n"
    assert "1.0 it/s" in written[1][1]


def test_without_a_known_end_there_is_neither_a_share_nor_an_eta(lines, clock, written):
    lines.begin()
    clock.now += 7
    lines.batch_done()
    lines.cadence(at(1, math.inf), {})
    assert written[0][1] == "epoch 3/9  step 1  0.14 it/s\n"


def test_in_a_slurm_job_the_time_that_is_left_follows_the_eta(lines, clock, written, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "5000")
    monkeypatch.setattr(module.time, "time", lambda: 1400.0)
    lines.begin()
    for _ in range(3):
        clock.now += 1
        lines.batch_done()
    lines.cadence(at(3, 10), {})
    assert "eta 0:00:07 of 1:00:00 left" in written[0][1]


@pytest.mark.parametrize("name", ["loss", "größe_" * 5, "a" * 300])
def test_no_line_is_longer_than_199_bytes(lines, clock, written, name):
    lines.begin()
    clock.now += 6
    lines.batch_done()
    lines.cadence(at(1), {f"{name}_{i}": 1 / 3 for i in range(50)})
    lines.cadence(at(1, label="long label " * 40), {})
    assert all(
        len(line.encode()) < 200 and line.count("\n") == 1 and line.endswith("\n") for _, line in written
    )
    assert written[0][1].startswith("epoch 3/9  step 1/5000")


def test_the_last_line_says_how_long_it_took(lines, clock, written):
    lines.begin()
    clock.now += 65
    lines.final(at(5000), {"loss": 0.5})
    assert written == [(65, "epoch 3/9  step 5000/5000 (100%)  took 0:01:05  loss 0.5\n")]


def test_the_last_line_is_left_out_if_it_would_say_nothing_new(lines, clock, written):
    lines.begin()
    clock.now += 65
    lines.cadence(at(5000), {"loss": 0.5})
    lines.final(at(5000), {"loss": 0.5})
    assert len(written) == 1
    lines.final(at(5000), {"loss": 0.5, "acc": 1.0})
    assert len(written) == 2


def test_long_epochs_end_with_a_line_each(lines, clock, written):
    lines.begin()
    for epoch in range(3):
        run_batches(lines, clock, 1.0, 50)
        lines.milestone(at(50, 50, f"epoch {epoch}  step"), lambda: {"val_loss": 1.0})
    ends = [time for time, line in written if "50/50" in line]
    assert ends == [50, 100, 150]


def test_metrics_are_not_asked_for_when_no_line_is_written(lines):
    def metrics():
        raise AssertionError

    lines.begin()
    lines.milestone(at(1), metrics)


@pytest.mark.parametrize("epoch_s", [0.01, 1.0, 7.0, 29.0, 31.0, 45.0, 61.0, 400.0])
@pytest.mark.parametrize("validation_share", [0.0, 0.1, 0.9])
def test_there_are_never_more_lines_than_one_in_thirty_seconds_and_ten_more(
    lines, clock, written, epoch_s, validation_share
):
    lines.begin(at(0))
    for _ in range(max(int(1000 / epoch_s) if epoch_s > 1 else 3000, 4)):
        run_batches(lines, clock, epoch_s * (1 - validation_share) / 4, 4)
        if validation_share:
            lines.begin()
            run_batches(lines, clock, epoch_s * validation_share / 4, 4)
            lines.end()
            lines.milestone(at(4, 4), dict)
        lines.milestone(at(4, 4), dict)
        runtime = clock.now - 1000
        assert len(written) < runtime / 30 + 10  # at any moment, so that one more may follow
    lines.final(at(4, 4), {})
    times = [time for time, _ in written]
    assert max(late - early for early, late in itertools.pairwise(times)) <= 30 + epoch_s
    assert times[0] == 0
