"""CSVLogger: a table in a file, which everything can read."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from levin.loggers.base import DirectoryLogger, rank_zero_experiment
from levin.loggers.params import as_params, scalar, write_hparams
from levin.utils import paths
from levin.utils.rank import rank_zero_info, rank_zero_only

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping

    from levin.utils.paths import PathLike


class ExperimentWriter:
    """Keeps rows until they are saved, then appends them to ``metrics.csv``.

    There is a column for every name ever seen, sorted; a cell is empty where a row has no such value. The
    file grows by appending. It is written anew only when a new name appears: row by row into a new file that
    then takes the old one's place, so that there is a whole file at every moment. A file that is there
    already is continued.

    Args:
        log_dir: The directory to write to, which is made.
    """

    NAME_METRICS_FILE = "metrics.csv"
    NAME_HPARAMS_FILE = DirectoryLogger.NAME_HPARAMS_FILE

    def __init__(self, log_dir: PathLike) -> None:
        self.log_dir: str = str(log_dir)
        self.metrics_file_path: str = paths.join(self.log_dir, self.NAME_METRICS_FILE)
        self.hparams: dict[str, Any] = {}
        self.metrics: list[dict[str, Any]] = []  # the rows that are not in the file yet
        self.metrics_keys: list[str] = []  # the columns of the file
        self._hparams_are_saved = True
        self._next_step = 0
        self.num_rows: int = 0  # in the file and not yet in it
        self.newest_row: dict[str, Any] = {}
        paths.makedirs(self.log_dir)
        if paths.exists(self.metrics_file_path):
            self._continue_file()

    def log_hparams(self, params: Mapping[str, Any]) -> None:
        """Add hyper-parameters to those that `save` writes to ``hparams.yaml``."""
        self.hparams.update(params)
        self._hparams_are_saved = False

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """Keep one row.

        Args:
            metrics_dict: Name -> number, or a tensor with one.
            step: The value of the column ``step``; by default one more than that of the row before.
        """
        step = self._next_step if step is None else step
        self._next_step = step + 1
        self.num_rows += 1
        row = {**{key: scalar(value) for key, value in metrics_dict.items()}, "step": step}
        self.metrics.append(row)
        self.newest_row = row

    def save(self) -> None:
        """Write the hyper-parameters, if there are new ones, and the rows that are not in the file yet."""
        if not self._hparams_are_saved:
            write_hparams(paths.join(self.log_dir, self.NAME_HPARAMS_FILE), self.hparams)
            self._hparams_are_saved = True
        if not self.metrics:
            return
        new_keys = {key for row in self.metrics for key in row}.difference(self.metrics_keys)
        if new_keys:
            self._widen(new_keys)
        self._append(_rows_as_text(self.metrics, self.metrics_keys))
        self.metrics = []

    def cut(self, num_rows: int) -> None:
        """Take back the rows after so many."""
        self.save()
        if num_rows >= self.num_rows:
            return
        with paths.open_file(self.metrics_file_path, "r") as file:
            rows = list(csv.DictReader(file))[:num_rows]
        with paths.atomic_writer(self.metrics_file_path, "w") as file:
            writer = csv.DictWriter(file, self.metrics_keys, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self.num_rows = num_rows
        self.newest_row = dict(rows[-1]) if rows else {}

    def holds(self, num_rows: int, row: Mapping[str, str]) -> bool:
        """Whether the last of so many rows is that one."""
        self.save()
        if not 0 < num_rows <= self.num_rows:
            return False
        with paths.open_file(self.metrics_file_path, "r") as file:
            return _cells(list(csv.DictReader(file))[num_rows - 1]) == row

    def _widen(self, new_keys: set[str]) -> None:
        """Give the file columns for ``new_keys``, empty in the rows that it has."""
        keys = sorted({*self.metrics_keys, *new_keys})
        with paths.atomic_writer(self.metrics_file_path, "w") as new:
            writer = csv.DictWriter(new, keys, restval="", lineterminator="\n")
            writer.writeheader()
            if self.metrics_keys:
                with paths.open_file(self.metrics_file_path, "r") as old:
                    writer.writerows(csv.DictReader(old))
        self.metrics_keys = keys

    def _append(self, text: str) -> None:
        try:
            with paths.open_file(self.metrics_file_path, "a") as file:
                file.write(text)
        except (NotImplementedError, ValueError):
            # most object stores cannot append: there, and only there, the file is put anew
            with paths.open_file(self.metrics_file_path, "r") as old:
                text = old.read() + text
            with paths.atomic_writer(self.metrics_file_path, "w") as file:
                file.write(text)

    def _continue_file(self) -> None:
        """Take over an earlier process's columns, and cut off a last line that it did not finish."""
        with paths.open_file(self.metrics_file_path, "r") as file:
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            with paths.atomic_writer(self.metrics_file_path, "w") as file:
                file.write(whole)
        lines = list(csv.reader(io.StringIO(whole)))
        self.metrics_keys, self.num_rows = lines[0] if lines else [], max(len(lines) - 1, 0)
        if self.num_rows:
            self.newest_row = dict(zip(lines[0], lines[-1], strict=False))
        if self.metrics_keys:
            rank_zero_info(
                f"{self.metrics_file_path} holds rows of an earlier run: this one's come after them."
            )


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a row that are not empty, as the file has them."""
    return {key: str(value) for key, value in row.items() if value not in (None, "")}


def _rows_as_text(rows: Iterable[Mapping[str, Any]], keys: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, keys, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


class CSVLogger(DirectoryLogger):
    """Writes a table of the metrics to ``<save_dir>/<name>/version_<n>/metrics.csv``.

    It has a column for every metric, one for ``step`` and one for ``epoch``; hyper-parameters go to
    ``hparams.yaml`` beside it.

    Example::

        from levin.loggers import CSVLogger

        trainer = levin.Trainer(logger=CSVLogger("logs", name="mnist"))

    Args:
        save_dir: The directory of all experiments, local or a URL that fsspec knows.
        name: The experiment, a sub-directory; None or an empty text for none.
        version: A number ``n`` for ``version_n``, or the whole name of the directory; by default the next
            free number.
        prefix: Put before the name of every metric, with a ``-`` between them.
        flush_logs_every_n_steps: Rows are written to the file when this many steps have gone by; also by
            `save` and `finalize`.
    """

    def __init__(
        self,
        save_dir: PathLike,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        self._flush_every_n_steps = flush_logs_every_n_steps
        self._flushes = 0  # how many times that many steps had gone by at the last flush

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer; asking for it makes the directory."""
        if self._experiment is None:
            self._claim_version()
            self._experiment = ExperimentWriter(self.log_dir)
        writer: ExperimentWriter = self._experiment
        return writer

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep one row; write it out if enough steps have gone by."""
        self.experiment.log_metrics(self._prefixed(metrics), step)
        if step is not None and (step + 1) // self._flush_every_n_steps != self._flushes:
            self._flushes = (step + 1) // self._flush_every_n_steps
            self.save()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Add hyper-parameters to those of ``hparams.yaml``."""
        self.experiment.log_hparams(as_params(params))

    @rank_zero_only
    def save(self) -> None:
        """Write out the rows and hyper-parameters kept so far; nothing at all if there never were any."""
        if self._experiment is not None:
            self._experiment.save()

    @rank_zero_only
    def position(self) -> dict[str, Any]:
        """The number of rows, where they are, and the newest one: it tells a folder that was moved."""
        rows, newest = self.experiment.num_rows, self.experiment.newest_row
        return {"log_dir": self.log_dir, "rows": rows, "newest": _cells(newest)}

    @rank_zero_only
    def go_on(self, position: Any) -> None:
        """Cut off the rows that were written here after the checkpoint."""
        if not isinstance(position, dict) or "rows" not in position:
            return
        rows, newest = position["rows"], position.get("newest", {})
        if position.get("log_dir") == self.log_dir or self.experiment.holds(rows, newest):
            self.experiment.cut(rows)
