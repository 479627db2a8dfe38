"""ModelSummary and RichModelSummary: print the layers of the module when a fit begins."""

# ruff: noqa: ARG004  # who overrides `summarize` gets what the callback was built with
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.utils import model_summary
from levin.utils.imports import available, require
from levin.utils.rank import rank_zero_info

if TYPE_CHECKING:
    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer
    from levin.utils.model_summary import Table

# The widest that a table can be in a file.
_FILE_WIDTH = 500


class ModelSummary(Callback):
    """Logs a table of the module's layers and their parameters when a fit begins, from rank 0.

    If the module has an ``example_input_array``, the table also has the sizes of inputs and outputs, and
    FLOPs.

    Args:
        max_depth: How deep to go: 1 for the module's own layers, -1 for all, 0 for no table at all.
        **summarize_kwargs: Given to `summarize`, for a subclass that takes more.

    Raises:
        ValueError: ``max_depth`` is less than -1.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        model_summary.check_depth(max_depth)
        self._max_depth = max_depth
        self._summarize_kwargs = summarize_kwargs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the summary on all ranks, as the example input may need them all; print it on rank 0."""
        if not self._max_depth:
            return
        kind = model_summary.ModelSummary
        if getattr(trainer.strategy, "zero_stage_3", False):
            kind = model_summary.DeepSpeedSummary
        summary = kind(pl_module, max_depth=self._max_depth)
        if trainer.is_global_zero:
            self.summarize(
                summary.table(),
                summary.total_parameters,
                summary.trainable_parameters,
                summary.model_size,
                summary.total_training_modes,
                total_flops=summary.total_flops,
                **self._summarize_kwargs,
            )

    @staticmethod
    def summarize(
        summary_data: Table,
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Log the table; override it to do something else with it.

        Args:
            summary_data: The table by columns: (header, cells).
            total_parameters: How many numbers the parameters have.
            trainable_parameters: How many of them have a gradient.
            model_size: What they take, in MB.
            total_training_modes: How many modules are in which mode: ``{"train": n, "eval": m}``.
            total_flops: FLOPs of a forward pass, if there is an example input.
            **summarize_kwargs: What the callback was built with besides.
        """
        text = model_summary.format_table(
            summary_data,
            total_parameters,
            trainable_parameters,
            model_size,
            total_training_modes,
            total_flops,
        )
        rank_zero_info("\n%s", text)


class RichModelSummary(ModelSummary):
    """Prints the table of `ModelSummary` with the package rich, which is loaded then.

    Args:
        max_depth: How deep to go: 1 for the module's own layers, -1 for all, 0 for no table at all.
        **summarize_kwargs: For ``rich.table.Table``, besides ``header_style``, which is ``"bold magenta"``.

    Raises:
        ModuleNotFoundError: rich is not installed.
        ValueError: ``max_depth`` is less than -1.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        if not available("rich"):
            require("rich")  # raises, and says what to install
        super().__init__(max_depth, **summarize_kwargs)

    @staticmethod
    def summarize(
        summary_data: Table,
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Print the table and the totals; the arguments are those of `ModelSummary.summarize`."""
        rich_table, console = require("rich.table").Table, require("rich").get_console()
        table = rich_table(**{"header_style": "bold magenta", **summarize_kwargs})
        styles = {" ": "dim", "Name": "bold"}
        for header, _ in summary_data:
            is_number = header in ("Params", "Params per Device", "FLOPs", "In sizes", "Out sizes")
            table.add_column(
                header, style=styles.get(header), justify="right" if is_number else "left", overflow="fold"
            )
        for cells in zip(*(cells for _, cells in summary_data), strict=True):
            table.add_row(*(cell.strip() for cell in cells))
        grid = rich_table.grid(padding=(0, 1))
        grid.add_column(justify="right")
        grid.add_column()
        sums = (total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
        for name, value in model_summary.totals(summary_data, *sums):
            grid.add_row(f"[bold]{value.strip()}[/]", name)
        if not (console.is_terminal or console.is_jupyter):  # in a file a table is as wide as it needs to be
            console = require("rich.console").Console(file=console.file, width=_FILE_WIDTH)
        console.print(table)
        console.print(grid)
