from __future__ import annotations

import pytest
import torch
from torch import nn

from levin.utils.modes import in_evaluation, modes_of, restore_modes


@pytest.fixture
def partly_frozen():
    module = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    module[0].eval()
    return module


def test_each_part_gets_its_own_mode_back(partly_frozen):
    modes = modes_of(partly_frozen)
    partly_frozen.eval()
    restore_modes(modes)
    assert [part.training for part in partly_frozen.modules()] == [True, False, True]


def test_in_evaluation_nothing_trains_and_nothing_makes_gradients(partly_frozen):
    with in_evaluation(partly_frozen):
        assert not any(modes_of(partly_frozen).values())
        assert not partly_frozen(torch.ones(1)).requires_grad
    assert [part.training for part in partly_frozen.modules()] == [True, False, True]
    assert partly_frozen(torch.ones(1)).requires_grad


def test_the_modes_come_back_after_an_error(partly_frozen):
    with pytest.raises(ZeroDivisionError), in_evaluation(partly_frozen):
        raise ZeroDivisionError
    assert [part.training for part in partly_frozen.modules()] == [True, False, True]
