"""3.1 to 3.3: the order of the hooks, and what they are given.

CB are callbacks, M the module, DM the data module, S the strategy; "CB/M.x" is the callbacks' x and then the
module's.
"""

from __future__ import annotations

import signal

import torch
from lab import between
from lines import ANYTHING, Raises, line, lines, waiting
from torch import nn
from torch.utils.data import DataLoader

ME = "MisconfigurationException"
OWNERS = {"callback": "CB", "module": "M", "datamodule": "DM", "logger": "logger", "data": "data"}
FIT = "fit_with_validation_accumulating_two"


def short(calls, *owners):
    """Return the calls of these owners (CB, M, DM unless told otherwise) in the contract's words."""
    wanted = owners or ("CB", "M", "DM")
    names = [call.split()[0].partition(".") for call in calls]
    words = [f"{OWNERS.get(owner, owner)}.{hook}" for owner, _, hook in names]
    words = [word for word in words if word.split(".")[0] in wanted]
    joined = []
    for word in words:
        owner, _, hook = word.partition(".")
        if owner == "M" and joined and joined[-1] == f"CB.{hook}":
            joined[-1] = f"CB/M.{hook}"
        else:
            joined.append(word)
    return joined


TRANSFER = ["DM.on_before_batch_transfer", "DM.transfer_batch_to_device", "DM.on_after_batch_transfer"]
ZERO_GRAD = ["CB/M.on_before_zero_grad", "M.optimizer_zero_grad"]
BACKWARD = ["CB/M.on_before_backward", "M.backward", "CB/M.on_after_backward"]
CLIP = ["CB/M.on_before_optimizer_step", "M.configure_gradient_clipping", "M.clip_gradients"]


def evaluation(word, batches=2):
    """Return the hooks of an evaluation, from its loader's iteration to its end."""
    batch = [*TRANSFER, f"CB/M.on_{word}_batch_start", f"M.{word}_step", f"CB/M.on_{word}_batch_end"]
    return [
        f"M.on_{word}_model_eval",
        f"CB/M.on_{word}_start",
        f"CB/M.on_{word}_epoch_start",
        *batch * batches,
        f"CB/M.on_{word}_epoch_end",
        f"CB/M.on_{word}_end",
        *([f"M.on_{word}_model_train"] if word != "predict" else []),
    ]


# ---------------------------------------------------------------------- 3.1: fit, row by row


@lines(
    "3.1",
    "3 training batches, accumulating 2, 2 validation batches, a data module, the default ModelCheckpoint",
    {
        "1-8 set up": (
            {"first": "module.configure_callbacks", "last": "module.zero_grad"},
            [
                "M.configure_callbacks", "DM.prepare_data", "M.prepare_data", "DM.setup", "CB/M.setup",
                "M.configure_model", "M.configure_optimizers", "CB/M.on_fit_start", "M.zero_grad",
            ],
        ),
        "11 sanity check": (
            {"first": "callback.on_sanity_check_start", "last": "callback.on_sanity_check_end"},
            ["CB.on_sanity_check_start", "DM.val_dataloader", *evaluation("validation"),
            "CB.on_sanity_check_end"],
        ),
        "12 start": (
            {"first": "datamodule.train_dataloader", "last": "module.on_train_start"},
            ["DM.train_dataloader", "CB/M.on_train_start"],
        ),
        "13 epoch": (
            {"first": "callback.on_train_epoch_start", "last": "module.on_train_epoch_start"},
            ["CB/M.on_train_epoch_start"],
        ),
        "14 accumulating batch": (
            {"first": "data.train[0,1]", "last": "module.on_train_batch_end"},
            [
                *TRANSFER, "CB/M.on_train_batch_start", "M.training_step", *ZERO_GRAD, *BACKWARD,
                "CB/M.on_train_batch_end",
            ],
        ),
        "15 stepping batch": (
            {"first": "data.train[2,3]", "last": "module.on_train_batch_end"},
            [
                *TRANSFER, "CB/M.on_train_batch_start", "M.optimizer_step", "M.training_step", *BACKWARD,
                *CLIP,
                "CB/M.on_train_batch_end",
            ],
        ),
        "15 last batch": (
            {"first": "data.train[4,5]", "last": "module.on_train_batch_end"},
            [
                *TRANSFER, "CB/M.on_train_batch_start", "M.optimizer_step", "M.training_step", *ZERO_GRAD,
                *BACKWARD,
                *CLIP, "M.lr_scheduler_step", "CB/M.on_train_batch_end",
            ],
        ),
        "16 validation": (
            {"first": "module.on_validation_model_zero_grad", "last": "module.on_validation_model_train"},
            ["M.on_validation_model_zero_grad", "M.zero_grad", *evaluation("validation")],
        ),
        "18 end of the epoch": (
            {"first": "callback.on_train_epoch_end", "last": "module.on_save_checkpoint"},
            [
                "CB/M.on_train_epoch_end", "M.state_dict", "CB.state_dict", "DM.state_dict",
                "CB/M.on_save_checkpoint",
            ],
        ),
        "19 end": (
            {"first": "callback.on_train_end", "last": "module.teardown"},
            ["CB/M.on_train_end", "CB/M.on_fit_end", "DM.teardown", "CB/M.teardown"],
        ),
    },
)  # fmt: skip
def _(lab, first, last):
    return short(between(lab.trace(FIT), first, last))


