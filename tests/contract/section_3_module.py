"""3.4 to 3.8: the module's members, optimizers and schedulers, hyper-parameters, loading."""

from __future__ import annotations

import argparse
import copy
import importlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lines import ANYTHING, FAILS_LATER, Raises, Silent, Tells, Warns, line, lines, waiting
from torch import nn

ME = "MisconfigurationException"
SGD, StepLR = torch.optim.SGD, torch.optim.lr_scheduler.StepLR
Plateau = torch.optim.lr_scheduler.ReduceLROnPlateau


# ---------------------------------------------------------------------- 3.4: members


@line(
    "3.4/class keys",
    "names of the entries in a checkpoint",
    ("hyper_parameters", "hparams_name", "hparams_type"),
)
def _(lab):
    cls = lab.L.LightningModule
    return cls.CHECKPOINT_HYPER_PARAMS_KEY, cls.CHECKPOINT_HYPER_PARAMS_NAME, cls.CHECKPOINT_HYPER_PARAMS_TYPE


@line(
    "3.4/defaults",
    "of a module that no Trainer has",
    (True, True, None, 0, 0, 0, 0, None, [], "cpu", torch.float32, None, False),
)
def _(lab):
    model = lab.model()
    return (
        model.automatic_optimization, model.strict_loading, model.example_input_array, model.current_epoch,
        model.global_step, model.global_rank, model.local_rank, model.logger, model.loggers,
        str(model.device),
        model.dtype, model.device_mesh, model.on_gpu,
    )  # fmt: skip


@line("3.4/settable", "automatic_optimization, strict_loading, example_input_array", (False, False, 3))
def _(lab):
    model = lab.model()
    model.automatic_optimization = model.strict_loading = False
    model.example_input_array = 3
    return model.automatic_optimization, model.strict_loading, model.example_input_array


@line(
    "3.4/trainer/detached",
    "a RuntimeError that says so",
    Raises("RuntimeError", "Model is not attached to a `Trainer`"),
)
def _(lab):
    return lab.model().trainer


@line("3.4/trainer/attached", "the Trainer, to child modules as well; it stays after the run", (True, True))
def _(lab):
    model = lab.model()
    model.child = lab.model()
    trainer = lab.fit(model)
    return model.trainer is trainer, model.child.trainer is trainer


@line(
    "3.4/device and dtype",
    "follow .double(), .half() and .to()",
    [torch.float64, torch.float16, torch.bfloat16, "meta"],
)
def _(lab):
    model = lab.model()
    return [
        model.double().dtype,
        model.half().dtype,
        model.to(torch.bfloat16).dtype,
        str(model.to("meta").device),
    ]


@line("3.4/loggers", "the Trainer's", (True, 2))
def _(lab):
    loggers = [lab.logger(), lab.logger()]
    model = lab.fit(logger=loggers).lightning_module
    return model.logger is loggers[0], len(model.loggers)


@lines(
    "3.4/optimizers()",
    "one, or a list; wrapped unless use_pl_optimizer=False",
    {
        "one": ({"count": 1}, "LightningSGD"),
        "one, plain": ({"count": 1, "use_pl_optimizer": False}, "SGD"),
        "two": ({"count": 2}, ["LightningSGD", "LightningSGD"]),
        "two, plain": ({"count": 2, "use_pl_optimizer": False}, ["SGD", "SGD"]),
    },
)
def _(lab, count, **arguments):
    seen = []

    def training_step(model, batch):
        found = model.optimizers(**arguments)
        seen.append(
            [type(opt).__name__ for opt in found] if isinstance(found, list) else type(found).__name__
        )

    model = lab.model(
        training_step=training_step,
        configure_optimizers=lambda model: [SGD(model.parameters(), lr=1.0) for _ in range(count)],
    )
    model.automatic_optimization = False
    lab.fit(model, train=1)
    return seen[0]


@lines(
    "3.4/lr_schedulers()",
    "None, one, or a list",
    {
        "none": ({"count": 0}, None),
        "one": ({"count": 1}, "StepLR"),
        "two": ({"count": 2}, ["StepLR", "StepLR"]),
    },
)
def _(lab, count):
    seen = []

    def on_train_start(model):
        found = model.lr_schedulers()
        names = [type(each).__name__ for each in found] if isinstance(found, list) else None
        seen.append(names if names is not None or found is None else type(found).__name__)

    def configure_optimizers(model):
        optimizer = SGD(model.parameters(), lr=1.0)
        return [optimizer], [StepLR(optimizer, 1) for _ in range(count)]

    lab.fit(lab.model(on_train_start=on_train_start, configure_optimizers=configure_optimizers))
    return seen[0]


@line("3.4/freeze and unfreeze", "requires_grad and the mode of all parts", [(False, False), (True, True)])
def _(lab):
    model, seen = lab.model(), []
    for change in (model.freeze, model.unfreeze):
        change()
        seen.append((model.weight.requires_grad, model.training))
    return seen


@line("3.4/print", "prints by the Trainer", "a 1\n")
def _(lab):
    return lab.printed(lambda: lab.fit(lab.model(on_train_start=lambda model: model.print("a", 1))))


@line(
    "3.4/print/detached",
    "there is no Trainer to ask",
    Raises("RuntimeError"),
    ours="a 1\n",
    differs="`self.print` without a Trainer",
)
def _(lab):
    return lab.printed(lambda: lab.model().print("a", 1))


