from __future__ import annotations

import pytest
import torch

from levin import Trainer
from levin.demos import boring_classes
from levin.testing import (
    BoringDataModule,
    BoringDataModuleNoLen,
    BoringModel,
    DemoModel,
    IterableBoringDataModule,
    ManualOptimBoringModel,
    Net,
    RandomDataset,
    RandomDictDataset,
    RandomIterableDataset,
    RandomIterableDatasetWithLen,
)
from levin.testing import models as testing_models

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 2,
}  # fmt: skip


def test_random_rows_stay_the_same():
    dataset = RandomDataset(3, 5)
    assert len(dataset) == 5
    assert dataset[4].shape == (3,)
    assert torch.equal(dataset[4], dataset[4])


def test_random_dicts_hold_a_row_twice():
    dataset = RandomDictDataset(3, 5)
    assert len(dataset) == 5
    assert torch.equal(dataset[0]["a"] + 2, dataset[0]["b"])


def test_random_iterables_give_as_many_rows_as_asked_for():
    assert [row.shape for row in RandomIterableDataset(3, 2)] == [(3,), (3,)]
    assert not hasattr(RandomIterableDataset(3, 2), "__len__")
    assert len(RandomIterableDatasetWithLen(3, 2)) == len(list(RandomIterableDatasetWithLen(3, 2))) == 2


def test_the_boring_model_returns_what_it_says():
    model = BoringModel()
    batch = torch.ones(2, 32)
    loss = (model(batch) - 1).square().mean()
    for step, key in ((model.training_step, "loss"), (model.validation_step, "x"), (model.test_step, "y")):
        assert torch.allclose(step(batch, 0)[key], loss)
    (optimizer,), (scheduler,) = model.configure_optimizers()
    assert type(optimizer) is torch.optim.SGD
    assert scheduler.optimizer is optimizer
    assert len(model.predict_dataloader()) == 64


def test_the_demo_model_has_its_hyper_parameters():
    model = DemoModel(out_dim=3, learning_rate=0.5)
    assert model(torch.ones(2, 4, 8)).shape == (2, 3)
    assert model.training_step(torch.ones(2, 32), 0).shape == ()
    assert model.configure_optimizers().param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("make", [BoringModel, ManualOptimBoringModel])
def test_training_changes_the_weights(make):
    model = make()
    before = model.layer.weight.clone()
    trainer = Trainer(**QUIET)
    trainer.fit(model)
    assert trainer.global_step == 2
    assert not torch.equal(model.layer.weight, before)


@pytest.mark.parametrize("make", [BoringDataModule, BoringDataModuleNoLen])
def test_data_modules_serve_all_four_stages(make):
    model, data, trainer = (
        BoringModel(),
        make(),
        Trainer(**QUIET, limit_test_batches=2, limit_predict_batches=2),
    )
    trainer.fit(model, datamodule=data)
    trainer.validate(model, datamodule=data, verbose=False)
    trainer.test(model, datamodule=data, verbose=False)
    assert len(trainer.predict(model, datamodule=data)) == 2


def test_the_parts_of_the_boring_data_are_disjoint():
    data = BoringDataModule()
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    parts = [data.random_train, data.random_val, data.random_test, data.random_predict]
    assert sorted(index for part in parts for index in part.indices) == list(range(256))


def test_the_iterable_data_module_has_a_sized_and_an_unsized_loader_for_each_stage():
    data = IterableBoringDataModule()
    for stage, name, count in (
        ("fit", "train", 16),
        ("validate", "val", 32),
        ("test", "test", 64),
        ("predict", "predict", 128),
    ):
        data.setup(stage)
        sized, unsized = getattr(data, f"{name}_dataloader")()
        assert len(sized) == len(list(unsized)) == count
        with pytest.raises(TypeError):
            len(unsized)


def test_the_net_gives_log_probabilities_of_ten_classes_for_each_image():
    net = Net()
    assert list(dict(net.named_children())) == ["conv1", "conv2", "dropout1", "dropout2", "fc1", "fc2"]
    given = net(torch.rand(3, 1, 28, 28))
    assert torch.allclose(given.exp().sum(dim=1), torch.ones(3))
    assert given.shape == (3, 10)


def test_the_boring_classes_are_where_programs_import_them_from():
    for name in boring_classes.__all__:
        assert getattr(boring_classes, name).__module__ == "levin.testing.models"
    models = {
        name
        for name, value in vars(testing_models).items()
        if getattr(value, "__module__", "") == testing_models.__name__
    }
    assert set(boring_classes.__all__) == {name for name in models if not name.startswith("_")}
