"""ScriptLauncher: run the program again, once for each further device of this machine."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from levin.distributed import group, watch
from levin.launchers.base import Launcher
from levin.launchers.orphans import die_with_parent
from levin.utils.errors import MisconfigurationException
from levin.utils.start import STARTED_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from levin.clusters.base import ClusterEnvironment

_PERIOD_S = 0.1
_KILL_AFTER_S = 5.0

_children: list[subprocess.Popen[bytes]] = []
_last_watch: watch.Watch | None = None


@dataclass
class _Started:
    """How the others were started.

    Attributes:
        job: The job of Hydra that they do, too.
        chose_port: Whether nobody had chosen a port before.
        is_supervised: Whether there is a thread that looks after them.
    """

    job: str | None = None
    chose_port: bool = False
    is_supervised: bool = False


_started = _Started()


class ScriptLauncher(Launcher):
    """Starts the program again for local ranks 1, 2 ...; this process is local rank 0.

    The command is the one that this process was started with, so that ``python -m package.train --lr 1`` is
    the same program in each. All of them run the program from its first line to its last.

    Args:
        environment: Where this process sits.
        num_processes: The processes of this machine.
        num_nodes: The machines.
    """

    def __init__(self, environment: ClusterEnvironment, num_processes: int, num_nodes: int = 1) -> None:
        self._environment = environment
        self._num_processes = num_processes
        self._num_nodes = num_nodes

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start the others, if that has not been done, and run a function here."""
        self.start_others()
        return function(*args, **kwargs)

    def start_others(self) -> None:
        """Start the others, if that has not been done."""
        if self._environment.creates_processes_externally:
            return
        if _children and _job() != _started.job:
            _see_off()
        if _children or group.is_started():
            return
        command, folder = _command()
        address, port = self._environment.main_address, self._environment.main_port
        node_rank = self._environment.node_rank()
        if node_rank == 0:
            store = group.bind_store(address=address, port=port)
            group.hold(store)
            _started.chose_port = not port
            port = port or self._environment.share_port(store.port)
        elif not port:
            raise MisconfigurationException(
                f"This is machine {node_rank} of {self._num_nodes}, and MASTER_PORT is not set: give all "
                "machines the same MASTER_ADDR and MASTER_PORT, those of the first one."
            )
        world = self._num_processes * self._num_nodes
        os.environ["WORLD_SIZE"] = str(world)
        if not os.environ.get("OMP_NUM_THREADS"):
            threads = max(1, (os.cpu_count() or 1) // self._num_processes)
            os.environ["OMP_NUM_THREADS"] = str(threads)
            torch.set_num_threads(threads)  # torch has read the variable already in this process
        shared = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "NODE_RANK": str(node_rank)}
        for local_rank in range(1, self._num_processes):
            env = {**os.environ, **shared, "LOCAL_RANK": str(local_rank)}
            preparation = die_with_parent if threading.current_thread() is threading.main_thread() else None
            _children.append(
                subprocess.Popen(  # the function makes one system call
                    _hydras(command, local_rank), env=env, cwd=folder, preexec_fn=preparation
                )
            )
        first = node_rank * self._num_processes
        _started.job = _job()
        if _started.is_supervised:
            return
        _started.is_supervised = True
        atexit.register(_end_children, first)
        threading.Thread(target=_supervise, args=(first,), name="levin-launcher", daemon=True).start()


def _command() -> tuple[list[str], str | None]:
    """The command that started this process, and where.

    Raises:
        MisconfigurationException: If there is none: the program came from a terminal or a pipe.
    """
    arguments = sys.orig_argv[1:]
    if hasattr(sys, "ps1") or not _has_program(arguments):
        raise MisconfigurationException(
            "strategy='ddp' starts the program again for each device, and there is no script to start: this "
            "one came from a terminal or a pipe. Use strategy='ddp_fork', or 'ddp_spawn'."
        )
    return [sys.executable, *arguments], STARTED_IN


def _has_program(arguments: Sequence[str]) -> bool:
    takes_value = {"-W", "-X", "--check-hash-based-pycs"}
    rest = iter(arguments)
    for argument in rest:
        if argument in takes_value:
            next(rest, None)
        elif argument == "-":
            return False
        elif argument.startswith(("-c", "-m")) or not argument.startswith("-"):
            return True
    return False


def _job() -> str | None:
    """The folder of the job that Hydra runs; None without Hydra."""
    hydra = sys.modules.get("hydra.core.hydra_config")
    if hydra is None or not hydra.HydraConfig.initialized():
        return None
    folder: str = os.path.abspath(hydra.HydraConfig.get().runtime.output_dir)
    return folder


def _see_off() -> None:
    """The others have done their job of Hydra's, and end; this process goes on with the next one."""
    for child in _children:
        child.wait()
    _children.clear()
    group.leave()
    if _started.chose_port:
        os.environ.pop("MASTER_PORT", None)


def _hydras(command: list[str], local_rank: int) -> list[str]:
    """The command for a job of Hydra: with the same settings and folder, one of a multirun as well."""
    folder = _job()
    if folder is None:
        return command
    config = sys.modules["hydra.core.hydra_config"].HydraConfig.get()
    program = command[: len(command) - len(sys.argv[1:])]
    if config.output_subdir is None:
        settings = list(config.overrides.task)
    else:  # what this job was composed to
        settings = ["-cp", os.path.join(folder, config.output_subdir), "-cn", "config.yaml"]
    name = f"hydra.job.name={config.job.name}_rank_{local_rank}"
    return [*program, *settings, f'hydra.run.dir="{folder}"', name, "hydra.output_subdir=null"]


def _supervise(first_rank: int) -> None:
    """Look after the other processes: if one fails, none goes on."""
    while not _failed(first_rank):
        time.sleep(_PERIOD_S)
    rank, status = _failed(first_rank)[0]
    watching = watch.current()
    if watching is not None:
        with suppress(Exception):
            watching.report(rank, f"The process was {_how(status)}, and told nothing.")
    time.sleep(_KILL_AFTER_S)  # this process may be about to end as that one did
    _kill_rest()
    if watching is None:  # nobody else ends this one
        _end_with(rank, status)


def _failed(first_rank: int) -> list[tuple[int, int]]:
    """Rank and status of processes that failed, if it is not known why: a run may have been asked to end."""
    global _last_watch  # of the newest run: what ended it may end the processes, too
    _last_watch = watch.current() or _last_watch
    if _last_watch is not None and (_last_watch.stop is not None or _last_watch.failure is not None):
        return []
    return [
        (first_rank + place, child.returncode) for place, child in enumerate(_children, 1) if child.poll()
    ]


def _how(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _end_with(rank: int, status: int) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"\nRank {rank} was {_how(status)}: the program ends.\n")
    sys.stderr.flush()
    watch.leave_at_once(status if status > 0 else 128 - status)


def _kill_rest() -> None:
    for child in _children:
        if child.poll() is None:
            child.kill()


def _end_children(first_rank: int) -> None:
    """This process ends: the others may take as long as they need, if it ends well."""
    if getattr(sys, "last_type", None) is not None:  # of an exception that nobody caught
        deadline = time.monotonic() + _KILL_AFTER_S
        while time.monotonic() < deadline and any(child.poll() is None for child in _children):
            time.sleep(_PERIOD_S)
        _kill_rest()
    for child in _children:
        child.wait()
    for rank, status in _failed(first_rank)[:1]:
        if getattr(sys, "last_type", None) is None:
            _end_with(rank, status)
