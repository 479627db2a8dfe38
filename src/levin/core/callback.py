"""Callback: code that joins a run without touching the module."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from levin.core.hooks import CallbackHooks, CheckpointHooks, ModelHooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer

P = ParamSpec("P")
R = TypeVar("R")


def listener(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, Trainer, LightningModule, P], R]:
    """The callback's form of a module's hook: the trainer and the module come before its arguments."""

    @functools.wraps(method)
    def do_nothing(self: Any, _: Trainer, __: LightningModule, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self, *args, **kwargs)

    first, *rest = inspect.signature(method).parameters.values()
    ours = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("trainer", "pl_module")
    ]
    do_nothing.__signature__ = inspect.Signature([first, *ours, *rest])  # type: ignore[attr-defined]
    do_nothing.__qualname__ = f"Callback.{method.__name__}"
    do_nothing.__module__ = __name__
    return do_nothing


class Callback:
    """Override the hooks you need; the others are never called.

    Each hook gets the trainer and the module before its own arguments, and runs before the module's hook of
    the same name. A callback changes a run through the trainer's public attributes (``trainer.should_stop =
    True``) and may call ``self.log`` wherever the module may.

    Attributes:
        order: Callbacks run in the order of this number, then in the order in which they were given. Those
            that search for settings have -10, checkpoints 100, all others 0.
        monitors: Whether `on_train_epoch_end` waits until the module's has run, so that it sees what was
            logged there.
    """

    order: int = 0
    monitors: bool = False

    setup = listener(ModelHooks.setup)
    on_fit_start = listener(ModelHooks.on_fit_start)
    on_fit_end = listener(ModelHooks.on_fit_end)
    on_sanity_check_start = listener(CallbackHooks.on_sanity_check_start)
    on_sanity_check_end = listener(CallbackHooks.on_sanity_check_end)
    on_train_start = listener(ModelHooks.on_train_start)
    on_train_end = listener(ModelHooks.on_train_end)
    on_train_epoch_start = listener(ModelHooks.on_train_epoch_start)
    on_train_epoch_end = listener(ModelHooks.on_train_epoch_end)
    on_train_batch_start = listener(ModelHooks.on_train_batch_start)
    on_train_batch_end = listener(ModelHooks.on_train_batch_end)
    on_before_zero_grad = listener(ModelHooks.on_before_zero_grad)
    on_before_backward = listener(ModelHooks.on_before_backward)
    on_after_backward = listener(ModelHooks.on_after_backward)
    on_before_optimizer_step = listener(ModelHooks.on_before_optimizer_step)
    on_validation_start = listener(ModelHooks.on_validation_start)
    on_validation_end = listener(ModelHooks.on_validation_end)
    on_validation_epoch_start = listener(ModelHooks.on_validation_epoch_start)
    on_validation_epoch_end = listener(ModelHooks.on_validation_epoch_end)
    on_validation_batch_start = listener(ModelHooks.on_validation_batch_start)
    on_validation_batch_end = listener(ModelHooks.on_validation_batch_end)
    on_test_start = listener(ModelHooks.on_test_start)
    on_test_end = listener(ModelHooks.on_test_end)
    on_test_epoch_start = listener(ModelHooks.on_test_epoch_start)
    on_test_epoch_end = listener(ModelHooks.on_test_epoch_end)
    on_test_batch_start = listener(ModelHooks.on_test_batch_start)
    on_test_batch_end = listener(ModelHooks.on_test_batch_end)
    on_predict_start = listener(ModelHooks.on_predict_start)
    on_predict_end = listener(ModelHooks.on_predict_end)
    on_predict_epoch_start = listener(ModelHooks.on_predict_epoch_start)
    on_predict_epoch_end = listener(ModelHooks.on_predict_epoch_end)
    on_predict_batch_start = listener(ModelHooks.on_predict_batch_start)
    on_predict_batch_end = listener(ModelHooks.on_predict_batch_end)
    on_save_checkpoint = listener(CheckpointHooks.on_save_checkpoint)
    on_load_checkpoint = listener(CheckpointHooks.on_load_checkpoint)
    on_exception = listener(CallbackHooks.on_exception)
    teardown = listener(ModelHooks.teardown)

    # both are given by the trainer when a run begins, and taken away when it ends
    log: Callable[..., None]
    log_dict: Callable[..., None]

    @property
    def state_key(self) -> str:
        """The name under which this callback's state stands in a checkpoint: two callbacks need two names."""
        return type(self).__qualname__

    def _generate_state_key(self, **kwargs: Any) -> str:
        """A `state_key` that tells callbacks of one class apart by their arguments."""
        return f"{type(self).__qualname__}{kwargs!r}"

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: plain containers, numbers, strings and tensors."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Checkpoint(Callback):
    """The base of callbacks that write checkpoints.

    They run after all others, and where there is one, there is no default `ModelCheckpoint`.
    """

    order = 100
    monitors = True
