from __future__ import annotations

import math
from collections import OrderedDict, defaultdict, namedtuple

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

import levin as L
from levin.data.combined import CombinedLoader, stop_workers
from levin.data.reader import Readers
from levin.precision import Precision
from levin.trainer.dataloaders import (
    DataSource,
    batch_mover,
    flatten,
    length_of,
    one_at_a_time,
    rebuild_loaders,
    set_epoch,
    together,
    with_batch_sampler,
    with_sampler,
    without_dropping,
    without_shuffling,
)
from levin.utils.errors import MisconfigurationException

Pair = namedtuple("Pair", "first second")


class Stream(IterableDataset):
    def __iter__(self):
        return iter([1, 2, 3])


class SizedStream(Stream):
    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("loader", "length"),
    [(DataLoader(range(5), batch_size=2), 3), ([1, 2], 2), (DataLoader(Stream()), math.inf),
     (DataLoader(SizedStream(), batch_size=2), 2), (Stream(), math.inf), (iter([1]), math.inf)],
)  # fmt: skip
def test_a_length_is_known_or_infinite(loader, length):
    assert length_of(loader) == length


ONE, TWO, THREE = range(1), range(2), range(3)
COLLECTIONS = [
    ([ONE], [ONE]), ((ONE, TWO), [ONE, TWO]), ({"a": ONE, "b": [TWO, (THREE,)]}, [ONE, TWO, THREE]),
    (Pair(ONE, [TWO]), [ONE, TWO]), (ONE, [ONE]), (OrderedDict(a=ONE), [ONE]), ([], []),
    (defaultdict(list, a=[ONE]), [ONE]),
]  # fmt: skip


@pytest.mark.parametrize(("loaders", "flat"), COLLECTIONS)
def test_nested_loaders_are_found_in_order(loaders, flat):
    assert flatten(loaders) == flat


@pytest.mark.parametrize("loaders", [collection for collection, _ in COLLECTIONS if collection])
def test_changed_loaders_stand_in_the_same_collection(loaders):
    seen = []
    rebuilt = rebuild_loaders(loaders, lambda loader: seen.append(loader) or loader)
    assert rebuilt == loaders
    assert type(rebuilt) is type(loaders)
    assert seen == flatten(loaders)


def test_loaders_are_trained_on_together_in_max_size_cycle():
    assert list(together([DataLoader([1, 2]), DataLoader([3])], Readers()))[1] == [
        torch.tensor([2]),
        torch.tensor([3]),
    ]
    assert length_of(together([DataLoader(range(2)), DataLoader(range(5))], Readers())) == 5
    assert length_of(together([DataLoader(range(2)), DataLoader(Stream())], Readers())) == math.inf


@pytest.mark.parametrize(("mode", "length"), [("min_size", 2), ("max_size", 5), ("max_size_cycle", 5)])
def test_a_combined_loader_is_as_long_as_its_mode_says(mode, length):
    combined = CombinedLoader([DataLoader(range(2)), DataLoader(range(5))], mode)
    assert length_of(together(combined, Readers())) == length
    assert len(list(together(combined, Readers()))) == length


def test_evaluations_take_loaders_one_after_another_unless_told_otherwise():
    loaders = [DataLoader(range(2)), DataLoader(range(5))]
    for given in (loaders, CombinedLoader(loaders, "sequential")):
        assert [reader.loader for reader in one_at_a_time(given, Readers())] == loaders
    assert [length_of(each) for each in one_at_a_time(CombinedLoader(loaders, "min_size"), Readers())] == [2]


def test_limits_of_a_combined_loader_are_the_trainers():
    combined = CombinedLoader([range(3), range(4)], "min_size")
    combined.limits = 1
    [loader] = one_at_a_time(combined, Readers())
    assert len(list(loader)) == 3
    assert combined.limits is None


# ---------------------------------------------------------------------- samplers


@pytest.fixture
def loader():
    return DataLoader(
        range(5), batch_size=2, shuffle=True, drop_last=True, collate_fn=tuple, timeout=0,
        generator=torch.Generator().manual_seed(1), worker_init_fn=print,
    )  # fmt: skip


KEPT = ("dataset", "collate_fn", "generator", "worker_init_fn", "num_workers", "pin_memory")


@pytest.mark.parametrize(
    "change",
    [lambda loader: with_sampler(loader, SequentialSampler(range(5))), without_dropping,
     lambda loader: with_batch_sampler(loader, BatchSampler([0, 1], 1, drop_last=False))],
)  # fmt: skip
def test_a_loader_with_another_sampler_is_the_same_otherwise(loader, change):
    changed = change(loader)
    assert changed is not loader
    assert all(getattr(changed, name) is getattr(loader, name) for name in KEPT)


def test_a_loader_with_another_sampler_does_not_read_by_workers_that_have_the_first():
    loader = DataLoader(
        torch.arange(4), batch_size=None, sampler=[3, 2], num_workers=1, persistent_workers=True
    )
    changed = with_sampler(loader, [0, 1])
    try:
        assert [int(row) for row in loader] == [3, 2]
        later = with_sampler(loader, [0, 1])
        assert [int(row) for row in later] == [int(row) for row in changed] == [0, 1]
    finally:
        for each in (loader, changed, later):
            stop_workers(each)


