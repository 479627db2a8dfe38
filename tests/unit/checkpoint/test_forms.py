from __future__ import annotations

import enum
import io
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field, make_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pytest
import torch

from levin.checkpoint.io import load
from levin.checkpoint.plain import NotPlainError, pack, unpack
from levin.checkpoint.recipes import NotRestorableError
from levin.utils.types import AttributeDict


class Colour(enum.Enum):
    RED = "#f00"
    CALLABLE = (1, len)


class Word(str, enum.Enum):
    YES = "yes"


class Number(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Pair(NamedTuple):
    left: object
    right: object = 0


Old = namedtuple("Old", "a b")


@dataclass
class Config:
    path: Path = Path("here")
    colours: list = field(default_factory=lambda: [Colour.RED])
    inner: object = None


@dataclass(frozen=True)
class Frozen:
    a: int
    b: tuple = (Path("x"),)


class Slotted:
    __slots__ = ("__weakref__", "a")


@dataclass
class PartlySlotted(Slotted):
    b: int = 0


@dataclass
class Doubling:
    lr: float

    def __post_init__(self):
        self.lr *= 2
        self.was_doubled = True


@attrs.define
class Attrs:
    a: int
    b: Path = Path("x")


@dataclass
class Acting:
    path: str = ""

    def __del__(self): ...


@dataclass
class ADict(dict):
    a: int = 1


def again(value):
    """``value`` after it was packed, written, read safely and unpacked."""
    file = io.BytesIO()
    torch.save(pack(value), file)
    file.seek(0)
    return unpack(*load(file))


def with_a(slotted, value):
    slotted.a = value
    return slotted


VALUES = [
    *(Path("a/b"), PurePosixPath("a"), Namespace(a=Path("x")), SimpleNamespace(b=1), AttributeDict(a=1)),
    *(timedelta(days=-400, microseconds=3), date(2020, 2, 29), time(1, 2, 3, 4), datetime(2020, 1, 1, 12)),
    *(datetime(2020, 1, 1, tzinfo=timezone.utc), time(1, tzinfo=timezone(timedelta(hours=-3)))),
    *(Decimal("1.10"), Fraction(1, 3), UUID(int=5), range(0, 10**12, 3), slice(None, 3)),
    *(frozenset({1, (2, frozenset({Path("x")}))}), {Colour.RED, Path("y")}, deque([1, Path("x")], maxlen=3)),
    *(defaultdict(list, a=[Path("x")]), defaultdict(None, a=1), Counter("aab"), OrderedDict(b=Path("x"))),
    *(b"", bytearray(), time(2, fold=1), datetime(2020, 1, 1, fold=1)),
    *(Colour.RED, Colour.CALLABLE, Word.YES, Number.ONE, Rights.READ | Rights.WRITE, Rights(0)),
    *(Pair(1, Path("x")), Old(1, (Colour.RED,)), Config(inner={"a": [Config()]}), Frozen(3), Attrs(1)),
    *(np.float32(0.1), np.int8(-3), np.bool_(True), np.str_("a"), np.complex128(1j), np.float16("inf")),
    *(np.datetime64("2020-01-01T00:00:01", "ns"), np.timedelta64(5, "D")),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_it_comes_back_as_it_was(value):
    result = again(value)
    assert result == value
    assert type(result) is type(value)
    assert repr(result) == repr(value) or isinstance(value, (set, frozenset))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0, dtype="f4").reshape(2, 3),
        np.array(3),
        np.zeros((0, 3), dtype="i2"),
        np.arange(4)[::-1],
        np.arange(3, dtype=">i4"),
        np.array([True]),
        np.array([["a", "bc"]]),
        np.array([Path("x"), None, Colour.RED], dtype=object),
        np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
        np.asfortranarray(np.ones((2, 3))),
        np.frombuffer(b"abc", dtype="u1"),
    ],
    ids=lambda array: array.dtype.str,
)
def test_an_array_comes_back_as_it_was(array):
    result = again(array)
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(result, array)


