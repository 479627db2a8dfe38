"""Processes that mpirun and torchrun really start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from levin.utils.imports import available

PROGRAM = str(Path(__file__).with_name("port_program.py"))
HIDE_MPI4PY = "import sys, runpy; sys.modules['mpi4py'] = None; runpy.run_path(sys.argv[1])"
IN_TURN_ON_TWO_HOSTS = """
import os, runpy, socket, sys
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["PMI_RANK"])
socket.gethostname = lambda: ["localhost", "a"][rank % 2]
runpy.run_path(sys.argv[1])
"""
AS_ROOT_ON_FEW_CORES = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}

pytestmark = [pytest.mark.slow, pytest.mark.multi]
needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun here")
needs_mpi4py = pytest.mark.skipif(not available("mpi4py"), reason="mpi4py is not installed")


def is_open_mpi() -> bool:
    run = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False)
    return "Open MPI" in run.stdout or "OpenRTE" in run.stdout


def start(*command: str, **variables: str) -> list[dict[str, object]]:
    """Run a launcher, and return what its processes say, in the order of their ranks."""
    run = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    said = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return sorted(said, key=lambda told: told["rank"])


def check(said: list[dict[str, object]], cluster: str, callers: list[int]) -> None:
    assert [told["cluster"] for told in said] == [cluster, cluster]
    assert [(told["rank"], told["local_rank"], told["node_rank"]) for told in said] == [(0, 0, 0), (1, 1, 0)]
    assert {told["world_size"] for told in said} == {2}
    assert len({told["port"] for told in said} | {told["main_port"] for told in said}) == 1
    assert [told["callers"] for told in said] == [callers, []]


@needs_mpirun
@needs_mpi4py
def test_processes_of_mpirun_meet_at_a_port_that_rank_0_broadcasts():
    said = start("mpirun", "-n", "2", sys.executable, PROGRAM, **AS_ROOT_ON_FEW_CORES)
    check(said, "MPIEnvironment", callers=[1])


@needs_mpirun
@needs_mpi4py
def test_the_port_that_rank_0_was_given_counts_for_all():
    given = (
        'if [ "${OMPI_COMM_WORLD_RANK-$PMI_RANK}" = 0 ]; then export MASTER_PORT=29517; fi; exec "$0" "$1"'
    )
    said = start("mpirun", "-n", "2", "sh", "-c", given, sys.executable, PROGRAM, **AS_ROOT_ON_FEW_CORES)
    check(said, "MPIEnvironment", callers=[])
    assert said[1]["port"] == 29517


@needs_mpirun
@needs_mpi4py
def test_hosts_are_numbered_in_the_order_of_ranks_however_ranks_are_dealt_out():
    command = ("mpirun", "-n", "4", sys.executable, "-c", IN_TURN_ON_TWO_HOSTS, PROGRAM)
    said = start(*command, **AS_ROOT_ON_FEW_CORES)
    places = [(told["rank"], told["local_rank"], told["node_rank"]) for told in said]
    assert places == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    assert said[0]["callers"] == [1, 2, 3]


@needs_mpi4py
def test_an_mpi_that_is_not_the_launchers_is_told():
    program = "import levin; print(type(levin.clusters.find_cluster()).__name__)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PMI_SIZE": "2"}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert run.stdout == "LightningEnvironment\n"
    assert "started 2 processes, but each of them runs on its own: mpi4py does not see the" in run.stderr


@needs_mpirun
@pytest.mark.skipif(
    shutil.which("mpirun") is not None and not is_open_mpi(), reason="mpirun is not Open MPI's"
)
def test_processes_of_mpirun_meet_without_mpi4py():
    command = ("mpirun", "-n", "2", sys.executable, "-c", HIDE_MPI4PY, PROGRAM)
    check(start(*command, **AS_ROOT_ON_FEW_CORES), "MPIEnvironment", callers=[1])


def test_processes_of_torchrun_are_given_their_port():
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", PROGRAM)
    check(start(*command, OMP_NUM_THREADS="1"), "TorchElasticEnvironment", callers=[])
