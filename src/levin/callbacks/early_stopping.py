"""EarlyStopping: end a training that no longer gets better."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from levin.callbacks.monitored import agreed_value, not_logged
from levin.core.callback import Callback
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import log, rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer


class EarlyStoppingReason(Enum):
    """Why `EarlyStopping` ended a training."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


class EarlyStopping(Callback):
    """Watch a metric, and end the training when it has stopped improving.

    All ranks decide upon the same value: where they logged different ones, upon their mean.

    Args:
        monitor: The metric.
        min_delta: What an improvement must exceed to count.
        patience: After how many looks without an improvement training ends. A look is a validation, or the
            end of a training epoch.
        verbose: Whether to log each improvement and the reason of the end.
        mode: Whether improving means getting smaller ("min") or larger ("max").
        strict: Whether a metric that was not logged is an error rather than a warning.
        check_finite: Whether a value of NaN or infinity ends training.
        stopping_threshold: A value that is good enough: one that is better ends training.
        divergence_threshold: A value beyond hope: one that is worse ends training.
        check_on_train_epoch_end: Whether to look at the end of training epochs rather than after validations.
            None: at the end of epochs, unless validations follow another rhythm than epochs.
        log_rank_zero_only: Whether only rank 0 logs what ``verbose`` asks for.

    Attributes:
        best_score: The best value so far.
        wait_count: Looks since then.
        stopped_epoch: The epoch in which training was ended; 0 if it was not.
        stopping_reason: Why, as an `EarlyStoppingReason`; ``stopping_reason_message`` says it in words.

    Raises:
        MisconfigurationException: If ``mode`` is neither "min" nor "max".
    """

    monitors = True
    mode_dict: ClassVar[dict[str, Callable[..., Tensor]]] = {"min": torch.lt, "max": torch.gt}

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
    ) -> None:
        super().__init__()
        if mode not in self.mode_dict:
            raise MisconfigurationException(f"EarlyStopping(mode={mode!r}) must be 'min' or 'max'.")
        self.monitor = monitor
        self.min_delta: float = min_delta if mode == "max" else -min_delta
        self.patience: int = patience
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.log_rank_zero_only = log_rank_zero_only
        self._check_on_train_epoch_end = check_on_train_epoch_end
        self.wait_count: int = 0
        self.stopped_epoch: int = 0
        self.best_score: Tensor = torch.tensor(torch.inf if mode == "min" else -torch.inf)
        self.stopping_reason: EarlyStoppingReason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None

    @property
    def monitor_op(self) -> Callable[..., Tensor]:
        """`torch.lt` or `torch.gt`: whether the first is better than the second."""
        return self.mode_dict[self.mode]

    # ------------------------------------------------------------------ when

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle when to look."""
        if self._check_on_train_epoch_end is None:
            is_usual = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1
            self._check_on_train_epoch_end = bool(is_usual)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, if it is at the end of epochs; at one that is cut off a run that goes on comes again."""
        is_over = not trainer.progress.is_cut_off
        if self._check_on_train_epoch_end and is_over and not self._should_skip_check(trainer):
            self._run_early_stopping_check(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, if it is after validations."""
        if not self._check_on_train_epoch_end and not self._should_skip_check(trainer):
            self._run_early_stopping_check(trainer)

    def _should_skip_check(self, trainer: Trainer) -> bool:
        return trainer.state.fn != "fit" or trainer.sanity_checking

    # ------------------------------------------------------------------ what to do

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:
            return
        metrics = trainer.callback_metrics
        current = agreed_value(trainer, metrics.get(self.monitor))
        if current is None:
            self._complain(metrics)
            return
        should_stop, message = self._judge(current.detach())
        if trainer.strategy.reduce_boolean_decision(should_stop, all=False):
            trainer.should_stop = True
            self.stopped_epoch = trainer.current_epoch
        if message and self.verbose:
            self._log(trainer, message)

    def _complain(self, metrics: dict[str, Tensor]) -> None:
        message = not_logged("EarlyStopping", self.monitor, metrics)
        if self.strict:
            raise RuntimeError(message)
        rank_zero_warn(f"{message} Nothing is decided meanwhile, as strict=False.", category=RuntimeWarning)

    def _judge(self, current: Tensor) -> tuple[bool, str]:
        """Whether to stop, and what there is to say."""
        reason, message = self._limit_passed(current)
        if reason is EarlyStoppingReason.NOT_STOPPED:
            if self._is_better(current - self.min_delta, self.best_score.to(current.device)):
                return False, self._improved(current)
            self.wait_count += 1
            if self.wait_count < self.patience:
                return False, ""
            reason = EarlyStoppingReason.PATIENCE_EXHAUSTED
            best = f"the best is {self.best_score:.3f}"
            message = f"{self.monitor} has not improved for {self.wait_count} checks; {best}."
        self.stopping_reason, self.stopping_reason_message = reason, f"Training ends: {message}"
        return True, self.stopping_reason_message

    def _limit_passed(self, current: Tensor) -> tuple[EarlyStoppingReason, str]:
        """Whether the value alone is reason enough."""
        name, value = self.monitor, float(current)
        if self.check_finite and not math.isfinite(value):
            best = f"the best before was {self.best_score:.3f}"
            return EarlyStoppingReason.NON_FINITE_METRIC, f"{name} is {value}; {best}."
        good, bad = self.stopping_threshold, self.divergence_threshold
        if good is not None and self._is_better(current, good):
            return EarlyStoppingReason.STOPPING_THRESHOLD, f"{name} is {value:.5g}, better than {good}."
        if bad is not None and self._is_better(-current, -bad):
            return EarlyStoppingReason.DIVERGENCE_THRESHOLD, f"{name} is {value:.5g}, worse than {bad}."
        return EarlyStoppingReason.NOT_STOPPED, ""

    def _is_better(self, left: Tensor, right: Tensor | float) -> bool:
        return bool(self.monitor_op(left, right))

    def _improved(self, current: Tensor) -> str:
        gain = abs(float(self.best_score) - float(current))
        by = f" by {gain:.3f}" if math.isfinite(gain) else ""
        self.best_score, self.wait_count = current, 0
        return f"Metric {self.monitor} improved{by} and is {current:.3f}."

    def _log(self, trainer: Trainer, message: str) -> None:
        rank = f"[rank {trainer.global_rank}] " if trainer.world_size > 1 else ""
        if trainer.is_global_zero or not self.log_rank_zero_only:
            log.info("%s%s", rank, message)

    # ------------------------------------------------------------------ state

    @property
    def state_key(self) -> str:
        """The name of the state in a checkpoint; it tells several apart by what they watch."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """The best value and how long ago it was."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score,
            "patience": self.patience,
            "stopping_reason": self.stopping_reason.value,
            "stopping_reason_message": self.stopping_reason_message,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; the patience is the former run's, too."""
        self.wait_count = state_dict["wait_count"]
        self.stopped_epoch = state_dict["stopped_epoch"]
        self.best_score = state_dict["best_score"]
        self.patience = state_dict["patience"]
        self.stopping_reason = EarlyStoppingReason(state_dict.get("stopping_reason", 0))
        self.stopping_reason_message = state_dict.get("stopping_reason_message")
