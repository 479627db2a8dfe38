"""A fit that goes on from a checkpoint of an epoch's end is the fit that was never interrupted."""

from __future__ import annotations

import copy
import csv
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint
from levin.checkpoint.io import CorruptCheckpointError
from levin.loggers import CSVLogger
from levin.testing import BoringModel

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
ADAM = partial(torch.optim.AdamW, lr=0.01)


class Regressor(L.LightningModule):
    def __init__(self, make_optimizer=SGD, decay=0.5, interval="epoch"):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.make_optimizer, self.decay, self.interval = make_optimizer, decay, interval

    def training_step(self, batch):
        loss = mse_loss(self.net(batch[0]), batch[1])
        self.log("train", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch):
        self.log("val", mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=self.decay)
        config = {"scheduler": scheduler, "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": config}


def pairs(seed=0):
    x = torch.randn(14, 4, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True).sin()), batch_size=2)


def rows_of(logger):
    """The rows that a CSVLogger wrote."""
    with open(logger.experiment.metrics_file_path) as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def leaves(value, path=""):
    """All that nested dicts and lists hold, under the way to it; tensors as lists."""
    if isinstance(value, (dict, list, tuple)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {way: leaf for key, part in parts for way, leaf in leaves(part, f"{path}/{key}").items()}
    return {path: value.tolist() if isinstance(value, torch.Tensor) else value}


@pytest.fixture
def fit(quiet, tmp_path):
    """``fit(model, folder, epochs, ckpt_path=None)`` trains with a checkpoint and a row of each epoch."""

    def run(model, folder, epochs, ckpt_path=None, callbacks=(), **kwargs):
        saving = ModelCheckpoint(tmp_path / folder / "saved", save_top_k=-1, filename="{epoch}")
        trainer = quiet(
            max_epochs=epochs, callbacks=[*callbacks, saving], enable_checkpointing=True,
            logger=CSVLogger(tmp_path / folder), log_every_n_steps=1, **kwargs,
        )  # fmt: skip
        trainer.fit(model, pairs(), pairs(1), ckpt_path=ckpt_path)
        return trainer

    return run


# ---------------------------------------------------------------------- no interruption is to be seen


@pytest.mark.parametrize("make_optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3}], ids=["", "accumulating"])
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_two_epochs_and_two_more_are_four(fit, tmp_path, make_optimizer, settings, interval):
    start = Regressor(make_optimizer, interval=interval)
    models = [copy.deepcopy(start) for _ in range(3)]
    whole = fit(models[0], "whole", 4, **settings)
    first = fit(models[1], "parts", 2, **settings)
    saved = tmp_path / "parts" / "saved" / "epoch=1.ckpt"
    second = fit(models[2], "parts", 4, ckpt_path=saved, **settings)
    read = [torch.load(tmp_path / folder / "saved" / "epoch=3.ckpt") for folder in ("whole", "parts")]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"):
        assert leaves(read[1][part]) == leaves(read[0][part]), part
    assert (second.current_epoch, second.global_step) == (whole.current_epoch, whole.global_step)
    assert rows_of(first.logger) + rows_of(second.logger) == rows_of(whole.logger)


def test_what_is_resumed_differs_from_what_is_not(fit, tmp_path):
    """The comparison above can tell a difference: momentum that is lost leads elsewhere."""
    start = Regressor()
    whole, cut = copy.deepcopy(start), copy.deepcopy(start)
    fit(whole, "whole", 2)
    fit(cut, "parts", 1)
    again = copy.deepcopy(cut)
    fit(again, "again", 1)
    assert not torch.equal(whole.net[0].weight, again.net[0].weight)


def test_manual_optimization_goes_on_as_well(fit, tmp_path):
    class Manual(Regressor):
        automatic_optimization = False

        def training_step(self, batch):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch))
            optimizer.step()
            if self.trainer.is_last_batch:
                self.lr_schedulers().step()

        def configure_optimizers(self):
            optimizer = self.make_optimizer(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]

    start = Manual(ADAM)
    whole, cut, again = (copy.deepcopy(start) for _ in range(3))
    fit(whole, "whole", 4)
    fit(cut, "parts", 2)
    trainer = fit(again, "parts", 4, ckpt_path=tmp_path / "parts" / "saved" / "epoch=1.ckpt")
    assert leaves(again.state_dict()) == leaves(whole.state_dict())
    assert trainer.global_step == 28
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01 / 16


