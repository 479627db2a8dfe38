"""What a training step costs beyond the user's and torch's own work: counted, so that every machine agrees.

The figures are the budget of docs/design.md. All runs are on one device in 32 bits.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from statistics import median

import pytest
import torch
from torch.utils.data import DataLoader

import levin
from levin import Callback, Trainer
from levin.loggers import CSVLogger
from levin.testing import BoringModel, RandomDataset, count_calls, count_reads, frames_of

CALLS_PER_STEP = 40
CALLS_PER_LOG = 4
CALLS_PER_FABRIC_STEP = 20
FRAMES_TO_OPTIMIZER_STEP = 6
FRAMES_IN_A_TRACEBACK = 6
STEPS = 12

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "limit_val_batches": 0, "max_epochs": 1, "limit_train_batches": STEPS,
}  # fmt: skip

LOG_OPTIONS = [
    {},
    {"on_epoch": True},
    {"prog_bar": True},
    {"on_step": True, "on_epoch": True, "prog_bar": True},
]


class Model(BoringModel):
    """Marks each step, and logs as often as asked for."""

    def __init__(self, mark=lambda: None, num_logs=0, **options):
        super().__init__()
        self.mark, self.num_logs, self.options = mark, num_logs, options

    def training_step(self, batch, batch_idx):
        self.mark()
        loss = self.step(batch)
        for number in range(self.num_logs):
            self.log(f"loss{number}", loss, **self.options)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(RandomDataset(32, 4 * STEPS), batch_size=4)


def calls_per_step(*, callbacks=(), num_logs=0, make=Model, **settings):
    """The median number of levin's calls in a step, and where they are."""
    options = settings.pop("options", {})

    def run(mark):
        Trainer(**{**QUIET, "callbacks": list(callbacks), **settings}).fit(make(mark, num_logs, **options))

    steps = count_calls(run)
    assert len(steps) == STEPS - 1
    typical = sorted(steps, key=lambda step: sum(step.values()))[len(steps) // 2]
    return median(sum(step.values()) for step in steps), typical


def test_a_step_without_callbacks():
    calls, where = calls_per_step()
    assert 0 < calls <= CALLS_PER_STEP, where


class IdleInTraining(Callback):
    """Listens at the ends of a run only."""

    def setup(self, trainer, pl_module, stage):
        pass

    def on_fit_start(self, trainer, pl_module):
        pass

    def on_fit_end(self, trainer, pl_module):
        pass


class Empty(Callback):
    """Listens to nothing."""


def test_idle_callbacks_cost_nothing():
    alone, _ = calls_per_step()
    with_six, where = calls_per_step(
        callbacks=[IdleInTraining() for _ in range(3)] + [Empty() for _ in range(3)]
    )
    assert with_six == alone, where


def test_a_step_of_ones_own_loop_with_a_fabric():
    def run(mark):
        fabric = levin.Fabric(accelerator="cpu", devices=1)
        model = torch.nn.Linear(32, 2)
        model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for batch in fabric.setup_dataloaders(DataLoader(RandomDataset(32, 4 * STEPS), batch_size=4)):
            mark()
            optimizer.zero_grad()
            fabric.backward(model(batch).sum())
            fabric.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()

    steps = count_calls(run)
    assert len(steps) == STEPS - 1
    assert 0 < median(sum(step.values()) for step in steps) <= CALLS_PER_FABRIC_STEP, steps[0]


@pytest.mark.parametrize("options", LOG_OPTIONS, ids=str)
def test_a_logged_value(options):
    without, _ = calls_per_step()
    with_three, where = calls_per_step(num_logs=3, options=options)
    assert with_three - without <= 3 * CALLS_PER_LOG, where


class FramesOfStep(torch.optim.SGD):
    """Remembers who called its step."""

    frames: tuple = ()

    def step(self, closure=None):
        type(self).frames = tuple(frames_of())
        return super().step(closure)


class WatchesOptimizer(Model):
    def configure_optimizers(self):
        return FramesOfStep(self.parameters(), lr=0.1)


def test_the_way_from_fit_to_the_optimizers_step_is_short():
    Trainer(**QUIET).fit(WatchesOptimizer())
    assert 0 < len(FramesOfStep.frames) <= FRAMES_TO_OPTIMIZER_STEP, FramesOfStep.frames
    assert "fit" in FramesOfStep.frames[0]


PACKAGE = str(Path(levin.__file__).parent)  # a clone may be called levin, too


def reads_in(run):
    with count_reads() as reads:
        run()
    return [read for read in reads if PACKAGE in read and "/levin/testing/" not in read]


class ReadsBetween(Callback):
    """Keeps the reads that happen between the ends of two batches which are no log points."""

    def __init__(self, reads):
        self.reads, self.between, self.seen = reads, [], None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.seen is not None:
            self.between += self.reads[self.seen :]
        self.seen = len(self.reads)


@pytest.mark.parametrize("options", LOG_OPTIONS, ids=str)
def test_no_value_is_read_between_two_log_points(options, tmp_path):
    with count_reads() as reads:
        callback = ReadsBetween(reads)
        settings = {
            **QUIET,
            "logger": CSVLogger(tmp_path),
            "log_every_n_steps": STEPS,
            "callbacks": [callback],
        }
        Trainer(**settings).fit(Model(num_logs=2, **options))
    assert callback.seen is not None
    assert callback.between == []


def test_progress_bar_values_are_not_read_unless_the_bar_draws(tmp_path):
    pytest.importorskip("tqdm", reason="the bar is optional")
    from levin.callbacks import TQDMProgressBar

    with count_reads() as reads:
        callback = ReadsBetween(reads)
        settings = {**QUIET, "enable_progress_bar": True, "log_every_n_steps": STEPS}
        settings["callbacks"] = [callback, TQDMProgressBar(refresh_rate=1000)]
        Trainer(**settings).fit(Model(num_logs=2, prog_bar=True))
    assert callback.between == []


def test_at_a_log_point_all_values_are_read_at_once(tmp_path):
    def run():
        settings = {
            **QUIET,
            "logger": CSVLogger(tmp_path),
            "log_every_n_steps": 4,
            "enable_model_summary": False,
        }
        Trainer(**settings).fit(Model(num_logs=5))

    assert len(reads_in(run)) <= STEPS // 4


# ---------------------------------------------------------------------- tracebacks


def broken(*args, **kwargs):
    raise ArithmeticError("the user's")


class BreaksInTraining(Model):
    def training_step(self, batch, batch_idx):
        broken()


class BreaksInValidation(Model):
    def validation_step(self, batch, batch_idx):
        broken()


class BreaksInHook(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        broken()


class LogsATensorOfTwo(Model):
    def training_step(self, batch, batch_idx):
        self.log("loss", torch.ones(2))
        return self.step(batch)


CASES = {
    "training_step": (BreaksInTraining, {}),
    "validation_step": (BreaksInValidation, {"limit_val_batches": 1}),
    "validation_step without sanity check": (
        BreaksInValidation,
        {"limit_val_batches": 1, "num_sanity_val_steps": 0},
    ),
    "callback": (Model, {"callbacks": [BreaksInHook()]}),
    "self.log": (LogsATensorOfTwo, {}),
}


@pytest.mark.parametrize(("make", "settings"), CASES.values(), ids=CASES.keys())
def test_a_users_error_shows_few_frames_of_levin(make, settings):
    with pytest.raises((ArithmeticError, ValueError)) as caught:
        Trainer(**{**QUIET, **settings}).fit(make())
    frames = frames_of(caught.value)
    assert 0 < len(frames) <= FRAMES_IN_A_TRACEBACK, frames


def test_the_users_line_is_the_last_of_the_traceback():
    with pytest.raises(ArithmeticError) as caught:
        Trainer(**QUIET).fit(BreaksInTraining())
    assert caught.traceback[-1].name == "broken"
    assert inspect.getsourcefile(broken) == str(caught.traceback[-1].path)
