"""2.10 to 2.15: barebones, the entry points, which checkpoint is meant, interrupts, attributes, loaders."""

from __future__ import annotations

import contextlib
import math
import os
import signal
from pathlib import Path

import torch
from lines import ANYTHING, Raises, Says, Silent, Tells, Warns, line, lines, waiting
from torch import nn
from torch.utils.data import DataLoader

ME = "MisconfigurationException"


# ---------------------------------------------------------------------- 2.10: barebones


@line("2.10/off", "checkpoints, loggers, bar, summary, log interval and sanity check are off", ([], [], 0, 0))
def _(lab):
    trainer = lab.L.Trainer(accelerator="cpu", barebones=True)
    return trainer.callbacks, trainer.loggers, trainer.log_every_n_steps, trainer.num_sanity_val_steps


@lines(
    "2.10/asked for",
    "to ask for one of them by name is a ValueError",
    {
        name: ({name: value}, Raises("ValueError", name))
        for name, value in {
            "enable_checkpointing": True,
            "logger": True,
            "enable_progress_bar": True,
            "log_every_n_steps": 5,
            "enable_model_summary": True,
            "num_sanity_val_steps": 1,
            "fast_dev_run": True,
            "detect_anomaly": True,
            "profiler": "simple",
        }.items()
    },
)
def _(lab, **arguments):
    lab.L.Trainer(accelerator="cpu", barebones=True, **arguments)


@line("2.10/log", "self.log does nothing, and warns", Warns("UserWarning", "barebones", gives={}))
def _(lab):
    def training_step(model, batch):
        model.log("a", 1.0)
        model.log_dict({"b": 1.0})
        return model.weight * 1

    trainer = lab.L.Trainer(accelerator="cpu", barebones=True, max_epochs=1)
    trainer.fit(lab.model(training_step=training_step), lab.loader(2))
    return trainer.callback_metrics


@line("2.10/said", "the features that are off are listed", Tells("barebones=True"))
def _(lab):
    lab.L.Trainer(accelerator="cpu", barebones=True)


# ---------------------------------------------------------------------- 2.11: the entry points


@line("2.11/fit", "returns None", None)
def _(lab):
    return lab.trainer().fit(lab.model(), lab.loader(2), lab.loader(2))


@lines(
    "2.11/what is returned",
    "a dict for each loader; predictions of each batch",
    {
        "validate": ({"name": "validate"}, [{"v": 0.5}]),
        "test": ({"name": "test"}, [{"v": 0.5}]),
        "predict": ({"name": "predict"}, [[0.0], [1.0]]),
    },
)
def _(lab, name):
    def step(model, batch, batch_idx):
        model.log("v", batch.mean())

    return lab.run(name, lab.model(validation_step=step, test_step=step), 2)


@lines(
    "2.11/datamodule as the second argument",
    "it is taken for one",
    {"fit": ({"name": "fit"}, 3), "validate": ({"name": "validate"}, 2), "test": ({"name": "test"}, 2)},
)
def _(lab, name):
    model, data = lab.model(), lab.data()
    trainer = lab.trainer()
    getattr(trainer, name)(model, data)
    assert trainer.datamodule is data
    return len(model.noted({"fit": "train", "validate": "val"}.get(name, name)))


@lines(
    "2.11/loaders and datamodule",
    "one of the two",
    {name: ({"name": name}, Raises(ME, "")) for name in ("fit", "validate", "test", "predict")},
)
def _(lab, name):
    getattr(lab.trainer(), name)(lab.model(), lab.loader(1), datamodule=lab.data())


@lines(
    "2.11/model",
    "must be a LightningModule",
    {
        "nn.Module": ({"name": "fit", "model": nn.Linear(1, 1)}, Raises("TypeError", "Linear")),
        "None": ({"name": "fit", "model": None}, Raises("TypeError", "None")),
        "validate, none attached": ({"name": "validate", "model": None}, Raises("TypeError", "")),
        "test, none attached": ({"name": "test", "model": None}, Raises("TypeError", "")),
        "predict, none attached": ({"name": "predict", "model": None}, Raises("TypeError", "")),
    },
)
def _(lab, name, model):
    getattr(lab.trainer(), name)(model, lab.loader(1))


@line("2.11/model/compiled", "a compiled module is run, and the Trainer knows the module in it", (True, 3))
def _(lab):
    model = lab.model()
    trainer = lab.trainer()
    trainer.fit(torch.compile(model, backend="eager"), lab.loader(3))
    return trainer.lightning_module is model, trainer.global_step


@line("2.11/model=None after a fit", "the module of the last run is used", ["0.0", "0.1"])
def _(lab):
    trainer = lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c"))
    trainer.test(dataloaders=lab.loader(2), verbose=False)
    return trainer.lightning_module.noted("test")