def test_a_resumed_fit_runs_the_hooks_of_a_new_one(quiet, noting, batches, tmp_path):
    trainer = quiet(max_epochs=1, limit_val_batches=1)
    trainer.fit(noting, batches(2), batches(1))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    noting.notes.clear()
    noting.on_train_start = lambda: noting.note("start", noting.current_epoch, noting.global_step)
    noting.on_train_epoch_start = lambda: noting.note("epoch", noting.current_epoch)
    again = quiet(max_epochs=2, limit_val_batches=1, num_sanity_val_steps=1)
    again.fit(noting, batches(2), batches(1), ckpt_path=tmp_path / "one.ckpt")
    assert noting.notes == [
        "val 1.0", "start 1.2", "epoch 1", "train 1.0", "train 1.1", "val 1.0", "end 1",
    ]  # fmt: skip


def test_a_finished_fit_that_is_resumed_trains_nothing(quiet, noting, batches, tmp_path, said):
    trainer = quiet(max_epochs=1, limit_val_batches=0)
    trainer.fit(noting, batches(2))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = quiet(max_epochs=1, limit_val_batches=0)
    again.fit(noting, batches(2), ckpt_path=tmp_path / "one.ckpt")
    assert (len(noting.noted("train")), again.global_step, again.state.status) == (2, 2, "finished")
    assert f"Restoring states from the checkpoint path at {tmp_path / 'one.ckpt'}" in said()


class SavesIn(L.Callback):
    """Saves in a hook of epoch 1, when the other callbacks have had their turn."""

    order, monitors = 100, True  # as checkpoints are

    def __init__(self, hook, path):
        vars(self)[hook] = lambda trainer, *_: trainer.current_epoch == 1 and trainer.save_checkpoint(path)


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_validation_end", "on_train_epoch_end"])
def test_it_goes_on_from_any_end_and_from_any_start_of_an_epoch(fit, tmp_path, hook):
    class Plateau(Regressor):
        def configure_optimizers(self):
            optimizer = self.make_optimizer(self.parameters())
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
            return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val"}

    def stopping():
        return EarlyStopping("val", patience=9)

    start, path = Plateau(), tmp_path / "x.ckpt"
    whole, again = copy.deepcopy(start), copy.deepcopy(start)
    fit(whole, "whole", 3, callbacks=[stopping(), SavesIn(hook, path)])
    trainer = fit(again, "whole", 3, callbacks=[stopping()], ckpt_path=path)
    assert leaves(again.state_dict()) == leaves(whole.state_dict())
    assert (trainer.current_epoch, trainer.global_step) == (3, 21)
    assert trainer.early_stopping_callback.wait_count == whole.trainer.early_stopping_callback.wait_count


def test_the_validation_after_a_batch_is_not_left_out_where_lightning_saved_before_it(fit, tmp_path):
    start, path = Regressor(), tmp_path / "x.ckpt"
    whole, again = copy.deepcopy(start), copy.deepcopy(start)
    stopping = [EarlyStopping("val", patience=9) for _ in range(2)]
    fit(whole, "whole", 3, callbacks=[stopping[0], SavesIn("on_train_batch_end", path)])
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["levin"], checkpoint["loops"]["fit_loop"]["state_dict"]["levin"]  # it writes neither
    torch.save(checkpoint, path)
    fit(again, "whole", 3, callbacks=[stopping[1]], ckpt_path=path)
    assert leaves(again.state_dict()) == leaves(whole.state_dict())
    assert stopping[1].state_dict() == stopping[0].state_dict()


# ---------------------------------------------------------------------- which checkpoint


@pytest.mark.parametrize("path", ["last", "best"])
def test_last_and_best_are_found_by_the_same_trainer(quiet, noting, batches, tmp_path, path):
    noting.validation_step = lambda batch: noting.log("steps", float(noting.global_step))
    saving = ModelCheckpoint(tmp_path, monitor="steps", mode="min", save_last=True, save_top_k=-1)
    trainer = quiet(max_epochs=2, callbacks=saving, enable_checkpointing=True)
    trainer.fit(noting, batches(2), batches(1))
    noting.notes.clear()
    trainer.max_epochs = 3
    trainer.fit(noting, batches(2), batches(1), ckpt_path=path)
    begun = {"last": "2.0", "best": "1.0"}[path]
    assert noting.noted("train")[0] == begun
    assert trainer.global_step == 6


def test_last_is_found_by_a_new_trainer_in_the_default_folder(quiet, noting, batches):
    for epochs in (1, 2):
        saving = ModelCheckpoint(save_last=True)
        trainer = quiet(max_epochs=epochs, callbacks=saving, enable_checkpointing=True, limit_val_batches=0)
        if epochs == 1:
            trainer.fit(noting, batches(2))
        else:
            trainer.fit(noting, batches(2), ckpt_path="last")
    assert noting.noted("train") == ["0.0", "0.1", "1.0", "1.1"]


