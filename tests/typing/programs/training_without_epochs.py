"""An endless stream: everything is counted in updates, validations move the learning rate."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint
from levin.utils.types import OptimizerLRSchedulerConfig


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.randn(2)


class Mean(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def _loss(self, batch: Tensor) -> Tensor:
        rows: Tensor = self.layer(batch)
        return rows.square().mean()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": ReduceLROnPlateau(optimizer, patience=0),
                "interval": "validation",
                "monitor": "val_loss",
            },
        }


class Report(L.Callback):
    def __init__(self) -> None:
        self.waited: list[float] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.waited.append(trainer.data_wait_share)


def main() -> None:
    report, every = Report(), L.Every(4, "updates")
    trainer = L.Trainer(
        max_steps=12,
        val_check_interval=every,
        limit_val_batches=2,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        callbacks=[report, EarlyStopping("val_loss", patience=9), ModelCheckpoint(monitor="val_loss")],
    )
    trainer.fit(Mean(), DataLoader(Endless(), batch_size=4), DataLoader(Endless(), batch_size=4))
    validations: int = trainer.progress.validations
    assert validations == len(report.waited) == trainer.max_steps // every.n
    assert every.unit == "updates"


if __name__ == "__main__":
    main()
