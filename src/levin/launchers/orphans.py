"""Let no process outlive the one that started it."""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress
from typing import Any

_DIES_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def _find_prctl() -> Any:
    with suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).prctl
    return None


_prctl = _find_prctl()  # looked for now: a process that was just forked must do as little as it can


def die_with_parent() -> None:
    """Ask the kernel (Linux's) to end this process with the one that started it, even by kill -9."""
    if _prctl is not None:
        _prctl(_DIES_WITH_PARENT, signal.SIGKILL)
