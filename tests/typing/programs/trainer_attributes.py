"""What a trainer tells, and what may be set on it."""

from __future__ import annotations

import math
from pathlib import Path

import levin as L
from levin.callbacks import Checkpoint, EarlyStopping, ProgressBar
from levin.loggers import Logger
from levin.strategies import Strategy
from levin.testing import BoringModel
from torch import Tensor
from torch.optim import Optimizer


class Asking(BoringModel):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        trainer = self.trainer
        assert trainer.training and not trainer.evaluating and not trainer.sanity_checking
        assert trainer.state.fn == "fit" and trainer.state.stage is not None
        loss: Tensor = self(batch).mean()
        self.log("loss", loss)
        if trainer.is_last_batch:
            print(f"epoch {trainer.current_epoch} of {trainer.max_epochs}, step {self.global_step}")
        return loss

    def on_train_epoch_start(self) -> None:
        self.trainer.accumulate_grad_batches = 2


def show(trainer: L.Trainer) -> None:
    module: L.LightningModule | None = trainer.lightning_module
    optimizers: list[Optimizer] = trainer.optimizers
    checkpoints: list[Checkpoint] = trainer.checkpoint_callbacks
    stopping: EarlyStopping | None = trainer.early_stopping_callback
    bar: ProgressBar | None = trainer.progress_bar_callback
    logger: Logger | None = trainer.logger
    strategy: Strategy = trainer.strategy
    metrics: dict[str, Tensor] = trainer.callback_metrics
    batches: int | float = trainer.num_training_batches
    assert not math.isinf(batches)
    print(type(module), len(optimizers), len(checkpoints), stopping, type(bar), logger, strategy.world_size)
    print({name: value.item() for name, value in metrics.items()}, trainer.progress_bar_metrics)
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
    assert "training_step" not in str(trainer.hooks) and trainer.current_epoch == 2


if __name__ == "__main__":
    main()
