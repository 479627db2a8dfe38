"""Jobs of LSF: hosts are read from a file, and ranks are what jsrun says."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from levin.clusters import LSFEnvironment

HERE = "node7.cluster.example"
NAMES = some.from_regex(r"[a-z]{1,3}[0-9]{1,2}(\.[a-z]{2})?", fullmatch=True).filter(
    lambda name: not name.startswith("node")
)


@pytest.fixture(autouse=True)
def this_host(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: HERE)


def job(monkeypatch, lines: list[str], **variables: str) -> LSFEnvironment:
    """Return the environment of a process in a job whose file of hosts has these lines."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hosts"
        file.write_text("\n".join(lines))
        monkeypatch.setenv("LSB_DJOB_RANKFILE", str(file))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return LSFEnvironment()


@pytest.mark.parametrize(
    ("lines", "address", "node"),
    [
        (["launch", HERE], HERE, 0),
        (["launch", HERE, HERE], HERE, 0),
        (["launch", "a", HERE], "a", 1),
        (["launch", "a", "a", "b", "b", HERE, HERE, ""], "a", 2),
        (["launch", "b", "a", "b", HERE], "b", 2),
        ([HERE, "a", HERE], "a", 1),
        ([HERE], HERE, 0),
        (["launch", "a", "node7", "node7"], "a", 1),
        (["launch", "a", "node7.other.example", HERE], "a", 2),
        (["launch", "", "  a slots=2 ", HERE], "a", 1),
        (["launch", "10.0.0.1", "10.0.0.2", HERE], "10.0.0.1", 2),
    ],
)
def test_the_file_of_hosts_tells_address_and_node(monkeypatch, lines, address, node):
    cluster = job(monkeypatch, lines)
    assert (cluster.main_address, cluster.node_rank()) == (address, node)


@pytest.mark.parametrize(("name", "node"), [("10.0.0.2", 1), ("10.0.0.1", 0)])
def test_addresses_are_not_taken_for_names_with_a_domain(monkeypatch, name, node):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert job(monkeypatch, ["launch", "10.0.0.1", "10.0.0.2"]).node_rank() == node


@given(before=some.lists(NAMES, unique=True), after=some.lists(NAMES), slots=some.integers(1, 4))
def test_hosts_are_numbered_as_they_come_whatever_comes_after_and_however_many_slots_they_have(
    before, after, slots
):
    lines = ["launch", *(host for host in [*before, HERE] for _ in range(slots)), *after]
    with pytest.MonkeyPatch.context() as monkeypatch:
        cluster = job(monkeypatch, lines)
    assert cluster.node_rank() == len(before)
    assert cluster.main_address == [*before, HERE][0]


@given(hosts=some.lists(NAMES, min_size=1, unique=True))
def test_every_host_of_a_job_has_a_number_of_its_own_and_the_same_main_address(hosts):
    seen = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        for host in hosts:
            monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
            cluster = job(monkeypatch, ["launch", *hosts, *reversed(hosts)])
            seen.append(cluster.node_rank())
            assert cluster.main_address == hosts[0]
    assert seen == list(range(len(hosts)))


@pytest.mark.parametrize(
    ("variables", "address", "port"),
    [
        ({"LSB_JOBID": "1234567"}, "a", 10567),
        ({"LSB_JOBID": "7"}, "a", 10007),
        ({"LSB_JOBID": "7", "MASTER_PORT": "4321"}, "a", 4321),
        ({"LSB_JOBID": "7", "MASTER_ADDR": "a-ib0"}, "a-ib0", 10007),
    ],
)
def test_the_port_is_the_jobs_and_what_is_set_counts(monkeypatch, variables, address, port):
    cluster = job(monkeypatch, ["launch", "a", HERE], **variables)
    assert (cluster.main_address, cluster.main_port) == (address, port)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "lists no hosts"),
        ([" ", ""], "lists no hosts"),
        (["launch", "a", "b"], rf"calls itself '{HERE}', and none of the compute hosts.*: a, b \(.*jsrun"),
        (["launch", "node7.a", "node7.b"], "several of the compute hosts"),
    ],
)
def test_a_file_without_this_host_is_told(monkeypatch, lines, text):
    with pytest.raises(ValueError, match=text):
        job(monkeypatch, lines)


@pytest.mark.parametrize(
    ("place", "text"), [("", "LSB_DJOB_RANKFILE is not set, or empty"), ("/no/such/file", "/no/such/file")]
)
def test_a_file_that_is_not_there_is_told(monkeypatch, place, text):
    monkeypatch.setenv("LSB_DJOB_RANKFILE", place)
    with pytest.raises(ValueError, match=text):
        LSFEnvironment()


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("world_size", "JSM_NAMESPACE_SIZE"),
        ("global_rank", "JSM_NAMESPACE_RANK"),
        ("local_rank", "JSM_NAMESPACE_LOCAL_RANK"),
    ],
)
def test_a_number_that_jsrun_did_not_give_is_told(monkeypatch, question, name):
    cluster = job(monkeypatch, ["launch", HERE])
    with pytest.raises(ValueError, match=f"{name} is not set: jsrun sets it"):
        getattr(cluster, question)()


def test_a_job_without_a_number_has_no_port(monkeypatch):
    with pytest.raises(ValueError, match="LSB_JOBID is not set: LSF sets it"):
        job(monkeypatch, ["launch", HERE]).main_port  # noqa: B018  # reading it is the test