@lines(
    "3.1/order",
    "loggers and loaders among the hooks",
    {
        "8 graph": (
            {"first": "module.on_fit_start", "last": "module.zero_grad", "owners": ["logger"]},
            ["logger.log_graph", "logger.save"],
        ),
        "11 validation loader": (
            {"first": "callback.on_sanity_check_start", "last": "module.on_validation_model_eval",
            "owners": ["DM", "data"]},
            ["DM.val_dataloader", "data.val.iter"],
        ),
        "12 training loader": (
            {"first": "callback.on_sanity_check_end", "last": "callback.on_train_start", "owners": ["DM",
            "data"]},
            ["DM.train_dataloader", "data.train.iter"],
        ),
        "15 step row": (
            {"first": "callback.on_before_optimizer_step", "last": "data.train[4,5]", "owners": ["CB",
            "logger"]},
            ["CB.on_before_optimizer_step", "CB.on_train_batch_end", "logger.log_metrics", "logger.save"],
        ),
        "16 validation row": (
            {"first": "module.on_validation_epoch_end", "last": "callback.on_train_epoch_end",
            "owners": ["CB", "logger"], "nth": 1},
            ["logger.log_metrics", "logger.save", "CB.on_validation_end", "CB.on_train_epoch_end"],
        ),
        "19 loggers": (
            {"first": "callback.teardown", "last": "logger.finalize", "owners": ["CB", "logger"]},
            ["CB.teardown", "logger.finalize"],
        ),
    },
)  # fmt: skip
def _(lab, first, last, owners, nth=0):
    return short(between(lab.trace(FIT), first, last, nth=nth), *owners)


@line(
    "3.1/order/18 epoch row",
    "comes after the hooks of the epoch's end, and after the checkpoint that is written there",
    [
        "CB.state_dict", "CB.on_save_checkpoint", "logger.after_save_checkpoint",
        "logger.log_metrics", "logger.save", "CB.on_train_epoch_start",
    ],
    differs="when a checkpoint is written",
    ours=[
        "logger.log_metrics", "logger.save",
        "CB.state_dict", "CB.on_save_checkpoint", "logger.after_save_checkpoint", "CB.on_train_epoch_start",
    ],
)  # fmt: skip
def _(lab):
    calls = between(lab.trace(FIT), "module.on_train_epoch_end", "callback.on_train_epoch_start")
    return short(calls, "CB", "logger")


@line("3.1/1 configure_callbacks, 4 logger", "the loggers' folders are there before setup", [True])
def _(lab):
    seen = []
    logger = lab.loggers.CSVLogger(lab.tmp)
    lab.fit(
        lab.model(setup=lambda model, stage: seen.append((lab.tmp / "lightning_logs").exists())),
        logger=logger,
    )
    return seen


