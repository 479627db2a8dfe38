"""Batches: where they come from and how they reach the device.

``CombinedLoader`` draws from several loaders at once, or from one after another;
``split_by_process_and_worker`` gives each process and each worker its part of a stream.
"""

from __future__ import annotations

from levin.data.combined import CombinedLoader
from levin.data.shards import split_by_process_and_worker

__all__ = ["CombinedLoader", "split_by_process_and_worker"]
