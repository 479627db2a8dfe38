"""What classes had in earlier versions: keywords that ``__init__`` took, and attributes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

from levin.utils.rank import rank_zero_deprecation

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., None])


@dataclass(frozen=True)
class Keyword:
    """A keyword that ``__init__`` took.

    Attributes:
        advice: What to do instead, for those values that nothing of today stands for.
        today: Its value -> today's keywords; None if nothing does.
        is_kept: Whether it was an attribute of the object, and nothing else: it still is.
    """

    advice: str
    today: Callable[[Any], Mapping[str, Any] | None] = lambda _: None
    is_kept: bool = False


def renamed(name: str) -> Keyword:
    """A keyword that has another name today."""
    return Keyword(f"Use `{name}`.", lambda value: {name: value})


def took(**former: Keyword) -> Callable[[F], F]:
    """Let an ``__init__`` take keywords of earlier versions; its signature stays as it is.

    Raises:
        TypeError: If nothing of today says the same, or what does was given, too.
    """

    def decorate(init: F) -> F:
        @functools.wraps(init)
        def __init__(self: Any, *args: Any, **given: Any) -> None:  # noqa: N807  # it stands for one
            kept: dict[str, Any] = {}
            if not former.keys().isdisjoint(given):
                given, kept = _in_todays_words(type(self).__name__, given, former)
            init(self, *args, **given)
            for name, value in kept.items():
                setattr(self, name, value)

        return cast("F", __init__)

    return decorate


def _in_todays_words(
    owner: str, given: Mapping[str, Any], former: Mapping[str, Keyword]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords for ``__init__``, and those that are kept as attributes."""
    words = {name: value for name, value in given.items() if name not in former}
    kept = {name: value for name, value in given.items() if name in former and former[name].is_kept}
    for name, value in given.items():
        if name not in former:
            continue
        today = {} if name in kept else former[name].today(value)
        if today is None:
            raise TypeError(f"{owner}() got an unexpected keyword argument {name!r}. {former[name].advice}")
        both = sorted(words.keys() & today)
        if both:
            raise TypeError(
                f"{owner}() got `{name}={value!r}` and `{both[0]}={words[both[0]]!r}`. "
                "Leave one of the two out."
            )
        words.update(today)
        now = ", ".join(f"{key}={each!r}" for key, each in today.items())
        rank_zero_deprecation(
            f"`{owner}({name}={value!r})` is now `{now}`."
            if now
            else f"`{owner}({name}=...)` is of earlier versions. {former[name].advice}"
        )
    return words, kept


class _Gone:
    """An attribute that a class had: asking for it raises an AttributeError that says what to use."""

    def __init__(self, name: str, advice: str) -> None:
        self.name = name
        self.advice = advice

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"There is no `{owner.__name__}.{self.name}`. {self.advice}")


def had(**former: str) -> Callable[[C], C]:
    """Explain attributes of earlier versions: each name with what to do instead.

    They stay free: a subclass may define them, and an object may be given them. It is nothing for a
    `torch.nn.Module`, whose own search for attributes takes the place of the explanation.
    """

    def decorate(cls: C) -> C:
        for name, advice in former.items():
            setattr(cls, name, _Gone(name, advice))
        return cls

    return decorate
