"""What scripts and people look for in the log of a run stands there, in Lightning's words."""

from __future__ import annotations

import logging
from importlib import import_module

import pytest

pytestmark = pytest.mark.filterwarnings("default")

LIBRARIES = [
    pytest.param(("levin", ["levin"]), id="levin"),
    pytest.param(
        # Its other package says all, once a test in the same process imported it with an old checkpoint.
        (
            "lightning.pytorch",
            ["lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"],
        ),
        id="lightning",
        marks=pytest.mark.parity,
    ),
]


@pytest.fixture(params=LIBRARIES)
def library(request):
    """The library, and with it all that its logger says."""
    module, names = request.param
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.level) for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.setLevel(logging.INFO)
    library = import_module(module)
    library.said = said
    yield library
    for each, level in before:
        each.removeHandler(handler)
        each.setLevel(level)
    del library.said


@pytest.fixture
def trainer(library, tmp_path):
    """``trainer(**arguments)`` makes a quick one, that tests nothing before it trains."""
    quick = {
        "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1,
        "num_sanity_val_steps": 0, "default_root_dir": tmp_path,
    }  # fmt: skip
    return lambda **arguments: library.Trainer(**{**quick, **arguments})


@pytest.fixture
def model(library):
    boring = import_module(f"{library.__name__}.demos.boring_classes").BoringModel

    class Scoring(boring):
        score = 3.0

        def validation_step(self, batch, batch_idx):
            self.score = self.score - 1
            self.log("score", self.score)

    return Scoring()


def test_the_seed_is_told(library, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # what `seed_everything` sets is taken back at the end
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    library.seed_everything(42)
    assert "Seed set to 42" in library.said


@pytest.mark.parametrize(
    ("limits", "data", "reason"),
    [
        ({}, None, "`max_epochs=1` reached."),
        ({"max_steps": 1}, None, "`max_steps=1` reached."),
        ({}, [], "No training batches."),
    ],
    ids=str,
)
def test_why_a_training_ended_is_told(library, trainer, model, limits, data, reason):
    trainer(**limits).fit(model, data)
    assert f"`Trainer.fit` stopped: {reason}" in library.said


def test_the_devices_are_told(library, trainer):
    trainer()
    assert any(line.startswith("GPU available: ") and ", used: " in line for line in library.said)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_run_of_few_batches_is_told(library, trainer, batches):
    trainer(fast_dev_run=batches)
    running = f"Running in `fast_dev_run` mode: will run the requested loop using {batches} batch(es)."
    assert [line for line in library.said if line.startswith(running)]


def test_what_one_batch_and_all_batches_were_given_as_is_told(library, trainer):
    trainer(limit_test_batches=1)
    assert [line for line in library.said if line.startswith("`Trainer(limit_test_batches=1)` was ")]


def test_what_is_restored_from_where_is_told(library, trainer, model, tmp_path):
    first = trainer()
    first.fit(model)
    first.save_checkpoint(tmp_path / "one.ckpt")
    trainer(max_epochs=2).fit(model, ckpt_path=tmp_path / "one.ckpt")
    trainer().test(model, ckpt_path=tmp_path / "one.ckpt", verbose=False)
    for what in (
        "Restoring states from the checkpoint path at",
        "Loaded model weights from the checkpoint at",
    ):
        assert f"{what} {tmp_path / 'one.ckpt'}" in library.said


def test_early_stopping_tells_of_what_got_better(library, trainer, model):
    stopping = import_module(f"{library.__name__}.callbacks").EarlyStopping("score", verbose=True)
    trainer(max_epochs=2, callbacks=stopping).fit(model)
    assert [line[:21] for line in library.said if line.startswith("Metric score ")] == [
        "Metric score improved"
    ] * 2
