"""2.1 to 2.3: the Trainer's arguments, what it chooses by itself, and its callbacks."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lines import FAILS_LATER, Raises, Says, Silent, Tells, Warns, line, lines, waiting

ME = "MisconfigurationException"


# ---------------------------------------------------------------------- 2.1: how arguments are given


@line("2.1/environment", "what is not given may come from PL_TRAINER_<NAME>, as a literal", (7, 0.5))
def _(lab):
    os.environ.update(PL_TRAINER_MAX_EPOCHS="7", PL_TRAINER_LIMIT_VAL_BATCHES="0.5")
    trainer = lab.L.Trainer(accelerator="cpu", logger=False)
    return trainer.max_epochs, trainer.limit_val_batches


@line("2.1/environment, a word", "a value of the environment that is no literal is a text", "CPUAccelerator")
def _(lab):
    os.environ["PL_TRAINER_ACCELERATOR"] = "cpu"
    return type(lab.L.Trainer(logger=False).accelerator).__name__


@line("2.1/environment, overruled", "what is given wins over the environment", 3)
def _(lab):
    os.environ["PL_TRAINER_MAX_EPOCHS"] = "7"
    return lab.trainer(max_epochs=3).max_epochs


@line("2.1/positional", "positional arguments follow the order of declaration", ("CPUAccelerator", 1))
def _(lab):
    trainer = lab.L.Trainer("cpu", "auto", 1, logger=False)
    return type(trainer.accelerator).__name__, trainer.num_devices


@lines(
    "2.1/unknown",
    "an argument that is none is a TypeError",
    {
        "nosuch": ({"nosuch": 1}, Raises("TypeError", "unexpected keyword argument 'nosuch'")),
        "suggest_integrations": ({"suggest_integrations": True}, Raises("TypeError", "suggest_integrations")),
    },
)
def _(lab, **arguments):
    return lab.L.Trainer(**arguments)


# ---------------------------------------------------------------------- 2.1: hardware


def no_gpu():
    """Leave out a line about machines without a GPU."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU")


@lines(
    "2.1/accelerator",
    "a name, or an instance; what is unknown or absent is refused",
    {
        "cpu": ({"accelerator": "cpu"}, "CPUAccelerator"),
        "unknown": ({"accelerator": "abacus"}, Raises("ValueError", "abacus")),
        "gpu, none there": ({"accelerator": "gpu"}, Raises(ME, "No supported gpu backend found!")),
        "cuda, none there": ({"accelerator": "cuda"}, Raises(ME, "")),
        "mps, none there": ({"accelerator": "mps"}, Raises(ME, "")),
        "auto, no gpu": ({"accelerator": "auto"}, "CPUAccelerator"),
    },
)
def _(lab, **arguments):
    if arguments["accelerator"] not in ("cpu", "abacus"):
        no_gpu()
    return type(lab.trainer(**arguments).accelerator).__name__


@line("2.1/accelerator/instance", "an instance of Accelerator is taken as it is", True)
def _(lab):
    accelerator = lab.part("accelerators").CPUAccelerator()
    return lab.trainer(accelerator=accelerator).accelerator is accelerator


def single_device(lab, **own):
    return lab.part("strategies").SingleDeviceStrategy(torch.device("cpu"), **own)


@line("2.1/strategy/unknown", "an unknown strategy is a ValueError", Raises("ValueError", "warp"))
def _(lab):
    lab.trainer(strategy="warp")


@line("2.1/strategy/instance", "an instance of Strategy is taken as it is", True)
def _(lab):
    strategy = single_device(lab)
    return lab.trainer(strategy=strategy).strategy is strategy


@line("2.1/strategy/auto", "one device: SingleDeviceStrategy", "SingleDeviceStrategy")
def _(lab):
    return type(lab.trainer().strategy).__name__


@line(
    "2.1/strategy/own accelerator",
    "a strategy's own accelerator beside accelerator= is refused",
    Raises(ME, "accelerator"),
)
def _(lab):
    part = lab.part("accelerators")
    lab.trainer(strategy=single_device(lab, accelerator=part.CUDAAccelerator()), accelerator="cpu")


