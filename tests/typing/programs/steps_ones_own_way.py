"""A module that says itself how gradients are made, clipped and used."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import StepLR

import levin as L
from levin.testing import BoringModel
from levin.utils.types import OptimizerLRSchedulerConfig


class OwnWay(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.done.append("backward")
        super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        if self.trainer.global_step < 10:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (self.trainer.global_step + 1)
        self.done.append("step")
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.done.append("clip")
        self.clip_gradients(
            optimizer,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
        )

    def lr_scheduler_step(self, scheduler: StepLR, metric: Any | None) -> None:
        self.done.append("schedule")
        scheduler.step()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.LBFGS(self.parameters(), max_iter=2)
        return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, step_size=1)}

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        super().on_before_zero_grad(optimizer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 2 else None


def main() -> None:
    model = OwnWay()
    trainer = L.Trainer(
        max_epochs=1,
        gradient_clip_val=0.5,
        gradient_clip_algorithm="value",
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(model)
    assert {"backward", "step", "clip", "schedule"} == set(model.done)


if __name__ == "__main__":
    main()
