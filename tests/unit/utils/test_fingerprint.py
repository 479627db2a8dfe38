"""Data has one number, other data another one, whatever holds it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from levin.utils.fingerprint import fingerprint


@pytest.mark.parametrize(
    "batch",
    [
        torch.rand(3, 2, dtype=torch.bfloat16), torch.tensor(3), torch.zeros(0), torch.eye(3).to_sparse(),
        {"x": [torch.rand(2), "text", None, 3.5]}, torch.rand(2, 3).T, torch.tensor([True, False]),
        torch.rand(2, dtype=torch.complex64), object(), (torch.arange(10_000), b"raw"),
    ],
)  # fmt: skip
def test_a_batch_has_one_fingerprint(batch):
    assert fingerprint(batch) == fingerprint(copy.deepcopy(batch))


def test_other_batches_have_other_fingerprints():
    ones = torch.ones(2)
    batches = [
        torch.zeros(2), torch.zeros(3), ones, [ones, 1], [ones, 2], [[ones], 2], {"x": ones[:1]}, "a", "b",
        np.ones(2), SimpleNamespace(x=1), SimpleNamespace(x=2), torch.tensor([1, 2]), torch.tensor([2, 1]),
    ]  # fmt: skip
    assert len(set(map(fingerprint, batches))) == len(batches)


def test_the_first_elements_may_be_enough():
    one, other = torch.zeros(10), torch.zeros(10)
    other[5] = 1
    assert fingerprint([one], most=5) == fingerprint([other], most=5)
    assert fingerprint([one], most=6) != fingerprint([other], most=6)


def test_an_object_that_leads_back_to_itself_has_one_too():
    node = SimpleNamespace(x=torch.ones(2))
    node.parent = SimpleNamespace(children=[node])
    assert fingerprint(node) == fingerprint(copy.deepcopy(node))


def test_a_large_sparse_batch_is_not_made_dense():
    huge = torch.sparse_coo_tensor([[3], [5]], [1.0], (10**7, 10**7), check_invariants=True)
    assert fingerprint(huge, most=10) == fingerprint(huge.clone(), most=10)


def test_tensors_without_values_of_their_own_have_one():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    assert fingerprint([nested, torch.ones(2, device="meta")]) != fingerprint([])
