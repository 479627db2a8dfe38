"""5.1 and 5.3 to 5.5: callbacks, early stopping, what else there is of them, bars and summaries."""

from __future__ import annotations

import inspect
import io
import os
import sys
from datetime import timedelta

import torch
from lines import Raises, Silent, Tells, Warns, line, lines, waiting
from torch import nn

ME = "MisconfigurationException"

HOOKS = """
    setup teardown on_fit_start on_fit_end on_sanity_check_start on_sanity_check_end on_train_start
    on_train_end
    on_train_epoch_start on_train_epoch_end on_train_batch_start on_train_batch_end on_validation_start
    on_validation_end
    on_validation_epoch_start on_validation_epoch_end on_validation_batch_start on_validation_batch_end
    on_test_start
    on_test_end on_test_epoch_start on_test_epoch_end on_test_batch_start on_test_batch_end on_predict_start
    on_predict_end on_predict_epoch_start on_predict_epoch_end on_predict_batch_start on_predict_batch_end
    on_exception on_save_checkpoint on_load_checkpoint on_before_backward on_after_backward
    on_before_optimizer_step
    on_before_zero_grad
"""


# ---------------------------------------------------------------------- 5.1: Callback


@lines(
    "5.1/hooks",
    "each takes trainer and pl_module, then the arguments of the module's",
    {hook: ({"hook": hook}, ["self", "trainer", "pl_module"]) for hook in HOOKS.split()},
)
def _(lab, hook):
    return list(inspect.signature(getattr(lab.L.Callback, hook)).parameters)[:3]


@line("5.1/state_dict", "{} unless overridden", ({}, None))
def _(lab):
    callback = lab.L.Callback()
    return callback.state_dict(), callback.load_state_dict({})


@line(
    "5.1/state_key",
    "the class's qualified name; _generate_state_key adds arguments",
    ("Listening", "Listening{'a': 1}"),
)
def _(lab):
    callback = lab.callback()
    return callback.state_key, callback._generate_state_key(a=1)


def stateful(lab, name, value, loaded):
    """Return a callback of a new class with this state."""
    members = {
        "state_dict": lambda self: {"value": value},
        "load_state_dict": lambda self, state: loaded.append((name, state["value"])),
    }
    return type(name, (lab.L.Callback,), members)()


@line("5.1/state in a checkpoint", "stands under the key; one without state does not", {"A": {"value": 1}})
def _(lab):
    trainer = lab.fit(None, stateful(lab, "A", 1, []), lab.callback())
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    return torch.load(lab.tmp / "x.ckpt", weights_only=False)["callbacks"]


@line("5.1/state comes back", "by key, not by place", [("B", 2), ("A", 1)])
def _(lab):
    loaded = []
    lab.fit(None, stateful(lab, "A", 1, []), stateful(lab, "B", 2, [])).save_checkpoint(lab.tmp / "x.ckpt")
    callbacks = stateful(lab, "B", 0, loaded), stateful(lab, "A", 0, loaded)
    lab.fit(None, *callbacks, ckpt_path=lab.tmp / "x.ckpt", max_epochs=2)
    return loaded


@line("5.1/state without a callback", "is warned of, by name", Warns("UserWarning", "A"))
def _(lab):
    lab.fit(None, stateful(lab, "A", 1, [])).save_checkpoint(lab.tmp / "x.ckpt")
    lab.fit(None, ckpt_path=lab.tmp / "x.ckpt", max_epochs=2)


@line(
    "5.1/on_load_checkpoint",
    "runs for each callback, and load_state_dict for those that have a state",
    ["A", "B"],
)
def _(lab):
    seen = []

    def noting(name):
        hook = {"on_load_checkpoint": lambda self, trainer, pl_module, checkpoint: seen.append(name)}
        return type(name, (lab.L.Callback,), hook)()

    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    lab.fit(None, noting("A"), noting("B"), ckpt_path=lab.tmp / "x.ckpt", max_epochs=2)
    return seen


@line("5.1/on_save_checkpoint", "may add to the dict", 3)
def _(lab):
    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["mine"] = 3

    lab.fit(None, lab.callback(on_save_checkpoint=on_save_checkpoint)).save_checkpoint(lab.tmp / "x.ckpt")
    return torch.load(lab.tmp / "x.ckpt", weights_only=False)["mine"]


@line(
    "5.1/Checkpoint", "an empty mark: comes last, and stands for enable_checkpointing", ["Listening", "Mine"]
)
def _(lab):
    Mine = type("Mine", (lab.callbacks.Checkpoint,), {})
    trainer = lab.trainer(Mine(), lab.callback(), enable_checkpointing=True)
    return [type(callback).__name__ for callback in trainer.callbacks]


@line("5.1/LambdaCallback", "a function for each hook", ["setup fit", "start", "end"])
def _(lab):
    seen = []
    callback = lab.callbacks.LambdaCallback(
        setup=lambda trainer, pl_module, stage: seen.append(f"setup {getattr(stage, 'value', stage)}"),
        on_train_start=lambda trainer, pl_module: seen.append("start"),
        on_train_end=lambda trainer, pl_module: seen.append("end"),
    )
    lab.fit(None, callback)
    return seen


