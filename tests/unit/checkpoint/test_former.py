from __future__ import annotations

import argparse
import copy
import io
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from levin.checkpoint import FORMAT_VERSION
from levin.checkpoint.former import brought_up_to_date, former_version, message, stand_in
from levin.checkpoint.io import UntrustedCheckpointError, as_checkpoint, load
from levin.trainer.progress import Progress

FILES = sorted((Path(__file__).parents[2] / "data" / "former").glob("*.ckpt"))
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def former(version="1.5.10", **values):
    return {"pytorch-lightning_version": version, "state_dict": {}, "epoch": 2, "global_step": 6, **values}


# ------------------------------------------------------------------------------------------ the form


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("1.0.8", (1, 0)), ("1.9.5", (1, 9)), ("1.10.0rc1", (1, 10)), ("0.9.0", (0, 9)),
        ("2.0.0", None), ("2.6.6", None), ("10.1", None), (None, None),
    ],
)  # fmt: skip
def test_versions_before_2_are_former_ones(version, found):
    assert former_version({"pytorch-lightning_version": version}) == found


@pytest.mark.parametrize("content", [{"state_dict": {}}, former("2.0.0"), former("2.6.6")])
def test_what_has_todays_form_is_returned_as_it_is(content, said):
    before = copy.deepcopy(content)
    assert as_checkpoint(content) is content
    assert content == before
    assert not said()


@files
def test_what_was_read_is_not_changed(path):
    content = load(path)
    before = repr(content)
    brought_up_to_date(content)
    assert repr(content) == before


@files
def test_the_counters_have_todays_names(path):
    new = brought_up_to_date(load(path))
    ours = Progress().state_dict(automatic=True)
    assert new["loops"]["fit_loop"].keys() == ours.keys()
    assert new["loops"]["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"].keys() == {
        "optimizer"
    }
    others = [loop for name, loop in new["loops"].items() if name != "fit_loop"]
    assert all(loop.keys() == {"state_dict", "batch_progress"} for loop in others)


@files
def test_the_version_is_todays_and_the_former_one_is_kept(path):
    new = brought_up_to_date(load(path))
    assert new["pytorch-lightning_version"] == FORMAT_VERSION
    assert new["legacy_pytorch-lightning_version"] == path.stem.partition("-")[0]
    assert former_version(new) is None


@files
def test_callbacks_are_known_by_strings(path):
    keys = list(brought_up_to_date(load(path))["callbacks"])
    assert keys
    assert {type(key) for key in keys} == {str}
    assert not any("save_on_train_epoch_end" in key for key in keys)


@pytest.mark.parametrize("value", ["True", "False", "None"])
def test_a_model_checkpoint_is_known_by_one_setting_less(value):
    key = "ModelCheckpoint{'monitor': 'a', 'train_time_interval': None, 'save_on_train_epoch_end': %s}"
    other = f"Own{{'save_on_train_epoch_end': {value}}}"
    new = brought_up_to_date(former(callbacks={key % value: {"a": 1}, other: {}}))
    assert list(new["callbacks"]) == ["ModelCheckpoint{'monitor': 'a', 'train_time_interval': None}", other]


def test_before_1_6_the_next_epoch_is_gone_on_with():
    fit_loop = brought_up_to_date(former(epoch=3, global_step=7))["loops"]["fit_loop"]
    progress = Progress()
    progress.load_state_dict(fit_loop)
    assert (progress.epoch, progress.step, progress.batches_that_stepped) == (3, 7, 7)
    assert (progress.batch, progress.unfinished, progress.in_epoch) == (0, 0, False)


def test_states_beside_those_of_the_callbacks_are_put_among_them():
    content = former("0.9.0", checkpoint_callback_best_model_path="a.ckpt", early_stop_callback_wait=2)
    new = brought_up_to_date(content)
    assert new["callbacks"] == {
        "ModelCheckpoint": {"best_model_path": "a.ckpt"},
        "EarlyStopping": {"wait_count": 2},
    }
    assert "early_stop_callback_wait" not in new


