"""Record what Lightning does, so that levin can be compared with it where it is not installed.

`traces/` holds the calls into user code of each scenario, `outcomes/` the logger rows, checkpoint files and
counters of each program of `programs.py`. Run `python tests/parity/record.py [name ...]`; without names all
are recorded. `tests/behaviour/test_traces.py` reads them.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from programs import PROGRAMS, outcome
from scenarios import SCENARIOS, trace

HERE = Path(__file__).parent


def write(folder: str, name: str, recorded: Any) -> None:
    """Write a record as json, one entry per line.

    Args:
        folder: `traces` or `outcomes`.
        name: The scenario or program.
        recorded: A list, or a dict of lists and dicts.
    """
    file = HERE / folder / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(lines_of(recorded) + "\n")
    print(file.relative_to(HERE))


def lines_of(recorded: Any) -> str:
    """Return json text with a line for each entry of a list, and for each value of a dict of them."""
    if isinstance(recorded, list):
        return "[\n" + ",\n".join(json.dumps(entry) for entry in recorded) + "\n]"
    return (
        "{\n" + ",\n".join(f"{json.dumps(key)}: {lines_of(part)}" for key, part in recorded.items()) + "\n}"
    )


def main(names: list[str]) -> None:
    """Record the given scenarios and programs, or all, and remove the records of those that are gone.

    Args:
        names: Keys of `SCENARIOS` or `PROGRAMS`.
    """
    import lightning.pytorch

    for folder, table in (("traces", SCENARIOS), ("outcomes", PROGRAMS)):
        for old in (HERE / folder).glob("*.json"):
            if old.stem not in table:
                old.unlink()
    for name in names or [*SCENARIOS, *PROGRAMS]:
        with tempfile.TemporaryDirectory() as root:
            if name in SCENARIOS:
                write("traces", name, trace(name, lightning.pytorch, root))
            else:
                write("outcomes", name, outcome(PROGRAMS[name](lightning.pytorch, Path(root))))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    main(sys.argv[1:])
