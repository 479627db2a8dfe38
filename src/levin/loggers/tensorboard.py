"""TensorBoardLogger: event files for TensorBoard."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import torch

from levin.loggers.base import DirectoryLogger, rank_zero_experiment
from levin.loggers.params import as_params, flatten, scalar, write_hparams
from levin.utils import paths
from levin.utils.apply import move_data_to_device
from levin.utils.former_members import had
from levin.utils.imports import available, require
from levin.utils.rank import rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    from argparse import Namespace

    from torch import nn
    from torch.utils.tensorboard import SummaryWriter

    from levin.utils.paths import PathLike


@had(log_hyperparams_metrics="Use `log_hyperparams(params, metrics)`.")
class TensorBoardLogger(DirectoryLogger):
    """Writes to ``<save_dir>/<name>/version_<n>/<sub_dir>``, for ``tensorboard --logdir <save_dir>``.

    Needs the package tensorboard (``pip install tensorboard``), which is imported when the logger
    first writes. Hyper-parameters go to the tab HPARAMS and, as they were given, to ``hparams.yaml``.

    Example::

        from levin.loggers import TensorBoardLogger

        trainer = levin.Trainer(logger=TensorBoardLogger("logs", name="mnist"))

    Args:
        save_dir: The directory of all experiments.
        name: The experiment, a sub-directory; None or an empty text for none.
        version: A number ``n`` for ``version_n``, or the whole name of the directory; by default the next
            free number.
        log_graph: Whether to write the model's graph; the module needs an ``example_input_array`` for that.
        default_hp_metric: Whether hyper-parameters logged without metrics get one, ``hp_metric`` = -1:
            TensorBoard shows hyper-parameters only with a metric. Log ``hp_metric`` yourself to fill it.
        prefix: Put before the name of every metric, with a ``-`` between them.
        sub_dir: A directory below the version's; ``~`` and ``$NAME`` in it are replaced.
        **kwargs: For ``torch.utils.tensorboard.SummaryWriter``, such as ``flush_secs`` or
            ``filename_suffix``.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(
        self,
        save_dir: PathLike,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: PathLike | None = None,
        **kwargs: Any,
    ) -> None:
        if not available("tensorboard"):
            require("tensorboard")  # raises, and says what to install
        super().__init__(save_dir, name, version, prefix)
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._writer_options = kwargs
        self._hparams_are_saved = True
        self.hparams: dict[str, Any] = {}
        self._last_step = -1

    @property
    def sub_dir(self) -> str | None:
        """The directory below the version's, as it was given, or None."""
        return self._sub_dir

    @property
    def log_dir(self) -> str:
        """``<save_dir>/<name>/version_<n>/<sub_dir>``."""
        log_dir = super().log_dir
        return log_dir if self._sub_dir is None else paths.join(log_dir, _expand(self._sub_dir))

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The ``SummaryWriter``; asking for it makes the directory and an event file."""
        if self._experiment is None:
            from torch.utils.tensorboard import SummaryWriter

            self._claim_version()
            paths.makedirs(self.log_dir)
            self._experiment = SummaryWriter(log_dir=self.log_dir, **self._writer_options)
        writer: SummaryWriter = self._experiment
        return writer

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write one point of each metric.

        Args:
            metrics: Name -> number, or a dict of numbers that are drawn into one picture.
            step: Where on the x-axis; None leaves it to TensorBoard.

        Raises:
            ValueError: A value is neither a number nor a dict of numbers.
        """
        writer = self.experiment
        self._last_step = max(self._last_step, -1 if step is None else step)
        for name, value in self._prefixed(metrics).items():
            if isinstance(value, dict):
                writer.add_scalars(name, value, step)
            else:
                writer.add_scalar(name, _number(name, value), step)

    @rank_zero_only
    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace | None = None,
        metrics: dict[str, float] | float | None = None,
        step: int | None = None,
    ) -> None:
        """Write hyper-parameters, with the metrics that TensorBoard shows beside them.

        Args:
            params: Nested as they may be; the tab HPARAMS gets them flat, as ``optimizer/lr``.
            metrics: The metrics, or the value of ``hp_metric``; by default ``hp_metric`` is -1, unless
                ``default_hp_metric=False``.
            step: Where on the x-axis the metrics are; 0 by default.
        """
        self.hparams.update(as_params(params))
        self._hparams_are_saved = False
        if metrics is None:
            metrics = {"hp_metric": -1} if self._default_hp_metric else {}
        elif not isinstance(metrics, dict):
            metrics = {"hp_metric": metrics}
        if not metrics:
            return
        self.log_metrics(metrics, 0 if step is None else step)
        from torch.utils.tensorboard.summary import hparams

        names = dict.fromkeys(self._prefixed(metrics), 0)  # the values are those just written
        for summary in hparams(flatten(as_params(params)), names):  # type: ignore[no-untyped-call]
            # not `add_hparams`, which opens a second event file
            self.experiment._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]  # noqa: SLF001

    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Any = None) -> None:
        """Write the model's graph, if the logger was built with ``log_graph=True``.

        Args:
            model: Traced on one input.
            input_array: That input; by default the module's ``example_input_array``. Without either a warning
                says so.
        """
        if not self._log_graph:
            return
        example = getattr(model, "example_input_array", None) if input_array is None else input_array
        if example is None:
            rank_zero_warn(
                "The graph cannot be written to TensorBoard without an input: "
                "set `example_input_array` on the module, or give `input_array`."
            )
            return
        parameter = next(model.parameters(), None)
        if parameter is not None:
            example = move_data_to_device(example, parameter.device)
        with warnings.catch_warnings(), torch.no_grad():
            # TensorBoard's writer traces; that this is deprecated is nothing the user can change
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.trace", category=DeprecationWarning)
            self.experiment.add_graph(model, example)

    @rank_zero_only
    def save(self) -> None:
        """Flush the event file and write ``hparams.yaml``, if there are new hyper-parameters."""
        if self._experiment is not None:
            self._experiment.flush()
        if not self._hparams_are_saved:
            write_hparams(paths.join(self.log_dir, self.NAME_HPARAMS_FILE), self.hparams)
            self._hparams_are_saved = True

    @rank_zero_only
    def position(self) -> dict[str, Any]:
        """The last step that points were written for, and where they are."""
        return {"log_dir": self.log_dir, "last_step": self._last_step}

    @rank_zero_only
    def go_on(self, position: Any) -> None:
        """Let TensorBoard leave out the points that were written here after the checkpoint."""
        if not isinstance(position, dict) or position.get("log_dir") != self.log_dir:
            return
        self._last_step = position.get("last_step", -1)
        events = require("tensorboard.compat.proto.event_pb2")
        start = events.SessionLog(status=events.SessionLog.START)
        begun = events.Event(step=self._last_step + 1, session_log=start)
        self.experiment._get_file_writer().add_event(begun, self._last_step + 1)  # type: ignore[no-untyped-call]  # noqa: SLF001

    @rank_zero_only
    def finalize(self, status: str) -> None:  # noqa: ARG002  # the base's signature
        """Write everything out and close the event file; writing again opens another one beside it."""
        self.save()
        if self._experiment is not None:
            self._experiment.close()


def _expand(path: str) -> str:
    return os.path.expanduser(os.path.expandvars(path))


def _number(name: str, value: Any) -> Any:
    try:
        value = scalar(value)
        float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"TensorBoard takes a number, or a dict of numbers, but {name!r} is {value!r}."
        ) from error
    return value
