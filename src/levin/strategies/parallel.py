"""ParallelStrategy: what strategies of several processes have in common. Who is here, and how they speak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from levin.clusters import LightningEnvironment, find_cluster
from levin.distributed import collectives, group
from levin.distributed.watch import Watch
from levin.launchers import START_METHODS, FunctionLauncher, ScriptLauncher
from levin.strategies.base import Strategy
from levin.utils.rank import rank_zero_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from levin.clusters import ClusterEnvironment
    from levin.launchers import Launcher
    from levin.strategies.layer_sync import LayerSync


class ParallelStrategy(Strategy):
    """One process for each device.

    Args:
        parallel_devices: The devices of this machine; by default those that the Trainer or Fabric chooses.
        cluster_environment: Where this process sits among the others; by default it is found out.
        process_group_backend: What moves tensors: by default "gloo" between CPUs, and "nccl" beside it where
            there are CUDA devices.
        timeout: How long a process waits for the others in a collective operation.
        start_method: How the other processes of this machine are started if nothing else does: "popen" runs
            the program again, "spawn", "fork" and "forkserver" run the function that is called here.
        **kwargs: As for `Strategy`.
    """

    is_distributed = True  # even if this process is the only one

    def __init__(
        self,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
        process_group_backend: str | None = None,
        timeout: timedelta = group.DEFAULT_TIMEOUT,
        start_method: str = "popen",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if start_method not in ("popen", *START_METHODS):
            known = ", ".join(map(repr, ("popen", *START_METHODS)))
            raise ValueError(f"start_method={start_method!r} is not known. Known: {known}.")
        self.parallel_devices = parallel_devices
        self.cluster_environment: ClusterEnvironment | None = cluster_environment
        self.layer_sync: LayerSync | None = None
        self.num_nodes: int = 1
        self.start_method: str = start_method
        self._backend = process_group_backend
        self.timeout: timedelta = timeout
        self._watch: Watch | None = None

    def connect(
        self, devices: list[torch.device], num_nodes: int, cluster_environment: ClusterEnvironment
    ) -> None:
        """Take what was chosen: devices, machines, and where this process stands."""
        self.parallel_devices = self.parallel_devices or devices
        self.num_nodes, self.cluster_environment = num_nodes, cluster_environment

    # ------------------------------------------------------------------ where we are

    @property
    def _cluster(self) -> ClusterEnvironment:
        if self.cluster_environment is None:
            self.cluster_environment = find_cluster()
        return self.cluster_environment

    @property
    def num_processes(self) -> int:
        """The processes of this machine."""
        return len(self.parallel_devices or [])

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        if not self.parallel_devices:
            raise RuntimeError("The strategy has no devices yet: a Trainer or a Fabric gives it some.")
        return self.parallel_devices[self.local_rank % len(self.parallel_devices)]

    @property
    def place(self) -> group.Place:
        """Which of the processes this one is."""
        where = self._cluster
        if where.creates_processes_externally and not isinstance(where, LightningEnvironment):
            return group.Place(where.global_rank(), where.world_size(), where.local_rank(), where.node_rank())
        local, node = where.local_rank(), where.node_rank()
        rank = node * self.num_processes + local
        return group.Place(rank, self.num_nodes * self.num_processes, local, node)

    @property
    def global_rank(self) -> int:  # type: ignore[override]  # it is known later than the class
        """The number of this process among all."""
        return self.place.rank

    @property
    def world_size(self) -> int:  # type: ignore[override]  # see above
        """The number of processes."""
        return self.place.world_size

    @property
    def local_rank(self) -> int:  # type: ignore[override]  # see above
        """The number of this process on its machine."""
        return self._cluster.local_rank()

    @property
    def node_rank(self) -> int:  # type: ignore[override]  # see above
        """The number of this machine."""
        return self._cluster.node_rank()

    @property
    def process_group_backend(self) -> str:
        """What moves tensors between the processes."""
        return self._backend or ("cpu:gloo,cuda:nccl" if self.root_device.type == "cuda" else "gloo")

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        """Among how many a dataset is divided, and which part is this process's."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    @property
    def launcher(self) -> Launcher | None:
        """What starts the other processes of this machine; None where they are there, or none are needed."""
        if self._cluster.creates_processes_externally or self.num_processes == 1:
            return None
        if self.start_method == "popen":
            return ScriptLauncher(self._cluster, self.num_processes, self.num_nodes)
        return FunctionLauncher(
            self._cluster,
            self.num_processes,
            self.num_nodes,
            self.start_method,
            uses_cuda=self.root_device.type == "cuda",
        )

    # ------------------------------------------------------------------ set up and put away

    def setup_environment(self) -> None:
        """Start the other processes if nobody has, meet them, and make the device ready."""
        self._cluster.validate_settings(self.num_processes, self.num_nodes)
        launcher = self.launcher
        if isinstance(launcher, ScriptLauncher):
            launcher.start_others()
        self._join()
        super().setup_environment()

    def _join(self) -> None:
        where, place = self._cluster, self.place
        where.set_world_size(place.world_size)
        where.set_global_rank(place.rank)
        rank_zero_only.rank = place.rank
        group.start(
            place,
            backend=self.process_group_backend,
            address=where.main_address,
            port=where.main_port,
            share_port=where.share_port,
            timeout=self.timeout,
        )

    def start_watch(self) -> Watch | None:
        """Begin to look after the other processes, and let them know how this one is.

        Returns:
            The watch, not started yet; None where there are no others.
        """
        if self.world_size == 1:
            return None
        silence_s = min(max(self.timeout.total_seconds(), 10.0), 60.0)
        lines = group.default_store(), group.second_line()
        return Watch(*lines, self.place, group.next_run(), silence_s=silence_s)

    def teardown(self) -> None:
        """Give the devices back; the group stays for the next run of the program."""
        super().teardown()
        self._cluster.teardown()

    # ------------------------------------------------------------------ speaking with other processes

    def average_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Average gradients over processes that were added up in each for itself."""
        collectives.average_tensors(each.grad for each in parameters if each.grad is not None)

    def barrier(self, name: str | None = None) -> None:
        """Wait until all processes are here."""
        collectives.barrier(name)

    def in_turn(self, action: Callable[[], Any], *, label: str, per_node: bool = True) -> None:
        """Let one process act while the others wait for it; no time-out counts meanwhile."""
        is_first = self.local_rank == 0 if per_node else self.global_rank == 0
        room = f"node{self.node_rank}" if per_node else "all"
        collectives.in_turn(action, is_first=is_first, label=label, room=room)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Give every process what ``src`` has."""
        return collectives.broadcast_object(obj, src)

    def all_gather(self, tensor: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Collect tensors from all processes, in a new first dimension."""
        return collectives.all_gather(super().all_gather(tensor), group, sync_grads=sync_grads)

    def reduce(self, tensor: Any, group: Any = None, reduce_op: str = "mean") -> Any:
        """Combine a tensor over all processes; anything else is given back as it is."""
        if not isinstance(tensor, torch.Tensor):
            return tensor
        return collectives.all_reduce(tensor, reduce_op, group)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002  # the known name
        """Decide together: if all say so, or if any does."""
        votes = torch.tensor(int(decision), device=self.root_device)
        total = int(collectives.all_reduce(votes, "sum"))
        return total == self.world_size if all else total > 0

    def gather_at_zero(self, obj: Any) -> list[Any] | None:
        """What every process has, in the order of ranks, in the process of rank 0; None in the others."""
        return collectives.gather_at_zero(obj)

    def gather_objects(self, obj: Any) -> list[Any]:
        """What every process has, in the order of ranks."""
        return collectives.gather_objects(obj)
