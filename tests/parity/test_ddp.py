"""Two processes end at the weights at which they end with Lightning's DDP, to the last bit."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from levin.testing.processes import in_processes

pytestmark = [pytest.mark.parity, pytest.mark.multi, pytest.mark.filterwarnings("default")]


def regression(framework, norm):
    class Regression(framework.LightningModule):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(8, 16), nn.BatchNorm1d(16) if norm else nn.Identity(), nn.Tanh()]
            self.net = nn.Sequential(*layers, nn.Linear(16, 1))

        def training_step(self, batch, batch_idx):
            x, y = batch
            loss = (self.net(x) - y).square().mean()
            self.log("loss", loss, on_epoch=True, sync_dist=True)
            return loss

        def validation_step(self, batch, batch_idx):
            x, y = batch
            self.log("val", (self.net(x) - y).square().mean(), sync_dist=True)

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    return Regression()


def gan(framework, norm):
    class Gan(framework.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.generator, self.critic = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))

        def training_step(self, batch, batch_idx):
            x, _ = batch
            g, c = self.optimizers()
            for optimizer, loss in (
                (c, lambda: self.critic(self.generator(x).detach()).square().mean() - self.critic(x).mean()),
                (g, lambda: (self.critic(self.generator(x)) - 1).square().mean()),
            ):
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward(loss())
                optimizer.step()
                self.untoggle_optimizer(optimizer)

        def configure_optimizers(self):
            return [torch.optim.SGD(each.parameters(), lr=0.05) for each in (self.generator, self.critic)]

    return Gan()


MODULES = {"regression": regression, "gan": gan}


def train(name, kind, norm, arguments):
    framework = importlib.import_module(name)
    framework.seed_everything(3, verbose=False)
    module = MODULES[kind](framework, norm)
    data = TensorDataset(
        *[torch.randn(48, size, generator=torch.Generator().manual_seed(size)) for size in (8, 1)]
    )
    trainer = framework.Trainer(
        accelerator="cpu", devices=2, max_epochs=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **arguments,
    )  # fmt: skip
    loaders = [DataLoader(data, batch_size=4, shuffle=True)]
    if kind == "regression":
        loaders.append(DataLoader(data, batch_size=6))
    trainer.fit(module, *loaders)
    metrics = {key: value.item() for key, value in trainer.callback_metrics.items() if "step" not in key}
    return {key: value.tolist() for key, value in module.state_dict().items()}, metrics


@pytest.mark.parametrize(
    ("kind", "norm", "arguments"),
    [
        ("regression", False, {"strategy": "ddp"}),
        ("regression", True, {"strategy": "ddp"}),
        ("regression", True, {"strategy": "ddp", "accumulate_grad_batches": 3, "gradient_clip_val": 0.1}),
        ("regression", False, {"strategy": "ddp_find_unused_parameters_true"}),
        ("gan", False, {"strategy": "ddp_find_unused_parameters_true"}),
    ],
    ids=["plain", "batch norm", "accumulation and clipping", "unused", "gan"],
)
def test_weights_are_lightnings(kind, norm, arguments):
    theirs, ours = [in_processes(train, 2, name, kind, norm, arguments) for name in ("lightning", "levin")]
    for (their_state, their_metrics), (our_state, our_metrics) in zip(theirs, ours, strict=True):
        assert our_state == their_state
        assert our_metrics == pytest.approx(their_metrics, rel=1e-5)
