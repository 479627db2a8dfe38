"""Callbacks that add to what their parents do."""

from typing import Any

from torch import Tensor

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from levin.testing import BoringModel


class Polite(L.Callback):
    def __init__(self, every: int = 2) -> None:
        super().__init__()
        self.every = every

    @property
    def state_key(self) -> str:
        return f"{super().state_key}[every={self.every}]"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer=trainer, pl_module=pl_module)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        return super().on_before_backward(trainer, pl_module, loss)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_validation_batch_start(trainer, pl_module, batch, batch_idx)
        super().on_validation_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx=dataloader_idx)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint["polite"] = self.every


class PatientAtFirst(EarlyStopping):
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch >= 1:
            super().on_validation_end(trainer, pl_module)


class Announced(ModelCheckpoint):
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        print(f"checkpoints go to {self.dirpath}")

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)


class QuietBar(TQDMProgressBar):
    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items


class Validated(BoringModel):
    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("x", float(batch_idx))


def main() -> None:
    callbacks = [Polite(), PatientAtFirst("x", patience=1), Announced("kept", monitor="x"), QuietBar()]
    trainer = L.Trainer(
        max_epochs=2,
        limit_train_batches=2,
        limit_val_batches=2,
        callbacks=callbacks,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    trainer.fit(Validated())


if __name__ == "__main__":
    main()
