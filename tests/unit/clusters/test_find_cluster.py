"""Which environment a process finds itself in, by what launchers leave in the environment."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch

from levin.clusters import (
    CLUSTERS,
    ClusterEnvironment,
    KubeflowEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    TorchElasticEnvironment,
    VariablesEnvironment,
    find_cluster,
)

VARIABLES = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
TORCHRUN = {**VARIABLES, "TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
HYDRA = {"PMI_SIZE": "8", "PMI_RANK": "5", "MPI_LOCALNRANKS": "4", "MPI_LOCALRANKID": "1"}
KUBEFLOW = {name: VARIABLES[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}


@pytest.fixture
def jsrun(tmp_path):
    """Return what jsrun sets on this host."""
    file = tmp_path / "hosts"
    file.write_text(f"launch\nelsewhere\nelsewhere\n{socket.gethostname()}\n{socket.gethostname()}\n")
    return {
        "LSB_JOBID": "1234567",
        "LSB_DJOB_RANKFILE": str(file),
        "JSM_NAMESPACE_RANK": "5",
        "JSM_NAMESPACE_SIZE": "8",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
    }


def facts(cluster: ClusterEnvironment) -> dict[str, object]:
    return {
        "external": cluster.creates_processes_externally,
        "world": cluster.world_size(),
        "rank": cluster.global_rank(),
        "local": cluster.local_rank(),
        "node": cluster.node_rank(),
        "address": cluster.main_address,
        "port": cluster.main_port,
    }


STARTED = {"external": True, "world": 8, "rank": 5, "local": 1, "node": 1}


@pytest.mark.parametrize(
    ("variables", "kind", "expected"),
    [
        ({}, LightningEnvironment,
         {"external": False, "world": 1, "rank": 0, "local": 0, "node": 0}),
        ({}, LightningEnvironment, {"address": "127.0.0.1", "port": 0}),
        ({"LOCAL_RANK": "1"}, LightningEnvironment, {"external": True, "local": 1, "node": 0}),
        ({"NODE_RANK": "1", "GROUP_RANK": "2"}, LightningEnvironment, {"external": False, "node": 1}),
        ({"GROUP_RANK": "2"}, LightningEnvironment, {"external": False, "node": 2}),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1"}, LightningEnvironment, {"address": "a", "port": 1}),
        (KUBEFLOW, LightningEnvironment, {"external": False, "address": "10.0.0.1", "port": 29500}),
        (TORCHRUN, TorchElasticEnvironment, {**STARTED, "address": "10.0.0.1", "port": 29500}),
        (TORCHRUN | OPEN_MPI, TorchElasticEnvironment, STARTED),
        (VARIABLES, VariablesEnvironment, {**STARTED, "node": 0, "address": "10.0.0.1", "port": 29500}),
        ({**VARIABLES, "LOCAL_WORLD_SIZE": "4"}, VariablesEnvironment, STARTED),
        ({**VARIABLES, "NODE_RANK": "3"}, VariablesEnvironment, {**STARTED, "node": 3}),
    ],
)  # fmt: skip
def test_what_launchers_set_tells_the_process_its_place(started_with, variables, kind, expected):
    started_with(variables)
    found = find_cluster()
    assert type(found) is kind
    assert {name: facts(found)[name] for name in expected} == expected


@pytest.mark.parametrize("missing", list(VARIABLES))
def test_variables_that_are_not_complete_are_no_launchers(started_with, missing):
    started_with({**VARIABLES, missing: ""})
    assert type(find_cluster()) is LightningEnvironment


def test_a_job_of_lsf_is_found_before_plain_variables(started_with, jsrun):
    started_with(VARIABLES | jsrun)
    found = find_cluster()
    assert type(found) is LSFEnvironment
    assert facts(found) == {**STARTED, "address": "10.0.0.1", "port": 29500}


@pytest.mark.parametrize("numbers", [OPEN_MPI, HYDRA], ids=["Open MPI", "Hydra"])
def test_the_variables_of_an_mpi_launcher_do_without_mpi4py(started_with, monkeypatch, numbers):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    started_with({**VARIABLES, **numbers})
    found = find_cluster()
    assert type(found) is MPIEnvironment
    assert facts(found) == {**STARTED, "address": "10.0.0.1", "port": 29500}


def test_kubeflow_has_to_be_passed(started_with):
    started_with(KUBEFLOW)
    assert not KubeflowEnvironment.detect()
    assert facts(KubeflowEnvironment()) == {
        "external": True, "world": 8, "rank": 5, "local": 0, "node": 5, "address": "10.0.0.1", "port": 29500,
    }  # fmt: skip


@pytest.mark.parametrize("variables", [{}, VARIABLES, TORCHRUN], ids=["none", "plain", "torchrun"])
def test_torchrun_is_recognised_as_torch_recognises_it(started_with, variables):
    started_with(variables)
    assert TorchElasticEnvironment.detect() == torch.distributed.is_torchelastic_launched()


def test_there_is_always_an_environment():
    assert CLUSTERS[-1] is LightningEnvironment
    assert LightningEnvironment.detect()


def test_looking_for_a_cluster_imports_neither_torch_nor_mpi():
    program = (
        "import sys, levin; levin.clusters.find_cluster(); print({'torch', 'mpi4py'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
