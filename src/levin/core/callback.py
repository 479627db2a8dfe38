# ruff: noqa: D102  # what a hook is for stands in core/hooks.py
"""Callback: code that joins a run without touching the module."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from levin.core.hooks import CallbackHooks, CheckpointHooks, ModelHooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer

C = TypeVar("C", bound=type)


def listener(method: Callable[..., Any]) -> Callable[..., Any]:
    """The callback's form of a module's hook: the trainer and the module come before its arguments."""

    @functools.wraps(method)
    def do_nothing(self: Any, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> Any:
        del trainer, pl_module  # they are for those who override it
        return method(self, *args, **kwargs)

    first, *rest = inspect.signature(method).parameters.values()
    ours = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("trainer", "pl_module")
    ]
    do_nothing.__signature__ = inspect.Signature([first, *ours, *rest])  # type: ignore[attr-defined]
    do_nothing.__qualname__ = f"Callback.{method.__name__}"
    do_nothing.__module__ = __name__
    return do_nothing


def _with_hooks(cls: C) -> C:
    """Give the class each hook that callbacks have, doing nothing."""
    for owner in (ModelHooks, CheckpointHooks, CallbackHooks):
        for name, method in vars(owner).items():
            if hasattr(method, "__hook__") and method.__hook__.callbacks:
                setattr(cls, name, listener(method))
    return cls


@_with_hooks
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

    # What `_with_hooks` gives, as type checkers and editors read it; a test holds it to core/hooks.py.
    if TYPE_CHECKING:
        # fmt: off
        def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None: ...
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any,
                                 batch_idx: int) -> int | None: ...
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any,
                               batch_idx: int) -> None: ...
        def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule,
                                optimizer: Optimizer) -> None: ...
        def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None: ...
        def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule,
                                     optimizer: Optimizer) -> None: ...
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any,
                                      batch_idx: int, dataloader_idx: int = 0) -> None: ...
        def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any,
                                    batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
        def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any,
                                batch_idx: int, dataloader_idx: int = 0) -> None: ...
        def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any,
                              batch_idx: int, dataloader_idx: int = 0) -> None: ...
        def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any,
                                   batch_idx: int, dataloader_idx: int = 0) -> None: ...
        def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any,
                                 batch_idx: int, dataloader_idx: int = 0) -> None: ...
        def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None: ...
        def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule,
                               checkpoint: dict[str, Any]) -> None: ...
        def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule,
                               checkpoint: dict[str, Any]) -> None: ...
        def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def on_exception(self, trainer: Trainer, pl_module: LightningModule,
                         exception: BaseException) -> None: ...
        # fmt: on

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