@line(
    "2.1/strategy/own precision",
    "a strategy's own precision beside a precision plugin is refused",
    Raises(ME, "precision"),
)
def _(lab):
    part = lab.part("precision" if lab.ours else "plugins")
    name = "precision" if lab.ours else "precision_plugin"
    lab.trainer(
        strategy=single_device(lab, **{name: part.HalfPrecision("16-true")}), plugins=part.DoublePrecision()
    )


@line(
    "2.1/strategy/own checkpoint_io",
    "a strategy's own checkpoint_io beside a plugin is refused",
    Raises(ME, "checkpoint_io"),
)
def _(lab):
    part = lab.part("checkpoint" if lab.ours else "plugins.io")
    lab.trainer(
        strategy=single_device(lab, checkpoint_io=part.TorchCheckpointIO()), plugins=part.TorchCheckpointIO()
    )


@line(
    "2.1/strategy/own precision and precision=",
    "the strategy's own wins, silently",
    "16-true",
    ours=Raises(ME, "16-true"),
    differs="a strategy that brings its own precision, and `precision=`",
)
def _(lab):
    half = lab.part("precision" if lab.ours else "plugins").HalfPrecision("16-true")
    name = "precision" if lab.ours else "precision_plugin"
    return lab.trainer(strategy=single_device(lab, **{name: half}), precision=64).precision


@lines(
    "2.1/devices",
    "a positive number, as an int or in digits; for CPUs neither a list nor -1",
    {
        "1": ({"devices": 1}, 1),
        "'1'": ({"devices": "1"}, 1),
        "auto": ({"devices": "auto"}, 1),
        "0": ({"devices": 0}, Raises(ME, "devices")),
        "'0'": ({"devices": "0"}, Raises(ME, "devices")),
        "[]": ({"devices": []}, Raises(ME, "devices")),
        "[0]": ({"devices": [0]}, Raises("TypeError", "")),
        "-1": ({"devices": -1}, Raises("TypeError", "")),
    },
)
def _(lab, **arguments):
    return lab.trainer(**arguments).num_devices


@line("2.1/num_nodes", "fewer than one machine is a ValueError", Raises("ValueError", "num_nodes"))
def _(lab):
    lab.trainer(num_nodes=0)


@lines(
    "2.1/precision",
    "32-true unless told otherwise",
    {
        "default": ({}, "32-true"),
        "64": ({"precision": 64}, "64-true"),
        "bf16-mixed": ({"precision": "bf16-mixed"}, "bf16-mixed"),
        "unknown": ({"precision": "12-mixed"}, Raises("ValueError", "12-mixed")),
    },
)
def _(lab, **arguments):
    return lab.trainer(**arguments).precision


@line(
    "2.1/precision/plugin as well",
    "precision= beside a precision plugin is a ValueError",
    Raises("ValueError", "precision"),
)
def _(lab):
    plugin = lab.part("precision" if lab.ours else "plugins").DoublePrecision()
    lab.trainer(precision=64, plugins=plugin)


@line("2.1/precision/plugin", "a precision plugin is the precision", "64-true")
def _(lab):
    plugin = lab.part("precision" if lab.ours else "plugins").DoublePrecision()
    return lab.trainer(plugins=[plugin]).precision


@lines(
    "2.1/plugins",
    "precisions, checkpoint IOs and the like, one of each kind",
    {
        "none of a known kind": ({"names": [None]}, Raises(ME, "plugin")),
        "two of a kind": ({"names": ["DoublePrecision", "DoublePrecision"]}, Raises(ME, "")),
    },
)
def _(lab, names):
    part = lab.part("precision" if lab.ours else "plugins")
    lab.trainer(plugins=[getattr(part, name)() if name else object() for name in names])


# ---------------------------------------------------------------------- 2.1: loggers and callbacks


@lines(
    "2.1/logger",
    "True (the default): TensorBoard's; False: none; one or several",
    {
        "default": ({}, ["TensorBoardLogger"]),
        "True": ({"logger": True}, ["TensorBoardLogger"]),
        "False": ({"logger": False}, []),
    },
)
def _(lab, **arguments):
    trainer = lab.L.Trainer(accelerator="cpu", **arguments)
    return [type(logger).__name__ for logger in trainer.loggers]


