"""A framework on the bench: the classes and the small data that the contract's programs are made of."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import time
from functools import cached_property
from inspect import isclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARITY = Path(__file__).parent.parent / "parity"
sys.path.append(str(PARITY))

_caches: list[set[str]] = []
_traces: dict[tuple[str, str], list[str]] = {}


class Stream(IterableDataset):
    """The numbers from 0 to `count`, from a source that does not know how many there are."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(float(self.count)))


class Clock:
    """A clock that tells what it was set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lab:
    """What a program works with.

    Args:
        name: ``levin`` or ``lightning.pytorch``.
        tmp: A folder of its own; also the current one.
    """

    def __init__(self, name: str, tmp: Path) -> None:
        self.name, self.tmp = name, tmp
        self.L = importlib.import_module(name)
        if not self.ours:
            forget_what_was_warned()

    @property
    def ours(self) -> bool:
        """Whether it is levin."""
        return self.name == "levin"

    def part(self, name: str) -> Any:
        """Return a sub-package: ``lab.part("callbacks")``."""
        return importlib.import_module(f"{self.name}.{name}")

    @property
    def callbacks(self) -> Any:
        """The callbacks."""
        return self.part("callbacks")

    @property
    def loggers(self) -> Any:
        """The loggers."""
        return self.part("loggers")

    # ------------------------------------------------------------------ trainers and runs

    def trainer(self, *callbacks: Any, **arguments: Any) -> Any:
        """Return a Trainer that neither prints nor writes nor tries validation batches, unless told to."""
        usual = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "default_root_dir": self.tmp,
            "logger": False,
            "enable_checkpointing": any(isinstance(cb, self.callbacks.Checkpoint) for cb in callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": list(callbacks),
        }
        return self.L.Trainer(**{**usual, **arguments})

    def fit(
        self,
        model: Any = None,
        *callbacks: Any,
        train: Any = 3,
        val: Any = 2,
        ckpt_path: Any = None,
        **arguments: Any,
    ) -> Any:
        """Fit a model (by default `model()`) with so many batches, or these loaders; return the Trainer."""
        trainer = self.trainer(*callbacks, **arguments)
        trainer.fit(
            self.model() if model is None else model,
            self.loader(train),
            self.loader(val),
            ckpt_path=ckpt_path,
        )
        return trainer

    def run(self, name: str, model: Any = None, data: Any = 2, *callbacks: Any, **arguments: Any) -> Any:
        """Call ``validate``, ``test`` or ``predict`` of a new Trainer; return what it returns."""
        trainer = self.trainer(*callbacks, **arguments)
        kwargs = {} if name == "predict" else {"verbose": False}
        return getattr(trainer, name)(self.model() if model is None else model, self.loader(data), **kwargs)

    def notes(self, kind: str, model: Any = None, *callbacks: Any, **kwargs: Any) -> list[str]:
        """Fit, and return the model's notes of one kind."""
        return self.fit(model, *callbacks, **kwargs).lightning_module.noted(kind)

    # ------------------------------------------------------------------ modules and data

    @cached_property
    def Module(self) -> Any:
        """A module of one weight that notes what it is run on; each step of its optimizer takes 1 from it."""
        return noting_module(self.L)

    def module(self, **members: Any) -> Any:
        """Return a subclass of `Module` with these members."""
        return type("Model", (self.Module,), members)

    def model(self, **members: Any) -> Any:
        """Return a `Module` with these members."""
        return self.module(**members)()

    def bare(self, **members: Any) -> Any:
        """Return a plain module of the framework with one weight and these members."""

        def __init__(module: Any) -> None:
            self.L.LightningModule.__init__(module)
            module.weight = torch.nn.Parameter(torch.zeros(()))

        return type("Bare", (self.L.LightningModule,), {"__init__": __init__, **members})()

    def callback(self, **members: Any) -> Any:
        """Return a callback with these hooks."""
        return type("Listening", (self.L.Callback,), members)()

    def loader(self, data: Any) -> Any:
        """Return so many batches of one row, each its number; or what was given."""
        return DataLoader(torch.arange(float(data))) if type(data) is int else data

    def stream(self, count: int) -> DataLoader:
        """Return a loader that does not know that it has `count` batches."""
        return DataLoader(Stream(count))

    def data(self, **members: Any) -> Any:
        """Return a data module with these members, and 3 training, 2 validation, test, prediction batches."""

        def loads(count: int) -> Callable[[Any], Any]:
            return lambda _: self.loader(count)

        loaders = {"train": 3, "val": 2, "test": 2, "predict": 2}
        usual = {f"{kind}_dataloader": loads(count) for kind, count in loaders.items()}
        return type("Data", (self.L.LightningDataModule,), {**usual, **members})()

    def logger(self) -> Any:
        """Return a logger that keeps its rows: ``(metrics, step)``."""
        return keeping_logger(self.loggers.Logger)

    # ------------------------------------------------------------------ looking

    def trace(self, scenario: str) -> list[str]:
        """Return the calls of a scenario of tests/parity, without what stands after the bar."""
        if (self.name, scenario) not in _traces:
            from recorder import without_trial
            from scenarios import trace

            calls = without_trial(trace(scenario, self.L, str(self.tmp / scenario)))
            _traces[self.name, scenario] = [call.split(" | ")[0] for call in calls]
        return _traces[self.name, scenario]

    def files(self, folder: Any = "", pattern: str = "*") -> list[str]:
        """Return the files below a folder, sorted."""
        root = self.tmp / folder
        found = (path for path in root.rglob(pattern) if not path.is_dir() and path.name[0] != ".")
        return sorted(str(path.relative_to(root)) for path in found)

    @contextlib.contextmanager
    def clock(self) -> Iterator[Clock]:
        """Within it time stands still, but for what is added to the clock's `now`."""
        clock, real = Clock(), time.monotonic
        time.monotonic = clock
        try:
            yield clock
        finally:
            time.monotonic = real

    def printed(self, action: Callable[[], Any]) -> str:
        """Return what an action prints."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            action()
        return out.getvalue()


def forget_what_was_warned() -> None:
    """Let Lightning warn again of what it warns of once in a process."""
    if not _caches:
        modules = [module for name, module in sys.modules.items() if name.startswith("lightning.")]
        holders = [
            holder for module in modules for holder in (module, *filter(isclass, vars(module).values()))
        ]
        _caches.extend(
            value
            for holder in holders
            for value in vars(holder).values()
            if type(value).__name__ == "WarningCache"
        )
    for cache in _caches:
        cache.clear()


def between(calls: list[str], first: str, last: str, *, nth: int = 0) -> list[str]:
    """Return the calls from the `nth` that starts with `first` to the next that starts with `last`."""
    start = [i for i, call in enumerate(calls) if call.startswith(first)][nth]
    end = next(i for i in range(start, len(calls)) if calls[i].startswith(last))
    return calls[start : end + 1]


def only(calls: list[str], *words: str) -> list[str]:
    """Return those of the calls that hold one of the words."""
    return [call for call in calls if any(word in call for word in words)]


def noting_module(L: Any) -> Any:
    """Return the class of a module that notes what it is run on.

    In `notes`, "train 0.3" is batch 3 of epoch 0, "end 0" that epoch's end.
    """

    class Noting(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.notes: list[str] = []

        def note(self, what: str, *numbers: Any) -> None:
            self.notes.append(f"{what} {'.'.join(map(str, numbers))}".strip())

        def forward(self, batch: Any) -> Any:
            return batch * self.weight

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.note("train", self.current_epoch, batch_idx)
            return self.weight * 1

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.note("val", self.current_epoch, batch_idx)

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.note("test", dataloader_idx, batch_idx)

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.note("predict", dataloader_idx, batch_idx)
            return batch.tolist()

        def on_train_epoch_end(self) -> None:
            self.note("end", self.current_epoch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1.0)

        @property
        def num_steps(self) -> int:
            return round(-self.weight.item())

        def noted(self, what: str) -> list[str]:
            return [note.removeprefix(f"{what} ") for note in self.notes if note.split()[0] == what]

    return Noting


def keeping_logger(base: type) -> Any:
    """Return a logger that keeps what it is told."""

    class Keeping(base):  # type: ignore[misc, valid-type]
        name, version = "keeping", 0

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[tuple[dict[str, float], int | None]] = []
            self.hyperparameters: list[Any] = []
            self.endings: list[str] = []

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.rows.append((dict(metrics), step))

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            self.hyperparameters.append(params if isinstance(params, dict) else vars(params))

        def finalize(self, status: str) -> None:
            self.endings.append(status)

        def of(self, name: str) -> list[tuple[int | None, float]]:
            """Return ``(step, value)`` of each row that has the name."""
            return [(step, row[name]) for row, step in self.rows if name in row]

    return Keeping()
