"""The built-in callbacks, as arguments and through the package."""

from datetime import timedelta

import levin as L
from levin.callbacks import (
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateMonitor,
    ModelSummary,
    RichModelSummary,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from levin.loggers import CSVLogger
from levin.testing import BoringModel


class Named(L.callbacks.Callback):
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_fit_end(trainer, pl_module)


def started(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    print(f"{type(pl_module).__name__} starts on {trainer.strategy.root_device}")


def over(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    print(trainer.global_step)


def main() -> None:
    timer = Timer(duration=timedelta(minutes=5), interval="step")
    rates = LearningRateMonitor(logging_interval="step", log_momentum=True)
    callbacks: list[L.Callback] = [
        timer,
        rates,
        ModelSummary(max_depth=2),
        GradientAccumulationScheduler(scheduling={0: 2, 1: 1}),
        LambdaCallback(on_train_start=started, on_fit_end=over),
        TQDMProgressBar(refresh_rate=10),
        Named(),
        L.callbacks.ModelCheckpoint(train_time_interval=timedelta(hours=1), save_top_k=-1),
    ]
    trainer = L.Trainer(
        max_epochs=2,
        limit_train_batches=4,
        limit_val_batches=1,
        log_every_n_steps=1,
        callbacks=callbacks,
        logger=CSVLogger("logs"),
        accelerator="cpu",
    )
    trainer.fit(BoringModel())
    left: float | None = timer.time_remaining()
    assert left is not None
    assert timer.time_elapsed("train") >= 0
    assert trainer.global_step == 6
    print(rates.lrs)

    rich = L.Trainer(
        fast_dev_run=True, accelerator="cpu", callbacks=[RichProgressBar(leave=True), RichModelSummary()]
    )
    rich.fit(BoringModel())


if __name__ == "__main__":
    main()
