"""What may be in a checkpoint: values that `torch.load(weights_only=True)` reads back, and nothing else."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from enum import Enum
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

_ATOMS = frozenset(
    {
        str, int, float, bool, type(None), bytes, bytearray, complex,
        torch.dtype, torch.device, torch.Size, torch.layout, torch.qscheme,
    }
)  # fmt: skip
_TENSORS = frozenset({Tensor, nn.Parameter})
_MAPPINGS = frozenset({dict, OrderedDict, Counter})
_SERIES = (list, tuple, set)
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)

# Subclasses of these are stored as what they are at heart, enumerations of strings and numbers among them.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (complex, complex),
    (bytes, bytes),
    (PurePath, str),
)

_HINTS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (_UNINITIALIZED, "it after a first batch has given it its shape"),
    (nn.Module, "its `state_dict()`, or leave it out: `save_hyperparameters(ignore=[...])`"),
    (Enum, "its `.value`"),
    (timedelta, "its `.total_seconds()`"),
    ((date, time), "its `.isoformat()`"),
    ((deque, frozenset, range), "a list of it"),
    (type, "its import path as a string"),
)


def plain(value: Any, path: str = "checkpoint") -> Any:
    """``value`` in a form that can be read back with ``torch.load(weights_only=True)``.

    What is plain already is returned as it is, the very same object; tensors are never copied. Other mappings
    and namespaces become dicts, subclasses of list, tuple, set, str and of numbers become these, paths become
    strings, numpy's scalars numbers and its arrays tensors over the same memory. Attributes that Python code
    gave a tensor are left out.

    Args:
        value: Anything.
        path: How ``value`` is called in errors.

    Raises:
        TypeError: Something in it can't be read back; the text names it as ``path.key.key`` and says what to
            store instead.
    """
    try:
        return _plain(value, path)
    except RecursionError:
        raise TypeError(f"{path} is nested too deeply to be written, or contains itself.") from None


def _plain(value: Any, path: str) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind in _TENSORS:
        return value.detach() if vars(value) else value
    if kind in _MAPPINGS:
        return _plain_mapping(value, kind, path)
    if kind in _SERIES:
        return _plain_series(value, kind, path)
    return _converted(value, path)


def _plain_mapping(value: Mapping[Any, Any], kind: type, path: str) -> Any:
    is_changed = type(value) is not kind
    items = {}
    for key, item in value.items():
        plain_key = key if type(key) in _ATOMS else _plain(key, f"{path}, key {key!r}")
        plain_item = item if type(item) in _ATOMS else _plain(item, f"{path}.{key}")
        is_changed = is_changed or plain_key is not key or plain_item is not item
        items[plain_key] = plain_item
    # a module's state dict carries the versions of its modules as an attribute
    attributes = vars(value) if kind is OrderedDict else {}
    plain_attributes = _plain(attributes, path) if attributes else attributes
    if not is_changed and plain_attributes is attributes:
        return value
    rebuilt = kind(items)
    if plain_attributes:
        vars(rebuilt).update(plain_attributes)
    return rebuilt


def _plain_series(value: Iterable[Any], kind: type, path: str) -> Any:
    items = [
        item if type(item) in _ATOMS else _plain(item, f"{path}.{index}") for index, item in enumerate(value)
    ]
    if type(value) is kind and all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return kind(items)


def _converted(value: Any, path: str) -> Any:
    if type(value) in torch.serialization.get_safe_globals():  # allowed by whoever wrote the class
        return value
    for base, convert in _BASES:
        if isinstance(value, base):
            return convert(value)
    if isinstance(value, (Namespace, SimpleNamespace)):
        value = vars(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, dict, path)
    for base in (tuple, set, MutableSequence):
        if isinstance(value, base) and not isinstance(value, deque):
            return _plain_series(value, list if base is MutableSequence else base, path)
    return _as_tensor_or_number(value, path)


def _as_tensor_or_number(value: Any, path: str) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, _UNINITIALIZED):
        with contextlib.suppress(RuntimeError, TypeError):
            return value.as_subclass(Tensor)
    numpy = sys.modules.get("numpy")  # who has an array has imported it
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) is not type(value):
        return _plain(value.item(), path)
    if numpy is not None and isinstance(value, numpy.ndarray):
        with contextlib.suppress(TypeError):
            return _from_numpy(value)
    raise TypeError(_refusal(value, path))


def _from_numpy(array: Any) -> Tensor:
    # torch takes neither read-only memory nor steps backwards
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _refusal(value: Any, path: str) -> str:
    instead = next((hint for kinds, hint in _HINTS if isinstance(value, kinds)), "")
    if not instead and is_dataclass(value):
        instead = "`dataclasses.asdict(...)` of it"
    if not instead and callable(value):
        instead = "its import path as a string"
    return (
        f"{path} is a {type_name(value)}, and a checkpoint with it could not be read back safely "
        f"(weights_only=True). Store {instead or 'numbers, strings, tensors or dicts of them'} instead."
    )


def type_name(value: Any) -> str:
    """The name of the class of ``value``, with its module's unless it is built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
