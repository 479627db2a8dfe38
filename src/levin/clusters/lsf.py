"""LSFEnvironment: processes that jsrun has started in a job of IBM's LSF."""

from __future__ import annotations

import socket
from pathlib import Path

from levin.clusters.base import number, variable
from levin.clusters.external import ExternalEnvironment

_NEEDED = ("LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE")


class LSFEnvironment(ExternalEnvironment):
    """Processes that ``jsrun``, LSF's job step manager, has started.

    jsrun sets ``JSM_NAMESPACE_RANK``, ``JSM_NAMESPACE_SIZE`` and ``JSM_NAMESPACE_LOCAL_RANK``. The job's
    hosts are in the file ``LSB_DJOB_RANKFILE``, the one that the job was launched from first. ``MASTER_ADDR``
    and ``MASTER_PORT`` count where they are set.

    Raises:
        ValueError: The file with the hosts is not there, or does not name this one.
    """

    launcher = "jsrun"

    def __init__(self) -> None:
        hosts = _compute_hosts()
        self._first_host = hosts[0]
        self._node_rank = _position(socket.gethostname(), hosts)

    @staticmethod
    def detect() -> bool:
        """Whether jsrun started this process."""
        return all(variable(name) for name in _NEEDED)

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``; the job's first compute host where it is not set."""
        return variable("MASTER_ADDR") or self._first_host

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``; from the job's number, which all processes know, where it is not set."""
        return number("MASTER_PORT", 0) or 10000 + number("LSB_JOBID", source="LSF") % 1000

    def world_size(self) -> int:
        """``JSM_NAMESPACE_SIZE``."""
        return number("JSM_NAMESPACE_SIZE", source=self.launcher)

    def global_rank(self) -> int:
        """``JSM_NAMESPACE_RANK``."""
        return number("JSM_NAMESPACE_RANK", source=self.launcher)

    def local_rank(self) -> int:
        """``JSM_NAMESPACE_LOCAL_RANK``."""
        return number("JSM_NAMESPACE_LOCAL_RANK", source=self.launcher)

    def node_rank(self) -> int:
        """The place of this host among the job's compute hosts."""
        return self._node_rank


def _compute_hosts() -> list[str]:
    """The job's hosts, each once, in their order, without the one that it was launched from."""
    place = variable("LSB_DJOB_RANKFILE")
    if not place:
        raise ValueError(
            "The environment variable LSB_DJOB_RANKFILE is not set, or empty. LSF sets it in a job to the "
            "file that lists the job's hosts."
        )
    try:
        lines = Path(place).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"The file that LSB_DJOB_RANKFILE names can't be read: {error}.") from error
    slots = [line.split()[0] for line in lines if line.strip()]
    if not slots:
        raise ValueError(f"The file {place}, which LSB_DJOB_RANKFILE names, lists no hosts.")
    # A job in one slot has no other host than that one.
    return list(dict.fromkeys(slots[1:] or slots))


def _position(host: str, hosts: list[str]) -> int:
    """Where ``host`` stands in ``hosts``; either may be written with its domain or without it."""
    if host in hosts:
        return hosts.index(host)
    same = [index for index, other in enumerate(hosts) if _short(other) == _short(host)]
    if len(same) != 1:
        raise ValueError(
            f"This host calls itself {host!r}, and {'several of the' if same else 'none of the'} compute "
            f"hosts of the job are called so: {', '.join(hosts)} (from the file that LSB_DJOB_RANKFILE "
            "names, whose first line is the host that the job was launched from). Start the program "
            "with jsrun."
        )
    return same[0]


def _short(host: str) -> str:
    """A host's name without its domain; an IP address as it is."""
    first = host.partition(".")[0]
    return host if first.isdecimal() else first
