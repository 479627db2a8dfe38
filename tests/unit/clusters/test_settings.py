"""devices= and num_nodes= beside the processes that there are, and numbers that are none."""

from __future__ import annotations

import re
import sys

import pytest

from levin.clusters import (
    KubeflowEnvironment,
    LightningEnvironment,
    MPIEnvironment,
    TorchElasticEnvironment,
    VariablesEnvironment,
)

MPI = (
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
)


def settings_that_fit():
    yield TorchElasticEnvironment, {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 4, 2
    yield TorchElasticEnvironment, {"WORLD_SIZE": "8"}, 4, 2
    yield VariablesEnvironment, {"WORLD_SIZE": "1"}, 1, 1
    yield KubeflowEnvironment, {"WORLD_SIZE": "3"}, 1, 3
    yield MPIEnvironment, dict(zip(MPI, "8440", strict=True)), 4, 2
    yield LightningEnvironment, {}, 4, 1
    yield LightningEnvironment, {"LOCAL_RANK": "3", "WORLD_SIZE": "4"}, 4, 1
    yield (
        LightningEnvironment,
        {"LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        1,
        1,
    )  # a run of its own, after another
    yield LightningEnvironment, {"WORLD_SIZE": "7"}, 2, 1  # somebody else's: nobody was started
    yield LightningEnvironment, {"MASTER_PORT": "1"}, 2, 2
    yield LightningEnvironment, {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, 2, 2


def settings_that_contradict():
    torchrun = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    started = "torchrun has started 8 (4 on this machine)"
    yield TorchElasticEnvironment, torchrun, 4, 1, f"ask for 4 processes (4 on each machine), but {started}"
    yield TorchElasticEnvironment, torchrun, 4, 1, "Set num_nodes=2, or"
    yield TorchElasticEnvironment, torchrun, 2, 2, "Set devices=4, or"
    yield TorchElasticEnvironment, torchrun, 1, 1, "Set devices=4 and num_nodes=2, or"
    yield TorchElasticEnvironment, torchrun, 8, 1, "Set devices=4 and num_nodes=2, or"
    uneven = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "3"}
    yield TorchElasticEnvironment, uneven, 3, 2, "Start as many on one machine as on the other"
    yield VariablesEnvironment, {"WORLD_SIZE": "8"}, 2, 2, "has started 8. Set devices=4, or"
    yield VariablesEnvironment, {"WORLD_SIZE": "9"}, 3, 2, "Set num_nodes=3, or"
    yield VariablesEnvironment, {"WORLD_SIZE": "7"}, 2, 2, "Set devices=7 and num_nodes=1, or"
    yield VariablesEnvironment, {"WORLD_SIZE": "0"}, 2, 2, "has started 0."
    yield KubeflowEnvironment, {"WORLD_SIZE": "4"}, 4, 1, "Set devices=1 and num_nodes=4, or"
    yield MPIEnvironment, dict(zip(MPI, "2121", strict=True)), 4, 1, "Set devices=2, or"
    yield (
        LightningEnvironment,
        {"NODE_RANK": "2"},
        4,
        2,
        "NODE_RANK is 2, but num_nodes=2 lets it go from 0 to 1",
    )
    yield LightningEnvironment, {"NODE_RANK": "2"}, 4, 2, "at least 3, or count NODE_RANK from 0"
    yield (
        LightningEnvironment,
        {"LOCAL_RANK": "2"},
        2,
        1,
        "LOCAL_RANK is 2, but devices=2 lets it go from 0 to 1",
    )
    yield LightningEnvironment, {"LOCAL_RANK": "0", "WORLD_SIZE": "8"}, 2, 1, "ask for 2 processes"
    yield LightningEnvironment, {"LOCAL_RANK": "0", "WORLD_SIZE": "8"}, 2, 1, "WORLD_SIZE is 8"
    yield LightningEnvironment, {}, 1, 2, "where to meet: MASTER_PORT not set on the machine of NODE_RANK=0"
    yield LightningEnvironment, {"NODE_RANK": "1"}, 1, 2, "where to meet: MASTER_ADDR and MASTER_PORT not set"


@pytest.fixture
def no_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)


@pytest.mark.usefixtures("no_mpi4py")
@pytest.mark.parametrize(("kind", "variables", "devices", "nodes"), list(settings_that_fit()))
def test_settings_that_fit_the_processes_are_taken(started_with, kind, variables, devices, nodes):
    started_with(variables)
    assert kind().validate_settings(num_devices=devices, num_nodes=nodes) is None


@pytest.mark.usefixtures("no_mpi4py")
@pytest.mark.parametrize(("kind", "variables", "devices", "nodes", "text"), list(settings_that_contradict()))
def test_settings_that_contradict_the_processes_are_told_with_the_remedy(
    started_with, kind, variables, devices, nodes, text
):
    started_with(variables)
    with pytest.raises(ValueError, match=re.escape(text)):
        kind().validate_settings(devices, nodes)


@pytest.mark.parametrize(
    ("kind", "variables", "question", "text"),
    [
        (TorchElasticEnvironment, {}, "global_rank", "RANK is not set: torchrun sets it in each process"),
        (TorchElasticEnvironment, {}, "local_rank", "LOCAL_RANK is not set: torchrun"),
        (TorchElasticEnvironment, {}, "world_size", "WORLD_SIZE is not set: torchrun"),
        (VariablesEnvironment, {"RANK": " "}, "global_rank", "RANK is not set"),
        (VariablesEnvironment, {"RANK": "one"}, "global_rank", "RANK is 'one'. It has to be a number"),
        (VariablesEnvironment, {"RANK": "-1"}, "global_rank", "RANK is '-1'. It has to be a number"),
        (KubeflowEnvironment, {}, "node_rank", "RANK is not set: the PyTorchJob sets it"),
        (LightningEnvironment, {"NODE_RANK": "n1"}, "node_rank", "NODE_RANK is 'n1'"),
    ],
)
def test_a_number_that_is_not_there_is_told_with_who_sets_it(started_with, kind, variables, question, text):
    started_with(variables)
    with pytest.raises(ValueError, match=re.escape(text)):
        getattr(kind(), question)()


@pytest.mark.parametrize("kind", [VariablesEnvironment, KubeflowEnvironment])
def test_an_address_that_is_not_there_is_told(kind):
    with pytest.raises(ValueError, match=r"MASTER_ADDR is not set\. Set it, for all processes"):
        kind().main_address  # noqa: B018  # reading it is the test


def test_torchrun_without_an_address_is_taken_to_run_here_with_a_warning():
    with pytest.warns(UserWarning, match=r"MASTER_ADDR is not set.*127\.0\.0\.1"):
        assert TorchElasticEnvironment().main_address == "127.0.0.1"


@pytest.mark.parametrize("port", ["http", "-1"])
def test_a_port_that_is_no_number_is_told(started_with, port):
    started_with({"MASTER_PORT": port})
    with pytest.raises(ValueError, match=f"MASTER_PORT is '{port}'"):
        LightningEnvironment().main_port  # noqa: B018  # reading it is the test
