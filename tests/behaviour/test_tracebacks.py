"""An error in a user's code comes with a traceback that is short enough to read, and ends in that code."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import traceback

import pytest
from torch import nn
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.callbacks import GradientAccumulationScheduler
from levin.loggers import CSVLogger
from levin.testing import ManualOptimBoringModel, frames_of

MOST = 6


class OopsError(Exception):
    """What the tests raise."""


def fail(*args, **kwargs):
    raise OopsError


PLACES = {
    "fit": """
        prepare_data setup configure_model configure_optimizers configure_callbacks on_fit_start
        train_dataloader val_dataloader on_before_batch_transfer transfer_batch_to_device
        on_train_start on_train_epoch_start on_train_batch_start training_step backward optimizer_step
        optimizer_zero_grad configure_gradient_clipping on_before_optimizer_step on_train_batch_end
        on_validation_model_eval on_validation_epoch_start validation_step on_validation_epoch_end
        on_train_epoch_end on_train_end on_fit_end teardown
    """,
    "validate": "setup val_dataloader on_validation_start validation_step on_validation_end teardown",
    "test": "setup test_dataloader on_test_start test_step on_test_epoch_end teardown",
    "predict": "setup predict_dataloader on_predict_start predict_step on_predict_epoch_end teardown",
}
ALL_PLACES = [(name, place) for name, places in PLACES.items() for place in places.split()]


@pytest.fixture
def model(noting, batches):
    """A module with two batches of everything."""
    for kind in ("train", "val", "test", "predict"):
        setattr(noting, f"{kind}_dataloader", lambda: batches(2))
    return noting


def error_of(call, *args):
    """The error that a call ends in."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  # any
        call(*args)
    return raised.value


def last_function(error):
    return traceback.extract_tb(error.__traceback__)[-1].name


@pytest.mark.parametrize(("name", "place"), ALL_PLACES)
def test_few_frames_of_ours_stand_above_the_users(quiet, model, name, place):
    setattr(model, place, fail)
    error = error_of(getattr(quiet(max_epochs=1, num_sanity_val_steps=1), name), model)
    assert isinstance(error, OopsError)
    assert len(frames_of(error)) <= MOST
    assert last_function(error) == "fail"


SETTINGS = {
    "everything on": {
        "enable_checkpointing": True, "enable_model_summary": True, "profiler": "simple",
        "precision": "bf16-mixed", "accumulate_grad_batches": 1, "gradient_clip_val": 1.0,
        "callbacks": [GradientAccumulationScheduler({0: 1})],
    },
    "anomalies": {"detect_anomaly": True},
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_traceback_is_as_short_with_everything_on(quiet, model, settings, tmp_path):
    model.training_step = fail
    trainer = quiet(max_epochs=1, logger=CSVLogger(tmp_path), log_every_n_steps=1, **settings)
    assert len(frames_of(error_of(trainer.fit, model))) <= MOST


def test_a_callbacks_error_has_a_short_traceback(quiet, model):
    for hook in ("setup", "on_train_batch_end", "on_validation_end", "on_train_epoch_end", "teardown"):
        trainer = quiet(max_epochs=1, callbacks=type("Failing", (L.Callback,), {hook: fail})())
        error = error_of(trainer.fit, model)
        assert len(frames_of(error)) <= MOST, hook


def test_an_error_in_manual_optimization_has_a_short_traceback(quiet):
    class Failing(ManualOptimBoringModel):
        def loss(self, preds, labels=None):
            loss = super().loss(preds)
            loss.register_hook(fail)  # raised from within `manual_backward`
            return loss

    error = error_of(quiet(max_epochs=1).fit, Failing())
    assert isinstance(error, OopsError)
    assert len(frames_of(error)) <= MOST


def test_an_error_of_a_dataset_keeps_torchs_frames_and_few_of_ours(quiet, noting):
    class Broken(Dataset):
        def __len__(self):
            return 1

        __getitem__ = fail

    error = error_of(quiet(max_epochs=1, limit_val_batches=0).fit, noting, DataLoader(Broken()))
    assert len(frames_of(error)) <= MOST
    assert last_function(error) == "fail"


@pytest.mark.parametrize("place", ["forward", "training_step"])
def test_the_frames_of_the_users_own_code_are_all_there(quiet, model, place):
    def inner(batch):
        raise OopsError

    def middle(batch):
        inner(batch)

    model.training_step = middle
    names = [
        frame.name for frame in traceback.extract_tb(error_of(quiet(max_epochs=1).fit, model).__traceback__)
    ]
    assert names[-2:] == ["middle", "inner"]
    assert "fit" in names


def test_what_levin_refuses_itself_has_a_short_traceback_too(quiet, model):
    model.training_step = lambda batch: "no loss"
    assert len(frames_of(error_of(quiet(max_epochs=1).fit, model))) <= MOST
    assert len(frames_of(error_of(quiet(max_epochs=1).fit, nn.Linear(1, 1)))) <= MOST
    assert len(frames_of(error_of(quiet(max_epochs=1).fit, L.LightningModule()))) <= MOST
    assert len(frames_of(error_of(lambda: L.Trainer(gpus=1)))) <= MOST
    assert len(frames_of(error_of(lambda: quiet(max_epochs=-7)))) <= MOST


def test_an_error_keeps_its_cause(quiet, model):
    def training_step(batch):
        try:
            fail()
        except OopsError as error:
            raise ValueError("told better") from error

    model.training_step = training_step
    error = error_of(quiet(max_epochs=1).fit, model)
    assert isinstance(error.__cause__, OopsError)
    assert error.__suppress_context__


def test_all_frames_can_be_asked_for(quiet, model, monkeypatch):
    monkeypatch.setenv("LEVIN_FULL_TRACEBACK", "1")
    model.validation_step = fail
    whole = error_of(quiet(max_epochs=1).fit, model)
    monkeypatch.delenv("LEVIN_FULL_TRACEBACK")
    short = error_of(quiet(max_epochs=1).fit, model)
    assert len(frames_of(short)) < len(frames_of(whole))


@pytest.mark.slow
def test_what_a_user_sees_in_the_terminal_is_short():
    program = """
        import levin as L
        from levin.testing import BoringModel

        class Mine(BoringModel):
            def validation_step(self, batch, batch_idx):
                return self.layer(batch[0, :5])

        L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit(Mine())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith('  File "')]
    ours = [line for line in lines if "/levin/" in line]
    assert done.returncode == 1
    assert "mat1 and mat2" in done.stderr.strip().splitlines()[-1]
    assert len(ours) <= MOST
    assert len(lines) <= MOST + 6  # the user's two, torch's, and none of contextlib's
    assert "contextlib" not in "".join(lines)
