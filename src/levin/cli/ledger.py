"""Run a program with a ledger: what each batch was, what it left, and a checkpoint to go on from.

``python -m levin.cli.ledger FOLDER [--every N] [--max-steps N] [--kill BATCH:MOMENT] SCRIPT ...`` runs the
script as ``python SCRIPT ...`` would. Each `Trainer.fit` in it keeps a ledger and its newest checkpoint in
the folder, and goes on from the checkpoint if there is one.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import runpy
import signal
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from levin.core.callback import Callback, Checkpoint
from levin.core.datamodule import LightningDataModule
from levin.core.metrics import to_numbers
from levin.core.module import LightningModule
from levin.trainer.trainer import Trainer
from levin.utils.fingerprint import fingerprint
from levin.utils.seed import collect_rng_state, generator_state, generators_within

_MOST = 100_000  # parts of a value that is looked at
MOMENTS = ("start", "backward", "end", "saved")
"""Where in a batch a program can be killed: before it, after its backward, its step, its checkpoint."""


class Ledger(Checkpoint):
    """Writes a line about each batch of a fit, and a checkpoint every so many.

    Args:
        folder: Where ``last.ckpt`` and, for each process, ``ledger-RANK.jsonl`` are.
        every: How many batches lie between two checkpoints.
        kill: After which batch (of all that this fit trains on, from 1) to end the process of rank 0, which
            the others follow, and where in the batch; None for never.
    """

    def __init__(self, folder: Path, every: int, kill: tuple[int, str] | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path: str = str(folder / "last.ckpt")
        self.every: int = every
        self.kill: tuple[int, str] | None = kill
        self._folder = folder
        self._file: Any = None

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Open this process's file."""
        self._file = (self._folder / f"ledger-{trainer.global_rank}.jsonl").open("a")

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Perhaps end here."""
        self._end_here(trainer, trainer.progress.total_batches + 1, "start")

    def on_after_backward(self, trainer: Trainer, *_: Any) -> None:
        """Perhaps end here."""
        self._end_here(trainer, trainer.progress.total_batches + 1, "backward")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,  # noqa: ARG002  # the hook's
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a line and a checkpoint."""
        number = trainer.progress.total_batches
        self._end_here(trainer, number, "end")
        line = {
            "rank": trainer.global_rank,
            "number": number,
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "data": fingerprint(batch),
            "logged": {name: float(value) for name, value in to_numbers(trainer.logged_metrics).items()},
            "weights": fingerprint(dict(pl_module.state_dict())),
            "random": {
                **{name: fingerprint(state) for name, state in collect_rng_state().items()},
                **{name: fingerprint(generator_state(each)) for name, each in _generators(trainer)},
            },
            "state": dict(_state(trainer)),
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if number % self.every == 0:
            trainer.save_checkpoint(self.path)
        self._end_here(trainer, number, "saved")

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Keep how it ended: a program may fit several times."""
        trainer.save_checkpoint(self.path)

    def _end_here(self, trainer: Trainer, number: int, moment: str) -> None:
        if trainer.is_global_zero and self.kill == (number, moment):
            os.kill(os.getpid(), signal.SIGKILL)


def _generators(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    """The random generators that a program holds, by where they are."""
    owners: dict[str, Any] = {
        "train_dataloader": trainer.train_dataloader,
        "module": trainer.lightning_module,
        "datamodule": trainer.datamodule,
        **{type(callback).__name__: callback for callback in trainer.callbacks},
        **{name: SimpleNamespace(**variables) for name, variables in _programs_own()},
    }
    yield from generators_within(**owners).items()


def _state(trainer: Trainer) -> Iterator[tuple[str, int]]:
    """What else a program may keep from batch to batch: plain values, by where they are."""
    module = trainer.lightning_module
    assert module is not None
    for name, parameter in module.named_parameters():
        yield f"module.{name}.requires_grad", parameter.requires_grad
    owners: list[tuple[str, Any]] = [
        *module.named_modules(prefix="module"),
        ("datamodule", trainer.datamodule),
        ("train_dataloader.dataset", getattr(trainer.train_dataloader, "dataset", None)),
        *((type(each).__name__, each) for each in trainer.callbacks if not isinstance(each, Ledger)),
    ]
    theirs = [(name, owner) for name, owner in owners if not type(owner).__module__.startswith("levin.")]
    found = [*((name, getattr(owner, "__dict__", {})) for name, owner in theirs), *_programs_own()]
    for owner_name, variables in found:
        for name, value in variables.items():
            if name not in _OURS and _is_plain(value):
                value = list(value) if isinstance(value, deque) else value
                yield f"{owner_name}.{name}", fingerprint(value)


_OURS = {*vars(LightningModule()), *vars(LightningDataModule()), *vars(Callback())} - {"training"}
"""Attributes that are levin's and torch's, of which a checkpoint holds what it has to."""


def _is_plain(value: Any, depth: int = 3) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple, deque)):
        return depth > 0 and len(value) < _MOST and all(_is_plain(part, depth - 1) for part in value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return math.prod(value.shape) < _MOST
    return isinstance(value, (str, bytes, int, float, complex, np.generic, type(None)))


def _programs_own() -> Iterator[tuple[str, dict[str, Any]]]:
    """The variables of the program's own modules, by the modules' names."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).resolve().is_relative_to(sys.path[0] or os.getcwd()):
            yield name, {key: value for key, value in vars(module).items() if not key.startswith("__")}


def main(arguments: list[str]) -> None:
    """Run a program with a ledger."""
    parser = argparse.ArgumentParser(prog="python -m levin.cli.ledger")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--kill")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    _keep_ledgers(given)
    sys.argv = [given.script, *given.arguments]
    sys.path[0] = str(Path(given.script).resolve().parent)
    runpy.run_path(given.script, run_name="__main__")


def _keep_ledgers(given: argparse.Namespace) -> None:
    """Let each fit of the program keep one."""
    plain_fit, count = Trainer.fit, 0
    kill = None
    if given.kill:
        number, moment = given.kill.split(":")
        kill = int(number), moment

    def fit(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        folder, count = given.folder / f"fit-{count}", count + 1
        ledger = Ledger(folder, given.every, kill if count == 1 else None)
        trainer.default_root_dir = str(folder)
        trainer.callbacks = [*trainer.callbacks, ledger]
        if given.max_steps is not None:
            trainer.max_steps = given.max_steps
        for callback in trainer.checkpoint_callbacks:
            if getattr(callback, "dirpath", None) is not None:
                callback.dirpath = str(folder / "checkpoints")  # type: ignore[attr-defined]  # it has one
        call = inspect.signature(plain_fit).bind(trainer, *args, **kwargs)
        # never from a file of the program's own: a former run of it may have left that
        call.arguments["ckpt_path"] = ledger.path if os.path.exists(ledger.path) else None
        plain_fit(*call.args, **call.kwargs)

    Trainer.fit = fit  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main(sys.argv[1:])