@lines(
    "3.1/3 prepare_data",
    "is called only where it is defined; so is configure_model (row 5)",
    {"prepare_data": ({"name": "prepare_data"}, 1), "configure_model": ({"name": "configure_model"}, 1)},
)
def _(lab, name):
    calls = []
    lab.fit(lab.model(**{name: lambda _: calls.append(name)}))
    lab.fit()
    return len(calls)


@lines(
    "3.1/5 configure_model",
    "is called in every kind of run",
    {name: ({"name": name}, [name]) for name in ("fit", "validate", "test", "predict")},
)
def _(lab, name):
    seen = []
    model = lab.model(configure_model=lambda model: seen.append(str(model.trainer.state.fn.value)))
    getattr(lab.trainer(), name)(model, lab.loader(1))
    return seen


@line("3.1/5 configure_model/precision", "layers made there have the run's precision", torch.float64)
def _(lab):
    def configure_model(model):
        model.layer = nn.Linear(1, 1)

    return lab.fit(
        lab.model(configure_model=configure_model), precision="64-true"
    ).lightning_module.layer.weight.dtype


@line(
    "3.1/6 resumed",
    "the checkpoint comes back before the optimizers are made",
    [
        "M.on_load_checkpoint", "M.load_state_dict", "DM.load_state_dict", "CB.on_load_checkpoint",
        "CB.load_state_dict", "M.configure_optimizers", "CB/M.on_fit_start",
    ],
)  # fmt: skip
def _(lab):
    return short(
        between(lab.trace("resume_after_an_epoch"), "module.on_load_checkpoint", "module.on_fit_start")
    )


@line(
    "3.1/9 resumed counters",
    "(epoch, step): on_fit_start has zeros, the sanity check the restored steps",
    [(0, 0), (ANYTHING, 3), (1, 3)],
)
def _(lab):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")
    seen = []

    def see(model):
        seen.append((model.current_epoch, model.global_step))

    model = lab.model(on_fit_start=see, on_validation_start=see, on_train_start=see)
    lab.fit(
        model, ckpt_path=lab.tmp / "x.ckpt", max_epochs=2, num_sanity_val_steps=1, check_val_every_n_epoch=3
    )
    return seen


@line(
    "3.1/16 mid-accumulation",
    "gradients that wait for more batches are left alone by a validation",
    [False, True],
)
def _(lab):
    seen = []
    model = lab.model(on_validation_model_zero_grad=lambda model: seen.append(model.notes[-1]))
    lab.fit(model, train=4, accumulate_grad_batches=2, val_check_interval=1)
    return ["train 0.0" in seen, "train 0.1" in seen]


@line(
    "3.1/18 monitoring callbacks",
    "ordinary callbacks, the module, early stopping, checkpoints",
    ["ordinary", "module", "stopping", "checkpoint"],
)
def _(lab):
    calls = []

    def noting(name, base):
        def on_train_epoch_end(self, trainer, pl_module):
            calls.append(name)
            base.on_train_epoch_end(self, trainer, pl_module)

        return type(base.__name__, (base,), {"on_train_epoch_end": on_train_epoch_end})

    EarlyStopping, ModelCheckpoint = lab.callbacks.EarlyStopping, lab.callbacks.ModelCheckpoint
    callbacks = [
        noting("checkpoint", ModelCheckpoint)(lab.tmp / "c"),
        noting("stopping", EarlyStopping)("loss", strict=False),
        noting("ordinary", lab.L.Callback)(),
    ]
    lab.fit(lab.model(on_train_epoch_end=lambda _: calls.append("module")), *callbacks)
    return calls


