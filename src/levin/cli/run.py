"""``levin run train.py``: a program in several processes, started again when one of them fails.

The processes are torch's elastic agent's, as under ``torchrun``. What differs: the exit status is the
program's own, its own words are the last ones, and it has time to save when it is asked to end.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import logging
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PORT = 29400
_STOPPING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")  # passed on to the processes
_OTHERS = "SIGHUP,SIGQUIT"  # the agent's own to handle
_STOP_TIMEOUT_S = 600
_FOR_FABRIC = ("accelerator", "strategy", "precision")


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        The exit status of the program: 128 and the signal's number where that killed a process, 2 if the
        options make no sense.
    """
    given = _parse(arguments)
    os.environ.update(environment(given))
    with tempfile.TemporaryDirectory(prefix="levin-run-", ignore_cleanup_errors=True) as room:
        return _run(given, room)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="levin run",
        usage="levin run [options] [-m] program [arguments ...]",
        description="Run a program in several processes, on this machine and others, and start them again "
        "when one of them fails.",
        allow_abbrev=False,
    )
    here = parser.add_argument_group("processes")
    here.add_argument(
        "--nproc", "--nproc-per-node", "--nproc_per_node", type=_positive, metavar="N",
        help="processes on this machine (default: --devices, the number of GPUs, or 1)",
    )  # fmt: skip
    here.add_argument(
        "--max-restarts", "--max_restarts", type=int, default=0, metavar="N",
        help="how often all processes are started again after one has failed (default: 0); with "
        'fit(ckpt_path="auto") the run goes on from its newest checkpoint',
    )  # fmt: skip
    here.add_argument(
        "--stop-timeout", type=int, default=_STOP_TIMEOUT_S, metavar="SECONDS",
        help="how long the processes may take to save and end after SIGTERM or Ctrl-C "
        f"(default: {_STOP_TIMEOUT_S})",
    )  # fmt: skip
    here.add_argument("--prefix", action="store_true", help="begin each line of output with its rank")
    several = parser.add_argument_group("several machines: the same command on each")
    several.add_argument(
        "--nnodes", "--num-nodes", "--num_nodes", type=_nodes, default=(1, 1), metavar="N",
        help="machines; MIN:MAX with --rdzv-endpoint lets them come and go",
    )  # fmt: skip
    several.add_argument(
        "--node-rank", "--node_rank", type=int, metavar="R", help="the number of this one, from 0"
    )
    several.add_argument(
        "--main-address", "--main_address", "--master-addr", metavar="HOST", help="that of number 0"
    )
    several.add_argument(
        "--main-port", "--main_port", "--master-port", type=int, default=_PORT, metavar="PORT",
        help=f"a port that is free there (default: {_PORT})",
    )  # fmt: skip
    several.add_argument(
        "--rdzv-endpoint", "--rdzv_endpoint", metavar="HOST:PORT",
        help="in place of numbers: where the machines meet, one of them",
    )  # fmt: skip
    several.add_argument(
        "--rdzv-id", "--rdzv_id", default="levin", help="the name of the run there (default: levin)"
    )
    fabric = parser.add_argument_group("what a Fabric without arguments of its own takes")
    fabric.add_argument("--accelerator", help='"cpu", "gpu", "cuda", "mps", "auto"')
    fabric.add_argument("--strategy", help='"ddp", "fsdp", ...')
    fabric.add_argument("--devices", help="how many on each machine: as many processes are started")
    fabric.add_argument("--precision", help='"32-true", "bf16-mixed", ...')
    parser.add_argument(
        "-m", "--module", action="store_true", help="the program is a module, as for python -m"
    )
    parser.add_argument("program", help="a script, or with -m a module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args(arguments)
    _check(parser, given)
    return given


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _nodes(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    found = _positive(least), _positive(most or least)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: the second number is the larger one")
    return found


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuse what makes no sense, and settle how many processes there are."""
    least, most = given.nnodes
    if given.devices is not None and given.nproc is not None and given.devices != str(given.nproc):
        parser.error(f"--nproc {given.nproc} and --devices {given.devices} contradict each other: give one")
    if given.nproc is None:
        given.nproc = _number_of(parser, given.devices)
    if given.max_restarts < 0:
        parser.error(f"--max-restarts is {given.max_restarts}: it is a number from 0 on")
    if given.rdzv_endpoint is not None and (given.main_address is not None or given.node_rank is not None):
        parser.error("--rdzv-endpoint stands in place of --main-address and --node-rank: give one way")
    if least != most and given.rdzv_endpoint is None:
        parser.error(f"--nnodes {least}:{most} needs --rdzv-endpoint HOST:PORT, on all machines")
    if most > 1 and given.rdzv_endpoint is None and (given.main_address is None or given.node_rank is None):
        parser.error(
            f"--nnodes {most} needs --node-rank (0 to {most - 1}) and --main-address (of number 0) on each "
            "machine, or --rdzv-endpoint HOST:PORT on all"
        )
    if given.node_rank is not None and not 0 <= given.node_rank < most:
        parser.error(f"--node-rank is {given.node_rank}: with --nnodes {most} it goes from 0 to {most - 1}")


def _number_of(parser: argparse.ArgumentParser, devices: str | None) -> int:
    """How many processes a number of devices asks for."""
    from levin.accelerators import CUDAAccelerator

    if devices is None or devices in ("auto", "-1"):
        return max(1, CUDAAccelerator().auto_device_count())
    if devices.isdecimal() and int(devices) > 0:
        return int(devices)
    listed = [part for part in devices.split(",") if part.strip()]
    if not listed or not all(part.strip().isdecimal() for part in listed):
        parser.error(f"--devices {devices}: it is a number from 1 on, a list as 0,2, or auto")
    return len(listed)


def environment(given: argparse.Namespace) -> dict[str, str]:
    """The variables that the processes get beside the agent's."""
    least, most = given.nnodes
    found = {
        # a store that outlives an attempt would tell the next one the addresses of processes that are gone
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")
        or str(max(1, (os.cpu_count() or 1) // given.nproc)),
        "LT_CLI_USED": "1",
        "LT_DEVICES": given.devices or str(given.nproc),
    }
    if least == most:
        found["LT_NUM_NODES"] = str(most)
    chosen = {f"LT_{name.upper()}": getattr(given, name) for name in _FOR_FABRIC}
    return {**found, **{name: value for name, value in chosen.items() if value is not None}}


def _run(given: argparse.Namespace, room: str) -> int:
    """Let the agent run the program.

    Returns:
        The exit status.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import launch_agent

    for name in list(logging.Logger.manager.loggerDict):
        if name.startswith("torch.distributed"):  # the program's own words are the last ones
            logging.getLogger(name).setLevel(logging.CRITICAL)
    command = ["-u", *(["-m"] if given.module else []), given.program, *given.arguments]
    try:
        with _stopped_by_signals(SignalException):
            launch_agent(_config(given, room), sys.executable, command)
    except SignalException as stopped:
        return _status_after(stopped.sigval)
    except ChildFailedError as failed:
        return _status_of(failed)
    return 0


def _config(given: argparse.Namespace, room: str) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    least, most = given.nnodes
    config: dict[str, Any] = {
        "min_nodes": least,
        "max_nodes": most,
        "nproc_per_node": given.nproc,
        "max_restarts": given.max_restarts,
        "monitor_interval": 0.1,
        "run_id": given.rdzv_id if given.rdzv_endpoint else uuid.uuid4().hex,
        "role": "levin",
        "rdzv_backend": "c10d",
        "rdzv_endpoint": given.rdzv_endpoint or "127.0.0.1:0",
        "logs_specs": DefaultLogsSpecs(log_dir=room, tee=Std.ALL if given.prefix else Std.NONE),
        "log_line_prefix_template": "[rank ${rank}] " if given.prefix else None,
        "signals_to_handle": _OTHERS,
        "shutdown_timeout": given.stop_timeout,
    }
    if given.main_address is not None:
        config.update(
            run_id="levin",
            rdzv_backend="static",
            rdzv_endpoint=f"{given.main_address}:{given.main_port}",
            rdzv_configs={"rank": given.node_rank or 0},
        )
    elif given.rdzv_endpoint is None:
        config["local_addr"] = "127.0.0.1"
    known = {each.name for each in dataclasses.fields(LaunchConfig)}  # which torch's versions differ in
    return LaunchConfig(**{name: value for name, value in config.items() if name in known})


# ---------------------------------------------------------------------- signals


@contextmanager
def _stopped_by_signals(kind: type[Exception]) -> Iterator[None]:
    """Within it, the first signal makes the agent pass it on, and a second Ctrl-C ends the processes at once.

    Args:
        kind: What the agent takes for a signal.
    """
    seen: list[int] = []

    def handle(number: int, _: Any) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise kind(f"got {signal.Signals(number).name}", sigval=signal.Signals(number))  # type: ignore[call-arg]  # torch's takes it
        if number == signal.SIGINT:
            for process in _processes():
                _kill(process)

    numbers = [signal.Signals[name] for name in _STOPPING if hasattr(signal, name)]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _processes() -> list[subprocess.Popen[bytes]]:
    """The processes of the program: the agent keeps them to itself, and there are no others."""
    return [each for each in gc.get_objects() if type(each) is subprocess.Popen]


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if process.returncode is None:
            process.kill()


# ---------------------------------------------------------------------- the exit status


def _status_after(number: int) -> int:
    """The exit status of a program that was asked to end: its own, or the one that stands for the signal."""
    statuses = [process.returncode for process in _processes() if process.returncode is not None]
    killed = [status for status in statuses if status < 0]
    others = [status for status in statuses if status > 0]
    if not statuses:
        return 128 + number
    return 128 - killed[0] if killed else others[0] if others else 0


def _status_of(failed: Any) -> int:
    """The exit status of a program one of whose processes failed; what it said stands above."""
    rank, first = failed.get_first_failure()
    if first.exitcode < 0:
        name = signal.Signals(-first.exitcode).name
        print(
            f"levin run: the process of rank {rank} was ended by {name}, and told nothing.", file=sys.stderr
        )
        return 128 - int(first.exitcode)
    return int(first.exitcode)
