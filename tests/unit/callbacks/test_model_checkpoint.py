from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import yaml

from levin.callbacks import Callback, ModelCheckpoint
from levin.checkpoint import TorchCheckpointIO
from levin.checkpoint.index import INDEX_NAME
from levin.checkpoint.io import load
from levin.loggers import CSVLogger
from levin.utils.errors import MisconfigurationException


def names(folder) -> list[str]:
    """What lies in a folder besides the index."""
    return sorted(set(os.listdir(folder)) - {INDEX_NAME})


def weight(path) -> int:
    return int(load(path)["state_dict"]["weight"])


def falling(step: int) -> float:
    """A score that gets better with each step."""
    return 100.0 - step


class Raising(Callback):
    def __init__(self, error: BaseException, at_step: int):
        self.error, self.at_step = error, at_step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step:
            raise self.error


# -------------------------------------------------------------------------------------------------- names

HALF = torch.tensor(0.5)


@pytest.mark.parametrize(
    ("metrics", "filename", "expected"),
    [
        ({"epoch": 1, "step": 8}, None, "epoch=1-step=8"),
        ({"epoch": torch.tensor(1), "step": 8}, "", "epoch=1-step=8"),
        ({"epoch": 3, "val": HALF}, "{epoch:02d}-{val:.2f}", "epoch=03-val=0.50"),
        ({"val/loss": HALF}, "a-{val/loss:.1f}", "a-val/loss=0.5"),
        ({}, "{foo:.2f}", "foo=0.00"),
        ({}, "plain", "plain"),
        ({"v": 1, "val": 2, "val_loss": 3}, "{v}-{val}-{val_loss}-{v}", "v=1-val=2-val_loss=3-v=1"),
        ({"a b": 1, "c.d": 2}, "{a b}_{c.d}", "a b=1_c.d=2"),
        ({"val": torch.tensor(math.nan)}, "{val:.2f}", "val=nan"),
        ({"x": 1}, "{x:>3}|{x:e}", "x=  1|x=1.000000e+00"),
    ],
)
def test_places_in_a_name_are_filled(metrics, filename, expected):
    assert ModelCheckpoint().format_checkpoint_name(metrics, filename) == f"{expected}.ckpt"


def test_names_of_metrics_can_be_left_out():
    checkpoints = ModelCheckpoint(filename="{epoch:02d}-{val:.1f}", auto_insert_metric_name=False)
    assert checkpoints.format_checkpoint_name({"epoch": 3, "val": HALF}) == "03-0.5.ckpt"


def test_a_name_takes_a_prefix_a_version_and_a_folder(tmp_path):
    checkpoints = ModelCheckpoint(tmp_path)
    name = checkpoints.format_checkpoint_name({"epoch": 1, "step": 2}, ver=3, prefix="test")
    assert name == str(tmp_path / "test-epoch=1-step=2-v3.ckpt")
    remote = ModelCheckpoint("memory://a/b").format_checkpoint_name({}, "x")
    assert remote == "memory://a/b/x.ckpt"


def test_the_characters_of_a_name_can_be_changed():
    class Own(ModelCheckpoint):
        CHECKPOINT_JOIN_CHAR = "_"
        CHECKPOINT_EQUALS_CHAR = ":"
        FILE_EXTENSION = ".pt"

    assert Own().format_checkpoint_name({"epoch": 1, "step": 2}, ver=1) == "epoch:1_step:2_v1.pt"


def test_a_name_with_a_slash_makes_a_folder(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path / "c", filename="{epoch}/x", save_last=True), max_epochs=1)
    assert names(tmp_path / "c") == ["epoch=0", "last.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 4


# ------------------------------------------------------------------------------------------------ folders


def test_the_default_folder_is_below_the_root_without_a_logger(fit, tmp_path):
    trainer = fit([])
    assert names(tmp_path / "checkpoints") == ["epoch=2-step=12.ckpt"]
    assert trainer.checkpoint_callback.dirpath == str(tmp_path / "checkpoints")


@pytest.mark.parametrize(("version", "folder"), [(3, "version_3"), ("mine", "mine")])
def test_the_default_folder_is_the_loggers(fit, tmp_path, version, folder):
    logger = CSVLogger(tmp_path, name="run", version=version)
    fit([], logger=logger, log_every_n_steps=1)
    assert names(tmp_path / "run" / folder / "checkpoints") == ["epoch=2-step=12.ckpt"]


def test_a_remote_folder_holds_the_best_and_a_copy_as_last(fit):
    checkpoints = ModelCheckpoint("memory://remote/run", monitor="score", save_last=True)
    fit(checkpoints)
    assert checkpoints.best_model_path == "memory://remote/run/epoch=0-step=4.ckpt"
    assert load("memory://remote/run/last.ckpt")["global_step"] == 4


def test_superseded_remote_files_are_deleted(fit, stepping):
    checkpoints = ModelCheckpoint("memory://remote/other", monitor="score", save_top_k=1)
    fit(checkpoints, stepping(falling))
    assert checkpoints.file_exists("memory://remote/other/epoch=2-step=12.ckpt", fit([]))
    with pytest.raises(FileNotFoundError):
        load("memory://remote/other/epoch=0-step=4.ckpt")


def test_a_folder_with_files_is_told_and_they_stay(fit, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "epoch=2-step=12.ckpt").write_text("mine")
    with pytest.warns(UserWarning, match="not empty"):
        fit(ModelCheckpoint(tmp_path / "c"))
    assert names(tmp_path / "c") == ["epoch=2-step=12-v1.ckpt", "epoch=2-step=12.ckpt"]
    assert (tmp_path / "c" / "epoch=2-step=12.ckpt").read_text() == "mine"


# ---------------------------------------------------------------------------------------- which files stay


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, ["epoch=2-step=12.ckpt"]),
        (-1, ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]),
        (0, []),
    ],
)
def test_without_a_metric_the_newest_all_or_none_stay(fit, tmp_path, k, expected):
    (tmp_path / "c").mkdir()
    checkpoints = ModelCheckpoint(tmp_path / "c", save_top_k=k)
    fit(checkpoints)
    assert names(tmp_path / "c") == expected
    assert Path(checkpoints.best_model_path).name == (expected[-1] if expected else "")


