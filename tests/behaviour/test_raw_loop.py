"""A module that is fitted ends with the very weights that a hand-written loop gives it."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import levin as L

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01)
ADAM = partial(torch.optim.Adam, lr=0.01)


class Regressor(L.LightningModule):
    def __init__(self, make_optimizer, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.make_optimizer = make_optimizer

    def loss(self, batch):
        x, y = batch
        return mse_loss(self.net(x), y)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


class Validated(Regressor):
    def validation_step(self, batch, batch_idx):
        self.log("loss", self.loss(batch))


def pairs(num_rows=20, seed=0, batch_size=2, **kwargs):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, 4, generator=draw)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True).sin()), batch_size=batch_size, **kwargs)


def train_by_hand(model, loader, epochs, *, accumulate=1, clip=lambda parameters: None, context=None):
    """Train a model as one writes it without any framework; returns its optimizer."""
    optimizer = model.configure_optimizers()
    for _ in range(epochs):
        for i, batch in enumerate(loader):
            if i % accumulate == 0:
                optimizer.zero_grad()
            with context or torch.enable_grad():
                loss = model.loss(batch)
            (loss / accumulate).backward()
            if (i + 1) % accumulate == 0 or i + 1 == len(loader):
                clip(model.parameters())
                optimizer.step()
    return optimizer


def assert_equal(left, right):
    """The weights are the same to the last bit."""
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name]), name


@pytest.mark.parametrize("make_optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_hundred_steps_are_those_of_a_loop_by_hand(quiet, make_optimizer):
    model = Regressor(make_optimizer)
    by_hand = copy.deepcopy(model)
    trainer = quiet(max_epochs=10)
    trainer.fit(model, pairs())
    optimizer = train_by_hand(by_hand, pairs(), epochs=10)
    assert trainer.global_step == 100
    assert_equal(model, by_hand)
    for ours, theirs in zip(trainer.optimizers[0].state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(ours[key]), torch.as_tensor(theirs[key])) for key in theirs)


@pytest.mark.parametrize("make_optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_the_last_accumulation_window_of_an_epoch_steps_with_the_full_divisor(quiet, make_optimizer):
    model = Regressor(make_optimizer)
    by_hand = copy.deepcopy(model)
    trainer = quiet(max_epochs=25, accumulate_grad_batches=3)
    trainer.fit(model, pairs())  # ten batches: windows of 3, 3, 3 and 1
    train_by_hand(by_hand, pairs(), epochs=25, accumulate=3)
    assert trainer.global_step == 100
    assert_equal(model, by_hand)


CLIPPING = {
    "norm": (0.1, partial(nn.utils.clip_grad_norm_, max_norm=0.1)),
    "value": (0.01, partial(nn.utils.clip_grad_value_, clip_value=0.01)),
}


@pytest.mark.parametrize("algorithm", CLIPPING)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_are_clipped_as_by_hand(quiet, algorithm, accumulate):
    bound, clip = CLIPPING[algorithm]
    model = Regressor(SGD)
    by_hand, unclipped = copy.deepcopy(model), copy.deepcopy(model)
    quiet(
        max_epochs=10,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=bound,
        gradient_clip_algorithm=algorithm,
    ).fit(model, pairs())
    train_by_hand(by_hand, pairs(), epochs=10, accumulate=accumulate, clip=clip)
    train_by_hand(unclipped, pairs(), epochs=10, accumulate=accumulate)
    assert_equal(model, by_hand)
    assert not torch.equal(model.net[0].weight, unclipped.net[0].weight)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_shuffling_and_dropout_draw_the_same_numbers(quiet, num_workers):
    model = Regressor(ADAM, dropout=0.5)
    by_hand = copy.deepcopy(model)
    epochs = 2 if num_workers else 10
    torch.manual_seed(7)
    quiet(max_epochs=epochs).fit(model, pairs(shuffle=True, num_workers=num_workers))
    drawn = torch.get_rng_state()
    torch.manual_seed(7)
    train_by_hand(by_hand, pairs(shuffle=True, num_workers=num_workers), epochs)
    assert_equal(model, by_hand)
    assert torch.equal(drawn, torch.get_rng_state())


def test_the_sanity_check_draws_no_numbers_and_a_validation_those_of_a_pass_over_its_loader(quiet):
    model = Validated(ADAM, dropout=0.5)
    by_hand = copy.deepcopy(model)
    torch.manual_seed(7)
    quiet(max_epochs=5, num_sanity_val_steps=2).fit(model, pairs(shuffle=True), pairs(seed=1))
    torch.manual_seed(7)
    optimizer = by_hand.configure_optimizers()
    loader, held_out = pairs(shuffle=True), pairs(seed=1)
    for _ in range(5):
        for batch in loader:
            optimizer.zero_grad()
            by_hand.loss(batch).backward()
            optimizer.step()
        by_hand.eval()
        with torch.no_grad():
            losses = [float(by_hand.loss(batch)) for batch in held_out]
        by_hand.train()
    assert_equal(model, by_hand)
    assert model.trainer.callback_metrics["loss"] == pytest.approx(sum(losses) / 10, rel=1e-6)


def test_bf16_mixed_is_autocast_around_the_forward(quiet):
    model = Regressor(ADAM)
    by_hand, in_full = copy.deepcopy(model), copy.deepcopy(model)
    quiet(max_epochs=10, precision="bf16-mixed").fit(model, pairs())
    train_by_hand(by_hand, pairs(), epochs=10, context=torch.autocast("cpu", dtype=torch.bfloat16))
    train_by_hand(in_full, pairs(), epochs=10)
    assert_equal(model, by_hand)
    assert not torch.equal(model.net[0].weight, in_full.net[0].weight)


def test_an_optimizer_that_calls_its_closure_several_times_is_given_a_true_closure(quiet):
    model = Regressor(partial(torch.optim.LBFGS, max_iter=4))
    by_hand = copy.deepcopy(model)
    quiet(max_epochs=3).fit(model, pairs())
    optimizer = by_hand.configure_optimizers()
    for _ in range(3):
        for batch in pairs():

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = by_hand.loss(batch)
                loss.backward()
                return loss

            optimizer.step(closure)
    assert_equal(model, by_hand)


class TwoByHand(L.LightningModule):
    """Two nets that play against each other, stepped in `training_step`."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.nets = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])

    def losses(self, x):
        ours, theirs = self.nets[0](x).mean(), self.nets[1](x).mean()
        return (ours - theirs.detach()).square(), (theirs + ours.detach()).square()

    def training_step(self, batch, batch_idx):
        for i, optimizer in enumerate(self.optimizers()):
            loss = self.losses(batch[0])[i]
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self):
        return SGD(self.nets[0].parameters()), ADAM(self.nets[1].parameters())


