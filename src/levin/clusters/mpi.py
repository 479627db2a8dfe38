"""MPIEnvironment: processes that mpirun, mpiexec or another launcher of MPI has started."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levin.clusters.base import number, variable
from levin.clusters.external import ExternalEnvironment
from levin.utils.imports import available, require
from levin.utils.paths import atomic_writer
from levin.utils.rank import rank_zero_warn

# Each launcher sets one of these. Where none is set, mpi4py is left alone: importing it starts MPI.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_LAUNCHED = (*_SIZES, "PMIX_RANK", "MPI_LOCALNRANKS")

# Where a launcher tells all of these, mpi4py is not needed for: size, rank, local size, local rank.
_TOLD = (
    (
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),  # Open MPI
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),  # Hydra: MPICH and Intel MPI
)

_SETTING = "`mpirun -x NAME=value` with Open MPI, `mpiexec -genv NAME value` with MPICH or Intel MPI"


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that MPI started.

    Attributes:
        size: How many processes there are.
        rank: The number of this one.
        local_size: How many of them are on this machine.
        local_rank: The number of this one among them.
        node_rank: The number of this machine.
        address: Where rank 0 is; empty where nobody has said so.
        port: The port that was chosen beforehand; 0 where none was.
    """

    size: int
    rank: int
    local_size: int
    local_rank: int
    node_rank: int
    address: str
    port: int


class MPIEnvironment(ExternalEnvironment):
    """Processes that a launcher of MPI has started.

    With mpi4py the processes ask each other for their hosts and agree on a port by MPI itself; what
    ``MASTER_ADDR`` and ``MASTER_PORT`` are in the process of rank 0 counts for all.

    Without mpi4py the variables of Open MPI, MPICH or Intel MPI tell the ranks. On one machine the
    processes of Open MPI then agree on a port by a file in the job's own folder, which it makes and removes.
    Otherwise ``MASTER_PORT`` is needed in all processes, and on several machines ``MASTER_ADDR``.

    All processes have to make one at the same time: with mpi4py they wait for each other.

    Args:
        timeout_s: How long to wait for the port of rank 0, where a file tells it.

    Raises:
        ModuleNotFoundError: mpi4py is needed and not installed.
        ValueError: Neither mpi4py nor the variables know the processes.
    """

    launcher = "the MPI launcher"

    def __init__(self, timeout_s: float = 300) -> None:
        self._timeout_s = timeout_s
        self._world = _communicator()
        self._place = _from_variables() if self._world is None else _from_communicator(self._world)
        self._port = self._place.port

    @staticmethod
    def detect() -> bool:
        """Whether a launcher of MPI started this process and others. mpi4py is not imported if none did."""
        if not any(variable(name) for name in _LAUNCHED):
            return False
        world = _communicator()
        if world is not None:
            return int(world.Get_size()) > 1
        numbers = _told_numbers()
        if not numbers and _told_size() > 1:
            rank_zero_warn(
                f"A launcher of MPI has started {_told_size()} processes, but each of them runs on its own: "
                f"{_why_unknown()}"
            )
        return bool(numbers) and numbers[0] > 1

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``; where it is not set this machine, if it is the only one, or the host of rank 0.

        Raises:
            ValueError: There are several machines, and without mpi4py nothing tells where rank 0 is.
        """
        if not self._place.address:
            raise ValueError(
                "The processes run on several machines, and without mpi4py nothing tells on which of them "
                "rank 0 is. Install it, pip install mpi4py, or set MASTER_ADDR, the host of rank 0, and "
                f"MASTER_PORT, a port that is free there, in all processes: {_SETTING}."
            )
        return self._place.address

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``, or what `share_port` agreed on; 0 before."""
        return self._port

    def world_size(self) -> int:
        """How many processes MPI has."""
        return self._place.size

    def local_world_size(self) -> int | None:
        """How many of them are on this machine."""
        return self._place.local_size

    def global_rank(self) -> int:
        """The rank that MPI gave this process."""
        return self._place.rank

    def local_rank(self) -> int:
        """The number of this process among those of its machine, in the order of ranks."""
        return self._place.local_rank

    def node_rank(self) -> int:
        """The number of this machine, in the order of the lowest rank on each."""
        return self._place.node_rank

    def share_port(self, port: int | None) -> int:
        """Agree on the port that rank 0 has bound.

        Args:
            port: In the process of rank 0 the port that it has bound; None in the others.

        Returns:
            The port of rank 0, which ``MASTER_PORT`` tells from now on, too.

        Raises:
            ValueError: There is no way to agree on one; it is raised in all processes.
            TimeoutError: Rank 0 has not told its port.
        """
        if self._world is not None:
            self._port = int(self._world.bcast(port, root=0))
        else:
            self._port = self._share_by_file(port)
        os.environ["MASTER_PORT"] = str(self._port)
        return self._port

    def _share_by_file(self, port: int | None) -> int:
        if port is not None and self._place.size == 1:
            return port
        folder, job = variable("PMIX_SERVER_TMPDIR"), variable("PMIX_NAMESPACE")
        if self._place.local_size != self._place.size or not folder or not job:
            raise ValueError(
                f"Without mpi4py the {self._place.size} processes can't agree on a port. Install it, pip "
                "install mpi4py, or set MASTER_PORT, a port that is free on the host of rank 0, in all "
                f"processes: {_SETTING}."
            )
        file = Path(folder) / f"levin-port-{job}"
        if port is not None:
            with atomic_writer(file, "w") as stream:
                stream.write(str(port))
            return port
        return int(_content(file, self._timeout_s))


