"""The metric that a callback watches: one value on all ranks, and a clear word when it is not there."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from levin.trainer.trainer import Trainer


def agreed_value(trainer: Trainer, value: Tensor | None) -> Tensor | None:
    """The value of a metric that all ranks decide upon, so that they can't decide differently.

    Where the ranks have different values it is their mean; where some have none (``rank_zero_only=True``), it
    is that of rank 0. Must be called by all ranks together.
    """
    if trainer.world_size == 1:
        return value
    strategy = trainer.strategy
    mine = None if value is None else float(value)
    first = strategy.broadcast(mine)
    if strategy.reduce_boolean_decision(_same(mine, first)):
        return value
    all_have_one = strategy.reduce_boolean_decision(value is not None)
    if value is not None and all_have_one:
        mean: Tensor = strategy.reduce(value.clone(), reduce_op="mean")
        return mean
    return None if first is None else torch.tensor(first)


def _same(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return left == right or (math.isnan(left) and math.isnan(right))


def not_logged(callback: str, monitor: str, known: Iterable[str]) -> str:
    """Say that ``callback`` watches a metric that is not among the ``known`` ones."""
    names = sorted(known)
    near = get_close_matches(monitor, names, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"{callback} watches {monitor!r}, which is not among the metrics logged so far: {names}.{guess} "
        f"Log it with `self.log({monitor!r}, ...)`, or watch another one."
    )
