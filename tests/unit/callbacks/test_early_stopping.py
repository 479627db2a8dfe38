from __future__ import annotations

import math

import pytest
import torch

from levin.callbacks import Callback, EarlyStopping, ModelCheckpoint
from levin.callbacks.early_stopping import EarlyStoppingReason
from levin.checkpoint.io import load
from levin.utils.errors import MisconfigurationException


def at_each_epoch(*values):
    """A score that takes these values at the ends of epochs of four steps; the last one stays."""
    return lambda step: values[min(step // 4, len(values)) - 1]


@pytest.mark.parametrize(
    ("arguments", "values", "epochs", "reason"),
    [
        ({}, (1.0,), 4, "PATIENCE_EXHAUSTED"),
        ({"patience": 1}, (1.0, 2.0), 2, "PATIENCE_EXHAUSTED"),
        ({"patience": 0}, (1.0, 2.0), 2, "PATIENCE_EXHAUSTED"),
        ({"patience": 2}, (1.0, 2.0, 0.5, 3.0), 5, "PATIENCE_EXHAUSTED"),
        ({"patience": 1, "mode": "max"}, (1.0, 2.0, 1.5), 3, "PATIENCE_EXHAUSTED"),
        ({"patience": 2, "min_delta": 0.1}, (1.0, 0.95, 0.91), 3, "PATIENCE_EXHAUSTED"),
        ({"patience": 2, "min_delta": 0.1, "mode": "max"}, (1.0, 1.05, 1.09), 3, "PATIENCE_EXHAUSTED"),
        ({"stopping_threshold": 2.5}, (3.0, 2.5, 2.0), 3, "STOPPING_THRESHOLD"),
        ({"stopping_threshold": 2.5, "mode": "max"}, (1.0, 2.0, 3.0), 3, "STOPPING_THRESHOLD"),
        ({"divergence_threshold": 5.0}, (3.0, 5.0, 6.0), 3, "DIVERGENCE_THRESHOLD"),
        ({"divergence_threshold": 1.0, "mode": "max"}, (3.0, 1.0, 0.5), 3, "DIVERGENCE_THRESHOLD"),
        ({}, (3.0, math.nan), 2, "NON_FINITE_METRIC"),
        ({}, (3.0, math.inf), 2, "NON_FINITE_METRIC"),
        ({"check_finite": False}, (3.0, math.nan, 2.0, 1.0, 0.5, 0.4), 6, "NOT_STOPPED"),
        ({}, (6.0, 5.0, 4.0, 3.0, 2.0, 1.0), 6, "NOT_STOPPED"),
    ],
    ids=str,
)
def test_when_and_why_training_ends(fit, stepping, arguments, values, epochs, reason):
    stopping = EarlyStopping("score", **arguments)
    trainer = fit(stopping, stepping(at_each_epoch(*values)), max_epochs=6)
    assert trainer.current_epoch == epochs
    assert stopping.stopping_reason is EarlyStoppingReason[reason]
    assert stopping.stopped_epoch == (0 if reason == "NOT_STOPPED" else epochs - 1)
    assert (stopping.stopping_reason_message is None) == (reason == "NOT_STOPPED")


def test_the_best_score_and_the_wait_can_be_read(fit, stepping):
    stopping = EarlyStopping("score", patience=2)
    fit(stopping, stepping(at_each_epoch(3.0, 1.0, 2.0)), max_epochs=6)
    assert (float(stopping.best_score), stopping.wait_count) == (1.0, 2)
    assert "the best is 1.000" in stopping.stopping_reason_message


@pytest.mark.parametrize(
    ("arguments", "settings", "looks"),
    [
        ({}, {}, [4, 8]),
        ({}, {"check_val_every_n_epoch": 2}, [4, 8]),
        ({}, {"val_check_interval": 2}, [2, 4, 6, 8]),
        ({"check_on_train_epoch_end": True}, {"val_check_interval": 2}, [4, 8]),
        ({"check_on_train_epoch_end": False}, {}, [4, 8]),
    ],
    ids=str,
)
def test_the_moments_of_looking(fit, stepping, arguments, settings, looks):
    class Noting(EarlyStopping):
        def _run_early_stopping_check(self, trainer):
            seen.append(trainer.global_step)
            super()._run_early_stopping_check(trainer)

    seen: list[int] = []
    epochs = 4 if "check_val_every_n_epoch" in settings else 2
    fit(Noting("score", patience=9, **arguments), max_epochs=epochs, **settings)
    assert seen == ([8, 16] if epochs == 4 else looks)


def test_a_metric_of_the_epochs_end_is_seen(fit, stepping):
    class Logging(stepping):
        def on_train_epoch_end(self):
            self.log("own", 1.0)

    assert fit(EarlyStopping("own", patience=1), Logging(), max_epochs=5).current_epoch == 2


def test_a_missing_metric_is_an_error_with_a_guess(fit):
    with pytest.raises(RuntimeError, match=r"watches 'scor'.*\['score'\]. Did you mean 'score'"):
        fit(EarlyStopping("scor"))


def test_a_missing_metric_can_be_a_warning(fit):
    with pytest.warns(RuntimeWarning, match="strict=False"):
        assert fit(EarlyStopping("scor", strict=False)).current_epoch == 3


@pytest.mark.parametrize(
    "settings", [{"fast_dev_run": True}, {"max_epochs": 0, "num_sanity_val_steps": 2}], ids=str
)
def test_a_run_that_does_not_train_needs_no_metric(fit, settings):
    fit(EarlyStopping("nothing"), **settings)


def test_an_evaluation_needs_no_metric(fit, stepping):
    trainer = fit(EarlyStopping("score", check_on_train_epoch_end=False), max_epochs=1)
    other = stepping(name="other")
    trainer.validate(other, torch.utils.data.DataLoader(torch.zeros(2, 1)), verbose=False)


def test_it_goes_on_where_it_was(fit, tmp_path, stepping):
    score = at_each_epoch(1.0, 2.0, 2.0, 2.0, 2.0)
    saving = ModelCheckpoint(tmp_path / "c", "f")
    fit([EarlyStopping("score", patience=3), saving], stepping(score), max_epochs=2)
    resumed = EarlyStopping("score", patience=99)
    trainer = fit([resumed, saving], stepping(score), max_epochs=9, ckpt_path=tmp_path / "c" / "f.ckpt")
    assert (trainer.current_epoch, resumed.patience, resumed.wait_count) == (4, 3, 3)


def test_the_state_is_plain_and_comes_back(fit, tmp_path, stepping):
    stopping = EarlyStopping("score", patience=1)
    fit([stopping, ModelCheckpoint(tmp_path / "c", "f")], stepping(at_each_epoch(1.0, 2.0)))
    state = load(tmp_path / "c" / "f.ckpt")["callbacks"]["EarlyStopping{'monitor': 'score', 'mode': 'min'}"]
    assert state["stopping_reason"] == 3
    other = EarlyStopping("score")
    other.load_state_dict(state)
    assert other.state_dict() == stopping.state_dict()


def test_a_state_without_a_reason_is_taken_too():
    stopping = EarlyStopping("score")
    stopping.load_state_dict(
        {"wait_count": 1, "stopped_epoch": 0, "best_score": torch.tensor(1.0), "patience": 2}
    )
    assert stopping.stopping_reason is EarlyStoppingReason.NOT_STOPPED


def test_what_happens_is_told_on_demand(fit, stepping, caplog):
    with caplog.at_level("INFO", "levin"):
        stopping = EarlyStopping("score", patience=1, verbose=True)
        fit(stopping, stepping(at_each_epoch(3.0, 2.0, 2.5)), max_epochs=6)
    lines = [line for line in caplog.messages if "score" in line]
    assert lines == [
        "Metric score improved and is 3.000.",
        "Metric score improved by 1.000 and is 2.000.",
        stopping.stopping_reason_message,
    ]


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(MisconfigurationException, match="mode='auto'"):
        EarlyStopping("score", mode="auto")


def test_a_subclass_can_look_whenever_it_likes(fit, stepping):
    class EachBatch(EarlyStopping):
        def on_train_batch_end(self, trainer, *_):
            if trainer.callback_metrics:
                self._run_early_stopping_check(trainer)

    class Logging(stepping):
        def training_step(self, batch, batch_idx):
            self.log("loss", 1.0)
            return super().training_step(batch, batch_idx)

    stopping = EachBatch("loss", patience=2, check_on_train_epoch_end=True)
    assert fit([stopping, Callback()], Logging()).global_step == 3
    assert stopping.monitor_op is torch.lt
