"""Which checkpoint ``ckpt_path`` means, and which one stands in for it where that one is damaged."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from levin.callbacks.model_checkpoint import ModelCheckpoint
from levin.checkpoint.index import Index
from levin.checkpoint.io import CorruptCheckpointError
from levin.loggers.base import DirectoryLogger
from levin.trainer.states import TrainerFn
from levin.utils.paths import exists, filesystem, is_local, join, listdir, local_path, parent
from levin.utils.rank import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from levin.core.callback import Checkpoint
    from levin.trainer.trainer import Trainer


@dataclass(frozen=True)
class Choice:
    """The checkpoints that a ``ckpt_path`` may mean.

    Attributes:
        asked: The word that was given: "auto", "last", "hpc", or nothing for a certain file.
        paths: The wanted one, and what stands in for it; nothing to start anew.
    """

    asked: str = ""
    paths: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether a run goes on in its own folder."""
        return bool(self.asked)


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        path: The checkpoint that was read; None to start anew.
        checkpoint: What it holds.
        broken: The ones before it, which are damaged.
    """

    path: str | None = None
    checkpoint: dict[str, Any] | None = None
    broken: tuple[str, ...] = ()


def read_first_whole(choice: Choice, read: Callable[[str], dict[str, Any]]) -> Found:
    """Read the first of the chosen checkpoints that is whole, and say loudly if it is another than wanted.

    Args:
        choice: What to read.
        read: Reads one.

    Raises:
        CorruptCheckpointError: None is whole, and it was not "auto" that was asked for.
    """
    errors: dict[str, CorruptCheckpointError] = {}
    for path in choice.paths:
        try:
            checkpoint = read(path)
        except CorruptCheckpointError as error:
            if not choice.goes_on:
                raise
            errors[path] = error
            continue
        if errors:
            _warn(choice, errors, f"{path} is used instead, the newest whole one")
        return Found(path, checkpoint, tuple(errors))
    if not errors:
        return Found()
    if choice.asked != "auto":
        raise next(iter(errors.values()))
    _warn(choice, errors, "no other one is there: this starts from the beginning")
    return Found(broken=tuple(errors))


def _warn(choice: Choice, errors: dict[str, CorruptCheckpointError], instead: str) -> None:
    said = " ".join(str(error) for error in errors.values())
    rank_zero_warn(f"ckpt_path={choice.asked!r}: {instead}. {said}")


def choose(
    path: str | os.PathLike[str] | None, *, fn: TrainerFn, model_given: bool, trainer: Trainer
) -> Choice:
    """The files that ``ckpt_path`` means.

    Args:
        path: None, "best", "last", "auto", "hpc", a path or a URL.
        fn: What it is for.
        model_given: Whether a model was passed: an evaluation of none means the best checkpoint.
        trainer: Whose callbacks wrote it.

    Raises:
        ValueError: If there is no such checkpoint.
        FileNotFoundError: If there is no file at the path.
    """
    if path is None:
        if fn is TrainerFn.FITTING:
            # a checkpoint of an exception is there to go on from
            keeps_exceptions = any(
                hasattr(callback, "ckpt_path") for callback in trainer.checkpoint_callbacks
            )
            return _last(trainer, fn, told=False) if keeps_exceptions else Choice()
        if model_given:
            return Choice()
        rank_zero_warn(
            f"`trainer.{fn}()` was called without a model, so that the best checkpoint of the last fit is "
            f"used. To use the weights as they are pass the model: `trainer.{fn}(model)`; to be explicit "
            "pass ckpt_path='best'."
        )
        path = "best"
    if path == "best":
        return Choice(paths=(_best(trainer, fn),))
    if path in ("last", "auto", "hpc"):
        return {"last": _last, "auto": _newest, "hpc": _requeued}[str(path)](trainer, fn)
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"ckpt_path={path!r} is a {type(path).__name__}. Give the path of a checkpoint, 'best', 'last', "
            "'auto' or 'hpc', or None."
        )
    text = os.fspath(path)
    if not text:
        raise ValueError(
            "ckpt_path='' is no path. Give that of a checkpoint, 'best', 'last', 'auto' or 'hpc', or None."
        )
    if not exists(text):
        raise FileNotFoundError(f"There is no checkpoint at ckpt_path={text!r}.{_neighbours(text)}")
    return Choice(paths=(text,))


def _neighbours(path: str) -> str:
    """What lies in the folder, for a message."""
    folder = os.path.dirname(path) or "."
    if not is_local(path) or not os.path.isdir(local_path(folder)):
        return f" The folder {folder!r} does not exist either." if is_local(path) else ""
    names = [name for name in listdir(folder) if name.endswith(".ckpt")]
    return (
        f" The folder holds: {', '.join(sorted(names)[:10])}."
        if names
        else " The folder holds no checkpoint."
    )


def _best(trainer: Trainer, fn: TrainerFn) -> str:
    if trainer.fast_dev_run:
        raise ValueError(
            f"`trainer.{fn}(ckpt_path='best')` can't be used with fast_dev_run: no checkpoint is written. "
            "Pass a path."
        )
    keepers = [callback for callback in trainer.checkpoint_callbacks if hasattr(callback, "best_model_path")]
    if not keepers:
        raise ValueError(
            f"`trainer.{fn}(ckpt_path='best')` needs a ModelCheckpoint callback, and there is none. Pass a "
            "path."
        )
    if len(keepers) > 1:
        rank_zero_warn(
            f"There are {len(keepers)} checkpoint callbacks: 'best' means the best of the first one."
        )
    keeper: Any = keepers[0]
    if not keeper.best_model_path and isinstance(keeper, ModelCheckpoint):
        keeper.recall(trainer)  # another process may have trained
    best: str = keeper.best_model_path
    if not best:
        raise ValueError(
            f"`trainer.{fn}(ckpt_path='best')`: there is no best checkpoint yet. Call `trainer.fit` first, "
            "or pass a path."
        )
    return best


def _last(trainer: Trainer, fn: TrainerFn, *, told: bool = True) -> Choice:
    """The newest of all checkpoints that were written to be the last; any newest one stands in for it."""
    written = [path for callback in trainer.checkpoint_callbacks for path in _last_of(callback, trainer)]
    there = [path for path in written if exists(path)]
    paths = [*_newest_first(there), *_committed(_folders(trainer), fn)] if written else []
    if there:
        rank_zero_info(f"ckpt_path='last' is {paths[0]}.")
    elif not paths and told:
        rank_zero_warn(f"ckpt_path='last': there is no last checkpoint yet. {_anew(fn)}.")
    elif paths:
        rank_zero_warn(
            f"ckpt_path='last': {written[0]} leads nowhere. {paths[0]} is used, the newest there is."
        )
    return Choice("last", _distinct(paths))


def _newest(trainer: Trainer, fn: TrainerFn) -> Choice:
    """All checkpoints in the run's folders, the newest first."""
    _reopen_version(trainer)
    folders = _folders(trainer)
    keepers = trainer.checkpoint_callbacks
    if fn is TrainerFn.FITTING:
        keepers = [callback for callback in keepers if not getattr(callback, "save_weights_only", False)]
    lasts = [path for callback in keepers for path in _last_of(callback, trainer)]
    found = _distinct([*_committed(folders, fn), *(path for path in lasts if exists(path))])
    where = " or ".join(folders) or "any folder, as there is no callback that saves checkpoints"
    if not found and any(Index(folder).present() for folder in folders):
        rank_zero_warn(
            f"ckpt_path='auto': what is in {where} was saved with save_weights_only=True, and training can't "
            f"go on from weights alone. {_anew(fn)}."
        )
        return Choice("auto")
    if not found:
        rank_zero_info(f"ckpt_path='auto': there is no checkpoint yet in {where}. {_anew(fn)}.")
        return Choice("auto")
    rank_zero_info(f"ckpt_path='auto' is {found[0]}, the newest of {len(found)} in {where}.")
    return Choice("auto", found)


