"""Where numbers are written: each logger is one place, and a run may have several.

`Logger` is the base; `CSVLogger` needs nothing, `TensorBoardLogger` the extra ``tensorboard``. The names are
loaded when they are first asked for, and a logger's own package when the logger first writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

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

load_on_use(__name__, _HOMES)
