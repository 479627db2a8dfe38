"""HalfPrecision: everything in 16 bits."""

from __future__ import annotations

from typing import Literal

import torch

from levin.precision.base import TruePrecision

_DTYPES = {"16-true": torch.float16, "bf16-true": torch.bfloat16}


class HalfPrecision(TruePrecision):
    """Parameters, batches and new tensors in 16 bits: half the memory, and few digits.

    Small updates are lost where weights have so few digits; mixed precision keeps them.

    Args:
        precision: ``"16-true"`` for float16, ``"bf16-true"`` for bfloat16.

    Raises:
        ValueError: It is neither.
    """

    def __init__(self, precision: Literal["bf16-true", "16-true"] = "16-true") -> None:
        if precision not in _DTYPES:
            raise ValueError(f"HalfPrecision({precision!r}) is not possible. Use '16-true' or 'bf16-true'.")
        self.precision = precision
        self.dtype: torch.dtype = _DTYPES[precision]
