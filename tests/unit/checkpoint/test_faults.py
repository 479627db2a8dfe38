"""What is below the store fails: an error is raised and the old checkpoint is there, or the new one is."""

from __future__ import annotations

import builtins
import errno
import io
import os

import pytest
import torch

from levin.checkpoint import TorchCheckpointIO
from levin.checkpoint.index import COMMIT_KEY, INDEX_NAME, Index, Lineage, newest_whole
from levin.checkpoint.io import load, point_to
from levin.checkpoint.plain import OWN_KEY


def save(folder, name, value):
    lineage, path = Lineage("run"), os.path.join(folder, name)
    with lineage.noting(home=str(folder)):
        commit = lineage.describe(path)
    state = {"state_dict": {"weight": torch.full((5000,), float(value))}, OWN_KEY: {COMMIT_KEY: commit}}
    TorchCheckpointIO().save_checkpoint({**state, "global_step": value, "epoch": 0}, path)


def value(path):
    return load(path)["state_dict"]["weight"].unique().item()


class Disk(io.FileIO):
    """A file that takes at most ``piece`` bytes at a time, and ``room`` bytes in all."""

    piece, room = 1 << 30, 1 << 30

    def write(self, data):
        if self.tell() >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(memoryview(data)[: min(self.piece, self.room - self.tell())])


@pytest.fixture
def disk(monkeypatch):
    """Temporary files are on it; ``disk.room`` and ``disk.piece`` can be set."""

    class This(Disk):
        pass

    def open_there(file, mode="r", *args, **kwargs):
        is_temporary = str(file).endswith(".tmp") and mode == "wb"
        return This(file, mode) if is_temporary else original(file, mode, *args, **kwargs)

    original = builtins.open
    monkeypatch.setattr(builtins, "open", open_there)
    return This


def fails_at(function, number, error):
    """``function``, but the call of that number, from 0, raises ``error``."""
    calls = iter(range(1000))

    def failing(*args, **kwargs):
        if next(calls) == number:
            raise OSError(error, os.strerror(error))
        return function(*args, **kwargs)

    return failing


def test_writes_that_take_a_part_are_gone_on_with(tmp_path, disk):
    disk.piece = 1000
    save(tmp_path, "a.ckpt", 1)
    assert value(tmp_path / "a.ckpt") == 1
    assert len(Index(tmp_path).present()) == 1


def test_lines_of_the_index_that_are_taken_in_parts_are_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    save(tmp_path, "a.ckpt", 1)
    assert len(Index(tmp_path).present()) == 1


@pytest.mark.parametrize("name", ["a.ckpt", "b.ckpt"], ids=["in place", "another"])
@pytest.mark.parametrize("room", [0, 1, 5000, 20_500])
def test_a_disk_that_is_full_leaves_the_old_one(tmp_path, disk, room, name):
    save(tmp_path, "a.ckpt", 1)
    disk.room = room
    with pytest.raises(OSError, match=rf"{name} could not be written: No space left .* needs about 20 kB"):
        save(tmp_path, name, 2)
    assert sorted(os.listdir(tmp_path)) == [INDEX_NAME, "a.ckpt"]
    assert value(tmp_path / "a.ckpt") == 1
    disk.room = 1 << 30
    save(tmp_path, name, 3)
    assert value(tmp_path / name) == 3


FAULTS = {
    "flushing the file": ("fsync", 0, False),
    "writing the line": ("write", 0, False),
    "flushing the line": ("fsync", 1, False),
    "renaming": ("replace", 0, False),
    "flushing the folder": ("fsync", 2, True),
}


@pytest.mark.parametrize("name", ["a.ckpt", "b.ckpt"], ids=["in place", "another"])
@pytest.mark.parametrize(("call", "number", "is_there"), FAULTS.values(), ids=FAULTS.keys())
def test_a_disk_that_fails_raises_and_leaves_a_whole_one(tmp_path, monkeypatch, call, number, is_there, name):
    save(tmp_path, "a.ckpt", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails_at(getattr(os, call), number, errno.EIO))
        with pytest.raises(OSError, match="could not be written: Input/output error"):
            save(tmp_path, name, 2)
    assert sorted(os.listdir(tmp_path)) == sorted({INDEX_NAME, "a.ckpt", *([name] if is_there else [])})
    index, steps = Index(tmp_path), []
    for settle in (lambda _: None, index.settle):
        settle("run")
        newest = index.present()[-1]
        steps.append((value(index.path_of(newest)), newest.step))
    assert steps == [(2, 2) if is_there else (1, 1)] * 2
    save(tmp_path, name, 3)
    assert value(tmp_path / name) == 3
    assert index.present()[-1].step == 3


def test_a_file_that_can_not_be_removed_still_counts(tmp_path, monkeypatch):
    save(tmp_path, "a.ckpt", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", fails_at(os.remove, 0, errno.EACCES))
        with pytest.raises(PermissionError):
            TorchCheckpointIO().remove_checkpoint(tmp_path / "a.ckpt")
    assert [commit.name for commit in Index(tmp_path).present()] == ["a.ckpt"]


def test_a_link_that_can_not_be_moved_stays_where_it_was(tmp_path, monkeypatch):
    save(tmp_path, "a.ckpt", 1)
    save(tmp_path, "b.ckpt", 2)
    point_to(tmp_path / "last.ckpt", tmp_path / "a.ckpt")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails_at(os.replace, 0, errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            point_to(tmp_path / "last.ckpt", tmp_path / "b.ckpt")
    assert value(tmp_path / "last.ckpt") == 1


def test_a_disk_that_can_not_be_read_is_its_own_error(tmp_path, monkeypatch):
    save(tmp_path, "a.ckpt", 1)
    monkeypatch.setattr(builtins, "open", fails_at(open, 1, errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        load(tmp_path / "a.ckpt")


def test_files_of_zeros_as_some_disks_leave_them_after_a_power_cut_are_found(tmp_path):
    save(tmp_path, "a.ckpt", 1)
    save(tmp_path, "b.ckpt", 2)
    size = os.path.getsize(tmp_path / "b.ckpt")
    (tmp_path / "b.ckpt").write_bytes(bytes(size))
    assert newest_whole(tmp_path, besides="") == str(tmp_path / "a.ckpt")
