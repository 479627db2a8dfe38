"""Forms: objects of well-known kinds as simpler values, and made again from them.

An object is written as its content, which anybody can read, and a mark that says what it was. Making it again
runs no code of its class: neither its ``__init__`` nor its ``__post_init__``.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import Path, PurePath
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import torch
from torch import Tensor, nn

from levin.checkpoint.recipes import Home, NotRestorableError, find, path_of
from levin.utils.imports import available, require
from levin.utils.types import AttributeDict

Mark = dict[str, Any]
"""What an object was: ``{"is": its form, ...}``. Plain values have none."""


class Form(NamedTuple):
    """How objects of one class are written.

    Attributes:
        take: Object -> simpler value.
        make: Simpler value -> object.
    """

    take: Callable[[Any], Any]
    make: Callable[[Any], Any]


def _parts_of(value: timedelta) -> tuple[int, int, int]:
    return value.days, value.seconds, value.microseconds


_FORMS: dict[type, Form] = {
    Namespace: Form(lambda value: dict(vars(value)), lambda content: Namespace(**content)),
    SimpleNamespace: Form(lambda value: dict(vars(value)), lambda content: SimpleNamespace(**content)),
    AttributeDict: Form(dict, AttributeDict),
    frozenset: Form(list, frozenset),
    range: Form(lambda value: (value.start, value.stop, value.step), lambda content: range(*content)),
    slice: Form(lambda value: (value.start, value.stop, value.step), lambda content: slice(*content)),
    timedelta: Form(_parts_of, lambda content: timedelta(*content)),
    date: Form(date.isoformat, date.fromisoformat),
    Decimal: Form(str, Decimal),
    Fraction: Form(str, Fraction),
    UUID: Form(str, UUID),
}  # fmt: skip
_BY_NAME = {kind.__name__: form for kind, form in _FORMS.items()}


def taken(value: Any) -> tuple[Any, Mark] | None:
    """The content of an object of a known kind, still to be made plain, and its mark; None for any other."""
    kind = type(value)
    if kind in _FORMS:
        return _FORMS[kind].take(value), {"is": kind.__name__}
    for matches, take in _TAKERS:
        if matches(value):
            return take(value)
    return None


def made(content: Any, mark: Mark, home: Home) -> Any:
    """The object that was written as ``content`` and ``mark``.

    Raises:
        NotRestorableError: It can't be made here; the text says why.
    """
    name = mark["is"]
    try:
        if name in _BY_NAME:
            return _BY_NAME[name].make(content)
        if name in _MAKERS:
            return _MAKERS[name](content, mark, home)
    except NotRestorableError:
        raise
    except Exception as error:
        raise NotRestorableError(f"no {name} can be made of {content!r}: {error}") from error
    raise NotRestorableError(f"this version of levin does not know what {name!r} is")


# --------------------------------------------------------------------- paths, times, containers with settings


def _take_path(value: PurePath) -> tuple[Any, Mark]:
    return str(value), {"is": "Path" if isinstance(value, Path) else "PurePath"}


def _take_bytes(value: bytes | bytearray) -> tuple[Any, Mark] | None:
    """Safe loading takes all of them but empty ones; those that are not empty stay as they are."""
    return ("", {"is": type(value).__name__}) if not value else None


def _take_moment(value: datetime | time) -> tuple[Any, Mark]:
    mark: Mark = {"is": type(value).__name__}
    zone = getattr(value.tzinfo, "key", None)
    if zone is not None and isinstance(value, datetime):
        mark["zone"] = zone
    if value.fold:
        mark["fold"] = 1
    return value.isoformat(), mark


def _make_time(content: Any, mark: Mark, _: Home) -> time:
    return time.fromisoformat(content).replace(fold=mark.get("fold", 0))


def _make_datetime(content: Any, mark: Mark, _: Home) -> datetime:
    moment = datetime.fromisoformat(content)
    if "zone" not in mark:
        return moment.replace(fold=mark.get("fold", 0))
    try:
        return moment.astimezone(ZoneInfo(mark["zone"]))
    except ZoneInfoNotFoundError:  # this machine does not know the zone: the moment is the same
        return moment


def _take_deque(value: deque[Any]) -> tuple[Any, Mark]:
    return list(value), {"is": "deque", "maxlen": value.maxlen}


def _take_defaultdict(value: defaultdict[Any, Any]) -> tuple[Any, Mark] | None:
    factory = value.default_factory
    path = None if factory is None else path_of(factory)
    if factory is not None and (path is None or not Home().allows(factory)):
        return None
    return dict(value), {"is": "defaultdict", "class": path}


def _make_defaultdict(content: Any, mark: Mark, home: Home) -> defaultdict[Any, Any]:
    if mark["class"] is None:
        return defaultdict(None, content)
    factory = find(mark["class"], home)
    if not Home().allows(factory):
        raise NotRestorableError(f"{mark['class']} must not be called by a file")
    return defaultdict(factory, content)


# --------------------------------------------------------------------------------------------- numpy


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")  # who has one has imported it
    if numpy is None or not isinstance(value, numpy.generic):
        return False
    return value.dtype.kind in _TIMES or type(value.item()) in (bool, int, float, complex, str, bytes)


_TIMES = "mM"  # numpy's letters for durations and moments, which are whole numbers at heart


def _take_numpy_scalar(value: Any) -> tuple[Any, Mark]:
    content = int(value.view("int64")) if value.dtype.kind in _TIMES else value.item()
    return content, {"is": "numpy", "dtype": value.dtype.str}


def _make_numpy_scalar(content: Any, mark: Mark, _: Home) -> Any:
    numpy = require("numpy")
    dtype = numpy.dtype(mark["dtype"])
    return numpy.int64(content).view(dtype) if dtype.kind in _TIMES else dtype.type(content)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) in (numpy.ndarray, numpy.memmap) and value.dtype.names is None


def _take_array(array: Any) -> tuple[Any, Mark] | None:
    mark = {"is": "ndarray", "dtype": array.dtype.str}
    if array.dtype.kind in "OSU":
        if array.ndim == 0 or not array.size:
            return None
        return array.tolist(), mark
    if array.dtype.kind in _TIMES:
        array = array.view("int64")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    # torch takes neither read-only memory nor steps backwards
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy()
    try:
        return torch.from_numpy(native), mark
    except TypeError:
        return None


def _make_array(content: Any, mark: Mark, _: Home) -> Any:
    numpy = require("numpy")
    dtype = numpy.dtype(mark["dtype"])
    if not isinstance(content, Tensor):
        return numpy.array(content, dtype=dtype)
    array = content.numpy()
    return array.view(dtype) if dtype.kind in _TIMES else array.astype(dtype, copy=False)


# ------------------------------------------------------------- enumerations, data classes, named tuples


def _is_restorable(cls: Any) -> bool:
    """Whether a file may have objects of ``cls`` made: they must not act when they are thrown away."""
    return not hasattr(cls, "__del__") and cls.__new__ is _PLAIN_NEW


_PLAIN_NEW: Any = object.__new__


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and isinstance(getattr(value, "_fields", None), tuple)


def _is_record(value: Any) -> bool:
    """Whether it is an object of a data class, of `dataclasses` or of attrs."""
    is_record = is_dataclass(value) or hasattr(type(value), "__attrs_attrs__")
    return is_record and not isinstance(value, (type, nn.Module))


def _take_enum(value: Enum) -> tuple[Any, Mark] | None:
    path = path_of(type(value))
    if path is None:
        return None
    if isinstance(value, Flag):  # combinations have no name
        return value.value, {"is": "flag", "class": path}
    content = value.value if isinstance(value.value, (bool, int, float, str)) else value.name
    return content, {"is": "enum", "class": path, "name": value.name}


def _make_enum(content: Any, mark: Mark, home: Home) -> Enum:
    cls = find(mark["class"], home)
    if not (isinstance(cls, type) and issubclass(cls, Enum)):
        raise NotRestorableError(f"{mark['class']} is no enumeration")
    if mark["is"] == "flag":
        return cls(content)
    if mark["name"] not in cls.__members__:
        raise NotRestorableError(
            f"{mark['class']} has no member {mark['name']}: it has {list(cls.__members__)}"
        )
    return cls.__members__[mark["name"]]


def _take_named_tuple(value: Any) -> tuple[Any, Mark] | None:
    path = path_of(type(value))
    return None if path is None else (tuple(value), {"is": "namedtuple", "class": path})


def _make_named_tuple(content: Any, mark: Mark, home: Home) -> Any:
    cls = find(mark["class"], home)
    if not (
        isinstance(cls, type) and issubclass(cls, tuple) and len(getattr(cls, "_fields", ())) == len(content)
    ):
        raise NotRestorableError(f"{mark['class']} is no named tuple of {len(content)} entries")
    return tuple.__new__(cls, content)


def _take_record(value: Any) -> tuple[Any, Mark] | None:
    cls = type(value)
    path = path_of(cls)
    if path is None or not _is_restorable(cls):
        return None
    slots = {name: getattr(value, name) for name in _slots_of(cls) if hasattr(value, name)}
    return {**slots, **getattr(value, "__dict__", {})}, {"is": "record", "class": path}


def _make_record(content: Any, mark: Mark, home: Home) -> Any:
    cls: Any = find(mark["class"], home)
    is_record = isinstance(cls, type) and (is_dataclass(cls) or hasattr(cls, "__attrs_attrs__"))
    if not (is_record and _is_restorable(cls)):
        raise NotRestorableError(f"{mark['class']} is no data class")
    state = {**_defaults_of(cls, content), **content}
    value = object.__new__(cls)
    slots = _slots_of(cls)
    for name in slots.keys() & state.keys():
        slots[name].__set__(value, state[name])
    if hasattr(value, "__dict__"):
        value.__dict__.update({name: item for name, item in state.items() if name not in slots})
    return value


def _slots_of(cls: type) -> dict[str, MemberDescriptorType]:
    members = [vars(base) for base in reversed(cls.__mro__)]
    return {
        name: member
        for own in members
        for name, member in own.items()
        if isinstance(member, MemberDescriptorType)
    }


def _defaults_of(cls: Any, content: dict[str, Any]) -> dict[str, Any]:
    """The defaults of fields that the class did not have yet when an object was written."""
    defaults: dict[str, Any] = {}
    new = [field for field in fields(cls) if field.name not in content] if is_dataclass(cls) else []
    for field in new:
        if field.default is not MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not MISSING:
            defaults[field.name] = field.default_factory()
        elif field.init:
            raise NotRestorableError(f"{cls.__qualname__} now has a field {field.name!r} without a default")
    return defaults


# ----------------------------------------------------------------------------------------- OmegaConf


def is_omegaconf(value: Any) -> bool:
    """Whether it is one of OmegaConf's containers."""
    omegaconf = sys.modules.get("omegaconf")
    return omegaconf is not None and isinstance(value, (omegaconf.DictConfig, omegaconf.ListConfig))


