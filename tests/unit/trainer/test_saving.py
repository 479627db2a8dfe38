from __future__ import annotations

import os

import pytest

import levin as L
from levin.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from levin.testing import BoringModel
from levin.trainer.choosing import choose
from levin.trainer.saving import dump
from levin.trainer.states import TrainerFn


@pytest.fixture
def with_callbacks(tmp_path):
    """``with_callbacks(*callbacks, **arguments)`` makes a Trainer that has them."""

    def make(*callbacks, **kwargs):
        return L.Trainer(
            accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=list(callbacks), **kwargs,
        )  # fmt: skip

    return make


def resolved(path, trainer, fn=TrainerFn.FITTING, model_given=True):
    chosen = choose(path, fn=fn, model_given=model_given, trainer=trainer)
    return chosen.paths[0] if chosen.paths else None


def touch(path, time=None):
    path.parent.mkdir(exist_ok=True)
    path.touch()
    if time is not None:
        os.utime(path, (time, time))
    return str(path)


def test_no_path_is_a_fresh_fit_and_the_weights_as_they_are(with_callbacks):
    assert resolved(None, with_callbacks()) is None
    assert resolved(None, with_callbacks(), TrainerFn.TESTING) is None


def test_no_path_and_no_model_is_the_best_of_the_first_checkpoint_callback(with_callbacks):
    first, second = ModelCheckpoint(), ModelCheckpoint(monitor="x")
    first.best_model_path, second.best_model_path = "first.ckpt", "second.ckpt"
    with pytest.warns(UserWarning, match="without a model"):
        path = resolved(None, with_callbacks(first), TrainerFn.PREDICTING, model_given=False)
    assert path == "first.ckpt"
    with pytest.warns(UserWarning, match="2 checkpoint callbacks: 'best' means the best of the first"):
        assert resolved("best", with_callbacks(first, second)) == "first.ckpt"


def test_a_path_is_taken_as_it_is_wherever_it_leads(with_callbacks, tmp_path):
    path = touch(tmp_path / "x.ckpt")
    assert resolved(path, with_callbacks()) == path
    assert resolved(tmp_path / "x.ckpt", with_callbacks()) == path
    with pytest.raises(FileNotFoundError, match=r"memory://nowhere/x.ckpt"):
        resolved("memory://nowhere/x.ckpt", with_callbacks())


@pytest.mark.parametrize("newest", ["last.ckpt", "last-v1.ckpt", "last-epoch=3.ckpt"])
def test_last_is_the_newest_file_of_that_name(with_callbacks, tmp_path, newest):
    for name in ("last.ckpt", "last-v1.ckpt", "last-epoch=3.ckpt"):
        touch(tmp_path / name, time=2 if name == newest else 1)
    touch(tmp_path / "epoch=9.ckpt", time=3)
    touch(tmp_path / "last.txt", time=3)
    assert resolved("last", with_callbacks(ModelCheckpoint(tmp_path))) == str(tmp_path / newest)


def test_last_may_have_another_name(with_callbacks, tmp_path):
    class Mine(ModelCheckpoint):
        CHECKPOINT_NAME_LAST = "newest"
        FILE_EXTENSION = ".pt"

    path = touch(tmp_path / "newest.pt")
    touch(tmp_path / "last.ckpt")
    assert resolved("last", with_callbacks(Mine(tmp_path))) == path


def test_last_is_looked_for_in_the_folder_that_the_callback_would_write_to(with_callbacks, tmp_path):
    path = touch(tmp_path / "checkpoints" / "last.ckpt")
    assert resolved("last", with_callbacks(ModelCheckpoint())) == path


def test_a_checkpoint_of_an_exception_is_gone_on_from_unasked(with_callbacks, tmp_path):
    trainer = with_callbacks(OnExceptionCheckpoint(tmp_path))
    assert resolved(None, trainer) is None
    path = touch(tmp_path / "on_exception.ckpt")
    assert resolved(None, trainer) == path
    assert resolved(None, trainer, TrainerFn.TESTING) is None


@pytest.fixture
def fitted(trainer):
    trainer.limit_train_batches = trainer.limit_val_batches = 1
    trainer.fit(BoringModel())
    return trainer


def test_a_dump_holds_plain_values_in_a_known_order(fitted):
    keys = [
        "epoch", "global_step", "pytorch-lightning_version", "levin_version", "state_dict", "loops",
        "callbacks", "optimizer_states", "lr_schedulers", "levin",
    ]  # fmt: skip
    assert list(dump(fitted.run, [], {})) == keys
    assert list(dump(fitted.run, [], None)) == keys[:6]


def test_states_of_callbacks_are_kept_under_their_keys_unless_they_are_empty(fitted):
    class Stateful(L.Callback):
        def state_dict(self):
            return {"x": 1}

    assert dump(fitted.run, [L.Callback(), Stateful()], {})["callbacks"] == {Stateful().state_key: {"x": 1}}


def test_the_weights_of_a_dump_are_the_models_own(fitted):
    weight = fitted.lightning_module.layer.weight
    assert dump(fitted.run, [], {})["state_dict"]["layer.weight"].data_ptr() == weight.data_ptr()
