"""What ranks decide together, with two real processes that speak over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from levin.callbacks.monitored import agreed_value, not_logged
from levin.checkpoint.index import INDEX_NAME

PRELUDE = """
import json, os, sys, torch, torch.distributed as dist
import levin as L
from levin.callbacks import Callback, EarlyStopping, ModelCheckpoint
from levin.callbacks.monitored import agreed_value
from torch.utils.data import DataLoader

rank, folder = int(sys.argv[1]), sys.argv[2]
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # the group is there already
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)


class Model(L.LightningModule):
    def __init__(self, scores):
        super().__init__()
        self.weight, self.scores = torch.nn.Parameter(torch.zeros(())), scores

    def training_step(self, batch, batch_idx):
        return -self.weight

    def on_validation_epoch_end(self):
        score = self.scores[rank][self.trainer.current_epoch]
        if score is not None:
            self.log("score", score)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(scores, *callbacks):
    data = DataLoader(torch.zeros(4, 1))
    trainer = L.Trainer(
        strategy="ddp", accelerator="cpu", devices=2, callbacks=list(callbacks),
        max_epochs=len(scores[0]), logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(Model(scores), data, data)
    return trainer
"""


PROGRAM = """
class Trainer:
    world_size = 2
    strategy = L.Trainer(strategy="ddp", accelerator="cpu", devices=2, logger=False).strategy


def described(saving):
    return [saving.best_model_path, float(saving.best_model_score), sorted(saving.best_k_models)]


nan = float("nan")
pairs = [(0.1, 0.1), (1.0, 3.0), (2.0, None), (None, 2.0), (None, None), (nan, nan), (nan, 1.0)]
values = [None if pair[rank] is None else torch.tensor(pair[rank]) for pair in pairs]
agreed = [agreed_value(Trainer(), value) for value in values]
result = {"agreed": [None if value is None else str(float(value)) for value in agreed]}

# the means fall, though no rank's own values do
best = ModelCheckpoint(f"{folder}/a", "{epoch}-{score:.1f}", monitor="score", save_top_k=2, save_last=True)
fit([[4.0, 5.0, 3.0], [4.0, 1.0, 2.0]], best)
result["best"] = described(best)

alone = ModelCheckpoint(f"{folder}/b", "{epoch}", monitor="score", every_n_train_steps=2)
trainer = fit([[3.0, 2.0, 2.5], [None] * 3], alone, EarlyStopping("score", patience=1))
result["alone"] = [*described(alone), trainer.current_epoch]

stopping = EarlyStopping("score", patience=2)
trainer = fit([[1.0, 0.9, 0.8, 0.7, 0.6], [1.0, 2.0, 3.0, 4.0, 5.0]], stopping)
result["stopped"] = [trainer.current_epoch, float(stopping.best_score), stopping.stopped_epoch]

print(json.dumps(result), flush=True)
dist.destroy_process_group()
os._exit(0)  # gloo's threads may outlive the group, and abort an interpreter that tears down under them
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The folder that two ranks worked in, and what each of them came to."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "ignore", "-c", PRELUDE + PROGRAM]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], cwd=folder, env=environment, **pipes)
        for rank in range(2)
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    return folder, *results


@pytest.mark.multi
def test_ranks_agree_on_a_value(ranks):
    _, first, second = ranks
    assert first["agreed"] == second["agreed"]
    assert first["agreed"] == ["0.10000000149011612", "2.0", "2.0", None, None, "nan", "nan"]


@pytest.mark.multi
def test_the_best_is_that_of_the_mean_where_ranks_disagree(ranks):
    folder, first, second = ranks
    kept = [f"{folder}/a/epoch={epoch}-score={score}.ckpt" for epoch, score in ((1, "3.0"), (2, "2.5"))]
    assert first["best"] == second["best"] == [kept[1], 2.5, kept]
    files = [*(os.path.basename(path) for path in kept), "last.ckpt"]
    assert sorted(os.listdir(folder / "a")) == [INDEX_NAME, *files]


@pytest.mark.multi
def test_a_metric_that_rank_zero_alone_logs_can_be_monitored(ranks):
    folder, first, second = ranks
    path = f"{folder}/b/epoch=1.ckpt"
    assert first["alone"] == second["alone"] == [path, 2.0, [path], 3]


@pytest.mark.multi
def test_all_ranks_stop_in_the_same_epoch(ranks):
    _, first, second = ranks
    assert first["stopped"] == second["stopped"] == [3, 1.0, 2]


def test_one_process_keeps_its_value(fit):
    trainer = fit([])
    value = torch.tensor(1.0)
    assert agreed_value(trainer, value) is value
    assert agreed_value(trainer, None) is None


def test_a_missing_metric_is_told_with_what_there_is():
    text = not_logged("EarlyStopping", "val_los", {"val_loss": 1, "acc": 2})
    assert text.startswith("EarlyStopping watches 'val_los'")
    assert "['acc', 'val_loss']. Did you mean 'val_loss'?" in text
    assert "Did you mean" not in not_logged("EarlyStopping", "xyz", {"val_loss": 1})