@line(
    "2.1/logger/where",
    "the default logger's name is lightning_logs, its folder the root",
    ("lightning_logs", True, 0),
)
def _(lab):
    logger = lab.trainer(logger=True).logger
    return logger.name, Path(logger.save_dir) == lab.tmp, logger.version


@line("2.1/logger/several", "several loggers are kept in order; the first one is `logger`", (True, 2))
def _(lab):
    loggers = [lab.logger(), lab.logger()]
    trainer = lab.trainer(logger=loggers)
    return trainer.logger is loggers[0], len(trainer.loggers)


@line("2.1/callbacks/one", "a callback need not be in a list", True)
def _(lab):
    callback = lab.callback()
    return callback in lab.trainer(callbacks=callback).callbacks


@line(
    "2.1/callbacks/same key",
    "two callbacks with state under one key are refused",
    Raises("RuntimeError", "Stateful"),
)
def _(lab):
    Stateful = type("Stateful", (lab.L.Callback,), {"state_dict": lambda self: {"a": 1}})
    lab.trainer(Stateful(), Stateful())


@line("2.1/callbacks/same key, no state", "two callbacks without state may have one key", 2)
def _(lab):
    Stateless = type("Stateless", (lab.L.Callback,), {})
    return len(lab.trainer(Stateless(), Stateless()).callbacks)


@lines(
    "2.1/switches against callbacks",
    "what is switched off, or there twice, is refused",
    {
        "enable_checkpointing": (
            {"kinds": ["ModelCheckpoint"], "enable_checkpointing": False},
            Raises(ME, "enable_checkpointing"),
        ),
        "enable_progress_bar": (
            {"kinds": ["TQDMProgressBar"], "enable_progress_bar": False},
            Raises(ME, "enable_progress_bar"),
        ),
        "two bars": (
            {"kinds": ["TQDMProgressBar", "RichProgressBar"], "enable_progress_bar": None},
            Raises(ME, "progress bar"),
        ),
    },
)
def _(lab, kinds, **arguments):
    lab.trainer(*[getattr(lab.callbacks, kind)() for kind in kinds], **arguments)


@lines(
    "2.1/defaults",
    "unless switched off there are a ModelCheckpoint, a progress bar and a summary",
    {
        "all": ({}, ["RichProgressBar", "RichModelSummary", "ModelCheckpoint"]),
        "enable_checkpointing": ({"enable_checkpointing": False}, ["RichProgressBar", "RichModelSummary"]),
        "enable_model_summary": ({"enable_model_summary": False}, ["RichProgressBar", "ModelCheckpoint"]),
    },
)
def _(lab, **arguments):
    trainer = lab.L.Trainer(accelerator="cpu", logger=False, **arguments)
    return [type(callback).__name__ for callback in trainer.callbacks]


@line(
    "2.1/enable_progress_bar=False",
    "there is no bar, and the summary is Rich's if rich is installed",
    ["RichModelSummary", "ModelCheckpoint"],
    ours=["ModelSummary", "ModelCheckpoint"],
    differs="the summary beside no bar, or tqdm's",
)
def _(lab):
    trainer = lab.L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    return [type(callback).__name__ for callback in trainer.callbacks]


@line("2.1/enable_model_summary/own", "a summary of one's own takes the place of the default", 1)
def _(lab):
    trainer = lab.trainer(lab.callbacks.ModelSummary(max_depth=3), enable_model_summary=True)
    return sum(isinstance(callback, lab.callbacks.ModelSummary) for callback in trainer.callbacks)


# ---------------------------------------------------------------------- 2.1: limits


