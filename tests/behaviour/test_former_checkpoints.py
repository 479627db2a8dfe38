"""Real checkpoints of PyTorch Lightning 1.x: `tests/data/former/write_old_checkpoints.py` wrote them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint
from levin.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore:.*states of callbacks")  # runs here have fewer

FOLDER = Path(__file__).parents[1] / "data" / "former"
FILES = sorted(path.stem for path in FOLDER.glob("*.ckpt"))
COUNTED = [name for name in FILES if name >= "1.6"]
AT_THE_END = [name for name in FILES if name.endswith(("end", "manual"))]


class Automatic(L.LightningModule):
    def __init__(self, width=2, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(4, width)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)
        self.seen = []

    def loss(self, batch):
        return (self.layer(batch) - 1).square().mean()

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx))
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        return self.layer(batch)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)
        return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]


class Manual(Automatic):
    def __init__(self, width=2, lr=0.1):
        super().__init__(width, lr)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx))
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD([each], self.hparams.lr, momentum=0.9) for each in self.layer.parameters()]


def model_of(name):
    return Manual() if "manual" in name else Automatic()


def data():
    return DataLoader(torch.arange(24.0).reshape(6, 4) / 10, batch_size=2)


def trainer(*callbacks):
    return L.Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
        enable_model_summary=False, callbacks=list(callbacks), enable_checkpointing=bool(callbacks),
    )  # fmt: skip


def fit(name, ckpt_path=None):
    """The model and trainer after four epochs, gone on with from the file ``name`` or another one."""
    model, running = model_of(name), trainer()
    running.fit(model, data(), data(), ckpt_path=ckpt_path or FOLDER / f"{name}.ckpt")
    return model, running


@pytest.fixture(scope="module")
def whole():
    """``whole(name)`` is the model of a run that was never interrupted."""
    models = {}
    for kind in (Automatic, Manual):
        models[kind] = kind()
        trainer().fit(models[kind], data(), data())
    return lambda name: models[Manual if "manual" in name else Automatic]


# the learning rate of 1.0 is moved after its checkpoint is written, which does not know that
@pytest.mark.parametrize("name", sorted({*COUNTED, *AT_THE_END} - {"1.0.8-end"}))
def test_training_goes_on_as_if_it_had_never_been_interrupted(name, whole):
    model, running = fit(name)
    for ours, expected in zip(model.parameters(), whole(name).parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert model.seen == [
        *([] if name in AT_THE_END else [(1, 2)]),
        *((e, b) for e in (2, 3) for b in range(3)),
    ]
    assert running.current_epoch == 4


@pytest.mark.parametrize("name", sorted(set(FILES) - set(COUNTED) - set(AT_THE_END)))
def test_before_1_6_the_rest_of_an_epoch_is_left_out(name, said):
    model, running = fit(name)
    assert model.seen == [(e, b) for e in (2, 3) for b in range(3)]
    assert running.progress.batches_that_stepped == 5 + 6
    assert "training goes on with the first one of epoch 2" in said()


@pytest.mark.filterwarnings("ignore:.*now saves to")
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("end")])
def test_callbacks_go_on(name, tmp_path, monkeypatch):
    seen = {}
    stopping, saving = EarlyStopping("val_loss", patience=5), ModelCheckpoint(tmp_path, monitor="val_loss")
    model = Automatic()
    model.on_train_start = lambda: seen.update(score=stopping.best_score.item(), path=saving.best_model_path)
    trainer(stopping, saving).fit(model, data(), data(), ckpt_path=FOLDER / f"{name}.ckpt")
    # 1.0 writes before EarlyStopping has heard of the epoch
    assert seen["score"] == pytest.approx(3.6685 if name.startswith("1.0") else 0.5721, abs=1e-4)
    assert seen["path"] == "memory://runs/end/epoch=1.ckpt"


@pytest.mark.parametrize("name", FILES)
def test_the_model_alone_is_loaded(name):
    model = type(model_of(name)).load_from_checkpoint(FOLDER / f"{name}.ckpt")
    assert dict(model.hparams) == {"width": 2, "lr": 0.1}
    assert not torch.equal(model.layer.weight, torch.full((2, 4), 0.5))


@pytest.mark.parametrize("name", ["1.0.8-end", "1.5.10-mid", "1.9.5-end"])
def test_evaluation_takes_the_weights(name):
    path = FOLDER / f"{name}.ckpt"
    loaded, running = Automatic.load_from_checkpoint(path), trainer()
    for run in (running.validate, running.test):
        [ours], [expected] = run(Automatic(), data(), ckpt_path=path), run(loaded, data())
        assert ours == expected
    ours, expected = running.predict(Automatic(), data(), ckpt_path=path), running.predict(loaded, data())
    assert all(map(torch.equal, ours, expected))


def test_optimizers_of_an_older_torch_go_on(tmp_path, whole):
    content = torch.load(FOLDER / "1.9.5-end.ckpt")
    [optimizer] = content["optimizer_states"]
    new = ("maximize", "foreach", "differentiable", "fused", "decoupled_weight_decay")
    optimizer["param_groups"] = [
        {key: value for key, value in group.items() if key not in new} for group in optimizer["param_groups"]
    ]
    del content["lr_schedulers"][0]["_is_initial"]
    torch.save(content, tmp_path / "old.ckpt")
    model, _ = fit("1.9.5-end", ckpt_path=tmp_path / "old.ckpt")
    torch.testing.assert_close(model.layer.weight, whole("1.9.5-end").layer.weight)


@pytest.mark.parametrize("name", ["1.0.8-mid", "1.4.9-manual", "1.9.5-mid"])
def test_the_command_writes_a_file_that_is_as_good(name, tmp_path, said, capsys):
    target = tmp_path / "new.ckpt"
    assert main(["ckpt", "upgrade", str(FOLDER / f"{name}.ckpt"), str(target)]) == 0
    assert f"from version {name.partition('-')[0]}" in capsys.readouterr().out
    torch.load(target, weights_only=True)
    model, _ = fit(name, ckpt_path=target)
    assert "was written by" not in said()
    expected, _ = fit(name)
    assert torch.equal(model.layer.weight, expected.layer.weight)


def test_the_command_neither_overwrites_nor_converts_what_needs_it_not(tmp_path, capsys):
    old, new = FOLDER / "1.9.5-end.ckpt", tmp_path / "new.ckpt"
    assert main(["ckpt", "upgrade", str(old), str(old)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    main(["ckpt", "upgrade", str(old), str(new)])
    assert main(["ckpt", "upgrade", str(new), str(tmp_path / "other.ckpt")]) == 2
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "words", "status", "said"),
    [
        (Namespace(a=1), [], 2, "argparse.Namespace"),
        (Namespace(a=1), ["--trust"], 0, ""),
        (nn.Linear(1, 1), ["--trust"], 2, "hyper_parameters.config is a torch.nn.modules.linear.Linear"),
    ],
    ids=["not trusted", "trusted", "nothing that can be stored"],
)
def test_the_command_builds_objects_when_it_is_told_to(value, words, status, said, tmp_path, capsys):
    content = torch.load(FOLDER / "1.9.5-end.ckpt")
    content["hyper_parameters"]["config"] = value
    torch.save(content, tmp_path / "old.ckpt")
    assert main(["ckpt", "upgrade", str(tmp_path / "old.ckpt"), str(tmp_path / "new.ckpt"), *words]) == status
    assert said in capsys.readouterr().err
    assert (tmp_path / "new.ckpt").exists() == (status == 0)
