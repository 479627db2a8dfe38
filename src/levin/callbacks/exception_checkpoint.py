"""OnExceptionCheckpoint: keep what there was when a run failed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from levin.core.callback import Checkpoint
from levin.utils import paths

if TYPE_CHECKING:
    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer


class OnExceptionCheckpoint(Checkpoint):
    """Save a checkpoint when an exception ends a run, and delete it when a later run has ended well.

    While it is there, ``fit(ckpt_path=None)`` goes on from the newest of this file and ``last.ckpt``. It
    stands in for the default ModelCheckpoint, which is not added beside it.

    Args:
        dirpath: The folder, or a URL that fsspec knows.
        filename: The name without its extension.

    Raises:
        ValueError: If the name is empty.
    """

    FILE_EXTENSION = ".ckpt"

    def __init__(self, dirpath: paths.PathLike, filename: str = "on_exception") -> None:
        super().__init__()
        if not filename:
            raise ValueError("OnExceptionCheckpoint(filename='') has no name for its file.")
        self.dirpath: str = os.fspath(dirpath)
        self.filename = filename

    @property
    def ckpt_path(self) -> str:
        """The file's path."""
        return paths.join(self.dirpath, self.filename + self.FILE_EXTENSION)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make sure that there is a place to write to: when it is needed it is too late."""
        if trainer.is_global_zero:
            paths.check_writable(
                self.dirpath, "A checkpoint", "Choose another place: OnExceptionCheckpoint(dirpath=...)."
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Save."""
        trainer.save_checkpoint(self.ckpt_path)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The run ended well: delete what a former one left."""
        trainer.strategy.remove_checkpoint(self.ckpt_path)
