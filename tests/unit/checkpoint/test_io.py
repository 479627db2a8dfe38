from __future__ import annotations

import http.server
import io
import os
import pickle
import random
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import fsspec
import pytest
import torch
from torch import nn

from levin.checkpoint import CheckpointIO, TorchCheckpointIO
from levin.checkpoint.io import (
    CorruptCheckpointError,
    UntrustedCheckpointError,
    as_checkpoint,
    load,
    point_to,
)


def checkpoint(value: float = 1.0) -> dict:
    return {"state_dict": {"weight": torch.full((100,), value)}, "epoch": 3}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "some.ckpt"
    TorchCheckpointIO().save_checkpoint(checkpoint(), path)
    return path


# ---------------------------------------------------------------------------------------------- writing


def test_what_is_saved_comes_back(saved):
    read = TorchCheckpointIO().load_checkpoint(saved)
    assert read["epoch"] == 3
    assert torch.equal(read["state_dict"]["weight"], torch.ones(100))


def test_folders_are_made_and_nothing_else_is_left_in_them(tmp_path):
    TorchCheckpointIO().save_checkpoint(checkpoint(), tmp_path / "a" / "b" / "c.ckpt")
    assert os.listdir(tmp_path / "a" / "b") == ["c.ckpt"]


def test_a_remote_checkpoint_comes_back():
    TorchCheckpointIO().save_checkpoint(checkpoint(), "memory://folder/remote.ckpt")
    assert TorchCheckpointIO().load_checkpoint("memory://folder/remote.ckpt")["epoch"] == 3
    TorchCheckpointIO().remove_checkpoint("memory://folder/remote.ckpt")
    assert not fsspec.filesystem("memory").exists("/folder/remote.ckpt")


def test_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match="no storage options"):
        TorchCheckpointIO().save_checkpoint(checkpoint(), tmp_path / "x.ckpt", storage_options={"a": 1})
    assert not os.listdir(tmp_path)


def test_an_error_while_writing_leaves_the_old_file(saved):
    class Unwritable:
        def __reduce__(self):
            raise ValueError("not me")

    with pytest.raises(ValueError, match="not me"):
        TorchCheckpointIO().save_checkpoint({"state_dict": {}, "bad": Unwritable()}, saved)
    assert load(saved)["epoch"] == 3
    assert os.listdir(saved.parent) == [saved.name]


FULL_DISK = """
import os, resource, sys
import torch
from levin.checkpoint import TorchCheckpointIO

path, size = sys.argv[1], int(sys.argv[2])
TorchCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(10)}}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
big = torch.ones(size)
try:
    TorchCheckpointIO().save_checkpoint({"state_dict": {"w": big}, "again": [big]}, path)
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("size", [24_900, 1_000_000], ids=["fails at the end", "fails at once"])
def test_a_full_disk_is_told_with_path_and_size_and_harms_nothing(tmp_path, size):
    path = tmp_path / "model.ckpt"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(size)], capture_output=True, text=True, timeout=120
    )
    assert str(path) in run.stdout, run.stderr
    assert f"needs about {'99.6 kB' if size < 1e6 else '4 MB'}" in run.stdout
    assert "free there" in run.stdout
    assert os.listdir(tmp_path) == ["model.ckpt"]
    assert load(path)["state_dict"]["w"].shape == (10,)


KILLED = """
import sys, torch
from levin.checkpoint import TorchCheckpointIO

for number in range(10_000):
    state = {"state_dict": {"w": torch.full((2_000_000,), float(number))}}
    TorchCheckpointIO().save_checkpoint(state, sys.argv[1])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_the_newest_committed_file_outlives_a_kill_at_any_moment(tmp_path):
    path = tmp_path / "last.ckpt"
    for trial in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        first = int(process.stdout.readline())
        threading.Event().wait(random.Random(trial).uniform(0.0, 0.1))
        process.kill()
        done = [first, *map(int, process.stdout.read().split())][-1]
        process.wait()
        process.stdout.close()
        weight = load(path)["state_dict"]["w"]
        assert weight.unique().tolist() in ([float(done)], [float(done + 1)])


def test_a_file_can_be_read_in_another_process_without_trust(saved):
    program = f"import torch; print(torch.load({str(saved)!r}, weights_only=True)['epoch'])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "3"


def test_removing_takes_files_links_and_folders_and_what_is_not_there(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "shard").write_text("x")
    (tmp_path / "link").symlink_to("folder")
    for name in ("link", "folder", "nothing"):
        TorchCheckpointIO().remove_checkpoint(tmp_path / name)
    assert not os.listdir(tmp_path)


