from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset

from levin.core.datamodule import LightningDataModule


def rows(count):
    return TensorDataset(torch.arange(float(count)))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class SizedStream(Stream):
    def __len__(self):
        return 3


KINDS = ("train", "val", "test", "predict")


def defined(datamodule):
    return [kind for kind in KINDS if f"{kind}_dataloader" in vars(datamodule)]


# ------------------------------------------------------------ from_datasets


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_loaders_of_given_datasets_are_there(kind):
    datamodule = LightningDataModule.from_datasets(**{f"{kind}_dataset": rows(3)})
    assert defined(datamodule) == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_has_the_batch_size_and_only_training_shuffles(kind):
    datamodule = LightningDataModule.from_datasets(
        **{f"{kind}_dataset": rows(5)}, batch_size=2, num_workers=1
    )
    loader = getattr(datamodule, f"{kind}_dataloader")()
    assert (loader.batch_size, loader.num_workers, loader.pin_memory) == (2, 1, torch.cuda.is_available())
    assert type(loader.sampler) is (RandomSampler if kind == "train" else SequentialSampler)
    assert len(loader.dataset) == 5


def test_a_batch_is_one_row_by_default():
    loader = LightningDataModule.from_datasets(rows(3)).train_dataloader()
    assert (loader.batch_size, loader.num_workers) == (1, 0)


def test_each_call_makes_a_loader():
    datamodule = LightningDataModule.from_datasets(rows(3))
    assert datamodule.train_dataloader() is not datamodule.train_dataloader()


@pytest.mark.parametrize("dataset", [Stream(), SizedStream()])
def test_a_stream_is_not_shuffled(dataset):
    loader = LightningDataModule.from_datasets(dataset).train_dataloader()
    assert not isinstance(loader.sampler, RandomSampler)


def test_several_datasets_become_loaders_in_the_same_shape():
    datasets = {"a": rows(3), "b": [rows(4), Stream()]}
    datamodule = LightningDataModule.from_datasets(datasets, [rows(1), rows(2)], batch_size=2)
    train = datamodule.train_dataloader()
    assert list(train) == ["a", "b"]
    assert len(train["a"].dataset) == 3
    assert [type(loader) for loader in train["b"]] == [DataLoader] * 2
    assert isinstance(train["b"][0].sampler, RandomSampler)
    assert [len(loader.dataset) for loader in datamodule.val_dataloader()] == [1, 2]


class TakesNothing(LightningDataModule):
    got = ()


class TakesBatchSize(LightningDataModule):
    def __init__(self, batch_size, root="."):
        super().__init__()
        self.got = (batch_size, root)


class TakesAll(LightningDataModule):
    def __init__(self, **kwargs):
        super().__init__()
        self.got = kwargs


@pytest.mark.parametrize(
    ("cls", "more", "got"),
    [
        (TakesNothing, {}, ()),
        (TakesBatchSize, {}, (4, ".")),
        (TakesBatchSize, {"root": "data"}, (4, "data")),
        (TakesAll, {"root": "data"}, {"batch_size": 4, "num_workers": 0, "root": "data"}),
    ],
)
def test_the_constructor_gets_what_it_takes(cls, more, got):
    datamodule = cls.from_datasets(rows(1), batch_size=4, **more)
    assert type(datamodule) is cls
    assert datamodule.got == got


def test_an_argument_that_the_constructor_does_not_take_is_an_error():
    with pytest.raises(TypeError, match="root"):
        TakesNothing.from_datasets(rows(1), root="data")


# ------------------------------------------------------------ str


def shown(**hooks):
    return str(type("Data", (LightningDataModule,), hooks)()).splitlines()[0]


def test_a_data_module_shows_the_sizes_of_its_data():
    datamodule = LightningDataModule.from_datasets(rows(64), [rows(5), rows(7)], Stream())
    assert str(datamodule).splitlines() == [
        "{Train dataloader: size=64}",
        "{Validation dataloader: 1. size=5 ; 2. size=7}",
        "{Test dataloader: size=NA}",
        "{Predict dataloader: None}",
    ]


def test_nested_loaders_are_shown_one_by_one():
    loaders = {"a": DataLoader(rows(3)), "b": [DataLoader(rows(2)), DataLoader(SizedStream())]}
    line = "{Train dataloader: 1. size=3 ; 2. size=2 ; 3. size=3}"
    assert shown(train_dataloader=lambda self: loaders) == line


def test_what_is_no_dataloader_is_as_long_as_it_says():
    assert shown(train_dataloader=lambda self: range(9)) == "{Train dataloader: size=9}"


@pytest.mark.parametrize("error", [AttributeError, ValueError, ZeroDivisionError, NotImplementedError])
def test_data_that_is_not_there_yet_is_shown_as_none(error):
    def train_dataloader(self):
        raise error("call `setup` first")

    assert shown(train_dataloader=train_dataloader) == "{Train dataloader: None}"


# ------------------------------------------------------------ the rest


def test_a_data_module_begins_with_nothing():
    datamodule = LightningDataModule()
    assert (datamodule.trainer, datamodule.name, datamodule.state_dict()) == (None, None, {})
    assert datamodule.prepare_data_per_node
    assert not datamodule.allow_zero_length_dataloader_with_multiple_devices


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_no_loaders_by_default(kind):
    assert getattr(LightningDataModule(), f"{kind}_dataloader")() is None


@pytest.mark.parametrize(
    ("hook", "arguments"),
    [
        ("prepare_data", ()), ("setup", ("fit",)), ("teardown", ("fit",)), ("on_exception", (ValueError(),)),
        ("load_state_dict", ({"a": 1},)),
    ],
)  # fmt: skip
def test_hooks_do_nothing_by_default(hook, arguments):
    assert getattr(LightningDataModule(), hook)(*arguments) is None


def test_checkpoints_keep_its_hyper_parameters_under_keys_of_its_own():
    assert LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY == "datamodule_hyper_parameters"
    assert LightningDataModule.CHECKPOINT_HYPER_PARAMS_NAME == "datamodule_hparams_name"
    assert LightningDataModule.CHECKPOINT_HYPER_PARAMS_TYPE == "datamodule_hparams_type"