@lines(
    "2.11/loaders",
    "any iterable, or a (nested) collection of them",
    {
        "range": ({"train": range(4)}, 4),
        "list": ({"train": [DataLoader(range(2)), DataLoader(range(4))]}, 4),
        "dict": ({"train": {"a": DataLoader(range(3)), "b": DataLoader(range(2))}}, 3),
        "nested": ({"train": [DataLoader(range(2)), {"b": DataLoader(range(5))}]}, 5),
        "list of tensors": ({"train": [torch.zeros(1), torch.ones(2)]}, 2),
    },
)
def _(lab, train):
    return lab.fit(train=train).global_step


@lines(
    "2.11/loaders/no iterables",
    "are told apart: passed, or returned by a hook",
    {
        "passed": ({"passed": 5}, Raises("TypeError", "An invalid dataloader was passed")),
        "returned": ({"returned": 5}, Raises("TypeError", "An invalid dataloader was returned")),
        "returned None": ({"returned": None}, Raises("TypeError", "An invalid dataloader was returned")),
        "a list with None": (
            {"passed": [DataLoader(range(2)), None]},
            Raises("TypeError", "An invalid dataloader"),
        ),
    },
)
def _(lab, passed=None, returned=...):
    hooks = {} if returned is ... else {"train_dataloader": lambda _: returned}
    lab.trainer().fit(lab.model(**hooks), passed)


@lines(
    "2.11/return_predictions",
    "True unless told otherwise; a list for each loader where there are several",
    {
        "None": ({}, [[0.0], [1.0]]),
        "True": ({"return_predictions": True}, [[0.0], [1.0]]),
        "False": ({"return_predictions": False}, None),
        "two loaders": ({"several": True}, [[[0.0], [1.0]], [[0.0]]]),
    },
)
def _(lab, several=False, **arguments):
    data = [lab.loader(2), lab.loader(1)] if several else lab.loader(2)
    return lab.trainer().predict(lab.model(), data, **arguments)


@lines(
    "2.11/verbose",
    "prints a table unless it is False",
    {
        "validate": ({"name": "validate"}, ["Validate metric", "DataLoader 0", "0.5"]),
        "test": ({"name": "test"}, ["Test metric", "DataLoader 0", "0.5"]),
        "verbose=False": ({"name": "test", "verbose": False}, []),
    },
)
def _(lab, name, **arguments):
    def step(model, batch, batch_idx):
        model.log("v", 0.5)

    model = lab.model(validation_step=step, test_step=step)
    text = lab.printed(lambda: getattr(lab.trainer(), name)(model, lab.loader(1), **arguments))
    title = f"{name.capitalize()} metric"
    return [words for words in (title, "DataLoader 0", "0.5") if words in text]


@lines(
    "2.11/after a run",
    "the status is finished, there is no stage",
    {
        name: ({"name": name}, ("finished", None, name, ANYTHING))
        for name in ("fit", "validate", "test", "predict")
    },
)
def _(lab, name):
    trainer = lab.trainer()
    getattr(trainer, name)(lab.model(), lab.loader(1))
    state = trainer.state
    return state.status, state.stage, state.fn, trainer.training


@line("2.11/predict/default step", "calls the module", [[0.0], [0.0]])
def _(lab):
    model = lab.bare(forward=lambda model, batch: batch * model.weight)
    return [prediction.tolist() for prediction in lab.run("predict", model, 2)]


@line("2.11/predict/neither", "neither predict_step nor forward is refused", Raises(ME, "forward"))
def _(lab):
    lab.run("predict", lab.bare(), 1)


@line("2.11/init_module", "layers made within it have the run's precision", torch.float64)
def _(lab):
    with lab.trainer(precision="64-true").init_module():
        return nn.Linear(1, 1).weight.dtype


@line("2.11/print", "prints", "a b\n")
def _(lab):
    return lab.printed(lambda: lab.trainer().print("a", "b"))


@line("2.11/save_checkpoint", "writes a file", ["x.ckpt"])
def _(lab):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    return lab.files(pattern="*.ckpt")


def minimal(lab, **members):
    """Return a module with no more than these members."""
    return lab.bare(**members)


def loss(model, batch, batch_idx=0):
    return model.weight * 1


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1.0)


@lines(
    "2.11/verification",
    "what is missing is told when a run starts",
    {
        "no training_step": ({"configure_optimizers": sgd}, Raises(ME, "training_step")),
        "no configure_optimizers": ({"training_step": loss}, Raises(ME, "configure_optimizers")),
        "validation_epoch_end": (
            {"training_step": loss, "configure_optimizers": sgd, "validation_epoch_end": loss},
            Raises("NotImplementedError", "validation_epoch_end"),
        ),
        "configure_model twice": (
            {
                "training_step": loss,
                "configure_optimizers": sgd,
                "configure_model": lambda model: None,
                "configure_sharded_model": lambda model: None,
            },
            Raises("RuntimeError", "configure_sharded_model"),
        ),
    },
)
def _(lab, **members):
    lab.fit(minimal(lab, **members), val=None)


