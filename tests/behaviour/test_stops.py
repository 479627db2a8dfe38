"""When a fit ends: epochs, steps, time, a wish to stop; and what a second fit does."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
import torch

import levin as L
from levin.callbacks import GradientAccumulationScheduler, Timer
from levin.utils.errors import PossibleUserWarning


@pytest.fixture
def fit(quiet, noting, batches):
    """``fit(*callbacks, **Trainer's arguments)`` trains `noting` on four batches and validates on two."""

    def run(*callbacks, val=2, **kwargs):
        trainer = quiet(callbacks=list(callbacks), limit_val_batches=val, **kwargs)
        trainer.fit(noting, batches(4), batches(2))
        return trainer

    return run


def when(hook, do, calls=0):
    """A callback that does something in a hook: ``do(trainer)``, from the ``calls``-th call on."""
    seen = []

    def act(self, trainer, *_, **__):
        seen.append(hook)
        if len(seen) > calls:
            do(trainer)

    return type("When", (L.Callback,), {hook: act})()


def stop_in(hook, calls=0):
    return when(hook, lambda trainer: setattr(trainer, "should_stop", True), calls)


# ---------------------------------------------------------------------- epochs and steps


def test_it_ends_after_max_epochs(fit, noting, said):
    trainer = fit(max_epochs=2, val=0)
    assert (trainer.current_epoch, trainer.global_step) == (2, 8)
    assert noting.noted("train") == ["0.0", "0.1", "0.2", "0.3", "1.0", "1.1", "1.2", "1.3"]
    assert "`Trainer.fit` stopped: `max_epochs=2` reached." in said()


@pytest.mark.parametrize("limit", [{"max_epochs": 0}, {"max_steps": 0}])
def test_no_epoch_and_no_step_leave_only_the_sanity_check_and_the_hooks_around(fit, noting, limit):
    called = []
    hooks = ["on_fit_start", "on_train_start", "on_train_end", "on_fit_end"]
    trainer = fit(
        *[when(hook, lambda _, hook=hook: called.append(hook)) for hook in hooks],
        num_sanity_val_steps=1,
        **limit,
    )
    assert noting.notes == ["val 0.0"]
    assert called == ["on_fit_start", "on_fit_end"]
    assert trainer.state.status == "finished"


def test_max_steps_ends_an_epoch_early_without_a_validation(fit, noting, said):
    trainer = fit(max_steps=6)
    assert (trainer.current_epoch, trainer.global_step, trainer.max_epochs) == (2, 6, -1)
    assert noting.notes[-3:] == ["train 1.0", "train 1.1", "end 1"]
    assert "`max_steps=6` reached" in said()


def test_the_step_that_max_steps_ends_at_is_validated_if_its_turn_has_come(fit, noting):
    fit(max_steps=6, val_check_interval=2)
    assert noting.notes[-4:] == ["train 1.1", "val 1.0", "val 1.1", "end 1"]


def test_max_steps_counts_optimizer_steps_not_batches(fit, noting):
    trainer = fit(max_steps=3, accumulate_grad_batches=3, val=0)
    assert trainer.global_step == 3
    assert noting.noted("train") == ["0.0", "0.1", "0.2", "0.3", "1.0", "1.1", "1.2"]


def test_the_first_limit_that_is_reached_counts(fit):
    assert fit(max_epochs=1, max_steps=100).global_step == 4
    assert fit(max_epochs=100, max_steps=3).current_epoch == 1


def test_without_any_limit_there_are_a_thousand_epochs_and_a_warning(fit):
    with pytest.warns(PossibleUserWarning, match="it is 1000"):
        trainer = fit(stop_in("on_train_batch_end"))
    assert trainer.max_epochs == 1000


@pytest.mark.parametrize("other", [{"max_steps": 1}, {"max_time": "00:00:00:00"}])
def test_another_limit_takes_the_epochs_limit_away(fit, other):
    assert fit(**other).max_epochs == -1


def test_minus_one_trains_until_somebody_stops_it(fit):
    trainer = fit(stop_in("on_train_epoch_end", calls=1004), max_epochs=-1, limit_train_batches=1, val=0)
    assert trainer.current_epoch == 1005


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize("limit", ["00:00:00:10", timedelta(seconds=10), {"seconds": 10}])
def test_max_time_ends_it_after_the_batch_at_which_the_time_is_up(fit, noting, clock, limit):
    def tick(_):
        clock.now += 3

    fit(when("on_before_backward", tick), max_time=limit)
    assert noting.noted("train") == ["0.0", "0.1", "0.2", "0.3"]


def test_that_the_time_is_up_is_said_once_however_long_the_end_takes(fit, clock, said):
    def tick(_):
        clock.now += 3

    fit(when("on_before_backward", tick), max_time={"seconds": 10}, min_epochs=3)
    assert said().count("time for training is up") == 1


def test_a_timer_of_the_users_own_goes_before_max_time(quiet):
    timer = Timer(duration="00:01:00:00")
    with pytest.warns(UserWarning, match="max_time"):
        trainer = quiet(callbacks=timer, max_time="00:00:00:01")
    assert [callback for callback in trainer.callbacks if isinstance(callback, Timer)] == [timer]


# ---------------------------------------------------------------------- somebody wants to stop

ONE_BATCH = ["train 0.0", "val 0.0", "val 0.1", "end 0"]
WHOLE_EPOCH = ["train 0.0", "train 0.1", "train 0.2", "train 0.3", "val 0.0", "val 0.1", "end 0"]
SECOND_EPOCH = ["train 1.0", "train 1.1", "train 1.2", "train 1.3", "val 1.0", "val 1.1", "end 1"]
STOPS = {
    "on_fit_start": [],
    "on_train_start": [],
    "on_train_epoch_start": ["end 0"],
    "on_train_batch_start": ONE_BATCH,
    "on_before_zero_grad": ONE_BATCH,
    "on_before_backward": ONE_BATCH,
    "on_after_backward": ONE_BATCH,
    "on_before_optimizer_step": ONE_BATCH,
    "on_train_batch_end": ONE_BATCH,
    "on_validation_start": WHOLE_EPOCH,
    "on_validation_batch_end": WHOLE_EPOCH,
    "on_validation_epoch_end": WHOLE_EPOCH,
    "on_validation_end": WHOLE_EPOCH,
    "on_train_epoch_end": WHOLE_EPOCH,
}


@pytest.mark.parametrize("hook", STOPS)
def test_a_stop_is_honoured_wherever_it_is_asked_for(fit, noting, hook):
    trainer = fit(stop_in(hook), max_epochs=3)
    assert noting.notes == STOPS[hook]
    assert trainer.state.status == "finished"


def test_a_stop_forces_no_validation_in_an_epoch_that_has_none(fit, noting):
    fit(stop_in("on_train_batch_end"), max_epochs=3, check_val_every_n_epoch=2)
    assert noting.notes == ["train 0.0", "end 0"]


def test_a_stop_waits_for_min_epochs_to_the_end_of_the_epoch(fit, noting, said):
    trainer = fit(stop_in("on_train_batch_end"), min_epochs=2, max_epochs=5)
    assert (trainer.current_epoch, trainer.global_step, trainer.should_stop) == (2, 8, True)
    assert noting.noted("val") == ["0.0", "0.1", "1.0", "1.1"]
    assert said().count("min_epochs=2") == 1


def test_a_stop_waits_for_min_steps_to_the_very_step(fit, noting):
    trainer = fit(stop_in("on_train_batch_end"), min_steps=6, max_epochs=5)
    assert (trainer.current_epoch, trainer.global_step) == (2, 6)
    assert noting.notes[-4:] == ["train 1.1", "val 1.0", "val 1.1", "end 1"]


@pytest.mark.parametrize(("least_epochs", "steps"), [(None, 4), (1, 4), (0, 2)])
def test_min_steps_alone_let_the_first_epoch_end(fit, least_epochs, steps):
    trainer = fit(stop_in("on_train_batch_end"), min_steps=2, min_epochs=least_epochs, max_epochs=5)
    assert (trainer.global_step, trainer.min_epochs) == (steps, 1 if least_epochs is None else least_epochs)


def test_both_minimums_must_be_met(fit):
    assert fit(stop_in("on_train_batch_end"), min_steps=6, min_epochs=2, max_epochs=5).global_step == 8
    assert fit(stop_in("on_train_batch_end"), min_steps=10, min_epochs=1, max_epochs=5).global_step == 10


def test_minimums_alone_do_not_prolong_a_fit(fit):
    assert fit(max_epochs=1, min_epochs=3).current_epoch == 1


def test_a_stop_is_forgotten_by_the_next_fit(fit, noting, batches):
    trainer = fit(stop_in("on_train_epoch_end"), max_epochs=3)
    trainer.callbacks = []
    trainer.fit(noting, batches(4), batches(2))
    assert (trainer.current_epoch, trainer.global_step) == (3, 12)


# ---------------------------------------------------------------------- a second fit


def test_a_second_fit_goes_on_counting_and_may_be_given_more_epochs(fit, noting, batches):
    trainer = fit(max_epochs=1)
    trainer.fit(noting, batches(4), batches(2))
    assert trainer.global_step == 4
    trainer.fit_loop.max_epochs = 2
    trainer.fit(noting, batches(4), batches(2))
    assert (trainer.current_epoch, trainer.global_step, noting.num_steps) == (2, 8, 8)
    assert noting.notes == [*WHOLE_EPOCH, *SECOND_EPOCH]


def test_a_second_fit_may_be_given_other_data(fit, noting, batches):
    trainer = fit(max_epochs=1)
    trainer.max_epochs = 2
    trainer.fit(noting, batches(1), batches(1))
    assert noting.notes == [*WHOLE_EPOCH, "train 1.0", "val 1.0", "end 1"]


# ---------------------------------------------------------------------- epochs and batches that are cut short


def test_minus_one_from_on_train_batch_start_skips_the_rest_of_the_epoch(fit, noting):
    noting.on_train_batch_start = lambda batch, batch_idx: -1 if batch_idx == 2 else None
    trainer = fit(max_epochs=2)
    assert noting.notes == ["train 0.0", "train 0.1", "end 0", "train 1.0", "train 1.1", "end 1"]
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_backward", "on_train_batch_end"])
def test_stop_iteration_in_a_hook_ends_the_epoch(fit, noting, hook):
    def end(trainer):
        raise StopIteration

    fit(when(hook, end, calls=1), max_epochs=2)
    assert noting.noted("end") == ["0", "1"]
    assert noting.noted("val") == []


def test_a_step_that_returns_none_skips_the_backward_and_counts(fit, noting):
    train = noting.training_step
    noting.training_step = lambda batch, batch_idx: train(batch, batch_idx) if batch_idx != 1 else None
    with pytest.warns(UserWarning, match="returned None"):
        trainer = fit(max_epochs=1)
    assert trainer.global_step == 4
    assert noting.num_steps == 3


# ---------------------------------------------------------------------- the number of steps, told beforehand


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_epochs": 2}, 8),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, 4),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 4),
        ({"max_epochs": 2, "max_steps": 5}, 5),
        ({"max_epochs": 2, "max_steps": 50}, 8),
        ({"max_epochs": -1, "max_steps": 5}, 5),
        ({"max_epochs": -1}, math.inf),
        ({"max_time": "00:01:00:00"}, math.inf),
        ({"max_epochs": 0}, 4),
    ],
)
def test_estimated_stepping_batches_is_there_for_a_schedule(fit, noting, settings, steps):
    estimates = []

    def configure_optimizers():
        estimates.append(noting.trainer.estimated_stepping_batches)
        return torch.optim.SGD(noting.parameters(), lr=1.0)

    noting.configure_optimizers = configure_optimizers
    fit(stop_in("on_fit_start"), **settings)
    assert estimates == [steps]


def test_estimated_stepping_batches_of_a_stream_are_max_steps(quiet, noting, stream):
    trainer = quiet(max_epochs=2, max_steps=7, limit_val_batches=0)
    trainer.fit(noting, stream(4))
    assert trainer.estimated_stepping_batches == 7


@pytest.mark.parametrize("factors", [{0: 2}, {1: 2}, {0: 1, 1: 3}, {2: 4, 1: 2}, {7: 2}], ids=str)
def test_estimated_stepping_batches_follow_an_accumulation_that_changes(quiet, noting, batches, factors):
    trainer = quiet(max_epochs=3, callbacks=GradientAccumulationScheduler(factors), limit_val_batches=0)
    estimates = []
    noting.on_fit_start = lambda: estimates.append(trainer.estimated_stepping_batches)
    trainer.fit(noting, batches(5))
    assert estimates == [trainer.global_step]
