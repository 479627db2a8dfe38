"""Watch: a thread beside the run that knows how the other processes are, and ends this one if one failed.

It talks with the others through the key-value store of the group, never through a collective operation, so
that it is heard while the run itself waits for somebody who does not come.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

import levin
from levin.utils.errors import RankFailedError
from levin.utils.rank import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from levin.distributed.group import Place

PERIOD_S = 0.2
"""How often the thread looks."""
GRACE_S = 2.0
"""How long a process may take to end by itself after another one has failed."""
BLOCKED_S = 8.0
"""How long all must have stood still before it is said that they wait for different things."""
SILENCE_S = 60.0
"""After this time without a sign of life a process counts as lost."""
_GO_ON = "on"  # in place of where to stop: nobody stops here
_ROLL_CALL_S = 1.5
_FIRST_WORD_S = 5.0  # of a process that keeps the others waiting; then each time after twice as long

_current: Watch | None = None


def current() -> Watch | None:
    """The watch of the run that goes on in this process, if it has other processes."""
    return _current


@dataclass(frozen=True)
class Failure:
    """What ended a run, as the process tells it that failed first.

    Attributes:
        rank: The process; None where no single one is to blame.
        host: Its machine.
        text: Its traceback, or what is known.
    """

    rank: int | None
    host: str
    text: str

    def __str__(self) -> str:
        blame = "" if self.rank is None else f"Rank {self.rank} on {self.host} failed:\n"
        return f"{blame}{self.text.rstrip()}"


@dataclass(frozen=True)
class Stop:
    """A wish to end the run, of one process, that all are to follow.

    Attributes:
        kind: The name of what they raise: "SIGTERM", "SIGINT", another signal's, or `SHOULD_STOP`.
        status: The exit status of the program, for signals.
    """

    kind: str
    status: int = 0


SHOULD_STOP = "should_stop"
"""The kind of a wish that the fit end well, if it may already. A signal's wish does not wait for it."""


