"""What can be told to be wrong before a run begins."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

from levin.core.datamodule import LightningDataModule
from levin.core.module import LightningModule
from levin.trainer.former_hooks import PARAMETERS, check_arguments, is_variable
from levin.trainer.states import TrainerFn
from levin.utils.errors import MisconfigurationException, PossibleUserWarning
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from levin.trainer.dataloaders import DataSource
    from levin.trainer.states import Run


def check_module(model: Any) -> LightningModule:
    """The module, if it is one.

    Raises:
        TypeError: If it is none; says how to make one of it.
        AttributeError: If its ``__init__`` did not call the base's.
    """
    if not isinstance(model, LightningModule):
        given = (
            f"the class {model.__name__}, not an instance"
            if isinstance(model, type)
            else f"a {_type_name(model)}"
        )
        hint = " Put it into a LightningModule with a training_step." if isinstance(model, nn.Module) else ""
        raise TypeError(
            f"`model` must be a `LightningModule` or a `torch._dynamo.OptimizedModule`, and is {given}.{hint}"
        )
    if "_trainer" not in vars(model):
        raise AttributeError(
            f"`{type(model).__name__}.__init__` did not call `super().__init__()`. Make that its first line."
        )
    return model


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def check_datamodule(datamodule: Any) -> None:
    """Refuse what is no data module.

    Raises:
        TypeError: If it is none.
        AttributeError: If its ``__init__`` did not call the base's.
    """
    if datamodule is None:
        return
    if not isinstance(datamodule, LightningDataModule):
        raise TypeError(f"`datamodule` must be a `LightningDataModule`, and is a {_type_name(datamodule)}.")
    if "prepare_data_per_node" not in vars(datamodule):
        raise AttributeError(
            f"`{type(datamodule).__name__}.__init__` did not call `super().__init__()`. Make that its first "
            "line."
        )


def verify(run: Run, source: DataSource) -> None:
    """Check that the module has what the run needs.

    Raises:
        MisconfigurationException: If a step, a hook or the data is missing, or settings do not fit together.
    """
    fn = run.state.fn
    if fn is TrainerFn.FITTING:
        _verify_fit(run, source)
    elif fn is TrainerFn.PREDICTING:
        _verify_predict(run)
    else:
        step = "validation_step" if fn is TrainerFn.VALIDATING else "test_step"
        _require(run.module, step, f"trainer.{fn}")
        _verify_step(run.module, step)


def _require(module: LightningModule, name: str, caller: str) -> None:
    if not overrides(module, name, LightningModule):
        raise MisconfigurationException(
            f"`{caller}` needs `{name}`, and {type(module).__name__} does not define it."
        )


def _verify_fit(run: Run, source: DataSource) -> None:
    module = run.module
    for name in ("training_step", "configure_optimizers"):
        _require(module, name, "trainer.fit")
    _verify_arguments(module)
    _verify_step(module, "training_step")
    _tell_eval_mode(module)
    if not source.has("train"):
        source.load("train")  # raises with what is missing
    if run.limits.limit_val_batches:
        _verify_validation(module, source)
    if not module.automatic_optimization:
        _verify_manual(run)


def _tell_eval_mode(module: LightningModule) -> None:
    """Fit leaves the modes as they are: that is how a part is kept frozen, and easily forgotten."""
    name = type(module).__name__
    if not module.training:
        rank_zero_warn(
            f"{name} is in evaluation mode, and fit leaves it so: dropout is off, and batch norm does not "
            "learn. Call `model.train()` first, unless that is meant.",
            category=PossibleUserWarning,
        )
        return
    parts = [part for part, submodule in module.named_modules() if not submodule.training]
    if parts:
        listed = ", ".join(parts[:5]) + (", ..." if len(parts) > 5 else "")
        rank_zero_info(
            f"Parts of {name} are in evaluation mode, and stay so ({len(parts)} in all): {listed}."
        )


def _verify_validation(module: LightningModule, source: DataSource) -> None:
    """Tell a step without data, and data without a step: neither is an error."""
    has_step, has_data = overrides(module, "validation_step", LightningModule), source.has("val")
    if has_step and has_data:
        _verify_step(module, "validation_step")
    if has_data and not has_step:
        rank_zero_warn(
            f"There is validation data, and {type(module).__name__} has no `validation_step`: it is not "
            "validated."
        )
    if has_step and not has_data:
        rank_zero_warn(
            f"{type(module).__name__} has a `validation_step`, and there is no validation data: it is not "
            "validated.",
            category=PossibleUserWarning,
        )


_OF_OPTIMIZERS = ("optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step")


def _verify_arguments(module: LightningModule) -> None:
    """Refuse what a run would call in vain: arguments of earlier versions, a step without a batch."""
    for name in ("training_step", "backward", *_OF_OPTIMIZERS):
        if "optimizer_idx" in inspect.signature(getattr(module, name)).parameters:
            raise RuntimeError(
                f"`{type(module).__name__}.{name}` takes `optimizer_idx`, which is gone. "
                f"{PARAMETERS['optimizer_idx']}"
            )
    for name in _OF_OPTIMIZERS:
        check_arguments(name, module, LightningModule)
    if getattr(module, "truncated_bptt_steps", None):
        raise MisconfigurationException(
            f"`{type(module).__name__}.truncated_bptt_steps` is gone. {PARAMETERS['hiddens']}"
        )


def _verify_step(module: LightningModule, name: str) -> None:
    """Refuse a step that can't be called with a batch."""
    where = f"`{type(module).__name__}.{name}`"
    parameters = list(inspect.signature(getattr(module, name)).parameters.values())
    if not parameters:
        raise TypeError(f"{where} takes no batch. Define it as `def {name}(self, batch, batch_idx)`.")
    most = 2 if name == "training_step" else 3
    required = [each for each in parameters if each.default is each.empty and not is_variable(each)]
    if len(required) > most:
        extra = required[most].name
        raise TypeError(
            f"{where} requires `{extra}`, which it does not get. Define it as "
            f"`def {name}(self, batch, batch_idx{', dataloader_idx=0' if most == 3 else ''})`. "
            f"{PARAMETERS.get(extra, '')}".rstrip()
        )


def _verify_manual(run: Run) -> None:
    updates = run.updates
    if updates.gradient_clip_val is not None and updates.gradient_clip_val > 0:
        raise MisconfigurationException(
            f"`gradient_clip_val={updates.gradient_clip_val}` can't be applied in manual optimization. Call "
            "`self.clip_gradients(optimizer, gradient_clip_val=...)` in `training_step`, and leave the "
            "Trainer's out."
        )
    if updates.accumulate_grad_batches != 1:
        raise MisconfigurationException(
            f"`accumulate_grad_batches={updates.accumulate_grad_batches}` can't be applied in manual "
            "optimization. Step every so many batches in `training_step` (`self.update` does it), and leave "
            "the Trainer's out."
        )
    if updates.normalize_by is not None:
        raise MisconfigurationException(
            f"`normalize_by={updates.normalize_by!r}` can't be applied in manual optimization. Accumulate "
            "with `with self.update(optimizer, accumulate_grad_batches=...)`, which divides by the batches "
            "that there were, and leave the Trainer's out."
        )


def _verify_predict(run: Run) -> None:
    module = run.module
    if not overrides(module, "predict_step", LightningModule) and not overrides(
        module, "forward", LightningModule
    ):
        raise MisconfigurationException(
            f"`trainer.predict` needs `predict_step` or `forward`, and {type(module).__name__} defines "
            "neither."
        )
    _verify_step(module, "predict_step")
