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

from levin.utils.errors import MisconfigurationException, SIGTERMException, StopSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from levin.trainer.states import TrainerState

TERMINATED = 128 + signal.SIGTERM
"""The exit status of a program whose run ended because of SIGTERM: 143."""


def parse_stop_signals(given: Mapping[str | int, int] | None) -> dict[int, int]:
    """``Trainer(stop_signals=...)``, and SIGTERM: number of the signal -> exit status.

    Raises:
        MisconfigurationException: If there is no such signal, a run can't hear it, or the status is none.
    """
    parsed = {int(signal.SIGTERM): TERMINATED}
    for name, status in ({} if given is None else given).items():
        try:
            number = signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
        except (KeyError, ValueError):
            raise MisconfigurationException(
                f"`stop_signals` names {name!r}, and there is no such signal. Take 'SIGUSR1', 'SIGUSR2' ..., "
                "or a member of `signal.Signals`."
            ) from None
        if number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT):
            raise MisconfigurationException(
                f"`stop_signals` can't have {number.name}: "
                + ("Ctrl-C has its own way." if number == signal.SIGINT else "no program hears it.")
            )
        if status not in range(256):
            raise MisconfigurationException(
                f"`stop_signals` gives {number.name} the exit status {status!r}. It is one from 0 to 255."
            )
        parsed[int(number)] = status
    return parsed


@contextmanager
def heard(state: TrainerState, stops: Mapping[int, int]) -> Iterator[None]:
    """Within it, signals to stop and the first Ctrl-C are requests; the second Ctrl-C interrupts at once.

    Python allows handlers in its main thread alone: runs in others leave the signals as they are. Where the
    program handles Ctrl-C in a way of its own, that stays; its own handler of SIGTERM is called as well.

    Args:
        state: What the loops look at.
        stops: The numbers of signals to stop -> exit status of the program.
    """
    state.request = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *stops)}
    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt(state))
    for number, status in stops.items():
        if before[number] not in (signal.SIG_IGN, None):
            signal.signal(number, _stop(state, status, before[number]))
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
        if state.ask_others is None:
            state.request = KeyboardInterrupt()
        else:
            state.ask_others("SIGINT", 128 + signal.SIGINT)
        _say("Ctrl-C: the run ends after this batch. Press again to end it at once.")

    return handle


def _stop(state: TrainerState, status: int, former: Any) -> Callable[..., None]:
    owner = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not isinstance(state.request, StopSignal):
            if state.ask_others is None:
                state.request = (SIGTERMException if number == signal.SIGTERM else StopSignal)(status)
            else:
                state.ask_others(signal.Signals(number).name, status)
            _say(f"{signal.Signals(number).name}: the run ends after this batch.")
        if callable(former):
            former(number, frame)

    return handle


def _say(text: str) -> None:
    with suppress(RuntimeError):  # the line that was interrupted may be writing to the same stream
        sys.stderr.write(f"\n{text}\n")
