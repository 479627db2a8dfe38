from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from levin.callbacks import Callback, GradientAccumulationScheduler
from levin.utils.errors import MisconfigurationException


class Steps(Callback):
    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(trainer.global_step)


@pytest.mark.parametrize(
    ("scheduling", "steps"),
    [({0: 2}, [2, 4, 6]), ({1: 2}, [4, 6, 8]), ({2: 4, 1: 2}, [4, 6, 7]), ({0: 4, 2: 1}, [1, 2, 6])],
)
def test_the_factor_changes_by_epoch(fit, scheduling, steps):
    counting = Steps()
    fit([GradientAccumulationScheduler(scheduling), counting])
    assert counting.seen == steps


def test_a_second_fit_goes_on_with_it(fit, stepping):
    model, counting = stepping(), Steps()
    trainer = fit([GradientAccumulationScheduler({0: 2, 4: 4}), counting], model, limit_val_batches=0)
    trainer.max_epochs = 5
    trainer.fit(model, DataLoader(torch.zeros(64, 1)))
    assert counting.seen == [2, 4, 6, 8, 9]


def test_a_fit_that_goes_on_inside_of_an_epoch_has_that_epochs_factor(fit, tmp_path):
    class Saving(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 1):
                trainer.save_checkpoint(tmp_path / "x.ckpt")

    fit([GradientAccumulationScheduler({1: 2}), Saving()])
    counting = Steps()
    fit([GradientAccumulationScheduler({1: 2}), counting], ckpt_path=tmp_path / "x.ckpt")
    assert counting.seen == [6, 8]


def test_the_schedule_can_be_asked():
    schedule = GradientAccumulationScheduler({1: 2, 3: 4})
    assert [schedule.get_accumulate_grad_batches(epoch) for epoch in range(5)] == [1, 2, 2, 4, 4]
    assert schedule.going_to_accumulate_grad_batches()
    assert not GradientAccumulationScheduler({2: 1}).going_to_accumulate_grad_batches()


@pytest.mark.parametrize("scheduling", [{}, None])
def test_an_empty_schedule_is_refused(scheduling):
    with pytest.raises(TypeError, match="needs a dict"):
        GradientAccumulationScheduler(scheduling)


@pytest.mark.parametrize(
    ("scheduling", "text"),
    [
        ({0.5: 1}, "epoch .* 0.5"),
        ({-1: 2}, "epoch .* -1"),
        ({0: 0}, "factor .* 0"),
        ({0: 1.5}, "factor .* 1.5"),
    ],
)
def test_what_is_no_epoch_or_factor_is_refused(scheduling, text):
    with pytest.raises(MisconfigurationException, match=text):
        GradientAccumulationScheduler(scheduling)


def test_the_trainers_own_number_is_refused_beside_it(fit):
    with pytest.raises(ValueError, match="both decide"):
        fit(GradientAccumulationScheduler({0: 2}), accumulate_grad_batches=3)


def test_manual_optimization_is_refused(fit, stepping):
    class Manual(stepping):
        automatic_optimization = False

    with pytest.raises(RuntimeError, match="automatic optimization"):
        fit(GradientAccumulationScheduler({0: 2}), Manual())


def test_an_own_zero_grad_is_told(fit, stepping):
    class Own(stepping):
        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            optimizer.zero_grad()

    with pytest.warns(UserWarning, match="optimizer_zero_grad"):
        fit(GradientAccumulationScheduler({0: 2}), Own())