@lines(
    "5.1/LambdaCallback/refused",
    "what is no hook",
    {
        name: ({name: print}, Raises("TypeError", name))
        for name in ("on_nothing", "state_dict", "load_state_dict", "state_key")
    },
)
def _(lab, **hooks):
    lab.callbacks.LambdaCallback(**hooks)


@line("5.1/order", "hooks run in the order of the list", ["A", "B", "C"])
def _(lab):
    seen = []

    def noting(name):
        return type(name, (lab.L.Callback,), {"on_train_start": lambda self, *_: seen.append(name)})()

    lab.fit(None, noting("A"), noting("B"), noting("C"))
    return seen


# ---------------------------------------------------------------------- 5.3: EarlyStopping


def stopping(lab, *values, val=True, **arguments):
    """Fit ten epochs whose validations log these values; return (epochs run, the callback)."""
    left = list(values)
    for_trainer = {
        key.removeprefix("trainer_"): arguments.pop(key)
        for key in list(arguments)
        if key.startswith("trainer_")
    }
    callback = lab.callbacks.EarlyStopping("v", **arguments)
    model = lab.model(on_validation_epoch_end=lambda model: model.log("v", left.pop(0) if left else 0.0))
    trainer = lab.fit(model, callback, train=2, val=1, **{"max_epochs": len(values), **for_trainer})
    return trainer.current_epoch, callback


@lines(
    "5.3/patience",
    "stops after so many checks without improvement",
    {
        "3 by default": ({"values": [1, 1, 1, 1, 1, 1]}, 4),
        "1": ({"values": [1, 1, 1], "patience": 1}, 2),
        "2, one better": ({"values": [3, 3, 2, 2, 2, 2], "patience": 2}, 5),
        "max": ({"values": [1, 2, 3, 3, 3], "patience": 1, "mode": "max"}, 4),
        "max, falling": ({"values": [3, 2, 1, 0], "patience": 1, "mode": "max"}, 2),
        "min_delta": ({"values": [1.0, 0.95, 0.9, 0.85], "patience": 2, "min_delta": 0.2}, 3),
        "min_delta met": ({"values": [1.0, 0.7, 0.4, 0.1], "patience": 1, "min_delta": 0.2}, 4),
        "min_delta's sign is the mode's": (
            {"values": [1.0, 0.7, 0.4, 0.1], "patience": 1, "min_delta": -0.2},
            4,
        ),
    },
)
def _(lab, values, **arguments):
    return stopping(lab, *map(float, values), **arguments)[0]


@lines(
    "5.3/reasons",
    "(epochs, reason), in the order of the tests: finite, stopping threshold, divergence, patience",
    {
        "none": ({"values": [3, 2, 1]}, (3, 0)),
        "stopping_threshold": ({"values": [3, 2, 1, 0], "stopping_threshold": 1.5}, (3, 1)),
        "divergence_threshold": ({"values": [3, 9, 1, 0], "divergence_threshold": 5.0}, (2, 2)),
        "patience": ({"values": [3, 3, 3], "patience": 1}, (2, 3)),
        "not finite": ({"values": [3, float("nan"), 1]}, (2, 4)),
        "infinite": ({"values": [3, float("inf"), 1]}, (2, 4)),
        "not finite, unchecked": ({"values": [3, float("nan"), 1], "check_finite": False}, (3, 0)),
        "not finite before the threshold": (
            {"values": [float("-inf"), 1], "stopping_threshold": 5.0},
            (1, 4),
        ),
    },
)
def _(lab, values, **arguments):
    epochs, callback = stopping(lab, *map(float, values), **arguments)
    return epochs, int(callback.stopping_reason.value)


@line("5.3/stopping_reason_message", "says it in words", True)
def _(lab):
    message = stopping(lab, 1.0, 1.0, 1.0, patience=1)[1].stopping_reason_message
    return isinstance(message, str) and "v" in message


@line("5.3/stopped_epoch", "is the epoch it stopped in; the Trainer is told to stop", (1, True))
def _(lab):
    callback = lab.callbacks.EarlyStopping("v", patience=1)
    model = lab.model(on_validation_epoch_end=lambda model: model.log("v", 1.0))
    trainer = lab.fit(model, callback, max_epochs=5)
    return callback.stopped_epoch, trainer.should_stop


