"""A run of several processes goes on where it was, with as many of them or another number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import levin as L
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi

SIZE = 48


class Ids(Dataset):
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return index, torch.full((4,), index / SIZE, dtype=torch.float64)


class Records(L.LightningModule):
    """Knows which samples it saw in which epoch."""

    def __init__(self, dropout):
        super().__init__()
        torch.manual_seed(1)
        layers = torch.nn.Linear(4, 8), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1)
        self.net = torch.nn.Sequential(*layers).double()
        self.seen = []

    def training_step(self, batch, batch_idx):
        ids, x = batch
        self.seen += [(self.trainer.current_epoch, each) for each in ids.tolist()]
        loss = (self.net(x) - x.sum(1, keepdim=True)).square().mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def part(world, folder, first, last, kwargs):
    """Train up to a step, go on from the checkpoint of ``first``, and leave one of ``last``."""
    kwargs = dict(kwargs)
    dropout, batch_size, shuffle = kwargs.pop("dropout", 0.0), kwargs.pop("batch_size", 4), True
    L.seed_everything(11, verbose=False)
    module = Records(dropout)
    trainer = L.Trainer(
        accelerator="cpu", devices=world, max_epochs=2, max_steps=last or -1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **kwargs,
    )  # fmt: skip
    path = f"{folder}/{first}.ckpt" if first else None
    trainer.fit(module, DataLoader(Ids(), batch_size=batch_size, shuffle=shuffle), ckpt_path=path)
    if last:
        trainer.save_checkpoint(f"{folder}/{last}.ckpt")
    return module.seen, [p.tolist() for p in module.parameters()], trainer.callback_metrics["loss"].item()


def run(world, *args):
    return in_processes(part, world, world, *args)


@pytest.mark.parametrize("stop", [1, 4, 6, 9])
@pytest.mark.parametrize("kwargs", [{}, {"accumulate_grad_batches": 4}], ids=["plain", "accumulating"])
def test_as_many_processes_go_on_to_the_same_bits(tmp_path, stop, kwargs):
    if "accumulate_grad_batches" in kwargs:
        stop = 1 + stop % 3
    kwargs = {"dropout": 0.5, **kwargs}
    whole = run(2, tmp_path, 0, 0, kwargs)
    before, after = run(2, tmp_path, 0, stop, kwargs), run(2, tmp_path, stop, 0, kwargs)
    for rank in range(2):
        assert before[rank][0] + after[rank][0] == whole[rank][0]
        assert after[rank][1:] == whole[rank][1:]


@pytest.mark.parametrize("worlds", [(2, 1, 3), (1, 2, 1), (3, 2, 2)], ids=str)
def test_another_number_of_processes_sees_the_samples_that_are_left(tmp_path, worlds):
    seen = []
    for world, (first, last) in zip(worlds, [(0, 2), (2, 4), (4, 0)], strict=True):
        seen += [each for found in run(world, tmp_path, first, last, {}) for each in found[0]]
    assert sorted(each for epoch, each in seen if epoch == 0) == list(range(SIZE))
    assert len({each for epoch, each in seen if epoch == 1}) == len([1 for epoch, _ in seen if epoch == 1])


def test_with_a_global_batch_size_the_training_is_the_same_across_numbers_of_processes(tmp_path):
    kwargs = {"global_batch_size": 12, "accumulate_grad_batches": 2}
    _, whole, loss = run(2, tmp_path, 0, 0, kwargs)[0]
    for world, (first, last) in zip((2, 1, 3), [(0, 1), (1, 3), (3, 0)], strict=True):
        results = run(world, tmp_path, first, last, kwargs)
    for _, weights, its_loss in results:
        for mine, theirs in zip(whole, weights, strict=True):
            np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=1e-10, atol=1e-12)
        assert its_loss == pytest.approx(loss, rel=1e-6)
