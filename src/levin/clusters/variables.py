"""VariablesEnvironment: torch's own variables, RANK and its kin, set by hand or by any launcher."""

from __future__ import annotations

from levin.clusters.base import number, variable
from levin.clusters.external import ExternalEnvironment

_ALL = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class VariablesEnvironment(ExternalEnvironment):
    """Processes that know their places by the variables that torch reads, whoever has set them.

    ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` have to be set in each
    process: DeepSpeed's launcher and Ray Train do so, and so can a shell. Without one of them the environment
    is not recognised. ``NODE_RANK`` or ``GROUP_RANK``, and ``LOCAL_WORLD_SIZE``, are read where they are set.
    """

    launcher = "whoever set RANK and WORLD_SIZE"

    @staticmethod
    def detect() -> bool:
        """Whether all five variables are set."""
        return all(variable(name) for name in _ALL)

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``.

        Raises:
            ValueError: It is not set.
        """
        address = variable("MASTER_ADDR")
        if not address:
            raise ValueError(
                "The environment variable MASTER_ADDR is not set. Set it, for all processes, to the name or "
                "IP address of the machine that the process of rank 0 runs on."
            )
        return address

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``; 0 where it is not set."""
        return number("MASTER_PORT", 0)

    def world_size(self) -> int:
        """``WORLD_SIZE``."""
        return number("WORLD_SIZE", source=self.launcher)

    def local_world_size(self) -> int | None:
        """``LOCAL_WORLD_SIZE``; None where it is not set."""
        return number("LOCAL_WORLD_SIZE", 0) or None

    def global_rank(self) -> int:
        """``RANK``."""
        return number("RANK", source=self.launcher)

    def local_rank(self) -> int:
        """``LOCAL_RANK``."""
        return number("LOCAL_RANK", source=self.launcher)

    def node_rank(self) -> int:
        """``NODE_RANK`` or ``GROUP_RANK``; where none is set, machines in the order of ranks, all alike."""
        here = self.local_world_size()
        counted = 0 if here is None else self.global_rank() // here
        return number("NODE_RANK", number("GROUP_RANK", counted))