def test_manual_optimization_is_the_loop_by_hand(quiet):
    model = TwoByHand()
    by_hand = copy.deepcopy(model)
    trainer = quiet(max_epochs=5)
    trainer.fit(model, pairs())
    optimizers = by_hand.configure_optimizers()
    for x, _ in [batch for _ in range(5) for batch in pairs()]:
        for i, optimizer in enumerate(optimizers):
            optimizer.zero_grad()
            by_hand.losses(x)[i].backward()
            optimizer.step()
    assert trainer.global_step == 100
    assert_equal(model, by_hand)


@pytest.mark.parametrize(("interval", "moves"), [("step", 10), ("epoch", 2)])
def test_a_scheduler_moves_after_the_steps_of_its_interval(quiet, interval, moves):
    class Decayed(Regressor):
        def configure_optimizers(self):
            optimizer = SGD(self.parameters())
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    model = Decayed(None)
    by_hand = copy.deepcopy(model)
    trainer = quiet(max_epochs=2)
    trainer.fit(model, pairs(batch_size=4))
    optimizer = SGD(by_hand.parameters())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for _ in range(2):
        for i, batch in enumerate(pairs(batch_size=4)):
            optimizer.zero_grad()
            by_hand.loss(batch).backward()
            optimizer.step()
            if interval == "step" or i == 4:
                scheduler.step()
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == moves
    assert_equal(model, by_hand)
