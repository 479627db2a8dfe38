"""FunctionLauncher: run a function in new processes, one for each device, while this process waits."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

import torch

from levin.distributed import group, watch
from levin.launchers import parcels
from levin.launchers.base import Launcher
from levin.launchers.orphans import die_with_parent
from levin.launchers.surroundings import Surroundings
from levin.utils.errors import RankFailedError
from levin.utils.imports import available
from levin.utils.rank import rank_zero_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from levin.clusters.base import ClusterEnvironment

START_METHODS = ("spawn", "fork", "forkserver")
"""How a process can be started that runs a function."""

_PERIOD_S = 0.1
_KILL_AFTER_S = 30.0  # a process failed: how long the others may take to save what they have, and end
_KILL_EARLY_AFTER_S = 2.0  # the same, before they have met: they wait for the one that failed
_KILL_AFTER_SECOND_S = 2.0  # Ctrl-C was pressed twice
_PRELOADED = ["torch", "levin.trainer.trainer", "levin.strategies"]  # by the server that forks processes
_IMPORTS_AGAIN = (
    "It ended before it could begin. strategy='ddp_spawn' and 'ddp_forkserver' import the program again in "
    'each process: what starts the training has to stand under `if __name__ == "__main__":`. '
    "strategy='ddp_fork' needs no such line. What the process said stands above."
)

_launches = 0  # by this program
_store: Any = None  # in which the processes of all of them meet


class FunctionLauncher(Launcher):
    """Runs a function in new processes of this machine, and gives back what the first one returned.

    The program before and after that call runs once, in this process. An error of a worker is raised here;
    Ctrl-C and SIGTERM are passed on to the workers, each once, and workers don't outlive this process.

    Args:
        environment: Where this process sits.
        num_processes: The processes of this machine.
        num_nodes: The machines; the program is started once on each.
        start_method: "fork" (a copy of this process: any function and object goes, and CUDA must not be in
            use), "spawn" (a new interpreter, which imports the program again and gets what the function
            needs by value), or "forkserver" (the same, from a server that has imported torch already).
        uses_cuda: Whether the function is to use CUDA devices.
    """

    runs_function = True

    def __init__(
        self,
        environment: ClusterEnvironment,
        num_processes: int,
        num_nodes: int = 1,
        start_method: str = "spawn",
        *,
        uses_cuda: bool = False,
    ) -> None:
        self._environment = environment
        self._num_processes = num_processes
        self._num_nodes = num_nodes
        self._start_method = start_method
        self._uses_cuda = uses_cuda

    @property
    def is_interactive_compatible(self) -> bool:  # type: ignore[override]  # it depends on what is installed
        """Whether it works where there is no script: what is defined there has to be copied or packed."""
        return self._start_method == "fork" or available("cloudpickle")

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function in all processes.

        Returns:
            What it returned in the first process of this machine.

        Raises:
            Exception: What a worker raised first, of the same type if it can be packed.
            RankFailedError: If a worker was killed, or raised what can't be packed.
        """
        return self.run(function, args, kwargs)

    def run(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM),
        receive: Callable[[Any], None] | None = None,
    ) -> Any:
        """`launch`, with more to say.

        Args:
            function: The function.
            args: What it gets.
            kwargs: What it gets by name.
            signals: Those that are passed on to the workers while this process waits for them.
            receive: Called with what the function gives to `deliver`, in the first process of this machine.
        """
        global _launches  # counted over the life of the program
        self._check()
        _launches += 1
        call = (function, tuple(args), kwargs)
        parcel = None if self._start_method == "fork" else parcels.pack(call, name="call")
        orders = self._orders()
        workers: list[_Worker] = []
        with _noted(signals) as noted:
            try:
                for local_rank in range(self._num_processes):
                    workers.append(
                        self._start(local_rank, orders, call if parcel is None else parcel, workers)
                    )
                return _Crew(workers, noted, receive).wait()
            finally:
                for worker in workers:
                    worker.end()

    def _check(self) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "This process is one of those that the program starts, and it imports the program to find "
                "what it is to run: it must not start others. Put what starts the training under "
                '`if __name__ == "__main__":`.'
            )
        if group.is_started():
            raise RuntimeError(
                "This process is in a group of processes already: an earlier run of strategy='ddp', or the "
                f"program itself, has formed it. Use strategy='ddp' here, too, or 'ddp_{self._start_method}' "
                "in all runs of the program."
            )
        if self._start_method not in multiprocessing.get_all_start_methods():
            raise RuntimeError(f"This system can't {self._start_method}. Use strategy='ddp_spawn' or 'ddp'.")
        is_late = self._uses_cuda and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch's
        if self._start_method == "fork" and is_late:
            raise RuntimeError(
                "CUDA is in use in this process, and what is forked from it can't use it any more. In a "
                "notebook restart the kernel, and put nothing on a device, nor call torch.cuda's functions, "
                "before the training; or use strategy='ddp_spawn', which does not mind."
            )

    def _orders(self) -> _Orders:
        """What all workers are told; the first machine opens the place where they meet."""
        global _store  # one for all launches: nobody can meet those of an earlier one by mistake
        where, node_rank = self._environment, self._environment.node_rank()
        address, port = where.main_address, where.main_port
        if node_rank == 0:
            _store = _store or group.bind_store(address=address, port=port)
            port = _store.port
        elif not port:
            raise ValueError(
                f"This is machine {node_rank} of {self._num_nodes}, and MASTER_PORT is not set: give all "
                "machines the same MASTER_ADDR and MASTER_PORT, those of the first one."
            )
        return _Orders(
            address=address,
            port=port,
            launch=_launches,
            node_rank=node_rank,
            num_processes=self._num_processes,
            num_nodes=self._num_nodes,
            surroundings=Surroundings.here(),
        )

    def _start(self, local_rank: int, orders: _Orders, call: Any, others: Sequence[_Worker]) -> _Worker:
        context = multiprocessing.get_context(self._start_method)
        is_copy = self._start_method == "fork"
        if self._start_method == "forkserver":
            context.set_forkserver_preload(_PRELOADED)
        ours, theirs = context.Pipe(duplex=True)
        left_over = [ours, *(other.pipe for other in others)] if is_copy else []
        process = context.Process(  # type: ignore[attr-defined]  # every context has one
            target=_work, args=(local_rank, orders, call, theirs, left_over), name=f"levin-{local_rank}"
        )
        with warnings.catch_warnings():
            # Python warns of any thread: torch's, which a copy does without
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            process.start()
        theirs.close()
        rank = orders.node_rank * orders.num_processes + local_rank
        return _Worker(rank, process, ours, has_begun=is_copy)


