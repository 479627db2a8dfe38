"""One process fails: the others end within seconds, and what they say last is why."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import timedelta

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.checkpoint import TorchCheckpointIO
from levin.strategies import DDPStrategy
from levin.testing.processes import in_processes

pytestmark = [pytest.mark.multi, pytest.mark.slow]

BUDGET_S = 30.0


class Numbers(Dataset):
    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 4000

    def __getitem__(self, index):
        if self.how == "loader's worker" and index == 31:
            raise ValueError("broken on purpose")
        return torch.full((4,), index / 4000)


class Fails(L.LightningModule):
    """Its process of rank 1 fails in its third step, as it is told."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        if batch_idx == 2:
            getattr(self, f"rank_{self.trainer.global_rank}")()
        return self.layer(batch).mean()

    def rank_0(self):
        if self.how == "gathers alone":
            self.all_gather(torch.ones(1))
        if self.how == "waits alone":
            self.trainer.strategy.barrier("mine")

    def rank_1(self):
        if self.how in ("step", "living thread"):
            if self.how == "living thread":
                threading.Thread(target=time.sleep, args=(60,)).start()
            raise ValueError("broken on purpose")
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.how == "exits":
            os._exit(0)
        if self.how == "sys.exit":
            sys.exit(3)
        if self.how == "sleeps":
            time.sleep(60)

    def validation_step(self, batch, batch_idx):
        if self.how == "validation" and self.trainer.global_rank == 1 and not self.trainer.sanity_checking:
            raise ValueError("broken on purpose")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.how == "hook" and self.trainer.global_rank == 1 and batch_idx == 2:
            raise ValueError("broken on purpose")

    def prepare_data(self):
        if self.how == "slow preparation":
            time.sleep(7)
        if self.how == "failing preparation":
            raise ValueError("broken on purpose")


def fit(how, seconds):
    strategy = DDPStrategy(timeout=timedelta(seconds=seconds)) if seconds else "ddp"
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy=strategy, max_epochs=1, limit_train_batches=10,
        limit_val_batches=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    workers = 1 if how == "loader's worker" else 0
    trainer.fit(
        Fails(how),
        DataLoader(Numbers(how), batch_size=2, num_workers=workers),
        DataLoader(Numbers(how), batch_size=2),
    )
    return "done"


def failure(how, seconds=None, within_s=BUDGET_S):
    """What is said when rank 1 fails so, by errors and on the console."""
    began = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        in_processes(fit, 2, how, seconds, timeout_s=60)
    assert time.monotonic() - began < within_s
    return str(caught.value)


@pytest.mark.parametrize("how", ["step", "living thread", "validation", "hook", "loader's worker"])
def test_what_one_process_raises_is_what_the_others_say(how):
    said = failure(how)
    assert "ValueError: broken on purpose" in said
    if how != "loader's worker":  # of which each process has one
        assert "Rank 1 on " in said.partition("--- rank 1")[0]


@pytest.mark.parametrize("how", ["killed", "exits"])
def test_a_process_that_is_gone_is_named(how):
    assert "Rank 1 ended without a word" in failure(how)


def test_a_process_that_exits_in_the_middle_of_a_run_is_a_failure():
    assert "Rank 1 on" in failure("sys.exit")


@pytest.mark.parametrize(
    ("how", "name"), [("gathers alone", "all_gather"), ("waits alone", "barrier('mine')")]
)
def test_a_collective_call_of_one_process_alone_is_named_with_its_line(how, name):
    said = failure(how)
    assert "The processes wait for one another in different places" in said
    assert f"rank 0 in {name}" in said
    assert "in rank_0: self." in said


def test_a_process_that_hangs_is_found_where_it_hangs():
    said = failure("sleeps", seconds=6)
    assert "in rank_1: time.sleep(60)" in said


def test_a_process_that_is_stopped_does_not_answer():
    assert "rank 1: no answer" in failure("stopped", seconds=6, within_s=45.0)


def test_long_work_of_one_process_trips_no_time_out():
    assert in_processes(fit, 2, "slow preparation", 6) == ["done", "done"]


def test_work_that_others_wait_for_and_that_fails_ends_them():
    assert "Rank 0 on" in failure("failing preparation")


class SlowWriter(TorchCheckpointIO):
    def save_checkpoint(self, *args, **kwargs):
        time.sleep(7)
        super().save_checkpoint(*args, **kwargs)


def save_slowly(folder):
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy=DDPStrategy(timeout=timedelta(seconds=6)), max_epochs=1,
        limit_train_batches=2, logger=False, plugins=SlowWriter(), enable_progress_bar=False,
        enable_model_summary=False, callbacks=L.callbacks.ModelCheckpoint(folder),
    )  # fmt: skip
    trainer.fit(Fails("not at all"), DataLoader(Numbers(""), batch_size=2))
    return os.path.exists(trainer.checkpoint_callback.best_model_path)


def test_a_checkpoint_that_takes_longer_than_the_time_out_is_waited_for(tmp_path):
    assert in_processes(save_slowly, 2, str(tmp_path)) == [True, True]
