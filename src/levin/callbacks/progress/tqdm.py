"""TQDMProgressBar: progress with the package tqdm."""

from __future__ import annotations

import functools
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from levin.callbacks.progress.batches import BatchProgressBar, Stage, in_notebook
from levin.utils.imports import available, require

if TYPE_CHECKING:
    from levin.callbacks.progress.base import Metrics

# Numbers beside a bar have at least this many characters, so that the text does not jump.
_NUMBER_WIDTH = 5

# Any time at all keeps tqdm from drawing a bar that counts nothing yet.
_NOT_AT_ONCE_S = 1e-9


@functools.cache
def _tqdm_class() -> Any:
    """Return `Tqdm`, made when it is first needed: tqdm is not loaded before."""
    base = require("tqdm.auto" if in_notebook() and available("ipywidgets") else "tqdm").tqdm

    class Tqdm(base):  # type: ignore[misc, valid-type]
        """A tqdm bar whose numbers keep their width."""

        monitor_interval = 0  # no thread that looks after bars: they are drawn from here
        is_muted = False

        def refresh(self, *args: Any, **kwargs: Any) -> Any:
            """Draw the bar, unless that is somebody else's decision now."""
            return None if self.is_muted else super().refresh(*args, **kwargs)

        @staticmethod
        def format_num(n: float | str) -> str:
            """Return a number as it stands beside the bar: what is no count, in full width."""
            text = n if isinstance(n, str) else str(base.format_num(n))
            is_count = not isinstance(n, (float, str))
            return text if is_count else _padded(text)

    Tqdm.__module__ = __name__
    Tqdm.__qualname__ = "Tqdm"
    return Tqdm


def __getattr__(name: str) -> Any:
    """Make ``Tqdm`` the first time it is asked for."""
    if name == "Tqdm":
        return _tqdm_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")


def _padded(text: str) -> str:
    """Return the text of a number with zeros behind it, up to the common width; others as they are."""
    if "e" in text or "n" in text:  # 1e-8, nan, inf
        return text
    try:
        float(text)
    except ValueError:
        return text
    if "." not in text and len(text) < _NUMBER_WIDTH:
        text += "."
    return text.ljust(_NUMBER_WIDTH, "0") if "." in text else text