SCORES = {4: 3.0, 8: 1.0, 12: 4.0, 16: 2.0}


@pytest.mark.parametrize(("mode", "kept"), [("min", {8: 1.0, 16: 2.0}), ("max", {4: 3.0, 12: 4.0})])
def test_the_best_k_stay(fit, tmp_path, stepping, mode, kept):
    checkpoints = ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", mode=mode, save_top_k=2)
    fit(checkpoints, stepping(SCORES.get), max_epochs=4)
    found = {int(Path(path).stem[5:]): float(score) for path, score in checkpoints.best_k_models.items()}
    best, worst = sorted(kept.values(), reverse=mode == "max")
    assert found == kept
    assert names(tmp_path / "c") == sorted(f"step={step}.ckpt" for step in kept)
    assert (float(checkpoints.best_model_score), float(checkpoints.kth_value)) == (best, worst)
    assert {weight(path): float(score) for path, score in checkpoints.best_k_models.items()} == kept


def test_an_equal_score_replaces_nothing(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", save_top_k=2)
    fit(checkpoints, stepping(lambda step: 1.0))
    assert names(tmp_path / "c") == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt"]
    assert checkpoints.best_model_path.endswith("epoch=0-step=4.ckpt")


def test_nan_is_the_worst_score(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", mode="max")
    with pytest.warns(UserWarning, match="NaN"):
        fit(checkpoints, stepping({4: math.nan, 8: 1.0, 12: math.nan}.get))
    assert names(tmp_path / "c") == ["epoch=1-step=8.ckpt"]


def test_counters_can_be_monitored(fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="step", mode="max", save_top_k=2)
    fit(checkpoints)
    assert names(tmp_path / "c") == ["epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]
    assert checkpoints.best_model_score == 12


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"save_top_k": 1}, {"f.ckpt": 12}),
        ({"save_top_k": -1}, {"f.ckpt": 12}),
        ({"save_top_k": 1, "monitor": "score"}, {"f.ckpt": 12}),
        ({"save_top_k": 2, "monitor": "score"}, {"f.ckpt": 12, "f-v1.ckpt": 8}),
        ({"save_top_k": -1, "monitor": "score"}, {"f.ckpt": 4, "f-v1.ckpt": 8, "f-v2.ckpt": 12}),
        ({"save_top_k": 2, "monitor": "score", "enable_version_counter": False}, {"f.ckpt": 12}),
    ],
)
def test_a_name_that_is_taken_gets_a_version(fit, tmp_path, stepping, arguments, expected):
    fit(ModelCheckpoint(tmp_path / "c", filename="f", **arguments), stepping(falling))
    assert {name: weight(tmp_path / "c" / name) for name in names(tmp_path / "c")} == expected


