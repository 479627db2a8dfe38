from __future__ import annotations

import dataclasses
import math
from datetime import timedelta

import pytest

from levin.trainer.arguments import (
    Debugging,
    Intervals,
    Limits,
    Updates,
    batches_to_run,
    for_dev_run,
    friendly,
    parse_duration,
    without_extras,
)
from levin.utils.errors import MisconfigurationException


@pytest.mark.parametrize("group", [Limits(), Intervals(), Updates(), Debugging()])
def test_a_group_is_valid_by_default_and_frozen(group):
    first = dataclasses.fields(group)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(group, first, 1)


def test_what_was_not_given_takes_its_default():
    assert Limits.parse(max_epochs=None, limit_train_batches=None, max_steps=-1) == Limits()
    given = {"val_check_interval": None, "check_val_every_n_epoch": 1, "log_every_n_steps": None}
    assert Intervals.parse(**given) == Intervals()


def test_no_validation_by_epochs_is_something_that_was_given():
    intervals = Intervals.parse(val_check_interval=None, check_val_every_n_epoch=None)
    assert intervals.check_val_every_n_epoch is None


def test_overfitting_is_a_limit_on_training_and_validation():
    limits = Limits.parse(overfit_batches=3, limit_train_batches=7, limit_test_batches=9, max_steps=-1)
    assert (limits.limit_train_batches, limits.limit_val_batches, limits.limit_test_batches) == (3, 3, 9)


@pytest.mark.parametrize(
    ("given", "has_timer", "max_epochs"),
    [({}, False, None), ({"max_steps": 5}, False, -1), ({}, True, -1), ({"max_epochs": 3}, True, 3)],
)
def test_steps_or_time_leave_the_number_of_epochs_open(given, has_timer, max_epochs):
    assert Limits(**given).with_open_end(has_timer=has_timer).max_epochs == max_epochs


def test_a_dev_run_limits_everything():
    limits, intervals = for_dev_run(
        2, Limits(max_epochs=9, limit_val_batches=0.5), Intervals(num_sanity_val_steps=5)
    )
    assert (limits.max_epochs, limits.max_steps) == (1, 2)
    assert limits.limit_train_batches == limits.limit_val_batches == limits.limit_predict_batches == 2
    assert (intervals.val_check_interval, intervals.num_sanity_val_steps) == (1.0, 0)


def test_barebones_intervals_have_no_extras():
    intervals = without_extras(Intervals(val_check_interval=3))
    assert (intervals.log_every_n_steps, intervals.num_sanity_val_steps, intervals.val_check_interval) == (
        0,
        0,
        3,
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("00:00:00:09", 9), ("1:2:3:4", 93784), (timedelta(minutes=1), 60), ({"hours": 1, "seconds": 1}, 3601)],
)
def test_a_duration_is_written_in_three_forms(value, seconds):
    assert parse_duration("max_time", value).total_seconds() == seconds


@pytest.mark.parametrize(
    "value", ["1:2:3", "1:2:3:4:5", "a:b:c:d", "-1:0:0:0", "", 60, {"weeks": "x"}, ["hours"]]
)
def test_what_is_no_duration_is_refused_with_the_three_forms(value):
    with pytest.raises(
        MisconfigurationException, match=r"`max_time` is .*DD:HH:MM:SS.*timedelta.*'hours': 12"
    ):
        parse_duration("max_time", value)


@pytest.mark.parametrize(
    ("length", "limit", "count"),
    [(10, 3, 3), (10, 30, 10), (10, 0, 0), (10, 0.0, 0), (10, 1.0, 10), (10, 0.35, 3), (0, 0.1, 0), (0, 5, 0),
     (math.inf, 5, 5), (math.inf, 1.0, math.inf), (math.inf, 0, 0)],
)  # fmt: skip
def test_so_many_batches_are_run(length, limit, count):
    assert batches_to_run("train", length, limit) == count


@pytest.mark.parametrize(
    ("length", "limit", "text"),
    [(math.inf, 0.5, "without a length"), (3, 0.3, r"limit_val_batches=0.3.*at least 0.333")],
)
def test_a_share_that_can_not_be_taken_is_refused(length, limit, text):
    with pytest.raises(MisconfigurationException, match=text):
        batches_to_run("val", length, limit)


class Machine:
    @friendly
    def __init__(self, *, size=1, colour="red"):
        self.size, self.colour = size, colour


def test_arguments_come_by_place_by_name_and_from_the_environment(monkeypatch):
    monkeypatch.setenv("PL_TRAINER_COLOUR", "blue")
    machines = [Machine(), Machine(2), Machine(2, "green"), Machine(colour="green")]
    assert [(machine.size, machine.colour) for machine in machines] == [
        (1, "blue"), (2, "blue"), (2, "green"), (1, "green"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("None", None), ("[1, 2]", [1, 2]), ("x y", "x y")]
)
def test_the_environments_text_becomes_a_value(monkeypatch, text, value):
    monkeypatch.setenv("PL_TRAINER_SIZE", text)
    assert Machine().size == value
