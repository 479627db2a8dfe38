"""Programs for earlier versions explain themselves: a former name works as it did, or names its successor."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import subprocess
import sys
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    ModelSummary,
    TQDMProgressBar,
)
from levin.core.hooks import IDLE_HOOKS
from levin.data import CombinedLoader
from levin.loggers import CSVLogger
from levin.resolve import _REMOVED_STRATEGIES
from levin.testing import BoringModel
from levin.trainer.former import ARGUMENTS, VALUES
from levin.trainer.former_hooks import ATTRIBUTES, PARAMETERS
from levin.trainer.former_hooks import KEYWORDS as METHOD_KEYWORDS
from levin.trainer.former_names import COMPUTED, GONE, KEYWORDS, RENAMED
from levin.utils import former
from levin.utils.errors import LevinDeprecationWarning, MisconfigurationException

# ---------------------------------------------------------------------- modules and names in them


@pytest.mark.parametrize("place", former.MODULES)
def test_the_import_of_a_former_module_says_what_to_import(place):
    package, _, name = f"levin.{place}".rpartition(".")
    for line in (f"import levin.{place}", f"import levin.{place}.part", f"from {package} import {name}"):
        with pytest.raises(ModuleNotFoundError) as raised:
            exec(line, {})
        assert str(raised.value) == f"There is no `levin.{place}`. {former.MODULES[place]}"


@pytest.mark.parametrize("place", former.NAMES)
def test_the_import_of_a_former_name_says_what_to_use(place):
    module, _, name = f"levin.{place}".rpartition(".")
    with pytest.raises(ImportError) as raised:
        exec(f"from {module} import {name}", {})
    assert str(raised.value) == f"There is no `levin.{place}`. {former.NAMES[place]}"


@pytest.mark.parametrize("place", [*former.NAMES, *former.MODULES])
def test_a_former_name_is_no_attribute_and_says_what_to_use(place):
    module, _, name = f"levin.{place}".rpartition(".")
    owner = importlib.import_module(module)
    assert not hasattr(owner, name)
    if hasattr(owner, "__getattr__"):  # all but those with nothing public
        with pytest.raises(AttributeError, match=f"There is no `levin.{place}`"):
            getattr(owner, name)


@pytest.mark.parametrize(("place", "home"), former.ALIASES.items())
def test_a_name_that_changed_and_nothing_else_still_works(place, home):
    module, _, name = f"levin.{place}".rpartition(".")
    with pytest.warns(LevinDeprecationWarning, match=f"`levin.{place}` has become `{module}.") as warned:
        found = getattr(importlib.import_module(module), name)
    assert [warning.filename for warning in warned] == [__file__]
    home, _, there = home.partition(":")
    assert found is getattr(importlib.import_module(home), there)
    assert getattr(importlib.import_module(module), there) is found  # public under its new name


def test_what_was_never_there_is_told_as_always():
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        exec("from levin.callbacks import Nonsense", {})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'levin.nonsense'"):
        exec("import levin.nonsense", {})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'metrics'"):
        exec("import metrics", {})


def sentences():
    """Every sentence that names a successor."""
    return [*former.NAMES.values(), *former.MODULES.values(), *former.ENVIRONMENT.values()]


def test_what_is_to_be_imported_instead_can_be():
    lines = {
        line for text in sentences() for line in re.findall(r"`(from levin[\w.]* import \w[\w, ]*)`", text)
    }
    assert len(lines) >= 10
    for line in sorted(lines):
        exec(line, {})


@pytest.mark.parametrize(
    ("place", "name"),
    [("levin.callbacks", "DeviceStatsMonitor"), ("levin.cli", "LightningCLI"), ("levin", "tuner")],
)  # fmt: skip
def test_what_this_version_is_said_not_to_have_it_does_not_have(place, name):
    assert not hasattr(importlib.import_module(place), name), "change the sentences in levin/utils/former.py"


def test_imports_are_explained_once_however_often_levin_is_loaded():
    assert sys.meta_path.count(former.FormerNames) == 1
    former.install()
    assert sys.meta_path.count(former.FormerNames) == 1
    assert L.__name__ == "levin"


def test_a_script_sees_the_explanation_as_its_last_line():
    run = subprocess.run(
        [sys.executable, "-c", "from levin.metrics.functional import accuracy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stderr.splitlines()[-1].startswith("ModuleNotFoundError: There is no `levin.metrics`. Metrics")


# ---------------------------------------------------------------------- arguments of the Trainer

SAVING = ModelCheckpoint(monitor="val_loss")
STOPPING = EarlyStopping("val_loss")


def outcome(**arguments):
    """What a Trainer made of its arguments, or the error that it raised."""
    try:
        trainer = L.Trainer(**{"logger": False, **arguments})
    except Exception as error:  # which one it is, is compared
        return f"{type(error).__name__}: {error}"
    run = trainer.run
    callbacks = [(type(callback).__name__, settings_of(callback)) for callback in trainer.callbacks]
    return {
        "hardware": (type(trainer.accelerator), trainer.num_devices, trainer.num_nodes, trainer.precision),
        "groups": (run.limits, run.intervals, run.updates, run.debugging),
        "callbacks": callbacks,
        "rest": (trainer.default_root_dir, trainer.use_distributed_sampler, type(trainer.profiler)),
    }


def settings_of(callback):
    kinds = (bool, int, float, str, dict, type(None))
    return {name: value for name, value in vars(callback).items() if isinstance(value, kinds)}


CPU = {"accelerator": "cpu"}

# former arguments, the same in today's words, and how the warning writes it if not as the latter
WORKING = [
    ({"gpus": 0}, CPU),
    ({"gpus": "0"}, CPU),
    ({"gpus": None}, {}),
    ({"gpus": 1}, {"accelerator": "gpu", "devices": 1}),
    ({"gpus": -1}, {"accelerator": "gpu", "devices": -1}),
    ({"gpus": [0, 1]}, {"accelerator": "gpu", "devices": [0, 1]}),
    ({"gpus": "0,1"}, {"accelerator": "gpu", "devices": "0,1"}),
    ({"gpus": 2, "accelerator": "gpu"}, {"accelerator": "gpu", "devices": 2}),
    ({"gpus": 2, "accelerator": "auto"}, {"accelerator": "gpu", "devices": 2}),
    (
        {"gpus": 1, "accelerator": "cuda"},
        {"accelerator": "cuda", "devices": 1},
        "accelerator='gpu', devices=1",
    ),
    ({"gpus": 1, "num_processes": 1}, {"accelerator": "gpu", "devices": 1}),
    ({"num_gpus": 2}, {"accelerator": "gpu", "devices": 2}),
    ({"tpu_cores": 8}, {"accelerator": "tpu", "devices": 8}),
    ({"tpu_cores": None}, {}),
    ({"ipus": None}, {}),
    ({"hpus": 0}, {}),
    ({"num_processes": 1}, {}),
    ({"num_processes": 2}, {"accelerator": "cpu", "devices": 2}),
    ({"num_processes": 2, **CPU}, {"accelerator": "cpu", "devices": 2}),
    ({"nb_gpu_nodes": 1, **CPU}, {"num_nodes": 1, **CPU}, "num_nodes=1"),
    ({"num_nodes": "1", **CPU}, {"num_nodes": 1, **CPU}, "num_nodes=1"),
    ({"auto_select_gpus": False}, {}),
    ({"distributed_backend": None}, {}),
    ({"distributed_backend": "ddp"}, {"strategy": "ddp"}),
    ({"distributed_backend": "dp"}, {"strategy": "dp"}),
    ({"distributed_backend": "ddp_cpu"}, {"accelerator": "cpu", "strategy": "ddp_spawn"}),
    ({"accelerator": "ddp"}, {"strategy": "ddp"}),
    ({"accelerator": "ddp2"}, {"strategy": "ddp2"}),
    ({"accelerator": "horovod"}, {"strategy": "horovod"}),
    ({"accelerator": "ddp_cpu"}, {"accelerator": "cpu", "strategy": "ddp_spawn"}),
    (
        {"accelerator": "ddp", "gpus": 2},
        {"strategy": "ddp", "accelerator": "gpu", "devices": 2},
        "strategy='ddp'",
    ),
    ({"accelerator": None}, {}),
    ({"strategy": None, **CPU}, CPU, "nothing: leave it out"),
    ({"devices": None, **CPU}, CPU, "nothing: leave it out"),
    ({"plugins": "ddp_sharded"}, {"strategy": "ddp_sharded"}),
    ({"plugins": ["deepspeed"]}, {"strategy": "deepspeed"}),
    ({"amp_backend": "native"}, {}),
    ({"amp_level": None}, {}),
    ({"use_amp": True, **CPU}, {"precision": "16-mixed", **CPU}, "precision='16-mixed'"),
    ({"use_amp": False}, {}),
    ({"auto_lr_find": False}, {}),
    ({"auto_scale_batch_size": None}, {}),
    ({"replace_sampler_ddp": False}, {"use_distributed_sampler": False}),
    ({"weights_summary": None}, {"enable_model_summary": False}),
    ({"weights_summary": "top"}, {"enable_model_summary": True}),
    ({"weights_summary": "full"}, {"callbacks": [ModelSummary(max_depth=-1)]}, "ModelSummary(max_depth=-1)"),
    ({"progress_bar_refresh_rate": 0}, {"enable_progress_bar": False}),
    ({"progress_bar_refresh_rate": None}, {}),
    (
        {"progress_bar_refresh_rate": 20},
        {"callbacks": TQDMProgressBar(20)},
        "TQDMProgressBar(refresh_rate=20)",
    ),
    (
        {"process_position": 1},
        {"callbacks": TQDMProgressBar(process_position=1)},
        "TQDMProgressBar(process_position=1)",
    ),
    (
        {"progress_bar_refresh_rate": 5, "process_position": 1},
        {"callbacks": TQDMProgressBar(refresh_rate=5, process_position=1)},
        "TQDMProgressBar(refresh_rate=5)",
    ),
    ({"progress_bar_refresh_rate": 0, "process_position": 1}, {"enable_progress_bar": False}),
    ({"show_progress_bar": False}, {"enable_progress_bar": False}),
    ({"show_progress_bar": False, "progress_bar_refresh_rate": 0}, {"enable_progress_bar": False}),
    ({"checkpoint_callback": True}, {"enable_checkpointing": True}),
    ({"checkpoint_callback": False}, {"enable_checkpointing": False}),
    ({"checkpoint_callback": None}, {}),
    ({"checkpoint_callback": SAVING}, {"callbacks": SAVING}, "callbacks=[ModelCheckpoint(...)]"),
    (
        {"checkpoint_callback": SAVING, "callbacks": STOPPING},
        {"callbacks": [STOPPING, SAVING]},
        "callbacks=[",
    ),
    (
        {"early_stop_callback": True},
        {"callbacks": EarlyStopping("val_loss", verbose=True)},
        "EarlyStopping(monitor='val_loss', verbose=True)",
    ),
    ({"early_stop_callback": STOPPING}, {"callbacks": [STOPPING]}, "callbacks=[EarlyStopping(...)]"),
    ({"early_stop_callback": None}, {}),
    ({"resume_from_checkpoint": None}, {}),
    ({"resume_from_checkpoint": "x.ckpt"}, {}, "trainer.fit(model, ckpt_path='x.ckpt')"),
    (
        {"weights_save_path": "/there"},
        {"callbacks": ModelCheckpoint(dirpath="/there")},
        "callbacks=[ModelCheckpoint(dirpath='/there')]",
    ),
    (
        {"weights_save_path": "/there", "callbacks": ModelCheckpoint("here")},
        {"callbacks": ModelCheckpoint("here")},
        "dirpath='/there'",
    ),
    ({"weights_save_path": "/x", "checkpoint_callback": False}, {"enable_checkpointing": False}),
    ({"weights_save_path": None}, {}),
    ({"default_save_path": "runs"}, {"default_root_dir": "runs"}),
    ({"terminate_on_nan": False}, {}),
    ({"terminate_on_nan": True}, {"on_nonfinite": "raise"}),
    ({"print_nan_grads": False}, {}),
    ({"track_grad_norm": -1}, {}),
    ({"log_grad_norm": False}, {}),
    ({"stochastic_weight_avg": False}, {}),
    ({"flush_logs_every_n_steps": 100}, {}, "the logger's: `CSVLogger(flush_logs_every_n_steps=...)`"),
    ({"log_save_interval": 100}, {}, "the logger's"),
    ({"row_log_interval": 10}, {"log_every_n_steps": 10}),
    ({"add_row_log_interval": 10}, {"log_every_n_steps": 10}),
    ({"log_gpu_memory": None}, {}),
    ({"reload_dataloaders_every_epoch": True}, {"reload_dataloaders_every_n_epochs": 1}),
    ({"reload_dataloaders_every_epoch": False}, {"reload_dataloaders_every_n_epochs": 0}),
    ({"multiple_trainloader_mode": "max_size_cycle"}, {}, "CombinedLoader(loaders, 'max_size_cycle')"),
    ({"truncated_bptt_steps": None}, {}),
    ({"prepare_data_per_node": True}, {}),
    ({"move_metrics_to_cpu": True}, {}),
    ({"min_nb_epochs": 1}, {"min_epochs": 1}),
    ({"max_nb_epochs": 3}, {"max_epochs": 3}),
    ({"nb_sanity_val_steps": 0}, {"num_sanity_val_steps": 0}),
    ({"train_percent_check": 0.5}, {"limit_train_batches": 0.5}),
    ({"val_percent_check": 1}, {"limit_val_batches": 1.0}),
    ({"test_percent_check": 0.1}, {"limit_test_batches": 0.1}),
    ({"overfit_pct": 0.01}, {"overfit_batches": 0.01}),
    ({"max_steps": None}, {"max_steps": -1}),
    (
        {"accumulate_grad_batches": {4: 2}},
        {"callbacks": GradientAccumulationScheduler({4: 2})},
        "scheduling={4: 2}",
    ),
    ({"profiler": True}, {"profiler": "simple"}),
    ({"profiler": False}, {}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what the arguments mean on this machine
@pytest.mark.parametrize("row", WORKING, ids=lambda row: re.sub(r" object at 0x\w+", "", str(row[0])))
def test_former_arguments_work_and_one_warning_says_what_to_write(row, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given, today, *told = row
    with pytest.warns(LevinDeprecationWarning) as warned:
        made = outcome(**given)
    assert made == outcome(**today)
    (warning,) = [warning for warning in warned if warning.category is LevinDeprecationWarning]
    words = ", ".join(f"{name}={value!r}" for name, value in today.items()) or "nothing: leave it out"
    assert (told[0] if told else words) in str(warning.message)
    assert warning.filename == __file__


def test_every_former_argument_stands_in_the_tables_of_this_file():
    tried = {name for row in WORKING for name in row[0]} | set(REFUSED)
    assert tried >= set(ARGUMENTS) | set(VALUES)


# what can't be said today -> what the error names
REFUSED = {
    "ipus": (4, "accelerator=..."), "hpus": (1, "accelerator=..."),
    "auto_select_gpus": (True, 'devices="auto"'), "amp_backend": ("apex", 'precision="16-mixed"'),
    "amp_level": ("O2", 'precision="16-mixed"'), "auto_lr_find": (True, "Tuner(trainer).lr_find"),
    "auto_scale_batch_size": ("power", "Tuner(trainer).scale_batch_size"),
    "weights_summary": ("all", "ModelSummary(max_depth=...)"),
    "checkpoint_callback": (7, "ModelCheckpoint(...)"),
    "early_stop_callback": ("x", "EarlyStopping(...)"),
    "print_nan_grads": (True, "detect_anomaly=True"), "log_grad_norm": (True, "on_before_optimizer_step"),
    "stochastic_weight_avg": (True, "StochasticWeightAveraging(swa_lrs=...)"),
    "log_gpu_memory": ("all", "DeviceStatsMonitor()"), "multiple_trainloader_mode": ("max", "CombinedLoader"),
    "truncated_bptt_steps": (5, "automatic_optimization = False"),
    "prepare_data_per_node": (False, "self.prepare_data_per_node = False"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_former_argument_without_an_equivalent_says_what_to_do(name):
    value, advice = REFUSED[name]
    with pytest.raises(TypeError) as raised:
        L.Trainer(**{name: value})
    assert f"unexpected keyword argument {name!r}: {value!r}" in str(raised.value)
    assert advice in str(raised.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"gpus": 2, "devices": 2}, ("gpus=2", "devices=2")),
        ({"gpus": 1, "accelerator": "cpu"}, ("gpus=1", "accelerator='cpu'")),
        ({"gpus": 1, "num_processes": 2}, ("num_processes=2", "devices")),
        ({"row_log_interval": 5, "log_every_n_steps": 5}, ("row_log_interval=5", "log_every_n_steps=5")),
        ({"accelerator": "ddp", "strategy": "ddp"}, ("accelerator='ddp'", "strategy='ddp'")),
        (
            {"checkpoint_callback": True, "enable_checkpointing": True},
            ("checkpoint_callback", "enable_check"),
        ),
        ({"max_nb_epochs": 1, "max_epochs": 2}, ("max_nb_epochs=1", "max_epochs=2")),
    ],
    ids=str,
)
def test_a_former_argument_beside_what_it_has_become_is_refused(given, named):
    with pytest.raises(TypeError, match=r"Leave one of the two out") as raised:
        L.Trainer(**given)
    assert all(name in str(raised.value) for name in named)


def test_one_warning_speaks_of_all_former_arguments_together():
    with pytest.warns(LevinDeprecationWarning) as warned:
        L.Trainer(gpus=0, weights_summary=None, progress_bar_refresh_rate=0, logger=False)
    assert len(warned) == 1
    assert str(warned[0].message) == (
        "Trainer was given what earlier versions took: `gpus=0` is now `accelerator='cpu'`; "
        "`weights_summary=None` is now `enable_model_summary=False`; `progress_bar_refresh_rate=0` is now "
        "`enable_progress_bar=False`."
    )


def test_former_arguments_may_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("PL_TRAINER_GPUS", "0")
    with pytest.warns(LevinDeprecationWarning, match="`gpus=0` is now `accelerator='cpu'`"):
        L.Trainer(logger=False)


@pytest.mark.parametrize("name", former.ENVIRONMENT)
def test_a_variable_that_does_nothing_any_more_is_told(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    with pytest.warns(LevinDeprecationWarning, match=f"{name} does nothing any more.*[.]"):
        L.Trainer(**CPU, logger=False)


@pytest.mark.parametrize(
    ("given", "full"),
    [(16, "16-mixed"), ("16", "16-mixed"), ("bf16", "bf16-mixed"), (32, "32-true"), (64, "64-true")],
)
def test_former_precisions_work_and_the_ambiguous_ones_are_told(given, full):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer = L.Trainer(**CPU, precision=given, logger=False)
    assert trainer.precision == ("bf16-mixed" if "16" in full else full)  # float16 is too slow on a CPU
    told = [str(warning.message) for warning in warned if warning.category is LevinDeprecationWarning]
    assert len(told) == ("16" in full)
    assert all(f"Write {full!r}" in text for text in told)


# ---------------------------------------------------------------------- what they do in a run


def quick(**arguments):
    quiet = {"logger": False, "enable_model_summary": False, "accelerator": "cpu"}
    with pytest.warns(LevinDeprecationWarning):
        return L.Trainer(**{**quiet, "progress_bar_refresh_rate": 0, **arguments})


@pytest.fixture
def saved(tmp_path):
    """The path of a checkpoint after one epoch of two batches."""
    trainer = quick(max_nb_epochs=1, checkpoint_callback=False, default_save_path=tmp_path)
    trainer.fit(BoringModel(), DataLoader(torch.randn(2, 32)))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


@pytest.mark.filterwarnings("ignore:BoringModel has a `validation_step`")
def test_the_first_fit_goes_on_from_resume_from_checkpoint(saved, tmp_path):
    trainer = quick(resume_from_checkpoint=saved, max_epochs=2, checkpoint_callback=False)
    trainer.validate(BoringModel(), verbose=False)
    assert trainer.global_step == 0  # it is for fit alone
    trainer.fit(BoringModel(), DataLoader(torch.randn(2, 32)))
    assert (trainer.global_step, trainer.ckpt_path) == (4, str(saved))
    trainer.max_epochs = 3
    trainer.fit(BoringModel(), DataLoader(torch.randn(2, 32)))
    assert trainer.global_step == 6  # and for the first one alone


@pytest.mark.filterwarnings("ignore:BoringModel has a `validation_step`")
def test_weights_save_path_is_where_checkpoints_go(tmp_path):
    trainer = quick(weights_save_path=tmp_path / "there", max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(BoringModel(), DataLoader(torch.randn(2, 32)))
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["epoch=0-step=2.ckpt"]
    assert (tmp_path / "there" / "epoch=0-step=2.ckpt").is_file()


@pytest.mark.parametrize(("mode", "batches"), [("min_size", 2), ("max_size_cycle", 5)])
def test_multiple_trainloader_mode_is_how_loaders_of_a_fit_are_combined(mode, batches):
    class Model(BoringModel):
        def training_step(self, batch, batch_idx):
            return self.step(batch["b"])

    loaders = {"a": DataLoader(torch.randn(2, 32)), "b": DataLoader(torch.randn(5, 32))}
    trainer = quick(
        multiple_trainloader_mode=mode, max_epochs=1, limit_val_batches=0, checkpoint_callback=False
    )
    trainer.fit(Model(), loaders)
    assert trainer.num_training_batches == batches == trainer.global_step
    trainer.max_epochs = 2
    trainer.fit(Model(), CombinedLoader(loaders, "max_size"))  # which has its own
    assert trainer.num_training_batches == 5


def test_track_grad_norm_logs_what_is_logged_by_hand(tmp_path):
    settings = {"max_epochs": 1, "limit_val_batches": 0, "log_every_n_steps": 2, "checkpoint_callback": False}
    trainer = quick(track_grad_norm=2, **settings, logger=CSVLogger(tmp_path))
    trainer.fit(BoringModel(), DataLoader(torch.randn(4, 32)))
    rows = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    assert "grad_2.0_norm_total" in rows[0]
    assert "grad_2.0_norm/layer.weight" in rows[0]
    assert len(rows) == 3  # every second step of four
    assert any(isinstance(callback, LambdaCallback) for callback in trainer.callbacks)


def test_accumulate_grad_batches_may_be_a_schedule():
    trainer = quick(
        accumulate_grad_batches={1: 2}, max_epochs=2, limit_val_batches=0, checkpoint_callback=False
    )
    trainer.fit(BoringModel(), DataLoader(torch.randn(4, 32)))
    assert trainer.global_step == 4 + 2


# ---------------------------------------------------------------------- strategies

SUCCESSORS = {
    "dp": "'ddp'", "ddp2": "'ddp'", "ddp_cpu": "'ddp_spawn'", "ddp_sharded": "'fsdp'",
    "ddp_sharded_spawn": "'fsdp'", "ddp_fully_sharded": "'fsdp'", "fsdp_native": "'fsdp'",
    "fsdp_native_full_shard_offload": "'fsdp_cpu_offload'", "horovod": "'ddp'", "bagua": "'ddp'",
    "hivemind": "'ddp'", "colossalai": "'fsdp'", "tpu_spawn": "CPU, CUDA and MPS",
    "tpu_spawn_debug": "CPU, CUDA and MPS", "ipu_strategy": "CPU, CUDA and MPS",
    "hpu_parallel": "CPU, CUDA and MPS", "hpu_single": "CPU, CUDA and MPS",
}  # fmt: skip


@pytest.mark.parametrize("name", _REMOVED_STRATEGIES)
def test_a_strategy_that_was_removed_names_its_successor(name):
    with pytest.raises(ValueError, match=f"strategy='{name}' was removed. .*{SUCCESSORS[name]}"):
        L.Trainer(**CPU, strategy=name)


# ---------------------------------------------------------------------- attributes and methods of the Trainer


@pytest.fixture
def trainer():
    """A Trainer that has fitted a BoringModel."""
    trainer = quick(max_epochs=1, limit_train_batches=1, limit_val_batches=1, checkpoint_callback=False)
    trainer.fit(BoringModel())
    return trainer


OF_THE_TRAINER = {
    "training_type_plugin": lambda t: t.strategy,
    "num_gpus": lambda t: 0, "gpus": lambda t: 0, "tpu_cores": lambda t: 0, "ipus": lambda t: 0,
    "num_processes": lambda t: 1, "root_gpu": lambda t: None, "data_parallel_device_ids": lambda t: [0],
    "lr_schedulers": lambda t: [vars(config) for config in t.lr_scheduler_configs],
    "validated_ckpt_path": lambda t: t.ckpt_path, "tested_ckpt_path": lambda t: t.ckpt_path,
    "predicted_ckpt_path": lambda t: t.ckpt_path, "running_sanity_check": lambda t: False,
    "disable_validation": lambda t: False, "progress_bar_dict": lambda t: t.progress_bar_metrics,
    "use_amp": lambda t: False, "amp_backend": lambda t: None, "train_loop": lambda t: t.fit_loop,
    "lightning_optimizers": lambda t: {0: t.wrapped_optimizers[0]},
    "weights_save_path": lambda t: t.default_root_dir, "should_rank_save_checkpoint": lambda t: True,
    "prediction_writer_callbacks": lambda t: [], "on_gpu": lambda t: False, "proc_rank": lambda t: 0,
}  # fmt: skip


@pytest.mark.parametrize("name", [*RENAMED, *COMPUTED])
def test_a_former_attribute_has_its_value_and_a_warning_that_names_todays(trainer, name):
    with pytest.warns(
        LevinDeprecationWarning, match=f"`trainer.{name}` is now `.*(trainer|self)[.]"
    ) as warned:
        value = getattr(trainer, name)
    assert value == OF_THE_TRAINER[name](trainer)
    assert [warning.filename for warning in warned] == [__file__]
    today = RENAMED.get(name)
    assert today is None or hasattr(trainer, today.split(".")[0])


def test_former_attributes_of_a_trainer_in_mixed_precision():
    trainer = quick(precision="bf16-mixed")
    with pytest.warns(LevinDeprecationWarning, match=r"`trainer.precision`"):
        assert (trainer.use_amp, trainer.amp_backend) == (True, "native")


@pytest.mark.parametrize("name", [*GONE, *sorted(set(REFUSED) - {*OF_THE_TRAINER, "checkpoint_callback"})])
def test_an_attribute_that_is_gone_says_what_to_use(trainer, name):
    assert not hasattr(trainer, name)
    with pytest.raises(AttributeError) as raised:
        getattr(trainer, name)
    advice = GONE.get(name) or ARGUMENTS[name].advice
    assert str(raised.value) == f"There is no `trainer.{name}`. {advice}"


def test_the_sentences_about_the_trainer_name_attributes_that_are_there(trainer):
    texts = [*GONE.values(), *(text for text, _ in COMPUTED.values()), *former.MODULES.values()]
    named = {name for text in texts for name in re.findall(r"`(?:not )?trainer[.](\w+)", text)}
    assert len(named) > 10
    assert [name for name in named if not hasattr(trainer, name)] == []


# ---------------------------------------------------------------------- keywords of the entry points


@pytest.mark.parametrize(
    ("method", "keyword"),
    [(method, keyword) for method, keywords in KEYWORDS.items() for keyword in keywords],
)
@pytest.mark.filterwarnings("ignore:.*there is no validation data")
def test_a_former_keyword_brings_the_loaders(method, keyword):
    trainer = quick(max_epochs=1, checkpoint_callback=False, limit_val_batches=1)
    model, loader = BoringModel(), DataLoader(torch.randn(3, 32))
    today = KEYWORDS[method][keyword]
    with pytest.warns(
        LevinDeprecationWarning, match=rf"`trainer.{method}\({keyword}=...\)` is now `{today}="
    ):
        getattr(trainer, method)(model, **{keyword: loader})
    kind = keyword.split("_")[0]
    name = "train_dataloader" if kind == "train" else f"{kind}_dataloaders"
    assert getattr(trainer, name) is loader


@pytest.mark.parametrize("method", KEYWORDS)
def test_a_keyword_that_never_was_one_is_told_as_always_with_the_nearest(method):
    trainer, model = quick(), BoringModel()
    near = "train_dataloaders" if method == "fit" else "dataloaders"
    text = rf"Trainer.{method}\(\) got an unexpected keyword argument '{near}s'. Did you mean '{near}'"
    with pytest.raises(TypeError, match=text):
        getattr(trainer, method)(model, **{f"{near}s": DataLoader([1])})


def test_a_former_keyword_beside_todays_is_refused():
    loader = DataLoader(torch.randn(3, 32))
    with pytest.raises(TypeError, match=r"`trainer.fit` got `train_dataloader` and `train_dataloaders`"):
        quick().fit(BoringModel(), train_dataloaders=loader, train_dataloader=loader)


@pytest.mark.parametrize("method", KEYWORDS)
def test_the_signature_of_an_entry_point_is_todays(method):
    parameters = inspect.signature(getattr(L.Trainer, method)).parameters.values()
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
    assert not set(KEYWORDS[method]) & {each.name for each in parameters}


def test_the_signature_of_the_constructor_is_todays():
    assert not set(ARGUMENTS) & set(inspect.signature(L.Trainer).parameters)


# ---------------------------------------------------------------------- argparse


def test_a_trainer_is_made_of_a_command_line_as_it_was():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", type=int, default=0)  # the user's own
    parser.add_argument("--hidden_size", type=int, default=3)
    with pytest.warns(LevinDeprecationWarning, match="`Trainer.add_argparse_args` is of earlier versions"):
        assert L.Trainer.add_argparse_args(parser) is parser
    words = "--max_epochs 3 --limit_val_batches 0.5 --logger false --enable_progress_bar --row_log_interval 7"
    args = parser.parse_args(words.split())
    assert (args.gpus, args.hidden_size, args.max_steps, args.precision) == (0, 3, -1, None)
    with pytest.warns(LevinDeprecationWarning) as warned:
        trainer = L.Trainer.from_argparse_args(args, limit_val_batches=0.25)
    assert (trainer.max_epochs, trainer.limit_val_batches, trainer.log_every_n_steps) == (3, 0.25, 7)
    assert (trainer.loggers, trainer.accelerator.name()) == ([], "cpu")
    assert "`Trainer.from_argparse_args` is of earlier versions. Write" in str(warned[0].message)
    assert "`row_log_interval=7` is now `log_every_n_steps=7`" in str(warned[1].message)


class Rows(L.LightningDataModule):
    def __init__(self, folder, batch_size: int = 2, shuffle: bool = False):
        super().__init__()
        self.given = (folder, batch_size, shuffle)


@pytest.mark.filterwarnings("ignore:.*is of earlier versions")
def test_a_datamodule_is_made_of_a_command_line_as_it_was(monkeypatch):
    parser = Rows.add_argparse_args(argparse.ArgumentParser())
    monkeypatch.setattr(sys, "argv", ["program", "--folder", "there", "--shuffle"])
    assert Rows.from_argparse_args(parser, batch_size=8).given == ("there", 8, True)
    assert Rows.parse_argparser(parser).batch_size == 2
    assert Rows.default_attributes() == {"folder": inspect.Parameter.empty, "batch_size": 2, "shuffle": False}


# ---------------------------------------------------------------------- hooks of modules and callbacks


def fit(model, *callbacks, datamodule=None, **arguments):
    """Fit for one epoch of two batches, validated on two."""
    limits = {"limit_train_batches": 2, "limit_val_batches": 2, "limit_test_batches": 2, "max_epochs": 1}
    quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
    checkpoints = {"enable_checkpointing": False, "num_sanity_val_steps": 0}
    trainer = L.Trainer(
        **{**CPU, **limits, **quiet, **checkpoints, "callbacks": list(callbacks), **arguments}
    )
    trainer.fit(model, datamodule=datamodule)
    return trainer


def boring(base=BoringModel, **methods):
    return type("Old", (base,), methods)()


@pytest.mark.parametrize("hook", ["training_epoch_end", "validation_epoch_end", "test_epoch_end"])
def test_a_hook_with_outputs_says_how_to_collect_them_and_how_to_run_it_as_it_is(hook):
    with pytest.raises(NotImplementedError) as raised:
        fit(boring(**{hook: lambda self, outputs: None}))
    text, stage = str(raised.value), hook.partition("_")[0]
    assert text.startswith(f"`Old.{hook}` is never called: the hook was removed. Use `on_")
    assert "`self.outputs.append(...)` in `" + stage + "_step`" in text
    assert "levin.compat.EpochEndMixin" in text


@pytest.mark.parametrize("name", IDLE_HOOKS)
def test_a_method_that_a_run_can_do_without_is_told(name):
    owner = L.LightningDataModule if name.startswith(("on_save", "on_load")) else BoringModel
    old = type("Old", (owner,), {name: lambda self, *_: None})()
    module, data = (old, None) if owner is BoringModel else (BoringModel(), old)
    if data is not None:
        data.train_dataloader, data.val_dataloader = module.train_dataloader, module.val_dataloader
    with pytest.warns(UserWarning, match=f"`Old.{name}` is never called: it was removed") as warned:
        fit(module, datamodule=data)
    assert IDLE_HOOKS[name] in str(warned[0].message)


def test_configure_sharded_model_is_still_called():
    model = boring(configure_sharded_model=lambda self: setattr(self, "was_called", True))
    with pytest.warns(
        LevinDeprecationWarning, match=r"`Old.configure_sharded_model` is now `configure_model`"
    ):
        fit(model)
    assert model.was_called
    both = boring(configure_sharded_model=lambda self: None, configure_model=lambda self: None)
    with pytest.raises(RuntimeError, match=r"`Old.configure_sharded_model` is now `configure_model`"):
        fit(both)


def hook_with(name, *arguments):
    """A function with these arguments after self."""
    return eval(f"lambda self, {', '.join(arguments)}: None", {"__name__": name})


@pytest.mark.parametrize(
    ("base", "name", "arguments", "extra", "advice"),
    [
        (BoringModel, "on_train_epoch_end", ["outputs"], "outputs", "self.outputs.append"),
        (BoringModel, "on_predict_epoch_end", ["results"], "results", "trainer.predict"),
        (BoringModel, "on_before_optimizer_step", ["optimizer", "optimizer_idx"], "optimizer_idx", "several"),
        (
            BoringModel,
            "optimizer_step",
            [
                "epoch",
                "batch_idx",
                "optimizer",
                "optimizer_closure",
                "on_tpu",
                "using_native_amp",
                "using_lbfgs",
            ],
            "on_tpu",
            "Leave it out",
        ),
        (
            L.Callback,
            "on_train_batch_end",
            ["trainer", "pl_module", "outputs", "batch", "batch_idx", "dataloader_idx"],
            "dataloader_idx",
            "leave it out",
        ),
        (L.Callback, "on_train_epoch_end", ["trainer", "pl_module", "outputs"], "outputs", "outputs.append"),
        (
            L.Callback,
            "on_train_batch_start",
            ["t", "m", "batch", "batch_idx", "unused"],
            "unused",
            "Leave it",
        ),
    ],
)
def test_a_hook_that_requires_what_it_does_not_get_is_told_at_the_start(base, name, arguments, extra, advice):
    old = boring(base, **{name: hook_with(name, *arguments)})
    parts = [old] if base is BoringModel else [BoringModel(), old]
    with pytest.raises(
        TypeError, match=f"`Old.{name}` requires `{extra}`, which it does not get: `{name}.self"
    ):
        fit(*parts)
    assert advice in PARAMETERS[extra]


@pytest.mark.parametrize("name", ["setup", "on_load_checkpoint", "on_validation_batch_end"])
def test_a_hook_that_takes_less_than_it_gets_is_told_at_the_start(name):
    with pytest.raises(
        TypeError, match=rf"`Old.{name}` takes too few arguments. Define it as `{name}\(self, "
    ):
        fit(BoringModel(), boring(L.Callback, **{name: hook_with(name, "state")}))


def test_hooks_may_take_more_by_default_and_anything_at_all():
    class Wide(L.Callback):
        seen = ()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, unused=0):
            self.seen += ("end",)

        def on_train_batch_start(self, *args, **kwargs):
            self.seen += ("start",)

        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx): ...

        def on_fit_start(self, trainer, *_):
            self.seen += ("fit",)

    wide = Wide()
    fit(BoringModel(), wide)
    assert wide.seen == ("fit", "start", "end", "start", "end")


@pytest.mark.parametrize(
    "name",
    ["training_step", "backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping",
     "lr_scheduler_step"],
)  # fmt: skip
def test_optimizer_idx_is_refused_everywhere(name):
    with pytest.raises(RuntimeError, match=rf"`Old.{name}` takes `optimizer_idx`.*self.optimizers\(\)"):
        fit(boring(**{name: lambda self, batch, optimizer_idx: None}))


@pytest.mark.parametrize(
    ("run", "step"),
    [("fit", "training_step"), ("fit", "validation_step"), ("validate", "validation_step"),
     ("test", "test_step"), ("predict", "predict_step")],
)  # fmt: skip
def test_a_step_without_a_batch_is_told_before_the_first_one(run, step):
    trainer = L.Trainer(**CPU, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    with pytest.raises(TypeError, match=rf"`Old.{step}` takes no batch. Define it as `def {step}\(self, bat"):
        getattr(trainer, run)(boring(**{step: lambda self: None}))
    assert trainer.global_step == 0


def test_truncated_backpropagation_is_gone():
    model = boring()
    model.truncated_bptt_steps = 2
    with pytest.raises(
        MisconfigurationException, match=r"`Old.truncated_bptt_steps` is gone.*manual optimization"
    ):
        fit(model)
    with pytest.raises(TypeError, match=r"`Old.training_step` requires `hiddens`.*manual optimization"):
        fit(boring(training_step=lambda self, batch, batch_idx, hiddens: None))


def test_a_state_that_on_save_checkpoint_returns_is_dropped_with_a_warning(tmp_path):
    class Saving(L.Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            return {"count": 3}

    trainer = fit(BoringModel(), Saving())
    with pytest.warns(
        UserWarning, match=r"What `Saving.on_save_checkpoint` returned is dropped.*`state_dict"
    ):
        trainer.save_checkpoint(tmp_path / "x.ckpt")


# ---------------------------------------------------------------------- what modules called


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_that_modules_had_says_what_to_use(name):
    model = boring(on_train_start=lambda self: getattr(self, name))
    with pytest.raises(AttributeError) as raised:
        fit(model)
    assert str(raised.value) == f"'Old' object has no attribute '{name}'. {ATTRIBUTES[name]}"


@pytest.mark.parametrize(("method", "keyword"), METHOD_KEYWORDS)
def test_a_keyword_that_methods_of_modules_took_says_what_to_do(method, keyword):
    given = ("loss", 1.0) if method == "log" else (None,)

    def on_train_start(self):
        getattr(self, method)(*given, **{keyword: None})

    with pytest.raises(
        TypeError, match=rf"{method}\(\) got an unexpected keyword argument '{keyword}'"
    ) as raised:
        fit(boring(on_train_start=on_train_start))
    assert str(raised.value).endswith(METHOD_KEYWORDS[method, keyword])


def test_toggling_an_optimizer_by_its_number_says_what_to_do():
    model = boring(on_train_start=lambda self: self.toggle_optimizer(self.optimizers(), 0))
    with pytest.raises(TypeError, match=r"but 3 were given. Pass the optimizer alone"):
        fit(model)


def test_a_missing_dataloader_idx_says_what_to_do():
    def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx): ...

    with pytest.raises(TypeError, match=r"'dataloader_idx'. Give it a default: `dataloader_idx=0`"):
        fit(boring(on_validation_batch_end=on_validation_batch_end))


def test_errors_of_the_users_own_stay_as_they_are():
    class Table:
        pass

    with pytest.raises(AttributeError, match=r"^'Table' object has no attribute 'precision'$"):
        fit(boring(on_train_start=lambda self: Table().precision))
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'colour'$"):
        fit(boring(on_train_start=lambda self: self.log("loss", 1.0, colour=None)))


@pytest.mark.parametrize(
    ("key", "call"), [("log", "self.log_dict(values)"), ("progress_bar", "prog_bar=True")]
)
def test_values_in_what_training_step_returned_are_told_to_be_logged_by_hand(key, call):
    def training_step(self, batch, batch_idx):
        return {"loss": self.step(batch), key: {"acc": 1.0}}

    with pytest.warns(UserWarning, match=f"`training_step` returned a dict with '{key}'") as warned:
        fit(boring(training_step=training_step))
    assert call in str(warned[0].message)


def test_values_of_the_users_own_may_be_called_log():
    fit(boring(training_step=lambda self, batch: {"loss": self.step(batch), "log": "a text"}))


def test_hyperparameters_may_be_assigned():
    class Old(BoringModel):
        def __init__(self, hparams):
            super().__init__()
            self.hparams = hparams

    assert Old({"lr": 0.1}).hparams.lr == 0.1
    assert Old(argparse.Namespace(lr=0.1)).hparams.lr == 0.1


# ---------------------------------------------------------------------- EpochEndMixin


class Old(L.compat.EpochEndMixin, BoringModel):
    """A module of 2020."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def training_step(self, batch, batch_idx):
        return {"loss": self.step(batch), "size": len(batch)}

    def training_step_end(self, output):
        self.notes.append("training_step_end")
        return {**output, "more": output["loss"] * 2}

    def training_epoch_end(self, outputs):
        self.notes.append(outputs)
        self.log("train_mean", torch.stack([out["loss"] for out in outputs]).mean())

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return {"val_loss": batch.mean(), "loader": dataloader_idx}

    def validation_epoch_end(self, outputs):
        self.notes.append(outputs)

    def test_step(self, batch, batch_idx):
        return batch.mean()

    def test_step_end(self, output):
        return output + 1

    def test_epoch_end(self, outputs):
        return {"test_loss": torch.stack(outputs).mean(), "log": {"test_log": 3.0}, "others": outputs}

    def on_train_epoch_end(self):
        self.notes.append("on_train_epoch_end")


