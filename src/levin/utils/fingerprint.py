"""Numbers that tell data from other data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch

_MOST_THINGS = 100_000  # containers and objects, so that a program's whole object graph is not looked at
_PLAIN = (str, bytes, int, float, complex, type(None), np.generic, Enum)


def fingerprint(value: Any, *, most: int | None = None) -> int:
    """A number for nested data, the same in each process: a CRC-32 of its tensors, arrays and plain values.

    Args:
        value: Tensors, arrays, numbers and texts in mappings, lists, tuples and objects. What is none of
            these counts by its type, as does what was met before: an object may lead back to itself.
        most: How many elements of each tensor are looked at, from its first; None for all. Of sparse tensors,
            which would have to be made dense, only their shapes are then.
    """
    return _added(value, 0, most, set())


def _added(value: Any, start: int, most: int | None, seen: set[int]) -> int:
    if isinstance(value, torch.Tensor):
        return zlib.crc32(_start_of(value, most), start)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return zlib.crc32(np.ascontiguousarray(value.reshape(-1)[:most]).tobytes(), start)
    if isinstance(value, _PLAIN):
        return zlib.crc32(repr(value).encode(), start)
    is_new, parts = id(value) not in seen and len(seen) < _MOST_THINGS, []
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts = [part for item in value.items() for part in item] if is_new else []
    elif isinstance(value, (list, tuple)):
        parts = list(value) if is_new else []
    else:
        start = zlib.crc32(type(value).__qualname__.encode(), start)
        inside = getattr(value, "__dict__", {}) if is_new else {}
        parts = [part for item in inside.items() for part in item]
    for part in parts:
        start = _added(part, start, most, seen)
    return zlib.crc32(str(len(parts)).encode(), start)


def _start_of(tensor: torch.Tensor, most: int | None) -> bytes:
    dense = tensor.detach()
    if dense.is_nested or dense.is_meta:
        return type(dense).__qualname__.encode()
    if dense.layout is not torch.strided and most is not None:
        return str(tuple(dense.shape)).encode()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    if dense.is_quantized:
        dense = dense.int_repr()
    flat = dense.flatten()[:most].resolve_conj().resolve_neg().cpu().contiguous()
    return bytes(flat.view(torch.uint8).numpy())
