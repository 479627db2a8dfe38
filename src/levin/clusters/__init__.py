"""Where a process stands among those of its run: its ranks, and where the processes meet.

`find_cluster` asks each environment whether it started this process. To add one of your own, subclass
`ClusterEnvironment` and pass an instance: ``Trainer(plugins=[...])``.
"""

from __future__ import annotations

from levin.clusters.base import ClusterEnvironment
from levin.clusters.kubeflow import KubeflowEnvironment
from levin.clusters.local import LightningEnvironment
from levin.clusters.lsf import LSFEnvironment
from levin.clusters.mpi import MPIEnvironment
from levin.clusters.torchelastic import TorchElasticEnvironment
from levin.clusters.variables import VariablesEnvironment
from levin.utils.lazy import load_on_use

__all__ = [
    "CLUSTERS",
    "ClusterEnvironment",
    "KubeflowEnvironment",
    "LSFEnvironment",
    "LightningEnvironment",
    "MPIEnvironment",
    "TorchElasticEnvironment",
    "VariablesEnvironment",
    "find_cluster",
]

CLUSTERS: tuple[type[ClusterEnvironment], ...] = (
    TorchElasticEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    # After those that know more than the variables say.
    VariablesEnvironment,
    LightningEnvironment,
)
"""The environments that are looked for, in this order. The last one is always there."""


def find_cluster() -> ClusterEnvironment:
    """The environment that this process was started in: the first of `CLUSTERS` that detects itself."""
    return next(kind for kind in CLUSTERS if kind.detect())()


load_on_use(__name__, {})
