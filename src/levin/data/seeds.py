"""Seeds that ride on indices: random streams of worker processes that belong to a sample, not to a worker.

torch sends a worker the indices of a batch. Indices that carry a seed set Python's, NumPy's and torch's
generators when they arrive, and again before each sample; dataset, collate function and the worker's own
set-up stay as they are.
"""

from __future__ import annotations

import random
import sys
import zlib
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_64_BITS = 2**64 - 1


def ride(indices: Any, seed: int) -> Any:
    """Indices as a sampler gave them (of a batch, or one), with the seed of their pass."""
    return _BatchOfIndices(indices, seed) if type(indices) is list else _Index(indices, seed)


class _BatchOfIndices(list[Any]):
    """The indices of a batch; going through them seeds the streams before each sample."""

    def __init__(self, indices: list[Any], seed: int) -> None:
        super().__init__(indices)
        self._seed = seed

    def __iter__(self) -> Iterator[Any]:
        for index in super().__iter__():
            seed_streams(self._seed, index)
            yield index

    def __reduce__(self) -> Any:
        return _arrive_as_batch, (list(super().__iter__()), self._seed)


class _Index:
    """Something else that a sampler gave: it arrives as what it was."""

    def __init__(self, index: Any, seed: int) -> None:
        self._index, self._seed = index, seed

    def __reduce__(self) -> Any:
        return _arrive, (self._index, self._seed)


def _arrive_as_batch(indices: list[Any], seed: int) -> _BatchOfIndices:
    # for datasets that read a batch at a time, without going through its indices
    seed_streams(seed, indices[0] if indices else 0)
    return _BatchOfIndices(indices, seed)


def _arrive(index: Any, seed: int) -> Any:
    seed_streams(seed, index)
    return index


def seed_streams(seed: int, index: Any) -> None:
    """Seed the global generators of this process for one sample.

    Args:
        seed: The seed of the pass.
        index: The sample's index: a whole number, or anything whose ``repr`` names it.
    """
    number = index if isinstance(index, int) else zlib.crc32(repr(index).encode())
    mixed = _mixed(seed + number)
    random.seed(mixed)
    # not `torch.manual_seed`, which sees to devices as well and takes a hundred times as long
    torch.default_generator.manual_seed(_mixed(mixed + 1))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(_mixed(mixed + 2) & 0xFFFFFFFF)


def _mixed(number: int) -> int:
    """64 well-mixed bits of a number: neighbours have nothing in common (splitmix64, Steele et al. 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & _64_BITS
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return number ^ (number >> 31)