@dataclass(frozen=True)
class _Orders:
    """What the workers of a launch are told."""

    address: str
    port: int
    launch: int
    node_rank: int
    num_processes: int
    num_nodes: int
    surroundings: Surroundings


# ---------------------------------------------------------------------- in the process that waits


class WorkerTraceback(Exception):  # noqa: N818  # it is no error of its own: it stands above one
    """Where a worker was when it raised; the cause of the error that is raised in its place."""

    def __str__(self) -> str:
        return f"\n{self.args[0].rstrip()}"


@dataclass(frozen=True)
class _Failure:
    """How a worker failed.

    Attributes:
        rank: The worker.
        text: Its traceback, or what is known.
        content: The exception, packed; None where that can't be done.
        is_stop: Whether it was asked to end, and all were.
        is_consequence: Whether it only follows from another worker's.
        is_early: Whether the workers had not met yet: nobody has anything to save.
        status: The exit status of a worker that told nothing.
    """

    rank: int
    text: str
    content: bytes | None = None
    is_stop: bool = False
    is_consequence: bool = False
    is_early: bool = False
    status: int | None = None

    def error(self) -> BaseException:
        """What is raised for it."""
        where = f"Rank {self.rank} on {socket.gethostname()} failed:\n{self.text.rstrip()}"
        found = None
        if self.content is not None:
            with suppress(Exception):  # it may be of a class that is not known here
                found = parcels.unpack(parcels.Parcel(self.content, []))
        if not isinstance(found, BaseException):
            return RankFailedError(where)
        if isinstance(found, Exception) and not self.is_consequence:
            found.__cause__ = WorkerTraceback(where)
        return found


