"""2.4 to 2.9: when training stops, how many batches there are, when validation runs, in which modes."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import numpy as np
import torch
from lines import Raises, Says, Tells, Warns, line, lines, observe, waiting

ME = "MisconfigurationException"


def stopping(hook, when):
    """Return a hook of a module that asks for a stop when `when(module)` holds."""

    def ask(model, *_):
        if when(model):
            model.trainer.should_stop = True

    return {hook: ask}


def at_batch(epoch, batch):
    """Return the hook that asks for a stop at the end of a batch."""
    return stopping("on_train_batch_end", lambda model: model.notes[-1] == f"train {epoch}.{batch}")


# ---------------------------------------------------------------------- 2.4: stopping


@line(
    "2.4/nothing set",
    "1000 epochs, settled when fit starts, with a warning",
    Warns("PossibleUserWarning", "1000", gives=(None, 1000)),
)
def _(lab):
    trainer = lab.trainer(max_epochs=None)
    before = trainer.max_epochs
    trainer.fit(lab.model(**at_batch(0, 0)), lab.loader(3), lab.loader(2))
    return before, trainer.max_epochs


@lines(
    "2.4/max_epochs=None with",
    "steps or time end the run: no limit of epochs",
    {"max_steps": ({"max_steps": 4}, -1), "max_time": ({"max_time": "00:00:01:00"}, -1)},
)
def _(lab, **arguments):
    return lab.fit(lab.model(**at_batch(0, 0)), max_epochs=None, **arguments).max_epochs


@line("2.4/max_epochs=None with a Timer", "the same", -1)
def _(lab):
    return lab.fit(
        lab.model(**at_batch(0, 0)), lab.callbacks.Timer("00:00:01:00"), max_epochs=None
    ).max_epochs


@line("2.4/max_epochs=-1", "no end", ["0", "1", "2", "3", "4"])
def _(lab):
    model = lab.model(**stopping("on_train_epoch_start", lambda model: model.current_epoch == 5))
    return lab.notes("end", model, max_epochs=-1, train=1)[:5]


@line("2.4/min_epochs=None", "no minimum", (None, ["0.0"]))
def _(lab):
    trainer = lab.trainer(max_epochs=3)
    before, model = trainer.min_epochs, lab.model(**at_batch(0, 0))
    trainer.fit(model, lab.loader(3))
    return before, model.noted("train")


@lines(
    "2.4/nothing to do",
    "set-up, the sanity check and the ends of a fit run, no hook of the training; the status is finished",
    {
        name: (
            {"scenario": name},
            ["setup", "on_fit_start", "on_validation_start", "on_validation_end", "on_fit_end", "teardown"],
        )
        for name in ("max_epochs_zero", "max_steps_zero")
    },
)
def _(lab, scenario):
    calls = [call.split()[0] for call in lab.trace(scenario)]
    names = [call.removeprefix("module.") for call in calls if call.startswith("module.")]
    names = [name for name in names if name in ("setup", "teardown") or name.startswith("on_")]
    return [name for name in names if not any(part in name for part in ("batch", "epoch", "model"))]


@line("2.4/max_epochs=0/status", "the run is finished, the counters are zero", ("finished", 0, 0))
def _(lab):
    trainer = lab.fit(max_epochs=0)
    return trainer.state.status, trainer.current_epoch, trainer.global_step


@lines(
    "2.4/why it ended",
    "a line says it",
    {
        "max_epochs": ({"max_epochs": 2}, Tells("`Trainer.fit` stopped: `max_epochs=2` reached.")),
        "max_steps": ({"max_steps": 2}, Tells("`Trainer.fit` stopped: `max_steps=2` reached.")),
        "both": ({"max_steps": 3, "max_epochs": 1}, Tells("`Trainer.fit` stopped: `max_steps=3` reached.")),
        "no data": ({"train": [], "max_steps": 0}, Tells("`Trainer.fit` stopped: No training batches.")),
    },
)
def _(lab, **arguments):
    lab.fit(**arguments)


@line("2.4/below the minimum/said", "a line says once that the minimum is not met yet", 1)
def _(lab):
    outcome = observe(lambda lab: lab.fit(lab.model(**at_batch(0, 0)), min_epochs=3, max_epochs=5), lab)
    return len([text for text in outcome.told if "min_epochs=3" in text])


@line(
    "2.4/max_steps within an epoch",
    "the epoch ends there, with its hooks and its checkpoint, counts as one, and is not validated",
    (["0.0", "0.1", "0.2", "1.0"], ["0", "1"], ["0.0", "0.1"], (2, 4), ["epoch=1-step=4.ckpt"]),
)
def _(lab):
    trainer = lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c"), max_steps=4, max_epochs=5)
    model = trainer.lightning_module
    counters = trainer.current_epoch, trainer.global_step
    return model.noted("train"), model.noted("end"), model.noted("val"), counters, lab.files("c")


@line(
    "2.4/max_steps at a validation",
    "where a validation is due at that batch it runs",
    ["0.0", "0.1", "1.0", "1.1"],
)
def _(lab):
    return lab.notes("val", max_steps=5, max_epochs=5, val_check_interval=2)


@line(
    "2.4/max_steps/schedulers", "a scheduler by epochs is not moved by an epoch that max_steps cut off", 0.5
)
def _(lab):
    def configure_optimizers(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    trainer = lab.fit(lab.model(configure_optimizers=configure_optimizers), max_steps=4, max_epochs=5)
    return trainer.optimizers[0].param_groups[0]["lr"]


def run_of(model):
    return model.noted("train"), model.noted("val"), model.noted("end")


@line(
    "2.4/should_stop",
    "after the batch at hand a validation runs, then the epoch's end, then no more",
    (["0.0", "0.1", "0.2", "1.0", "1.1"], ["0.0", "0.1", "1.0", "1.1"], ["0", "1"]),
)
def _(lab):
    return run_of(lab.fit(lab.model(**at_batch(1, 1)), max_epochs=5).lightning_module)


@line(
    "2.4/should_stop/check_val_every_n_epoch",
    "no validation runs where the epoch has none",
    (["0.0", "0.1"], [], ["0"]),
)
def _(lab):
    return run_of(
        lab.fit(lab.model(**at_batch(0, 1)), max_epochs=5, check_val_every_n_epoch=2).lightning_module
    )


@line(
    "2.4/should_stop/min_epochs",
    "goes on, the flag standing, to the end of the epoch that meets the minimum",
    (["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"], ["0.0", "0.1", "1.0", "1.1"], ["0", "1"]),
)
def _(lab):
    return run_of(lab.fit(lab.model(**at_batch(0, 0)), max_epochs=5, min_epochs=2).lightning_module)


@line(
    "2.4/should_stop/min_steps",
    "goes on to the step that meets the minimum, within an epoch",
    (["0.0", "0.1", "0.2", "1.0"], ["0.0", "0.1", "1.0", "1.1"], ["0", "1"]),
)
def _(lab):
    return run_of(lab.fit(lab.model(**at_batch(0, 0)), max_epochs=5, min_steps=4).lightning_module)


@line("2.4/should_stop/stands", "the flag stays True while the minimum is not met", [True, True])
def _(lab):
    seen = []
    model = lab.model(
        **at_batch(0, 0), on_train_epoch_end=lambda model: seen.append(model.trainer.should_stop)
    )
    lab.fit(model, max_epochs=5, min_epochs=2)
    return seen


@line("2.4/should_stop/new fit", "it is False again when the next fit begins", (False, 2))
def _(lab):
    trainer = lab.fit(lab.model(**at_batch(0, 2)), max_epochs=3)
    seen = []
    model = lab.model(setup=lambda model, stage: seen.append(model.trainer.should_stop))
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, lab.loader(3))
    return seen[0], trainer.current_epoch


@line("2.4/should_stop/on_fit_start", "asked for there, not one batch is trained", [])
def _(lab):
    return lab.notes("train", lab.model(**stopping("on_fit_start", lambda _: True)))


@line(
    "2.4/second fit",
    "goes on counting; where the epochs are done already it returns at once",
    [(1, 3), (1, 3), (3, 9)],
)
def _(lab):
    trainer, model, counters = lab.trainer(), lab.model(), []
    for max_epochs in (1, 1, 3):
        trainer.fit_loop.max_epochs = max_epochs
        trainer.fit(model, lab.loader(3))
        counters.append((trainer.current_epoch, trainer.global_step))
    return counters


@line(
    "2.4/on_train_batch_start returns -1",
    "the rest of the epoch is left out, that batch included; its end runs, and the next epoch as ever",
    (["0.0", "1.0"], ["ended 0.0", "ended 1.0"], ["0", "1"]),
)
def _(lab):
    model = lab.model(
        on_train_batch_start=lambda model, batch, batch_idx: -1 if batch_idx == 1 else None,
        on_train_batch_end=lambda model, outputs, batch, batch_idx: model.note(
            "ended", model.current_epoch, batch_idx
        ),
    )
    lab.fit(model, max_epochs=2)
    return model.noted("train"), [f"ended {note}" for note in model.noted("ended")], model.noted("end")


@line(
    "2.4/training_step returns None",
    "the gradients are cleared, backward left out, the optimizer stepped and counted; "
    "on_train_batch_end gets {}",
    (3, ["zero_grad", "step"] * 3, [{}, {}, {}]),
)
def _(lab):
    seen, outputs = [], []
    model = lab.model(
        training_step=lambda model, batch: None,
        backward=lambda model, loss: seen.append("backward"),
        on_before_zero_grad=lambda model, optimizer: seen.append("zero_grad"),
        on_before_optimizer_step=lambda model, optimizer: seen.append("step"),
        on_train_batch_end=lambda model, output, batch, batch_idx: outputs.append(output),
    )
    return lab.fit(model).global_step, seen, outputs


@line("2.4/training_step returns None/warned", "it is warned of", Warns("UserWarning", "None"))
def _(lab):
    lab.fit(lab.model(training_step=lambda model, batch: None))


@line(
    "2.4/StopIteration", "raised in a hook of the training, it ends the epoch", (["0.0", "1.0"], ["0", "1"])
)
def _(lab):
    def on_train_batch_start(model, batch, batch_idx):
        if batch_idx == 1:
            raise StopIteration

    model = lab.fit(lab.model(on_train_batch_start=on_train_batch_start), max_epochs=2).lightning_module
    return model.noted("train"), model.noted("end")


@lines(
    "2.4/estimated_stepping_batches",
    "batches over accumulation, rounded up, times epochs; not more than max_steps",
    {
        "epochs": ({"max_epochs": 4}, 20),
        "accumulation": ({"max_epochs": 4, "accumulate_grad_batches": 2}, 12),
        "max_steps": ({"max_epochs": 4, "max_steps": 7}, 7),
        "no end": ({"max_epochs": -1}, math.inf),
        "no end, max_steps": ({"max_epochs": -1, "max_steps": 7}, 7),
        "no epochs": ({"max_epochs": 0}, 5),
        "limited": ({"max_epochs": 2, "limit_train_batches": 2}, 4),
    },
)
def _(lab, **arguments):
    seen = []

    def configure_optimizers(model):
        seen.append(model.trainer.estimated_stepping_batches)
        return torch.optim.SGD(model.parameters(), lr=1.0)

    stop = stopping("on_train_batch_end", lambda _: True)
    lab.fit(lab.model(configure_optimizers=configure_optimizers, **stop), train=5, **arguments)
    return seen[0]


@lines(
    "2.4/estimated_stepping_batches/unsized",
    "data of unknown length: max_steps",
    {"max_steps": ({"max_steps": 7}, 7), "no max_steps": ({}, -1)},
)
def _(lab, **arguments):
    seen = []
    model = lab.model(on_train_start=lambda model: seen.append(model.trainer.estimated_stepping_batches))
    lab.fit(model, train=lab.stream(3), **arguments)
    return seen[0]


@line(
    "2.4/estimated_stepping_batches/accumulation changes",
    "counts with the accumulation of the moment, whatever a GradientAccumulationScheduler will change",
    6,
    ours=5,
    differs="`estimated_stepping_batches` with a `GradientAccumulationScheduler`",
)
def _(lab):
    seen = []
    scheduler = lab.callbacks.GradientAccumulationScheduler({0: 1, 1: 2})
    model = lab.model(on_train_start=lambda model: seen.append(model.trainer.estimated_stepping_batches))
    lab.fit(model, scheduler, max_epochs=2)
    return seen[0]


waiting(5, ("2.4/training_step returns None/ranks", "with more than one process it is a RuntimeError"))


# ---------------------------------------------------------------------- 2.5: how many batches


@lines(
    "2.5/one loader",
    "0 is none; a number at most the length; a share of the length, rounded down",
    {
        "3": ({"limit": 3}, 3),
        "30": ({"limit": 30}, 10),
        "0.35": ({"limit": 0.35}, 3),
        "1.0": ({"limit": 1.0}, 10),
        "too small a share": ({"limit": 0.05}, Raises(ME, "limit_train_batches")),
        "unsized, 3": ({"limit": 3, "unsized": True}, 3),
        "unsized, 1.0": ({"limit": 1.0, "unsized": True}, math.inf),
        "unsized, share": ({"limit": 0.5, "unsized": True}, Raises(ME, "limit_train_batches")),
    },
)
def _(lab, limit, unsized=False):
    data = lab.stream(10) if unsized else 10
    trainer = lab.fit(train=data, limit_train_batches=limit)
    if limit and not unsized:
        assert len(trainer.lightning_module.noted("train")) == trainer.num_training_batches
    return trainer.num_training_batches


@lines(
    "2.5/limit_train_batches",
    "0 of them: none is trained on, and the loader is not even made",
    {"0": ({"limit": 0}, math.inf), "0.0": ({"limit": 0.0}, math.inf)},
    ours=0,
    differs="`trainer.num_training_batches` with `limit_train_batches=0`",
)
def _(lab, limit):
    trainer = lab.fit(limit_train_batches=limit)
    assert trainer.lightning_module.noted("train") == []
    return trainer.num_training_batches


@line("2.5/limit_val_batches=0", "0 of them: no validation", ([], []))
def _(lab):
    trainer = lab.fit(limit_val_batches=0, num_sanity_val_steps=2)
    return trainer.num_val_batches, trainer.lightning_module.noted("val")


@lines(
    "2.5/several loaders",
    "each evaluation loader has its own number",
    {
        "validate": ({"name": "validate", "limit_val_batches": 0.5}, [1, 2]),
        "test": ({"name": "test", "limit_test_batches": 3}, [2, 3]),
        "predict": ({"name": "predict", "limit_predict_batches": 1.0}, [2, 4]),
    },
)
def _(lab, name, **arguments):
    trainer = lab.trainer(**arguments)
    getattr(trainer, name)(lab.model(), [lab.loader(2), lab.loader(4)])
    return getattr(trainer, f"num_{name.replace('idate', '')}_batches")


@lines(
    "2.5/CombinedLoader",
    "the length of training data follows the mode",
    {
        "max_size_cycle": ({"mode": "max_size_cycle"}, 4),
        "min_size": ({"mode": "min_size"}, 2),
        "max_size": ({"mode": "max_size"}, 4),
        "sequential": ({"mode": "sequential"}, Raises("ValueError", "sequential")),
    },
)
def _(lab, mode):
    loaders = {"a": lab.loader(2), "b": lab.loader(4)}
    train = lab.part("utilities").CombinedLoader(loaders, mode)
    return lab.fit(
        lab.model(training_step=lambda model, batch: model.weight * 1), train=train
    ).num_training_batches


@line("2.5/empty", "no training batches: a warning, a line, and no training", Says("zero", gives=[]))
def _(lab):
    return lab.notes("train", train=torch.utils.data.DataLoader([]))


waiting(
    5,
    ("2.5/zero length on some ranks", "an error, unless allow_zero_length_dataloader_with_multiple_devices"),
    ("2.5/ranks", "limits count per process, after the data is divided"),
)


# ---------------------------------------------------------------------- 2.6: when validation runs


def validations(lab, train=5, **arguments):
    """Return after which training batches validation ran: "epoch.batch"."""
    notes = lab.fit(
        train=train, val=1, max_epochs=arguments.pop("max_epochs", 2), **arguments
    ).lightning_module.notes
    return [notes[i - 1].removeprefix("train ") for i, note in enumerate(notes) if note.startswith("val")]


lines(
    "2.6",
    "validation runs after these batches of two epochs of 5",
    {
        "1.0": ({}, ["0.4", "1.4"]),
        "2": ({"val_check_interval": 2}, ["0.1", "0.3", "1.1", "1.3"]),
        "0.5": ({"val_check_interval": 0.5}, ["0.1", "0.3", "1.1", "1.3"]),
        "3 across epochs": (
            {"val_check_interval": 3, "check_val_every_n_epoch": None, "max_epochs": 3},
            ["0.2", "1.0", "1.3", "2.1", "2.4"],
        ),
        "0.0": ({"val_check_interval": 0.0, "max_epochs": 1}, ["0.0", "0.1", "0.2", "0.3", "0.4"]),
        "1": ({"val_check_interval": 1, "max_epochs": 1}, ["0.0", "0.1", "0.2", "0.3", "0.4"]),
        "6 of 5": ({"val_check_interval": 6}, Raises("ValueError", "val_check_interval")),
        "6 of 5, no validation": ({"val_check_interval": 6, "limit_val_batches": 0}, []),
        "6 across epochs": ({"val_check_interval": 6, "check_val_every_n_epoch": None}, ["1.0"]),
        "every second epoch": ({"check_val_every_n_epoch": 2, "max_epochs": 4}, ["1.4", "3.4"]),
        "2, every second epoch": (
            {"check_val_every_n_epoch": 2, "val_check_interval": 2, "max_epochs": 3},
            ["1.1", "1.3"],
        ),
        "no time at all": (
            {"val_check_interval": timedelta(0), "max_epochs": 1},
            ["0.0", "0.1", "0.2", "0.3", "0.4"],
        ),
        "a long time": ({"val_check_interval": "00:10:00:00"}, []),
        "a dict": ({"val_check_interval": {"hours": 10}}, []),
        "share across epochs": (
            {"val_check_interval": 0.5, "check_val_every_n_epoch": None},
            Raises(ME, "val_check_interval"),
        ),
    },
)(validations)


@lines(
    "2.6/unsized",
    "1.0 is the end of the epoch, a number counts batches; a share has no meaning",
    {
        "1.0": ({}, ["0.4", "1.4"]),
        "2": ({"val_check_interval": 2}, ["0.1", "0.3", "1.1", "1.3"]),
        "0.5": ({"val_check_interval": 0.5}, Raises(ME, "val_check_interval")),
    },
)
def _(lab, **arguments):
    return validations(lab, lab.stream(5), **arguments)


@line(
    "2.6/val_check_interval=1, the number",
    "validates after each batch, yet a ModelCheckpoint takes it for the end of the epoch",
    ["epoch=0-step=3.ckpt"],
)
def _(lab):
    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c", save_top_k=-1)
    lab.fit(None, callback, val_check_interval=1)
    return lab.files("c")


@line(
    "2.6/last batch",
    "schedulers, on_train_batch_end, step row, validation and its row, plateau by steps, epoch's "
    "end, plateau by epochs and row",
    [
        "scheduler StepLR", "batch end", "row loss", "validation", "row v",
        "scheduler ReduceLROnPlateau step",
        "epoch end", "scheduler ReduceLROnPlateau epoch", "row w",
    ],
    differs="when a checkpoint is written",
    ours=[
        "scheduler StepLR", "batch end", "row loss", "validation", "row v",
        "scheduler ReduceLROnPlateau step",
        "epoch end", "row w", "scheduler ReduceLROnPlateau epoch",
    ],
)  # fmt: skip
def _(lab):
    calls = []

    def training_step(model, batch):
        model.log("loss", model.weight)
        return model.weight * 1

    def lr_scheduler_step(model, scheduler, metric):
        kind = type(scheduler).__name__
        calls.append(f"scheduler {kind}{'' if metric is None else ' ' + names[id(scheduler)]}")

    def on_train_epoch_end(model):
        calls.append("epoch end")
        model.log("w", 1.0)

    names = {}

    def configure_optimizers(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        Plateau, StepLR = torch.optim.lr_scheduler.ReduceLROnPlateau, torch.optim.lr_scheduler.StepLR
        by_step, by_epoch = Plateau(optimizer), Plateau(optimizer)
        names.update({id(by_step): "step", id(by_epoch): "epoch"})
        return [optimizer], [
            {"scheduler": by_step, "interval": "step", "monitor": "v"},
            {"scheduler": by_epoch, "monitor": "v"},
            StepLR(optimizer, 1),
        ]

    logger = lab.logger()
    log = type(logger).log_metrics

    def log_metrics(self, metrics, step=None):
        calls.append(f"row {next(iter(metrics))}")
        log(self, metrics, step)

    type(logger).log_metrics = log_metrics
    model = lab.model(
        training_step=training_step,
        validation_step=lambda model, batch, batch_idx: model.log("v", 1.0),
        on_validation_start=lambda model: calls.append("validation"),
        on_train_batch_end=lambda model, *_: calls.append("batch end"),
        on_train_epoch_end=on_train_epoch_end,
        lr_scheduler_step=lr_scheduler_step,
        configure_optimizers=configure_optimizers,
    )
    lab.fit(model, train=1, val=1, logger=logger, log_every_n_steps=1)
    return calls


# ---------------------------------------------------------------------- 2.6: the sanity check


@lines(
    "2.6/sanity check",
    "so many batches of each validation loader, before training",
    {
        "0": ({"num_sanity_val_steps": 0}, []),
        "1": ({"num_sanity_val_steps": 1}, ["0.0"]),
        "default": ({"num_sanity_val_steps": None}, ["0.0", "0.1"]),
        "-1": ({"num_sanity_val_steps": -1}, ["0.0", "0.1", "0.2"]),
    },
)
def _(lab, **arguments):
    notes = lab.fit(val=3, **arguments).lightning_module.notes
    return [note.removeprefix("val ") for note in notes[: notes.index("train 0.0")]]


@line("2.6/sanity check/several loaders", "of each of them", 4)
def _(lab):
    notes = lab.fit(val=[lab.loader(2), lab.loader(3)], num_sanity_val_steps=2).lightning_module.notes
    return notes.index("train 0.0")


@line("2.6/sanity check/random numbers", "leaves the states of Python, NumPy and torch as they were", True)
def _(lab):
    def validation_step(model, batch, batch_idx):
        random.random(), np.random.rand(), torch.rand(1)

    def draw(_):
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))

    drawn = []
    for steps in (0, 2):
        lab.L.seed_everything(7, verbose=False)
        model = lab.model(validation_step=validation_step, on_train_start=draw)
        lab.fit(model, num_sanity_val_steps=steps, check_val_every_n_epoch=2)
    return drawn[0] == drawn[1]


@line(
    "2.6/sanity check/loaders",
    "the validation loader is made there, once, before the training loader",
    ["val", "train"],
)
def _(lab):
    made = []

    def loads(name, count):
        def load(_):
            made.append(name)
            return lab.loader(count)

        return load

    model = lab.model(train_dataloader=loads("train", 3), val_dataloader=loads("val", 2))
    lab.trainer(num_sanity_val_steps=2, max_epochs=2).fit(model)
    return made


@line(
    "2.6/sanity check/metrics",
    "what it logged is gone when training starts, and no logger got it",
    ({}, {}, []),
)
def _(lab):
    seen = []

    def on_train_epoch_start(model):
        trainer = model.trainer
        seen.extend([dict(trainer.callback_metrics), dict(trainer.logged_metrics), list(trainer.logger.rows)])

    model = lab.model(
        validation_step=lambda model, batch, batch_idx: model.log("v", 1.0, on_step=True, on_epoch=True),
        on_train_epoch_start=on_train_epoch_start,
    )
    lab.fit(model, num_sanity_val_steps=2, check_val_every_n_epoch=2, logger=lab.logger())
    return tuple(seen)


@line("2.6/sanity check/callbacks", "neither checkpoints nor early stopping look at it", (None, [], 0))
def _(lab):
    seen = []
    stop = lab.callbacks.EarlyStopping("v", check_on_train_epoch_end=False)
    checkpoint = lab.callbacks.ModelCheckpoint(lab.tmp / "c", monitor="v", save_on_train_epoch_end=False)

    def on_train_start(model):
        seen.extend([checkpoint.best_model_score, lab.files("c"), stop.wait_count])

    model = lab.model(
        validation_step=lambda model, batch, batch_idx: model.log("v", 1.0), on_train_start=on_train_start
    )
    lab.fit(model, stop, checkpoint, num_sanity_val_steps=2)
    return tuple(seen)


@line("2.6/sanity check/no batches", "without validation batches there is none, not even its hooks", [])
def _(lab):
    seen = []
    callback = lab.callback(on_sanity_check_start=lambda *_: seen.append("sanity"))
    lab.fit(None, callback, val=None, num_sanity_val_steps=2)
    return seen


def checkpoint_after(lab, **arguments):
    """Fit one epoch of 3 batches and return the checkpoint that it wrote."""
    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c", **arguments)
    lab.fit(None, callback)
    return callback.best_model_path


@lines(
    "2.6/sanity check/resumed",
    "runs when a fit goes on after an epoch, not from within one",
    {
        "after an epoch": ({}, True),
        "within an epoch": ({"every_n_train_steps": 2}, False),
    },
)
def _(lab, **arguments):
    path = checkpoint_after(lab, **arguments)
    seen = []
    callback = lab.callback(on_sanity_check_start=lambda *_: seen.append(True))
    lab.fit(None, callback, ckpt_path=path, max_epochs=2, num_sanity_val_steps=2)
    return bool(seen)


# ---------------------------------------------------------------------- 2.7: fast_dev_run


@line(
    "2.7/settings",
    "n batches of everything, n steps, one epoch, no sanity check, validation at the end",
    (2, 2, 2, 2, 2, 1, 0, 1.0, 1),
)
def _(lab):
    trainer = lab.L.Trainer(
        accelerator="cpu", fast_dev_run=2, max_epochs=9, limit_train_batches=7, val_check_interval=5
    )
    return (
        trainer.limit_train_batches, trainer.limit_val_batches, trainer.limit_test_batches,
        trainer.limit_predict_batches, trainer.max_steps, trainer.max_epochs, trainer.num_sanity_val_steps,
        trainer.val_check_interval, trainer.check_val_every_n_epoch,
    )  # fmt: skip


@line("2.7/loggers", "loggers are replaced by one that does nothing", ["DummyLogger"])
def _(lab):
    trainer = lab.L.Trainer(accelerator="cpu", fast_dev_run=True, logger=[lab.logger(), lab.logger()])
    return [type(logger).__name__ for logger in trainer.loggers]


@line("2.7/no logger", "where there were none there are none", [])
def _(lab):
    return lab.trainer(fast_dev_run=True, logger=False).loggers


@line(
    "2.7/run",
    "writes nothing, and runs so many batches",
    (["0.0", "0.1"], ["0.0", "0.1"], [], ["ModelCheckpoint"]),
)
def _(lab):
    trainer = lab.L.Trainer(
        accelerator="cpu", fast_dev_run=2, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[lab.callbacks.ModelCheckpoint()],
    )  # fmt: skip
    model = lab.model()
    trainer.fit(model, lab.loader(9), lab.loader(9))
    return (
        model.noted("train"),
        model.noted("val"),
        lab.files(),
        [type(cb).__name__ for cb in trainer.callbacks],
    )


@line("2.7/early stopping", "does nothing", 2)
def _(lab):
    stop = lab.callbacks.EarlyStopping("no such thing")
    return lab.fit(None, stop, fast_dev_run=2, train=5).global_step


@line(
    "2.7/said",
    "a line says so",
    Tells(r"Running in `fast_dev_run` mode: will run the requested loop using 2 batch\(es\)"),
)
def _(lab):
    lab.trainer(fast_dev_run=2)


@line("2.7/best", "there is no best checkpoint to take", Raises("ValueError", "fast_dev_run"))
def _(lab):
    trainer = lab.fit(None, lab.callbacks.ModelCheckpoint(), fast_dev_run=True)
    trainer.test(ckpt_path="best", dataloaders=lab.loader(1))


waiting("an issue of its own", ("2.7/finders", "the Tuner and the finders are left out, with a warning"))


# ---------------------------------------------------------------------- 2.8: overfit_batches


@line(
    "2.8/limits",
    "is the limit of training and validation, whatever else was given, and of nothing else",
    (3, 3, 1.0, 5),
)
def _(lab):
    trainer = lab.trainer(overfit_batches=3, limit_train_batches=9, limit_predict_batches=5)
    return (
        trainer.limit_train_batches,
        trainer.limit_val_batches,
        trainer.limit_test_batches,
        trainer.limit_predict_batches,
    )


@line(
    "2.8/shuffling",
    "a loader that shuffles is read in order, with a warning",
    Warns("UserWarning", "", gives=["0.0", "1.0"] * 2),
)
def _(lab):
    def training_step(model, batch, batch_idx):
        seen.append(str(batch.item()))
        return model.weight * 1

    seen = []
    train = torch.utils.data.DataLoader(torch.arange(50.0), shuffle=True)
    trainer = lab.fit(lab.model(training_step=training_step), train=train, overfit_batches=2, max_epochs=2)
    assert type(trainer.train_dataloader.sampler).__name__ == "SequentialSampler"
    return seen


@line("2.8/own sampler", "so is one with a sampler of one's own", ["0.0", "1.0"])
def _(lab):
    class Backwards(torch.utils.data.Sampler):
        def __init__(self):
            pass

        def __iter__(self):
            return iter(range(49, -1, -1))

        def __len__(self):
            return 50

    def training_step(model, batch, batch_idx):
        seen.append(str(batch.item()))
        return model.weight * 1

    seen = []
    train = torch.utils.data.DataLoader(torch.arange(50.0), sampler=Backwards())
    lab.fit(lab.model(training_step=training_step), train=train, overfit_batches=2)
    return seen


@line("2.8/validation", "validation takes so many batches of its own loader, in order", [100.0, 101.0])
def _(lab):
    seen = []
    val = torch.utils.data.DataLoader(torch.arange(100.0, 150.0), shuffle=True)
    lab.fit(
        lab.model(validation_step=lambda model, batch, batch_idx: seen.append(batch.item())),
        val=val,
        overfit_batches=2,
    )
    return seen


waiting(5, ("2.8/DistributedSampler", "does not shuffle"))


# ---------------------------------------------------------------------- 2.9: gradients and modes


def modes(model):
    """Return (gradients, inference mode, the module's mode, that of a frozen part)."""
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), model.training, model.frozen.training