@lines(
    "5.3/when",
    "at the epoch's end if validation runs there each time; else after each validation; or as told",
    {
        "default": ({}, ["end"]),
        "within the epoch": ({"trainer_val_check_interval": 1}, ["end"]),
        "twice an epoch": ({"trainer_val_check_interval": 0.5}, ["val", "val"]),
        "every second epoch": ({"trainer_check_val_every_n_epoch": 2, "trainer_max_epochs": 2}, ["val"]),
        "True": ({"check_on_train_epoch_end": True, "trainer_val_check_interval": 0.5}, ["end"]),
        "False": ({"check_on_train_epoch_end": False}, ["val"]),
    },
)
def _(lab, **arguments):
    seen = []
    for_trainer = {
        key.removeprefix("trainer_"): arguments.pop(key)
        for key in list(arguments)
        if key.startswith("trainer_")
    }

    class Noting(lab.callbacks.EarlyStopping):
        def load(self):
            """Not used."""

    callback = Noting("v", patience=9, **arguments)
    improved = callback.monitor_op

    def monitor_op(*args):
        seen.append("end" if "end" in model.notes[-1] else "val")
        return improved(*args)

    Noting.monitor_op = property(lambda _: monitor_op)
    model = lab.model(
        on_validation_epoch_end=lambda model: model.log("v", 1.0),
        on_train_epoch_end=lambda model: model.note("end"),
    )
    lab.fit(model, callback, train=2, val=1, **for_trainer)
    return seen


@line("5.3/other runs", "it does nothing in dev runs, the sanity check and other methods", 0)
def _(lab):
    callback = lab.callbacks.EarlyStopping("nosuch", check_on_train_epoch_end=False)
    model = lab.model()
    lab.fit(model, callback, fast_dev_run=True)
    lab.run("validate", model, 1, callback)
    return callback.wait_count


@lines(
    "5.3/missing metric",
    "strict: refused, with the names there are; else a warning",
    {
        "strict": ({"strict": True}, Raises("RuntimeError", "nosuch.*v")),
        "not strict": ({"strict": False, "verbose": True}, Warns("RuntimeWarning", "nosuch")),
    },
)
def _(lab, **arguments):
    model = lab.model(on_validation_epoch_end=lambda model: model.log("v", 1.0))
    lab.fit(model, lab.callbacks.EarlyStopping("nosuch", **arguments))


@line(
    "5.3/missing metric/neither strict nor verbose",
    "nothing is said",
    Silent("nosuch"),
    ours=Warns("RuntimeWarning", "nosuch"),
    differs="`EarlyStopping(strict=False)` without its metric",
)
def _(lab):
    lab.fit(None, lab.callbacks.EarlyStopping("nosuch", strict=False))


@line("5.3/mode", "min or max", Raises(ME, "mode"))
def _(lab):
    lab.callbacks.EarlyStopping("v", mode="best")


@line(
    "5.3/state",
    "what a checkpoint holds of it, under its key",
    (
        ["best_score", "patience", "stopped_epoch", "wait_count"],
        True,
        "EarlyStopping{'monitor': 'vl', 'mode': 'min'}",
    ),
)
def _(lab):
    callback = lab.callbacks.EarlyStopping("vl")
    state = callback.state_dict()
    return (
        sorted(set(state) - {"stopping_reason", "stopping_reason_message"}),
        torch.is_tensor(state["best_score"]),
        callback.state_key,
    )


@line("5.3/EarlyStoppingReason", "the numbers of the reasons", [0, 1, 2, 3, 4])
def _(lab):
    module = lab.part("callbacks.early_stopping")
    names = "NOT_STOPPED STOPPING_THRESHOLD DIVERGENCE_THRESHOLD PATIENCE_EXHAUSTED NON_FINITE_METRIC"
    return [getattr(module.EarlyStoppingReason, name).value for name in names.split()]


@line("5.3/verbose", "says when the metric improved", Tells("v improved"))
def _(lab):
    stopping(lab, 2.0, 1.0, verbose=True)


@line("5.3/state comes back", "waiting goes on where it was", 1)
def _(lab):
    _, callback = stopping(lab, 1.0, 1.0, patience=3)
    again = lab.callbacks.EarlyStopping("v", patience=3)
    again.load_state_dict(callback.state_dict())
    return again.wait_count


# ---------------------------------------------------------------------- 5.4: LearningRateMonitor


def monitored(lab, make, train=2, max_epochs=2, trainer_arguments=None, **arguments):
    """Fit with what `make(model)` configures; return the callback and the rows of the logger."""
    callback, logger = lab.callbacks.LearningRateMonitor(**arguments), lab.logger()
    model = lab.model(configure_optimizers=make)
    settings = {"log_every_n_steps": 1, **(trainer_arguments or {})}
    trainer = lab.fit(
        model, callback, train=train, val=None, max_epochs=max_epochs, logger=logger, **settings
    )
    return callback, logger, trainer


def sgd(model, lr=1.0, **arguments):
    return torch.optim.SGD(model.parameters(), lr=lr, **arguments)


def scheduled(interval="epoch", **entries):
    def make(model):
        optimizer = sgd(model)
        return [optimizer], [
            {
                "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
                "interval": interval,
                **entries,
            }
        ]

    return make


@line("5.4/LearningRateMonitor/no logger", "is refused", Raises(ME, "logger"))
def _(lab):
    lab.fit(None, lab.callbacks.LearningRateMonitor())


@line("5.4/LearningRateMonitor/interval", "step, epoch or None", Raises(ME, "logging_interval"))
def _(lab):
    lab.callbacks.LearningRateMonitor("hour")


