from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from levin.strategies.single_device import SingleDeviceStrategy
from levin.utils.workers import (
    is_picklable,
    is_shared_filesystem,
    num_usable_cpus,
    suggested_max_num_workers,
)


def test_a_process_gets_its_share_of_the_cores_less_one():
    assert suggested_max_num_workers(1) == max(1, num_usable_cpus() - 1)


def test_there_is_always_room_for_one_worker():
    assert suggested_max_num_workers(10_000) == 1


def test_no_process_at_all_is_refused():
    with pytest.raises(ValueError, match="local_world_size=0 has to be 1 or more"):
        suggested_max_num_workers(0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't bind to cores")
def test_only_cores_that_may_be_used_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert num_usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


class Refuses:
    def __reduce__(self):
        raise ArithmeticError("not me")


@pytest.mark.parametrize("obj", [1, "a", nn.Linear(2, 2), torch.ones(2), is_picklable])
def test_what_can_be_pickled_is_known(obj):
    assert is_picklable(obj)


@pytest.mark.parametrize("obj", [lambda: 0, threading.Lock(), Refuses(), {"a": [Refuses()]}])
def test_what_cannot_be_pickled_is_known(obj):
    assert not is_picklable(obj)


class Member(SingleDeviceStrategy):
    """One of two threads that talk as two processes would."""

    world_size = 2

    def __init__(self, rank: int, said: dict[int, object], meeting: threading.Barrier):
        super().__init__("cpu")
        self.global_rank = rank
        self.said, self.meeting = said, meeting

    def _exchange(self, value: object) -> dict[int, object]:
        self.said[self.global_rank] = value
        self.meeting.wait(10)
        everything = dict(self.said)
        self.meeting.wait(10)
        return everything

    def broadcast(self, obj, src=0):
        return self._exchange(obj)[src]

    def reduce_boolean_decision(self, decision, all=True):  # noqa: A002
        said = self._exchange(decision).values()
        return False not in said if all else True in said


def asked_in_two(folders, timeout: float) -> list[bool]:
    """Ask two members at once, each about a folder of its own, and return what they answer."""
    said: dict[int, object] = {}
    meeting = threading.Barrier(2)
    members = [Member(rank, said, meeting) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(is_shared_filesystem, members, folders, [timeout] * 2))


def test_processes_that_see_the_same_folder_share_it(tmp_path):
    assert asked_in_two([tmp_path, tmp_path], 3) == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_processes_that_see_different_folders_do_not(tmp_path):
    folders = [tmp_path / "here", tmp_path / "there"]
    for folder in folders:
        folder.mkdir()
    assert asked_in_two(folders, 0) == [False, False]
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def test_a_folder_that_the_first_process_cannot_write_to_is_not_shared(tmp_path):
    assert asked_in_two([tmp_path / "missing", tmp_path], 3600) == [False, False]


def test_one_process_shares_everything_with_itself(tmp_path):
    assert is_shared_filesystem(SingleDeviceStrategy("cpu"), tmp_path / "missing")


def test_a_remote_path_is_shared_without_a_look():
    member = Member(0, {}, threading.Barrier(2, timeout=0.1))
    assert is_shared_filesystem(member, "s3://bucket/folder")