def test_a_folder_in_place_of_a_file_is_told_with_what_is_in_it(quiet, noting, batches, tmp_path):
    saving = ModelCheckpoint(tmp_path / "kept", filename="one")
    quiet(limit_val_batches=0, max_epochs=1, callbacks=saving, enable_checkpointing=True).fit(
        noting, batches(2)
    )
    with pytest.raises(CorruptCheckpointError, match=r"is a folder, .* Name one of those in it: one\.ckpt"):
        quiet(limit_val_batches=0, max_epochs=2).fit(noting, batches(2), ckpt_path=tmp_path / "kept")


def test_groups_that_a_hook_added_are_asked_for_before_their_state_is_taken_back(
    quiet, noting, batches, tmp_path
):
    class Thaws(L.Callback):
        def on_train_start(self, trainer, module):
            trainer.optimizers[0].add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})

    class Again(Thaws):
        on_fit_start = Thaws.on_train_start
        on_train_start = L.Callback.on_train_start

    trainer = quiet(limit_val_batches=0, max_epochs=1, callbacks=Thaws())
    trainer.fit(noting, batches(2))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"SGD \(optimizer 0\) for groups of \[1, 1\] .* groups of \[1\]\."):
        quiet(limit_val_batches=0, max_epochs=2).fit(noting, batches(2), ckpt_path=tmp_path / "x.ckpt")
    again = quiet(limit_val_batches=0, max_epochs=2, callbacks=Again())
    again.fit(noting, batches(2), ckpt_path=tmp_path / "x.ckpt")
    assert again.global_step == 4


# ---------------------------------------------------------------------- what a file holds


@pytest.fixture
def files(quiet, tmp_path):
    """What a full and a weights-only checkpoint of a fit hold."""

    class Saving(BoringModel):
        def __init__(self, size=3, name="n"):
            super().__init__()
            self.save_hyperparameters()

        def on_save_checkpoint(self, checkpoint):
            checkpoint["mine"] = {"x": 1}

    trainer = quiet(
        max_epochs=1, limit_train_batches=2, limit_val_batches=1, callbacks=EarlyStopping("x", strict=False)
    )
    with pytest.warns(RuntimeWarning, match="EarlyStopping"):
        trainer.fit(Saving())
    for name, weights_only in (("full", False), ("weights", True)):
        trainer.save_checkpoint(tmp_path / name, weights_only=weights_only)
    return [torch.load(tmp_path / name, weights_only=True) for name in ("full", "weights")]


WEIGHTS_KEYS = {
    "epoch", "global_step", "pytorch-lightning_version", "levin_version", "state_dict", "loops",
    "hparams_name", "hyper_parameters", "mine", "levin",
}  # fmt: skip


def test_a_file_has_the_known_keys(files):
    full, weights = files
    assert set(weights) == WEIGHTS_KEYS
    assert set(full) == WEIGHTS_KEYS | {"callbacks", "optimizer_states", "lr_schedulers"}
    assert (full["epoch"], full["global_step"], full["mine"]) == (1, 2, {"x": 1})
    assert full["pytorch-lightning_version"].startswith("2.")
    assert full["hyper_parameters"] == {"size": 3, "name": "n"}
    assert set(full["state_dict"]) == {"layer.weight", "layer.bias"}
    assert [type(state) for state in full["optimizer_states"] + full["lr_schedulers"]] == [dict, dict]
    assert list(full["callbacks"]) == ["EarlyStopping{'monitor': 'x', 'mode': 'min'}"]


def test_the_counters_are_there_in_their_known_form(files):
    loops = files[0]["loops"]
    assert set(loops) == {"fit_loop", "validate_loop", "test_loop", "predict_loop"}
    fit_loop = loops["fit_loop"]
    both = {"ready": 2, "completed": 2, "started": 2, "processed": 2}
    assert fit_loop["epoch_loop.batch_progress"] == {"total": both, "current": both, "is_last_batch": True}
    assert fit_loop["epoch_progress"]["current"] == dict.fromkeys(both, 1)
    assert fit_loop["epoch_loop.state_dict"] == {"_batches_that_stepped": 2}
    steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    assert steps["total"] == {"ready": 2, "completed": 2}


