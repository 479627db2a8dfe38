"""A long run needs no more memory than a short one."""

from __future__ import annotations

import gc
import itertools
import os
from pathlib import Path

import pytest
import torch

import levin as L
from levin.loggers import CSVLogger

NAMES = ("loss", "a", "b", "c", "d")


class Talkative(L.LightningModule):
    """Logs five tensors in each step, for the step and for the epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean()
        for name in NAMES:
            self.log(name, loss * 1, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Repeated:
    """One batch, 500 times an epoch."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 500

    def __iter__(self):
        return itertools.repeat(self.batch, len(self))


class Samples(L.Callback):
    """Measures every so many steps, from the middle of a run on, when all that is made once is there.

    Args:
        measure: Returns what is to stay as it is.
        num_steps: The steps of the run.
        every: How often, in steps.
    """

    def __init__(self, measure, num_steps, every):
        self.measure, self.every, self.warm = measure, every, num_steps // 2
        self.found = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step >= self.warm and trainer.global_step % self.every == 0:
            gc.collect()
            self.found.append(self.measure())


def num_objects():
    return len(gc.get_objects())


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def measured(quiet, tmp_path):
    """``measured(measure, num_steps, logger=False)`` fits so many steps and returns what was measured."""

    def measured(measure, num_steps, *, every, logger=False):
        samples = Samples(measure, num_steps, every)
        trainer = quiet(
            max_steps=num_steps,
            max_epochs=-1,
            callbacks=samples,
            logger=CSVLogger(tmp_path) if logger else False,
            log_every_n_steps=10,
        )
        trainer.fit(Talkative(), Repeated(torch.ones(2, 4)))
        return samples.found

    return measured


@pytest.mark.parametrize("logger", [False, True])
def test_objects_do_not_pile_up(measured, logger):
    found = measured(num_objects, 1_000, every=100, logger=logger)
    assert len(found) == 6
    assert max(found) - found[0] <= 20  # what earlier tests left may go in the meantime


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read the resident memory from")
@pytest.mark.parametrize("logger", [False, True])
def test_fifty_thousand_steps_leave_memory_as_it_is(measured, logger):
    found = measured(lambda: (num_objects(), resident_bytes()), 50_000, every=2_500, logger=logger)
    objects, resident = zip(*found, strict=True)
    assert max(objects) - objects[0] <= 20
    assert resident[-1] - resident[0] <= 4 * 2**20  # one tensor kept in each step would be twelve