@line("2.11/verification/no training data", "is refused", Raises(ME, "train_dataloader"))
def _(lab):
    lab.trainer().fit(lab.model())


@line(
    "2.11/verification/data without a step",
    "is warned of, and not validated",
    Warns("UserWarning", "validation_step", gives=1),
)
def _(lab):
    return lab.fit(
        minimal(lab, training_step=loss, configure_optimizers=sgd), train=1, num_sanity_val_steps=2
    ).global_step


@line(
    "2.11/verification/a step without data", "is warned of", Warns("PossibleUserWarning", "validation_step")
)
def _(lab):
    lab.fit(val=None)


@lines(
    "2.11/verification/evaluation",
    "needs its step",
    {
        "validate": ({"name": "validate"}, Raises(ME, "validation_step")),
        "test": ({"name": "test"}, Raises(ME, "test_step")),
    },
)
def _(lab, name):
    lab.run(name, minimal(lab, training_step=loss, configure_optimizers=sgd), 1)


@lines(
    "2.11/verification/manual optimization",
    "can't be clipped or accumulated by the Trainer",
    {
        "clip": ({"gradient_clip_val": 0.5}, Raises(ME, "gradient_clip_val")),
        "accumulate": ({"accumulate_grad_batches": 2}, Raises(ME, "accumulate_grad_batches")),
        "clip 0": ({"gradient_clip_val": 0}, None),
    },
)
def _(lab, **arguments):
    model = lab.model()
    model.automatic_optimization = False
    lab.fit(model, **arguments)


@line(
    "2.11/verification/transfer hook in both",
    "module and data module have one: a warning, and the data module's runs",
    Warns("UserWarning", "transfer_batch_to_device", gives={"data"}),
)
def _(lab):
    seen = set()

    def moves(name):
        def transfer_batch_to_device(owner, batch, device, dataloader_idx):
            seen.add(name)
            return batch

        return {"transfer_batch_to_device": transfer_batch_to_device}

    lab.trainer().fit(lab.model(**moves("module")), datamodule=lab.data(**moves("data")))
    return seen


waiting(
    5,
    (
        "2.11/return_predictions/ranks",
        "several processes: None means False where they are started here, True is refused",
    ),
)


# ---------------------------------------------------------------------- 2.12: which checkpoint


def fitted(lab, **arguments):
    """Return a Trainer that fitted two epochs, with a checkpoint of the first (the best) and `last.ckpt`."""

    def on_train_epoch_end(model):
        model.log("score", float(model.current_epoch))

    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c", monitor="score", save_last=True)
    return lab.fit(
        lab.model(on_train_epoch_end=on_train_epoch_end), callback, max_epochs=2, val=None, **arguments
    )


def steps_tested(lab, trainer, *model, **arguments):
    """Test, and return how many steps the weights have had."""
    seen = []
    type(trainer.lightning_module).on_test_start = lambda model: seen.append(model.num_steps)
    trainer.test(*model, dataloaders=lab.loader(1), verbose=False, **arguments)
    return seen[0]


@line("2.12/None/model given", "the weights as they are", 6)
def _(lab):
    trainer = fitted(lab)
    return steps_tested(lab, trainer, trainer.lightning_module)


@line("2.12/None/no model", "the best checkpoint, with a warning", Says("best", gives=3))
def _(lab):
    return steps_tested(lab, fitted(lab))


@line("2.12/None/no model, no best", "is a ValueError", Raises("ValueError", "best"))
def _(lab):
    lab.fit().test(dataloaders=lab.loader(1))


@line("2.12/best", "the first callback's best_model_path", 3)
def _(lab):
    trainer = fitted(lab)
    return steps_tested(lab, trainer, trainer.lightning_module, ckpt_path="best")


@line(
    "2.12/best/several",
    "several callbacks: the first one's, with a warning",
    Warns("UserWarning", "", gives=3),
)
def _(lab):
    ModelCheckpoint = lab.callbacks.ModelCheckpoint
    first = ModelCheckpoint(lab.tmp / "a", monitor="step", mode="min")
    second = ModelCheckpoint(lab.tmp / "b", monitor="step", mode="max")
    trainer = lab.fit(None, first, second, max_epochs=2)
    return steps_tested(lab, trainer, trainer.lightning_module, ckpt_path="best")


