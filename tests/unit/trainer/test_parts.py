from __future__ import annotations

import sys

import pytest

import levin as L
from levin.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    ModelSummary,
    RichModelSummary,
    Timer,
    TQDMProgressBar,
)
from levin.core.callback import Checkpoint
from levin.loggers import CSVLogger, TensorBoardLogger
from levin.loggers.base import DummyLogger
from levin.trainer.parts import gather_callbacks, gather_loggers, has_timer, in_order, with_callbacks_of

OFF = {"checkpoints": False, "progress_bar": False, "summary": False, "max_time": None}


class Finder(L.Callback):
    order = -10


def kinds(callbacks):
    return [type(callback).__name__ for callback in callbacks]


def test_finders_come_first_and_checkpoints_last_the_others_as_they_are():
    given = [Checkpoint(), Timer(), Finder(), L.Callback(), Checkpoint()]
    assert kinds(in_order(given)) == ["Finder", "Timer", "Callback", "Checkpoint", "Checkpoint"]


def test_the_default_callbacks_are_there_unless_they_are_switched_off_or_given():
    assert gather_callbacks(None, **OFF) == []
    assert kinds(gather_callbacks([], **{**OFF, "summary": None})) == ["ModelSummary"]
    bar = {"progress_bar": None, "summary": None}
    assert kinds(gather_callbacks(None, **{**OFF, **bar})) == ["RichProgressBar", "RichModelSummary"]
    tqdm, summary, checkpoint = TQDMProgressBar(), RichModelSummary(), ModelCheckpoint()
    on = dict.fromkeys(OFF)
    assert gather_callbacks([checkpoint, tqdm, summary], **on) == [tqdm, summary, checkpoint]


def test_a_plain_summary_goes_with_a_plain_bar():
    callbacks = gather_callbacks(TQDMProgressBar(), **{**OFF, "progress_bar": None, "summary": None})
    assert [type(callback) for callback in callbacks] == [TQDMProgressBar, ModelSummary]


def test_a_time_limit_is_a_timer():
    callbacks = gather_callbacks(None, **{**OFF, "max_time": {"seconds": 9}})
    assert has_timer(callbacks)
    assert callbacks[0].time_remaining() == 9.0
    assert not has_timer(gather_callbacks(None, **OFF))


def test_a_single_callback_may_be_given_and_so_may_any_series():
    callback = L.Callback()
    assert gather_callbacks(callback, **OFF) == [callback]
    assert gather_callbacks((each for each in (callback,)), **OFF) == [callback]


def test_a_callback_that_can_be_iterated_over_is_one_callback():
    class Several(L.Callback):
        def __iter__(self):
            return iter([1, 2])

    callback = Several()
    assert gather_callbacks(callback, **OFF) == [callback]


class Module(L.LightningModule):
    def __init__(self, own):
        super().__init__()
        self.own = own

    def configure_callbacks(self):
        return self.own


@pytest.mark.parametrize("form", [lambda own: own, lambda own: [own], lambda own: (own,)])
def test_a_modules_callback_takes_the_place_of_the_trainers_of_its_class(form):
    theirs, ours, other = EarlyStopping("a"), EarlyStopping("b"), L.Callback()
    assert with_callbacks_of(Module(form(ours)), [theirs, other])[-1] is ours
    assert theirs not in with_callbacks_of(Module(form(ours)), [theirs])


def test_a_derived_class_takes_the_place_of_its_base_but_not_the_other_way_round():
    class Special(EarlyStopping):
        pass

    base, derived = EarlyStopping("a"), Special("a")
    assert with_callbacks_of(Module(derived), [base]) == [derived]
    assert kinds(with_callbacks_of(Module(EarlyStopping("b")), [derived])) == ["Special", "EarlyStopping"]


def test_a_modules_checkpoint_comes_last_and_its_callbacks_are_checked():
    checkpoint = ModelCheckpoint()
    assert with_callbacks_of(Module([checkpoint, Timer()]), [L.Callback()])[-1] is checkpoint
    with pytest.raises(RuntimeError, match="2 callbacks with the state key"):
        with_callbacks_of(Module([EarlyStopping("a"), EarlyStopping("a")]), [])


def test_loggers_are_the_default_given_or_none(tmp_path):
    logger = CSVLogger(tmp_path)
    assert gather_loggers(logger, str(tmp_path), dev_run=False) == [logger]
    assert gather_loggers((logger, logger), str(tmp_path), dev_run=False) == [logger, logger]
    for default in (True, None):
        assert isinstance(gather_loggers(default, str(tmp_path), dev_run=False)[0], TensorBoardLogger)
    assert gather_loggers(False, str(tmp_path), dev_run=False) == []


def test_the_default_logger_writes_tables_where_there_is_no_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it could not be imported
    made = gather_loggers(True, str(tmp_path), dev_run=False)[0]
    assert isinstance(made, CSVLogger)
    assert made.save_dir == str(tmp_path)


@pytest.mark.parametrize("given", [True, None])
def test_a_dev_run_logs_to_nowhere(given, tmp_path):
    assert isinstance(gather_loggers(given, str(tmp_path), dev_run=True)[0], DummyLogger)
    assert gather_loggers(False, str(tmp_path), dev_run=True) == []
    assert list(tmp_path.iterdir()) == []
