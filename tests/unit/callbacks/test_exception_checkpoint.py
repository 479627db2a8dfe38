from __future__ import annotations

import os

import pytest

from levin.callbacks import Callback, Checkpoint, OnExceptionCheckpoint
from levin.checkpoint.io import load


class Raising(Callback):
    def __init__(self, error):
        self.error = error

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            raise self.error


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_an_exception_leaves_a_checkpoint_and_a_good_end_takes_it_away(fit, tmp_path, error):
    saving = OnExceptionCheckpoint(tmp_path / "c")
    fit([saving, Raising(error)], raises=type(error))
    assert os.listdir(tmp_path / "c") == ["on_exception.ckpt"]
    assert load(saving.ckpt_path)["global_step"] == 3

    trainer = fit(OnExceptionCheckpoint(tmp_path / "c"), max_epochs=1)
    assert trainer.global_step == 4
    assert os.listdir(tmp_path / "c") == []


def test_a_run_goes_on_from_the_exception_by_itself(fit, tmp_path):
    fit([OnExceptionCheckpoint(tmp_path / "c"), Raising(ValueError())], raises=ValueError)
    trainer = fit(OnExceptionCheckpoint(tmp_path / "c"), max_epochs=1)
    assert trainer.ckpt_path == str(tmp_path / "c" / "on_exception.ckpt")


def test_a_run_that_ends_well_leaves_nothing(fit, tmp_path):
    fit(OnExceptionCheckpoint(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def test_a_place_that_can_not_be_written_to_is_told_when_the_run_begins(fit, tmp_path):
    (tmp_path / "file").touch()
    saving = OnExceptionCheckpoint(tmp_path / "file" / "c")
    with pytest.warns(UserWarning, match="While tidying up after NotADirectoryError"):
        trainer = fit(saving, raises=NotADirectoryError)
    assert trainer.global_step == 0


def test_it_stands_in_for_the_default_checkpoint(fit, tmp_path):
    trainer = fit(OnExceptionCheckpoint(tmp_path / "c"))
    assert [type(each) for each in trainer.checkpoint_callbacks] == [OnExceptionCheckpoint]
    assert issubclass(OnExceptionCheckpoint, Checkpoint)


def test_an_own_name_is_taken(tmp_path):
    saving = OnExceptionCheckpoint(tmp_path, "mine")
    saving.FILE_EXTENSION = ".pt"
    assert saving.ckpt_path == str(tmp_path / "mine.pt")
    assert OnExceptionCheckpoint("memory://x").ckpt_path == "memory://x/on_exception.ckpt"


def test_an_empty_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no name"):
        OnExceptionCheckpoint(tmp_path, "")