def _requeued(trainer: Trainer, fn: TrainerFn) -> Choice:
    """What jobs of a cluster left when they were put back into the queue, the newest first."""
    root = trainer.default_root_dir
    found = [re.fullmatch(r"hpc_ckpt_(\d+)\.ckpt", name) for name in (listdir(root) if exists(root) else [])]
    numbers = sorted((int(match[1]) for match in found if match), reverse=True)
    if not numbers:
        raise ValueError(
            f"`trainer.{fn}(ckpt_path='hpc')`: there is no hpc_ckpt_<n>.ckpt in {root}. To go on from the "
            "newest checkpoint there is, or else to begin, pass ckpt_path='auto'."
        )
    return Choice("hpc", tuple(join(root, f"hpc_ckpt_{number}.ckpt") for number in numbers))


def _anew(fn: TrainerFn) -> str:
    if fn is TrainerFn.FITTING:
        return "Training starts from the beginning"
    return "The weights are used as they are"


def _reopen_version(trainer: Trainer) -> None:
    """Let loggers that would begin a new version go on in the newest one that has checkpoints."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, DirectoryLogger)]
    if not loggers or loggers[0] is not trainer.loggers[0]:
        return
    for version in reversed(loggers[0].unsettled_versions()):
        folder = join(loggers[0].root_dir, f"version_{version}", "checkpoints")
        if Index(folder).present():
            for logger in loggers:
                logger.reopen(version)
            return


def _folders(trainer: Trainer) -> list[str]:
    """Where the run's checkpoints go."""
    folders = [
        callback.folder(trainer) if isinstance(callback, ModelCheckpoint) else parent(callback.ckpt_path)
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) or hasattr(callback, "ckpt_path")
    ]
    return list(dict.fromkeys(folders))


