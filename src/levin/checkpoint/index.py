"""The index of a checkpoint folder: a line for each commit, from which a later process knows what is whole.

``.checkpoints.jsonl`` lies beside the checkpoints. A line is appended, never changed: what a commit is (step,
score, parent, size, SHA-256, ...), or that a file was removed. A commit's line is written when its data is on
the disk and before the file gets its name, so that no file of a run is without one; it holds only if a file
of that size and digest is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import threading
import time
import uuid
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, fields, replace
from typing import IO, TYPE_CHECKING, Any

from levin.checkpoint import OWN_KEY
from levin.utils import paths
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from levin.utils.paths import PathLike

INDEX_NAME = ".checkpoints.jsonl"
"""The name of the index in its folder."""

COMMIT_KEY = "commit"
"""What a checkpoint's line in the index says of it, the checkpoint has under this key of `OWN_KEY`."""

_BLOCK = 1 << 20
_NUM_LEVELS = 3  # a file's name may have folders in it: "val/loss=0.5.ckpt"


@dataclass(frozen=True)
class Commit:
    """A checkpoint that was completed, as its line in the index has it.

    Attributes:
        name: The file, relative to the folder of the index.
        step: The optimizer steps that were done.
        epoch: The epoch it was saved in.
        time: When, in seconds since 1970.
        size: Its bytes; None where it is not known.
        sha256: The digest of its bytes; empty where it is not known.
        run: What all checkpoints of a run have in common, restarts with "auto" and "last" included.
        parent: The checkpoint before it: the former one of this run, or the one that it was resumed from.
        owner: The `state_key` of the callback that saved it; empty for `Trainer.save_checkpoint`.
        role: "kept" for one that a ModelCheckpoint chose, "last" for a `last.ckpt` of its own, else empty.
        monitor: The metric that the owner goes by.
        score: Its value.
        metrics: The metrics there were.
        weights_only: Whether training can't go on from it.
    """

    name: str
    step: int = 0
    epoch: int = 0
    time: float = 0.0
    size: int | None = None
    sha256: str = ""
    run: str = ""
    parent: str = ""
    owner: str = ""
    role: str = ""
    monitor: str | None = None
    score: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    weights_only: bool = False

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Commit:
        """The commit that a line of the index tells of; what a later version added is passed over."""
        known = {each.name for each in fields(cls)}
        values = {key: value for key, value in entry.items() if key in known}
        score = values.get("score")
        values["score"] = None if score is None else float(score)
        values["metrics"] = {key: float(value) for key, value in values.get("metrics", {}).items()}
        return cls(**values)

    def line(self) -> str:
        """The line of the index; NaN and infinite values are in it as text, so that it stays JSON."""
        defaults = asdict(Commit(""))
        values = {key: value for key, value in asdict(self).items() if value != defaults[key]}
        for numbers in (values, values.get("metrics", {})):
            for key, value in numbers.items():
                if isinstance(value, float) and not math.isfinite(value):
                    numbers[key] = str(value)
        return json.dumps(values)