@lines(
    "5.4/LearningRateMonitor/rows",
    "(step, rate): by the scheduler's interval, unless told otherwise",
    {
        "None, epoch": ({}, [(0, 1.0), (2, 0.5)]),
        "None, step": ({"make": scheduled("step")}, [(0, 1.0), (1, 0.5), (2, 0.25), (3, 0.125)]),
        "step": ({"logging_interval": "step"}, [(0, 1.0), (1, 1.0), (2, 0.5), (3, 0.5)]),
        "epoch": ({"logging_interval": "epoch", "make": scheduled("step")}, [(0, 1.0), (2, 0.25)]),
        "every second step": (
            {"logging_interval": "step", "trainer_arguments": {"log_every_n_steps": 2}},
            [(1, 1.0), (3, 0.5)],
        ),
    },
)
def _(lab, make=None, **arguments):
    return monitored(lab, make or scheduled(), **arguments)[1].of("lr-SGD")


@lines(
    "5.4/LearningRateMonitor/names",
    "the scheduler's name, or lr-Class; -1 for the next of it; /pgN and the group's name",
    {
        "one": ({"make": scheduled()}, ["lr-SGD"]),
        "named": ({"make": scheduled(name="mine")}, ["mine"]),
        "no scheduler": ({"make": sgd}, ["lr-SGD"]),
        "groups": (
            {
                "make": lambda model: torch.optim.SGD(
                    [{"params": [model.weight]}, {"params": [nn.Parameter(torch.zeros(1))]}], lr=1.0
                )
            },
            ["lr-SGD/pg1", "lr-SGD/pg2"],
        ),
        "named groups": (
            {
                "make": lambda model: torch.optim.SGD(
                    [
                        {"params": [model.weight], "name": "a"},
                        {"params": [nn.Parameter(torch.zeros(1))], "name": "b"},
                    ],
                    lr=1.0,
                )
            },
            ["lr-SGD/a", "lr-SGD/b"],
        ),
        "momentum": (
            {"make": lambda model: sgd(model, momentum=0.9), "log_momentum": True},
            ["lr-SGD", "lr-SGD-momentum"],
        ),
        "betas": (
            {"make": lambda model: torch.optim.Adam(model.parameters()), "log_momentum": True},
            ["lr-Adam", "lr-Adam-momentum"],
        ),
        "weight decay": (
            {"make": lambda model: sgd(model, weight_decay=0.1), "log_weight_decay": True},
            ["lr-SGD", "lr-SGD-weight_decay"],
        ),
    },
)
def _(lab, make, **arguments):
    rows = monitored(lab, make, **arguments)[1].rows
    return sorted({name for row, _ in rows for name in row} - {"epoch", "step"})


@line("5.4/LearningRateMonitor/two optimizers", "of one class: -1 for the second", ["lr-SGD", "lr-SGD-1"])
def _(lab):
    logger = lab.logger()
    model = lab.model(
        configure_optimizers=lambda model: [sgd(model), sgd(model)], training_step=lambda model, batch: None
    )
    model.automatic_optimization = False
    lab.fit(model, lab.callbacks.LearningRateMonitor(), logger=logger, log_every_n_steps=1)
    return sorted({name for row, _ in logger.rows for name in row} - {"epoch", "step"})


@line(
    "5.4/LearningRateMonitor/callback_metrics",
    "has them, too; .lrs keeps them all",
    (True, {"lr-SGD": [1.0, 0.5]}),
)
def _(lab):
    callback, _, trainer = monitored(lab, scheduled())
    return "lr-SGD" in trainer.callback_metrics, callback.lrs


# ---------------------------------------------------------------------- 5.4: Timer


@lines(
    "5.4/Timer/refused",
    "what is no duration or interval",
    {
        "interval": ({"interval": "hour"}, Raises(ME, "interval")),
        "duration": ({"duration": "1h"}, Raises(ME, "")),
    },
)
def _(lab, **arguments):
    lab.callbacks.Timer(**arguments)


@lines(
    "5.4/Timer/stops",
    "when the time is up: at the batch, or at the epoch's end",
    {
        "step": ({"interval": "step"}, 2),
        "epoch": ({"interval": "epoch"}, 3),
    },
)
def _(lab, interval):
    with lab.clock() as clock:

        def on_train_batch_start(*_):
            clock.now += 10

        model = lab.model(on_train_batch_start=on_train_batch_start)
        return lab.fit(
            model, lab.callbacks.Timer(timedelta(seconds=15), interval=interval), max_epochs=5
        ).global_step


@line("5.4/Timer/tells", "(elapsed, remaining, start, end) of a stage", (True, True, True, True, None))
def _(lab):
    timer = lab.callbacks.Timer("00:01:00:00")
    lab.fit(None, timer)
    return (
        0 < timer.time_elapsed("train") < 60,
        3500 < timer.time_remaining("train") < 3600,
        timer.start_time("train") < timer.end_time("train"),
        timer.time_elapsed("validate") > 0,
        timer.start_time("test"),
    )


@line("5.4/Timer/no duration", "nothing remains", None)
def _(lab):
    return lab.callbacks.Timer().time_remaining()