def test_the_mixin_gives_training_epoch_end_what_the_steps_returned():
    model = Old()
    trainer = fit(model, limit_val_batches=0)
    first, second, outputs, after = model.notes
    assert (first, second, after) == ("training_step_end", "training_step_end", "on_train_epoch_end")
    assert [sorted(out) for out in outputs] == [["loss", "more", "size"]] * 2
    assert not any(out["loss"].requires_grad or out["more"].requires_grad for out in outputs)
    assert trainer.callback_metrics["train_mean"] == torch.stack([out["loss"] for out in outputs]).mean()


def test_the_mixin_trains_as_a_module_without_it(tmp_path):
    weights = []
    for base in (Old, BoringModel):
        L.seed_everything(1)
        model = base()
        fit(model, limit_val_batches=0)
        weights.append(model.layer.weight)
    assert torch.equal(*weights)


@pytest.mark.filterwarnings("ignore:A val dataloader has no batches")
def test_outputs_of_several_loaders_are_a_list_for_each():
    model = Old()
    loaders = [DataLoader(torch.randn(n, 32)) for n in (2, 0, 1)]
    L.Trainer(**CPU, logger=False, enable_progress_bar=False).validate(model, loaders, verbose=False)
    (outputs,) = model.notes
    assert [[out["loader"] for out in loader] for loader in outputs] == [[0, 0], [], [2]]


