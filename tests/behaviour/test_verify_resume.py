"""`levin verify-resume` kills programs, and says whether anything is lost."""

from __future__ import annotations

import pytest

from levin.cli.main import main

PROGRAM = """
import sys
import time
import numpy as np
import torch
import levin as L
from torch.utils.data import DataLoader, Dataset

everywhere = np.random.default_rng(1)

class Samples(Dataset):
    def __init__(self):
        self.rng = np.random.default_rng(None if "unseeded" in sys.argv else 1)

    def __len__(self):
        return 14

    def __getitem__(self, index):
        drawn = (everywhere if "global" in sys.argv else self.rng).random()
        return torch.full((4,), index + drawn, dtype=torch.float32)

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.past, self.made = [], time.time()

    def training_step(self, batch):
        if "list" in sys.argv:
            self.past.append(batch.sum().item())
            batch = batch + len(self.past)
        if "time" in sys.argv:
            batch = batch + (time.time() - self.made)
        loss = torch.nn.functional.dropout(self.layer(batch), 0.5).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

if "nothing" not in sys.argv:
    L.seed_everything(3)
    devices = 2 if "two" in sys.argv else 1
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=devices, logger=False, enable_progress_bar=False
    )
    trainer.fit(Model(), DataLoader(Samples(), batch_size=3, shuffle=True))
"""


@pytest.fixture
def verify(tmp_path, capsys):
    (tmp_path / "train.py").write_text(PROGRAM)

    def run(*arguments):
        status = main(
            ["verify-resume", "--kills", "2", "--seed", "5", str(tmp_path / "train.py"), *arguments]
        )
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.mark.slow
def test_a_program_that_loses_nothing_is_told_so(verify, tmp_path):
    status, said = verify()
    assert status == 0
    assert "The same to the last bit: 10 batches, 10 logged values" in said
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.slow
@pytest.mark.multi
def test_a_program_of_two_processes_is_judged_by_what_each_of_them_did(verify):
    status, said = verify("two")
    assert status == 0, said
    assert "6 batches, 6 logged values and the weights after each in each of 2 processes" in said


@pytest.mark.slow
def test_a_generator_that_nobody_seeded_is_found_and_named(verify):
    status, said = verify("unseeded")
    assert status == 1
    assert "does not repeat itself, even without a stop: in batch 1 (batch 0 of epoch 0)" in said
    assert "The random generator train_dataloader.dataset.rng stands elsewhere" in said


@pytest.mark.slow
def test_a_generator_that_no_checkpoint_holds_is_found_and_named(verify):
    status, said = verify("global")
    assert status == 1
    assert "NOT THE SAME" in said
    assert "The random generator __main__.everywhere stands elsewhere" in said


@pytest.mark.slow
def test_a_list_that_no_checkpoint_holds_is_found_and_named(verify):
    status, said = verify("list")
    assert status == 1
    assert " module.past: not as without a stop" in said
    assert "made" not in said


@pytest.mark.slow
def test_what_follows_the_time_is_told_to_be_no_matter_of_seeds(verify):
    status, said = verify("time")
    assert status == 1
    assert "does not repeat itself, even without a stop" in said
    assert "module.made: not the same in each run. What follows the time" in said
    assert "Seed" not in said
    assert "checkpoint" not in said


@pytest.mark.slow
def test_a_program_that_trains_nothing_can_not_be_judged(verify):
    assert verify("nothing") == (
        2,
        "The program trained nothing: it does not call `Trainer.fit`, or has no data.\n",
    )