def test_state_of_callbacks_and_datamodule_comes_back(quiet, noting, batches, tmp_path):
    class Remembering(L.LightningDataModule):
        seen = 0

        def train_dataloader(self):
            return batches(2)

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state_dict):
            self.seen = state_dict["seen"]

    noting.validation_step = lambda batch: noting.log("loss", 1.0)
    noting.val_dataloader = lambda: batches(1)
    Remembering.val_dataloader = lambda self: batches(1)

    def callbacks():
        return [
            EarlyStopping("loss", patience=5),
            ModelCheckpoint(tmp_path / "c", monitor="loss", save_last=True),
        ]

    first, data = callbacks(), Remembering()
    data.seen = 7
    trainer = quiet(max_epochs=3, callbacks=first, enable_checkpointing=True)
    trainer.fit(noting, data)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    second, data = callbacks(), Remembering()
    quiet(max_epochs=3, callbacks=second, enable_checkpointing=True).fit(
        noting, data, ckpt_path=tmp_path / "x.ckpt"
    )
    assert second[0].state_dict() == first[0].state_dict()
    assert second[0].wait_count == 2
    assert second[1].best_model_path == first[1].best_model_path != ""
    assert second[1].best_k_models == first[1].best_k_models != {}
    assert data.seen == 7


def test_early_stopping_goes_on_counting(quiet, noting, batches, tmp_path):
    noting.validation_step = lambda batch: noting.log("loss", 1.0)
    trainer = quiet(max_epochs=2, callbacks=EarlyStopping("loss", patience=3))
    trainer.fit(noting, batches(1), batches(1))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = quiet(max_epochs=9, callbacks=EarlyStopping("loss", patience=3))
    again.fit(noting, batches(1), batches(1), ckpt_path=tmp_path / "x.ckpt")
    assert again.current_epoch == 4


def test_early_stopping_does_not_judge_an_epoch_that_is_cut_off(quiet, noting, batches, tmp_path):
    noting.validation_step = lambda batch: noting.log("loss", 1.0)
    path = None
    for steps in (1, 4, 5, 9):
        stopping = EarlyStopping("loss", patience=9)
        trainer = quiet(max_steps=steps, callbacks=stopping)
        trainer.fit(noting, batches(3), batches(1), ckpt_path=path)
        path = tmp_path / f"{steps}.ckpt"
        trainer.save_checkpoint(path)
    assert stopping.wait_count == 2


def test_states_of_callbacks_that_are_gone_are_told(quiet, noting, batches, tmp_path):
    noting.validation_step = lambda batch: noting.log("loss", 1.0)
    trainer = quiet(max_epochs=1, callbacks=EarlyStopping("loss"))
    trainer.fit(noting, batches(1), batches(1))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.warns(UserWarning, match=r"callbacks that this Trainer does not have: .*EarlyStopping"):
        quiet(max_epochs=2).fit(noting, batches(1), batches(1), ckpt_path=tmp_path / "x.ckpt")


def test_hyperparameters_make_the_same_module_again(quiet, tmp_path):
    class Sized(L.LightningModule):
        def __init__(self, size, width=2):
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(size, width)

        def training_step(self, batch):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return SGD(self.parameters())

    model, trainer = Sized(3), quiet(max_epochs=1)
    trainer.fit(model, DataLoader(torch.randn(2, 3)))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    loaded = Sized.load_from_checkpoint(tmp_path / "x.ckpt")
    assert loaded.hparams == {"size": 3, "width": 2}
    assert leaves(loaded.state_dict()) == leaves(model.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        Sized.load_from_checkpoint(tmp_path / "x.ckpt", width=5)


def test_a_user_may_leave_out_weights_on_purpose(quiet, tmp_path):
    class Partial(BoringModel):
        strict_loading = False

        def on_save_checkpoint(self, checkpoint):
            del checkpoint["state_dict"]["layer.bias"]

    model, trainer = Partial(), quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = Partial()
    bias = other.layer.bias.detach().clone()
    quiet().test(other, ckpt_path=tmp_path / "x.ckpt", verbose=False)
    assert torch.equal(other.layer.weight, model.layer.weight)
    assert torch.equal(other.layer.bias, bias)


def test_what_loads_with_code_of_its_own_is_refused_when_it_is_saved(quiet, tmp_path):
    class Odd(BoringModel):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["mine"] = {"made": object()}

    trainer = quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(Odd())
    with pytest.raises(TypeError, match=r"checkpoint.mine.made is a object"):
        trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("places", [("here", "memory"), ("memory", "here")])
def test_the_newest_of_several_last_checkpoints_is_taken_wherever_they_are(
    quiet, noting, batches, tmp_path, places
):
    def fit(epochs, **kwargs):
        folders = {"here": str(tmp_path / "here"), "memory": f"memory://{tmp_path.name}"}
        saving = [
            ModelCheckpoint(folders[place], save_last=True, every_n_epochs=i + 1)
            for i, place in enumerate(places)
        ]
        trainer = quiet(max_epochs=epochs, callbacks=saving, enable_checkpointing=True, limit_val_batches=0)
        trainer.fit(noting, batches(1), **kwargs)

    fit(3)  # the first place has a checkpoint of epoch 2, the second of epoch 1
    noting.notes.clear()
    fit(4, ckpt_path="last")
    assert noting.noted("train") == ["3.0"]
