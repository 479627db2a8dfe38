"""Stock loaders, taken apart: copies with another sampler, what shuffles by epoch, seeds of workers."""

from __future__ import annotations

import copy
import functools
import os
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from levin.utils.seed import pl_worker_init_function


def with_sampler(loader: DataLoader[Any], sampler: Any) -> DataLoader[Any]:
    """A copy of the loader, of the same class, with another sampler."""
    if loader.batch_sampler is None:
        return _with(loader, sampler=sampler)
    batches = BatchSampler(sampler, loader.batch_size or 1, loader.drop_last)
    return _with(loader, sampler=sampler, batch_sampler=batches)


def with_batch_size(loader: DataLoader[Any], sampler: Any, batch_size: int) -> DataLoader[Any]:
    """A copy of the loader, of the same class, with another sampler and batch size."""
    batches = BatchSampler(sampler, batch_size, loader.drop_last)
    return _with(loader, sampler=sampler, batch_sampler=batches, batch_size=batch_size)


def with_batch_sampler(loader: DataLoader[Any], batch_sampler: Any) -> DataLoader[Any]:
    """A copy of the loader, of the same class, with another sampler of batches."""
    return _with(loader, batch_sampler=batch_sampler, drop_last=getattr(batch_sampler, "drop_last", False))


def _with(loader: DataLoader[Any], **parts: Any) -> DataLoader[Any]:
    changed = copy.copy(loader)
    # past its own __setattr__, which refuses such a change; workers that stay alive are the original's
    vars(changed).update(parts, _iterator=None)
    return changed


def samplers_by_epoch(loader: Any) -> list[Any]:
    """What in a loader wants to be told the epoch, as `torch.utils.data.DistributedSampler` does."""
    batches = getattr(loader, "batch_sampler", None)
    parts = (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    unique = {id(part): part for part in parts}.values()
    return [part for part in unique if callable(getattr(part, "set_epoch", None))]


def seed_workers_of(loader: Any, rank: int) -> None:
    """Let the workers of a stock loader draw streams of their own, if `seed_everything` was asked to.

    Args:
        loader: The loader.
        rank: The process that it is read in.
    """
    if os.environ.get("PL_SEED_WORKERS") != "1":
        return
    if isinstance(loader, DataLoader) and loader.worker_init_fn is None:
        loader.worker_init_fn = functools.partial(pl_worker_init_function, rank=rank)
