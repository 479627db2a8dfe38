"""Training and evaluation modes: those of a module's parts, noted and given back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def modes_of(module: nn.Module) -> dict[nn.Module, bool]:
    """For each part, and the module itself, whether it is in training mode."""
    return {part: part.training for part in module.modules()}


def restore_modes(modes: dict[nn.Module, bool]) -> None:
    """Give each part back the mode that it had: one that a user froze in evaluation mode stays there."""
    for part, training in modes.items():
        part.training = training


@contextmanager
def in_evaluation(module: nn.Module) -> Iterator[None]:
    """Within it, the module is in evaluation mode and makes no gradients; the modes come back."""
    modes = modes_of(module)
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        restore_modes(modes)
