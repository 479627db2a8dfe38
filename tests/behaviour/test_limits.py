"""How much of the data a run takes, and when it is made anew: limits, overfitting, a dev run, streams."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from levin.loggers import CSVLogger
from levin.testing import BoringModel, RandomDataset
from levin.utils.errors import MisconfigurationException, PossibleUserWarning

SHARES = [(3, 3), (0.5, 5), (0.25, 2), (1.0, 10), (1, 1), (99, 10), (2.0, 2), (0, 0), (0.0, 0)]


@pytest.mark.parametrize(("limit", "count"), SHARES)
def test_a_fit_takes_so_much_of_its_data(quiet, noting, batches, limit, count):
    trainer = quiet(max_epochs=1, limit_train_batches=limit, limit_val_batches=limit)
    trainer.fit(noting, batches(10), batches(10))
    assert noting.noted("train") == [f"0.{batch}" for batch in range(count)]
    assert noting.noted("val") == [f"0.{batch}" for batch in range(count)]
    assert trainer.num_training_batches == count
    assert trainer.num_val_batches == ([count] if count else [])


@pytest.mark.parametrize(("limit", "count"), SHARES)
@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_an_evaluation_takes_so_much_of_its_data(quiet, noting, batches, kind, limit, count):
    short = {"validate": "val"}.get(kind, kind)
    trainer = quiet(**{f"limit_{short}_batches": limit})
    getattr(trainer, kind)(noting, batches(10))
    assert len(noting.noted(short)) == count
    assert getattr(trainer, f"num_{short}_batches") == ([count] if count else [])


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_a_limit_is_for_each_loader(quiet, noting, batches, kind):
    short = {"validate": "val"}.get(kind, kind)
    trainer = quiet(**{f"limit_{short}_batches": 0.5})
    getattr(trainer, kind)(noting, [batches(2), batches(6)])
    assert getattr(trainer, f"num_{short}_batches") == [1, 3]
    assert len(noting.noted(short)) == 4


@pytest.mark.parametrize(
    "settings", [{"max_epochs": 0}, {"max_steps": 0}, {"limit_train_batches": 0}], ids=str
)
def test_validation_data_is_not_made_where_nothing_is_trained(quiet, noting, batches, settings):
    made = []
    noting.val_dataloader = lambda: made.append("val") or batches(1)
    quiet(**{"max_epochs": 1, **settings}).fit(noting, batches(1))
    assert made == []


def test_data_whose_length_configure_optimizers_asks_for_is_opened_there(quiet, noting, batches):
    class Loader(DataLoader):
        def __iter__(self):
            noting.note("opened")
            return super().__iter__()

    def configure_optimizers():
        assert noting.trainer.estimated_stepping_batches == 4
        noting.note("configured")
        return torch.optim.SGD(noting.parameters(), lr=1.0)

    noting.configure_optimizers = configure_optimizers
    quiet(max_epochs=2).fit(noting, Loader(torch.zeros(2)), batches(1))
    assert [note for note in noting.notes if "ed" in note] == ["opened ", "configured ", "opened "]


def test_limits_of_one_kind_do_not_touch_another(quiet, noting, batches):
    trainer = quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=2, limit_test_batches=3)
    trainer.fit(noting, batches(10), batches(10))
    trainer.test(noting, batches(10))
    trainer.predict(noting, batches(10))
    kinds = [len(noting.noted(kind)) for kind in ("train", "val", "test", "predict")]
    assert kinds == [1, 2, 3, 10]


@pytest.mark.parametrize("kind", ["train", "val"])
def test_a_share_of_less_than_a_batch_says_what_is_enough(quiet, noting, batches, kind):
    trainer = quiet(max_epochs=1, **{f"limit_{kind}_batches": 0.1})
    with pytest.raises(MisconfigurationException, match=rf"limit_{kind}_batches=0.1.*at least 0.25"):
        trainer.fit(noting, batches(4), batches(4))


@pytest.mark.parametrize("kind", ["train", "val"])
def test_a_share_of_a_stream_is_refused(quiet, noting, stream, kind):
    trainer = quiet(max_epochs=1, **{f"limit_{kind}_batches": 0.5})
    with pytest.raises(MisconfigurationException, match=rf"limit_{kind}_batches=0.5.*without a length"):
        trainer.fit(noting, stream(4), stream(4))


@pytest.mark.parametrize(("limit", "count"), [(1.0, 4), (3, 3), (9, 4)])
def test_a_stream_is_taken_to_its_end_or_by_count(quiet, noting, stream, limit, count):
    trainer = quiet(max_epochs=2, limit_train_batches=limit, limit_val_batches=limit)
    last = []
    noting.on_train_batch_end = lambda *_: last.append(trainer.is_last_batch)
    trainer.fit(noting, stream(4), stream(4))
    assert len(noting.noted("val")) == 2 * count
    assert last == ([False] * (count - 1) + [True]) * 2


def test_the_meaning_of_one_is_told(quiet, said):
    quiet(limit_train_batches=1, limit_val_batches=1.0)
    assert "`Trainer(limit_train_batches=1)` was given: one batch" in said()
    assert "`Trainer(limit_val_batches=1.0)` was given: all batches" in said()


# ---------------------------------------------------------------------- no data


def test_an_empty_training_loader_is_told_and_ends_the_fit(quiet, noting, batches, said):
    trainer = quiet(max_epochs=2)
    with pytest.warns(UserWarning, match="total length is zero"):
        trainer.fit(noting, batches(0), batches(1))
    assert (noting.notes, trainer.state.status, trainer.current_epoch) == ([], "finished", 0)
    assert "No training batches" in said()


@pytest.mark.parametrize("kind", ["validate", "test", "predict"])
def test_an_empty_loader_is_told_and_evaluates_to_nothing(quiet, noting, batches, kind):
    with pytest.warns(UserWarning, match="has no batches"):
        assert getattr(quiet(), kind)(noting, batches(0)) == []
    assert noting.notes == []


# ---------------------------------------------------------------------- overfit_batches


@pytest.mark.parametrize(("amount", "count"), [(2, 2), (0.2, 2)])
def test_overfit_batches_trains_and_validates_on_few(quiet, noting, batches, amount, count):
    trainer = quiet(max_epochs=2, overfit_batches=amount, limit_train_batches=7)
    trainer.fit(noting, batches(10), batches(10))
    trainer.test(noting, batches(10))
    assert (len(noting.noted("train")), len(noting.noted("val"))) == (2 * count, 2 * count)
    assert (trainer.num_training_batches, trainer.num_val_batches) == (count, [count])
    assert len(noting.noted("test")) == 10


def test_overfit_batches_takes_the_same_batches_in_each_epoch(quiet, noting):
    seen = {"train": [], "val": []}
    noting.training_step = lambda batch: seen["train"].append(batch.tolist()) or noting.weight * 1
    noting.validation_step = lambda batch: seen["val"].append(batch.tolist())
    with pytest.warns(UserWarning, match="replaced by a sequential one"):
        quiet(max_epochs=2, overfit_batches=2).fit(
            noting,
            DataLoader(torch.arange(8.0), batch_size=2, shuffle=True),
            DataLoader(torch.arange(10.0, 18.0), batch_size=2, shuffle=True),
        )
    assert seen["train"] == [[0.0, 1.0], [2.0, 3.0]] * 2
    assert seen["val"] == [[10.0, 11.0], [12.0, 13.0]] * 2


def test_overfit_batches_leaves_the_given_loader_as_it_is(quiet, noting, batches):
    shuffled = DataLoader(torch.arange(8.0), shuffle=True)
    sampler = shuffled.sampler
    with pytest.warns(UserWarning, match="sequential"):
        quiet(max_epochs=1, overfit_batches=2).fit(noting, shuffled, batches(2))
    assert shuffled.sampler is sampler


# ---------------------------------------------------------------------- fast_dev_run


@pytest.mark.parametrize(("given", "count"), [(True, 1), (1, 1), (3, 3)])
def test_a_dev_run_takes_a_few_batches_of_everything_once(quiet, noting, batches, said, given, count):
    trainer = quiet(fast_dev_run=given, max_epochs=7, val_check_interval=2, num_sanity_val_steps=2)
    trainer.fit(noting, batches(10), batches(10))
    trainer.test(noting, batches(10))
    trainer.predict(noting, batches(10))
    kinds = [len(noting.noted(kind)) for kind in ("train", "val", "test", "predict")]
    assert kinds == [count] * 4
    assert (trainer.max_epochs, trainer.max_steps, trainer.global_step) == (1, count, count)
    assert f"using {count} batch(es)" in said()


def test_a_dev_run_writes_nothing(noting, batches, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noting.validation_step = lambda batch: noting.log("loss", batch.sum(), prog_bar=True)
    callbacks = [
        ModelCheckpoint(monitor="loss", save_last=True),
        EarlyStopping("missing"),
        LearningRateMonitor(),
    ]
    trainer = L.Trainer(
        fast_dev_run=2,
        logger=CSVLogger("logs"),
        callbacks=callbacks,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    trainer.fit(noting, batches(10), batches(10))
    trainer.validate(noting, batches(10), verbose=False)
    assert list(tmp_path.iterdir()) == []
    assert callbacks[0].best_model_path == ""


@pytest.mark.parametrize("off", [False, 0])
def test_no_dev_run_is_no_dev_run(quiet, off):
    trainer = quiet(fast_dev_run=off, max_epochs=3)
    assert (trainer.max_epochs, trainer.max_steps) == (3, -1)


# ---------------------------------------------------------------------- loaders that are made anew


class Reloading(L.LightningDataModule):
    """Counts how often its hooks are called, with the epoch."""

    def __init__(self, make):
        super().__init__()
        self.make, self.calls = make, []

    def train_dataloader(self):
        self.calls.append(("train", self.trainer.current_epoch))
        return self.make(2)

    def val_dataloader(self):
        self.calls.append(("val", self.trainer.current_epoch))
        return self.make(1)


@pytest.mark.parametrize(("every", "epochs"), [(0, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3])])
def test_loaders_are_made_anew_every_so_many_epochs(quiet, noting, batches, every, epochs):
    data = Reloading(batches)
    quiet(max_epochs=5, reload_dataloaders_every_n_epochs=every).fit(noting, data)
    assert [epoch for kind, epoch in data.calls if kind == "train"] == epochs
    assert [epoch for kind, epoch in data.calls if kind == "val"] == epochs
    assert len(noting.noted("train")) == 10


def test_a_reloaded_loader_may_have_another_length(quiet, noting, batches):
    noting.train_dataloader = lambda: batches(noting.current_epoch + 1)
    trainer = quiet(max_epochs=3, reload_dataloaders_every_n_epochs=1, limit_val_batches=0)
    trainer.fit(noting)
    assert noting.noted("train") == ["0.0", "1.0", "1.1", "2.0", "2.1", "2.2"]
    assert trainer.num_training_batches == 3


# ---------------------------------------------------------------------- what is told


def test_an_epoch_shorter_than_the_log_interval_is_told(quiet, noting, batches, tmp_path):
    trainer = quiet(max_epochs=1, logger=CSVLogger(tmp_path), limit_val_batches=0)
    with pytest.warns(PossibleUserWarning, match=r"3 training batches.*log_every_n_steps=50"):
        trainer.fit(noting, batches(3))


def test_shuffled_evaluation_data_is_told(quiet, noting):
    with pytest.warns(PossibleUserWarning, match="val dataloader shuffles"):
        quiet().validate(noting, DataLoader(torch.arange(2.0), shuffle=True))


def test_without_validation_nothing_is_said_about_missing_validation(quiet, noting, batches):
    trainer = quiet(max_epochs=1, limit_val_batches=0)
    trainer.fit(noting, batches(1))  # a warning would be an error
    assert trainer.enable_validation is False


@pytest.mark.parametrize("interval", [{"val_check_interval": 0.5}, {"val_check_interval": 4}], ids=str)
@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.filterwarnings("ignore:BoringModel has a `validation_step`")
def test_no_validation_loaders_at_all_leave_no_run_without_a_checkpoint(quiet, tmp_path, interval, passed):
    model = BoringModel()
    model.val_dataloader = list
    trainer = quiet(max_epochs=1, enable_checkpointing=True, limit_train_batches=4, **interval)
    trainer.fit(model, model.train_dataloader(), [] if passed else None)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["epoch=0-step=4.ckpt"]


def test_a_sampler_is_told_each_epoch_once(quiet):
    told = []

    class Telling(torch.utils.data.SequentialSampler):
        def set_epoch(self, epoch):
            told.append(epoch)

    data = RandomDataset(32, 4)
    quiet(max_epochs=3, limit_val_batches=0).fit(BoringModel(), DataLoader(data, sampler=Telling(data)))
    assert told == [0, 1, 2]


def test_a_loader_hook_that_is_not_asked_for_may_take_arguments(quiet):
    class Own(BoringModel):
        def train_dataloader(self, batch_size):
            return DataLoader(RandomDataset(32, 4), batch_size)

    model = Own()
    quiet(max_epochs=1, limit_val_batches=0).fit(model, model.train_dataloader(2))
    with pytest.raises(TypeError, match="requires `batch_size`, which it does not get"):
        quiet(max_epochs=1).fit(model)


def test_a_trainer_can_be_pickled():
    assert pickle.loads(pickle.dumps(L.Trainer(max_epochs=7, accelerator="cpu"))).max_epochs == 7
