from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L


class Stepping(L.LightningModule):
    """A weight that counts the optimizer's steps, and a score that is a function of it."""

    def __init__(self, score=float, name="score"):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.score, self.name = score, name

    def training_step(self, batch, batch_idx):
        return -self.weight

    def validation_step(self, batch, batch_idx):
        self.log(self.name, self.score(int(self.weight)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture
def stepping():
    """The class of the module to train: ``stepping(score)`` logs ``score(number of steps)``."""
    return Stepping


@pytest.fixture
def fit(tmp_path):
    """``fit(callbacks, model=..., **Trainer's arguments)`` trains, four batches an epoch."""

    def run(callbacks, model=None, *, ckpt_path=None, raises=None, **kwargs):
        settings = {
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "logger": False,
            "max_epochs": 3,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "limit_train_batches": 4,
            "limit_val_batches": 1,
        }
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        trainer = L.Trainer(callbacks=callbacks, **{**settings, **kwargs})
        data = DataLoader(torch.zeros(64, 1))
        arguments = {"train_dataloaders": data, "val_dataloaders": data, "ckpt_path": ckpt_path}
        model = model or Stepping()
        if raises is None:
            trainer.fit(model, **arguments)
        else:
            with pytest.raises(raises):
                trainer.fit(model, **arguments)
        return trainer

    return run