@dataclass
class _Worker:
    """A worker, as the process sees it that waits."""

    rank: int
    process: Any
    pipe: Connection
    has_begun: bool
    is_over: bool = False

    def read(self) -> Iterator[tuple[str, Any]]:
        """What it has sent, and, once, that it ended without a word."""
        status = self.process.exitcode  # first: what it sent before that is read below
        with suppress(EOFError, OSError):
            while self.pipe.poll():
                yield pickle.loads(self.pipe.recv_bytes())
        if status is not None and not self.is_over:
            yield "gone", status

    def tell(self, failure: _Failure) -> None:
        """Let it know that another one failed, and could not tell of it."""
        with suppress(OSError):
            self.pipe.send((failure.rank, failure.text))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def end(self) -> None:
        """See to it that it is gone."""
        if self.process.exitcode is None:
            self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass
class _Crew:
    """All workers of a launch."""

    workers: list[_Worker]
    noted: _Noted
    receive: Callable[[Any], None] | None
    failures: list[_Failure] = field(default_factory=list)
    result: Any = None
    kill_at: float = float("inf")

    def wait(self) -> Any:
        """Wait until all are done.

        Returns:
            What the first one returned.
        """
        while left := [
            worker for worker in self.workers if worker.process.exitcode is None or not worker.is_over
        ]:
            connection.wait([each for worker in left for each in self._ends(worker)], timeout=_PERIOD_S)
            for worker in left:
                for kind, content in worker.read():
                    self._hear(worker, kind, content)
            self._pass_signals_on()
            if time.monotonic() > self.kill_at:
                for worker in left:
                    worker.process.kill()
        self._raise_failure()
        return self.result

    @staticmethod
    def _ends(worker: _Worker) -> list[Any]:
        return [worker.process.sentinel] if worker.is_over else [worker.pipe, worker.process.sentinel]

    def _hear(self, worker: _Worker, kind: str, content: Any) -> None:
        if kind == "began":
            worker.has_begun = True
        elif kind == "delivery":
            if self.receive is not None:
                self.receive(content)
        elif kind == "result":
            worker.is_over = True
            if worker is self.workers[0]:
                self.result = parcels.unpack(parcels.Parcel(content, []))
        else:
            worker.is_over = True
            self._note(content if kind == "failure" else _silent_end(worker, content))

    def _note(self, failure: _Failure) -> None:
        self.failures.append(failure)
        if failure.is_stop:
            return
        patience_s = _KILL_EARLY_AFTER_S if failure.is_early else _KILL_AFTER_S
        self.kill_at = min(self.kill_at, time.monotonic() + patience_s)
        if failure.status is not None:
            for worker in self.workers:
                worker.tell(failure)

    def _pass_signals_on(self) -> None:
        while self.noted.waiting:
            number = self.noted.waiting.pop(0)
            for worker in self.workers:
                worker.signal(number)
            if self.noted.seen.count(signal.SIGINT) > 1:
                self.kill_at = min(self.kill_at, time.monotonic() + _KILL_AFTER_SECOND_S)

    def _raise_failure(self) -> None:
        """Raise what came first and does not only follow from another one's failure."""
        if not self.failures:
            return
        own = [each for each in self.failures if not each.is_consequence] or self.failures
        first = next((each for each in own if not each.is_stop), own[0])
        if first.status is not None and -first.status in self.noted.seen:  # what ended them was meant for all
            self.noted.obey(-first.status)
        raise first.error()


def _silent_end(worker: _Worker, status: int) -> _Failure:
    how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    text = f"The process was {how}, and told nothing."
    if not worker.has_begun and status >= 0:
        text = _IMPORTS_AGAIN
    elif status == -signal.SIGKILL:
        text += " Was it killed, or was the machine out of memory?"
    return _Failure(worker.rank, text, is_early=not worker.has_begun, status=status)


