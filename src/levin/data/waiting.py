"""How much of the time goes into waiting for data, and what helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from levin.utils.workers import num_usable_cpus, suggested_max_num_workers

if TYPE_CHECKING:
    from collections.abc import Sequence

TELL_FROM_SHARE = 0.05
TELL_FROM_S = 0.2
"""So little waiting in an epoch is not worth a line."""
TELL_FROM_BATCH_S = 0.001
"""A batch that is read faster than this is not had faster from a worker, which has to send it."""
TELL_FROM_SENT_BATCH_S = 0.005
"""Less than this a worker may take to send a batch and to get its turn, however fast the dataset is."""
TELL_FROM_OPENING_S = 1.0
"""Forked workers are there long before; started ones, or those with much to prepare, are not."""


@dataclass
class Waiting:
    """How long a pass over the data takes, and how much of that is waiting for batches, in seconds.

    Attributes:
        opening_s: From the opening of the loader to its first batch: workers start meanwhile.
        reading_s: Waiting for all the other batches.
        began: When the first batch was given out.
        newest: When the newest batch was there, or the pass was over.
        aside_s: Time after `began` that does not belong to the pass.
    """

    opening_s: float = 0.0
    reading_s: float = 0.0
    began: float = 0.0
    newest: float = 0.0
    aside_s: float = 0.0

    @property
    def running_s(self) -> float:
        """From the first batch to the newest."""
        return max(0.0, self.newest - self.began - self.aside_s)

    @property
    def share(self) -> float:
        """The share of the time that was spent waiting, the opening included; 0 before there is any."""
        total_s = self.opening_s + self.running_s
        return min(1.0, (self.opening_s + self.reading_s) / total_s) if self.running_s else 0.0


def advice(waiting: Waiting, num_batches: int, loaders: Sequence[Any], *, num_processes: int) -> str | None:
    """What to do about the waiting; None where there is too little of it to speak of.

    Args:
        waiting: What was measured over an epoch.
        num_batches: The epoch's batches.
        loaders: What they came from.
        num_processes: How many processes read data on this machine.
    """
    reading_s, running_s = waiting.reading_s, waiting.running_s
    ours = [loader for loader in loaders if isinstance(loader, DataLoader)]
    is_sent = len(ours) < len(loaders) or any(loader.num_workers for loader in ours)  # or may be
    batch_s = TELL_FROM_SENT_BATCH_S if is_sent else TELL_FROM_BATCH_S
    if reading_s > max(TELL_FROM_S, TELL_FROM_SHARE * running_s, batch_s * num_batches):
        return (
            f"{reading_s / running_s:.0%} of the epoch's time went into waiting for training data "
            f"({reading_s:.1f} of {running_s:.1f} s). {_help(loaders, ours, num_processes)}"
        )
    opening_s, total_s = waiting.opening_s, waiting.opening_s + running_s
    stops = any(loader.num_workers and not loader.persistent_workers for loader in ours)
    if stops and opening_s > max(TELL_FROM_OPENING_S, TELL_FROM_SHARE * total_s):
        return (
            f"The workers of the training data took {opening_s:.1f} of the epoch's {total_s:.1f} s to start, "
            "and start anew in each epoch. `DataLoader(persistent_workers=True)` keeps them; what they draw "
            "at random is another stream then."
        )
    return None


def _help(loaders: Sequence[Any], ours: Sequence[DataLoader[Any]], num_processes: int) -> str:
    if not ours:
        kind = type(loaders[0]).__name__ if loaders else "loader"
        return (
            f"It comes from a {kind}. If that reads in this process, a `DataLoader` with workers would read "
            "beside the training."
        )
    workers, room = sum(loader.num_workers for loader in ours), suggested_max_num_workers(num_processes)
    if workers < room:
        return f"The loader has num_workers={workers}, and the machine has room: try num_workers={room}."
    return (
        f"There are {workers} workers for {num_usable_cpus()} cores already: make the dataset faster (store "
        "what is computed each time), or add workers if it waits for a disk or a network."
    )
