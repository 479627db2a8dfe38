"""What a user subclasses: the module, the data module, the callback, and what `self.log` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.core.datamodule import LightningDataModule
    from levin.core.module import LightningModule

__all__ = ["LightningDataModule", "LightningModule"]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "LightningDataModule": "levin.core.datamodule",
    "LightningModule": "levin.core.module",
}

load_on_use(__name__, _HOMES)