@lines(
    "2.1/numbers",
    "what they become, or why they are refused",
    {
        "fast_dev_run=True": ({"fast_dev_run": True}, True),
        "fast_dev_run=1": ({"fast_dev_run": 1}, True),
        "fast_dev_run=3": ({"fast_dev_run": 3}, 3),
        "fast_dev_run=-1": ({"fast_dev_run": -1}, Raises(ME, "fast_dev_run")),
        "max_epochs=None": ({"max_epochs": None}, None),
        "max_epochs=-1": ({"max_epochs": -1}, -1),
        "max_epochs=-2": ({"max_epochs": -2}, Raises(ME, "max_epochs")),
        "min_epochs=None": ({"min_epochs": None}, None),
        "max_steps=-1": ({"max_steps": -1}, -1),
        "max_steps=-2": ({"max_steps": -2}, Raises(ME, "max_steps")),
        "min_steps=None": ({"min_steps": None}, None),
        "limit_train_batches=None": ({"limit_train_batches": None}, 1.0),
        "limit_val_batches=0.25": ({"limit_val_batches": 0.25}, 0.25),
        "limit_test_batches=2.0": ({"limit_test_batches": 2.0}, 2),
        "limit_predict_batches=1.5": ({"limit_predict_batches": 1.5}, Raises(ME, "limit_predict_batches")),
        "limit_train_batches=-1": ({"limit_train_batches": -1}, Raises(ME, "limit_train_batches")),
        "limit_val_batches=-0.1": ({"limit_val_batches": -0.1}, Raises(ME, "limit_val_batches")),
        "overfit_batches=0.0": ({"overfit_batches": 0.0}, 0.0),
        "overfit_batches=1.5": ({"overfit_batches": 1.5}, Raises(ME, "overfit_batches")),
        "val_check_interval=None": ({"val_check_interval": None}, 1.0),
        "val_check_interval=1.5": ({"val_check_interval": 1.5}, Raises(ME, "val_check_interval")),
        "check_val_every_n_epoch=None": ({"check_val_every_n_epoch": None, "val_check_interval": 3}, None),
        "check_val_every_n_epoch=0.5": (
            {"check_val_every_n_epoch": 0.5},
            Raises(ME, "check_val_every_n_epoch"),
        ),
        "num_sanity_val_steps=None": ({"num_sanity_val_steps": None}, 2),
        "num_sanity_val_steps=-1": ({"num_sanity_val_steps": -1}, float("inf")),
        "log_every_n_steps=None": ({"log_every_n_steps": None}, 50),
        "accumulate_grad_batches=4": ({"accumulate_grad_batches": 4}, 4),
        "gradient_clip_val=None": ({"gradient_clip_val": None}, None),
        "gradient_clip_val=0.5": ({"gradient_clip_val": 0.5}, 0.5),
        "gradient_clip_val='x'": ({"gradient_clip_val": "x"}, Raises("TypeError", "gradient_clip_val")),
        "gradient_clip_algorithm=None": ({"gradient_clip_algorithm": None}, None),
        "gradient_clip_algorithm='value'": ({"gradient_clip_algorithm": "value"}, "value"),
        "gradient_clip_algorithm='x'": (
            {"gradient_clip_algorithm": "x"},
            Raises(ME, "gradient_clip_algorithm"),
        ),
        "reload_dataloaders_every_n_epochs=2": ({"reload_dataloaders_every_n_epochs": 2}, 2),
        "reload_dataloaders_every_n_epochs=-1": (
            {"reload_dataloaders_every_n_epochs": -1},
            Raises(ME, "reload_dataloaders_every_n_epochs"),
        ),
        "enable_autolog_hparams=False": ({"enable_autolog_hparams": False}, False),
    },
)
def _(lab, **arguments):
    return getattr(lab.trainer(**arguments), next(iter(arguments)))


@line(
    "2.1/check_val_every_n_epoch=None with a float",
    "batches counted over epochs need a whole number as interval",
    Raises(ME, "val_check_interval"),
)
def _(lab):
    lab.trainer(check_val_every_n_epoch=None, val_check_interval=1.0)


@lines(
    "2.1/num_sanity_val_steps=0 with",
    "there is nothing to try, or no time to",
    {
        "fast_dev_run": ({"fast_dev_run": True}, 0),
        "barebones": ({"barebones": True}, 0),
    },
)
def _(lab, **arguments):
    return lab.L.Trainer(accelerator="cpu", **arguments).num_sanity_val_steps


@line("2.1/num_sanity_val_steps with limit_val_batches=0", "nothing is tried", [])
def _(lab):
    return lab.notes("val", limit_val_batches=0, num_sanity_val_steps=2)


@line(
    "2.1/limits/1 and 1.0",
    "1 and 1.0 given by hand: a line says which means one batch and which all",
    Tells(r"limit_train_batches=1\.0.*limit_val_batches=1"),
)
def _(lab):
    lab.trainer(limit_train_batches=1.0, limit_val_batches=1)


