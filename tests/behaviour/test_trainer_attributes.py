"""What a Trainer shows of itself before, during and after a run, and what may be set on it."""

from __future__ import annotations

import math

import pytest
import torch

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from levin.loggers import CSVLogger, Logger
from levin.testing import BoringDataModule, BoringModel
from levin.trainer.states import RunningStage, TrainerFn, TrainerStatus
from levin.utils.errors import MisconfigurationException

NAMES = [
    "accelerator", "strategy", "precision", "precision_plugin", "scaler", "num_nodes", "num_devices",
    "device_ids", "world_size", "global_rank", "local_rank", "node_rank", "is_global_zero",
    "distributed_sampler_kwargs", "lightning_module", "model", "optimizers", "lr_scheduler_configs",
    "datamodule", "current_epoch", "global_step", "is_last_batch", "max_epochs", "min_epochs",
    "max_steps", "min_steps", "num_training_batches", "num_sanity_val_batches", "num_val_batches",
    "num_test_batches", "num_predict_batches", "estimated_stepping_batches", "train_dataloader",
    "val_dataloaders", "test_dataloaders", "predict_dataloaders", "state", "training", "validating",
    "testing", "predicting", "sanity_checking", "evaluating", "interrupted", "received_sigterm",
    "should_stop", "fit_loop", "validate_loop", "test_loop", "predict_loop", "fast_dev_run",
    "limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches",
    "overfit_batches", "num_sanity_val_steps", "val_check_interval", "val_check_batch",
    "check_val_every_n_epoch", "log_every_n_steps", "accumulate_grad_batches", "gradient_clip_val",
    "gradient_clip_algorithm", "reload_dataloaders_every_n_epochs", "barebones", "enable_autolog_hparams",
    "default_root_dir", "log_dir", "profiler", "callbacks", "checkpoint_callback", "checkpoint_callbacks",
    "early_stopping_callback", "early_stopping_callbacks", "progress_bar_callback", "logger", "loggers",
    "logged_metrics", "callback_metrics", "progress_bar_metrics", "ckpt_path", "enable_validation",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_attribute_can_be_read_before_any_run(quiet, name):
    getattr(quiet(), name)


def test_before_any_run_nothing_has_happened(quiet, tmp_path):
    trainer = quiet()
    values = {
        "current_epoch": 0, "global_step": 0, "num_training_batches": math.inf, "num_val_batches": [],
        "num_test_batches": [], "num_predict_batches": [], "num_sanity_val_batches": [],
        "optimizers": [], "lr_scheduler_configs": [], "max_epochs": None, "train_dataloader": None,
        "val_dataloaders": None, "test_dataloaders": None, "predict_dataloaders": None,
        "lightning_module": None, "model": None, "datamodule": None, "should_stop": False,
        "interrupted": False, "received_sigterm": False, "is_last_batch": False, "evaluating": False,
        "callback_metrics": {}, "logged_metrics": {}, "progress_bar_metrics": {}, "ckpt_path": None,
        "enable_validation": False, "log_dir": str(tmp_path), "scaler": None, "logger": None,
        "checkpoint_callback": None, "early_stopping_callback": None, "progress_bar_callback": None,
    }  # fmt: skip
    assert {name: getattr(trainer, name) for name in values} == values
    assert (trainer.state.status, trainer.state.fn, trainer.state.stage) == ("initializing", None, None)


def test_one_process_is_rank_zero_of_one(quiet):
    trainer = quiet()
    ranks = (trainer.global_rank, trainer.local_rank, trainer.node_rank, trainer.world_size)
    assert ranks == (0, 0, 0, 1)
    assert trainer.is_global_zero
    assert trainer.distributed_sampler_kwargs is None


# ---------------------------------------------------------------------- during a run

STAGES = ("training", "validating", "testing", "predicting", "sanity_checking", "evaluating")


def stage_of(trainer):
    """The words of a trainer's state, and the flags that are on."""
    state = trainer.state
    return state.fn, state.stage, state.status, [flag for flag in STAGES if getattr(trainer, flag)]


def test_the_state_says_which_kind_of_batch_is_run(quiet, noting, batches):
    seen = []
    noting.note = lambda *_: seen.append(stage_of(trainer))
    noting.on_train_epoch_end = lambda: None
    trainer = quiet(max_epochs=1, num_sanity_val_steps=1)
    trainer.fit(noting, batches(1), batches(1))
    trainer.validate(noting, batches(1))
    trainer.test(noting, batches(1))
    assert seen == [
        ("fit", "sanity_check", "running", ["sanity_checking", "evaluating"]),
        ("fit", "train", "running", ["training"]),
        ("fit", "validate", "running", ["validating", "evaluating"]),
        ("validate", "validate", "running", ["validating", "evaluating"]),
        ("test", "test", "running", ["testing", "evaluating"]),
    ]
    assert stage_of(trainer) == ("test", None, "finished", [])


def test_predictions_are_no_evaluation(quiet, noting, batches):
    seen = []
    noting.predict_step = lambda batch: seen.append(stage_of(trainer))
    trainer = quiet()
    trainer.predict(noting, batches(1))
    assert seen == [("predict", "predict", "running", ["predicting"])]


def test_states_are_words_and_enums_alike():
    assert TrainerFn.FITTING == "fit"
    assert f"{RunningStage.SANITY_CHECKING}" == "sanity_check"
    assert str(TrainerStatus.INTERRUPTED) == "interrupted"
    assert TrainerFn("validate") is TrainerFn.VALIDATING


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_setup_and_teardown_are_told_what_for(quiet, noting, batches, name):
    told = []
    noting.setup = lambda stage: told.append(stage)
    noting.teardown = lambda stage: told.append(stage)
    data = [batches(1), batches(1)] if name == "fit" else [batches(1)]
    getattr(quiet(max_epochs=1), name)(noting, *data)
    assert told == [name, name]


def test_counters_move_at_their_known_places(quiet, noting, batches):
    seen = {}

    def see(name):
        seen.setdefault(name, []).append((trainer.current_epoch, trainer.global_step, trainer.is_last_batch))

    noting.on_train_batch_start = lambda batch, batch_idx: see("batch start")
    noting.on_train_batch_end = lambda outputs, batch, batch_idx: see("batch end")
    noting.on_train_epoch_end = lambda: see("epoch end")
    noting.on_train_end = lambda: see("end")
    trainer = quiet(max_epochs=2, limit_val_batches=0)
    trainer.fit(noting, batches(2))
    assert seen == {
        "batch start": [(0, 0, False), (0, 1, True), (1, 2, False), (1, 3, True)],
        "batch end": [(0, 1, False), (0, 2, True), (1, 3, False), (1, 4, True)],
        "epoch end": [(0, 2, True), (1, 4, True)],
        "end": [(2, 4, True)],
    }


def test_a_module_is_told_the_same_counters_and_zero_without_a_trainer(quiet, noting, batches):
    assert (noting.current_epoch, noting.global_step) == (0, 0)
    quiet(max_epochs=2, limit_val_batches=0).fit(noting, batches(3))
    assert (noting.current_epoch, noting.global_step) == (2, 6)


# ---------------------------------------------------------------------- after a run


def test_a_fit_leaves_what_it_worked_with(quiet):
    model, data = BoringModel(), BoringDataModule()
    trainer = quiet(max_epochs=1, limit_train_batches=3, limit_val_batches=2)
    trainer.fit(model, data)
    assert trainer.lightning_module is trainer.model is model
    assert trainer.datamodule is data
    assert model.trainer is data.trainer is trainer
    assert [type(optimizer) for optimizer in trainer.optimizers] == [torch.optim.SGD]
    config = trainer.lr_scheduler_configs[0]
    assert (config.interval, config.frequency, config.reduce_on_plateau) == ("epoch", 1, False)
    assert (trainer.num_training_batches, trainer.num_val_batches) == (3, [2])
    assert trainer.state.finished


def test_an_evaluation_leaves_the_fits_numbers_alone(quiet, noting, batches):
    trainer = quiet(max_epochs=1)
    trainer.fit(noting, batches(3), batches(2))
    trainer.test(noting, batches(5))
    trainer.predict(noting, batches(7))
    numbers = (trainer.num_training_batches, trainer.num_val_batches, trainer.num_test_batches)
    assert numbers == (3, [2], [5])
    assert trainer.num_predict_batches == [7]
    trainer.validate(noting, batches(4))
    assert trainer.num_val_batches == [4]
    assert (trainer.current_epoch, trainer.global_step) == (1, 3)


def test_an_evaluation_leaves_the_counters_that_are_saved_alone(quiet, noting, batches, tmp_path):
    trainer = quiet(max_epochs=1)
    trainer.fit(noting, batches(3), batches(2))
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    trainer.test(noting, batches(5))
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    before, after = (torch.load(tmp_path / f"{name}.ckpt")["loops"] for name in ("before", "after"))
    assert before == after


def test_the_loaders_are_there_as_they_were_given(quiet, noting, batches):
    train, val = {"a": batches(1), "b": [batches(2)]}, [batches(1), batches(2)]
    trainer = quiet(max_epochs=1)
    trainer.fit(noting, train, val)
    assert trainer.train_dataloader == train
    assert trainer.val_dataloaders == val
    test = batches(1)
    trainer.test(noting, test)
    assert trainer.test_dataloaders is test


def test_a_module_without_a_trainer_says_so():
    with pytest.raises(RuntimeError, match="BoringModel is not attached to a `Trainer`"):
        _ = BoringModel().trainer


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 3), ("max_steps", 3), ("min_epochs", 1), ("limit_train_batches", 0.5),
        ("limit_test_batches", 2), ("val_check_interval", 2), ("check_val_every_n_epoch", 2),
        ("log_every_n_steps", 1), ("accumulate_grad_batches", 2), ("gradient_clip_val", 0.5),
        ("gradient_clip_algorithm", "value"), ("reload_dataloaders_every_n_epochs", 1),
        ("num_sanity_val_steps", 0), ("fast_dev_run", 2), ("should_stop", True),
    ],
)  # fmt: skip
def test_a_setting_may_be_changed(quiet, name, value):
    trainer = quiet()
    setattr(trainer, name, value)
    assert getattr(trainer, name) == value


