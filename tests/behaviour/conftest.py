from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L


@pytest.fixture
def quiet(tmp_path):
    """``quiet(**Trainer's arguments)`` makes a Trainer that neither prints nor writes nor looks ahead."""

    def make(**kwargs):
        settings = {
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
        return L.Trainer(**{**settings, **kwargs})

    return make


class Noting(L.LightningModule):
    """A module of one weight that notes what it is run on.

    In `notes` "train 0.3" is batch 3 of epoch 0, "end 0" that epoch's end. Each step of the optimizer takes 1
    from the weight, so that it counts them (`num_steps`).
    """

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.notes = []

    def note(self, what, *numbers):
        self.notes.append(f"{what} {'.'.join(map(str, numbers))}")

    def training_step(self, batch, batch_idx):
        self.note("train", self.current_epoch, batch_idx)
        return self.weight * 1

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("val", self.current_epoch, batch_idx)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("test", dataloader_idx, batch_idx)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("predict", dataloader_idx, batch_idx)
        return batch

    def on_train_epoch_end(self):
        self.note("end", self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    @property
    def num_steps(self):
        return round(-self.weight.item())

    def noted(self, what):
        """Return the notes of one kind, without its name."""
        return [note.removeprefix(f"{what} ") for note in self.notes if note.startswith(what)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it: ``clock.now += 3``."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@pytest.fixture
def noting():
    """Return a module that notes what it is run on."""
    return Noting()


@pytest.fixture
def batches():
    """``batches(n)`` is a loader of ``n`` batches, each of one row: its number."""
    return lambda count: DataLoader(torch.arange(float(count)))


@pytest.fixture
def stream():
    """``stream(n)`` is a loader of ``n`` batches that does not know how many it has."""

    class Stream(torch.utils.data.IterableDataset):
        def __init__(self, count):
            self.count = count

        def __iter__(self):
            return iter(torch.arange(float(self.count)))

    return lambda count: DataLoader(Stream(count))
