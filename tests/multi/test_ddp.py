"""Training by several processes gives the numbers of a single one."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi


class Regression(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.net(x) - y) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val", ((self.net(x) - y) ** 2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def numbers(size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return TensorDataset(x, x.sum(1, keepdim=True))


def trainer(world, **kwargs):
    quiet = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 2, "accelerator": "cpu", "devices": world,
    }  # fmt: skip
    return L.Trainer(**{**quiet, **kwargs})


def train(world, kwargs):
    L.seed_everything(7, verbose=False)
    module = Regression()
    data = numbers(32)
    fit = trainer(world, **kwargs)
    fit.fit(
        module,
        DataLoader(data, batch_size=8 // world, shuffle=False),
        DataLoader(data, batch_size=5),
    )
    values = {name: value.item() for name, value in fit.callback_metrics.items() if "step" not in name}
    return [p.tolist() for p in module.parameters()], values


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.1}],
    ids=["plain", "accumulation", "clipping"],
)
@pytest.mark.parametrize("world", [2, 4])
def test_weights_and_epoch_values_are_those_of_one_process(world, kwargs):
    weights, values = train(1, kwargs)
    for others, others_values in in_processes(train, world, world, kwargs):
        for mine, theirs in zip(weights, others, strict=True):
            torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), rtol=1e-10, atol=1e-10)
        assert others_values == pytest.approx(values, rel=1e-6)
