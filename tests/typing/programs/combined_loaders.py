"""Several loaders at once, for training and for validation."""

from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.data import CombinedLoader


class Batches(TypedDict):
    labelled: list[Tensor]
    unlabelled: list[Tensor]


def numbers(rows: int, batch_size: int = 2) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.randn(rows, 3)), batch_size=batch_size)


class SemiSupervised(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.pairs = 0

    def training_step(self, batch: Batches, batch_idx: int) -> Tensor:
        self.pairs += 1
        known: Tensor = self.layer(batch["labelled"][0])
        unknown: Tensor = self.layer(batch["unlabelled"][0])
        return known.square().mean() + 0.1 * unknown.abs().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        out: Tensor = self.layer(batch[0])
        self.log("val", out.mean(), batch_size=len(batch[0]))

    def train_dataloader(self) -> CombinedLoader:
        return CombinedLoader({"labelled": numbers(4), "unlabelled": numbers(10)}, mode="max_size_cycle")

    def val_dataloader(self) -> CombinedLoader:
        return CombinedLoader([numbers(2), numbers(6)], mode="sequential")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    both = CombinedLoader({"a": range(2), "b": "xyz"}, "max_size")
    for batch, batch_idx, dataloader_idx in both:
        print(batch["a"], batch["b"], batch_idx, dataloader_idx)
    assert len(both) == 3
    assert len(both.flattened) == 2

    model = SemiSupervised()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0
    )
    trainer.fit(model)
    assert model.pairs == 5
    print(sorted(trainer.callback_metrics), trainer.num_val_batches)


if __name__ == "__main__":
    main()
