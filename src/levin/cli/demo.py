"""``levin demo``: train a small network on handwritten digits, and show what comes out.

This file is also a program to start from: data, model, training, and a picture of it, in that order. The
digits are scikit-learn's: 1,797 scanned ones of 8x8 pixels, which come with it: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.loggers import CSVLogger, TensorBoardLogger
from levin.utils.imports import available, distribution, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.utils.data import Subset

Batch = tuple[Tensor, ...]  # images of shape (batch, 1, 8, 8) in 0..1, labels of shape (batch,) in 0..9


class Digits(L.LightningDataModule):
    """The digits, split at random into 60 % to train on, 20 % to validate and 20 % to test with."""

    train_set: Subset[Batch]
    val_set: Subset[Batch]
    test_set: Subset[Batch]

    def __init__(self, batch_size: int = 32, split_seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.split_seed = split_seed

    def setup(self, stage: str) -> None:
        """Read the images and split them; the same seed gives the same split."""
        digits = require("sklearn.datasets").load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
        labels = torch.tensor(digits.target)
        generator = torch.Generator().manual_seed(self.split_seed)
        everything = TensorDataset(images, labels)
        self.train_set, self.val_set, self.test_set = random_split(everything, [0.6, 0.2, 0.2], generator)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training images, in a new order each epoch."""
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the images that choose the best checkpoint."""
        return DataLoader(self.val_set, batch_size=256)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the images that nothing was chosen by."""
        return DataLoader(self.test_set, batch_size=256)


class DigitsClassifier(L.LightningModule):
    """Two convolutions and two linear layers: 8x8 pixels in, ten scores out."""

    def __init__(self, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.layers: nn.Sequential = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 64),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(64, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return ten scores for each image."""
        scores: Tensor = self.layers(images)
        return scores

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that is minimised; everything else of a step is done for us."""
        return self.judge(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Judge one batch of the validation images; called after every epoch."""
        self.judge(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Judge one batch of the test images; called once, at the end."""
        self.judge(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what turns gradients into new weights."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def judge(self, batch: Batch, stage: str) -> Tensor:
        """Log loss and accuracy under the stage's name, as means over its epoch, and return the loss."""
        images, labels = batch
        scores = self(images)
        loss = F.cross_entropy(scores, labels)
        accuracy = (scores.argmax(dim=1) == labels).float().mean()
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True, prog_bar=stage == "val")
        self.log(f"{stage}_acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, test the best checkpoint, draw the curves, and say where everything is.

    Returns:
        0, or 1 when a package that it needs is missing.
    """
    options = parse(arguments)
    missing = [distribution(name) for name in ("sklearn", "matplotlib", "tensorboard") if not available(name)]
    if missing:
        print(f"levin demo needs what is not installed: pip install {' '.join(missing)}", file=sys.stderr)
        return 1

    torch.set_num_threads(1)  # more would only get in each other's way: the network is small
    L.seed_everything(options.seed)
    logger = CSVLogger(options.out, name="")
    run = Path(logger.log_dir)
    best = ModelCheckpoint(monitor="val_acc", mode="max", filename="best-{epoch}-{val_acc:.3f}")
    trainer = L.Trainer(
        max_epochs=options.epochs,
        accelerator="cpu",
        logger=[logger, TensorBoardLogger(options.out, name="", version=logger.version)],
        callbacks=[best],
        log_every_n_steps=10,
    )
    data = Digits()
    trainer.fit(DigitsClassifier(), datamodule=data)
    [scores] = trainer.test(ckpt_path="best", datamodule=data, verbose=False)
    draw(run / "metrics.csv", run / "curves.png")
    print(report(run, Path(best.best_model_path), scores["test_acc"]))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of ``levin demo``."""
    parser = argparse.ArgumentParser("levin demo", description="Train a small network on handwritten digits.")
    parser.add_argument(
        "--out", type=Path, default=Path("levin_demo"), help="the folder to write to (levin_demo)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="how often to go over the images (10)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of all random numbers (0)")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs {options.epochs}: there must be one or more")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: that is a file; name a folder, which need not be there yet")
    return options


def read_curves(metrics: Path) -> dict[str, list[tuple[float, float]]]:
    """Return for each metric in a ``metrics.csv`` its points: (epochs of training done, value)."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in row.keys() - {"epoch", "step"}:
            if row[name]:  # a row holds only what was logged at that moment
                curves[name].append((float(row["epoch"]) + 1, float(row[name])))
    return curves


def draw(metrics: Path, picture: Path) -> None:
    """Draw the loss and the accuracy over the epochs, for training and validation."""
    figure = require("matplotlib.figure").Figure(figsize=(10, 4.2), layout="constrained")
    curves = read_curves(metrics)
    figure.suptitle("A small network learns 8x8 handwritten digits", fontsize=14, fontweight="bold")
    for axes, metric, title in zip(
        figure.subplots(1, 2), ("loss", "acc"), ("Cross-entropy loss", "Accuracy"), strict=True
    ):
        for stage, label, colour in (("train", "training", "#1f77b4"), ("val", "validation", "#d95f02")):
            epochs, values = zip(*curves[f"{stage}_{metric}"], strict=True)
            axes.plot(epochs, values, color=colour, marker="o", markersize=4, linewidth=2, label=label)
        axes.set(title=title, xlabel="epoch", ylabel=title.split()[-1].lower())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        if metric == "acc":
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.savefig(picture, dpi=150)


def report(run: Path, checkpoint: Path, accuracy: float) -> str:
    """Return the last words: how good it is, where everything is, and what to type next."""
    places = {
        "best checkpoint": checkpoint,
        "numbers": run / "metrics.csv",
        "curves": run / "curves.png",
        "this program": Path(__file__),
    }
    lines = [f"  {name:<16} {shorten(path)}" for name, path in places.items()]
    beside = Path(sys.executable).parent / "tensorboard"
    tensorboard = "tensorboard" if shutil.which("tensorboard") else shorten(beside)
    head = f"\nThe best checkpoint reads {accuracy:.1%} of the test digits right.\n"
    return "\n".join(
        [head, *lines, "", f"Next, watch the run:  {tensorboard} --logdir {shorten(run.parent)}"]
    )


def shorten(path: Path) -> str:
    """Return the path as seen from here, or in full where it lies elsewhere."""
    path = Path(os.path.abspath(path))  # not resolve(): a virtual environment's programs are links out of it
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
