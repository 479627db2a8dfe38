from __future__ import annotations

import enum
import io
import pathlib
from argparse import Namespace
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, namedtuple
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from levin.checkpoint.io import load
from levin.checkpoint.plain import NotPlainError, pack, plain, unpack

Pair = namedtuple("Pair", "left right")


class Colour(enum.Enum):
    RED = 1


class Word(str, enum.Enum):
    YES = "yes"


class Number(enum.IntEnum):
    ONE = 1


class Attributes(dict):
    __getattr__ = dict.__getitem__


class Text(str):
    __slots__ = ()


class Pixels(torch.Tensor):
    pass


def through_a_file(value):
    file = io.BytesIO()
    torch.save({"value": value}, file)
    file.seek(0)
    return load(file)["value"]


PLAIN = [
    *(1, 2**80, 1.5, float("inf"), True, None, "a", b"a", bytearray(b"a"), 1j),
    *((1, (2,)), [1, [2]], {1, 2}, {"a": {1: 2, None: 3, (1, 2): 4}}, OrderedDict(a=1), Counter("aab")),
    *(torch.float16, torch.device("cpu"), torch.Size([1, 2]), torch.strided),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_what_is_plain_stays_the_very_same_and_comes_back(value):
    assert plain(value) is value
    back = through_a_file(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2),
        nn.Parameter(torch.ones(2)),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, 3).t(),
        torch.eye(3).to_sparse(),
        torch.ones(2, requires_grad=True),
        torch.get_rng_state(),
    ],
    ids=["float", "parameter", "bfloat16", "view", "sparse", "leaf", "random state"],
)
def test_tensors_stay_the_very_same_and_come_back(tensor):
    assert plain({"a": [tensor]})["a"][0] is tensor
    assert torch.equal(through_a_file(tensor).to_dense(), tensor.to_dense())


CONVERTED = [
    (Attributes(a=Attributes(b=1)), {"a": {"b": 1}}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (ChainMap({"a": 1}), {"a": 1}),
    (UserDict(a=1), {"a": 1}),
    (Namespace(a=pathlib.Path("x")), {"a": "x"}),
    (SimpleNamespace(a=1), {"a": 1}),
    (pathlib.Path("a/b"), "a/b"),
    (np.float32(0.5), 0.5),
    (np.float64(0.5), 0.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (np.complex64(1j), 1j),
    (Pair(1, 2), (1, 2)),
    (UserList([1]), [1]),
    (Text("a"), "a"),
    (Word.YES, "yes"),
    (Number.ONE, 1),
    ({pathlib.Path("k"): 1}, {"k": 1}),
    ({np.int64(1): 1}, {1: 1}),
    ([{"deep": (pathlib.Path("x"),)}], [{"deep": ("x",)}]),
    ({pathlib.Path("x")}, ["x"]),
    (Colour.RED, 1),
    (OrderedDict(a=pathlib.Path("x")), OrderedDict(a="x")),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED, ids=lambda value: type(value).__name__)
def test_what_has_a_plain_form_is_stored_in_it(value, expected):
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)
    assert through_a_file(result) == expected


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array(3),
        np.arange(4)[::-1],
        np.arange(3, dtype=np.uint16),
        np.array([True]),
    ],
    ids=["matrix", "scalar", "backwards", "uint16", "bool"],
)
def test_arrays_become_tensors(array):
    result = through_a_file(plain({"a": array})["a"])
    assert result.shape == array.shape
    assert result.tolist() == array.tolist()


def test_an_array_is_not_copied_unless_it_must_be():
    array = np.zeros(3)
    tensor = plain(array)
    array[0] = 1
    assert tensor.tolist() == [1, 0, 0]
    array.flags.writeable = False
    assert plain(array).tolist() == [1, 0, 0]


