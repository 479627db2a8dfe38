"""A run and its checkpoints: which ones there are, which one it goes on from, and what a damaged one does."""

from __future__ import annotations

import os
import threading

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.checkpoint import AsyncCheckpointIO, TorchCheckpointIO
from levin.checkpoint.index import INDEX_NAME, Index
from levin.checkpoint.io import CorruptCheckpointError, load


class Descending(L.LightningModule):
    """A weight that counts steps down from 0, and is logged as the loss; four steps an epoch."""

    def __init__(self, score=lambda step: -step):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.score, self.epochs = score, []

    def training_step(self, batch, batch_idx):
        return self.weight * 1

    def on_train_epoch_end(self):
        self.epochs.append(self.current_epoch)

    def validation_step(self, batch, batch_idx):
        self.log("score", float(self.score(round(-self.weight.item()))))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture
def fit(tmp_path):
    """``fit(epochs, ckpt_path, callbacks, model=..., ...)`` is a run of a process of its own, so to speak."""

    def run(epochs, ckpt_path=None, *callbacks, model=None, **arguments):
        trainer = L.Trainer(
            default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
            enable_checkpointing=bool(callbacks), enable_model_summary=False, num_sanity_val_steps=0,
            max_epochs=epochs, callbacks=list(callbacks), **arguments,
        )  # fmt: skip
        trainer.model_run = model or Descending()
        loaders = DataLoader(torch.zeros(4, 1)), DataLoader(torch.zeros(1, 1))
        trainer.fit(trainer.model_run, *loaders, ckpt_path=ckpt_path)
        return trainer

    return run


def keeper(folder, **arguments):
    return ModelCheckpoint(folder, **{"filename": "{step}", **arguments})


def files(folder):
    return sorted(set(os.listdir(folder)) - {INDEX_NAME})


def step_of(path):
    checkpoint = load(path)
    assert round(-checkpoint["state_dict"]["weight"].item()) == checkpoint["global_step"]
    return checkpoint["global_step"]


def spoil(path):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 255]))


@pytest.fixture(params=["here", "memory"])
def place(request, tmp_path):
    return str(tmp_path / "c") if request.param == "here" else f"memory://{tmp_path.name}/c"


# ------------------------------------------------------------------------------------------- ckpt_path="auto"


def test_auto_begins_where_there_is_nothing_and_goes_on_where_there_is(fit, place, said):
    first = fit(1, "auto", keeper(place))
    assert "there is no checkpoint yet" in said()
    assert first.model_run.epochs == [0]
    second = fit(3, "auto", keeper(place))
    assert f"ckpt_path='auto' is {place}/step=4.ckpt, the newest of 1" in said()
    assert second.model_run.epochs == [1, 2]


def test_restarts_leave_the_files_that_one_run_would_leave(fit, tmp_path):
    score = {4: 0.5, 8: 0.1, 12: 0.3, 16: 0.2, 20: 0.4}
    for epochs in range(1, 6):
        fit(
            epochs, "auto", keeper(tmp_path / "c", monitor="score", save_top_k=2, save_last=True),
            model=Descending(score.__getitem__),
        )  # fmt: skip
    assert files(tmp_path / "c") == ["last.ckpt", "step=16.ckpt", "step=8.ckpt"]
    assert len({commit.run for commit in Index(tmp_path / "c").present()}) == 1


def test_auto_finds_the_version_of_the_logger_that_it_went_on_in(tmp_path):
    def run(epochs):
        trainer = L.Trainer(
            default_root_dir=tmp_path, max_epochs=epochs, enable_progress_bar=False,
            enable_model_summary=False, logger=L.loggers.CSVLogger(tmp_path), log_every_n_steps=1,
        )  # fmt: skip
        loaders = DataLoader(torch.zeros(4, 1)), DataLoader(torch.zeros(1, 1))
        trainer.fit(Descending(), *loaders, ckpt_path="auto")
        return trainer.lightning_module.epochs

    assert [run(1), run(2)] == [[0], [1]]
    assert files(tmp_path / "lightning_logs") == ["version_0"]
    assert files(tmp_path / "lightning_logs" / "version_0" / "checkpoints") == ["epoch=1-step=8.ckpt"]


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(fit, tmp_path):
    fit(3, None, keeper(tmp_path / "c", save_top_k=-1))
    spoil(tmp_path / "c" / "step=12.ckpt")
    with pytest.warns(UserWarning, match=r"step=8.ckpt is used instead.* .*step=12.ckpt is damaged"):
        again = fit(4, "auto", keeper(tmp_path / "c", save_top_k=-1))
    assert again.model_run.epochs == [2, 3]
    assert files(tmp_path / "c") == [f"step={step}.ckpt" for step in (12, 16, 4, 8)]
    assert step_of(tmp_path / "c" / "step=12.ckpt") == 12