class TQDMProgressBar(BatchProgressBar):
    """Shows a bar for the epoch, one below it for its validation, and bars for test and prediction.

    Where standard output is neither a terminal nor a notebook it writes plain lines instead, a few a minute
    at most. To change how a bar looks, override ``init_train_tqdm`` and its likes::

        class MyBar(TQDMProgressBar):
            def init_validation_tqdm(self):
                bar = super().init_validation_tqdm()
                bar.set_description("running the validation")
                return bar

    Args:
        refresh_rate: The bar advances every this many batches, and with the last one; 0 switches it off. In
            Colab 1 means 20, and the environment variable ``TQDM_MINITERS`` raises a smaller rate. However
            small it is, the bar is drawn at most ten times a second.
        process_position: The number of bars of other processes above this one's.
        leave: Whether the bar of each epoch stays, rather than being used again.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__(_resolved_rate(refresh_rate), leave)
        self._process_position = process_position
        self._bars: dict[Stage, Any] = {}

    @property
    def process_position(self) -> int:
        """The number of bars of other processes above this one's."""
        return self._process_position

    @property
    def train_progress_bar(self) -> Any:
        """The bar of the training."""
        return self._bar("train")

    @train_progress_bar.setter
    def train_progress_bar(self, bar: Any) -> None:
        self._bars["train"] = bar

    @property
    def val_progress_bar(self) -> Any:
        """The bar of the validation, or of the sanity check."""
        return self._bar("validate")

    @val_progress_bar.setter
    def val_progress_bar(self, bar: Any) -> None:
        self._bars["validate"] = bar

    @property
    def test_progress_bar(self) -> Any:
        """The bar of the test."""
        return self._bar("test")

    @test_progress_bar.setter
    def test_progress_bar(self, bar: Any) -> None:
        self._bars["test"] = bar

    @property
    def predict_progress_bar(self) -> Any:
        """The bar of the prediction."""
        return self._bar("predict")

    @predict_progress_bar.setter
    def predict_progress_bar(self, bar: Any) -> None:
        self._bars["predict"] = bar

    def _bar(self, stage: Stage) -> Any:
        try:
            return self._bars[_slot(stage)]
        except KeyError:
            raise TypeError(f"There is no bar for {stage!r} yet: it is made when that begins.") from None

    def init_sanity_tqdm(self) -> Any:
        """Make the bar of the sanity check."""
        return self._new_bar(self.sanity_check_description, below=0, leave=False)

    def init_train_tqdm(self) -> Any:
        """Make the bar of the training."""
        return self._new_bar(self.train_description, below=0, leave=True)

    def init_validation_tqdm(self) -> Any:
        """Make the bar of a validation, which is below that of the training if there is one."""
        in_fit = self.trainer.state.fn == "fit"
        return self._new_bar(self.validation_description, below=int(in_fit), leave=not in_fit)

    def init_test_tqdm(self) -> Any:
        """Make the bar of the test."""
        return self._new_bar(self.test_description, below=0, leave=True)

    def init_predict_tqdm(self) -> Any:
        """Make the bar of the prediction."""
        return self._new_bar(self.predict_description, below=0, leave=True)

    def _new_bar(self, description: str, *, below: int, leave: bool) -> Any:
        width = _width_where_none_is_told()
        bar = _tqdm_class()(
            desc=description,
            position=2 * self._process_position + below,
            disable=not self._is_drawn,
            leave=leave,
            ncols=width,
            dynamic_ncols=width is None,
            file=sys.stdout,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
            delay=_NOT_AT_ONCE_S,
        )
        bar.delay = 0
        return bar

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the bars."""
        if self._is_drawn and self._bars:
            _tqdm_class().write(sep.join(map(str, args)), **kwargs)
        else:
            super().print(*args, sep=sep, **kwargs)

    def _open(self, stage: Stage) -> None:
        make = {
            "sanity_check": self.init_sanity_tqdm,
            "train": self.init_train_tqdm,
            "validate": self.init_validation_tqdm,
            "test": self.init_test_tqdm,
            "predict": self.init_predict_tqdm,
        }
        self._bars[_slot(stage)] = make[stage]()

    def _restart(self, stage: Stage, description: str, total: float, batch: int) -> None:
        bar = self._bar(stage)
        if stage == "train" and self._leave and (bar.n or bar.total is not None):
            bar.close()  # what is left on the screen is the last epoch's
            self._open(stage)
            bar = self._bar(stage)
        bar.set_description(description, refresh=False)
        bar.total = None if math.isinf(total) else total
        bar.is_muted = True
        bar.reset(bar.total)
        bar.is_muted = False
        bar.initial = bar.n = batch
        self._draw_now(stage)

    def _advance(self, stage: Stage, batch: int) -> None:
        self._bars[_slot(stage)].n = batch

    def _draw(self, stage: Stage, metrics: Metrics | None) -> None:
        bar = self._bars[_slot(stage)]
        if metrics is not None:
            bar.set_postfix(metrics, refresh=False)
        bar.refresh()

    def _close(self, stage: Stage) -> None:
        self._bars[_slot(stage)].close()

    def _close_all(self) -> None:
        for bar in self._bars.values():
            bar.close()

    def __getstate__(self) -> dict[str, Any]:
        # bars hold a terminal, which is not another process's
        return {**self.__dict__, "_bars": {}}


def _slot(stage: Stage) -> Stage:
    """Return under which name a bar is kept: the sanity check is a validation too."""
    return "validate" if stage == "sanity_check" else stage


def _width_where_none_is_told() -> int | None:
    """Return 80 in a terminal that says it is 0 wide, as those that record sessions do; otherwise None."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or something in its place
        return None
    return None if columns else 80


def _resolved_rate(refresh_rate: int) -> int:
    if refresh_rate <= 0:
        return 0
    if refresh_rate == 1 and "COLAB_GPU" in os.environ:
        return 20  # Colab's output cell stalls when it is written to more often
    least = os.environ.get("TQDM_MINITERS", "")
    return max(refresh_rate, int(least)) if least.isdecimal() else refresh_rate
