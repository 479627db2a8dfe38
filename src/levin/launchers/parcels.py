"""Parcels: what goes from one process to another, by value, and the names of what can't."""

from __future__ import annotations

import io
import os
import pickle
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from levin.utils.imports import available, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_NAMES = 6


class Parcel(NamedTuple):
    """Something packed.

    Attributes:
        content: What it was packed to.
        shared: What only the start of a process can hand over: locks, queues, memory that processes share.
    """

    content: bytes
    shared: list[Any]


class NotPackableError(TypeError):
    """Something can't be handed to another process; the message names it."""


def pack(obj: Any, *, name: str = "it", known: Sequence[Any] = (), to_host: bool = False) -> Parcel:
    """Pack something for another process, tensors with their values.

    What is defined in a program that the other process can't import, such as a notebook, goes by value, too.

    Args:
        obj: What is packed.
        name: What it is called in an error.
        known: Objects that the other process has as well: they go by their place in this list.
        to_host: Whether tensors of devices go to the memory of the host.

    Raises:
        NotPackableError: If a part can't be packed; names the innermost one that can be found.
        ModuleNotFoundError: If the program can't be imported, and cloudpickle is not installed.
    """
    places = {id(each): place for place, each in enumerate(known)}
    if not can_be_imported():
        return _pack(_ByValue.over(require("cloudpickle").CloudPickler), obj, name, places, to_host)
    try:
        return _pack(_ByValue.over(pickle.Pickler), obj, name, places, to_host)
    except NotPackableError:
        if not available("cloudpickle"):
            raise
    return _pack(_ByValue.over(require("cloudpickle").CloudPickler), obj, name, places, to_host)


def unpack(parcel: Parcel, known: Sequence[Any] = ()) -> Any:
    """What was packed, with the objects of this process in the places of known ones."""
    return _Unpickler(parcel, known).load()


def pack_parts(parts: dict[str, Any], *, known: Sequence[Any]) -> list[Parcel]:
    """Pack those entries of a dict that can be packed, together if all can."""
    try:
        return [pack(parts, known=known, to_host=True)]
    except (NotPackableError, ModuleNotFoundError):
        found = []
    for name, value in parts.items():
        try:
            found.append(pack({name: value}, known=known, to_host=True))
        except (NotPackableError, ModuleNotFoundError):  # noqa: PERF203  # each on its own
            continue
    return found


def can_be_imported() -> bool:
    """Whether another process can import the program: it is a file or a module, no notebook or ``-c``."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or (file is not None and os.path.exists(file))


class _ByValue:
    """What picklers of processes have in common; `over` adds it to one."""

    places: dict[int, int]
    shared: list[Any]
    to_host: bool

    @staticmethod
    def over(kind: type[Any]) -> type[Any]:
        """The pickler ``kind``, for processes."""
        return type("ByValue", (_ByValue, kind), {})

    def persistent_id(self, obj: Any) -> tuple[str, int] | None:
        """What the other process has, or gets in another way."""
        place = self.places.get(id(obj))
        if place is not None:
            return "known", place
        if self.to_host or not _is_shared(obj):
            return None
        self.shared.append(obj)
        return "shared", len(self.shared) - 1

    def reducer_override(self, obj: Any) -> Any:
        """How an object is packed: tensors of devices by way of the host, if so wanted."""
        if self.to_host and isinstance(obj, Tensor) and obj.device.type not in ("cpu", "meta"):
            host = nn.Parameter(obj.detach().cpu()) if isinstance(obj, nn.Parameter) else obj.detach().cpu()
            return host.__reduce_ex__(4)  # type: ignore[no-untyped-call]  # torch's
        base = getattr(super(), "reducer_override", None)
        return NotImplemented if base is None else base(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, parcel: Parcel, known: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(parcel.content))
        self._tables = {"known": known, "shared": parcel.shared}

    def persistent_load(self, place: tuple[str, int]) -> Any:
        return self._tables[place[0]][place[1]]


def _is_shared(obj: Any) -> bool:
    if isinstance(obj, Tensor):
        is_plain = type(obj) is Tensor and obj.device.type == "cpu" and not obj.is_sparse
        return is_plain and bool(obj.is_shared())  # type: ignore[no-untyped-call]  # torch's
    return type(obj).__module__.startswith("multiprocessing.")


def _pack(kind: type[Any], obj: Any, name: str, places: dict[int, int], to_host: bool) -> Parcel:
    try:
        return _packed(kind, obj, places, to_host)
    except Exception as error:
        where, part, why = _culprit(kind, obj, name, places, error)
        raise NotPackableError(
            f"`{where}` ({_described(part)}) can't be handed to another process: {why}"
        ) from error


def _packed(kind: type[Any], obj: Any, places: dict[int, int], to_host: bool) -> Parcel:
    stream = io.BytesIO()
    pickler = kind(stream, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.places, pickler.shared, pickler.to_host = places, [], to_host
    pickler.dump(obj)
    return Parcel(stream.getvalue(), pickler.shared)


def _culprit(
    kind: type[Any], obj: Any, name: str, places: dict[int, int], error: Exception
) -> tuple[str, Any, Exception]:
    """The innermost part that can't be packed, where it is, and why."""
    for _ in range(_MOST_NAMES):
        failing = ((part_name, part, _error_of(kind, part, places)) for part_name, part in _parts(obj))
        found = next((each for each in failing if each[2] is not None), None)
        if found is None:
            break
        name, obj, error = name + found[0], found[1], found[2] or error
    return name, obj, error


def _error_of(kind: type[Any], obj: Any, places: dict[int, int]) -> Exception | None:
    try:
        _packed(kind, obj, places, to_host=False)
    except Exception as error:  # whatever it is, it is the reason
        return error
    return None


def _parts(obj: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(obj, nn.Module):
        yield from ((f".{name}", child) for name, child in obj.named_children())
    if isinstance(obj, dict):
        yield from ((f"[{key!r}]", value) for key, value in list(obj.items()))
    elif isinstance(obj, (list, tuple)):
        yield from ((f"[{index}]", value) for index, value in enumerate(obj))
    elif hasattr(obj, "__dict__") and not isinstance(obj, type):
        state = obj.__getstate__() if hasattr(obj, "__getstate__") else vars(obj)
        if isinstance(state, dict):
            yield from ((f".{key}", value) for key, value in state.items() if not key.startswith("__"))


def _described(part: Any) -> str:
    if isinstance(part, (type, FunctionType)):
        return f"{part.__module__}.{part.__qualname__}"
    kind = type(part)
    return f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")
