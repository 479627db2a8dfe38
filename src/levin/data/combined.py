"""CombinedLoader: several loaders as one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import chain, count, islice, takewhile, zip_longest
from typing import Any, Literal, get_args

from torch.utils.data import DataLoader

from levin.utils.rank import rank_zero_warn
from levin.utils.types import Stateful

Mode = Literal["min_size", "max_size_cycle", "max_size", "sequential"]
Batches = Iterator[tuple[Any, int, int]]
Pack = Callable[[Iterator[Any]], Any]

_MODES: tuple[str, ...] = get_args(Mode)


class CombinedLoader(Iterable[tuple[Any, int, int]]):
    """Draws from a nested collection of loaders, all at once or one after another.

    Iterating over it gives ``(batch, batch_idx, dataloader_idx)``. Drawn at once, ``batch`` has the shape of
    the collection with a batch in place of each loader, and ``dataloader_idx`` is 0; one after another, it is
    a batch of the loader of that index, and ``batch_idx`` counts from 0 in each.

    Args:
        iterables: A loader, or dicts, lists and tuples of loaders, however deep. A loader is anything that
            can be iterated over; a list of plain numbers or texts is one, too.
        mode: ``"min_size"`` stops with the shortest loader, ``"max_size"`` with the longest (the others give
            None from their end on), ``"max_size_cycle"`` with the longest (the others start over);
            ``"sequential"`` goes through one loader after another.

    Raises:
        ValueError: The mode is not known.

    Examples:
        >>> loader = CombinedLoader({"a": range(3), "b": list("xy")}, "max_size_cycle")
        >>> for batch, batch_idx, dataloader_idx in loader:
        ...     print(batch, batch_idx)
        {'a': 0, 'b': 'x'} 0
        {'a': 1, 'b': 'y'} 1
        {'a': 2, 'b': 'x'} 2
    """

    def __init__(self, iterables: Any, mode: Mode = "min_size") -> None:
        if mode not in _MODES:
            raise ValueError(
                f"CombinedLoader(mode={mode!r}) is not known. Known: {', '.join(map(repr, _MODES))}."
            )
        self._iterables = iterables
        self._mode = mode
        self._flattened = [loader for _, loader in _leaves(iterables, ())]
        self._limits: list[int | float] | None = None
        self._batches: Batches | None = None
        self._is_open = False  # whether a pass has begun

    # ------------------------------------------------------------------ what it holds

    @property
    def mode(self) -> Mode:
        """How it draws."""
        return self._mode

    @property
    def iterables(self) -> Any:
        """The collection of loaders, as it was given."""
        return self._iterables

    @property
    def flattened(self) -> list[Any]:
        """The loaders one after another. Assigning as many others puts them into the collection's places.

        Raises:
            ValueError: Another number of loaders is assigned.
        """
        return self._flattened

    @flattened.setter
    def flattened(self, loaders: list[Any]) -> None:
        if len(loaders) != len(self._flattened):
            raise ValueError(
                f"{len(self._flattened)} loaders are to be replaced by {len(loaders)}: give as many."
            )
        self._iterables = _packer(self._iterables)(iter(loaders))
        self._flattened = list(loaders)

    @property
    def names(self) -> list[str]:
        """Where each loader stands in the collection: keys and indices, joined by ``/``."""
        return ["/".join(map(str, path)) for path, _ in _leaves(self._iterables, ())]

    @property
    def limits(self) -> list[int | float] | None:
        """The largest number of batches of each loader; one number is assigned to all.

        Limits bound the length and, one after another, the batches. They count from the next iteration on.

        Raises:
            ValueError: Another number of limits than of loaders is assigned.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: int | float | list[int | float] | None) -> None:
        if isinstance(limits, (int, float)):
            limits = [limits] * len(self._flattened)
        elif limits is not None and len(limits) != len(self._flattened):
            given, needed = len(limits), len(self._flattened)
            raise ValueError(f"{given} limits are given for {needed} loaders: give as many, or one number.")
        self._limits = limits

    @property
    def sampler(self) -> Any:
        """The collection with each loader's sampler in its place, or None where it has none."""
        return self._with_attribute("sampler")

    @property
    def batch_sampler(self) -> Any:
        """The collection with each loader's batch sampler in its place, or None where it has none."""
        return self._with_attribute("batch_sampler")

    def _with_attribute(self, name: str) -> Any:
        return _packer(self._iterables)(getattr(loader, name, None) for loader in self._flattened)

    # ------------------------------------------------------------------ drawing

    def __iter__(self) -> CombinedLoader:
        """Begin anew.

        The loaders' iterators are made now (one after another: the first), not with the first batch: making
        them draws from the random state, and the order counts.
        """
        self._batches = None  # whose workers end before others start
        self._batches = self.open()
        return self

    def open(self, ended: Set[int] = frozenset()) -> Batches:
        """The batches of one pass, apart from this object's own: the loaders' iterators end with it.

        Args:
            ended: Loaders that came to their end already, in a pass that is gone on with.
        """
        self._is_open = True
        loaders, limits = self._flattened, self._limits
        if self._mode == "sequential":
            return _sequential(loaders, limits or [math.inf] * len(loaders))
        iterators, pack = [iter(loader) for loader in loaders], _packer(self._iterables)
        if self._mode == "max_size_cycle":
            return _cycled(loaders, iterators, pack, set(range(len(loaders))).difference(ended))
        if self._mode == "min_size":
            return _numbered(zip(*map(_rest, iterators), strict=False), pack)
        return _numbered(zip_longest(*map(_rest, iterators)), pack)

    def __next__(self) -> tuple[Any, int, int]:
        if self._batches is None:
            raise RuntimeError("Call `iter(combined_loader)` before `next(combined_loader)`.")
        return next(self._batches)

    def __len__(self) -> int:
        """The number of batches within the limits, as far as the loaders tell their lengths truly.

        Raises:
            RuntimeError: `iter` has not been called.
            TypeError: A loader on whose length it depends has none.
        """
        if not self._is_open:
            raise RuntimeError("Please call `iter(combined_loader)` first.")
        limits = self._limits or [math.inf] * len(self._flattened)
        lengths = [
            min(length_of(loader), limit) for loader, limit in zip(self._flattened, limits, strict=True)
        ]
        total = _total(self._mode, lengths)
        if total == math.inf:
            raise TypeError(
                "The combined loader has no length: one of its loaders, on which it depends, has none."
            )
        return int(total)

    def reset(self) -> None:
        """Drop all iterators, and with them the worker processes that loaders keep between epochs."""
        self._batches, self._is_open = None, False
        for loader in self._flattened:
            stop_workers(loader)

    # ------------------------------------------------------------------ state

    def state_dicts(self) -> list[dict[str, Any]]:
        """The state of each loader that has ``state_dict`` and ``load_state_dict``, in order."""
        return [loader.state_dict() for loader in self._stateful]

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Give the loaders back what `state_dicts` took; nothing to give back is no error.

        Raises:
            RuntimeError: There are more or fewer states than loaders that have one.
        """
        if not states:
            return
        stateful = self._stateful
        if len(states) != len(stateful):
            raise RuntimeError(
                f"The checkpoint has the states of {len(states)} dataloaders, and {len(stateful)} of those "
                "in use can take one. Use the dataloaders that were there when the checkpoint was saved."
            )
        for loader, state in zip(stateful, states, strict=True):
            loader.load_state_dict(state)

    @property
    def _stateful(self) -> list[Stateful]:
        return [loader for loader in self._flattened if isinstance(loader, Stateful)]

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or what is sent to another process, starts anew: positions can't be copied."""
        return {**self.__dict__, "_batches": None, "_is_open": False}