def test_what_comes_after_a_save_is_done_at_once():
    done = []
    TorchCheckpointIO().after_commit(lambda: done.append(1))
    assert done == [1]


def test_a_checkpoint_io_needs_its_three_methods():
    with pytest.raises(TypeError, match="abstract"):
        CheckpointIO()


# ---------------------------------------------------------------------------------------------- reading


def test_tensors_go_to_the_cpu_or_where_they_are_sent(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(2, dtype=torch.float16)}}, tmp_path / "x.ckpt")
    assert load(tmp_path / "x.ckpt")["state_dict"]["w"].device.type == "cpu"
    assert load(tmp_path / "x.ckpt", map_location="meta")["state_dict"]["w"].device.type == "meta"


def test_an_open_file_is_read(saved):
    assert load(io.BytesIO(saved.read_bytes()))["epoch"] == 3
    with open(saved, "rb") as file:
        assert load(file)["epoch"] == 3


def test_a_missing_file_is_told_with_its_neighbours(saved):
    with pytest.raises(FileNotFoundError, match=r"sone\.ckpt.*has some\.ckpt.*Did you mean"):
        load(saved.with_name("sone.ckpt"))


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="nor the folder"):
        load(tmp_path / "no" / "x.ckpt")
    with pytest.raises(FileNotFoundError, match="has none"):
        load(tmp_path / "x.ckpt")


def test_a_folder_is_told_to_hold_shards(tmp_path):
    with pytest.raises(CorruptCheckpointError, match=r"is a folder.*shards"):
        load(tmp_path)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


NOT_CHECKPOINTS = {
    "it is empty": b"",
    "begin with b'hello": b"hello world\n" * 20,
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "no readable one of torch.save": zipped(),
    "load_file": (20).to_bytes(8, "little") + b'{"__metadata__": {}}',
    r"begin with b'\\x80\\x04": pickle.dumps({"state_dict": 1}, protocol=4),
}


@pytest.mark.parametrize("text", NOT_CHECKPOINTS)
@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_is_no_checkpoint_is_named(tmp_path, text, weights_only):
    path = tmp_path / "x.ckpt"
    path.write_bytes(NOT_CHECKPOINTS[text])
    with pytest.raises(CorruptCheckpointError, match=text) as caught:
        load(path, weights_only=weights_only)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("weights_only", [True, False])
def test_a_file_that_was_cut_off_is_told(saved, kept, weights_only):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CorruptCheckpointError, match="cut off after"):
        load(saved, weights_only=weights_only)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_any_bytes_at_all_are_refused_the_same_way(tmp_path):
    draw, path = random.Random(0), tmp_path / "x.ckpt"
    for length in (1, 2, 7, 30, 300, 3000) * 20:
        path.write_bytes(draw.randbytes(length))
        with pytest.raises(CorruptCheckpointError):
            load(path)


def test_a_foreign_class_is_named_with_the_two_ways_out(tmp_path):
    torch.save({"state_dict": {}, "loss": nn.MSELoss()}, tmp_path / "x.ckpt")
    with pytest.raises(
        UntrustedCheckpointError, match=r"MSELoss.*weights_only=False.*add_safe_globals"
    ) as caught:
        load(tmp_path / "x.ckpt")
    assert isinstance(caught.value, pickle.UnpicklingError)
    assert isinstance(load(tmp_path / "x.ckpt", weights_only=False)["loss"], nn.MSELoss)


def test_an_open_file_is_not_trusted_either(tmp_path):
    torch.save({"loss": nn.MSELoss()}, tmp_path / "x.ckpt")
    with open(tmp_path / "x.ckpt", "rb") as file:
        with pytest.raises(UntrustedCheckpointError, match="MSELoss"):
            load(file)
        assert isinstance(
            load(io.BytesIO((tmp_path / "x.ckpt").read_bytes()), None, False)["loss"], nn.MSELoss
        )


