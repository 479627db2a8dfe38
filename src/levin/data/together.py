"""Together: the loaders of a CombinedLoader as one `Reader`, each gone on with where it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from levin.data.combined import CombinedLoader, length_of

if TYPE_CHECKING:
    from levin.data.reader import Reader, Readers


class Together(Iterable[Any]):
    """The batches of a CombinedLoader, without the numbers that it adds; its methods are those of a `Reader`.

    Args:
        combined: The loaders.
        readers: Makes the reader of each.
    """

    knows_its_place: bool = True  # some loaders begin anew where others go on: nothing but they can tell

    def __init__(self, combined: CombinedLoader, readers: Readers) -> None:
        self.combined: CombinedLoader = combined
        combined.limits = None  # the Trainer's count
        self._parts = [_Part(readers.of(loader)) for loader in combined.flattened]
        self._opened = copy.copy(combined)
        self._opened.flattened = self._parts

    @property
    def readers(self) -> list[Reader]:
        """The readers of single loaders that it consists of."""
        return [part.reader for part in self._parts]

    @property
    def draws_here(self) -> bool:
        """Whether reading one of them may draw from this process's random generators."""
        return any(reader.draws_here for reader in self.readers)

    def __len__(self) -> int:
        sizes = [length_of(loader) for loader in self.combined.flattened]
        size = min(sizes) if self.combined.mode == "min_size" else max(sizes)
        if size == math.inf:
            raise TypeError("a loader without a length")
        return int(size)

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            part.has_ended = False
        return self._open()

    def read_first(self, read: Callable[..., Any], *source: Any) -> Any:
        """Read the first batch of a new pass: each part notes for itself what it needs."""
        return read(*source)

    def position(self, taken: int) -> dict[str, Any]:
        """Where the pass is, for a checkpoint."""
        return {
            "taken": taken,
            "parts": [part.reader.position(part.taken) for part in self._parts],
            "ended": [part.has_ended for part in self._parts],
        }

    def go_on(self, position: dict[str, Any]) -> Iterator[Any]:
        """Continue the pass that `position` told of; of other loaders than there are now, by number."""
        if len(position.get("parts", ())) != len(self._parts):
            iterator = iter(self)
            for _ in range(position["taken"]):
                next(iterator, None)
            return iterator
        for part, its_position, has_ended in zip(
            self._parts, position["parts"], position["ended"], strict=True
        ):
            part.pending, part.has_ended = its_position, has_ended
        return self._open()

    def close(self) -> None:
        """End the worker processes that the loaders keep."""
        for part in self._parts:
            part.reader.close()

    def _open(self) -> Iterator[Any]:
        ended = {index for index, part in enumerate(self._parts) if part.has_ended}
        return (batch for batch, _, _ in self._opened.open(ended))


class _Part(Iterable[Any]):
    """A reader that counts what is taken from it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.taken = 0
        self.has_ended = False  # once in the pass over all
        self.pending: dict[str, Any] | None = None  # where its next pass is to go on

    def __iter__(self) -> Iterator[Any]:
        position, self.pending = self.pending, None
        if position is None:
            self.taken = 0
            return self._counted(iter(self.reader), is_new=True)
        self.taken = position["taken"]
        return self._counted(self.reader.go_on(position), is_new=False)

    def _counted(self, source: Iterator[Any], *, is_new: bool) -> Iterator[Any]:
        over = object()
        batch = self.reader.read_first(next, source, over) if is_new else next(source, over)
        while batch is not over:
            self.taken += 1
            yield batch
            batch = next(source, over)
        self.has_ended = True