@lines(
    "3.1/writing a checkpoint",
    "who is asked, in order; with weights only no callback is",
    {
        "full": (
            {"what": "save_checkpoint"},
            ["M.state_dict", "CB.state_dict", "DM.state_dict", "CB/M.on_save_checkpoint"],
        ),
        "weights only": (
            {"what": "save_checkpoint weights_only"},
            ["M.state_dict", "DM.state_dict", "M.on_save_checkpoint"],
        ),
    },
)
def _(lab, what):
    calls = lab.trace("checkpoint_by_hand")
    start = calls.index(f"user.{what}") + 1
    rest = calls[start:]
    end = next((i for i, call in enumerate(rest) if call.startswith("user.")), len(rest))
    return short(rest[:end])


@line("3.1/note/closures", "an optimizer may run training_step more than once for a step", 2.0)
def _(lab):
    def configure_optimizers(model):
        class Twice(torch.optim.SGD):
            def step(self, closure=None):
                closure()
                return super().step(closure)

        return Twice(model.parameters(), lr=1.0)

    trainer = lab.fit(lab.model(configure_optimizers=configure_optimizers))
    return len(trainer.lightning_module.noted("train")) / trainer.global_step


@line("3.1/note/zero_grad", "on the first batch of each window only", ["0", "2", "4"])
def _(lab):
    seen = []
    model = lab.model(on_before_zero_grad=lambda model, optimizer: seen.append(model.notes[-1][-1]))
    lab.fit(model, train=5, accumulate_grad_batches=2)
    return seen


waiting(
    5,
    ("3.1/1 S.connect", "the strategy gets the model before anything"),
    ("3.1/2 S.setup_environment", "the process group and the device come before prepare_data"),
    ("3.1/3 ranks", "prepare_data runs on one process of each node, the others wait"),
    (
        "3.1/7 S.setup",
        "the accelerator, the precision, batch norm over processes, the device, the optimizers",
    ),
    ("3.1/12-19 S hooks", "S.on_train_start, S.training_step, S.pre_backward ... after the module's"),
)


@line(
    "3.1/9 signals",
    "signal handlers are set once the run is restored",
    {"setup": False, "on_fit_start": False, "on_train_start": True, "afterwards": False},
    ours={"setup": True, "on_fit_start": True, "on_train_start": True, "afterwards": False},
    differs="SIGTERM in `fit`",
)
def _(lab):
    before, seen = signal.getsignal(signal.SIGTERM), {}

    def look(name):
        seen[name] = signal.getsignal(signal.SIGTERM) is not before

    model = lab.model(
        setup=lambda _, stage: look("setup"),
        on_fit_start=lambda _: look("on_fit_start"),
        on_train_start=lambda _: look("on_train_start"),
    )
    lab.fit(model)
    look("afterwards")
    return seen


# ---------------------------------------------------------------------- 3.2: evaluations


SET_UP = [
    "M.configure_callbacks", "DM.prepare_data", "M.prepare_data", "DM.setup", "CB/M.setup",
    "M.configure_model",
]  # fmt: skip
TEAR_DOWN = ["DM.teardown", "CB/M.teardown"]


@lines(
    "3.2",
    "no optimizers, no fit hooks; the set-up, the evaluation, the tear-down",
    {
        name: (
            {"name": name},
            [*SET_UP, "M.zero_grad", f"DM.{loader}_dataloader", *evaluation(word), *TEAR_DOWN],
        )
        for name, loader, word in (
            ("validate", "val", "validation"),
            ("test", "test", "test"),
            ("predict", "predict", "predict"),
        )
    },
)
def _(lab, name):
    return short(lab.trace(name))


@line(
    "3.2/from a checkpoint",
    "weights and states come back after configure_model",
    [
        "M.configure_model",
        "M.on_load_checkpoint",
        "M.load_state_dict",
        "DM.load_state_dict",
        "CB.on_load_checkpoint",
        "CB.load_state_dict",
        "M.zero_grad",
    ],
)
def _(lab):
    return short(between(lab.trace("test_from_a_checkpoint"), "module.configure_model", "module.zero_grad"))


# ---------------------------------------------------------------------- 3.3: arguments and results


