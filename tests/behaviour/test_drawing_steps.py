"""Steps that draw their batches themselves, and the same from Lightning itself (`parity`)."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L

STAGES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}


def drawing(framework, each=1):
    """A module whose steps draw so many batches each, and what they drew."""
    seen = []

    class Drawing(framework.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, dataloader_iter):
            drawn = [next(dataloader_iter) for _ in range(each)]
            seen.extend((batch.tolist(), *numbers) for batch, *numbers in drawn)
            return self.weight * drawn[0][0].sum()

        def validation_step(self, dataloader_iter):
            batch, *numbers = next(dataloader_iter)
            seen.append((batch.tolist(), *numbers))

        test_step = predict_step = validation_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    return Drawing(), seen


def run(framework, kind, data, **settings):
    """What the steps drew, and the weight in the end."""
    each = settings.pop("each", 1)
    model, seen = drawing(framework, each)
    trainer = framework.Trainer(
        **{
            "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": 2,
            "enable_progress_bar": False, "enable_model_summary": False,
            "limit_val_batches": 0 if kind == "fit" else 1.0, **settings,
        }
    )  # fmt: skip
    getattr(trainer, kind)(model, data)
    return seen, model.weight.item()


def rows(count):
    return DataLoader(torch.arange(float(count)))


class Rows:
    """As many rows, and nobody knows how many."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(torch.arange(float(self.count)).view(-1, 1))


@pytest.mark.parametrize("kind", STAGES)
def test_a_step_may_draw_its_batches_itself(kind):
    seen, _ = run(L, kind, rows(3), max_epochs=1)
    assert seen == [([0.0], 0, 0), ([1.0], 1, 0), ([2.0], 2, 0)]


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_the_numbers_of_several_loaders_come_with_their_batches(kind):
    seen, _ = run(L, kind, [rows(1), rows(2)])
    assert seen == [([0.0], 0, 0), ([0.0], 0, 1), ([1.0], 1, 1)]


@pytest.mark.parametrize("data", [rows(6), Rows(6)], ids=["known", "unknown"])
def test_a_pass_is_over_when_nothing_is_left_to_draw(quiet, data):
    model, seen = drawing(L, each=2)
    trainer = quiet(max_epochs=2, limit_val_batches=0)
    trainer.fit(model, data)
    assert [number for _, number, _ in seen] == [*range(6)] * 2
    assert trainer.global_step == 6


def test_a_limit_is_one_of_batches_drawn():
    seen, _ = run(L, "fit", rows(6), max_epochs=1, limit_train_batches=4, each=2)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("data", "each", "weight"),
    # of two steps with rows 0 and 1, then one with 2; drawing two, of rows 0 and 2, then 4
    [(rows(3), 1, (0 + 1) / 2 + 2 / 2), (Rows(3), 1, (0 + 1) / 2 + 2 / 2), (rows(6), 2, (0 + 2) / 2 + 4 / 2)],
    ids=["known", "unknown", "two at a time"],
)
def test_the_end_of_the_data_ends_a_window_and_is_when_to_validate(quiet, data, each, weight):
    model, seen = drawing(L, each)
    when = []
    model.on_validation_start = lambda: when.append(len(seen))
    quiet(max_epochs=1, accumulate_grad_batches=2).fit(model, data, rows(1))
    assert model.weight.item() == -weight
    assert when == [3 * each]


def test_a_step_that_runs_out_of_data_ends_the_epoch(quiet):
    model, seen = drawing(L, each=2)
    trainer = quiet(max_epochs=2, limit_val_batches=0)
    trainer.fit(model, rows(3))
    assert trainer.global_step == 2
    assert trainer.current_epoch == 2
    assert len(seen) == 4


def test_batches_are_as_the_loader_made_them(quiet):
    model, seen = drawing(L)
    model.on_after_batch_transfer = lambda batch, dataloader_idx: batch * 10
    quiet(max_epochs=1, limit_val_batches=0).fit(model, rows(2))
    assert [batch for batch, *_ in seen] == [[0.0], [1.0]]


def test_the_iterator_tells_how_far_it_is(quiet):
    told = []
    model, _ = drawing(L)

    def validation_step(dataloader_iter):
        before = (dataloader_iter.done, dataloader_iter.fetched, dataloader_iter.length)
        next(dataloader_iter)
        told.append((before, (dataloader_iter.done, dataloader_iter.fetched)))

    model.validation_step = validation_step
    quiet().validate(model, rows(2))
    assert told == [((False, 0, 2), (False, 1)), ((False, 1, 2), (True, 2))]


def test_a_batch_that_was_drawn_weighs_what_is_logged(quiet):
    model, _ = drawing(L)

    def validation_step(dataloader_iter):
        model.log("mean", next(dataloader_iter)[0].mean())

    model.validation_step = validation_step
    [logged] = quiet().validate(model, DataLoader(torch.arange(5.0), batch_size=4), verbose=False)
    assert logged == {"mean": 2.0}


# ---------------------------------------------------------------------- the same in Lightning


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("data", [rows(4), Rows(4)], ids=["known", "unknown"])
@pytest.mark.parametrize("settings", [{}, {"each": 2}, {"limit_train_batches": 2}], ids=str)
def test_lightning_lets_steps_draw_alike(kind, data, settings):
    lightning = pytest.importorskip("lightning.pytorch")
    assert run(L, kind, data, **settings) == run(lightning, kind, data, **settings)
