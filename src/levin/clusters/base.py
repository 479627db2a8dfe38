"""ClusterEnvironment: where a process stands among those of its run, and where they meet."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod


class ClusterEnvironment(ABC):
    """Where this process stands among those of a run, and where they meet, as whoever started them tells.

    Subclass it for a cluster that levin doesn't know, and pass an instance: ``Trainer(plugins=[...])``.
    """

    @property
    @abstractmethod
    def creates_processes_externally(self) -> bool:
        """Whether the processes are there already. If not, levin starts those of this machine."""

    @property
    @abstractmethod
    def main_address(self) -> str:
        """The host that the process of rank 0 runs on: a name or an IP address."""

    @property
    @abstractmethod
    def main_port(self) -> int:
        """The port at which the processes meet; 0 where nobody chose one, so that `share_port` is due."""

    @staticmethod
    @abstractmethod
    def detect() -> bool:
        """Whether this process was started in such an environment."""

    @abstractmethod
    def world_size(self) -> int:
        """How many processes the run has, on all machines."""

    def local_world_size(self) -> int | None:
        """How many processes of the run there are on this machine; None where that is not known."""
        return None

    @abstractmethod
    def set_world_size(self, size: int) -> None:
        """Say how many processes there are. Where somebody else counts them, it has no effect."""

    @abstractmethod
    def global_rank(self) -> int:
        """The number of this process among all of the run, from 0."""

    @abstractmethod
    def set_global_rank(self, rank: int) -> None:
        """Say which rank this process has. Where somebody else numbers the processes, it has no effect."""

    @abstractmethod
    def local_rank(self) -> int:
        """The number of this process among those of its machine, from 0."""

    @abstractmethod
    def node_rank(self) -> int:
        """The number of this machine among those of the run, from 0."""

    def share_port(self, port: int | None) -> int:
        """Agree on a port that rank 0 has bound. Every process calls this once, where `main_port` is 0.

        This one hands the port to processes that rank 0 starts afterwards: they inherit ``MASTER_PORT``.

        Args:
            port: In the process of rank 0 the port that it has bound; None in the others.

        Returns:
            The port of rank 0.

        Raises:
            ValueError: The processes have no way to tell each other.
        """
        if port is not None:
            os.environ["MASTER_PORT"] = str(port)
            return port
        if not variable("MASTER_PORT"):
            raise ValueError(
                "The environment variable MASTER_PORT is not set, and this process was not started by the "
                "one of rank 0, which chose a port. Set MASTER_PORT to the same free port for all processes, "
                "on all machines."
            )
        return number("MASTER_PORT")

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:  # noqa: B027  # optional
        """Called before processes are started, or joined, for a run.

        Args:
            num_devices: How many processes the run shall have on each machine.
            num_nodes: How many machines it shall have.

        Raises:
            ValueError: They contradict what is there.
        """

    def teardown(self) -> None:  # noqa: B027  # optional
        """Called at the end of a run: undo what was set for it."""


def variable(name: str) -> str:
    """An environment variable without blanks around it; empty where it is not set."""
    return os.environ.get(name, "").strip()


def number(name: str, default: int | None = None, *, source: str = "whoever starts the processes") -> int:
    """The number that an environment variable holds.

    Args:
        name: The variable.
        default: What it is where it is not set.
        source: Who sets it, for messages.

    Raises:
        ValueError: It is not set and has no default, or is no number from 0.
    """
    text = variable(name)
    if not text and default is not None:
        return default
    if not text:
        raise ValueError(
            f"The environment variable {name} is not set: {source} sets it in each process. Start the "
            "program that way, or set it yourself."
        )
    if not text.isdecimal():
        raise ValueError(f"The environment variable {name} is {text!r}. It has to be a number: 0, 1, 2, ...")
    return int(text)