# ---------------------------------------------------------------------- ways to draw


def _rest(iterator: Iterator[Any]) -> Iterator[Any]:
    """What an iterator still gives, without a call of its `__iter__`: some begin anew there."""
    over = object()
    while (batch := next(iterator, over)) is not over:
        yield batch


def _sequential(loaders: list[Any], limits: Sequence[int | float]) -> Batches:
    """One loader after another."""
    iterators = map(iter, loaders)
    first = list(islice(iterators, 1))  # at once; each of the others when its turn comes
    return _one_after_another(chain(first, iterators), limits)


def _one_after_another(iterators: Iterator[Iterator[Any]], limits: Sequence[int | float]) -> Batches:
    for dataloader_idx, (iterator, limit) in enumerate(zip(iterators, limits, strict=False)):
        most = None if limit == math.inf else math.ceil(limit)
        for batch_idx, batch in enumerate(islice(_rest(iterator), most)):
            yield batch, batch_idx, dataloader_idx


def _numbered(drawn: Iterator[tuple[Any, ...]], pack: Pack) -> Batches:
    """Batches that were drawn at once."""
    for batch_idx, batches in enumerate(drawn):
        yield pack(iter(batches)), batch_idx, 0


def _cycled(loaders: list[Any], iterators: list[Iterator[Any]], pack: Pack, unfinished: set[int]) -> Batches:
    """All at once, until each has come to its end; those that end earlier start over."""
    over = object()

    def draw(index: int) -> Any:
        batch = next(iterators[index], over)
        if batch is over:
            unfinished.discard(index)
            if unfinished:
                iterators[index] = iter(loaders[index])
                batch = next(iterators[index], over)
        return batch

    for batch_idx in count():
        batches = list(takewhile(lambda batch: batch is not over, map(draw, range(len(loaders)))))
        if not unfinished:
            return
        if len(batches) < len(loaders):
            rank_zero_warn(f"Dataloader {len(batches)} has no batches, so that the others end, too.")
            return
        yield pack(iter(batches)), batch_idx, 0


