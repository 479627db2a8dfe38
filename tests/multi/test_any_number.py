"""The same training on one device, two or four: weights to the last digits, and every logged number."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi

SIZE = 48


class Samples(Dataset):
    """A sample is its number, its features and its class."""

    def __init__(self, size=SIZE):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        self.y = (self.x.sum(1) > 0).long() + (self.x[:, 0] > 0).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return index, self.x[index], self.y[index]


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        # a bias before batch norm has no gradient but rounding, which Adam would make steps of
        layers = nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        self.net = nn.Sequential(*layers).double()
        import torchmetrics

        self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)

    def training_step(self, batch, batch_idx):
        _, x, y = batch
        loss = functional.cross_entropy(self.net(x), y)
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        _, x, y = batch
        logits = self.net(x)
        self.log("val_loss", functional.cross_entropy(logits, y))
        self.accuracy(logits, y)
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Gan(L.LightningModule):
    """Its noise follows from the samples' numbers, so that it is the same wherever they are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6)).double()
        self.critic = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def training_step(self, batch, batch_idx):
        ids, x, _ = batch
        noise = torch.sin(ids.double().view(-1, 1) * torch.arange(1, 4, dtype=torch.float64))
        first, second = self.optimizers()
        with self.toggled_optimizer(first):
            made = -functional.logsigmoid(self.critic(self.generator(noise))).mean()
            first.zero_grad()
            self.manual_backward(made)
            first.step()
        with self.toggled_optimizer(second):
            fake = self.critic(self.generator(noise).detach())
            told = -functional.logsigmoid(self.critic(x)).mean() - functional.logsigmoid(-fake).mean()
            second.zero_grad()
            self.manual_backward(told)
            second.step()
        self.log_dict({"made": made, "told": told}, on_epoch=True, on_step=False)

    def configure_optimizers(self):
        return [
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
            torch.optim.Adam(self.critic.parameters(), lr=0.01),
        ]


def train(world, name, kwargs):
    L.seed_everything(5, verbose=False)
    module = {"classifier": Classifier, "gan": Gan}[name]()
    trainer = L.Trainer(
        accelerator="cpu", devices=world, max_epochs=2, global_batch_size=16, sync_batchnorm=True,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **kwargs,
    )  # fmt: skip
    data = DataLoader(Samples(), batch_size=16, shuffle=True)
    trainer.fit(module, data, DataLoader(Samples(21), batch_size=4) if name == "classifier" else None)
    values = {key: each.item() for key, each in trainer.callback_metrics.items() if not key.endswith("_step")}
    values.pop("loss", None)  # the step's, of the samples here
    return [each.tolist() for each in module.state_dict().values() if each.ndim], values


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("classifier", {}),
        ("classifier", {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}),
        ("gan", {}),
    ],
    ids=["classifier", "accumulation and clipping", "gan"],
)
def test_training_is_the_same_on_any_number_of_devices(name, kwargs, world):
    weights, values = train(1, name, kwargs)
    for others, others_values in in_processes(train, world, world, name, kwargs):
        for mine, theirs in zip(weights, others, strict=True):
            np.testing.assert_allclose(np.array(theirs), np.array(mine), rtol=1e-10, atol=1e-10)
        assert others_values == pytest.approx(values, rel=1e-6)


class Draws(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.begun_with = self.layer.weight.tolist()
        self.drawn = []

    def setup(self, stage):
        self.split = torch.randperm(10).tolist()

    def train_dataloader(self):
        self.of_hook = torch.rand(2).tolist()
        return DataLoader(torch.zeros(8, 2), batch_size=2)

    def on_train_start(self):
        self.weights = self.layer.weight.tolist()

    def training_step(self, batch, batch_idx):
        self.drawn.append(torch.rand(2).tolist())
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def draw(seed):
    if seed is None:
        torch.manual_seed(int(os.environ["RANK"]))  # a program that does not seed
    else:
        L.seed_everything(seed, verbose=False)
    module = Draws()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module)
    return module.begun_with, module.weights, module.split, module.of_hook, module.drawn


def test_processes_draw_their_own_numbers_in_training_the_same_in_each_run():
    first, second = in_processes(draw, 2, 3)
    assert first[:4] == second[:4]
    assert not [each for each in first[4] if each in second[4]]
    assert in_processes(draw, 2, 3) == [first, second]


def test_processes_that_nobody_seeded_have_the_same_weights_and_make_the_same_data():
    first, second = in_processes(draw, 2, None)
    assert first[0] != second[0]
    assert first[1:4] == second[1:4]
    assert first[4] != second[4]


def fit_often(times):
    counts = []
    for _ in range(times):
        trainer = L.Trainer(
            accelerator="cpu", devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Classifier(), DataLoader(Samples(), batch_size=16, num_workers=1))
        del trainer
        gc.collect()
        counts.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
    return counts


@pytest.mark.slow
def test_many_fits_in_one_program_leave_nothing_behind():
    for counts in in_processes(fit_often, 2, 12):
        assert max(counts[-4:]) <= max(counts[:4]), counts  # a file may be a moment late to close
