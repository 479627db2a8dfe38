"""13: what common misuse raises, in the order of the contract's table."""

from __future__ import annotations

import importlib

import torch
from lines import FAILS_LATER, Raises, Says, Warns, line, lines, waiting
from torch import nn
from torch.utils.data import DataLoader

ME = "MisconfigurationException"


def loss(model, batch, batch_idx=0):
    return model.weight * 1


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1.0)


@line("13/unknown argument", "TypeError", Raises("TypeError", "unexpected keyword argument"))
def _(lab):
    lab.L.Trainer(nosuch=1)


@lines(
    "13/fit of",
    "what is no LightningModule: TypeError with its type, and what may be given",
    {
        "nn.Module": ({"model": lambda lab: nn.Linear(1, 1)}, Raises("TypeError", "OptimizedModule.*Linear")),
        "a class": ({"model": lambda lab: lab.Module}, Raises("TypeError", "OptimizedModule")),
        "None": ({"model": lambda lab: None}, Raises("TypeError", "NoneType")),
    },
)
def _(lab, model):
    lab.trainer().fit(model(lab), lab.loader(1))


@lines(
    "13/no model",
    "TypeError",
    {name: ({"name": name}, Raises("TypeError", "")) for name in ("test", "validate", "predict")},
)
def _(lab, name):
    getattr(lab.trainer(), name)()


@line("13/no super().__init__()", "AttributeError", Raises("AttributeError", ""))
def _(lab):
    Model = type(
        "Model",
        (lab.L.LightningModule,),
        {"__init__": lambda self: None, "training_step": loss, "configure_optimizers": sgd},
    )
    lab.trainer().fit(Model(), lab.loader(1))


@lines(
    "13/missing",
    "a step, the optimizers, the data",
    {
        "training_step": ({"members": {"configure_optimizers": sgd}}, Raises(ME, "training_step")),
        "configure_optimizers": ({"members": {"training_step": loss}}, Raises(ME, "configure_optimizers")),
        "train_dataloader": (
            {"members": {"training_step": loss, "configure_optimizers": sgd}, "data": None},
            Raises(ME, "train_dataloader.*must be implemented"),
        ),
        "test_dataloader": (
            {"members": {"test_step": loss}, "data": None, "name": "test"},
            Raises(ME, "test_dataloader.*must be implemented"),
        ),
        "test_step": ({"members": {"training_step": loss}, "name": "test"}, Raises(ME, "test_step")),
        "forward": ({"members": {"training_step": loss}, "name": "predict"}, Raises(ME, "forward")),
    },
)
def _(lab, members, data=1, name="fit"):
    getattr(lab.trainer(), name)(lab.bare(**members), *([] if data is None else [lab.loader(data)]))


@lines(
    "13/no dataloaders",
    "TypeError that tells passed from returned",
    {
        "hook returns None": (
            {"hook": lambda _: None},
            Raises("TypeError", "An invalid dataloader was returned"),
        ),
        "hook returns int": (
            {"hook": lambda _: 5},
            Raises("TypeError", "An invalid dataloader was returned"),
        ),
        "passed int": ({"passed": 5}, Raises("TypeError", "An invalid dataloader was passed")),
        "list with None": (
            {"passed": [DataLoader(range(1)), None]},
            Raises("TypeError", "An invalid dataloader was passed"),
        ),
    },
)
def _(lab, hook=None, passed=None):
    lab.trainer().fit(lab.model(**({"train_dataloader": hook} if hook else {})), passed)


@line("13/loaders and datamodule", "ME", Raises(ME, ""))
def _(lab):
    lab.trainer().fit(lab.model(), lab.loader(1), datamodule=lab.data())


@line(
    "13/validation_step without loader",
    "PossibleUserWarning, and no validation",
    Warns("PossibleUserWarning", "validation_step", gives=[]),
)
def _(lab):
    return lab.notes("val", val=None)


@line(
    "13/val loader without validation_step",
    "UserWarning, and no validation",
    Warns("UserWarning", "validation_step", gives=3),
)
def _(lab):
    return lab.fit(lab.bare(training_step=loss, configure_optimizers=sgd)).global_step


@lines(
    "13/former hooks",
    "NotImplementedError",
    {
        name: ({"name": name}, Raises("NotImplementedError", name))
        for name in ("training_epoch_end", "validation_epoch_end")
    },
)
def _(lab, name):
    lab.fit(lab.model(**{name: lambda model, outputs: None}))


