"""Run a function in several processes that form a group, as they do under a launcher."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import traceback
from datetime import timedelta
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from levin.distributed.group import bind_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

_PRELOADED = ["torch", "torch._dynamo", "torch.nn.parallel", "levin.trainer.trainer", "levin.strategies"]


def in_processes(
    function: Callable[..., Any],
    num_processes: int,
    *args: Any,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> list[Any]:
    """Call a function in each of several new processes, which know of one another as under ``torchrun``.

    In them, ``Trainer(accelerator="cpu", devices=num_processes)`` trains together.

    Args:
        function: A function of a module's top level. The module is imported again in the processes, from its
            file.
        num_processes: How many.
        *args: What it gets: what can be pickled.
        environment: Environment variables beside those of the group.
        timeout_s: After so many seconds the processes are ended.

    Returns:
        What it returned in each process, in the order of ranks: what can be pickled.

    Raises:
        RuntimeError: If it raised in one of them, with its traceback; or one did not end in time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    store = bind_store(timedelta(seconds=timeout_s))
    place = (os.path.abspath(function.__code__.co_filename), function.__name__)
    shared = {
        "WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes), "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1",
        **(environment or {}),
    }  # fmt: skip
    processes, ends, folder = [], [], tempfile.mkdtemp()
    for rank in range(num_processes):
        ours, theirs = context.Pipe(duplex=False)
        variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        output = os.path.join(folder, str(rank))
        process = context.Process(target=_work, args=(place, args, variables, theirs, output), daemon=False)
        process.start()
        theirs.close()
        processes.append(process)
        ends.append(ours)
    try:
        return _collect(ends, folder, timeout_s)
    finally:
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
        shutil.rmtree(folder)


def _collect(ends: list[Connection], folder: str, timeout_s: float) -> list[Any]:
    results: dict[int, Any] = {}
    failures: dict[int, str] = {}
    deadline = timeout_s
    while len(results) + len(failures) < len(ends):
        left = {rank: end for rank, end in enumerate(ends) if rank not in results and rank not in failures}
        ready = wait(left.values(), timeout=deadline if not failures else 8.0)
        if not ready:
            break
        for rank, end in left.items():
            if end in ready:
                _receive(rank, end, results, failures)
    if failures:
        told = "\n".join(
            f"--- rank {rank} wrote:\n{_read(folder, rank)}\n--- and raised:\n{text}"
            for rank, text in sorted(failures.items())
        )
        raise RuntimeError(f"{len(failures)} of {len(ends)} processes failed.\n{told}")
    if len(results) < len(ends):
        missing = sorted(set(range(len(ends))) - set(results))
        raise RuntimeError(f"The processes of ranks {missing} did not end within {timeout_s} s.")
    return [results[rank] for rank in range(len(ends))]


def _read(folder: str, rank: int) -> str:
    with open(os.path.join(folder, str(rank)), errors="replace") as file:
        return file.read()[-10_000:].strip()


def _receive(rank: int, end: Connection, results: dict[int, Any], failures: dict[int, str]) -> None:
    try:
        is_well, value = end.recv()
    except EOFError:
        is_well, value = False, "it ended without a word"
    if is_well:
        results[rank] = value
    else:
        failures[rank] = value


def _work(
    place: tuple[str, str], args: tuple[Any, ...], variables: dict[str, str], end: Connection, output: str
) -> None:
    os.environ.update(variables)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(file, standard)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # workers start as they do in any program
    random.seed(0)
    try:
        value = _load(*place)(*args)
        end.send((True, value))
    except BaseException:  # whatever it is, it is told
        end.send((False, traceback.format_exc()))
    finally:
        end.close()
        sys.stdout.flush()
        sys.stderr.flush()
        if dist.is_initialized():
            dist.destroy_process_group()


def _load(file: str, name: str) -> Callable[..., Any]:
    """The function, from its file: test modules have no place that they could be imported from."""
    sys.path.insert(0, os.path.dirname(file))
    spec = importlib.util.spec_from_file_location(os.path.basename(file).removesuffix(".py"), file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(module, name)
    return function
