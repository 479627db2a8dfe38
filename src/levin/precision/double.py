"""DoublePrecision: everything in float64."""

from __future__ import annotations

import torch

from levin.precision.base import TruePrecision


class DoublePrecision(TruePrecision):
    """Parameters, batches and new tensors in float64: ``"64-true"``."""

    precision = "64-true"
    dtype: torch.dtype = torch.float64