def _take_omegaconf(value: Any) -> tuple[Any, Mark]:
    """The container's content, interpolations as they are written; its flags and its structure's class."""
    omegaconf = sys.modules["omegaconf"].OmegaConf
    flags = [flag for flag in ("struct", "readonly") if getattr(omegaconf, f"is_{flag}")(value)]
    cls = omegaconf.get_type(value)
    path = path_of(cls) if is_dataclass(cls) else None
    mark: Mark = {"is": "OmegaConf"}
    if flags:
        mark["flags"] = flags
    if path is not None:
        mark["class"] = path
    return omegaconf.to_container(value, resolve=False), mark


def _make_omegaconf(content: Any, mark: Mark, home: Home) -> Any:
    if not available("omegaconf"):
        return content
    omegaconf = require("omegaconf").OmegaConf
    value = omegaconf.create(content)
    if "class" in mark:
        cls = find(mark["class"], home)
        if not (isinstance(cls, type) and is_dataclass(cls)):
            raise NotRestorableError(f"{mark['class']} is no data class")
        value = omegaconf.merge(omegaconf.structured(cls), value)
    for flag in {"struct", "readonly"}.intersection(mark.get("flags", ())):
        getattr(omegaconf, f"set_{flag}")(value, True)
    return value


_Taker = Callable[[Any], "tuple[Any, Mark] | None"]

