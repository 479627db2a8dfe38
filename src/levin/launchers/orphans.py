"""Let no process outlive the one that started it."""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress

_DIES_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def die_with_parent() -> None:
    """Ask the kernel (Linux's) to end this process with the one that started it, even by kill -9."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
