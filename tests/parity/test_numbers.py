"""Weights, optimizer states, logged values, predictions and file names are Lightning's, to the last bit."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from programs import PROGRAMS, differences, report  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

SCRIPTS = ["iris.py", "iris_with_datamodule.py"]
IMPORTS = {
    "import lightning as L": "import levin as L",
    "from lightning.pytorch.callbacks import Callback": "from levin.callbacks import Callback",
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_the_numbers_of_lightning(name, tmp_path):
    theirs, ours = [
        PROGRAMS[name](importlib.import_module(framework), tmp_path / framework)
        for framework in ("lightning.pytorch", "levin")
    ]
    assert "\n".join(differences(theirs, ours)) == ""


def events(root):
    """Return what a TensorBoard directory holds: tag -> [(step, value)]."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(root)).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_with_its_import_lines_changed_gives_the_numbers_of_lightning(
    script, tmp_path, monkeypatch, capsys
):
    source = (HERE / "scripts" / script).read_text()
    changed = source
    for theirs, ours in IMPORTS.items():
        changed = changed.replace(theirs, ours)
    results = []
    for name, text in {"lightning": source, "levin": changed}.items():
        root = tmp_path / name
        write_iris(root / "data")
        monkeypatch.chdir(root)
        importlib.import_module(name).seed_everything(42, verbose=False)
        space = {"__name__": "__main__"}
        exec(compile(text, script, "exec"), space)
        spoken = [line for line in capsys.readouterr().out.splitlines() if "Spy Report" in line]
        logs = root / "lightning_logs" / "version_0"
        # Lightning writes an hparams.yaml that holds nothing, where there is nothing to hold
        files = sorted(p.name for p in logs.iterdir() if p.suffix == ".yaml" and p.stat().st_size > 3)
        results.append(
            {
                **report(space["trainer"], space["model"], root),
                "spoken": spoken,
                "events_step": events(logs),
                "files": files,
            }
        )
    assert "\n".join(differences(*results)) == ""
    assert len(results[0]["spoken"]) == 10


def write_iris(folder):
    """Write iris.npz as the course's download script does."""
    import numpy as np
    from sklearn.datasets import load_iris

    folder.mkdir(parents=True)
    iris = load_iris()
    np.savez(folder / "iris.npz", X=iris.data, y=iris.target)
