"""Modules and callbacks of earlier versions: what their hooks took, and what they called, explained."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.core.module import LightningModule

_SEVERAL = (
    "For several optimizers set `self.automatic_optimization = False` and use `self.optimizers()` in "
    "`training_step`."
)
_COLLECT = "Keep what you need yourself: `self.outputs.append(...)` in the step."
_LEAVE_OUT = "Leave it out."
_DATALOADER_IDX = "Give it a default: `dataloader_idx=0`. It is passed where there are several dataloaders."
_NO_LIMIT = (
    "`trainer.max_steps` is -1 where there is no limit: use `self.trainer.estimated_stepping_batches`."
)
_MANUAL = "For truncated backpropagation use manual optimization: `self.automatic_optimization = False`."

PARAMETERS: dict[str, str] = {
    "optimizer_idx": _SEVERAL,
    "outputs": _COLLECT,
    "results": f"{_COLLECT} `trainer.predict` returns them, too.",
    "hiddens": _MANUAL,
    "unused": _LEAVE_OUT,
    "on_tpu": _LEAVE_OUT,
    "using_native_amp": _LEAVE_OUT,
    "using_lbfgs": _LEAVE_OUT,
    "dataloader_idx": "In training there is none: leave it out, or give it a default.",
}
"""Arguments that hooks and steps no longer get -> what to do."""

_GRAD_NORM = "Use `levin.utilities.grad_norm(self, norm_type=2)`, and `self.log_dict`."
_WRITER = "Use the callback `BasePredictionWriter`, or what `trainer.predict` returns."

ATTRIBUTES: dict[str, str] = {
    "datamodule": "Use `self.trainer.datamodule`.",
    "get_progress_bar_dict": "Override `get_metrics` of the progress bar.",
    "grad_norm": _GRAD_NORM,
    "grad_norm_dict": _GRAD_NORM,
    "loaded_optimizer_states_dict": "Use the checkpoint that `on_load_checkpoint` gets.",
    "log_grad_norm": _GRAD_NORM,
    "model_size": "Use `levin.utilities.ModelSummary(self).model_size`.",
    "precision": "Use `self.trainer.precision`.",
    "summarize": "Use `levin.utilities.ModelSummary(self, max_depth=1)`.",
    "tbptt_split_batch": _MANUAL,
    "use_amp": "Use `self.trainer.precision`.",
    "write_prediction": _WRITER,
    "write_prediction_dict": _WRITER,
    "write_predictions": _WRITER,
}
"""What modules had -> what to use."""

_TBPTT_LOG = "Values of a split batch are logged where manual optimization computes them: leave it out."

KEYWORDS: dict[tuple[str, str], str] = {
    ("log", "sync_dist_op"): "Use `reduce_fx` ('mean', 'sum', 'min', 'max') with `sync_dist=True`.",
    ("log", "tbptt_reduce_fx"): _TBPTT_LOG,
    ("log", "tbptt_pad_token"): _TBPTT_LOG,
    ("toggle_optimizer", "optimizer_idx"): "Pass the optimizer alone.",
    ("untoggle_optimizer", "optimizer_idx"): "Pass the optimizer alone.",
}
"""Method and keyword that it took -> what to do."""


FORMER_KEYS = frozenset({"log", "progress_bar"})
"""Keys of a returned dict whose values were logged once."""


def tell_of_former_keys(output: Mapping[str, Any]) -> None:
    """Warn of a dict that `training_step` returned with values that were logged once."""
    for key in sorted(FORMER_KEYS.intersection(output)):
        if isinstance(output[key], Mapping):
            options = ", prog_bar=True" if key == "progress_bar" else ""
            rank_zero_warn(
                f"`training_step` returned a dict with {key!r}, which is not logged any more. Write "
                f"`self.log_dict(values{options})` in the step, or inherit from "
                "`levin.compat.EpochEndMixin`, too."
            )


def check_arguments(name: str, owner: Any, base: type) -> None:
    """Refuse a hook that a run would call in vain: that requires more arguments than it gets, or takes fewer.

    Raises:
        TypeError: If it is one.
    """
    passed = _parameters(getattr(base, name))[1:]
    if any(each.kind is each.VAR_POSITIONAL for each in passed):
        return
    given = _parameters(getattr(owner, name))
    where = f"`{type(owner).__name__}.{name}`"
    required = [each for each in given if each.default is each.empty and not is_variable(each)]
    signature = f"{name}({', '.join(['self', *(each.name for each in passed)])})"
    if len(required) > len(passed):
        known = {each.name for each in passed}
        others = [each.name for each in required if each.name not in known]
        extra = next((other for other in others if other in PARAMETERS), required[-1].name)
        advice = PARAMETERS.get(extra, _LEAVE_OUT)
        raise TypeError(f"{where} requires `{extra}`, which it does not get: `{signature}`. {advice}")
    takes_any = any(is_variable(each) for each in given)
    sure = sum(each.default is each.empty for each in passed)
    if not takes_any and len(given) < sure:
        raise TypeError(f"{where} takes too few arguments. Define it as `{signature}`.")


def _parameters(method: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())


def is_variable(parameter: inspect.Parameter) -> bool:
    """Whether it is ``*args`` or ``**kwargs``."""
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def keeps_nothing(hook: Callable[..., Any], owner: str) -> Callable[..., None]:
    """A callback's `on_save_checkpoint` that tells who returns a state: it was saved once."""

    def checked(*args: Any, **kwargs: Any) -> None:
        if hook(*args, **kwargs) is not None:
            rank_zero_warn(
                f"What `{owner}.on_save_checkpoint` returned is dropped. Return it from `state_dict(self)`, "
                "and take it back in `load_state_dict(self, state_dict)`; or put it into the checkpoint."
            )

    return checked


def explain(error: BaseException, module: LightningModule) -> None:
    """Add to the text of an error what took the place of the former name that it is about."""
    if isinstance(error, (AttributeError, TypeError, ValueError)) and len(error.args) == 1:
        advice = _advice(str(error), module)
        if advice is not None:
            error.args = (f"{error}. {advice}",)


def _advice(text: str, module: LightningModule) -> str | None:
    attribute = re.fullmatch(r"'(\w+)' object has no attribute '(\w+)'", text)
    if attribute is not None:
        is_modules = attribute[1] in {cls.__name__ for cls in type(module).__mro__}
        return ATTRIBUTES.get(attribute[2]) if is_modules else None
    keyword = re.search(r"(\w+)\(\) got an unexpected keyword argument '(\w+)'", text)
    if keyword is not None:
        return KEYWORDS.get((keyword[1], keyword[2]))
    if re.search(r"toggle_optimizer\(\) takes 2 positional arguments but 3 were given", text):
        return KEYWORDS["toggle_optimizer", "optimizer_idx"]
    if re.search(r"on_\w+_batch_(start|end)\(\) missing 1 .* argument: 'dataloader_idx'", text):
        return _DATALOADER_IDX
    return _NO_LIMIT if re.search(r"total_steps, but got -1$", text) else None
