"""What users are shown runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(program: list[str], folder: Path) -> str:
    """Run a Python program in a folder, and return what it prints."""
    command = [sys.executable, *program]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_in(page: str) -> str:
    """Return the Python of a page, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL))


def test_the_iris_example_reports_ten_epochs_and_learns(tmp_path):
    said = run([str(ROOT / "examples" / "iris.py")], tmp_path)
    assert said.count(": loss ") == 10
    assert int(re.search(r"(\d+)% of the flowers", said).group(1)) >= 80


@pytest.mark.parametrize("devices", ["1", pytest.param("2", marks=[pytest.mark.multi, pytest.mark.slow])])
def test_the_loop_with_a_fabric_learns_the_digits_and_tests_on_each_once(tmp_path, devices):
    said = run([str(ROOT / "examples" / "fabric_mnist.py"), "--devices", devices, "--epochs", "2"], tmp_path)
    assert said.count("of 359 digits") == 2
    assert float(re.findall(r"([\d.]+)% of", said)[-1]) >= 60
    assert (tmp_path / "digits.ckpt").exists()


def test_the_loop_on_the_page_of_fabric_runs(tmp_path):
    run(["-c", python_in("docs/fabric.md")], tmp_path)
    assert (tmp_path / "last.ckpt").exists()


def test_the_program_of_the_readme_runs(tmp_path):
    run(["-c", python_in("README.md")], tmp_path)
    assert list(tmp_path.glob("lightning_logs/version_0/checkpoints/epoch=4-step=80.ckpt"))


def test_getting_started_runs_from_its_first_line_to_its_last(tmp_path):
    run(["-c", python_in("docs/getting-started.md")], tmp_path)
    assert list(tmp_path.glob("lightning_logs/version_0/checkpoints/epoch=9-step=250.ckpt"))