def _committed(folders: Iterable[str], fn: TrainerFn) -> list[str]:
    """What the folders' indexes know, the newest first; all there is in a folder without an index."""
    timed: list[tuple[float, str]] = []
    for folder in folders:
        index = Index(folder)
        present = index.present()
        commits = [each for each in present if not (each.weights_only and fn is TrainerFn.FITTING)]
        # in one folder it is the order of the lines that counts: clocks may be put back
        times = accumulate((commit.time for commit in commits), max)
        timed += [(time, index.path_of(commit)) for time, commit in zip(times, commits, strict=True)]
        if not present and exists(folder):
            names = [name for name in listdir(folder) if name.endswith(ModelCheckpoint.FILE_EXTENSION)]
            paths = [join(folder, name) for name in names]
            timed += [(_time_of_change(path), path) for path in paths if exists(path)]
    return [path for _, path in sorted(timed, key=lambda pair: pair[0])[::-1]]


def _newest_first(paths: list[str]) -> list[str]:
    return sorted(paths, key=_time_of_change, reverse=True) if len(paths) > 1 else paths


def _distinct(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths without those that lead to the same file as an earlier one."""
    seen = {os.path.realpath(local_path(path)) if is_local(path) else path: path for path in reversed(paths)}
    return tuple(path for path in paths if path in set(seen.values()))


def _time_of_change(path: str) -> float:
    if is_local(path):
        return os.path.getmtime(local_path(path))
    changed: float = filesystem(path).modified(path).timestamp()
    return changed


def _last_of(callback: Checkpoint, trainer: Trainer) -> list[str]:
    """The files that a callback wrote to be the last, or after an exception; links may lead nowhere."""
    written = getattr(callback, "ckpt_path", None)
    if written is not None:
        return [written] if exists(written) else []
    if not isinstance(callback, ModelCheckpoint):
        return []
    folder = callback.folder(trainer)
    names = [os.path.basename(name) for name in listdir(folder)] if exists(folder) else []
    return [
        join(folder, name)
        for name in names
        if name.startswith(callback.CHECKPOINT_NAME_LAST) and name.endswith(callback.FILE_EXTENSION)
    ]
