"""Reader: a loader whose passes can be gone on with in another process, at the sample at which they stopped.

The order of a pass follows from the random state in which the loader was opened. A reader notes that state;
to go on it opens the loader in the same state and passes over the indices that were used, without reading
their samples.
"""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from levin.data.combined import length_of, stop_workers
from levin.data.seeds import ride
from levin.utils.fingerprint import fingerprint
from levin.utils.rank import rank_zero_warn
from levin.utils.seed import (
    collect_rng_state,
    generator_state,
    generators_within,
    set_generator_state,
    set_rng_state,
)
from levin.utils.types import Stateful

_ENOUGH = 4096  # elements of a tensor that tell it from others
_TORCHS_SAMPLERS = (RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler)


class Reader(Iterable[Any]):
    """A loader as loops read it: `iter` begins a pass, `go_on` continues one.

    Args:
        loader: Anything that can be iterated over.
        seeds_samples: Whether worker processes draw random numbers by the sample (`levin.data.seeds`), or as
            torch seeds them.

    Attributes:
        loader: The loader.
        knows_its_place: Whether only the loader, or its data, can tell where it is, and must be asked before
            anything is read ahead.
        draws_here: Whether reading may draw from this process's random generators, and is not done again.
    """

    def __init__(self, loader: Any, *, seeds_samples: bool = True) -> None:
        self.loader: Any = loader
        self._seeds_samples = seeds_samples and _reads_by_index(loader) and loader.num_workers > 0
        self._indices: _Indices | None = None
        self._first: int | None = None  # tells the first batch from others
        self._opened: Any = loader  # what is iterated over: the loader, or a copy with our indices
        if self._seeds_samples or (_reads_by_index(loader) and not _has_torchs_order(loader)):
            self._take_indices()
        self._opening: dict[str, Any] = {}
        here = _chain(getattr(loader, "dataset", None)) if getattr(loader, "num_workers", 0) == 0 else []
        self.knows_its_place: bool = isinstance(loader, Stateful) or any(map(_keeps_state, here))
        self.draws_here: bool = getattr(loader, "num_workers", 0) == 0 and (
            _reads_by_index(loader) or self.knows_its_place
        )

    @property
    def readers(self) -> list[Reader]:
        """The readers of single loaders that it consists of: this one."""
        return [self]

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self._note_opening()
        return self._open(skip=0)

    def read_first(self, read: Callable[..., Any], *source: Any) -> Any:
        """Read the first batch of a new pass: where there are no workers, samplers draw their order with it.

        Args:
            read: What reads it.
            *source: What ``read`` takes: the pass, and what to give if there is no batch.
        """
        if getattr(self.loader, "num_workers", 0) == 0 and isinstance(self.loader, DataLoader):
            self._opening["rng_at_first"] = collect_rng_state(include_cuda=False)
        batch = read(*source)
        self._first = None if _reads_by_index(self.loader) else fingerprint(batch, most=_ENOUGH)
        return batch

    def position(self, taken: int) -> dict[str, Any]:
        """Where the pass is, for a checkpoint: plain values and tensors.

        Args:
            taken: The number of batches that it gave.
        """
        first = self._first if self._indices is None else self._indices.first
        position: dict[str, Any] = {"opening": dict(self._opening), "taken": taken, "first": first}
        position["sizes"] = self._sizes()
        if isinstance(self.loader, Stateful):
            position["loader"] = self.loader.state_dict()
        elif self.knows_its_place:
            position["dataset"] = _states(_chain(self.loader.dataset))
        return position

    def go_on(self, position: dict[str, Any]) -> Iterator[Any]:
        """Continue the pass that `position` told of.

        The global generators are left in some state: whoever draws from them restores theirs afterwards, and
        those of the data with `set_generators`.

        Args:
            position: Where it was. One that tells only how many batches were ``taken``, as of a run by
                another framework, is gone on with from the pass that begins now.
        """
        taken, opening = position["taken"], position.get("opening")
        if not opening:
            self._note_opening()
            return self._passed_over(taken, position)
        self._opening = opening
        self._check_sizes(taken, position.get("sizes"))
        if "loader" in position and isinstance(self.loader, Stateful):
            self.loader.load_state_dict(position["loader"])
            self._check_workers()
            set_rng_state(opening["rng"])
            return self._open(skip=0)
        # workers that are there take no number of torch's generator for an opening
        self._keep_workers(opening["keeps_workers"])
        set_rng_state(opening["rng"])
        _load(self._parts_of_order(), opening["samplers"])
        self.set_generators(opening["generators"])
        self._check_workers()
        return self._passed_over(taken, position)

    def generators(self) -> dict[str, Any]:
        """The states of the random generators that loader, samplers and data hold, by where they are."""
        return {
            way: [type(generator).__name__, generator_state(generator)]
            for way, generator in self._generators().items()
        }

    def set_generators(self, states: dict[str, Any]) -> None:
        """Put back what `generators` gave, as far as they are where they were."""
        for way, generator in self._generators().items():
            kind, state = states.get(way, (None, None))
            if kind == type(generator).__name__:
                set_generator_state(generator, state)

    def rest(self) -> dict[str, Any]:
        """What the next pass will begin with, beside generators, for a checkpoint written between two."""
        return {"samplers": _states(self._parts_of_order()), "keeps_workers": self._keeps_workers}

    def settle(self, rest: dict[str, Any]) -> None:
        """Take back what `rest` told; the global generators are left in some state."""
        self._keep_workers(rest["keeps_workers"])
        _load(self._parts_of_order(), rest["samplers"])

    @property
    def _keeps_workers(self) -> bool:
        return getattr(self._opened, "_iterator", None) is not None

    def _keep_workers(self, keeps: bool) -> None:
        if keeps and not self._keeps_workers:
            self._open(skip=0)

    def close(self) -> None:
        """End the worker processes that the loader keeps."""
        stop_workers(self.loader)
        stop_workers(self._opened)

    # ------------------------------------------------------------------ how

    def _note_opening(self) -> None:
        self._opening = {
            "rng": collect_rng_state(include_cuda=False),
            "generators": self.generators(),
            **self.rest(),
        }

    def _parts_of_order(self) -> list[Any]:
        """What may hold state that an order follows from."""
        samplers = (getattr(self.loader, name, None) for name in ("sampler", "batch_sampler"))
        return _unique([self.loader, *(part for sampler in samplers for part in _chain(sampler))])

    def _generators(self) -> dict[str, Any]:
        if not isinstance(self.loader, DataLoader):
            return generators_within(loader=self.loader)
        parts = {name: getattr(self.loader, name) for name in ("generator", "sampler", "batch_sampler")}
        if self.loader.num_workers == 0:  # else the processes have copies of it
            parts |= {"dataset": self.loader.dataset, "collate_fn": self.loader.collate_fn}
        return generators_within(**parts)

    def _passed_over(self, taken: int, position: dict[str, Any]) -> Iterator[Any]:
        """Open the loader, and go past what was taken."""
        if not _reads_by_index(self.loader):
            return self._replay(taken, position)
        if self._indices is None:
            self._take_indices()
        iterator = self._open(skip=taken, rng_at_first=self._opening.get("rng_at_first"))
        if taken:
            self._check_order(position.get("first"))
        return iterator

    def _take_indices(self) -> None:
        name = "sampler" if self.loader.batch_sampler is None else "batch_sampler"
        self._indices = _Indices(getattr(self.loader, name))
        self._opened = copy.copy(self.loader)
        # past its own __setattr__, which refuses such a change; the user's loader stays as it is
        vars(self._opened).update({name: self._indices, "_iterator": None})

    def _open(self, skip: int, rng_at_first: dict[str, Any] | None = None) -> Iterator[Any]:
        if self._indices is not None:
            self._indices.skip = skip
            self._indices.seed = _digest(self._opening) if self._seeds_samples and self._opening else None
        iterator: Iterator[Any] = iter(self._opened)
        if rng_at_first is not None:
            set_rng_state(rng_at_first)
        if self._indices is not None and (skip or rng_at_first is not None):
            self._indices.begin(draws=_has_torchs_order(self.loader))
        return iterator

    def _check_order(self, first: int | None) -> None:
        """Indices before the position tell whether the order is the one that it was."""
        assert self._indices is not None
        if first is not None and first != self._indices.first:
            sampler = type(_innermost_sampler(self.loader)).__name__
            rank_zero_warn(
                f"The run can't go on exactly where it stopped: {sampler} gives another order than before. "
                "It draws from something that a checkpoint doesn't hold. Let it draw from a torch.Generator "
                "that is one of its attributes, or give it `state_dict` and `load_state_dict`."
            )

    def _sizes(self) -> dict[str, int | float | None]:
        """What a place in the data is counted by, as far as it is known."""
        return {
            "batches": length_of(self.loader),
            "samples": length_of(getattr(self.loader, "dataset", None)),
            "batch_size": getattr(self.loader, "batch_size", None),
        }

    def _check_sizes(self, taken: int, sizes: dict[str, Any] | None) -> None:
        changed = [
            f"{name.replace('_', ' ')}: {sizes[name]} before, {now} now"
            for name, now in self._sizes().items()
            if sizes is not None and sizes[name] != now
        ]
        if taken and changed:
            rank_zero_warn(
                "The run can't go on exactly where it stopped: its training data is of another size "
                f"({'; '.join(changed)}). The first {taken} batches of the epoch, as it is now, are left out."
            )

    def _check_workers(self) -> None:
        dataset = getattr(self.loader, "dataset", None)
        if getattr(self.loader, "num_workers", 0) and isinstance(self.loader, Stateful):
            rank_zero_warn(
                "The run may not go on exactly where it stopped: the worker processes of "
                f"{type(self.loader).__name__} begin anew, and where samples are changed at random there, "
                "the numbers are others. A DataLoader of torch, over a map-style dataset, has no such gap."
            )
        elif getattr(self.loader, "num_workers", 0) and generators_within(dataset=dataset):
            rank_zero_warn(
                f"The run may not go on exactly where it stopped: {type(dataset).__name__} has a random "
                "generator of its own, and each worker process had a copy of it that was further on. Let it "
                "draw from the global generators: in workers these follow from the sample."
            )

    def _replay(self, taken: int, position: dict[str, Any]) -> Iterator[Any]:
        """Read again what was read: what gives batches one after another has no other way."""
        dataset = getattr(self.loader, "dataset", None)
        is_stateful = "dataset" in position and isinstance(dataset, Stateful)
        if is_stateful:
            _load(_chain(dataset), position["dataset"])
        iterator = self._open(skip=0, rng_at_first=self._opening.get("rng_at_first"))
        if is_stateful:
            return iterator
        before, is_same = _global_state(), True
        for batch_idx in range(taken):
            batch = next(iterator, None)
            if batch_idx == 0:
                is_same = self._is_first(batch, position.get("first"))
        if taken and is_same and getattr(self.loader, "num_workers", 0) == 0 and _global_state() != before:
            what = type(self.loader if dataset is None else dataset).__name__
            rank_zero_warn(
                f"The run can't go on exactly where it stopped: {what} draws from the global random "
                "generators while it is read, as the model does, and reading it again from the start gives "
                "it other numbers. Let it draw from a generator of its own, or give it `state_dict` and "
                "`load_state_dict`."
            )
        return iterator

    def _is_first(self, batch: Any, first: int | None) -> bool:
        """Whether a pass that begins again begins as it did."""
        self._first = fingerprint(batch, most=_ENOUGH)
        if first is None or first == self._first:
            return True
        what = type(getattr(self.loader, "dataset", self.loader)).__name__
        draws = "It draws from something"
        if getattr(self.loader, "persistent_workers", False):
            draws = "Worker processes that live on from epoch to epoch (persistent_workers=True) draw numbers"
        rank_zero_warn(
            f"The run can't go on exactly where it stopped: {what}, read again, begins with another batch "
            f"than before. {draws} that no checkpoint holds. Let it draw from a torch.Generator that "
            "`__iter__` makes and seeds, or give it `state_dict` and `load_state_dict`."
        )
        return False


