"""What programs for earlier versions need to run as they are. Nothing else in levin imports this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.compat.epoch_end import EpochEndMixin

__all__ = ["EpochEndMixin"]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {"EpochEndMixin": "levin.compat.epoch_end"}

load_on_use(__name__, _HOMES)
