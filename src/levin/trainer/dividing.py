"""A run's data among its processes: who reads what, and how many batches all have."""

from __future__ import annotations

import math
import os
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset

from levin.data.fetch import Pace
from levin.data.loaders import with_batch_sampler, with_sampler
from levin.data.shards import ShardBatches, ShardSampler, ShardStream
from levin.trainer.dataloaders import rebuild_loaders
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from levin.trainer.states import Run


def divide(run: Run, loaders: Any, kind: str) -> Any:
    """The same collection, each loader reading this process's part.

    Training data is divided by samples, so that the batches of all processes are one after another in the
    order; what is evaluated or predicted is divided by batches, which are those of a single process then.

    Args:
        run: The run.
        loaders: The loaders; those that are divided already stay as they are.
        kind: "train", "val", "test" or "predict".
    """
    if run.strategy.world_size == 1 or not run.divides_data:
        return loaders
    return rebuild_loaders(loaders, partial(_divided, run, kind))


def _divided(run: Run, kind: str, loader: Any) -> Any:
    strategy = run.strategy
    part = {"num_replicas": strategy.world_size, "rank": strategy.global_rank}
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return ShardStream(loader, gather=strategy.gather_objects, **part)
    batches = loader.batch_sampler
    if any(
        isinstance(each, DistributedSampler) for each in (loader.sampler, getattr(batches, "sampler", None))
    ):
        return loader
    seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
    by_samples = batches is None or (kind == "train" and type(batches) is BatchSampler)
    if by_samples:
        drops = kind == "train" and run.uneven == "drop"
        sampler = ShardSampler(loader.sampler, loader.dataset, seed=seed, drop_last=drops, **part)  # type: ignore[arg-type]  # a map-style dataset has a length
        return with_sampler(loader, sampler)
    return with_batch_sampler(loader, ShardBatches(batches, seed=seed, **part))


def common_length(run: Run, length: int | float) -> int | float:
    """How many batches of an epoch all processes train on; infinite where it is not known.

    Args:
        run: The run.
        length: How many there are for this process.

    Raises:
        MisconfigurationException: If the numbers differ, and ``uneven="error"``.
    """
    if run.companions is None:
        return length
    lengths: list[int | float] = run.strategy.gather_objects(length)
    if math.inf in lengths:
        return math.inf
    if run.uneven == "error" and len(set(lengths)) > 1:
        raise MisconfigurationException(
            f"The processes have different numbers of training batches: {lengths}. With "
            "uneven='stop_together' an epoch ends with the shortest, with 'zero_weight' with the longest."
        )
    return max(lengths) if run.uneven == "zero_weight" else min(lengths)


def pace(run: Run, length: int | float) -> Pace | None:
    """What keeps processes together in an epoch; None where all have the same number of batches."""
    if run.companions is None or (length < math.inf and run.uneven != "zero_weight"):
        return None
    votes = run.companions.votes if length == math.inf else None
    return Pace(votes, run.strategy.world_size, run.uneven)


def in_order(parts: Iterable[list[list[Any]]]) -> list[list[Any]]:
    """The predictions of all processes, each of which made those of every n-th batch, in the data's order."""
    gone = object()
    return [
        [each for each in chain.from_iterable(zip_longest(*loaders, fillvalue=gone)) if each is not gone]
        for loaders in zip(*parts, strict=True)
    ]
