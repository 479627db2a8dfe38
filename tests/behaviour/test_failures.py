"""When something raises, everybody is told, nothing is left half-done, and the trainer works again."""

from __future__ import annotations

import csv
import gc
import multiprocessing
import signal
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.loggers import CSVLogger, Logger
from levin.strategies import SingleDeviceStrategy
from levin.utils.errors import MisconfigurationException


class OopsError(Exception):
    """What the tests raise."""


class Witness(L.Callback):
    """Notes what `on_exception` was told, and what the trainer said of itself then."""

    def __init__(self):
        self.told = []

    def on_exception(self, trainer, pl_module, exception):
        self.told.append((exception, str(trainer.state.status)))


class Finalized(Logger):
    """Notes how runs ended."""

    name, version = "finalized", 0

    def __init__(self):
        super().__init__()
        self.endings = []

    def log_metrics(self, metrics, step=None): ...

    def log_hyperparams(self, params, *args, **kwargs): ...

    def finalize(self, status):
        self.endings.append(status)


@pytest.fixture
def trainer(quiet):
    """``trainer(*callbacks, **arguments)`` makes one with a `Witness` and a `Finalized`."""

    def make(*callbacks, **kwargs):
        settings = {"max_epochs": 2, "num_sanity_val_steps": 1, "log_every_n_steps": 1, **kwargs}
        return quiet(callbacks=[*callbacks, Witness()], logger=Finalized(), **settings)

    return make


@pytest.fixture
def model(noting, batches):
    """A module with two batches of everything, and a scheduler."""

    def configure_optimizers():
        optimizer = torch.optim.SGD(noting.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)]

    for kind in ("train", "val", "test", "predict"):
        setattr(noting, f"{kind}_dataloader", lambda: batches(2))
    noting.configure_optimizers = configure_optimizers
    return noting


def assert_failed(trainer, error):
    """Everybody was told of the error once, and the run is over."""
    witness, logger = trainer.callbacks[-1], trainer.logger
    assert witness.told == [(error, "interrupted")]
    assert logger.endings == ["failed"]
    assert (trainer.interrupted, trainer.state.status, trainer.state.stage) == (True, "interrupted", None)
    assert not any("log" in vars(callback) for callback in trainer.callbacks)


HOOKS = {
    "fit": """
        setup on_fit_start on_sanity_check_start on_sanity_check_end on_train_start on_train_epoch_start
        on_train_batch_start on_before_zero_grad on_before_backward on_after_backward on_before_optimizer_step
        on_train_batch_end on_validation_start on_validation_epoch_start on_validation_batch_start
        on_validation_batch_end on_validation_epoch_end on_validation_end on_train_epoch_end on_train_end
        on_fit_end teardown
    """,
    **{
        name: f"""
            setup on_{word}_start on_{word}_epoch_start on_{word}_batch_start on_{word}_batch_end
            on_{word}_epoch_end on_{word}_end teardown
        """
        for name, word in {"validate": "validation", "test": "test", "predict": "predict"}.items()
    },
}
EACH_HOOK = [(name, hook) for name, hooks in HOOKS.items() for hook in hooks.split()]


@pytest.mark.parametrize(("name", "hook"), EACH_HOOK)
def test_an_exception_in_a_callbacks_hook_ends_the_run_for_everybody(trainer, model, name, hook):
    error = OopsError(hook)

    def fail(self, *args, **kwargs):
        raise error

    failing = trainer(type("Failing", (L.Callback,), {hook: fail})())
    with pytest.raises(OopsError) as raised:
        getattr(failing, name)(model)
    assert raised.value is error
    assert_failed(failing, error)


MODULE_PARTS = {
    "fit": """
        prepare_data setup configure_model configure_optimizers on_fit_start train_dataloader val_dataloader
        on_train_start on_train_epoch_start on_before_batch_transfer transfer_batch_to_device
        on_after_batch_transfer on_train_batch_start training_step backward optimizer_step
        optimizer_zero_grad configure_gradient_clipping lr_scheduler_step on_train_batch_end
        on_validation_model_zero_grad on_validation_model_eval validation_step on_validation_model_train
        on_train_epoch_end on_train_end on_fit_end teardown
    """,
    "validate": """
        setup val_dataloader on_validation_model_eval validation_step on_validation_model_train teardown
    """,
    "test": "setup test_dataloader on_test_model_eval test_step on_test_model_train teardown",
    "predict": "setup predict_dataloader on_predict_model_eval predict_step on_predict_end teardown",
}
EACH_PART = [(name, part) for name, parts in MODULE_PARTS.items() for part in parts.split()]


