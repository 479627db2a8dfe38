"""Several processes: how many there is room for, what can be sent to them, whether they share files."""

from __future__ import annotations

import os
import pickle
import time
import uuid
from typing import TYPE_CHECKING

from levin.utils.paths import PathLike, is_local, local_path

if TYPE_CHECKING:
    from levin.strategies.base import Strategy

_LOOK_AGAIN_AFTER_S = 0.1


def suggested_max_num_workers(local_world_size: int) -> int:
    """How many workers the ``DataLoader`` of one process can have without crowding out the others.

    Args:
        local_world_size: How many processes train on this machine.

    Returns:
        This process's share of the CPU cores that may be used, less one for the process itself; at least 1.

    Raises:
        ValueError: ``local_world_size`` is less than 1.
    """
    if local_world_size < 1:
        raise ValueError(f"local_world_size={local_world_size} has to be 1 or more.")
    return max(1, num_usable_cpus() // local_world_size - 1)


def num_usable_cpus() -> int:
    """How many CPU cores this process may run on: a job on a cluster seldom has all of its machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_picklable(obj: object) -> bool:
    """Whether ``obj`` can be pickled, and so be sent to another process; found out by trying it."""
    try:
        pickle.Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(obj)
    except Exception:  # an object's own methods may raise whatever they like
        return False
    return True


class _Nowhere:
    """A file that keeps nothing, so that trying needs no memory."""

    def write(self, data: bytes | memoryview) -> int:
        return len(data)


def is_shared_filesystem(strategy: Strategy, path: PathLike | None = None, timeout: float = 3) -> bool:
    """Whether all processes see the same files at ``path``; all of them have to call this.

    The first process makes a file for a moment, and the others look for it. Remote paths are shared, and a
    single process shares everything with itself.

    Args:
        strategy: What the processes are connected through.
        path: A folder; by default the current one.
        timeout: How many seconds to wait for the file to be seen: network file systems take a while.
    """
    if strategy.world_size == 1 or (path is not None and not is_local(path)):
        return True
    folder = os.getcwd() if path is None else local_path(path)
    name = strategy.broadcast(f".levin-{uuid.uuid4().hex}")
    file = os.path.join(folder, name)
    made = strategy.is_global_zero and _make(file)
    # a process that could not make the file must not leave the others waiting for it
    seen = bool(strategy.broadcast(made)) and _appears(file, timeout)
    everywhere = strategy.reduce_boolean_decision(seen, all=True)
    if made:
        os.remove(file)
    return everywhere


def _make(file: str) -> bool:
    try:
        with open(file, "xb"):
            return True
    except OSError:
        return False


def _appears(file: str, timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while not os.path.exists(file):
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK_AGAIN_AFTER_S)
    return True
