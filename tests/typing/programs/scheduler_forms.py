"""Everything that `configure_optimizers` may return."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

import levin as L
from levin.testing import BoringModel
from levin.utils.types import LRSchedulerConfigType, OptimizerLRScheduler, OptimizerLRSchedulerConfig


class JustOne(BoringModel):
    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=0.1)


class TwoLists(BoringModel):
    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [StepLR(optimizer, step_size=1)]


class ListsWithSettings(BoringModel):
    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRSchedulerConfigType]]:
        optimizer = SGD(self.parameters(), lr=0.1)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step", "frequency": 1, "name": "cycle"}]


class ADict(BoringModel):
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1)}


class OnPlateau(BoringModel):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self(batch).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = SGD(self.parameters(), lr=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "loss", "strict": False},
        }


class AsOneLikes(BoringModel):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        if self.form == "one":
            return optimizer
        if self.form == "list":
            return [optimizer]
        if self.form == "lists":
            return [optimizer], [StepLR(optimizer, 1)]
        if self.form == "dict":
            return {"optimizer": optimizer}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": StepLR(optimizer, 1), "interval": "step"},
        }


class Plain(BoringModel):
    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1)}


def main() -> None:
    models: list[BoringModel] = [JustOne(), TwoLists(), ListsWithSettings(), ADict(), OnPlateau(), Plain()]
    models += [AsOneLikes(form) for form in ("one", "list", "lists", "dict", "step")]
    for model in models:
        trainer = L.Trainer(fast_dev_run=2, accelerator="cpu", enable_progress_bar=False)
        trainer.fit(model)
        names = [f"{config.name} {config.interval}" for config in trainer.lr_scheduler_configs]
        print(type(model).__name__, names, trainer.optimizers[0].param_groups[0]["lr"])


if __name__ == "__main__":
    main()
