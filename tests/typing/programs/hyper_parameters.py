"""save_hyperparameters and load_from_checkpoint: what comes back is the class that was asked."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import assert_type

import levin as L
from levin.testing import RandomDataset
from levin.utils.types import AttributeDict


class Base(L.LightningModule):
    def __init__(self, width: int, lr: float = 0.1, **rest: Any) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["act"])
        self.layer = nn.Linear(32, width)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Deeper(Base):
    def __init__(self, width: int, act: nn.Module | None = None, depth: int = 2) -> None:
        super().__init__(width=width, act=act, depth=depth)
        self.act = act or nn.ReLU()

    def mine(self) -> int:
        depth: int = self.hparams["depth"]
        return depth


class Data(L.LightningDataModule):
    def __init__(self, rows: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters("rows", logger=False)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(RandomDataset(32, self.hparams.rows))


def main() -> None:
    model = Deeper(3, depth=5)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=Data(rows=2))
    trainer.save_checkpoint("run.ckpt")

    again = Deeper.load_from_checkpoint("run.ckpt", act=nn.Tanh(), strict=True)
    assert_type(again, Deeper)
    assert again.mine() == 5
    assert isinstance(again.act, nn.Tanh)
    data = Data.load_from_checkpoint("run.ckpt")
    assert_type(data, Data)
    assert_type(again.freeze(), Deeper)
    assert_type(again.to("cpu"), Deeper)

    settings = AttributeDict(again.hparams)
    settings.lr = 0.5
    print(settings["lr"], again.hparams_initial.lr, data.hparams.rows, dict(again.hparams))


if __name__ == "__main__":
    main()
