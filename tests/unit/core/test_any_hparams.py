"""Whatever hyper-parameters hold, a checkpoint of them loads safely, and what it keeps is the same again."""

from __future__ import annotations

import copy
import enum
import io
import threading
import warnings
from argparse import Namespace
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from levin.core.hparams import HyperparametersMixin, restored
from levin.utils.types import AttributeDict


class Colour(enum.Enum):
    RED = "r"
    BLUE = ("b",)


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: object
    right: object


@dataclass
class Config:
    name: object
    inner: object = None

    def __hash__(self):
        return 0


@dataclass(frozen=True)
class Frozen:
    value: object


class Owner(HyperparametersMixin):
    def __init__(self, **values):
        self.save_hyperparameters(values)


numbers = some.one_of(
    some.integers(),
    some.floats(allow_nan=False),
    some.booleans(),
    some.complex_numbers(allow_nan=False),
    some.fractions(),
    some.decimals(allow_nan=False),
)
words = some.one_of(some.text(max_size=5), some.binary(max_size=5), some.just(None))
moments = some.one_of(some.datetimes(), some.dates(), some.times(), some.timedeltas(), some.uuids())
named = some.sampled_from(
    [
        *(nn.ReLU, nn.functional.relu, torch.optim.SGD, torch.float16, torch.device("cpu"), torch.Size([1])),
        *(Colour.RED, Colour.BLUE, Rights.READ | Rights.WRITE, Rights(0)),
    ]
)
from_numpy = some.one_of(
    some.floats(width=32, allow_nan=False).map(np.float32),
    some.integers(-128, 127).map(np.int8),
    some.text("ab", max_size=3).map(np.str_),
)
hashable = some.one_of(
    numbers,
    words,
    moments,
    some.sampled_from([*Colour, *Rights]),
    some.text("ab/", max_size=4).map(PurePosixPath),
    from_numpy,
)
leaves = some.one_of(hashable, named)


def nested(inner):
    return some.one_of(
        some.lists(inner, max_size=3),
        some.lists(inner, max_size=3).map(tuple),
        some.dictionaries(hashable | some.frozensets(hashable, max_size=2), inner, max_size=3),
        some.dictionaries(some.text("abc", min_size=1, max_size=2), inner, max_size=3).map(AttributeDict),
        some.dictionaries(some.text("abc", min_size=1, max_size=2), inner, max_size=3).map(
            lambda values: Namespace(**values)
        ),
        some.sets(hashable, max_size=3),
        some.frozensets(hashable, max_size=3),
        some.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=4)),
        some.dictionaries(words, inner, max_size=2).map(OrderedDict),
        some.builds(Pair, inner, inner),
        some.builds(Config, inner, inner),
        some.builds(Frozen, inner),
    )


values = some.recursive(leaves, nested, max_leaves=12)
impossible = some.sampled_from([threading.Lock(), lambda: 0, object(), print, iter([])])
names = some.text("xyz", min_size=1, max_size=2)


def alike(first, second):
    """Whether two values are equal, and of the same types all through."""
    if type(first) is not type(second):
        return False
    if isinstance(first, (set, frozenset)):
        key = lambda item: (type(item).__name__, repr(item))  # noqa: E731
        return all(map(alike, sorted(first, key=key), sorted(second, key=key))) and len(first) == len(second)
    if isinstance(first, dict):
        first, second = list(first.items()), list(second.items())
    elif isinstance(first, (Namespace, Config, Frozen)):
        return alike(vars(first), vars(second))
    if isinstance(first, (list, tuple, deque)):
        return len(first) == len(second) and all(map(alike, first, second))
    return first == second and repr(first) == repr(second)


def through_a_file(owner):
    file = io.BytesIO()
    torch.save(owner.hyper_parameters_for_checkpoint(), file)
    file.seek(0)
    assert not torch.serialization.get_unsafe_globals_in_checkpoint(file)
    file.seek(0)
    return restored(torch.load(file, weights_only=True), Owner)


@settings(deadline=None, max_examples=150)
@given(some.dictionaries(names, values, max_size=4))
def test_what_can_be_kept_is_the_same_again(hparams):
    before = copy.deepcopy(hparams)
    result, _, missing = through_a_file(Owner(**hparams))
    assert not missing
    assert alike(sorted(result.items()), sorted(hparams.items())) if hparams else not result
    assert alike(hparams, before)


@settings(deadline=None, max_examples=100)
@given(some.dictionaries(names, values | some.recursive(impossible, nested, max_leaves=6), max_size=4))
def test_whatever_they_hold_the_file_loads_safely_and_what_is_missing_is_known(hparams):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result, _, missing = through_a_file(Owner(**hparams))
    assert result.keys() | missing.keys() == hparams.keys()
    assert all(alike(result[name], hparams[name]) for name in result)