@line("3.4/all_gather", "on one device: the data as it is, numbers as tensors", ((3,), 0, 2.0))
def _(lab):
    seen = []

    def on_train_start(model):
        gathered = model.all_gather({"a": torch.ones(3), "b": 2.0})
        seen.extend([tuple(gathered["a"].shape), gathered["b"].ndim, gathered["b"].item()])

    lab.fit(lab.model(on_train_start=on_train_start))
    return tuple(seen)


def two_optimizers(lab, training_step, **members):
    """Return a module in manual mode of three weights and two optimizers, `a` of x and y, `b` of z."""

    def __init__(self):
        lab.Module.__init__(self)
        self.x, self.y, self.z = (nn.Parameter(torch.zeros(())) for _ in range(3))
        self.y.requires_grad_(False)
        self.automatic_optimization = False

    def configure_optimizers(model):
        return [SGD([model.x, model.y], lr=1.0), SGD([model.z], lr=1.0)]

    return lab.module(
        __init__=__init__, training_step=training_step, configure_optimizers=configure_optimizers, **members
    )()


def flags(model):
    return model.x.requires_grad, model.y.requires_grad, model.z.requires_grad, model.weight.requires_grad


@line(
    "3.4/toggle_optimizer",
    "switches off what other optimizers have, and leaves the flags of its own and of all others",
    [
        (True, False, False, True),
        (True, False, True, True),
        (False, False, True, True),
        (True, False, True, True),
    ],
)
def _(lab):
    seen = []

    def training_step(model, batch):
        for optimizer in model.optimizers():
            model.toggle_optimizer(optimizer)
            seen.append(flags(model))
            model.untoggle_optimizer(optimizer)
            seen.append(flags(model))

    lab.fit(two_optimizers(lab, training_step), train=1)
    return seen


@line(
    "3.4/toggled_optimizer",
    "the same in a with statement",
    [(True, False, False, True), (True, False, True, True)],
)
def _(lab):
    seen = []

    def training_step(model, batch):
        with model.toggled_optimizer(model.optimizers()[0]):
            seen.append(flags(model))
        seen.append(flags(model))

    lab.fit(two_optimizers(lab, training_step), train=1)
    return seen


@line("3.4/manual_backward", "in automatic mode is refused", Raises(ME, "manual"))
def _(lab):
    lab.fit(lab.model(training_step=lambda model, batch: model.manual_backward(model.weight * 1)))


