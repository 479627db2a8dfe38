"""Checkpoints of Lightning are read here, and ours there; training goes on as if nothing had been."""

from __future__ import annotations

import copy
import importlib
from argparse import Namespace
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from levin.checkpoint.io import UntrustedCheckpointError

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

NAMES = {"levin": "levin", "lightning": "lightning.pytorch"}
BOTH_WAYS = [("levin", "lightning"), ("lightning", "levin")]


class Mode(Enum):
    FAST = 1


@dataclass
class Config:
    width: int = 2
    where: Path = Path("data")


class Kit:
    """The same program written for one of the two."""

    def __init__(self, framework: str, root: Path):
        L = self.L = importlib.import_module(NAMES[framework])
        callbacks = importlib.import_module(f"{NAMES[framework]}.callbacks")
        self.root = root / framework
        self.saving = lambda: callbacks.ModelCheckpoint(self.root, save_last=True)
        self.stopping = lambda: callbacks.EarlyStopping("loss", patience=30)

        class Model(L.LightningModule):
            def __init__(self, config=None, lr=0.1, loss=None):
                super().__init__()
                self.save_hyperparameters(ignore=["loss"] if framework == "lightning" else [])
                self.layer = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))

            def training_step(self, batch, batch_idx):
                loss = (self.layer(batch[:, None]) - 1).square().mean()
                self.log("loss", loss)
                return loss

            def configure_optimizers(self):
                optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
                scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
                return {"optimizer": optimizer, "lr_scheduler": scheduler}

        self.Model = Model

    def fit(self, model, epochs, ckpt_path=None, **kwargs):
        trainer = self.L.Trainer(
            accelerator="cpu", max_epochs=epochs, callbacks=[self.saving(), self.stopping()], logger=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=self.root,
        )  # fmt: skip
        trainer.fit(model, DataLoader(torch.arange(6.0), batch_size=2), ckpt_path=ckpt_path, **kwargs)
        return trainer

    @property
    def last(self):
        return self.root / "last.ckpt"


@pytest.fixture
def kits(tmp_path):
    return {name: Kit(name, tmp_path) for name in NAMES}


@pytest.mark.parametrize(("writer", "reader"), BOTH_WAYS)
@pytest.mark.parametrize("weights_only", [None, True, False])
def test_training_goes_on_from_the_others_checkpoint(kits, writer, reader, weights_only):
    writer, reader = kits[writer], kits[reader]
    start = writer.Model({"a": (1, None)}, lr=0.5)
    whole = copy.deepcopy(start)
    writer.fit(start, 2)
    model = reader.Model()
    trainer = reader.fit(model, 4, ckpt_path=writer.last, weights_only=weights_only)
    uninterrupted = writer.fit(whole, 4)
    assert trainer.global_step == 12
    for name, weight in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    stopping = trainer.early_stopping_callback.state_dict()
    assert stopping == uninterrupted.early_stopping_callback.state_dict()
    assert stopping["best_score"] < 1


@pytest.mark.parametrize(("writer", "reader"), BOTH_WAYS)
@pytest.mark.parametrize("weights_only", [None, True, False])
def test_plain_hyper_parameters_go_both_ways(kits, writer, reader, weights_only):
    writer, reader = kits[writer], kits[reader]
    config = {"a": [1, (2.5, None)], "b": {"c": torch.float16}}
    writer.fit(writer.Model(config, lr=0.5), 1)
    model = reader.Model.load_from_checkpoint(writer.last, weights_only=weights_only)
    assert (model.hparams.config, model.hparams.lr) == (config, 0.5)


def test_lightning_reads_what_is_plain_of_our_objects(kits):
    ours, theirs = kits["levin"], kits["lightning"]
    config = {"cfg": Config(3), "mode": Mode.FAST, "time": timedelta(1), "ns": Namespace(a=Path("x"))}
    ours.fit(ours.Model(config, loss=nn.MSELoss()), 1)
    model = theirs.Model.load_from_checkpoint(ours.last, weights_only=True)
    assert model.hparams.config == {
        "cfg": {"width": 3, "where": "data"},
        "mode": 1,
        "time": (1, 0, 0),
        "ns": {"a": "x"},
    }
    assert theirs.fit(model, 2, ckpt_path=ours.last, weights_only=True).global_step == 6


def test_objects_in_lightnings_file_are_named_with_the_way_to_trust_it_once(kits):
    ours, theirs = kits["levin"], kits["lightning"]
    theirs.fit(theirs.Model(Config(3)), 1)
    with pytest.raises(UntrustedCheckpointError, match=r"Config.*weights_only=False"):
        ours.Model.load_from_checkpoint(theirs.last)
    with pytest.raises(UntrustedCheckpointError, match=r"Config.*weights_only=False"):
        ours.fit(ours.Model(), 2, ckpt_path=theirs.last)
    model = ours.Model.load_from_checkpoint(theirs.last, weights_only=False)
    assert model.hparams.config == Config(3)
    trainer = ours.fit(ours.Model(Config(3)), 2, ckpt_path=theirs.last, weights_only=False)
    assert trainer.global_step == 6
    assert ours.Model.load_from_checkpoint(ours.last).hparams.config == Config(3)  # from now on it is safe


def test_omegaconf_of_lightning_comes_here_when_it_is_trusted(kits):
    omegaconf = pytest.importorskip("omegaconf")
    ours, theirs = kits["levin"], kits["lightning"]
    config = omegaconf.OmegaConf.create({"a": 1, "b": "${a}"})
    theirs.fit(theirs.Model(config), 1)
    model = ours.Model.load_from_checkpoint(theirs.last, weights_only=False)
    assert model.hparams.config == config
    assert type(model.hparams.config) is type(config)
