"""Logger: one place that a run's numbers are written to."""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from levin.utils import paths
from levin.utils.former_members import had
from levin.utils.lazy import load_on_use
from levin.utils.rank import rank_zero_only

if TYPE_CHECKING:
    from argparse import Namespace

    from torch import nn

    from levin.utils.paths import PathLike

T = TypeVar("T")

__all__ = [
    "DirectoryLogger",
    "DummyExperiment",
    "DummyLogger",
    "Logger",
    "merge_dicts",
    "rank_zero_experiment",
]


@had(
    close="Use `finalize(status)`, which the trainer calls at the end of a run.",
    agg_and_log_metrics="Use `log_metrics`: it gets values that are reduced already.",
    update_agg_funcs="Values are reduced as asked where they are logged: `self.log(..., reduce_fx=...)`.",
)
class Logger(ABC):
    """One place that a run's numbers are written to.

    A logger creates nothing when it is built: what it writes to is opened the first time that something is
    written. All methods may be called on every rank; those that write do so on rank 0 alone
    (`rank_zero_only`).

    The trainer calls `settle_version`, `log_hyperparams` and `log_graph` when a run begins, `log_metrics` and
    `save` while it goes on, and `finalize` at its end.
    """

    if TYPE_CHECKING:

        @property
        def experiment(self) -> Any:
            """The object underneath, for what only this kind of logger can do; a dummy on other ranks."""
    else:
        # no property: a subclass may define one, but may also assign `self.experiment` in its constructor
        experiment = None

    @property
    @abstractmethod
    def name(self) -> str | None:
        """The name of the experiment: what several runs have in common."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """What tells this run from the others of the same name."""

    @property
    def save_dir(self) -> str | None:
        """The directory of all experiments, or None if this logger writes no files."""
        return None

    @property
    def root_dir(self) -> str | None:
        """The directory that all versions of this experiment have in common, or None."""
        return None

    @property
    def log_dir(self) -> str | None:
        """The directory of this version, or None."""
        return None

    @property
    def group_separator(self) -> str:
        """What stands between the group and the name in a key such as ``train/loss``."""
        return "/"

    @abstractmethod
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write values that belong together.

        Args:
            metrics: Name -> number. The trainer gives Python numbers; a tensor with one value is taken as
                well.
            step: Where on the x-axis they belong; None leaves that to the logger.
        """

    @abstractmethod
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write what the run was configured with: a dict, a Namespace, nested as they may be."""

    def log_graph(self, model: nn.Module, input_array: Any = None) -> None:  # noqa: B027  # nothing is right for most
        """Write how ``model`` is made, if this logger can show that."""

    def settle_version(self, broadcast: Callable[[Any], Any]) -> None:  # noqa: B027  # nothing is right for most
        """Make all ranks agree on the version, when a run begins and nothing is written yet.

        Args:
            broadcast: Gives every rank the object that rank 0 passed.
        """

    def save(self) -> None:  # noqa: B027  # nothing is right for most
        """Write out what has been kept back so far."""

    def position(self) -> Any:
        """How much was written so far, in plain values for a checkpoint; None if it can't be cut."""
        return None

    def go_on(self, position: Any) -> None:  # noqa: B027  # nothing is right for most
        """A run goes on from a checkpoint: take back what an interrupted run wrote here after it.

        Args:
            position: What `position` told when the checkpoint was written, by this logger or by another.
        """

    def finalize(self, status: str) -> None:  # noqa: ARG002  # for those who tell their server
        """Write out everything, as the run is over. The logger stays usable: another run may follow.

        Args:
            status: ``"success"``, ``"failed"`` (an exception ended the run) or ``"finished"`` (it will be
                continued by another process).
        """
        self.save()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:  # noqa: B027  # nothing is right for most
        """A checkpoint has been written by ``checkpoint_callback``; called on rank 0."""


