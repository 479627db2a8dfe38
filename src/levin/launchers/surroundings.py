"""Surroundings: what a program has settled for its process, for new processes that begin without it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from levin.utils.rank import log
from levin.utils.seed import collect_rng_state, set_rng_state


@dataclass(frozen=True)
class Surroundings:
    """The state of a process that its computations depend on, beside its objects."""

    random: dict[str, Any]
    dtype: torch.dtype
    matmul_precision: str
    deterministic: int
    cudnn: tuple[bool, bool]
    log_level: int

    @staticmethod
    def here() -> Surroundings:
        """Those of this process."""
        return Surroundings(
            random=collect_rng_state(include_cuda=False),
            dtype=torch.get_default_dtype(),
            matmul_precision=torch.get_float32_matmul_precision(),
            deterministic=torch.get_deterministic_debug_mode(),
            cudnn=(torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
            log_level=log.level,
        )

    def restore(self) -> None:
        """Make them those of this process."""
        set_rng_state(self.random)
        torch.set_default_dtype(self.dtype)
        torch.set_float32_matmul_precision(self.matmul_precision)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self.cudnn
        if self.log_level != logging.NOTSET:
            log.setLevel(self.log_level)