@line(
    "2.1/accumulate_grad_batches=0",
    "is not checked before fit, where it fails",
    Raises("ZeroDivisionError"),
    ours=Raises(ME, "accumulate_grad_batches"),
    differs=FAILS_LATER,
)
def _(lab):
    lab.fit(accumulate_grad_batches=0)


FORMER = (
    "arguments and names of Lightning 1.x (`gpus=`, `max_steps=None`, `accumulate_grad_batches={4: 2}`, "
    "`strategy=None`, ...)"
)


@line(
    "2.1/accumulate_grad_batches={}",
    "a dict is a TypeError",
    Raises("TypeError"),
    ours=Warns("LevinDeprecationWarning", "GradientAccumulationScheduler", gives=2),
    differs=FORMER,
)
def _(lab):
    return lab.fit(accumulate_grad_batches={0: 2}).global_step


@line(
    "2.1/max_steps=None",
    "is a TypeError",
    Raises("TypeError"),
    ours=Warns("LevinDeprecationWarning", "max_steps=-1", gives=-1),
    differs=FORMER,
)
def _(lab):
    return lab.trainer(max_steps=None).max_steps


@line(
    "2.1/num_processes",
    "so are the arguments of 1.x",
    Raises("TypeError", "unexpected keyword argument"),
    ours=Warns("LevinDeprecationWarning", "num_processes", gives=1),
    differs=FORMER,
)
def _(lab):
    return lab.trainer(num_processes=1, devices="auto").num_devices


@line(
    "2.1/mutable",
    "clipping and accumulation may be changed between runs, and in them",
    (2, [1, 3, 3], [0.5, 0.25, 0.25]),
)
def _(lab):
    def on_train_batch_start(model, batch, batch_idx):
        if batch_idx == 1:
            model.trainer.accumulate_grad_batches, model.trainer.gradient_clip_val = 3, 0.25
        seen.append(model.trainer.accumulate_grad_batches)
        clips.append(model.trainer.gradient_clip_val)

    seen, clips = [], []
    trainer = lab.fit(lab.model(on_train_batch_start=on_train_batch_start), gradient_clip_val=0.5)
    return trainer.global_step, seen, clips


@lines(
    "2.1/max_time",
    "a text DD:HH:MM:SS, a timedelta or its arguments: there is a Timer",
    {
        "text": ({"max_time": "00:01:00:00"}, 3600.0),
        "timedelta": ({"max_time": timedelta(minutes=2)}, 120.0),
        "dict": ({"max_time": {"days": 1}}, 86400.0),
        "bad text": ({"max_time": "1h"}, Raises(ME, "")),
    },
)
def _(lab, **arguments):
    (timer,) = [cb for cb in lab.trainer(**arguments).callbacks if isinstance(cb, lab.callbacks.Timer)]
    return timer.time_remaining()


@line(
    "2.1/max_time/Timer",
    "with a Timer of one's own max_time is ignored, which is said",
    Says("Timer", gives=1),
)
def _(lab):
    trainer = lab.trainer(lab.callbacks.Timer("00:00:01:00"), max_time="00:00:02:00")
    return sum(isinstance(callback, lab.callbacks.Timer) for callback in trainer.callbacks)


# ---------------------------------------------------------------------- 2.1: other switches


@lines(
    "2.1/deterministic",
    "torch's switch, and cuBLAS's variable; benchmark is then False unless set",
    {
        "None": ({}, (False, False, None)),
        "True": ({"deterministic": True}, (True, False, ":4096:8")),
        "warn": ({"deterministic": "warn"}, (True, True, ":4096:8")),
    },
)
def _(lab, **arguments):
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    torch.backends.cudnn.benchmark = True
    lab.trainer(**arguments)
    assert torch.backends.cudnn.benchmark is not bool(arguments)
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@line("2.1/deterministic and benchmark", "both True is warned of", Warns("UserWarning", "benchmark=True"))
def _(lab):
    lab.trainer(deterministic=True, benchmark=True)


