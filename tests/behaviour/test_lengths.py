"""Loaders whose length is not what they hold: where the data ends, the pass ends; a length is a promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import levin as L
from levin.callbacks import ProgressBar

SHORT = pytest.mark.filterwarnings("ignore:A .* dataloader gave")


class Says:
    """``Says(length, count)``: batches 0, 1, ... up to a count, whatever its length is; notes each read."""

    def __init__(self, length, count):
        self.length, self.count, self.reads = length, count, []

    def __len__(self):
        return self.length

    def __iter__(self):
        for number in range(self.count):
            self.reads.append(number)
            yield torch.full((1,), float(number))


class Learning(L.LightningModule):
    """Trains a weight on what it is given, with all that depends on where an epoch ends."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.lasts, self.validations, self.ends = [], [], []

    def training_step(self, batch, batch_idx):
        return ((self.weight * (batch + 1)) ** 2).mean()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.lasts.append(self.trainer.is_last_batch)

    def validation_step(self, batch, batch_idx):
        self.validations.append(self.trainer.progress.total_batches)

    def on_train_epoch_end(self):
        self.ends.append((self.trainer.global_step, self.trainer.is_last_batch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def fitted(quiet, loader, model=None, **settings):
    model = Learning() if model is None else model
    trainer = quiet(**{"max_epochs": 3, **settings})
    trainer.fit(model, loader, DataLoader(torch.zeros(1)))
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    return trainer, model, (model.weight.item(), rate, trainer.global_step, trainer.current_epoch)


# ---------------------------------------------------------------------- too long a promise


def test_with_too_great_a_length_everything_happens_that_an_epochs_end_brings(quiet):
    with pytest.warns(UserWarning, match="20") as told:
        trainer, model, state = fitted(quiet, Says(20, 10))
    assert [str(warning.message)[:68] for warning in told] == [
        "A train dataloader gave 10 batches, and its length is 20. A pass end"
    ]
    _, honest, expected = fitted(quiet, Says(10, 10))
    assert state == expected
    assert model.validations == honest.validations == [10, 20, 30]
    assert model.ends == honest.ends == [(10, True), (20, True), (30, True)]
    assert trainer.num_training_batches == 10


@SHORT
def test_the_last_batch_is_known_from_the_second_epoch_on(quiet):
    _, model, _ = fitted(quiet, Says(20, 4))
    assert model.lasts == [False] * 4 + ([False] * 3 + [True]) * 2


class OwnStep(Learning):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(closure=optimizer_closure)


class ByStep(Learning):
    """Its schedule moves by step."""

    def configure_optimizers(self):
        [optimizer], [scheduler] = super().configure_optimizers()
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class OnPlateau(Learning):
    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("loss", 1.0)

    def configure_optimizers(self):
        [optimizer], _ = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "loss"}}


@SHORT
@pytest.mark.parametrize("make", [Learning, OwnStep, ByStep, OnPlateau])
@pytest.mark.parametrize("accumulate", [1, 3, 4, 5, 25])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalize_by": "samples"},
        {"on_nonfinite": "skip"},
        {"gradient_clip_val": 0.5},
        {"max_epochs": 1},
    ],
    ids=str,
)
def test_the_last_window_steps_and_the_weights_are_those_of_an_honest_loader(
    quiet, make, accumulate, settings
):
    settings = {"accumulate_grad_batches": accumulate, **settings}
    _, model, state = fitted(quiet, Says(20, 10), make(), **settings)
    _, honest, expected = fitted(quiet, Says(10, 10), make(), **settings)
    assert state == expected
    assert model.ends == honest.ends
    assert model.validations == honest.validations


@SHORT
def test_a_last_window_that_is_not_finite_is_left_out(quiet):
    class Bad(Learning):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (math.nan if batch_idx >= 8 else 1)

    settings = {"accumulate_grad_batches": 4, "on_nonfinite": "skip", "max_epochs": 1}
    with pytest.warns(UserWarning, match=r"finite"):
        _, _, state = fitted(quiet, Says(20, 10), Bad(), **settings)
    assert state[2] == 2


@SHORT
@pytest.mark.parametrize(
    ("interval", "first", "second"),
    [(1.0, [12], [12]), (0.5, [12], [6, 12]), (0.25, [6, 12], [3, 6, 9, 12]), (0.75, [12], [9]),
     (5, [5, 10], [5, 10])],
)  # fmt: skip
def test_a_share_of_an_epoch_is_corrected_after_the_first_which_has_one_validation_at_least(
    quiet, interval, first, second
):
    _, model, _ = fitted(quiet, Says(24, 12), val_check_interval=interval, max_epochs=2)
    assert model.validations == [*first, *[12 + batch for batch in second]]


@SHORT
def test_an_epoch_without_validation_has_none_at_its_unforeseen_end(quiet):
    _, model, _ = fitted(quiet, Says(20, 10), check_val_every_n_epoch=2)
    assert model.validations == [20]


@SHORT
@pytest.mark.parametrize("limit", [15, 0.75])
def test_a_limit_beyond_what_there_is_changes_nothing(quiet, limit):
    trainer, model, _ = fitted(quiet, Says(20, 10), limit_train_batches=limit)
    assert (model.validations, trainer.num_training_batches) == ([10, 20, 30], 10)


def test_a_limit_within_what_there_is_hides_the_promise(quiet):
    _, model, _ = fitted(quiet, Says(20, 10), limit_train_batches=5)  # a warning would be an error
    assert model.validations == [5, 10, 15]


class Varying(Says):
    """A filter that lets another number of batches through each time."""

    def __iter__(self):
        self.count = {10: 12, 12: 20, 20: 7}[self.count]
        return super().__iter__()


