"""What can be added to a run without touching the loop.

A callback is an object with some of the hooks of :class:`~levin.core.callback.Callback`; the Trainer takes
a list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.callbacks.accumulation import GradientAccumulationScheduler
    from levin.callbacks.early_stopping import EarlyStopping
    from levin.callbacks.exception_checkpoint import OnExceptionCheckpoint
    from levin.callbacks.lambda_callback import LambdaCallback
    from levin.callbacks.lr_monitor import LearningRateMonitor
    from levin.callbacks.model_checkpoint import ModelCheckpoint
    from levin.callbacks.model_summary import ModelSummary, RichModelSummary
    from levin.callbacks.prediction_writer import BasePredictionWriter
    from levin.callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar
    from levin.callbacks.timer import Timer
    from levin.core.callback import Callback, Checkpoint

__all__ = [
    "BasePredictionWriter",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "OnExceptionCheckpoint",
    "ProgressBar",
    "RichModelSummary",
    "RichProgressBar",
    "TQDMProgressBar",
    "Timer",
]

# The same names as under TYPE_CHECKING, and where each lives.
_HOMES = {
    "BasePredictionWriter": "levin.callbacks.prediction_writer",
    "Callback": "levin.core.callback",
    "Checkpoint": "levin.core.callback",
    "EarlyStopping": "levin.callbacks.early_stopping",
    "GradientAccumulationScheduler": "levin.callbacks.accumulation",
    "LambdaCallback": "levin.callbacks.lambda_callback",
    "LearningRateMonitor": "levin.callbacks.lr_monitor",
    "ModelCheckpoint": "levin.callbacks.model_checkpoint",
    "ModelSummary": "levin.callbacks.model_summary",
    "OnExceptionCheckpoint": "levin.callbacks.exception_checkpoint",
    "ProgressBar": "levin.callbacks.progress",
    "RichModelSummary": "levin.callbacks.model_summary",
    "RichProgressBar": "levin.callbacks.progress",
    "TQDMProgressBar": "levin.callbacks.progress",
    "Timer": "levin.callbacks.timer",
}

load_on_use(__name__, _HOMES)