class Index:
    """The index of a folder, on this machine or a remote one; it need not exist yet.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder: str = os.fspath(folder)

    @property
    def path(self) -> str:
        """Where it is."""
        return paths.join(self.folder, INDEX_NAME)

    def path_of(self, commit: Commit) -> str:
        """The path of a commit's file."""
        return paths.join(self.folder, *commit.name.split("/"))

    def add(self, commit: Commit) -> None:
        """Append a commit."""
        paths.append_line(self.path, commit.line())

    def removed(self, name: str) -> None:
        """Append that a file was removed."""
        paths.append_line(self.path, json.dumps({"removed": name, "time": time.time()}))

    def entries(self, name: str | None = None) -> list[dict[str, Any]]:
        """All lines, oldest first, but for those that can't be read: a killed process may leave one.

        Args:
            name: Leave out lines that do not mention this file, which are then not even parsed.
        """
        found, lines = [], []
        wanted = b"" if name is None else json.dumps(name).encode()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), paths.open_file(self.path) as file:
            lines = [line for line in file.read().splitlines() if wanted in line]
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [entry for entry in found if isinstance(entry, dict)]

    def commits(self, name: str | None = None) -> list[Commit]:
        """The commits that were not removed, oldest first; several of one name if it was written again.

        Args:
            name: Only those of this file.
        """
        found: list[Commit] = []
        for entry in self.entries(name):
            gone, undone = entry.get("removed"), entry.get("undone")
            if gone is not None:
                found = [commit for commit in found if commit.name != gone]
            elif undone is not None:
                newest = max((i for i, commit in enumerate(found) if commit.name == undone), default=None)
                found = [commit for i, commit in enumerate(found) if i != newest]
            elif "name" in entry:
                with contextlib.suppress(TypeError, ValueError, AttributeError):
                    found.append(Commit.parse(entry))
        return [commit for commit in found if name in (None, commit.name)]

    def settle(self, run: str) -> None:
        """Undo the newest line if it is of a run that was killed before the file got its name."""
        commits = self.commits()
        if commits and commits[-1].run == run and self._is_undone(commits):
            entry = {"undone": commits[-1].name, "time": time.time()}
            paths.append_line(self.path, json.dumps(entry))

    def present(self) -> list[Commit]:
        """The commits whose files are there, in their full length; oldest first."""
        commits = self.commits()
        if commits and self._is_undone(commits):
            commits.pop()
        newest = {commit.name: commit for commit in commits}
        return [commit for commit in commits if newest[commit.name] is commit and self._is_there(commit)]

    def _is_there(self, commit: Commit) -> bool:
        """Whether its file is there in its full length; a link there is the name of another commit's."""
        path = self.path_of(commit)
        if paths.is_local(path) and os.path.islink(paths.local_path(path)):
            return False
        try:
            return paths.exists(path) if commit.size is None else paths.size(path) == commit.size
        except FileNotFoundError:
            return False

    def _is_undone(self, commits: list[Commit]) -> bool:
        """Whether the newest line is of a file that did not get its name; another may have had it before."""
        last = commits[-1]
        is_only = sum(commit.name == last.name for commit in commits) == 1
        if is_only or not last.sha256 or not self._is_there(last):
            return not self._is_there(last)
        with paths.open_file(self.path_of(last)) as file:
            return sha256_of(file) != last.sha256


def index_of(path: PathLike) -> tuple[Index, list[Commit]]:
    """The index that knows the file at ``path``, and the commits of that name; none if no index does."""
    text = os.fspath(path)
    folder = os.path.realpath(paths.local_path(text)) if paths.is_local(text) else text
    name = ""
    for level in range(_NUM_LEVELS):
        above = paths.parent(folder)
        name = folder[len(above) :].replace(os.sep, "/").strip("/") + (f"/{name}" if name else "")
        with contextlib.suppress(*(() if level == 0 else (OSError,))):
            index = Index(above)
            found = index.commits(name)
            if found:
                return index, found
        if above == folder or above.endswith("://"):
            break
        folder = above
    return Index(paths.parent(text)), []


# ------------------------------------------------------------------------------------------ is it whole


class HashingWriter:
    """A file to write to that computes the SHA-256 of what goes through it.

    Large pieces are hashed on a thread beside the writing, so that the digest costs time only where the disk
    is faster.

    Args:
        file: Where the bytes go.

    Attributes:
        size: The bytes so far.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size: int = 0

    @property
    def sha256(self) -> str:
        """The digest of the bytes so far."""
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        if len(view) < _BLOCK:
            self._digest.update(view)
            self._write_all(view)
            return len(view)
        hashing = threading.Thread(target=self._digest.update, args=(view,))
        hashing.start()
        try:
            self._write_all(view)
        finally:
            hashing.join()  # the memory is the caller's again once this returns
        return len(view)

    def _write_all(self, view: memoryview) -> None:
        while len(view):
            num_written = self._file.write(view)
            if not num_written:
                raise OSError(f"Only a part was written: {len(view)} bytes are left, and no more are taken.")
            view = view[num_written:]

    def flush(self) -> None:
        """Hand over what is buffered."""
        self._file.flush()


def sha256_of(file: IO[bytes]) -> str:
    """The SHA-256 of what is left in a file."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    while True:
        num_read = file.readinto(block)  # type: ignore[attr-defined]
        if not num_read:
            return digest.hexdigest()
        digest.update(memoryview(block)[:num_read])


def damage(path: PathLike, content: str | None = None) -> str | None:
    """What is wrong with the checkpoint at ``path``, or None.

    It is compared with the index if that knows the file, and else with the checksums that archives of torch
    have inside of them. A file that is whole by these, but is not the one that was written, was replaced by
    somebody: that is told in a warning.

    Args:
        path: Its path or URL, a link to it too.
        content: Where its content lies on this machine, if the path is a remote one.
    """
    commits = [commit for commit in index_of(path)[1] if commit.sha256]
    file = content or paths.local_path(path)
    if any(_is_file_of(commit, file) for commit in commits):
        return None
    fault = _fault(file)
    if not commits:
        return fault or None
    if fault == "":
        rank_zero_warn(
            f"{os.fspath(path)} is not the file that was written there (by its SHA-256 in {INDEX_NAME}), but "
            "it is whole: it is used as it is."
        )
        return None
    size, written = os.path.getsize(file), commits[-1].size
    return f"{size} of {written} bytes are there" if size != written else fault or "its bytes were changed"


