"""Metrics that keep their own state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

import levin as L


class Classifier(L.LightningModule):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(4, classes)
        self.train_accuracy = MulticlassAccuracy(num_classes=classes)
        metrics = MetricCollection({"acc": MulticlassAccuracy(classes), "f1": MulticlassF1Score(classes)})
        self.val_metrics = metrics.clone(prefix="val_")
        self.mean_loss = MeanMetric()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        logits = self.forward(x)
        loss = F.cross_entropy(logits, y)
        self.train_accuracy(logits, y)
        self.log("train_acc", self.train_accuracy, on_step=True, on_epoch=True)
        return {"loss": loss, "logits": logits.detach()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        logits = self.forward(x)
        self.val_metrics.update(logits, y)
        self.mean_loss.update(F.cross_entropy(logits, y))
        self.log("val_loss", self.mean_loss)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute())
        self.val_metrics.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    loader = DataLoader(TensorDataset(torch.randn(12, 4), torch.arange(12) % 3), batch_size=4)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), loader, loader)
    accuracy: Tensor = trainer.callback_metrics["val_acc"]
    print(accuracy.item(), sorted(trainer.callback_metrics))


if __name__ == "__main__":
    main()
