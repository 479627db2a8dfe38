"""AsyncCheckpointIO: what is written is the state of the moment of the save, and nothing goes before it."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn

from levin.checkpoint import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO
from levin.checkpoint.background import HostMemory
from levin.checkpoint.io import load


class Gated(TorchCheckpointIO):
    """Writes only when it is let; notes what it does."""

    def __init__(self):
        self.gate, self.began, self.events = threading.Semaphore(0), threading.Semaphore(0), []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.events.append(f"begin {path.stem}")
        self.began.release()
        assert self.gate.acquire(timeout=20)
        super().save_checkpoint(checkpoint, path, storage_options)
        self.events.append(f"end {path.stem}")

    def remove_checkpoint(self, path):
        self.events.append(f"remove {path.stem}")
        super().remove_checkpoint(path)


class Failing(CheckpointIO):
    """Can't write; reads and removes nothing."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        raise OSError(28, "No space left")

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        return {}

    def remove_checkpoint(self, path):
        pass


def state(value):
    return {"state_dict": {"w": torch.full((10,), float(value))}}


@pytest.fixture
def gated():
    inner = Gated()
    return AsyncCheckpointIO(inner), inner


def test_what_is_written_is_the_state_at_the_time_of_the_save(gated, tmp_path):
    saving, inner = gated
    checkpoint = state(1)
    saving.save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    checkpoint["state_dict"]["w"] += 1
    inner.gate.release()
    assert saving.load_checkpoint(tmp_path / "a.ckpt")["state_dict"]["w"].unique().item() == 1


def test_one_is_written_at_a_time_and_the_next_waits(gated, tmp_path):
    saving, inner = gated
    saving.save_checkpoint(state(1), tmp_path / "a.ckpt")
    assert inner.began.acquire(timeout=20)
    second = threading.Thread(target=saving.save_checkpoint, args=(state(2), tmp_path / "b.ckpt"))
    second.start()
    assert not inner.began.acquire(timeout=0.1)
    inner.gate.release(2)
    second.join()
    saving.teardown()
    assert inner.events == ["begin a", "end a", "begin b", "end b"]
    assert load(tmp_path / "b.ckpt")["state_dict"]["w"].unique().item() == 2


def test_what_comes_after_a_save_waits_for_the_file_and_keeps_its_order(gated, tmp_path):
    saving, inner = gated
    saving.save_checkpoint(state(1), tmp_path / "a.ckpt")
    saving.after_commit(lambda: inner.events.append("first"))
    saving.after_commit(lambda: inner.events.append("second"))
    saving.after_commit(lambda: saving.remove_checkpoint(tmp_path / "old.ckpt"))
    inner.gate.release()
    saving.teardown()
    assert inner.events == ["begin a", "end a", "first", "second", "remove old"]
    saving.after_commit(lambda: inner.events.append("now"))
    assert inner.events[-1] == "now"


def test_removing_waits_for_what_is_under_way(gated, tmp_path):
    saving, inner = gated
    saving.save_checkpoint(state(1), tmp_path / "a.ckpt")
    threading.Timer(0.05, inner.gate.release).start()
    saving.remove_checkpoint(tmp_path / "a.ckpt")
    assert inner.events == ["begin a", "end a", "remove a"]
    assert not (tmp_path / "a.ckpt").exists()


def test_a_failure_is_told_and_nothing_is_done_in_its_name(tmp_path):
    saving, told, done = AsyncCheckpointIO(Failing()), [], []
    saving.on_failure(told.append)
    saving.save_checkpoint(state(1), tmp_path / "a.ckpt")
    saving.after_commit(lambda: done.append(1))
    with pytest.raises(OSError, match="No space left"):
        saving.teardown()
    assert [str(error) for error in told] == ["[Errno 28] No space left"]
    assert not done
    saving.teardown()  # which raises it once


def test_a_failure_that_nobody_heard_of_is_raised_by_the_next_save(tmp_path):
    saving = AsyncCheckpointIO(Failing())
    saving.save_checkpoint(state(1), tmp_path / "a.ckpt")
    with pytest.raises(OSError, match="No space left"):
        saving.save_checkpoint(state(2), tmp_path / "b.ckpt")


def test_it_says_whether_commits_are_noted():
    assert AsyncCheckpointIO().keeps_index
    assert not AsyncCheckpointIO(Failing()).keeps_index


# ---------------------------------------------------------------------------------------------- snapshots


def test_a_snapshot_holds_the_same_values_in_the_same_containers():
    module = nn.Linear(2, 3)
    value = {
        "module": module.state_dict(), "list": [1, (2.5, None)], "count": Counter("aab"), "set": {1, 2},
        "ordered": OrderedDict(b=1, a=2), "parameter": module.weight, "empty": torch.empty(0),
        "sparse": torch.eye(2).to_sparse(), "half": torch.ones(3, dtype=torch.bfloat16),
        "int": torch.tensor(3),
    }  # fmt: skip
    copied = HostMemory().snapshot(value)
    assert list(map(type, copied.values())) == list(map(type, value.values()))
    assert copied["module"]._metadata == value["module"]._metadata
    assert copied["parameter"].requires_grad
    assert torch.equal(copied["sparse"].to_dense(), torch.eye(2))
    for key in ("parameter", "empty", "half", "int"):
        assert torch.equal(copied[key], value[key])
    plain = ("list", "count", "set", "ordered")
    assert [copied[key] for key in plain] == [value[key] for key in plain]


def test_views_of_one_memory_stay_views_of_one():
    whole = torch.arange(12.0).view(3, 4)
    copied = HostMemory().snapshot(
        {"whole": whole, "row": whole[1], "column": whole[:, 2], "turned": whole.T}
    )
    assert torch.equal(copied["turned"], whole.T)
    assert copied["column"].stride() == (4,)
    copied["whole"].zero_()
    assert not copied["row"].any()
    assert whole.any()


def test_arrays_that_overlap_are_copied_each_in_full():
    array = torch.arange(4.0).numpy()
    copied = HostMemory().snapshot([torch.from_numpy(array[:2]), torch.from_numpy(array)])
    assert [tensor.tolist() for tensor in copied] == [[0.0, 1.0], [0.0, 1.0, 2.0, 3.0]]


def test_memory_is_used_again_and_kept_to_what_is_needed():
    memory = HostMemory()
    first = memory.snapshot([torch.ones(5), torch.ones(7)])
    second = memory.snapshot([torch.zeros(5), torch.zeros(7)])
    assert [a.data_ptr() for a in first] == [b.data_ptr() for b in second]
    memory.snapshot([torch.zeros(5)])
    assert len(memory._buffers) == 1
