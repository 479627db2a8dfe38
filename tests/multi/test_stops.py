"""A stop is one of all processes: where they end, what they leave, and how the run goes on."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from levin.testing.processes import in_processes

pytestmark = [pytest.mark.multi, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("stopped_program.py")
BUDGET_S = 40.0

spec = importlib.util.spec_from_file_location("stopped_program", PROGRAM)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

LAST = program.BATCHES * program.EPOCHS
COMPUTED = ("weights", "random", "step")


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """What each process sees and computes if nobody stops it, by the batches that are accumulated."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        each: in_processes(program.fit, 2, folder / str(each), None, None, {"accumulate_grad_batches": each})
        for each in (1, 3)
    }


def assert_goes_on(whole, stopped, folder, accumulate, ckpt_path):
    """The run goes on where it was stopped, and comes to the bits of the one that nobody stopped."""
    assert len({len(each["seen"]) for each in stopped}) == 1
    assert_one_newest(folder / "kept", stopped[0]["step"])
    resumed = in_processes(program.fit, 2, folder, None, ckpt_path, {"accumulate_grad_batches": accumulate})
    for alone, before, after in zip(whole, stopped, resumed, strict=True):
        assert before["seen"] + after["seen"] == alone["seen"]
        assert [after[name] for name in COMPUTED] == [alone[name] for name in COMPUTED]


def assert_one_newest(folder, step):
    """There is one checkpoint of the step at which the run stopped, whole, and nothing half written."""
    files = list({path.resolve() for path in folder.iterdir() if path.name != ".checkpoints.jsonl"})
    assert all(path.suffix == ".ckpt" for path in files)
    steps = [torch.load(path, weights_only=True)["global_step"] for path in files]
    assert steps.count(step) == 1
    assert max(steps) == step


# ---------------------------------------------------------------------- a signal at any place


@pytest.mark.parametrize(
    ("at", "ranks", "accumulate"),
    [  # stages, and places in them, of three epochs with 40 batches each
        (("training", 1), [0], 1),
        (("training", 17), [1], 3),
        (("training", 38), [0, 1], 3),
        (("training", 63), [0], 3),
        (("validation", 2), [1], 1),
        (("validation", 30), [0, 1], 3),
        (("validation", 40), [0], 1),
    ],
    ids=str,
)
def test_a_run_that_got_sigterm_goes_on_to_the_same_bits(tmp_path, left_alone, at, ranks, accumulate):
    act = {"at": at, "ranks": ranks, "how": "term"}
    began = time.monotonic()
    stopped = in_processes(program.fit, 2, tmp_path, act, None, {"accumulate_grad_batches": accumulate})
    assert time.monotonic() - began < BUDGET_S
    assert [each["status"] for each in stopped] == [143, 143]
    assert len(stopped[0]["seen"]) < LAST
    assert_goes_on(left_alone[accumulate], stopped, tmp_path, accumulate, "last")


@pytest.mark.parametrize("gathers", [False, True], ids=["apart", "in step"])
def test_a_validation_is_not_waited_for(tmp_path, left_alone, gathers):
    act = {"at": ("validation", 2), "ranks": [1], "how": "term", "gathers": gathers}
    stopped = in_processes(program.fit, 2, tmp_path, act)
    assert [each["status"] for each in stopped] == [143, 143]
    assert all(2 < each["validated"] < program.BATCHES for each in stopped)
    assert_goes_on(left_alone[1], stopped, tmp_path, 1, "auto")


@pytest.mark.parametrize("at", [("training", LAST), ("validation", LAST)], ids=str)
def test_a_signal_in_the_last_batch_ends_the_program_that_has_trained_to_its_end(tmp_path, left_alone, at):
    act = {"at": at, "ranks": [1], "how": "term"}
    stopped = in_processes(program.fit, 2, tmp_path, act)
    assert [each["status"] for each in stopped] == [143, 143]
    assert [each["weights"] for each in stopped] == [each["weights"] for each in left_alone[1]]


# ---------------------------------------------------------------------- a wish to end well


@pytest.mark.parametrize(
    ("callback", "how"), [("none", "should_stop"), ("timer", "late")], ids=["should_stop", "timer"]
)
def test_what_one_process_wants_ends_all_after_the_same_batch(tmp_path, callback, how):
    act = {"at": ("training", 6), "ranks": [1], "how": how}
    mine, others = in_processes(program.fit_with, 2, tmp_path, callback, act)
    assert (mine["status"], others["status"]) == (0, 0)
    assert 6 < len(mine["seen"]) == len(others["seen"]) < LAST
    assert mine["weights"] == others["weights"]
    assert_one_newest(tmp_path / "kept", mine["step"])


def test_a_metric_that_got_worse_in_one_process_ends_all_in_the_same_epoch(tmp_path):
    results = in_processes(program.fit_with, 2, tmp_path, "early stopping", None)
    assert [(each["epoch_ends"], len(each["seen"])) for each in results] == [(2, 2 * program.BATCHES)] * 2


def test_a_signal_is_obeyed_while_a_wish_to_end_well_waits_for_its_time(tmp_path):
    act = {"at": ("training", 6), "ranks": [1], "how": "both"}
    stopped = in_processes(program.fit, 2, tmp_path, act, None, {"min_epochs": program.EPOCHS})
    assert [each["status"] for each in stopped] == [143, 143]
    assert len({len(each["seen"]) for each in stopped}) == 1
    assert len(stopped[0]["seen"]) < LAST


# ---------------------------------------------------------------------- programs


def start(folder, *settings):
    hidden = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps([str(folder), *settings])],
        env={**env, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def pids(process, folder):
    """The processes, once each of them is where it waits."""
    files = [folder / f"pid{rank}" for rank in (0, 1)]
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return [int(file.read_text()) for file in files]


@pytest.mark.parametrize(
    ("number", "ranks", "status"),
    [
        (signal.SIGTERM, (0,), 143),
        (signal.SIGTERM, (1,), 143),
        (signal.SIGTERM, (1, 0, 0), 143),
        (signal.SIGINT, (0, 1), 130),
    ],
    ids=["SIGTERM to 0", "SIGTERM to 1", "SIGTERM to one after the other, and twice", "Ctrl-C"],
)
def test_a_program_that_was_stopped_ends_soon_and_goes_on(tmp_path, left_alone, number, ranks, status):
    act = {"at": ("training", 50), "ranks": [0, 1], "how": "meet", "folder": str(tmp_path)}
    process = start(tmp_path, act, None, {"accumulate_grad_batches": 3})
    running = pids(process, tmp_path)
    began = time.monotonic()
    for place, rank in enumerate(ranks):
        os.kill(running[rank], number)
        if not place:
            (tmp_path / "go").touch()
            while "ends after this batch" not in process.stderr.readline():
                assert process.poll() is None
    process.communicate(timeout=BUDGET_S)
    assert time.monotonic() - began < BUDGET_S
    assert process.returncode == status
    stopped = [json.loads((tmp_path / f"told{rank}").read_text()) for rank in (0, 1)]
    assert [each["status"] for each in stopped] == [status, status]
    assert_goes_on(left_alone[3], stopped, tmp_path, 3, "auto")
