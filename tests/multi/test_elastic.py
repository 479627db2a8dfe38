"""A process that is lost is replaced, and the run goes on as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

pytestmark = [pytest.mark.multi, pytest.mark.slow]

PROGRAM = """
import os, signal, sys, torch
import levin as L
from torch.utils.data import DataLoader, Dataset

folder, dies_at = sys.argv[1], int(sys.argv[2])


class Ids(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        return torch.full((4,), index / 32)


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        is_first_attempt = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if is_first_attempt and self.trainer.global_rank == 1 and self.global_step == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


L.seed_everything(3, verbose=False)
model = Model()
keeper = L.callbacks.ModelCheckpoint(folder, every_n_train_steps=1, save_last=True)
trainer = L.Trainer(
    accelerator="cpu", devices="auto", max_epochs=3, callbacks=keeper, logger=False,
    enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(model, DataLoader(Ids(), batch_size=4, shuffle=True), ckpt_path="auto")
if trainer.is_global_zero:
    torch.save(model.state_dict(), f"{folder}/final.pt")
"""


def run(folder, dies_at):
    folder.mkdir()
    program = folder / "train.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "levin", "run", "--nproc", "2", "--max-restarts", "1"]
    done = subprocess.run(
        [*command, str(program), str(folder), str(dies_at)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "final.pt")


@pytest.mark.parametrize("dies_at", [1, 6])
def test_a_killed_process_is_replaced_and_the_weights_are_those_of_a_run_left_alone(tmp_path, dies_at):
    left_alone, interrupted = run(tmp_path / "a", -1), run(tmp_path / "b", dies_at)
    for name, weights in left_alone.items():
        assert torch.equal(weights, interrupted[name]), name
