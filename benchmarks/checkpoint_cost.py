"""What a checkpoint costs: how long training stands still, how much memory and how many bytes to disk.

A model of 100 million numbers (400 MB) is saved from within `fit`, a few times in each case, each case in a
process of its own. While a checkpoint is on its way to the disk the loop goes on with steps of a known
length: the time lost is what passed, less what these steps take when nothing is saved. Memory is the peak
of the process above what it had before the first save, bytes are what was handed to the operating system;
both as parts of the state. `torch.save` stands beside, flushed to the disk as levin's files are.

    python benchmarks/checkpoint_cost.py [--mb 400] [--repeats 3] [--folder FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import torch
from torch import nn

CASES = {
    "torch.save and fsync": ("levin", ""),
    "levin": ("levin", "TorchCheckpointIO"),
    "levin, AsyncCheckpointIO": ("levin", "AsyncCheckpointIO"),
    "Lightning": ("lightning", "TorchCheckpointIO"),
    "Lightning, AsyncCheckpointIO": ("lightning", "AsyncCheckpointIO"),
}
PLUGINS = {"levin": "levin.checkpoint", "lightning": "lightning.pytorch.plugins.io"}
MEMORY_LIMIT, BYTES_LIMIT, STALL_LIMIT = 0.2, 1.05, 0.1
_MATRIX = torch.randn(300, 300)


def step():
    """A step of training: a few milliseconds of arithmetic on one thread."""
    value = _MATRIX
    for _ in range(10):
        value = torch.tanh(value @ _MATRIX)


def in_status(name):
    """Return a figure of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) * 1024


def bytes_written():
    return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def save_with_torch(trainer, path):
    temporary = f"{path}.part"
    with open(temporary, "wb") as file:
        torch.save({"state_dict": trainer.model.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def seconds(act):
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def measured(save, folder, repeats, state):
    """Return the figures of a few saves, by name: a list of each."""
    for _ in range(20):
        step()
    step_s = median(seconds(step) for _ in range(100))
    found = {"stall_s": [], "lost_s": [], "whole_s": [], "memory": [], "bytes": []}
    memory = in_status("VmRSS")
    for number in range(repeats):
        path, written, num_steps = Path(folder, f"{number}.ckpt"), bytes_written(), 0
        forget_peak()
        start = time.perf_counter()
        found["stall_s"].append(seconds(lambda: save(path)))  # noqa: B023  # called at once
        while not path.exists():
            step()
            num_steps += 1
        found["whole_s"].append(time.perf_counter() - start)
        found["lost_s"].append(found["whole_s"][-1] - num_steps * step_s)
        found["memory"].append((in_status("VmHWM") - memory) / state)
        found["bytes"].append((bytes_written() - written) / state)
        path.unlink()
        os.sync()
    return found


def run_case(package, plugin, options):
    """Train with a library's Trainer, and save in the middle of it."""
    library = importlib.import_module(package)
    num_values, found = options.mb * 250_000, {}

    class Model(library.LightningModule):
        def __init__(self):
            super().__init__()
            self.parts = nn.ParameterList(nn.Parameter(torch.randn(num_values // 25)) for _ in range(25))

        def training_step(self, batch, batch_idx):
            return sum(part[:1].sum() for part in self.parts)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    class Saving(library.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            def save(path):
                save_with_torch(trainer, path) if not plugin else trainer.save_checkpoint(path)

            pl_module.zero_grad()
            found.update(measured(save, folder, options.repeats, num_values * 4))

    plugins = [getattr(importlib.import_module(PLUGINS[package]), plugin)()] if plugin else None
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        trainer = library.Trainer(
            max_epochs=1, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, logger=False,
            enable_model_summary=False, enable_checkpointing=False, callbacks=[Saving()], plugins=plugins,
        )  # fmt: skip
        trainer.fit(Model(), [torch.zeros(1)])
    return found


def in_own_process(name, options):
    command = [sys.executable, __file__, "--case", name, "--mb", str(options.mb)]
    command += ["--repeats", str(options.repeats), "--folder", options.folder]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def table(figures):
    """Return a row for each case: the median of each figure, the greatest of memory and bytes."""
    return [
        {
            "case": name,
            **{key: median(found[key]) for key in ("stall_s", "lost_s", "whole_s")},
            **{key: max(found[key]) for key in ("memory", "bytes")},
        }
        for name, found in figures.items()
    ]


def passed_limits(rows):
    """Return what levin does worse than it promises, as sentences."""
    by_case = {row["case"]: row for row in rows}
    at_once, meanwhile = by_case["levin"], by_case["levin, AsyncCheckpointIO"]
    share = meanwhile["stall_s"] / at_once["stall_s"]
    checks = {
        f"memory above the state is {at_once['memory']:.2f}x": at_once["memory"] <= MEMORY_LIMIT,
        f"{at_once['bytes']:.2f}x of the state were written": at_once["bytes"] <= BYTES_LIMIT,
        f"an asynchronous save stalls for {share:.0%} of a synchronous one": share < STALL_LIMIT,
    }
    return [text for text, is_kept in checks.items() if not is_kept]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=400, help="size of the state in megabytes")
    parser.add_argument("--repeats", type=int, default=3, help="saves of each case")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the checkpoints go")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--case", choices=CASES, help="run only this one, and print its figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.case:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        print(json.dumps(run_case(*CASES[options.case], options)))
        return 0
    names = [name for name, (package, _) in CASES.items() if importlib.util.find_spec(package)]
    rows = table({name: in_own_process(name, options) for name in names})
    print(f"{options.mb} MB to {options.folder}; memory and bytes as parts of that")
    print(f"{'':30}{'stall':>9}{'lost':>9}{'on disk':>10}{'memory':>9}{'bytes':>8}")
    for row in rows:
        print(
            f"{row['case']:30}{row['stall_s']:8.3f}s{row['lost_s']:8.3f}s{row['whole_s']:9.3f}s"
            f"{row['memory']:8.2f}x{row['bytes']:7.2f}x"
        )
    broken = passed_limits(rows)
    for text in broken:
        print(f"Over the limit: {text}.")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
