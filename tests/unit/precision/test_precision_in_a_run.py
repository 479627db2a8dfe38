"""Precisions in a whole run: bit-equal with a loop that is written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from levin import Callback, LightningModule, Trainer
from levin.precision import MixedPrecision
from levin.utils.errors import MisconfigurationException

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "max_epochs": 1,
}  # fmt: skip

DATA = torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(1))


def loader(data):
    return DataLoader(data, batch_size=None)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


class Model(LightningModule):
    def __init__(self, make=lambda parameters: torch.optim.SGD(parameters, lr=0.1)):
        super().__init__()
        self.net, self.make, self.seen = network(), make, []

    def training_step(self, batch, batch_idx):
        out = self.net(batch)
        self.seen.append((batch.dtype, out.dtype, torch.ones(1).dtype))
        return out.float().square().mean()

    def configure_optimizers(self):
        return self.make(self.parameters())


def same(module, other):
    return all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("16-true", torch.float16), ("bf16-true", torch.bfloat16), ("64-true", torch.float64)],
)
def test_true_precisions(precision, dtype):
    expected = network().to(dtype)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for batch in DATA:
        optimizer.zero_grad()
        expected(batch.to(dtype)).float().square().mean().backward()
        optimizer.step()
    model, trainer = Model(), Trainer(**QUIET, precision=precision)
    trainer.fit(model, loader(DATA))
    assert trainer.precision == precision
    assert set(model.seen) == {(dtype, dtype, dtype)}
    assert same(model.net, expected)


def test_bfloat16_mixed():
    expected = network()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for batch in DATA:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = expected(batch).float().square().mean()
        loss.backward()
        optimizer.step()
    model, trainer = Model(), Trainer(**QUIET, precision="bf16-mixed")
    trainer.fit(model, loader(DATA))
    assert trainer.scaler is None
    assert set(model.seen) == {(torch.float32, torch.bfloat16, torch.float32)}
    assert same(model.net, expected)


def scaler():
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)


def with_an_overflow():
    data = DATA.clone()
    data[2] *= float("inf")
    return data


def float16_by_hand(data, scaler, *, clip, accumulate=1):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for index, batch in enumerate(data):
        with torch.autocast("cpu", dtype=torch.float16):
            loss = net(batch).float().square().mean() / accumulate
        if index % accumulate == 0:
            optimizer.zero_grad()
        scaler.scale(loss).backward()
        if (index + 1) % accumulate == 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
    return net


@pytest.mark.parametrize("accumulate", [1, 2])
def test_float16_mixed_with_an_overflow_and_clipping(accumulate):
    mine, theirs = scaler(), scaler()
    expected = float16_by_hand(with_an_overflow(), theirs, clip=0.05, accumulate=accumulate)
    model = Model()
    plugin = MixedPrecision("16-mixed", "cpu", mine)
    trainer = Trainer(**QUIET, plugins=[plugin], gradient_clip_val=0.05, accumulate_grad_batches=accumulate)
    trainer.fit(model, loader(with_an_overflow()))
    assert trainer.scaler is mine
    assert mine.state_dict() == theirs.state_dict()
    assert torch.isfinite(model.net[0].weight).all()
    assert same(model.net, expected)


class Average(Callback):
    """An average of weights, as callbacks take it: over the steps that took place."""

    def __init__(self):
        self.step, self.updates, self.mean = 0, 0, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > self.step:
            self.step, self.updates = trainer.global_step, self.updates + 1
            self.mean = self.mean + (pl_module.net[0].weight.detach() - self.mean) / self.updates


class Scheduled(Model):
    """Its rate falls with each step that took place; it keeps the rate and the steps before each batch."""

    def on_train_batch_start(self, batch, batch_idx):
        (group,) = self.trainer.optimizers[0].param_groups
        self.before = [*getattr(self, "before", []), (group["lr"], self.global_step)]

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class ScheduledByHand(Scheduled):
    """The same in manual optimization, where schedulers are the module's business."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer, before = self.optimizers(), self.global_step
        optimizer.zero_grad()
        self.manual_backward(self.net(batch).float().square().mean())
        optimizer.step()
        if self.global_step > before:
            self.lr_schedulers().step()


def float16(model, data, **settings):
    average = Average()
    settings = {
        **QUIET,
        "plugins": MixedPrecision("16-mixed", "cpu", scaler()),
        "callbacks": average,
        **settings,
    }
    trainer = Trainer(**settings)
    trainer.fit(model, loader(data))
    return trainer, average


@pytest.mark.parametrize("make", [Scheduled, ScheduledByHand])
def test_a_step_that_overflowed_leaves_schedule_counters_and_averages_as_if_it_had_not_been(make):
    with_it, without = make(), make()
    trainer, average = float16(with_it, with_an_overflow())
    reference, expected = float16(without, torch.cat([DATA[:2], DATA[3:]]))
    assert trainer.global_step == reference.global_step == average.updates == 5
    assert with_it.before == [(0.1, 0), (0.05, 1), (0.025, 2), (0.025, 2), (0.0125, 3), (0.00625, 4)]
    assert torch.equal(average.mean, expected.mean)
    assert same(with_it.net, without.net)