class Readers:
    """Makes readers, and gives loaders that were read before the readers that they had.

    With them they keep their worker processes; those of loaders that nobody asked for again end.

    Args:
        before: The readers that there were.
        seeds_samples: Whether worker processes draw random numbers by the sample.
    """

    def __init__(self, before: Iterable[Reader] = (), *, seeds_samples: bool = True) -> None:
        self._before = {id(reader.loader): reader for reader in before}
        self._seeds_samples = seeds_samples

    def of(self, loader: Any) -> Reader:
        """The loader's reader."""
        known = self._before.pop(id(loader), None)
        return Reader(loader, seeds_samples=self._seeds_samples) if known is None else known

    def close_rest(self) -> None:
        """Close the readers of loaders that are used no more."""
        for reader in self._before.values():
            reader.close()


class _Indices:
    """A sampler's indices, those of an interrupted pass left out, with the seed of the pass."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self._source: Iterator[Any] = iter(())
        self._ahead: list[Any] = []
        self.skip = 0
        self.seed: int | None = None
        self.first: int | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        self._source, self._ahead, self.first = iter(self._sampler), [], None
        return self._give()

    def begin(self, *, draws: bool) -> None:
        """Pass over what is to be left out now, while the random state is that of the opening.

        Args:
            draws: Whether the sampler draws its whole order with the first indices, which have to be drawn
                now, then.
        """
        for _ in range(self.skip):
            self._next()
        if draws and not self.skip:
            self._ahead = [self._next()]
        self.skip = 0

    def _give(self) -> Iterator[Any]:
        self.begin(draws=False)
        while (indices := self._ahead.pop() if self._ahead else self._next()) is not None:
            yield indices if self.seed is None else ride(indices, self.seed)

    def _next(self) -> Any:
        indices = next(self._source, None)
        if self.first is None:
            self.first = zlib.crc32(repr(indices).encode())
        return indices


def _reads_by_index(loader: Any) -> bool:
    """Whether the loader reads a map-style dataset in torch's way."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    is_plain = type(loader).__iter__ is DataLoader.__iter__
    return is_plain and type(loader)._get_iterator is DataLoader._get_iterator  # noqa: SLF001  # nothing public tells