@line("2.12/last", "the newest file whose name begins with last", 6)
def _(lab):
    trainer = lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c", save_last=True), max_epochs=2)
    return steps_tested(lab, trainer, trainer.lightning_module, ckpt_path="last")


@line(
    "2.12/last/none",
    "there is none: a warning, and the training begins anew",
    Warns("UserWarning", "last", gives=3),
)
def _(lab):
    return lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c"), ckpt_path="last").global_step


@line("2.12/last/names", "every file counts whose name begins so", 9)
def _(lab):
    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c")
    lab.fit(max_epochs=3).save_checkpoint(lab.tmp / "c" / "last-v7.ckpt")
    seen = []
    lab.fit(
        lab.model(on_train_start=lambda model: seen.append(model.global_step)),
        callback,
        ckpt_path="last",
        max_epochs=4,
    )
    return seen[0]


@line("2.12/OnExceptionCheckpoint", "with one, a fit goes on from what it wrote, unasked", 3)
def _(lab):
    def fail(*_):
        raise OSError

    callback = lab.callbacks.OnExceptionCheckpoint(lab.tmp)
    trainer = lab.trainer(callback, max_epochs=2)
    with contextlib.suppress(OSError):
        trainer.fit(lab.model(on_train_epoch_end=fail), lab.loader(3))
    seen = []
    model = lab.model(on_train_start=lambda model: seen.append(model.global_step))
    lab.trainer(lab.callbacks.OnExceptionCheckpoint(lab.tmp), max_epochs=2).fit(model, lab.loader(3))
    return seen[0]


@lines(
    "2.12/path",
    "must be there",
    {
        "missing": ({"ckpt_path": "no/such.ckpt"}, Raises("FileNotFoundError", "no/such.ckpt")),
        "empty": ({"ckpt_path": ""}, Raises("ValueError", "")),
    },
)
def _(lab, ckpt_path):
    lab.fit(ckpt_path=ckpt_path)


@line("2.12/hpc/none", "there is none: a ValueError", Raises("ValueError", "hpc"), waits=6)
def _(lab):
    lab.fit(ckpt_path="hpc")


@lines(
    "2.12/path/kinds",
    "a text, a PathLike or a URL",
    {"text": ({"kind": str}, 3), "Path": ({"kind": Path}, 3), "URL": ({"kind": "memory://{}"}, 3)},
)
def _(lab, kind):
    place = kind.format(lab.tmp) if isinstance(kind, str) else kind(lab.tmp)
    path = f"{place}/x.ckpt" if isinstance(place, str) else place / "x.ckpt"
    lab.fit().save_checkpoint(path)
    seen = []
    model = lab.model(on_train_start=lambda model: seen.append(model.global_step))
    lab.fit(model, ckpt_path=path, max_epochs=2)
    return seen[0]


@line("2.12/trainer.ckpt_path", "is what was used last", True)
def _(lab):
    path = lab.tmp / "x.ckpt"
    lab.fit().save_checkpoint(path)
    return Path(lab.fit(ckpt_path=path, max_epochs=2).ckpt_path) == path


@line("2.12/trainer.ckpt_path/set", "set by hand, it holds for all runs", [3, 3])
def _(lab):
    path = str(lab.tmp / "x.ckpt")
    lab.fit().save_checkpoint(path)
    seen, trainer = [], lab.trainer()
    trainer.ckpt_path = path
    for _ in range(2):
        trainer.test(
            lab.model(on_test_start=lambda model: seen.append(model.num_steps)), lab.loader(1), verbose=False
        )
    return seen


@line(
    "2.12/trainer.ckpt_path/overruled",
    "an argument wins, with a warning",
    Warns("UserWarning", "ckpt_path", gives=6),
)
def _(lab):
    one, two = str(lab.tmp / "x.ckpt"), str(lab.tmp / "y.ckpt")
    lab.fit().save_checkpoint(one)
    lab.fit(max_epochs=2).save_checkpoint(two)
    seen, trainer = [], lab.trainer()
    trainer.ckpt_path = one
    model = lab.model(on_test_start=lambda model: seen.append(model.num_steps))
    trainer.test(model, lab.loader(1), ckpt_path=two, verbose=False)
    return seen[0]


@line(
    "2.12/evaluation from a checkpoint",
    "restores weights, callbacks and the data module, no optimizer, no counters",
    (3, [("state", {"a": 1})], [{"b": 2}], [], (0, 0)),
)
def _(lab):
    def parts():
        loaded, data = [], []
        callback = lab.callback(
            state_key="mine",
            state_dict=lambda _: {"a": 1},
            load_state_dict=lambda _, state: loaded.append(("state", state)),
        )
        module = lab.data(state_dict=lambda _: {"b": 2}, load_state_dict=lambda _, state: data.append(state))
        return callback, module, loaded, data

    callback, module, _, _ = parts()
    trainer = lab.trainer(callback)
    trainer.fit(lab.model(), datamodule=module)
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    callback, module, loaded, data = parts()
    trainer, model = lab.trainer(callback), lab.model()
    trainer.test(model, datamodule=module, ckpt_path=lab.tmp / "x.ckpt", verbose=False)
    return model.num_steps, loaded, data, trainer.optimizers, (trainer.global_step, trainer.current_epoch)


