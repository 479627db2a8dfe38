"""Checkpoints of PyTorch Lightning 1.x: what brings them to the form that there is since 2.0."""

from __future__ import annotations

import pickle
import re
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from levin.checkpoint import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

VERSION_KEY = "pytorch-lightning_version"
FORMER_KEY = "legacy_pytorch-lightning_version"

_PACKAGE = "pytorch_lightning"
_COUNTS_LOOPS = (1, 6)  # since then a file says how far each loop has come

_SCALER = "MixedPrecision"
_SCALERS = ("native_amp_scaling_state", "NativeMixedPrecisionPlugin", "MixedPrecisionPlugin")
_APEX = "amp_scaling_state"

# Before 0.10 the states of two callbacks were not in "callbacks".
_LOOSE = {
    "checkpoint_callback_best_model_score": ("ModelCheckpoint", "best_model_score"),
    "checkpoint_callback_best_model_path": ("ModelCheckpoint", "best_model_path"),
    "checkpoint_callback_best": ("ModelCheckpoint", "best_model_score"),
    "early_stop_callback_wait": ("EarlyStopping", "wait_count"),
    "early_stop_callback_patience": ("EarlyStopping", "patience"),
}

_LOOPS = {
    "epoch_loop.batch_loop.optimizer_loop.": "epoch_loop.automatic_optimization.",
    "epoch_loop.batch_loop.manual_loop.": "epoch_loop.manual_optimization.",
    "epoch_loop.val_loop.epoch_loop.": "epoch_loop.val_loop.",
}
_OPTIMIZATION = "epoch_loop.automatic_optimization.optim_progress"
_NO_MORE = re.compile(r"(epoch_loop\.val_loop\.)?dataloader_progress|epoch_loop\.batch_loop\.state_dict")


def former_version(checkpoint: Mapping[str, Any]) -> tuple[int, int] | None:
    """The (major, minor) version that wrote ``checkpoint``, or None if it has today's form."""
    found = re.match(r"([01])\.(\d+)", str(checkpoint.get(VERSION_KEY)))
    return (int(found[1]), int(found[2])) if found else None


def brought_up_to_date(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """``checkpoint`` in today's form; the very same object if it has that form.

    Files from before 1.6 tell the epoch to go on with and the batches that stepped, and no more: the loops
    are made of these. States of callbacks that were kept by class, before 1.5, are kept by its name.
    """
    version = former_version(checkpoint)
    if version is None:
        return checkpoint
    new = {key: value for key, value in checkpoint.items() if key not in (*_LOOSE, *_SCALERS, _APEX)}
    new[FORMER_KEY], new[VERSION_KEY] = checkpoint[VERSION_KEY], FORMAT_VERSION
    for key in _SCALERS:
        if checkpoint.get(key):
            new[_SCALER] = checkpoint[key]
    if version < _COUNTS_LOOPS:
        new["loops"] = {
            "fit_loop": _counted_loop(checkpoint.get("epoch", 0), checkpoint.get("global_step", 0))
        }
    elif "loops" in checkpoint:
        new["loops"] = {name: _loop(name, state) for name, state in checkpoint["loops"].items()}
    callbacks = {_key(key): state for key, state in (checkpoint.get("callbacks") or {}).items()}
    for loose, (callback, key) in _LOOSE.items():
        if loose in checkpoint:
            callbacks[callback] = {**callbacks.get(callback, {}), key: checkpoint[loose]}
    if callbacks or "callbacks" in checkpoint:
        new["callbacks"] = callbacks
    return new


def message(checkpoint: Mapping[str, Any], name: str) -> str:
    """What to say about the file ``name`` that holds ``checkpoint``, which has a former version."""
    text = (
        f"{name} was written by PyTorch Lightning {checkpoint[VERSION_KEY]} and is brought up to date in "
        f"memory. To have a file of today's form: levin ckpt upgrade {name} TARGET."
    )
    version = former_version(checkpoint)
    if version is not None and version < _COUNTS_LOOPS and "optimizer_states" in checkpoint:
        text += (
            " As it does not tell how many batches of an epoch were done, training goes on with the first one"
            f" of epoch {checkpoint.get('epoch', 0)}."
        )
    return text


def _key(key: Any) -> str:
    """The key of a callback's state today: a class is named, and ModelCheckpoint names one setting less."""
    if isinstance(key, type):
        return key.__qualname__
    return re.sub(r"^(ModelCheckpoint\{.*), 'save_on_train_epoch_end': \w+", r"\1", str(key))


def _loop(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the loop called ``name`` of 1.6 to 1.9."""
    kept = {key: value for key, value in state.items() if not _NO_MORE.fullmatch(key)}
    if name != "fit_loop":
        return {key.removeprefix("epoch_loop."): value for key, value in kept.items()}
    new = {_fit_loop_key(key): value for key, value in kept.items()}
    optimization = new.get(_OPTIMIZATION, {})
    if "optimizer_position" in optimization:
        new[_OPTIMIZATION] = {"optimizer": optimization["optimizer"]}
    return new


def _fit_loop_key(key: str) -> str:
    for before, now in _LOOPS.items():
        if key.startswith(before):
            return now + key.removeprefix(before)
    return key


def _counted_loop(epoch: int, steps: int) -> dict[str, Any]:
    """The state of a fit loop before the first batch of an epoch, after so many steps."""
    none = _stages(0)
    stepped = {"total": _stages(steps), "current": none}
    over = {"total": _stages(epoch), "current": _stages(epoch)}
    begun = {"total": none, "current": none}
    return {
        "state_dict": {},
        "epoch_loop.state_dict": {"_batches_that_stepped": steps},
        "epoch_loop.batch_progress": {**stepped, "is_last_batch": True},
        "epoch_loop.scheduler_progress": begun,
        "epoch_loop.automatic_optimization.state_dict": {},
        _OPTIMIZATION: {"optimizer": {"step": stepped, "zero_grad": stepped}},
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": begun,
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": {**begun, "is_last_batch": False},
        "epoch_progress": over,
    }


def _stages(count: int) -> dict[str, int]:
    return {"ready": count, "started": count, "processed": count, "completed": count}


# --------------------------------------------------------------------------------- classes of these versions


class Absent:
    """The base of what stands for classes that are not here; it does nothing, whatever it is made of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


@cache
def stand_in(module: str, name: str) -> type:
    """What is built for a class, or a function, which is not here: something inert that goes by its name."""
    return dict if name == "AttributeDict" else type(name, (Absent,), {"__module__": module})


def stand_ins(names: Iterable[str], besides: Collection[Any] = ()) -> list[Any]:
    """Stand-ins for those of the ``names`` that are of PyTorch Lightning, but for those in ``besides``.

    Returns:
        Pairs of stand-in and name, as `torch.serialization.safe_globals` takes them.
    """
    parts = [name.rpartition(".") for name in names if name.startswith(f"{_PACKAGE}.")]
    pairs = [(stand_in(module, name), f"{module}.{name}") for module, _, name in parts]
    return [pair for pair in pairs if pair not in besides]


class _Unpickler(pickle.Unpickler):
    """Builds what a trusted file asks for, and stand-ins for what is of PyTorch Lightning and not here."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            if module.partition(".")[0] != _PACKAGE:
                raise
            return stand_in(module, name)


PICKLE: Any = SimpleNamespace(__name__="pickle", Unpickler=_Unpickler, load=pickle.load)
"""What `torch.load` reads trusted files with."""