@line(
    "5.4/Timer/state",
    "the time elapsed of each stage; it counts after resuming",
    ({"train", "sanity_check", "validate", "test"}, 3500.0),
)
def _(lab):
    timer = lab.callbacks.Timer("00:01:00:00")
    state = timer.state_dict()
    stages = {str(getattr(stage, "value", stage)) for stage in state["time_elapsed"]} - {"predict"}
    again = lab.callbacks.Timer("00:01:00:00")
    key = next(stage for stage in state["time_elapsed"] if str(getattr(stage, "value", stage)) == "train")
    again.load_state_dict({"time_elapsed": {**state["time_elapsed"], key: 100.0}})
    return stages, again.time_remaining()


@line("5.4/Timer/no time at all", "stops before the first batch", 0)
def _(lab):
    return lab.fit(None, lab.callbacks.Timer(timedelta(0)), max_epochs=9).global_step


@line("5.4/Timer/resumed with no time left", "stops at once", [])
def _(lab):
    with lab.clock() as clock:

        def on_train_batch_start(*_):
            clock.now += 10

        model, timer = (
            lab.model(on_train_batch_start=on_train_batch_start),
            lab.callbacks.Timer(timedelta(seconds=25)),
        )
        lab.fit(model, timer).save_checkpoint(lab.tmp / "x.ckpt")
        again = lab.callbacks.Timer(timedelta(seconds=25))
        return lab.notes("train", None, again, ckpt_path=lab.tmp / "x.ckpt", max_epochs=9)


# ---------------------------------------------------------------------- 5.4: GradientAccumulationScheduler


@lines(
    "5.4/GradientAccumulationScheduler/refused",
    "what is no schedule",
    {
        "empty": ({"scheduling": {}}, Raises("TypeError", "")),
        "key": ({"scheduling": {"a": 1}}, Raises(ME, "")),
        "value": ({"scheduling": {0: "a"}}, Raises(ME, "")),
        "zero": ({"scheduling": {0: 0}}, Raises(ME, "")),
        "negative epoch": ({"scheduling": {-1: 2}}, Raises(ME, "")),
    },
)
def _(lab, scheduling):
    lab.callbacks.GradientAccumulationScheduler(scheduling)


@line("5.4/GradientAccumulationScheduler", "sets the accumulation as an epoch starts", ([1, 2, 4], [4, 2, 1]))
def _(lab):
    seen, steps = [], []

    def on_train_epoch_end(model):
        seen.append(model.trainer.accumulate_grad_batches)
        steps.append(model.global_step - sum(steps))

    callback = lab.callbacks.GradientAccumulationScheduler({1: 2, 2: 4})
    lab.fit(lab.model(on_train_epoch_end=on_train_epoch_end), callback, train=4, max_epochs=3)
    return seen, steps


@line(
    "5.4/GradientAccumulationScheduler/asked",
    "get_accumulate_grad_batches(epoch), going_to_accumulate_grad_batches()",
    ([1, 1, 3], True, False),
)
def _(lab):
    Scheduler = lab.callbacks.GradientAccumulationScheduler
    callback = Scheduler({2: 3})
    return (
        [callback.get_accumulate_grad_batches(epoch) for epoch in range(3)],
        callback.going_to_accumulate_grad_batches(),
        Scheduler({0: 1}).going_to_accumulate_grad_batches(),
    )


@lines(
    "5.4/GradientAccumulationScheduler/beside",
    "the Trainer's own accumulation, or manual optimization: refused",
    {
        "Trainer's": ({"accumulate_grad_batches": 2}, Raises("ValueError", "accumulate_grad_batches")),
        "manual": ({"manual": True}, Raises("RuntimeError", "anual")),
    },
)
def _(lab, manual=False, **arguments):
    model = lab.model()
    model.automatic_optimization = not manual
    lab.fit(model, lab.callbacks.GradientAccumulationScheduler({0: 2}), **arguments)


# ---------------------------------------------------------------------- 5.4: OnExceptionCheckpoint


def failing(lab, callback):
    def fail(model, batch, batch_idx):
        if batch_idx == 2:
            raise OSError

    trainer = lab.trainer(callback)
    try:
        trainer.fit(lab.model(on_train_batch_start=fail), lab.loader(5))
    except OSError:
        return trainer


@lines(
    "5.4/OnExceptionCheckpoint",
    "writes a file when something is raised",
    {"default": ({}, ["on_exception.ckpt"]), "named": ({"filename": "oops"}, ["oops.ckpt"])},
)
def _(lab, **arguments):
    failing(lab, lab.callbacks.OnExceptionCheckpoint(lab.tmp / "c", **arguments))
    return lab.files("c")


@line("5.4/OnExceptionCheckpoint/removed", "a run that ends well removes it", [])
def _(lab):
    callback = lab.callbacks.OnExceptionCheckpoint(lab.tmp / "c")
    trainer = failing(lab, callback)
    trainer.fit(lab.model(), lab.loader(5))
    return lab.files("c")