def with_frozen(lab, seen, *hooks):
    """Return a model with a part in evaluation mode whose hooks append the modes to `seen`."""

    def __init__(self):
        lab.Module.__init__(self)
        self.frozen, self.drop = torch.nn.Dropout().eval(), torch.nn.Dropout()

    def see(hook):
        def note(model, *args, **kwargs):
            seen.append(modes(model))
            return model.weight * 1 if hook == "training_step" else None

        return note

    return lab.module(__init__=__init__, **{hook: see(hook) for hook in hooks})()


@lines(
    "2.9/fit",
    "(gradients, inference mode, training, training of a part that the user set to eval)",
    {
        "training_step": ({"hook": "training_step"}, [(True, False, True, False)]),
        "setup": ({"hook": "setup"}, [(True, False, True, False)]),
        "validation_step": ({"hook": "validation_step"}, [(False, False, False, False)]),
        "on_validation_model_eval": ({"hook": "on_validation_start"}, [(False, False, False, False)]),
        "on_train_epoch_end": ({"hook": "on_train_epoch_end"}, [(True, False, True, False)]),
    },
)
def _(lab, hook):
    seen = []
    lab.fit(with_frozen(lab, seen, hook), train=1, val=1)
    return seen


@line("2.9/sanity check", "as validation in fit", [(False, False, False, False)])
def _(lab):
    seen = []
    lab.fit(
        with_frozen(lab, seen, "validation_step"),
        train=1,
        val=1,
        num_sanity_val_steps=1,
        check_val_every_n_epoch=2,
    )
    return seen