def test_a_moment_keeps_its_zone():
    moment = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    result = again(moment)
    assert (result, result.tzinfo, result.utcoffset()) == (moment, moment.tzinfo, moment.utcoffset())


def test_the_maximum_length_and_the_factory_are_kept():
    assert again(deque([1], maxlen=3)).maxlen == 3
    assert again(defaultdict(list))["new"] == []


def test_a_data_class_is_made_without_its_init():
    result = again(Doubling(1.0))
    assert (result.lr, result.was_doubled) == (2.0, True)


def test_a_data_class_with_slots_comes_back():
    result = again(with_a(PartlySlotted(b=2), Path("x")))
    assert (result.a, result.b) == (Path("x"), 2)


def test_without_the_marks_plain_values_are_left():
    content, _ = pack({"cfg": Config(), "pair": Pair(1), "when": date(2020, 1, 1), "word": Word.YES})
    assert content == {
        "cfg": {"path": "here", "colours": ["#f00"], "inner": None},
        "pair": (1, 0),
        "when": "2020-01-01",
        "word": "yes",
    }


def test_fields_that_came_later_get_their_defaults():
    content, mark = pack(Config())
    del content["path"], content["colours"]
    assert unpack(content, mark) == Config()


def test_a_later_field_without_a_default_is_told():
    content, mark = pack(Frozen(1))
    del content["a"]
    with pytest.raises(NotRestorableError, match="cfg: Frozen now has a field 'a' without a default"):
        unpack(content, mark, path="cfg")


def test_a_member_that_is_gone_is_told():
    content, mark = pack({"colour": Colour.RED})
    mark["in"]["colour"]["name"] = "GREEN"
    with pytest.raises(NotRestorableError, match=r"checkpoint\.colour: .*Colour has no member GREEN.*'RED'"):
        unpack(content, mark)


def test_a_class_that_is_not_imported_is_told_and_not_imported():
    content, mark = pack([Config()])
    mark["in"][0]["class"] = "json.tool:Config"
    with pytest.raises(
        NotRestorableError, match=r"checkpoint\.0: json\.tool, which defines Config, is not imp"
    ):
        unpack(content, mark)


@pytest.mark.parametrize("path", ["subprocess:Popen", "os:path", "builtins:dict", "enum:nothing"])
@pytest.mark.parametrize("form", ["record", "enum", "flag", "namedtuple"])
def test_a_file_can_not_have_other_things_made(form, path):
    with pytest.raises(NotRestorableError):
        unpack({"args": "ls"}, {"is": form, "class": path, "name": "x"})


def test_a_file_can_not_have_made_what_acts_when_it_is_thrown_away():
    mark = pack(Config())[1] | {"class": f"{__name__}:Acting"}
    with pytest.raises(NotRestorableError, match="no data class"):
        unpack({"path": "/"}, mark)


def test_a_file_can_not_choose_a_factory():
    with pytest.raises(NotRestorableError, match="must not be called"):
        unpack({}, {"is": "defaultdict", "class": "builtins:input"})


@pytest.mark.parametrize(
    "mark", [{"is": "Path"}, {"is": "timedelta"}, {"is": "numpy", "dtype": "x"}, {"is": "?"}]
)
def test_marks_that_do_not_fit_are_told(mark):
    with pytest.raises(NotRestorableError, match="checkpoint: "):
        unpack([[]], mark)


LOCAL = [enum.Enum("Local", "RED").RED, make_dataclass("Local", ["a"])(1), Acting(), ADict()]


@pytest.mark.parametrize("value", LOCAL, ids=lambda value: type(value).__name__)
def test_objects_of_classes_that_can_not_be_found_or_made_are_refused(value):
    if isinstance(value, dict):
        assert pack(value) == ({}, {})  # a dict, at heart
    else:
        with pytest.raises(NotPlainError):
            pack(value)
