from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
pytest.importorskip("sklearn")


def test_the_iris_example_reports_ten_epochs_and_learns(tmp_path):
    program = [sys.executable, str(EXAMPLES / "iris.py")]
    run = subprocess.run(program, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert sum(": loss " in line for line in run.stdout.splitlines()) == 10
    [last] = [line for line in run.stdout.splitlines() if "told apart" in line]
    assert int(last.split("%")[0]) >= 80