@lines(
    "2.12/strict_loading",
    "True unless the module says otherwise",
    {"default": ({}, Raises("RuntimeError", "extra")), "False": ({"strict_loading": False}, 3)},
)
def _(lab, **settings):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    model = lab.model()
    model.extra = nn.Parameter(torch.zeros(()))
    for name, value in settings.items():
        setattr(model, name, value)
    seen = []
    type(model).on_train_start = lambda model: seen.append(model.num_steps)
    trainer = lab.trainer(max_epochs=2)
    trainer.test(model, lab.loader(1), ckpt_path=lab.tmp / "x.ckpt", verbose=False)
    return model.num_steps


class Anything:
    """An object that only a pickle can hold."""


@lines(
    "2.12/weights_only",
    "arbitrary pickled objects are read only with weights_only=False",
    {"None": ({}, Raises("UnpicklingError", "weights_only")), "False": ({"weights_only": False}, 3)},
)
def _(lab, **arguments):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    checkpoint = torch.load(lab.tmp / "x.ckpt")
    torch.save({**checkpoint, "mine": Anything()}, lab.tmp / "y.ckpt")
    trainer, model = lab.trainer(), lab.model()
    trainer.test(model, lab.loader(1), ckpt_path=lab.tmp / "y.ckpt", verbose=False, **arguments)
    return model.num_steps


waiting(
    6,
    ("2.12/None in Slurm", "the newest hpc_ckpt_<N>.ckpt is gone on from"),
    ("2.12/hpc", "the newest hpc checkpoint"),
)
waiting("an issue of its own", ("2.12/registry", "litmodels' registry, where it is installed"))


# ---------------------------------------------------------------------- 2.13: interrupts and errors


def failing(lab, error, hook="training_step", **arguments):
    """Return what became of a fit that raised, and who was told what."""
    told = []

    def fail(*_):
        raise error

    def tell(name):
        return lambda *args, **_: told.append(name)

    logger = lab.logger()
    model = lab.model(
        **{
            hook: fail,
            "on_train_end": tell("on_train_end"),
            "on_fit_end": tell("on_fit_end"),
            "teardown": tell("teardown"),
        }
    )
    callback = lab.callback(
        on_exception=lambda _, trainer, module, error: told.append(("callback", type(error).__name__))
    )
    data = lab.data(on_exception=lambda _, error: told.append(("data", type(error).__name__)))
    trainer = lab.trainer(callback, logger=logger, **arguments)
    raised = None
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(model, datamodule=data)
    except BaseException as caught:
        raised = caught
    signal.signal(signal.SIGINT, before)
    return trainer, raised, told, logger.endings


@line(
    "2.13/exception",
    "callbacks are told, then the data module; loggers end with 'failed'; it comes out as it is; no "
    "closing hook runs",
    (True, [("callback", "OSError"), ("data", "OSError")], ["failed"], "interrupted", None, True),
)
def _(lab):
    error = OSError("oops")
    trainer, raised, told, endings = failing(lab, error)
    return raised is error, told, endings, trainer.state.status, trainer.state.stage, trainer.interrupted


@line(
    "2.13/KeyboardInterrupt",
    "the same, and SystemExit(1) at the end",
    (
        "SystemExit(1)",
        [("callback", "KeyboardInterrupt"), ("data", "KeyboardInterrupt")],
        ["failed"],
        "interrupted",
    ),
    ours=(
        "KeyboardInterrupt()",
        [("callback", "KeyboardInterrupt"), ("data", "KeyboardInterrupt")],
        ["failed"],
        "interrupted",
    ),
    differs="Ctrl-C in `fit`",
)
def _(lab):
    trainer, raised, told, endings = failing(lab, KeyboardInterrupt())
    return repr(raised), told, endings, trainer.state.status


@line("2.13/KeyboardInterrupt/said", "a line says so", Tells("Detected KeyboardInterrupt"))
def _(lab):
    failing(lab, KeyboardInterrupt())


@line("2.13/again", "after an interrupted run the Trainer runs again", (("finished", False), 3))
def _(lab):
    trainer, *_ = failing(lab, OSError())
    model = lab.model()
    trainer.fit(model, lab.loader(3))
    return (trainer.state.status, trainer.interrupted), len(model.noted("train"))


