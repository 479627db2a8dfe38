"""Every hook, its arguments and when it runs, said once.

A hook is a method that levin calls at a fixed place in a run. The classes below hold the do-nothing versions;
`LightningModule` and `LightningDataModule` inherit them, `Callback` gets each shared one through `listener`,
with the trainer and the module put in front of its arguments. A hook that nobody overrides is never called
(see `levin.trainer.dispatch`).

`HOOKS` lists them in the order of their definition; documentation and checks are derived from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from levin.utils.apply import move_data_to_device

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

F = TypeVar("F", bound=Callable[..., Any])


class LogRule(Enum):
    """What `self.log` may do in a hook: its defaults of on_step and on_epoch, and whether they are fixed."""

    STEP = (True, False, True)  # around a training batch: the value of this step
    BATCH = (False, True, True)  # around an evaluation batch: the mean over the run
    EPOCH = (False, True, False)  # once per epoch: nothing but the epoch's value makes sense

    @property
    def on_step(self) -> bool:
        """The default of ``on_step``."""
        return self.value[0]

    @property
    def on_epoch(self) -> bool:
        """The default of ``on_epoch``."""
        return self.value[1]

    @property
    def is_free(self) -> bool:
        """Whether the caller may choose otherwise."""
        return self.value[2]


@dataclass(frozen=True)
class HookSpec:
    """A hook's name, who may listen, and what `self.log` may do in it.

    Args:
        name: The method's name.
        log: The rule for `self.log`; None where logging is an error.
        callbacks: Whether callbacks have this hook, too.
    """

    name: str
    log: LogRule | None
    callbacks: bool


def hook(*, log: LogRule | None = None, callbacks: bool = True) -> Callable[[F], F]:
    """Mark a method as a hook."""

    def mark(fn: F) -> F:
        fn.__hook__ = HookSpec(fn.__name__, log, callbacks)  # type: ignore[attr-defined]  # read below, into HOOKS
        return fn

    return mark


class ModelHooks:
    """Hooks of a run: a module has them all, callbacks those that are not marked otherwise."""

    @hook()
    def setup(self, stage: str) -> None:
        """Build what depends on the data: on every process, when a fit, validate, test or predict begins."""

    @hook()
    def on_fit_start(self) -> None:
        """Called when fit begins, with model and optimizers in place, before the sanity check."""

    @hook()
    def on_fit_end(self) -> None:
        """Called when fit ends, after `on_train_end`."""

    @hook(log=LogRule.EPOCH)
    def on_train_start(self) -> None:
        """Called when training begins, after the sanity check."""

    @hook()
    def on_train_end(self) -> None:
        """Called when training ends, before anything is put away."""

    @hook(log=LogRule.EPOCH)
    def on_train_epoch_start(self) -> None:
        """Called before the first batch of each training epoch."""

    @hook(log=LogRule.EPOCH)
    def on_train_epoch_end(self) -> None:
        """Called after the last batch of each training epoch, and after the validation due at that batch."""

    @hook(log=LogRule.STEP)
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Called before each training batch, once it is on the device.

        Returns:
            A module may return -1 to skip the rest of the epoch.
        """

    @hook(log=LogRule.STEP)
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called after each training batch.

        Args:
            outputs: A dict: "loss" (detached, divided by ``accumulate_grad_batches``) and whatever else
                `training_step` returned; empty when it returned None.
            batch: The batch.
            batch_idx: Its number in this epoch.
        """

    @hook(log=LogRule.STEP)
    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """Called before the gradients are cleared: after `training_step`, and before `backward`."""

    @hook(log=LogRule.STEP)
    def on_before_backward(self, loss: Tensor) -> None:
        """Called before `backward`, with the loss divided by ``accumulate_grad_batches``."""

    @hook(log=LogRule.STEP)
    def on_after_backward(self) -> None:
        """Called after `backward`, before the optimizer steps; with fp16, gradients are still scaled."""

    @hook(log=LogRule.STEP)
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Called before the optimizer steps, with unscaled and not yet clipped gradients."""

    @hook(callbacks=False)
    def on_validation_model_zero_grad(self) -> None:
        """Clear the gradients before a validation inside fit, so that they take no memory meanwhile."""
        self.zero_grad()  # type: ignore[attr-defined]  # nn.Module's

    @hook(callbacks=False)
    def on_validation_model_eval(self) -> None:
        """Put the model into evaluation mode before a validation."""
        self.eval()  # type: ignore[attr-defined]

    @hook(callbacks=False)
    def on_validation_model_train(self) -> None:
        """Put the model back into training mode after a validation.

        It is called only where it is overridden; else each submodule gets back the mode that it had before.
        """
        self.train()  # type: ignore[attr-defined]

    @hook(callbacks=False)
    def on_test_model_eval(self) -> None:
        """Put the model into evaluation mode before a test."""
        self.eval()  # type: ignore[attr-defined]

    @hook(callbacks=False)
    def on_test_model_train(self) -> None:
        """Put the model back into training mode after a test; see `on_validation_model_train`."""
        self.train()  # type: ignore[attr-defined]

    @hook(callbacks=False)
    def on_predict_model_eval(self) -> None:
        """Put the model into evaluation mode before a prediction."""
        self.eval()  # type: ignore[attr-defined]

    @hook(log=LogRule.EPOCH)
    def on_validation_start(self) -> None:
        """Called when a validation begins."""

    @hook()
    def on_validation_end(self) -> None:
        """Called when a validation ends, with its metrics published."""

    @hook(log=LogRule.EPOCH)
    def on_validation_epoch_start(self) -> None:
        """Called before the first batch of a validation."""

    @hook(log=LogRule.EPOCH)
    def on_validation_epoch_end(self) -> None:
        """Called after the last batch of a validation."""

    @hook(log=LogRule.BATCH)
    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before each validation batch."""

    @hook(log=LogRule.BATCH)
    def on_validation_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called after each validation batch, with what `validation_step` returned."""

    @hook(log=LogRule.EPOCH)
    def on_test_start(self) -> None:
        """Called when a test begins."""

    @hook()
    def on_test_end(self) -> None:
        """Called when a test ends."""

    @hook(log=LogRule.EPOCH)
    def on_test_epoch_start(self) -> None:
        """Called before the first batch of a test."""

    @hook(log=LogRule.EPOCH)
    def on_test_epoch_end(self) -> None:
        """Called after the last batch of a test."""

    @hook(log=LogRule.BATCH)
    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before each test batch."""

    @hook(log=LogRule.BATCH)
    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after each test batch, with what `test_step` returned."""

    @hook()
    def on_predict_start(self) -> None:
        """Called when a prediction begins."""

    @hook()
    def on_predict_end(self) -> None:
        """Called when a prediction ends."""

    @hook()
    def on_predict_epoch_start(self) -> None:
        """Called before the first batch of a prediction."""

    @hook()
    def on_predict_epoch_end(self) -> None:
        """Called after the last batch of a prediction."""

    @hook()
    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before each batch of a prediction."""

    @hook()
    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after each batch of a prediction, with what `predict_step` returned."""

    @hook()
    def teardown(self, stage: str) -> None:
        """Put away what `setup` built: on every process, when a fit, validate, test or predict ends."""


