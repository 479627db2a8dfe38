from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from levin.utils.apply import apply_to_collection, move_data_to_device
from levin.utils.types import AttributeDict

Point = namedtuple("Point", ["x", "y"])
ELSEWHERE = torch.device("meta")


def double(value: int) -> int:
    return value * 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, 6),
        ("3", "3"),
        ([1, "a", [2]], [2, "a", [4]]),
        ((1, 2), (2, 4)),
        ({"a": 1, "b": {"c": 2}}, {"a": 2, "b": {"c": 4}}),
        (OrderedDict(b=1, a=2), OrderedDict(b=2, a=4)),
        (AttributeDict(a=1), AttributeDict(a=2)),
        (UserDict(a=1), UserDict(a=2)),
        (Point(1, 2), Point(2, 4)),
        ({1, 2}, {2, 4}),
        (frozenset({1}), frozenset({2})),
        (deque([1]), deque([2])),
        (b"ab", b"ab"),
        (range(3), range(3)),
        (None, None),
    ],
)
def test_values_are_changed_and_containers_keep_their_type(given, expected):
    result = apply_to_collection(given, int, double)
    assert result == expected
    assert type(result) is type(given)


def test_the_factory_of_a_defaultdict_is_kept():
    result = apply_to_collection(defaultdict(list, a=1), int, double)
    assert result["a"] == 2
    assert result["new"] == []


def test_a_read_only_mapping_is_rebuilt():
    assert apply_to_collection(MappingProxyType({"a": 1}), int, double) == {"a": 2}


def test_attributes_of_a_mapping_are_kept():
    class Batch(dict[str, int]):
        name = ""

    given = Batch(a=1)
    given.name = "first"
    result = apply_to_collection(given, int, double)
    assert (dict(result), result.name) == ({"a": 2}, "first")


def test_the_given_containers_stay_as_they_are():
    given = {"a": [1, {"b": 2}]}
    apply_to_collection(given, int, double)
    assert given == {"a": [1, {"b": 2}]}


def test_further_arguments_reach_the_function():
    result = apply_to_collection([8], int, lambda value, base, power: value + base**power, 2, power=3)
    assert result == [16]


def test_wrong_dtype_is_left_alone():
    assert apply_to_collection([1, True], int, double, wrong_dtype=bool) == [2, True]


def test_include_none_false_drops_entries():
    def keep_even(value: int) -> int | None:
        return value if value % 2 == 0 else None

    given = {"a": 1, "b": 2, "c": [1, 2], "d": OrderedDict(e=1, f=2)}
    result = apply_to_collection(given, int, keep_even, include_none=False)
    assert result == {"b": 2, "c": [2], "d": OrderedDict(f=2)}


@dataclass
class Sample:
    image: Any
    label: int = 0
    derived: Any = field(init=False, default=None)


@dataclass(frozen=True)
class FrozenSample:
    image: Any


@dataclass(slots=True)
class SlottedSample:
    image: Any
    unset: Any = field(init=False)


def test_a_dataclass_is_copied_with_all_its_fields_changed():
    given = Sample(torch.zeros(2), 3)
    given.derived = torch.zeros(1)
    result = apply_to_collection(given, Tensor, lambda tensor: tensor + 1)
    assert (result.image.tolist(), result.label, result.derived.tolist()) == ([1, 1], 3, [1])
    assert given.image.tolist() == [0, 0]


@pytest.mark.parametrize("kind", [FrozenSample, SlottedSample])
def test_frozen_and_slotted_dataclasses_are_rebuilt(kind):
    given = kind(1)
    result = apply_to_collection(given, int, double)
    assert type(result) is kind
    assert (given.image, result.image) == (1, 2)


def test_a_dataclass_keeps_a_field_whose_result_is_dropped():
    result = apply_to_collection(Sample(1, 2), int, lambda value: None, include_none=False)
    assert (result.image, result.label) == (1, 2)


def test_tensors_at_any_depth_are_moved():
    batch = {
        "x": torch.zeros(2),
        "y": (torch.zeros(1), [torch.zeros(1), "name"]),
        "z": Point(torch.zeros(1), 2),
    }
    moved = move_data_to_device(batch, ELSEWHERE)
    devices = []
    apply_to_collection(moved, Tensor, lambda tensor: devices.append(tensor.device))
    assert devices == [ELSEWHERE] * 4
    assert moved["y"][1][1] == "name"
    assert type(moved["z"]) is Point


def test_a_tensor_that_is_there_is_the_same_object():
    tensor = torch.zeros(2)
    assert move_data_to_device(tensor, "cpu") is tensor
    assert move_data_to_device([tensor], torch.device("cpu"))[0] is tensor


def test_containers_are_new_so_that_hooks_may_change_them():
    batch = {"x": [torch.zeros(1)]}
    moved = move_data_to_device(batch, "cpu")
    moved["x"].append("more")
    moved["new"] = 1
    assert list(batch) == ["x"]
    assert len(batch["x"]) == 1


def test_objects_with_a_method_to_are_moved_by_it():
    packed = pack_sequence([torch.zeros(2), torch.zeros(1)])
    moved = move_data_to_device({"packed": packed}, ELSEWHERE)["packed"]
    assert type(moved) is PackedSequence
    assert moved.data.device == ELSEWHERE


def test_an_object_whose_to_returns_nothing_is_kept():
    class InPlace:
        device: Any = None

        def to(self, device: torch.device) -> None:
            self.device = device

    batch = InPlace()
    assert move_data_to_device(batch, ELSEWHERE) is batch
    assert batch.device == ELSEWHERE


def test_a_class_with_a_method_to_is_no_object_to_move():
    assert move_data_to_device([Tensor], ELSEWHERE) == [Tensor]


def test_dataclasses_and_sets_are_moved():
    assert move_data_to_device(Sample(torch.zeros(1)), ELSEWHERE).image.device == ELSEWHERE
    assert {tensor.device for tensor in move_data_to_device({torch.zeros(1)}, ELSEWHERE)} == {ELSEWHERE}


@pytest.mark.gpu
def test_tensors_reach_a_cuda_device():
    batch = {"x": torch.zeros(2).pin_memory(), "y": [torch.ones(1)]}
    moved = move_data_to_device(batch, "cuda:0")
    assert moved["x"].device == moved["y"][0].device == torch.device("cuda", 0)
    assert moved["y"][0].item() == 1