def terminate(lab, **hooks):
    """Return the Trainer of a fit that is told to end in its second batch, and what was raised."""

    def training_step(model, batch, batch_idx):
        model.note("train", batch_idx)
        if batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)
        return model.weight * 1

    trainer = lab.trainer()
    before = signal.getsignal(signal.SIGTERM)
    try:
        trainer.fit(lab.model(training_step=training_step, **hooks), lab.loader(3))
    except SystemExit as caught:
        return trainer, caught
    finally:
        signal.signal(signal.SIGTERM, before)
    return trainer, None


@line(
    "2.13/SIGTERM",
    "received_sigterm is set, and SIGTERMException raised after the batch at hand",
    ("SIGTERMException", True, "interrupted", ["0", "1"], 2),
)
def _(lab):
    trainer, raised = terminate(lab)
    notes = trainer.lightning_module.noted("train")
    return (
        type(raised).__name__, trainer.received_sigterm, trainer.state.status, notes, trainer.global_step,
    )  # fmt: skip


@line("2.13/SIGTERM/status", "the program's exit status", None, ours=143, differs="SIGTERM in `fit`")
def _(lab):
    _, raised = terminate(lab)
    return raised.code


@line(
    "2.13/SIGTERM/a batch's end",
    "its hook sees received_sigterm, and no closing hook runs",
    [True],
)
def _(lab):
    seen = []
    terminate(
        lab,
        on_train_batch_end=lambda model, *_: seen.extend([True] * model.trainer.received_sigterm),
        on_train_epoch_end=lambda _: seen.append("epoch"),
        on_train_end=lambda _: seen.append("end"),
    )
    return seen


waiting(
    5,
    ("2.13/SIGTERM/ranks", "rank 0's flag is everybody's"),
    ("2.13/children", "processes that were started are ended"),
)
waiting("an issue of its own", ("2.13/the tuner's exit", "ends a run with its teardown"))


# ---------------------------------------------------------------------- 2.14: attributes


@line(
    "2.14/before a run",
    "the values that there are",
    {
        "current_epoch": 0, "global_step": 0, "num_training_batches": math.inf, "num_val_batches": [],
        "num_test_batches": [], "num_predict_batches": [], "num_sanity_val_batches": [], "optimizers": [],
        "lr_scheduler_configs": [], "max_epochs": None, "min_epochs": None, "max_steps": -1,
        "min_steps": None,
        "train_dataloader": None, "val_dataloaders": None, "test_dataloaders": None,
        "predict_dataloaders": None,
        "is_last_batch": False, "world_size": 1, "global_rank": 0, "local_rank": 0, "node_rank": 0,
        "num_nodes": 1, "num_devices": 1, "device_ids": [0], "is_global_zero": True, "lightning_module": None,
        "model": None, "datamodule": None, "training": False, "validating": False, "testing": False,
        "predicting": False, "sanity_checking": False, "evaluating": False, "interrupted": False,
        "received_sigterm": False, "should_stop": False, "logged_metrics": {}, "callback_metrics": {},
        "progress_bar_metrics": {}, "ckpt_path": None, "enable_validation": ANYTHING, "scaler": None,
        "precision": "32-true", "logger": None, "loggers": [], "callbacks": [], "checkpoint_callback": None,
        "checkpoint_callbacks": [], "early_stopping_callback": None, "early_stopping_callbacks": [],
        "progress_bar_callback": None, "fast_dev_run": False, "limit_train_batches": 1.0,
        "limit_val_batches": 1.0, "limit_test_batches": 1.0, "limit_predict_batches": 1.0,
        "overfit_batches": 0.0, "num_sanity_val_steps": 2, "val_check_interval": 1.0,
        "check_val_every_n_epoch": 1, "log_every_n_steps": 50, "accumulate_grad_batches": 1,
        "gradient_clip_val": None, "gradient_clip_algorithm": None, "reload_dataloaders_every_n_epochs": 0,
        "barebones": False, "enable_autolog_hparams": True,
    },
)  # fmt: skip
def _(lab):
    trainer = lab.trainer(max_epochs=None, num_sanity_val_steps=None)
    names = """
        current_epoch global_step num_training_batches num_val_batches num_test_batches num_predict_batches
        num_sanity_val_batches optimizers lr_scheduler_configs max_epochs min_epochs max_steps min_steps
        train_dataloader val_dataloaders test_dataloaders predict_dataloaders is_last_batch world_size
        global_rank local_rank node_rank num_nodes num_devices device_ids is_global_zero lightning_module
        model
        datamodule training validating testing predicting sanity_checking evaluating interrupted
        received_sigterm should_stop logged_metrics callback_metrics progress_bar_metrics ckpt_path
        enable_validation scaler precision logger loggers callbacks checkpoint_callback checkpoint_callbacks
        early_stopping_callback early_stopping_callbacks progress_bar_callback fast_dev_run
        limit_train_batches limit_val_batches limit_test_batches limit_predict_batches overfit_batches
        num_sanity_val_steps val_check_interval check_val_every_n_epoch log_every_n_steps
        accumulate_grad_batches gradient_clip_val gradient_clip_algorithm reload_dataloaders_every_n_epochs
        barebones enable_autolog_hparams
    """
    return {name: getattr(trainer, name, "missing") for name in names.split()}


