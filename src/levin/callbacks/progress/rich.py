"""RichProgressBar: progress with the package rich."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from levin.callbacks.progress.batches import BatchProgressBar, Stage
from levin.utils.imports import available, require

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.style import Style

    from levin.callbacks.progress.base import Metrics
    from levin.trainer.trainer import Trainer


@dataclass(frozen=True)
class RichProgressBarTheme:
    """How a `RichProgressBar` looks; styles are rich's, such as ``"bold red"`` or ``"#6206E0"``.

    Attributes:
        description: Style of the text before the bar.
        progress_bar: Style of the bar.
        progress_bar_finished: Style of a bar that is full.
        progress_bar_pulse: Style of a bar whose end nobody knows.
        batch_progress: Style of the counts.
        time: Style of the time that has gone by and that is left.
        processing_speed: Style of the batches per second.
        metrics: Style of the metrics.
        metrics_text_delimiter: What stands between two metrics.
        metrics_format: Format of a metric that is a float.
    """

    description: str | Style = ""
    progress_bar: str | Style = "#6206E0"
    progress_bar_finished: str | Style = "#6206E0"
    progress_bar_pulse: str | Style = "#6206E0"
    batch_progress: str | Style = ""
    time: str | Style = "dim"
    processing_speed: str | Style = "dim underline"
    metrics: str | Style = "italic"
    metrics_text_delimiter: str = " "
    metrics_format: str = ".3f"


_DEFAULT_THEME = RichProgressBarTheme()


class RichProgressBar(BatchProgressBar):
    """Shows a bar for the epoch, one below it for its validation, and bars for test and prediction.

    Where standard output is neither a terminal nor a notebook it writes plain lines instead, a few a minute
    at most, and rich is not even loaded.

    Args:
        refresh_rate: The bar advances every this many batches, with the last one, and at least once a second;
            0 switches it off. However small it is, the bar is drawn at most ten times a second.
        leave: Whether the bar of each epoch stays, rather than being used again.
        theme: How it looks.
        console_kwargs: For a ``rich.console.Console`` of its own, such as ``{"stderr": True}``; without them
            it is rich's common one.

    Raises:
        ModuleNotFoundError: rich is not installed.
    """

    _patience_s = 1.0

    def __init__(
        self,
        refresh_rate: int = 100,
        leave: bool = False,
        theme: RichProgressBarTheme = _DEFAULT_THEME,
        console_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not available("rich"):
            require("rich")  # raises, and says what to install
        super().__init__(refresh_rate, leave)
        self.theme = theme
        self.progress: Progress | None = None
        self._console_kwargs = console_kwargs or {}
        self._console: Any = None
        self._tasks: dict[Stage, Task] = {}

    @property
    def is_live(self) -> bool:
        """Whether a bar can be drawn; a console of its own knows that best. Otherwise there are lines."""
        if not self._console_kwargs:
            return super().is_live
        console = self._own_console()
        return bool(console.is_terminal or console.is_jupyter)

    def _own_console(self) -> Any:
        if self._console is None:
            module = require("rich.console")
            self._console = (
                module.Console(**self._console_kwargs)
                if self._console_kwargs
                else require("rich").get_console()
            )
        return self._console

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Return the columns, left to right, without that of the metrics. Override it to change them.

        Args:
            trainer: The trainer whose run is shown.

        Returns:
            Objects that ``rich.progress.Progress`` takes. In the texts of a ``TextColumn`` there are, besides
            rich's own fields, ``{task.fields[counts]}``, ``{task.fields[times]}``, ``{task.fields[speed]}``
            and ``{task.fields[metrics]}``.
        """
        rich, theme = require("rich.progress"), self.theme
        return [
            rich.TextColumn("{task.description}", style=theme.description),
            rich.BarColumn(
                style="bar.back",
                complete_style=theme.progress_bar,
                finished_style=theme.progress_bar_finished,
                pulse_style=theme.progress_bar_pulse,
            ),
            rich.TextColumn("{task.fields[counts]}", style=theme.batch_progress),
            rich.TextColumn("{task.fields[times]}", style=theme.time),
            rich.TextColumn("{task.fields[speed]}", style=theme.processing_speed),
        ]

    def _metrics_column(self) -> Any:
        column = require("rich.table").Column()  # wraps, unlike the columns before it
        text_column = require("rich.progress").TextColumn
        return text_column(
            "{task.fields[metrics]}", style=self.theme.metrics, markup=False, table_column=column
        )

    @property
    def train_progress_bar(self) -> Task:
        """The bar of the training."""
        return self._task("train")

    @property
    def val_sanity_check_bar(self) -> Task:
        """The bar of the sanity check."""
        return self._task("sanity_check")

    @property
    def val_progress_bar(self) -> Task:
        """The bar of the validation."""
        return self._task("validate")

    @property
    def test_progress_bar(self) -> Task:
        """The bar of the test."""
        return self._task("test")

    @property
    def predict_progress_bar(self) -> Task:
        """The bar of the prediction."""
        return self._task("predict")

    def _task(self, stage: Stage) -> Task:
        try:
            return self._tasks[stage]
        except KeyError:
            raise TypeError(f"There is no bar for {stage!r} now: it is there while that goes on.") from None

    def refresh(self) -> None:
        """Draw the bars as they are now."""
        if self.progress is not None:
            self.progress.refresh()

    def print(self, *args: Any, sep: str = " ", end: str = "\n", **kwargs: Any) -> None:
        """Print above the bars."""
        if self.progress is not None:
            self._console.print(*args, sep=sep, end=end, **kwargs)
        else:
            super().print(*args, sep=sep, end=end, **kwargs)

    def _epoch_description(self, trainer: Trainer) -> str:
        of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs - 1}"
        return f"Epoch {trainer.current_epoch}{of}"

    def _loader_description(self, description: str, dataloader_idx: int) -> str:
        return f"{description} DataLoader {dataloader_idx}" if dataloader_idx else description

    def _open(self, stage: Stage) -> None:
        if not self._is_drawn:
            return
        if self.progress is None:
            progress = require("rich.progress").Progress
            columns = [*self.configure_columns(self.trainer), self._metrics_column()]
            self.progress = progress(*columns, auto_refresh=False, console=self._own_console())
            self.progress.start()
        description = {
            "sanity_check": self.sanity_check_description,
            "train": self.train_description,
            "validate": self.validation_description,
            "test": self.test_description,
            "predict": self.predict_description,
        }[stage]
        if stage in self._tasks:
            self._tasks[stage].visible = True
            return
        fields = {"counts": "", "times": "", "speed": "", "metrics": "", "first": 0}
        added = self.progress.add_task(description, total=None, visible=False, **fields)  # type: ignore[arg-type]
        self._tasks[stage] = next(task for task in self.progress.tasks if task.id == added)
        self._tasks[stage].visible = True

    def _restart(self, stage: Stage, description: str, total: float, batch: int) -> None:
        if self.progress is None:
            return
        task = self._task(stage)
        if stage == "train" and self._leave and task.fields["counts"]:
            # what stays is printed above the bar, which then is used again: as fast after many epochs as
            # after one
            self._console.print(self.progress.make_tasks_table([task]))
        # not `Progress.reset`, which forgets the fields, and draws
        task.total = None if math.isinf(total) else total
        task.start_time, task.stop_time, task.finished_time = self.progress.get_time(), None, None
        task.description, task.completed, task.fields["first"] = description, batch, batch
        self._draw_now(stage)

    def _advance(self, stage: Stage, batch: int) -> None:
        if self.progress is not None:
            self._tasks[stage].completed = batch

    def _draw(self, stage: Stage, metrics: Metrics | None) -> None:
        if self.progress is None:
            return
        task = self._task(stage)
        if task.finished_time is None and task.completed == task.total:
            task.finished_time = task.elapsed
        self._write_fields(task)
        if metrics is not None:
            task.fields["metrics"] = self._metrics_text(metrics)
        self.refresh()

    @staticmethod
    def _write_fields(task: Task) -> None:
        speed = _speed(task)
        total = "--" if task.total is None else int(task.total)
        times = f"{_clock_time(_seconds_gone(task))} • {_clock_time(_seconds_left(task, speed))}"
        task.fields.update(
            counts=f"{int(task.completed)}/{total}", times=times, speed=f"{speed or 0.0:.2f}it/s"
        )

    def _metrics_text(self, metrics: Metrics) -> str:
        spec = self.theme.metrics_format
        texts = [
            f"{name}: {value:{spec}}" if isinstance(value, float) else f"{name}: {value}"
            for name, value in metrics.items()
        ]
        return self.theme.metrics_text_delimiter.join(texts)

    def _close(self, stage: Stage) -> None:
        if self.progress is None:
            return
        is_inner = stage == "validate" and "train" in self._tasks
        if is_inner or stage == "sanity_check":
            self._tasks[stage].visible = False
        if not is_inner:
            self._close_all()

    def _close_all(self) -> None:
        if self.progress is not None:
            self.progress.stop()
        self.progress, self._tasks = None, {}

    def __getstate__(self) -> dict[str, Any]:
        # a console holds a terminal, which is not another process's
        return {**self.__dict__, "progress": None, "_console": None, "_tasks": {}}


def _seconds_gone(task: Task) -> float | None:
    return task.elapsed if task.finished_time is None else task.finished_time


def _speed(task: Task) -> float | None:
    seconds = _seconds_gone(task)
    return (task.completed - task.fields["first"]) / seconds if seconds else None


def _seconds_left(task: Task, speed: float | None) -> float | None:
    return (task.total - task.completed) / speed if speed and task.total is not None else None


def _clock_time(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))