@lines(
    "3.4/clip_gradients",
    "the Trainer's values where none are given; two that differ, or an unknown way, are refused",
    {
        "Trainer's": ({"arguments": {}, "gradient_clip_val": 0.25}, 0.25),
        "given": ({"arguments": {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}}, 0.5),
        "by norm": ({"arguments": {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm"}}, 0.5),
        "none": ({"arguments": {}}, 4.0),
        "conflict": (
            {"arguments": {"gradient_clip_val": 0.5}, "gradient_clip_val": 0.25},
            Raises(ME, "gradient_clip_val"),
        ),
        "conflict of ways": (
            {
                "arguments": {"gradient_clip_algorithm": "norm"},
                "gradient_clip_val": 1,
                "gradient_clip_algorithm": "value",
            },
            Raises(ME, "gradient_clip_algorithm"),
        ),
        "unknown way": (
            {"arguments": {"gradient_clip_val": 1, "gradient_clip_algorithm": "x"}},
            Raises(ME, "x"),
        ),
    },
)
def _(lab, arguments, **trainer_arguments):
    seen = []

    def configure_gradient_clipping(model, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        model.clip_gradients(optimizer, **arguments)
        seen.append(round(model.weight.grad.item(), 5))

    model = lab.model(
        training_step=lambda model, batch: 4 * model.weight,
        configure_gradient_clipping=configure_gradient_clipping,
    )
    lab.fit(model, train=1, **trainer_arguments)
    return seen[0]


@line(
    "3.4/to_onnx/no input", "needs input_sample or example_input_array", Raises("ValueError", "input_sample")
)
def _(lab):
    if not lab.ours:
        pytest.importorskip("onnx")
    lab.model().to_onnx(lab.tmp / "x.onnx")


@lines(
    "3.4/to_torchscript",
    "script or trace; the mode comes back",
    {
        "script": ({"method": "script"}, ("RecursiveScriptModule", True)),
        "trace": ({"method": "trace"}, ("TopLevelTracedModule", True)),
        "another": ({"method": "x"}, Raises("ValueError", "method")),
    },
)
def _(lab, method):
    class Model(lab.L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x):
            return self.layer(x)

    model = Model()
    script = model.to_torchscript(
        method=method, example_inputs=torch.zeros(1, 1) if method == "trace" else None
    )
    return type(script).__name__, model.training


@line("3.4/pickling", "leaves the Trainer behind", None)
def _(lab):
    model = lab.bare(
        training_step=lambda model, batch: model.weight * 1, configure_optimizers=lambda model: None
    )
    lab.fit(model, val=None)
    copied = copy.deepcopy(lab.L.LightningModule())
    module = lab.L.LightningModule()
    module.trainer = model.trainer
    again = pickle.loads(pickle.dumps(module))
    assert copied._trainer is None
    return again._trainer


@line("3.4/__jit_unused_properties__", "is a list of names", True)
def _(lab):
    return {"trainer", "device", "example_input_array", "logger"} <= set(
        lab.L.LightningModule.__jit_unused_properties__
    )


@line("3.4/fabric", "under Fabric the module has its loggers, its device, a shim of a Trainer", ANYTHING)
def _(lab):
    framework = lab.L if lab.ours else importlib.import_module("lightning")
    fabric = framework.Fabric(accelerator="cpu", devices=1, loggers=lab.loggers.CSVLogger(lab.tmp))
    model = lab.model()
    assert model.fabric is None
    fabric.setup(model)
    assert model.fabric is fabric
    assert model.logger is fabric.logger
    assert (model.loggers, model.device) == (fabric.loggers, fabric.device)
    assert (model.trainer.world_size, model.current_epoch, model.global_step) == (1, 0, 0)
    with pytest.raises(AttributeError, match="max_epochs"):
        model.trainer.max_epochs  # noqa: B018  # asking is the test


waiting(
    5,
    ("3.4/all_gather/ranks", "a new first dimension of world_size"),
    ("3.4/clip_gradients/fsdp", "FSDP knows only the norm"),
)
waiting("a machine with TensorRT", ("3.4/to_tensorrt", "what does not fit together is refused"))


# ---------------------------------------------------------------------- 3.5: configure_optimizers


def fit_with(lab, make, automatic=True, **kwargs):
    """Fit with what `make(optimizer, model)` returns from `configure_optimizers`; return the Trainer."""
    model = lab.model(
        configure_optimizers=lambda model: make(SGD(model.parameters(), lr=1.0), model),
        validation_step=lambda model, batch, batch_idx: model.log("v", 1.0),
    )
    if not automatic:
        model.automatic_optimization = False
        type(model).training_step = lambda model, batch: None
    return lab.fit(model, **kwargs)


@lines(
    "3.5/forms",
    "(optimizers, schedulers) of what is returned",
    {
        "None": ({"make": lambda opt, _: None}, (ANYTHING, 0, 3)),
        "one": ({"make": lambda opt, _: opt}, (1, 0, 3)),
        "list of one": ({"make": lambda opt, _: [opt]}, (1, 0, 3)),
        "two lists": ({"make": lambda opt, _: ([opt], [StepLR(opt, 1)])}, (1, 1, 3)),
        "two lists, dict": ({"make": lambda opt, _: ([opt], [{"scheduler": StepLR(opt, 1)}])}, (1, 1, 3)),
        "list and bare scheduler": ({"make": lambda opt, _: ([opt], StepLR(opt, 1))}, (1, 1, 3)),
        "two schedulers": ({"make": lambda opt, _: ([opt], [StepLR(opt, 1), StepLR(opt, 2)])}, (1, 2, 3)),
        "dict": ({"make": lambda opt, _: {"optimizer": opt}}, (1, 0, 3)),
        "dict, scheduler": (
            {"make": lambda opt, _: {"optimizer": opt, "lr_scheduler": StepLR(opt, 1)}},
            (1, 1, 3),
        ),
        "dict, scheduler dict": (
            {"make": lambda opt, _: {"optimizer": opt, "lr_scheduler": {"scheduler": StepLR(opt, 1)}}},
            (1, 1, 3),
        ),
        "dict, monitor": (
            {"make": lambda opt, _: {"optimizer": opt, "lr_scheduler": Plateau(opt), "monitor": "v"}},
            (1, 1, 3),
        ),
        "another": ({"make": lambda opt, _: "sgd"}, Raises(ME, "")),
        "two, automatic": (
            {"make": lambda opt, _: [opt, opt]},
            Raises("RuntimeError", "automatic_optimization"),
        ),
    },
)
def _(lab, make):
    trainer = fit_with(lab, make)
    return len(trainer.optimizers), len(trainer.lr_scheduler_configs), trainer.global_step


@lines(
    "3.5/forms, manual",
    "several optimizers",
    {
        "list": ({"make": lambda opt, _: [opt, opt]}, (2, 0)),
        "tuple": ({"make": lambda opt, _: (opt, opt)}, (2, 0)),
        "lists": ({"make": lambda opt, _: ([opt, opt], [StepLR(opt, 1)])}, (2, 1)),
        "dicts": (
            {"make": lambda opt, _: [{"optimizer": opt, "lr_scheduler": StepLR(opt, 1)}, {"optimizer": opt}]},
            (2, 1),
        ),
    },
)
def _(lab, make):
    trainer = fit_with(lab, make, automatic=False)
    return len(trainer.optimizers), len(trainer.lr_scheduler_configs)


@line(
    "3.5/None",
    "is warned of; steps are counted all the same",
    Warns("UserWarning", "configure_optimizers", gives=3),
)
def _(lab):
    return fit_with(lab, lambda opt, _: None).global_step


def scheduler_dict(**entries):
    """Return a `make` of an optimizer and a scheduler dict with these entries."""
    return lambda opt, _: ([opt], [{"scheduler": StepLR(opt, 1), **entries}])


class Foreign:
    """A scheduler that torch does not know."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        """Do nothing."""

    def state_dict(self):
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict):
        """Nothing."""


@lines(
    "3.5/scheduler dict/refused",
    "what can't be",
    {
        "no scheduler": ({"make": lambda opt, _: ([opt], [{"interval": "step"}])}, Raises(ME, "scheduler")),
        "interval": ({"make": scheduler_dict(interval="hour")}, Raises(ME, "interval")),
        "plateau without monitor": ({"make": lambda opt, _: ([opt], [Plateau(opt)])}, Raises(ME, "monitor")),
        "plateau dict without monitor": ({"make": lambda opt, _: ([opt], [{"scheduler": Plateau(opt)}])},
        Raises(ME, "monitor")),
        "optimizer not returned": (
            {"make": lambda opt, model: ([opt], [StepLR(SGD(model.parameters(), lr=1.0), 1)])},
            Raises(ME, "optimizer"),
        ),
        "foreign": ({"make": lambda opt, _: ([opt], [Foreign(opt)])}, Raises(ME, "lr_scheduler_step")),
    },
)  # fmt: skip
def _(lab, make):
    fit_with(lab, make)


@line(
    "3.5/frequency=0",
    "fails in the first epoch",
    Raises("ZeroDivisionError"),
    ours=Raises(ME, "frequency"),
    differs=FAILS_LATER,
)
def _(lab):
    fit_with(lab, scheduler_dict(frequency=0))


@line(
    "3.5/empty list",
    "fails",
    Raises("IndexError"),
    ours=Raises("RuntimeError", "0 optimizers"),
    differs=FAILS_LATER,
)
def _(lab):
    fit_with(lab, lambda opt, _: [])


@line("3.5/lr_scheduler None", "fails", Raises("AttributeError"), ours=3, differs='`"lr_scheduler": None`')
def _(lab):
    return fit_with(lab, lambda opt, _: {"optimizer": opt, "lr_scheduler": None}).global_step


@lines(
    "3.5/scheduler dict/warned",
    "what is odd",
    {
        "unknown key": ({"make": scheduler_dict(intervall="step")}, Warns("RuntimeWarning", "intervall")),
        "unknown key beside optimizer": (
            {"make": lambda opt, _: {"optimizer": opt, "scheduler": StepLR(opt, 1)}},
            Warns("RuntimeWarning", "scheduler"),
        ),
        "OneCycleLR by epochs": (
            {
                "make": lambda opt, _: (
                    [opt],
                    [{"scheduler": torch.optim.lr_scheduler.OneCycleLR(opt, 1.0, total_steps=9)}],
                )
            },
            Warns("RuntimeWarning", "OneCycleLR"),
        ),
    },
)
def _(lab, make):
    fit_with(lab, make)


@line(
    "3.5/foreign with an override",
    "a scheduler that torch does not know needs lr_scheduler_step",
    ["Foreign"],
)
def _(lab):
    seen = []
    model = lab.model(
        configure_optimizers=lambda model: ([opt := SGD(model.parameters(), lr=1.0)], [Foreign(opt)]),
        lr_scheduler_step=lambda model, scheduler, metric: seen.append(type(scheduler).__name__),
    )
    lab.fit(model)
    return seen


@lines(
    "3.5/manual",
    "what does nothing there is warned of; nothing moves by itself",
    {
        "monitor": ({"monitor": "v"}, Warns("RuntimeWarning", "monitor", gives=1.0)),
        "strict": ({"strict": False}, Warns("RuntimeWarning", "strict", gives=1.0)),
        "reduce_on_plateau": (
            {"reduce_on_plateau": True},
            Warns("RuntimeWarning", "reduce_on_plateau", gives=1.0),
        ),
        "interval, which LearningRateMonitor reads": ({"interval": "step"}, Silent("interval", gives=1.0)),
    },
)
def _(lab, **entries):
    trainer = fit_with(lab, scheduler_dict(**entries), automatic=False)
    return trainer.optimizers[0].param_groups[0]["lr"]


@line(
    "3.5/manual/frequency",
    "does nothing, silently",
    Silent("frequency"),
    ours=Warns("RuntimeWarning", "frequency"),
    differs="a scheduler's `frequency` in manual optimization",
)
def _(lab):
    fit_with(lab, scheduler_dict(frequency=2), automatic=False)


def moved(lab, train=5, max_epochs=2, make=None, **kwargs):
    """Return after which batches the scheduler moved."""
    seen = []

    def lr_scheduler_step(model, scheduler, metric):
        seen.append(model.notes[-1])

    model = lab.model(
        configure_optimizers=lambda model: make(SGD(model.parameters(), lr=1.0), model),
        lr_scheduler_step=lr_scheduler_step,
    )
    lab.fit(model, train=train, val=None, max_epochs=max_epochs, **kwargs)
    return [note.removeprefix("train ") for note in seen]


@lines(
    "3.5/frequency",
    "counts the batches of the epoch, and moves only where the optimizer steps; or the epochs",
    {
        "epoch": ({"make": scheduler_dict()}, ["0.4", "1.4"]),
        "every second epoch": ({"make": scheduler_dict(frequency=2), "max_epochs": 4}, ["1.4", "3.4"]),
        "step": (
            {"make": scheduler_dict(interval="step"), "max_epochs": 1},
            ["0.0", "0.1", "0.2", "0.3", "0.4"],
        ),
        "every second step": (
            {"make": scheduler_dict(interval="step", frequency=2)},
            ["0.1", "0.3", "1.1", "1.3"],
        ),
        "step, accumulating": (
            {"make": scheduler_dict(interval="step"), "accumulate_grad_batches": 2, "max_epochs": 1},
            ["0.1", "0.3", "0.4"],
        ),
        "every third, accumulating": (
            {"make": scheduler_dict(interval="step", frequency=3), "accumulate_grad_batches": 2, "train": 6},
            ["0.5", "1.5"],
        ),
    },
)
def _(lab, **arguments):
    return moved(lab, **arguments)


@lines(
    "3.5/monitor missing",
    "strict: refused, with the names there are; else a warning, and it stays",
    {
        "strict": ({"strict": True}, Raises(ME, "no such.*v")),
        "not strict": ({"strict": False}, Warns("RuntimeWarning", "no such")),
    },
)
def _(lab, strict):
    make = lambda opt, _: ([opt], [{"scheduler": Plateau(opt), "monitor": "no such", "strict": strict}])  # noqa: E731
    fit_with(lab, make)


@line("3.5/monitor at either level", "in the scheduler's dict or beside the optimizer", ["v", "v"])
def _(lab):
    def inner(opt, _):
        return {"optimizer": opt, "lr_scheduler": {"scheduler": Plateau(opt), "monitor": "v"}}

    def outer(opt, _):
        return {"optimizer": opt, "lr_scheduler": Plateau(opt), "monitor": "v"}

    return [fit_with(lab, make).lr_scheduler_configs[0].monitor for make in (inner, outer)]


@line(
    "3.5/LRSchedulerConfig",
    "its fields",
    ["scheduler", "name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict"],
)
def _(lab):
    from dataclasses import fields

    (config,) = fit_with(lab, scheduler_dict()).lr_scheduler_configs
    return [each.name for each in fields(config)]


# ---------------------------------------------------------------------- 3.6: automatic and manual


@lines(
    "3.6/accumulation",
    "steps at each n-th batch and at the last; the loss is divided by n even there",
    {
        "5 by 2": ({"train": 5, "n": 2}, ([1, 3, 4], -2.5)),
        "4 by 2": ({"train": 4, "n": 2}, ([1, 3], -2.0)),
        "3 by 4": ({"train": 3, "n": 4}, ([2], -0.75)),
    },
)
def _(lab, train, n):
    seen = []
    model = lab.model(on_before_optimizer_step=lambda model, optimizer: seen.append(int(model.notes[-1][-1])))
    trainer = lab.fit(model, train=train, val=None, accumulate_grad_batches=n)
    return seen, trainer.lightning_module.weight.item()


@line("3.6/clipping", "comes after on_before_optimizer_step", [4.0, 0.5])
def _(lab):
    seen = []

    def configure_gradient_clipping(model, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        model.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        seen.append(round(model.weight.grad.item(), 4))

    model = lab.model(
        training_step=lambda model, batch: 4 * model.weight,
        on_before_optimizer_step=lambda model, optimizer: seen.append(model.weight.grad.item()),
        configure_gradient_clipping=configure_gradient_clipping,
    )
    lab.fit(model, train=1, gradient_clip_val=0.5)
    return seen


def manual(lab, training_step, **members):
    """Return a module in manual mode."""
    model = lab.model(training_step=training_step, **members)
    model.automatic_optimization = False
    return model


@line("3.6/manual", "the user steps; each step of each optimizer is counted", (3, [0, 1, 2], -3.0))
def _(lab):
    seen = []

    def training_step(model, batch):
        seen.append(model.global_step)
        optimizer = model.optimizers()
        optimizer.zero_grad()
        model.manual_backward(model.weight * 1)
        optimizer.step()

    trainer = lab.fit(manual(lab, training_step))
    return trainer.global_step, seen, trainer.lightning_module.weight.item()


@lines(
    "3.6/manual/outputs",
    "None, a tensor or a dict, with or without a loss",
    {
        "None": ({"value": None}, {}),
        "tensor": ({"value": torch.ones(())}, {"loss": 1.0}),
        "dict": ({"value": {"a": 1}}, {"a": 1}),
        "number": ({"value": 1.0}, Raises(ME, "")),
    },
)
def _(lab, value):
    seen = []
    lab.fit(
        manual(
            lab,
            lambda model, batch: value,
            on_train_batch_end=lambda model, outputs, *_: seen.append(outputs),
        )
    )
    return {name: getattr(entry, "item", lambda e=entry: e)() for name, entry in seen[0].items()}


@line(
    "3.6/LightningOptimizer",
    "an instance of the optimizer's class with its name; proxies what it has",
    ("LightningSGD", True, True, True, True),
)
def _(lab):
    seen = []

    def training_step(model, batch):
        wrapped, plain = model.optimizers(), model.optimizers(use_pl_optimizer=False)
        seen.append(
            (
                type(wrapped).__name__,
                isinstance(wrapped, SGD),
                wrapped.optimizer is plain,
                wrapped.param_groups is plain.param_groups,
                wrapped.state is plain.state,
            )
        )

    lab.fit(manual(lab, training_step))
    return seen[0]


@line("3.6/LightningOptimizer/closure", "must be callable", Raises(ME, "closure"))
def _(lab):
    lab.fit(manual(lab, lambda model, batch: model.optimizers().step(closure=3)))


@line("3.6/LightningOptimizer/closure is run", "step(closure) runs it", ["closure"])
def _(lab):
    seen = []
    lab.fit(
        manual(lab, lambda model, batch: model.optimizers().step(closure=lambda: seen.append("closure"))),
        train=1,
    )
    return seen


@line(
    "3.6/toggle_model",
    "a context that switches the other optimizers' parameters off",
    [(True, False, False, True), (True, False, True, True)],
)
def _(lab):
    seen = []

    def training_step(model, batch):
        with model.optimizers()[0].toggle_model(sync_grad=False):
            seen.append(flags(model))
        seen.append(flags(model))

    lab.fit(two_optimizers(lab, training_step), train=1)
    return seen


@line("3.6/LBFGS", "with 16-mixed is refused", Raises(ME, "LBFGS"))
def _(lab):
    Mixed = lab.part("precision" if lab.ours else "plugins").MixedPrecision
    lab.fit(
        lab.model(configure_optimizers=lambda model: torch.optim.LBFGS(model.parameters())),
        plugins=Mixed("16-mixed", "cpu", torch.amp.GradScaler("cpu")),
    )


# ---------------------------------------------------------------------- 3.7: save_hyperparameters


def hyper(lab, **members):
    """Return classes: Parent(a, b=2, **others), which saves all, and Child(c, ...), which calls it."""

    class Parent(lab.L.LightningModule):
        def __init__(self, a, b=2, **others):
            super().__init__()
            self.save_hyperparameters(**members)

    class Child(Parent):
        def __init__(self, c, a=5, *rest, **others):
            super().__init__(a, **others)

    return Parent, Child


@line("3.7/all arguments", "those with defaults, and **kwargs one by one", {"a": 1, "b": 2, "d": 4})
def _(lab):
    Parent, _ = hyper(lab)
    return dict(Parent(1, d=4).hparams)


@line(
    "3.7/parents",
    "a call in the parent saves the child's arguments, too; no *args",
    {"a": 5, "b": 2, "c": 3, "d": 4},
)
def _(lab):
    _, Child = hyper(lab)
    return dict(Child(3, d=4).hparams)


@line("3.7/value at the call", "a name that was bound anew has its new value", {"a": 10})
def _(lab):
    class Model(lab.L.LightningModule):
        def __init__(self, a):
            super().__init__()
            a *= 10
            self.save_hyperparameters()

    return dict(Model(1).hparams)


@line("3.7/names", "only these", {"a": 1})
def _(lab):
    class Model(lab.L.LightningModule):
        def __init__(self, a, b):
            super().__init__()
            self.save_hyperparameters("a")

    return dict(Model(1, 2).hparams)


@line("3.7/unknown names", "are refused", Raises("KeyError", "nosuch"))
def _(lab):
    class Model(lab.L.LightningModule):
        def __init__(self, a):
            super().__init__()
            self.save_hyperparameters("a", "nosuch")

    Model(1)


@lines(
    "3.7/an object",
    "its entries are the hyper-parameters; it goes by the name of the argument",
    {
        "dict": ({"conf": {"x": 1}}, ({"x": 1}, "conf")),
        "Namespace": ({"conf": argparse.Namespace(x=1)}, ({"x": 1}, "conf")),
        "number": ({"conf": 3}, Raises("ValueError", "")),
        "list": ({"conf": [1]}, Raises("ValueError", "")),
    },
)
def _(lab, conf):
    class Model(lab.L.LightningModule):
        def __init__(self, conf):
            super().__init__()
            self.save_hyperparameters(conf)

    model = Model(conf)
    return dict(model.hparams), model._hparams_name


@line("3.7/hparams_name", "of collected arguments it is kwargs", "kwargs")
def _(lab):
    Parent, _ = hyper(lab)
    return Parent(1)._hparams_name


@lines(
    "3.7/ignore",
    "a name or several; what the parent saved goes, too",
    {"name": ({"ignore": "a"}, {"b": 2}), "names": ({"ignore": ["a", "b"]}, {})},
)
def _(lab, ignore):
    Parent, _ = hyper(lab, ignore=ignore)
    return dict(Parent(1).hparams)


@line("3.7/ignore/saved by a base", "is taken away again", {"b": 2})
def _(lab):
    Parent, _ = hyper(lab)

    class Model(Parent):
        def __init__(self, a, b=2):
            super().__init__(a)
            self.save_hyperparameters(ignore="a")

    return dict(Model(1).hparams)


@line("3.7/repeated", "calls add up", {"a": 1, "x": 3})
def _(lab):
    class Model(lab.L.LightningModule):
        def __init__(self, a):
            super().__init__()
            self.save_hyperparameters()
            self.save_hyperparameters({"x": 3})

    return dict(Model(1).hparams)


@line("3.7/nn.Module", "is warned of: its weights are saved anyway", Warns("UserWarning", "nn.Module|ignore"))
def _(lab):
    Parent, _ = hyper(lab)
    Parent(nn.Linear(1, 1))


@line("3.7/hparams", "entries and attributes; changes are seen; hparams_initial stays", (1, 1, 7, 1))
def _(lab):
    Parent, _ = hyper(lab)
    model = Parent(1)
    first = model.hparams.a, model.hparams["a"]
    model.hparams.a = 7
    return *first, model.hparams["a"], model.hparams_initial.a


@line("3.7/print", "hparams print as YAML does", '"a": 1\n"b": 2')
def _(lab):
    Parent, _ = hyper(lab)
    return str(Parent(1).hparams)


@line("3.7/outside of __init__", "objects may be saved anywhere", {"x": 1})
def _(lab):
    model = lab.L.LightningModule()
    model.save_hyperparameters({"x": 1})
    return dict(model.hparams)


@line("3.7/dataclass", "the fields of a module that is a dataclass", {"a": 1, "b": 2})
def _(lab):
    @dataclass(eq=False)
    class Model(lab.L.LightningModule):
        a: int
        b: int = 2

        def __post_init__(self):
            super().__init__()
            self.save_hyperparameters()

    return dict(Model(1).hparams)


@line("3.7/frame", "another frame may be given", {"a": 1})
def _(lab):
    import inspect

    def save(model):
        model.save_hyperparameters(frame=inspect.currentframe().f_back)

    class Model(lab.L.LightningModule):
        def __init__(self, a):
            super().__init__()
            save(self)

    return dict(Model(1).hparams)


def logged(lab, module_values, data_values, **settings):
    """Return what loggers got of a fit with these hyper-parameters."""

    class Model(lab.Module):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters(module_values, **settings)

    data = lab.data()
    data.save_hyperparameters(data_values)
    logger = lab.logger()
    lab.trainer(logger=logger).fit(Model(), datamodule=data)
    return logger.hyperparameters


@lines(
    "3.7/logged",
    "once when fit starts, the module's and the data module's in one",
    {
        "both": ({"module_values": {"a": 1}, "data_values": {"b": 2}}, [{"a": 1, "b": 2}]),
        "the same": ({"module_values": {"a": 1}, "data_values": {"a": 1}}, [{"a": 1}]),
        "logger=False": ({"module_values": {"a": 1}, "data_values": {"b": 2}, "logger": False}, [{"b": 2}]),
        "conflict": ({"module_values": {"a": 1}, "data_values": {"a": 2}}, Raises("RuntimeError", "a")),
    },
)
def _(lab, **arguments):
    return logged(lab, **arguments)


@line("3.7/in the checkpoint", "current values, under the keys of 3.4", ({"a": 7}, "kwargs"))
def _(lab):
    class Model(lab.Module):
        def __init__(self, a):
            super().__init__()
            self.save_hyperparameters()

    model = Model(1)
    model.hparams.a = 7
    lab.fit(model).save_checkpoint(lab.tmp / "x.ckpt")
    checkpoint = torch.load(lab.tmp / "x.ckpt", weights_only=False)
    return dict(checkpoint["hyper_parameters"]), checkpoint["hparams_name"]


@line(
    "3.7/unpicklable",
    "what can't be pickled is left out with a warning",
    Warns("UserWarning", "f"),
)
def _(lab):
    Parent, _ = hyper(lab)
    model = Parent(1, f=lambda: None)
    type(model).training_step = lambda self, batch: None
    type(model).configure_optimizers = lambda self: None
    trainer = lab.trainer()
    trainer.fit(model, lab.loader(1))
    trainer.save_checkpoint(lab.tmp / "x.ckpt")


@line("3.7/hparams setter", "refused", Raises("AttributeError"), ours={"x": 1}, differs="`self.hparams = x`")
def _(lab):
    model = lab.L.LightningModule()
    model.hparams = {"x": 1}
    return dict(model.hparams)


# ---------------------------------------------------------------------- 3.8: load_from_checkpoint


def saved(lab, cls, *args, **kwargs):
    """Return the path of a checkpoint of a new `cls`."""
    model = cls(*args, **kwargs)
    nn.init.constant_(model.weight, 5.0)
    trainer = lab.trainer(max_epochs=0)
    trainer.fit(model, lab.loader(1))
    path = lab.tmp / "saved.ckpt"
    trainer.save_checkpoint(path)
    return path


def settings_module(lab):
    """Return a class with the hyper-parameters a, which is required, and b."""

    class Model(lab.Module):
        def __init__(self, a, b=2):
            super().__init__()
            self.save_hyperparameters()

    return Model


@lines(
    "3.8/arguments",
    "come from the checkpoint; given ones win",
    {"from the file": ({}, (1, 2, 5.0)), "given": ({"b": 7}, (1, 7, 5.0))},
)
def _(lab, **kwargs):
    Model = settings_module(lab)
    model = Model.load_from_checkpoint(saved(lab, Model, 1), **kwargs)
    return model.hparams.a, model.hparams.b, model.weight.item()


@line("3.8/on an instance", "is a TypeError", Raises("TypeError", "instance"))
def _(lab):
    lab.model().load_from_checkpoint("x.ckpt")


@line("3.8/missing argument", "is __init__'s TypeError", Raises("TypeError", "__init__.*a"))
def _(lab):
    class Model(lab.Module):
        def __init__(self, a):
            super().__init__()

    Model.load_from_checkpoint(saved(lab, Model, 1))


@line("3.8/arguments that __init__ does not take", "are left out", (3, 5.0))
def _(lab):
    Model = settings_module(lab)
    path = saved(lab, Model, 1)

    class Narrow(lab.Module):
        def __init__(self, b=0):
            super().__init__()
            self.b = b

    return Narrow.load_from_checkpoint(path, b=3).b, 5.0


@lines(
    "3.8/hparams_file",
    "a CSV or YAML file in place of the checkpoint's",
    {
        "yaml": ({"name": "h.yaml", "text": "a: 8\nb: 9\n"}, (8, 9)),
        "csv": ({"name": "h.csv", "text": "key,value\na,8\nb,9\n"}, (8, 9)),
        "another": ({"name": "h.txt", "text": ""}, Raises("ValueError", "csv|yaml")),
    },
)
def _(lab, name, text):
    Model = settings_module(lab)
    path = saved(lab, Model, 1)
    (lab.tmp / name).write_text(text)
    model = Model.load_from_checkpoint(path, hparams_file=str(lab.tmp / name))
    return model.hparams.a, model.hparams.b


@line("3.8/one argument by name", "hparams_name says which argument takes them all", {"x": 1})
def _(lab):
    class Model(lab.Module):
        def __init__(self, conf):
            super().__init__()
            self.save_hyperparameters(conf)

    return dict(Model.load_from_checkpoint(saved(lab, Model, {"x": 1})).hparams)


@lines(
    "3.8/strict",
    "the argument, else strict_loading; True unless said otherwise",
    {
        "default": ({}, Raises("RuntimeError", "extra")),
        "strict=True": ({"strict": True}, Raises("RuntimeError", "extra")),
        "strict=False": ({"strict": False}, 5.0),
        "strict_loading=False": ({"strict_loading": False}, 5.0),
    },
)
def _(lab, strict_loading=None, **kwargs):
    path = saved(lab, lab.Module)

    class Wider(lab.Module):
        def __init__(self):
            super().__init__()
            self.extra = nn.Parameter(torch.zeros(()))
            if strict_loading is not None:
                self.strict_loading = strict_loading

    return Wider.load_from_checkpoint(path, **kwargs).weight.item()


@line(
    "3.8/hooks",
    "configure_model and on_load_checkpoint run before the weights come",
    ["configure", "load 0.0"],
)
def _(lab):
    seen = []
    path = saved(lab, lab.Module)
    Model = lab.module(
        configure_model=lambda model: seen.append("configure"),
        on_load_checkpoint=lambda model, checkpoint: seen.append(f"load {model.weight.item()}"),
    )
    Model.load_from_checkpoint(path)
    return seen


@line("3.8/mode and place", "in training mode, on the device of its weights", (True, "cpu"))
def _(lab):
    model = lab.Module.load_from_checkpoint(saved(lab, lab.Module))
    return model.training, str(model.device)


@line("3.8/map_location", "moves it", "meta")
def _(lab):
    path = saved(lab, lab.Module)
    with torch.device("meta"):
        return str(lab.Module.load_from_checkpoint(path, map_location="meta").device)


@line("3.8/file-like", "an open file is taken", 5.0)
def _(lab):
    with open(saved(lab, lab.Module), "rb") as file:
        return lab.Module.load_from_checkpoint(file).weight.item()


@line("3.8/nested modules", "only the outer one's hooks are called", ["outer"])
def _(lab):
    seen = []
    Inner = lab.module(on_load_checkpoint=lambda model, checkpoint: seen.append("inner"))

    class Outer(lab.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def on_load_checkpoint(self, checkpoint):
            seen.append("outer")

    Outer.load_from_checkpoint(saved(lab, Outer))
    return seen


@line("3.8/empty state dict", "is warned of", Warns("UserWarning", "state dict|state_dict|parameters"))
def _(lab):
    class Empty(lab.L.LightningModule):
        def training_step(self, batch):
            return None

        def configure_optimizers(self):
            return None

    trainer = lab.trainer()
    trainer.fit(Empty(), lab.loader(1))
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    Empty.load_from_checkpoint(lab.tmp / "x.ckpt")


def old_file(name):
    """Return the path of a checkpoint that a former version wrote, of two epochs of three batches."""
    return Path(__file__).parents[1] / "data" / "former" / f"{name}.ckpt"


def old_model(lab, seen=None):
    """Return the class of the models in these files."""

    class Model(lab.L.LightningModule):
        def __init__(self, width=2, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(4, width)

        def training_step(self, batch, batch_idx):
            seen.append((self.current_epoch, batch_idx, self.global_step))
            return self.layer(batch).sum()

        def configure_optimizers(self):
            optimizer = SGD(self.parameters(), self.hparams.lr, momentum=0.9)
            return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]

    return Model


@lines(
    "3.8/older versions",
    "checkpoints of Lightning 1.x are brought up to date in memory, with a hint",
    {
        "1.5": ({"name": "1.5.10-end"}, Tells("1.5.10.*upgrade", gives=(2, 0.1, 0.06))),
        "1.6": ({"name": "1.6.5-end"}, Tells("1.6.5.*upgrade", gives=(2, 0.1, 0.06))),
        "1.9": ({"name": "1.9.5-end"}, Tells("1.9.5.*upgrade", gives=(2, 0.1, 0.06))),
    },
)
def _(lab, name):
    model = old_model(lab).load_from_checkpoint(old_file(name))
    return model.hparams.width, model.hparams.lr, round(model.layer.weight[0, 0].item(), 2)


@line(
    "3.8/older versions/callbacks by class",
    "as before 1.5: such a file is not safe",
    Raises("UnpicklingError", "pytorch_lightning"),
    ours=Tells("1.4.9.*upgrade", gives=(2, 0.1)),
    differs="checkpoints of Lightning before 1.5, loaded safely",
)
def _(lab):
    model = old_model(lab).load_from_checkpoint(old_file("1.4.9-end"), weights_only=True)
    return model.hparams.width, model.hparams.lr


@line(
    "3.8/older versions/training",
    "goes on from them",
    [(2, 0, 6), (2, 1, 7), (2, 2, 8)],
)
def _(lab):
    return going_on(lab, "1.9.5-end")


@line(
    "3.8/older versions/training from before 1.6",
    "goes on with their steps; epochs are counted anew",
    [(0, 0, 6), (0, 1, 7), (0, 2, 8), (1, 0, 9), (1, 1, 10), (1, 2, 11), (2, 0, 12), (2, 1, 13), (2, 2, 14)],
    ours=[(2, 0, 6), (2, 1, 7), (2, 2, 8)],
    differs="training that goes on from a checkpoint of Lightning before 1.6",
)
def _(lab):
    return going_on(lab, "1.5.10-end")


def going_on(lab, name):
    """Return (epoch, batch, steps before) of the batches up to the end of the third epoch."""
    seen = []
    batches = torch.utils.data.DataLoader(torch.ones(6, 4), batch_size=2)
    lab.trainer(max_epochs=3).fit(old_model(lab, seen)(), batches, ckpt_path=old_file(name))
    return seen


waiting(
    7,
    ("3.8/_instantiator", "classes that the command line built are built by it again"),
    ("3.7/given_hparams", "the command line's configuration is saved whole"),
)
