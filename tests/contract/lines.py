"""Lines of the contract: what PyTorch Lightning 2.6 does, each with a small program that shows it.

A line is written once. The program gets a `Lab`, which holds one framework, and what it gives (or raises, or
warns of, or tells) is written beside it; both levin and Lightning are held to it. Where levin differs on
purpose, the line says what levin does and which row of docs/differences.md gives the reason.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab import Lab

FAILS_LATER = (
    "settings that fail later (`accumulate_grad_batches=0`, a scheduler's `frequency=0`, a callback that is "
    "none, no optimizer in a list)"
)
"""A row of docs/differences.md that several lines are about."""

LOGGERS = (
    *("levin", "lightning", "lightning.pytorch", "lightning.fabric"),
    *(
        "pytorch_lightning",
        "lightning_fabric",
    ),  # its other package, which says all once an old file imported it
)


class Anything:
    """Equals everything: for what a line says nothing of."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None

    def __repr__(self) -> str:
        return "anything"


ANYTHING = Anything()


@dataclass
class Outcome:
    """What became of a program: what it gave or raised, warned of (class and text), and told the log."""

    gave: Any = None
    raised: Exception | None = None
    warned: list[tuple[type, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


class Expected:
    """What a program is to give; its subclasses expect something else."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def check(self, outcome: Outcome) -> None:
        """Compare."""
        if outcome.raised is not None:
            raise outcome.raised
        assert outcome.gave == self.gives


class Raises(Expected):
    """An exception of this class (or one below it), whose text has these words (a regular expression)."""

    def __init__(self, kind: str, words: str = "") -> None:
        self.kind, self.words = kind, words

    def check(self, outcome: Outcome) -> None:
        """Compare."""
        assert outcome.raised is not None, f"nothing was raised; it gave {outcome.gave!r}"
        names = [cls.__name__ for cls in type(outcome.raised).__mro__]
        assert self.kind in names, f"{outcome.raised!r} was raised"
        assert re.search(self.words, str(outcome.raised), re.DOTALL), str(outcome.raised)


class Warns(Expected):
    """A warning of just this class, whose text has these words."""

    def __init__(self, kind: str, words: str = "", *, gives: Any = ANYTHING) -> None:
        super().__init__(gives)
        self.kind, self.words = kind, words

    def check(self, outcome: Outcome) -> None:
        """Compare."""
        super().check(outcome)
        found = [kind.__name__ for kind, text in outcome.warned if re.search(self.words, text, re.DOTALL)]
        assert self.kind in found, f"warnings: {[(kind.__name__, text) for kind, text in outcome.warned]}"


class Tells(Expected):
    """A line of the log with these words."""

    def __init__(self, words: str, *, gives: Any = ANYTHING) -> None:
        super().__init__(gives)
        self.words = words

    def check(self, outcome: Outcome) -> None:
        """Compare."""
        super().check(outcome)
        assert re.search(self.words, "\n".join(outcome.told), re.DOTALL), outcome.told


class Says(Tells):
    """A warning, or a line of the log, with these words."""

    def check(self, outcome: Outcome) -> None:
        """Compare."""
        outcome.told += [text for _, text in outcome.warned]
        super().check(outcome)


class Silent(Expected):
    """Neither a warning nor a line of the log with these words."""

    def __init__(self, words: str, *, gives: Any = ANYTHING) -> None:
        super().__init__(gives)
        self.words = words

    def check(self, outcome: Outcome) -> None:
        """Compare."""
        super().check(outcome)
        said = [*outcome.told, *(text for _, text in outcome.warned)]
        assert [text for text in said if re.search(self.words, text, re.DOTALL)] == []


@dataclass(frozen=True)
class Line:
    """One line of the contract.

    Attributes:
        name: The section, and a few words: "2.4/max_epochs=0".
        says: The line, in a sentence.
        program: Gets a `Lab`; None for a line that only waits.
        expected: What becomes of it, in Lightning and in levin.
        ours: What becomes of it in levin, where that is another thing.
        differs: The first cell of the row in docs/differences.md that says why.
        waits: The issue that brings what the line needs, or what it is; levin is not held to it before.
    """

    name: str
    says: str
    program: Callable[[Lab], Any] | None
    expected: Expected
    ours: Expected
    differs: str | None = None
    waits: int | str | None = None


LINES: list[Line] = []


def line(
    name: str,
    says: str,
    gives: Any = None,
    *,
    ours: Any = None,
    differs: str | None = None,
    waits: int | str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a program into the table; the arguments are those of `Line`."""
    expected = gives if isinstance(gives, Expected) else Expected(gives)
    our_own = expected if differs is None else ours if isinstance(ours, Expected) else Expected(ours)

    def put(program: Callable[..., Any]) -> Callable[..., Any]:
        LINES.append(Line(name, says, program, expected, our_own, differs, waits))
        return program

    return put


def lines(
    name: str, says: str, table: dict[str, tuple[dict[str, Any], Any]], **kwargs: Any
) -> Callable[..., Any]:
    """Put a program into the table once for each case: name -> (its keyword arguments, what it gives)."""

    def put(program: Callable[..., Any]) -> Callable[..., Any]:
        for case, (arguments, gives) in table.items():
            line(f"{name}/{case}", says, gives, **kwargs)(partial(program, **arguments))
        return program

    return put


def waiting(issue: int | str, *said: tuple[str, str]) -> None:
    """Put lines, (name, sentence), into the table that can't be tried before an issue is done."""
    for name, says in said:
        LINES.append(Line(name, says, None, Expected(None), Expected(None), None, issue))


def observe(program: Callable[[Lab], Any], lab: Lab) -> Outcome:
    """Run a program, and note what becomes of it."""
    outcome = Outcome()
    with warnings.catch_warnings(record=True) as caught, listening(outcome.told):
        warnings.simplefilter("always")
        try:
            outcome.gave = program(lab)
        except Exception as error:  # a line may be about it
            outcome.raised = error
    outcome.warned = [(warning.category, str(warning.message)) for warning in caught]
    return outcome


class Listener(logging.Handler):
    """Appends the texts of a log to a list."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.INFO)
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        """Append."""
        self.told.append(record.getMessage())


@contextmanager
def listening(told: list[str]) -> Iterator[None]:
    """Within it, what the frameworks tell their loggers is appended to `told`, and to nothing else."""
    handler = Listener(told)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.level, logger.handlers, logger.propagate = logging.INFO, [handler], False
        logger.manager._clear_cache()
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.level, logger.handlers, logger.propagate = level, handlers, propagate
        logger.manager._clear_cache()