@line("2.14/val_check_batch", "training batches between two validations, once there is a loader", [3, 2])
def _(lab):
    return [lab.fit(train=5, val_check_interval=interval).val_check_batch for interval in (3, 0.5)]


@line("2.14/hardware", "objects", ("CPUAccelerator", "SingleDeviceStrategy", True, True))
def _(lab):
    trainer = lab.trainer()
    return (
        type(trainer.accelerator).__name__,
        type(trainer.strategy).__name__,
        trainer.precision_plugin is trainer.strategy.precision_plugin,
        hasattr(trainer, "profiler"),
    )


@lines(
    "2.14/log_dir",
    "the first logger's, else where it saves, else the root",
    {
        "TensorBoard": ({"logger": "TensorBoardLogger"}, "lightning_logs/version_0"),
        "CSV": ({"logger": "CSVLogger"}, "lightning_logs/version_0"),
        "none": ({"logger": None}, "."),
        "another": ({"logger": "saved"}, "saved"),
    },
)
def _(lab, logger):
    if logger == "saved":
        made = lab.logger()
        type(made).save_dir = str(lab.tmp / "saved")
    else:
        made = getattr(lab.loggers, logger)(lab.tmp) if logger else False
    return os.path.relpath(lab.trainer(logger=made).log_dir, lab.tmp)


@lines(
    "2.14/enable_validation",
    "a step, data, and a limit above 0",
    {
        "yes": ({}, True),
        "limit 0": ({"limit_val_batches": 0}, False),
        "no step": ({"step": False}, False),
    },
)
def _(lab, step=True, **arguments):
    seen = []
    note = {"on_train_start": lambda model: seen.append(model.trainer.enable_validation)}
    model = lab.model(**note) if step else minimal(lab, training_step=loss, configure_optimizers=sgd, **note)
    lab.fit(model, **arguments)
    return seen[0]


@line(
    "2.14/states",
    "(status, fn, stage, evaluating) in the hooks of fit and test",
    [
        ("running", "fit", "sanity_check", True), ("running", "fit", "train", False),
        ("running", "fit", "validate", True), ("running", "test", "test", True),
        ("running", "predict", "predict", False), ("finished", "predict", None, False),
    ],
)  # fmt: skip
def _(lab):
    seen = []

    def see(*_):
        state = trainer.state
        stage = None if state.stage is None else state.stage.value
        seen.append((state.status.value, state.fn.value, stage, trainer.evaluating))

    trainer = lab.trainer(num_sanity_val_steps=1)
    model = lab.model(on_validation_start=see, on_train_start=see, on_test_start=see, on_predict_start=see)
    trainer.fit(model, lab.loader(1), lab.loader(1))
    trainer.test(model, lab.loader(1), verbose=False)
    trainer.predict(model, lab.loader(1))
    see()
    return seen


@line("2.14/stage of setup", "equals the name of the method", [("setup", True), ("teardown", True)])
def _(lab):
    seen = []
    model = lab.model(
        setup=lambda model, stage: seen.append(("setup", stage == "validate")),
        teardown=lambda model, stage: seen.append(("teardown", stage == "validate")),
    )
    lab.run("validate", model)
    return seen


