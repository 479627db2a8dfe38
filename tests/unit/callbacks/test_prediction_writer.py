from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import BasePredictionWriter
from levin.callbacks.prediction_writer import WriteInterval
from levin.utils.errors import MisconfigurationException


class Double(L.LightningModule):
    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch * 2


class Writer(BasePredictionWriter):
    def __init__(self, interval):
        super().__init__(interval)
        self.batches, self.epochs = [], []

    def write_on_batch_end(
        self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx
    ):
        self.batches.append((prediction.tolist(), batch_indices, batch.tolist(), batch_idx, dataloader_idx))

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
        self.epochs.append((predictions, batch_indices))


def predict(writer, loaders, **kwargs):
    settings = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    trainer = L.Trainer(callbacks=[writer], enable_checkpointing=False, **settings)
    return trainer.predict(Double(), loaders, **kwargs)


def numbers(count, **kwargs):
    return DataLoader(torch.arange(float(count)), batch_size=2, **kwargs)


def test_each_batch_comes_with_the_places_of_its_samples():
    writer = Writer("batch")
    predict(writer, numbers(3))
    assert writer.batches == [([0, 2], [0, 1], [0, 1], 0, 0), ([4], [2], [2], 1, 0)]
    assert writer.epochs == []


def test_the_places_are_those_of_the_sampler():
    writer = Writer("batch_and_epoch")
    predict(writer, numbers(4, sampler=[3, 0, 2, 1]))
    assert [(prediction, places) for prediction, places, *_ in writer.batches] == [
        ([6, 0], [3, 0]),
        ([4, 2], [2, 1]),
    ]
    assert writer.epochs[0][1] == [[[3, 0], [2, 1]]]


@pytest.mark.parametrize("returned", [True, False])
def test_the_end_gets_all_predictions_whether_they_are_returned_or_not(returned):
    writer = Writer("epoch")
    result = predict(writer, numbers(3), return_predictions=returned)
    [(predictions, places)] = writer.epochs
    assert [each.tolist() for each in predictions] == [[0, 2], [4]]
    assert places == [[[0, 1], [2]]]
    assert (result is None) == (not returned)
    assert writer.batches == []


def test_several_loaders_are_kept_apart():
    writer = Writer("batch_and_epoch")
    predict(writer, [numbers(2), numbers(3)])
    [(predictions, places)] = writer.epochs
    assert [[each.tolist() for each in loader] for loader in predictions] == [[[0, 2]], [[0, 2], [4]]]
    assert places == [[[0, 1]], [[0, 1], [2]]]
    assert [index for *_, index in writer.batches] == [0, 1, 1]


def test_one_writer_can_be_used_twice():
    writer = Writer("epoch")
    for _ in range(2):
        predict(writer, numbers(2))
    assert [len(predictions) for predictions, _ in writer.epochs] == [1, 1]


def test_places_are_left_out_where_there_are_none():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(torch.arange(3.0))

    writer = Writer("batch")
    predict(writer, DataLoader(Stream(), batch_size=2))
    assert [places for _, places, *_ in writer.batches] == [[], []]


@pytest.mark.parametrize(
    ("interval", "method"), [("batch", "write_on_batch_end"), ("epoch", "write_on_epoch_end")]
)
def test_a_writer_that_writes_nothing_is_told_what_to_override(interval, method):
    with pytest.raises(NotImplementedError, match=method):
        predict(BasePredictionWriter(interval), numbers(2))


@pytest.mark.parametrize("interval", ["never", None])
def test_an_unknown_interval_is_refused(interval):
    with pytest.raises(MisconfigurationException, match="batch_and_epoch"):
        BasePredictionWriter(interval)


@pytest.mark.parametrize(
    ("interval", "on_batch", "on_epoch"),
    [("batch", True, False), ("epoch", False, True), ("batch_and_epoch", True, True)],
)
def test_an_interval_says_when_it_writes(interval, on_batch, on_epoch):
    assert (WriteInterval(interval).on_batch, WriteInterval(interval).on_epoch) == (on_batch, on_epoch)
    assert WriteInterval(interval) == interval
