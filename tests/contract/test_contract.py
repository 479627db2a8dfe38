"""Each line of the contract holds: for levin, and in the parity run for Lightning as well."""

from __future__ import annotations

import importlib
import os
import random
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
sys.path.append(str(HERE))

pytest.register_assert_rewrite("lines")

from lab import Lab  # noqa: E402
from lines import LINES, observe  # noqa: E402

for section in sorted(HERE.glob("section_*.py")):
    importlib.import_module(section.stem)

DIFFERENCES = HERE.parent.parent / "docs" / "differences.md"


@pytest.fixture(autouse=True)
def as_before(tmp_path, monkeypatch):
    """Leave the process as it was: the folder, the environment, the random state, torch's switches."""
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    os.environ.clear()
    os.environ.update(environment)
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.autograd.set_detect_anomaly(False)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_levin_keeps(line, tmp_path):
    if line.waits is not None:
        pytest.skip(
            f"waits for issue {line.waits}" if isinstance(line.waits, int) else f"waits for {line.waits}"
        )
    line.ours.check(observe(line.program, Lab("levin", tmp_path)))


@pytest.mark.parity
@pytest.mark.skipif(find_spec("lightning") is None, reason="Lightning is not installed")
@pytest.mark.parametrize("line", [line for line in LINES if line.program], ids=lambda line: line.name)
def test_lightning_keeps(line, tmp_path):
    line.expected.check(observe(line.program, Lab("lightning.pytorch", tmp_path)))


def test_each_line_has_a_name_of_its_own():
    names = [line.name for line in LINES]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("title", sorted({line.differs for line in LINES if line.differs}))
def test_a_difference_is_listed_with_its_reason(title):
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in DIFFERENCES.read_text().splitlines()
        if "|" in row
    ]
    assert title in [cells[1] for cells in rows]