REFUSED = [
    (nn.MSELoss(), r"torch.nn.modules.loss.MSELoss.*state_dict"),
    (enum.Enum("Local", "RED").RED, r"Local.*\.value"),
    (len, "builtin_function_or_method.*import path"),
    (int, "type.*import path"),
    (object(), "object.*numbers, strings, tensors"),
    (np.array([object()]), "object"),
    (np.zeros(2, dtype=[("a", "f4")]), "numpy.ndarray"),
    (np.longdouble(1), "numpy.longdouble"),
    (nn.UninitializedParameter(), "UninitializedParameter.*first batch"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_could_not_be_read_back_is_refused_with_its_place(value, text):
    with pytest.raises(NotPlainError, match=r"callbacks\.MyCallback\.cfg\.1.* is a .*" + text):
        plain({"callbacks": {"MyCallback": {"cfg": [0, value]}}})


@pytest.mark.parametrize(
    "value", [value for value, _ in REFUSED[:-1]], ids=lambda value: type(value).__name__
)
def test_what_is_refused_really_could_not_be_read_back(value):
    with pytest.raises(Exception, match=r".+"):
        through_a_file(value)


def test_a_key_that_could_not_be_read_back_is_refused():
    with pytest.raises(TypeError, match=r"state, key <class 'int'> is a type"):
        plain({int: 1}, "state")


def test_something_that_holds_itself_is_refused():
    value: dict = {}
    value["again"] = [value]
    with pytest.raises(TypeError, match="contains itself"):
        plain(value)


def test_a_tensor_subclass_is_stored_as_a_tensor_over_the_same_memory():
    pixels = torch.ones(3).as_subclass(Pixels)
    result = plain(pixels)
    assert type(result) is torch.Tensor
    assert result.data_ptr() == pixels.data_ptr()


def test_attributes_of_a_tensor_are_left_out():
    tensor = torch.ones(2)
    tensor.owner = nn.MSELoss()
    result = plain([tensor])[0]
    assert result.data_ptr() == tensor.data_ptr()
    assert torch.equal(through_a_file(result), torch.ones(2))


def test_a_class_that_was_allowed_stays_as_it_is():
    with torch.serialization.safe_globals([Colour, getattr]):
        assert pack([Colour.RED]) == ([Colour.RED], {})


def test_the_versions_in_a_state_dict_are_kept():
    state = nn.BatchNorm1d(2).state_dict()
    assert plain(state) is state
    state["path"] = pathlib.Path("x")
    assert plain(state)._metadata == state._metadata
    assert through_a_file(plain(state))._metadata == state._metadata


def test_versions_that_could_not_be_read_back_are_refused():
    state = nn.Linear(1, 1).state_dict()
    state._metadata["loss"] = nn.MSELoss()
    with pytest.raises(TypeError, match=r"_metadata\.loss is a .*MSELoss"):
        plain(state)


def test_optimizer_and_scheduler_states_are_plain_as_they_are():
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for state in (optimizer.state_dict(), scheduler.state_dict(), module.state_dict()):
        assert plain(state) is state


def test_one_tensor_under_two_names_stays_one():
    shared = torch.ones(2)
    result = plain({"a": shared, "b": [shared], "c": pathlib.Path("x")})
    assert result["a"] is result["b"][0] is shared


def test_a_state_of_tensors_is_not_even_rebuilt():
    state = {"model": {f"layer{index}.weight": torch.empty(2) for index in range(1000)}, "step": 3}
    assert plain(state) is state


# ---------------------------------------------------------------------------------------- marks


def test_what_is_plain_has_no_marks():
    state = {"model": nn.Linear(1, 1).state_dict(), "step": 3, "names": ["a", ("b", {1})]}
    assert pack(state) == (state, {})


def test_marks_name_the_places_of_what_was_something_else():
    content, marks = pack({"a": [1, pathlib.Path("x")], "b": (Colour.RED,), "c": 1})
    assert content == {"a": [1, "x"], "b": (1,), "c": 1}
    assert marks["in"]["a"]["in"] == {1: {"is": "Path"}}
    assert marks["in"]["b"]["in"][0]["name"] == "RED"
    assert "c" not in marks["in"]


def test_making_it_again_changes_nothing_of_the_plain_form():
    content, marks = pack({"a": [pathlib.Path("x")], "b": 1})
    again = unpack(content, marks)
    assert again == {"a": [pathlib.Path("x")], "b": 1}
    assert content == {"a": ["x"], "b": 1}


def test_what_is_gone_from_the_plain_form_is_passed_over():
    content, marks = pack({"a": [pathlib.Path("x"), pathlib.Path("y")], "b": pathlib.Path("z")})
    del content["b"]
    content["a"].pop()
    assert unpack(content, marks) == {"a": [pathlib.Path("x")]}


def test_keys_come_back_in_their_order():
    value = {pathlib.Path("a"): pathlib.Path("b"), "c": 1, Colour.RED: [Word.YES], (1, pathlib.Path("d")): 2}
    again = unpack(*through_a_file(pack(value)))
    assert list(again.items()) == list(value.items())
    assert [type(key) for key in again] == [type(key) for key in value]


@pytest.mark.parametrize(
    "value",
    [
        {pathlib.Path("a"): 1, "a": 2},
        {frozenset({1}): pathlib.Path("b"), 1: 2},
        OrderedDict({b"": 1, "": 2}),
        Counter([pathlib.Path("a"), "a", "a"]),
    ],
    ids=repr,
)
def test_keys_that_have_no_plain_form_of_their_own_come_back(value):
    again = unpack(*through_a_file(pack(value)))
    assert again == value
    assert type(again) is type(value)
