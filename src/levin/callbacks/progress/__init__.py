"""Progress bars: how far a run is, drawn in a terminal or a notebook, written as plain lines anywhere else.

`RichProgressBar` and `TQDMProgressBar` show the same with the packages rich and tqdm, which they load when a
run begins; `ProgressBar` is the base of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.callbacks.progress.base import ProgressBar
    from levin.callbacks.progress.rich import RichProgressBar, RichProgressBarTheme
    from levin.callbacks.progress.tqdm import TQDMProgressBar

__all__ = ["ProgressBar", "RichProgressBar", "RichProgressBarTheme", "TQDMProgressBar"]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "ProgressBar": "levin.callbacks.progress.base",
    "RichProgressBar": "levin.callbacks.progress.rich",
    "RichProgressBarTheme": "levin.callbacks.progress.rich",
    "TQDMProgressBar": "levin.callbacks.progress.tqdm",
}

load_on_use(__name__, _HOMES)
