"""What one training step costs, beside the same step in a hand-written loop.

A perceptron with 32 inputs, 32 hidden units and 2 outputs learns from batches of 8 that are made beforehand,
on one thread of the CPU: a step with so little mathematics in it that what surrounds it shows. Each case
trains for a few epochs. The first one warms up; each later one is a sample: the CPU time from the start of an
epoch to the start of the next, with all that belongs to it (the default Trainer writes a checkpoint, too).
The cases take turns, so that a slow minute of the machine touches them all; ratios are taken of the fastest
samples and of the medians.

    python benchmarks/step_cost.py [--steps 1000] [--epochs 4] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import logging
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

RAW = "hand-written loop"
LIMITS = {"levin, quiet": 1.15, "levin, default": 1.25, "levin, default, 4 self.log": 1.5}
QUIET = {"logger": False, "enable_checkpointing": False}


class Batches:
    """Batches that cost nothing to make; notes the CPU time whenever an epoch begins."""

    def __init__(self, batches, epochs):
        self.batches, self.epochs, self.starts = batches, epochs, []

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.starts.append(time.process_time())
        return iter(self.batches)

    def us_per_step(self):
        """Return CPU microseconds per step for each epoch but the first and the last, which has no end."""
        starts = self.starts[
            -self.epochs :
        ]  # a library may look once whether this can be iterated, before it begins
        return [(end - start) / len(self) * 1e6 for start, end in pairwise(starts[1:])]


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def hand_written_loop(batches):
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for _ in range(batches.epochs):
        for x, y in batches:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def trained_by(library, batches, *, logs=0, **arguments):
    """Train the same model with a library's Trainer; ``logs`` values are logged each step."""

    class Perceptron(library.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = perceptron()

        def training_step(self, batch, batch_idx):
            x, y = batch
            loss = cross_entropy(self.model(x), y)
            for name in names:
                self.log(name, loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    names = [f"metric_{i}" for i in range(logs)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = library.Trainer(
            max_epochs=batches.epochs,
            accelerator="cpu",
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            **arguments,
        )
        trainer.fit(Perceptron(), batches)


def with_csv(library, loggers, batches, **arguments):
    with tempfile.TemporaryDirectory() as folder:
        trained_by(library, batches, logger=loggers.CSVLogger(folder), **arguments)


def cases():
    """Return the cases by name, Lightning's only where it is installed."""
    found = {RAW: hand_written_loop}
    for name, package, loggers in (
        ("levin", "levin", "levin.loggers"),
        ("Lightning", "lightning", "lightning.pytorch.loggers"),
    ):
        if importlib.util.find_spec(package) is None:
            continue
        library, loggers = importlib.import_module(package), importlib.import_module(loggers)
        found[f"{name}, quiet"] = partial(trained_by, library, **QUIET)
        found[f"{name}, default"] = partial(with_csv, library, loggers)
        found[f"{name}, default, 4 self.log"] = partial(with_csv, library, loggers, logs=4)
    return found


def measure(options):
    """Return for each case its samples: CPU microseconds per step."""
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(8, 32, generator=generator), torch.randint(2, (8,), generator=generator))
        for _ in range(options.steps)
    ]
    runs = cases()
    samples = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            batches = Batches(data, options.epochs)
            gc.collect()
            run(batches)
            samples[name] += batches.us_per_step()
    return samples


def table(samples):
    """Return a row for each case: fastest and median sample, ratios to the raw loop's, the limit."""
    raw = samples[RAW]
    return [
        {
            "case": name,
            "min_us": min(values),
            "median_us": median(values),
            "ratio_of_min": min(values) / min(raw),
            "ratio_of_median": median(values) / median(raw),
            "limit": LIMITS.get(name),
        }
        for name, values in samples.items()
    ]


def show(rows):
    print(f"{'CPU time of a step':<32}{'min':>9}{'median':>10}{'x raw':>8}{'(median)':>10}{'limit':>8}")
    for row in rows:
        limit = f"{row['limit']:.2f}" if row["limit"] else ""
        print(
            f"{row['case']:<32}{row['min_us']:>6.0f} us{row['median_us']:>7.0f} us"
            f"{row['ratio_of_min']:>8.2f}{row['ratio_of_median']:>10.2f}{limit:>8}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="training steps in an epoch")
    parser.add_argument(
        "--epochs", type=int, default=4, help="epochs in a run; the first and the last are no samples"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case")
    parser.add_argument("--json", type=Path, help="write the table here, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # that there are few workers, and so on: chosen here on purpose
    logging.disable(logging.WARNING)

    rows = table(measure(options))
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    over = [row["case"] for row in rows if row["limit"] and row["ratio_of_min"] > row["limit"]]
    if over:
        sys.exit(f"over the limit: {'; '.join(over)}")


if __name__ == "__main__":
    main()
