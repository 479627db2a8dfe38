"""Reading and writing checkpoints: the one place that calls `torch.save` and `torch.load`.

Three promises are kept here. A file is at its path whole or not at all. What levin writes can be read
without running code that the file brings along: `plain` refuses the rest, by name. What can't be
read is told in a sentence that says what the file is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import re
import shutil
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from hashlib import sha256
from typing import IO, Any, cast

import torch
from torch import Tensor

from levin.checkpoint import former
from levin.checkpoint.index import HashingWriter, commit_for, damage, index_of, newest_whole
from levin.checkpoint.plain import type_name
from levin.utils.paths import (
    PathLike,
    atomic_writer,
    exists,
    fetched,
    filesystem,
    is_dir,
    is_local,
    listdir,
    local_path,
    makedirs,
    parent,
    remove,
    remove_leftovers,
    sync_folder,
    temporary_name,
)
from levin.utils.rank import rank_zero_info

MapLocation = Any  # what `torch.load` takes: a device, a string, a function or a dict


class CorruptCheckpointError(RuntimeError):
    """The file is there, but it is no checkpoint, or not all of one."""


class UntrustedCheckpointError(pickle.UnpicklingError):
    """The file holds objects of classes that safe loading does not build."""


class CheckpointIO(ABC):
    """How checkpoints get to disk and back.

    Subclass it to store them another way, and hand an instance to ``Trainer(plugins=[...])``. All methods are
    called on the process that writes (rank 0), `load_checkpoint` on all.

    Attributes:
        keeps_index: Whether `save_checkpoint` notes the commit in the folder's index, with size and digest.
            Where it does not, the Trainer notes what it knows.
    """

    keeps_index: bool = False

    @abstractmethod
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``. What stood there before stays until the new one is complete.

        Args:
            checkpoint: The values, as a tree of dicts.
            path: A path on this machine or an fsspec URL.
            storage_options: Options of this very class, handed through by `Trainer.save_checkpoint`.
        """

    @abstractmethod
    def load_checkpoint(
        self, path: PathLike, map_location: MapLocation | None = None, weights_only: bool | None = None
    ) -> Any:
        """Read what `save_checkpoint` wrote; see :func:`load` for the arguments."""

    @abstractmethod
    def remove_checkpoint(self, path: PathLike) -> None:
        """Delete the checkpoint at ``path``, a file or a folder."""

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run ``action`` as soon as everything that was saved so far is safely at its path.

        Older checkpoints are deleted, and links moved, by actions given to this method. Override it where
        `save_checkpoint` returns before the file is complete.
        """
        action()

    def on_failure(self, tell: Callable[[BaseException], None]) -> None:  # noqa: B027  # as above
        """Have ``tell`` called with the error of a save that fails after `save_checkpoint` has returned.

        It is called once, on any thread; an error that was told is not raised by later calls.
        """

    def teardown(self) -> None:  # noqa: B027  # nothing is under way where saving waits for the file
        """Finish what is under way; called when a run ends."""


class TorchCheckpointIO(CheckpointIO):
    """Single files in the format of `torch.save`, on this machine or wherever fsspec reaches.

    Tensors go from where they are to the disk, with no copy of the file in memory. What a killed process left
    unfinished in the folder is removed by the next save.
    """

    keeps_index = True

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``, in one piece; folders above it are made.

        Raises:
            TypeError: ``storage_options`` were given; there are none here.
            OSError: The file could not be written, for example because the disk is full. What stood at
                ``path`` is still there.
        """
        if storage_options is not None:
            raise TypeError(
                f"{type(self).__name__} has no storage options, but got storage_options={storage_options!r}. "
                "Leave them out, or give `Trainer(plugins=[...])` a CheckpointIO that knows them."
            )
        remove_leftovers(parent(path))
        noted = commit_for(path, checkpoint)

        def note() -> None:
            if noted is not None:
                index, commit = noted
                index.add(replace(commit, size=stream.size, sha256=stream.sha256))

        try:
            with atomic_writer(path, before_commit=note) as file:
                stream = HashingWriter(file)
                torch.save(checkpoint, cast("IO[bytes]", stream))
        except (OSError, RuntimeError) as error:
            cause = _os_error(error)
            if cause is None:
                raise
            raise OSError(cause.errno, _not_written(checkpoint, path, cause)) from error

    def load_checkpoint(
        self, path: PathLike, map_location: MapLocation | None = None, weights_only: bool | None = None
    ) -> Any:
        """Read the file at ``path``; see :func:`load`."""
        return load(path, map_location, weights_only)

    def remove_checkpoint(self, path: PathLike) -> None:
        """Delete the file, link or folder at ``path``, if there is one, and note it in the index."""
        is_link = is_local(path) and os.path.islink(local_path(path))
        index, known = index_of(path)
        remove(path)
        if known and not is_link:
            index.removed(known[-1].name)