@pytest.mark.parametrize(
    "key", ["native_amp_scaling_state", "NativeMixedPrecisionPlugin", "MixedPrecisionPlugin"]
)
def test_the_state_of_the_scaler_is_under_todays_name(key):
    new = brought_up_to_date(former(**{key: {"scale": 2.0}, "amp_scaling_state": {}}))
    assert new["MixedPrecision"] == {"scale": 2.0}
    assert key not in new
    assert "amp_scaling_state" not in new


def test_weights_alone_stay_weights_alone():
    assert brought_up_to_date(former("1.9.0")).keys().isdisjoint({"callbacks", "optimizer_states", "loops"})


# ------------------------------------------------------------------------------------------ what is told


def test_one_line_tells_the_version_and_the_way_to_a_new_file(said):
    as_checkpoint(former("1.9.5"), "runs/a.ckpt")
    assert "runs/a.ckpt was written by PyTorch Lightning 1.9.5" in said()
    assert "levin ckpt upgrade runs/a.ckpt TARGET" in said()
    assert said().count("\n") == 1


def test_it_is_told_where_training_goes_on_if_the_file_does_not_tell():
    assert "first one of epoch 2" in message(former("1.5.0", optimizer_states=[]), "a.ckpt")
    assert "first one" not in message(former("1.5.0"), "a.ckpt")
    assert "first one" not in message(former("1.6.0", optimizer_states=[]), "a.ckpt")


# ------------------------------------------------------------------------- classes that are not here


@pytest.fixture
def written(monkeypatch):
    """``written(**kwargs)`` is a file with objects of a package that is gone when it returns."""
    module = ModuleType("pytorch_lightning.utilities.parsing")

    class Settings(dict):
        pass

    class Stage(str):
        __slots__ = ()

    for name, cls in {"AttributeDict": Settings, "Stage": Stage}.items():
        cls.__module__, cls.__qualname__, cls.__name__ = module.__name__, name, name
        setattr(module, name, cls)

    def write(*others, **kwargs):
        values = {"hparams": Settings(lr=0.1), "key": {Stage: 1}, "stage": Stage("fit"), "others": others}
        file = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pytorch_lightning", ModuleType("pytorch_lightning"))
            patch.setitem(sys.modules, "pytorch_lightning.utilities", ModuleType("utilities"))
            patch.setitem(sys.modules, module.__name__, module)
            torch.save(values, file, **kwargs)
        monkeypatch.setitem(sys.modules, "pytorch_lightning", None)  # as if it were not installed
        file.seek(0)
        return file

    return write


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("weights_only", [True, False])
def test_stand_ins_are_built_for_classes_of_a_package_that_is_not_here(written, weights_only, is_zip):
    found = load(written(_use_new_zipfile_serialization=is_zip), weights_only=weights_only)
    assert found["hparams"] == {"lr": 0.1}
    assert type(found["hparams"]) is dict
    assert list(found["key"]) == [stand_in("pytorch_lightning.utilities.parsing", "Stage")]
    assert type(found["stage"]).__name__ == "Stage"


def test_stand_ins_are_not_safe_for_good(written):
    before = set(torch.serialization.get_safe_globals())
    load(written())
    assert set(torch.serialization.get_safe_globals()) == before


def test_other_classes_are_refused_as_ever(written):
    with pytest.raises(UntrustedCheckpointError, match=r"objects of argparse\.Namespace, which"):
        load(written(argparse.Namespace(a=1)))


@files
@pytest.mark.parametrize("weights_only", [None, True, False])
def test_real_files_are_read_with_and_without_trust(path, weights_only):
    assert as_checkpoint(load(path, weights_only=weights_only))["hyper_parameters"] == {"width": 2, "lr": 0.1}


def test_a_class_that_is_nowhere_is_still_an_error_in_a_trusted_file():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        load(io.BytesIO(_legacy_pickle_of(b"cnowhere\nThing\n.")), weights_only=False)


def _legacy_pickle_of(content):
    """A file of torch's first format, with these bytes as its content."""
    magic, protocol, system = 0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}
    return b"".join(pickle.dumps(part, 2) for part in (magic, protocol, system)) + content
