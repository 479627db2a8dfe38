"""What ModelCheckpoint took in earlier versions."""

from __future__ import annotations

import os
from typing import Any

from levin.utils.former_members import Keyword, renamed


def _of_filepath(value: Any) -> dict[str, Any]:
    """Of the path of a file: the folder, and the name if it is not the path of a folder."""
    folder, name = (value, None) if value is None or os.path.isdir(value) else os.path.split(value)
    return {"dirpath": os.curdir if folder == "" else folder, "filename": name or None}


MODEL_CHECKPOINT: dict[str, Keyword] = {
    "filepath": Keyword("Use `dirpath` and `filename`.", _of_filepath),
    "prefix": Keyword(
        'Begin `filename` with it: `filename="best-{epoch}-{step}"`.', lambda value: None if value else {}
    ),
    "period": renamed("every_n_epochs"),
    "every_n_val_epochs": renamed("every_n_epochs"),
    "save_function": Keyword("Write a `CheckpointIO`, and pass it to the trainer: `Trainer(plugins=...)`."),
}
"""Keyword that it took -> what it is today."""
