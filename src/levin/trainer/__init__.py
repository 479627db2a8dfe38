"""The high level: your model, our loop.

Read `trainer.py` for the entry points, then `fit.py` and `step.py`: that is the path of a training step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.trainer.trainer import Trainer
    from levin.utils.seed import seed_everything

__all__ = ["Trainer", "seed_everything"]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "Trainer": "levin.trainer.trainer",
    "seed_everything": "levin.utils.seed",
}

load_on_use(__name__, _HOMES)
