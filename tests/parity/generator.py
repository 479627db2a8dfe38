"""Training programs drawn at random: each is a text that runs with levin and with Lightning alike.

`programs()` is a hypothesis strategy. What it draws is a script, so that one that shows a difference can be
read, copied and run by itself; only what was drawn otherwise than usual stands in it. `disagreements` runs a
program with both frameworks and says where they differ.

Where levin differs on purpose (docs/differences.md) programs are drawn so that it does not show, or both
sides are brought to one form; such places name the row.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from hypothesis import strategies as st
from programs import KINDS, OUR_KEYS, differences, numbers_of, report
from recorder import CALLBACK_HOOKS, DATAMODULE_HOOKS, MODULE_HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FRAMEWORKS = ("lightning.pytorch", "levin")

PREAMBLE = """\
import importlib
import inspect
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import lr_scheduler as lr
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset
from torch.utils.data import RandomSampler, SequentialSampler
from torchmetrics import MeanMetric

L = importlib.import_module(FRAMEWORK)
callbacks = importlib.import_module(f"{FRAMEWORK}.callbacks")
loggers = importlib.import_module(f"{FRAMEWORK}.loggers")
CombinedLoader = importlib.import_module(f"{FRAMEWORK}.utilities").CombinedLoader
CALLS, SEEN, RESULTS = [], [], []


