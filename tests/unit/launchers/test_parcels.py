"""What goes from one process to another, and what is said of what can't."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch
from torch import nn

from levin.launchers.parcels import NotPackableError, pack, pack_parts, unpack


class Holder:
    def __init__(self, held):
        self.held = held


def test_tensors_go_by_value():
    layer = nn.Linear(2, 2)
    copy = unpack(pack(layer))
    with torch.no_grad():
        layer.weight.zero_()
    assert not layer.weight.is_shared()
    assert copy.weight.abs().sum() > 0


def test_what_both_processes_have_goes_by_its_place():
    mine, theirs = object(), object()
    found = unpack(pack({"it": mine, "beside": [mine]}, known=[mine]), known=[theirs])
    assert found["it"] is theirs
    assert found["beside"][0] is theirs


def test_memory_that_processes_share_and_locks_are_handed_over_beside_the_parcel():
    tensor, lock = torch.zeros(3).share_memory_(), multiprocessing.get_context("spawn").Lock()
    parcel = pack(Holder([tensor, lock]))
    assert [id(each) for each in parcel.shared] == [id(tensor), id(lock)]
    assert unpack(parcel).held[0] is tensor


def in_a_module(lock):
    return {"model": nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"a": with_lock(lock)}))}


def in_an_object(lock):
    return [1, Holder((2, {"x": lock}))]


@pytest.mark.parametrize(
    ("build", "name"),
    [(in_a_module, "it['model'].1.a.lock"), (in_an_object, "it[1].held[1]['x']")],
    ids=["in a module", "in an object"],
)
def test_the_innermost_part_that_cannot_go_is_named(build, name):
    with pytest.raises(NotPackableError) as caught:
        pack(build(threading.Lock()))
    assert str(caught.value).startswith(f"`{name}` (a _thread.lock) can't be handed to another process")


def with_lock(lock):
    layer = nn.Linear(1, 1)
    layer.lock = lock
    return layer


def test_functions_without_a_name_go_where_cloudpickle_is_installed():
    pytest.importorskip("cloudpickle")
    two = 2
    assert unpack(pack(lambda x: x * two))(21) == 42


def test_parts_that_cannot_go_are_left_out():
    found = {}
    for part in pack_parts({"one": 1, "lock": threading.Lock(), "three": [3]}, known=[]):
        found |= unpack(part)
    assert found == {"one": 1, "three": [3]}
