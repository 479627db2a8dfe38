"""State to and from disk: files that are whole or not there, and that load without running anybody's code."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levin.checkpoint.io import CheckpointIO, TorchCheckpointIO

__all__ = ["CheckpointIO", "TorchCheckpointIO"]

_HOMES = {"CheckpointIO": "levin.checkpoint.io", "TorchCheckpointIO": "levin.checkpoint.io"}


def __getattr__(name: str) -> Any:
    """Load a public name the first time it is asked for."""
    if name not in _HOMES:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}. Its public names: {', '.join(__all__)}."
        )
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return what is there already and what would be loaded."""
    return sorted({*globals(), *__all__})