def test_versions_begin_where_the_class_says(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(tmp_path / "c", filename="f", monitor="score", save_top_k=2)
    checkpoints.STARTING_VERSION = 5
    fit(checkpoints, stepping(falling), max_epochs=2)
    assert names(tmp_path / "c") == ["f-v5.ckpt", "f.ckpt"]


# ------------------------------------------------------------------------------------------------- last


@pytest.mark.parametrize("save_last", [True, "link"])
def test_last_is_a_relative_link_to_the_newest_file(fit, tmp_path, stepping, save_last):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", save_top_k=1, save_last=save_last)
    fit(checkpoints, stepping(falling))
    assert os.readlink(tmp_path / "c" / "last.ckpt") == "epoch=2-step=12.ckpt"
    assert names(tmp_path / "c") == ["epoch=2-step=12.ckpt", "last.ckpt"]
    assert checkpoints.last_model_path == str(tmp_path / "c" / "last.ckpt")


def test_last_stays_at_what_was_saved_last(fit, tmp_path, stepping):
    fit(ModelCheckpoint(tmp_path / "c", monitor="score", save_last=True), stepping())
    assert os.readlink(tmp_path / "c" / "last.ckpt") == "epoch=0-step=4.ckpt"


@pytest.mark.parametrize(
    "rhythm", [{"every_n_train_steps": 2}, {"train_time_interval": timedelta(0)}], ids=str
)
def test_saves_by_steps_or_time_bring_last_up_to_date_though_the_best_stays(fit, tmp_path, stepping, rhythm):
    checkpoints = ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", save_last=True, **rhythm)
    fit(checkpoints, stepping(lambda step: abs(step - 4)), val_check_interval=2, max_epochs=2)
    assert {name: weight(tmp_path / "c" / name) for name in names(tmp_path / "c")} == {
        "last.ckpt": 8,
        "step=4.ckpt": 4,
    }
    assert not (tmp_path / "c" / "last.ckpt").is_symlink()


def test_last_does_not_wait_for_a_validation_that_is_far(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", every_n_train_steps=2, save_last=True
    )
    fit([checkpoints, Raising(KeyError(), at_step=3)], stepping(), raises=KeyError)
    assert {name: weight(tmp_path / "c" / name) for name in names(tmp_path / "c")} == {"last.ckpt": 2}


def test_where_the_validation_comes_at_once_nothing_is_written_twice(fit, tmp_path, stepping):
    class Counting(TorchCheckpointIO):
        written = 0

        def save_checkpoint(self, *args, **kwargs):
            self.written += 1
            super().save_checkpoint(*args, **kwargs)

    io = Counting()
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", every_n_train_steps=4, save_last=True)
    fit(checkpoints, stepping(falling), plugins=[io])
    assert io.written == 3


def test_what_waits_is_saved_by_a_validation_that_comes_at_the_step_of_last(fit, tmp_path, stepping):
    class Stopping(Callback):
        order = 200  # after the checkpoints

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.global_step == 2

    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", every_n_train_steps=2, save_last=True
    )
    fit([checkpoints, Stopping()], stepping())
    assert os.readlink(tmp_path / "c" / "last.ckpt") == "step=2.ckpt"


@pytest.mark.parametrize("save_last", [True, "link"])
def test_last_is_the_file_itself_when_nothing_else_is_kept(fit, tmp_path, save_last):
    fit(ModelCheckpoint(tmp_path / "c", save_top_k=0, save_last=save_last))
    assert names(tmp_path / "c") == ["last.ckpt"]
    assert not (tmp_path / "c" / "last.ckpt").is_symlink()
    assert weight(tmp_path / "c" / "last.ckpt") == 12


