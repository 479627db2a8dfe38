"""Signals: Ctrl-C ends a run at its next safe point; pressed again, at once."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from levin.trainer.states import TrainerState


@contextmanager
def interruptible(state: TrainerState) -> Iterator[None]:
    """Within it, the first Ctrl-C is a request, `TrainerState.request`, and only the second an interruption.

    Python allows signal handlers in its main thread alone; in others, and where the program handles Ctrl-C in
    a way of its own, everything stays as it is.

    Args:
        state: What the loops look at.
    """
    state.request = None
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def ask(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        state.request = KeyboardInterrupt()
        with suppress(RuntimeError):  # the interrupted line may be writing to the same stream
            sys.stderr.write("\nCtrl-C: the run ends after this batch. Press again to end it at once.\n")

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
