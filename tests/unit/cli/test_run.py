"""What `levin run` makes of its options; tests/multi runs programs with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from levin.cli.main import main

PROGRAM = """
import os, sys

found = {name: os.environ.get(name) for name in sys.argv[1].split(",")}
os.write(1, f"{sys.argv[1:]} {found}\\n".encode())  # at once: two processes write
"""


def refused(capsys, *options):
    with pytest.raises(SystemExit) as ended:
        main(["run", *options])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--nproc", "0", "x.py"], "'0' is no number from 1 on"),
        (["--nproc", "2", "--devices", "3", "x.py"], "--nproc 2 and --devices 3 contradict each other"),
        (["--devices", "some", "x.py"], "it is a number from 1 on"),
        (["--nnodes", "2", "x.py"], "--nnodes 2 needs --node-rank (0 to 1) and --main-address"),
        (["--nnodes", "2", "--node-rank", "2", "--main-address", "a", "x.py"], "it goes from 0 to 1"),
        (["--nnodes", "1:2", "x.py"], "--nnodes 1:2 needs --rdzv-endpoint"),
        (["--nnodes", "3:2", "x.py"], "the second number is the larger one"),
        (["--rdzv-endpoint", "a:1", "--node-rank", "0", "x.py"], "give one way"),
        (["--max-restarts", "-1", "x.py"], "it is a number from 0 on"),
        ([], "program"),
    ],
)
def test_options_that_make_no_sense_are_refused(capsys, options, told):
    assert told in refused(capsys, *options)


def test_the_help_tells_of_all_options(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for option in ("--nproc", "--max-restarts", "--rdzv-endpoint", "--main-address", "--prefix", "-m"):
        assert option in said


@pytest.mark.multi
@pytest.mark.slow
def test_a_program_finds_what_was_chosen_for_its_fabric(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    chosen = ("CLI_USED", "ACCELERATOR", "STRATEGY", "DEVICES", "NUM_NODES", "PRECISION")
    names = ",".join([*(f"LT_{name}" for name in chosen), "WORLD_SIZE", "OMP_NUM_THREADS"])
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-m", "levin", "run", "--accelerator", "cpu", "--strategy", "ddp", "--devices", "2",
         "--precision", "bf16-mixed", program, names, "--devices", "4"],
        capture_output=True, text=True, check=True, timeout=60, env=env,
    )  # fmt: skip
    found = {
        "LT_CLI_USED": "1", "LT_ACCELERATOR": "cpu", "LT_STRATEGY": "ddp", "LT_DEVICES": "2",
        "LT_NUM_NODES": "1", "LT_PRECISION": "bf16-mixed", "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": str(max(1, os.cpu_count() // 2)),
    }  # fmt: skip
    assert done.stdout.splitlines() == [f"{[names, '--devices', '4']} {found}"] * 2


@pytest.mark.multi
@pytest.mark.slow
@pytest.mark.parametrize(("ending", "status"), [("sys.exit(7)", 7), ("os._exit(0)", 0), ("os.abort()", 134)])
def test_the_exit_status_is_the_programs(tmp_path, ending, status):
    program = tmp_path / "program.py"
    program.write_text(f"import os, sys\n{ending}\n")
    done = subprocess.run(
        [sys.executable, "-m", "levin", "run", "--nproc", "2", program], check=False, timeout=60
    )
    assert done.returncode == status
