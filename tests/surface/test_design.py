"""What docs/design.md shows of the code is so."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design.md").read_text()


def test_the_tree_of_modules_is_the_codes():
    assert runpy.run_path(str(ROOT / "scripts" / "tree.py"))["tree"]() in PAGE, "run python scripts/tree.py"


def test_every_file_of_the_path_of_a_step_defines_the_name_beside_it():
    path = re.search(r"## One training step\n+```text\n(.*?)```", PAGE, flags=re.DOTALL).group(1)
    steps = re.findall(r"(\w+(?:\.\w+)+) +([\w/]+)\.py", path)
    assert len(steps) >= 5
    for name, file in steps:
        thing = importlib.import_module("levin." + file.replace("/", "."))
        for part in name.split("."):
            thing = getattr(thing, part)
        assert callable(thing)


def test_the_layers_are_those_that_the_linter_holds():
    block = re.search(r"## Layers\n.*?```text\n(.*?)```", PAGE, flags=re.DOTALL).group(1)
    shown = [re.findall(r"[a-z]+", line.split("  ")[0]) for line in block.splitlines()]
    layers = re.search(
        r"\nlayers = \[\n(.*?)\]", (ROOT / "pyproject.toml").read_text(), flags=re.DOTALL
    ).group(1)
    here = {file.stem for file in (ROOT / "src/levin").glob("*.py")}
    here |= {file.parent.name for file in (ROOT / "src/levin").glob("*/__init__.py")}
    held = [
        [name for name in re.findall(r"levin\.(\w+)", line) if name in here] for line in layers.splitlines()
    ]
    assert shown == [layer for layer in held if layer]
