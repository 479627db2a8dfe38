"""A program that trains in two processes; the tests start it in all the ways in which one is started."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.callbacks import ModelCheckpoint


def say(*words):
    """One line in one write: processes that share a pipe would mix theirs."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Model(L.LightningModule):
    def __init__(self, act=""):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
        self.act = act

    def training_step(self, batch, batch_idx):
        step, rank = self.trainer.global_step, self.global_rank
        if step == 2:
            say("training", rank, os.getpid())
        if self.act == "wait":
            time.sleep(0.01)
        if self.act == "hang" and step == 2:
            time.sleep(50)
        if step == 5 and rank == 1 and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            if self.act == "raise":
                raise ValueError("boom")
            if self.act == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        return self.net(batch[0]).pow(2).mean()

    def test_step(self, batch, batch_idx):
        self.log("test", self.net(batch[0]).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--devices", default=2)
    parser.add_argument("--act", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--go-to", default="")
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--lock", action="store_true")
    parser.add_argument("--num-nodes", type=int, default=1)
    given = parser.parse_args(arguments)
    say("begin", repr(given.note), sys.flags.dev_mode)
    if given.go_to:
        os.chdir(given.go_to)
    data = DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=2)
    keep = ModelCheckpoint(given.folder, every_n_train_steps=2, save_on_exception=True)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=given.devices,
        num_nodes=given.num_nodes,
        strategy=given.strategy,
        callbacks=[keep],
        logger=False,
        max_epochs=500 if given.act == "wait" else 2,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=given.folder,
    )
    module = Model(given.act)
    if given.lock:
        module.net.lock = threading.Lock()
    trainer.fit(module, data, ckpt_path="auto")
    if given.twice:
        trainer.max_epochs = 3
        trainer.fit(module, data)
        trainer.test(module, data, verbose=False)
        say("kept", os.path.basename(keep.best_model_path))
    say("end", trainer.global_rank, trainer.global_step, trainer.world_size)
    if given.act == "fail after":
        sys.exit(3 * trainer.global_rank)


if __name__ == "__main__":
    main()