@dataclass
class _Noted:
    """Signals that came while workers run.

    Attributes:
        seen: All of them.
        waiting: Those that were not passed on yet.
        before: What handled them before.
    """

    seen: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    before: dict[int, Any] = field(default_factory=dict)

    def note(self, number: int, frame: Any) -> None:
        """Handle a signal."""
        self.seen.append(number)
        self.waiting.append(number)
        former = self.before[number]
        if callable(former) and former is not signal.default_int_handler:
            former(number, frame)

    def obey(self, number: int) -> None:
        """Do what the signal would have done here."""
        if self.before.get(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def _noted(numbers: Sequence[int]) -> Iterator[_Noted]:
    """Within it, signals are noted; Python allows that in its main thread alone."""
    noted = _Noted()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    for number in numbers:
        former = signal.getsignal(number)
        if former not in (signal.SIG_IGN, None):
            noted.before[number] = former
            signal.signal(number, noted.note)
    try:
        yield noted
    finally:
        for number, former in noted.before.items():
            signal.signal(number, former)


# ---------------------------------------------------------------------- in a worker

_to_parent: Connection | None = None


def deliver(content: Any) -> None:
    """Give the process that waits something, while the function runs; what it does with it is its own."""
    assert _to_parent is not None
    _send(_to_parent, "delivery", content)


def _send(pipe: Connection, kind: str, content: Any) -> None:
    pipe.send_bytes(pickle.dumps((kind, content), protocol=pickle.HIGHEST_PROTOCOL))


def _work(local_rank: int, orders: _Orders, call: Any, pipe: Connection, left_over: list[Connection]) -> None:
    """What a worker does from its first to its last moment."""
    global _to_parent  # a process is one worker
    _to_parent = pipe
    rank = orders.node_rank * orders.num_processes + local_rank
    _settle(local_rank, rank, orders, pipe, left_over)
    try:
        if isinstance(call, parcels.Parcel):
            _send(pipe, "began", None)
            orders.surroundings.restore()
            call = parcels.unpack(call)
        prefix = f"levin/launch{orders.launch}"
        group.hold(group.join_store(orders.address, orders.port, prefix))
        function, args, kwargs = call
        result = function(*args, **kwargs)
        content = parcels.pack(result, name="result", to_host=True).content if local_rank == 0 else b""
        _send(pipe, "result", content)
    except BaseException as error:  # whatever it is, it is told
        _send(pipe, "failure", _failure_of(rank, error))
        if group.is_started():  # threads that wait for other processes may never end
            sys.stdout.flush()
            sys.stderr.flush()
            watch.leave_at_once()
    group.leave()


def _settle(
    local_rank: int, rank: int, orders: _Orders, pipe: Connection, left_over: list[Connection]
) -> None:
    """Be a worker: with a place, without what belongs to the process that waits."""
    for other in left_over:
        other.close()
    for number in signal.valid_signals():
        noted = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(noted, _Noted):  # in the process that this one is a copy of
            signal.signal(number, noted.before[number])
    if hasattr(os, "setpgid"):
        with suppress(OSError):
            os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the process that waits, which passes it on
    die_with_parent()
    threading.Thread(target=_listen, args=(pipe,), name="levin-listener", daemon=True).start()
    os.environ.update(
        LOCAL_RANK=str(local_rank),
        NODE_RANK=str(orders.node_rank),
        WORLD_SIZE=str(orders.num_processes * orders.num_nodes),
        MASTER_ADDR=orders.address,
        MASTER_PORT=str(orders.port),
    )
    rank_zero_only.rank = rank
    given = os.environ.get("OMP_NUM_THREADS", "")
    shared = max(1, (os.cpu_count() or 1) // orders.num_processes)
    # more of them than one would wait for ever for threads that a copy of the process does not have
    torch.set_num_threads(1 if left_over else int(given) if given.isdecimal() else shared)


def _listen(pipe: Connection) -> None:
    """Hear of failures that their processes could not tell of; end with the process that waits."""
    while True:
        try:
            rank, text = pipe.recv()
        except (EOFError, OSError):
            watch.leave_at_once()
            return
        watching = watch.current()
        if watching is not None:
            with suppress(Exception):
                watching.report(rank, text)


def _failure_of(rank: int, error: BaseException) -> _Failure:
    content = None
    with suppress(Exception):
        content = parcels.pack(error, to_host=True).content
        parcels.unpack(parcels.Parcel(content, []))  # some can be packed and not unpacked
    return _Failure(
        rank,
        "".join(traceback.format_exception(error)),
        content,
        is_stop=not isinstance(error, Exception),
        is_consequence=isinstance(error, RankFailedError),
        is_early=not group.is_started(),
    )
