from __future__ import annotations

import math
from collections import UserDict, namedtuple
from dataclasses import astuple, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from levin.core.entries import LogOptions, Reduction
from levin.core.metrics import Metrics, batch_size_of, to_numbers
from levin.utils.errors import MisconfigurationException

zeros = torch.zeros


@dataclass
class Record:
    x: Any
    y: Any = None


class Graph:
    """Yields its parts as some libraries' batches do."""

    def __init__(self, *parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


class Array:
    """Can be read number by number, which takes its time."""

    def __array__(self):
        return np.zeros(3)

    def __iter__(self):
        raise AssertionError("nobody asked for its numbers")


Pair = namedtuple("Pair", "x y")

SIZES = {
    "tensor": (zeros(3, 7), 3),
    "tensor without dimensions": (torch.tensor(5.0), 1),
    "empty tensor": (zeros(0, 7), 0),
    "list": ([zeros(3), zeros(3)], 3),
    "tuple": ((zeros(3),), 3),
    "named tuple": (Pair(zeros(3), 1), 3),
    "set": ({zeros(3)}, 3),
    "dict": ({"a": zeros(3), "b": zeros(3)}, 3),
    "mapping": (UserDict(a=zeros(3)), 3),
    "dataclass": (Record(zeros(3), zeros(3)), 3),
    "object that yields parts": (Graph(("x", zeros(3)), ("edges", zeros(3))), 3),
    "nested": ({"n": 1, "a": [("text", None, {"b": Record(7, zeros(3))})]}, 3),
    "texts and a tensor": (["ab", b"abcd", zeros(3)], 3),
    "texts alone beside tensors": ({"name": ["ab", "abcd"], "x": zeros(2)}, 2),
    "array and a tensor": ((np.zeros((5, 2)), zeros(3)), 3),
    "no batch": (None, 1),
}


@pytest.mark.parametrize(("batch", "size"), SIZES.values(), ids=SIZES)
def test_the_size_of_a_batch_is_the_first_dimension_of_its_tensors(batch, size):
    assert batch_size_of(batch) == size


@pytest.mark.parametrize(
    ("batch", "size", "sizes"),
    [
        ((zeros(3), zeros(2)), 3, [2, 3]),
        ({"a": zeros(2), "b": [zeros(5), zeros(2)]}, 2, [2, 5]),
        ([[zeros(4)], zeros(1)], 4, [1, 4]),
    ],
)
def test_where_tensors_disagree_the_first_counts_and_all_are_named(batch, size, sizes):
    with pytest.warns(UserWarning, match=str(sizes).replace("[", r"\[").replace("]", r"\]")):
        assert batch_size_of(batch) == size


NO_SIZES = [
    7,
    "text",
    b"bytes",
    [1, 2],
    ["a", "b"],
    {},
    Record(1),
    Record,
    np.zeros(3),
    Array(),
    SimpleNamespace(x=zeros(3)),
]


@pytest.mark.parametrize("batch", NO_SIZES, ids=lambda batch: type(batch).__name__)
def test_a_batch_without_tensors_has_no_size(batch):
    with pytest.raises(MisconfigurationException, match=f"type {type(batch).__name__}.*batch_size="):
        batch_size_of(batch)


def test_what_can_be_read_only_once_is_not_read():
    parts = iter([zeros(3)])
    with pytest.raises(MisconfigurationException):
        batch_size_of(parts)
    assert len(list(parts)) == 1


# ------------------------------------------------------------ reductions


@pytest.mark.parametrize(
    ("word", "functions"),
    [
        ("mean", ["avg", "AVG", "Mean", torch.mean]),
        ("sum", ["SUM", torch.sum, sum]),
        ("min", ["Min", torch.min, min]),
        ("max", ["Max", torch.max, max]),
    ],
)
def test_a_reduction_has_many_names(word, functions):
    assert {Reduction.parse(fx) for fx in [word, *functions]} == {Reduction(word)}


def mean(values):
    """A function that has the name of a reduction and is none."""


@pytest.mark.parametrize("fx", [mean, torch.median, "std", "", 3, None])
def test_what_only_looks_like_a_reduction_is_none(fx):
    with pytest.raises(MisconfigurationException, match="reduce_fx"):
        Reduction.parse(fx)


# ------------------------------------------------------------ sums


def logged(values, sizes=None, **options):
    """Return metrics that have seen one epoch of `values` under the name x."""
    metrics = Metrics()
    metrics.scope = "training_step"
    options = astuple(LogOptions(on_step=False, on_epoch=True, **options))
    metrics.start_batches()
    for index, value in enumerate(values):
        metrics.log("x", value, options, 1 if sizes is None else sizes[index])
    metrics.end_batches()
    return metrics.callback_metrics["x"].item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_long_epoch_of_small_numbers_loses_no_digits(dtype):
    value = torch.tensor(0.1, dtype=dtype)
    assert logged([value] * 100_000) == pytest.approx(value.item(), rel=1e-6)


def test_a_long_epoch_of_python_numbers_loses_no_digits():
    assert logged([0.1] * 100_000) == pytest.approx(0.1, rel=1e-6)


def test_a_long_sum_loses_no_digits():
    total = logged([torch.tensor(0.1)] * 100_000, reduce_fx="sum")
    assert total == pytest.approx(torch.tensor(0.1).double().item() * 100_000, rel=1e-6)


def test_a_mean_is_weighed_as_numpy_weighs_it():
    draw = np.random.default_rng(0)
    values, sizes = draw.normal(size=500), draw.integers(1, 9, size=500)
    expected = pytest.approx(np.average(values, weights=sizes), rel=1e-6)
    assert logged(values.tolist(), sizes.tolist()) == expected
    assert logged(torch.tensor(values), sizes.tolist()) == expected


@pytest.mark.parametrize("fx", ["min", "max"])
def test_extremes_of_numbers_and_tensors_mixed(fx):
    values = [2.0, torch.tensor(-3.0), 7, torch.tensor(5)]
    assert logged(values, reduce_fx=fx) == {"min": -3.0, "max": 7.0}[fx]


def test_nan_and_infinity_are_values():
    assert math.isnan(logged([1.0, math.nan]))
    assert math.isnan(logged([torch.tensor(1.0), torch.tensor(math.nan)], reduce_fx="max"))
    assert logged([torch.tensor(1.0), math.inf], reduce_fx="sum") == math.inf


def test_the_sum_does_not_change_the_value_that_was_logged():
    value = torch.tensor(1.0, dtype=torch.float64)
    assert logged([value, value, value], reduce_fx="sum") == 3.0
    assert value == 1.0


# ------------------------------------------------------------ reading


def test_values_that_came_another_way_can_be_published():
    metrics = Metrics()
    metrics.publish({"score": 2, "loss": torch.tensor(1.0)})
    assert metrics.callback_metrics == {"score": 2.0, "loss": 1.0}
    assert all(isinstance(value, torch.Tensor) for value in metrics.callback_metrics.values())
    assert metrics.logged_metrics == metrics.progress_bar_metrics == {}


def test_numbers_of_all_kinds_are_brought_together():
    values = {"a": torch.tensor(1.5), "b": 2.5, "c": torch.tensor(3), "d": torch.tensor(True), "e": 4}
    numbers = to_numbers(values)
    assert numbers == {"a": 1.5, "b": 2.5, "c": 3.0, "d": 1.0, "e": 4}
    assert list(numbers) == list(values)
    assert all(isinstance(value, (int, float)) for value in numbers.values())


def test_a_value_that_is_read_loses_no_digits():
    assert to_numbers({"a": torch.tensor(16_777_217), "b": torch.tensor(0.1)})["a"] == 16_777_217


def test_nothing_is_nothing():
    assert to_numbers({}) == {}


def test_metrics_that_are_switched_off_keep_nothing():
    metrics = Metrics(enabled=False)
    with pytest.warns(UserWarning, match="'x'.*barebones"):
        metrics.log("x", 1.0, astuple(LogOptions()), None)
    metrics.log("y", 1.0, astuple(LogOptions()), None)  # told once: a second warning would be an error
    assert metrics.callback_metrics == {}


def test_a_name_may_not_be_logged_where_no_hook_runs():
    with pytest.raises(MisconfigurationException, match="in no hook"):
        Metrics().log("x", 1.0, astuple(LogOptions()), 1)


def test_a_failed_call_leaves_nothing_behind():
    metrics = Metrics()
    metrics.scope = "training_step"
    with pytest.raises(ValueError, match="got a str"):
        metrics.log("x", "text", astuple(LogOptions()), 1)
    metrics.log("x", 1.0, astuple(LogOptions(prog_bar=True)), 1)
    metrics.start_batches()
    assert metrics.progress_bar_metrics == {"x": 1.0}
