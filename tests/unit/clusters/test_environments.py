"""What environments do with numbers that they are told, and how processes agree on a port."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from levin.clusters import (
    ClusterEnvironment,
    KubeflowEnvironment,
    LightningEnvironment,
    MPIEnvironment,
    TorchElasticEnvironment,
    VariablesEnvironment,
)
from levin.utils.rank import rank_zero_only

OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
JOB = {**OPEN_MPI, "PMIX_NAMESPACE": "17"}
SECOND = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}


class Elsewhere(ClusterEnvironment):
    """What others wrote for Lightning: its abstract methods, and no more."""

    creates_processes_externally = True
    main_address = "elsewhere"
    main_port = 7

    @staticmethod
    def detect():
        return True

    def world_size(self):
        return 2

    def set_world_size(self, size):
        pass

    def global_rank(self):
        return 1

    def set_global_rank(self, rank):
        pass

    def local_rank(self):
        return 0

    def node_rank(self):
        return 1


@pytest.fixture
def no_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)


def test_an_environment_of_others_needs_no_more_than_lightnings_methods():
    cluster = Elsewhere()
    assert (cluster.main_address, cluster.main_port, cluster.global_rank()) == ("elsewhere", 7, 1)
    assert cluster.validate_settings(num_devices=3, num_nodes=5) is None
    assert cluster.teardown() is None


def test_an_environment_without_one_of_the_methods_can_not_be_made():
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (ClusterEnvironment,), {"world_size": lambda self: 1})()


def test_the_launcher_of_ones_own_processes_numbers_them():
    cluster = LightningEnvironment()
    cluster.set_world_size(4)
    cluster.set_global_rank(3)
    assert (cluster.world_size(), cluster.global_rank(), rank_zero_only.rank) == (4, 3, 3)


@pytest.mark.parametrize("kind", [VariablesEnvironment, TorchElasticEnvironment, KubeflowEnvironment])
def test_processes_that_have_numbers_keep_them(started_with, kind):
    started_with({"RANK": "3", "WORLD_SIZE": "4"})
    cluster = kind()
    cluster.set_world_size(9)
    cluster.set_global_rank(7)
    assert (cluster.world_size(), cluster.global_rank(), rank_zero_only.rank) == (4, 3, 3)


def test_the_end_of_a_run_removes_its_world_size(started_with):
    started_with({"WORLD_SIZE": "2", "LOCAL_RANK": "0"})
    LightningEnvironment().teardown()
    LightningEnvironment().teardown()
    assert "WORLD_SIZE" not in os.environ
    assert os.environ["LOCAL_RANK"] == "0"


# ---------------------------------------------------------------------- ports


def test_processes_started_by_the_one_of_rank_0_inherit_its_port():
    first = LightningEnvironment()
    assert first.main_port == 0
    assert first.share_port(4321) == first.main_port == 4321
    program = "import levin; print(levin.clusters.LightningEnvironment().share_port(None))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "4321\n"


def test_a_process_that_was_not_started_by_rank_0_is_told_to_set_the_port():
    with pytest.raises(ValueError, match=r"MASTER_PORT is not set.*Set MASTER_PORT to the same free port"):
        LightningEnvironment().share_port(None)


@pytest.mark.parametrize("port", [4321, None], ids=["rank 0", "others"])
@pytest.mark.parametrize("kind", [VariablesEnvironment, TorchElasticEnvironment, KubeflowEnvironment])
def test_none_waits_for_the_rest_where_there_is_no_way_to_agree(started_with, kind, port):
    started_with({"WORLD_SIZE": "2"})
    assert kind().main_port == 0
    with pytest.raises(ValueError, match=f"{kind.__name__} knows no port at which the 2 processes"):
        kind().share_port(port)


def test_a_process_that_is_alone_agrees_with_itself(started_with):
    started_with({"WORLD_SIZE": "1", "RANK": "0"})
    assert TorchElasticEnvironment().share_port(4321) == TorchElasticEnvironment().main_port == 4321


# ---------------------------------------------------------------------- MPI, without mpi4py


@pytest.mark.usefixtures("no_mpi4py")
def test_the_processes_of_a_machine_agree_on_a_port_by_a_file(started_with, monkeypatch, tmp_path):
    started_with({**JOB, "PMIX_SERVER_TMPDIR": str(tmp_path)})
    first = MPIEnvironment()
    started_with(SECOND)
    second = MPIEnvironment()
    assert first.share_port(4321) == 4321
    monkeypatch.delenv("MASTER_PORT")  # as it is in another process
    assert second.main_port == 0
    assert second.share_port(None) == second.main_port == int(os.environ["MASTER_PORT"]) == 4321


@pytest.mark.usefixtures("no_mpi4py")
def test_a_port_that_rank_0_does_not_tell_is_not_waited_for_forever(started_with, tmp_path):
    started_with({**JOB, **SECOND, "PMIX_SERVER_TMPDIR": str(tmp_path)})
    with pytest.raises(TimeoutError, match=r"rank 0 has not told its port in 0\.01 s"):
        MPIEnvironment(timeout_s=0.01).share_port(None)


@pytest.mark.usefixtures("no_mpi4py")
@pytest.mark.parametrize("port", [4321, None], ids=["rank 0", "others"])
@pytest.mark.parametrize(
    "variables", [OPEN_MPI, {**JOB, "PMIX_SERVER_TMPDIR": ".", "OMPI_COMM_WORLD_SIZE": "4"}],
    ids=["no folder", "two machines"],
)  # fmt: skip
def test_without_a_way_to_agree_all_are_told_what_to_set(started_with, variables, port):
    started_with(variables)
    with pytest.raises(ValueError, match=r"can't agree on a port.*pip install mpi4py, or set MASTER_PORT"):
        MPIEnvironment().share_port(port)


@pytest.mark.usefixtures("no_mpi4py")
def test_several_machines_need_an_address(started_with):
    started_with({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "4"})
    with pytest.raises(ValueError, match="pip install mpi4py, or set MASTER_ADDR, the host of rank 0"):
        MPIEnvironment().main_address  # noqa: B018  # reading it is the test


@pytest.mark.usefixtures("no_mpi4py")
@pytest.mark.parametrize("machines", [2, 3, 4])
@pytest.mark.parametrize("each", [2, 3])
def test_machines_that_are_filled_in_turn_are_numbered_and_others_refused(started_with, machines, each):
    """What Open MPI tells each rank where it fills machines, or deals ranks out to them, one to each."""

    def nodes(place):
        for rank in range(machines * each):
            _, local_rank = place(rank)
            numbers = (machines * each, rank, each, local_rank)
            started_with({name: str(number) for name, number in zip(OPEN_MPI, numbers, strict=True)})
            yield MPIEnvironment().node_rank()

    assert list(nodes(lambda rank: divmod(rank, each))) == [rank // each for rank in range(machines * each)]
    with pytest.raises(ValueError, match="not filled one after the other"):
        list(nodes(lambda rank: divmod(rank, machines)[::-1]))


@pytest.mark.usefixtures("no_mpi4py")
def test_a_launcher_that_tells_only_how_many_there_are_needs_mpi4py(started_with):
    started_with({"PMI_SIZE": "4"})
    with pytest.warns(UserWarning, match=r"started 4 processes, but each of them runs on its own.*mpi4py"):
        assert not MPIEnvironment.detect()
    with pytest.raises(ModuleNotFoundError, match="pip install mpi4py"):
        MPIEnvironment()


@pytest.mark.usefixtures("no_mpi4py")
def test_one_process_of_an_mpi_launcher_is_none_of_several(started_with):
    started_with({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"})
    assert not MPIEnvironment.detect()
    alone = MPIEnvironment()
    assert alone.world_size() == 1
    assert alone.share_port(4321) == alone.main_port == 4321