def told(value):
    if isinstance(value, torch.Tensor):
        return "tensor+graph" if value.requires_grad else "tensor"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {told(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(told, value)) + "]"
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(getattr(value, "value", value))
    return type(value).__name__ if isinstance(value, (torch.optim.SGD, torch.optim.Adam)) else "..."


def note(what, module=None, *arguments):
    grad = "grad" if torch.is_grad_enabled() else "no_grad"
    if torch.is_inference_mode_enabled():
        grad = "inference"
    line = " ".join([what, *map(told, arguments)])
    if module is not None:
        mode = "train" if module.training else "eval"
        line += f" | e{module.current_epoch} s{module.global_step} {mode}"
    CALLS.append(f"{line} {grad}")


def watch(owner, cls, *hooks):
    for hook in hooks:
        setattr(cls, hook, watched(owner, hook, getattr(cls, hook)))


def watched(owner, hook, inherited):
    def method(self, *args, **kwargs):
        bound = inspect.signature(inherited).bind(self, *args, **kwargs)
        bound.apply_defaults()
        named = {k: v for k, v in bound.arguments.items() if k not in ("self", "checkpoint", "state_dict")}
        modules = [v for v in (self, *named.values()) if isinstance(v, L.LightningModule)]
        plain = [v for v in named.values() if not isinstance(v, (L.LightningModule, L.Trainer))]
        note(f"{owner}.{hook}", *(modules or [None])[:1], *([] if hook.endswith("state_dict") else plain))
        return inherited(self, *args, **kwargs)

    return method


Named = namedtuple("Named", "row index")


class Rows(Dataset):
    def __init__(self, name, count, form="tensor", fault=-1):
        self.name, self.form, self.fault = name, form, fault
        self.rows = torch.sin(torch.arange(count * 5.0) + len(name)).view(count, 5)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if "quiet" not in self.name:
            CALLS.append(f"{self.name}[{index}]")
        if index == self.fault:
            raise LookupError("a broken row")
        row = self.rows[index]
        texts = {"row": row, "name": "n", "more": [{"nested": (row,)}, 1.0]}
        forms = {"tensor": row, "list": (row,), "dict": {"row": row}, "named": Named(row, int(index))}
        return {**forms, "texts": texts}[self.form]


class Stream(IterableDataset):
    def __init__(self, *args):
        self.rows = Rows(*args)
        self.name = self.rows.name

    def __iter__(self):
        return (self.rows[index] for index in range(len(self.rows)))


class Loader(DataLoader):
    def __iter__(self):
        if "quiet" not in self.dataset.name:
            CALLS.append(f"iter {self.dataset.name}")
        return super().__iter__()


class Batches:
    def __init__(self, *args):
        self.loader = DataLoader(*args, generator=torch.Generator())

    def __iter__(self):
        return iter(self.loader)


class SizedBatches(Batches):
    def __len__(self):
        return len(self.loader)


def tensors(batch):
    if isinstance(batch, torch.Tensor):
        return [batch] if batch.ndim == 2 else []
    parts = batch.values() if isinstance(batch, dict) else [] if isinstance(batch, str) else batch or []
    return [tensor for part in parts for tensor in tensors(part)]


class Module(L.LightningModule):
    def loss(self, batch):
        rows = torch.cat(tensors(batch))
        return mse_loss(self.net(rows[:, :4]), rows[:, 4:])
"""

SEEING = """

class Seeing(L.Callback):
    def see(self, hook, trainer):
        if not trainer.sanity_checking:
            metrics = {kind: {k: float(v) for k, v in getattr(trainer, kind).items()} for kind in KINDS}
            counters = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            SEEN.append({"hook": hook, **counters, **metrics})


def seeing(hook):
    return lambda self, trainer, pl_module, *args, **kwargs: self.see(hook, trainer)


KINDS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")
for hook in HOOKS:
    setattr(Seeing, hook, seeing(hook))
"""


@dataclass
class Program:
    """A program and what has to be known to compare its outcomes.

    Attributes:
        text: The script. `FRAMEWORK` and `ROOT`, a directory, are defined before it.
        reopens: Whether Lightning opens its loaders twice, where levin does so once.
        renumbers: Whether Lightning numbers rows of validation batches from 0 again.
        links: Whether Lightning saves a second time, where levin links.
        together: Whether validation loaders run together, and Lightning counts the batches of each.
        reads_ahead: Whether levin reads a batch ahead, where Lightning does not.
    """

    text: str
    reopens: bool = False
    renumbers: bool = False
    links: bool = False
    together: bool = False
    reads_ahead: bool = False

    def __repr__(self) -> str:
        return f"\n# ----- run it with one framework, then with the other\n{script(self)}# -----\n"


def script(program: Program, framework: str = "levin", root: str = "/tmp/random_program") -> str:
    """Return the text of a program that runs by itself and prints what it did.

    Args:
        program: The program.
        framework: `levin` or `lightning.pytorch`.
        root: The directory that it writes to.
    """
    head = f'FRAMEWORK, ROOT = "{framework}", "{root}"\n'
    tail = 'print(*CALLS, *SEEN, *RESULTS, model.state_dict(), sep="\\n")\n'
    return head + program.text + tail


# ---------------------------------------------------------------------- drawing


class Text(str):
    """A text that stands in a program as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


USUAL = {
    "accelerator": "cpu",
    "devices": 1,
    "default_root_dir": Text("ROOT"),
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Arguments of each trainer."""


class Draw:
    """Choices in a form that reads well; each shrinks to its first, the usual one."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw

    def one(self, *options: Any) -> Any:
        """Return one of the options."""
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        """Return a whole number; both ends are possible."""
        return self.draw(st.integers(low, high))

    def chance(self, percent: int) -> bool:
        """Return whether something happens that does so this often."""
        return self.draw(st.integers(1, 100)) > 100 - percent

    def rarely(self, percent: int, usual: Any, *options: Any) -> Any:
        """Return what is usual, or one of the options this often."""
        return self.one(*options) if self.chance(percent) else usual

    def some(self, options: list[str], most: int) -> list[str]:
        """Return a few different ones, in their order."""
        chosen = self.draw(st.lists(st.sampled_from(options), max_size=most, unique=True))
        return [option for option in options if option in chosen]

    def shuffled(self, items: list[str]) -> list[str]:
        """Return them in another order."""
        return self.draw(st.permutations(items))

    def arguments(self, percent: int, **options: tuple[Any, ...]) -> dict[str, Any]:
        """Return keyword arguments, each of them this often, with one of its values."""
        return {name: self.one(*values) for name, values in options.items() if self.chance(percent)}


def call(function: str, *args: str, **kwargs: Any) -> str:
    """Return the text of a call; values of keywords are put into words, those of places are text."""
    return f"{function}({', '.join([*args, *(f'{name}={value!r}' for name, value in kwargs.items())])})"


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Return the lines, moved to the right."""
    return ["    " * depth + line if line else line for line in lines]


def method(header: str, body: list[str]) -> list[str]:
    """Return the lines of a method in a class."""
    return ["", f"    def {header}:", *indented(body or ["pass"], 2)]


LOGGING_HOOKS = {
    "on_train_start": (),
    "on_train_epoch_start": (),
    "on_train_batch_start": ("batch", "batch_idx"),
    "on_before_zero_grad": ("optimizer",),
    "on_before_backward": ("loss",),
    "on_after_backward": (),
    "on_before_optimizer_step": ("optimizer",),
    "on_train_batch_end": ("outputs", "batch", "batch_idx"),
    "on_train_epoch_end": (),
    "on_validation_start": (),
    "on_validation_epoch_start": (),
    "on_validation_batch_start": ("batch", "batch_idx", "dataloader_idx=0"),
    "on_validation_batch_end": ("outputs", "batch", "batch_idx", "dataloader_idx=0"),
    "on_validation_epoch_end": (),
    "on_test_start": (),
    "on_test_epoch_start": (),
    "on_test_batch_start": ("batch", "batch_idx", "dataloader_idx=0"),
    "on_test_batch_end": ("outputs", "batch", "batch_idx", "dataloader_idx=0"),
    "on_test_epoch_end": (),
}
"""Hooks in which `self.log` works, and what they are given."""

OTHER_HOOKS = [
    "on_fit_start",
    "on_train_end",
    "on_validation_end",
    "on_test_end",
    "on_predict_start",
    "on_predict_epoch_end",
    "on_fit_end",
]
"""Hooks in which it does not."""

SEEING_HOOKS = [
    f"on_{x}_{y}" for x in ("train", "validation", "test") for y in ("batch_end", "epoch_end", "end")
]
"""Hooks in which the trainer's dicts of metrics are read."""

LISTENING_HOOKS = ["setup", "teardown", "on_fit_start", "on_sanity_check_end", *LOGGING_HOOKS, *OTHER_HOOKS]
"""Hooks in which a callback stops the run or fails."""

OPTIMIZERS = {
    "torch.optim.SGD({}, lr=0.1)": 3,
    "torch.optim.SGD({}, lr=0.05, momentum=0.9)": 3,
    "torch.optim.Adam({}, lr=0.02)": 3,
    "torch.optim.AdamW({}, lr=0.02)": 2,
    "torch.optim.RMSprop({}, lr=0.01)": 2,
    "torch.optim.Adagrad({}, lr=0.05)": 1,
    "torch.optim.LBFGS({}, lr=0.1, max_iter=3)": 2,
}

SCHEDULERS = [
    "lr.StepLR({}, 1, gamma=0.5)",
    "lr.StepLR({}, 3)",
    "lr.LambdaLR({}, lambda n: 0.8**n)",
    "lr.ExponentialLR({}, 0.9)",
    "lr.CosineAnnealingLR({}, 4)",
    "lr.CosineAnnealingWarmRestarts({}, 2)",
    "lr.CyclicLR({}, 0.01, 0.1, step_size_up=2, cycle_momentum=False)",
    "lr.OneCycleLR({}, 0.1, total_steps=40, cycle_momentum=False)",
    "lr.LinearLR({}, total_iters=max(1, int(self.trainer.estimated_stepping_batches)))",
    "lr.SequentialLR({0}, [lr.ConstantLR({0}, 0.5, 9), lr.ExponentialLR({0}, 0.9)], milestones=[2])",
    "lr.ChainedScheduler([lr.ConstantLR({0}, 0.5, 2), lr.ExponentialLR({0}, 0.9)])",
    "lr.MultiStepLR({}, [1, 3], gamma=0.3)",
    "lr.MultiplicativeLR({}, lambda n: 0.9)",
]

PLATEAUS = [
    "lr.ReduceLROnPlateau({}, patience=0, factor=0.5)",
    "lr.ReduceLROnPlateau({}, mode='max', patience=0, factor=0.5)",
    "lr.ReduceLROnPlateau({}, patience=0, cooldown=1, threshold=0.1)",
]


class Drawing:
    """One program in the making.

    Args:
        draw: What draws.
    """

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.manual = draw.chance(15)
        self.num_optimizers = draw.one(1, 2) if self.manual else 1
        self.reload = draw.rarely(8, 0, 1, 2)
        self.again = draw.rarely(6, "", "fit", *([] if self.reload else ["resume"]))
        # Lightning opens them twice: loaders that draw nothing make it the same (row "loaders after a reload,
        # and in a second `fit`")
        self.reopens = bool(self.reload or self.again)
        self.validates = draw.chance(75)
        self.tests = draw.chance(20)
        self.predicts = draw.chance(15)
        self.train_loaders = draw.rarely(12, 1, 2)
        self.val_loaders = draw.rarely(20, 1, 2) if self.validates else 0
        self.folders = 0
        self.together: list[str] = []  # kinds of loaders of which one batch has a part of each
        self.home = draw.one("passed", "passed", "module", "datamodule")
        self.streams = draw.chance(12)
        self.dev_run = not self.again and draw.rarely(4, False, True, *([] if self.streams else [2]))
        # both set the same limits (row "`fast_dev_run` with `overfit_batches`")
        self.overfit = (
            0 if self.dev_run else draw.rarely(6, 0, 1) if self.streams else draw.rarely(6, 0, 1, 2)
        )
        self.estimates = self.is_cut = False  # is_cut: an epoch may end before its validation
        self.train_names: list[str] = []
        self.step_names: list[str] = []
        self.val_names: list[str] = []
        kinds = [kind for kind, weight in OPTIMIZERS.items() for _ in range(weight)]
        self.optimizers = [draw.one(*kinds) for _ in range(self.num_optimizers)]
        self.repeats = not self.manual and "LBFGS" in self.optimizers[0]
        self.skips = draw.chance(6) and self.again != "resume"
        self.rhythm = self.validation_rhythm() if self.validates else {}
        interval = self.rhythm.get("val_check_interval", 1)
        self.is_timed = not isinstance(interval, (int, float))
        # without a batch to validate on, Lightning saves nothing in such a rhythm
        # (row "`check_val_every_n_epoch=2` without validation data")
        self.needs_validation = self.is_timed or self.rhythm.get("check_val_every_n_epoch", 1) != 1

    def validation_rhythm(self) -> dict[str, Any]:
        """Return how often there is a validation."""
        counts: tuple[Any, ...] = (1.0, 1, 2, 3) if self.streams else (0.5, 1, 2, 3, 0.25, 1.0)
        times = ("00:00:00:00", {"hours": 1}, Text("timedelta(0)"))
        options = self.draw.arguments(20, val_check_interval=(*counts, *times))
        # what was known of an epoch without validation is known after a resume (row "`fit(ckpt_path=...)`")
        epochs = (1, None) if self.again == "resume" else (2, 1, None, 3)
        return options | self.draw.arguments(15, check_val_every_n_epoch=epochs)

    # ------------------------------------------------------------------ the whole

    def program(self) -> Program:
        """Draw the rest and put it together."""
        model, (hooks, data) = self.model(), self.data()
        trainer = self.trainer()
        spies = SEEING.replace("HOOKS", repr(self.draw.some(SEEING_HOOKS, 4))) if self.sees else ""
        lines = [PREAMBLE + spies, *model, *hooks, "", *data, "", *trainer, ""]
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
        return Program(
            text,
            reopens=self.reopens,
            renumbers=bool(self.reload) or self.again == "resume",
            links="save_last=" in text,
            together="val" in self.together,
            reads_ahead=self.streams and bool(re.search("limit_train|fast_dev|overfit", text)),
        )

    # ------------------------------------------------------------------ data

    def loader(self, name: str, low: int, high: int) -> str:
        """Return the text of a loader.

        Args:
            name: Of its data.
            low: The fewest rows.
            high: The most.
        """
        draw, stream = self.draw, self.streams and self.draw.chance(70)
        rows = draw.number(low, high)
        # what is read when differs where no length is known (row "a loader of unknown length")
        name = f"{name} quiet" if self.streams else name
        form = draw.rarely(30, "tensor", "list", "dict", "named", "texts")
        # not where rows are read ahead (row "a loader of unknown length")
        fault = [str(draw.number(0, rows))] if not self.streams and draw.chance(1) else []
        data = call("Stream" if stream else "Rows", repr(name), str(rows), repr(form), *fault)
        if draw.chance(6):
            # Lightning opens what is no DataLoader once more (row "a loader that is any iterable"): these
            # draw nothing
            return call("Batches" if self.streams else "SizedBatches", data, str(draw.number(1, 3)))
        options: dict[str, Any] = draw.arguments(50, batch_size=(2, 3, 4))
        if low < 4 and not (self.reload and name.startswith("train")):
            options.update(draw.arguments(15, drop_last=(True,)))
        if not stream:
            options.update(self.sampling(name, data, rows, options))
        elif self.reopens:
            options["generator"] = Text("torch.Generator()")
        return call("Loader", data, **options)

    def sampling(self, name: str, data: str, rows: int, options: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that say in which order a loader reads.

        Args:
            name: Of its data.
            data: Their text.
            rows: How many there are.
            options: The other arguments; some do not go with a sampler of one's own.
        """
        draw = self.draw
        if self.reopens and name.startswith("train"):
            return {"generator": Text("torch.Generator()")}
        kind = (
            "in order"
            if not rows
            else draw.rarely(60, "in order", "shuffle", "own", "sampler", "batch_sampler")
        )
        if self.streams and kind not in ("in order", "own"):  # as they draw when they are read
            kind = "own"
        if kind == "own" and self.again == "resume":  # has another state (row "`fit(ckpt_path=...)`")
            kind = "in order"
        own = Text(f"torch.Generator().manual_seed({draw.number(0, 3)})")
        if kind == "batch_sampler" and self.overfit:  # fails in Lightning where another loader shuffles
            return {}
        if kind == "batch_sampler":
            # Lightning predicts in the order of the data (row "`predict` with a `batch_sampler`")
            sampler = "SequentialSampler" if name.startswith("predict") else "RandomSampler"
            options.pop("drop_last", None)
            size = options.pop("batch_size", 2)
            return {"batch_sampler": Text(f"BatchSampler({sampler}({data}), {size}, drop_last=False)")}
        return {
            "in order": {},
            "shuffle": {"shuffle": True},
            "own": {"shuffle": True, "generator": own},
            "sampler": {"sampler": Text(f"RandomSampler({data}, replacement=True, num_samples=5)")},
        }[kind]

    def may_be_empty(self, kind: str) -> bool:
        """Return whether loaders of a kind may have no batches.

        Not one of several (row "a loader without batches among several"), not for predictions (row "`predict`
        without batches").
        """
        if kind == "train":  # (row "a training loader without batches")
            return not self.reload
        is_needed = kind == "predict" or (kind == "val" and self.needs_validation)
        return not is_needed and self.val_loaders < 2 and not self.streams

    def loaders(self, kind: str) -> str:
        """Return the text of all loaders of a kind."""
        draw, is_train = self.draw, kind == "train"
        number = self.train_loaders if is_train else max(self.val_loaders, 1)
        fewest = draw.rarely(4, 1, 0) if self.may_be_empty(kind) else 4
        each = [self.loader(f"{kind}{n or ''}", fewest, 9 if is_train else 5) for n in range(number)]
        shape = draw.one("list", "dict", "nested") if number > 1 else ""
        modes = (
            ("max_size_cycle", "min_size", "max_size") if is_train else ("sequential", "min_size", "max_size")
        )
        mode = draw.rarely(30, "", *modes) if shape else ""
        if number > 1 and mode != "sequential" and (is_train or mode):
            self.together.append(kind)
        if shape == "dict":
            text = "{" + ", ".join(f'"{key}": {part}' for key, part in zip("ab", each, strict=False)) + "}"
        elif shape == "nested":
            text = f'{{"a": [{each[0]}], "b": {{"c": {each[1]}}}}}'
        else:
            text = f"[{', '.join(each)}]" if shape else each[0]
        return call("CombinedLoader", text, repr(mode)) if mode else text

    def data(self) -> tuple[list[str], list[str]]:
        """Draw all loaders; return methods for the module, and a data module, or neither."""
        kinds = ["train", *(["val"] if self.validates else [])]
        kinds += [kind for kind, wanted in (("test", self.tests), ("predict", self.predicts)) if wanted]
        self.given = {kind: self.loaders(kind) for kind in kinds}
        if self.home == "passed":
            return [], []
        hooks = [
            line
            for kind, text in self.given.items()
            for line in method(
                f"{kind}_dataloader(self)",
                [f'note("{self.home}.{kind}_dataloader")', f"return {text}"],
            )
        ]
        if self.home == "module":
            return hooks, []
        watched = self.watched("data", "Data", DATAMODULE_HOOKS)
        return [], ["", "class Data(L.LightningDataModule):", *hooks[1:], *watched]

    # ------------------------------------------------------------------ the module

    def watched(self, owner: str, name: str, hooks: list[str]) -> list[str]:
        """Return the line that lets hooks note their calls: none, some or all of them."""
        chosen = self.draw.one([], [""], hooks)
        if chosen == [""]:
            chosen = self.draw.some(hooks, 6)
        return ["", call("watch", repr(owner), name, *map(repr, chosen))] if chosen else []

    def model(self) -> list[str]:
        """Return the class of the module."""
        self.metrics: list[str] = []
        steps = [*self.training_step(), *self.evaluation_steps(), *self.hooks(), *self.configure_optimizers()]
        return ["", "class Model(Module):", *self.init()[1:], *steps]

    def init(self) -> list[str]:
        """Return the method that makes the layers."""
        draw = self.draw
        layers = ["nn.Linear(4, 3)", draw.one("nn.Tanh()", "nn.ReLU()")]
        layers += draw.rarely(40, [], ["nn.Dropout(0.4)"], ["nn.BatchNorm1d(3)"], ["nn.Dropout(0.4).eval()"])
        lines = ["super().__init__()", f"self.net = nn.Sequential({', '.join(layers)}, nn.Linear(3, 1))"]
        if self.num_optimizers > 1:
            lines.append("self.other = nn.Linear(4, 1)")
        if self.manual:
            lines.append("self.automatic_optimization = False")
        lines += [f"self.{name} = MeanMetric()" for name in self.metrics]
        if draw.chance(10):
            return method(
                "__init__(self, width=3, *, name='n')", [lines[0], "self.save_hyperparameters()", *lines[1:]]
            )
        return method("__init__(self)", lines)

    def log(self, names: list[str], prefix: str, value: str, *, options: dict[str, tuple[Any, ...]]) -> str:
        """Return a call of `self.log`, and add its name to those there are.

        Args:
            names: Where the name is kept.
            prefix: Of the name.
            value: The text of the value.
            options: Arguments that may be given, and their values.
        """
        name = f"{prefix}{len(names)}"
        names.append(name)
        chosen = self.draw.arguments(25, **options)
        if "batch_size" in options:  # a hook in which values of steps make sense
            chosen |= self.draw.one(
                {},
                {"on_epoch": True},
                {"on_step": True, "on_epoch": True},
                {"on_step": False, "on_epoch": True},
            )
        return call("self.log", repr(name), value, **chosen)

    STEP_OPTIONS = {  # noqa: RUF012  # a constant
        "prog_bar": (True,),
        "logger": (False,),
        "reduce_fx": ("mean", "sum", "min", "max", Text("torch.max")),
        "batch_size": (1, 3),
        "sync_dist": (True,),
        "rank_zero_only": (True,),
    }

    def logs(self, names: list[str], prefix: str, values: list[str], most: int = 3) -> list[str]:
        """Return the lines of a step that log something."""
        lines = []
        for _ in range(self.draw.number(0, most)):
            value = self.draw.one(*values, "metric")
            if value == "metric":
                value = f"self.mean_{prefix}{len(names)}"
                self.metrics.append(value.removeprefix("self."))
                lines.append(f"{value}(loss.detach())")
            line = self.log(names, prefix, value, options=self.STEP_OPTIONS)
            if self.draw.chance(8):
                name = names[-1]
                line = line.replace(f"self.log({name!r}, {value}", f"self.log_dict({{{name!r}: {value}}}")
            lines.append(line)
        return lines

    def training_step(self) -> list[str]:
        """Return the method that trains."""
        draw = self.draw
        has_index = draw.chance(90)
        index = ["batch_idx"] if has_index else []
        body = [call("note", "'training_step'", "self", *index)]
        if self.manual:
            body += self.manual_steps(has_index)
        else:
            body.append("loss = self.loss(batch)")
        values = ["loss", "loss * 2", "float(self.current_epoch)", *index]
        values += ["torch.tensor(3)", "loss.double().view(1)", "True"] * draw.chance(10)
        body += self.logs(self.train_names, "t", values)
        by_step = [line for line in body if line.startswith("self.log") and "on_step=False" not in line]
        self.step_names = [name for name in self.train_names if f"{name!r}" in "".join(by_step)]
        answers = ['{"loss": loss}', '{"loss": loss, "extra": loss.detach(), "text": "x"}']
        answers += ["None if batch_idx % 2 else loss"] * has_index
        answers += ["loss if self.current_epoch else None"]
        if self.manual:
            answers += ["None", '{"any": 1}']
        body.append(f"return {draw.rarely(35, 'loss', *answers)}")
        return method(f"training_step({', '.join(['self', 'batch', *index])})", body)

    def manual_steps(self, has_index: bool) -> list[str]:
        """Return the lines that update the weights by hand."""
        draw, names = self.draw, ["one", "two"][: self.num_optimizers]
        lines = [f"{', '.join(names)} = self.optimizers()"]
        for name in names:
            loss = (
                "self.loss(batch)"
                if name == "one"
                else "self.other(torch.cat(tensors(batch))[:, :4]).square().mean()"
            )
            toggles = draw.chance(30)
            update = [f"self.toggle_optimizer({name})"] * toggles
            if draw.chance(30):
                update += [
                    "def closure():",
                    f"    loss = {loss}",
                    f"    {name}.zero_grad()",
                    "    self.manual_backward(loss)",
                    "    return loss",
                    f"loss = {loss}",
                    f"{name}.step({draw.one('closure', 'closure=closure')})",
                ]
            else:
                algorithm = draw.one("norm", "value")
                clip = f"self.clip_gradients({name}, 0.1, {algorithm!r})"
                update += [
                    f"loss = {loss}",
                    f"{name}.zero_grad()",
                    "self.manual_backward(loss)",
                    *([clip] if draw.chance(30) else []),
                    *([f"if batch_idx % 2 == {draw.number(0, 1)}:"] if has_index and draw.chance(25) else []),
                ]
                update.append(f"{'    ' * update[-1].startswith('if ')}{name}.step()")
            lines += [*update, *[f"self.untoggle_optimizer({name})"] * toggles]
        if draw.chance(40):
            lines += [
                draw.one("if self.trainer.is_last_batch:", "if True:"),
                "    schedulers = self.lr_schedulers() or []",
                "    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:",
                "        scheduler.step()",
            ]
        return lines

    def evaluation_steps(self) -> list[str]:
        """Return the methods that validate, test and predict."""
        draw, lines = self.draw, []
        if self.validates or draw.chance(5):
            lines += self.evaluation_step("validation", self.val_names, "v")
        if self.tests:
            lines += self.evaluation_step("test", [], "s")
        if self.predicts:
            args = "self, batch, batch_idx" + ", dataloader_idx=0" * (self.val_loaders > 1)
            lines += method(
                f"predict_step({args})",
                [
                    'note("predict_step", self, batch_idx)',
                    "return self.net(torch.cat(tensors(batch))[:, :4])",
                ],
            )
        return lines

    def evaluation_step(self, name: str, names: list[str], prefix: str) -> list[str]:
        """Return the method that validates or tests."""
        draw = self.draw
        several = self.val_loaders > 1 or draw.chance(20)
        args = "self, batch, batch_idx" + ", dataloader_idx=0" * several
        body = [f'note("{name}_step", {args.replace("batch, ", "", 1).replace("=0", "")})']
        values = ["loss", "loss", "batch_idx", "1.5"]
        body += ["loss = self.loss(batch)", *self.logs(names, prefix, values)]
        answer = draw.rarely(
            40, None, "loss", '{"loss": loss, "x": 1}', '{"x": 1}', "None if batch_idx else loss"
        )
        return method(f"{name}_step({args})", [*body, *([f"return {answer}"] if answer else [])])

    def hooks(self) -> list[str]:
        """Return the module's own hooks: those that log, and those that change the course."""
        draw, bodies = self.draw, {}
        hooks = [hook for hook in LOGGING_HOOKS if self.tests or "test" not in hook]
        if self.skips:  # (row "a value logged in `on_train_batch_start`")
            hooks.remove("on_train_batch_start")
        if self.repeats:  # Lightning forgets what it logged before (row "values of a repeated step")
            hooks = [hook for hook in hooks if "before" not in hook and "after" not in hook]
        for hook in draw.some(hooks, 3) if draw.chance(30) else []:
            is_epoch = "batch" not in hook and "before" not in hook and "after" not in hook
            options = (
                {"prog_bar": (True,), "logger": (False,), "reduce_fx": ("max",)}
                if is_epoch
                else self.STEP_OPTIONS
            )
            names = self.names_of(hook)
            value = draw.one("1.5", "self.current_epoch")
            bodies[hook] = [self.log(names, f"{hook[3]}_{hook}", value, options=options)]
        if draw.chance(2):  # where it makes no sense
            bodies[draw.one(*OTHER_HOOKS)] = ['self.log("nowhere", 1.0)']
        for hook, line in self.turns():
            bodies[hook] = [*bodies.get(hook, []), line]
        lines = []
        for hook, body in bodies.items():
            lines += method(f"{hook}({', '.join(['self', *LOGGING_HOOKS.get(hook, ())])})", body)
        return [*lines, *self.overrides()]

    def names_of(self, hook: str) -> list[str]:
        """Return the names that are logged at the stage of a hook."""
        return self.val_names if "validation" in hook else self.train_names if "train" in hook else []

    def listener(self) -> list[str]:
        """Return the class of a callback that notes its calls, logs, keeps a state and changes the course."""
        draw, lines = self.draw, []
        hooks = [hook for hook in LOGGING_HOOKS if "test" not in hook]
        if self.skips:  # (row "a value logged in `on_train_batch_start`")
            hooks.remove("on_train_batch_start")
        for hook in draw.some(hooks, 2) * draw.chance(25):
            by = draw.one("pl_module", "self")
            # Lightning forgets what it logged before (row "values of a repeated step")
            if not (self.repeats and ("before" in hook or "after" in hook)):
                is_epoch = "batch" not in hook and "before" not in hook and "after" not in hook
                line = self.log(
                    self.names_of(hook),
                    f"{hook[3]}c_{hook}",
                    "2.5",
                    options={} if is_epoch else self.STEP_OPTIONS,
                )
                lines += method(f"{hook}(self, trainer, pl_module, *args)", [line.replace("self", by, 1)])
        if draw.chance(20):
            lines += method("state_dict(self)", ['return {"state": 3}'])
        if draw.chance(10):
            lines += method(
                "on_save_checkpoint(self, trainer, pl_module, checkpoint)", ['checkpoint["its"] = 1']
            )
        if draw.chance(4) and self.again != "resume":
            epoch = draw.number(0, 1)
            hook = draw.one(*LISTENING_HOOKS)
            line = draw.one(
                f"trainer.should_stop = trainer.current_epoch == {epoch}",
                f"if trainer.current_epoch == {epoch}: raise KeyError('told to')",
            )
            lines += method(f"{hook}(self, trainer, pl_module, *args)", [line])
            self.is_cut = True
        return ["", "", "class Listener(L.Callback):", *(lines[1:] or ["    pass"])]

    def turns(self) -> list[tuple[str, str]]:
        """Return hooks, each with a line that skips, stops or fails at some moment."""
        if self.again == "resume":  # from a whole epoch (row "`fit(ckpt_path=...)`")
            return []
        draw, turns = self.draw, []
        epoch, batch = draw.number(0, 1), draw.number(0, 2)
        if self.skips:
            moment = f"(self.current_epoch, batch_idx) == ({epoch}, {batch})"
            turns.append(("on_train_batch_start", f"return -1 if {moment} else None"))
        if draw.chance(8):
            hook = draw.one(*LOGGING_HOOKS, *OTHER_HOOKS)
            turns.append((hook, f"self.trainer.should_stop = self.current_epoch == {epoch}"))
        if draw.chance(5):
            hook = draw.one(*LOGGING_HOOKS, *OTHER_HOOKS)
            # out of the hooks of an epoch it ends the fit in Lightning (row "`StopIteration`")
            ends = "_batch_" in hook and self.val_loaders < 2
            error = draw.one("RuntimeError('told to')", *(["StopIteration()"] if ends else []))
            condition = f"self.current_epoch == {epoch} and self.global_step >= {batch}"
            turns.append((hook, f"if {condition}: raise {error}"))
        self.is_cut = bool(turns)
        return turns[:1]

    def overrides(self) -> list[str]:
        """Return the module's own ways to update weights."""
        draw, lines = self.draw, []
        if draw.chance(8) and not self.manual:
            body = draw.one(
                ["super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)"],
                ["optimizer.step(closure=optimizer_closure)"],
                [
                    "if batch_idx % 2 == 0:",
                    "    optimizer.step(closure=optimizer_closure)",
                    "else:",
                    "    optimizer_closure()",
                ],
                ["optimizer_closure()", "optimizer.step()", "optimizer.zero_grad()"],
            )
            lines += method("optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None)", body)
        if draw.chance(6):
            body = ["self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm='norm')"]
            header = (
                "configure_gradient_clipping(self, optimizer, gradient_clip_val=None, "
                "gradient_clip_algorithm=None)"
            )
            lines += method(header, body)
        if draw.chance(5):
            lines += method("backward(self, loss, *args, **kwargs)", ["loss.backward(*args, **kwargs)"])
        if draw.chance(5):
            lines += method(
                "optimizer_zero_grad(self, epoch, batch_idx, optimizer)",
                ["optimizer.zero_grad(set_to_none=False)"],
            )
        if draw.chance(5):
            body = ["scheduler.step() if metric is None else scheduler.step(metric)"]
            lines += method("lr_scheduler_step(self, scheduler, metric)", body)
        if draw.chance(5):
            body = ["return [tensor * 0.5 for tensor in tensors(batch)]"]
            lines += method("on_after_batch_transfer(self, batch, dataloader_idx)", body)
        if draw.chance(4):
            lines += method("on_save_checkpoint(self, checkpoint)", ['checkpoint["mine"] = 1'])
        return lines

    def configure_optimizers(self) -> list[str]:
        """Return the method that makes optimizers and schedulers."""
        draw = self.draw
        if not self.manual and draw.chance(3):
            return method("configure_optimizers(self)", ["return None"])
        lines, names = [], ["one", "two"][: self.num_optimizers]
        for name, kind in zip(names, self.optimizers, strict=True):
            own = {
                "one": "self.net.parameters()" if self.num_optimizers > 1 else "self.parameters()",
                "two": "self.other.parameters()",
            }
            groups = (
                '[{"params": self.net[0].parameters()}, {"params": self.net[-1].parameters(), "lr": 0.01}]'
            )
            split = name == "one" and "LBFGS" not in kind and draw.chance(12)
            lines.append(f"{name} = {kind.format(groups if split else own[name])}")
        schedulers = [self.scheduler(draw.one(*names)) for _ in range(draw.rarely(70, 0, 1, 1, 2))]
        return method("configure_optimizers(self)", [*lines, f"return {self.returned(names, schedulers)}"])

    def returned(self, names: list[str], schedulers: list[str]) -> str:
        """Return the text of what `configure_optimizers` returns, in one of its forms."""
        draw = self.draw
        if len(names) == 1 and len(schedulers) <= 1 and (schedulers or draw.chance(10)) and draw.chance(60):
            parts = ['"optimizer": one', *(f'"lr_scheduler": {text}' for text in schedulers)]
            return "{" + ", ".join(parts) + "}"
        if schedulers:
            return f"[{', '.join(names)}], [{', '.join(schedulers)}]"
        return "one" if len(names) == 1 and draw.chance(80) else f"[{', '.join(names)}]"

    def monitors(self, bad: int = 4) -> list[str]:
        """Return names that may be monitored; once in a while one that nobody logs."""
        names = [*self.val_names, *self.train_names]
        return ["nowhere"] if self.draw.chance(bad) or not names else names

    def scheduler(self, optimizer: str) -> str:
        """Return the text of a scheduler, bare or with its settings."""
        draw = self.draw
        if not self.manual and draw.chance(30):
            text = draw.one(*PLATEAUS).format(optimizer)
            if draw.chance(3):  # a metric has to be named
                return text
            settings = {"scheduler": Text(text), "monitor": draw.one(*self.monitors())}
            settings |= draw.arguments(25, interval=("step", "epoch"), frequency=(1, 2), strict=(False,))
            if (
                self.again == "resume"
            ):  # by epoch the last move is lost in Lightning (row "`ReduceLROnPlateau` by epoch")
                settings["interval"] = "step"
            return repr(settings)
        text = draw.one(*SCHEDULERS).format(optimizer)
        self.estimates = self.estimates or "estimated" in text
        if draw.chance(30):
            return text
        settings = draw.arguments(60, interval=("step", "epoch"), frequency=(1, 2, 3))
        settings |= draw.arguments(2, interval=("batch",), monitor=("t0",))
        return repr({"scheduler": Text(text), **settings})

    # ------------------------------------------------------------------ callbacks

    def checkpoint(self) -> str:
        """Return the text of a ModelCheckpoint."""
        draw = self.draw
        # where no validation came since, levin waits for one (row "`every_n_train_steps` with a `monitor`")
        names = self.monitors()
        waits = [name for name in names if name in self.val_names]
        usable = [name for name in names if name not in waits] if self.skips else names
        monitor = draw.rarely(50, None, *usable) if usable else None
        options: dict[str, Any] = {} if monitor is None else {"monitor": monitor}
        rhythm = draw.rarely(40, "", "steps", "epochs")
        # a metric that is not each step's is waited for (the same row); at the last batch before a validation
        # Lightning waits whatever the metric is (row "a save by steps at an epoch's last batch")
        if rhythm == "steps" and (monitor is None or (monitor in self.step_names and not self.rhythm)):
            options["every_n_train_steps"] = draw.number(1, 3)
        elif rhythm == "epochs":
            options["every_n_epochs"] = draw.number(1, 2)
        sizes = (1, 2, 3, -1, 0) if monitor else (1, -1, 0)
        if self.is_cut and monitor in waits:  # nor at the end of an epoch that was cut off (the same row)
            sizes = (1, 0)
        options |= draw.arguments(
            15,
            save_top_k=sizes,
            # Lightning writes last.ckpt in a dev run, too (row "`fast_dev_run` with `save_last`")
            **({} if self.dev_run else {"save_last": (True, "link")}),
            mode=("max", "min"),
            save_weights_only=(True,),
            save_on_train_epoch_end=(False,) if monitor in waits else (True, False),
            filename=("{epoch}", "{epoch:02d}-{step}", "same", f"{{epoch}}-{{{names[0]}:.2f}}"),
            auto_insert_metric_name=(False,),
            dirpath=(Text('f"{ROOT}/mine"'),),
        )
        if draw.chance(10):  # in a folder of its own (row "files that two `ModelCheckpoint`s write")
            number = self.folders = self.folders + 1
            options |= {"enable_version_counter": False, "dirpath": Text(f'f"{{ROOT}}/{number}"')}
        if draw.chance(5):  # the same (row "files that two `ModelCheckpoint`s write")
            number = self.folders = self.folders + 1
            options |= {"save_on_exception": True, "dirpath": Text(f'f"{{ROOT}}/{number}"')}
        # in manual optimization Lightning saves nothing (row "`train_time_interval`")
        if not self.manual and not options.keys() & {"monitor", "every_n_train_steps", "every_n_epochs"}:
            options |= draw.arguments(
                5, train_time_interval=(Text("timedelta(0)"), Text("timedelta(hours=1)"))
            )
        if monitor and rhythm == "steps":
            options.pop("save_on_train_epoch_end", None)
        if options.get("save_top_k") == 0:  # row "`save_last` with `save_top_k=0`"
            options.pop("save_last", None)
        return call("callbacks.ModelCheckpoint", **options)

    def early_stopping(self) -> str:
        """Return the text of an EarlyStopping."""
        draw = self.draw
        options = draw.arguments(
            30,
            patience=(1, 0, 2),
            mode=("max",),
            min_delta=(0.05, 0.5),
            strict=(False,),
            stopping_threshold=(0.4,),
            divergence_threshold=(0.6,),
            check_finite=(False,),
            check_on_train_epoch_end=(True, False),
        )
        return call("callbacks.EarlyStopping", repr(draw.one(*self.monitors())), **options)

    def callbacks(self, *, has_logger: bool, checkpoints: bool) -> list[str]:
        """Return the texts of the callbacks in some order.

        Args:
            has_logger: Whether there is a logger.
            checkpoints: Whether checkpoints may be saved.
        """
        draw, texts = self.draw, []
        if checkpoints:
            texts += [self.checkpoint() for _ in range(draw.rarely(50, 0, 1, 1, 2))]
            if self.rhythm.get("check_val_every_n_epoch", 1) is None:  # one fault at a time
                texts = list(dict.fromkeys(texts))
        # with a time it fails in Lightning (row "`EarlyStopping` with a `val_check_interval`"); an epoch that
        # is cut off is judged there (row "`EarlyStopping` at the end of an epoch")
        if not (self.is_timed or self.is_cut) and self.again != "resume" and draw.chance(20):
            texts.append(self.early_stopping())
        if has_logger and draw.chance(20):
            options = draw.arguments(40, logging_interval=("step", "epoch"), log_momentum=(True,))
            # optimizers without it fail in Lightning (row "`LearningRateMonitor(log_weight_decay=True)`")
            if not any("LBFGS" in kind for kind in self.optimizers):
                options |= draw.arguments(40, log_weight_decay=(True,))
            texts.append(call("callbacks.LearningRateMonitor", **options))
        # with both Lightning's number is wrong, and it fails in a second fit (rows
        # "`estimated_stepping_batches`" and "a `GradientAccumulationScheduler`")
        if not self.manual and not self.estimates and not self.again and draw.chance(5):
            schedule = {draw.number(0, 1): draw.number(1, 3), **draw.one({}, {2: 1})}
            texts.append(f"callbacks.GradientAccumulationScheduler({schedule})")
        if draw.chance(5):
            durations = (Text('{"hours": 1}'), Text("timedelta(0)"), "01:00:00:00")
            texts.append(
                call(
                    "callbacks.Timer",
                    duration=draw.one(*durations),
                    **draw.arguments(50, interval=("epoch", "step")),
                )
            )
        others = (
            "callbacks.ModelSummary(2)",
            "callbacks.LambdaCallback(on_train_epoch_end=lambda *_: CALLS.append('lambda'))",
        )
        others += ('callbacks.OnExceptionCheckpoint(f"{ROOT}/failed")',) * checkpoints
        texts += draw.rarely(8, [], *([text] for text in others))
        if self.again == "resume":
            always = {"monitor": "step", "mode": "max", "save_on_train_epoch_end": True}
            texts.append(call("callbacks.ModelCheckpoint", 'f"{ROOT}/again"', **always))
            # Lightning goes on with any random state (row "`fit(ckpt_path=...)`")
            texts.append("callbacks.LambdaCallback(on_train_epoch_start=lambda *_: torch.manual_seed(5))")
        self.sees = draw.chance(50)
        texts += ["Seeing()"] * self.sees
        return draw.shuffled(texts) if len(texts) > 1 and draw.chance(50) else texts

    # ------------------------------------------------------------------ the trainer

    def limits(self) -> dict[str, Any]:
        """Return how long the run is, and how much of its data is used."""
        draw = self.draw
        options: dict[str, Any] = {"max_epochs": draw.rarely(60, 2, 1, 3, *([] if self.again else [0]))}
        if not self.again:
            steps = draw.arguments(10, max_steps=(1, 2, 3, 4, 5, 0, -1), min_steps=(1, 3, 5))
            options |= steps | draw.arguments(10, min_epochs=(1, 2))
            self.is_cut = self.is_cut or "max_steps" in steps
        # no count above an unknown length (row "a loader of unknown length with `limit_train_batches=n`")
        counts: tuple[Any, ...] = (1,) if self.streams else (1, 2, 3, 5, 0, 1.0, 0.0)
        shares: tuple[Any, ...] = (0.5, 0.34) * (not self.streams)
        for kind in ("train", "test", "predict", *([] if self.needs_validation else ["val"])):
            # (row "a share of several loaders that are run together")
            limits = counts if kind in self.together else counts + shares
            if kind == "predict":  # (row "`predict` without batches")
                limits = tuple(limit for limit in limits if limit)
            options |= draw.arguments(12, **{f"limit_{kind}_batches": limits})
        if self.dev_run:
            options["fast_dev_run"] = self.dev_run
        if self.overfit:
            options["overfit_batches"] = self.overfit
        return options

    def intervals(self) -> dict[str, Any]:
        """Return how often things happen."""
        draw = self.draw
        options = draw.arguments(
            25,
            num_sanity_val_steps=(0, 1, -1),
            log_every_n_steps=(1, 2, 3, 0),
        )
        options.setdefault("log_every_n_steps", 1)
        # (row "a `LearningRateMonitor` in a `fast_dev_run`")
        if self.dev_run:
            options["log_every_n_steps"] = 1
        options |= self.rhythm  # with a validation only (row "settings of a validation that there is not")
        if self.reload:
            options["reload_dataloaders_every_n_epochs"] = self.reload
        return options

    def updates(self) -> dict[str, Any]:
        """Return what happens to gradients, and in which precision."""
        draw = self.draw
        options: dict[str, Any] = {}
        if not self.manual or draw.chance(3):
            options |= draw.arguments(20, gradient_clip_val=(0.1, 1, 0.0))
            # a validation before the first step of a resumed run (row "the step at which a run resumes")
            if not (self.again == "resume" and self.rhythm):
                options |= draw.arguments(30, accumulate_grad_batches=(2, 3))
            options |= draw.arguments(10, gradient_clip_algorithm=("norm", "value"))
        options |= draw.arguments(
            10,
            precision=("64-true", "bf16-mixed", "bf16-true", "16-true", "32-true", "16-mixed"),
            inference_mode=(False,),
            detect_anomaly=(True,),
        )
        return options

    def extras(self) -> dict[str, Any]:
        """Return what else a trainer takes."""
        return self.draw.arguments(
            3,
            max_time=(Text('{"hours": 1}'), "00:01:00:00", Text("timedelta(0)")),
            deterministic=(True, "warn"),
            benchmark=(False,),
            profiler=("simple",),
            enable_model_summary=(True,),
            use_distributed_sampler=(False,),
            num_nodes=(1,),
        )

    def trainer(self) -> list[str]:
        """Return the lines that make the model and the trainer, and run."""
        draw = self.draw
        options = {**self.limits(), **self.intervals(), **self.updates(), **self.extras()}
        has_logger, checkpoints = draw.chance(85), draw.chance(90)
        self.listening = self.listener()
        callbacks = self.callbacks(has_logger=has_logger, checkpoints=checkpoints)
        several = "[loggers.CSVLogger(ROOT), loggers.CSVLogger(ROOT, 'second')]"
        options["logger"] = Text(draw.rarely(5, "loggers.CSVLogger(ROOT)", several)) if has_logger else False
        if not checkpoints:
            options["enable_checkpointing"] = False
        watched = self.watched("module", "Model", MODULE_HOOKS)
        spied = self.watched("callback", "Listener", CALLBACK_HOOKS)
        if spied:
            callbacks.append("Listener()")
            watched += [*self.listening, "", *spied]
        if callbacks:
            options["callbacks"] = Text(f"[{', '.join(callbacks)}]")
        lines = [f"{kind} = {text}" for kind, text in self.given.items()] if self.home == "passed" else []
        lines += ["model = Model()", *(["data = Data()"] if self.home == "datamodule" else [])]
        lines += [call("trainer = L.Trainer", **{**USUAL, **options})]
        return [*watched, "", "L.seed_everything(3, verbose=False)", *lines, *self.runs(options)]

    def runs(self, options: dict[str, Any]) -> list[str]:
        """Return the lines that fit, and what comes after it.

        Args:
            options: The trainer's arguments.
        """
        other = ", datamodule=data" if self.home == "datamodule" else ""
        passed = self.home == "passed"
        fit = f"trainer.fit(model{', train' + ', val' * self.validates if passed else other})"
        lines = [fit]
        if self.validates and not self.again and self.draw.chance(4):
            lines.insert(
                0, f"RESULTS.append(trainer.validate(model{', val' if passed else other}, verbose=False))"
            )
        if self.draw.chance(5):
            lines += [
                'trainer.save_checkpoint(f"{ROOT}/end.ckpt")',
                'RESULTS.append(Model.load_from_checkpoint(f"{ROOT}/end.ckpt").state_dict())',
            ]
        for kind, name, wanted in (
            ("val", "validate", self.validates and self.draw.chance(15)),
            ("test", "test", self.tests),
        ):
            if wanted:
                given = f", {kind}" if passed else other
                may = options.get("enable_checkpointing", True) and not self.again
                # an OnExceptionCheckpoint is asked for its best (row "settings that fail later")
                may = may and "OnException" not in str(options.get("callbacks"))
                given += ', ckpt_path="best"' * (may and self.draw.chance(25))
                lines.append(f"RESULTS.append(trainer.{name}(model{given}, verbose=False))")
        if self.predicts:
            lines.append(f"RESULTS.append(trainer.predict(model{', predict' if passed else other}))")
        longer = options["max_epochs"] + 1
        if self.again == "fit":
            lines += ['CALLS.append("again")', f"trainer.fit_loop.max_epochs = {longer}", fit]
        elif self.again == "resume":
            # none, as `current_epoch` differs in a resumed one (row "from the end of an epoch")
            again = {**USUAL, **options, "max_epochs": longer, "num_sanity_val_steps": 0}
            lines += ['CALLS.append("again")', 'path = max(Path(ROOT, "again").iterdir())', "model = Model()"]
            lines += [call("trainer = L.Trainer", **again), f"{fit[:-1]}, ckpt_path=path)"]
        return lines


@st.composite
def programs(draw: Any) -> Program:
    """Draw a program."""
    return Drawing(Draw(draw)).program()


# ---------------------------------------------------------------------- running


def run(program: Program, framework: str, root: Path) -> dict[str, Any]:
    """Run a program and return what came out of it.

    Args:
        program: The program.
        framework: `levin` or `lightning.pytorch`.
        root: An empty directory.
    """
    space: dict[str, Any] = {"__name__": "program", "FRAMEWORK": framework, "ROOT": str(root)}
    error = None
    with warnings.catch_warnings(), silence():
        warnings.simplefilter("ignore")
        try:
            exec(compile(program.text, "<program>", "exec"), space)
        except Exception as caught:
            error = caught
        finally:  # what a run that failed may have left behind
            torch.set_grad_enabled(True)
            torch.set_default_dtype(torch.float32)
            torch.autograd.set_detect_anomaly(False)
            torch.use_deterministic_algorithms(False)
        told = {"calls": list(space["CALLS"]), "seen": space["SEEN"], "results": space["RESULTS"]}
        out: dict[str, Any] = {**told, "error": type(error).__name__, "what": error}
        if "trainer" in space:
            out["whole"] = report(space["trainer"], space["model"], root)
            out["contents"] = {
                str(file.relative_to(root)): contents_of(file, root) for file in sorted(root.rglob("*.ckpt"))
            }
            files = [each for each in root.rglob("*") if each.is_file()]
            # (row "the folder of checkpoints")
            out["files"] = sorted(str(p.relative_to(root)) for p in files if p.name != ".checkpoints.jsonl")
            out["metrics"] = {kind: numbers_of(getattr(space["trainer"], kind)) for kind in KINDS}
    return out


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let nothing be logged or printed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def contents_of(file: Path, root: Path) -> dict[str, Any]:
    """Return what is in a checkpoint, with paths from `root` on, and exact where `differences` is not."""
    checkpoint = torch.load(file, weights_only=False)
    kept = {key: part for key, part in checkpoint.items() if key not in OUR_KEYS}
    kept["loops"] = counters_of(checkpoint["loops"]["fit_loop"])
    if "callbacks" in kept:
        kept["callbacks"] = rooted(kept["callbacks"], str(root))
        for state in kept["callbacks"].values():
            # rows "messages" and "the state of a `ModelCheckpoint`"
            for name in ("stopping_reason_message", "last_model_path", "time_elapsed"):
                state.pop(name, None)
    return kept


def counters_of(loop: dict[str, Any]) -> dict[str, Any]:
    """Return what of a fit loop's state means something (row "counters in a checkpoint")."""
    optimization = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    batches = loop["epoch_loop.batch_progress"]
    return {
        "epochs": [loop["epoch_progress"][part]["processed"] for part in ("total", "current")],
        "batches": [batches[part]["processed"] for part in ("total", "current")],
        "is last": batches["is_last_batch"],
        "stepped": loop["epoch_loop.state_dict"],
        "schedulers": loop["epoch_loop.scheduler_progress"]["total"]["completed"],
        "steps": [
            kind[part]["completed"]
            for kind in (optimization, loop["epoch_loop.manual_optimization.optim_step_progress"])
            for part in ("total", "current")
        ],
        "validation": loop["epoch_loop.val_loop.batch_progress"]["current"]["ready"],
    }


def rooted(value: Any, root: str) -> Any:
    """Return nested states with short paths, and floats, of which `differences` allows for rounding."""
    if isinstance(value, dict):
        return {rooted(key, root): rooted(part, root) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rooted(part, root) for part in value]
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value)
    return value.replace(root, "ROOT") if isinstance(value, str) else value


SAVING = r"\w+\.(state_dict|on_save_checkpoint)"
"""Calls that a save makes."""

AFTER_WHICH_TO_SAVE = r"module\.on_(validation|train_batch)_end"
"""Hooks of the module that see a save in Lightning, and come before it in levin."""


def comparable(program: Program, out: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome without what differs on purpose, and without NaN, which equals nothing.

    Args:
        program: The program.
        out: What `run` returned.
    """
    calls = out["calls"]
    if program.reopens:  # row "loaders after a reload, and in a second `fit`"
        calls = [call for call in calls if not call.startswith("iter train")]
    if program.links:  # row "`save_last=True`"
        calls = [call for call in calls if not re.match(SAVING, call)]
    # row "a state that no checkpoint can hold": it is asked for once more, before training
    calls = [call for call in calls if not re.match(r"\w+\.state_dict", call)]
    # row "`Trainer.test` after an exception inside an evaluation"
    calls = [re.sub(r" (train|eval) grad$", "", c) if ".on_exception" in c else c for c in calls]
    if out["error"] != "NoneType":  # how far it comes before a setting is found wrong is not the same
        calls = [call for call in calls if not call.startswith(("iter ", "module.configure_callbacks"))]
        calls = [re.sub(r" (train|eval) grad$", "", c) if re.match(SAVING, c) else c for c in calls]
        calls = [call for call in calls if not re.match(AFTER_WHICH_TO_SAVE, call)]
    if "again" in calls:  # row "from the end of an epoch": the epoch is another one until training begins
        start = calls.index("again")
        calls = calls[:start] + [re.sub(r"\| e\d+", "|", call) for call in calls[start:]]
    calls = with_late_saves(calls)
    kept = {"calls": calls, "seen": out["seen"], "results": out["results"], "error": out["error"]}
    if "whole" in out:
        kept |= {**out["whole"], **{part: out[part] for part in ("contents", "files", "metrics")}}
        # row "`trainer.num_training_batches` with `limit_train_batches=0`"
        kept["counters"]["num_training_batches"] = kept["counters"]["num_training_batches"] or math.inf
        if program.reads_ahead:  # row "a loader of unknown length"
            kept.pop("random state", None)
        # row "`num_val_batches` of a `CombinedLoader`"; and in a second fit that does not validate Lightning
        # has those of the first
        if program.together or "again" in calls:
            kept["counters"].pop("num_val_batches")
        if kept["counters"]["global_step"] == 0:  # row "`save_last` where nothing was trained"
            kept.pop("metrics")  # levin tells what `on_train_start` logged, though no step followed
            for part in ("checkpoints", "contents"):
                kept[part] = {name: each for name, each in kept[part].items() if "last.ckpt" not in name}
            kept["files"] = [name for name in kept["files"] if "last.ckpt" not in name]
    if out["error"] != "NoneType":
        # what has happened by then is not the same either (row "when a checkpoint is written")
        for part in ("random state", "metrics", "rows", "columns"):
            kept.pop(part, None)
        for contents in kept.get("contents", {}).values():
            contents.pop("loops", None)
        if "ReduceLROnPlateau" in str(out["what"]):  # by then there is a file of the epoch
            for part in ("checkpoints", "contents", "files"):
                kept.pop(part, None)
        for name in ("num_training_batches", "num_val_batches"):
            kept.get("counters", {}).pop(name, None)
    # rows "`reload_dataloaders_every_n_epochs`" and "`val_..._step` rows after a resume"
    if program.renumbers and "rows" in kept:
        kept["rows"] = {file: [row for row in rows if "epoch" in row] for file, rows in kept["rows"].items()}
    return without_nan(kept)


def with_late_saves(calls: list[str]) -> list[str]:
    """Return calls with those of a save after the module's hook, as in row "when a checkpoint is written"."""
    ordered: list[str] = []
    for call in calls:
        place = len(ordered)
        if re.match(AFTER_WHICH_TO_SAVE, call):
            while place and re.match(SAVING, ordered[place - 1]):
                place -= 1
        ordered.insert(place, call)
    return ordered


def without_nan(value: Any) -> Any:
    """Return nested values with a number for what is not a number, and would equal nothing."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return torch.nan_to_num(value, nan=12345.0)
    return 12345.0 if isinstance(value, float) and math.isnan(value) else value


def disagreements(program: Program) -> list[str]:
    """Run a program with both frameworks and return where they differ, one line each.

    Args:
        program: The program.
    """
    with TemporaryDirectory() as root:
        theirs, ours = [run(program, framework, Path(root) / framework) for framework in FRAMEWORKS]
    lines = differences(comparable(program, theirs), comparable(program, ours))
    if theirs["what"] or ours["what"]:
        lines += [f"errors: {theirs['what']!r} against {ours['what']!r}"] if lines else []
    return lines