class Scaled(DataLoader):
    """A loader of the user's own, whose arguments are not all DataLoader's."""

    def __init__(self, data, scale, **kwargs):
        super().__init__(data, **kwargs)
        self.scale = scale

    def __iter__(self):
        return (batch * self.scale for batch in super().__iter__())


@pytest.mark.filterwarnings("ignore:`overfit_batches`")
def test_a_loader_of_the_users_own_class_stays_what_it_is():
    whole = without_dropping(Scaled(range(3), 10, batch_size=2, drop_last=True))
    ordered = without_shuffling(Scaled(range(2), 10, shuffle=True))
    assert [batch.tolist() for batch in whole] == [[0, 10], [20]]
    assert [batch.tolist() for batch in ordered] == [[0], [10]]
    assert type(whole) is type(ordered) is Scaled


def test_a_loader_of_single_rows_stays_one():
    rows = DataLoader(range(3), batch_size=None, sampler=[2, 1, 0])
    assert list(with_sampler(rows, SequentialSampler(range(3)))) == [0, 1, 2]


def test_a_changed_loader_leaves_the_given_one_as_it_is(loader):
    changed = with_sampler(loader, SequentialSampler(range(5)))
    assert loader.sampler is not changed.sampler
    assert len(without_dropping(loader)) == 3
    assert (len(loader), loader.drop_last) == (2, True)


def test_another_sampler_gives_another_order_in_batches_of_the_same_size(loader):
    assert list(with_sampler(loader, SequentialSampler(range(5)))) == [(0, 1), (2, 3)]


def test_predictions_need_all_rows_in_the_loaders_order(loader):
    rows = [row for batch in without_dropping(loader) for row in batch]
    assert sorted(rows) == [0, 1, 2, 3, 4]
    assert rows != sorted(rows)  # it shuffles, and with this seed that shows


@pytest.mark.parametrize(
    "make", [lambda: DataLoader(range(5), 2), lambda: DataLoader(Stream(), 2), lambda: [1, 2]]
)
def test_a_loader_that_drops_nothing_or_has_no_batches_to_sample_is_left_alone(make):
    loader = make()
    assert without_dropping(loader) is loader


@pytest.mark.parametrize("make", [lambda: DataLoader(range(5)), lambda: DataLoader(Stream()), lambda: [1, 2]])
def test_a_loader_that_does_not_shuffle_needs_no_other_sampler(make):
    loader = make()
    assert without_shuffling(loader) is loader


def test_a_loader_that_shuffles_is_replaced_by_one_in_order(loader):
    with pytest.warns(UserWarning, match="no shuffling"):
        assert list(without_shuffling(loader)) == [(0, 1), (2, 3)]


def test_samplers_that_shuffle_by_epoch_are_told_which_one_it_is():
    class Sampler(SequentialSampler):
        epoch = None

        def set_epoch(self, epoch):
            self.epoch = epoch

    plain, batched = Sampler([1]), Sampler([1])
    loaders = {
        "a": DataLoader([1], sampler=plain),
        "b": [DataLoader([1], batch_sampler=BatchSampler(batched, 1, False))],
    }
    set_epoch(loaders, 3)
    assert (plain.epoch, batched.epoch) == (3, 3)


# ---------------------------------------------------------------------- whose data, whose transfer


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return THREE


class Module(L.LightningModule):
    def train_dataloader(self):
        return TWO

    def val_dataloader(self):
        return TWO


@pytest.fixture
def run(trainer):
    """A run that has a module."""
    trainer.run.attached = Module()
    return trainer.run


def test_what_was_passed_goes_before_the_modules_hook(run):
    assert DataSource(run, {"train": ONE, "val": None}).load("train") == ONE
    assert DataSource(run, {"train": None}).load("train") == TWO


def test_a_data_module_takes_the_modules_place_altogether(run):
    run.datamodule = Data()
    source = DataSource(run, {})
    assert source.load("train") == THREE
    assert not source.has("val")
    with pytest.raises(MisconfigurationException, match="`val_dataloader` must be implemented by Data"):
        source.load("val")


def test_a_batch_is_moved_through_the_hooks_of_whoever_overrides_them(run):
    run.attached.on_before_batch_transfer = lambda batch, dataloader_idx: [*batch, "before", dataloader_idx]
    run.attached.on_after_batch_transfer = lambda batch, dataloader_idx: [*batch, "after"]
    assert batch_mover(run)(["batch"], 1) == ["batch", "before", 1, "after"]


def test_a_data_modules_transfer_hook_goes_before_the_modules_and_that_is_told(run):
    run.attached.on_after_batch_transfer = lambda batch, dataloader_idx: [*batch, "module"]
    run.datamodule = Data()
    with pytest.warns(UserWarning, match="overridden by the module, beside a data module: it is used"):
        assert batch_mover(run)(["batch"]) == ["batch", "module"]
    run.datamodule.on_after_batch_transfer = lambda batch, dataloader_idx: [*batch, "data"]
    with pytest.warns(UserWarning, match="on_after_batch_transfer"):
        assert batch_mover(run)(["batch"]) == ["batch", "data"]


def test_a_precision_converts_a_batch_before_anybody_else_sees_it(run):
    class Halving(Precision):
        def convert_input(self, data):
            return [value / 2 for value in data]

    run.strategy.set_precision(Halving())
    run.attached.on_before_batch_transfer = lambda batch, dataloader_idx: [*batch, "hook"]
    assert batch_mover(run)([2.0]) == [1.0, "hook"]
