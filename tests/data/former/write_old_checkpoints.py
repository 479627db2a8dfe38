"""Write checkpoints with a PyTorch Lightning 1.x: `python write_old_checkpoints.py FOLDER`.

It runs with any version from 1.0 to 1.9; the files are called ``<version>-<name>.ckpt``. Each is of two
epochs of three batches: ``end`` is written at the end of the second, ``mid`` after its second batch,
``manual`` and ``manual_mid`` likewise in manual optimization with two optimizers. Not all of them are kept.

Those old versions need a Python and a torch of their time. With those of today they run if there are
pyDeprecate==0.3.1, setuptools<66, tensorboardX and the torchmetrics of their year (0.2, 0.5, 0.11), and if,
before they are imported, ``numpy.Inf`` is set to ``numpy.inf`` and ``_LRScheduler`` in
``torch.optim.lr_scheduler`` to its ``LRScheduler``.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import fsspec
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

RUNS = "memory://runs"  # so that no path of anybody's machine gets into the files


class Base(pl.LightningModule):
    def __init__(self, width=2, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(4, width)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)

    def loss(self, batch):
        return (self.layer(batch) - 1).square().mean()


class Automatic(Base):
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)
        return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]


class Manual(Base):
    def __init__(self, width=2, lr=0.1):
        super().__init__(width, lr)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD([p], self.hparams.lr, momentum=0.9) for p in self.layer.parameters()]


class SaveAt(pl.Callback):
    """Saves after so many batches."""

    def __init__(self, path, batches):
        self.path, self.batches, self.seen = path, batches, 0

    def on_train_batch_end(self, trainer, *_):
        self.seen += 1
        if self.seen == self.batches:
            trainer.save_checkpoint(self.path)


def takes(function, name):
    """Whether this version knows the argument."""
    return name in inspect.signature(function).parameters


def data():
    rows = torch.arange(24.0).reshape(6, 4) / 10
    return DataLoader(rows, batch_size=2)  # three batches


def checkpoints(folder, **kwargs):
    if takes(ModelCheckpoint.__init__, "dirpath"):
        return ModelCheckpoint(dirpath=folder, filename="{epoch}", **kwargs)
    return ModelCheckpoint(filepath=folder + "/{epoch}", **kwargs)


def fit(model, callbacks, val=None):
    if takes(pl.Trainer.__init__, "enable_progress_bar"):
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    else:
        quiet = {"progress_bar_refresh_rate": 0, "weights_summary": None}
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=callbacks,
        logger=False,
        default_root_dir=RUNS,
        num_sanity_val_steps=0,
        **quiet,
    )
    trainer.fit(model, data(), val)


def main(target):
    monitored = [checkpoints(f"{RUNS}/end", monitor="val_loss"), EarlyStopping("val_loss", patience=5)]
    fit(Automatic(), monitored, data())
    fit(Automatic(), [SaveAt(f"{RUNS}/mid/made.ckpt", 5), checkpoints(f"{RUNS}/other")])
    if pl.__version__ >= "1.3":  # before, manual optimization took another form of the step
        fit(Manual(), [checkpoints(f"{RUNS}/manual")])
        fit(Manual(), [SaveAt(f"{RUNS}/manual_mid/made.ckpt", 5)])
    runs = fsspec.filesystem("memory")
    for name in ("end", "mid", "manual", "manual_mid"):
        found = sorted(runs.glob(f"/runs/{name}/*.ckpt"))
        if found:
            (target / f"{pl.__version__}-{name}.ckpt").write_bytes(runs.cat_file(found[-1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