def test_where_all_are_damaged_auto_begins_anew_loudly(fit, tmp_path):
    fit(1, None, keeper(tmp_path / "c"))
    spoil(tmp_path / "c" / "step=4.ckpt")
    with pytest.warns(UserWarning, match="no other one is there: this starts from the beginning"):
        assert fit(1, "auto", keeper(tmp_path / "c")).model_run.epochs == [0]
    assert step_of(tmp_path / "c" / "step=4-v1.ckpt") == 4  # what is damaged is left as it is


def test_auto_passes_over_files_without_what_training_needs(fit, tmp_path):
    fit(1, None, keeper(tmp_path / "c", save_top_k=-1))
    fit(3, "auto", keeper(tmp_path / "c", save_top_k=-1, save_weights_only=True))
    assert fit(3, "auto", keeper(tmp_path / "c", save_top_k=-1)).model_run.epochs == [1, 2]


def test_auto_begins_anew_and_says_so_where_there_are_weights_alone(fit, tmp_path):
    weights = {"save_top_k": -1, "save_last": True, "save_weights_only": True}
    fit(1, None, keeper(tmp_path / "c", **weights))
    with pytest.warns(UserWarning, match="was saved with save_weights_only=True, and training can't go on"):
        assert fit(2, "auto", keeper(tmp_path / "c", **weights)).model_run.epochs == [0, 1]


def test_files_without_an_index_are_gone_on_from_by_their_time(fit, tmp_path):
    fit(2, None, keeper(tmp_path / "c", save_top_k=-1))
    os.remove(tmp_path / "c" / INDEX_NAME)
    os.utime(tmp_path / "c" / "step=4.ckpt", (2e9, 2e9))
    assert fit(2, "auto", keeper(tmp_path / "c")).model_run.epochs == [1]


# --------------------------------------------------------------------------------------- the other words


def test_a_damaged_last_one_is_replaced_by_the_newest_whole_one(fit, tmp_path):
    fit(2, None, keeper(tmp_path / "c", save_top_k=-1, save_last=True))
    spoil(tmp_path / "c" / "last.ckpt")
    with pytest.warns(UserWarning, match=r"ckpt_path='last': .*step=4.ckpt is used instead"):
        assert fit(2, "last", keeper(tmp_path / "c", save_top_k=-1)).model_run.epochs == [1]


def test_a_damaged_file_that_was_named_is_an_error_that_names_another(fit, tmp_path):
    fit(2, None, keeper(tmp_path / "c", save_top_k=-1))
    spoil(tmp_path / "c" / "step=8.ckpt")
    with pytest.raises(CorruptCheckpointError, match=r"step=8.ckpt is damaged.*beside it is .*step=4.ckpt"):
        fit(3, str(tmp_path / "c" / "step=8.ckpt"))


def test_the_best_of_another_process_is_found(fit, place):
    score = {4: 0.5, 8: 0.1, 12: 0.3}
    fit(3, None, keeper(place, monitor="score", save_top_k=2), model=Descending(score.__getitem__))
    model = Descending(score.__getitem__)
    trainer = L.Trainer(callbacks=[keeper(place, monitor="score", save_top_k=2)], logger=False)
    (results,) = trainer.validate(model, DataLoader(torch.zeros(1, 1)), ckpt_path="best", verbose=False)
    assert results["score"] == pytest.approx(0.1)


def test_hpc_is_what_a_requeued_job_left(fit, tmp_path):
    for epochs, number in ((1, 2), (2, 10)):
        fit(epochs).save_checkpoint(tmp_path / f"hpc_ckpt_{number}.ckpt")
    assert fit(3, "hpc").model_run.epochs == [2]
    spoil(tmp_path / "hpc_ckpt_10.ckpt")
    with pytest.warns(UserWarning, match=r"hpc_ckpt_2.ckpt is used instead"):
        assert fit(3, "hpc").model_run.epochs == [1, 2]


def test_hpc_without_such_a_file_is_an_error_that_names_auto(fit):
    with pytest.raises(ValueError, match="pass ckpt_path='auto'"):
        fit(1, "hpc")


# ---------------------------------------------------------------------------------------------- retention


