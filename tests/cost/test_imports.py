"""What ``import levin`` loads: counted, not timed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FORBIDDEN = {
    "torchmetrics",
    "rich",
    "tqdm",
    "tensorboard",
    "yaml",
    "fsspec",
    "matplotlib",
    "sklearn",
    "lightning",
}
# torch loads these two itself in some versions: then they are no cost of levin's
FORBIDDEN_UNLESS_TORCHS = ("sympy", "torch._dynamo")
NAMES = ["Trainer", "Fabric", "LightningModule", "LightningDataModule", "Callback", "seed_everything"]
PUBLIC = "import levin; " + "; ".join(f"levin.{name}" for name in NAMES)
QUIET = "import levin; levin.Trainer(logger=False, enable_progress_bar=False)"


def loaded_by(program: str, *, before: str = "import torch") -> set[str]:
    """Return the names of the modules that a program adds to those of ``before``, in a fresh interpreter."""
    lines = [
        before,
        "import json, sys",
        "seen = set(sys.modules)",
        program,
        "print(json.dumps(sorted(set(sys.modules) - seen)))",
    ]
    probe = "\n".join(lines)
    run = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def heavy(modules: set[str]) -> set[str]:
    packages = {name for name in modules if name.split(".")[0] in FORBIDDEN}
    return packages | {name for name in modules if name.startswith(FORBIDDEN_UNLESS_TORCHS)}


@pytest.mark.parametrize("program", [PUBLIC, QUIET], ids=["public names", "quiet trainer"])
def test_nothing_heavy_is_loaded(program):
    assert heavy(loaded_by(program)) == set()


@pytest.mark.parametrize("program", [PUBLIC, QUIET], ids=["public names", "quiet trainer"])
def test_at_most_forty_modules_of_others_are_added_to_torchs(program):
    added = {name for name in loaded_by(program) if name.split(".")[0] != "levin"}
    assert len(added) <= 40, sorted(added)


def test_import_levin_alone_loads_no_torch():
    assert not {
        name for name in loaded_by("import levin", before="") if name.split(".")[0] in {"torch", "numpy"}
    }


@pytest.mark.parametrize("words", ["['--help']", "[]", "['--version']", "['dmo']"])
def test_the_command_line_loads_no_torch_before_a_command_needs_it(words):
    loaded = loaded_by(f"from levin.cli.main import main; main({words})", before="")
    assert "levin.cli.main" in loaded
    assert "torch" not in loaded
