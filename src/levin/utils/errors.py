"""The errors and warnings that are levin's own, and tracebacks short enough to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

E = TypeVar("E", bound=BaseException)

_PACKAGE = __name__.partition(".")[0]


class MisconfigurationException(Exception):
    """The settings, the model or the data cannot work together as they were given."""


class PossibleUserWarning(UserWarning):
    """Something that is often, but not always, a mistake.

    ``POSSIBLE_USER_WARNINGS=off`` in the environment, or
    :func:`levin.utils.rank.disable_possible_user_warnings`, silences the whole category.
    """


class LevinDeprecationWarning(DeprecationWarning):
    """Code uses something that a later version of levin will no longer have."""


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is NaN or infinite, and ``Trainer(on_nonfinite="raise")`` asked to be told."""


class SkipStep(Exception):
    """Raised from an optimizer's closure: the step is to be left out, its weights and state as they were."""


class RankFailedError(RuntimeError):
    """Another process of the run failed, so that this one ends, too; the message is that process's own."""


class StopSignal(SystemExit):
    """A signal asked the process to end, and the run stopped at a safe point; ``code`` is the exit status."""


class SIGTERMException(StopSignal):
    """The signal was SIGTERM."""


def shorten_traceback(error: E, keep: int = 6) -> E:
    """Take levin's inner frames out of ``error``'s traceback, so that the frames of the user stand out.

    Nothing happens when at most ``keep`` frames are levin's. Otherwise there remain levin's first frame (the
    entry point, such as ``Trainer.fit``), the frame that raised, and every frame of other packages; frames of
    ``contextlib`` that stand below a frame of levin go with it. ``LEVIN_FULL_TRACEBACK=1`` in the environment
    keeps everything.

    Args:
        error: An error that was caught; its traceback is changed in place.
        keep: How many frames of levin do not disturb.

    Returns:
        The error itself, so that ``raise shorten_traceback(error)`` can be written.
    """
    if os.environ.get("LEVIN_FULL_TRACEBACK", "").lower() not in ("", "0", "off", "false"):
        return error
    frames = list(_walk(error.__traceback__))
    ours = [index for index, frame in enumerate(frames) if _package(frame) == _PACKAGE]
    if len(ours) <= keep:
        return error
    first, last = ours[0], len(frames) - 1
    dropped = set(ours) - {first, last}
    for index in range(first + 1, last):
        if _package(frames[index]) == "contextlib" and (index - 1 in dropped or index - 1 == first):
            dropped.add(index)
    # Dropped ones are linked past the others, too: a context manager may put back a traceback from one on.
    following: TracebackType | None = None
    for index in reversed(range(len(frames))):
        frames[index].tb_next = following
        if index not in dropped:
            following = frames[index]
    return error


def _walk(traceback: TracebackType | None) -> list[TracebackType]:
    """The links of a traceback, outermost first."""
    links = []
    while traceback is not None:
        links.append(traceback)
        traceback = traceback.tb_next
    return links


def _package(link: TracebackType) -> str:
    """The top-level package whose code the frame runs."""
    name = link.tb_frame.f_globals.get("__name__") or ""
    return str(name).partition(".")[0]