def test_what_a_killed_process_could_not_delete_is_deleted_by_the_next(fit, tmp_path):
    fit(3, None, keeper(tmp_path / "c", save_top_k=-1, save_last=True))
    os.remove(tmp_path / "c" / "last.ckpt")
    os.symlink("step=8.ckpt", tmp_path / "c" / "last.ckpt")
    (tmp_path / "c" / ".step=16.ckpt.00000000-1-1.tmp").touch()
    os.utime(tmp_path / "c" / ".step=16.ckpt.00000000-1-1.tmp", (0, 0))
    fit(3, "auto", keeper(tmp_path / "c", save_last=True))
    assert files(tmp_path / "c") == ["last.ckpt", "step=12.ckpt"]
    assert step_of(tmp_path / "c" / "last.ckpt") == 12


def test_a_run_of_its_own_deletes_nothing_of_another(fit, tmp_path):
    fit(1, None, keeper(tmp_path / "c"))
    with pytest.warns(UserWarning, match="not empty"):
        fit(2, None, keeper(tmp_path / "c"))
    assert files(tmp_path / "c") == ["step=4.ckpt", "step=8.ckpt"]


class Watching(TorchCheckpointIO):
    """Notes how many whole checkpoints there are before and after each save."""

    def __init__(self, folder):
        self.folder, self.counts = folder, []

    def count(self):
        self.counts.append(len([name for name in files(self.folder) if load(self.folder / name)]))

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.count()
        super().save_checkpoint(checkpoint, path, storage_options)
        self.count()


@pytest.mark.parametrize("wrap", [lambda inner: inner, AsyncCheckpointIO], ids=["at once", "meanwhile"])
def test_one_whole_checkpoint_is_there_at_any_time_and_never_more_than_one_too_many(fit, tmp_path, wrap):
    (tmp_path / "c").mkdir()
    watching = Watching(tmp_path / "c")
    fit(6, None, keeper(tmp_path / "c", every_n_train_steps=1), plugins=[wrap(watching)])
    assert watching.counts == [0, 1] + [1, 2] * 23
    assert files(tmp_path / "c") == ["step=24.ckpt"]


class Full(TorchCheckpointIO):
    """The disk is full from the second checkpoint on."""

    num_saves = 0

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.num_saves += 1
        if self.num_saves > 1:
            raise OSError(28, "No space left on device")
        super().save_checkpoint(checkpoint, path, storage_options)


def test_a_save_that_fails_meanwhile_ends_the_run_after_the_batch_at_hand(fit, tmp_path):
    class Patient(Descending):
        def on_train_batch_start(self, batch, batch_idx):
            for thread in threading.enumerate():
                if thread.name == "levin-checkpoint":
                    thread.join()

    model, full = Patient(), Full()
    saving = AsyncCheckpointIO(full)
    with pytest.raises(OSError, match="No space left on device"):
        fit(2, None, keeper(tmp_path / "c", every_n_train_steps=2), model=model, plugins=[saving])
    assert model.trainer.global_step in (4, 5)  # it may fail before the batch that began it has ended
    assert full.num_saves == 2
    assert files(tmp_path / "c") == ["step=2.ckpt"]


def test_what_is_saved_meanwhile_is_what_is_saved_at_once(fit, tmp_path):
    for folder, plugins in (("a", []), ("b", [AsyncCheckpointIO()])):
        fit(2, None, keeper(tmp_path / folder, save_top_k=-1, save_last=True), plugins=plugins)
    assert files(tmp_path / "a") == files(tmp_path / "b") == ["last.ckpt", "step=4.ckpt", "step=8.ckpt"]
    assert [step_of(tmp_path / "b" / name) for name in files(tmp_path / "b")] == [8, 4, 8]
    assert os.readlink(tmp_path / "b" / "last.ckpt") == "step=8.ckpt"


def test_a_last_one_that_leads_nowhere_is_replaced_by_the_newest(fit, tmp_path):
    fit(2, None, keeper(tmp_path / "c", save_top_k=-1, save_last=True))
    os.remove(tmp_path / "c" / "step=8.ckpt")
    with pytest.warns(UserWarning, match=r"last.ckpt leads nowhere. .*step=4.ckpt is used"):
        assert fit(2, "last", keeper(tmp_path / "c", save_top_k=-1)).model_run.epochs == [1]


def test_a_last_one_that_leads_nowhere_beside_nothing_is_told_to_be_none(fit, tmp_path):
    (tmp_path / "c").mkdir()
    os.symlink("step=8.ckpt", tmp_path / "c" / "last.ckpt")
    with pytest.warns(UserWarning, match="there is no last checkpoint yet"):
        assert fit(1, "last", keeper(tmp_path / "c", save_last=True)).model_run.epochs == [0]
    assert step_of(tmp_path / "c" / "last.ckpt") == 4