@lines(
    "3.3/training_step",
    "takes (batch) or (batch, batch_idx); gives a tensor, a dict with the loss, or None",
    {
        "batch": ({"step": lambda model, batch: model.weight * 1}, 3),
        "batch, batch_idx": ({"step": lambda model, batch, batch_idx: model.weight * 1}, 3),
        "dict": ({"step": lambda model, batch: {"loss": model.weight * 1}}, 3),
        "None": ({"step": lambda model, batch: None}, 3),
        "text": ({"step": lambda model, batch: "loss"}, Raises(ME, "")),
        "number": ({"step": lambda model, batch: 1.0}, Raises(ME, "")),
        "dict without loss": ({"step": lambda model, batch: {"a": 1}}, Raises(ME, "loss")),
        "no graph": ({"step": lambda model, batch: torch.zeros(())}, Raises("RuntimeError", "grad")),
        "not a scalar": (
            {"step": lambda model, batch: model.weight * torch.ones(2)},
            Raises("RuntimeError", ""),
        ),
    },
)
def _(lab, step):
    return lab.fit(lab.model(training_step=step)).global_step


@lines(
    "3.3/outputs of on_train_batch_end",
    "always a dict: the loss detached and divided by the accumulation, the rest as it was given",
    {
        "tensor": ({"step": lambda model, batch: model.weight + 4}, {"loss": (2.0, False)}),
        "dict": (
            {"step": lambda model, batch: {"loss": model.weight + 4, "x": model.weight + 1}},
            {"loss": (2.0, False), "x": (1.0, True)},
        ),
        "None": ({"step": lambda model, batch: None}, {}),
    },
)
def _(lab, step):
    seen = []

    def on_train_batch_end(model, outputs, batch, batch_idx):
        seen.append({name: (value.item(), value.requires_grad) for name, value in outputs.items()})

    lab.fit(
        lab.model(training_step=step, on_train_batch_end=on_train_batch_end),
        train=2,
        accumulate_grad_batches=2,
    )
    return seen[0]


@lines(
    "3.3/outputs of evaluations",
    "just what the step returned",
    {
        "validation": ({"name": "validate", "word": "validation"}, [[1], None]),
        "test": ({"name": "test", "word": "test"}, [[1], None]),
        "predict": ({"name": "predict", "word": "predict"}, [[1], None]),
    },
)
def _(lab, name, word):
    seen = []
    hooks = {
        f"{word}_step": lambda model, batch, batch_idx: [1] if batch_idx == 0 else None,
        f"on_{word}_batch_end": lambda model, outputs, batch, batch_idx: seen.append(outputs),
    }
    lab.run(name, lab.model(**hooks), 2)
    return seen


EVALUATIONS = {"validation": "validate", "test": "test", "predict": "predict"}


@lines(
    "3.3/dataloader_idx",
    "is wanted where there are several loaders, and only there",
    {
        f"{word}, {case}": ({"word": word, **arguments}, gives)
        for word in EVALUATIONS
        for case, arguments, gives in (
            ("one, not taken", {"count": 1, "step": lambda model, batch, batch_idx: None}, None),
            (
                "one, default",
                {"count": 1, "step": lambda model, batch, batch_idx, dataloader_idx=0: None},
                None,
            ),
            (
                "one, required",
                {"count": 1, "step": lambda model, batch, batch_idx, dataloader_idx: None},
                Raises("RuntimeError", "dataloader_idx"),
            ),
            (
                "two, not taken",
                {"count": 2, "step": lambda model, batch, batch_idx: None},
                Raises("RuntimeError", "dataloader_idx"),
            ),
            (
                "two, required",
                {"count": 2, "step": lambda model, batch, batch_idx, dataloader_idx: None},
                None,
            ),
            ("two, any", {"count": 2, "step": lambda model, *args: None}, None),
        )
    },
)
def _(lab, word, count, step):
    getattr(lab.trainer(), EVALUATIONS[word])(
        lab.model(**{f"{word}_step": step}), [lab.loader(1) for _ in range(count)]
    )