class Watch:
    """Looks after the processes of one run.

    Args:
        store: The key-value store of the group.
        line: Another connection to it, for the thread.
        place: Which process this is.
        run: The number of the run in the life of the program: the same in all processes.
        silence_s: After how many seconds without a sign of life a process counts as lost.

    Attributes:
        failure: What ended the run, once it is known.
    """

    def __init__(
        self, store: Any, line: Any, place: Place, run: int, *, silence_s: float = SILENCE_S
    ) -> None:
        self._store = store  # the main thread's connection
        self._line = line  # the watching thread's
        self._place = place
        self._prefix = f"levin/run{run}"
        self._silence_s = silence_s
        self.failure: Failure | None = None
        self._on_failure: Callable[[RankFailedError], None] = lambda _: None
        self._wishes: dict[bool, Stop] = {}  # of this process; whether it is a signal's -> which
        self._stops: dict[bool, Stop] = {}  # that all are to follow
        self._is_ending = threading.Event()  # the run is on its way out in this process
        self._is_over = threading.Event()
        self._main = threading.get_ident()
        self._parent = os.getppid()
        # that of rank 0 may be a shell, which is gone when somebody logs out
        self._must_have_parent = place.rank != 0 or "TORCHELASTIC_RUN_ID" in os.environ
        self._name: str | None = None  # of the collective operation that is waited in
        self._number = 0  # of collective operations
        self._turns = 0
        self._acting: tuple[str, float] | None = None
        self._looks = 0
        self._still_since = time.monotonic()
        self._cpu_s = 0.0
        self._told_at_s = _FIRST_WORD_S
        self._heard: dict[int, tuple[str, float]] = {}
        self._has_answered = False
        self._thread = threading.Thread(target=self._run, name="levin-watch", daemon=True)

    # ------------------------------------------------------------------ what the run calls

    def start(self, on_failure: Callable[[RankFailedError], None]) -> None:
        """Begin to look.

        Args:
            on_failure: Called in the thread, once, when another process has failed.
        """
        global _current  # one run at a time
        self._on_failure, _current = on_failure, self
        self._thread.start()

    def end(self) -> None:
        """The run is over in this process.

        After a failure the thread goes on, until there is another run or the process is gone: threads of the
        program may keep it from ending.
        """
        global _current  # see above
        if self._is_ending.is_set():
            return
        self._is_over.set()
        self._thread.join(timeout=5)
        _current = None

    def waiting(self, name: str) -> _Waiting:
        """Within it, this process waits for the others in a collective operation.

        Raises:
            RankFailedError: If one of them has failed: it would not come.
        """
        if self.failure is not None:
            raise RankFailedError(str(self.failure))
        return _Waiting(self, name)

    def enter(self, name: str | None) -> None:
        """Note what is waited in."""
        self._name = name
        self._number += name is not None

    def act(self, action: Callable[[], Any], label: str, room: str) -> Any:
        """Do what the others of a room wait for."""
        self._turns += 1
        self._acting, self._told_at_s = (label, time.monotonic()), _FIRST_WORD_S
        try:
            result = action()
        finally:
            self._acting = None
        self._store.set(self._key(f"turn/{self._turns}/{room}"), "")
        return result

    def wait_for(self, room: str) -> None:
        """Wait until the one that acts is done.

        Raises:
            RankFailedError: If it failed.
        """
        self._turns += 1
        key = self._key(f"turn/{self._turns}/{room}")
        # what is quick is waited for quickly; torch's own `wait` warns whenever its time is up
        pause_s = 0.001
        while not self._store.check([key]):
            if self.failure is not None:
                raise RankFailedError(str(self.failure))
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, PERIOD_S / 4)

    def fail(self, error: BaseException) -> BaseException:
        """This process's run ends with an error: tell the others, or learn that it began with them.

        Returns:
            What to raise: the error, or, if it only follows from another process's, one that tells that.
        """
        self._is_ending.set()
        with suppress(Exception):
            if _is_consequence(error):
                self._wait_for_the_cause(error)
            else:
                self._publish(self._own(error))
        if self.failure is None or not _is_consequence(error):
            return error
        return RankFailedError(str(self.failure))

    @property
    def stop(self) -> Stop | None:
        """A signal's wish to end the run, once it is known."""
        return self._stops.get(True)

    @property
    def wants_end(self) -> bool:
        """Whether it is known that somebody wants the fit to end well."""
        return False in self._stops

    @property
    def wish(self) -> Stop | None:
        """A signal's wish to end the run that this process knows of, even if the others don't."""
        return self._stops.get(True) or self._wishes.get(True)

    def ask_to_stop(self, kind: str, status: int = 0) -> None:
        """Let all processes end the run together. May be called from a signal handler."""
        self._wishes.setdefault(kind != SHOULD_STOP, Stop(kind, status))

    def tell_stop(self) -> bool:
        """Tell the others now if this process got a signal; whether one is known of."""
        if self.wish is not None:
            self._hear_of_stop(self._store, is_signal=True)
        return self.stop is not None

    def learn_stop(self) -> None:
        """Learn of a signal's wish that another process has told of."""
        self._hear_of_stop(self._store, is_signal=True)

    def vote(self, room: str, place: int, ahead: int) -> int | None:
        """Find the place at which all processes stop: call it at each place until it is there.

        Processes that wait for one another now and then are at most one such meeting apart, so that a place a
        little ahead of all is one that each of them still comes to.

        Args:
            room: What they go through. Each has its own places, and its own decision.
            place: Where this process is.
            ahead: How far apart processes can be, with some room.

        Returns:
            The place to stop at, the same in all; None as long as somebody has not heard of the wish, and
            where nobody stops in this room.
        """
        agreed = self._key(f"{room}/at")
        if not self._store.check([agreed]):
            heard = [self._key(f"{room}/heard/{rank}") for rank in range(self._place.world_size)]
            mine = heard[self._place.rank]
            is_new = not self._store.check([mine])
            self._store.set(mine, str(place))
            if is_new and self._store.add(self._key(f"{room}/count"), 1) == self._place.world_size:
                furthest = max(int(self._store.get(key)) for key in heard)
                self._store.compare_set(agreed, "", str(furthest + ahead))
        at = self._store.get(agreed).decode() if self._store.check([agreed]) else _GO_ON
        return None if at == _GO_ON else int(at)

    def leave(self, room: str) -> bool:
        """Come to the end of a room, where all wait for one another.

        Returns:
            Whether all stop here. If not, nobody does in this room any more.
        """
        kept = self._store.compare_set(self._key(f"{room}/at"), "", _GO_ON)
        return bool(kept.decode() != _GO_ON)

    def report(self, rank: int, text: str) -> None:
        """Tell all of a failure that its process could not tell of. May be called from another thread."""
        self._publish(Failure(rank, self._place.host, text), store=self._line.clone())

    # ------------------------------------------------------------------ failures

    def _own(self, error: BaseException) -> Failure:
        return Failure(self._place.rank, self._place.host, _told(error))

    def _publish(self, failure: Failure, store: Any = None) -> None:
        """Be the first to tell of a failure, or learn who was."""
        store = store or self._store
        kept = store.compare_set(self._key("failed"), "", json.dumps(asdict(failure)))
        self.failure = Failure(**json.loads(kept))

    def _wait_for_the_cause(self, error: BaseException) -> None:
        """A connection broke, or nobody came: somebody may be about to tell why."""
        if "timed out" in str(error).lower():
            self._publish(self._called_roll(error))
            return
        before = self._signs()
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and not self._store.check([self._key("failed")]):
            time.sleep(PERIOD_S / 4)
        now = self._signs()
        gone = [rank for rank, sign in now.items() if rank != self._place.rank and sign == before[rank]]
        text = (
            f"Rank {', '.join(map(str, gone)) or 'of another process'} ended without a word in the middle of "
            "the run: was it killed, was its machine out of memory, or did the program call `exit` there? "
            f"What rank {self._place.rank} saw of it: {error}"
        )
        self._publish(Failure(None, self._place.host, text))

    def _signs(self) -> dict[int, str]:
        """The newest sign of life of each process."""
        keys = {rank: self._key(f"sign/{rank}") for rank in range(self._place.world_size)}
        return {
            rank: self._store.get(key).decode() if self._store.check([key]) else ""
            for rank, key in keys.items()
        }

    def _called_roll(self, error: BaseException) -> Failure:
        """Nobody came in time: ask all where they are."""
        self._store.set(self._key(f"roll/{self._place.rank}"), _place_of(error))
        self._store.set(self._key("roll"), "")
        keys = [self._key(f"roll/{rank}") for rank in range(self._place.world_size)]
        deadline = time.monotonic() + _ROLL_CALL_S
        while time.monotonic() < deadline and not self._store.check(keys):
            time.sleep(PERIOD_S / 4)
        answers = [
            f"rank {rank}: "
            + (self._store.get(key).decode() if self._store.check([key]) else "no answer: is it stopped?")
            for rank, key in enumerate(keys)
        ]
        told = "\n".join(answers)
        text = f"The processes waited for one another in vain. Where each of them is:\n{told}\n({error})"
        return Failure(None, self._place.host, text)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._is_over.wait(PERIOD_S) and _current is self:
            if self._is_ending.is_set():
                self._see_it_end()
                continue
            try:
                self._look()
            except Exception as error:  # the store is gone, and its process with it
                if self._is_over.is_set() or self._is_ending.is_set():
                    return
                log.debug("The store does not answer: %s", error)
                host = "the machine of rank 0"
                self._end_with(Failure(0, host, "It held the store of the group, and does not answer."))
                return

    def _see_it_end(self) -> None:
        """The run failed: end the process when its main thread has, whatever other threads do."""
        if not threading.main_thread().is_alive() and not self._is_over.wait(GRACE_S):
            leave_at_once()

    def _look(self) -> None:
        """Look once."""
        self._looks += 1
        if os.getppid() != self._parent and self._must_have_parent:
            self._end_with(Failure(0, self._place.host, "The process that started the others is gone."))
        self._hear_of_failure()
        for is_signal in (True, False):
            self._hear_of_stop(self._line, is_signal=is_signal)
        if self._line.check([self._key("roll")]) and not self._has_answered:
            self._has_answered = True
            self._line.set(self._key(f"roll/{self._place.rank}"), self._whereabouts(lines=3))
        if self._looks % 5 == 0:
            self._give_sign()
            self._look_for_signs()
        if self._acting is not None:
            self._say_what_takes_so_long(*self._acting)

    def _hear_of_failure(self) -> None:
        if self.failure is None and self._line.check([self._key("failed")]):
            self.failure = Failure(**json.loads(self._line.get(self._key("failed"))))
        if self.failure is not None and not self._is_ending.is_set():
            self._end_with(self.failure)

    def _hear_of_stop(self, line: Any, *, is_signal: bool) -> None:
        key, wish = self._key(f"stop/{is_signal}"), self._wishes.get(is_signal)
        if is_signal in self._stops:
            return
        if wish is not None:
            line.compare_set(key, "", json.dumps(asdict(wish)))
        if line.check([key]):
            self._stops[is_signal] = Stop(**json.loads(line.get(key)))

    def _end_with(self, failure: Failure) -> None:
        """Let this process's run end, by itself if it does so soon."""
        self.failure = failure
        self._on_failure(RankFailedError(str(failure)))
        if self._is_ending.wait(GRACE_S) or self._is_over.is_set():
            return
        where = self._whereabouts(lines=8)
        sys.stderr.write(f"\nRank {self._place.rank} is ended: {where}\n\n{failure}\n")
        sys.stderr.flush()
        leave_at_once()

    def _give_sign(self) -> None:
        """Tell that this process is alive, and for how long it has stood still."""
        now, cpu_s = time.monotonic(), time.process_time()
        if cpu_s - self._cpu_s > 0.2 * PERIOD_S * 5 or self._waits_in() is None:
            self._still_since = now
        self._cpu_s = cpu_s
        sign = {
            "sign": self._looks,
            "in": self._waits_in(),
            "number": self._number,
            "still_s": now - self._still_since,
            "at": self._whereabouts(lines=1),
        }
        self._line.set(self._key(f"sign/{self._place.rank}"), json.dumps(sign))

    def _look_for_signs(self) -> None:
        """Rank 0 looks at all others, they look at rank 0."""
        if self._is_ending.is_set():
            return
        others = range(1, self._place.world_size) if self._place.rank == 0 else [0]
        signs = {}
        for rank in others:
            key = self._key(f"sign/{rank}")
            sign = self._line.get(key).decode() if self._line.check([key]) else ""
            self._check_alive(rank, sign)
            if sign:
                signs[rank] = json.loads(sign)
        if self._place.rank == 0 and len(signs) == self._place.world_size - 1:
            key = self._key("sign/0")
            self._check_that_all_wait_for_one_thing({0: json.loads(self._line.get(key)), **signs})

    def _check_alive(self, rank: int, sign: str) -> None:
        now = time.monotonic()
        before, since = self._heard.get(rank, (sign, now))
        if sign != before or rank not in self._heard:
            self._heard[rank] = (sign, now)
        elif now - since > self._silence_s:
            text = (
                f"It has given no sign of life for {now - since:.0f} s: is it stopped, or its machine gone?"
            )
            self._publish(Failure(rank, "its machine", text), store=self._line)

    def _check_that_all_wait_for_one_thing(self, signs: dict[int, dict[str, Any]]) -> None:
        waits = {rank: (sign["in"], sign["number"]) for rank, sign in signs.items()}
        if len(set(waits.values())) < 2 or any(sign["still_s"] < BLOCKED_S for sign in signs.values()):
            return
        places = [f"rank {rank} in {sign['in']}, {sign['at']}" for rank, sign in sorted(signs.items())]
        text = (
            "The processes wait for one another in different places, which has no end:\n"
            + "\n".join(places)
            + "\nWhat all processes take part in must be called by all of them, in the same order."
        )
        self._publish(Failure(None, self._place.host, text), store=self._line)

    def _say_what_takes_so_long(self, label: str, since: float) -> None:
        seconds = time.monotonic() - since
        if seconds > self._told_at_s:
            self._told_at_s *= 2
            log.info("Rank %d has been in %s for %.0f s; the others wait.", self._place.rank, label, seconds)

    # ------------------------------------------------------------------ where the run is

    def _waits_in(self) -> str | None:
        """What the run waits in, as far as it can be told from outside; None while it is at work."""
        if self._name is not None:
            return self._name
        frame = sys._current_frames().get(self._main)  # noqa: SLF001  # the documented way to another thread's stack
        file = "" if frame is None else frame.f_code.co_filename.replace("\\", "/")
        # backward computes, or waits until gradients are averaged
        return "backward" if file.endswith("torch/autograd/graph.py") else None

    def _whereabouts(self, lines: int) -> str:
        """Where the run is in the user's program, innermost line first."""
        frame = sys._current_frames().get(self._main)  # noqa: SLF001  # see above
        return _lines(traceback.extract_stack(frame) if frame is not None else [], lines)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


