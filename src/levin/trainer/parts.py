"""The callbacks and loggers that a trainer has: those that were given, the default ones, and their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from levin.callbacks.model_checkpoint import ModelCheckpoint
from levin.callbacks.model_summary import ModelSummary, RichModelSummary
from levin.callbacks.progress.base import ProgressBar
from levin.callbacks.progress.rich import RichProgressBar
from levin.callbacks.progress.tqdm import TQDMProgressBar
from levin.callbacks.timer import Timer
from levin.core.callback import Callback, Checkpoint
from levin.loggers.base import DummyLogger, Logger
from levin.loggers.csv import CSVLogger
from levin.loggers.tensorboard import TensorBoardLogger
from levin.trainer.arguments import parse_duration
from levin.utils.errors import MisconfigurationException
from levin.utils.imports import available
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from levin.core.module import LightningModule
    from levin.trainer.arguments import Duration


def gather_callbacks(
    given: Callback | Iterable[Callback] | None,
    *,
    checkpoints: bool | None,
    progress_bar: bool | None,
    summary: bool | None,
    max_time: Duration | None,
) -> list[Callback]:
    """The given callbacks and the default ones, in the order in which they run.

    Args:
        given: What the user passed.
        checkpoints: Whether there is a default ModelCheckpoint; None means yes.
        progress_bar: Whether there is a default progress bar; None means yes.
        summary: Whether there is a default summary of the model; None means yes.
        max_time: How long a fit may take.

    Raises:
        MisconfigurationException: If one was given of a kind that is switched off, or two progress bars.
        TypeError: If something is no callback.
        RuntimeError: If two callbacks would save their state under one key.
    """
    callbacks = _several("callbacks", given, Callback)
    _check_switches(callbacks, checkpoints=checkpoints, progress_bar=progress_bar)
    if checkpoints is not False and not _has(callbacks, Checkpoint):
        callbacks.append(ModelCheckpoint())
    if max_time is not None:
        if _has(callbacks, Timer):
            rank_zero_warn("`Trainer(max_time=...)` is ignored, since a `Timer` callback was given, too.")
        else:
            callbacks.append(Timer(duration=parse_duration("max_time", max_time)))
    pretty = available("rich")
    if progress_bar is not False and not _has(callbacks, ProgressBar):
        callbacks.append(RichProgressBar() if pretty else TQDMProgressBar())
    if summary is not False and not _has(callbacks, ModelSummary):
        shown_by_rich = any(isinstance(callback, RichProgressBar) for callback in callbacks)
        callbacks.append(RichModelSummary() if shown_by_rich else ModelSummary())
    callbacks += _from_entry_points()
    check_state_keys(callbacks)
    return in_order(callbacks)


def _several(argument: str, given: Any, kind: type[Any]) -> list[Any]:
    """What was given, one or several, as a list."""
    if given is None or isinstance(given, kind):
        return [] if given is None else [given]
    items = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for item in items:
        if not isinstance(item, kind):
            is_class = isinstance(item, type) and issubclass(item, kind)
            advice = f"give an instance: {item.__name__}(...)" if is_class else "give an object of a subclass"
            raise TypeError(f"`{argument}` holds {item!r}, which is no `{kind.__name__}`: {advice}.")
    return items


def _check_switches(
    callbacks: Sequence[Callback], *, checkpoints: bool | None, progress_bar: bool | None
) -> None:
    if checkpoints is False and _has(callbacks, Checkpoint):
        raise MisconfigurationException(
            "`enable_checkpointing=False` was given together with a callback that writes checkpoints. Leave "
            "one of the two out."
        )
    bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
    if len(bars) > 1:
        names = [type(bar).__name__ for bar in bars]
        raise MisconfigurationException(f"There are {len(bars)} progress bars: {names}. Give one.")
    if progress_bar is False and bars:
        raise MisconfigurationException(
            f"`enable_progress_bar=False` was given together with the callback {type(bars[0]).__name__}. "
            "Leave one of the two out."
        )


def _has(callbacks: Sequence[Callback], kind: type) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)


def _from_entry_points() -> list[Callback]:
    """Callbacks of installed packages that want to be in every run."""
    found: list[Callback] = []
    for entry_point in entry_points(group="levin.callbacks_factory"):
        made = entry_point.load()()
        found += [made] if isinstance(made, Callback) else list(made)
    return found


def in_order(callbacks: Iterable[Callback]) -> list[Callback]:
    """By `Callback.order`, else as they were."""
    return sorted(callbacks, key=lambda callback: callback.order)


def has_timer(callbacks: Sequence[Callback]) -> bool:
    """Whether one of the callbacks ends a fit by the clock."""
    return _has(callbacks, Timer)


def check_state_keys(callbacks: Sequence[Callback]) -> None:
    """Refuse two callbacks whose states a checkpoint could not tell apart."""
    keys = Counter(
        callback.state_key for callback in callbacks if overrides(callback, "state_dict", Callback)
    )
    for key, count in keys.items():
        if count > 1:
            raise RuntimeError(
                f"There are {count} callbacks with the state key {key!r}: a checkpoint could keep the state "
                "of one only. Remove one, or give them different arguments (or override `state_key`)."
            )


def with_callbacks_of(module: LightningModule, callbacks: Sequence[Callback]) -> list[Callback]:
    """The trainer's callbacks with the module's: one of the module's replaces the trainer's of its class."""
    own = _several("configure_callbacks", module.configure_callbacks(), Callback)
    kept = [
        callback
        for callback in callbacks
        if not any(issubclass(type(theirs), type(callback)) for theirs in own)
    ]
    merged = in_order([*kept, *own])
    check_state_keys(merged)
    return merged


def gather_loggers(given: Any, root_dir: str, *, dev_run: bool) -> list[Logger]:
    """The loggers of a trainer.

    Args:
        given: True for the default (TensorBoard where it is installed, else CSV), False for none, a logger,
            or several.
        root_dir: Where the default one writes.
        dev_run: Whether nothing is to be written.
    """
    if given is False or given == []:
        return []
    if dev_run:
        return [DummyLogger()]
    if given is None or given is True:
        kind = TensorBoardLogger if available("tensorboard") else CSVLogger
        return [kind(root_dir)]
    return _several("logger", given, Logger)
