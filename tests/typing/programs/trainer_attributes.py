"""What a trainer tells, and what may be set on it."""

import math
from pathlib import Path

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import assert_type

import levin as L
from levin.callbacks import Checkpoint, EarlyStopping, ProgressBar
from levin.loggers import Logger
from levin.strategies import Strategy
from levin.testing import BoringModel


class Asking(BoringModel):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        trainer = self.trainer
        assert trainer.training
        assert not trainer.sanity_checking
        assert trainer.state.fn == "fit"
        loss: Tensor = self(batch).mean()
        self.log("loss", loss)
        if trainer.is_last_batch:
            print(f"epoch {trainer.current_epoch} of {trainer.max_epochs}, step {self.global_step}")
        return loss

    def on_train_epoch_start(self) -> None:
        self.trainer.accumulate_grad_batches = 2


def show(trainer: L.Trainer) -> None:
    assert_type(trainer.lightning_module, L.LightningModule | None)
    assert_type(trainer.datamodule, L.LightningDataModule | None)
    assert_type(trainer.optimizers, list[Optimizer])
    assert_type(trainer.checkpoint_callbacks, list[Checkpoint])
    assert_type(trainer.early_stopping_callback, EarlyStopping | None)
    assert_type(trainer.progress_bar_callback, ProgressBar | None)
    assert_type(trainer.loggers, list[Logger])
    assert_type(trainer.logger, Logger | None)
    assert_type(trainer.strategy, Strategy)
    assert_type(trainer.callback_metrics, dict[str, Tensor])
    assert_type(trainer.max_epochs, int | None)
    assert_type(trainer.num_training_batches, int | float)
    assert not math.isinf(trainer.num_training_batches)
    print({name: value.item() for name, value in trainer.callback_metrics.items()})
    print(trainer.num_val_batches, trainer.world_size, trainer.global_rank, trainer.is_global_zero)
    print(trainer.precision, trainer.num_devices, trainer.device_ids, trainer.log_dir, trainer.ckpt_path)
    print(trainer.progress.epoch, trainer.progress.step, trainer.estimated_stepping_batches)
    print(Path(trainer.default_root_dir).name, trainer.interrupted, trainer.should_stop)


def main() -> None:
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=4,
        limit_val_batches=0.5,
        val_check_interval=1.0,
        logger=False,
        accelerator="cpu",
        devices=1,
        default_root_dir="runs",
    )
    trainer.limit_train_batches = 6
    trainer.max_epochs = 2
    trainer.callbacks.append(L.Callback())
    trainer.fit(Asking())
    show(trainer)
    print(trainer.hooks)
    assert "on_train_epoch_start" in str(trainer.hooks)
    assert trainer.current_epoch == 2


if __name__ == "__main__":
    main()