@pytest.mark.parametrize(("name", "part"), EACH_PART)
def test_an_exception_in_a_part_of_the_module_ends_the_run_for_everybody(trainer, model, name, part):
    error = OopsError(part)

    def fail(*args, **kwargs):
        raise error

    setattr(model, part, fail)
    failing = trainer()
    with pytest.raises(OopsError) as raised:
        getattr(failing, name)(model)
    assert raised.value is error
    assert_failed(failing, error)


@pytest.mark.parametrize(("name", "part"), EACH_PART)
def test_after_an_exception_the_trainer_works_again(trainer, model, name, part):
    def fail(*args, **kwargs):
        raise OopsError

    healthy = vars(model).get(part)
    setattr(model, part, fail)
    tried = trainer()
    with pytest.raises(OopsError):
        getattr(tried, name)(model)
    delattr(model, part) if healthy is None else setattr(model, part, healthy)
    model.notes.clear()
    tried.fit_loop.max_epochs = tried.current_epoch + 1
    getattr(tried, name)(model)
    assert tried.logger.endings == ["failed", "success"]
    assert (tried.state.status, tried.interrupted) == ("finished", False)
    assert len(model.noted({"fit": "train", "validate": "val"}.get(name, name))) == 2
    assert model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


class TornDown(SingleDeviceStrategy):
    """Counts how often it was torn down, which may be more than once."""

    ends = 0

    def teardown(self):
        self.ends += 1
        super().teardown()


BEFORE_TRAINING = ["setup", "on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start"]


@pytest.mark.parametrize("hook", [*HOOKS["fit"].split(), "on_save_checkpoint", "state_dict"])
def test_after_an_exception_files_are_whole_counters_true_and_nobody_works_on(noting, tmp_path, hook):
    class Failing(L.Callback): ...

    def fail(callback, *args, **kwargs):
        if hook in BEFORE_TRAINING or trainer.current_epoch >= 1:
            raise OopsError(hook)
        return {} if hook == "state_dict" else None

    setattr(Failing, hook, fail)
    noting.on_train_batch_end = lambda outputs, batch, batch_idx: noting.log("loss", outputs["loss"])
    validates = "validation" in hook or "sanity" in hook
    train, val = (DataLoader(torch.arange(3.0), num_workers=count) for count in (not validates, validates))
    trainer = L.Trainer(
        accelerator="cpu", strategy=TornDown(), max_epochs=2, log_every_n_steps=1, enable_progress_bar=False,
        logger=CSVLogger(tmp_path, name="", version=""), enable_model_summary=False, callbacks=[
            ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, save_last=True), Failing(),
        ],
    )  # fmt: skip
    with pytest.raises(OopsError):
        trainer.fit(noting, train, val)
    assert multiprocessing.active_children() == []
    assert trainer.strategy.ends > 0
    assert noting.num_steps == trainer.global_step
    steps = {path.name: torch.load(path)["global_step"] for path in tmp_path.glob("*.ckpt")}
    names = {f"epoch={(step - 1) // 3}-step={step}.ckpt": step for step in steps.values()}
    assert steps == ({**names, "last.ckpt": max(steps.values())} if steps else {})
    assert {path.name for path in tmp_path.iterdir()} <= {
        *steps,
        "metrics.csv",
        "hparams.yaml",
        ".checkpoints.jsonl",
    }
    with (tmp_path / "metrics.csv").open() if trainer.global_step else nullcontext([]) as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(trainer.global_step))[: len(rows)]
    assert len(rows) >= trainer.global_step - 1


