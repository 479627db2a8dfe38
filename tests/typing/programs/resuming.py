"""An interrupted fit that goes on where it was."""

from typing import Any

import torch
from torch import Tensor

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.testing import BoringModel


class Interrupted(L.Callback):
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("the machine is taken away")


class Remembering(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        self.batches += 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches"] = self.batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches = checkpoint["batches"]


def trainer_for(*callbacks: L.Callback, max_epochs: int = 3) -> L.Trainer:
    return L.Trainer(
        max_epochs=max_epochs,
        limit_train_batches=2,
        limit_val_batches=0,
        callbacks=[ModelCheckpoint("kept", save_last=True), *callbacks],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
    )


def main() -> None:
    try:
        trainer_for(Interrupted()).fit(Remembering())
    except RuntimeError as error:
        print(error)

    model = Remembering()
    trainer = trainer_for()
    trainer.fit(model, ckpt_path="kept/last.ckpt", weights_only=True)
    assert (trainer.global_step, trainer.current_epoch, model.batches) == (6, 3, 6)

    checkpoint: dict[str, Any] = torch.load("kept/last.ckpt", weights_only=True)
    print(checkpoint["epoch"], checkpoint["global_step"], checkpoint["batches"])


if __name__ == "__main__":
    main()
