"""TorchElasticEnvironment: processes that torchrun has started."""

from __future__ import annotations

import os

from levin.clusters.base import number, variable
from levin.clusters.variables import VariablesEnvironment
from levin.utils.rank import rank_zero_warn


class TorchElasticEnvironment(VariablesEnvironment):
    """Processes that ``torchrun`` (torch.distributed.elastic) has started, and starts again when one fails.

    torchrun sets ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``GROUP_RANK``, ``LOCAL_WORLD_SIZE``,
    ``MASTER_ADDR`` and ``MASTER_PORT``.
    """

    launcher = "torchrun"

    @staticmethod
    def detect() -> bool:
        """Whether torchrun started this process: what `torch.distributed.is_torchelastic_launched` says.

        Every build of torch has the answer in ``TORCHELASTIC_RUN_ID``, and only some have the function.
        """
        return "TORCHELASTIC_RUN_ID" in os.environ

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``; this machine, with a warning, where it is not set."""
        if variable("MASTER_ADDR"):
            return super().main_address
        rank_zero_warn(
            "The environment variable MASTER_ADDR is not set: the processes look for each other on this "
            "machine, 127.0.0.1. torchrun sets it."
        )
        return "127.0.0.1"

    def node_rank(self) -> int:
        """``GROUP_RANK``, which torchrun numbers its machines with; 0 where it is not set."""
        return number("GROUP_RANK", 0)
