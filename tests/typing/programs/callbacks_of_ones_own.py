"""Callbacks that override hooks and never call super."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import levin as L
from levin.callbacks import Callback
from levin.testing import BoringModel
from levin.utils.types import STEP_OUTPUT


class Watch(Callback):
    """One callback of each shape of arguments."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.stages: list[str] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.stages.append(stage)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        print(f"training {type(pl_module).__name__} up to epoch {trainer.max_epochs}")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= 3:
            trainer.should_stop = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Tensor,
        batch_idx: int,
    ) -> None:
        assert isinstance(outputs, Mapping)
        self.losses.append(float(outputs["loss"]))
        self.log("seen", float(batch_idx), prog_bar=True)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        assert loss.requires_grad

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        largest = [p.grad.abs().max() for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("largest_gradient", torch.stack(largest).max())

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert dataloader_idx == 0

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        print(f"failed with {exception!r}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.stages.remove(stage)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = list(state_dict["losses"])


class WithItsCallback(BoringModel):
    def configure_callbacks(self) -> list[Callback]:
        return [Watch()]


def main() -> None:
    watch = Watch()
    trainer = L.Trainer(
        max_epochs=1, callbacks=[watch], accelerator="cpu", logger=False, enable_checkpointing=False
    )
    trainer.fit(BoringModel())
    assert len(watch.losses) >= 3
    assert watch.stages == []
    L.Trainer(fast_dev_run=True, accelerator="cpu").fit(WithItsCallback())


if __name__ == "__main__":
    main()
