"""Worker processes of loaders: how many live at a time, when they end, and what they draw at random."""

from __future__ import annotations

import multiprocessing
import os
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.utils.seed import pl_worker_init_function

FORKS = [0]


def count_fork():
    FORKS[0] += 1


os.register_at_fork(after_in_parent=count_fork)


def num_workers():
    return len(multiprocessing.active_children())


class Counting(L.LightningModule):
    """Notes how many workers are alive at each of its steps and hooks: the most, by name."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.alive = {}

    def note(self, name):
        self.alive[name] = max(self.alive.get(name, 0), num_workers())

    def training_step(self, batch, batch_idx):
        self.note("train")
        return self.weight * 1

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("sanity" if self.trainer.sanity_checking else "val")

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("test")

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("predict")

    def on_train_epoch_end(self):
        self.note("end")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(**settings):
    return DataLoader(torch.arange(4.0), **{"num_workers": 2, **settings})


@pytest.fixture(autouse=True)
def no_workers_yet():
    assert num_workers() == 0
    FORKS[0] = 0


LOADERS = {
    "one": lambda: (loader(), loader()),
    "several to validate on": lambda: (loader(), [loader(), loader()]),
    "several to train on": lambda: ({"a": loader(num_workers=1), "b": loader(num_workers=1)}, loader()),
}


@pytest.mark.parametrize("loaders", LOADERS.values(), ids=LOADERS.keys())
@pytest.mark.parametrize("settings", [{}, {"limit_train_batches": 2, "limit_val_batches": 2}], ids=str)
def test_one_pool_is_alive_at_a_time(quiet, loaders, settings):
    model = Counting()
    quiet(max_epochs=2, num_sanity_val_steps=2, **settings).fit(model, *loaders())
    assert model.alive == {"sanity": 2, "train": 2, "val": 2, "end": 0}
    assert num_workers() == 0


def test_a_validation_within_an_epoch_comes_beside_the_workers_of_the_training(quiet):
    model = Counting()
    quiet(max_epochs=1, val_check_interval=2).fit(model, loader(), loader())
    assert model.alive == {"train": 2, "val": 4, "end": 0}


def test_as_many_are_started_as_in_a_loop_of_ones_own(quiet):
    quiet(max_epochs=3).fit(Counting(), loader(), loader())
    assert FORKS[0] == 3 * (2 + 2)


def test_loaders_that_keep_their_workers_start_them_once(quiet):
    trainer, model = quiet(max_epochs=5, num_sanity_val_steps=2), Counting()
    train, val = loader(persistent_workers=True), loader(persistent_workers=True)
    trainer.fit(model, train, val)
    assert FORKS[0] == 4
    assert model.alive["val"] == 4
    assert num_workers() == 0  # they end with the run, though the loaders live on
    trainer.validate(model, val)
    assert (FORKS[0], num_workers()) == (6, 0)


def test_a_loader_that_is_replaced_keeps_no_workers_and_one_that_stays_keeps_its_own(quiet):
    model, made = Counting(), []
    same = loader(num_workers=1, persistent_workers=True)

    def anew():
        made.append(loader(num_workers=1, persistent_workers=True))
        return {"new": made[-1], "same": same}

    model.train_dataloader = anew
    model.val_dataloader = lambda: list(anew().values())[:1]
    quiet(max_epochs=3, num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=1).fit(model)
    assert len(made) == 6  # somebody holds them all
    assert model.alive == {"train": 3, "val": 3, "end": 3}
    assert FORKS[0] == 6 + 1
    assert num_workers() == 0


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
@pytest.mark.parametrize("keeps", [False, True])
def test_an_evaluation_opens_its_loaders_in_turn(quiet, kind, keeps):
    model = Counting()
    loaders = [loader(), loader(drop_last=True, persistent_workers=keeps)]
    getattr(quiet(), kind)(model, loaders)
    assert model.alive == {{"validate": "val"}.get(kind, kind): 2}
    assert num_workers() == 0


@pytest.mark.parametrize("stop", [{"max_steps": 2}, {"limit_train_batches": 2}])
def test_workers_end_with_an_epoch_that_is_cut_short(quiet, stop):
    model = Counting()
    quiet(max_epochs=2, limit_val_batches=0, **stop).fit(model, loader())
    assert model.alive == {"train": 2, "end": 0}


@pytest.mark.parametrize("name", ["training_step", "on_validation_start", "validation_step", "test_step"])
@pytest.mark.parametrize("keeps", [False, True])
def test_workers_end_with_an_error_even_while_somebody_looks_at_it(quiet, name, keeps):
    def fail(*_):
        assert num_workers() > 0
        raise ArithmeticError

    model, trainer = Counting(), quiet(max_epochs=1)
    setattr(model, name, fail)
    loaders = [loader(persistent_workers=keeps), loader(persistent_workers=keeps)]
    with pytest.raises(ArithmeticError) as caught:
        trainer.test(model, loaders[0]) if name == "test_step" else trainer.fit(model, *loaders)
    assert caught.traceback
    assert num_workers() == 0


# ---------------------------------------------------------------------- what they draw


class Draws(Dataset):
    """Each sample is what three generators give at that moment."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        values = [torch.rand(1).item(), random.random(), np.random.rand()]
        return torch.tensor(values, dtype=torch.float64)


