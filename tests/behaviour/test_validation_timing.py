"""When a fit validates, what it tries before training, and the modes and gradients of each stage."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import levin as L
from levin.utils.errors import MisconfigurationException, PossibleUserWarning


@pytest.fixture
def fit(quiet, noting, batches):
    """``fit(**Trainer's arguments)`` trains `noting` on epochs of five batches, and validates on two."""

    def run(train=None, val=None, **kwargs):
        trainer = quiet(**{"max_epochs": 2, **kwargs})
        trainer.fit(noting, batches(5) if train is None else train, batches(2) if val is None else val)
        return trainer

    return run


def validated_after(notes):
    """The training batches that were followed by a validation."""
    pairs = pairwise(notes)
    return [last.removeprefix("train ") for last, this in pairs if this.startswith("val") and "train" in last]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["0.4", "1.4"]),
        ({"val_check_interval": 1.0}, ["0.4", "1.4"]),
        ({"val_check_interval": 5}, ["0.4", "1.4"]),
        ({"val_check_interval": 2}, ["0.1", "0.3", "1.1", "1.3"]),
        ({"val_check_interval": 0.5}, ["0.1", "0.3", "1.1", "1.3"]),
        ({"val_check_interval": 3}, ["0.2", "1.2"]),
        ({"val_check_interval": 1}, [f"{epoch}.{batch}" for epoch in (0, 1) for batch in range(5)]),
        ({"val_check_interval": 0.0}, [f"{epoch}.{batch}" for epoch in (0, 1) for batch in range(5)]),
        ({"check_val_every_n_epoch": 2}, ["1.4"]),
        ({"check_val_every_n_epoch": 2, "val_check_interval": 2}, ["1.1", "1.3"]),
        ({"check_val_every_n_epoch": 3}, []),
        ({"check_val_every_n_epoch": None}, ["0.4", "1.4"]),
        ({"check_val_every_n_epoch": None, "val_check_interval": 3}, ["0.2", "1.0", "1.3"]),
        ({"check_val_every_n_epoch": None, "val_check_interval": 7}, ["1.1"]),
        ({"limit_train_batches": 3, "val_check_interval": 0.4}, ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]),
        ({"accumulate_grad_batches": 2, "val_check_interval": 3}, ["0.2", "1.2"]),
    ],
    ids=str,
)
def test_validation_follows_these_batches(fit, noting, settings, expected):
    fit(**settings)
    assert validated_after(noting.notes) == expected


def test_the_validation_of_the_last_batch_comes_before_the_end_of_the_epoch(fit, noting):
    fit(max_epochs=1)
    assert noting.notes[-4:] == ["train 0.4", "val 0.0", "val 0.1", "end 0"]


@pytest.mark.parametrize(
    ("interval", "every", "expected"),
    [
        (None, 1, ["0.4", "1.4"]),
        (None, None, ["0.4", "1.4"]),
        (2, 1, ["0.1", "0.3", "1.1", "1.3"]),
        (2, None, ["0.1", "0.3", "1.0", "1.2", "1.4"]),
    ],
)
def test_a_stream_is_validated_at_its_end_or_by_count(fit, noting, stream, interval, every, expected):
    fit(train=stream(5), val_check_interval=interval, check_val_every_n_epoch=every)
    assert validated_after(noting.notes) == expected


@pytest.mark.parametrize("interval", ["00:00:00:10", timedelta(seconds=10), {"seconds": 10}])
@pytest.mark.parametrize("every", [1, None])
def test_an_interval_of_time_is_counted_from_the_last_validation(fit, noting, clock, interval, every):
    def on_train_batch_end(outputs, batch, batch_idx):
        clock.now += 4

    noting.on_train_batch_end = on_train_batch_end
    fit(val_check_interval=interval, check_val_every_n_epoch=every)
    assert validated_after(noting.notes) == ["0.2", "1.0", "1.3"]


def test_batches_that_are_counted_over_epochs_are_counted_where_an_epoch_was_cut_off(fit, noting):
    noting.on_train_batch_start = lambda batch, batch_idx: -1 if noting.current_epoch == 0 else None
    fit(check_val_every_n_epoch=None)
    assert validated_after(noting.notes) == ["1.3"]


def test_a_time_interval_passes_over_epochs_without_validation(fit, noting, clock):
    def on_train_batch_end(outputs, batch, batch_idx):
        clock.now += 4

    noting.on_train_batch_end = on_train_batch_end
    fit(val_check_interval="00:00:00:10", check_val_every_n_epoch=2)
    assert validated_after(noting.notes) == ["1.0", "1.3"]


def test_an_interval_longer_than_the_epoch_is_told(fit):
    with pytest.raises(
        ValueError, match=r"val_check_interval=6.*5 training batches.*check_val_every_n_epoch"
    ):
        fit(val_check_interval=6)


def test_an_interval_does_not_matter_where_there_is_nothing_to_train_on(fit, noting, batches):
    with pytest.warns(UserWarning, match="no batches"):
        fit(train=batches(0), val_check_interval=2)
    assert noting.noted("train") == []


def test_an_interval_longer_than_the_epoch_does_not_matter_without_validation(fit, noting):
    fit(val_check_interval=6, limit_val_batches=0)
    assert noting.noted("val") == []


def test_a_share_of_a_stream_is_told(fit, stream):
    with pytest.raises(MisconfigurationException, match=r"val_check_interval=0.5.*no length"):
        fit(train=stream(5), val_check_interval=0.5)