@SHORT
def test_the_number_of_batches_may_change_from_epoch_to_epoch(quiet):
    trainer, model, _ = fitted(quiet, Varying(20, 10))
    assert (model.validations, trainer.num_training_batches) == ([12, 32, 39], 7)
    assert [index + 1 for index, is_last in enumerate(model.lasts) if is_last] == [32, 39]


@SHORT
def test_progress_bars_show_what_there_is_from_the_second_epoch_on(quiet):
    class Totals(ProgressBar):
        shown = ()

        def on_train_epoch_start(self, trainer, pl_module):
            self.shown += (self.total_train_batches, self.total_val_batches)

    bar = Totals()
    trainer = quiet(max_epochs=3, enable_progress_bar=True, callbacks=[bar])
    trainer.fit(Learning(), Says(20, 10), Says(5, 2))
    assert bar.shown == (20, 5, 10, 2, 10, 2)


def test_a_loader_that_is_made_anew_each_time_is_told_once(quiet):
    class Making(Learning):
        def train_dataloader(self):
            return Says(6, 3)

    model = Making()
    with pytest.warns(UserWarning, match="gave 3 batches") as told:
        quiet(max_epochs=3, limit_val_batches=0, reload_dataloaders_every_n_epochs=1).fit(model)
    assert len(told) == 1
    assert model.lasts == [False] * 3 + [False, False, True] * 2


@SHORT
@pytest.mark.parametrize("accumulate", [1, 4])
def test_it_is_resumed_in_the_middle_of_an_epoch_as_any_other(quiet, tmp_path, accumulate):
    class Saving(Learning):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            super().on_train_batch_end(outputs, batch, batch_idx)
            if self.trainer.progress.total_batches == 8:
                self.trainer.save_checkpoint(tmp_path / "x.ckpt")

    settings = {"accumulate_grad_batches": accumulate, "max_epochs": 2}
    _, whole, expected = fitted(quiet, Says(20, 10), Saving(), **settings)
    trainer, model = quiet(**settings), Learning()
    trainer.fit(model, Says(20, 10), DataLoader(torch.zeros(1)), ckpt_path=tmp_path / "x.ckpt")
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert (model.weight.item(), rate, trainer.global_step, trainer.current_epoch) == expected
    assert model.validations == whole.validations == [10, 20]


# ---------------------------------------------------------------------- a promise that is kept, or too short


@pytest.mark.parametrize("count", [3, 9])
def test_nothing_is_read_beyond_a_length_nor_ahead_of_its_time(quiet, count):
    class Noting(Learning):
        def training_step(self, batch, batch_idx):
            loader.reads.append("step")
            return super().training_step(batch, batch_idx)

    loader = Says(3, count)
    trainer, _, _ = fitted(quiet, loader, Noting(), max_epochs=2)
    assert loader.reads == [0, "step", 1, "step", 2, "step"] * 2
    assert (trainer.num_training_batches, trainer.global_step) == (3, 6)


class Rows(IterableDataset):
    """Rows in workers: each has a share of them, and so a last batch that may not be full."""

    def __len__(self):
        return 8

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        return iter(range(worker.id, 8, worker.num_workers))


def test_a_stream_in_workers_ends_with_its_length(quiet):
    model = Learning()
    trainer = quiet(max_epochs=1, limit_val_batches=0)
    trainer.fit(model, DataLoader(Rows(), batch_size=3, num_workers=2))  # 4 + 4 rows: 2 + 2 batches, said: 3
    assert model.lasts == [False, False, True]


# ---------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_an_evaluation_ends_where_the_data_does_and_says_so_once(quiet, noting, kind):
    short, trainer = {"validate": "val"}.get(kind, kind), quiet()
    with pytest.warns(UserWarning, match=rf"A {short} dataloader gave 3 batches, and its length is 7"):
        getattr(trainer, kind)(noting, [Says(7, 3), Says(2, 2)])
    assert len(noting.noted(short)) == 5
    assert getattr(trainer, f"num_{short}_batches") == [3, 2]


def test_validations_of_a_fit_say_it_once(quiet, noting, batches):
    with pytest.warns(UserWarning, match="A val dataloader gave 3 batches") as told:
        quiet(max_epochs=3).fit(noting, batches(1), Says(7, 3))
    assert len(told) == 1
    assert len(noting.noted("val")) == 9


def test_a_validation_that_grows_is_not_cut_at_what_it_had(quiet, noting, batches):
    with pytest.warns(UserWarning, match="gave 12 batches"):
        quiet(max_epochs=2).fit(noting, batches(1), Varying(20, 10))
    assert len(noting.noted("val")) == 32


# ---------------------------------------------------------------------- what can be gone through once


def test_a_generator_that_is_used_up_is_told_once(quiet, noting):
    trainer = quiet(max_epochs=4, limit_val_batches=0)
    with pytest.warns(UserWarning, match="A train dataloader gave no batches.*begins anew") as told:
        trainer.fit(noting, (torch.ones(1) for _ in range(2)))
    assert len(told) == 1
    assert (noting.noted("train"), noting.noted("end")) == (["0.0", "0.1"], ["0", "1", "2", "3"])


def test_a_generator_to_validate_on_is_told_when_it_is_used_up(quiet, noting, batches):
    with pytest.warns(UserWarning, match="A val dataloader gave no batches.*begins anew") as told:
        quiet(max_epochs=3).fit(noting, batches(1), (torch.ones(1) for _ in range(2)))
    assert len(told) == 1
    assert noting.noted("val") == ["0.0", "0.1"]
