"""A loop of one's own in several processes: the numbers of one, data dealt out evenly, failures told."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

import levin as L
from levin.loggers import CSVLogger
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi


def numbers(size=24):
    x = torch.randn(size, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TensorDataset(x, x.sum(1, keepdim=True))


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def launched(world):
    fabric = L.Fabric(accelerator="cpu", devices=world)
    fabric.launch()
    return fabric


def train(world, framework="levin", accumulate=1):
    module = L if framework == "levin" else __import__(framework)
    fabric = module.Fabric(accelerator="cpu", devices=world)
    fabric.launch()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(DataLoader(numbers(), batch_size=4 // world))
    losses = []
    for _ in range(2):
        for index, (x, y) in enumerate(loader):
            steps = (index + 1) % accumulate == 0
            with fabric.no_backward_sync(model, enabled=not steps):
                loss = ((model(x) - y) ** 2).mean()
                fabric.backward(loss / accumulate)
            losses.append(float(fabric.all_reduce(loss.detach())))
            if steps:
                fabric.clip_gradients(model, optimizer, max_norm=0.5)
                optimizer.step()
                optimizer.zero_grad()
    return losses, [p.flatten().tolist() for p in model.parameters()]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_numbers_are_those_of_one_process(accumulate):
    losses, weights = train(1, "levin", accumulate)
    for other_losses, other_weights in in_processes(train, 2, 2, "levin", accumulate):
        assert other_losses == pytest.approx(losses, rel=1e-10)
        for mine, theirs in zip(weights, other_weights, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parity
def test_the_numbers_are_those_of_lightnings_fabric():
    pytest.importorskip("lightning")
    assert in_processes(train, 2, 2) == in_processes(train, 2, 2, "lightning")


# ---------------------------------------------------------------------- data


class Stream(IterableDataset):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter(range(self.size))


def passes(world, kind, size, batch_size, drop_last):
    """What this process reads in two passes."""
    fabric = launched(world)
    L.seed_everything(1, verbose=False)
    stock = {"batch_size": batch_size, "drop_last": drop_last, "shuffle": kind == "shuffled"}
    data, settings = range(size), stock
    if kind == "stream":
        data, settings = Stream(size), {"batch_size": batch_size}
    elif kind == "samples":
        settings = {"batch_size": None}
    elif kind == "batches":
        settings = {"batch_sampler": Batches(SequentialSampler(range(size)), batch_size, drop_last)}
    loader = fabric.setup_dataloaders(DataLoader(data, **settings))
    found = [[torch.as_tensor(batch).flatten().tolist() for batch in loader] for _ in range(2)]
    assert kind == "stream" or len(loader) == len(found[0])
    return found


class Batches(BatchSampler):
    """One that levin does not know."""


def read(kind, size, batch_size=2, drop_last=False, world=2):
    return in_processes(passes, world, world, kind, size, batch_size, drop_last)


@pytest.mark.parametrize("kind", ["plain", "shuffled"])
@pytest.mark.parametrize("size", [8, 9, 11])
def test_each_sample_is_read_once_and_all_have_as_many_batches(kind, size):
    ranks = read(kind, size)
    for epoch in range(2):
        batches = [rank[epoch] for rank in ranks]
        assert len(batches[0]) == len(batches[1])
        assert sorted(chain.from_iterable(chain.from_iterable(batches))) == list(range(size))
    orders = [list(chain.from_iterable(epoch)) for epoch in ranks[0]]
    assert (orders[0] == orders[1]) == (kind == "plain")


def test_batches_of_all_processes_follow_one_another_in_the_order():
    first, second = read("plain", 8)
    assert [sorted(a + b) for a, b in zip(first[0], second[0], strict=True)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("kind", "size", "batch_size", "drop_last", "expected"),
    [
        ("plain", 9, 2, True, ([[0, 2], [4, 6]], [[1, 3], [5, 7]])),
        ("plain", 3, 1, False, ([[0], [2]], [[1], [0]])),
        ("plain", 1, 2, False, ([[0]], [[0]])),
        ("samples", 3, None, False, ([[0], [2]], [[1], [0]])),
        ("batches", 5, 2, False, ([[0, 1], [4]], [[2, 3], [0, 1]])),
        ("stream", 5, 2, False, ([[0, 1], [4]], [[2, 3], [4]])),
    ],
    ids=["only full batches", "batches of one", "too few", "no batches", "own batches", "stream"],
)
def test_where_it_can_not_be_even_otherwise_something_is_left_out_or_read_twice(
    kind, size, batch_size, drop_last, expected
):
    assert [rank[0] for rank in read(kind, size, batch_size, drop_last)] == list(expected)


def undivided(world):
    fabric = launched(world)
    own = torch.utils.data.DistributedSampler(
        range(6), num_replicas=world, rank=fabric.global_rank, shuffle=False
    )
    loaders = fabric.setup_dataloaders(
        DataLoader(range(3)), DataLoader(range(6), sampler=own), use_distributed_sampler=False
    )
    divided = fabric.setup_dataloaders(DataLoader(range(6), sampler=own))
    return [[int(batch) for batch in loader] for loader in (*loaders, divided)]


def test_a_loader_that_is_divided_already_or_is_not_to_be_stays_as_it_is():
    assert in_processes(undivided, 2, 2) == [
        [[0, 1, 2], [r, r + 2, r + 4], [r, r + 2, r + 4]] for r in (0, 1)
    ]


# ---------------------------------------------------------------------- speaking


def words(world, folder):
    fabric = launched(world)
    rank = fabric.global_rank
    fabric.barrier("all here")
    order = fabric.broadcast([])
    with fabric.rank_zero_first(), open(f"{folder}/order", "a") as file:
        file.write(f"{rank}")
    with fabric.rank_zero_first(local=True):
        order.append(Path(f"{folder}/order").read_text())
    leaf = torch.tensor([float(rank + 1)], requires_grad=True)
    fabric.all_gather(leaf * leaf, sync_grads=True).sum().backward()
    fabric.print("printed")
    return {
        "gathered": fabric.all_gather({"x": rank, "y": torch.tensor([1.0, rank])})["y"].tolist(),
        "mean": fabric.all_reduce({"x": rank})["x"].item(),
        "sum": fabric.all_reduce(torch.tensor([rank, 1]), reduce_op="sum").tolist(),
        "from 1": fabric.broadcast(f"rank {rank}", src=1),
        "order": order,
        "gradient": leaf.grad.item(),
        "place": (fabric.global_rank, fabric.local_rank, fabric.world_size, fabric.is_global_zero),
    }


def test_processes_speak_with_one_another(tmp_path):
    first, second = in_processes(words, 2, 2, str(tmp_path))
    shared = {"gathered": [[1.0, 0.0], [1.0, 1.0]], "mean": 0.5, "sum": [1, 2], "from 1": "rank 1"}
    assert all(each[name] == value for each in (first, second) for name, value in shared.items())
    assert first["order"][0].startswith("0")
    assert second["order"] == ["01"]
    assert (first["gradient"], second["gradient"]) == (4.0, 8.0)  # each process's sum counts
    assert (first["place"], second["place"]) == ((0, 0, 2, True), (1, 1, 2, False))


def logs(world, folder):
    fabric = L.Fabric(accelerator="cpu", devices=world, loggers=CSVLogger(folder))
    fabric.launch(lambda fabric: fabric.log("rank", fabric.global_rank, step=0))
    fabric.logger.save()
    return fabric.logger.log_dir


def test_one_process_writes_the_logs_and_all_know_where(tmp_path):
    first, second = in_processes(logs, 2, 2, str(tmp_path))
    assert first == second
    assert [each.name for each in tmp_path.glob("*/*/metrics.csv")] == ["metrics.csv"]


# ---------------------------------------------------------------------- models


class TwoWays(nn.Module):
    def __init__(self, rank=0):
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.layer.weight, rank + 1.0)

    def forward(self, x):
        return self.layer(x)

    def other(self, x):
        return self.layer(x)

    def innocent(self):
        return self.layer.weight.item()


def ways(world):
    fabric = launched(world)
    model = fabric.setup(TwoWays(fabric.global_rank))
    said = {"weight": model.innocent()}
    x = torch.full((1, 1), fabric.global_rank + 1.0)
    try:
        model.other(x)
    except RuntimeError as error:
        said["error"] = str(error)
    with torch.no_grad():
        said["without gradients"] = model.other(x).item()
    model.mark_forward_method("other")
    fabric.backward(model.other(x).sum())
    said["gradient"] = model.layer.weight.grad.item()
    with fabric.no_backward_sync(model):
        fabric.backward(model(x).sum())
    said["added in each"] = model.layer.weight.grad.item()
    return said


def test_other_methods_than_forward_are_averaged_once_they_are_marked():
    first, second = in_processes(ways, 2, 2)
    for rank, said in enumerate((first, second)):
        assert said["weight"] == 1.0  # that of rank 0
        assert "`TwoWays.other()` runs layers" in said["error"]
        assert 'model.mark_forward_method("other")' in said["error"]
        assert said["without gradients"] == rank + 1.0
        assert said["gradient"] == 1.5
        assert said["added in each"] == 1.5 + rank + 1.0


class OneOfTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.left_out = nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x):
        return self.used(x)


def leave_out(world):
    fabric = launched(world)
    model = fabric.setup(OneOfTwo())
    try:
        for _ in range(2):
            fabric.backward(model(torch.ones(1, 1)).sum())
    except RuntimeError as error:
        return str(error)


def test_parameters_that_a_step_leaves_out_are_named():
    for text in in_processes(leave_out, 2, 2):
        assert "left_out.weight, left_out.bias" in text
        assert "ddp_find_unused_parameters_true" in text


def adversaries(world):
    fabric = launched(world)
    models = [TwoWays(fabric.global_rank) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=1.0) for model in models]
    (one, one_optimizer), (two, two_optimizer) = map(fabric.setup, models, optimizers)
    x = torch.full((1, 1), fabric.global_rank + 1.0)
    for model, optimizer in ((one, one_optimizer), (two, two_optimizer), (one, one_optimizer)):
        fabric.backward(model(x).sum(), model=model)
        optimizer.step()
        optimizer.zero_grad()
    return one.innocent(), two.innocent()


def test_several_models_are_each_averaged():
    assert in_processes(adversaries, 2, 2) == [(-2.0, -0.5), (-2.0, -0.5)]


def checkpoints(world, path):
    fabric = launched(world)
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=0.1))
    x = torch.full((2, 4), fabric.global_rank + 1.0, dtype=torch.float64)
    fabric.backward(model(x).sum())
    optimizer.step()
    fabric.save(path, {"model": model, "optimizer": optimizer, "step": 1})
    saved = [p.tolist() for p in model.parameters()]
    fabric.backward(model(x).sum())
    optimizer.step()
    state = {"model": model, "optimizer": optimizer, "step": 0}
    assert fabric.load(path, state) == {}
    return saved == [p.tolist() for p in model.parameters()], state["step"], list(model.state_dict())


def test_a_checkpoint_has_the_models_own_names_and_all_processes_read_it(tmp_path):
    names = list(network().state_dict())
    assert in_processes(checkpoints, 2, 2, str(tmp_path / "x.ckpt")) == [(True, 1, names)] * 2
    assert list(torch.load(tmp_path / "x.ckpt")["model"]) == names


# ---------------------------------------------------------------------- starting and failing

SCRIPT = """
import sys
import levin as L