# ---------------------------------------------------------------------- the sanity check


@pytest.mark.parametrize(
    ("steps", "tried"), [(0, []), (1, ["0.0"]), (None, ["0.0", "0.1"]), (-1, ["0.0", "0.1", "0.2"])]
)
def test_a_few_validation_batches_are_tried_before_training(fit, noting, batches, steps, tried):
    trainer = fit(val=batches(3), num_sanity_val_steps=steps)
    start = noting.notes.index("train 0.0")
    assert noting.notes[:start] == [f"val {batch}" for batch in tried]
    assert trainer.num_sanity_val_batches == [min(trainer.num_sanity_val_steps, 3)]


def test_each_validation_loader_is_tried(fit, noting, batches):
    trainer = fit(val=[batches(1), batches(3)], num_sanity_val_steps=2)
    assert noting.notes[: noting.notes.index("train 0.0")] == ["val 0.0", "val 0.0", "val 0.1"]
    assert trainer.num_sanity_val_batches == [1, 2]


def test_the_sanity_check_leaves_no_trace(quiet, noting, batches):
    def validation_step(batch, batch_idx):
        random.random()
        np.random.rand()
        torch.rand(3)
        noting.log("loss", 1.0)

    noting.validation_step = validation_step
    seen = []
    noting.on_train_start = lambda: seen.append(
        (torch.get_rng_state().sum(), random.getstate(), np.random.get_state()[2])
    )
    noting.on_train_epoch_start = lambda: seen.append(dict(noting.trainer.callback_metrics))
    L.seed_everything(3, verbose=False)
    quiet(max_epochs=1, check_val_every_n_epoch=2).fit(noting, batches(1), batches(1))
    L.seed_everything(3, verbose=False)
    quiet(max_epochs=1, check_val_every_n_epoch=2, num_sanity_val_steps=2).fit(noting, batches(1), batches(1))
    without, with_check = seen[:2], seen[2:]
    assert without == with_check
    assert without[1] == {}


def test_the_trainer_says_that_it_is_only_checking(fit, noting):
    stages = []
    noting.on_validation_start = lambda: stages.append(
        (noting.trainer.sanity_checking, noting.trainer.validating)
    )
    fit(max_epochs=1, num_sanity_val_steps=1)
    assert stages == [(True, False), (False, True)]


# ---------------------------------------------------------------------- modes and gradients


class Modes(L.LightningModule):
    """Notes for each step: (module.training, frozen part's training, gradients on, inference mode)."""

    def __init__(self):
        super().__init__()
        self.head, self.frozen = nn.Linear(1, 1), nn.Dropout()
        self.frozen.eval()
        self.seen = {}

    def see(self, where):
        state = (
            self.training,
            self.frozen.training,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
        )
        self.seen.setdefault(where, []).append(state)

    def training_step(self, batch, batch_idx):
        self.see("train")
        return self.head(batch.view(-1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.see("val")

    def test_step(self, batch, batch_idx):
        self.see("test")

    def predict_step(self, batch, batch_idx):
        self.see("predict")

    def setup(self, stage):
        self.see("setup")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_fit_leaves_the_modes_of_parts_alone_and_validates_with_no_grad(quiet, batches, said):
    model = Modes()
    quiet(max_epochs=2, num_sanity_val_steps=1).fit(model, batches(1), batches(1))
    assert model.seen == {
        "setup": [(True, False, True, False)],
        "train": [(True, False, True, False)] * 2,
        "val": [(False, False, False, False)] * 3,
    }
    assert "Parts of Modes are in evaluation mode, and stay so (1 in all): frozen." in said()


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize(("name", "step"), [("validate", "val"), ("test", "test"), ("predict", "predict")])
def test_evaluations_run_in_inference_mode_unless_told_otherwise(quiet, batches, name, step, inference):
    model = Modes()
    getattr(quiet(inference_mode=inference), name)(model, batches(1))
    assert model.seen == {"setup": [(True, False, True, False)], step: [(False, False, False, inference)]}
    assert (model.training, model.head.training, model.frozen.training) == (True, True, False)


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_a_module_in_evaluation_mode_stays_there_after_an_evaluation(quiet, batches, name):
    model = Modes().eval()
    getattr(quiet(), name)(model, batches(1))
    assert not any(part.training for part in model.modules())


def test_a_module_in_evaluation_mode_is_trained_so_and_that_is_told(quiet, batches):
    model = Modes().eval()
    with pytest.warns(PossibleUserWarning, match=r"Modes is in evaluation mode.*model.train\(\)"):
        quiet(max_epochs=1).fit(model, batches(1), batches(1))
    assert model.seen["train"] == [(False, False, True, False)]


def test_an_overridden_model_train_hook_decides_the_modes_itself(quiet, batches):
    model = Modes()
    model.on_validation_model_train = lambda: model.train()
    quiet(max_epochs=2).fit(model, batches(1), batches(1))
    assert model.seen["train"] == [(True, False, True, False), (True, True, True, False)]


def test_a_user_may_turn_gradients_on_in_a_validation(quiet, noting, batches):
    grads = []

    def validation_step(batch, batch_idx):
        with torch.enable_grad():
            x = batch.clone().requires_grad_()
            grads.append(torch.autograd.grad(x.square().sum(), x)[0].item())

    noting.validation_step = validation_step
    quiet(max_epochs=1).fit(noting, batches(1), batches(3))
    assert grads == [0.0, 2.0, 4.0]
