"""Programs of several processes as users start them: what runs how often, how they end, what they leave."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.multi, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("launched_program.py")
LIMIT_S = 60


def start(*command, cwd, stdin=subprocess.DEVNULL, **variables):
    hidden = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**env, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **variables},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*command, cwd, **variables):
    """Exit status, lines of standard output in their order by text, and standard error."""
    process = start(*command, cwd=cwd, **variables)
    out, err = process.communicate(timeout=LIMIT_S)  # until nobody holds the pipe any more
    return process.returncode, sorted(out.splitlines()), err


def until_both_train(process):
    pids = {}
    while len(pids) < 2:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        words = line.split()
        if words[0] == "training":
            pids[int(words[1])] = int(words[2])
    return pids


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.ckpt"))


# ---------------------------------------------------------------------- functions in new processes


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp_forkserver"])
def test_the_program_runs_once_where_functions_are_launched(tmp_path, strategy):
    status, out, err = run(PROGRAM, "here", "--strategy", strategy, "--twice", cwd=tmp_path)
    assert (status, [line for line in out if not line.startswith("training")]) == (
        0,
        ["begin '' False", "end 0 12 2", "kept epoch=2-step=12.ckpt"],
    ), err


def test_spawn_without_a_main_guard_says_what_to_do(tmp_path):
    program = tmp_path / "unguarded.py"
    program.write_text(PROGRAM.read_text().replace('if __name__ == "__main__":\n    main()', "main()"))
    status, out, err = run(program, "here", "--strategy", "ddp_spawn", cwd=tmp_path)
    assert status == 1
    assert 'if __name__ == "__main__":' in err.splitlines()[-1]
    assert not [line for line in out if line.startswith("end")]


def test_what_cannot_be_sent_to_a_new_interpreter_is_named(tmp_path):
    status, _, err = run(PROGRAM, "here", "--strategy", "ddp_spawn", "--lock", cwd=tmp_path)
    assert status == 1
    assert "net.lock` (a _thread.lock) can't be handed to another process" in err.splitlines()[-1]


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp"])
def test_a_model_of_a_dash_c_program_trains(tmp_path, strategy):
    if strategy == "ddp_spawn" and importlib.util.find_spec("cloudpickle") is None:
        pytest.skip("cloudpickle is not installed")
    text = PROGRAM.read_text().replace("from __future__ import annotations", "")
    status, out, err = run("-c", text, "here", "--strategy", strategy, cwd=tmp_path)
    assert status == 0, err
    assert "end 0 8 2" in out
    assert out.count("begin '' False") == (2 if strategy == "ddp" else 1)


def test_a_notebook_takes_processes_without_being_asked(tmp_path):
    text = PROGRAM.read_text().replace("from __future__ import annotations", "import sys; sys.ps1 = 'In: '")
    status, out, err = run("-c", text, "here", "--twice", cwd=tmp_path)
    assert status == 0, err
    assert out.count("begin '' False") == 1
    assert "end 0 12 2" in out


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_a_signal_to_the_program_ends_the_run_well(tmp_path, strategy, number, status):
    process = start(PROGRAM, "here", "--strategy", strategy, "--act", "wait", cwd=tmp_path)
    until_both_train(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status, err
    assert checkpoints(tmp_path / "here")


def test_ctrl_c_pressed_twice_ends_a_run_in_the_middle_of_a_batch(tmp_path):
    process = start(PROGRAM, "here", "--strategy", "ddp_fork", "--act", "hang", cwd=tmp_path)
    until_both_train(process)
    process.send_signal(signal.SIGINT)
    heard = 0
    while heard < 2:
        heard += "Press again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp"])
def test_no_process_outlives_a_program_that_is_killed(tmp_path, strategy):
    process = start(PROGRAM, "here", "--strategy", strategy, "--act", "wait", cwd=tmp_path)
    until_both_train(process)
    process.kill()
    process.communicate(timeout=LIMIT_S)  # ends when all processes have


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ipykernel", "nbclient")),
    reason="no Jupyter here",
)
@pytest.mark.parametrize("strategy", ["auto", "ddp_spawn"])
def test_a_notebook_trains_in_two_processes_and_goes_on(tmp_path, strategy):
    text = PROGRAM.read_text().partition("if __name__")[0].replace("from __future__ import annotations", "")
    (tmp_path / "drive.py").write_text(
        "import nbclient, nbformat\n"
        f'cells = [{text!r}, \'main(["here", "--strategy", "{strategy}", "--twice"])\', \'print(40 + 2)\']\n'
        "book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])\n"
        "nbclient.NotebookClient(book, timeout=50).execute()\n"
        "print(''.join(out.get('text', '') for cell in book.cells for out in cell.outputs))\n"
    )
    status, out, err = run("drive.py", cwd=tmp_path)
    assert status == 0, err
    assert "end 0 12 2" in out
    assert "42" in out


# ---------------------------------------------------------------------- the script again


@pytest.mark.parametrize("way", ["script", "module", "flags"])
def test_the_script_is_started_again_as_it_was(tmp_path, way):
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(PROGRAM, package / "train.py")
    command = {
        "script": ["package/train.py"],
        "module": ["-m", "package.train"],
        "flags": ["-u", "-X", "dev", "-W", "ignore", "package/train.py"],
    }[way]
    status, out, err = run(*command, "here", "--note", "a b  'c'", "--twice", cwd=tmp_path)
    assert status == 0, err
    begun = f"begin \"a b  'c'\" {way == 'flags'}"
    assert [line for line in out if not line.startswith("training")] == [begun] * 2 + [
        "end 0 12 2",
        "end 1 12 2",
        *["kept epoch=2-step=12.ckpt"] * 2,
    ]


def test_a_program_that_goes_to_another_folder_is_found_again(tmp_path):
    (tmp_path / "sub").mkdir()
    shutil.copy(PROGRAM, tmp_path / "train.py")
    status, out, err = run("train.py", tmp_path / "here", "--go-to", "sub", cwd=tmp_path)
    assert status == 0, err
    assert out[-2:] == ["training 0 " + out[-2].split()[2], "training 1 " + out[-1].split()[2]]


def test_a_program_from_a_pipe_is_told_what_to_use(tmp_path):
    with PROGRAM.open() as stream:
        process = start("-", "here", "--strategy", "ddp", cwd=tmp_path, stdin=stream)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "Use strategy='ddp_fork'" in err.splitlines()[-1]


def test_a_process_that_fails_after_the_run_fails_the_program(tmp_path):
    status, _, err = run(PROGRAM, "here", "--act", "fail after", cwd=tmp_path)
    assert status == 3
    assert "Rank 1 was ended with status 3" in err.splitlines()[-1]


@pytest.mark.parametrize(("act", "told"), [("raise", "ValueError: boom"), ("kill", "SIGKILL")])
def test_a_process_that_fails_ends_the_program(tmp_path, act, told):
    status, out, err = run(PROGRAM, "here", "--act", act, cwd=tmp_path)
    assert status == 1
    assert told in err
    assert not [line for line in out if line.startswith("end")]


def test_two_programs_at_once_do_not_meet(tmp_path):
    processes = [start(PROGRAM, f"here{number}", cwd=tmp_path) for number in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err


@pytest.mark.skipif(importlib.util.find_spec("hydra") is None, reason="Hydra is not installed")
@pytest.mark.parametrize("jobs", [1, 2])
def test_hydra_makes_one_folder_for_a_job(tmp_path, jobs):
    text = PROGRAM.read_text().partition("if __name__")[0]
    (tmp_path / "train.py").write_text(
        f"{text}\nimport hydra\n\n\n@hydra.main(version_base=None, config_path=None, config_name=None)\n"
        "def job(config):\n"
        "    out = hydra.core.hydra_config.HydraConfig.get().runtime.output_dir\n"
        "    main([os.path.join(out, 'here'), '--note', str(config.lr)])\n\n\n"
        "if __name__ == '__main__':\n    job()\n"
    )
    multirun = ["--multirun", "+lr=1,2"] if jobs == 2 else ["+lr=1"]
    status, _, err = run("train.py", *multirun, cwd=tmp_path)
    assert status == 0, err
    kept = [path.parent for path in tmp_path.rglob("here")]
    assert len(kept) == jobs
    assert len(list(tmp_path.rglob(".hydra"))) == jobs


# ---------------------------------------------------------------------- levin run


def levin_run(*options, cwd, **variables):
    return start("-m", "levin", "run", *options, cwd=cwd, **variables)


def test_levin_run_starts_a_program_in_several_processes(tmp_path):
    process = levin_run("--nproc", 2, "--prefix", PROGRAM, "here", "--note", "a b", cwd=tmp_path)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    lines = sorted(out.splitlines())
    assert lines[0] == "[rank 0] begin 'a b' False"
    assert "[rank 1] end 1 8 2" in lines


def test_levin_run_of_a_module_passes_its_options_on(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(PROGRAM, package / "train.py")
    process = levin_run("--devices", 2, "-m", "package.train", "here", "--devices", "auto", cwd=tmp_path)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert "end 1 8 2" in out


def test_levin_run_ends_as_the_program_does_after_sigterm(tmp_path):
    process = levin_run("--nproc", 2, "--max-restarts", 1, PROGRAM, "here", "--act", "wait", cwd=tmp_path)
    until_both_train(process)
    process.terminate()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 143, err
    assert checkpoints(tmp_path / "here")


def test_levin_run_leaves_the_last_word_to_the_program(tmp_path):
    process = levin_run("--nproc", 2, PROGRAM, "here", "--act", "raise", cwd=tmp_path)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert err.splitlines()[-1].endswith("ValueError: boom")


def test_levin_run_tells_which_process_was_killed(tmp_path):
    process = levin_run("--nproc", 2, PROGRAM, "here", "--act", "kill", cwd=tmp_path)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 137
    assert err.splitlines()[-1] == "levin run: the process of rank 1 was ended by SIGKILL, and told nothing."


def test_levin_run_starts_a_program_again_which_goes_on(tmp_path):
    process = levin_run("--nproc", 2, "--max-restarts", 2, PROGRAM, "here", "--act", "kill", cwd=tmp_path)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert "step=4.ckpt, the newest" in err
    assert {"end 0 8 2", "end 1 8 2"} <= set(out.splitlines())


def test_levin_run_joins_machines_by_their_numbers(tmp_path):
    from levin.distributed.group import bind_store

    port = bind_store().port  # and free again
    machines = [
        levin_run(
            "--nproc", 1, "--nnodes", 2, "--node-rank", rank, "--main-address", "127.0.0.1", "--main-port",
            port, PROGRAM, "here", "--devices", "auto", "--num-nodes", 2, cwd=tmp_path,
        )
        for rank in range(2)
    ]  # fmt: skip
    for rank, machine in enumerate(machines):
        out, err = machine.communicate(timeout=LIMIT_S)
        assert machine.returncode == 0, err
        assert f"end {rank} 8 2" in out