_TAKERS: tuple[tuple[Callable[[Any], bool], _Taker], ...] = (
    (lambda value: isinstance(value, PurePath), _take_path),
    (lambda value: isinstance(value, Enum), _take_enum),
    (lambda value: type(value) in (bytes, bytearray), _take_bytes),
    (lambda value: type(value) in (datetime, time), _take_moment),
    (lambda value: type(value) is deque, _take_deque),
    (lambda value: type(value) is defaultdict, _take_defaultdict),
    (_is_numpy_scalar, _take_numpy_scalar),
    (_is_array, _take_array),
    (_is_named_tuple, _take_named_tuple),
    (_is_record, _take_record),
    (is_omegaconf, _take_omegaconf),
)

_MAKERS: dict[str, Callable[[Any, Mark, Home], Any]] = {
    "Path": lambda content, _, __: Path(content),
    "PurePath": lambda content, _, __: PurePath(content),
    "set": lambda content, _, __: set(content),
    "dict": lambda content, _, __: dict(content),
    "OrderedDict": lambda content, _, __: OrderedDict(content),
    "Counter": lambda content, _, __: Counter(dict(content)),
    "bytes": lambda _, __, ___: b"",
    "bytearray": lambda _, __, ___: bytearray(),
    "time": _make_time,
    "datetime": _make_datetime,
    "deque": lambda content, mark, _: deque(content, mark["maxlen"]),
    "defaultdict": _make_defaultdict,
    "numpy": _make_numpy_scalar,
    "ndarray": _make_array,
    "enum": _make_enum,
    "flag": _make_enum,
    "namedtuple": _make_named_tuple,
    "record": _make_record,
    "OmegaConf": _make_omegaconf,
}
