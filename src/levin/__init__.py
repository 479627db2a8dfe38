"""Train, validate, test and predict with PyTorch: your model, a plain loop, at the price of a bare one.

``import levin as L`` is all a first program needs. The names below and the sub-packages are loaded when they
are first asked for, so that importing levin costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from levin._version import __version__

if TYPE_CHECKING:
    # `levin.callbacks` and the others are there without an import of their own
    from levin import accelerators as accelerators
    from levin import callbacks as callbacks
    from levin import checkpoint as checkpoint
    from levin import core as core
    from levin import data as data
    from levin import loggers as loggers
    from levin import precision as precision
    from levin import profilers as profilers
    from levin import strategies as strategies
    from levin import testing as testing
    from levin import trainer as trainer
    from levin import utils as utils
    from levin.core.callback import Callback
    from levin.core.datamodule import LightningDataModule
    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer
    from levin.utils.seed import seed_everything

__all__ = [
    "Callback",
    "LightningDataModule",
    "LightningModule",
    "Trainer",
    "__version__",
    "seed_everything",
]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "Callback": "levin.core.callback",
    "LightningDataModule": "levin.core.datamodule",
    "LightningModule": "levin.core.module",
    "Trainer": "levin.trainer.trainer",
    "seed_everything": "levin.utils.seed",
}


def __getattr__(name: str) -> Any:
    """Load a public name, or a sub-package such as ``levin.callbacks``, the first time it is asked for."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # from now on a plain attribute
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}. Its public names: {', '.join(__all__)}."
    )


def __dir__() -> list[str]:
    """Return what is there already and what would be loaded."""
    return sorted({*globals(), *__all__})