@lines(
    "2.9/evaluation",
    "in inference mode, unless inference_mode=False",
    {
        f"{name}, inference_mode={inference}": (
            {"name": name, "inference": inference},
            ([(True, False, True, False), (False, inference, False, False)], [True, True, False, True]),
        )
        for name in ("validate", "test", "predict")
        for inference in (True, False)
    },
)
def _(lab, name, inference):
    seen = []
    step = {"validate": "validation_step"}.get(name, f"{name}_step")
    model = with_frozen(lab, seen, "setup", step)
    lab.run(name, model, 1, inference_mode=inference)
    return seen, [torch.is_grad_enabled(), model.training, model.frozen.training, model.drop.training]


@line(
    "2.9/train is not forced",
    "a module in evaluation mode is trained so, with a warning or a line",
    Says("eval", gives=[False]),
)
def _(lab):
    seen = []

    def training_step(model, batch, batch_idx):
        seen.append(model.training)
        return model.weight * 1

    lab.fit(lab.model(training_step=training_step).eval(), train=1)
    return seen


@line(
    "2.9/restored", "validation leaves the modes of all parts as they were", [(True, False, True, False)] * 2
)
def _(lab):
    seen = []
    lab.fit(with_frozen(lab, seen, "training_step"), train=1, val=1, max_epochs=2)
    return seen


@line(
    "2.9/on_validation_model_train overridden",
    "the user's hook takes the place of that",
    [True, False, False],
)
def _(lab):
    seen = []

    def training_step(model, batch, batch_idx):
        seen.append(model.training)
        return model.weight * 1

    model = lab.model(training_step=training_step, on_validation_model_train=lambda model: None)
    lab.fit(model, train=1, val=1, max_epochs=3)
    return seen


waiting(5, ("2.9/inference mode with gloo", "falls back to no_grad with gloo, XLA and FSDP"))