def test_after_an_exception_a_fit_counts_on_from_whole_epochs(quiet, noting, batches, tmp_path):
    def on_train_epoch_end():
        if noting.current_epoch == 1 and not noting.noted("failed"):
            noting.note("failed")
            raise OopsError

    noting.on_train_epoch_end = on_train_epoch_end
    trainer = quiet(max_epochs=3, limit_val_batches=0)
    with pytest.raises(OopsError):
        trainer.fit(noting, batches(2))
    noting.on_train_batch_end = lambda *_: trainer.save_checkpoint(tmp_path / "x.ckpt")
    noting.on_train_end = lambda: None
    trainer.max_epochs = 2
    trainer.fit(noting, batches(2))
    assert noting.noted("train") == ["0.0", "0.1", "1.0", "1.1", "1.0", "1.1"]
    assert (trainer.current_epoch, trainer.global_step) == (2, 6)
    epochs = torch.load(tmp_path / "x.ckpt")["loops"]["fit_loop"]["epoch_progress"]["current"]
    assert epochs == {"ready": 2, "started": 2, "processed": 1, "completed": 1}


def test_a_fault_that_is_told_before_the_first_hook_ends_the_run_as_well(trainer, batches):
    failing = trainer()
    with pytest.raises(MisconfigurationException) as raised:
        failing.fit(L.LightningModule(), batches(1))
    assert_failed(failing, raised.value)


def test_a_call_that_can_not_be_is_refused_before_anything_begins(trainer, batches):
    refused = trainer()
    with pytest.raises(TypeError):
        refused.fit(nn.Linear(1, 1), batches(1))
    assert (refused.state.status, refused.callbacks[-1].told, refused.logger.endings) == (
        "initializing",
        [],
        [],
    )


# ---------------------------------------------------------------------- data


class Broken(Dataset):
    """Rows of which the second can't be read."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise OopsError(index)
        return torch.tensor(float(index))


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_an_exception_of_a_dataset_comes_out_as_it_is(trainer, noting, name):
    failing = trainer(limit_val_batches=0 if name == "fit" else 1.0)
    with pytest.raises(OopsError) as raised:
        getattr(failing, name)(noting, DataLoader(Broken()))
    assert_failed(failing, raised.value)


def test_an_exception_of_the_datamodule_is_told_to_it_as_well(trainer, noting):
    class Failing(L.LightningDataModule):
        told = None

        def train_dataloader(self):
            raise OopsError

        val_dataloader = train_dataloader

        def on_exception(self, exception):
            self.told = exception

    data, failing = Failing(), trainer()
    with pytest.raises(OopsError) as raised:
        failing.fit(noting, datamodule=data)
    assert data.told is raised.value
    assert_failed(failing, raised.value)


# ---------------------------------------------------------------------- modes, signals, memory


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_an_exception_in_an_evaluation_gives_the_modes_back(trainer, model, name):
    def fail(*args):
        raise OopsError

    model.dropout = nn.Dropout()
    model.frozen = nn.Dropout().eval()
    setattr(model, {"fit": "validation", "validate": "validation"}.get(name, name) + "_step", fail)
    with pytest.raises(OopsError):
        getattr(trainer(), name)(model)
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(3), GeneratorExit])
def test_what_is_no_exception_leaves_fit_as_it_is(trainer, model, error, said):
    def fail(batch):
        raise error

    model.training_step = fail
    failing = trainer()
    with pytest.raises(BaseException) as raised:  # noqa: PT011  # two of them are none
        failing.fit(model)
    assert raised.type is (error if isinstance(error, type) else type(error))
    assert_failed(failing, raised.value)
    assert ("KeyboardInterrupt" in said()) is (error is KeyboardInterrupt)


@pytest.fixture
def interruptible():
    """Let SIGINT raise KeyboardInterrupt; a shell's background job, as CI may be, ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_from_the_keyboard_stops_at_once_and_runs_no_closing_hooks(trainer, model):
    model.on_train_batch_end = lambda *_: signal.raise_signal(signal.SIGINT)
    model.on_train_end = model.on_fit_end = lambda: model.note("closing")
    interrupted = trainer(num_sanity_val_steps=0)
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted.fit(model)
    assert model.notes == ["train 0.0"]
    assert_failed(interrupted, raised.value)


def test_a_failed_run_keeps_no_batch_and_no_graph(trainer, model):
    kept = []

    def training_step(batch):
        loss = (model.weight * batch).sum()
        kept.append(weakref.ref(loss))
        if len(kept) == 2:
            raise OopsError
        return loss

    model.training_step = training_step
    failing = trainer()
    with pytest.raises(OopsError):
        failing.fit(model)
    failing.callbacks[-1].told.clear()  # an exception keeps the frames that it went through
    gc.collect()
    assert [loss() for loss in kept] == [None, None]
