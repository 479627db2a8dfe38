"""BasePredictionWriter: put predictions where you want them, instead of into memory."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer


class WriteInterval(str, Enum):
    """When a `BasePredictionWriter` writes."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """Whether it writes after each batch."""
        return self is not WriteInterval.EPOCH

    @property
    def on_epoch(self) -> bool:
        """Whether it writes once at the end."""
        return self is not WriteInterval.BATCH


class BasePredictionWriter(Callback):
    """Write predictions where you want them: override `write_on_batch_end` or `write_on_epoch_end`.

    With ``trainer.predict(return_predictions=False)`` and "batch" nothing piles up in memory. Every process
    writes its own part: put ``trainer.global_rank`` into the names of files.

    Args:
        write_interval: "batch", "epoch" or "batch_and_epoch": which of the two is called.

    Raises:
        MisconfigurationException: If it is something else.
    """

    def __init__(self, write_interval: str = "batch") -> None:
        known = [each.value for each in WriteInterval]
        if write_interval not in known:
            raise MisconfigurationException(f"write_interval={write_interval!r} must be one of {known}.")
        super().__init__()
        self.interval: WriteInterval = WriteInterval(write_interval)
        self._predictions: list[list[Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the places of samples kept."""
        trainer.predict_loop.keeps_indices = True

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with nothing."""
        self._predictions = [[] for _ in trainer.num_predict_batches]

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the predictions of one batch.

        Args:
            trainer: The trainer.
            pl_module: The module.
            prediction: What `predict_step` returned.
            batch_indices: The places of the batch's samples in the dataset; empty where they can't be known.
            batch: The batch.
            batch_idx: Its number.
            dataloader_idx: The number of its dataloader.
        """
        raise NotImplementedError(
            f"{type(self).__name__} writes after each batch: override `write_on_batch_end`."
        )

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write all predictions.

        Args:
            trainer: The trainer.
            pl_module: The module.
            predictions: What `predict_step` returned for each batch; for several dataloaders a list of such.
            batch_indices: For each dataloader and each batch, the places of the samples in the dataset.
        """
        raise NotImplementedError(f"{type(self).__name__} writes at the end: override `write_on_epoch_end`.")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write, or keep for the end."""
        if self.interval.on_epoch:
            self._predictions[dataloader_idx].append(outputs)
        if self.interval.on_batch:
            indices = trainer.predict_loop.current_batch_indices
            self.write_on_batch_end(trainer, pl_module, outputs, indices, batch, batch_idx, dataloader_idx)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, if it is at the end."""
        if not self.interval.on_epoch:
            return
        kept, self._predictions = self._predictions, []
        predictions = kept[0] if len(kept) == 1 else kept
        self.write_on_epoch_end(trainer, pl_module, predictions, trainer.predict_loop.epoch_batch_indices)