@lines(
    "3.3/batch hooks and dataloader_idx",
    "on_*_batch_start and _end get it only with several loaders",
    {
        f"{word}, {count}": (
            {"word": word, "count": count},
            [(0,)] * 2 if count == 1 else [(0, 0), (0, 0), (0, 1), (0, 1)],
        )
        for word in EVALUATIONS
        for count in (1, 2)
    },
)
def _(lab, word, count):
    seen = []
    hooks = {
        f"on_{word}_batch_start": lambda model, batch, *rest: seen.append(rest),
        f"on_{word}_batch_end": lambda model, outputs, batch, *rest: seen.append(rest),
    }
    getattr(lab.trainer(), EVALUATIONS[word])(lab.model(**hooks), [lab.loader(1) for _ in range(count)])
    return seen


@line("3.3/on_before_backward", "the loss is divided by the accumulation already", [2.0, 2.0])
def _(lab):
    seen = []
    model = lab.model(
        training_step=lambda model, batch: 4 + 0 * model.weight,
        on_before_backward=lambda model, loss: seen.append(loss.item()),
    )
    lab.fit(model, train=2, accumulate_grad_batches=2)
    return seen


@line("3.3/backward", "gets what manual_backward was given", [((), {"retain_graph": True})])
def _(lab):
    seen = []

    def training_step(model, batch):
        model.manual_backward(model.weight * 1, retain_graph=True)

    model = lab.model(
        training_step=training_step, backward=lambda model, loss, *args, **kwargs: seen.append((args, kwargs))
    )
    model.automatic_optimization = False
    lab.fit(model, train=1)
    return seen


@line(
    "3.3/optimizer_step",
    "(epoch, batch_idx, optimizer, closure); who overrides it calls the closure",
    [(0, 0, "LightningSGD", True), (0, 1, "LightningSGD", True)],
)
def _(lab):
    seen = []

    def optimizer_step(model, epoch, batch_idx, optimizer, optimizer_closure=None):
        seen.append((epoch, batch_idx, type(optimizer).__name__, callable(optimizer_closure)))
        optimizer.step(closure=optimizer_closure)

    lab.fit(lab.model(optimizer_step=optimizer_step), train=2)
    return seen


@line("3.3/optimizer_step without the closure", "is refused: nothing was computed", Raises(ME, "closure"))
def _(lab):
    lab.fit(lab.model(optimizer_step=lambda model, *args: None))


@line(
    "3.3/optimizer_zero_grad",
    "(epoch, batch_idx, optimizer); sets the gradients to None",
    [(0, 0, "SGD"), (0, 1, "SGD")],
)
def _(lab):
    seen = []
    model = lab.model(
        optimizer_zero_grad=lambda model, epoch, batch_idx, optimizer: seen.append(
            (epoch, batch_idx, type(optimizer).__name__)
        )
    )
    lab.fit(model, train=2)
    return seen


