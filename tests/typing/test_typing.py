"""Programs as users write them are typed throughout, pass type checkers at their strictest, and run."""

from __future__ import annotations

import ast
import inspect
import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import levin
from levin.core import callback, hooks

HERE = Path(__file__).parent
PROGRAMS = sorted((HERE / "programs").glob("*.py"))
SOURCE = Path(levin.__file__).parents[1]

PYRIGHT = shutil.which(
    "pyright", path=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
needs_pyright = pytest.mark.skipif(PYRIGHT is None, reason="pyright is not there: pip install 'levin[dev]'")


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy", reason="mypy is not there: pip install 'levin[dev]'")
    options = ["--config-file=", "--strict", "--python-version=3.10", "--no-color-output"]
    cache = HERE.parents[1] / ".mypy_cache" / "programs"
    command = [sys.executable, "-m", "mypy", *options, f"--cache-dir={cache}", *map(str, files)]
    environment = {**os.environ, "MYPYPATH": str(SOURCE)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def pyright(*arguments: str) -> dict:
    # what is installed beside this Python is named, too: `--verifytypes` does not ask the interpreter for it
    places = os.pathsep.join([str(SOURCE), sysconfig.get_paths()["purelib"]])
    command = [str(PYRIGHT), f"--pythonpath={sys.executable}", "--outputjson", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, timeout=280
    )
    return json.loads(done.stdout)


def annotations(owner: type) -> dict[str, list[str]]:
    """For each method of a class: what its text says of its arguments' types and of what it returns."""
    (cls,) = ast.parse(inspect.getsource(owner)).body
    return {
        node.name: [ast.unparse(it) for it in [*(arg.annotation for arg in node.args.args[1:]), node.returns]]
        for node in ast.walk(cls)
        if isinstance(node, ast.FunctionDef)
    }


def test_there_are_twenty_programs_and_none_asks_a_type_checker_to_look_away():
    assert len(PROGRAMS) >= 20
    for program in PROGRAMS:
        for word in ("# type:", "# pyright:", "# noqa", "import cast"):
            assert word not in program.read_text(), f"{program.name} has {word!r}"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_runs(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # what `seed_everything` sets is taken back at the end
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    runpy.run_path(str(program), run_name="__main__")


def test_callbacks_hooks_are_typed_as_the_modules_are():
    owners = (hooks.ModelHooks, hooks.CheckpointHooks, hooks.CallbackHooks)
    said = {name: types for owner in owners for name, types in annotations(owner).items()}
    face = annotations(callback.Callback)
    for name in (spec.name for spec in hooks.HOOKS if spec.callbacks):
        assert face[name] == ["Trainer", "LightningModule", *said[name]], name


def test_type_checkers_know_the_sub_packages_as_attributes():
    blocks = [node for node in ast.parse(Path(levin.__file__).read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    known = {alias.name for node in imports if node.module == "levin" for alias in node.names}
    there = {file.parent.name for file in Path(levin.__file__).parent.glob("*/__init__.py")}
    assert known == there - {"cli"}  # a program of its own


@pytest.mark.slow
def test_mypy_finds_nothing_in_the_programs():
    done = mypy(*PROGRAMS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no issues found in {len(PROGRAMS)} source files" in done.stdout


@pytest.mark.slow
def test_mypy_finds_a_hook_with_wrong_arguments(tmp_path):
    program = tmp_path / "wrong_hooks.py"
    program.write_text(
        "import levin as L\n"
        "class Wrong(L.Callback):\n"
        "    def on_train_start(self, trainer: L.Trainer) -> None: ...\n"
        "class Model(L.LightningModule):\n"
        "    def on_train_batch_end(self, outputs: object) -> None: ...\n"
        "    def on_fit_start(self) -> None:\n"
        "        self.trainer.max_epochs = 'many'\n"
    )
    found = [line.rsplit("[", 1)[-1] for line in mypy(program).stdout.splitlines() if " error: " in line]
    assert found == ["override]", "override]", "assignment]"]


@pytest.mark.slow
@needs_pyright
def test_pyright_finds_nothing_in_the_programs():
    report = pyright("--project", str(HERE))
    assert report["summary"]["filesAnalyzed"] == len(PROGRAMS)
    assert report["generalDiagnostics"] == []


@pytest.mark.slow
@needs_pyright
def test_every_public_name_has_a_type():
    found = pyright("--verifytypes", "levin", "--ignoreexternal")["typeCompleteness"]
    unknown = [symbol["name"] for symbol in found["symbols"] if not symbol["isTypeKnown"]]
    assert found["completenessScore"] == 1, unknown
