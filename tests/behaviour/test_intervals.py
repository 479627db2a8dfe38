"""Validations come at the same places in a fit that is interrupted and goes on as in one that is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from levin.utils.errors import MisconfigurationException

BATCHES, EPOCHS = 7, 2


pytestmark = pytest.mark.filterwarnings("ignore:The checkpoint holds the states of callbacks")


class StoppedError(Exception):
    pass


class Validated(L.LightningModule):
    """Notes (epoch, training batches, optimizer steps) at each validation; a batch takes three seconds.

    ``fails`` is the name of a hook and the number of the call of it that raises.
    """

    def __init__(self, clock, fails=(None, 0)):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.clock, (self.fails, self.left) = clock, fails
        self.places = []

    def step(self, name):
        if name == self.fails:
            self.left -= 1
            if self.left == 0:
                raise StoppedError

    def training_step(self, batch, batch_idx):
        self.step("training_step")
        self.clock.now += 3
        return self.weight * 1

    def on_train_batch_end(self, *_):
        self.step("on_train_batch_end")

    def on_validation_start(self):
        self.step("on_validation_start")

    def validation_step(self, batch, batch_idx):
        self.step("validation_step")

    def on_validation_epoch_end(self):  # from here on the validation counts as done
        progress = self.trainer.progress
        self.places.append((progress.epoch, progress.batch, progress.step))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture
def fit(quiet, clock):
    """``fit(*callbacks, fails=..., resume=..., **settings)`` -> the places of the validations."""

    def run(*callbacks, fails=(None, 0), resume=None, batches=BATCHES, **settings):
        module = Validated(clock, fails)
        settings = {"max_epochs": EPOCHS, "accumulate_grad_batches": 2, **settings}
        trainer = quiet(callbacks=list(callbacks), **settings)
        clock.now += 1000  # whatever time there is between two runs
        try:
            trainer.fit(
                module, DataLoader(torch.zeros(2 * batches), 2), DataLoader(torch.zeros(1)), ckpt_path=resume
            )
        except StoppedError:
            assert fails[0]
        return module.places

    return run


class SavesEachBatch(L.Callback):
    """Saves at each batch's end: before the validation that may follow. Notes how many there were."""

    def __init__(self, folder):
        self.folder, self.saved = folder, []

    def on_train_batch_end(self, trainer, pl_module, *_):
        path = self.folder / f"{trainer.progress.total_batches}.ckpt"
        trainer.save_checkpoint(path)
        self.saved.append((path, len(pl_module.places)))


INTERVALS = {
    "the end of the epoch": ({}, [(0, 7), (1, 7)]),
    "a share of it": ({"val_check_interval": 0.5}, [(0, 3), (0, 6), (1, 3), (1, 6)]),
    "batches of an epoch": ({"val_check_interval": 4}, [(0, 4), (1, 4)]),
    "batches": ({"val_check_interval": 4, "check_val_every_n_epoch": None}, [(0, 4), (1, 1), (1, 5)]),
    "every second epoch": ({"val_check_interval": 2, "check_val_every_n_epoch": 2}, [(1, 2), (1, 4), (1, 6)]),
    "seconds": ({"val_check_interval": timedelta(seconds=8)}, [(0, 3), (0, 6), (1, 2), (1, 5)]),
    "every 4 batches": ({"val_check_interval": L.Every(4, "batches")}, [(0, 4), (1, 1), (1, 5)]),
    "every 3 updates": ({"val_check_interval": L.Every(3, "updates")}, [(0, 6), (1, 4)]),
    "every 5 samples": (
        {"val_check_interval": L.Every(5, "samples")},
        [(0, 3), (0, 5), (1, 1), (1, 3), (1, 6)],
    ),
    "every 3 updates in second epochs": (
        {"val_check_interval": L.Every(3, "updates"), "check_val_every_n_epoch": 2},
        [(1, 4)],
    ),
}
intervals = pytest.mark.parametrize(("settings", "places"), INTERVALS.values(), ids=INTERVALS)


@intervals
def test_a_fit_that_goes_on_from_any_batch_validates_where_it_would_have(fit, tmp_path, settings, places):
    saves = SavesEachBatch(tmp_path)
    whole = fit(saves, **settings)
    assert [place[:2] for place in whole] == places
    for path, before in saves.saved:
        assert fit(resume=path, **settings) == whole[before:], path.name


