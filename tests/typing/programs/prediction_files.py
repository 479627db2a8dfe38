"""Predictions that go to files instead of memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import BasePredictionWriter
from levin.testing import BoringModel, RandomDataset


class FileWriter(BasePredictionWriter):
    def __init__(self, folder: Path, write_interval: Literal["batch", "epoch", "batch_and_epoch"]) -> None:
        super().__init__(write_interval)
        self.folder = folder
        self.written: list[int] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.folder.mkdir(exist_ok=True)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        torch.save(prediction, self.folder / f"{trainer.global_rank}_{dataloader_idx}_{batch_idx}.pt")
        self.written.extend(batch_indices or [])

    def write_on_epoch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        torch.save(list(predictions), self.folder / "all.pt")


class Predicting(BoringModel):
    def predict_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        out: Tensor = self(batch)
        return out.argmax(dim=-1)


def main() -> None:
    writer = FileWriter(Path("predictions"), "batch_and_epoch")
    trainer = L.Trainer(
        callbacks=[writer], accelerator="cpu", logger=False, enable_progress_bar=False, inference_mode=True
    )
    loader = DataLoader(RandomDataset(32, 6), batch_size=2)
    trainer.predict(Predicting(), dataloaders=loader, return_predictions=False)
    assert writer.written == list(range(6))
    print(sorted(path.name for path in writer.folder.iterdir()))


if __name__ == "__main__":
    main()
