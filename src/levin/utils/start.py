"""Where the program was started, whatever folder it has gone to since: loaded with levin itself."""

from __future__ import annotations

import os


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


STARTED_IN = _folder()
"""The working folder when levin was imported: what paths on the command line are relative to."""
