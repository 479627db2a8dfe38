"""Stop early, keep the best, and use it."""

from pathlib import Path

from torch import Tensor

import levin as L
from levin.callbacks import EarlyStopping, ModelCheckpoint, OnExceptionCheckpoint
from levin.testing import BoringModel


class Validated(BoringModel):
    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", float(self.current_epoch))


def main() -> None:
    best = ModelCheckpoint(
        dirpath=Path("kept"),
        filename="{epoch}-{step}",
        monitor="val/loss",
        mode="min",
        save_top_k=2,
        save_last="link",
        auto_insert_metric_name=False,
    )
    stop = EarlyStopping("val/loss", patience=1, mode="min", min_delta=0.0, check_finite=True)
    trainer = L.Trainer(
        max_epochs=5,
        limit_train_batches=2,
        limit_val_batches=1,
        callbacks=[best, stop, OnExceptionCheckpoint("failed")],
        accelerator="cpu",
        logger=False,
    )
    trainer.fit(Validated())

    score: Tensor | None = best.best_model_score
    kept: dict[str, Tensor] = best.best_k_models
    assert score is not None
    assert score.item() == 0.0
    print(best.best_model_path, best.last_model_path, sorted(kept), stop.stopped_epoch)

    first = trainer.checkpoint_callback
    assert isinstance(first, ModelCheckpoint)
    again = Validated.load_from_checkpoint(first.best_model_path, map_location="cpu")
    trainer.validate(again, verbose=False)
    trainer.validate(ckpt_path="best", verbose=False)
    trainer.save_checkpoint("mine.ckpt", weights_only=True)


if __name__ == "__main__":
    main()
