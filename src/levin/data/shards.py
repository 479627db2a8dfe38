"""Data divided among processes: each reads its own part, all of it is read once, nothing twice."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    get_worker_info,
)

from levin.data.combined import length_of
from levin.utils.fingerprint import fingerprint
from levin.utils.rank import rank_from_environment
from levin.utils.seed import isolate_rng

if TYPE_CHECKING:
    from collections.abc import Sized


T = TypeVar("T")


class ShardSampler(DistributedSampler[Any]):
    """This process's part of what a sampler gives: every n-th index, without padding.

    The order is the same in all processes. That of torch's `RandomSampler` follows from (seed, epoch), as
    that of its `DistributedSampler` does: the batches of all processes together are consecutive parts of it,
    at any number of processes. Other samplers give theirs with the global generators seeded so; one that has
    a generator of its own must have it in the same state in each process.

    Args:
        sampler: What gives all indices.
        dataset: What they are indices of.
        num_replicas: The number of processes.
        rank: This one's.
        seed: What the order follows from, with the epoch.
        drop_last: Whether the last indices are left out if they are too few for all processes.
    """

    def __init__(
        self,
        sampler: Any,
        dataset: Sized,
        *,
        num_replicas: int,
        rank: int,
        seed: int,
        drop_last: bool = False,
    ) -> None:
        shuffle = type(sampler) is RandomSampler
        super().__init__(
            dataset,  # type: ignore[arg-type]  # only its length is asked for
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
        )
        self.sampler: Any = sampler
        self._begun: tuple[int, int, list[Any] | None] | None = None  # epoch, place, order
        self.num_samples: int = len(self)

    @property
    def first(self) -> int:
        """The place in the epoch's order that its first index has: not 0 in one that others have begun."""
        return self._begun[1] if self._begun is not None and self._begun[0] == self.epoch else 0

    @property
    def given_order(self) -> list[Any] | None:
        """The epoch's order, where `begin_at` was given one."""
        return self._begun[2] if self._begun is not None and self._begun[0] == self.epoch else None

    def begin_at(self, epoch: int, place: int, order: list[Any] | None = None) -> None:
        """Leave out what was used of an epoch by another number of processes.

        Args:
            epoch: The epoch.
            place: How many indices were used.
            order: All of the epoch's indices, if they are not what follows from seed and epoch.
        """
        self._begun = (epoch, place, order)
        self.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """What is left out, for a checkpoint."""
        return {"begun": self._begun, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._begun = None if state["begun"] is None else tuple(state["begun"])
        self.seed: int = state["seed"]

    def __len__(self) -> int:
        size = len(self.sampler) - self.first
        if self.drop_last:
            return int(size // self.num_replicas)
        return max(0, math.ceil((size - self.rank) / self.num_replicas))

    @property
    def shortest(self) -> int:
        """The number of indices of the process that has the fewest."""
        return int(len(self.sampler) // self.num_replicas)

    def __iter__(self) -> Iterator[Any]:
        order = self.order()[self.first :]
        end = len(order) // self.num_replicas * self.num_replicas if self.drop_last else len(order)
        return iter(order[self.rank : end : self.num_replicas])

    def order(self) -> list[Any]:
        """All indices of the epoch."""
        sampler = self.sampler
        if self.given_order is not None:
            return self.given_order
        if type(sampler) is SequentialSampler:
            return list(range(len(sampler)))
        is_permutation = (
            type(sampler) is RandomSampler
            and not sampler.replacement
            and sampler.num_samples == len(sampler.data_source)
        )
        if is_permutation:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            return torch.randperm(len(sampler), generator=generator).tolist()
        with isolate_rng(include_cuda=False):
            torch.default_generator.manual_seed(self.seed + self.epoch)
            random.seed(self.seed + self.epoch)
            return list(sampler)


class ShardBatches(BatchSampler):
    """This process's part of the batches that a sampler of batches gives: every n-th one.

    Args:
        batches: What gives all batches, the same in all processes.
        num_replicas: The number of processes.
        rank: This one's.
        seed: What is drawn from the global generators follows from it and the epoch.
    """

    def __init__(self, batches: Any, *, num_replicas: int, rank: int, seed: int) -> None:
        self.batches = batches
        self.num_replicas: int = num_replicas
        self.rank: int = rank
        self.seed: int = seed
        self.epoch: int = 0
        # whoever asks a loader for them finds them
        for name in ("batch_size", "drop_last", "sampler"):
            setattr(self, name, getattr(batches, name, None))

    def __len__(self) -> int:
        return max(0, math.ceil((len(self.batches) - self.rank) / self.num_replicas))

    @property
    def shortest(self) -> int:
        """The number of batches of the process that has the fewest."""
        return int(len(self.batches) // self.num_replicas)

    def __iter__(self) -> Iterator[Any]:
        with isolate_rng(include_cuda=False):
            torch.default_generator.manual_seed(self.seed + self.epoch)
            random.seed(self.seed + self.epoch)
            batches = [list(batch) for batch in self.batches]
        return iter(batches[self.rank :: self.num_replicas])

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from which the order follows."""
        self.epoch = epoch
        for part in (self.batches, self.sampler):
            tell = getattr(part, "set_epoch", None)
            if callable(tell):
                tell(epoch)


class ShardStream(Iterable[Any]):
    """This process's part of a stream of batches: every n-th one, if all processes see the same stream.

    One that is divided already, by itself or by its author, begins with another batch in each process and is
    left as it is. All processes have to open it.

    Args:
        loader: What gives the batches.
        num_replicas: The number of processes.
        rank: This one's.
        gather: Gives what each process has, in the order of ranks.
    """

    def __init__(
        self, loader: Any, *, num_replicas: int, rank: int, gather: Callable[[Any], list[Any]]
    ) -> None:
        self.loader = loader
        self.num_replicas: int = num_replicas
        self.rank: int = rank
        self._gather = gather
        self.is_same: bool | None = None  # in all processes

    def __len__(self) -> int:
        length = length_of(self.loader)
        if length == math.inf:
            raise TypeError("a stream has no length")
        is_same = self.is_same
        if is_same is None:  # one that has a length can be opened twice
            with isolate_rng(include_cuda=False):
                is_same = self._compare(next(iter(self.loader), _OVER))
        if not is_same:
            return int(length)
        return max(0, math.ceil((length - self.rank) / self.num_replicas))

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        if self.is_same is not None:
            return self.deal(batches) if self.is_same else batches
        first = next(batches, _OVER)
        whole = batches if first is _OVER else chain([first], batches)
        return self.deal(whole) if self._compare(first) else whole

    def _compare(self, first: Any) -> bool:
        """Find out whether all processes begin with the same batch."""
        seen = self._gather(None if first is _OVER else fingerprint(first))
        self.is_same = seen[0] is not None and all(other == seen[0] for other in seen)
        return self.is_same

    def deal(self, batches: Iterator[Any]) -> Iterator[Any]:
        """This process's of the batches that all have."""
        return islice(batches, self.rank, None, self.num_replicas)


_OVER = object()


def split_by_process_and_worker(items: Iterable[T]) -> Iterator[T]:
    """The part of a stream that belongs to this process and, in a loader's worker, to this worker.

    For `__iter__` of an `IterableDataset`, which each worker of each process has a copy of: together they
    give each item once. Every n-th item is one's own; all are read.

    Args:
        items: All items, in the same order everywhere.

    Examples:
        >>> list(split_by_process_and_worker(range(3)))  # one process, no workers
        [0, 1, 2]
    """
    is_group = dist.is_available() and dist.is_initialized()
    rank = dist.get_rank() if is_group else rank_from_environment() or 0
    num_processes = dist.get_world_size() if is_group else int(os.environ.get("WORLD_SIZE", "1"))
    worker = get_worker_info()
    num_workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
    return islice(iter(items), rank * num_workers + number, None, num_processes * num_workers)