@line(
    "13/former hooks/test_epoch_end", "NotImplementedError", Raises("NotImplementedError", "test_epoch_end")
)
def _(lab):
    lab.run("test", lab.model(test_epoch_end=lambda model, outputs: None))


@line("13/optimizer_idx", "RuntimeError", Raises("RuntimeError", "optimizer_idx"))
def _(lab):
    lab.fit(lab.model(training_step=lambda model, batch, batch_idx, optimizer_idx: model.weight * 1))


@line("13/steps of a batch alone", "are accepted", 3)
def _(lab):
    model = lab.model(
        training_step=lambda model, batch: model.weight * 1, validation_step=lambda model, batch: None
    )
    return lab.fit(model).global_step


@lines(
    "13/dataloader_idx",
    "RuntimeError where it is missing, and where it is asked for in vain",
    {
        "two loaders": (
            {"count": 2, "step": lambda model, batch, batch_idx: None},
            Raises("RuntimeError", "dataloader_idx"),
        ),
        "one loader": (
            {"count": 1, "step": lambda model, batch, batch_idx, dataloader_idx: None},
            Raises("RuntimeError", "dataloader_idx"),
        ),
    },
)
def _(lab, count, step):
    lab.fit(lab.model(validation_step=step), val=[lab.loader(1) for _ in range(count)])


@lines(
    "13/training_step returns",
    "text or a number: ME; a dict without loss: ME; a tensor without a graph: torch's RuntimeError",
    {
        "text": ({"value": "a"}, Raises(ME, "")),
        "number": ({"value": 1.0}, Raises(ME, "")),
        "dict": ({"value": {"a": 1}}, Raises(ME, "loss")),
        "no graph": ({"value": torch.ones(())}, Raises("RuntimeError", "grad")),
    },
)
def _(lab, value):
    lab.fit(lab.model(training_step=lambda model, batch: value))


@line("13/empty train loader", "UserWarning, a line, and a fit that returns", Says("zero", gives="finished"))
def _(lab):
    return lab.fit(train=DataLoader([])).state.status


@lines(
    "13/shares",
    "of what has no length, and too small ones: ME",
    {
        "unsized limit": ({"unsized": True, "limit_train_batches": 0.5}, Raises(ME, "limit_train_batches")),
        "too small": ({"limit_train_batches": 0.1}, Raises(ME, r"limit_train_batches.*0\.33")),
        "interval too long": ({"val_check_interval": 4}, Raises("ValueError", "val_check_interval")),
        "unsized interval": ({"unsized": True, "val_check_interval": 0.5}, Raises(ME, "val_check_interval")),
    },
)
def _(lab, unsized=False, **arguments):
    lab.fit(train=lab.stream(3) if unsized else 3, **arguments)


def logging_v(lab):
    return lab.model(validation_step=lambda model, batch, batch_idx: model.log("v", 1.0))


@line("13/EarlyStopping metric missing", "RuntimeError", Raises("RuntimeError", "nosuch.*v"))
def _(lab):
    lab.fit(logging_v(lab), lab.callbacks.EarlyStopping("nosuch"))


@line(
    "13/ModelCheckpoint metric missing",
    "ME with the names there are, epoch and step among them",
    Raises(ME, "nosuch.*epoch.*step"),
)
def _(lab):
    lab.fit(logging_v(lab), lab.callbacks.ModelCheckpoint(lab.tmp / "c", monitor="nosuch"))


@line("13/LearningRateMonitor without logger", "ME", Raises(ME, "logger"))
def _(lab):
    lab.fit(None, lab.callbacks.LearningRateMonitor())


@line("13/ReduceLROnPlateau metric missing", "ME", Raises(ME, "nosuch.*v"))
def _(lab):
    def configure_optimizers(model):
        optimizer = sgd(model)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "nosuch"}

    lab.fit(
        lab.model(
            configure_optimizers=configure_optimizers,
            validation_step=lambda model, batch, batch_idx: model.log("v", 1.0),
        )
    )


@line("13/two ModelCheckpoints alike", "RuntimeError", Raises("RuntimeError", "state.?key"))
def _(lab):
    lab.trainer(lab.callbacks.ModelCheckpoint(lab.tmp), lab.callbacks.ModelCheckpoint(lab.tmp))


@line(
    "13/a callback that is none",
    "AttributeError at the first hook",
    Raises("AttributeError"),
    ours=Raises("TypeError", "Callback"),
    differs=FAILS_LATER,
)
def _(lab):
    lab.fit(None, callbacks=[object()])


