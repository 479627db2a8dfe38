"""Train, validate, test and predict with PyTorch: your model, a plain loop, at the price of a bare one.

``import levin as L`` is all a first program needs. The names below and the sub-packages are loaded when they
are first asked for, so that importing levin costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin._version import __version__
from levin.utils import former
from levin.utils import start as _start  # noqa: F401  # it notes the folder that the program was started in
from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    # `levin.callbacks` and the others are there without an import of their own
    from levin import accelerators as accelerators
    from levin import callbacks as callbacks
    from levin import checkpoint as checkpoint
    from levin import clusters as clusters
    from levin import compat as compat
    from levin import core as core
    from levin import data as data
    from levin import demos as demos
    from levin import distributed as distributed
    from levin import fabric as fabric
    from levin import launchers as launchers
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
    from levin.fabric.fabric import Fabric
    from levin.trainer.trainer import Trainer
    from levin.trainer.when import Every
    from levin.utils.seed import seed_everything

__all__ = [
    "Callback",
    "Every",
    "Fabric",
    "LightningDataModule",
    "LightningModule",
    "Trainer",
    "__version__",
    "seed_everything",
]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "Callback": "levin.core.callback",
    "Every": "levin.trainer.when",
    "Fabric": "levin.fabric.fabric",
    "LightningDataModule": "levin.core.datamodule",
    "LightningModule": "levin.core.module",
    "Trainer": "levin.trainer.trainer",
    "seed_everything": "levin.utils.seed",
}

load_on_use(__name__, _HOMES)
former.install()
