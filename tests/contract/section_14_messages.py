"""14: where files go, and the messages that programs and people look for."""

from __future__ import annotations

import torch
from lines import Tells, Warns, line, lines, waiting

# ---------------------------------------------------------------------- places


@line("14/default_root_dir", "the current folder", True)
def _(lab):
    return lab.L.Trainer(accelerator="cpu", logger=False).default_root_dir == str(lab.tmp)


@lines(
    "14/loggers",
    "below lightning_logs/version_N, counting on",
    {
        "TensorBoard": ({"kind": "TensorBoardLogger"}, ["version_0", "version_1"]),
        "CSV": ({"kind": "CSVLogger"}, ["version_0", "version_1"]),
    },
)
def _(lab, kind):
    for _ in range(2):
        lab.fit(
            lab.model(validation_step=lambda model, batch, batch_idx: model.log("v", 1.0)),
            logger=getattr(lab.loggers, kind)(lab.tmp),
        )
    return sorted(path.name for path in (lab.tmp / "lightning_logs").iterdir())


@lines(
    "14/checkpoints",
    "below the logger's folder, or below the root",
    {
        "with a logger": ({"logger": True}, ["lightning_logs/version_0/checkpoints/epoch=0-step=3.ckpt"]),
        "without": ({"logger": False}, ["checkpoints/epoch=0-step=3.ckpt"]),
    },
)
def _(lab, logger):
    trainer = lab.L.Trainer(
        accelerator="cpu", max_epochs=1, logger=logger, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(lab.model(), lab.loader(3), lab.loader(2))
    return lab.files(pattern="*.ckpt")


@line("14/fast_dev_run", "writes nothing", [])
def _(lab):
    trainer = lab.L.Trainer(
        accelerator="cpu", fast_dev_run=True, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(lab.model(), lab.loader(3), lab.loader(2))
    return lab.files()


@lines(
    "14/profiler",
    "a file only if it has a name: <kind of run>-<name>.txt below dirpath or the log folder",
    {
        "named": ({"filename": "times"}, ["fit-times.txt"]),
        "dirpath": ({"filename": "times", "dirpath": "p"}, ["p/fit-times.txt"]),
        "none": ({}, []),
    },
)
def _(lab, **arguments):
    lab.fit(profiler=lab.part("profilers").SimpleProfiler(**arguments))
    return lab.files(pattern="*.txt")


@line("14/on exception", "<dirpath>/on_exception.ckpt", ["c/on_exception.ckpt"])
def _(lab):
    def fail(*_):
        raise OSError

    try:
        lab.fit(lab.model(on_train_epoch_end=fail), lab.callbacks.OnExceptionCheckpoint(lab.tmp / "c"))
    except OSError:
        return lab.files(pattern="*.ckpt")


# ---------------------------------------------------------------------- lines of the log


@lines(
    "14/lines",
    "told on rank 0",
    {
        "max_epochs": (
            {"max_epochs": 1},
            Tells(
                "^`Trainer.fit` stopped: `max_epochs=1` reached.$|\n`Trainer.fit` stopped: "
                "`max_epochs=1` reached."
            ),
        ),
        "max_steps": ({"max_steps": 2}, Tells("`Trainer.fit` stopped: `max_steps=2` reached.")),
        "no batches": ({"train": []}, Tells("`Trainer.fit` stopped: No training batches.")),
        "limit": ({"limit_train_batches": 1.0}, Tells(r"`Trainer\(limit_train_batches=1.0\)` was")),
        "dev run": (
            {"fast_dev_run": 2},
            Tells(
                r"Running in `fast_dev_run` mode: will run the requested loop using 2 batch\(es\)\. "
                r"Logging and checkpointing is suppressed"
            ),
        ),
        "GPU": ({}, Tells("GPU available: (True|False)")),
    },
)
def _(lab, **arguments):
    lab.fit(**arguments)


@line("14/lines/seed", "is told", Tells("^Seed set to 42$"))
def _(lab):
    lab.L.seed_everything(42)


@line(
    "14/lines/restoring",
    "a fit that goes on says from where",
    Tells("Restoring states from the checkpoint path at .*x.ckpt"),
)
def _(lab):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    lab.fit(ckpt_path=lab.tmp / "x.ckpt", max_epochs=2)


@lines(
    "14/lines/loaded",
    "an evaluation says whose weights it has",
    {
        name: ({"name": name}, Tells("Loaded model weights from the checkpoint at .*x.ckpt"))
        for name in ("validate", "test", "predict")
    },
)
def _(lab, name):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    getattr(lab.trainer(), name)(lab.model(), lab.loader(1), ckpt_path=lab.tmp / "x.ckpt")


@line("14/lines/EarlyStopping", "verbose: Metric ... improved", Tells("Metric v improved"))
def _(lab):
    model = lab.model(on_validation_epoch_end=lambda model: model.log("v", 1.0))
    lab.fit(model, lab.callbacks.EarlyStopping("v", verbose=True))


# ---------------------------------------------------------------------- kinds of warnings


@lines(
    "14/warnings",
    "PossibleUserWarning for guesses, UserWarning for settings",
    {
        "shuffled validation": (
            {"val": torch.utils.data.DataLoader(torch.arange(2.0), shuffle=True)},
            Warns("PossibleUserWarning", "shuffl"),
        ),
        "log interval": ({"logger": True}, Warns("PossibleUserWarning", "log_every_n_steps")),
        "no validation data": ({"val": None}, Warns("PossibleUserWarning", "validation_step")),
    },
)
def _(lab, logger=False, **arguments):
    lab.fit(logger=lab.logger() if logger else False, **arguments)


@line(
    "14/deprecation",
    "rank_zero_deprecation warns with a DeprecationWarning of the framework's",
    ["DeprecationWarning"],
)
def _(lab):
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lab.part("utilities").rank_zero_deprecation("old")
    return [
        base.__name__ for warning in caught for base in warning.category.__mro__ if base is DeprecationWarning
    ]


@line("14/what test returns", "a dict for each loader", [{"test_acc": 0.5}])
def _(lab):
    return lab.run("test", lab.model(test_step=lambda model, batch, batch_idx: model.log("test_acc", 0.5)), 1)


waiting(6, ("14/hpc checkpoints", "<root>/hpc_ckpt_<k>.ckpt, from 1"))
waiting(7, ("14/command line's configuration", "<log_dir>/config.yaml"))
waiting(
    "an issue of its own",
    ("14/lr_find", "<root>/.lr_find_<uuid>.ckpt, removed afterwards"),
    ("14/batch size", "<root>/.scale_batch_size_<uuid>.ckpt, removed afterwards"),
    ("14/spikes", "skip_batches.json"),
)
