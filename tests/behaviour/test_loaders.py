"""What may be given as data, what a step gets of it, and the same from Lightning itself (`parity`)."""

from __future__ import annotations

import importlib
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import levin as L

Pair = namedtuple("Pair", "first second")
STAGES = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}


@dataclass
class Named:
    """A batch of the user's own class, with more than tensors in it."""

    x: torch.Tensor
    names: list[str]
    none: None = None


def plain(batch):
    """A batch as plain values, with its containers' names."""
    if isinstance(batch, torch.Tensor):
        return batch.flatten().tolist()
    if isinstance(batch, dict):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, Named):
        return ["Named", plain(batch.x), batch.names, batch.none]
    if isinstance(batch, (list, tuple)):
        return [*([type(batch).__name__] if type(batch) is not list else []), *map(plain, batch)]
    return batch


def run(framework, kind, data, **settings):
    """What the step of one kind of run got: batch, batch_idx, dataloader_idx of each call."""
    seen = []

    class Seeing(framework.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, batch_idx):
            seen.append((plain(batch), batch_idx, 0))
            return self.weight * 1

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            seen.append((plain(batch), batch_idx, dataloader_idx))

        test_step = predict_step = validation_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = framework.Trainer(
        **{
            "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": 1,
            "enable_progress_bar": False, "enable_model_summary": False,
            "limit_val_batches": 0 if kind == "fit" else 1.0, **settings,
        }
    )  # fmt: skip
    getattr(trainer, kind)(Seeing(), data)
    return seen


def of(framework, *args):
    """A CombinedLoader of the framework."""
    name = "levin.data" if framework is L else "lightning.pytorch.utilities"
    return importlib.import_module(name).CombinedLoader(*args)


class Rows(IterableDataset):
    """``Rows(n)``: the numbers up to n, and nobody knows how many."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


class OldStyle:
    """A sequence by ``__getitem__`` alone."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index > 1:
            raise IndexError
        return index


class Unsized:
    """Its ``__len__`` says that there is none."""

    def __iter__(self):
        return iter([7, 8])

    def __len__(self):
        raise NotImplementedError


def numbers(count, first=0):
    return DataLoader(range(first, first + count))


def values(*items):
    """A loader whose batches are just these."""
    return DataLoader(items, batch_size=None, collate_fn=lambda item: item)


ONE = {
    "a DataLoader": (lambda: numbers(2), [[0], [1]]),
    "of a stream": (lambda: DataLoader(Rows(3), batch_size=2), [[0, 1], [2]]),
    "a stream": (lambda: Rows(2), [0, 1]),
    "a range": (lambda: range(2), [0, 1]),
    "a generator": (lambda: (number for number in range(2)), [0, 1]),
    "an iterator": (lambda: iter([5, 6]), [5, 6]),
    "a list of numbers": (lambda: [1.0, 2.0], [1.0, 2.0]),
    "a tuple of texts": (lambda: ("ab", "c"), ["ab", "c"]),
    "a list of both": (lambda: [1, "a", True], [1, "a", True]),
    "a sequence of old": (OldStyle, [0, 1]),
    "without a length": (Unsized, [7, 8]),
    "a list in a list": (lambda: [[1, 2]], {"fit": [[1], [2]], "": [1, 2]}),
    "dicts": (lambda: values({"a": torch.ones(1), "b": {"c": "x"}}), [{"a": [1.0], "b": {"c": "x"}}]),
    "lists": (lambda: values([torch.ones(1), [torch.zeros(1)]]), [[[1.0], [[0.0]]]]),
    "tuples": (lambda: values((torch.ones(1), 2, "x", None)), [["tuple", [1.0], 2, "x", None]]),
    "named tuples": (lambda: values(Pair(torch.ones(1), "x")), [["Pair", [1.0], "x"]]),
    "dataclasses": (lambda: values(Named(torch.ones(1), ["x"])), [["Named", [1.0], ["x"], None]]),
    "ordered dicts": (lambda: values(OrderedDict(b=1, a=torch.ones(1))), [{"b": 1, "a": [1.0]}]),
    "texts": (lambda: values("some", "text"), ["some", "text"]),
}  # fmt: skip

SEVERAL = {
    "a list": lambda: [numbers(2), numbers(3, 10)],
    "a tuple": lambda: (numbers(2), numbers(3, 10)),
    "a dict": lambda: {"a": numbers(2), "b": numbers(3, 10)},
    "a named tuple": lambda: Pair(numbers(2), numbers(3, 10)),
    "nested": lambda: {"a": numbers(2), "b": [numbers(3, 10), (numbers(1, 20),)]},
    "named streams": lambda: {"a": DataLoader(Rows(1)), "b": DataLoader(Rows(3))},
    "a list of batches": lambda: [torch.ones(1), torch.zeros(2)],
    "lists of numbers": lambda: {"a": [1, 2], "b": [3]},
}


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("name", ONE)
def test_one_loader_may_be_whatever_can_be_iterated_over(kind, name):
    make, batches = ONE[name]
    if isinstance(batches, dict):
        batches = batches.get(kind, batches[""])
    assert run(L, kind, make()) == [(batch, index, 0) for index, batch in enumerate(batches)]


