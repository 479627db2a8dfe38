"""Sharing: what processes logged, brought together. Sums and weights are added up, and divided once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levin.core.entries import Entry, Reduction

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from levin.strategies.base import Strategy

Key = tuple[str, str, "int | None"]
"""The hook, the name and the dataloader that a value belongs to."""


class Sharing:
    """Brings together the values that processes have under the same names.

    The processes agree on the names once, and send nothing but numbers from then on: two for each name,
    all in one message. Where one of them has a name that is new, they agree again. A name that some do not
    have counts for nothing there.

    Args:
        strategy: How the processes speak.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._layouts: dict[str, dict[Key, dict[str, Any]]] = {}

    def reduce(
        self,
        where: str,
        entries: MutableMapping[Key, Entry],
        mine: Mapping[Key, Entry],
        metrics: Mapping[str, Any],
    ) -> None:
        """Give each entry the value of all processes. They all have to call it, for the same place.

        Args:
            where: The place in the run: each has its own names.
            entries: All entries, to which those that others have are added.
            mine: Those that are to be brought together.
            metrics: The module's metric objects, by where they stand in it.
        """
        layout = self._layouts.setdefault(where, {})
        numbers = self._gather(layout, mine)
        if bool((numbers[:, 0] > 0).any()):
            told = {key: entry.form(metrics) for key, entry in mine.items()}
            for other in self._strategy.gather_objects(told):
                for key, form in other.items():
                    layout.setdefault(key, form)
            numbers = self._gather(layout, mine)
        for column, (key, form) in enumerate(layout.items()):
            totals, weights = numbers[:, 1 + 2 * column], numbers[:, 2 + 2 * column]
            if form["metric"] is not None:
                value = metrics[form["metric"]].compute() if form["metric"] in metrics else None
                shared = (value, 1.0 if bool((weights > 0).any()) else 0.0)
            else:
                shared = _combined(Reduction(form["reduction"]), totals, weights)
            if shared[1] > 0:
                entry = entries.get(key)
                if entry is None:
                    entry = entries[key] = Entry.restored(form, metrics)
                entry.shared = shared

    def _gather(self, layout: Mapping[Key, Any], mine: Mapping[Key, Entry]) -> Tensor:
        """For each process a row: whether it has a name that is not agreed on, then totals and weights."""
        is_new = any(key not in layout for key in mine)
        parts: list[Any] = [float(is_new)]
        for key in layout:
            entry = mine.get(key)
            parts += [0.0, 0.0] if entry is None else entry.summary()
        device = self._strategy.root_device
        wide = torch.float32 if device.type == "mps" else torch.float64
        known = [part.detach().to(device, wide) if isinstance(part, Tensor) else None for part in parts]
        plain = torch.tensor([0.0 if isinstance(p, Tensor) else p for p in parts], dtype=wide, device=device)
        for index, tensor in enumerate(known):
            if tensor is not None:
                plain[index] = tensor
        gathered: Tensor = self._strategy.all_gather(plain)
        return gathered.cpu()


def _combined(reduction: Reduction, totals: Tensor, weights: Tensor) -> tuple[Any, float]:
    """The value of all, and its weight: 0 if nobody has one."""
    there = weights > 0
    if not bool(there.any()):
        return None, 0.0
    weight = float(weights[there].sum())
    if reduction is Reduction.MIN:
        return totals[there].min(), weight
    if reduction is Reduction.MAX:
        return totals[there].max(), weight
    total = totals[there].sum()
    return (total / weight if reduction is Reduction.MEAN else total), weight
