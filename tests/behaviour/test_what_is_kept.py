"""What checkpoints of a run hold, and what is said about it before the run."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import levin as L
from levin.callbacks import ModelCheckpoint


class Mode(Enum):
    FAST = 1


@dataclass
class Config:
    width: int = 2
    mode: Mode = Mode.FAST
    where: Path = Path("data")


class Model(L.LightningModule):
    def __init__(self, config=None, loss=None, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[:, None]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Remembering(L.Callback):
    """A callback with a state."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return {"state": self.state} if self.state is not None else {}

    def load_state_dict(self, state_dict):
        self.state = state_dict["state"]


@pytest.fixture
def saving(quiet, tmp_path):
    """``saving(callback, ...)`` makes a Trainer that saves its last checkpoint."""
    return lambda *callbacks, **kwargs: quiet(
        callbacks=[ModelCheckpoint(tmp_path, save_last=True), *callbacks],
        enable_checkpointing=True,
        **{"max_epochs": 1, **kwargs},
    )


def test_a_model_comes_back_with_the_objects_that_it_was_made_with(saving, batches, tmp_path):
    saving().fit(Model(Config(3), loss=nn.MSELoss(reduction="sum"), lr=np.float32(0.5)), batches(2))
    model = Model.load_from_checkpoint(tmp_path / "last.ckpt")
    assert model.hparams.config == Config(3)
    assert model.hparams.loss.reduction == "sum"
    assert type(model.hparams.lr) is np.float32


def test_what_is_left_out_is_told_once_and_before_training(saving, batches):
    class Failing(Model):
        def on_train_start(self):
            raise RuntimeError("training begins")

    with (
        pytest.warns(UserWarning, match=r"leave out `hparams.loss` \(_thread.lock\)") as caught,
        pytest.raises(RuntimeError, match="training begins"),
    ):
        saving().fit(Failing(loss=threading.Lock()), batches(1))
    assert len(caught) == 1


def test_what_is_left_out_is_asked_for_by_name(saving, batches, tmp_path):
    class Needing(Model):
        def __init__(self, loss, lr=0.1):
            super().__init__(loss=loss, lr=lr)

    with pytest.warns(UserWarning, match="leave out"):
        saving().fit(Needing(threading.Lock()), batches(1))
    with pytest.raises(
        TypeError, match=r"needs loss \(it was a _thread.lock.*Needing.load_from_checkpoint\(path, loss=...\)"
    ):
        Needing.load_from_checkpoint(tmp_path / "last.ckpt")
    assert Needing.load_from_checkpoint(tmp_path / "last.ckpt", loss=1).hparams.loss == 1
    with pytest.warns(UserWarning, match="The defaults of Model are used for loss"):
        assert Model.load_from_checkpoint(tmp_path / "last.ckpt").hparams.loss is None


def test_big_hyper_parameters_are_told_once_with_name_and_size(saving, batches):
    model = Model({"images": [np.zeros(3_000_000)], "name": "x"})
    trainer = saving()
    with pytest.warns(UserWarning, match=r"`hparams.config.images.0` \(24 MB\).*ignore=\['config'\]"):
        trainer.fit(model, batches(1))
    trainer.fit(model, batches(1))  # a second warning would be an error


def test_a_run_without_checkpoints_says_nothing(quiet, batches):
    quiet(max_epochs=1).fit(Model(threading.Lock()), batches(1))


@pytest.mark.parametrize("state", [timedelta(1), Mode.FAST, {"deep": (Config(), np.float64(0.1))}], ids=str)
def test_states_come_back_as_they_were(saving, batches, tmp_path, state):
    saving(Remembering(state)).fit(Model(), batches(2))
    callback = Remembering(None)
    saving(callback, max_epochs=2).fit(Model(), batches(2), ckpt_path=tmp_path / "last.ckpt")
    assert callback.state == state
    assert type(callback.state) is type(state)


@pytest.mark.parametrize("where", ["callback", "datamodule", "scheduler", "module"])
def test_states_that_no_checkpoint_can_hold_end_the_fit_before_it_trains(saving, batches, where):
    class Data(L.LightningDataModule):
        def train_dataloader(self):
            return batches(2)

        def state_dict(self):
            return {"a": [open] if where == "datamodule" else 0}

    class Scheduler(torch.optim.lr_scheduler.StepLR):
        def state_dict(self):
            return {"a": [open] if where == "scheduler" else 0}

    class Own(Model):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [Scheduler(optimizer, 1)]

        def get_extra_state(self):
            return [open] if where == "module" else 0

        def set_extra_state(self, state): ...

        def training_step(self, batch, batch_idx):
            raise AssertionError("it trains")

    place = {
        "callback": r"callbacks\.Remembering\.state\.0",
        "datamodule": r".*Data\.a\.0",
        "scheduler": r"lr_schedulers\.0\.a\.0",
        "module": r"state_dict\._extra_state\.0",
    }
    with pytest.raises(TypeError, match=rf"checkpoint\.{place[where]} is a .*Store its import path"):
        saving(Remembering([open] if where == "callback" else 0)).fit(Own(), datamodule=Data())


def test_a_state_that_only_training_gives_is_no_matter(saving, batches):
    class Late(L.Callback):
        def state_dict(self):
            return {"seen": self.seen}

        def on_train_batch_end(self, trainer, *_):
            self.seen = trainer.global_step

    saving(Late()).fit(Model(), batches(1))


READER = """
import sys, torch
checkpoint = torch.load(sys.argv[1], weights_only=True)
assert "numpy" not in str(type(checkpoint["hyper_parameters"]["lr"]))
assert not [name for name in sys.modules if name.startswith("levin")]
"""


def test_a_file_is_read_safely_by_a_process_that_knows_nothing_of_the_program(saving, batches, tmp_path):
    model = Model(Config(), loss=nn.MSELoss(), lr=np.float64(0.1))
    saving(Remembering({Mode.FAST: Path("x")})).fit(model, batches(1))
    subprocess.run([sys.executable, "-c", READER, tmp_path / "last.ckpt"], check=True)


USER = """
import sys, levin
class Model(levin.LightningModule):
    def __init__(self, config=None, loss=None, lr=0.1):
        super().__init__()
        self.layer = __import__("torch").nn.Linear(1, 1)
Model.load_from_checkpoint(sys.argv[1])
"""


def test_a_model_is_used_without_the_classes_that_its_training_knew(saving, batches, tmp_path):
    saving(Remembering({Mode.FAST: Config()})).fit(Model(), batches(1))
    subprocess.run([sys.executable, "-c", USER, tmp_path / "last.ckpt"], check=True)