@pytest.mark.parametrize(("name", "value"), [("max_epochs", "3"), ("limit_train_batches", 1.5)])
def test_a_changed_setting_is_checked_as_in_the_constructor(quiet, name, value):
    trainer = quiet(max_epochs=1)
    with pytest.raises(MisconfigurationException, match=f"`{name}` is {value!r}"):
        setattr(trainer, name, value)
    assert trainer.max_epochs == 1


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("max_steps", None, "-1 .no limit."), ("accumulate_grad_batches", {0: 2}, "GradientAccumulationSched")],
)
def test_what_only_the_constructor_takes_is_told(quiet, name, value, text):
    with pytest.raises(TypeError, match=f"`{name}` is .*{text}"):
        setattr(quiet(), name, value)


def test_a_changed_setting_counts_from_the_next_epoch_on(quiet, noting, batches):
    def on_train_epoch_start():
        trainer.accumulate_grad_batches = noting.current_epoch + 1

    noting.on_train_epoch_start = on_train_epoch_start
    steps = []
    noting.on_train_epoch_end = lambda: steps.append(trainer.global_step)
    trainer = quiet(max_epochs=3, limit_val_batches=0)
    trainer.fit(noting, batches(6))
    assert steps == [6, 9, 11]


@pytest.mark.parametrize("stage", ["training", "validating", "testing", "predicting"])
def test_a_stage_may_be_set_for_those_who_call_steps_themselves(quiet, stage):
    trainer = quiet()
    setattr(trainer, stage, True)
    assert getattr(trainer, stage)
    setattr(trainer, stage, False)
    assert trainer.state.stage is None