def test_outputs_of_one_loader_are_one_list_and_the_sanity_check_has_its_own():
    model = Old()
    fit(model, num_sanity_val_steps=1)
    sizes = [len(note) for note in model.notes if isinstance(note, list)]
    assert sizes == [1, 2, 2]  # sanity check, validation, training


def test_what_test_epoch_end_returned_is_logged_as_it_was():
    trainer = L.Trainer(**CPU, logger=False, enable_progress_bar=False)
    (results,) = trainer.test(Old(), DataLoader(torch.zeros(2, 32)), verbose=False)
    assert results == {"test_log": 3.0}  # what the loggers get
    assert trainer.callback_metrics["test_loss"] == 1.0  # what the callbacks see; `test_step_end` added 1


def test_values_that_a_step_returned_are_logged_as_they_were():
    class Returning(L.compat.EpochEndMixin, BoringModel):
        def training_step(self, batch, batch_idx):
            values = {
                "loss": self.step(batch),
                "log": {"acc": 0.5, "both": 1.0},
                "progress_bar": {"both": 1.0},
            }
            return values

    trainer = fit(Returning())
    assert {"acc", "both"} <= set(trainer.callback_metrics)
    assert trainer.progress_bar_metrics["both"] == 1.0
    assert "acc" not in trainer.progress_bar_metrics


