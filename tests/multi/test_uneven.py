"""Processes with different numbers of training batches never wait for one another in vain."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import levin as L
from levin.data import split_by_process_and_worker
from levin.testing.processes import in_processes
from levin.utils.errors import MisconfigurationException

pytestmark = pytest.mark.multi


class Stream(IterableDataset):
    """Divided already: each process has samples of its own, and as many as it is told."""

    def __init__(self, sizes, has_length):
        self.sizes = sizes
        if has_length:
            self.__class__ = type("SizedStream", (Stream,), {"__len__": lambda self: self.size})

    @property
    def size(self):
        return self.sizes[torch.distributed.get_rank()]

    def __iter__(self):
        rank = torch.distributed.get_rank()
        return iter(torch.arange(self.size, dtype=torch.float64).add(100 * rank).view(-1, 1))


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen += batch.flatten().tolist()
        return (self.weight * batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def train(policy, sizes, has_length, kwargs):
    module = Model()
    trainer = L.Trainer(
        accelerator="cpu", devices=len(sizes), max_epochs=2, logger=False, uneven=policy,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **kwargs,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Stream(sizes, has_length), batch_size=1))
    return trainer.global_step, len(module.seen), module.weight.item()


@pytest.mark.parametrize("has_length", [True, False], ids=["lengths known", "lengths unknown"])
@pytest.mark.parametrize(
    ("policy", "steps", "seen"),
    [("stop_together", 4, [4, 4]), ("drop", 4, [4, 4]), ("zero_weight", 6, [6, 4])],
)
def test_an_epoch_ends_as_the_policy_says(policy, steps, seen, has_length):
    results = in_processes(train, 2, policy, [6, 4], has_length, {})
    assert [result[0] for result in results] == [2 * steps] * 2
    assert [result[1] for result in results] == [2 * each for each in seen]
    assert results[0][2] == results[1][2]


@pytest.mark.parametrize("has_length", [True, False], ids=["lengths known", "lengths unknown"])
def test_an_uneven_epoch_can_be_an_error(has_length):
    with pytest.raises(RuntimeError, match="uneven='stop_together'"):
        in_processes(train, 2, "error", [6, 4], has_length, {})
    assert in_processes(train, 2, "error", [4, 4], has_length, {})[0][0] == 8


def test_weights_of_samples_make_the_gradients_those_of_all_samples():
    """The fifth and the sixth step have a sample of rank 0 alone."""
    kwargs = {"normalize_by": "samples", "max_epochs": 1}
    kwargs.pop("max_epochs")
    (_, _, weight), _ = in_processes(train, 2, "zero_weight", [6, 4], False, kwargs)
    first = np.arange(6.0)
    means = [*((first[:4] + np.arange(100.0, 104.0)) / 2), *first[4:]]
    assert weight == pytest.approx(-2 * sum(means), rel=1e-12)


def test_a_window_that_data_of_unknown_length_leaves_half_full_is_averaged_too():
    kwargs = {"accumulate_grad_batches": 3, "normalize_by": "batches"}
    results = in_processes(train, 2, "stop_together", [4, 4], False, kwargs)
    assert [result[0] for result in results] == [4, 4]
    both = (np.arange(4.0) + np.arange(100.0, 104.0)) / 2
    assert results[0][2] == results[1][2] == pytest.approx(-2 * (both[:3].mean() + both[3]), rel=1e-12)


def shards(size):
    module = Model()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = TensorDataset(torch.arange(size, dtype=torch.float64).view(-1, 1))
    data.__class__ = type("First", (TensorDataset,), {"__getitem__": lambda self, i: self.tensors[0][i]})
    trainer.fit(module, DataLoader(data, batch_size=2, shuffle=True))
    return module.seen


@pytest.mark.parametrize("size", [16, 17, 18, 19])
def test_training_shards_have_no_sample_twice(size):
    first, second = in_processes(shards, 2, size)
    assert not set(first) & set(second)
    assert len(first) + len(second) >= size - 2  # a batch that the other has no partner for
    assert abs(len(first) - len(second)) <= 1


def same_stream(size):
    module = Model()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, Plain(size))
    return module.seen


class Plain:
    """Gives the same batches in each process."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter([torch.full((1, 1), float(each), dtype=torch.float64) for each in range(self.size)])


def test_a_stream_that_all_processes_see_alike_is_divided_among_them():
    assert in_processes(same_stream, 2, 6) == [[0.0, 2.0, 4.0] * 2, [1.0, 3.0, 5.0] * 2]


def test_an_unknown_policy_is_refused():
    with pytest.raises(MisconfigurationException, match="'stop_together', 'drop', 'zero_weight', 'error'"):
        L.Trainer(uneven="wait")


class Split(IterableDataset):
    """Each sample once, whoever reads it."""

    def __iter__(self):
        return split_by_process_and_worker(torch.arange(13, dtype=torch.float64).view(-1, 1))


class Validated(Model):
    def validation_step(self, batch, batch_idx):
        self.log("sum", batch.sum(), reduce_fx="sum")
        self.log("count", float(len(batch)), reduce_fx="sum")


def validate_split(num_workers):
    trainer = L.Trainer(
        accelerator="cpu", devices=int(os.environ.get("WORLD_SIZE", "1")), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = DataLoader(Split(), batch_size=2, num_workers=num_workers)
    return trainer.validate(Validated(), data, verbose=False)[0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_can_be_split_among_processes_and_workers(num_workers):
    whole = {"sum": 78.0, "count": 13.0}
    assert validate_split(num_workers) == whole
    assert in_processes(validate_split, 2, num_workers) == [whole] * 2
