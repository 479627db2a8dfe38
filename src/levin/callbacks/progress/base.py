"""ProgressBar: what every progress bar knows of a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.utils.former_members import Keyword, took
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer

Metrics = dict[str, int | str | float | dict[str, float]]


class ProgressBar(Callback):
    """The base of progress bars: descriptions, numbers of batches, and the metrics that they show.

    It draws nothing itself. Override the hooks that you need, such as `on_train_batch_end`; a trainer has at
    most one progress bar, and yours takes the place of the default one. On other ranks than 0 the trainer
    calls `disable`.
    """

    _trainer: Trainer | None = None
    _enabled: bool = True
    _current_eval_dataloader_idx: int | None = None

    @took(
        refresh_rate=Keyword("Use `TQDMProgressBar(refresh_rate=...)`."),
        process_position=Keyword("Use `TQDMProgressBar(process_position=...)`."),
    )
    def __init__(self) -> None:
        super().__init__()

    @property
    def trainer(self) -> Trainer:
        """The trainer, known from `setup` on.

        Raises:
            TypeError: No run has begun.
        """
        if self._trainer is None:
            raise TypeError(f"{type(self).__name__} has no trainer yet: it gets one when a run begins.")
        return self._trainer

    @property
    def sanity_check_description(self) -> str:
        """What the bar of the sanity check is called."""
        return "Sanity Checking"

    @property
    def train_description(self) -> str:
        """What the bar of the training is called before the first epoch."""
        return "Training"

    @property
    def validation_description(self) -> str:
        """What the bar of a validation is called."""
        return "Validation"

    @property
    def test_description(self) -> str:
        """What the bar of a test is called."""
        return "Testing"

    @property
    def predict_description(self) -> str:
        """What the bar of a prediction is called."""
        return "Predicting"

    @property
    def total_train_batches(self) -> int | float:
        """Batches of a training epoch; infinity if nobody knows."""
        total: int | float = self.trainer.num_training_batches
        return total

    @property
    def total_val_batches(self) -> int | float:
        """Batches of all validation loaders, if there is a validation in this epoch, otherwise 0."""
        every_n = self.trainer.check_val_every_n_epoch
        if every_n is not None and (self.trainer.current_epoch + 1) % every_n != 0:
            return 0
        total: int | float = sum(self.trainer.num_val_batches)
        return total

    @property
    def total_val_batches_current_dataloader(self) -> int | float:
        """Batches of the validation loader that is being run through, also in the sanity check."""
        trainer = self.trainer
        return self._of_current(
            trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        )

    @property
    def total_test_batches_current_dataloader(self) -> int | float:
        """Batches of the test loader that is being run through."""
        return self._of_current(self.trainer.num_test_batches)

    @property
    def total_predict_batches_current_dataloader(self) -> int | float:
        """Batches of the prediction loader that is being run through."""
        return self._of_current(self.trainer.num_predict_batches)

    def _of_current(self, totals: list[int | float]) -> int | float:
        index = self._current_eval_dataloader_idx
        if index is None:
            raise TypeError("No loader is being run through yet: its number comes with the first batch.")
        return totals[index]

    def has_dataloader_changed(self, dataloader_idx: int) -> bool:
        """Whether this is another loader than at the last call, which is remembered."""
        changed = self._current_eval_dataloader_idx != dataloader_idx
        self._current_eval_dataloader_idx = dataloader_idx
        return changed

    def reset_dataloader_idx_tracker(self) -> None:
        """Forget the loader: the next one is new, whichever it is."""
        self._current_eval_dataloader_idx = None

    @property
    def is_enabled(self) -> bool:
        """Whether the bar shows anything."""
        return self._enabled

    @property
    def is_disabled(self) -> bool:
        """Whether the bar shows nothing."""
        return not self.is_enabled

    def enable(self) -> None:
        """Show the bar again."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get to know the trainer; be silent on other ranks than 0."""
        self._trainer = trainer
        if not trainer.is_global_zero:
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Return what the bar shows beside the counts: ``v_num`` and what was logged with ``prog_bar=True``.

        Override it to show more or less::

            def get_metrics(self, trainer, pl_module):
                items = super().get_metrics(trainer, pl_module)
                items.pop("v_num", None)
                return items
        """
        standard, logged = get_standard_metrics(trainer), trainer.progress_bar_metrics
        for name in standard.keys() & logged.keys():
            rank_zero_warn(
                f"The progress bar shows a {name!r} of its own; what you logged under it takes its place. "
                "If that was not meant, choose another name, or leave out `prog_bar=True`."
            )
        return {**standard, **logged}

    def print(self, *args: Any, sep: str = " ", end: str = "\n", **kwargs: Any) -> None:
        """Print without disturbing the bar; `Trainer.print` comes here."""
        stream = kwargs.get("file") or sys.stdout
        stream.write(sep.join(map(str, args)) + end)


def get_standard_metrics(trainer: Trainer) -> Metrics:
    """Return ``{"v_num": version}`` of the loggers; of a version that is a text, the last four letters."""
    versions = [version for logger in trainer.loggers if (version := logger.version) is not None]
    if not versions:
        return {}
    distinct = list(dict.fromkeys(versions))
    version = distinct[0] if len(distinct) == 1 else "_".join(map(str, distinct))
    return {"v_num": version[-4:] if isinstance(version, str) else version}
