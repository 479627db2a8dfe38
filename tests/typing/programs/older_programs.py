"""A module of earlier times, whose epochs end with the outputs of their steps."""

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.compat import EpochEndMixin


class Old(EpochEndMixin, L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> dict[str, Tensor]:
        (rows,) = batch
        return {"loss": (self.weight - rows).square().mean(), "mean": rows.mean()}

    def training_epoch_end(self, outputs: list[dict[str, Tensor]]) -> None:
        self.log("mean", torch.stack([output["mean"] for output in outputs]).mean())

    def validation_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        return batch[0].sum()

    def validation_epoch_end(self, outputs: list[Tensor]) -> None:
        self.log("sum", torch.stack(outputs).sum())

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    data = DataLoader(TensorDataset(torch.arange(4.0)))
    trainer.fit(Old(), data, data)
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {"mean": 1.5, "sum": 6}


if __name__ == "__main__":
    main()
