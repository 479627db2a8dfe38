from __future__ import annotations

import copy
import pickle

import pytest
import torch

from levin.utils.types import AttributeDict, Stateful, Steppable


def test_entries_are_attributes():
    settings = AttributeDict(lr=0.1)
    settings.depth = 3
    assert settings == {"lr": 0.1, "depth": 3}
    settings["lr"] = 0.2
    assert settings.lr == 0.2
    del settings.depth
    assert "depth" not in settings


def test_an_unknown_entry_is_an_attribute_error_that_lists_the_others():
    settings = AttributeDict(lr=0.1)
    with pytest.raises(AttributeError, match=r"no entry 'learning_rate' among \['lr'\]"):
        _ = settings.learning_rate
    with pytest.raises(AttributeError, match="no entry 'depth'"):
        del settings.depth
    assert not hasattr(settings, "depth")


def test_it_is_shown_sorted_and_aligned():
    assert str(AttributeDict(width=3, lr=0.1, b="x")) == '"b":     x\n"lr":    0.1\n"width": 3'
    assert repr(AttributeDict()) == ""


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_copies_are_of_the_same_type(duplicate):
    settings = AttributeDict(lr=0.1, inner=AttributeDict(a=[1]))
    other = duplicate(settings)
    assert type(other) is type(other.inner) is AttributeDict
    assert other == settings


def test_what_keeps_state_is_recognised():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    assert isinstance(optimizer, Stateful)
    assert isinstance(optimizer, Steppable)
    assert not isinstance([], Stateful)