def test_a_foreign_class_in_the_old_format_is_named(tmp_path):
    torch.save({"loss": nn.MSELoss()}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(UntrustedCheckpointError, match="MSELoss"):
        load(tmp_path / "x.ckpt")


def test_a_class_that_is_gone_keeps_its_own_error(tmp_path):
    module = type(sys)("levin_gone_module")
    module.Gone = type("Gone", (), {"__module__": "levin_gone_module", "__qualname__": "Gone"})
    sys.modules["levin_gone_module"] = module
    torch.save({"x": module.Gone()}, tmp_path / "x.ckpt")
    del sys.modules["levin_gone_module"]
    with pytest.raises(ModuleNotFoundError, match="levin_gone_module"):
        load(tmp_path / "x.ckpt", weights_only=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to put it on")
def test_a_device_that_is_not_here_keeps_its_own_error(saved):
    with pytest.raises((RuntimeError, AssertionError), match="CUDA") as caught:
        load(saved, map_location="cuda")
    assert not isinstance(caught.value, CorruptCheckpointError)


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_url_is_fetched_and_trusted_unless_told_otherwise(tmp_path, server, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.save({"loss": nn.MSELoss(), "name": name}, tmp_path / name / "last.ckpt")
    assert load(f"{server}/a/last.ckpt")["name"] == "a"
    assert load(f"{server}/b/last.ckpt")["name"] == "b"  # the same file name is another file
    with pytest.raises(UntrustedCheckpointError, match="MSELoss"):
        load(f"{server}/a/last.ckpt", weights_only=True)


# ------------------------------------------------------------------------------- is it one of a Trainer


def test_a_trainers_checkpoint_is_handed_through():
    value = checkpoint()
    assert as_checkpoint(value) is value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1], "x.ckpt.*holds a list"),
        (nn.MSELoss(), "holds a torch.nn.modules.loss.MSELoss"),
        ({"w": torch.ones(1)}, "bare state dict of 1 tensors.*load_state_dict"),
        ({"model": {}, "step": 3}, r"its keys are \['model', 'step'\]"),
        ({}, "its keys are"),
    ],
)
def test_another_file_is_told_what_it_holds(value, text):
    with pytest.raises(CorruptCheckpointError, match=text):
        as_checkpoint(value, "x.ckpt")


# --------------------------------------------------------------------------------------- second names


def test_a_second_name_is_a_relative_link_that_moves_with_its_folder(saved):
    point_to(saved.with_name("last.ckpt"), saved)
    assert os.readlink(saved.with_name("last.ckpt")) == "some.ckpt"
    moved = saved.parent.with_name(saved.parent.name + "-moved")
    saved.parent.rename(moved)
    assert load(moved / "last.ckpt")["epoch"] == 3


def test_a_second_name_is_on_the_disk_before_its_former_file_may_go(saved, monkeypatch):
    flushed, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda opened: (flushed.append(os.fstat(opened).st_ino), sync(opened)))
    point_to(saved.parent / "last.ckpt", saved)
    assert flushed == [os.stat(saved.parent).st_ino]


def test_a_second_name_reaches_into_folders_below(saved):
    below = saved.parent / "val" / "loss.ckpt"
    TorchCheckpointIO().save_checkpoint(checkpoint(), below)
    point_to(saved.parent / "last.ckpt", below)
    assert os.readlink(saved.parent / "last.ckpt") == os.path.join("val", "loss.ckpt")


@pytest.mark.parametrize("before", ["link", "dangling link", "file", "folder"])
def test_a_second_name_replaces_what_was_there(saved, before):
    last, other = saved.with_name("last.ckpt"), saved.with_name("other.ckpt")
    if before == "folder":
        (last / "inner").mkdir(parents=True)
    elif before == "file":
        last.write_text("x")
    else:
        last.symlink_to("other.ckpt")
    if before == "link":
        other.write_text("kept")
    point_to(last, saved)
    assert load(last)["epoch"] == 3
    assert before != "link" or other.read_text() == "kept"
    assert not [name for name in os.listdir(saved.parent) if name.endswith(".tmp")]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_second_name_is_a_copy_where_there_are_no_links(tmp_path, kind, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no links on this file system")

    monkeypatch.setattr(os, "symlink", refuse)
    target, inner = tmp_path / "target", tmp_path / "target"
    if kind == "folder":
        target.mkdir()
        inner = target / "shard"
    inner.write_text("content")
    for _ in range(2):
        point_to(tmp_path / "last", target)
    copied = tmp_path / "last" / "shard" if kind == "folder" else tmp_path / "last"
    assert copied.read_text() == "content"
    assert not (tmp_path / "last").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["last", "target"]


def test_a_second_name_of_a_remote_checkpoint_is_a_copy():
    TorchCheckpointIO().save_checkpoint(checkpoint(), "memory://names/some.ckpt")
    point_to("memory://names/last.ckpt", "memory://names/some.ckpt")
    assert load("memory://names/last.ckpt")["epoch"] == 3


def test_the_package_gives_its_names_and_no_others():
    import levin.checkpoint

    assert set(levin.checkpoint.__all__) <= set(dir(levin.checkpoint))
    with pytest.raises(AttributeError, match="AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO"):
        levin.checkpoint.AsyncIO  # noqa: B018


def test_paths_may_be_objects(tmp_path):
    TorchCheckpointIO().save_checkpoint(checkpoint(), Path(tmp_path) / "x.ckpt")
    assert load(Path(tmp_path) / "x.ckpt")["epoch"] == 3