@lines(
    "2.1/benchmark",
    "cuDNN's switch; None leaves it",
    {
        "True": ({"benchmark": True}, (True, True)),
        "False": ({"benchmark": False}, (False, False)),
        "None": ({}, (True, False)),
    },
)
def _(lab, **arguments):
    found = []
    for before in (True, False):
        torch.backends.cudnn.benchmark = before
        lab.trainer(**arguments)
        found.append(torch.backends.cudnn.benchmark)
    return tuple(found)


@lines(
    "2.1/profiler",
    "a name or a Profiler",
    {
        "None": ({}, "PassThroughProfiler"),
        "simple": ({"profiler": "simple"}, "SimpleProfiler"),
        "advanced": ({"profiler": "advanced"}, "AdvancedProfiler"),
        "pytorch": ({"profiler": "pytorch"}, "PyTorchProfiler"),
        "unknown": ({"profiler": "x"}, Raises(ME, "simple")),
    },
)
def _(lab, **arguments):
    return type(lab.trainer(**arguments).profiler).__name__


@line("2.1/detect_anomaly", "autograd looks for NaN within the run, and only there", (True, False))
def _(lab):
    seen = []
    lab.fit(lab.model(on_train_start=lambda _: seen.append(torch.is_anomaly_enabled())), detect_anomaly=True)
    return *seen, torch.is_anomaly_enabled()


@line("2.1/detect_anomaly/notice", "a line says that it is slow", Tells("detect_anomaly=True.*slow"))
def _(lab):
    lab.trainer(detect_anomaly=True)


@lines(
    "2.1/default_root_dir",
    "the current folder, or a path; local ones are made plain, URLs are kept",
    {
        "None": ({}, "."),
        "a Path": ({"default_root_dir": Path("a")}, "a"),
        "up and down": ({"default_root_dir": "a/../b"}, "b"),
    },
)
def _(lab, **arguments):
    trainer = lab.L.Trainer(accelerator="cpu", logger=False, **arguments)
    return os.path.relpath(trainer.default_root_dir, lab.tmp)


@line("2.1/default_root_dir/home", "~ is the home folder", True)
def _(lab):
    return lab.trainer(default_root_dir="~/x").default_root_dir == str(Path.home() / "x")


@line("2.1/default_root_dir/URL", "a URL stays what it is", "memory://runs")
def _(lab):
    return lab.trainer(default_root_dir="memory://runs").default_root_dir


@line(
    "2.1/enable_autolog_hparams",
    "False: no hyper-parameters are logged when a run begins",
    ([], [{"width": 3}]),
)
def _(lab):
    class Model(lab.Module):
        def __init__(self, width=3):
            super().__init__()
            self.save_hyperparameters()

    def hyperparameters(**arguments):
        logger = lab.logger()
        lab.fit(Model(), logger=logger, **arguments)
        return logger.hyperparameters

    return hyperparameters(enable_autolog_hparams=False), hyperparameters()


waiting(
    5,
    ("2.1/strategy/fsdp", "fsdp on a CPU is a ValueError"),
    ("2.1/strategy/mps", "ddp and deepspeed on MPS are ValueErrors"),
    ("2.1/use_distributed_sampler", "a DistributedSampler is put in, unless it is False"),
    ("2.1/sync_batchnorm", "batch norm is over all processes; beside a LayerSync plugin it is refused"),
    ("2.1/plugins/environment and layer sync", "a ClusterEnvironment or LayerSync as a plugin"),
)


# ---------------------------------------------------------------------- 2.2: what is chosen


@line("2.2/one device", "a CPU, one process, no cluster", ("CPUAccelerator", 1, "SingleDeviceStrategy", 1, 0))
def _(lab):
    no_gpu()
    trainer = lab.L.Trainer(logger=False, enable_progress_bar=False)
    return (
        type(trainer.accelerator).__name__,
        trainer.num_devices,
        type(trainer.strategy).__name__,
        trainer.world_size,
        trainer.global_rank,
    )


@line(
    "2.2/GPU line",
    "a line says whether there is a GPU, and whether it is used",
    Tells("^GPU available: (True|False).*used: False"),
)
def _(lab):
    lab.trainer()