# ---------------------------------------------------------------------- the collection


def _parts(tree: Any) -> list[tuple[Any, Any]] | None:
    """A collection's keys and entries; None for a loader."""
    if isinstance(tree, dict):
        parts = list(tree.items())
    elif type(tree) in (list, tuple) or _is_namedtuple(tree):
        parts = list(enumerate(tree))
    else:
        return None
    # a list of plain values, or of nothing, is data and no collection of loaders
    is_data = all(isinstance(part, (int, float, str)) for _, part in parts)
    return None if is_data else parts


def _is_namedtuple(tree: Any) -> bool:
    return isinstance(tree, tuple) and hasattr(tree, "_fields") and hasattr(tree, "_make")


def _leaves(tree: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The loaders of a collection, each with the keys that lead to it."""
    parts = _parts(tree)
    if parts is None:
        yield path, tree
        return
    for key, part in parts:
        yield from _leaves(part, (*path, key))


def _packer(tree: Any) -> Pack:
    """What puts one value for each loader, taken from an iterator, into the collection's shape.

    It is built before the loop, since it runs with each batch.
    """
    parts = _parts(tree)
    if parts is None:
        return next
    packers, make = [_packer(part) for _, part in parts], _maker(tree)
    return lambda values: make([pack(values) for pack in packers])


def _maker(tree: Any) -> Callable[[list[Any]], Any]:
    """What makes a collection like ``tree`` of new entries."""
    if type(tree) is dict:
        keys = list(tree)
        return lambda entries: dict(zip(keys, entries, strict=True))
    if isinstance(tree, dict):
        return lambda entries: _refilled(tree, entries)
    return tree._make if _is_namedtuple(tree) else type(tree)


def _refilled(tree: dict[Any, Any], entries: list[Any]) -> dict[Any, Any]:
    """A copy keeps what a constructor might not, such as the factory of a defaultdict."""
    made = copy.copy(tree)
    made.update(zip(tree, entries, strict=True))
    return made


def length_of(loader: Any) -> int | float:
    """The number of batches; infinite where it is not known."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return math.inf


def _total(mode: Mode, lengths: list[int | float]) -> int | float:
    if mode == "sequential":
        return sum(lengths)
    return (min if mode == "min_size" else max)(lengths)


def stop_workers(loader: Any) -> None:
    """End the processes that a loader with ``persistent_workers`` keeps, until it is opened again."""
    if isinstance(loader, DataLoader) and loader._iterator is not None:  # noqa: SLF001
        # subclasses keep iterators that have no processes, too
        end = getattr(loader._iterator, "_shutdown_workers", None)  # noqa: SLF001  # nothing public ends them
        if end is not None:
            end()
        loader._iterator = None  # noqa: SLF001