# ---------------------------------------------------------------------- callbacks and loggers


def test_callbacks_are_found_by_kind(quiet):
    stops = [EarlyStopping("a"), EarlyStopping("b")]
    saves = [ModelCheckpoint(), ModelCheckpoint(monitor="a")]
    bar = TQDMProgressBar()
    trainer = quiet(callbacks=[*saves, bar, *stops], enable_checkpointing=True, enable_progress_bar=True)
    assert (trainer.early_stopping_callback, trainer.early_stopping_callbacks) == (stops[0], stops)
    assert (trainer.checkpoint_callback, trainer.checkpoint_callbacks) == (saves[0], saves)
    assert trainer.progress_bar_callback is bar


def test_callbacks_that_are_set_or_appended_take_part_in_the_next_run(quiet, noting, batches):
    class Counting(L.Callback):
        starts = 0

        def on_fit_start(self, trainer, pl_module):
            self.starts += 1

    set_one, appended = Counting(), Counting()
    trainer = quiet(max_epochs=1, limit_val_batches=0)
    trainer.callbacks = [ModelCheckpoint(monitor=None, save_top_k=0), set_one]
    trainer.callbacks.append(appended)
    trainer.fit(noting, batches(1))
    assert (set_one.starts, appended.starts) == (1, 1)
    assert isinstance(trainer.callbacks[-1], ModelCheckpoint)  # those come last, whenever they came


