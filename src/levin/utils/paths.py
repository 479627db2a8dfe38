"""Paths on this machine and, through fsspec, elsewhere; files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import tempfile
import time
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any
from zlib import crc32

from levin.utils.imports import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

PathLike = str | os.PathLike[str]

# `s3://...`, `simplecache::s3://...`; a single letter is a drive of Windows.
_SCHEME = re.compile(r"^(?P<scheme>[A-Za-z][\w+.\-]+)(::[\w+.\-]+)*://")

# Where a file system cannot flush, its own guarantees have to do.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}

# What `temporary_name` and staging folders are called: it says whether who made them still lives.
_TEMPORARY = re.compile(r"^(?:\..*\.|levin-)(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<life>\d+)(?:\.tmp$|-)")
_ABANDONED_S = 3600


def is_local(path: PathLike) -> bool:
    """Whether ``path`` is on a file system of this machine: it has no ``scheme://``, or ``file://``."""
    match = _SCHEME.match(os.fspath(path))
    return match is None or match["scheme"] in ("file", "local")


def filesystem(path: PathLike) -> AbstractFileSystem:
    """The fsspec file system that ``path`` is on."""
    return require("fsspec.core").url_to_fs(os.fspath(path))[0]


def local_path(path: PathLike) -> str:
    """A local ``path`` as the operating system takes it: without ``file://``.

    Raises:
        ValueError: The path is on a remote file system.
    """
    text = os.fspath(path)
    if not is_local(text):
        raise ValueError(f"{text!r} is not a path on this machine.")
    match = _SCHEME.match(text)
    return text if match is None else text[match.end() :]


def absolute(path: PathLike) -> str:
    """A local ``path`` from the root on, with ``~`` and links followed; a remote one as it is."""
    text = os.fspath(path)
    return os.path.realpath(os.path.expanduser(local_path(text))) if is_local(text) else text


def join(*parts: PathLike) -> str:
    """The parts as one path: with ``/`` below a URL, with the separator of this machine otherwise."""
    first, *rest = (os.fspath(part) for part in parts)
    if _SCHEME.match(first) is None:
        return os.path.join(first, *rest)
    below = [part.strip("/") for part in rest if part.strip("/")]
    return "/".join([first.rstrip("/") if below else first, *below])


def parent(path: PathLike) -> str:
    """The folder that ``path`` lies in."""
    text = os.fspath(path)
    match = _SCHEME.match(text)
    if match is None:
        return os.path.dirname(text)
    inner = text[match.end() :].rstrip("/")
    return text[: match.end()] + inner.rpartition("/")[0]


def makedirs(path: PathLike) -> None:
    """Make the folder ``path`` and the folders above it, where they are not there."""
    if is_local(path):
        os.makedirs(local_path(path) or ".", exist_ok=True)
    else:
        fs, inner = _remote(path)
        fs.makedirs(inner, exist_ok=True)


def exists(path: PathLike) -> bool:
    """Whether there is a file or a folder at ``path``."""
    if is_local(path):
        return os.path.exists(local_path(path))
    fs, inner = _remote(path)
    return bool(fs.exists(inner))


def is_dir(path: PathLike) -> bool:
    """Whether there is a folder at ``path``."""
    if is_local(path):
        return os.path.isdir(local_path(path))
    fs, inner = _remote(path)
    return bool(fs.isdir(inner))


def is_below(path: PathLike, folder: PathLike) -> bool:
    """Whether ``path`` is in ``folder`` or a folder in that, once links on the way to it are followed."""
    if not (is_local(path) and is_local(folder)):
        return os.fspath(path).startswith(os.fspath(folder).rstrip("/") + "/")
    home = os.path.realpath(local_path(folder))
    return os.path.commonpath([home, os.path.realpath(os.path.dirname(local_path(path)))]) == home


def size(path: PathLike) -> int:
    """The bytes of the file at ``path``.

    Raises:
        FileNotFoundError: There is none.
    """
    if is_local(path):
        return os.path.getsize(local_path(path))
    fs, inner = _remote(path)
    return int(fs.info(inner)["size"])


