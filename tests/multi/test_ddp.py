"""Training by several processes gives the numbers of a single one."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import levin as L
from levin.callbacks import GradientAccumulationScheduler
from levin.testing.processes import in_processes
from levin.utils.errors import MisconfigurationException

pytestmark = [pytest.mark.multi, pytest.mark.filterwarnings("ignore:.*there is no validation data")]


class Regression(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.net(x) - y) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val", ((self.net(x) - y) ** 2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def numbers(size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return TensorDataset(x, x.sum(1, keepdim=True))


def trainer(world, **kwargs):
    quiet = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 2, "accelerator": "cpu", "devices": world,
    }  # fmt: skip
    return L.Trainer(**{**quiet, **kwargs})


def train(world, kwargs):
    L.seed_everything(7, verbose=False)
    module = Regression()
    data = numbers(32)
    fit = trainer(world, **kwargs)
    fit.fit(
        module,
        DataLoader(data, batch_size=8 // world, shuffle=False),
        DataLoader(data, batch_size=5),
    )
    values = {name: value.item() for name, value in fit.callback_metrics.items() if "step" not in name}
    return [p.tolist() for p in module.parameters()], values


def assert_same(weights, others):
    for mine, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.1}],
    ids=["plain", "accumulation", "clipping"],
)
@pytest.mark.parametrize("world", [2, 4])
def test_weights_and_epoch_values_are_those_of_one_process(world, kwargs):
    weights, values = train(1, kwargs)
    for others, others_values in in_processes(train, world, world, kwargs):
        assert_same(weights, others)
        assert others_values == pytest.approx(values, rel=1e-6)


def train_with_global_batches(world, size, kwargs):
    L.seed_everything(7, verbose=False)
    module = Regression()
    fit = trainer(world, global_batch_size=8, **kwargs)
    fit.fit(
        module, DataLoader(numbers(size), batch_size=64, shuffle=True), DataLoader(numbers(11), batch_size=3)
    )
    values = {name: value.item() for name, value in fit.callback_metrics.items() if "step" not in name}
    return [p.tolist() for p in module.parameters()], values, fit.global_step


@pytest.mark.parametrize(
    ("size", "kwargs"),
    [
        (32, {}),
        (29, {}),
        (17, {"accumulate_grad_batches": 2}),
        (30, {"accumulate_grad_batches": 2, "limit_train_batches": 5, "gradient_clip_val": 0.5}),
    ],
    ids=["full", "short_last", "one_left", "limited"],
)
def test_a_global_batch_size_gives_the_same_training_for_any_number_of_processes(size, kwargs):
    weights, values, steps = train_with_global_batches(1, size, kwargs)
    for world in (2, 4):
        for others, others_values, others_steps in in_processes(
            train_with_global_batches, world, world, size, kwargs
        ):
            assert others_steps == steps
            assert_same(weights, others)
            assert others_values == pytest.approx(values, rel=1e-6)


def test_a_step_over_a_global_batch_is_one_over_its_samples():
    """The last step has 5 samples, in two micro batches, the second of them short."""
    weights, _, _ = train_with_global_batches(1, 29, {"accumulate_grad_batches": 2, "max_epochs": 1})
    L.seed_everything(7, verbose=False)
    module, data = Regression(), numbers(29)
    optimizer = module.configure_optimizers()
    order = torch.randperm(29, generator=torch.Generator().manual_seed(7))
    for indices in order.split(8):
        x, y = data[indices]
        optimizer.zero_grad()
        ((module.net(x) - y) ** 2).mean().backward()
        optimizer.step()
    assert_same(weights, [each.tolist() for each in module.parameters()])


def test_a_global_batch_size_does_not_divide_again_what_is_divided():
    data = numbers(32)
    part = DistributedSampler(data, num_replicas=2, rank=0)
    with pytest.raises(MisconfigurationException, match="DistributedSampler has divided it already"):
        trainer(1, global_batch_size=8).fit(Regression(), DataLoader(data, batch_size=2, sampler=part))


def test_a_global_batch_size_that_can_not_be_divided_is_refused_with_the_nearest():
    fit = trainer(1, global_batch_size=10, accumulate_grad_batches=4)
    with pytest.raises(MisconfigurationException, match="Use 8 or 12"):
        fit.fit(Regression(), DataLoader(numbers(32), batch_size=2))


@pytest.mark.parametrize(
    ("kwargs", "parts", "updates"),
    [
        ({"accumulate_grad_batches": 2}, "batch_size=8 x accumulate_grad_batches=2", "2 in the epoch, 4"),
        (
            {"global_batch_size": 16, "max_steps": 3},
            "batch_size=16 x accumulate_grad_batches=1",
            "2 in the epoch, 3",
        ),
        (
            {"callbacks": GradientAccumulationScheduler({0: 4, 1: 2})},
            "batch_size=8 x accumulate_grad_batches=4",
            "1 in the epoch, 3",
        ),
    ],
    ids=["accumulation", "global_batch_size", "scheduled"],
)
def test_the_size_of_an_update_is_said(kwargs, parts, updates, said):
    trainer(1, **kwargs).fit(Regression(), DataLoader(numbers(32), batch_size=8))
    assert f"samples: {parts} x world_size=1. Updates: {updates} in all." in said()


def said_by_two():
    import logging

    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("levin").addHandler(handler)
    trainer(2).fit(Regression(), DataLoader(numbers(32), batch_size=8))
    return [line for line in told if line.startswith("An update takes")]


def test_the_first_process_says_the_size_of_an_update_over_all():
    first, second = in_processes(said_by_two, 2)
    assert "An update takes 16 samples: batch_size=8 x accumulate_grad_batches=1 x world_size=2" in first[0]
    assert second == []


def alone_before_and_after_a_run_of_all():
    said = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(1)
        said.append([str(each.message) for each in caught])
        train(2, {"max_epochs": 1})
    return said


def test_that_each_process_does_a_run_alone_is_said_unless_they_have_done_one_together():
    (before, after), (_, others_after) = in_processes(alone_before_and_after_a_run_of_all, 2)
    assert "2 processes were started, and each of them does this run alone" in before[0]
    assert after == others_after == []


class Prepared(L.LightningDataModule):
    def prepare_data(self):
        self.is_prepared = True

    def train_dataloader(self):
        return DataLoader(numbers(4))


def train_in_an_error_handler():
    try:
        raise FileNotFoundError("no checkpoint to go on with")
    except FileNotFoundError:
        trainer(2).fit(Regression(), datamodule=Prepared())
    return "done"


def test_a_run_may_begin_while_the_program_handles_an_error():
    assert in_processes(train_in_an_error_handler, 2) == ["done", "done"]


class Large(Regression):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["much"] = torch.zeros(2**22)


def save_after_the_fit(folder):
    module, fit = Large(), trainer(2)
    fit.fit(module, DataLoader(numbers(4)))
    fit.save_checkpoint(f"{folder}/last.ckpt")
    return os.path.exists(f"{folder}/last.ckpt")


def test_a_checkpoint_saved_after_a_fit_is_there_for_all(tmp_path):
    assert in_processes(save_after_the_fit, 2, str(tmp_path)) == [True, True]
