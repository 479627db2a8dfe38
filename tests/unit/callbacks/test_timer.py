from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch.utils.data import DataLoader

from levin.callbacks import Callback, ModelCheckpoint, Timer
from levin.callbacks.timer import Interval
from levin.utils.errors import MisconfigurationException


class Clock:
    """A clock that a test sets, in place of the one of the `time` module."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("levin.callbacks.timer.time", clock)
    return clock


class Tick(Callback):
    """Let ten seconds pass in each training batch, one in each validation."""

    def __init__(self, clock):
        self.clock = clock

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.clock.now += 10

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.clock.now += 1


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("00:00:00:01", 1),
        ("01:02:03:04", 93784),
        (" 00:00:61:00 ", 3660),
        (timedelta(seconds=2), 2),
        ({"minutes": 1, "seconds": 1}, 61),
        (None, None),
    ],
)
def test_durations_are_understood(duration, seconds):
    timer = Timer(duration)
    assert timer.time_remaining() == seconds
    assert timer.time_elapsed() == 0


@pytest.mark.parametrize("duration", ["1:2", "soon", 5, ""])
def test_what_is_no_duration_is_refused(duration):
    with pytest.raises(MisconfigurationException, match="DD:HH:MM:SS"):
        Timer(duration)


def test_an_unknown_interval_is_refused():
    with pytest.raises(MisconfigurationException, match=r"interval='batch'.*\['step', 'epoch'\]"):
        Timer(interval="batch")


@pytest.mark.parametrize(("interval", "steps"), [("step", 3), (Interval.step, 3), ("epoch", 4)])
def test_training_ends_when_its_time_is_up(fit, clock, interval, steps, caplog):
    with caplog.at_level("INFO", "levin"):
        trainer = fit([Timer({"seconds": 30}, interval), Tick(clock)], limit_val_batches=0)
    assert trainer.global_step == steps
    assert any("up after 0:00:" in line for line in caplog.messages)


def test_a_timer_can_be_quiet(fit, clock, caplog):
    with caplog.at_level("INFO", "levin"):
        fit([Timer({"seconds": 30}, verbose=False), Tick(clock)])
    assert not any("time" in line for line in caplog.messages)


def test_each_stage_is_measured(fit, clock, stepping):
    timer = Timer()
    trainer = fit([timer, Tick(clock)], max_epochs=1, num_sanity_val_steps=1)
    assert timer.time_elapsed("train") == 41
    assert timer.time_elapsed("validate") == 1
    assert timer.time_elapsed("sanity_check") == 1
    assert (timer.start_time(), timer.end_time()) == (1001, 1042)
    assert (timer.start_time("test"), timer.end_time("test"), timer.time_elapsed("test")) == (None, None, 0)
    assert timer.time_remaining() is None

    stepping.test_step = stepping.validation_step
    stepping.predict_step = lambda self, batch, batch_idx: clock.__setattr__("now", clock.now + 5)
    trainer.test(stepping(), DataLoader(torch.zeros(2, 1)), verbose=False)
    trainer.predict(stepping(), DataLoader(torch.zeros(2, 1)))
    assert (timer.time_elapsed("test"), timer.time_elapsed("predict")) == (0, 10)
    assert timer.time_elapsed("train") == 41


def test_time_passes_while_a_stage_runs(clock):
    timer = Timer({"seconds": 10})
    timer.on_train_start(None, None)
    clock.now += 4
    assert (timer.time_elapsed(), timer.time_remaining()) == (4, 6)


def test_a_resumed_run_has_what_is_left(fit, clock, tmp_path):
    saving = ModelCheckpoint(tmp_path / "c", "f")
    fit([Timer({"seconds": 60}), Tick(clock), saving], limit_val_batches=0, max_epochs=1)
    timer = Timer({"seconds": 60})
    path = tmp_path / "c" / "f.ckpt"
    trainer = fit([timer, Tick(clock), saving], limit_val_batches=0, max_epochs=9, ckpt_path=path)
    assert (trainer.global_step, timer.time_elapsed()) == (6, 60)


def test_a_resumed_run_without_time_left_ends_at_once(fit, clock, tmp_path):
    saving = ModelCheckpoint(tmp_path / "c", "f")
    fit([Timer({"seconds": 30}), Tick(clock), saving], limit_val_batches=0, max_epochs=1)
    trainer = fit(
        [Timer({"seconds": 30}), Tick(clock), saving],
        limit_val_batches=0,
        ckpt_path=tmp_path / "c" / "f.ckpt",
    )
    assert trainer.global_step == 3


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="train, sanity_check, validate"):
        Timer().time_elapsed("training")


def test_the_trainers_stages_are_understood():
    from levin.trainer.states import RunningStage

    assert Timer().time_elapsed(RunningStage.TRAINING) == 0