def _os_error(error: BaseException) -> OSError | None:
    """The operating system's error behind ``error``: torch raises its own over it when it closes the file."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError):
            return link
        link = link.__cause__ or link.__context__
    return None


def _not_written(checkpoint: Any, path: PathLike, error: OSError) -> str:
    sentences = [f"The checkpoint {os.fspath(path)} could not be written: {error.strerror or error}."]
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        room = f"It needs about {_in_units(_num_bytes(checkpoint))}"
        with contextlib.suppress(OSError, ValueError):
            free = shutil.disk_usage(parent(local_path(path)) or ".").free
            room += f", and {_in_units(free)} are free there"
        sentences.append(f"{room}. Make room, raise the quota or save elsewhere.")
    sentences.append("Nothing half-written was left, and a checkpoint that stood there before is untouched.")
    return " ".join(sentences)


def _num_bytes(value: Any) -> int:
    """The bytes of all tensors in ``value``, shared ones counted once."""
    storages = {}
    for tensor in _tensors(value):
        with contextlib.suppress(RuntimeError, NotImplementedError):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _in_units(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


# -------------------------------------------------------------------------------------------- reading


def load(
    path_or_file: PathLike | IO[bytes],
    map_location: MapLocation | None = None,
    weights_only: bool | None = None,
) -> Any:
    """Read what `torch.save` wrote, if it is whole.

    A file that the index of its folder knows has to have the size and the SHA-256 that are noted there; any
    other one is compared with the checksums it brings along.

    Args:
        path_or_file: A path, a URL (``http(s)://`` or what fsspec knows) or a file opened in binary.
        map_location: Where the tensors go, as in `torch.load`; None leaves them on the CPU.
        weights_only: Whether only tensors and plain containers may be built. False runs code that the file
            brings along. None means True, but False for ``http(s)://``, which is trusted as its address is.

    Raises:
        FileNotFoundError: There is nothing at the path.
        CorruptCheckpointError: It is no such file, it was cut off or changed; the text names the newest whole
            one of its folder's index.
        UntrustedCheckpointError: It holds objects of classes that safe loading does not build.
    """
    map_location = "cpu" if map_location is None else map_location
    if not isinstance(path_or_file, (str, os.PathLike)):
        name = str(getattr(path_or_file, "name", "The file"))
        return _read(path_or_file, name, map_location, safely=weights_only is not False)
    name = path = os.fspath(path_or_file)
    if path.startswith(("http://", "https://")):
        path, weights_only = _downloaded(path), bool(weights_only)
    _check_is_file(path)
    with fetched(path) as content:
        wrong = damage(path, content)
        if wrong is not None:
            raise CorruptCheckpointError(f"{name} is damaged: {wrong}.{_instead(path)}")
        try:
            return _read(content, name, map_location, safely=weights_only is not False)
        except CorruptCheckpointError as error:
            raise CorruptCheckpointError(f"{error}{_instead(path)}") from error.__cause__


def _instead(path: str) -> str:
    whole = newest_whole(parent(path), besides=path)
    return "" if whole is None else f" The newest whole checkpoint beside it is {whole}."


def as_checkpoint(value: Any, path: PathLike | IO[bytes] | None = None) -> dict[str, Any]:
    """``value``, if it is the checkpoint of a Trainer: a dict with a ``"state_dict"``.

    One of PyTorch Lightning 1.x is brought up to date, which a line tells.

    Raises:
        CorruptCheckpointError: It is something else; the text says what, and how such a file is used.
    """
    name = "The file" if path is None else str(getattr(path, "name", path))
    if isinstance(value, dict) and "state_dict" in value:
        if former.former_version(value) is not None:
            rank_zero_info(former.message(value, name))
        return former.brought_up_to_date(value)
    if not isinstance(value, dict):
        found = f"a {type_name(value)}, and no dict"
    elif value and all(isinstance(item, Tensor) for item in value.values()):
        found = f"a bare state dict of {len(value)} tensors, for `module.load_state_dict(torch.load(path))`"
    else:
        found = f'a dict without "state_dict": its keys are {sorted(map(str, value))[:10]}'
    raise CorruptCheckpointError(
        f"{name} is no checkpoint of a Trainer. It holds {found}. Checkpoints come from "
        "`trainer.save_checkpoint(path)` and from ModelCheckpoint."
    )


def _check_is_file(path: str) -> None:
    if is_dir(path):
        inside = sorted(name for name in listdir(path) if name.endswith(".ckpt"))
        if inside:
            raise CorruptCheckpointError(
                f"{path} is a folder, and one file is expected. Name one of those in it: "
                f"{', '.join(inside[:10])}."
            )
        raise CorruptCheckpointError(
            f"{path} is a folder, and one file is expected. A checkpoint in shards is a folder: only the "
            "strategy that saved it, or one that can read shards, loads it."
        )
    if exists(path):
        return
    try:
        names = [name for name in listdir(parent(path)) if name.endswith((".ckpt", ".pt", ".pth"))]
    except OSError:
        raise FileNotFoundError(f"There is no checkpoint {path}, nor the folder for it.") from None
    near = get_close_matches(os.path.basename(path), names, n=1, cutoff=0.0)
    known = f"has {', '.join(names[:10])}. Did you mean {near[0]!r}?" if near else "has none."
    raise FileNotFoundError(f"There is no checkpoint {path}. Its folder {known}")


def _downloaded(url: str) -> str:
    """The file behind ``url``, fetched once, named after the whole address: many end in ``last.ckpt``."""
    tail = re.sub(r"[^\w.=-]", "_", url.split("?")[0].rpartition("/")[2])
    path = os.path.join(torch.hub.get_dir(), "checkpoints", f"{sha256(url.encode()).hexdigest()[:12]}-{tail}")
    if not os.path.exists(path):
        makedirs(os.path.dirname(path))
        torch.hub.download_url_to_file(url, path, progress=sys.stderr.isatty())
    return path


def _read(source: str | IO[bytes], name: str, map_location: MapLocation, *, safely: bool) -> Any:
    pickle_module = None if safely else former.PICKLE
    try:
        return torch.load(source, map_location=map_location, weights_only=safely, pickle_module=pickle_module)
    except Exception as error:  # anything can come out of the bytes of anything
        foreign = _foreign_classes(source, error) if safely else []
        unknown = former.stand_ins(foreign, besides=torch.serialization.get_safe_globals())
        if unknown:
            with torch.serialization.safe_globals(unknown), _rewound(source) as file:
                return _read(file, name, map_location, safely=safely)
        if foreign:
            raise UntrustedCheckpointError(_untrusted(name, foreign)) from error
        if _speaks_for_itself(error, source):
            raise
        raise CorruptCheckpointError(
            f"{name} can't be read as a checkpoint: {_what_it_is(source)}. Copy or download it again if it "
            "came from elsewhere, or load an older checkpoint."
        ) from error


def _foreign_classes(source: str | IO[bytes], error: Exception) -> list[str]:
    """The names of what the file wants built that safe loading refuses."""
    with contextlib.suppress(Exception), _rewound(source) as file:
        return sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(file)))
    return re.findall(r"GLOBAL ([\w.]+) was not", str(error))  # older formats can't be asked


def _untrusted(name: str, classes: list[str]) -> str:
    listed = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return (
        f"{name} holds objects of {listed}, which are not built while loading safely. If you trust whoever "
        "made the file, pass weights_only=False: it may then run any code. Or allow just these classes: "
        f"torch.serialization.add_safe_globals([{classes[0].rpartition('.')[2]}, ...])."
    )


@contextlib.contextmanager
def _rewound(source: str | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(source, str):
        with open(source, "rb") as file:
            yield file
    else:
        source.seek(0)
        yield source


def _speaks_for_itself(error: Exception, source: str | IO[bytes]) -> bool:
    """Whether the failure is not the file's: it can't be reached, a device or a class is not there."""
    if isinstance(error, (ImportError, AttributeError)):
        return True
    if isinstance(error, OSError):
        return error.errno != errno.EINVAL  # which a zip archive without its end gives
    if isinstance(error, pickle.UnpicklingError):
        return False
    with _rewound(source) as file:
        if not zipfile.is_zipfile(file):
            return False
        return any(name.endswith("/data.pkl") for name in zipfile.ZipFile(file).namelist())


def _what_it_is(source: str | IO[bytes]) -> str:
    with _rewound(source) as file:
        head = file.read(200)
        size = file.seek(0, os.SEEK_END)
        is_archive = zipfile.is_zipfile(file)
    safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size
    found = {
        "it is empty": not head,
        "it is a zip archive, but no readable one of torch.save": is_archive,
        f"it begins like one, but was cut off after {_in_units(size)}": head.startswith(b"PK\x03\x04"),
        "it is a pointer of git-lfs, not the file: run `git lfs pull`": head.startswith(
            b"version https://git-lfs"
        ),
        "it seems to be of safetensors: read it with `safetensors.torch.load_file`": safetensors,
    }
    return next(
        (text for text, is_so in found.items() if is_so), f"its {_in_units(size)} begin with {head[:24]!r}"
    )


# ---------------------------------------------------------------------------------------- second names


def point_to(link: PathLike, target: PathLike) -> None:
    """Make ``link`` another name of the checkpoint at ``target``.

    On this machine it is a relative symbolic link, so that the folder can be moved; it is put in place in one
    step. Where there are none it is a hard link, and where there are none either, remote file systems among
    them, it is a copy.
    """
    if not (is_local(link) and is_local(target)):
        filesystem(target).copy(os.fspath(target), os.fspath(link), recursive=is_dir(target))
        return
    name, original = local_path(link), local_path(target)
    folder = os.path.dirname(name)
    temporary = temporary_name(name)
    makedirs(folder)
    remove(temporary)
    try:
        relative = os.path.relpath(original, folder or ".")
        os.symlink(relative, temporary, target_is_directory=os.path.isdir(original))
    except (OSError, NotImplementedError):
        _copy(original, temporary)
    if os.path.isdir(name) and not os.path.islink(name):
        remove(name)
    os.replace(temporary, name)
    remove(temporary)  # which stays where both are names of one file already
    sync_folder(folder or ".")  # what it led to may be deleted next


def _copy(source: str, target: str) -> None:
    if os.path.isdir(source):
        shutil.copytree(source, target)
        return
    with contextlib.suppress(OSError, NotImplementedError):
        os.link(source, target)
        return
    with open(source, "rb") as original, atomic_writer(target) as file:
        shutil.copyfileobj(original, file)
