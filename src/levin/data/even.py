"""Data divided among processes that step together: each has as many batches as the others."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Sampler

from levin.data.combined import length_of
from levin.data.loaders import with_batch_sampler, with_sampler
from levin.data.shards import ShardBatches, ShardSampler, ShardStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def divided(
    loader: DataLoader[Any], *, num_replicas: int, rank: int, seed: int, gather: Callable[[Any], list[Any]]
) -> Any:
    """The loader, reading this process's part; one that is divided already stays as it is.

    All processes get the same number of batches, as a loop must have that averages gradients after each.
    Samples are read once. Only where they can't be dealt out so (batches of one, batches that a sampler of
    the user's makes, streams) does a process that would go without its last batch get one that another has.

    Args:
        loader: The loader.
        num_replicas: The number of processes.
        rank: This one's.
        seed: What the order follows from, with the epoch.
        gather: Gives what each process has, in the order of ranks.
    """
    place = {"num_replicas": num_replicas, "rank": rank}
    if isinstance(loader.dataset, IterableDataset):
        return EvenStream(loader, gather=gather, **place)
    batches, dataset = loader.batch_sampler, loader.dataset
    samplers = (loader.sampler, batches, getattr(batches, "sampler", None))
    if any(isinstance(each, DistributedSampler) for each in samplers):
        return loader
    if type(batches) is BatchSampler:
        part = ShardSampler(loader.sampler, dataset, seed=seed, **place)  # type: ignore[arg-type]  # a map-style dataset has a length
        return with_batch_sampler(loader, EvenBatches(part, batches.batch_size, drop_last=batches.drop_last))
    first = {**place, "rank": 0}  # nobody has more
    if batches is None:
        samples = [ShardSampler(loader.sampler, dataset, seed=seed, **each) for each in (place, first)]  # type: ignore[arg-type]  # as above
        return with_sampler(loader, Even(*samples))
    return with_batch_sampler(
        loader, Even(*(ShardBatches(batches, seed=seed, **each) for each in (place, first)))
    )


class EvenBatches(BatchSampler):
    """This process's part of a dataset in batches, as many as each other process has.

    Where the last samples do not suffice for another batch in each process, one that would go without makes
    two batches of its last one.

    Args:
        sampler: This process's part.
        batch_size: The samples of a batch.
        drop_last: Whether only full batches are given.
    """

    def __init__(self, sampler: ShardSampler, batch_size: int, *, drop_last: bool) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.sampler: ShardSampler = sampler

    def __len__(self) -> int:
        if self.drop_last:
            return int(self.sampler.shortest // self.batch_size)
        longest = math.ceil(len(self.sampler.sampler) / self.sampler.num_replicas)
        return math.ceil(longest / self.batch_size)

    def __iter__(self) -> Iterator[list[Any]]:
        order, size, count = self.sampler.order(), self.batch_size, len(self)
        mine = order[self.sampler.rank :: self.sampler.num_replicas]
        batches = [mine[start : start + size] for start in range(0, len(mine), size)]
        if len(batches) < count:
            last = batches[-1] if batches else []
            if len(last) > 1:
                batches[-1:] = [last[:-1], last[-1:]]
            else:
                batches.append(order[:1])
        return iter(batches[:count])


class Even(Sampler[Any]):
    """This process's part of what a sampler gives, as much as each other process has.

    Args:
        part: This process's.
        first: That of the first process, which is the longest: the last thing comes from there, if need be.
    """

    def __init__(self, part: Any, first: Any) -> None:
        self.part: Any = part
        self.first: Any = first
        # whoever asks a loader for them finds them
        for name in ("batch_size", "drop_last", "sampler"):
            setattr(self, name, getattr(part, name, None))

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[Any]:
        yield from self.part
        if len(self.part) < len(self.first):
            yield from islice(self.first, 1)

    @property
    def epoch(self) -> int:
        """The epoch, from which the order follows."""
        epoch: int = self.part.epoch
        return epoch

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch."""
        self.part.set_epoch(epoch)
        self.first.set_epoch(epoch)


class EvenStream(ShardStream):
    """This process's part of a stream of batches, as many as each other process has.

    Of the last batches, if they are too few for all, some are read by several.
    """

    def __len__(self) -> int:
        length = length_of(self.loader)
        if length == math.inf or self.is_same is False:
            return super().__len__()
        return math.ceil(length / self.num_replicas)

    def deal(self, batches: Iterator[Any]) -> Iterator[Any]:
        """This process's of the batches that all have."""
        while together := list(islice(batches, self.num_replicas)):
            yield together[self.rank % len(together)]
