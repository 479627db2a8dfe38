"""5.2: ModelCheckpoint."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import torch
from lines import ANYTHING, Raises, Says, Silent, Warns, line, lines, waiting

ME = "MisconfigurationException"


def scores(*values):
    """Return hooks of a module whose validation logs `v`, these values one after another."""
    left = list(values)

    def on_validation_epoch_end(model):
        model.log("v", left.pop(0))

    return {"on_validation_epoch_end": on_validation_epoch_end}


def saving(lab, *values, train=3, max_epochs=None, folder="c", **arguments):
    """Fit an epoch for each value with a ModelCheckpoint in folder c; return the callback.

    `trainer_`-arguments go to the Trainer.
    """
    for_trainer = {
        key.removeprefix("trainer_"): arguments.pop(key)
        for key in list(arguments)
        if key.startswith("trainer_")
    }
    if values:
        arguments.setdefault("monitor", "v")
    callback = lab.callbacks.ModelCheckpoint(lab.tmp / folder, **arguments)
    model = lab.model(**scores(*values)) if values else None
    lab.fit(model, callback, train=train, max_epochs=max_epochs or len(values) or 1, **for_trainer)
    return callback


@line("5.2/class attributes", "characters and names, to be changed by users", ("-", "=", "last", ".ckpt", 1))
def _(lab):
    cls = lab.callbacks.ModelCheckpoint
    return (
        cls.CHECKPOINT_JOIN_CHAR, cls.CHECKPOINT_EQUALS_CHAR, cls.CHECKPOINT_NAME_LAST, cls.FILE_EXTENSION,
        cls.STARTING_VERSION,
    )  # fmt: skip


@line("5.2/class attributes/changed", "the files have them", ["epoch:0_step:3.pt", "newest.pt"])
def _(lab):
    Mine = type(
        "Mine",
        (lab.callbacks.ModelCheckpoint,),
        {
            "CHECKPOINT_JOIN_CHAR": "_",
            "CHECKPOINT_EQUALS_CHAR": ":",
            "CHECKPOINT_NAME_LAST": "newest",
            "FILE_EXTENSION": ".pt",
        },
    )
    lab.fit(None, Mine(lab.tmp / "c", save_last=True))
    return lab.files("c")


@line(
    "5.2/attributes",
    "before a run",
    {
        "best_model_path": "", "best_model_score": None, "best_k_models": {}, "kth_best_model_path": "",
        "kth_value": ANYTHING, "current_score": None, "last_model_path": "", "monitor": None, "mode": "min",
        "save_top_k": 1, "save_last": None, "every_n_epochs": 1,
    },
)  # fmt: skip
def _(lab):
    callback = lab.callbacks.ModelCheckpoint()
    names = """
        best_model_path best_model_score best_k_models kth_best_model_path kth_value current_score
        last_model_path
        monitor mode save_top_k save_last every_n_epochs
    """
    return {name: getattr(callback, name) for name in names.split()}


@line(
    "5.2/attributes/after",
    "of a run with scores 3, 1, 2 and save_top_k=2",
    ("epoch=1-step=6.ckpt", 1.0, [1.0, 2.0], "epoch=2-step=9.ckpt", 2.0, 2.0),
)
def _(lab):
    callback = saving(lab, 3.0, 1.0, 2.0, save_top_k=2)
    return (
        os.path.basename(callback.best_model_path), callback.best_model_score.item(),
        sorted(score.item() for score in callback.best_k_models.values()),
        os.path.basename(callback.kth_best_model_path), callback.kth_value.item(),
        callback.current_score.item(),
    )  # fmt: skip


# ---------------------------------------------------------------------- where


@lines(
    "5.2/directory",
    "what is given; else below the first logger's version; else below the root",
    {
        "given": ({"dirpath": "given", "logger": False}, "given/epoch=0-step=3.ckpt"),
        "logger": (
            {"dirpath": None, "logger": True},
            "lightning_logs/version_0/checkpoints/epoch=0-step=3.ckpt",
        ),
        "named logger": ({"dirpath": None, "logger": "name"}, "mine/v7/checkpoints/epoch=0-step=3.ckpt"),
        "none": ({"dirpath": None, "logger": False}, "checkpoints/epoch=0-step=3.ckpt"),
    },
)
def _(lab, dirpath, logger):
    if logger:
        logger = lab.loggers.CSVLogger(
            lab.tmp, **({"name": "mine", "version": "v7"} if logger == "name" else {})
        )
    lab.fit(None, lab.callbacks.ModelCheckpoint(dirpath and lab.tmp / dirpath), logger=logger)
    return lab.files(pattern="*.ckpt")[0]


@line("5.2/directory/in setup", "is settled in setup", (None, True))
def _(lab):
    callback = lab.callbacks.ModelCheckpoint()
    before = callback.dirpath
    lab.fit(None, callback)
    return before, callback.dirpath == str(lab.tmp / "checkpoints")


@line(
    "5.2/directory/not empty", "a given folder that holds something is warned of", Warns("UserWarning", "c")
)
def _(lab):
    (lab.tmp / "c").mkdir()
    (lab.tmp / "c" / "x.ckpt").touch()
    saving(lab)


@line("5.2/default", "there is one even without a logger", ["checkpoints/epoch=0-step=3.ckpt"])
def _(lab):
    lab.fit(enable_checkpointing=True)
    return lab.files(pattern="*.ckpt")


# ---------------------------------------------------------------------- names


@lines(
    "5.2/names",
    "{name} is name=value, with its format; names are metrics, epoch and step; a missing one is 0",
    {
        "default": ({}, ["epoch=0-step=3.ckpt"]),
        "metric": ({"filename": "{v}"}, ["v=0.5.ckpt"]),
        "format": ({"filename": "{v:.2f}"}, ["v=0.50.ckpt"]),
        "several": ({"filename": "{epoch:02d}-{v:.1f}"}, ["epoch=00-v=0.5.ckpt"]),
        "text": ({"filename": "my-{epoch}-model"}, ["my-epoch=0-model.ckpt"]),
        "only text": ({"filename": "model"}, ["model.ckpt"]),
        "missing": ({"filename": "{nosuch}"}, ["nosuch=0.ckpt"]),
        "values only": (
            {"filename": "{epoch:02d}-{v:.2f}", "auto_insert_metric_name": False},
            ["00-0.50.ckpt"],
        ),
    },
)
def _(lab, **arguments):
    saving(lab, 0.5, **arguments)
    return lab.files("c")


@line("5.2/names/slash", "a / in a name makes a folder", ["val/v=0.50.ckpt"])
def _(lab):
    model = lab.model(validation_step=lambda model, batch, batch_idx: model.log("val/v", 0.5))
    lab.fit(model, lab.callbacks.ModelCheckpoint(lab.tmp / "c", filename="{val/v:.2f}"))
    return lab.files("c")


@line(
    "5.2/names/longest first",
    "a name that begins with another's is not mistaken for it",
    ["v=1-v_long=2.ckpt"],
)
def _(lab):
    def validation_step(model, batch, batch_idx):
        model.log("v", 1.0)
        model.log("v_long", 2.0)

    lab.fit(
        lab.model(validation_step=validation_step),
        lab.callbacks.ModelCheckpoint(lab.tmp / "c", filename="{v:.0f}-{v_long:.0f}"),
    )
    return lab.files("c")


@lines(
    "5.2/format_checkpoint_name",
    "(metrics, filename, version, prefix)",
    {
        "plain": ({}, "epoch=1-step=5.ckpt"),
        "version": ({"ver": 3}, "epoch=1-step=5-v3.ckpt"),
        "prefix": ({"prefix": "test"}, "test-epoch=1-step=5.ckpt"),
        "filename": ({"filename": "{v:.1f}"}, "v=0.2.ckpt"),
    },
)
def _(lab, **arguments):
    metrics = {"epoch": 1, "step": 5, "v": torch.tensor(0.25)}
    return lab.callbacks.ModelCheckpoint().format_checkpoint_name(metrics, **arguments)


@lines(
    "5.2/versions",
    "a name that is taken gets -v1, -v2; the one file that replaces itself does not",
    {
        "top 2": (
            {"values": [2.0, 1.0], "save_top_k": 2, "filename": "fixed"},
            ["fixed-v1.ckpt", "fixed.ckpt"],
        ),
        "top 1": ({"filename": "fixed", "max_epochs": 2}, ["fixed.ckpt"]),
        "all, no monitor": ({"filename": "fixed", "max_epochs": 2, "save_top_k": -1}, ["fixed.ckpt"]),
        "no counter": (
            {"values": [2.0, 1.0], "save_top_k": 2, "filename": "fixed", "enable_version_counter": False},
            ["fixed.ckpt"],
        ),
    },
)
def _(lab, values=(), **arguments):
    saving(lab, *values, **arguments)
    return lab.files("c")


@line(
    "5.2/versions/another run",
    "a file of another run is not overwritten",
    ["epoch=0-step=3-v1.ckpt", "epoch=0-step=3.ckpt"],
)
def _(lab):
    saving(lab)
    saving(lab)
    return lab.files("c")


# ---------------------------------------------------------------------- which


@lines(
    "5.2/monitor=None",
    "keeps the newest, all, or none",
    {
        "1": ({"save_top_k": 1}, ["epoch=2-step=9.ckpt"]),
        "-1": ({"save_top_k": -1}, ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt", "epoch=2-step=9.ckpt"]),
        "0": ({"save_top_k": 0}, []),
        "2": ({"save_top_k": 2}, Raises(ME, "save_top_k")),
        "-2": ({"save_top_k": -2}, Raises(ME, "save_top_k")),
    },
)
def _(lab, **arguments):
    saving(lab, max_epochs=3, **arguments)
    return lab.files("c")


@lines(
    "5.2/monitor",
    "keeps the k best by mode; a tie does not replace; NaN is worst",
    {
        "min": ({"values": [2.0, 1.0, 3.0]}, [1]),
        "max": ({"values": [2.0, 1.0, 3.0], "mode": "max"}, [2]),
        "2": ({"values": [2.0, 1.0, 3.0], "save_top_k": 2}, [0, 1]),
        "-1": ({"values": [2.0, 1.0, 3.0], "save_top_k": -1}, [0, 1, 2]),
        "tie": ({"values": [1.0, 1.0, 1.0]}, [0]),
        "nan first": ({"values": [float("nan"), 5.0]}, [1]),
        "nan later": ({"values": [5.0, float("nan")]}, [0]),
        "mode": ({"values": [1.0], "mode": "best"}, Raises(ME, "mode")),
    },
)
def _(lab, values, **arguments):
    saving(lab, *values, **arguments)
    return [int(name.split("=")[1].split("-")[0]) for name in lab.files("c")]


@lines(
    "5.2/monitor/step and epoch",
    "may be monitored, too",
    {
        "step": ({"monitor": "step", "mode": "max"}, ["epoch=2-step=9.ckpt"]),
        "epoch": ({"monitor": "epoch", "mode": "min"}, ["epoch=0-step=3.ckpt"]),
    },
)
def _(lab, **arguments):
    saving(lab, max_epochs=3, **arguments)
    return lab.files("c")


@line(
    "5.2/monitor/missing",
    "after a validation it is refused, with the names there are",
    Raises(ME, "nosuch.*v"),
)
def _(lab):
    saving(lab, 1.0, monitor="nosuch")


@line(
    "5.2/monitor/missing before any validation",
    "is warned of, and nothing saved",
    Warns("UserWarning", "nosuch", gives=[]),
)
def _(lab):
    saving(lab, monitor="nosuch", trainer_limit_val_batches=0)
    return lab.files("c")


# ---------------------------------------------------------------------- when


@lines(
    "5.2/triggers",
    "one of three; steps and epochs from 0",
    {
        "steps and epochs": ({"every_n_train_steps": 1, "every_n_epochs": 1}, Raises(ME, "every_n")),
        "steps and time": (
            {"every_n_train_steps": 1, "train_time_interval": timedelta(seconds=1)},
            Raises(ME, "every_n_train_steps"),
        ),
        "epochs and time": (
            {"every_n_epochs": 1, "train_time_interval": timedelta(seconds=1)},
            Raises(ME, "every_n_epochs"),
        ),
        "negative steps": ({"every_n_train_steps": -1}, Raises(ME, "every_n_train_steps")),
        "negative epochs": ({"every_n_epochs": -1}, Raises(ME, "every_n_epochs")),
        "epochs": ({"every_n_epochs": 2}, ["epoch=1-step=6.ckpt", "epoch=3-step=12.ckpt"]),
        "steps": ({"every_n_train_steps": 5}, ["epoch=1-step=5.ckpt", "epoch=3-step=10.ckpt"]),
        "neither": ({"every_n_epochs": 0, "every_n_train_steps": 0}, []),
        "no time": (
            {"train_time_interval": timedelta(0), "trainer_limit_train_batches": 1},
            ["epoch=0-step=1.ckpt", "epoch=1-step=2.ckpt", "epoch=2-step=3.ckpt", "epoch=3-step=4.ckpt"],
        ),
        "a long time": ({"train_time_interval": timedelta(hours=1)}, []),
    },
)
def _(lab, **arguments):
    saving(lab, max_epochs=4, save_top_k=-1, **arguments)
    return lab.files("c")


def moments(lab, **arguments):
    """Return the last note of the module (a batch, a validation, an epoch's end) at each checkpoint."""
    seen = []
    for_trainer = {
        key.removeprefix("trainer_"): arguments.pop(key)
        for key in list(arguments)
        if key.startswith("trainer_")
    }
    model = lab.model(on_save_checkpoint=lambda model, checkpoint: seen.append(model.notes[-1]))
    lab.fit(
        model, lab.callbacks.ModelCheckpoint(lab.tmp / "c", save_top_k=-1, **arguments), val=1, **for_trainer
    )
    return seen


@lines(
    "5.2/save point",
    "the epoch's end if validation runs there each time; else the validation's end; or as told",
    {
        "default": ({}, ["end 0"]),
        "no validation": ({"trainer_limit_val_batches": 0}, ["end 0"]),
        "within the epoch": ({"trainer_val_check_interval": 2}, ["val 0.0"]),
        "every second epoch": ({"trainer_check_val_every_n_epoch": 2, "trainer_max_epochs": 2}, ["val 1.0"]),
        "True": ({"save_on_train_epoch_end": True, "trainer_val_check_interval": 2}, ["end 0"]),
        "False": ({"save_on_train_epoch_end": False}, ["val 0.0"]),
        "by time": ({"trainer_val_check_interval": timedelta(0)}, ["val 0.0"] * 3),
    },
)
def _(lab, **arguments):
    return moments(lab, **arguments)


@line(
    "5.2/save point/steps", "right after the batch, before a validation due there", ["train 0.1", "train 0.2"]
)
def _(lab):
    return moments(lab, every_n_train_steps=1, trainer_val_check_interval=2)[1:]


WAITS = "`every_n_train_steps` with a `monitor` that validation logs"


@line(
    "5.2/save point/steps with a monitor",
    "scores with the validation that there was; only without one it waits for the next",
    [("val 0.0", 1.0), ("train 0.7", 1.0), ("val 0.0", 3.0)],
    ours=[("val 0.0", 1.0), ("val 0.0", 2.0), ("val 0.0", 3.0)],
    differs=WAITS,
)
def _(lab):
    seen = []

    def on_save_checkpoint(model, checkpoint):
        state = next(state for key, state in checkpoint["callbacks"].items() if "ModelCheckpoint" in key)
        seen.append((model.notes[-1], float(state["current_score"])))

    model = lab.model(on_save_checkpoint=on_save_checkpoint, **scores(1.0, 2.0, 3.0, 4.0))
    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c", monitor="v", save_top_k=-1, every_n_train_steps=4)
    lab.fit(model, callback, train=12, val=1, val_check_interval=4)
    return seen


@lines(
    "5.2/nothing is saved",
    "in a dev run, while validating alone, or at a step that was saved",
    {"fast_dev_run": ({"fast_dev_run": True}, []), "same step": ({"max_epochs": 0}, [])},
)
def _(lab, **arguments):
    lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c"), **arguments)
    return lab.files("c")


@line(
    "5.2/nothing is saved/twice at one step",
    "an epoch without steps saves nothing new",
    ["epoch=0-step=3.ckpt"],
)
def _(lab):
    model = lab.model(
        on_train_batch_start=lambda model, batch, batch_idx: -1 if model.current_epoch else None
    )
    lab.fit(model, lab.callbacks.ModelCheckpoint(lab.tmp / "c", save_top_k=-1), max_epochs=3)
    return lab.files("c")


# ---------------------------------------------------------------------- last


@lines(
    "5.2/save_last",
    "None and False: none; True and link: last.ckpt of each save",
    {
        "None": ({"save_last": None}, ["epoch=1-step=6.ckpt"]),
        "False": ({"save_last": False}, ["epoch=1-step=6.ckpt"]),
        "True": ({"save_last": True}, ["epoch=1-step=6.ckpt", "last.ckpt"]),
        "link": ({"save_last": "link"}, ["epoch=1-step=6.ckpt", "last.ckpt"]),
        "only last": ({"save_last": True, "save_top_k": 0}, ["last.ckpt"]),
    },
)
def _(lab, **arguments):
    saving(lab, max_epochs=2, **arguments)
    return lab.files("c")


@line("5.2/save_last/content", "is that of the newest checkpoint", 6)
def _(lab):
    saving(lab, max_epochs=2, save_last=True)
    return torch.load(lab.tmp / "c" / "last.ckpt", weights_only=False)["global_step"]


@line("5.2/save_last=True/form", "a file of its own", False, ours=True, differs="`save_last=True`")
def _(lab):
    saving(lab, max_epochs=2, save_last=True)
    return (lab.tmp / "c" / "last.ckpt").is_symlink()


@line("5.2/save_last=link/form", "a relative link", "epoch=1-step=6.ckpt")
def _(lab):
    saving(lab, max_epochs=2, save_last="link")
    return os.readlink(lab.tmp / "c" / "last.ckpt")


@line("5.2/save_last/not among the best", "what is not kept does not become the last", 3)
def _(lab):
    saving(lab, 1.0, 2.0, save_last=True)
    return torch.load(lab.tmp / "c" / "last.ckpt", weights_only=False)["global_step"]


@line(
    "5.2/save_last/of another run",
    "is not overwritten: last-v1",
    ["epoch=0-step=3-v1.ckpt", "epoch=0-step=3.ckpt", "last-v1.ckpt", "last.ckpt"],
)
def _(lab):
    saving(lab, save_last=True)
    saving(lab, save_last=True)
    return lab.files("c")


@line(
    "5.2/save_last/template",
    "CHECKPOINT_NAME_LAST may hold names",
    ["epoch=1-last.ckpt", "epoch=1-step=6.ckpt"],
)
def _(lab):
    Mine = type("Mine", (lab.callbacks.ModelCheckpoint,), {"CHECKPOINT_NAME_LAST": "{epoch}-last"})
    lab.fit(None, Mine(lab.tmp / "c", save_last=True), max_epochs=2)
    return lab.files("c")


@line("5.2/save_last=link/URL", "a link needs a local folder", Raises("ValueError", "link"))
def _(lab):
    callback = lab.callbacks.ModelCheckpoint("memory://c", save_last="link")
    lab.fit(None, callback)


@line("5.2/last_model_path", "is there", "last.ckpt")
def _(lab):
    return os.path.basename(saving(lab, save_last=True).last_model_path)


# ---------------------------------------------------------------------- the rest


@line(
    "5.2/save_weights_only",
    "neither optimizers nor callbacks",
    {"epoch", "global_step", "loops", "pytorch-lightning_version", "state_dict"},
)
def _(lab):
    path = saving(lab, save_weights_only=True).best_model_path
    return set(torch.load(path, weights_only=False)) - {"levin", "levin_version"}


def failing_fit(lab, error, **arguments):
    def fail(model, *_):
        if model.trainer.global_step == 2:
            raise error

    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c", save_on_exception=True, **arguments)
    trainer = lab.trainer(callback)
    try:
        trainer.fit(lab.model(on_train_batch_start=fail), lab.loader(5))
    except BaseException as raised:
        assert raised is error or isinstance(raised, SystemExit)  # noqa: PT017
    return lab.files("c")


@lines(
    "5.2/save_on_exception",
    "writes a file, whatever was raised, and last.ckpt if there is one",
    {
        "exception": ({"error": OSError()}, ["epoch=0-step=2.ckpt"]),
        "KeyboardInterrupt": ({"error": KeyboardInterrupt()}, ["epoch=0-step=2.ckpt"]),
        "last": ({"error": OSError(), "save_last": True}, ["epoch=0-step=2.ckpt", "last.ckpt"]),
    },
)
def _(lab, error, **arguments):
    return failing_fit(lab, error, **arguments)


@line("5.2/deletion/outside", "files outside of the folder are never removed", True)
def _(lab):
    callback = saving(lab, 3.0)
    elsewhere = lab.tmp / "elsewhere"
    resumed = lab.callbacks.ModelCheckpoint(elsewhere, monitor="v")
    model = lab.model(**scores(2.0, 1.0))
    lab.fit(model, resumed, ckpt_path=callback.best_model_path, max_epochs=2)
    return os.path.exists(callback.best_model_path)


@line(
    "5.2/deletion/resumed from",
    "the checkpoint that the fit went on from stays",
    ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt"],
)
def _(lab):
    path = saving(lab, 3.0).best_model_path
    callback = lab.callbacks.ModelCheckpoint(lab.tmp / "c", monitor="v")
    lab.fit(lab.model(**scores(2.0)), callback, ckpt_path=path, max_epochs=2)
    return lab.files("c")


@line(
    "5.2/state",
    "what a checkpoint holds of it",
    {
        "monitor", "best_model_score", "best_model_path", "current_score", "dirpath", "best_k_models",
        "kth_best_model_path", "kth_value", "last_model_path",
    },
)  # fmt: skip
def _(lab):
    return set(lab.callbacks.ModelCheckpoint().state_dict())


@line(
    "5.2/state_key",
    "tells callbacks apart by what they watch and when they save",
    "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
    "'train_time_interval': None}",
)
def _(lab):
    return lab.callbacks.ModelCheckpoint().state_key


@line("5.2/several", "two with different settings", ["a.ckpt", "b.ckpt"])
def _(lab):
    ModelCheckpoint = lab.callbacks.ModelCheckpoint
    lab.fit(
        None,
        ModelCheckpoint(lab.tmp / "c", filename="a"),
        ModelCheckpoint(lab.tmp / "c", filename="b", every_n_epochs=2),
        max_epochs=2,
    )
    return lab.files("c")


@lines(
    "5.2/load_state_dict",
    "in the same folder scores and paths come back; in another only the best path, with a warning",
    {
        "same": ({"folder": "c"}, (1.0, True, 1, "last.ckpt")),
        "another": ({"folder": "d"}, Warns("UserWarning", "", gives=(None, True, 0, ""))),
    },
)
def _(lab, folder):
    first = saving(lab, 1.0, save_last=True)
    ModelCheckpoint = lab.callbacks.ModelCheckpoint
    second = ModelCheckpoint(lab.tmp / folder, monitor="v", save_last=True)
    second.load_state_dict(first.state_dict())
    score = second.best_model_score
    return (
        None if score is None else float(score),
        second.best_model_path == first.best_model_path,
        len(second.best_k_models),
        os.path.basename(second.last_model_path),
    )


@line(
    "5.2/after_save_checkpoint",
    "each logger is told of each checkpoint",
    ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt"],
)
def _(lab):
    seen = []
    logger = lab.logger()
    type(logger).after_save_checkpoint = lambda self, callback: seen.append(
        os.path.basename(callback.best_model_path)
    )
    lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c"), logger=logger, max_epochs=2)
    return seen


@line("5.2/to_yaml", "writes best_k_models", ["epoch=0-step=3.ckpt"])
def _(lab):
    import yaml

    callback = saving(lab, 1.0)
    callback.to_yaml(lab.tmp / "best.yaml")
    return [os.path.basename(path) for path in yaml.safe_load((lab.tmp / "best.yaml").read_text())]


@line(
    "5.2/resumed",
    "the step that it went on from is not saved again",
    ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt"],
)
def _(lab):
    path = saving(lab, save_top_k=-1).best_model_path
    lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c", save_top_k=-1), ckpt_path=path, max_epochs=2)
    return lab.files("c")


@line(
    "5.2/manual optimization",
    "with every_n_train_steps a warning says that the weights are those after the step",
    Says("manual optimization"),
    ours=Silent("manual optimization"),
    differs="`ModelCheckpoint(every_n_train_steps=...)` in manual optimization",
)
def _(lab):
    def training_step(model, batch):
        model.optimizers().step()

    model = lab.model(training_step=training_step)
    model.automatic_optimization = False
    lab.fit(model, lab.callbacks.ModelCheckpoint(lab.tmp / "c", every_n_train_steps=1))


@line("5.2/file_exists", "asks the Trainer's processes together", (True, False))
def _(lab):
    callback = saving(lab)
    trainer = lab.trainer()
    return callback.file_exists(callback.best_model_path, trainer), callback.file_exists("no/such", trainer)


@line("5.2/mtime", "a checkpoint that is replaced by itself is new", True)
def _(lab):
    before = time.time() - 1
    return os.path.getmtime(saving(lab, filename="fixed", max_epochs=2).best_model_path) > before


waiting(
    5,
    ("5.2/train_time_interval/ranks", "rank 0 decides"),
    ("5.2/directory/ranks", "rank 0's folder is everybody's"),
)