def _has_torchs_order(loader: DataLoader[Any]) -> bool:
    """Whether the order follows from random states alone, as it does with torch's own samplers."""
    batches = loader.batch_sampler
    return (batches is None or type(batches) is BatchSampler) and type(
        _innermost_sampler(loader)
    ) in _TORCHS_SAMPLERS


def _innermost_sampler(loader: Any) -> Any:
    batches = loader.batch_sampler
    return loader.sampler if batches is None else getattr(batches, "sampler", batches)


def _chain(part: Any) -> list[Any]:
    """A dataset or sampler, and what it wraps."""
    found: list[Any] = []
    while part is not None and all(part is not other for other in found):
        found.append(part)
        inner = [getattr(part, name, None) for name in ("sampler", "dataset")]
        part = next((each for each in inner if each is not None), None)
    return found


def _unique(parts: list[Any]) -> list[Any]:
    return list({id(part): part for part in parts}.values())


def _states(parts: list[Any]) -> list[Any]:
    return [part.state_dict() if _keeps_state(part) else None for part in parts]


def _load(parts: list[Any], states: list[Any]) -> None:
    for part, state in zip(parts, states, strict=False):
        if state is not None and _keeps_state(part):
            part.load_state_dict(state)


def _keeps_state(part: Any) -> bool:
    return isinstance(part, Stateful) and not isinstance(part, (DataLoader, torch.nn.Module))


def _digest(opening: dict[str, Any]) -> int:
    """A seed for a pass, from what its order follows from."""
    digest = hashlib.blake2b(opening["rng"]["torch"].numpy().tobytes(), digest_size=8)
    for way, (_, state) in sorted(opening["generators"].items()):
        if not way.startswith(("dataset", "collate_fn")):
            digest.update(
                state.numpy().tobytes() if isinstance(state, torch.Tensor) else repr(state).encode()
            )
    return int.from_bytes(digest.digest(), "little")


def _global_state() -> tuple[Any, ...]:
    state = collect_rng_state(include_cuda=False)
    return state["python"], state["numpy"], bytes(state["torch"].numpy())