@line(
    "3.3/lr_scheduler_step",
    "metric None: step(); else step(metric)",
    [("StepLR", None), ("ReduceLROnPlateau", 2.0)],
)
def _(lab):
    seen = []

    def configure_optimizers(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return [optimizer], [
            torch.optim.lr_scheduler.StepLR(optimizer, 1),
            {"scheduler": plateau, "monitor": "v"},
        ]

    model = lab.model(
        configure_optimizers=configure_optimizers,
        validation_step=lambda model, batch, batch_idx: model.log("v", 2.0),
        lr_scheduler_step=lambda model, scheduler, metric: seen.append(
            (type(scheduler).__name__, None if metric is None else float(metric))
        ),
    )
    lab.fit(model)
    return seen


@line(
    "3.3/configure_gradient_clipping",
    "gets the Trainer's values with every step, and leads to clip_gradients",
    [("SGD", 0.5, "value")] * 2 + [("SGD", None, None)],
)
def _(lab):
    seen = []

    def configure_gradient_clipping(model, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        algorithm = getattr(gradient_clip_algorithm, "value", gradient_clip_algorithm)
        seen.append((type(optimizer).__name__, gradient_clip_val, algorithm))

    model = lab.model(configure_gradient_clipping=configure_gradient_clipping)
    lab.fit(model, train=2, gradient_clip_val=0.5, gradient_clip_algorithm="value")
    lab.fit(model, train=1)
    return seen


@line(
    "3.3/transfer hooks",
    "(batch, dataloader_idx), (batch, device, dataloader_idx), (batch, dataloader_idx)",
    [("before", 0), ("move", "cpu", 0), ("after", 0)],
)
def _(lab):
    seen = []

    def on_before_batch_transfer(model, batch, dataloader_idx):
        seen.append(("before", dataloader_idx))
        return batch

    def transfer_batch_to_device(model, batch, device, dataloader_idx):
        seen.append(("move", str(device), dataloader_idx))
        return batch

    def on_after_batch_transfer(model, batch, dataloader_idx):
        seen.append(("after", dataloader_idx))
        return batch

    model = lab.model(
        on_before_batch_transfer=on_before_batch_transfer,
        transfer_batch_to_device=transfer_batch_to_device,
        on_after_batch_transfer=on_after_batch_transfer,
    )
    lab.fit(model, train=1, val=None)
    return seen


@line("3.3/transfer hooks/detached", "may be called by hand without a Trainer", 1.0)
def _(lab):
    model = lab.model()
    batch = model.on_before_batch_transfer(torch.ones(()), 0)
    batch = model.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    return model.on_after_batch_transfer(batch, 0).item()


@line("3.3/setup and teardown", "get the stage as a keyword", [{"stage": "fit"}, {"stage": "fit"}])
def _(lab):
    seen = []

    def note(model, **kwargs):
        seen.append(kwargs)

    lab.fit(lab.model(setup=note, teardown=note))
    return seen


@line("3.3/checkpoint hooks", "may change the dict, and see the change again", "mine")
def _(lab):
    def on_save_checkpoint(model, checkpoint):
        checkpoint["extra"] = "mine"

    seen = []
    lab.fit(lab.model(on_save_checkpoint=on_save_checkpoint)).save_checkpoint(lab.tmp / "x.ckpt")
    model = lab.model(on_load_checkpoint=lambda model, checkpoint: seen.append(checkpoint["extra"]))
    lab.fit(model, ckpt_path=lab.tmp / "x.ckpt", max_epochs=2)
    return seen[0]


@line(
    "3.3/callbacks",
    "the same arguments after trainer and pl_module",
    [("setup", "fit"), ("start", 0), ("end", ["loss"], 0)],
)
def _(lab):
    seen = []
    callback = lab.callback(
        setup=lambda _, trainer, pl_module, stage: seen.append(
            ("setup", str(getattr(stage, "value", stage)))
        ),
        on_train_batch_start=lambda _, trainer, pl_module, batch, batch_idx: seen.append(
            ("start", batch_idx)
        ),
        on_train_batch_end=lambda _, trainer, pl_module, outputs, batch, batch_idx: seen.append(
            ("end", list(outputs), batch_idx)
        ),
    )
    lab.fit(None, callback, train=1)
    return seen


@line(
    "3.3/attributes",
    "prepare_data_per_node, allow_zero_length_dataloader_with_multiple_devices",
    (True, False),
)
def _(lab):
    model = lab.model()
    return model.prepare_data_per_node, model.allow_zero_length_dataloader_with_multiple_devices


@line(
    "3.3/dataloader_iter",
    "a training_step(dataloader_iter) reads its batches itself",
    [0.0, 1.0, 2.0],
)
def _(lab):
    seen = []

    def training_step(model, dataloader_iter):
        batch, _, _ = next(dataloader_iter)
        seen.append(batch.item())
        return model.weight * 1

    lab.fit(lab.model(training_step=training_step), train=DataLoader(torch.arange(3.0)))
    return seen


waiting(5, ("3.3/prepare_data_per_node", "True: once on each node; False: once in all"))
