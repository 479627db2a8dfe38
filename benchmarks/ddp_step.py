"""What a training step of two processes costs, beside the same step in a hand-written loop over torch's DDP.

Two processes, each on one thread of the CPU, average gradients by gloo. A perceptron with 64 inputs, 64
hidden units and 2 outputs learns from batches of 8 that are made beforehand. Within the same two processes
the cases take turns; each trains for a few epochs, of which the first warms up and each later one is a
sample: the time from the start of an epoch to the start of the next. Ratios are taken of
the fastest samples and of the medians, of the time on the wall, in which each process waits for the other,
and of the CPU's.

Counted as well: what a step sends beside its gradients, which is to be nothing.

    python benchmarks/ddp_step.py [--steps 300] [--epochs 4] [--repeats 6] [--no-others] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

RAW = "hand-written DDP"
LIMIT = 1.05
QUIET = {"logger": False, "enable_checkpointing": False}


class Batches:
    """Batches that cost nothing to make; notes the time whenever an epoch begins."""

    def __init__(self, batches, epochs):
        self.batches, self.epochs, self.starts = batches, epochs, []

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.starts.append((time.perf_counter(), time.process_time()))
        return iter(self.batches)

    def us_per_step(self):
        """Return microseconds per step, on the wall and of the CPU, for each epoch but the first and last."""
        starts = self.starts[-self.epochs :]
        return [
            tuple((end - start) / len(self) * 1e6 for start, end in zip(one, next_one, strict=True))
            for one, next_one in pairwise(starts[1:])
        ]


class Messages(TorchDispatchMode):
    """Counts collective operations."""

    num = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.num += function.namespace == "c10d"
        return function(*args, **(kwargs or {}))


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def hand_written_loop(batches):
    model = DistributedDataParallel(perceptron(), gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for _ in range(batches.epochs):
        for x, y in batches:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def trained_by(package, batches, **arguments):
    """Train the same model with a library's Trainer."""
    library = importlib.import_module(package)

    class Perceptron(library.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = perceptron()

        def training_step(self, batch, batch_idx):
            x, y = batch
            return cross_entropy(self.model(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    with tempfile.TemporaryDirectory() as folder:
        trainer = library.Trainer(
            max_epochs=batches.epochs, accelerator="cpu", devices=2, default_root_dir=folder, strategy="ddp",
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            **QUIET, **arguments,
        )  # fmt: skip
        trainer.fit(Perceptron(), batches)


def messages_of(run, batches):
    """Return the messages of a step: what a long run has more than a short one, over the steps between."""
    counts = []
    for num_batches in (10, 30):
        few = Batches(batches[:num_batches], 1)
        with Messages() as messages:
            run(few)
        counts.append(messages.num)
    return (counts[1] - counts[0]) / 20


def work(options):
    """Measure in one of the two processes; return the samples of each case, and its messages a step."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    generator = torch.Generator().manual_seed(int(os.environ["RANK"]))
    data = [
        (torch.randn(8, 64, generator=generator), torch.randint(2, (8,), generator=generator))
        for _ in range(options["steps"])
    ]
    runs = {"levin": partial(trained_by, "levin"), RAW: hand_written_loop}
    if options["others"] and importlib.util.find_spec("lightning"):
        runs["Lightning"] = partial(trained_by, "lightning")
    samples, messages = {name: [] for name in runs}, {}
    for name, run in runs.items():
        messages[name] = messages_of(run, data)
    for _ in range(options["repeats"]):
        for name, run in runs.items():
            batches = Batches(data, options["epochs"])
            gc.collect()
            run(batches)
            samples[name] += batches.us_per_step()
    return samples, messages


def table(samples, messages):
    """Return a row for each case: fastest and median sample, ratios to the hand-written loop's, the limit."""
    rows = []
    for name, values in samples.items():
        row = {"case": name, "messages": messages[name], "limit": LIMIT if name == "levin" else None}
        for kind, index in (("wall", 0), ("cpu", 1)):
            ours, raw = [value[index] for value in values], [value[index] for value in samples[RAW]]
            row[f"{kind}_us"] = min(ours)
            row[f"{kind}_ratio"] = min(ours) / min(raw)
            row[f"{kind}_ratio_of_median"] = median(ours) / median(raw)
        rows.append(row)
    return rows


def show(rows):
    print(f"{'a step of two processes':<26}{'wall':>9}{'x raw (median)':>18}{'CPU':>10}{'x raw (median)':>18}"
          f"{'messages':>10}{'limit':>7}")  # fmt: skip
    for row in rows:
        limit = f"{row['limit']:.2f}" if row["limit"] else ""
        times = [
            f"{row[f'{kind}_us']:>6.0f} us{row[f'{kind}_ratio']:>9.2f} ({row[f'{kind}_ratio_of_median']:.2f})"
            for kind in ("wall", "cpu")
        ]
        print(f"{row['case']:<26}{times[0]} {times[1]}{row['messages']:>10.2f}{limit:>7}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="training steps in an epoch")
    parser.add_argument(
        "--epochs", type=int, default=4, help="epochs in a run; the first and the last are no samples"
    )
    parser.add_argument("--repeats", type=int, default=6, help="runs of each case")
    parser.add_argument(
        "--no-others", dest="others", action="store_false", help="leave out Lightning, where it is installed"
    )
    parser.add_argument("--json", type=Path, help="write the table here, too")
    options = vars(parser.parse_args())
    target = options.pop("json")

    rows = table(*in_processes(work, 2, options, timeout_s=600)[0])
    show(rows)
    if target:
        target.write_text(json.dumps(rows, indent=2) + "\n")
    ours = next(row for row in rows if row["case"] == "levin")
    if ours["messages"] != 1:
        sys.exit(f"a step sends {ours['messages']} messages, and its gradients are one")
    # what else the machine does disturbs some of them, and not all
    if min(ratio for name, ratio in ours.items() if "_ratio" in name) > LIMIT:
        sys.exit("over the limit")


if __name__ == "__main__":
    from levin.testing.processes import in_processes

    main()