def listdir(path: PathLike) -> list[str]:
    """The names of what lies in the folder ``path``, sorted.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if is_local(path):
        return sorted(os.listdir(local_path(path) or "."))
    fs, inner = _remote(path)
    return sorted(entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(inner, detail=False))


@contextlib.contextmanager
def fetched(path: PathLike) -> Iterator[str]:
    """Within it, the file at ``path`` is on this machine: the file itself, or a copy of a remote one.

    Yields:
        Where it is.
    """
    if is_local(path):
        yield local_path(path)
        return
    fs, inner = _remote(path)
    with _staging() as folder:
        copy = os.path.join(folder, "file")
        fs.get_file(inner, copy)
        yield copy


def remove(path: PathLike) -> None:
    """Remove the file, the link, or the folder with all it holds at ``path``, if there is one."""
    if not is_local(path):
        fs, inner = _remote(path)
        with contextlib.suppress(FileNotFoundError):
            fs.rm(inner, recursive=True)
        return
    target = local_path(path)
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
        else:
            os.remove(target)


def check_writable(folder: PathLike, what: str, remedy: str) -> None:
    """Make sure, before the work, that files can be written in ``folder``, which need not be there yet.

    Nothing is left behind. Remote places are taken at their word.

    Args:
        folder: The folder.
        what: What is to be written there, for the message.
        remedy: What to do if it can't be, for the message.

    Raises:
        OSError: Nothing can be written there.
    """
    if not is_local(folder):
        return
    nearest = os.path.abspath(local_path(folder))
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"{what} can't be written to {os.fspath(folder)}: {nearest} can't be written to "
            f"({error.strerror}). {remedy}",
        ) from error


def open_file(path: PathLike, mode: str = "rb") -> IO[Any]:
    """Open ``path``, as text in UTF-8 or in binary.

    A file that has to be whole or not there at all is written with :func:`atomic_writer`.
    """
    encoding = None if "b" in mode else "utf-8"
    if is_local(path):
        return open(local_path(path), mode, encoding=encoding)
    fs, inner = _remote(path)
    file: IO[Any] = fs.open(inner, mode, encoding=encoding) if encoding else fs.open(inner, mode)
    return file


@contextlib.contextmanager
def atomic_writer(
    path: PathLike, mode: str = "wb", *, before_commit: Callable[[], None] | None = None
) -> Iterator[IO[Any]]:
    """Open a file for writing that appears at ``path`` only when the body has ended well.

    On this machine the body writes a `temporary_name` in the folder of ``path`` (made if it is not there);
    then the data is flushed to the disk and the file renamed. An error in the body removes the temporary file
    and leaves what was at ``path``. Remote files are written to a temporary file here and put in one piece.

    Args:
        path: Where the file is to be.
        mode: ``"wb"``, or ``"w"`` for text in UTF-8.
        before_commit: Called once the data is safe, before it gets its name; an error in it leaves all as it
            was.

    Yields:
        The file, open for writing.
    """
    encoding = None if "b" in mode else "utf-8"
    makedirs(parent(path))
    if not is_local(path):
        fs, inner = _remote(path)
        with _staging() as folder:
            staged = os.path.join(folder, "file")
            with open(staged, mode, encoding=encoding) as file:
                yield file
            if before_commit is not None:
                before_commit()
            fs.put_file(staged, inner)
        return
    target = local_path(path)
    temporary = temporary_name(target)
    try:
        with open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            _sync(file.fileno())
        if before_commit is not None:
            before_commit()
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise
    sync_folder(os.path.dirname(target) or ".")


def _staging() -> tempfile.TemporaryDirectory[str]:
    """A folder for copies of remote files; those of killed processes are removed on the way."""
    remove_leftovers(tempfile.gettempdir())
    return tempfile.TemporaryDirectory(prefix=f"levin-{_this_process()}-")


def append_line(path: PathLike, line: str) -> None:
    """Add a line to a text file, and flush it to the disk; both file and folder are made if need be.

    A last line that a killed process did not finish stays a line of its own. Where files can't be appended
    to, in object stores, the file is put anew.
    """
    if not is_local(path):
        text = ""
        with contextlib.suppress(FileNotFoundError), open_file(path, "r") as file:
            text = file.read()
        with atomic_writer(path, "w") as file:
            file.write(f"{text}{line}\n")
        return
    target = local_path(path)
    makedirs(os.path.dirname(target))
    is_new = not os.path.exists(target)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and _last_byte(descriptor) != b"\n"
        data = f"{'' if not is_torn else chr(10)}{line}\n".encode()
        while data:
            data = data[os.write(descriptor, data) :]
        _sync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(os.path.dirname(target) or ".")


def _last_byte(descriptor: int) -> bytes:
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1)


# -------------------------------------------------------------------------- files that are not finished


def temporary_name(path: PathLike) -> str:
    """What a file is called until it is complete: a hidden name beside it, which tells this process."""
    folder, name = os.path.split(local_path(path))
    return os.path.join(folder, f".{name[:150]}.{_this_process()}.tmp")


def remove_leftovers(folder: PathLike) -> list[str]:
    """Remove the unfinished files in ``folder`` whose writer is dead, and return their names.

    What a live process writes stays, and so does what another machine wrote less than an hour ago.
    """
    if not is_local(folder):
        return []
    home, removed, names = local_path(folder) or ".", [], []
    with contextlib.suppress(OSError):
        names = os.listdir(home)
    for name in names:
        found, path = _TEMPORARY.match(name), os.path.join(home, name)
        if found is not None and _is_left(path, found):
            with contextlib.suppress(OSError):
                remove(path)
                removed.append(name)
    return removed


def _is_left(path: str, name: re.Match[str]) -> bool:
    if name["host"] == _this_host() and os.path.exists("/proc/self/stat"):
        return _life_of(int(name["pid"])) != name["life"]
    with contextlib.suppress(FileNotFoundError):
        return time.time() - os.lstat(path).st_mtime > _ABANDONED_S
    return False


def _this_process() -> str:
    pid = os.getpid()
    return f"{_this_host()}-{pid}-{_life_of(pid)}"


def _life_of(pid: int) -> str:
    """When a process began, as its number may be used again: in a container, by the next run; "0": dead."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
        return "0" if state in "ZX" else fields[18]
    return "0"


@lru_cache
def _this_host() -> str:
    """A short name for where process numbers mean the same: this machine, or this container."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{crc32(f'{socket.gethostname()} {namespace}'.encode()):08x}"


def _remote(path: PathLike) -> tuple[AbstractFileSystem, str]:
    fs, inner = require("fsspec.core").url_to_fs(os.fspath(path))
    return fs, str(inner)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def sync_folder(folder: str) -> None:
    """Make a rename in ``folder`` outlive a power cut, where folders can be flushed."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