class Drawing(L.LightningModule):
    """Keeps its batches; dropout draws in between, as networks do."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1, dtype=torch.float64)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return torch.nn.functional.dropout(self.layer(batch)).sum()

    def validation_step(self, batch, batch_idx):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def by_hand(model, train, val, *, epochs):
    optimizer = model.configure_optimizers()
    for _ in range(epochs):
        for index, batch in enumerate(train):
            optimizer.zero_grad()
            model.training_step(batch, index).backward()
            optimizer.step()
        for index, batch in enumerate(val):
            model.validation_step(batch, index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("keeps", [False, True])
def test_batches_and_weights_are_those_of_a_loop_of_ones_own(quiet, workers, keeps):
    def make():
        L.seed_everything(3, verbose=False)
        settings = {"num_workers": workers, "persistent_workers": keeps and workers > 0}
        return Drawing(), DataLoader(Draws(), shuffle=True, **settings), DataLoader(Draws(), **settings)

    raw, train, val = make()
    by_hand(raw, train, val, epochs=3)
    del train, val
    model, train, val = make()
    quiet(max_epochs=3, worker_seeds="torch").fit(model, train, val)
    assert torch.equal(torch.cat(model.seen), torch.cat(raw.seen))
    assert torch.equal(model.layer.weight, raw.layer.weight)


@pytest.fixture
def seeded_workers():
    L.seed_everything(1, workers=True, verbose=False)
    yield
    L.seed_everything(1, workers=False, verbose=False)


@pytest.mark.usefixtures("seeded_workers")
def test_workers_get_streams_of_their_own_if_asked_for(quiet):
    def own(worker_id):
        pass

    train, other = loader(), loader(worker_init_fn=own)
    quiet(max_epochs=1, limit_val_batches=0).fit(Counting(), [train, other])
    assert (train.worker_init_fn.func, train.worker_init_fn.keywords) == (
        pl_worker_init_function,
        {"rank": 0},
    )
    assert other.worker_init_fn is own


@pytest.mark.usefixtures("seeded_workers")
@pytest.mark.parametrize("kind", ["fit", "validate", "test", "predict"])
def test_in_all_kinds_of_runs(quiet, kind):
    data = loader(num_workers=0)
    getattr(quiet(max_epochs=1, limit_val_batches=1), kind)(
        Counting(), data, *([data] if kind == "fit" else [])
    )
    assert data.worker_init_fn is not None


def test_workers_are_left_alone_otherwise(quiet):
    data = loader()
    quiet(max_epochs=1, limit_val_batches=0).fit(Counting(), data)
    assert data.worker_init_fn is None


# ---------------------------------------------------------------------- what they make one wait


class SlowRows(Dataset):
    """Each row takes some seconds of the clock's time."""

    def __init__(self, clock, seconds, count=100):
        self.clock, self.seconds, self.count = clock, seconds, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.clock.now += self.seconds
        return torch.tensor(float(index))


@pytest.fixture
def timer(monkeypatch, clock):
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


@pytest.fixture
def fit_slowly(quiet, noting, timer):
    """Fit with a step of 1 ms on rows that take some time; returns the trainer."""

    def fit(seconds, validate=0.0, **settings):
        def step(batch):
            timer.now += 0.001
            return noting.weight * 1

        def validation_step(batch):
            timer.now += validate

        noting.training_step, noting.validation_step = step, validation_step
        trainer = quiet(**{"max_epochs": 2, **settings})
        trainer.fit(noting, DataLoader(SlowRows(timer, seconds)), DataLoader(torch.zeros(3)))
        return trainer

    return fit


@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 10}, {"max_steps": 50}], ids=str)
def test_the_share_of_waiting_is_measured_apart_from_validation(fit_slowly, settings):
    trainer = fit_slowly(0.005, validate=0.5, **settings)
    assert trainer.data_wait_share == pytest.approx(5 / 6, abs=0.01)


def test_much_waiting_is_told_once_with_what_helps(fit_slowly, said):
    fit_slowly(0.005)
    assert said().count("83% of the epoch's time went into waiting for training data") == 1


def test_little_waiting_is_not_told(fit_slowly, said):
    assert fit_slowly(0.00004).data_wait_share < 0.05
    assert "waiting" not in said()


def test_a_dev_run_is_too_short_to_tell(fit_slowly, said):
    fit_slowly(0.5, fast_dev_run=5)
    assert "waiting" not in said()


def test_before_a_fit_nobody_waited(quiet):
    assert quiet().data_wait_share == 0.0


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.usefixtures("timer")  # what it takes to send a batch depends on what else the machine does
def test_a_fast_dataset_is_not_blamed_whatever_num_workers_is(quiet, said, count):
    data = DataLoader(torch.arange(64.0), num_workers=count)
    quiet(max_epochs=1, limit_val_batches=0).fit(Counting(), data)
    assert "wait" not in said()
    assert "num_workers" not in said()
