"""KubeflowEnvironment: one process in each pod of a PyTorchJob."""

from __future__ import annotations

from levin.clusters.variables import VariablesEnvironment


class KubeflowEnvironment(VariablesEnvironment):
    """Pods of Kubeflow's PyTorchJob, one process in each: ``devices=1``, and ``num_nodes`` is their number.

    The operator sets ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` in each pod. Others set
    the same, so that nothing tells that it was this operator: pass the environment,
    ``Trainer(plugins=[KubeflowEnvironment()])``. Where a pod starts torchrun, leave it out.
    """

    launcher = "the PyTorchJob"

    @staticmethod
    def detect() -> bool:
        """Never: it has to be passed."""
        return False

    def local_world_size(self) -> int | None:
        """One process in each pod."""
        return 1

    def local_rank(self) -> int:
        """The only process of its pod."""
        return 0

    def node_rank(self) -> int:
        """``RANK``: pods are numbered as their processes are."""
        return self.global_rank()
