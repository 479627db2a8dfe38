"""Where numbers are written: each logger is one place, and a run may have several.

`Logger` is the base; `CSVLogger` needs nothing, `TensorBoardLogger` the extra ``tensorboard``. The names are
loaded when they are first asked for, and a logger's own package when the logger first writes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levin.loggers.base import DummyLogger, Logger
    from levin.loggers.csv import CSVLogger
    from levin.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "DummyLogger", "Logger", "TensorBoardLogger"]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "CSVLogger": "levin.loggers.csv",
    "DummyLogger": "levin.loggers.base",
    "Logger": "levin.loggers.base",
    "TensorBoardLogger": "levin.loggers.tensorboard",
}


def __getattr__(name: str) -> Any:
    """Load a logger the first time it is asked for."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # from now on a plain attribute
        return value
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}. Its public names: {', '.join(__all__)}."
    )


def __dir__() -> list[str]:
    """Return what is there already and what would be loaded."""
    return sorted({*globals(), *__all__})
