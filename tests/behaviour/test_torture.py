"""Killed at random times: no committed step is lost, and the end is that of a run that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).with_name("torture.py")


def other_file_system(tmp_path):
    """Return a folder on another file system than the temporary one, if there is one."""
    for place in ("/dev/shm", os.path.expanduser("~")):
        if os.path.isdir(place) and os.stat(place).st_dev != os.stat(tmp_path).st_dev:
            return Path(place, f"levin-torture-{os.getpid()}")
    return tmp_path / "torture"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", [[], ["--meanwhile"]], ids=["at once", "meanwhile"])
@pytest.mark.parametrize(
    ("signal", "trials", "mb"),
    [
        pytest.param("KILL", 5, 20, marks=pytest.mark.slow),
        pytest.param("TERM", 5, 20, marks=pytest.mark.slow),
        pytest.param("KILL", 100, 200, marks=pytest.mark.nightly),
        pytest.param("TERM", 50, 200, marks=pytest.mark.nightly),
    ],
)
def test_a_run_that_is_stopped_at_random_times_loses_nothing(tmp_path, signal, trials, mb, how):
    folder = other_file_system(tmp_path)
    command = [sys.executable, TORTURE, signal, str(trials), folder, "--mb", str(mb), *how]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 0, run.stdout[-5000:]
    assert f"{trials} x SIG{signal}" in run.stdout
