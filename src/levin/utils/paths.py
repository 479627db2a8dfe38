"""Paths on this machine and, through fsspec, elsewhere; files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any

from levin.utils.imports import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

PathLike = str | os.PathLike[str]

# `s3://...`, `simplecache::s3://...`; a single letter is a drive of Windows.
_SCHEME = re.compile(r"^(?P<scheme>[A-Za-z][\w+.\-]+)(::[\w+.\-]+)*://")

# Where a file system cannot flush, its own guarantees have to do.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}


def is_local(path: PathLike) -> bool:
    """Whether ``path`` is on a file system of this machine: it has no ``scheme://``, or ``file://``."""
    match = _SCHEME.match(os.fspath(path))
    return match is None or match["scheme"] in ("file", "local")


def filesystem(path: PathLike) -> AbstractFileSystem:
    """The fsspec file system that ``path`` is on."""
    return require("fsspec.core", extra="").url_to_fs(os.fspath(path))[0]


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


def listdir(path: PathLike) -> list[str]:
    """The names of what lies in the folder ``path``, sorted.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if is_local(path):
        return sorted(os.listdir(local_path(path) or "."))
    fs, inner = _remote(path)
    return sorted(entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(inner, detail=False))


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
def atomic_writer(path: PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that appears at ``path`` only when the body has ended well.

    On this machine the body writes ``.<name>.<pid>.tmp`` in the folder of ``path`` (made if it is not there);
    then the data is flushed to the disk and the file renamed. An error in the body removes the temporary file
    and leaves what was at ``path``. Remote files are written to a temporary file here and put in one piece.

    Args:
        path: Where the file is to be.
        mode: ``"wb"``, or ``"w"`` for text in UTF-8.

    Yields:
        The file, open for writing.
    """
    encoding = None if "b" in mode else "utf-8"
    makedirs(parent(path))
    if not is_local(path):
        fs, inner = _remote(path)
        with tempfile.TemporaryDirectory(prefix="levin-") as folder:
            staged = os.path.join(folder, "file")
            with open(staged, mode, encoding=encoding) as file:
                yield file
            fs.put_file(staged, inner)
        return
    target = local_path(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            _sync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise
    _sync_folder(folder or ".")


def _remote(path: PathLike) -> tuple[AbstractFileSystem, str]:
    fs, inner = require("fsspec.core", extra="").url_to_fs(os.fspath(path))
    return fs, str(inner)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _sync_folder(folder: str) -> None:
    """Make a rename in ``folder`` outlive a power cut, where folders can be flushed."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