@lines(
    "5.4/OnExceptionCheckpoint/is a Checkpoint",
    "so there is no default ModelCheckpoint, and enable_checkpointing=False is refused",
    {
        "alone": ({}, ["OnExceptionCheckpoint"]),
        "switched off": ({"enable_checkpointing": False}, Raises(ME, "enable_checkpointing")),
    },
)
def _(lab, **arguments):
    trainer = lab.trainer(
        lab.callbacks.OnExceptionCheckpoint(lab.tmp), **{"enable_checkpointing": True, **arguments}
    )
    return [type(callback).__name__ for callback in trainer.callbacks]


@line("5.4/OnExceptionCheckpoint/no name", "an empty name is a ValueError", Raises("ValueError", "filename"))
def _(lab):
    lab.callbacks.OnExceptionCheckpoint(lab.tmp, filename="")


# ---------------------------------------------------------------------- 5.4: BasePredictionWriter


def written(lab, loaders, interval, **methods):
    """Return what a prediction writer was given: (batches, epochs)."""
    batches, epochs = [], []

    class Writer(lab.callbacks.BasePredictionWriter):
        def write_on_batch_end(
            self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx
        ):
            batches.append((prediction, list(batch_indices), batch_idx, dataloader_idx))

        def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
            epochs.append((predictions, [[list(each) for each in loader] for loader in batch_indices]))

    lab.trainer(Writer(interval)).predict(lab.model(**methods), loaders, return_predictions=False)
    return batches, epochs


def rows(count, size):
    return torch.utils.data.DataLoader(torch.arange(float(count)), batch_size=size)


@line(
    "5.4/BasePredictionWriter/batch",
    "the prediction, the places of its samples, the numbers of batch and loader",
    ([([0.0, 1.0], [0, 1], 0, 0), ([2.0], [2], 1, 0)], []),
)
def _(lab):
    return written(lab, rows(3, 2), "batch")


@lines(
    "5.4/BasePredictionWriter/epoch",
    "all predictions, flat for one loader; places by [loader][batch][sample]",
    {
        "one loader": ({"count": 1}, [([[0.0, 1.0], [2.0]], [[[0, 1], [2]]])]),
        "two loaders": ({"count": 2}, [([[[0.0, 1.0], [2.0]]] * 2, [[[0, 1], [2]]] * 2)]),
    },
)
def _(lab, count):
    return written(lab, [rows(3, 2) for _ in range(count)], "epoch")[1]


@line("5.4/BasePredictionWriter/both", "batch_and_epoch: both", (2, 1))
def _(lab):
    batches, epochs = written(lab, rows(3, 2), "batch_and_epoch")
    return len(batches), len(epochs)


@line(
    "5.4/BasePredictionWriter/dataloader_iter",
    "can't be told which samples a step drew: NotImplementedError",
    Raises("NotImplementedError", "dataloader_iter"),
)
def _(lab):
    written(lab, rows(3, 2), "batch", predict_step=lambda model, dataloader_iter: next(dataloader_iter))


@line("5.4/BasePredictionWriter/interval", "one of the three", Raises(ME, "batch_and_epoch"))
def _(lab):
    lab.callbacks.BasePredictionWriter("hour")


waiting(
    "an issue of its own",
    ("5.4/LearningRateFinder", "runs at on_fit_start, sets the rate"),
    ("5.4/BatchSizeFinder", "runs at the start of a run, sets the batch size"),
    ("5.4/StochasticWeightAveraging", "averages weights from an epoch on"),
    ("5.4/WeightAveraging", "averages weights, validates with the average"),
    ("5.4/EMAWeightAveraging", "the same, exponentially"),
    ("5.4/BaseFinetuning", "freezes and unfreezes parts"),
    ("5.4/BackboneFinetuning", "unfreezes the backbone at an epoch"),
    ("5.4/DeviceStatsMonitor", "logs what devices say of themselves"),
    ("5.4/ModelPruning", "prunes weights"),
    ("5.4/ThroughputMonitor", "logs batches, samples, FLOPs a second"),
    ("5.4/SpikeDetection", "ends a run at a spike of the loss"),
)
waiting(
    5, ("5.3/ranks", "any rank's decision stops all"), ("5.5/ranks", "bars are silent on other ranks than 0")
)


# ---------------------------------------------------------------------- 5.5: progress bars


@line(
    "5.5/descriptions",
    "the words of the base class",
    ("Sanity Checking", "Training", "Validation", "Testing", "Predicting"),
)
def _(lab):
    bar = lab.callbacks.ProgressBar()
    return (
        bar.sanity_check_description, bar.train_description, bar.validation_description, bar.test_description,
        bar.predict_description,
    )  # fmt: skip


@line("5.5/base", "can be switched off and on; totals come from the Trainer", (True, False, True, 3, 2))
def _(lab):
    class Bar(lab.callbacks.ProgressBar):
        def __init__(self):
            super().__init__()
            self.enabled = True

        def enable(self):
            self.enabled = True

        def disable(self):
            self.enabled = False

        @property
        def is_enabled(self):
            return self.enabled

    bar, seen = Bar(), []
    seen.append(bar.is_enabled)
    bar.disable()
    seen.append(bar.is_enabled)
    bar.enable()
    seen.append(bar.is_enabled)
    lab.fit(None, bar, enable_progress_bar=True)
    return *seen, bar.total_train_batches, bar.total_val_batches