class CheckpointHooks:
    """Hooks around the writing and reading of checkpoints, for modules and callbacks."""

    @hook()
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called when a checkpoint is about to be written: add to it, or change it, in place."""

    @hook()
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called when a checkpoint was read, before the weights are taken from it."""


class DataHooks:
    """Where batches come from and how they reach the device: for modules and data modules."""

    @hook(callbacks=False)
    def prepare_data(self) -> None:
        """Download and unpack, on one process only; set no state here."""

    @hook(callbacks=False)
    def train_dataloader(self) -> Any:
        """The training data: an iterable of batches, or a (nested) collection of them."""

    @hook(callbacks=False)
    def val_dataloader(self) -> Any:
        """The validation data: an iterable of batches, or a collection of them."""

    @hook(callbacks=False)
    def test_dataloader(self) -> Any:
        """The test data: an iterable of batches, or a collection of them."""

    @hook(callbacks=False)
    def predict_dataloader(self) -> Any:
        """The data to predict on: an iterable of batches, or a collection of them."""

    @hook(callbacks=False)
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it is moved to the device."""
        return batch

    @hook(callbacks=False)
    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a batch to ``device``; override it for batches of a type of your own."""
        return move_data_to_device(batch, device)

    @hook(callbacks=False)
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch that is on the device."""
        return batch


class CallbackHooks:
    """Hooks that only callbacks have."""

    @hook()
    def on_sanity_check_start(self) -> None:
        """Called before the validation batches that are tried before training."""

    @hook()
    def on_sanity_check_end(self) -> None:
        """Called after the validation batches that are tried before training."""

    @hook()
    def on_exception(self, exception: BaseException) -> None:
        """Called when a run ends by an exception, KeyboardInterrupt among them."""


def _specs(*owners: type) -> tuple[HookSpec, ...]:
    return tuple(fn.__hook__ for owner in owners for fn in vars(owner).values() if hasattr(fn, "__hook__"))


HOOKS = _specs(ModelHooks, CheckpointHooks, CallbackHooks, DataHooks)
"""Every hook, in the order of its definition."""

_STEPS = ("training_step", "backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping")

_SILENT = ("predict_step", "configure_optimizers", "configure_model", "lr_scheduler_step")

LOG_RULES: dict[str, LogRule | None] = {
    **{spec.name: spec.log for spec in HOOKS},
    **dict.fromkeys(_SILENT),
    **dict.fromkeys(_STEPS, LogRule.STEP),
    **dict.fromkeys(("validation_step", "test_step"), LogRule.BATCH),
}
"""What `self.log` may do, for each place that a user's code can run at."""


