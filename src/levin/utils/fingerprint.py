"""Numbers that tell data from other data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch

_PLAIN = (str, bytes, int, float, complex, type(None), np.generic, Enum)


def fingerprint(value: Any, start: int = 0, *, most: int | None = None) -> int:
    """A number for nested data, the same in each process: a CRC-32 of its tensors, arrays and plain values.

    Args:
        value: Tensors, arrays, numbers and texts in mappings, lists, tuples and objects. What is none of
            these counts by its type.
        start: The number of what came before.
        most: How many elements of each tensor are looked at, from its first; None for all.
    """
    if isinstance(value, torch.Tensor):
        return zlib.crc32(_start_of(value, most), start)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return zlib.crc32(np.ascontiguousarray(value.reshape(-1)[:most]).tobytes(), start)
    if isinstance(value, Mapping):
        value = [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        for part in value:
            start = fingerprint(part, start, most=most)
        return zlib.crc32(str(len(value)).encode(), start)
    if isinstance(value, _PLAIN):
        return zlib.crc32(repr(value).encode(), start)
    start = zlib.crc32(type(value).__qualname__.encode(), start)
    return fingerprint(vars(value), start, most=most) if hasattr(value, "__dict__") else start


def _start_of(tensor: torch.Tensor, most: int | None) -> bytes:
    dense = tensor.detach()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    if dense.is_quantized:
        dense = dense.int_repr()
    flat = dense.flatten()[:most].resolve_conj().resolve_neg().cpu().contiguous()
    return bytes(flat.view(torch.uint8).numpy())
