"""Profiler: measures actions between start and stop. And the one that measures nothing."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from levin.utils import paths
from levin.utils.rank import rank_zero_info

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

F = TypeVar("F", bound=Callable[..., Any])

# what some file system or other does not take in a name
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


class Profiler(ABC):
    """Measures actions: write `start`, `stop` and `summary`, and pass an object as ``profiler=``.

    The Trainer wraps the functions of a run in it once, when it finds out which of them there are; it calls
    `setup`, `attach` and `teardown` in the course of a run, and `describe` at its end.

    Args:
        dirpath: The folder of its files; by default the logger's.
        filename: The name of the file that gets the report, without its extension: it becomes
            ``<stage>-<filename>.txt``, with ``-<local_rank>`` if there are several processes. Without it, the
            report goes to the console, from the first process.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        self.dirpath = dirpath
        self.filename = filename
        self._stage: str | None = None
        self._local_rank: int | None = None
        self._log_dir: str | Path | None = None

    @abstractmethod
    def start(self, action_name: str) -> None:
        """An action begins. Others may be going on."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """An action ends."""

    def summary(self) -> str:
        """The report."""
        return ""

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Within it, the action goes on.

        Examples:
            >>> from levin.profilers import SimpleProfiler
            >>> profiler = SimpleProfiler()
            >>> with profiler.profile("load"):
            ...     data = list(range(1000))
            >>> len(profiler.recorded_durations["load"])
            1
        """
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def wrap(self, label: str, fn: F) -> F:
        """The function, measured as the action ``label`` with each call."""
        start, stop = self.start, self.stop

        def measured(*args: Any, **kwargs: Any) -> Any:
            start(label)
            try:
                return fn(*args, **kwargs)
            finally:
                stop(label)

        return measured  # type: ignore[return-value]  # it takes and returns what fn does

    # ------------------------------------------------------------------ around a run

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | Path | None = None) -> None:
        """A run begins.

        Args:
            stage: "fit", "validate", "test" or "predict".
            local_rank: The number of the process on its machine, if there are several.
            log_dir: Where files go, if no ``dirpath`` was given.
        """
        self._stage = str(getattr(stage, "value", stage))
        self._local_rank = local_rank
        self._log_dir = log_dir

    def attach(self, module: nn.Module, num_steps: float) -> None:  # noqa: B027  # optional
        """The loop of a run is about to begin.

        Args:
            module: The module.
            num_steps: How many steps of the stage's kind the loop will make; may be infinite.
        """

    def teardown(self, stage: str | None = None) -> None:  # noqa: B027  # optional
        """A run ends."""

    def describe(self) -> None:
        """Write the report to the file or to the console."""
        report = self._headed(self.summary())
        if not report:
            return
        path = self._path(".txt") if self.filename else None
        if path is None:
            rank_zero_info(report)
            return
        # several runs of one stage follow one another in the file; object stores can't append
        self._write(path, report, "a" if paths.is_local(path) else "w")

    @property
    def local_rank(self) -> int:
        """The number of the process on its machine."""
        return self._local_rank or 0

    @property
    def _folder(self) -> str | None:
        folder = self.dirpath if self.dirpath is not None else self._log_dir
        return None if folder is None else str(folder)

    def _headed(self, text: str) -> str:
        """A text under the report's headline; nothing where there is nothing to report."""
        stage = f"{self._stage.upper()} " if self._stage else ""
        return f"{stage}Profiler Report\n\n{text.rstrip()}\n" if text else ""

    def _name(self, *parts: str | None) -> str:
        """The name of a file: stage, filename, the parts and the rank, as far as there are such."""
        rank = None if self._local_rank is None else str(self._local_rank)
        return _NOT_IN_NAMES.sub("_", "-".join(filter(None, (self._stage, self.filename, *parts, rank))))

    def _path(self, extension: str, *parts: str | None) -> str:
        return paths.join(self._folder or ".", self._name(*parts) + extension)

    def _write(self, path: str, data: str | bytes, mode: str) -> None:
        paths.makedirs(paths.parent(path))
        with paths.open_file(path, mode) as file:
            file.write(data)


class PassThroughProfiler(Profiler):
    """Measures nothing, at no cost."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def wrap(self, label: str, fn: F) -> F:  # noqa: ARG002  # nothing is measured
        """The function itself."""
        return fn

    def describe(self) -> None:
        """Nothing."""
