"""Sharing: what processes logged, brought together. Sums and weights are added up, and divided once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levin.core.entries import Entry, Reduction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from levin.strategies.base import Strategy

Key = tuple[str, str, "int | None"]
"""The hook, the name and the dataloader that a value belongs to."""

_STEPS = "steps"
_ASKS_FOR_STEPS = 2


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
        self._shares_steps = True  # until it turns out, where all meet, that nobody asks for it

    def reduce_steps(self, entries: Mapping[Key, Entry]) -> None:
        """Give the entries with ``sync_dist=True`` the newest step's values of all processes.

        All have to call it at the same steps. Where none of them has such an entry, it costs nothing from the
        second call on; one that comes later counts from the end of the epoch on.
        """
        if not self._shares_steps:
            return
        layout = self._layouts.setdefault(_STEPS, {})
        mine = {key: entry for key, entry in entries.items() if entry.on_step and entry.syncs}
        numbers = self._agreed(layout, mine, {}, Entry.step_summary)
        for column, (key, form) in enumerate(layout.items()):
            totals, weights = numbers[:, 1 + 2 * column], numbers[:, 2 + 2 * column]
            value, weight = _combined(Reduction(form["reduction"]), totals, weights)
            if weight and key in mine:
                mine[key].shared_step = value.to(torch.get_default_dtype())
        self._shares_steps = bool(layout)

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
        numbers = self._agreed(layout, mine, metrics, Entry.summary)
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

    def _agreed(
        self,
        layout: dict[Key, dict[str, Any]],
        mine: Mapping[Key, Entry],
        metrics: Mapping[str, Any],
        summary: Callable[[Entry], list[Any]],
    ) -> Tensor:
        """The numbers of all processes, of names that they have agreed on."""
        numbers = self._gather(layout, mine, summary)
        if bool((numbers[:, 0] % 2 > 0).any()):
            told = {key: entry.form(metrics) for key, entry in mine.items()}
            for other in self._strategy.gather_objects(told):
                for key, form in other.items():
                    layout.setdefault(key, form)
            numbers = self._gather(layout, mine, summary)
        if bool((numbers[:, 0] >= _ASKS_FOR_STEPS).any()):
            self._shares_steps = True
        return numbers

    def _gather(
        self, layout: Mapping[Key, Any], mine: Mapping[Key, Entry], summary: Callable[[Entry], list[Any]]
    ) -> Tensor:
        """For each process a row: what it has to say about names, then totals and weights."""
        is_new = any(key not in layout for key in mine)
        steps = self._layouts.get(_STEPS, {})
        asks = any(entry.on_step and entry.syncs and key not in steps for key, entry in mine.items())
        parts: list[Any] = [is_new + _ASKS_FOR_STEPS * asks]
        for key in layout:
            entry = mine.get(key)
            parts += [0.0, 0.0] if entry is None else summary(entry)
        device = self._strategy.root_device
        wide = torch.float32 if device.type == "mps" else torch.float64
        known = [part.detach().to(device, wide) if isinstance(part, Tensor) else None for part in parts]
        plain = torch.tensor(
            [0.0 if isinstance(part, Tensor) else float(part) for part in parts], dtype=wide, device=device
        )
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