def _content(file: Path, timeout_s: float) -> str:
    """What is in a file, once it is there."""
    end = time.monotonic() + timeout_s
    while not file.exists():
        if time.monotonic() > end:
            raise TimeoutError(
                f"The process of rank 0 has not told its port in {timeout_s} s: no file {file}."
            )
        time.sleep(0.02)
    return file.read_text(encoding="utf-8")


def _told_numbers() -> list[int]:
    """Size, rank, local size and local rank, by the launcher's variables; empty where they don't tell all."""
    names = next((names for names in _TOLD if all(variable(name) for name in names)), ())
    return [number(name) for name in names]


def _told_size() -> int:
    """How many processes the launcher's variables tell of; 0 where they tell no number."""
    return max(number(name, 0) for name in _SIZES)


def _communicator() -> Any:
    """MPI's communicator of all processes.

    None where mpi4py is not there, finds no MPI, or finds another one than the launcher's: then each process
    would think itself alone.
    """
    if not available("mpi4py"):
        return None
    try:
        world = require("mpi4py.MPI").COMM_WORLD
    except (ImportError, RuntimeError):  # it is installed, and no MPI that it could load
        return None
    return None if world.Get_size() < _told_size() else world


def _why_unknown() -> str:
    """What is wrong where neither mpi4py nor the variables know the processes, and what to do."""
    if available("mpi4py"):
        return (
            "mpi4py does not see the others. It found another MPI than the launcher's, or none: install it "
            "for that one, pip install --no-binary=mpi4py mpi4py."
        )
    return "mpi4py, which knows them, is not installed. Install it: pip install mpi4py."


def _from_communicator(world: Any) -> Place:
    """Ask all the others. They meet here once, so that nothing later has to wait for one of them."""
    here = socket.gethostname()
    names = list(dict.fromkeys([here, socket.getfqdn()]))
    told: list[tuple[str, list[str], str, int]] = world.allgather(
        (here, names, variable("MASTER_ADDR"), number("MASTER_PORT", 0))
    )
    rank = int(world.Get_rank())
    hosts = [host for host, *_ in told]
    unique = list(dict.fromkeys(hosts))
    _, first_names, address, port = told[0]
    if not address:
        address = "127.0.0.1" if len(unique) == 1 else _resolvable(first_names)
    return Place(
        size=len(told),
        rank=rank,
        local_size=hosts.count(here),
        local_rank=hosts[:rank].count(here),
        node_rank=unique.index(here),
        address=address,
        port=port,
    )


def _resolvable(names: list[str]) -> str:
    """The first of a host's names that this machine knows; the first one where it knows none."""
    for name in names:
        try:
            socket.getaddrinfo(name, None)
        except OSError:
            continue
        return name
    return names[0]


def _from_variables() -> Place:
    """What the launcher's variables tell."""
    numbers = _told_numbers()
    if not numbers:
        require("mpi4py.MPI")  # which says what to install where that is what is wrong
        raise ValueError(
            f"A launcher of MPI tells of {_told_size()} processes, and they can't be told apart: "
            f"{_why_unknown()}"
        )
    size, rank, local_size, local_rank = numbers
    alone = local_size == size
    # Machines that are filled one after the other: if any is not, this does not hold on at least one rank.
    if not local_size or size % local_size or rank % local_size != local_rank:
        raise ValueError(
            f"Rank {rank} of {size} is number {local_rank} of {local_size} on its machine, so that the "
            "machines were not filled one after the other, and without mpi4py their numbers are not known. "
            "Install it, pip install mpi4py, or fill the machines in turn, as `mpirun --map-by slot` does."
        )
    return Place(
        size=size,
        rank=rank,
        local_size=local_size,
        local_rank=local_rank,
        node_rank=rank // local_size,
        address=variable("MASTER_ADDR") or ("127.0.0.1" if alone else ""),
        port=number("MASTER_PORT", 0),
    )