def test_last_is_a_copy_where_links_fail(fit, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    fit(ModelCheckpoint(tmp_path / "c", save_last=True))
    assert names(tmp_path / "c") == ["epoch=2-step=12.ckpt", "last.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 12
    assert not (tmp_path / "c" / "last.ckpt").is_symlink()


@pytest.mark.parametrize("arguments", [{"every_n_train_steps": 100}, {"every_n_epochs": 0}], ids=str)
def test_last_is_written_at_the_end_if_it_never_was(fit, tmp_path, arguments):
    fit(ModelCheckpoint(tmp_path / "c", save_last=True, **arguments))
    assert names(tmp_path / "c") == ["last.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 12


def test_a_last_of_another_run_stays(fit, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "last.ckpt").write_text("mine")
    checkpoints = ModelCheckpoint(tmp_path / "c", save_last=True)
    with pytest.warns(UserWarning, match="not empty"):
        fit(checkpoints)
    assert names(tmp_path / "c") == ["epoch=2-step=12.ckpt", "last-v1.ckpt", "last.ckpt"]
    assert (tmp_path / "c" / "last.ckpt").read_text() == "mine"
    assert checkpoints.last_model_path.endswith("last-v1.ckpt")


@pytest.mark.parametrize("k", [1, 0])
def test_a_last_with_another_name_goes_when_the_next_comes(fit, tmp_path, k):
    class Own(ModelCheckpoint):
        CHECKPOINT_NAME_LAST = "{epoch}-last"

    fit(Own(tmp_path / "c", filename="f", save_last=True, save_top_k=k))
    assert names(tmp_path / "c") == ["epoch=2-last.ckpt", "f.ckpt"][: 1 + k]
    assert weight(tmp_path / "c" / "epoch=2-last.ckpt") == 12


def test_a_link_does_not_take_the_name_of_the_file_itself(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path / "c", filename="last", save_last=True))
    assert names(tmp_path / "c") == ["last.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 12


# --------------------------------------------------------------------- nothing good is ever in danger


class Watching(TorchCheckpointIO):
    """Looks, before anything is deleted and after, whether all that is named there can be loaded."""

    def __init__(self):
        self.deleted = []

    def remove_checkpoint(self, path):
        folder = Path(path).parent
        self._look(folder)
        super().remove_checkpoint(path)
        self._look(folder)
        self.deleted.append(Path(path).name)

    def _look(self, folder):
        steps = [weight(folder / name) for name in names(folder)]
        assert steps, "there is no checkpoint at all"


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("save_last", [True, None])
def test_no_file_goes_before_the_next_is_there_and_last_never_dangles(fit, tmp_path, stepping, k, save_last):
    watching = Watching()
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", save_top_k=k, save_last=save_last
    )
    fit(checkpoints, stepping(falling), plugins=[watching], max_epochs=4)
    assert watching.deleted == ["step=4.ckpt", "step=8.ckpt", "step=12.ckpt"][: {0: 0, 1: 3, 2: 2}[k]]


class Failing(TorchCheckpointIO):
    """Can't write the second time."""

    def __init__(self):
        self.writes = 0

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.writes += 1
        if self.writes == 2:
            raise OSError("the disk is full")
        super().save_checkpoint(checkpoint, path, storage_options)


@pytest.mark.parametrize("monitor", [None, "score"])
def test_a_save_that_fails_leaves_files_and_state_as_they_were(fit, tmp_path, stepping, monitor):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor=monitor, save_last=True)
    fit(checkpoints, stepping(falling), plugins=[Failing()], raises=OSError)
    assert names(tmp_path / "c") == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == weight(checkpoints.best_model_path) == 4
    assert list(checkpoints.best_k_models) == ([checkpoints.best_model_path] if monitor else [])


class Slow(TorchCheckpointIO):
    """Writes a file only when the next one is handed over, as one that writes in the background may do."""

    def __init__(self, folder):
        self.folder, self.pending, self.actions, self.seen = folder, None, [], []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.finish()
        self.pending = (checkpoint, path, storage_options)

    def after_commit(self, action):
        self.actions.append(action)

    def finish(self):
        if self.pending is not None:
            super().save_checkpoint(*self.pending)
            self.pending = None
            self.seen.append(len(names(self.folder)))
        for action in self.actions:
            action()
        self.actions = []

    def teardown(self):
        self.finish()


def test_files_go_only_when_their_successor_is_written(fit, tmp_path, stepping):
    slow = Slow(tmp_path / "c")
    fit(ModelCheckpoint(tmp_path / "c", monitor="score", save_last=True), stepping(falling), plugins=[slow])
    assert slow.seen == [1, 3, 3]  # the first file; then the former one, its link and the new one
    assert os.readlink(tmp_path / "c" / "last.ckpt") == "epoch=2-step=12.ckpt"
    assert names(tmp_path / "c") == ["epoch=2-step=12.ckpt", "last.ckpt"]


KILLED = """
import sys, torch, levin as L
from levin.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight, self.ballast = torch.nn.Parameter(torch.zeros(())), torch.nn.Buffer(torch.zeros(500_000))
    def training_step(self, batch, batch_idx):
        return -self.weight
    def on_train_batch_end(self, *_):
        print(self.trainer.global_step, flush=True)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

saving = ModelCheckpoint(sys.argv[1], save_last=True, every_n_train_steps=1)
L.Trainer(
    max_epochs=-1, callbacks=[saving], logger=False, enable_progress_bar=False, enable_model_summary=False,
    accelerator="cpu",
).fit(Model(), DataLoader(torch.zeros(1000, 1)))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_a_last_checkpoint_that_loads(tmp_path):
    for trial in range(4):
        folder = tmp_path / str(trial)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(20 + 7 * trial):
            step = int(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdout.close()
        assert weight(folder / "last.ckpt") >= step - 2
        committed = [name for name in names(folder) if not name.endswith(".tmp") and name != "last.ckpt"]
        assert 1 <= len(committed) <= 2
        assert all(f"step={weight(folder / name)}" in name for name in committed)


# -------------------------------------------------------------------------------------------- when it saves


@pytest.mark.parametrize(
    ("arguments", "settings", "steps"),
    [
        ({}, {}, [4, 8, 12]),
        ({"every_n_epochs": 2}, {"max_epochs": 4}, [8, 16]),
        ({"every_n_train_steps": 3}, {}, [3, 6, 9, 12]),
        ({"every_n_train_steps": 3}, {"accumulate_grad_batches": 2}, [3, 6]),
        ({"every_n_train_steps": 0, "every_n_epochs": 0}, {}, []),
        ({"train_time_interval": timedelta(0)}, {"max_epochs": 1}, [1, 2, 3, 4]),
        ({"train_time_interval": timedelta(hours=1)}, {}, []),
        ({}, {"check_val_every_n_epoch": 2, "max_epochs": 4}, [8, 16]),
        ({}, {"val_check_interval": 0.5}, [2, 4, 6, 8, 10, 12]),
        ({"save_on_train_epoch_end": True}, {"val_check_interval": 0.5}, [4, 8, 12]),
        ({"save_on_train_epoch_end": False}, {}, [4, 8, 12]),
        ({}, {"limit_val_batches": 0, "check_val_every_n_epoch": 2}, [4, 8, 12]),
        ({}, {"max_steps": 6, "max_epochs": -1}, [4, 6]),
    ],
    ids=str,
)
def test_the_moments_of_saving(fit, tmp_path, arguments, settings, steps):
    (tmp_path / "c").mkdir()
    fit(ModelCheckpoint(tmp_path / "c", "{step}", save_top_k=-1, **arguments), **settings)
    assert sorted(int(name[5:-5]) for name in names(tmp_path / "c")) == steps


def test_an_epoch_saves_after_its_validation_or_at_its_end(fit, tmp_path):
    for at_end, validations in ((True, 1), (False, 0)):
        seen = []

        class Noting(ModelCheckpoint):
            def state_dict(self, seen=seen):
                seen.append(self.at)
                return super().state_dict()

            def on_train_epoch_end(self, trainer, pl_module):
                self.at = "epoch end"
                super().on_train_epoch_end(trainer, pl_module)

            at = "validation end"

        fit(Noting(tmp_path / str(at_end), save_on_train_epoch_end=at_end), max_epochs=1)
        # the first time is when the fit starts, where it is tried out
        assert seen[1:] == ["validation end", "epoch end"][validations : validations + 1]


@pytest.mark.parametrize("settings", [{"fast_dev_run": True}, {"max_epochs": 0}, {"max_steps": 0}], ids=str)
def test_a_run_that_trains_nothing_writes_nothing(fit, tmp_path, settings):
    fit(ModelCheckpoint(tmp_path / "c", save_last=True, save_on_exception=True), **settings)
    assert not (tmp_path / "c").exists()


def test_a_sanity_check_and_an_evaluation_write_nothing(fit, tmp_path, stepping):
    class NoTraining(Callback):
        def on_train_start(self, trainer, pl_module):
            raise KeyError

    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", save_on_train_epoch_end=False)
    trainer = fit([checkpoints, NoTraining()], num_sanity_val_steps=1, raises=KeyError)
    trainer.validate(stepping(), torch.utils.data.DataLoader(torch.zeros(2, 1)), verbose=False)
    assert not (tmp_path / "c").exists()


def test_only_weights_are_saved_on_demand(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path / "c", save_weights_only=True, filename="f"))
    assert "optimizer_states" not in load(tmp_path / "c" / "f.ckpt")


# ------------------------------------------------------------------------- the score is of these weights


def zigzag(step: int) -> float:
    return float(step * 7 % 11)


@pytest.mark.parametrize("save_every", [3, 5, 10])
@pytest.mark.parametrize("validate_every", [3, 5, 10])
def test_each_file_holds_the_weights_that_its_score_was_measured_with(
    fit, tmp_path, stepping, save_every, validate_every
):
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}-{score:.0f}", monitor="score", save_top_k=-1, every_n_train_steps=save_every
    )
    settings = {
        "val_check_interval": validate_every,
        "check_val_every_n_epoch": None,
        "limit_train_batches": 10,
    }
    fit(checkpoints, stepping(zigzag), **settings)
    found = {weight(path): float(score) for path, score in checkpoints.best_k_models.items()}
    due = range(save_every, 31, save_every)
    validations = range(validate_every, 31, validate_every)
    next_validations = {min((v for v in validations if v >= step), default=0) for step in due} - {0}
    assert found == {step: zigzag(step) for step in next_validations}
    assert names(tmp_path / "c") == sorted(
        f"step={step}-score={score:.0f}.ckpt" for step, score in found.items()
    )
    assert weight(checkpoints.best_model_path) == min(found, key=found.get)


def test_a_save_at_the_end_of_an_epoch_waits_for_a_score_of_its_weights(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", save_top_k=-1, save_on_train_epoch_end=True
    )
    fit(checkpoints, stepping(zigzag), check_val_every_n_epoch=2, max_epochs=4)
    assert names(tmp_path / "c") == ["step=16.ckpt", "step=8.ckpt"]
    assert {weight(path): float(score) for path, score in checkpoints.best_k_models.items()} == {
        step: zigzag(step) for step in (8, 16)
    }


def test_a_training_metric_is_waited_for_by_nobody(fit, tmp_path, stepping):
    class Logging(stepping):
        def training_step(self, batch, batch_idx):
            self.log("loss", self.weight.detach())
            return super().training_step(batch, batch_idx)

    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="loss", save_top_k=-1, every_n_train_steps=3
    )
    fit(checkpoints, Logging(), val_check_interval=4)
    assert sorted(weight(path) for path in checkpoints.best_k_models) == [3, 6, 9, 12]


def test_a_training_metric_of_whole_epochs_is_waited_for_by_nobody(fit, tmp_path, stepping):
    class Logging(stepping):
        def training_step(self, batch, batch_idx):
            self.log("loss", self.weight.detach(), on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="loss", save_top_k=-1, every_n_train_steps=7
    )
    fit(checkpoints, Logging(), val_check_interval=2, max_epochs=2)
    assert [weight(path) for path in checkpoints.best_k_models] == [7]


def test_nothing_waits_on_into_another_run(fit, tmp_path, stepping):
    settings = {"check_val_every_n_epoch": None, "max_epochs": 1}
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", save_top_k=-1, every_n_train_steps=4
    )
    fit(checkpoints, stepping(zigzag), val_check_interval=3, **settings)
    assert not (tmp_path / "c").exists()
    fit(checkpoints, stepping(zigzag), val_check_interval=1, **settings)
    assert names(tmp_path / "c") == ["step=4.ckpt"]


def test_last_catches_up_at_the_end_with_what_still_waits(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", every_n_train_steps=2, save_last=True
    )
    fit(checkpoints, stepping(zigzag), val_check_interval=5, check_val_every_n_epoch=None, max_epochs=2)
    assert names(tmp_path / "c") == ["last.ckpt", "step=5.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 8


def test_a_metric_that_no_validation_logs_is_an_error_with_a_guess(fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="scores", save_last=True)
    with pytest.raises(
        MisconfigurationException, match=r"\['epoch', 'score', 'step'\]. Did you mean 'score'"
    ):
        fit(checkpoints, max_epochs=1)


def test_without_validation_a_missing_metric_is_a_warning(fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", save_last=True)
    with pytest.warns(UserWarning, match=r"watches 'score'.*Nothing is saved"):
        fit(checkpoints, limit_val_batches=0)
    assert names(tmp_path / "c") == ["last.ckpt"]


def test_decisions_are_told_on_demand(fit, tmp_path, stepping, caplog):
    with caplog.at_level("INFO", "levin"):
        fit(
            ModelCheckpoint(tmp_path / "c", monitor="score", verbose=True),
            stepping({4: 2.0, 8: 3.0}.get),
            max_epochs=2,
        )
    lines = [line for line in caplog.messages if "score" in line]
    assert "reached 2.00000 (best 2.00000), saving" in lines[0]
    assert lines[1].startswith("Epoch 1, step 8: score was 3.00000")


# ------------------------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_an_exception_leaves_one_more_checkpoint(fit, tmp_path, error):
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", monitor="score", save_on_exception=True, save_last=True
    )
    fit([checkpoints, Raising(error, at_step=6)], raises=type(error))
    assert names(tmp_path / "c") == ["last.ckpt", "step=4.ckpt", "step=6.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 6
    assert weight(checkpoints.best_model_path) == 4


@pytest.mark.parametrize(("at_step", "arguments", "expected"), [
    (0, {"save_on_exception": True}, []),
    (4, {"save_on_exception": True}, ["step=4.ckpt"]),
    (6, {}, ["step=4.ckpt"]),
])  # fmt: skip
def test_an_exception_without_new_steps_leaves_nothing_new(fit, tmp_path, at_step, arguments, expected):
    (tmp_path / "c").mkdir()
    fit(
        [ModelCheckpoint(tmp_path / "c", "{step}", **arguments), Raising(ValueError(), at_step)],
        raises=ValueError,
    )
    assert names(tmp_path / "c") == expected


def test_an_exception_does_not_overwrite_the_best(fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "c", "f", monitor="score", save_on_exception=True)
    fit([checkpoints, Raising(ValueError(), at_step=6)], raises=ValueError)
    assert weight(checkpoints.best_model_path) == 4
    assert weight(tmp_path / "c" / "f-v1.ckpt") == 6


# ---------------------------------------------------------------------------------------- state and resume


def test_the_state_names_files_and_scores(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", save_last=True)
    fit(checkpoints, stepping(falling))
    state = load(checkpoints.best_model_path)["callbacks"][checkpoints.state_key]
    assert set(state) == {
        *("monitor", "best_model_score", "best_model_path", "current_score", "dirpath"),
        *("best_k_models", "kth_best_model_path", "kth_value", "last_model_path"),
    }
    assert state["best_model_path"] == checkpoints.best_model_path
    assert state["last_model_path"] == checkpoints.last_model_path == str(tmp_path / "c" / "last.ckpt")


def test_the_state_key_tells_callbacks_apart():
    assert ModelCheckpoint().state_key == (
        "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
        "'train_time_interval': None}"
    )
    timed = ModelCheckpoint(train_time_interval=timedelta(minutes=1))
    assert "'every_n_epochs': 0, 'train_time_interval': datetime.timedelta(seconds=60)" in timed.state_key


def test_a_resumed_run_keeps_the_best_over_both_parts(fit, tmp_path, stepping):
    def checkpoints():
        return ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", save_top_k=2, save_last=True)

    fit(checkpoints(), stepping(SCORES.get), max_epochs=2)
    fit(checkpoints(), stepping(SCORES.get), max_epochs=4, ckpt_path=tmp_path / "c" / "last.ckpt")
    assert names(tmp_path / "c") == ["last.ckpt", "step=16.ckpt", "step=8.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 16


@pytest.mark.parametrize("k", [1, 0])
def test_resuming_again_and_again_leaves_no_versions(fit, tmp_path, k):
    path = None
    for epochs in (1, 2, 3, 4):
        fit(
            ModelCheckpoint(tmp_path / "c", "{step}", save_top_k=k, save_last=True),
            max_epochs=epochs,
            ckpt_path=path,
        )
        path = tmp_path / "c" / "last.ckpt"
    assert names(tmp_path / "c") == ["last.ckpt", "step=16.ckpt"][: 1 + k]
    assert weight(path) == 16


def test_the_file_that_a_run_was_resumed_from_stays(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path / "c", "{step}"), max_epochs=1)
    fit(ModelCheckpoint(tmp_path / "c", "{step}"), max_epochs=2, ckpt_path=tmp_path / "c" / "step=4.ckpt")
    assert names(tmp_path / "c") == ["step=4.ckpt", "step=8.ckpt"]


@pytest.mark.parametrize("monitor", [None, "score"])
@pytest.mark.parametrize("second", ["other", "."], ids=["beside", "above"])
def test_a_run_with_another_folder_touches_nothing_in_the_first(fit, tmp_path, stepping, monitor, second):
    first = ModelCheckpoint(tmp_path / "c", "{step}", monitor=monitor)
    fit([first], stepping(falling), max_epochs=1)
    moved = ModelCheckpoint(tmp_path / second, "{step}", monitor=monitor)
    with pytest.warns(UserWarning, match="now saves to|not empty"):
        fit(moved, stepping(falling), max_epochs=3, ckpt_path=first.best_model_path)
    assert names(tmp_path / "c") == ["step=4.ckpt"]
    assert [name for name in names(tmp_path / second) if name.endswith(".ckpt")] == ["step=12.ckpt"]


def test_remote_files_of_another_folder_and_the_one_resumed_from_stay(fit, stepping):
    first = ModelCheckpoint("memory://stay/a", "{step}")
    fit([first], max_epochs=1)
    fit(ModelCheckpoint("memory://stay/a", "{step}"), max_epochs=2, ckpt_path=first.best_model_path)
    with pytest.warns(UserWarning, match="now saves to"):
        fit(
            ModelCheckpoint("memory://stay/b", "{step}"),
            max_epochs=3,
            ckpt_path="memory://stay/a/step=8.ckpt",
        )
    assert [
        load(f"memory://stay/{name}.ckpt")["global_step"] for name in ("a/step=4", "a/step=8", "b/step=12")
    ]


def test_a_file_that_lies_outside_the_folder_is_not_deleted(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(tmp_path / "c", "{step}", monitor="score")
    (tmp_path / "outside.ckpt").write_text("mine")
    score = torch.tensor(1e9)
    state = {
        "best_model_path": str(tmp_path / "outside.ckpt"),
        "best_k_models": {str(tmp_path / "outside.ckpt"): score},
    }
    checkpoints.load_state_dict({**checkpoints.state_dict(), **state})
    fit(checkpoints, stepping(falling), max_epochs=1)
    assert names(tmp_path / "c") == ["step=4.ckpt"]
    assert (tmp_path / "outside.ckpt").exists()


def test_another_folder_takes_over_the_best_path_alone(tmp_path):
    state = ModelCheckpoint(tmp_path / "a", monitor="x").state_dict()
    state |= {
        "best_model_path": "a/best.ckpt",
        "best_model_score": HALF,
        "best_k_models": {"a/best.ckpt": HALF},
    }
    moved = ModelCheckpoint(tmp_path / "b", monitor="x")
    with pytest.warns(UserWarning, match="formerly"):
        moved.load_state_dict(state)
    assert (moved.best_model_path, moved.best_model_score, moved.best_k_models) == ("a/best.ckpt", None, {})


def test_a_smaller_k_after_a_resume_is_kept_to(fit, tmp_path, stepping):
    fit(
        ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", save_top_k=3, save_last=True),
        stepping(falling),
    )
    fewer = ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", save_top_k=1, save_last=True)
    fit(fewer, stepping(falling), max_epochs=4, ckpt_path=tmp_path / "c" / "last.ckpt")
    assert names(tmp_path / "c") == ["last.ckpt", "step=16.ckpt"]


def fit_again(trainer, max_epochs):
    trainer.fit_loop.max_epochs = max_epochs
    data = torch.utils.data.DataLoader(torch.zeros(4, 1))
    trainer.fit(trainer.lightning_module, data, data)


def test_one_trainer_can_fit_twice(fit, tmp_path):
    trainer = fit(ModelCheckpoint(tmp_path / "c", "{step}", save_top_k=-1), max_epochs=1)
    fit_again(trainer, max_epochs=2)
    assert names(tmp_path / "c") == ["step=4.ckpt", "step=8.ckpt"]


def test_a_second_fit_saves_a_step_that_the_first_left_unsaved(fit, tmp_path):
    checkpoints = ModelCheckpoint(
        tmp_path / "c", "{step}", save_top_k=-1, every_n_epochs=2, save_on_train_epoch_end=False
    )
    trainer = fit(checkpoints, max_epochs=1, accumulate_grad_batches=2, val_check_interval=1)
    fit_again(trainer, max_epochs=2)
    assert names(tmp_path / "c") == ["step=2.ckpt", "step=3.ckpt", "step=4.ckpt"]


def test_a_second_fit_without_a_save_leaves_last_where_it_is(fit, tmp_path):
    trainer = fit(ModelCheckpoint(tmp_path / "c", every_n_epochs=2, save_last=True), max_epochs=2)
    fit_again(trainer, max_epochs=3)
    assert os.readlink(tmp_path / "c" / "last.ckpt") == "epoch=1-step=8.ckpt"


def test_one_callback_can_serve_two_trainers(fit, tmp_path):
    checkpoints = ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", save_top_k=-1)
    for _ in range(2):
        fit(checkpoints, max_epochs=1)
    assert names(tmp_path / "c") == ["step=4-v1.ckpt", "step=4.ckpt"]


def test_several_callbacks_work_side_by_side(fit, tmp_path):
    every = ModelCheckpoint(tmp_path / "a", "{step}", save_top_k=-1, every_n_train_steps=5)
    best = ModelCheckpoint(tmp_path / "b", "{step}", monitor="score")
    fit([every, best])
    assert (names(tmp_path / "a"), names(tmp_path / "b")) == (
        ["step=10.ckpt", "step=5.ckpt"],
        ["step=4.ckpt"],
    )
    assert {every.state_key, best.state_key} <= set(load(best.best_model_path)["callbacks"])


def test_a_file_that_two_callbacks_wrote_stays_as_long_as_one_of_them_keeps_it(fit, tmp_path, stepping):
    shared = {"dirpath": tmp_path / "c", "enable_version_counter": False}
    best = ModelCheckpoint(**shared, monitor="score", mode="min", save_last=True)
    fit([best, ModelCheckpoint(**shared)], stepping())
    assert names(tmp_path / "c") == ["epoch=0-step=4.ckpt", "epoch=2-step=12.ckpt", "last.ckpt"]
    assert weight(tmp_path / "c" / "last.ckpt") == 4


def test_loggers_hear_of_each_checkpoint_when_its_files_are_there(fit, tmp_path, stepping):
    class Listening(CSVLogger):
        def after_save_checkpoint(self, checkpoint_callback):
            last = checkpoint_callback.last_model_path
            heard.append((weight(checkpoint_callback.best_model_path), weight(last)))

    heard: list = []
    checkpoints = ModelCheckpoint(tmp_path / "c", monitor="score", save_last=True)
    fit(checkpoints, stepping(falling), logger=Listening(tmp_path), log_every_n_steps=1)
    assert heard == [(4, 4), (8, 8), (12, 12)]


def test_scores_can_be_written_as_yaml(fit, tmp_path, stepping):
    checkpoints = ModelCheckpoint(tmp_path / "c", "{step}", monitor="score", save_top_k=2)
    fit(checkpoints, stepping(falling))
    checkpoints.to_yaml()
    checkpoints.to_yaml(tmp_path / "own.yaml")
    expected = {str(tmp_path / "c" / f"step={step}.ckpt"): falling(step) for step in (8, 12)}
    assert yaml.safe_load((tmp_path / "c" / "best_k_models.yaml").read_text()) == expected
    assert yaml.safe_load((tmp_path / "own.yaml").read_text()) == expected


# --------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"save_top_k": 2}, "needs a metric"),
        ({"save_top_k": -2}, "save_top_k=-2"),
        ({"save_top_k": 1.5}, "save_top_k=1.5"),
        ({"save_top_k": None}, "save_top_k=None"),
        ({"mode": "best"}, "mode='best'"),
        ({"every_n_train_steps": -1}, "every_n_train_steps=-1"),
        ({"every_n_epochs": -1}, "every_n_epochs=-1"),
        ({"every_n_epochs": 1, "every_n_train_steps": 1}, "takes one of"),
        ({"every_n_epochs": 1, "train_time_interval": timedelta(1)}, "takes one of"),
        ({"every_n_train_steps": 1, "train_time_interval": timedelta(1)}, "takes one of"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(arguments, text):
    with pytest.raises(MisconfigurationException, match=text):
        ModelCheckpoint(**arguments)


def test_a_link_on_a_remote_file_system_is_refused():
    with pytest.raises(ValueError, match="has no links"):
        ModelCheckpoint("memory://x", save_last="link")


def test_the_rhythm_can_be_read():
    assert ModelCheckpoint().every_n_epochs == 1
    assert ModelCheckpoint(every_n_train_steps=5).every_n_epochs == 0