TRAINED = {
    "a list": [[[0], [10]], [[1], [11]], [[0], [12]]],
    "a tuple": [["tuple", [0], [10]], ["tuple", [1], [11]], ["tuple", [0], [12]]],
    "a dict": [{"a": [0], "b": [10]}, {"a": [1], "b": [11]}, {"a": [0], "b": [12]}],
    "a named tuple": [["Pair", [0], [10]], ["Pair", [1], [11]], ["Pair", [0], [12]]],
    "nested": [{"a": [0], "b": [[10], ["tuple", [20]]]}, {"a": [1], "b": [[11], ["tuple", [20]]]},
               {"a": [0], "b": [[12], ["tuple", [20]]]}],
    "named streams": [{"a": [0], "b": [0]}, {"a": [0], "b": [1]}, {"a": [0], "b": [2]}],
    "a list of batches": [[1.0, 0.0], [1.0, 0.0]],
    "lists of numbers": [{"a": 1, "b": 3}, {"a": 2, "b": 3}],
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_several_training_loaders_give_a_batch_each_and_short_ones_begin_anew(name):
    seen = run(L, "fit", SEVERAL[name]())
    expected = TRAINED[name]
    if name == "a list of batches":  # rows of tensors are batches then
        expected = [[[value] for value in batch] for batch in expected]
    assert seen == [(batch, index, 0) for index, batch in enumerate(expected)]


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
@pytest.mark.parametrize("name", ["a list", "a tuple", "a dict", "a named tuple"])
def test_several_loaders_of_an_evaluation_run_one_after_another(kind, name):
    assert run(L, kind, SEVERAL[name]()) == [
        ([0], 0, 0), ([1], 1, 0), ([10], 0, 1), ([11], 1, 1), ([12], 2, 1)
    ]  # fmt: skip


COMBINED = {
    "min_size": [{"a": [0], "b": [10]}, {"a": [1], "b": [11]}],
    "max_size_cycle": [{"a": [0], "b": [10]}, {"a": [1], "b": [11]}, {"a": [0], "b": [12]}],
    "max_size": [{"a": [0], "b": [10]}, {"a": [1], "b": [11]}, {"a": None, "b": [12]}],
}


@pytest.mark.parametrize("kind", ["fit", "validate", "test"])
@pytest.mark.parametrize("mode", COMBINED)
def test_a_combined_loader_draws_together_in_every_stage(kind, mode):
    data = of(L, SEVERAL["a dict"](), mode)
    assert run(L, kind, data) == [(batch, index, 0) for index, batch in enumerate(COMBINED[mode])]


def test_the_trainer_tells_what_a_combined_loader_combines(quiet, noting):
    train, val = {"a": numbers(2), "b": numbers(3)}, [numbers(1), numbers(2)]
    trainer = quiet(max_epochs=1)
    trainer.fit(noting, of(L, train, "min_size"), of(L, val, "sequential"))
    assert trainer.train_dataloader is train
    assert trainer.val_dataloaders is val


@pytest.mark.parametrize(("kind", "mode"), [("fit", "sequential"), *[("predict", mode) for mode in COMBINED]])
def test_a_mode_that_makes_no_sense_is_refused(kind, mode):
    with pytest.raises(ValueError, match=mode):
        run(L, kind, of(L, [numbers(1)], mode))


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_a_sequential_combined_loader_is_the_same_as_a_list(kind):
    assert run(L, kind, of(L, SEVERAL["nested"](), "sequential")) == run(L, kind, SEVERAL["nested"]())


@pytest.mark.parametrize("kind", STAGES)
def test_an_error_of_the_loader_is_the_users_own(kind):
    class Fails:
        def __iter__(self):
            raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        run(L, kind, Fails())


class Samples(Dataset):
    """A dataset, which is no loader."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.zeros(1)


MISTAKEN = {
    "a dataset": (lambda: Samples(), r"single samples.*DataLoader\(dataset, batch_size"),
    "one of torch's": (lambda: TensorDataset(torch.zeros(2)), "single samples"),
    "one of several": (lambda: {"a": numbers(1), "b": Samples()}, "single samples"),
    "a class": (lambda: DataLoader, r"a class.*DataLoader\(\.\.\.\)"),
    "a function": (lambda: numbers, "Call it first"),
    "a list with a data module": (lambda: [L.LightningDataModule()], "`datamodule="),
    "a text": (lambda: "train", "'train'"),
    "bytes": (lambda: [b"train"], "train"),
    "a number": (lambda: 3, "3"),
}


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize(("make", "said"), MISTAKEN.values(), ids=MISTAKEN.keys())
def test_what_is_no_loader_is_refused_with_what_to_do(kind, make, said):
    with pytest.raises(
        TypeError, match=f"An invalid dataloader was passed as .* data: .*{said}.*A loader is"
    ):
        run(L, kind, make())


def test_a_data_module_of_datasets_runs_without_a_warning(quiet, noting):
    rows = TensorDataset(torch.zeros(2, 1))
    data = L.LightningDataModule.from_datasets(rows, rows, rows, rows)
    trainer = quiet(max_epochs=1)
    trainer.fit(noting, datamodule=data)
    trainer.test(noting, datamodule=data)
    trainer.predict(noting, datamodule=data)
    assert len(noting.notes) == 2 + 2 + 1 + 2 + 2


# ---------------------------------------------------------------------- places without a batch


def with_nones(*places):
    """Four batches, some of them None: a ``collate_fn`` found nothing to make them of."""
    return DataLoader(range(4), collate_fn=lambda rows: None if rows[0] in places else torch.tensor(rows))


NONES = pytest.mark.filterwarnings("ignore:The training dataloader gave None", "ignore:Detected call of")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_none_in_training_is_passed_over_counted_and_told_once(quiet, noting, accumulate):
    seen = []
    noting.on_train_batch_start = lambda batch, batch_idx: seen.append(("start", batch_idx))
    noting.on_train_batch_end = lambda outputs, batch, batch_idx: seen.append((outputs is None, batch_idx))
    trainer = quiet(max_epochs=1, limit_val_batches=0, accumulate_grad_batches=accumulate)
    with pytest.warns(UserWarning, match=r"None as batch 1 of epoch 0.*no `training_step`") as told:
        trainer.fit(noting, with_nones(1, 3))
    assert len(told) == 1
    assert noting.noted("train") == ["0.0", "0.2"]
    assert seen == [("start", 0), (False, 0), (True, 1), ("start", 2), (False, 2), (True, 3)]
    # as in Lightning, a window that ends with None is dropped
    assert (trainer.global_step, noting.num_steps) == ((2, 2) if accumulate == 1 else (0, 0))


@NONES
def test_a_normalised_window_makes_do_with_the_batches_that_there_are(quiet, noting):
    trainer = quiet(max_epochs=1, limit_val_batches=0, accumulate_grad_batches=2, normalize_by="batches")
    trainer.fit(noting, with_nones(1, 2, 3))
    assert (trainer.global_step, noting.num_steps) == (1, 1)


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_none_in_an_evaluation_is_a_batch_as_any_other(kind):
    assert run(L, kind, with_nones(1)) == [([0], 0, 0), (None, 1, 0), ([2], 2, 0), ([3], 3, 0)]


@NONES
def test_none_is_no_end_of_a_stream():
    assert run(L, "fit", iter([None, torch.ones(1), None])) == [([1.0], 1, 0)]


# ---------------------------------------------------------------------- the same in Lightning


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning.pytorch")


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("name", [*ONE, *SEVERAL])
def test_lightning_gives_steps_the_same_of_the_same(lightning, kind, name):
    make = ONE[name][0] if name in ONE else SEVERAL[name]
    assert run(L, kind, make()) == run(lightning, kind, make())


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["fit", "validate", "test"])
@pytest.mark.parametrize("mode", COMBINED)
@pytest.mark.parametrize("settings", [{}, {"limit_train_batches": 2, "limit_val_batches": 1}], ids=str)
@pytest.mark.parametrize("name", ["a dict", "nested", "named streams"])
def test_lightning_combines_alike(lightning, kind, mode, settings, name):
    settings = settings if kind != "fit" else {**settings, "limit_val_batches": 0}
    ours, theirs = [
        run(framework, kind, of(framework, SEVERAL[name](), mode), **settings) for framework in (L, lightning)
    ]
    assert ours == theirs


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("places", [(1,), (1, 3), (0, 2), (0, 1, 2, 3)], ids=str)
def test_lightning_does_the_same_about_none(lightning, accumulate, places):
    def states(framework):
        class Stepping(framework.LightningModule):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.ones(()))
                self.noted: list[Any] = []

            def training_step(self, batch, batch_idx):
                return ((self.weight * (batch + 1)) ** 2).mean()

            def on_train_batch_end(self, outputs, batch, batch_idx):
                rate = self.trainer.optimizers[0].param_groups[0]["lr"]
                state = (self.weight.item(), rate, self.trainer.global_step, self.trainer.is_last_batch)
                self.noted.append((outputs is None, plain(batch), batch_idx, state))

            def configure_optimizers(self):
                optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
                return [optimizer], [
                    {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), "interval": "step"}
                ]

        trainer = framework.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
            enable_progress_bar=False, max_epochs=2, accumulate_grad_batches=accumulate,
        )  # fmt: skip
        model = Stepping()
        trainer.fit(model, with_nones(*places))
        return model.noted

    assert states(L) == states(lightning)
