"""Speak once, not once a process: what only the process of rank 0 does, logs or warns."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from levin.utils.errors import LevinDeprecationWarning, PossibleUserWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

log: logging.Logger = logging.getLogger("levin")

# Launchers and clusters tell a process its rank through one of these; the first that is there counts.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

# Frames of these packages are never what a warning is about.
_INNER_PACKAGES = {"levin", "torch", "contextlib", "functools", "importlib", "multiprocessing"}


def rank_from_environment() -> int | None:
    """The rank that the environment gives this process, or None where it says nothing."""
    for name in _RANK_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return None


class RankZeroOnly:
    """The type of :data:`rank_zero_only`: a decorator that knows which rank this process has.

    Attributes:
        rank: The global rank of this process. It starts with what the environment says (0 where it says
            nothing); whoever sets up the processes assigns the final value.
    """

    def __init__(self, rank: int = 0) -> None:
        self.rank: int = rank

    @overload
    def __call__(self, fn: Callable[P, R]) -> Callable[P, R | None]: ...
    @overload
    def __call__(self, fn: Callable[P, R], default: D) -> Callable[P, R | D]: ...
    def __call__(self, fn: Callable[P, R], default: Any = None) -> Callable[P, Any]:
        """Wrap ``fn`` so that only the process of rank 0 runs it; the others get ``default`` at once."""

        @functools.wraps(fn)
        def on_rank_zero(*args: P.args, **kwargs: P.kwargs) -> Any:
            return fn(*args, **kwargs) if self.rank == 0 else default

        return on_rank_zero

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Within it, this process does nothing that rank 0 alone does: another one does it."""
        rank, self.rank = self.rank, -1
        try:
            yield
        finally:
            self.rank = rank


rank_zero_only: RankZeroOnly = RankZeroOnly(rank_from_environment() or 0)
"""The decorator itself. ``rank_zero_only.rank`` is the rank of this process."""


def rank_zero_info(message: object, *args: object, **kwargs: Any) -> None:
    """Log ``message % args`` to the logger ``levin`` at level INFO, from rank 0 alone."""
    if rank_zero_only.rank == 0:
        log.info(message, *args, **{"stacklevel": 2, **kwargs})


def rank_zero_debug(message: object, *args: object, **kwargs: Any) -> None:
    """Log ``message % args`` to the logger ``levin`` at level DEBUG, from rank 0 alone."""
    if rank_zero_only.rank == 0:
        log.debug(message, *args, **{"stacklevel": 2, **kwargs})


def rank_zero_warn(
    message: str | Warning, category: type[Warning] = UserWarning, stacklevel: int | None = None
) -> None:
    """Warn from rank 0 alone.

    Args:
        message: The text, or a warning object.
        category: The class of the warning, when ``message`` is a text.
        stacklevel: Which caller the warning points at, counted as :func:`warnings.warn` does (1: the line
            that calls this function). By default it is the nearest one that is neither levin's nor torch's:
            the line that a user can change.
    """
    if rank_zero_only.rank != 0:
        return
    frame = _nearest_outer_frame() if stacklevel is None else _nth_caller(stacklevel)
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__") or "<unknown>",
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def rank_zero_deprecation(message: str | Warning, stacklevel: int | None = None) -> None:
    """Warn from rank 0 alone that something will go away, with a ``LevinDeprecationWarning``."""
    if rank_zero_only.rank == 0:
        rank_zero_warn(message, LevinDeprecationWarning, None if stacklevel is None else stacklevel + 1)


def disable_possible_user_warnings(module: str = "") -> None:
    """Silence every :class:`~levin.utils.errors.PossibleUserWarning`.

    Args:
        module: A regular expression for the modules whose warnings are silenced; empty for all.
    """
    warnings.filterwarnings("ignore", category=PossibleUserWarning, module=module)


def _nearest_outer_frame() -> FrameType:
    """The nearest frame on the stack whose code a user wrote; the outermost one where there is none."""
    frame = sys._getframe(1)  # noqa: SLF001 - as above
    while frame.f_back is not None and _package(frame) in _INNER_PACKAGES:
        frame = frame.f_back
    return frame


def _nth_caller(stacklevel: int) -> FrameType:
    frame = sys._getframe(1)  # noqa: SLF001 - as above
    for _ in range(stacklevel):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__") or "").partition(".")[0]


class _Console(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the type checker alone
    """Writes to standard error as it is when a message comes: a live progress bar may stand in its place."""

    @property
    def stream(self) -> IO[str]:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, stream: IO[str]) -> None:
        pass  # `StreamHandler.__init__` wants to keep the one that there is now


def _configure_output() -> None:
    """Make levin's messages visible in a program that has set up no logging; leave any other alone."""
    log.setLevel(logging.INFO)
    if not logging.getLogger().hasHandlers():
        log.addHandler(_Console())
        log.propagate = False
    if not sys.warnoptions:
        # Python hides deprecations outside of `__main__`; ours point at lines that somebody has to change.
        warnings.simplefilter("default", LevinDeprecationWarning)
    if os.environ.get("POSSIBLE_USER_WARNINGS", "").lower() in ("0", "off"):
        disable_possible_user_warnings()


_configure_output()
