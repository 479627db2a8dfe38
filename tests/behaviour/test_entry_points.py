"""fit, validate, test and predict: in what forms they are called, what they return and what they print."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

import levin as L
from levin.callbacks import BasePredictionWriter, ModelCheckpoint
from levin.data import CombinedLoader
from levin.testing import BoringDataModule, BoringModel

EVALUATIONS = ["validate", "test", "predict"]


class Logging(L.LightningModule):
    """Logs each evaluation batch's value as "value"; predicts batches as they are."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("value", batch.mean())

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("value", batch.mean())

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch


class Numbers(L.LightningDataModule):
    """Three numbers for everything; notes what was asked of it."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def setup(self, stage):
        self.asked.append(f"setup {stage}")

    def load(self):
        return DataLoader(torch.arange(3.0))

    def train_dataloader(self):
        self.asked.append("train")
        return self.load()

    val_dataloader = test_dataloader = predict_dataloader = load


# ---------------------------------------------------------------------- forms of a call

FIT_FORMS = {
    "one loader": lambda make: ((make(3),), {}),
    "two loaders": lambda make: ((make(3), make(2)), {}),
    "by name": lambda make: ((), {"train_dataloaders": make(3), "val_dataloaders": make(2)}),
    "datamodule": lambda make: ((), {"datamodule": Numbers()}),
    "datamodule in a loader's place": lambda make: ((Numbers(),), {}),
    "datamodule by the loaders' name": lambda make: ((), {"train_dataloaders": Numbers()}),
}


@pytest.mark.parametrize("form", FIT_FORMS)
def test_fit_is_called_in_several_forms(quiet, noting, batches, form):
    args, kwargs = FIT_FORMS[form](batches)
    trainer = quiet(max_epochs=1, limit_val_batches=0 if form == "one loader" else 1.0)
    assert trainer.fit(noting, *args, **kwargs) is None
    assert noting.noted("train") == ["0.0", "0.1", "0.2"]


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("form", ["loader", "by name", "datamodule", "datamodule in its place", "own hook"])
def test_an_evaluation_is_called_in_several_forms(quiet, noting, batches, name, form):
    short = {"validate": "val"}.get(name, name)
    args, kwargs = {
        "loader": ((batches(3),), {}),
        "by name": ((), {"dataloaders": batches(3)}),
        "datamodule": ((), {"datamodule": Numbers()}),
        "datamodule in its place": ((Numbers(),), {}),
        "own hook": ((), {}),
    }[form]
    setattr(noting, f"{short}_dataloader", lambda: batches(3))
    getattr(quiet(), name)(noting, *args, **kwargs)
    assert noting.noted(short) == ["0.0", "0.1", "0.2"]


def test_a_datamodule_takes_the_place_of_the_modules_hooks(quiet, noting, batches):
    class OnlyTrain(Numbers):
        val_dataloader = L.LightningDataModule.val_dataloader

    noting.train_dataloader = noting.val_dataloader = lambda: batches(9)
    with pytest.warns(UserWarning, match="there is no validation data"):
        quiet(max_epochs=1).fit(noting, datamodule=OnlyTrain())
    assert (len(noting.noted("train")), noting.noted("val")) == (3, [])


def test_a_passed_loader_goes_before_the_modules_hook(quiet, noting, batches):
    noting.train_dataloader = lambda: batches(9)
    quiet(max_epochs=1, limit_val_batches=0).fit(noting, batches(2))
    assert noting.noted("train") == ["0.0", "0.1"]


def test_a_datamodule_is_set_up_for_each_call(quiet, noting):
    data, trainer = Numbers(), quiet(max_epochs=1)
    trainer.fit(noting, data)
    trainer.test(noting, data)
    assert data.asked == ["setup fit", "train", "setup test"]


# ---------------------------------------------------------------------- several loaders to train on


def trained_on(quiet, data):
    """What `training_step` got, as numbers."""
    seen = []

    class Seeing(BoringModel):
        def training_step(self, batch):
            seen.append(batch)
            return self.layer.weight.sum()

    quiet(max_epochs=1, limit_val_batches=0).fit(Seeing(), data)
    return seen


def test_loaders_in_a_list_give_a_batch_each_and_the_short_one_starts_over(quiet, batches):
    seen = trained_on(quiet, [batches(2), batches(3)])
    assert [[one.item() for one in batch] for batch in seen] == [[0, 0], [1, 1], [0, 2]]


def test_loaders_in_nested_collections_give_batches_of_the_same_shape(quiet, batches):
    seen = trained_on(quiet, {"a": batches(1), "b": [batches(1), (batches(1),)]})
    assert seen == [{"a": torch.zeros(1), "b": [torch.zeros(1), (torch.zeros(1),)]}]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("max_size_cycle", [[0, 0], [1, 1], [0, 2]]),
        ("min_size", [[0, 0], [1, 1]]),
        ("max_size", [[0, 0], [1, 1], [None, 2]]),
    ],
)
def test_a_combined_loader_says_what_happens_to_the_short_one(quiet, batches, mode, expected):
    seen = trained_on(quiet, CombinedLoader([batches(2), batches(3)], mode))
    assert [[None if one is None else one.item() for one in batch] for batch in seen] == expected


def test_any_iterable_is_a_loader(quiet):
    assert trained_on(quiet, (number for number in (1, 2, 3))) == [1, 2, 3]
    assert trained_on(quiet, range(2)) == [0, 1]


# ---------------------------------------------------------------------- what evaluations return and print


@pytest.mark.parametrize("name", ["validate", "test"])
def test_an_evaluation_returns_what_was_logged_for_each_loader(quiet, batches, name):
    evaluate = getattr(quiet(), name)
    assert evaluate(Logging(), batches(3)) == [{"value": 1.0}]
    assert evaluate(Logging(), [batches(3), batches(5)]) == [
        {"value/dataloader_idx_0": 1.0},
        {"value/dataloader_idx_1": 2.0},
    ]
    assert evaluate(Logging(), {"a": batches(3)}) == [{"value": 1.0}]


def test_an_evaluation_that_logs_nothing_returns_nothing_for_each_loader(quiet, noting, batches, capsys):
    assert quiet().test(noting, batches(1)) == [{}]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "head"), [("validate", "Validate metric"), ("test", "Test metric")])
def test_the_results_are_printed_as_a_table(quiet, batches, capsys, name, head):
    getattr(quiet(), name)(Logging(), [batches(3), batches(5)])
    rows = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells == [[head, "DataLoader 0", "DataLoader 1"], ["value", "1", "2"]]


@pytest.mark.parametrize("name", ["validate", "test"])
def test_nothing_is_printed_where_that_is_not_wanted(quiet, batches, capsys, name):
    getattr(quiet(), name)(Logging(), batches(3), verbose=False)
    assert capsys.readouterr().out == ""


def test_loaders_of_a_combined_loader_may_be_evaluated_together(quiet, batches):
    seen = []
    model = Logging()
    model.validation_step = lambda batch: seen.append([one.item() for one in batch])
    quiet().validate(model, CombinedLoader([batches(2), batches(3)], "min_size"))
    assert seen == [[0, 0], [1, 1]]


# ---------------------------------------------------------------------- predictions


def test_predictions_come_in_order_one_for_each_batch(quiet, batches):
    assert quiet().predict(Logging(), batches(3)) == [torch.tensor([float(i)]) for i in range(3)]


def test_predictions_of_several_loaders_come_in_a_list_each(quiet, batches):
    expected = [[torch.zeros(1)], [torch.zeros(1), torch.ones(1)]]
    assert quiet().predict(Logging(), [batches(1), batches(2)]) == expected
    assert quiet().predict(Logging(), CombinedLoader([batches(1), batches(2)], "sequential")) == expected


def test_predictions_need_not_be_kept(quiet, batches):
    assert quiet().predict(Logging(), batches(3), return_predictions=False) is None


def test_a_module_without_predict_step_predicts_with_forward(quiet, batches):
    class Doubling(L.LightningModule):
        def forward(self, x):
            return 2 * x

    assert quiet().predict(Doubling(), batches(2)) == [torch.tensor([0.0]), torch.tensor([2.0])]


def test_predictions_can_not_be_made_for_loaders_together(quiet, batches):
    with pytest.raises(ValueError, match=r"min_size.*mode='sequential'"):
        quiet().predict(Logging(), CombinedLoader([batches(1)], "min_size"))


def test_predictions_are_made_for_the_rows_of_an_incomplete_batch_too(quiet):
    numbers = torch.arange(5.0)
    batches = BatchSampler(SequentialSampler(numbers), batch_size=2, drop_last=True)
    for loader in (DataLoader(numbers, 2, drop_last=True), DataLoader(numbers, batch_sampler=batches)):
        assert torch.cat(quiet().predict(Logging(), loader)).tolist() == [0, 1, 2, 3, 4]
        assert len(loader) == 2


def test_a_stream_drops_what_it_was_told_to_drop(quiet, stream):
    loader = DataLoader(stream(5).dataset, batch_size=2, drop_last=True)
    assert torch.cat(quiet().predict(Logging(), loader)).tolist() == [0, 1, 2, 3]


class Writer(BasePredictionWriter):
    """Keeps what it is given to write."""

    def __init__(self, write_interval):
        super().__init__(write_interval)
        self.batches, self.epochs = [], []

    def write_on_batch_end(
        self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx
    ):
        self.batches.append((dataloader_idx, batch_idx, batch_indices, prediction.tolist()))

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
        self.epochs.append((predictions, batch_indices))


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_prediction_writer_gets_each_batch_with_the_places_of_its_rows(quiet, num_workers):
    writer = Writer("batch")
    torch.manual_seed(1)
    data = DataLoader(torch.arange(5.0), batch_size=2, shuffle=True, num_workers=num_workers)
    with pytest.warns(UserWarning, match="predict dataloader shuffles"):
        quiet(callbacks=writer).predict(Logging(), data, return_predictions=False)
    assert [len(indices) for _, _, indices, _ in writer.batches] == [2, 2, 1]
    assert all(indices == rows for _, _, indices, rows in writer.batches)
    assert sorted(index for _, _, indices, _ in writer.batches for index in indices) == [0, 1, 2, 3, 4]


def test_a_prediction_writer_gets_all_of_several_loaders_at_the_end(quiet):
    writer = Writer("epoch")
    loaders = [DataLoader(torch.arange(3.0), batch_size=2), DataLoader(torch.arange(1.0))]
    predictions = quiet(callbacks=writer).predict(Logging(), loaders)
    assert writer.epochs == [(predictions, [[[0, 1], [2]], [[0]]])]
    assert writer.batches == []


def test_a_prediction_writer_gets_no_places_where_there_are_none(quiet, stream):
    writer = Writer("batch_and_epoch")
    quiet(callbacks=writer).predict(Logging(), stream(2))
    assert writer.batches == [(0, 0, [], [0.0]), (0, 1, [], [1.0])]
    assert writer.epochs == [([torch.zeros(1), torch.ones(1)], [[]])]


# ---------------------------------------------------------------------- which weights are evaluated


@pytest.fixture
def fitted(tmp_path, batches):
    """A trainer after a fit of three epochs, and its module: the first epoch's checkpoint was the best."""

    class Worse(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def training_step(self, batch):
            return -self.weight

        def validation_step(self, batch):
            self.log("loss", self.weight)

        test_step = validation_step

        def predict_step(self, batch):
            return self.weight.item()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    trainer = L.Trainer(
        max_epochs=3, logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=ModelCheckpoint(monitor="loss", save_top_k=-1, save_last=True),
    )  # fmt: skip
    model = Worse()
    trainer.fit(model, batches(2), batches(1))
    return trainer, model


@pytest.mark.parametrize("name", ["validate", "test"])
def test_without_a_model_the_best_weights_are_evaluated_and_that_is_told(fitted, batches, name):
    trainer, _ = fitted
    with pytest.warns(
        UserWarning, match=rf"trainer.{name}\(\)` was called without a model, so that the best"
    ):
        results = getattr(trainer, name)(dataloaders=batches(1), verbose=False)
    assert results == [{"loss": 2.0}]
    assert trainer.ckpt_path == trainer.checkpoint_callback.best_model_path


def test_with_a_model_its_weights_are_evaluated_as_they_are(fitted, batches):
    trainer, model = fitted
    assert trainer.test(model, batches(1), verbose=False) == [{"loss": 6.0}]
    assert trainer.predict(model, batches(1)) == [6.0]


@pytest.mark.parametrize(("path", "value"), [("best", 2.0), ("last", 6.0)])
def test_a_checkpoint_may_be_named(fitted, batches, path, value):
    trainer, model = fitted
    assert trainer.test(model, batches(1), ckpt_path=path, verbose=False) == [{"loss": value}]
    assert trainer.predict(dataloaders=batches(1), ckpt_path=path) == [value]


def test_a_checkpoint_may_be_a_path(fitted, batches, tmp_path, said):
    trainer, model = fitted
    path = tmp_path / "here.ckpt"
    trainer.save_checkpoint(path)
    with torch.no_grad():
        model.weight.zero_()
    assert trainer.validate(ckpt_path=path, dataloaders=batches(1), verbose=False) == [{"loss": 6.0}]
    assert trainer.ckpt_path == str(path)
    assert f"Loaded model weights from the checkpoint at {path}" in said()


def test_a_checkpoint_that_is_set_on_the_trainer_counts_until_it_is_taken_back(fitted, batches):
    trainer, model = fitted
    trainer.ckpt_path = trainer.checkpoint_callback.best_model_path
    for _ in range(2):
        assert trainer.test(model, batches(1), verbose=False) == [{"loss": 2.0}]
    trainer.ckpt_path = None
    with torch.no_grad():
        model.weight.fill_(9.0)
    assert trainer.test(model, batches(1), verbose=False) == [{"loss": 9.0}]


def test_an_evaluation_of_a_checkpoint_leaves_the_counters_alone(fitted, batches):
    trainer, model = fitted
    other = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False)
    other.test(model, batches(1), ckpt_path=trainer.checkpoint_callback.best_model_path, verbose=False)
    assert (other.current_epoch, other.global_step) == (0, 0)
    assert (trainer.current_epoch, trainer.global_step) == (3, 6)


# ---------------------------------------------------------------------- modules in other clothes


def test_a_datamodule_may_be_used_by_hand(quiet):
    data = BoringDataModule()
    quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=1).fit(BoringModel(), datamodule=data)
    assert len(data.train_dataloader()) == 64


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, about its compiler
def test_a_compiled_module_runs_compiled(quiet, batches):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    class Net(BoringModel):
        def training_step(self, batch):
            return self.layer(batch).sum()

    model = torch.compile(Net(), backend=backend)
    trainer = quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(model)
    assert compiled
    assert isinstance(trainer.lightning_module, Net)
