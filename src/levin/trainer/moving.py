"""What a checkpoint of several processes means to another number of them: every sample once, nothing lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from levin.trainer.dividing import shard_of
from levin.utils.rank import rank_zero_info, rank_zero_warn
from levin.utils.seed import isolate_rng, set_generator_state, set_rng_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.data.shards import ShardSampler
    from levin.trainer.states import Run


def place_among_samples(loaders: Any, position: dict[str, Any] | None) -> dict[str, Any] | None:
    """Where all processes together are in the order of an epoch's samples, for a checkpoint."""
    found = shard_of(loaders)
    if found is None or position is None:
        return None
    loader, sampler = found
    taken = position["taken"] * (loader.batch_size or 1) * sampler.num_replicas
    used = min(sampler.first + taken, len(sampler.sampler))
    return {"samples": used, "seed": sampler.seed, "order": sampler.given_order}


def begun_elsewhere(loaders: Any) -> bool:
    """Whether the epoch at hand was begun by another number of processes."""
    found = shard_of(loaders)
    return found is not None and found[1].first > 0


def moved(kept: dict[str, Any], run: Run) -> dict[str, Any]:
    """What this process goes on from, if the checkpoint is of another number of processes.

    What was added up in each of them (gradients of a window, logged values) is added up for rank 0. Random
    numbers of rank 0 go on; the others' are new ones.

    Args:
        kept: What the checkpoint holds for rank 0, with what it holds for the others.
        run: The run.
    """
    parts = [kept, *kept.get("others", ())]
    is_first, world = run.strategy.global_rank == 0, run.strategy.world_size
    rank_zero_info(
        f"The checkpoint was written by {len(parts)} processes, and there are {world}: training goes on with "
        "the samples of the epoch that are left. But for their order, random numbers are new ones."
    )
    former = kept.get("settings", {}).get("trainer.world_size", len(parts))
    if run.global_batch_size is None and former != world:
        rank_zero_warn(
            f"With {world} processes in place of {former}, an update of the weights takes "
            f"{world / former:g} times as many samples as before, and learning rates may no longer fit. "
            "Trainer(global_batch_size=...) keeps the number."
        )
    scale = 1.0 if _adds_up(run) else world / len(parts)
    mine = {name: value for name, value in kept.items() if name != "others"}
    mine["moved"] = True
    mine["metrics"] = {**kept["metrics"], "epoch": _merged(parts) if is_first else []}
    if "gradients" in kept:
        mine["gradients"] = _summed(parts, scale) if is_first else {}
    return mine


def _adds_up(run: Run) -> bool:
    """Whether gradients of a window are sums, divided when it is full, and not parts of a mean."""
    return run.updates.normalize_by is not None or run.global_batch_size is not None


def _summed(parts: list[dict[str, Any]], scale: float) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in parts:
        for name, gradient in part.get("gradients", {}).items():
            total[name] = total[name] + gradient if name in total else gradient.clone()
    return {name: gradient * scale for name, gradient in total.items()}


def _merged(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The values of the running epoch, over all processes."""
    found: dict[Any, dict[str, Any]] = {}
    for part in parts:
        for entry in part["metrics"]["epoch"]:
            key = (entry["scope"], entry["name"], entry["dataloader_idx"])
            known = found.get(key)
            if known is None or known["total"] is None:
                found[key] = {**entry, "last": entry["last"] if known is None else known["last"]}
            elif entry["total"] is not None:
                known["total"] = _COMBINE[entry["reduction"]](known["total"], entry["total"])
                known["weight"] += entry["weight"]
    return list(found.values())


_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "mean": lambda left, right: left + right,
    "sum": lambda left, right: left + right,
    "min": lambda left, right: torch.minimum(torch.as_tensor(left), torch.as_tensor(right)),
    "max": lambda left, right: torch.maximum(torch.as_tensor(left), torch.as_tensor(right)),
}


def go_on_among_samples(loaders: Any, kept: dict[str, Any], epoch: int) -> bool:
    """Let the sampler go on in the order of the samples where all processes together were.

    Args:
        loaders: The training loaders, divided among the processes that there are now.
        kept: What the checkpoint holds.
        epoch: The epoch.

    Returns:
        Whether that is possible: one loader, over a map-style dataset, divided by samples.
    """
    found, position = shard_of(loaders), kept["position"]
    if found is None:
        return False
    loader, sampler = found
    place = kept.get("samples")
    if place is not None:
        sampler.seed = place["seed"]
        sampler.begin_at(epoch, place["samples"], place["order"])
        return True
    opening, size = position.get("opening"), (position.get("sizes") or {}).get("batch_size")
    if not opening or not size:
        return False
    sampler.begin_at(epoch, position["taken"] * size, _order_then(loader, sampler, opening))
    return True


def _order_then(loader: Any, sampler: ShardSampler, opening: dict[str, Any]) -> list[Any]:
    """The order that a single process drew: from torch's generator, when it opened its loader."""
    for way, (_, state) in opening["generators"].items():
        if way in ("generator", "sampler.generator") and sampler.sampler.generator is not None:
            set_generator_state(sampler.sampler.generator, state)
    with isolate_rng(include_cuda=False):
        set_rng_state(opening.get("rng_at_first") or opening["rng"])
        if "rng_at_first" not in opening:
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)  # the workers' base seed
        return list(sampler.sampler)
