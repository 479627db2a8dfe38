"""A model with the four kinds of steps, run through the four entry points."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.utils.types import STEP_OUTPUT

Batch = tuple[Tensor, Tensor]


class LineFit(L.LightningModule):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> STEP_OUTPUT:
        loss = self._loss(batch)
        self.log_dict({"test_loss": loss, "test_rmse": loss.sqrt()})
        return {"loss": loss, "rows": len(batch[0])}

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.forward(batch[0])

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)

    def _loss(self, batch: Batch) -> Tensor:
        x, y = batch
        return F.mse_loss(self.forward(x), y)


def loader(shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
    x = torch.randn(32, 4)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=shuffle)


def main() -> None:
    L.seed_everything(1)
    model = LineFit()
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, loader(shuffle=True), loader())
    before: float = trainer.validate(model, loader(), verbose=False)[0]["val_loss"]
    after = trainer.test(model, dataloaders=[loader(), loader()], verbose=False)
    predictions = trainer.predict(model, loader())
    assert predictions is not None
    rows: list[Tensor] = predictions
    model.print(f"{before:.3f}", [list(names) for names in after], torch.cat(rows).shape)


if __name__ == "__main__":
    main()
