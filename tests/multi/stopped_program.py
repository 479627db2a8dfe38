"""A program that trains in two processes and knows what it has seen; `test_stops` stops it in all ways."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint, Timer

BATCHES, EPOCHS = 40, 3


class Ids(Dataset):
    def __init__(self, batches):
        self.size = 2 * 4 * batches  # two processes, four samples a batch

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index, torch.full((4,), index / self.size)


class Model(L.LightningModule):
    """Does in one of its steps what it is told, and takes its time from there on."""

    def __init__(self, act):
        super().__init__()
        self.act, self.is_slow = act, False
        layers = torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
        self.net = torch.nn.Sequential(*layers)
        self.seen, self.validated, self.epoch_ends = [], 0, 0

    def at(self, stage, place):
        """Act if it is time to; afterwards each step lasts, so that a stop comes before the end."""
        if self.act and (stage, place) == tuple(self.act["at"]):
            self.is_slow = True
            if self.global_rank in self.act["ranks"]:
                getattr(self, self.act["how"])()
        if self.is_slow:
            time.sleep(0.02)

    def term(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def should_stop(self):
        self.trainer.should_stop = True

    def both(self):
        """Want to stop, and get a signal when all have known that for long."""
        self.should_stop()
        self.act = {**self.act, "at": ("training", 50), "how": "term"}

    def late(self):
        timer = next(each for each in self.trainer.callbacks if isinstance(each, Timer))
        timer.load_state_dict({"time_elapsed": {"train": 1000.0}})

    def meet(self):
        """Tell that the place is reached, and wait until whoever started the program has done his."""
        folder = Path(self.act["folder"])
        (folder / f"pid{self.global_rank}").write_text(str(os.getpid()))
        while not (folder / "go").exists():
            time.sleep(0.01)

    def training_step(self, batch, batch_idx):
        ids, x = batch
        self.seen.append([self.current_epoch, *ids.tolist()])
        loss = (self.net(x) - x.sum(1, keepdim=True)).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.at("training", len(self.seen))

    def validation_step(self, batch, batch_idx):
        self.validated += 1
        x = batch[1] if not (self.act or {}).get("gathers") else self.all_gather(batch[1]).mean(0)
        self.log("val", self.net(x).mean(), sync_dist=True)
        if not self.trainer.sanity_checking:
            self.at("validation", self.validated)

    def on_train_epoch_end(self):
        self.epoch_ends += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def fit(folder, act=None, ckpt_path=None, kwargs=None, callbacks=()):
    """Train; returns what was seen, and how it ended. Raises nothing that a stop raises."""
    L.seed_everything(3, verbose=False)
    module, status = Model(act), 0
    trainer = L.Trainer(
        accelerator="cpu", devices=2, callbacks=[*callbacks, ModelCheckpoint(f"{folder}/kept")],
        logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, num_sanity_val_steps=0,
        max_epochs=EPOCHS, **(kwargs or {}),
    )  # fmt: skip
    train, val = DataLoader(Ids(BATCHES), batch_size=4, shuffle=True), DataLoader(Ids(BATCHES), batch_size=4)
    try:
        trainer.fit(module, train, val, ckpt_path=ckpt_path)
    except SystemExit as stop:
        status = stop.code
    except KeyboardInterrupt:
        status = 130
    return {
        "status": status, "seen": module.seen, "validated": module.validated, "step": trainer.global_step,
        "epoch_ends": module.epoch_ends, "weights": [p.tolist() for p in module.parameters()],
        "random": torch.get_rng_state().tolist(),
    }  # fmt: skip


class Worse(L.Callback):
    """A metric that gets worse in one process only."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("own", float(trainer.current_epoch * (1 - trainer.global_rank)))


def fit_with(folder, callback, act):
    callbacks = {
        "early stopping": [Worse(), EarlyStopping("own", patience=1, mode="min")],
        "timer": [Timer("00:00:10:00")],
        "none": [],
    }[callback]
    return fit(folder, act, callbacks=callbacks)


def main():
    folder, act, ckpt_path, kwargs = json.loads(sys.argv[1])
    told = fit(folder, act, ckpt_path, kwargs)
    rank = os.environ.get("LOCAL_RANK", "0")
    Path(folder, f"told{rank}").write_text(json.dumps(told))
    sys.exit(told["status"])


if __name__ == "__main__":
    main()
