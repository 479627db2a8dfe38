"""Batches: where they come from and how they reach the device.

``CombinedLoader`` draws from several loaders at once, or from one after another.
"""

from __future__ import annotations

from levin.data.combined import CombinedLoader

__all__ = ["CombinedLoader"]
