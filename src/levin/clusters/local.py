"""LightningEnvironment: processes that levin starts, or that were started one by one."""

from __future__ import annotations

import os

from levin.clusters.base import ClusterEnvironment, number, variable
from levin.utils.rank import rank_zero_only


class LightningEnvironment(ClusterEnvironment):
    """One machine, or several that nobody manages: levin starts the processes of each machine.

    On one machine nothing has to be set. On several, start the program once on each, with ``NODE_RANK`` (0,
    1, ...), and the same ``MASTER_ADDR`` (the machine of ``NODE_RANK=0``) and ``MASTER_PORT`` (a free port
    there) on all. A process that finds ``LOCAL_RANK`` set was started by somebody, and starts no others.
    """

    def __init__(self) -> None:
        self._world_size = 1
        self._global_rank = 0

    @staticmethod
    def detect() -> bool:
        """Always."""
        return True

    @property
    def creates_processes_externally(self) -> bool:
        """Whether ``LOCAL_RANK`` is set."""
        return "LOCAL_RANK" in os.environ

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``; this machine where it is not set."""
        return variable("MASTER_ADDR") or "127.0.0.1"

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``; 0 where it is not set."""
        return number("MASTER_PORT", 0)

    def world_size(self) -> int:
        """What `set_world_size` was told; 1 before."""
        return self._world_size

    def set_world_size(self, size: int) -> None:
        """Say how many processes there are."""
        self._world_size = size

    def global_rank(self) -> int:
        """What `set_global_rank` was told; 0 before."""
        return self._global_rank

    def set_global_rank(self, rank: int) -> None:
        """Say which rank this process has; `levin.utils.rank.rank_zero_only` is told, too."""
        self._global_rank = rank
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """``LOCAL_RANK``; 0 where it is not set."""
        return number("LOCAL_RANK", 0)

    def node_rank(self) -> int:
        """``NODE_RANK`` or ``GROUP_RANK``; 0 where none is set."""
        return number("NODE_RANK", number("GROUP_RANK", 0))

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compare what a run asks for with the numbers that this process was given.

        A run of a single process has none to disagree with: a process of a larger run may well do one on its
        own, once that is over.

        Raises:
            ValueError: A number is out of range, or machines have no way to find each other.
        """
        asked = num_devices * num_nodes
        if asked == 1:
            return
        _check_rank("NODE_RANK", self.node_rank(), "num_nodes", num_nodes)
        if self.creates_processes_externally:
            _check_rank("LOCAL_RANK", self.local_rank(), "devices", num_devices)
            if (told := number("WORLD_SIZE", asked)) != asked:
                raise ValueError(
                    f"devices={num_devices} and num_nodes={num_nodes} ask for {asked} processes, but the "
                    f"environment variable WORLD_SIZE is {told}. Change devices or num_nodes so that their "
                    f"product is {told}, or set WORLD_SIZE={asked} in all processes."
                )
        if num_nodes > 1:
            self._check_meeting_place(num_nodes)

    def _check_meeting_place(self, num_nodes: int) -> None:
        needed = ["MASTER_PORT"] if self.node_rank() == 0 else ["MASTER_ADDR", "MASTER_PORT"]
        missing = [name for name in needed if not variable(name)]
        if missing:
            raise ValueError(
                f"num_nodes={num_nodes}, and nothing tells the machines where to meet: "
                f"{' and '.join(missing)} not set on the machine of NODE_RANK={self.node_rank()}. Set on "
                f"each of them NODE_RANK (0 to {num_nodes - 1}), MASTER_ADDR (the name or IP address of the "
                "one with NODE_RANK=0) and MASTER_PORT (a port that is free there), or start the program "
                "with torchrun."
            )

    def teardown(self) -> None:
        """Remove ``WORLD_SIZE``, which was set for the processes of this run."""
        os.environ.pop("WORLD_SIZE", None)


def _check_rank(name: str, rank: int, argument: str, count: int) -> None:
    if rank >= count:
        raise ValueError(
            f"{name} is {rank}, but {argument}={count} lets it go from 0 to {count - 1}. Set {argument} to "
            f"the number that there are, at least {rank + 1}, or count {name} from 0."
        )
