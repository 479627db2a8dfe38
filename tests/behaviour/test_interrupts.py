"""Ctrl-C once: the batch is finished and the run saved; twice: over at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.testing import BoringModel, RandomDataset
from levin.utils.errors import MisconfigurationException, SIGTERMException, StopSignal


class Counting(BoringModel):
    """Presses Ctrl-C in a batch, as often as told."""

    def __init__(self, at=None, times=1, number=signal.SIGINT):
        super().__init__()
        self.at, self.times, self.number, self.begun, self.ended = at, times, number, [], []

    def press(self, place):
        if place == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)

    def training_step(self, batch, batch_idx):
        self.begun.append(batch_idx)
        self.press(("train", self.current_epoch, batch_idx))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.press(("val", self.current_epoch, batch_idx))
        return super().validation_step(batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        self.press(("predict", 0, batch_idx))
        return batch_idx

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.ended.append(batch_idx)


def data(workers=0):
    return DataLoader(RandomDataset(32, 12), batch_size=2, num_workers=workers)


def trainer(folder, **arguments):
    defaults = {
        "default_root_dir": folder, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 2, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return L.Trainer(**{**defaults, **arguments})


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [("train", 0, 2), ("train", 0, 5), ("train", 1, 0)], ids=str)
def test_the_batch_is_finished_and_the_run_goes_on_from_there(tmp_path, at, workers):
    torch.manual_seed(0)
    model, loader = Counting(at), data(workers)
    torch.manual_seed(0)
    plain = Counting()
    interrupted = trainer(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(model, loader)
    assert model.ended == model.begun
    assert interrupted.interrupted
    assert interrupted.state.status == "interrupted"
    again = Counting()
    trainer(tmp_path).fit(again, loader, ckpt_path="last")
    trainer(tmp_path / "plain").fit(plain, loader)
    assert model.ended + again.ended == plain.ended
    assert torch.equal(again.layer.weight, plain.layer.weight)


def test_pressed_again_it_ends_at_once(tmp_path):
    model = Counting(("train", 0, 2), times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(model, data())
    assert (model.begun, model.ended) == ([0, 1, 2], [0, 1])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_it_ends_an_evaluation_and_a_prediction_too(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).validate(Counting(("val", 0, 1)), data())
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).predict(Counting(("predict", 0, 1)), data())


def test_callbacks_hear_of_it_and_nothing_is_written_without_a_checkpoint_callback(tmp_path):
    heard = []

    class Hear(L.Callback):
        def on_exception(self, trainer, pl_module, exception):
            heard.append(type(exception))

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, enable_checkpointing=False, callbacks=Hear()).fit(Counting(("train", 0, 1)), data())
    assert heard == [KeyboardInterrupt]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_afterwards_ctrl_c_is_what_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).fit(Counting(("train", 0, 1)), data())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_programs_own_handler_stays(tmp_path):
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        trainer(tmp_path, max_epochs=1).fit(Counting(("train", 0, 1)), data())
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [1]


def test_a_run_in_another_thread_needs_no_signals(tmp_path):
    model = Counting()
    thread = threading.Thread(target=lambda: trainer(tmp_path, max_epochs=1).fit(model, data()))
    thread.start()
    thread.join()
    assert len(model.ended) == 6


SCRIPT = """
import signal, sys
sys.path.insert(0, {folder!r})
from {module} import Counting, data, trainer
trainer({root!r}).fit(Counting(("train", 0, 2), {times}, signal.{name}), data(workers=1))
"""


def run_script(root, name, times=1):
    here = os.path.splitext(os.path.basename(__file__))[0]
    folder = os.path.dirname(__file__)
    script = SCRIPT.format(folder=folder, module=here, root=str(root), name=name, times=times)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_script_ends_as_one_that_was_interrupted(tmp_path):
    ended = run_script(tmp_path, "SIGINT")
    assert ended.returncode == -signal.SIGINT  # a shell shows 130
    assert "Ctrl-C: the run ends after this batch" in ended.stderr
    assert "KeyboardInterrupt" in ended.stderr
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_ends_a_script_with_its_own_status_and_a_checkpoint(tmp_path, times):
    ended = run_script(tmp_path, "SIGTERM", times)
    assert ended.returncode == 143
    assert ended.stderr.count("SIGTERM: the run ends after this batch") == 1
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]


def test_sigterm_can_be_caught_and_the_programs_own_handler_is_called(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    ours = trainer(tmp_path)
    try:
        with pytest.raises(SIGTERMException, match="143"):
            ours.fit(Counting(("train", 0, 1), number=signal.SIGTERM), data())
        own = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]
    assert own.__name__ == "<lambda>"
    assert ours.received_sigterm


def spin(runs):
    runs.set()
    while True:  # a handler runs between two lines, and not inside of a call that waits
        os.getpid()


def test_a_forked_process_dies_of_sigterm_as_ever(tmp_path):
    class Forking(Counting):
        def on_train_start(self):
            context = multiprocessing.get_context("fork")
            runs = context.Event()
            child = context.Process(target=spin, args=(runs,))
            child.start()
            assert runs.wait(20)  # Python drops a signal that comes while it is being forked
            child.terminate()
            child.join(20)
            self.status = child.exitcode

    model = Forking()
    trainer(tmp_path, max_epochs=1).fit(model, data())
    assert model.status == -signal.SIGTERM


def test_other_signals_stop_a_run_with_the_status_that_was_asked_for(tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    ours = trainer(tmp_path, stop_signals={"SIGUSR1": 99})
    with pytest.raises(StopSignal) as ended:
        ours.fit(Counting(("train", 0, 1), number=signal.SIGUSR1), data())
    assert ended.value.code == 99
    assert not ours.received_sigterm
    assert (ours.global_step, ours.state.status) == (2, "interrupted")
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SIGUSR9": 0}, "names 'SIGUSR9', and there is no such signal"),
        ({"SIGINT": 0}, "Ctrl-C has its own way"),
        ({"SIGKILL": 0}, "no program hears it"),
        ({"SIGUSR1": 300}, "exit status 300. It is one from 0 to 255"),
    ],
)
def test_signals_that_make_no_sense_are_refused(given, said):
    with pytest.raises(MisconfigurationException, match=said):
        L.Trainer(stop_signals=given)


def test_a_second_signal_does_not_cut_off_what_is_saved(tmp_path):
    class Again(Counting):
        def on_save_checkpoint(self, checkpoint):
            signal.raise_signal(signal.SIGTERM)

    ours = trainer(tmp_path)
    with pytest.raises(SIGTERMException):
        ours.fit(Again(("train", 0, 2), number=signal.SIGTERM), data())
    (saved,) = tmp_path.rglob("last.ckpt")
    assert torch.load(saved)["global_step"] == 3


def test_a_signal_that_comes_when_all_is_done_ends_what_comes_after_the_run(tmp_path):
    class Late(Counting):
        def teardown(self, stage):
            signal.raise_signal(signal.SIGTERM)

    ours = trainer(tmp_path, max_epochs=1)
    with pytest.raises(SIGTERMException):
        ours.fit(Late(), data())
    assert ours.state.status == "finished"
