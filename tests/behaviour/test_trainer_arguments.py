"""Trainer(...): what each argument takes, where else it may come from, and what fits together."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

import levin as L
from levin.accelerators import CPUAccelerator
from levin.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    ModelSummary,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from levin.checkpoint import TorchCheckpointIO
from levin.loggers import CSVLogger, TensorBoardLogger
from levin.precision import MixedPrecision
from levin.profilers import SimpleProfiler
from levin.strategies import SingleDeviceStrategy
from levin.utils.errors import LevinDeprecationWarning, MisconfigurationException


def test_without_arguments_everything_has_its_known_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = L.Trainer(accelerator="cpu")
    values = {
        "precision": "32-true", "num_nodes": 1, "num_devices": 1, "fast_dev_run": False,
        "max_epochs": None, "min_epochs": None, "max_steps": -1, "min_steps": None,
        "limit_train_batches": 1.0, "limit_val_batches": 1.0, "limit_test_batches": 1.0,
        "limit_predict_batches": 1.0, "overfit_batches": 0.0,
        "val_check_interval": 1.0, "check_val_every_n_epoch": 1, "num_sanity_val_steps": 2,
        "log_every_n_steps": 50, "accumulate_grad_batches": 1, "gradient_clip_val": None,
        "gradient_clip_algorithm": None, "reload_dataloaders_every_n_epochs": 0, "barebones": False,
        "default_root_dir": os.path.realpath(tmp_path), "enable_autolog_hparams": True,
    }  # fmt: skip
    assert {name: getattr(trainer, name) for name in values} == values
    kinds = [type(callback).__name__ for callback in trainer.callbacks]
    assert kinds == ["RichProgressBar", "RichModelSummary", "ModelCheckpoint"]
    assert isinstance(trainer.logger, TensorBoardLogger)
    assert list(tmp_path.iterdir()) == []


def test_arguments_may_be_given_in_order():
    trainer = L.Trainer("cpu", "auto", 1, 1, "bf16-true", False)
    assert (trainer.precision, trainer.loggers) == ("bf16-true", [])


def test_too_many_arguments_and_doubled_ones_are_refused():
    with pytest.raises(TypeError, match="takes 46 arguments, and got 50"):
        L.Trainer(*range(50))
    with pytest.raises(TypeError, match=r"'accelerator' twice: .*'cpu'.*'gpu'"):
        L.Trainer("cpu", accelerator="gpu")


# ---------------------------------------------------------------------- numbers

NUMBERS = [
    ("max_epochs", 7, 7),
    ("max_epochs", -1, -1),
    ("max_epochs", np.int64(7), 7),
    ("max_steps", 1e5, 100_000),
    ("min_steps", 3, 3),
    ("limit_train_batches", 0.25, 0.25),
    ("limit_train_batches", 2.0, 2),
    ("limit_train_batches", np.float32(0.25), 0.25),
    ("limit_val_batches", np.int32(3), 3),
    ("val_check_interval", 0.25, 0.25),
    ("val_check_interval", 1, 1),
    ("val_check_interval", "01:02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ("val_check_interval", {"minutes": 2}, timedelta(minutes=2)),
    ("num_sanity_val_steps", -1, math.inf),
    ("num_sanity_val_steps", 0, 0),
    ("log_every_n_steps", 0, 0),
    ("gradient_clip_val", 0.5, 0.5),
    ("gradient_clip_val", np.float32(0.5), 0.5),
    ("gradient_clip_algorithm", "value", "value"),
    ("fast_dev_run", 3, 3),
    ("fast_dev_run", 1, True),
    ("accumulate_grad_batches", 4, 4),
    ("check_val_every_n_epoch", 3, 3),
]


@pytest.mark.parametrize(("name", "given", "held"), NUMBERS)
def test_a_value_is_held_in_its_plain_form(quiet, name, given, held):
    value = getattr(quiet(**{name: given}), name)
    assert value == held
    assert isinstance(value, type(held)) or isinstance(held, float)


REFUSED = [
    ("max_epochs", -2, MisconfigurationException, "from -1"),
    ("max_epochs", "3", MisconfigurationException, "whole number"),
    ("max_epochs", 2.5, MisconfigurationException, "whole number"),
    ("max_epochs", True, MisconfigurationException, "whole number"),
    ("max_steps", -2, MisconfigurationException, "from -1"),
    ("limit_train_batches", 1.5, MisconfigurationException, "share of them"),
    ("limit_val_batches", -1, MisconfigurationException, "share of them"),
    ("limit_test_batches", "all", MisconfigurationException, "share of them"),
    ("limit_predict_batches", True, MisconfigurationException, "share of them"),
    ("overfit_batches", -0.5, MisconfigurationException, "share of them"),
    ("val_check_interval", 0, MisconfigurationException, "from 1"),
    ("val_check_interval", 1.5, MisconfigurationException, "from 1"),
    ("val_check_interval", "soon", MisconfigurationException, "DD:HH:MM:SS"),
    ("val_check_interval", {"hour": 1}, MisconfigurationException, "'hours': 12"),
    ("check_val_every_n_epoch", 0, MisconfigurationException, "from 1"),
    ("check_val_every_n_epoch", 1.5, MisconfigurationException, "whole number"),
    ("num_sanity_val_steps", -2, MisconfigurationException, "-1 .all batches."),
    ("log_every_n_steps", -1, MisconfigurationException, "from 0"),
    ("reload_dataloaders_every_n_epochs", -1, MisconfigurationException, "from 0"),
    ("accumulate_grad_batches", 0, MisconfigurationException, "from 1"),
    ("gradient_clip_val", "1", TypeError, "a number, or None"),
    ("gradient_clip_algorithm", "norms", MisconfigurationException, "'norm' or 'value'"),
    ("fast_dev_run", -1, MisconfigurationException, "from 0"),
    ("max_time", 5, MisconfigurationException, "DD:HH:MM:SS"),
    ("max_time", "12 hours", MisconfigurationException, "DD:HH:MM:SS"),
    ("deterministic", "sometimes", MisconfigurationException, "True, False, 'warn' or None"),
    ("profiler", "fast", MisconfigurationException, "'simple', 'advanced'"),
]


@pytest.mark.parametrize(("name", "given", "error", "allowed"), REFUSED)
def test_a_value_without_meaning_says_what_was_given_and_what_is_allowed(quiet, name, given, error, allowed):
    with pytest.raises(error, match=allowed) as raised:
        quiet(**{name: given})
    assert name in str(raised.value)
    assert repr(given) in str(raised.value)


def test_batches_counted_over_epochs_need_an_interval_in_batches(quiet):
    with pytest.raises(MisconfigurationException, match=r"val_check_interval=1.0.*number of batches"):
        quiet(check_val_every_n_epoch=None, val_check_interval=1.0)
    assert quiet(check_val_every_n_epoch=None).check_val_every_n_epoch is None


# ---------------------------------------------------------------------- from the environment


def test_an_argument_may_come_from_the_environment(quiet, monkeypatch):
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "7")
    monkeypatch.setenv("PL_TRAINER_PRECISION", "bf16-true")
    monkeypatch.setenv("PL_TRAINER_LIMIT_VAL_BATCHES", "0.5")
    trainer = quiet(limit_val_batches=3)
    assert (trainer.max_epochs, trainer.precision) == (7, "bf16-true")
    assert trainer.limit_val_batches == 3  # what is passed goes before


def test_a_value_without_meaning_from_the_environment_is_told(quiet, monkeypatch):
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "many")
    with pytest.raises(MisconfigurationException, match="`max_epochs` is 'many'"):
        quiet()


# ---------------------------------------------------------------------- hardware


@pytest.mark.parametrize("accelerator", ["cpu", "auto", "CPU", CPUAccelerator()])
@pytest.mark.skipif(torch.cuda.is_available(), reason="auto would not be the CPU")
def test_the_cpu_may_be_asked_for_in_several_ways(quiet, accelerator):
    trainer = quiet(accelerator=accelerator)
    assert isinstance(trainer.accelerator, CPUAccelerator)
    assert trainer.strategy.root_device == torch.device("cpu")


@pytest.mark.parametrize("devices", ["auto", 1, "1"])
def test_one_device_may_be_asked_for_in_several_ways(quiet, devices):
    trainer = quiet(devices=devices)
    assert (trainer.num_devices, trainer.device_ids, trainer.world_size) == (1, [0], 1)


HARDWARE = [
    ({"accelerator": "gpu"}, MisconfigurationException, 'No supported gpu backend.*"cpu"'),
    ({"accelerator": "cuda"}, MisconfigurationException, r"not available on this machine.*\['cpu'\]"),
    ({"accelerator": "cpuu"}, ValueError, "Did you mean 'cpu'.*Known: 'auto', 'gpu'"),
    ({"accelerator": "tpu"}, ValueError, "'tpu' is not supported: levin runs on CPU, CUDA and MPS"),
    ({"devices": 0}, MisconfigurationException, "devices=0 asks for no device"),
    ({"devices": "0"}, MisconfigurationException, "devices='0' asks for no device"),
    ({"devices": []}, MisconfigurationException, r"devices=\[\] asks for no device"),
    ({"devices": 2, "strategy": "single_device"}, MisconfigurationException, "uses one device.*'ddp'"),
    ({"devices": [0]}, TypeError, r"devices=\[0\].*accelerator='cpu'"),
    ({"devices": -1}, TypeError, "devices=-1.*accelerator='cpu'"),
    (
        {"num_nodes": 2, "strategy": "single_device"},
        MisconfigurationException,
        "uses one device.*num_nodes=2",
    ),
    ({"num_nodes": 0}, ValueError, "num_nodes=0.*from 1"),
    ({"num_nodes": "x"}, ValueError, "num_nodes='x'.*whole number"),
    ({"strategy": "fsdp"}, MisconfigurationException, "not in this version.*Use strategy='ddp'"),
    ({"strategy": "dpd"}, ValueError, "Did you mean 'ddp'"),
    ({"strategy": "dp"}, ValueError, "was removed. Use strategy='ddp'"),
    ({"strategy": "ddp_sharded"}, ValueError, "strategy='fsdp'"),
    ({"strategy": "single_devise"}, ValueError, "Did you mean 'single_device'"),
    ({"precision": "17"}, ValueError, "precision='17' is not known.*'bf16-mixed'"),
    ({"plugins": "amp"}, MisconfigurationException, "'amp', which is no plugin"),
    ({"plugins": [7]}, MisconfigurationException, "7, which is no plugin.*Precision, CheckpointIO"),
    ({"plugins": [TorchCheckpointIO(), TorchCheckpointIO()]}, MisconfigurationException, "two of a kind"),
    (
        {"plugins": MixedPrecision("bf16-mixed", "cpu"), "precision": "64-true"},
        ValueError,
        "precision='64-true' and the plugin",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "error", "text"), HARDWARE, ids=lambda part: str(part).partition(" at 0x")[0]
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="these are the words to those without a GPU")
def test_hardware_that_is_not_there_or_not_known_is_told(quiet, arguments, error, text):
    with pytest.raises(error, match=text):
        quiet(**arguments)


def test_a_former_precision_is_taken_with_a_hint(quiet):
    with pytest.warns(LevinDeprecationWarning, match="Write 'bf16-mixed'"):
        assert quiet(precision="bf16").precision == "bf16-mixed"


def test_a_strategy_of_the_users_own_is_used(quiet):
    strategy = SingleDeviceStrategy("cpu")
    trainer = quiet(strategy=strategy, precision="bf16-mixed")
    assert trainer.strategy is strategy
    assert strategy.precision.precision == "bf16-mixed"
    assert quiet(strategy=strategy, precision="bf16-mixed").strategy is strategy


def test_a_strategy_and_an_argument_that_say_different_things_are_refused(quiet):
    class OtherAccelerator(CPUAccelerator):
        pass

    strategy = SingleDeviceStrategy("cpu", accelerator=OtherAccelerator())
    with pytest.raises(MisconfigurationException, match=r"accelerator='cpu'.*OtherAccelerator"):
        quiet(strategy=strategy)
    assert isinstance(quiet(strategy=strategy, accelerator="auto").accelerator, OtherAccelerator)
    strategy = SingleDeviceStrategy("cpu", precision=MixedPrecision("bf16-mixed", "cpu"))
    with pytest.raises(MisconfigurationException, match=r"'64-true' was given.*'bf16-mixed'"):
        quiet(strategy=strategy, precision="64-true")


def test_a_checkpoint_io_of_the_users_own_is_used(quiet):
    checkpoint_io = TorchCheckpointIO()
    assert quiet(plugins=checkpoint_io).strategy.checkpoint_io is checkpoint_io
    assert quiet(plugins=[checkpoint_io]).strategy.checkpoint_io is checkpoint_io


@pytest.fixture
def determinism(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.usefixtures("determinism")
def test_deterministic_tells_torch(quiet):
    quiet(deterministic="warn")
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    quiet(deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    quiet()
    assert torch.are_deterministic_algorithms_enabled()
    quiet(deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("determinism")
def test_benchmark_is_set_and_off_for_determinism(quiet):
    quiet(benchmark=True)
    assert torch.backends.cudnn.benchmark is True
    quiet()
    assert torch.backends.cudnn.benchmark is True
    quiet(deterministic=True)
    assert torch.backends.cudnn.benchmark is False
    with pytest.warns(UserWarning, match="against each other"):
        quiet(deterministic=True, benchmark=True)


def test_detect_anomaly_is_on_within_a_run_only_and_told_to_be_slow(quiet, noting, batches, said):
    seen = []
    noting.on_train_start = lambda: seen.append(torch.is_anomaly_enabled())
    quiet(max_epochs=1, limit_val_batches=0, detect_anomaly=True).fit(noting, batches(1))
    assert (seen, torch.is_anomaly_enabled()) == ([True], False)
    assert "detect_anomaly=True)` makes training slow" in said()


# ---------------------------------------------------------------------- callbacks and loggers


def kinds_of(trainer):
    return [type(callback).__name__ for callback in trainer.callbacks]


def test_callbacks_keep_their_order_and_checkpoints_come_last(quiet):
    mine = [ModelCheckpoint(), EarlyStopping("loss"), L.Callback(), TQDMProgressBar(), ModelSummary()]
    trainer = quiet(
        callbacks=mine,
        enable_checkpointing=True,
        enable_progress_bar=True,
        enable_model_summary=True,
        max_time="00:01:00:00",
    )
    expected = ["EarlyStopping", "Callback", "TQDMProgressBar", "ModelSummary", "Timer", "ModelCheckpoint"]
    assert kinds_of(trainer) == expected


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("enable_checkpointing", "ModelCheckpoint"),
        ("enable_progress_bar", "RichProgressBar"),
        ("enable_model_summary", "ModelSummary"),
    ],
)
def test_a_default_callback_is_there_unless_it_is_switched_off(quiet, switch, kind):
    assert kinds_of(quiet(**{switch: True})) == [kind]
    assert kinds_of(quiet(**{switch: None})) == [kind]
    assert kinds_of(quiet(**{switch: False})) == []


@pytest.mark.parametrize(
    ("switch", "make"), [("enable_checkpointing", ModelCheckpoint), ("enable_progress_bar", RichProgressBar)]
)
def test_a_callback_of_a_kind_that_is_switched_off_is_refused(quiet, switch, make):
    with pytest.raises(MisconfigurationException, match=f"{switch}=False.*Leave one of the two out"):
        quiet(callbacks=make())


def test_two_progress_bars_are_refused(quiet):
    bars = [RichProgressBar(), TQDMProgressBar()]
    with pytest.raises(MisconfigurationException, match=r"2 progress bars.*RichProgressBar.*TQDMProgressBar"):
        quiet(callbacks=bars, enable_progress_bar=True)


def test_two_checkpoint_callbacks_alike_are_refused(quiet):
    with pytest.raises(RuntimeError, match=r"2 callbacks with the state key.*different arguments"):
        quiet(callbacks=[ModelCheckpoint(), ModelCheckpoint()], enable_checkpointing=True)
    quiet(callbacks=[ModelCheckpoint(), ModelCheckpoint(monitor="loss")], enable_checkpointing=True)


def test_two_callbacks_without_state_may_be_alike(quiet):
    assert kinds_of(quiet(callbacks=[L.Callback(), L.Callback()])) == ["Callback", "Callback"]


@pytest.mark.parametrize(
    ("argument", "given", "text"),
    [
        ("callbacks", 5, "5, which is no `Callback`"),
        ("callbacks", "EarlyStopping", "'EarlyStopping', which is no `Callback`"),
        ("callbacks", [Timer(), None], "None, which is no `Callback`"),
        ("callbacks", [ModelCheckpoint], r"give an instance: ModelCheckpoint\(\.\.\.\)"),
        ("logger", "csv", "'csv', which is no `Logger`"),
        ("logger", [7], "7, which is no `Logger`"),
        ("logger", CSVLogger, r"give an instance: CSVLogger\(\.\.\.\)"),
    ],
)
def test_what_is_no_callback_or_logger_is_told_at_once(quiet, argument, given, text):
    with pytest.raises(TypeError, match=f"`{argument}` holds .*{text}"):
        quiet(**{argument: given})


def test_loggers_may_be_one_several_the_default_or_none(quiet, tmp_path):
    logger = CSVLogger(tmp_path)
    assert quiet(logger=logger).loggers == [logger]
    assert quiet(logger=[logger, logger]).loggers == [logger, logger]
    assert isinstance(quiet(logger=True).logger, TensorBoardLogger)
    assert isinstance(quiet(logger=None).logger, TensorBoardLogger)
    assert quiet(logger=False).loggers == quiet(logger=[]).loggers == []


def test_a_profiler_may_be_named_or_given(quiet):
    profiler = SimpleProfiler()
    assert quiet(profiler=profiler).profiler is profiler
    assert isinstance(quiet(profiler="simple").profiler, SimpleProfiler)


@pytest.mark.parametrize("path", ["here", Path("here"), "./there/../here"])
def test_the_root_folder_is_an_absolute_path(quiet, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert quiet(default_root_dir=path).default_root_dir == os.path.realpath(tmp_path / "here")


def test_the_root_folder_may_be_at_home_or_a_url(quiet):
    assert quiet(default_root_dir="~/runs").default_root_dir == os.path.realpath(Path.home() / "runs")
    assert quiet(default_root_dir="memory://runs").default_root_dir == "memory://runs"


# ---------------------------------------------------------------------- barebones

BAREBONES = {
    "enable_checkpointing": True, "logger": True, "enable_progress_bar": True, "enable_model_summary": True,
    "log_every_n_steps": 1, "num_sanity_val_steps": 1, "fast_dev_run": True, "detect_anomaly": True,
    "profiler": "simple",
}  # fmt: skip


@pytest.mark.parametrize("name", BAREBONES)
def test_barebones_refuses_what_it_leaves_out(name):
    with pytest.raises(ValueError, match=f"barebones=True.*{name}={BAREBONES[name]!r}"):
        L.Trainer(accelerator="cpu", barebones=True, **{name: BAREBONES[name]})


def test_barebones_trains_without_anything(noting, batches, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = L.Trainer(accelerator="cpu", barebones=True, max_epochs=1)
    noting.validation_step = lambda batch: noting.log("loss", 1.0)
    with pytest.warns(UserWarning, match="barebones"):
        trainer.fit(noting, batches(3), batches(1))
    assert (trainer.callbacks, trainer.loggers, trainer.global_step) == ([], [], 3)
    assert (trainer.log_every_n_steps, trainer.num_sanity_val_steps) == (0, 0)
    assert trainer.callback_metrics == {}
    assert list(tmp_path.iterdir()) == []
    assert "self.log" in said()
