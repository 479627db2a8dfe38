"""Every call into user code, in order, is the one that Lightning makes, and the outcome is the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import levin

PARITY = Path(__file__).parents[1] / "parity"
sys.path.append(str(PARITY))

from programs import PROGRAMS, outcome  # noqa: E402
from recorder import without_trial  # noqa: E402
from scenarios import SCENARIOS, trace  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the programs do odd things; the order is what counts here


def without_reads(calls):
    """Leave out when which rows were read.

    levin resumes the data of an interrupted epoch, where Lightning starts it over. Of data without a length
    levin reads ahead only once the loop is there, and always, to know which batch is the last.
    """
    return [call for call in calls if not (call.startswith("data.") and call.endswith("]"))]


def without_reads_and_saves(calls):
    """Leave out what saves a checkpoint, too: Lightning saves once more at the step that it resumed from."""
    return [call for call in without_reads(calls) if not call.split(" ")[0].endswith(SAVING)]


def without_epoch_of_sanity_check(calls):
    """Leave out `current_epoch` before training.

    levin counts on at once from the checkpoint's epoch, Lightning after the sanity check.
    """
    start = next(i for i, call in enumerate(calls) if call.startswith("callback.on_train_start"))
    return [call.replace("| e0 ", "| ").replace("| e1 ", "| ") for call in calls[:start]] + calls[start:]


def without_openings(calls):
    """Leave out when training data is opened.

    After a reload and in a second fit Lightning does it twice; between two epochs levin goes on as it would
    have without the interruption, and opens it when the epoch has begun.
    """
    return [call for call in calls if call != "data.train.iter"]


def without_rows(calls):
    """Leave out what goes to loggers: Lightning drops the row of an epoch that it resumes at its end."""
    return [call for call in calls if not call.startswith("logger.")]


def without_modes_of_exceptions(calls):
    """Leave out the mode of the module once an exception is on its way: levin gives the old one back."""
    return [call.rsplit(" ", 1)[0] if "on_exception" in call else call for call in calls]


SAVING = ("state_dict", "on_save_checkpoint", "after_save_checkpoint")


def saves_last(calls):
    """Put each save where levin has it: after the module's hook and the row, so that what is saved is all."""
    ordered, waiting = [], []
    for call in calls:
        name = call.split(" ")[0]
        is_save = name.endswith(SAVING) and "load_" not in name
        is_late_move = waiting and ("lr_scheduler_step" in name or name.startswith("scheduler."))
        if name.startswith("checkpoint.on_") or is_save or is_late_move:
            waiting.append(call)
            continue
        if waiting and not name.startswith(
            ("module.on_train_batch_end", "module.on_validation_end", "logger.")
        ):
            ordered += waiting
            waiting = []
        ordered.append(call)
    return ordered + waiting


# Where levin differs on purpose: what is left out before the traces are compared.
ON_PURPOSE = {
    "exception_in_validation_step": without_modes_of_exceptions,
    "loader_of_unknown_length": without_reads,
    "loaders_reloaded_every_epoch": without_openings,
    "second_fit_of_one_trainer": without_openings,
    "loader_of_unknown_length_limited": without_reads,
    "resume_after_an_epoch": lambda calls: without_openings(without_epoch_of_sanity_check(calls)),
    "resume_in_the_middle_of_an_epoch": without_reads,
    "resume_after_a_validation_in_the_middle_of_an_epoch": without_reads,
    "resume_after_the_validation_of_the_last_batch": (
        lambda calls: without_rows(without_openings(without_reads_and_saves(calls)))
    ),
    "resume_when_all_is_done": without_openings,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_user_code_is_called_as_lightning_calls_it(name, tmp_path):
    expected = json.loads((PARITY / "traces" / f"{name}.json").read_text())
    calls = trace(name, levin, str(tmp_path))
    leave_out = ON_PURPOSE.get(name, list)
    assert leave_out(without_trial(calls)) == leave_out(saves_last(expected))


def test_a_resumed_epoch_goes_on_with_the_next_batch(tmp_path):
    calls = trace("resume_in_the_middle_of_an_epoch", levin, str(tmp_path))
    first = next(i for i, call in enumerate(calls) if call.startswith("module.on_train_batch_start"))
    read = [call for call in calls[:first] if call.startswith("data.train[")]
    assert "batch_idx=2" in calls[first]
    assert read[-1] == "data.train[4,5]"


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("one_thread")
def test_logger_rows_and_checkpoints_are_those_of_lightning(name, tmp_path):
    expected = json.loads((PARITY / "outcomes" / f"{name}.json").read_text())
    ours = json.loads(json.dumps(outcome(PROGRAMS[name](levin, tmp_path))))
    assert leaves(ours) == {way: about(leaf) for way, leaf in leaves(expected).items()}


def leaves(value, path=""):
    """Return what nested lists and dicts hold, under the way to it."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {way: leaf for key, part in parts for way, leaf in leaves(part, f"{path}/{key}").items()}
    return {path: value}


def about(leaf):
    """Return what a leaf may be on another machine, which rounds otherwise."""
    return pytest.approx(leaf, rel=1e-4, abs=1e-6) if isinstance(leaf, float) else leaf
