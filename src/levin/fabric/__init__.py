"""Fabric: your own loop on levin's hardware. `fabric` holds the calls, `wrappers` what `setup` gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.fabric.fabric import Fabric
    from levin.fabric.wrappers import is_wrapped
    from levin.utils.seed import seed_everything

__all__ = ["Fabric", "is_wrapped", "seed_everything"]

_HOMES = {
    "Fabric": "levin.fabric.fabric",
    "is_wrapped": "levin.fabric.wrappers",
    "seed_everything": "levin.utils.seed",
}

load_on_use(__name__, _HOMES)