@line(
    "5.5/get_metrics",
    "v_num first, then what is logged with prog_bar=True; a long text version is cut to its last four",
    [{"v_num": 0, "v": 1.0}, {"v_num": "cdef", "v": 1.0}],
)
def _(lab):
    found = []
    for version in (None, "abcdef"):
        bar = lab.callbacks.TQDMProgressBar(refresh_rate=0)
        model = lab.model(validation_step=lambda model, batch, batch_idx: model.log("v", 1.0, prog_bar=True))
        logger = lab.loggers.CSVLogger(lab.tmp, version=version)
        trainer = lab.fit(model, bar, enable_progress_bar=True, logger=logger)
        found.append(bar.get_metrics(trainer, model))
    return found


@line("5.5/get_metrics/collision", "a logged v_num is warned of", Warns("UserWarning", "v_num"))
def _(lab):
    bar = lab.callbacks.TQDMProgressBar(refresh_rate=0)
    model = lab.model(validation_step=lambda model, batch, batch_idx: model.log("v_num", 1.0, prog_bar=True))
    bar.get_metrics(
        lab.fit(model, bar, enable_progress_bar=True, logger=lab.loggers.CSVLogger(lab.tmp)), model
    )


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Return that it is."""
        return True


def drawn(lab, name="fit", **arguments):
    """Run with a TQDM bar on a terminal; return what it drew."""
    streams, terminal = (sys.stdout, sys.stderr), Terminal()
    sys.stdout = sys.stderr = terminal
    try:
        trainer = lab.trainer(lab.callbacks.TQDMProgressBar(), enable_progress_bar=True, **arguments)
        data = [lab.loader(3), lab.loader(2)] if name == "fit" else [lab.loader(2)]
        getattr(trainer, name)(lab.model(), *data)
    finally:
        sys.stdout, sys.stderr = streams
    return terminal.getvalue()


@lines(
    "5.5/TQDM/words",
    "the bars are called so",
    {
        "fit": (
            {"name": "fit", "num_sanity_val_steps": 1},
            ["Sanity Checking DataLoader 0", "Epoch 0", "Validation DataLoader 0"],
        ),
        "validate": ({"name": "validate"}, ["Validation DataLoader 0"]),
        "test": ({"name": "test"}, ["Testing DataLoader 0"]),
        "predict": ({"name": "predict"}, ["Predicting DataLoader 0"]),
    },
)
def _(lab, **arguments):
    text = drawn(lab, **arguments)
    words = [
        "Sanity Checking DataLoader 0",
        "Epoch 0",
        "Validation DataLoader 0",
        "Testing DataLoader 0",
        "Predicting DataLoader 0",
    ]
    return [word for word in words if word in text]


@line("5.5/TQDM/count", "batches of batches", True)
def _(lab):
    return "3/3" in drawn(lab)


@line("5.5/TQDM/refresh_rate=0", "switches it off", (True, False))
def _(lab):
    bar = lab.callbacks.TQDMProgressBar(refresh_rate=0)
    return bar.is_disabled, bar.is_enabled


@lines(
    "5.5/TQDM/environment",
    "Colab refreshes every 20; TQDM_MINITERS wins",
    {
        "Colab": ({"variables": {"COLAB_JUPYTER_IP": "1", "COLAB_GPU": "1"}}, 20),
        "TQDM_MINITERS": ({"variables": {"TQDM_MINITERS": "7"}}, 7),
    },
)
def _(lab, variables):
    os.environ.update(variables)
    return lab.callbacks.TQDMProgressBar().refresh_rate


@line("5.5/TQDM/override points", "init_*_tqdm and the properties of the bars", [])
def _(lab):
    cls = lab.callbacks.TQDMProgressBar
    names = """
        init_sanity_tqdm init_train_tqdm init_validation_tqdm init_test_tqdm init_predict_tqdm
        train_progress_bar
        val_progress_bar test_progress_bar predict_progress_bar
    """
    return [name for name in names.split() if not hasattr(cls, name)]


@line(
    "5.5/Rich/theme",
    "its fields",
    {
        "description",
        "progress_bar",
        "progress_bar_finished",
        "progress_bar_pulse",
        "batch_progress",
        "time",
        "processing_speed",
        "metrics",
        "metrics_text_delimiter",
        "metrics_format",
    },
)
def _(lab):
    from dataclasses import fields

    theme = lab.part(
        "callbacks.progress.rich_progress" if not lab.ours else "callbacks.progress.rich"
    ).RichProgressBarTheme()
    assert (theme.metrics_text_delimiter, theme.metrics_format) == (" ", ".3f")
    return {each.name for each in fields(theme)}


@line("5.5/Rich/configure_columns", "may be overridden", True)
def _(lab):
    return hasattr(lab.callbacks.RichProgressBar, "configure_columns")


# ---------------------------------------------------------------------- 5.5: summaries and tables


def summary(lab, model, **arguments):
    """Return the lines of a model's summary."""
    module = lab.part("utilities.model_summary" if not lab.ours else "utils.model_summary")
    return [text.rstrip() for text in str(module.ModelSummary(model, **arguments)).splitlines()]


