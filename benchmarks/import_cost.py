"""What importing levin's public names adds to ``import torch``: CPU seconds, and modules.

python benchmarks/import_cost.py [--repeats 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

LIMIT_S = 0.15
CASES = {
    "levin's public names": "import levin; levin.Trainer, levin.LightningModule, levin.LightningDataModule,"
    " levin.Callback, levin.seed_everything",
    "levin, with a quiet Trainer": "import levin; levin.Trainer(logger=False, enable_progress_bar=False)",
    "Lightning's public names": "import lightning",
}
PROBE = """
import sys, time, torch
seen, start = set(sys.modules), time.process_time()
{program}
print(time.process_time() - start, len(set(sys.modules) - seen))
"""


def once(program):
    """Return CPU seconds and the number of modules that a program adds to ``import torch``."""
    command = [sys.executable, "-c", PROBE.format(program=program)]
    # an installed package has its byte code: so has this one, whatever the shell says
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    seconds, modules = run.stdout.splitlines()[-1].split()
    return float(seconds), int(modules)


def measure(repeats):
    programs = {
        name: program for name, program in CASES.items() if "Lightning" not in name or lightning_is_here()
    }
    rows = []
    for name, program in programs.items():
        once(program)  # writes the byte code, where it is not written yet
        seconds, modules = zip(*(once(program) for _ in range(repeats)), strict=True)
        limit = LIMIT_S if name.startswith("levin") else None
        rows.append(
            {
                "case": name,
                "min_s": min(seconds),
                "median_s": median(seconds),
                "modules": modules[0],
                "limit_s": limit,
            }
        )
    return rows


def lightning_is_here():
    return importlib.util.find_spec("lightning") is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the table here, too")
    options = parser.parse_args()

    rows = measure(options.repeats)
    print(f"{'CPU time added to `import torch`':<34}{'min':>9}{'median':>10}{'modules':>9}{'limit':>9}")
    for row in rows:
        limit = f"{row['limit_s']:.2f} s" if row["limit_s"] else ""
        print(
            f"{row['case']:<34}{row['min_s']:>7.3f} s{row['median_s']:>8.3f} s{row['modules']:>9}{limit:>9}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    over = [row["case"] for row in rows if row["limit_s"] and row["min_s"] > row["limit_s"]]
    if over:
        sys.exit(f"over the limit: {'; '.join(over)}")


if __name__ == "__main__":
    main()