def _is_file_of(commit: Commit, file: str) -> bool:
    if commit.size != os.path.getsize(file):
        return False
    with open(file, "rb") as opened:
        return sha256_of(opened) == commit.sha256


def _fault(file: str) -> str | None:
    """What contradicts the checksums of an archive of torch; empty if nothing does, None if it has none."""
    try:
        with zipfile.ZipFile(file) as archive:
            if not any(record.CRC for record in archive.infolist()):  # torch can leave them out
                return None
            name = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError):
        return None
    return "" if name is None else f"its part {name} does not match its checksum"


def newest_whole(folder: PathLike, *, besides: PathLike) -> str | None:
    """The newest whole checkpoint that the index of ``folder`` knows, other than ``besides``."""
    index = Index(folder)
    for commit in reversed(index.present()):
        path = index.path_of(commit)
        if os.path.normpath(path) == os.path.normpath(os.fspath(besides)):
            continue
        with contextlib.suppress(OSError), paths.fetched(path) as content:
            if damage(path, content) is None:
                return path
    return None


# ------------------------------------------------------------------------------------ whose checkpoint


@dataclass
class Lineage:
    """Which run checkpoints belong to, and which one came last.

    Attributes:
        run: What all checkpoints of a run have in common.
        parent: The newest checkpoint, or the one that the run was resumed from.
        goes_on: Whether the run goes on where one of its own checkpoints is: ``ckpt_path`` is "auto" or
            "last".
        broken: Checkpoints that were passed over as they are damaged.
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    parent: str = ""
    goes_on: bool = False
    broken: tuple[str, ...] = ()
    _note: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def resumed(
        cls,
        checkpoint: Mapping[str, Any] | None,
        path: str | None,
        *,
        goes_on: bool,
        broken: tuple[str, ...] = (),
    ) -> Lineage:
        """The lineage of a run that begins with a checkpoint, or none: another run, unless it is its own."""
        lineage = cls(parent=path or "", goes_on=goes_on, broken=broken)
        run = described_in(checkpoint or {}).get("run") if goes_on else None
        return replace(lineage, run=run) if run else lineage

    @contextlib.contextmanager
    def noting(self, **note: Any) -> Iterator[None]:
        """Within it, commits have this to say: ``home`` (the folder of the index), owner, role, score, ..."""
        self._note = note
        try:
            yield
        finally:
            self._note = {}

    def describe(self, path: PathLike, **facts: Any) -> dict[str, Any]:
        """What the checkpoint for ``path``, and the index, say of it.

        Args:
            path: Where it will be.
            **facts: Values of a `Commit`.
        """
        said, text = dict(self._note), os.fspath(path)
        home = said.pop("home", None)
        name, parent = _below(text, home) if home else "", _below(self.parent, home)
        return {"name": name, "run": self.run, "parent": parent, "time": time.time(), **facts, **said}


def _below(path: str, folder: str | None) -> str:
    """The name of a file relative to a folder that it is in; else the path as it is."""
    inner = path.replace(os.sep, "/")
    start = f"{folder}/".replace(os.sep, "/")
    return inner[len(start) :] if folder and inner.startswith(start) else path


def described_in(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What `Lineage.describe` said in a checkpoint; nothing in one that it did not describe."""
    said = (checkpoint.get(OWN_KEY) or {}).get(COMMIT_KEY)
    return said if isinstance(said, dict) else {}


def commit_for(path: PathLike, checkpoint: Mapping[str, Any]) -> tuple[Index, Commit] | None:
    """The index that a checkpoint's commit belongs in, and the commit; None if nothing is to be noted.

    That is where no callback looks after the file, and there is no index in its folder.
    """
    counts = {"step": checkpoint.get("global_step", 0), "epoch": checkpoint.get("epoch", 0)}
    facts = {**counts, "time": time.time(), **described_in(checkpoint)}
    folder, name = os.fspath(path), str(facts.get("name", ""))
    if name and f"/{folder}".replace(os.sep, "/").endswith(f"/{name}"):
        for _ in name.split("/"):
            folder = paths.parent(folder)
        return Index(folder), Commit.parse(facts)
    index, known = index_of(path)
    name = known[-1].name if known else os.path.basename(folder)
    return (index, Commit.parse({**facts, "name": name})) if paths.exists(index.path) else None