def main(fabric, word):
    if "fail" in word and fabric.global_rank == 1:
        raise ArithmeticError("the cause")
    fabric.barrier()
    sys.stdout.write(f"{word} {fabric.global_rank} {fabric.world_size}\\n")  # at once: two processes write
    sys.stdout.flush()
    return fabric.global_rank

if __name__ == "__main__":
    fabric = L.Fabric(accelerator="cpu", devices=2, strategy="ddp")
    if sys.argv[1].startswith("function"):
        assert fabric.launch(main, sys.argv[1]) == fabric.global_rank
    else:
        fabric.launch()
        main(fabric, sys.argv[1])
"""


def start(tmp_path, word):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), word]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["script", "function"])
def test_a_script_starts_its_other_process(tmp_path, word):
    done = start(tmp_path, word)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", f"{word} 0 2", f"{word} 1 2"]


@pytest.mark.slow
@pytest.mark.parametrize("word", ["script-fail", "function-fail"])
def test_a_process_that_fails_ends_the_others_with_its_error(tmp_path, word):
    done = start(tmp_path, word)
    assert done.returncode != 0
    assert "RankFailedError: Rank 1 on" in done.stderr
    assert done.stderr.count("ArithmeticError: the cause") >= 2  # its own, and as the cause of the other's
    assert done.stdout == ""


def fails(world):
    fabric = L.Fabric(accelerator="cpu", devices=world)
    try:
        fabric.launch(stumble)
    except Exception as error:
        return type(error).__name__, str(error)


def stumble(fabric):
    if fabric.global_rank == 1:
        raise ArithmeticError("the cause")
    fabric.barrier("that nobody else comes to")


def test_whoever_waits_for_a_process_that_failed_is_told_why():
    (kind, text), own = in_processes(fails, 2, 2)
    assert kind == "RankFailedError"
    assert "Rank 1 on" in text
    assert "ArithmeticError: the cause" in text
    assert own == ("ArithmeticError", "the cause")
