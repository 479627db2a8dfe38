"""The group of processes of a run: formed once in the life of a process, and let go of when that ends."""

from __future__ import annotations

import atexit
import gc
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # documented, not in __all__

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others in a collective operation: torch's own default."""

_AT_THE_END = timedelta(seconds=10)  # how long the process that holds the store waits for the others to leave


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Attributes:
        rank: Its number among all, from 0.
        world_size: How many there are.
        local_rank: Its number on its machine.
        node_rank: The number of its machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    node_rank: int = 0

    @property
    def host(self) -> str:
        """The name of its machine."""
        return socket.gethostname()


def is_started() -> bool:
    """Whether this process is in a group."""
    return dist.is_available() and dist.is_initialized()


def start(
    place: Place,
    *,
    backend: str,
    address: str,
    port: int,
    share_port: Callable[[int | None], int],
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Form the group, or stay in the one there is: the program may have formed it, or an earlier run.

    Args:
        place: Which process this is.
        backend: What moves the tensors: "gloo", "nccl", "cpu:gloo,cuda:nccl" ...
        address: The machine of rank 0.
        port: The port there; 0 takes any free one.
        share_port: Rank 0 calls it with the port that it bound, the others with None to learn it.
        timeout: How long to wait for one another, now and in each collective operation.

    Raises:
        RuntimeError: If there is a group of another size.
    """
    if is_started():
        _check_size(place)
        return
    store = _store(place, address, port, share_port, timeout)
    dist.init_process_group(
        backend, store=store, rank=place.rank, world_size=place.world_size, timeout=timeout
    )
    atexit.register(leave)


def bind_store(timeout: timedelta = DEFAULT_TIMEOUT, address: str = "127.0.0.1", port: int = 0) -> Any:
    """A key-value store for the group, held by this process: `store.port` tells where."""
    return TCPStore(address, port, None, is_master=True, timeout=timeout, wait_for_workers=False)


def hold(store: Any) -> None:
    """Let the group of this process form in a store that was bound before the others were started."""
    global _held  # one process, one group
    _held = store


_held: Any = None
_runs = 0  # that this process has done in its group


def next_run() -> int:
    """The number of a run that begins: the same in all processes of the group."""
    global _runs  # see above
    _runs += 1
    return _runs


def join_store(address: str, port: int, prefix: str, timeout: timedelta = DEFAULT_TIMEOUT) -> Any:
    """A part of its own of a store that another process has bound, or is about to bind."""
    return PrefixStore(prefix, TCPStore(address, port, None, is_master=False, timeout=timeout))


def default_store() -> Any:
    """The key-value store that the group was formed in."""
    return dist.distributed_c10d._get_default_store()  # noqa: SLF001  # torch has no public name for it


def second_line() -> Any:
    """Another connection to `default_store`, for a thread beside the one that uses that; always the same."""
    global _second  # to connect can take seconds
    store = default_store()
    if _second is None or _second[0] is not store:
        _second = (store, store.clone())
    return _second[1]


_second: tuple[Any, Any] | None = None


def further(name: str, timeout: timedelta, backend: str | None = None) -> Any:
    """All processes once more, with messages of their own; the same group for the same name.

    They all have to ask for it. It is kept here alone, so that it is gone before the interpreter is: gloo's
    threads must not be ended under it.

    Args:
        name: What it is for.
        timeout: How long to wait for one another.
        backend: What moves the tensors; by default what does in the group of all.
    """
    if name not in _further:
        _further[name] = dist.new_group(timeout=timeout, backend=backend)
    return _further[name]


_further: dict[str, Any] = {}


def _store(
    place: Place, address: str, port: int, share_port: Callable[[int | None], int], timeout: timedelta
) -> Any:
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # The agent holds it, for all attempts: those that restart must not read what the last ones wrote.
        client = TCPStore(address, port, None, is_master=False, timeout=timeout)
        is_alone = os.environ.get("GROUP_WORLD_SIZE") == "1"  # counts of restarts differ among machines
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if is_alone else "0"
        return PrefixStore(f"levin/{attempt}", client)
    if _held is not None:
        return _held
    if place.rank == 0:
        store = bind_store(timeout, address, port)
        if not port:
            share_port(store.port)
        return store
    return TCPStore(address, port or share_port(None), None, is_master=False, timeout=timeout)


def _check_size(place: Place) -> None:
    if dist.get_world_size() != place.world_size:
        raise RuntimeError(
            f"This program has formed a group of {dist.get_world_size()} processes already, and the run asks "
            f"for {place.world_size}. All runs of a program that use several devices use the same number: "
            "start another program for another number."
        )


def leave() -> None:
    """Leave the group when the process ends; who holds the store stays until the others have left."""
    global _runs, _held  # see above
    if not is_started():
        return
    _runs, _held = 0, None
    _further.clear()
    store, rank, world_size = default_store(), dist.get_rank(), dist.get_world_size()
    try:
        store.set_timeout(_AT_THE_END)
        store.set(f"levin/left/{rank}", "")
        if rank == 0:
            store.wait([f"levin/left/{other}" for other in range(world_size)])
        dist.destroy_process_group()
        gc.collect()
    except RuntimeError:  # the others are gone already, or don't come: nobody is waited for any longer
        return
