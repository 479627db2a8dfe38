"""How long a program of two processes takes from its start to its first step, beside Lightning's.

    python benchmarks/start_cost.py [--repeats 3]

Both run the same program (`PROGRAM`), which starts its other process itself: CPU, gloo, a linear model.
The time is that from `python program.py` to the end of the first step in both processes. What torch takes for
its own import and for wrapping the model is in it, for both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import importlib, os, sys, time
import torch
from torch.utils.data import DataLoader, TensorDataset

L = importlib.import_module(sys.argv[1])


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def on_train_batch_end(self, *args):
        with open(f"{sys.argv[2]}/{self.trainer.global_rank}", "w") as file:
            file.write(str(time.time()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_steps=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(Model(), DataLoader(TensorDataset(torch.zeros(8, 4)), batch_size=2))
"""


def seconds(framework):
    """From the start of the program to the end of the first step in both processes."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(PROGRAM)
        began = time.time()
        subprocess.run(
            [sys.executable, "-W", "ignore", str(program), framework, folder],
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return max(float(Path(folder, str(rank)).read_text()) for rank in range(2)) - began


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    frameworks = ("levin", "lightning.pytorch")
    times = {name: [] for name in frameworks}
    for _ in range(parser.parse_args().repeats):
        for name in frameworks:
            times[name].append(seconds(name))
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, median in medians.items():
        print(f"{name:20} {median:5.1f} s   {median / medians['lightning.pytorch']:.2f}x Lightning")
    if medians["levin"] > medians["lightning.pytorch"]:
        sys.exit("levin starts later than Lightning.")


if __name__ == "__main__":
    main()
