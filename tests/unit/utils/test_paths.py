from __future__ import annotations

import errno
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from levin.utils import paths
from levin.utils.paths import atomic_writer, is_local, join, open_file


@pytest.fixture
def remote() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "file", "remote"])
def folder(request, tmp_path, remote) -> str:
    return {"local": str(tmp_path / "runs"), "file": f"file://{tmp_path}/runs", "remote": remote}[
        request.param
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b", True),
        (Path("a"), True),
        ("/a", True),
        ("", True),
        ("file:///a", True),
        ("local://a", True),
        ("C:\\a", True),
        ("a:b", True),
        ("s3://a", False),
        ("memory://a", False),
        ("simplecache::s3://a", False),
        ("https://a", False),
    ],
)
def test_paths_with_a_scheme_are_remote_but_for_files(path, expected):
    assert is_local(path) is expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("a", "b", "c.ckpt"), os.path.join("a", "b", "c.ckpt")),
        ((Path("a"), "b"), os.path.join("a", "b")),
        (("a", os.path.abspath("b")), os.path.abspath("b")),
        (("s3://a/", "b/", "c"), "s3://a/b/c"),
        (("s3://a", "", "c"), "s3://a/c"),
        (("s3://a/",), "s3://a/"),
        (("file:///a", "b"), "file:///a/b"),
    ],
)
def test_join_uses_the_separator_of_the_first_part(parts, expected):
    assert join(*parts) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b", "a"), ("a", ""), ("s3://a/b", "s3://a"), ("s3://a/b/", "s3://a"), ("file:///a/b", "file:///a")],
)
def test_parent_is_the_folder_above(path, expected):
    assert paths.parent(path) == expected


def test_local_path_is_what_the_operating_system_takes():
    assert paths.local_path("file:///a/b") == "/a/b"
    assert paths.local_path(Path("a")) == "a"
    with pytest.raises(ValueError, match="s3://a"):
        paths.local_path("s3://a")


def test_what_is_below_a_folder_is_known_through_links(tmp_path):
    (tmp_path / "a").mkdir()
    os.symlink(tmp_path / "a", tmp_path / "b")
    assert paths.is_below(tmp_path / "b" / "x" / "y", tmp_path / "a")
    assert not paths.is_below(tmp_path / "ab" / "x", tmp_path / "a")
    assert paths.is_below("memory://a/b/c", "memory://a/")
    assert not paths.is_below("memory://ab/c", "memory://a")


def test_files_are_made_listed_and_removed(folder):
    paths.makedirs(join(folder, "deep", "er"))
    with atomic_writer(join(folder, "b.txt"), "w") as file:
        file.write("grüße")
    with open_file(join(folder, "b.txt"), "r") as file:
        assert file.read() == "grüße"
    assert paths.listdir(folder) == ["b.txt", "deep"]
    assert paths.is_dir(join(folder, "deep"))
    assert not paths.is_dir(join(folder, "b.txt"))
    paths.remove(join(folder, "b.txt"))
    paths.remove(join(folder, "deep"))
    assert not paths.exists(join(folder, "b.txt"))
    assert not paths.exists(join(folder, "deep"))


def test_removing_what_is_not_there_is_no_error(folder):
    paths.remove(join(folder, "nothing"))


def test_listing_a_folder_that_is_not_there_is_an_error(folder):
    with pytest.raises(FileNotFoundError):
        paths.listdir(join(folder, "nothing"))


def test_removing_a_link_leaves_what_it_points_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    paths.remove(tmp_path / "link")
    assert paths.listdir(tmp_path) == ["kept"]


def test_a_place_to_write_to_is_found_out_and_nothing_is_left_there(tmp_path):
    for folder in (tmp_path, tmp_path / "not" / "there" / "yet", "memory://anywhere"):
        paths.check_writable(folder, "Notes", "Go away.")
    assert paths.listdir(tmp_path) == []


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_place_that_can_not_be_written_to_is_named_with_what_to_do(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(
        NotADirectoryError, match=r"Notes can't be written to .*file.*\(Not a directory\)\. Go away\."
    ):
        paths.check_writable(tmp_path / "file" / below, "Notes", "Go away.")


@pytest.mark.skipif(os.geteuid() == 0, reason="to root nothing is forbidden")
def test_a_folder_without_permission_can_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="can't be written to"):
        paths.check_writable(tmp_path / "below", "Notes", "Go away.")


def write_and_fail(path: str | Path, error: BaseException) -> None:
    with atomic_writer(path) as file:
        file.write(b"half")
        raise error


def test_a_file_appears_only_when_its_writer_has_ended_well(folder):
    path = join(folder, "deep", "state.bin")
    with pytest.raises(RuntimeError, match="half way"):
        write_and_fail(path, RuntimeError("half way"))
    assert not paths.exists(path)
    with atomic_writer(path) as file:
        file.write(b"whole")
        file.flush()
        assert not paths.exists(path)
    with open_file(path) as file:
        assert file.read() == b"whole"


def test_a_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert paths.listdir(tmp_path) == ["state.bin"]


def test_the_temporary_file_lies_beside_its_destination(tmp_path):
    with atomic_writer(tmp_path / "state.bin"):
        assert [tmp_path / name for name in paths.listdir(tmp_path)] == [
            Path(paths.temporary_name(tmp_path / "state.bin"))
        ]


def test_a_bare_name_is_written_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_writer("state.bin") as file:
        file.write(b"x")
    assert paths.listdir("") == ["state.bin"]


def test_a_file_is_flushed_to_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    events: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("sync"), sync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("rename"), rename(*names)))
    with atomic_writer(tmp_path / "state.bin") as file:
        file.write(b"x")
    assert events == ["sync", "rename", "sync"]


def failing_sync(number: int):
    def sync(descriptor: int) -> None:
        raise OSError(number, "no")

    return sync


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_sync(errno.EIO))
    with pytest.raises(OSError, match="no"), atomic_writer(tmp_path / "state.bin"):
        pass
    assert paths.listdir(tmp_path) == []


def test_a_file_system_that_cannot_flush_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_sync(errno.EINVAL))
    with atomic_writer(tmp_path / "state.bin"):
        pass
    assert paths.listdir(tmp_path) == ["state.bin"]


def test_local_paths_need_no_fsspec(tmp_path):
    program = (
        "import sys; from levin.utils import paths\n"
        "with paths.atomic_writer(sys.argv[1] + '/a') as file: file.write(b'x')\n"
        "assert paths.exists(sys.argv[1] + '/a') and paths.listdir(sys.argv[1]) == ['a']\n"
        "paths.remove(sys.argv[1] + '/a')\n"
        "assert not {'fsspec', 'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_filesystem_is_fsspecs(tmp_path, remote):
    assert paths.filesystem(remote).protocol == "memory"
    assert "file" in paths.filesystem(tmp_path).protocol


def test_a_local_path_becomes_absolute_and_a_remote_one_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to("there")
    there = str(tmp_path / "there" / "x")
    for path in ("there/x", "link/x", "~/there/x", f"file://{there}"):
        assert paths.absolute(path) == there
    assert paths.absolute("memory://there/x") == "memory://there/x"
