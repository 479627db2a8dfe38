"""From a checkpoint of PyTorch Lightning 1.x, Lightning and levin come to the same bits."""

from __future__ import annotations

import importlib
from pathlib import Path

import fsspec
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from levin.checkpoint.former import brought_up_to_date
from levin.checkpoint.io import load

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

NAMES = {"levin": "levin", "lightning": "lightning.pytorch"}
FOLDER = Path(__file__).parents[1] / "data" / "former"
FILES = sorted(path.stem for path in FOLDER.glob("*.ckpt"))
EPOCHS = 2  # of each file


def tells_loops(name):
    return name >= "1.6"


def fit(framework, name, root, max_epochs, ckpt_path=None):
    """Fit in one of the two, with the model and callbacks of the file ``name``; what there is at the end."""
    L = importlib.import_module(NAMES[framework])
    callbacks = importlib.import_module(f"{NAMES[framework]}.callbacks")
    is_manual, is_monitored = "manual" in name, name.endswith("end")

    class Model(L.LightningModule):
        def __init__(self, width=2, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.automatic_optimization = not is_manual
            self.layer = nn.Linear(4, width)
            nn.init.constant_(self.layer.weight, 0.5)
            nn.init.zeros_(self.layer.bias)

        def loss(self, batch):
            return (self.layer(batch) - 1).square().mean()

        def training_step(self, batch, batch_idx):
            if not is_manual:
                return self.loss(batch)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()
            return None

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self):
            if is_manual:
                return [torch.optim.SGD([each], 0.1, momentum=0.9) for each in self.layer.parameters()]
            optimizer = torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)
            return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]

    data = DataLoader(torch.arange(24.0).reshape(6, 4) / 10, batch_size=2)
    monitoring = [
        callbacks.EarlyStopping("val_loss", patience=5),
        callbacks.ModelCheckpoint("memory://runs/end", monitor="val_loss", filename="{epoch}"),
    ]
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=max_epochs, logger=False, enable_progress_bar=False,
        num_sanity_val_steps=0, enable_model_summary=False, callbacks=monitoring if is_monitored else [],
        enable_checkpointing=is_monitored, default_root_dir=root,
    )  # fmt: skip
    model = Model()
    fsspec.filesystem("memory").store.clear()  # where the files say that they are from
    trainer.fit(model, data, data, ckpt_path=ckpt_path, weights_only=False if ckpt_path else None)
    found = {
        "weights": {key: value.tolist() for key, value in model.state_dict().items()},
        "optimizers": [
            torch.utils._pytree.tree_map(_plain, each.state_dict()) for each in trainer.optimizers
        ],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
    }
    if is_monitored:
        stopping, saving = monitoring
        found["wait"], found["kept"] = stopping.wait_count, len(saving.best_k_models)
        # an epoch's mean is a sum in float64 here
        found["scores"] = pytest.approx(
            [stopping.best_score.item(), saving.best_model_score.item()], rel=1e-6
        )
    return found


def _plain(value):
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("name", FILES)
def test_both_go_on_to_the_same_bits(name, tmp_path):
    path = FOLDER / f"{name}.ckpt"
    ours = fit("levin", name, tmp_path, EPOCHS + 2, path)
    if not tells_loops(name):  # Lightning begins to count epochs again: two more are its first two
        theirs = {**fit("lightning", name, tmp_path, 2, path), "epoch": EPOCHS + 2}
    elif name.endswith("mid"):  # Lightning feeds the batches from the first one on; what is right is this
        theirs = fit("lightning", name, tmp_path, EPOCHS + 2)
    else:
        theirs = fit("lightning", name, tmp_path, EPOCHS + 2, path)
    if "scores" in theirs:
        theirs["scores"] = theirs["scores"].expected
    assert ours == theirs


@pytest.mark.parametrize("name", FILES)
def test_what_both_bring_up_to_date_is_the_same(name):
    migration = importlib.import_module("lightning.pytorch.utilities.migration")
    ours, theirs = brought_up_to_date(load(FOLDER / f"{name}.ckpt")), load(FOLDER / f"{name}.ckpt")
    theirs, _ = migration.migrate_checkpoint(theirs)
    assert ours.keys() == theirs.keys()
    assert ours["pytorch-lightning_version"] == theirs["pytorch-lightning_version"]
    if not tells_loops(name):
        return
    assert list(ours["callbacks"]) == list(theirs["callbacks"])
    for loop, state in theirs["loops"].items():
        known = {key: value for key, value in state.items() if "val_loop" not in key}
        assert {key: value for key, value in ours["loops"][loop].items() if "val_loop" not in key} == known


@pytest.mark.parametrize("name", ["1.5.10-end", "1.8.6-end", "1.9.5-manual_mid"])
def test_lightning_goes_on_from_what_was_upgraded(name, tmp_path):
    target = tmp_path / "new.ckpt"
    assert importlib.import_module("levin.cli.main").main(
        ["ckpt", "upgrade", str(FOLDER / f"{name}.ckpt"), str(target)]
    ) == 0  # fmt: skip
    theirs = fit("lightning", name, tmp_path, EPOCHS + 2, target)
    assert (theirs["epoch"], theirs["step"]) == (4, 24 if "manual" in name else 12)