@line("13/ModelCheckpoint and enable_checkpointing=False", "ME", Raises(ME, "enable_checkpointing"))
def _(lab):
    lab.trainer(lab.callbacks.ModelCheckpoint(), enable_checkpointing=False)


@line("13/no such checkpoint", "FileNotFoundError", Raises("FileNotFoundError", "nosuch.ckpt"))
def _(lab):
    lab.fit(ckpt_path="nosuch.ckpt")


@line("13/best without ModelCheckpoint", "ValueError", Raises("ValueError", "best"))
def _(lab):
    lab.fit().test(ckpt_path="best", dataloaders=lab.loader(1))


@line("13/last without one", "UserWarning, and a new start", Warns("UserWarning", "last", gives=3))
def _(lab):
    return lab.fit(None, lab.callbacks.ModelCheckpoint(lab.tmp / "c"), ckpt_path="last").global_step


@line(
    "13/fit from weights only",
    "KeyError that names save_weights_only",
    Raises("KeyError", "save_weights_only"),
)
def _(lab):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt", weights_only=True)
    lab.fit(ckpt_path=lab.tmp / "x.ckpt")


@line("13/load_from_checkpoint on an instance", "TypeError", Raises("TypeError", "instance"))
def _(lab):
    lab.model().load_from_checkpoint("x.ckpt")


@line("13/load_from_checkpoint without an argument", "__init__'s TypeError", Raises("TypeError", "width"))
def _(lab):
    class Model(lab.Module):
        def __init__(self, width):
            super().__init__()

    lab.fit(Model(1)).save_checkpoint(lab.tmp / "x.ckpt")
    Model.load_from_checkpoint(lab.tmp / "x.ckpt")


@line("13/state dict that does not fit", "torch's RuntimeError", Raises("RuntimeError", "Missing key.*extra"))
def _(lab):
    lab.fit().save_checkpoint(lab.tmp / "x.ckpt")

    class Wider(lab.Module):
        def __init__(self):
            super().__init__()
            self.extra = nn.Parameter(torch.zeros(()))

    Wider.load_from_checkpoint(lab.tmp / "x.ckpt")


@line(
    "13/trainer when detached",
    "RuntimeError",
    Raises("RuntimeError", "^Model is not attached to a `Trainer`"),
)
def _(lab):
    lab.model().trainer  # noqa: B018


@line("13/self.log when detached", "UserWarning, and nothing happens", Warns("UserWarning", "log"))
def _(lab):
    lab.model().log("x", 1.0)


@lines(
    "13/manual optimization and",
    "the Trainer's clipping or accumulation: ME",
    {
        "gradient_clip_val": ({"gradient_clip_val": 1.0}, Raises(ME, "gradient_clip_val")),
        "accumulate_grad_batches": ({"accumulate_grad_batches": 2}, Raises(ME, "accumulate_grad_batches")),
    },
)
def _(lab, **arguments):
    model = lab.model()
    model.automatic_optimization = False
    lab.fit(model, **arguments)


@line("13/manual_backward in automatic mode", "ME", Raises(ME, "manual"))
def _(lab):
    lab.fit(lab.model(training_step=lambda model, batch: model.manual_backward(model.weight * 1)))


@line("13/save_checkpoint before a run", "AttributeError", Raises("AttributeError", ""))
def _(lab):
    lab.trainer().save_checkpoint(lab.tmp / "x.ckpt")


@lines(
    "13/seed out of range",
    "ValueError",
    {
        "negative": ({"seed": -1}, Raises("ValueError", "")),
        "too large": ({"seed": 2**32}, Raises("ValueError", "")),
    },
)
def _(lab, seed):
    lab.L.seed_everything(seed)


@line("13/barebones and a feature", "ValueError", Raises("ValueError", "profiler"))
def _(lab):
    lab.L.Trainer(accelerator="cpu", barebones=True, profiler="simple")


waiting("an issue of its own", ("13/DeviceStatsMonitor without logger", "ME"))


@line("13/Fabric without launch()", "RuntimeError with several devices", Raises("RuntimeError", "launch"))
def _(lab):
    framework = lab.L if lab.ours else importlib.import_module("lightning")
    framework.Fabric(accelerator="cpu", devices=2).barrier()


waiting(
    7, ("13/LightningCLI", "an unknown argument, a missing subcommand: SystemExit(2) with the parser's text")
)