class _Waiting:
    """The time in which a process waits in a collective operation."""

    def __init__(self, watch: Watch, name: str) -> None:
        self._watch, self._name = watch, name

    def __enter__(self) -> None:
        self._watch.enter(self._name)

    def __exit__(self, *error: object) -> None:
        self._watch.enter(None)


def _lines(stack: Iterable[traceback.FrameSummary], most: int) -> str:
    """The user's lines on a stack, innermost first."""
    inwards = list(stack)[::-1]
    users = [each for each in inwards if not _is_inner(each.filename)] or inwards
    return "\n    ".join(
        f"{each.filename}:{each.lineno} in {each.name}: {each.line}" for each in users[:most]
    )


def _place_of(error: BaseException) -> str:
    return _lines([*traceback.extract_stack(), *traceback.extract_tb(error.__traceback__)], most=3)


def _told(error: BaseException) -> str:
    """An error with the lines of the user's program that led to it, and where it was raised."""
    summary = traceback.TracebackException.from_exception(error)
    for each in (summary, summary.__cause__, summary.__context__):
        if each is not None:
            frames = list(each.stack)
            users = [frame for frame in frames[:-1] if not _is_inner(frame.filename)]
            each.stack = traceback.StackSummary.from_list([*users, *frames[-1:]])
    return "".join(summary.format())


def leave_at_once(status: int = 1) -> None:
    """End this process without waiting for anything, and its loaders' processes with it."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(status)


_INNER = tuple(
    os.path.join(os.path.realpath(folder), "")
    for folder in (*levin.__path__, *torch.__path__, os.path.dirname(os.__file__))
)


def _is_inner(filename: str) -> bool:
    """Whether a line belongs to levin, torch or Python, and not to the user's program."""
    return os.path.realpath(filename).startswith(_INNER) or filename.startswith("<frozen")


def _is_consequence(error: BaseException) -> bool:
    """Whether an error says no more than that the others don't answer."""
    if isinstance(error, RankFailedError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        word in text for word in ("gloo", "Connection closed by peer", "Connection reset", "NCCL", "TCPStore")
    )
