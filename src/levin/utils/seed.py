"""Random numbers that can be drawn again: seeds, worker seeds, and the state of all generators."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from levin.utils.rank import rank_zero_info, rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_SEED, MAX_SEED = 0, 2**32 - 1  # what numpy accepts

GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
"""The kinds of random generators whose states can be kept."""

_MOST_THINGS = 2000  # are looked at, so that a program's whole object graph is not

_SEED_VARIABLE = "PL_GLOBAL_SEED"
_WORKERS_VARIABLE = "PL_SEED_WORKERS"


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seed the generators of Python, numpy and torch on all devices, and tell child processes the seed.

    Sets ``PL_GLOBAL_SEED``, which processes started from this one use, and ``PL_SEED_WORKERS``.

    Args:
        seed: An integer from 0 to 2**32 - 1. None takes ``PL_GLOBAL_SEED``, or 0 with a warning where that is
            not set or no integer.
        workers: Also give each worker process of a ``DataLoader`` streams of its own
            (:func:`pl_worker_init_function`), where the loader has no ``worker_init_fn``.
        verbose: Log the seed.

    Returns:
        The seed that was set.

    Raises:
        ValueError: The seed is out of range.
    """
    seed = _seed_from_environment() if seed is None else int(seed)
    if not MIN_SEED <= seed <= MAX_SEED:
        raise ValueError(
            f"seed={seed} is out of range: it has to be an integer from {MIN_SEED} to {MAX_SEED}."
        )
    if verbose:
        rank_zero_info("Seed set to %d", seed)
    os.environ[_SEED_VARIABLE] = str(seed)
    os.environ[_WORKERS_VARIABLE] = str(int(workers))
    seed_generators(seed)
    return seed


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch on all devices; no word of it to anybody.

    Args:
        seed: Any integer; numpy, which takes 32 bits, gets the lower ones.
    """
    random.seed(seed)
    np.random.seed(seed % (MAX_SEED + 1))
    torch.manual_seed(seed)


def derive_seed(base: int, *path: int) -> int:
    """A 64-bit seed for the stream ``path`` below ``base``, independent of all other paths and bases.

    Equal arguments give equal seeds, in every process and on every machine.
    """
    return int(_sequence(base, *path).generate_state(1, np.uint64)[0])


def pl_worker_init_function(worker_id: int, rank: int | None = None) -> None:
    """Seed the process of a ``DataLoader`` worker, with streams that differ for each worker, rank and epoch.

    Meant as ``worker_init_fn``, called by torch in the worker, after torch has seeded it.

    Args:
        worker_id: The number of the worker, from 0.
        rank: The global rank of the process that owns the loader; by default this process's.
    """
    rank = rank_zero_only.rank if rank is None else rank
    # torch has set base + worker_id: neighbouring bases would share streams if worker_id were not taken off
    base = torch.initial_seed() - worker_id
    for_torch, for_python, for_numpy = _sequence(base, rank, worker_id).generate_state(3, np.uint64).tolist()
    torch.manual_seed(for_torch)
    random.seed(for_python)
    np.random.seed(for_numpy % (MAX_SEED + 1))


def collect_rng_state(include_cuda: bool = True) -> dict[str, Any]:
    """The state of the global generators of Python, numpy, torch and, where it is in use, each CUDA device.

    It holds only plain values and tensors, so that it can be part of a checkpoint.
    CUDA counts as in use once this process has initialised it; asking does not initialise it.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if include_cuda and _cuda_in_use():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what :func:`collect_rng_state` gave, but for CUDA devices that are not here."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numpy_keys, position, has_gauss, cached_gauss = state["numpy"]
    np.random.set_state((name, np.asarray(numpy_keys, dtype=np.uint32), position, has_gauss, cached_gauss))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        for index, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device_state.cpu(), index)


def generators_of(owner: Any) -> list[Any]:
    """The random generators of torch, Python and numpy that are attributes of an object, in their order."""
    return [value for value in getattr(owner, "__dict__", {}).values() if isinstance(value, GENERATORS)]


def generators_within(**owners: Any) -> dict[str, Any]:
    """The random generators that objects hold, however deep, by where they are (``"dataset.transform.rng"``).

    Attributes, lists, tuples and dicts are looked into, four deep and a hundred of each at most. Each
    generator is there once, and the global ones are not.
    """
    found: dict[str, Any] = {}
    seen = {id(torch.default_generator)}
    pending = [(name, owner, 4) for name, owner in owners.items()]
    for way, thing, depth in pending:  # it grows meanwhile
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, GENERATORS):
            found[way] = thing
        elif depth and len(pending) < _MOST_THINGS:
            pending += [(inner, part, depth - 1) for inner, part in _parts_of(way, thing)]
    return found


def _parts_of(way: str, thing: Any) -> list[tuple[str, Any]]:
    if isinstance(thing, (list, tuple)):
        parts = [(f"{way}[{index}]", part) for index, part in enumerate(thing[:100])]
    elif isinstance(thing, dict):
        parts = [(f"{way}[{key!r}]", part) for key, part in list(thing.items())[:100]]
    elif hasattr(thing, "__dict__") and not isinstance(thing, (type, torch.Tensor)):
        parts = [(f"{way}.{name}", part) for name, part in list(vars(thing).items())[:100]]
    else:
        return []
    return [
        (inner, part) for inner, part in parts if not isinstance(part, (str, bytes, int, float, ModuleType))
    ]


def generator_state(generator: Any) -> Any:
    """The state of one of `generators_of`: plain values, or a tensor."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        name, keys, *rest = generator.get_state(legacy=True)
        return (name, np.asarray(keys).tolist(), *rest)
    return _without_arrays(generator.bit_generator.state)


def set_generator_state(generator: Any, state: Any) -> None:
    """Put back what :func:`generator_state` gave."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, random.Random):
        version, keys, gauss = state
        generator.setstate((version, tuple(keys), gauss))
    elif isinstance(generator, np.random.RandomState):
        name, keys, *rest = state
        generator.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))
    else:
        generator.bit_generator.state = state


def _without_arrays(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _without_arrays(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Iterator[None]:
    """Let the body draw what it likes: afterwards all generators are where they were before.

    Args:
        include_cuda: Whether the generators of CUDA devices are put back too.
    """
    before = collect_rng_state(include_cuda)
    try:
        yield
    finally:
        set_rng_state(before)
        if include_cuda and "cuda" not in before and _cuda_in_use():
            # The body was the first to use CUDA, whose generators start from torch's seed.
            torch.cuda.manual_seed_all(torch.initial_seed())


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _sequence(base: int, *path: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(base % 2**64, spawn_key=path)


def _seed_from_environment() -> int:
    value = os.environ.get(_SEED_VARIABLE)
    if value is None:
        rank_zero_warn(f"No seed was given and {_SEED_VARIABLE} is not set: the seed is set to 0.")
        return 0
    try:
        return int(value)
    except ValueError:
        rank_zero_warn(f"{_SEED_VARIABLE}={value!r} is not an integer: the seed is set to 0.")
        return 0
