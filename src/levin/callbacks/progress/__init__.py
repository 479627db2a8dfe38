"""Progress bars: how far a run is, drawn in a terminal or a notebook, written as plain lines anywhere else.

`RichProgressBar` and `TQDMProgressBar` show the same with the packages rich and tqdm, which they load when a
run begins; `ProgressBar` is the base of your own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levin.callbacks.progress.base import ProgressBar
    from levin.callbacks.progress.rich import RichProgressBar, RichProgressBarTheme
    from levin.callbacks.progress.tqdm import TQDMProgressBar

__all__ = ["ProgressBar", "RichProgressBar", "RichProgressBarTheme", "TQDMProgressBar"]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "ProgressBar": "levin.callbacks.progress.base",
    "RichProgressBar": "levin.callbacks.progress.rich",
    "RichProgressBarTheme": "levin.callbacks.progress.rich",
    "TQDMProgressBar": "levin.callbacks.progress.tqdm",
}


def __getattr__(name: str) -> Any:
    """Load a progress bar the first time it is asked for."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # from now on a plain attribute
        return value
    known = ", ".join(__all__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. Its public names: {known}.")


def __dir__() -> list[str]:
    """Return what is there already and what would be loaded."""
    return sorted({*globals(), *__all__})