@line(
    "2.14/lr_scheduler_configs",
    "scheduler, name, interval, frequency, reduce_on_plateau, monitor, strict",
    ("StepLR", "mine", "step", 2, False, None, True),
)
def _(lab):
    def configure_optimizers(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return [optimizer], [{"scheduler": scheduler, "name": "mine", "interval": "step", "frequency": 2}]

    (config,) = lab.fit(lab.model(configure_optimizers=configure_optimizers)).lr_scheduler_configs
    return (
        type(config.scheduler).__name__, config.name, config.interval, config.frequency,
        config.reduce_on_plateau, config.monitor, config.strict,
    )  # fmt: skip


@line(
    "2.14/current_epoch",
    "is the old one in on_train_epoch_end, and the number of epochs after the fit",
    ([0, 1], 2),
)
def _(lab):
    seen = []
    trainer = lab.fit(
        lab.model(on_train_epoch_end=lambda model: seen.append(model.current_epoch)), max_epochs=2
    )
    return seen, trainer.current_epoch


@line("2.14/global_step", "counts each optimizer's steps", 6)
def _(lab):
    def training_step(model, batch):
        for optimizer in model.optimizers():
            optimizer.step()

    model = lab.model(
        configure_optimizers=lambda model: [sgd(model), sgd(model)], training_step=training_step
    )
    model.automatic_optimization = False
    return lab.fit(model).global_step


@line("2.14/is_last_batch", "in the hooks of the batches", [False, False, True])
def _(lab):
    seen = []
    lab.fit(lab.model(on_train_batch_end=lambda model, *_: seen.append(model.trainer.is_last_batch)))
    return seen


@line("2.14/settable", "should_stop, logger(s), the stages, ckpt_path", (True, True, 1, True, None))
def _(lab):
    trainer, logger = lab.trainer(), lab.logger()
    trainer.should_stop, trainer.logger = True, logger
    first = trainer.logger is logger
    trainer.loggers = [logger]
    trainer.testing = True
    testing = trainer.testing
    trainer.testing = False
    return trainer.should_stop, first, len(trainer.loggers), testing, trainer.state.stage


@line("2.14/loaders", "have the nesting in which they were given", (dict, list))
def _(lab):
    trainer = lab.fit(train={"a": lab.loader(2), "b": lab.loader(2)}, val=[lab.loader(1), lab.loader(1)])
    return type(trainer.train_dataloader), type(trainer.val_dataloaders)


# ---------------------------------------------------------------------- 2.15: loaders


@lines(
    "2.15/reload_dataloaders_every_n_epochs",
    "the hooks are called again after so many epochs, with 0 never",
    {
        "0": ({"every": 0}, ["train 0", "val 0"]),
        "1": ({"every": 1}, ["train 0", "val 0", "train 1", "val 1", "train 2", "val 2", "train 3", "val 3"]),
        "2": ({"every": 2}, ["train 0", "val 0", "train 2", "val 2"]),
    },
)
def _(lab, every):
    made = []

    def loads(name):
        def load(model):
            made.append(f"{name} {model.current_epoch}")
            return lab.loader(2)

        return load

    model = lab.model(train_dataloader=loads("train"), val_dataloader=loads("val"))
    lab.trainer(reload_dataloaders_every_n_epochs=every, max_epochs=4).fit(model)
    return made


@line("2.15/val loader that shuffles", "is warned of", Warns("PossibleUserWarning", "shuffl"))
def _(lab):
    lab.fit(val=DataLoader(torch.arange(4.0), shuffle=True))


@line(
    "2.15/few batches",
    "an epoch shorter than log_every_n_steps is warned of, with a logger",
    Warns("PossibleUserWarning", "log_every_n_steps"),
)
def _(lab):
    lab.fit(logger=lab.logger())


@line("2.15/few batches/no logger", "but not without", Silent("log_every_n_steps"))
def _(lab):
    lab.fit()


@line(
    "2.15/num_workers",
    "few workers are warned of",
    Warns("PossibleUserWarning", "does not have many workers"),
    ours=Silent("workers"),
    differs="`num_workers`",
)
def _(lab):
    affinity, os.sched_getaffinity = os.sched_getaffinity, lambda _: set(range(8))
    try:
        lab.fit(train=DataLoader(torch.arange(3.0), num_workers=0))
    finally:
        os.sched_getaffinity = affinity


@line(
    "2.15/persistent_workers",
    "so are workers that are started anew for each epoch",
    Warns("UserWarning", "persistent_workers=True"),
    ours=Silent("persistent_workers"),
    differs="`persistent_workers`",
)
def _(lab):
    def on_train_start(_):
        raise OSError  # before they are started

    loader = DataLoader(torch.arange(3.0), num_workers=1, multiprocessing_context="spawn")
    with contextlib.suppress(OSError):
        lab.fit(lab.model(on_train_start=on_train_start), train=loader)


@line("2.15/predict/drop_last", "predictions are made of all rows", [[0.0, 1.0], [2.0]])
def _(lab):
    return lab.run("predict", None, DataLoader(torch.arange(3.0), batch_size=2, drop_last=True))


waiting(
    5,
    (
        "2.15/DistributedSampler",
        "is put in for torch's samplers; training shuffles always, unless overfit_batches",
    ),
    ("2.15/own sampler", "is wrapped; a DistributedSampler and iterable data are left alone"),
    ("2.15/seed", "PL_GLOBAL_SEED or 0; set_epoch each epoch, on sampler and batch sampler"),
    ("2.15/evaluation", "shuffles only if the user's loader does; duplicates are warned of"),
    ("2.15/predict", "UnrepeatedDistributedSampler: no row twice"),
    ("2.15/subclasses of DataLoader", "are made again with the arguments they were made with"),
)
