"""Where the time goes: what `Trainer(profiler=...)` takes.

A profiler measures actions, each between ``start(name)`` and ``stop(name)``: every hook and step that really
runs, and what you put into ``with trainer.profiler.profile("name")``. Without one nothing is measured, and
that costs nothing.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

from levin.profilers.base import PassThroughProfiler, Profiler
from levin.utils.errors import MisconfigurationException
from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.profilers.pytorch import PyTorchProfiler
    from levin.profilers.simple import AdvancedProfiler, SimpleProfiler

__all__ = [
    "AdvancedProfiler",
    "PassThroughProfiler",
    "Profiler",
    "PyTorchProfiler",
    "SimpleProfiler",
    "parse_profiler",
]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "AdvancedProfiler": "levin.profilers.simple",
    "PyTorchProfiler": "levin.profilers.pytorch",
    "SimpleProfiler": "levin.profilers.simple",
}

load_on_use(__name__, _HOMES)

_WORDS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}


def parse_profiler(value: Any) -> Profiler:
    """The profiler that a user asks for.

    Args:
        value: ``"simple"``, ``"advanced"`` or ``"pytorch"``; a profiler, which is returned as it is; None for
            none.

    Raises:
        MisconfigurationException: It is something else.
    """
    if value is None:
        return PassThroughProfiler()
    if isinstance(value, Profiler):
        return value
    word = value.lower() if isinstance(value, str) else ""
    if word in _WORDS:
        profiler: Profiler = getattr(sys.modules[__name__], _WORDS[word])()
        return profiler
    if word == "xla":
        raise MisconfigurationException(
            "profiler='xla' is not available: levin has no XLA devices. Use 'pytorch'."
        )
    near = difflib.get_close_matches(word, _WORDS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    known = ", ".join(map(repr, _WORDS))
    raise MisconfigurationException(
        f"profiler={value!r} is not known.{hint} Use one of {known}, or an object of a subclass of Profiler."
    )