def two_layers(lab):
    model = lab.L.LightningModule()
    model.layer, model.other = nn.Linear(32, 2), nn.Linear(2, 1200)
    model.other.weight.requires_grad_(False)
    return model


@line(
    "5.5/summary/table",
    "name, type, parameters and mode of each part",
    ["layer Linear 66 train", "other Linear 3.6 K train"],
)
def _(lab):
    found = [text for text in summary(lab, two_layers(lab)) if text[:1].isdigit() and "|" in text]
    return [" ".join(" ".join(cell.strip() for cell in text.split("|")[1:5]).split()) for text in found]


@line("5.5/summary/header", "Name, Type, Params, Mode", ["Name", "Type", "Params", "Mode"])
def _(lab):
    return [cell.strip() for cell in summary(lab, two_layers(lab))[0].split("|") if cell.strip()][:4]


@lines(
    "5.5/summary/footer",
    "the sums",
    {
        words: ({"words": words}, number)
        for words, number in {
            "Trainable params": "1.3 K", "Non-trainable params": "2.4 K", "Total params": "3.7 K",
            "Total estimated model params size (MB)": "0", "Modules in train mode": "2",
            "Modules in eval mode": "0",
        }.items()
    },
)  # fmt: skip
def _(lab, words):
    (text,) = [
        text
        for text in summary(lab, two_layers(lab))
        if text.endswith(words) and (words != "Trainable params" or "Non" not in text)
    ]
    number = text.removesuffix(words).strip()
    return number.split(".")[0] if "size" in words else number


@line("5.5/summary/sizes", "with an example input: In sizes and Out sizes", (True, True, "[1, 32]", "[1, 2]"))
def _(lab):
    class Model(lab.L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(32, 2)
            self.example_input_array = torch.zeros(1, 32)

        def forward(self, x):
            return self.layer(x)

    text = summary(lab, Model())
    cells = [cell.strip() for cell in next(each for each in text if "layer" in each).split("|")]
    return "In sizes" in text[0], "Out sizes" in text[0], cells[-2], cells[-1]


@lines(
    "5.5/summary/depth",
    "1 by default, -1 for all, 0 for none; less is refused",
    {
        "1": ({}, ["net"]),
        "-1": ({"max_depth": -1}, ["net", "net.0", "net.1"]),
        "-2": ({"max_depth": -2}, Raises("ValueError", "max_depth")),
    },
)
def _(lab, **arguments):
    model = lab.L.LightningModule()
    model.net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    found = [text for text in summary(lab, model, **arguments) if text[:1].isdigit() and "|" in text]
    return [text.split("|")[1].strip() for text in found]


@line("5.5/summary/own parameters", "are other params", True)
def _(lab):
    model = lab.L.LightningModule()
    model.layer, model.own = nn.Linear(1, 1), nn.Parameter(torch.zeros(3))
    return any("other params" in text for text in summary(lab, model))


@lines(
    "5.5/summary/human numbers",
    "with K, M, B, T",
    {
        str(number): ({"number": number}, text)
        for number, text in {66: "66  ", 1234: "1.2 K", 3_400_000: "3.4 M", 2_000_000_000: "2.0 B"}.items()
    },
)
def _(lab, number):
    module = lab.part("utilities.model_summary.model_summary" if not lab.ours else "utils.model_summary")
    return module.get_human_readable_count(number)


@lines(
    "5.5/summary/callback",
    "prints when fit starts, unless max_depth is 0",
    {"1": ({"max_depth": 1}, True), "0": ({"max_depth": 0}, False)},
)
def _(lab, max_depth):
    from lines import observe

    callback = lab.callbacks.ModelSummary(max_depth=max_depth)
    model = lab.model()
    model.layer = nn.Linear(3, 3)
    outcome = observe(lambda lab: lab.printed(lambda: lab.fit(model, callback)), lab)
    return "Trainable params" in outcome.gave + "\n".join(outcome.told)


@line(
    "5.5/summary/summarize",
    "may be overridden",
    [
        (
            "summary_data",
            "total_parameters",
            "trainable_parameters",
            "model_size",
            "total_training_modes",
            "total_flops",
        )
    ],
)
def _(lab):
    parameters = inspect.signature(lab.callbacks.ModelSummary.summarize).parameters
    return [tuple(name for name in parameters if name != "summarize_kwargs")]


@line("5.5/evaluation table", "a column for each loader, the names sorted", (True, True))
def _(lab):
    def test_step(model, batch, batch_idx, dataloader_idx):
        model.log("b", 1.0, add_dataloader_idx=True)
        model.log("a", 1.0, add_dataloader_idx=True)

    def action():
        lab.trainer().test(lab.model(test_step=test_step), [lab.loader(1), lab.loader(1)])

    text = lab.printed(action)
    inside = text[text.index("DataLoader 1") :]
    return "DataLoader 0" in text, inside.index(" a ") < inside.index(" b ")