def test_outputs_are_let_go_of():
    trainer = fit(Old())
    (collector,) = [callback for callback in trainer.callbacks if callback.order == -100]
    assert collector._outputs == {}
    model = boring(Old, validation_step=lambda self, batch, batch_idx: 1 / (1 - batch_idx))
    trainer = L.Trainer(**CPU, logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(ZeroDivisionError):
        trainer.validate(model)
    (collector,) = [callback for callback in trainer.callbacks if callback.order == -100]
    assert collector._outputs == {}


def test_a_step_of_a_parent_ends_once():
    class Parent(L.compat.EpochEndMixin, BoringModel):
        ends = 0

        def training_step(self, batch, batch_idx):
            return self.step(batch)

        def training_step_end(self, output):
            self.ends += 1

    class Child(Parent):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)

    class Grown(L.compat.EpochEndMixin, boring(training_step=Parent.__mro__[2].training_step).__class__):
        ends = 0
        training_step_end = Parent.training_step_end

    for kind in (Parent, Child, Grown):
        model = kind()
        fit(model)
        assert model.ends == 2


def test_callbacks_of_the_modules_own_come_with_the_one_that_collects():
    class Stopping(Old):
        def configure_callbacks(self):
            return EarlyStopping("train_mean", check_on_train_epoch_end=True)

    class Asking(Stopping):
        def configure_callbacks(self):
            return [super().configure_callbacks()[0], L.Callback()]

    class Keeping(Stopping):
        def configure_callbacks(self):
            return [*super().configure_callbacks(), L.Callback()]

    for kind in (Stopping, Asking, Keeping):
        model = kind()
        trainer = fit(model)
        assert sum(callback.order == -100 for callback in trainer.callbacks) == 1
        assert trainer.early_stopping_callback is not None
        assert sum(isinstance(note, list) for note in model.notes) == 2


def test_a_module_without_the_mixin_has_no_part_of_it():
    trainer = fit(BoringModel())
    assert trainer.callbacks == []
    assert not hasattr(BoringModel, "adapted_hooks")
