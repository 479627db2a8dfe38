"""``levin ckpt``: look at checkpoints, check, compare and upgrade them, take weights out, remove old ones."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from levin.checkpoint.index import Commit

_NUM_LINES = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``levin ckpt <command> ...``.

    Returns:
        0 when all is well; 1 when a checkpoint is damaged or missing, or two differ; 2 when there is nothing
        of that name.
    """
    given = _parser().parse_args(arguments)
    try:
        status: int = given.run(given)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, LookupError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        print(f"levin ckpt: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="levin ckpt",
        description="Look at checkpoints, on this machine or at a URL. Where one is asked for, its folder "
        "stands for the newest one in it.",
    )
    commands = parser.add_subparsers(metavar="command", required=True)

    def command(run: Any, name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    ls = command(_ls, "ls", "list the checkpoints of a folder and of those below it")
    ls.add_argument("path", nargs="?", default=".")
    show = command(_show, "show", "what a checkpoint holds")
    show.add_argument("path")
    show.add_argument("--tensors", action="store_true", help="each weight with its shape and type")
    verify = command(_verify, "verify", "whether checkpoints are whole, and load safely")
    verify.add_argument("path", nargs="+", help="files, or folders, of which all are looked at")
    diff = command(_diff, "diff", "how two checkpoints differ")
    diff.add_argument("path", nargs=2)
    diff.add_argument("--all", action="store_true", help=f"more than {_NUM_LINES} lines")
    export = command(_export, "export", "write the weights alone, for other programs")
    export.add_argument("path")
    export.add_argument(
        "target", help="the file: *.safetensors, or a bare state dict of torch under another name"
    )
    export.add_argument("--prefix", default="", help="only weights whose names begin so, named without it")
    upgrade = command(_upgrade, "upgrade", "write a checkpoint of PyTorch Lightning 1.x in today's form")
    upgrade.add_argument("path")
    upgrade.add_argument("target", help="the file to write; there must be none")
    upgrade.add_argument(
        "--trust", action="store_true", help="build whatever objects the file holds: it may run any code"
    )
    prune = command(
        _prune, "prune", "remove all but the newest checkpoints of a folder, the best and the last"
    )
    prune.add_argument("path")
    prune.add_argument("--keep", type=_count, required=True, metavar="N", help="how many of the newest stay")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    return parser


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one has to stay")
    return number


# ---------------------------------------------------------------------------------------------- ls


def _ls(given: argparse.Namespace) -> int:
    from levin.checkpoint.index import Index

    rows = []
    for folder in _folders(given.path):
        commits = {commit.name: commit for commit in Index(folder).present()}
        names = dict.fromkeys([*commits, *_files(folder)])
        rows += [_row(folder, name, commits.get(name), given.path) for name in names]
    if not rows:
        print(f"There are no checkpoints in {given.path}.")
        return 0
    _print_table([("checkpoint", "step", "epoch", "size", "saved", "score", ""), *rows])
    return 0


def _row(folder: str, name: str, commit: Commit | None, top: str) -> tuple[str, ...]:
    from levin.utils import paths

    path = paths.join(folder, *name.split("/"))
    shown = os.path.relpath(path, top) if paths.is_local(path) else path
    if commit is None:
        is_link = paths.is_local(path) and os.path.islink(paths.local_path(path))
        note = f"-> {os.readlink(paths.local_path(path))}" if is_link else "in no index"
        size = "" if is_link else _in_units(paths.size(path))
        return shown, "", "", size, "", "", note
    score = "" if commit.score is None else f"{commit.monitor}={commit.score:.4g}"
    note = "weights only" if commit.weights_only else ""
    size = _in_units(paths.size(path) if commit.size is None else commit.size)
    return shown, str(commit.step), str(commit.epoch), size, _moment(commit.time), score, note


def _folders(top: str) -> Iterator[str]:
    """The folder, and those below it that hold checkpoints."""
    from levin.utils import paths

    if not paths.is_dir(top):
        raise NotADirectoryError(
            f"{top} is no folder." if paths.exists(top) else f"There is no folder {top}."
        )
    yield top
    if paths.is_local(top):
        for folder, inner, _ in os.walk(paths.local_path(top)):
            inner.sort()
            yield from (os.path.join(folder, name) for name in inner)


def _files(folder: str) -> list[str]:
    """The names of the checkpoints, whether or not an index knows them."""
    from levin.utils import paths

    return [name for name in paths.listdir(folder) if name.endswith(".ckpt") and not name.startswith(".")]


# -------------------------------------------------------------------------------------------- show


def _show(given: argparse.Namespace) -> int:
    from levin.checkpoint.index import index_of
    from levin.checkpoint.io import load
    from levin.utils import paths

    path = _newest(given.path)
    checkpoint = load(path, map_location="meta")
    if not isinstance(checkpoint, dict):
        print(f"{path}: a {type(checkpoint).__name__}, and no checkpoint of a Trainer.")
        return 0
    own = checkpoint.get("levin") or {}
    commits = index_of(path)[1]
    about = {
        "file": f"{path}, {_in_units(paths.size(path))}",
        "index": f"saved {_moment(commits[-1].time)}, SHA-256 {commits[-1].sha256[:12]}"
        if commits
        else "in none",
        "epoch": checkpoint.get("epoch"),
        "step": checkpoint.get("global_step"),
        "levin": checkpoint.get("levin_version"),
        "format of Lightning": checkpoint.get("pytorch-lightning_version"),
        **{key: (own.get("commit") or {}).get(key) for key in ("run", "parent")},
    }
    _print_table([(name, str(value)) for name, value in about.items() if value not in (None, "")])
    print("\nHolds")
    parts = [item for item in checkpoint.items() if isinstance(item[1], (dict, list))]
    _print_table([("", "tensors", "numbers", "size", ""), *(_share(*part) for part in parts)])
    _print_values("Hyper-parameters", checkpoint.get("hyper_parameters"))
    _print_values("Hyper-parameters of the data module", checkpoint.get("datamodule_hyper_parameters"))
    _print_values("Settings", own.get("settings"))
    if given.tensors:
        print("\nWeights")
        tensors = [(n, v) for n, v in checkpoint.get("state_dict", {}).items() if hasattr(v, "shape")]
        _print_table([(name, str(tuple(value.shape)), _type_of(value)) for name, value in tensors])
    return 0


def _share(key: str, part: dict[Any, Any] | list[Any]) -> tuple[str, ...]:
    """What one key of a checkpoint holds."""
    from torch import Tensor

    tensors = [leaf for _, leaf in _leaves(part) if isinstance(leaf, Tensor)]
    if not tensors:
        return f"  {key}", "", "", "", _cut(", ".join(map(str, part))) if isinstance(part, dict) else ""
    types = ", ".join(sorted({_type_of(tensor) for tensor in tensors}))
    numbers = sum(tensor.numel() for tensor in tensors)
    size = sum(part.numel() * part.element_size() for tensor in tensors for part in _parts(tensor))
    return f"  {key}", str(len(tensors)), f"{numbers:,}", _in_units(size), types


def _parts(tensor: Any) -> tuple[Any, ...]:
    """What a sparse tensor is made of; of others the tensor itself."""
    from torch import sparse_bsc, sparse_bsr, sparse_coo, sparse_csc, sparse_csr

    if tensor.layout is sparse_coo:
        whole = tensor.coalesce()
        return whole.indices(), whole.values()
    if tensor.layout in (sparse_csr, sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (sparse_csc, sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def _print_values(title: str, values: Any) -> None:
    rows = [(f"  {place}", _shown(value)) for place, value in _leaves(values or {})]
    if rows:
        print(f"\n{title}")
        _print_table(rows)


# ------------------------------------------------------------------------------------ verify, diff


def _verify(given: argparse.Namespace) -> int:
    from levin.checkpoint.index import Index
    from levin.checkpoint.io import load
    from levin.utils import paths

    files: list[str] = []
    lost: list[str] = []
    for path in given.path:
        if not paths.is_dir(path):
            files.append(path)
            continue
        for folder in _folders(path):
            names = {commit.name: None for commit in Index(folder).commits()} | dict.fromkeys(_files(folder))
            for name in names:
                file = paths.join(folder, *name.split("/"))
                (files if paths.exists(file) else lost).append(file)
    wrong = 0
    for path in files:
        try:
            load(path, map_location="meta", weights_only=True)
            print(f"whole    {path}")
        except Exception as error:  # noqa: PERF203  # the others are looked at all the same
            wrong += 1
            print(f"DAMAGED  {path}: {error}")
    for path in lost:
        print(f"MISSING  {path}")
    print(f"{len(files) - wrong} of {len(files) + len(lost)} checkpoints are whole and load safely.")
    return 1 if wrong or lost else 0


def _diff(given: argparse.Namespace) -> int:
    from levin.checkpoint.io import load

    first, second = (dict(_leaves(load(_newest(path)))) for path in given.path)
    lines = []
    for place in sorted(first | second, key=_rank):
        line = _difference(first.get(place, _NOTHING), second.get(place, _NOTHING))
        if line:
            lines.append(f"{place}: {line}")
    if not lines:
        print("The two hold the same.")
        return 0
    shown = lines if given.all else lines[:_NUM_LINES]
    print(*shown, sep="\n")
    if len(lines) > len(shown):
        print(f"... and {len(lines) - len(shown)} more: --all shows them")
    return 1


def _rank(place: str) -> int:
    """What people ask for comes first, counters within counters last."""
    key = place.partition(".")[0]
    return _FIRST.index(key) if key in _FIRST else len(_FIRST)


_FIRST = (
    *("epoch", "global_step", "hyper_parameters", "datamodule_hyper_parameters", "levin", "state_dict"),
    *("optimizer_states", "lr_schedulers"),
)
_NOTHING: Any = type("Nothing", (), {"__repr__": lambda _: "nothing"})()


def _difference(ours: Any, theirs: Any) -> str:
    from torch import Tensor, complex128, equal, float64

    if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
        is_same = type(ours) is type(theirs) and (ours == theirs or repr(ours) == repr(theirs))  # NaN
        return "" if is_same else f"{_shown(ours)} -> {_shown(theirs)}"
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{_shown(ours)} -> {_shown(theirs)}"
    ours, theirs = _dense(ours), _dense(theirs)
    if equal(ours, theirs):
        return ""
    if ours.numel() == 1:
        return f"{ours.item()} -> {theirs.item()}"
    wide = complex128 if ours.is_complex() else float64
    gap = (ours.to(wide) - theirs.to(wide)).abs()
    return f"{int((gap != 0).sum())} of {gap.numel()} differ, by at most {gap.max().item():.3g}"


def _dense(tensor: Any) -> Any:
    """The same numbers in a form that can be compared."""
    from torch import strided

    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return tensor if tensor.layout is strided else tensor.to_dense()


# ------------------------------------------------------------------------- export, upgrade, prune


def _export(given: argparse.Namespace) -> int:
    from levin.checkpoint.weights import export_weights
    from levin.utils import paths

    left_out = export_weights(_newest(given.path), given.target, prefix=given.prefix)
    print(f"{given.target}, {_in_units(paths.size(given.target))}")
    if left_out:
        print(f"Left out, as it is no tensor: {', '.join(left_out)}")
    return 0


def _upgrade(given: argparse.Namespace) -> int:
    from levin.checkpoint.former import VERSION_KEY, brought_up_to_date, former_version
    from levin.checkpoint.io import TorchCheckpointIO, load
    from levin.checkpoint.plain import NotPlainError, as_file
    from levin.utils import paths

    if paths.exists(given.target):
        raise FileExistsError(f"{given.target} is there already, and is not overwritten.")
    checkpoint = load(given.path, weights_only=not given.trust)
    if not isinstance(checkpoint, dict) or former_version(checkpoint) is None:
        raise ValueError(f"{given.path} is no checkpoint of PyTorch Lightning 1.x: there is nothing to do.")
    try:
        content = as_file(brought_up_to_date(checkpoint))
    except NotPlainError as error:
        raise ValueError(f"{given.path} can't be written in today's form: {error}") from error
    TorchCheckpointIO().save_checkpoint(content, given.target)
    print(f"{given.target}, {_in_units(paths.size(given.target))}, from version {checkpoint[VERSION_KEY]}")
    return 0


def _prune(given: argparse.Namespace) -> int:
    from levin.checkpoint.index import Index, damage
    from levin.checkpoint.io import TorchCheckpointIO

    index = Index(given.path)
    commits = index.present()
    if not commits:
        print(f"There are no checkpoints that an index in {given.path} knows; others are not touched.")
        return 0
    stay = {commit.name for commit in commits[-given.keep :]} | _best(commits) | _last(given.path, commits)
    whole = next((each for each in reversed(commits) if damage(index.path_of(each)) is None), None)
    if whole is None:
        raise RuntimeError(f"None of the checkpoints in {given.path} is whole: nothing is removed.")
    gone = [commit for commit in commits if commit.name not in stay | {whole.name}]
    for commit in gone:
        if not given.dry_run:
            TorchCheckpointIO().remove_checkpoint(index.path_of(commit))
        print(f"{'would remove' if given.dry_run else 'removed'} {index.path_of(commit)}")
    freed = _in_units(sum(commit.size or 0 for commit in gone))
    print(
        f"{len(commits) - len(gone)} kept, {len(gone)} {'to remove' if given.dry_run else 'removed'}: {freed}"
    )
    return 0


def _best(commits: list[Commit]) -> set[str]:
    """The best of each metric that a ModelCheckpoint goes by."""
    found: dict[str, Commit] = {}
    for commit in commits:
        if commit.score is None:
            continue
        sign = -1 if "'mode': 'max'" in commit.owner else 1
        known = found.setdefault(commit.owner, commit)
        if known.score is not None and sign * commit.score < sign * known.score:
            found[commit.owner] = commit
    return {commit.name for commit in found.values()}


def _last(folder: str, commits: list[Commit]) -> set[str]:
    """What is there to go on from: copies that were written as the last, and what links lead to."""
    from levin.utils import paths

    found = {commit.name for commit in commits if commit.role == "last"}
    if paths.is_local(folder):
        top = os.path.realpath(paths.local_path(folder))
        links = [os.path.join(top, name) for name in _files(folder)]
        found |= {os.path.relpath(os.path.realpath(link), top) for link in links if os.path.islink(link)}
    return found


# ------------------------------------------------------------------------------------------ shared


def _newest(path: str) -> str:
    """The file at ``path``, or the newest one of that folder."""
    from levin.checkpoint.index import Index
    from levin.utils import paths

    if not paths.is_dir(path):
        return path
    index = Index(path)
    commits = index.present()
    if not commits:
        raise FileNotFoundError(f"No index in the folder {path} knows a checkpoint: name the file.")
    return index.path_of(commits[-1])


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What is in nested values, with its place."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield place, value
        return
    for key, item in items:
        yield from _leaves(item, f"{place}.{key}" if place else str(key))


def _shown(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"a tensor {tuple(value.shape)} of {_type_of(value)}"
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _type_of(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _in_units(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
