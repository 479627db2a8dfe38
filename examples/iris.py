"""Three kinds of iris told apart by four measurements: first with plain loaders, then with a data module.

pip install ".[demo]"
python examples/iris.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import levin as L


class IrisClassifier(L.LightningModule):
    def __init__(self, learning_rate=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.layer_1 = nn.Linear(4, 16)
        self.layer_2 = nn.Linear(16, 3)

    def forward(self, x):
        return self.layer_2(F.relu(self.layer_1(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)  # callbacks, loggers and the progress bar can see it from now on
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_acc", (self(x).argmax(dim=1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class IrisDataModule(L.LightningDataModule):
    """The flowers, in parts that are equally rich in all three kinds."""

    def __init__(self, batch_size=16, val_size=0.2, random_state=42):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        x, y = load_iris(return_X_y=True)
        parts = train_test_split(
            x, y, test_size=self.hparams.val_size, random_state=self.hparams.random_state, stratify=y
        )
        x_train, x_val, y_train, y_val = (torch.from_numpy(part) for part in parts)
        self.train_set = TensorDataset(x_train.float(), y_train)
        self.val_set = TensorDataset(x_val.float(), y_val)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)


class LossReport(L.Callback):
    """Says after each epoch what the loss is now."""

    def on_train_epoch_end(self, trainer, pl_module):
        print(f"epoch {trainer.current_epoch}: loss {trainer.callback_metrics['train_loss']:.4f}")


def with_loaders():
    """Train on all flowers, with a loader and a callback of our own."""
    x, y = load_iris(return_X_y=True)
    flowers = TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(y))
    loader = DataLoader(flowers, batch_size=16, shuffle=True)
    trainer = L.Trainer(
        max_epochs=10,
        callbacks=[LossReport()],
        accelerator="cpu",
        log_every_n_steps=5,
        enable_progress_bar=False,
    )
    trainer.fit(IrisClassifier(), loader)


def with_datamodule():
    """Train on four fifths and validate on the rest, which the data module deals out."""
    trainer = L.Trainer(max_epochs=20, accelerator="cpu", log_every_n_steps=5)
    trainer.fit(IrisClassifier(), datamodule=IrisDataModule())
    print(f"{trainer.callback_metrics['val_acc']:.0%} of the flowers it has not seen are told apart")


if __name__ == "__main__":
    L.seed_everything(42)
    with_loaders()
    with_datamodule()
