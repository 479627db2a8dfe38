"""Import every module of the installed levin and train a little, with whatever is installed beside it.

Run it outside the source tree and with ``python -I``, in an environment that has levin's hard dependencies
alone: what it then misses is missing from pyproject.toml.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.callbacks import ModelCheckpoint

SOURCE = Path(__file__).resolve().parents[1] / "src"


class Line(L.LightningModule):
    """A straight line through points that lie on one."""

    def __init__(self, learning_rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(x), y), prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


def modules():
    """Return the names of all of levin's modules, but for the one that runs when it is imported."""
    found = pkgutil.walk_packages(L.__path__, "levin.")
    return [module.name for module in found if module.name != "levin.__main__"]


def train(folder):
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    loader = DataLoader(TensorDataset(x, 2 * x + 1), batch_size=8)
    best = ModelCheckpoint(monitor="val_loss")
    trainer = L.Trainer(
        max_epochs=20, accelerator="cpu", default_root_dir=folder, callbacks=[best], log_every_n_steps=1
    )
    trainer.fit(Line(), loader, loader)
    [result] = trainer.test(ckpt_path="best", dataloaders=loader)
    assert result["val_loss"] < 0.05, result
    assert Path(best.best_model_path).is_file()
    assert "learning_rate: 0.1" in Path(trainer.log_dir, "hparams.yaml").read_text()
    return result["val_loss"]


def main():
    home = Path(L.__file__).resolve()
    if SOURCE in home.parents:
        sys.exit(f"levin is imported from the source tree ({home}), not from what was installed")
    names = modules()
    for name in names:
        importlib.import_module(name)
    print(f"{len(names)} modules import")
    with tempfile.TemporaryDirectory() as folder:
        print(f"a small fit ends at a loss of {train(folder):.2g}")


if __name__ == "__main__":
    main()
