"""BatchProgressBar: the bars that count batches follow the run here, and draw seldom."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from levin.callbacks.progress.base import Metrics, ProgressBar
from levin.callbacks.progress.lines import PlainLines, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer
    from levin.utils.types import STEP_OUTPUT

Stage = Literal["sanity_check", "train", "validate", "test", "predict"]

# A bar is drawn at most once in this time ...
DRAW_INTERVAL_S = 0.1
# ... and what must be drawn, such as the last batch of an epoch, may take this part of all time, and this
# long besides.
DRAW_SHARE = 0.05
DRAW_ALLOWANCE_S = 0.5


class BatchProgressBar(ProgressBar):
    """The base of bars that count batches: follows the run, and decides when to draw.

    Where a bar cannot be drawn, because standard output is a file or a pipe, it writes lines instead
    (`PlainLines`). What was logged is read only when something is drawn, at most ten times a second.

    A subclass has the methods `_open`, `_restart`, `_advance`, `_draw` and `_close`.

    Attributes:
        clock: Gives seconds; tests may set another one.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)

    # so long a bar may stand still between two multiples of the refresh rate
    _patience_s = math.inf

    def __init__(self, refresh_rate: int, leave: bool) -> None:
        super().__init__()
        self._refresh_rate = refresh_rate
        self._leave = leave
        self._lines: PlainLines | None = None
        self._epoch = 0
        self._batch, self._total = 0, 0.0  # of the stage that is being counted
        self._training = (0, 0.0)  # the same of the training, while a validation is
        self._began = self._drawn_at = self._next_draw = -math.inf
        self._drawing_s = 0.0

    @property
    def refresh_rate(self) -> int:
        """The bar advances every this many batches; 0 switches it off."""
        return self._refresh_rate

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown, as a bar or as lines."""
        return self._enabled and self._refresh_rate > 0

    def disable(self) -> None:
        """Show nothing from now on."""
        super().disable()
        self._lines = None

    @property
    def is_live(self) -> bool:
        """Whether a bar can be drawn: output goes to a terminal or a notebook. Else there are lines."""
        isatty = getattr(sys.stdout, "isatty", None)  # what others put in its place may have none
        return in_notebook() or (isatty is not None and isatty() and os.environ.get("TERM") != "dumb")

    # ------------------------------------------------------------------ what a subclass has

    def _open(self, stage: Stage) -> None:
        """A stage begins: its bar appears. Called too when nothing is to be drawn (`_is_drawn` is False)."""

    def _restart(self, stage: Stage, description: str, total: int | float, batch: int) -> None:
        """The bar of ``stage`` counts anew, up to ``total``; ``batch`` batches are done already."""

    def _advance(self, stage: Stage, batch: int) -> None:
        """``batch`` batches are done; nothing is drawn yet."""

    def _draw(self, stage: Stage, metrics: Metrics | None) -> None:
        """Draw the bar; with new metrics unless None."""

    def _close(self, stage: Stage) -> None:
        """A stage is over."""

    def _close_all(self) -> None:
        """The run is over, perhaps by an error: let go of the terminal."""

    def _epoch_description(self, trainer: Trainer) -> str:
        return f"Epoch {trainer.current_epoch}"

    def _loader_description(self, description: str, dataloader_idx: int) -> str:
        return f"{description} DataLoader {dataloader_idx}"

    @property
    def _is_drawn(self) -> bool:
        return self.is_enabled and self._lines is None

    # ------------------------------------------------------------------ when to draw

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get to know the trainer, and find out whether a bar can be drawn."""
        super().setup(trainer, pl_module, stage)
        self._lines = None
        if self.is_enabled and not self.is_live:
            self._lines = PlainLines(self.clock, _write)
        self._began, self._drawing_s = self.clock(), 0.0

    def _batch_done(self, stage: Stage, batch: int) -> None:
        """After each batch: cheap, unless something is to be shown."""
        self._batch = batch
        if self._lines is not None:
            if self._lines.batch_done():
                self._lines.cadence(self._position(stage), self._line_metrics(stage))
            return
        if not self.is_enabled:
            return
        last = batch == self._total
        if batch % self._refresh_rate and not last and self.clock() < self._drawn_at + self._patience_s:
            return
        self._advance(stage, batch)
        if last:
            self._draw_now(stage)
        elif self.clock() >= self._next_draw:
            self._timed_draw(stage)

    def _draw_now(self, stage: Stage) -> None:
        """Draw what should be seen even so soon after the last drawing, unless drawing takes too long."""
        allowed = DRAW_ALLOWANCE_S + DRAW_SHARE * (self.clock() - self._began)
        if self._is_drawn and self._drawing_s <= allowed:
            self._timed_draw(stage)

    def _timed_draw(self, stage: Stage) -> None:
        begin = self.clock()
        self._draw(stage, self._metrics() if stage == "train" else None)
        self._drawn_at = self.clock()
        took = self._drawn_at - begin
        self._next_draw = self._drawn_at + max(DRAW_INTERVAL_S, took / DRAW_SHARE)
        self._drawing_s += took

    # ------------------------------------------------------------------ stages

    def _begin(self, stage: Stage) -> None:
        self.reset_dataloader_idx_tracker()
        if self._lines is not None:
            self._lines.begin(self._position(stage) if stage == "train" else None)
        self._open(stage)

    def _count_from(self, stage: Stage, description: str, total: float, batch: int = 0) -> None:
        self._batch, self._total = batch, total
        self._restart(stage, description, total, batch)

    def _milestone(self, stage: Stage) -> None:
        """Something is over whose metrics are worth showing."""
        if self._lines is not None:
            self._lines.milestone(self._position(stage), lambda: self._line_metrics(stage))
        elif self.is_enabled:
            self._advance(stage, self._batch)  # an epoch may end between two multiples of the refresh rate
            self._draw_now(stage)

    def _end(self, stage: Stage) -> None:
        is_outermost = stage == "train" or self.trainer.state.fn != "fit"
        if self._lines is not None:
            if is_outermost:
                self._lines.final(self._position(stage), self._line_metrics(stage))
            self._lines.end()
        elif is_outermost and self.is_enabled:
            self._advance(stage, self._batch)
            self._draw_now(stage)
        self._close(stage)
        self.reset_dataloader_idx_tracker()

    def _position(self, stage: Stage) -> Position:
        trainer = self.trainer
        if stage == "train":
            of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs - 1}"
            remaining = _remaining_batches(trainer, self._epoch, self._batch, self._total)
            return Position(f"epoch {self._epoch}{of}  step", self._batch, self._total, remaining)
        label = {"sanity_check": "sanity check", "validate": "validation"}.get(stage, stage)
        if self._current_eval_dataloader_idx:
            label += f" dataloader {self._current_eval_dataloader_idx}"
        if trainer.state.fn == "fit":
            label = f"epoch {self._epoch}  {label}"
        return Position(label, self._batch, self._total, self._total - self._batch)

    def _line_metrics(self, stage: Stage) -> Metrics:
        if stage in ("sanity_check", "predict"):
            return {}
        # the version is the same in every line
        return {name: value for name, value in self._metrics().items() if name != "v_num"}

    def _metrics(self) -> Metrics:
        module = self.trainer.lightning_module
        assert module is not None
        return self.get_metrics(self.trainer, module)

    # ------------------------------------------------------------------ hooks

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the sanity check."""
        self._begin("sanity_check")

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close it."""
        self._end("sanity_check")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the training."""
        self._epoch, self._batch, self._total = trainer.current_epoch, 0, self.total_train_batches
        self._begin("train")
        if trainer.progress.unfinished:  # an epoch goes on that another process began
            self._count_from(
                "train", self._epoch_description(trainer), self._total, trainer.progress.unfinished
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the epoch's first batch."""
        self._epoch = trainer.current_epoch
        description = self._epoch_description(trainer)
        self._count_from("train", description, self.total_train_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch; draw if it is time."""
        self._batch_done("train", batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch's metrics."""
        self._milestone("train")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last state of things and close the bar."""
        self._end("train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of a validation, below that of the training."""
        if not trainer.sanity_checking:
            self._training = (self._batch, self._total)
            self._begin("validate")

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count anew where another loader begins."""
        if self.has_dataloader_changed(dataloader_idx):
            stage = self._evaluation_stage()
            sanity = stage == "sanity_check"
            name = self.sanity_check_description if sanity else self.validation_description
            description = self._loader_description(name, dataloader_idx)
            self._count_from(stage, description, self.total_val_batches_current_dataloader)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch; draw if it is time."""
        self._batch_done(self._evaluation_stage(), batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of the validation, and show what came out of it beside that of the training."""
        if trainer.sanity_checking:
            return
        self._end("validate")
        if trainer.state.fn == "fit":
            self._batch, self._total = self._training
            self._milestone("train")

    def _evaluation_stage(self) -> Stage:
        return "sanity_check" if self.trainer.sanity_checking else "validate"

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the test."""
        self._begin("test")

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count anew where another loader begins."""
        if self.has_dataloader_changed(dataloader_idx):
            description = self._loader_description(self.test_description, dataloader_idx)
            self._count_from("test", description, self.total_test_batches_current_dataloader)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch; draw if it is time."""
        self._batch_done("test", batch_idx + 1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of the test."""
        self._end("test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the prediction."""
        self._begin("predict")

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count anew where another loader begins."""
        if self.has_dataloader_changed(dataloader_idx):
            description = self._loader_description(self.predict_description, dataloader_idx)
            self._count_from("predict", description, self.total_predict_batches_current_dataloader)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch; draw if it is time."""
        self._batch_done("predict", batch_idx + 1)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of the prediction."""
        self._end("predict")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the terminal, so that the traceback is readable."""
        self._close_all()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the terminal."""
        self._close_all()


def in_notebook() -> bool:
    """Return whether this is a kernel of Jupyter or Colab, which draw bars although there is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell" or type(shell).__module__.startswith("google.colab")


def _remaining_batches(trainer: Trainer, epoch: int, batch: int, total: float) -> float:
    """Return the batches to the end of the fit, infinity if only the user knows when that is."""
    by_epochs = by_steps = math.inf
    if trainer.max_epochs not in (None, -1):
        by_epochs = (trainer.max_epochs - epoch) * total - batch
    if trainer.max_steps not in (None, -1):
        by_steps = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
    return max(0, min(by_epochs, by_steps))


def _write(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()  # whoever follows the file wants it now
