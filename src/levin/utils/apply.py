"""Map a function over the values of a nested structure, and move the tensors of one to a device."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, MutableMapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor

# Types with nothing to move in them.
_PLAIN = frozenset((str, int, float, bool, bytes, type(None)))

# Sequences that are values, not containers.
_ATOMS = (str, bytes, bytearray, memoryview, range)


def apply_to_collection(
    data: Any,
    dtype: type | tuple[type, ...],
    function: Callable[..., Any],
    *args: Any,
    wrong_dtype: type | tuple[type, ...] | None = None,
    include_none: bool = True,
    **kwargs: Any,
) -> Any:
    """Call ``function(value, *args, **kwargs)`` for each value of type ``dtype``, at any depth of ``data``.

    Mappings, sequences, sets, named tuples and dataclasses are rebuilt with the results, as the type they
    have; the given ones stay as they are. All other values are passed on untouched.

    Args:
        data: A value or a nested structure of values.
        dtype: The type, or types, of the values to change.
        function: What to do with each of them.
        *args: Further positional arguments for ``function``.
        wrong_dtype: Values that are of ``dtype`` but also of this type are left alone.
        include_none: False leaves those entries out of the rebuilt containers whose result is None.
        **kwargs: Further keyword arguments for ``function``.

    Returns:
        The rebuilt structure, or the result itself where ``data`` is a single value.
    """

    def change(value: Any) -> Any:
        if isinstance(value, dtype) and not (wrong_dtype is not None and isinstance(value, wrong_dtype)):
            return function(value, *args, **kwargs)
        return _rebuild(value, change, include_none)

    return change(data)


def move_data_to_device(batch: Any, device: torch.device | str | int) -> Any:
    """Move the tensors of ``batch``, and any other object in it with a method ``to``, to ``device``.

    Containers are rebuilt around the moved values and the given ones stay as they are; a tensor that is there
    already is passed on as it is. Copies from pinned memory to CUDA devices do not block the host.

    Args:
        batch: A tensor, an object with ``to(device)``, or a nested structure of them.
        device: Where to.

    Returns:
        The same structure on ``device``.
    """
    if type(device) is not torch.device:
        device = torch.device(device)
    return _move(batch, device)


def _move(value: Any, device: torch.device) -> Any:
    # This runs once a batch: the plain cases first, and by the exact type.
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device, non_blocking=device.type == "cuda")
    kind = type(value)
    if kind is dict:
        return {key: _move(item, device) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_move(item, device) for item in value])
    return value if kind in _PLAIN else _move_other(value, device)


def _move_other(value: Any, device: torch.device) -> Any:
    if callable(getattr(value, "to", None)) and not isinstance(value, type):
        moved = value.to(device)
        return value if moved is None else moved  # a `to` that works in place and returns nothing
    return _rebuild(value, lambda item: _move(item, device), include_none=True)


def _rebuild(data: Any, change: Callable[[Any], Any], include_none: bool) -> Any:
    """``data`` with ``change`` applied to each direct entry; the thing itself if it is no container."""
    if isinstance(data, Mapping):
        return _rebuild_mapping(data, change, include_none)
    if isinstance(data, (Sequence, Set)) and not isinstance(data, _ATOMS):
        items = [change(item) for item in data]
        if not include_none:
            items = [item for item in items if item is not None]
        make: Callable[[list[Any]], Any] = getattr(data, "_make", type(data))
        return make(items)  # `_make`, since a named tuple takes its values one by one
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return _rebuild_dataclass(data, change, include_none)
    return data


def _rebuild_mapping(data: Mapping[Any, Any], change: Callable[[Any], Any], include_none: bool) -> Any:
    items = {key: change(value) for key, value in data.items()}
    if not include_none:
        items = {key: value for key, value in items.items() if value is not None}
    if type(data) is dict:
        return items
    if not isinstance(data, MutableMapping):
        return type(data)(items)  # type: ignore[call-arg]
    # A copy keeps what a constructor might not: the factory of a defaultdict, attributes of a subclass.
    result = copy.copy(data)
    for key in data:
        if key in items:
            result[key] = items[key]
        else:
            del result[key]
    return result


def _rebuild_dataclass(data: Any, change: Callable[[Any], Any], include_none: bool) -> Any:
    result = copy.copy(data)
    for field in dataclasses.fields(data):
        if not hasattr(data, field.name):
            continue
        value = change(getattr(data, field.name))
        if value is not None or include_none:
            object.__setattr__(result, field.name, value)  # frozen ones too: it is our copy
    return result
