"""Counters after each batch, and places of rows, as docs/counters.md has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import levin as L
from levin.loggers import Logger

PAGE = Path(__file__).parents[2] / "docs" / "counters.md"


class Places(Logger):
    """Keeps the places of the rows that it was given, by name."""

    name, version = "places", 0

    def __init__(self):
        super().__init__()
        self.found = {}

    def log_metrics(self, metrics, step=None):
        for name in metrics:
            self.found.setdefault(name, []).append(step)

    def log_hyperparams(self, params, *args, **kwargs): ...


class Counting(L.LightningModule):
    """Notes the counters after each batch; two optimizers step in each batch by hand."""

    def __init__(self, by_hand):
        super().__init__()
        self.one, self.two = (torch.nn.Parameter(torch.zeros(())) for _ in range(2))
        self.automatic_optimization = not by_hand
        self.noted = {"progress.batch": [], "progress.total_batches": [], "global_step": []}

    def training_step(self, batch, batch_idx):
        self.log("loss", 0.0)
        if self.automatic_optimization:
            return self.one * 1
        for optimizer in self.optimizers():
            optimizer.step()
        return None

    def on_train_batch_end(self, *args):
        progress = self.trainer.progress
        for name, value in zip(
            self.noted, (progress.batch, progress.total_batches, self.trainer.global_step), strict=True
        ):
            self.noted[name].append(value)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 0.0)

    def configure_optimizers(self):
        optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in (self.one, self.two)]
        return optimizers[0] if self.automatic_optimization else optimizers


@pytest.fixture
def counted(quiet, batches):
    """``counted(by_hand=False, **Trainer's arguments)``: two epochs of five batches, then `validate`."""

    def counted(by_hand=False, **kwargs):
        model, places = Counting(by_hand), Places()
        trainer = quiet(**{"max_epochs": 2, "logger": places, "log_every_n_steps": 1, **kwargs})
        trainer.fit(model, batches(5), batches(1))
        trainer.validate(model, batches(1), verbose=False)
        return {**model.noted, "x axis": places.found["loss"], "validations": places.found["val_loss"]}

    return counted


@pytest.mark.parametrize(
    ("title", "settings"),
    [
        ("`progress.batch`", {}),
        ("`progress.total_batches`", {}),
        ("`global_step`", {}),
        ("`global_step`, `accumulate_grad_batches=2`", {"accumulate_grad_batches": 2}),
        ("`global_step`, two optimizers by hand", {"by_hand": True}),
        ("x axis, `accumulate_grad_batches=2`", {"accumulate_grad_batches": 2}),
        ("x axis, one or two optimizers", {}),
        ("x axis, one or two optimizers", {"by_hand": True}),
    ],
)
def test_the_page_shows_what_is_counted(counted, title, settings):
    (cells,) = re.findall(rf"^\| {re.escape(title)} \| (.*)\|$", PAGE.read_text(), re.MULTILINE)
    name = title.split(",")[0].strip("`")
    assert counted(**settings)[name] == [int(number) for number in re.findall(r"\d+", cells)]


def test_rows_of_validations_stand_at_the_batch_before_them(counted):
    assert counted()["validations"] == [4, 9, 10]


def test_every_n_rows_begin_with_the_nth_batch(counted):
    assert counted(log_every_n_steps=4)["x axis"] == [3, 7]


def test_a_limit_of_steps_counts_each_optimizers(counted):
    assert counted(by_hand=True, max_steps=10, max_epochs=-1)["progress.total_batches"] == [1, 2, 3, 4, 5]
