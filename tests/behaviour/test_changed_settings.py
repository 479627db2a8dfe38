"""A fit that goes on with other settings: what differs is told, and `reset` says what counts."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as lr

import levin as L
from levin.utils.errors import MisconfigurationException


class Model(L.LightningModule):
    """One weight; what `configure_optimizers` returns is given. Notes the rate before each batch."""

    def __init__(self, make, **hparams):
        super().__init__()
        self.save_hyperparameters(hparams)
        self.layer = nn.Linear(1, 1)
        self.make = make
        self.rates, self.told, self.seen = [], [], []

    def configure_optimizers(self):
        return self.make(self.parameters())

    def on_train_batch_start(self, batch, batch_idx):
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        if self.lr_schedulers():
            self.told += self.lr_schedulers().get_last_lr()

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.tolist())
        return self.layer(batch[:, None]).square().mean()


def sgd(rate, **kwargs):
    return lambda parameters: SGD(parameters, rate, **kwargs)


def scheduled(rate, make, optimizer=SGD):
    def both(parameters):
        made = optimizer(parameters, rate)
        return {"optimizer": made, "lr_scheduler": {"scheduler": make(made), "interval": "step"}}

    return both


@pytest.fixture
def saved(quiet, batches, tmp_path):
    """``saved(make)`` trains four batches and returns the checkpoint."""

    def fit(make, **hparams):
        trainer = quiet(max_epochs=1)
        trainer.fit(Model(make, **hparams), batches(4))
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        return tmp_path / "a.ckpt"

    return fit


@pytest.fixture
def resumed(quiet, batches, caplog):
    """``resumed(path, make, reset)`` trains four batches more; returns model, trainer, what was told."""

    def fit(path, make, reset=None, hparams=None, **kwargs):
        trainer, model = quiet(max_epochs=2, **kwargs), Model(make, **(hparams or {}))
        with caplog.at_level(logging.INFO, "levin"):
            caplog.clear()
            trainer.fit(model, batches(4), ckpt_path=path, reset=reset)
        told = [
            line for message in caplog.messages if "differ" in message for line in message.split("\n  ")[1:]
        ]
        return model, trainer, told

    return fit


def test_the_saved_rate_is_used_and_one_line_tells_the_difference(saved, resumed):
    model, _, told = resumed(saved(sgd(0.1)), sgd(0.01))
    assert model.rates == [0.1] * 4
    assert told == [
        "optimizers.0.lr: 0.1 -> 0.01; the saved one is used, reset={'lr'} takes the new one",
    ]


@pytest.mark.parametrize("reset", ["lr", {"lr"}, ["lr"]])
def test_a_rate_that_is_reset_is_the_new_one_from_the_first_step_on(saved, resumed, reset):
    path = saved(lambda parameters: Adam(parameters, 0.1))
    before = torch.load(path, weights_only=True)["optimizer_states"][0]["state"][0]
    model, trainer, told = resumed(path, lambda parameters: Adam(parameters, 0.01), reset)
    assert model.rates == [0.01] * 4
    assert told == ["optimizers.0.lr: 0.1 -> 0.01"]
    assert (
        trainer.optimizers[0].state[model.layer.weight]["step"] == before["step"] + 4
    )  # the moments are kept
    assert (trainer.global_step, len(model.seen)) == (8, 4)


def test_nothing_is_told_where_nothing_differs(saved, resumed):
    make = scheduled(0.1, lambda optimizer: lr.OneCycleLR(optimizer, 0.5, total_steps=8))
    assert (
        resumed(
            saved(make, width=3, deep={"a": (1, None)}), make, None, {"width": 3, "deep": {"a": (1, None)}}
        )[2]
        == []
    )


def test_what_is_not_reset_is_told_again_the_next_time(saved, resumed, tmp_path):
    _, trainer, _ = resumed(saved(sgd(0.1, weight_decay=0.5)), sgd(0.01, weight_decay=0.2), "weight_decay")
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    _, _, told = resumed(tmp_path / "b.ckpt", sgd(0.01, weight_decay=0.3))
    assert [line.partition(";")[0] for line in told] == [
        "optimizers.0.lr: 0.1 -> 0.01",
        "optimizers.0.weight_decay: 0.2 -> 0.3",
    ]


def test_other_settings_of_the_optimizer_can_be_reset_too(saved, resumed):
    path = saved(sgd(0.1, momentum=0.9))
    _, trainer, _ = resumed(path, sgd(0.2, momentum=0.5, weight_decay=0.1), {"momentum"})
    group = trainer.optimizers[0].param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.5, 0, 0.1)


SCHEDULES = [
    lambda optimizer: lr.StepLR(optimizer, 3, gamma=0.5),
    lambda optimizer: lr.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    lambda optimizer: lr.SequentialLR(
        optimizer, [lr.LinearLR(optimizer, 0.5, total_iters=2), lr.ExponentialLR(optimizer, 0.5)], [2]
    ),
    lambda optimizer: lr.CosineAnnealingLR(optimizer, 10),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("reset", ["lr", "optimizer"])
def test_a_schedule_goes_on_at_its_place_from_the_new_rate(saved, resumed, schedule, reset):
    path = saved(scheduled(0.1, schedule))
    as_before = resumed(path, scheduled(0.1, schedule))[0].rates
    model = resumed(path, scheduled(0.02, schedule), reset)[0]
    assert model.rates == pytest.approx([rate / 5 for rate in as_before])
    assert model.told == model.rates


def test_one_cycle_goes_on_at_its_place_with_the_new_peak(saved, resumed):
    path = saved(scheduled(0.1, lambda optimizer: lr.OneCycleLR(optimizer, 0.5, total_steps=9)))
    new = scheduled(0.1, lambda optimizer: lr.OneCycleLR(optimizer, 0.05, total_steps=9))
    as_before = resumed(path, scheduled(0.1, lambda optimizer: lr.OneCycleLR(optimizer, 0.5, total_steps=9)))[
        0
    ].rates
    assert resumed(path, new, "lr")[0].rates == pytest.approx([rate / 10 for rate in as_before])


def test_a_rate_that_something_else_has_moved_is_the_new_one_when_it_is_reset(saved, resumed):
    path = saved(sgd(0.1))
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 0.001  # as ReduceLROnPlateau does
    torch.save(checkpoint, path)
    assert resumed(path, sgd(0.1))[0].rates == [0.001] * 4
    model, _, told = resumed(path, sgd(0.02), "lr")
    assert model.rates == [0.02] * 4
    assert told == ["optimizers.0.lr: 0.1 -> 0.02"]


def test_a_rate_that_is_reset_is_the_new_one_where_there_is_no_schedule_any_more(saved, resumed):
    path = saved(scheduled(0.1, lambda optimizer: lr.StepLR(optimizer, 1)))
    with pytest.warns(UserWarning, match="states of 1 schedulers"):
        model, _, told = resumed(path, sgd(0.02), "lr")
    assert model.rates == [0.02] * 4
    assert "schedulers.0.class: 'StepLR' -> nothing" in told


def test_a_scheduler_that_is_reset_begins_anew_with_its_rates(saved, resumed):
    path = saved(scheduled(0.1, lambda optimizer: lr.StepLR(optimizer, 2, gamma=0.5)))
    make = scheduled(0.2, lambda optimizer: lr.ExponentialLR(optimizer, 0.1))
    model, trainer, told = resumed(path, make, "scheduler")
    assert model.rates == pytest.approx([0.2, 0.02, 0.002, 0.0002])
    assert trainer.global_step == 8
    assert told == ["optimizers.0.lr: 0.1 -> 0.2", "schedulers.0.class: 'StepLR' -> 'ExponentialLR'"]


def test_the_settings_of_a_schedule_are_told_with_the_way_to_take_them(saved, resumed):
    path = saved(scheduled(0.1, SCHEDULES[2]))
    other = scheduled(
        0.1,
        lambda optimizer: lr.SequentialLR(
            optimizer, [lr.LinearLR(optimizer, 0.5, total_iters=2), lr.ExponentialLR(optimizer, 0.4)], [2]
        ),
    )
    assert resumed(path, other)[2] == [
        "schedulers.0.1.gamma: 0.5 -> 0.4; the saved one is used, reset={'scheduler'} takes the new one"
    ]


def test_another_optimizer_is_refused_and_taken_where_it_is_reset(saved, resumed):
    path = saved(lambda parameters: Adam(parameters, 0.1))
    with pytest.raises(
        MisconfigurationException, match=r"state of Adam, which SGD can't go on from.*reset={'optimizer'}"
    ):
        resumed(path, sgd(0.1))
    model, trainer, told = resumed(path, sgd(0.3, momentum=0.9), "optimizer")
    assert (model.rates, trainer.global_step) == ([0.3] * 4, 8)
    assert told == ["optimizers.0.class: 'Adam' -> 'SGD'"]


def test_an_optimizer_that_can_go_on_with_the_state_is_told(saved, resumed):
    told = resumed(
        saved(lambda parameters: Adam(parameters, 0.1)), lambda parameters: AdamW(parameters, 0.1)
    )[2]
    assert told == [
        "optimizers.0.class: 'Adam' -> 'AdamW'; the saved one is used, reset={'optimizer'} takes the new one"
    ]


def test_more_optimizers_than_there_were_need_a_reset(saved, quiet, batches):
    class Two(Model):
        automatic_optimization = False

        def on_train_batch_start(self, batch, batch_idx): ...

    def two(parameters):
        return [SGD([parameter], 0.1) for parameter in parameters]

    path, trainer = saved(sgd(0.1)), quiet(max_epochs=2)
    for reset in (None, "lr"):
        with pytest.raises(ValueError, match=r"holds the states of 1 optimizers.*reset={'optimizer'}"):
            trainer.fit(Two(two), batches(4), ckpt_path=path, reset=reset)
    trainer.fit(Two(two), batches(4), ckpt_path=path, reset="optimizer")
    assert trainer.current_epoch == 2


def test_hyper_parameters_and_the_trainers_settings_are_told(saved, resumed):
    path = saved(sgd(0.1), width=2, net={"act": "relu", "gone": 1})
    told = resumed(
        path, sgd(0.1), None, {"width": 4, "net": {"act": "relu", "new": "x"}}, accumulate_grad_batches=2
    )[2]
    assert told == [
        "hparams.width: 2 -> 4",
        "hparams.net.gone: 1 -> nothing",
        "hparams.net.new: nothing -> 'x'",
        "trainer.accumulate_grad_batches: 1 -> 2",
    ]


def test_a_checkpoint_of_before_tells_its_rate_at_least(saved, resumed, tmp_path):
    path = saved(scheduled(0.1, lambda optimizer: lr.StepLR(optimizer, 1)))
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["levin"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    told = resumed(tmp_path / "old.ckpt", scheduled(0.3, lambda optimizer: lr.StepLR(optimizer, 1)))[2]
    assert [line.partition(";")[0] for line in told] == ["optimizers.0.lr: 0.1 -> 0.3"]


def test_an_unknown_name_is_refused_with_what_there_is(resumed):
    with pytest.raises(
        MisconfigurationException, match=r"Did you mean 'scheduler'\?.*'optimizer', 'scheduler'.*'lr'"
    ):
        resumed(None, sgd(0.1), "schedular")


def test_only_so_many_differences_are_told(saved, resumed):
    path = saved(sgd(0.1), **{f"a{index}": index for index in range(30)})
    told = resumed(path, sgd(0.1))[2]
    assert len(told) == 21
    assert told[-1] == "... and 10 more"