def test_a_training_limited_in_steps_makes_up_for_those_that_overflowed():
    trainer, _ = float16(Model(), with_an_overflow(), max_steps=4)
    assert (trainer.global_step, trainer.progress.batch) == (4, 5)


def test_a_step_without_a_loss_counts_and_moves_the_schedule_as_in_float32():
    class Skipping(Scheduled):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    model = Skipping()
    with pytest.warns(UserWarning, match="returned None"):
        trainer, _ = float16(model, DATA[:3])
    assert trainer.global_step == 3
    assert [rate for rate, _ in model.before] == [0.1, 0.05, 0.025]


def test_a_closure_called_alone_counts_after_an_overflow_too():
    class OwnStep(Model):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            if batch_idx == 3:
                optimizer_closure()
            else:
                optimizer.step(closure=optimizer_closure)

    trainer, _ = float16(OwnStep(), with_an_overflow())
    assert trainer.global_step == 5


class ManualModel(Model):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.norms = []

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.net(batch).float().square().mean())
        self.clip_gradients(optimizer, gradient_clip_val=0.05, gradient_clip_algorithm="norm")
        grads = [p.grad for p in self.net.parameters()]
        self.norms.append(torch.stack([grad.norm() for grad in grads]).norm().item())
        optimizer.step()


def test_float16_gradients_are_clipped_in_their_own_units_in_manual_optimization_too():
    expected = float16_by_hand(DATA, scaler(), clip=0.05)
    model = ManualModel()
    Trainer(**QUIET, plugins=[MixedPrecision("16-mixed", "cpu", scaler())]).fit(model, loader(DATA))
    assert max(model.norms) <= 0.05 + 1e-6
    assert same(model.net, expected)


def test_float16_trains_in_manual_optimization():
    expected = float16_by_hand(with_an_overflow(), scaler(), clip=1e9)

    class Unclipped(ManualModel):
        def clip_gradients(self, *args, **kwargs):
            pass

    model, plugin = Unclipped(), MixedPrecision("16-mixed", "cpu", scaler())
    Trainer(**QUIET, plugins=[plugin]).fit(model, loader(with_an_overflow()))
    assert same(model.net, expected)


def test_hooks_before_the_step_see_unscaled_gradients():
    class Watching(Model):
        norms = ()

        def on_before_optimizer_step(self, optimizer):
            self.norms = (*self.norms, self.net[2].bias.grad.item())

    watching, plain = Watching(), Watching()
    Trainer(**QUIET, max_steps=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler())]).fit(
        watching, loader(DATA)
    )
    Trainer(**QUIET, max_steps=1).fit(plain, loader(DATA))
    assert watching.norms == pytest.approx(plain.norms, rel=0.1)


def test_a_step_without_a_loss_is_left_out():
    class Skipping(Model):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    model = Skipping()
    with pytest.warns(UserWarning, match="returned None"):
        Trainer(**QUIET, plugins=[MixedPrecision("16-mixed", "cpu", scaler())]).fit(model, loader(DATA[:3]))
    expected = float16_by_hand([DATA[0], DATA[2]], scaler(), clip=1e9)
    assert same(model.net, expected)


def test_the_scale_comes_back_with_a_checkpoint(tmp_path):
    trainer = Trainer(**QUIET, plugins=[MixedPrecision("16-mixed", "cpu", scaler())])
    trainer.fit(Model(), loader(DATA))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt")["MixedPrecision"] == trainer.scaler.state_dict()
    resumed = Trainer(**{**QUIET, "max_epochs": 2}, plugins=[MixedPrecision("16-mixed", "cpu", scaler())])
    resumed.fit(Model(), loader(DATA), ckpt_path=tmp_path / "last.ckpt")
    straight = Trainer(**{**QUIET, "max_epochs": 2}, plugins=[MixedPrecision("16-mixed", "cpu", scaler())])
    straight.fit(Model(), loader(DATA))
    assert resumed.scaler.state_dict() == straight.scaler.state_dict()
    assert same(resumed.lightning_module.net, straight.lightning_module.net)


def test_lbfgs_runs_in_bfloat16_and_not_with_a_scaler():
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, max_iter=2)

    model = Model(lbfgs)
    before = model.net[0].weight.clone()
    Trainer(**QUIET, precision="bf16-mixed").fit(model, loader(DATA[:2]))
    assert not torch.equal(model.net[0].weight, before)
    with pytest.raises(MisconfigurationException, match="LBFGS"):
        Trainer(**QUIET, plugins=[MixedPrecision("16-mixed", "cpu", scaler())]).fit(
            Model(lbfgs), loader(DATA)
        )


@pytest.mark.gpu
def test_float16_mixed_on_a_gpu():
    model = Model()
    trainer = Trainer(**{**QUIET, "accelerator": "gpu"}, devices=1, precision="16-mixed")
    trainer.fit(model, loader(DATA))
    assert trainer.scaler.get_scale() == 2.0**16
    assert set(model.seen) == {(torch.float32, torch.float16, torch.float32)}
    assert not same(model.net.cpu(), network())