def test_callbacks_of_the_module_replace_those_of_their_class_for_the_run(quiet, noting, batches):
    theirs, ours = EarlyStopping("a"), EarlyStopping("b", check_on_train_epoch_end=False)
    noting.configure_callbacks = lambda: [ours]
    noting.validation_step = lambda batch: noting.log("b", 1.0)
    trainer = quiet(max_epochs=1, callbacks=[theirs, L.Callback()])
    trainer.fit(noting, batches(1), batches(1))
    assert trainer.early_stopping_callbacks == [ours]
    assert trainer.callback_metrics["b"] == 1.0


def test_loggers_may_be_set(quiet, tmp_path):
    first, second = CSVLogger(tmp_path), CSVLogger(tmp_path)
    trainer = quiet()
    trainer.logger = first
    assert (trainer.logger, trainer.loggers) == (first, [first])
    trainer.loggers = [second, first]
    assert (trainer.logger, trainer.loggers) == (second, [second, first])
    trainer.logger = None
    assert (trainer.logger, trainer.loggers) == (None, [])


def test_the_log_folder_is_the_first_loggers(quiet, tmp_path):
    class Elsewhere(Logger):
        name, version, save_dir = "e", 0, "/somewhere"

        def log_metrics(self, metrics, step=None): ...

        def log_hyperparams(self, params, *args, **kwargs): ...

    csv = CSVLogger(tmp_path / "logs", name="n", version=3)
    assert quiet(logger=[csv, Elsewhere()]).log_dir == str(tmp_path / "logs" / "n" / "version_3")
    assert quiet(logger=Elsewhere()).log_dir == "/somewhere"
    assert quiet(logger=False).log_dir == str(tmp_path)


def test_print_speaks_like_print(quiet, capsys):
    quiet().print("a", 1, sep="-", end="!\n")
    assert capsys.readouterr().out == "a-1!\n"


def test_init_module_makes_layers_in_the_precision_of_the_run(quiet):
    with quiet(precision="64-true").init_module():
        layer = torch.nn.Linear(2, 2)
    assert layer.weight.dtype == torch.float64
    assert torch.nn.Linear(2, 2).weight.dtype == torch.float32


def test_the_hook_table_shows_who_listens(quiet, noting, batches):
    noting.on_train_start = lambda: noting.log("a", 1.0)
    trainer = quiet(max_epochs=1, limit_val_batches=0, callbacks=EarlyStopping("a"))
    trainer.fit(noting, batches(1))
    line = next(line for line in str(trainer.hooks).splitlines() if line.startswith("on_train_epoch_end"))
    assert line.split(maxsplit=1)[1] == "Noting, EarlyStopping"


def test_an_unknown_attribute_is_an_attribute_error_as_always(quiet):
    with pytest.raises(AttributeError, match="'Trainer' object has no attribute 'nonsense'"):
        _ = quiet().nonsense
