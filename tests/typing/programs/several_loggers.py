"""Loggers that come with levin, and one of one's own."""

from argparse import Namespace
from typing import Any

from torch import Tensor

import levin as L
from levin.loggers import CSVLogger, Logger, TensorBoardLogger
from levin.testing import BoringModel
from levin.utils.rank import rank_zero_only


class MemoryLogger(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.params: dict[str, Any] = {}
        self.status = ""

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> int:
        return 0

    @property
    def experiment(self) -> list[tuple[int | None, dict[str, float]]]:
        return self.rows

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self.params.update(vars(params) if isinstance(params, Namespace) else params)

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self.status = status


class Told(BoringModel):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self(batch).mean()
        self.log("loss", loss)
        if isinstance(self.logger, TensorBoardLogger) and batch_idx == 0:
            writer: Any = self.logger.experiment
            writer.add_scalar("by hand", loss.item(), self.global_step)
        for logger in self.loggers:
            logger.log_metrics({"twice": 2 * loss.item()}, step=self.global_step)
        return loss


def main() -> None:
    mine = MemoryLogger()
    csv = CSVLogger("logs", name="trial", flush_logs_every_n_steps=1)
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=0,
        log_every_n_steps=1,
        logger=[TensorBoardLogger("logs", name="trial", default_hp_metric=False), csv, mine],
        accelerator="cpu",
        enable_checkpointing=False,
    )
    trainer.fit(Told(lr=0.2))
    assert mine.params["lr"] == 0.2
    assert mine.status == "success"
    assert len(mine.rows) == 4
    first: Logger | None = trainer.logger
    assert first is not None
    print(first.log_dir, csv.log_dir, trainer.log_dir, mine.version)


if __name__ == "__main__":
    main()