@intervals
def test_a_checkpoint_of_a_validation_neither_repeats_it_nor_skips_one(fit, tmp_path, settings, places):
    saving = ModelCheckpoint(tmp_path, "{step}-{epoch}", save_top_k=-1, save_on_train_epoch_end=False)
    whole = fit(saving, enable_checkpointing=True, **settings)
    paths = sorted(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    assert len(paths) == len(whole) == len(places)
    for number, path in enumerate(paths, start=1):
        assert fit(resume=path, **settings) == whole[number:]


@pytest.mark.parametrize(
    "fails",
    [("training_step", 6), ("on_train_batch_end", 6), ("on_validation_start", 1), ("validation_step", 1)],
    ids=str,
)
@intervals
def test_an_exception_anywhere_leaves_out_nothing(fit, tmp_path, settings, places, fails):
    whole = fit(**settings)
    saving = OnExceptionCheckpoint(tmp_path)
    first = fit(saving, fails=fails, enable_checkpointing=True, **settings)
    assert first + fit(resume=saving.ckpt_path, **settings) == whole


@pytest.mark.parametrize("max_steps", range(1, 10))
def test_max_steps_does_not_shift_what_goes_by_updates(fit, tmp_path, max_steps):
    settings = {"accumulate_grad_batches": 4, "batches": 18, "val_check_interval": L.Every(4, "updates")}

    def updates(*callbacks, **more):
        return [step for *_, step in fit(*callbacks, max_epochs=-1, **settings, **more)]

    assert updates(max_steps=13) == [4, 8, 12]
    saving = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    first = updates(saving, max_steps=max_steps, enable_checkpointing=True)
    assert first + updates(max_steps=13, resume=saving.best_model_path) == [4, 8, 12]


# ---------------------------------------------------------------------- what an Every is


def test_updates_are_the_steps_of_all_optimizers(quiet, noting, batches):
    noting.automatic_optimization, steps = False, []
    noting.configure_optimizers = lambda: [torch.optim.SGD(noting.parameters(), 1.0) for _ in range(2)]

    def training_step(batch, batch_idx):
        for optimizer in noting.optimizers()[: 1 + batch_idx % 2]:
            optimizer.step()

    noting.training_step = training_step
    noting.on_validation_start = lambda: steps.append(noting.global_step)
    quiet(max_epochs=1, val_check_interval=L.Every(4, "updates")).fit(noting, batches(12), batches(1))
    assert steps == [4, 9, 12, 16]  # 1, 3, 4, 6, 7, 9, ... after each batch


def test_samples_are_counted_only_if_validations_go_by_them(quiet, noting, batches):
    for interval, samples in ((1.0, 0), (L.Every(3, "samples"), 5)):
        trainer = quiet(max_epochs=1, val_check_interval=interval)
        trainer.fit(noting, batches(5), batches(1))
        assert trainer.progress.samples == samples


def test_a_validation_that_a_stop_forces_does_not_move_the_next_ones(quiet, noting, batches):
    places = []
    noting.on_validation_start = lambda: places.append(noting.global_step)
    trainer = quiet(max_epochs=1, val_check_interval=L.Every(4, "updates"))
    noting.on_train_batch_end = lambda *_: setattr(trainer, "should_stop", trainer.global_step == 2)
    trainer.fit(noting, batches(6), batches(1))
    trainer.max_epochs = 3
    trainer.fit(noting, batches(6), batches(1))
    assert places == [2, 4, 8, 12]


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2", None])
def test_an_every_takes_whole_numbers(n):
    with pytest.raises(MisconfigurationException, match="n is a whole number from 1 on"):
        L.Every(n, "updates")


@pytest.mark.parametrize(
    ("unit", "hint"),
    [
        ("epochs", "Say check_val_every_n_epoch=3."),
        ("seconds", r"Say val_check_interval=timedelta\(seconds=3\)."),
        ("steps", r'Say Every\(3, "updates"\).'),
        ("batch", "Did you mean 'batches'?"),
        ("years", r"\['batches', 'updates', 'samples'\].$"),
    ],
)
def test_another_unit_is_refused_with_what_says_it(unit, hint):
    with pytest.raises(MisconfigurationException, match=hint):
        L.Every(3, unit)


def test_an_every_compares_and_shows_itself():
    assert L.Every(2, "samples") == L.Every(2, "samples") != L.Every(2, "updates")
    assert repr(L.Every(2, "samples")) == "Every(n=2, unit='samples')"
