"""A run that is killed again and again and goes on with ``ckpt_path="auto"``, beside one that is left alone.

    python torture.py KILL|TERM TRIALS FOLDER [--mb 200] [--meanwhile]

Each trial is a forked process that trains until the signal comes, at a random time. After each the files are
looked at; in the end the run is let go on to a step that the other one reaches undisturbed, and the weights
are compared. Ends with an AssertionError that says what went wrong, or prints what was seen.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import sys
import traceback

import torch
from torch import nn
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.checkpoint import AsyncCheckpointIO, TorchCheckpointIO
from levin.checkpoint.index import INDEX_NAME, Index, damage
from levin.utils.rank import rank_zero_only

SAVE_EVERY, LONGEST_S = 3, 2.0


class Noisy(L.LightningModule):
    """Learns with dropout and batch norm from shuffled data; a large buffer changes at each step."""

    def __init__(self, mb):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1))
        self.register_buffer("losses", torch.zeros(mb * 250_000))

    def training_step(self, batch, batch_idx):
        loss = self.net(batch).square().mean()
        self.losses[self.global_step * 7919 % len(self.losses)] = loss.detach()
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Telling(TorchCheckpointIO):
    """Says which steps are saved."""

    def __init__(self, tell):
        self.tell = tell

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        super().save_checkpoint(checkpoint, path, storage_options)
        self.tell(f"saved {checkpoint['global_step']}")


class Steps(L.Callback):
    """Says where the run begins and what it does."""

    def __init__(self, tell):
        self.tell = tell

    def on_train_start(self, trainer, pl_module):
        self.tell(f"began {trainer.global_step}")

    def on_train_batch_end(self, trainer, *_):
        self.tell(f"step {trainer.global_step}")


def train(options, folder, tell, max_steps=-1):
    """Train, in the folder, from where it is; return the model."""
    saving = AsyncCheckpointIO(Telling(tell)) if options.meanwhile else Telling(tell)
    model = Noisy(options.mb)
    trainer = L.Trainer(
        max_steps=max_steps, max_epochs=-1, default_root_dir=folder, logger=False, plugins=[saving],
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, every_n_train_steps=SAVE_EVERY, save_last=True), Steps(tell)],
    )  # fmt: skip
    data = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    trainer.fit(model, DataLoader(data, batch_size=4, shuffle=True), ckpt_path="auto")
    return model


class Trial:
    """A process that trains in a folder; `said` is what it told, a list of words and steps."""

    def __init__(self, options, folder):
        self.reading, writing = os.pipe()
        self.pid, self.said, self.rest = os.fork(), [], b""
        if not self.pid:
            self.train(options, folder, writing)
        os.close(writing)

    def train(self, options, folder, writing):
        status = 1
        os.close(self.reading)  # if nobody listens any more, telling is an error
        try:
            train(options, folder, lambda text: os.write(writing, f"{text}\n".encode()))
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        os._exit(status)

    def listen(self, timeout_s=None):
        """Hear what it says, once; return whether there may be more."""
        if not select.select([self.reading], [], [], timeout_s)[0]:
            return False
        data = os.read(self.reading, 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.said += [(word.decode(), int(step)) for word, step in map(bytes.split, lines)]
        return bool(data)

    def end(self, number):
        """Send a signal, and return the exit status."""
        os.kill(self.pid, number)
        while self.listen():
            pass
        os.close(self.reading)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def newest(self, word):
        """The last step that it told of with a word."""
        return max((step for said, step in self.said if said == word), default=0)


def check_files(folder):
    """Return the step of the newest checkpoint; all that are there have to be whole."""
    index = Index(folder)
    steps = [0]
    for commit in index.present():
        path = index.path_of(commit)
        wrong = damage(path)
        assert wrong is None or commit is index.present()[-1], f"{path}: {wrong}"
        if wrong is None:
            steps.append(commit.step)
    return max(steps)


def check_garbage(folder, trial):
    """What a former process left has to be gone once the next one trains."""
    names = set(os.listdir(folder))
    unfinished = [name for name in names if name.endswith(".tmp") and f"-{trial.pid}-" not in name]
    assert not unfinished, f"left: {unfinished}"
    assert len(names - {INDEX_NAME}) <= 4, sorted(names)  # two, a link, and one in the making


def torture(options, number):
    """Send the signal again and again; return how far it came."""
    generator, saved, told = random.Random(options.seed), 0, []
    for trial_number in range(options.trials):
        trial = Trial(options, options.folder)
        while not any(word == "began" for word, _ in trial.said):
            assert trial.listen(), f"trial {trial_number} ended before it began"
        check_garbage(options.folder, trial)
        began = trial.said[0][1]
        assert began >= saved, f"trial {trial_number} began at step {began}, and {saved} had been saved"
        wait_s = generator.uniform(0, LONGEST_S)
        while wait_s > 0:
            wait_s -= 0.02
            trial.listen(0.02)
        status = trial.end(number)
        saved = check_files(options.folder)
        assert saved >= max(began, trial.newest("saved")), (saved, trial.said[-5:])
        if number == signal.SIGTERM:
            assert status == 143, f"trial {trial_number} ended with {status}"
            assert saved == max(began, trial.newest("step")), (saved, trial.said[-5:])
        else:
            assert status == -signal.SIGKILL, f"trial {trial_number} ended with {status}"
        told.append((began, trial.newest("step"), saved))
    return told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("signal", choices=["KILL", "TERM"])
    parser.add_argument("trials", type=int)
    parser.add_argument("folder")
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--meanwhile", action="store_true", help="save with AsyncCheckpointIO")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rank_zero_only.rank = 0
    shutil.rmtree(options.folder, ignore_errors=True)
    os.makedirs(options.folder)
    told = torture(options, signal.Signals[f"SIG{options.signal}"])
    last = told[-1][2] + 5
    ours = train(options, options.folder, lambda _: None, last).state_dict()
    alone = train(options, f"{options.folder}-alone", lambda _: None, last).state_dict()
    different = [name for name in ours if not torch.equal(ours[name], alone[name])]
    for folder in (options.folder, f"{options.folder}-alone"):
        shutil.rmtree(folder)
    num_lost = sum(stepped - saved for _, stepped, saved in told if stepped > saved)
    print(f"{options.trials} x SIG{options.signal}, {last} steps, {num_lost} done again")
    assert not different, f"not as in the run that was left alone: {different}"


if __name__ == "__main__":
    sys.exit(main())
