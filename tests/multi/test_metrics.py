"""What several processes log is one truth: each sample counts once, whoever has seen it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi


def trainer(world, **kwargs):
    quiet = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 1, "accelerator": "cpu", "devices": world,
    }  # fmt: skip
    return L.Trainer(**{**quiet, **kwargs})


class Scores(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        import torchmetrics

        self.accuracy = torchmetrics.classification.BinaryAccuracy()

    def validation_step(self, batch, batch_idx):
        self.log("mean", batch.mean())
        self.log("sum", batch.sum(), reduce_fx="sum")
        self.log("count", float(len(batch)), reduce_fx="sum")
        self.log("max", batch.max(), reduce_fx="max")
        self.accuracy(batch % 3 / 3, batch.long() % 2)
        self.log("accuracy", self.accuracy)

    def predict_step(self, batch, batch_idx):
        return batch.tolist()


CASES = [(size, batch) for size in range(1, 18) for batch in range(1, 5)]


def evaluate_all(world):
    found = []
    for size, batch in CASES:
        data = DataLoader(torch.arange(size, dtype=torch.float64), batch_size=batch)
        run = trainer(world)
        values = run.validate(Scores(), data, verbose=False)[0]
        ids = [each for part in run.predict(Scores(), data) for each in part]
        found.append((values, ids))
    return found


@pytest.mark.parametrize("world", [2, 3])
def test_an_evaluation_gives_what_one_process_finds(world):
    expected = evaluate_all(1)
    for found in in_processes(evaluate_all, world, world, timeout_s=120):
        for case, (values, ids), (mine, mine_ids) in zip(CASES, found, expected, strict=True):
            assert values == pytest.approx(mine, rel=1e-6), case
            assert ids == mine_ids == [float(i) for i in range(case[0])], case


class Logs(L.LightningModule):
    """Logs as the scenario says."""

    def __init__(self, scenario):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.scenario = scenario

    def training_step(self, batch, batch_idx):
        rank, scenario = self.trainer.global_rank, self.scenario
        if scenario == "rank 0 alone" and rank == 0:
            self.log("a", 5.0, sync_dist=True, on_epoch=True)
        if scenario == "other names":
            self.log("a" if rank == 0 else "b", 10.0 if rank == 0 else 2.0, sync_dist=True, on_epoch=True)
        if scenario == "other order":
            for name in ["a", "b"] if rank == 0 else ["b", "a"]:
                self.log(name, {"a": 1.0, "b": 2.0}[name] + rank, sync_dist=True, on_epoch=True)
        if scenario == "fewer times" and (rank == 0 or batch_idx == 0):
            self.log("a", 1.0 + rank, sync_dist=True, on_epoch=True)
        if scenario == "later":
            self.log("a", float(rank), sync_dist=(batch_idx > 3 and None) or True, on_epoch=True)
        return self.weight * 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Rows(L.loggers.CSVLogger):
    def __init__(self):
        super().__init__(".")
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def save(self): ...


def logs(scenario):
    rows = Rows()
    run = trainer(2, logger=rows, log_every_n_steps=2)
    run.fit(Logs(scenario), DataLoader(torch.zeros(8, 1), batch_size=1))
    return {name: value.item() for name, value in run.callback_metrics.items()}, rows.rows


def test_a_value_that_one_process_logs_alone_counts_for_all():
    for values, _ in in_processes(logs, 2, "rank 0 alone"):
        assert values["a_epoch"] == 5.0


def test_names_that_differ_do_not_mix():
    for values, _ in in_processes(logs, 2, "other names"):
        assert (values["a_epoch"], values["b_epoch"]) == (10.0, 2.0)


def test_the_order_of_calls_does_not_matter():
    for values, rows in in_processes(logs, 2, "other order"):
        assert (values["a_epoch"], values["b_epoch"]) == (1.5, 2.5)
        steps = [row for _, row in rows if "a_step" in row]
        assert [(row["a_step"], row["b_step"]) for row in steps] == [(1.5, 2.5)] * 2


def test_a_process_that_logs_fewer_times_counts_less():
    for values, _ in in_processes(logs, 2, "fewer times"):
        assert values["a_epoch"] == pytest.approx((4 * 1.0 + 2.0) / 5)