@line(
    "2.2/TPU line",
    "a line says whether there is a TPU",
    Tells("TPU available: False, using: 0 TPU cores"),
    ours=Silent("TPU"),
    differs="`TPU available: False, using: 0 TPU cores`",
)
def _(lab):
    lab.trainer()


@line(
    "2.2/16-mixed on CPU",
    "becomes bf16-mixed, with a warning",
    Warns("UserWarning", "16-mixed", gives="bf16-mixed"),
)
def _(lab):
    return lab.trainer(precision="16-mixed").precision


@line("2.2/strategy/several devices", "more than one device: ddp", "DDPStrategy", waits=5)
def _(lab):
    return type(lab.trainer(devices=2).strategy).__name__


waiting(
    5,
    ("2.2/strategy/several nodes", "more than one node: ddp"),
    ("2.2/strategy/notebook", "several devices in a notebook: ddp_fork"),
    ("2.2/accelerator/order", "TPU before MPS before CUDA before CPU"),
    ("2.2/devices/auto", "all visible GPUs (one in a notebook), one MPS"),
    ("2.2/notebook", "a launcher that can't run in a notebook is refused there"),
    ("2.2/clusters", "torchelastic, Slurm, LSF, MPI, then this machine"),
    ("2.2/GPU unused", "a warning where there is a GPU and the CPU is used"),
)


# ---------------------------------------------------------------------- 2.3: callbacks


@line(
    "2.3/order",
    "the user's, then the default checkpoint, Timer, bar and summary; checkpoints move to the end",
    ["Mine", "Timer", "RichProgressBar", "RichModelSummary", "OnExceptionCheckpoint", "ModelCheckpoint"],
)
def _(lab):
    mine = type("Mine", (lab.L.Callback,), {})()
    first = lab.callbacks.OnExceptionCheckpoint(lab.tmp)
    own = lab.callbacks.ModelCheckpoint(lab.tmp)
    trainer = lab.L.Trainer(
        accelerator="cpu", logger=False, callbacks=[first, own, mine], max_time="01:00:00:00"
    )
    return [type(callback).__name__ for callback in trainer.callbacks]


@line(
    "2.3/configure_callbacks/replaces",
    "the module's callback takes the place of the Trainer's of its class, at the end",
    (["Other", "EarlyStopping", "ModelCheckpoint"], 7),
)
def _(lab):
    EarlyStopping = lab.callbacks.EarlyStopping
    other = type("Other", (lab.L.Callback,), {})()
    model = lab.model(configure_callbacks=lambda _: [EarlyStopping("loss", patience=7, strict=False)])
    checkpoint = lab.callbacks.ModelCheckpoint(lab.tmp)
    trainer = lab.fit(model, EarlyStopping("loss", patience=3, strict=False), checkpoint, other)
    return [type(cb).__name__ for cb in trainer.callbacks], trainer.early_stopping_callback.patience


@line(
    "2.3/configure_callbacks/subclass", "one of a subclass replaces the Trainer's of the base class", ["Mine"]
)
def _(lab):
    Base = type("Base", (lab.L.Callback,), {})
    Mine = type("Mine", (Base,), {})
    trainer = lab.fit(lab.model(configure_callbacks=lambda _: Mine()), Base())
    return [type(callback).__name__ for callback in trainer.callbacks]


@line(
    "2.3/configure_callbacks/base class",
    "one of the base class does not replace the Trainer's of a subclass",
    ["Mine", "Base"],
)
def _(lab):
    Base = type("Base", (lab.L.Callback,), {})
    Mine = type("Mine", (Base,), {})
    trainer = lab.fit(lab.model(configure_callbacks=lambda _: [Base()]), Mine())
    return [type(callback).__name__ for callback in trainer.callbacks]


@line("2.3/callbacks log", "callbacks may call self.log and self.log_dict in a run", {"a": 1.0, "b": 2.0})
def _(lab):
    def on_train_epoch_end(callback, trainer, pl_module):
        callback.log("a", 1.0)
        callback.log_dict({"b": 2.0})

    trainer = lab.fit(None, lab.callback(on_train_epoch_end=on_train_epoch_end))
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


waiting(
    "an issue of its own",
    ("2.3/finders", "BatchSizeFinder and LearningRateFinder come first"),
    ("2.3/entry points", "callbacks of installed packages come last"),
)
