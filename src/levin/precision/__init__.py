"""What numbers are computed in: 32, 64 or 16 bits, or a mixture.

A precision converts modules and batches, and says how a step runs, how gradients are made and how an
optimizer steps. `parse_precision` makes one from the words that ``precision=`` takes.
"""

from __future__ import annotations

from levin.precision.amp import MixedPrecision
from levin.precision.base import Precision
from levin.precision.double import DoublePrecision
from levin.precision.half import HalfPrecision
from levin.precision.parse import PRECISIONS, canonical_precision, parse_precision
from levin.utils.lazy import load_on_use

__all__ = [
    "PRECISIONS",
    "DoublePrecision",
    "HalfPrecision",
    "MixedPrecision",
    "Precision",
    "canonical_precision",
    "parse_precision",
]

load_on_use(__name__, {})