_AS_IT_IS = (
    "To run it as it is, inherit from `levin.compat.EpochEndMixin`, too: "
    "`class Old(EpochEndMixin, LightningModule)`."
)


def _with_outputs(hook: str, step: str) -> str:
    return (
        f"Use `{hook}(self)`, and keep what you need yourself: `self.outputs.append(...)` in `{step}`, "
        f"`self.outputs.clear()` at the end. {_AS_IT_IS}"
    )


def _after_step(hook: str, step: str) -> str:
    return f"Use the end of `{step}`, or `{hook}`. {_AS_IT_IS}"


REMOVED_HOOKS: dict[str, str] = {
    "training_epoch_end": _with_outputs("on_train_epoch_end", "training_step"),
    "validation_epoch_end": _with_outputs("on_validation_epoch_end", "validation_step"),
    "test_epoch_end": _with_outputs("on_test_epoch_end", "test_step"),
    "training_step_end": _after_step("on_train_batch_end", "training_step"),
    "validation_step_end": _after_step("on_validation_batch_end", "validation_step"),
    "test_step_end": _after_step("on_test_batch_end", "test_step"),
    "on_epoch_start": "Use `on_train_epoch_start`.",
    "on_epoch_end": "Use `on_train_epoch_end`.",
    "on_batch_start": "Use `on_train_batch_start`.",
    "on_batch_end": "Use `on_train_batch_end`.",
    "on_pretrain_routine_start": "Use `on_fit_start`.",
    "on_pretrain_routine_end": "Use `on_fit_start`.",
    "on_train_dataloader": "Use `train_dataloader`.",
    "on_val_dataloader": "Use `val_dataloader`.",
    "on_test_dataloader": "Use `test_dataloader`.",
    "on_predict_dataloader": "Use `predict_dataloader`.",
    "on_hpc_save": "Use `on_save_checkpoint`.",
    "on_hpc_load": "Use `on_load_checkpoint`.",
    "on_keyboard_interrupt": "Use `on_exception`, which gets the KeyboardInterrupt.",
    "on_init_start": "Use `setup`, or `__init__`.",
    "on_init_end": "Use `setup`.",
    "on_before_accelerator_backend_setup": "Use `setup`.",
    "on_configure_sharded_model": "Use `setup`.",
    "tbptt_split_batch": "Split the batch in `training_step`, with `self.automatic_optimization = False`.",
}
"""Hooks of earlier versions that a run can't do without -> what took their place."""

IDLE_HOOKS: dict[str, str] = {
    "configure_apex": "Apex is gone: `Trainer(precision=...)`.",
    "configure_ddp": "Give the options to the strategy: `Trainer(strategy=...)`.",
    "init_ddp_connection": "Set MASTER_ADDR and MASTER_PORT, or pass a cluster environment as a plugin.",
    "tng_dataloader": "Use `train_dataloader`.",
    "training_end": "Use the end of `training_step`.",
    "validation_end": "Use `on_validation_epoch_end`.",
    "test_end": "Use `on_test_epoch_end`.",
    "get_progress_bar_dict": "Override `get_metrics` of the progress bar.",
    "on_post_move_to_device": "Weights that are tied in `__init__` stay tied.",
    "on_save_checkpoint": "Use `state_dict`.",
    "on_load_checkpoint": "Use `load_state_dict`.",
}
"""Methods of earlier versions that are never called, and that a run can do without -> what to do.

The last two are meant for data modules; modules and callbacks have them.
"""
