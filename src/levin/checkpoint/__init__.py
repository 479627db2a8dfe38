"""State to and from disk: files that are whole or not there, and that load without running anybody's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.checkpoint.background import AsyncCheckpointIO
    from levin.checkpoint.io import CheckpointIO, TorchCheckpointIO

__all__ = ["AsyncCheckpointIO", "CheckpointIO", "TorchCheckpointIO"]

OWN_KEY = "levin"
"""What levin adds to the common form of a checkpoint is under this key."""

FORMAT_VERSION = "2.6.6"
"""The version whose layout checkpoints have: files of that framework can be read here, and these there."""

_HOMES = {
    "AsyncCheckpointIO": "levin.checkpoint.background",
    "CheckpointIO": "levin.checkpoint.io",
    "TorchCheckpointIO": "levin.checkpoint.io",
}

load_on_use(__name__, _HOMES)
