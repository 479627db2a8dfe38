"""Names that a package loads when they are first asked for, so that importing it costs next to nothing."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from levin.utils.former import ALIASES, explanation
from levin.utils.rank import rank_zero_deprecation

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_on_use(module: str, homes: Mapping[str, str]) -> None:
    """Give a module names that live elsewhere: they are loaded when they are first asked for.

    Type checkers are shown the same names by imports under ``if TYPE_CHECKING``. The sub-modules of a package
    are attributes, too, without an import of their own.

    Args:
        module: The module's ``__name__``. It has an ``__all__``, which a message about an unknown name lists.
        homes: Name -> the module it lives in; after a colon, the name that it has there.
    """
    names = vars(sys.modules[module])

    def load(name: str) -> Any:
        if name in homes:
            home, _, there = homes[name].partition(":")
            value = names[name] = getattr(import_module(home), there or name)  # from now on a plain attribute
            return value
        is_package = "__path__" in names
        if is_package and not name.startswith("_") and _is_there(f"{module}.{name}"):
            return import_module(f"{module}.{name}")
        place = f"{module}.{name}".partition(".")[2]
        if place in ALIASES:
            home, _, there = ALIASES[place].partition(":")
            rank_zero_deprecation(f"`{module}.{name}` has become `{module}.{there}`.")
            return getattr(import_module(home), there)
        known = ", ".join(names["__all__"])
        raise AttributeError(
            explanation(f"{module}.{name}")
            or f"module {module!r} has no attribute {name!r}. Its public names: {known}."
        )

    def listed() -> list[str]:
        return sorted({*names, *names["__all__"]})

    names.update(__getattr__=load, __dir__=listed)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # one that was there in earlier versions
        return False
