"""Signals: what asks a run to end is heard at once and obeyed at the next safe point.

The handlers set `TrainerState.request` and do nothing else; the loops raise it where the run can be gone on
from. Processes that were forked from this one inherit them, and do what the signal says by default.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from levin.utils.errors import SIGTERMException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from levin.trainer.states import TrainerState

TERMINATED = 128 + signal.SIGTERM
"""The exit status of a program whose run ended because of SIGTERM: 143."""


@contextmanager
def heard(state: TrainerState) -> Iterator[None]:
    """Within it, SIGTERM and the first Ctrl-C are requests; the second Ctrl-C interrupts at once.

    Python allows handlers in its main thread alone: runs in others leave the signals as they are. Where the
    program handles Ctrl-C in a way of its own, that stays; its own handler of SIGTERM is called as well.

    Args:
        state: What the loops look at.
    """
    state.request = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt(state))
    if before[signal.SIGTERM] not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGTERM, _terminate(state, before[signal.SIGTERM]))
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that Python did not set can't be set by it
                signal.signal(number, handler)


def _interrupt(state: TrainerState) -> Callable[..., None]:
    owner = os.getpid()

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if os.getpid() != owner:
            signal.default_int_handler(number, frame)
        state.request = KeyboardInterrupt()
        _say("Ctrl-C: the run ends after this batch. Press again to end it at once.")

    return handle


def _terminate(state: TrainerState, former: Any) -> Callable[..., None]:
    owner = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not isinstance(state.request, SIGTERMException):
            state.request = SIGTERMException(TERMINATED)
            _say("SIGTERM: the run ends after this batch.")
        if callable(former):
            former(number, frame)

    return handle


def _say(text: str) -> None:
    with suppress(RuntimeError):  # the line that was interrupted may be writing to the same stream
        sys.stderr.write(f"\n{text}\n")
