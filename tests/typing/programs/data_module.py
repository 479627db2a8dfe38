"""A data module with every stage, its own batch type and a state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, random_split

import levin as L
from levin.utils.types import EVAL_DATALOADERS, TRAIN_DATALOADERS


@dataclass
class Pair:
    x: Tensor
    y: Tensor


class Pairs(Dataset[Pair]):
    def __init__(self, size: int) -> None:
        self.x = torch.randn(size, 3)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Pair:
        return Pair(self.x[index], self.x[index].sum())


def stack(pairs: Sequence[Pair]) -> Pair:
    return Pair(torch.stack([pair.x for pair in pairs]), torch.stack([pair.y for pair in pairs]))


class PairData(L.LightningDataModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.seen = 0

    def prepare_data(self) -> None:
        L.seed_everything(0, verbose=False)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.train, self.val = random_split(Pairs(20), [16, 4])
        if stage in ("test", "predict"):
            self.rest = Pairs(4)

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        return DataLoader(self.train, batch_size=self.batch_size, collate_fn=stack)

    def val_dataloader(self) -> EVAL_DATALOADERS:
        return [DataLoader(self.val, batch_size=2, collate_fn=stack) for _ in range(2)]

    def test_dataloader(self) -> DataLoader[Pair]:
        return DataLoader(self.rest, batch_size=2, collate_fn=stack)

    def on_before_batch_transfer(self, batch: Pair, dataloader_idx: int) -> Pair:
        self.seen += len(batch.x)
        return batch

    def transfer_batch_to_device(self, batch: Pair, device: torch.device, dataloader_idx: int) -> Pair:
        return Pair(batch.x.to(device), batch.y.to(device))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]

    def teardown(self, stage: str) -> None:
        if self.trainer is not None:
            print(stage, self.trainer.global_step, self.seen)


class Summer(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        loss: Tensor = (self.layer(batch.x).squeeze(1) - batch.y).square().mean()
        return loss

    def validation_step(self, batch: Pair, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val", batch.y.mean(), batch_size=len(batch.x), add_dataloader_idx=True)

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        self.log("test", batch.y.mean(), batch_size=len(batch.x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    data = PairData(batch_size=8)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Summer(), datamodule=data)
    trainer.test(Summer(), data, verbose=False)
    ready = L.LightningDataModule.from_datasets(train_dataset=Pairs(8), batch_size=2)
    print(ready, data.hparams.batch_size)


if __name__ == "__main__":
    main()
