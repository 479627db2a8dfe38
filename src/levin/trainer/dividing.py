"""A run's data among its processes: who reads what, and how many batches all have."""

from __future__ import annotations

import math
import os
from collections.abc import Sized
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
)

from levin.data.fetch import Pace
from levin.data.loaders import with_batch_sampler, with_batch_size, with_sampler
from levin.data.shards import ShardBatches, ShardSampler, ShardStream
from levin.trainer.dataloaders import flatten, rebuild_loaders
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import rank_zero_info

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
    if kind == "train" and run.global_batch_size is not None:
        return rebuild_loaders(loaders, partial(_of_global_batches, run))
    is_alone = run.strategy.world_size == 1 and not (kind == "train" and run.goes_on_with_shards)
    if is_alone or not run.divides_data:
        return loaders
    return rebuild_loaders(loaders, partial(_divided, run, kind))


def _of_global_batches(run: Run, loader: Any) -> Any:
    """The loader with this process's share of each batch of ``global_batch_size`` samples."""
    batches = getattr(loader, "batch_sampler", None)
    if type(batches) is not BatchSampler or isinstance(loader.dataset, IterableDataset):
        raise MisconfigurationException(
            f"global_batch_size={run.global_batch_size} can't be kept with this training data: "
            f"{type(loader).__name__} has no `batch_size` to set. Give a DataLoader with a batch_size over a "
            "map-style dataset, or leave global_batch_size out."
        )
    if isinstance(batches.sampler, DistributedSampler) and not isinstance(batches.sampler, ShardSampler):
        raise MisconfigurationException(
            f"global_batch_size={run.global_batch_size} divides the data, and the loader's "
            f"{type(batches.sampler).__name__} has divided it already. Leave one of the two out."
        )
    strategy, window = run.strategy, run.updates.accumulate_grad_batches
    seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
    given = batches.sampler if isinstance(batches.sampler, Sized) else SequentialSampler(loader.dataset)
    sampler = ShardSampler(
        getattr(given, "sampler", given),
        loader.dataset,
        num_replicas=strategy.world_size,
        rank=strategy.global_rank,
        seed=seed,
        drop_last=bool(loader.drop_last),
    )
    size = micro_batch_size(run.global_batch_size or 1, strategy.world_size, window)
    return with_batch_size(loader, sampler, size)


def micro_batch_size(total: int, world_size: int, window: int) -> int:
    """The samples of one batch in one process.

    Raises:
        MisconfigurationException: If the parts would not be equal.
    """
    parts = world_size * window
    if total % parts:
        below = total // parts * parts
        near = " or ".join(str(each) for each in (below, below + parts) if each)
        raise MisconfigurationException(
            f"global_batch_size={total} can't be divided by {world_size} processes x accumulate_grad_batches="
            f"{window} = {parts}. Use {near}, or another number of processes or of batches to accumulate."
        )
    return total // parts


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


def shard_of(loaders: Any) -> tuple[Any, ShardSampler] | None:
    """The loader that divides the samples among processes, and its sampler, if it is the only one."""
    parts = flatten(loaders)
    sampler = getattr(parts[0], "sampler", None) if len(parts) == 1 else None
    return (parts[0], sampler) if isinstance(sampler, ShardSampler) else None


def num_samples(loaders: Any) -> int:
    """The samples of an epoch over all processes, where one loader divides them; else 0."""
    found = shard_of(loaders)
    if found is None:
        return 0
    loader, sampler = found
    if loader.drop_last:
        return len(loader) * int(loader.batch_size) * sampler.num_replicas
    return len(sampler.sampler)


def tell_batch_size(run: Run, loaders: Any, batches: int | float) -> None:
    """Say how many samples an update of the weights is made of, where that is not the loader's batch size.

    Args:
        run: The run.
        loaders: The training loaders.
        batches: Those of an epoch.
    """
    parts = flatten(loaders)
    size = getattr(parts[0], "batch_size", None) if len(parts) == 1 else None
    window, world = run.updates.accumulate_grad_batches, run.strategy.world_size
    is_plain = window * world == 1 and run.global_batch_size is None
    if size is None or is_plain or not run.module.automatic_optimization or batches in (0, math.inf):
        return
    in_all = run.module.trainer.estimated_stepping_batches  # which knows of windows that change
    rank_zero_info(
        f"An update takes {size * window * world} samples: batch_size={size} x "
        f"accumulate_grad_batches={window} x world_size={world}. "
        f"Updates: {math.ceil(batches / window)} in the epoch, {in_all} in all."
    )


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
    if run.global_batch_size is not None:
        return max(lengths)
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
    waits = run.uneven == "zero_weight" or run.global_batch_size is not None
    if run.companions is None or (length < math.inf and not waits):
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