class DirectoryLogger(Logger):
    """A logger whose files lie in ``<save_dir>/<name>/version_<n>``.

    Args:
        save_dir: The directory of all experiments; ``~`` and ``$NAME`` in it are replaced; a URL that fsspec
            knows is fine.
        name: The experiment, a sub-directory; None or an empty text for none.
        version: A number ``n`` for the directory ``version_n``, or a text that is the directory's whole name.
            By default the number after the largest there is, looked up when it is first asked for; from then
            on it does not change.
        prefix: Put before the name of every metric, with a ``-`` between them.
    """

    LOGGER_JOIN_CHAR = "-"
    NAME_HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self,
        save_dir: PathLike,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self._save_dir = os.path.expanduser(os.path.expandvars(os.fspath(save_dir)))
        self._name = name or ""
        self._version = version
        self._prefix = prefix
        self._experiment: Any = None

    @property
    def name(self) -> str:
        """The experiment: the sub-directory of `save_dir`, or an empty text."""
        return self._name

    @property
    def version(self) -> int | str:
        """The version that was given, or the first free number, which then stays."""
        if self._version is None:
            self._version = next_version(self.root_dir)
        return self._version

    @property
    def save_dir(self) -> str:
        """The directory of all experiments."""
        return self._save_dir

    @property
    def root_dir(self) -> str:
        """``<save_dir>/<name>``."""
        return paths.join(self._save_dir, self._name) if self._name else self._save_dir

    @property
    def log_dir(self) -> str:
        """``<save_dir>/<name>/version_<n>``, or with the version itself as last part if that is a text."""
        version = self.version
        return paths.join(self.root_dir, version if isinstance(version, str) else f"version_{version}")

    def settle_version(self, broadcast: Callable[[Any], Any]) -> None:
        """Make all ranks agree on the version, which rank 0 takes by making the directory."""
        if rank_zero_only.rank == 0:
            paths.check_writable(
                self.root_dir,
                "Logs",
                f"Choose a place with Trainer(default_root_dir=...) or {type(self).__name__}(save_dir=...), "
                "or write none: Trainer(logger=False).",
            )
            self._claim_version()
        self._version = broadcast(self._version)

    def unsettled_versions(self) -> list[int]:
        """The versions that there are, in their order, while this logger has none yet; empty from then on."""
        return existing_versions(self.root_dir) if self._version is None else []

    def reopen(self, version: int) -> None:
        """Go on in a version that is there, if none was given or decided."""
        if self._version is None:
            self._version = version

    def _claim_version(self) -> None:
        """Decide the version, if it is not, by making its directory: no other run can have the same then."""
        if self._version is None:
            self._version = claim_version(self.root_dir)

    def _prefixed(self, metrics: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._prefix:
            return metrics
        return {f"{self._prefix}{self.LOGGER_JOIN_CHAR}{key}": value for key, value in metrics.items()}

    def __getstate__(self) -> dict[str, Any]:
        # open files stay in the process that opened them
        return {**self.__dict__, "_experiment": None}


class DummyExperiment:
    """Ignores everything: any attribute, item or call of it is itself, and there is nothing in it."""

    def __getattr__(self, name: str) -> DummyExperiment:
        if name.startswith("__"):  # what copy, pickle and numpy look for is really not there
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> DummyExperiment:
        """Ignore it."""
        return self

    def __getitem__(self, key: Any) -> DummyExperiment:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore it."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> DummyExperiment:
        return self

    def __exit__(self, *error: object) -> None:
        """Ignore it."""


class DummyLogger(Logger):
    """Writes nothing, and takes any call that another logger would take: what ``fast_dev_run`` uses."""

    @property
    def experiment(self) -> DummyExperiment:
        """An object that ignores everything."""
        return DummyExperiment()

    @property
    def name(self) -> str:
        """An empty text."""
        return ""

    @property
    def version(self) -> str:
        """An empty text."""
        return ""

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> DummyExperiment:
        if name.startswith("__"):
            raise AttributeError(name)
        return DummyExperiment()

    def __getitem__(self, index: Any) -> DummyLogger:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def rank_zero_experiment(fn: Callable[[Any], T]) -> Callable[[Any], T]:
    """Wrap the getter of a logger's ``experiment``: rank 0 gets it, the others a `DummyExperiment`."""

    @functools.wraps(fn)
    def experiment(self: Any) -> Any:
        return fn(self) if rank_zero_only.rank == 0 else DummyExperiment()

    return experiment


def existing_versions(root_dir: PathLike) -> list[int]:
    """Return each ``n`` of the ``version_<n>`` in ``root_dir``, in order."""
    try:
        entries = paths.listdir(root_dir)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(
        int(entry[8:]) for entry in entries if entry.startswith("version_") and entry[8:].isdecimal()
    )


def next_version(root_dir: PathLike) -> int:
    """Return one more than the largest ``n`` of the ``version_<n>`` in ``root_dir``; 0 if there is none."""
    return max(existing_versions(root_dir), default=-1) + 1


def claim_version(root_dir: PathLike) -> int:
    """Make the next ``version_<n>`` in ``root_dir`` and return ``n``, which no other run gets."""
    paths.makedirs(root_dir)
    while True:
        version = next_version(root_dir)
        directory = paths.join(root_dir, f"version_{version}")
        if not paths.is_local(directory):
            return version  # directories are no more than names there
        try:
            os.mkdir(paths.local_path(directory))
        except FileExistsError:
            continue  # another run was faster
        return version


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def merge_dicts(
    dicts: Sequence[Mapping[str, Any]],
    agg_key_funcs: Mapping[str, Any] | None = None,
    default_func: Callable[[Sequence[float]], float] = _mean,
) -> dict[str, Any]:
    """Merge dicts into one, several values of a key through a function; nested dicts likewise.

    Args:
        dicts: Any number of them; a key may be missing in some.
        agg_key_funcs: Key -> function of the list of its values, or a dict of such for a nested key.
        default_func: For the other keys; by default the mean.
    """
    functions = agg_key_funcs or {}
    merged: dict[str, Any] = {}
    for key in {key: None for one in dicts for key in one}:
        values = [one[key] for one in dicts if key in one]
        function = functions.get(key)
        if isinstance(values[0], Mapping):
            merged[key] = merge_dicts(values, function, default_func)
        else:
            merged[key] = (function or default_func)(values)
    return merged


load_on_use(__name__, {})  # a name of earlier versions, too
