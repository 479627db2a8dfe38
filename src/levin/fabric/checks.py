"""What the command line says of a Fabric, and what its calls refuse."""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from levin.fabric.wrappers import FabricModule, is_wrapped
from levin.utils.errors import PossibleUserWarning
from levin.utils.rank import rank_zero_warn


def is_from_command_line() -> bool:
    """Whether the program was started by ``levin run``, which says so in the environment."""
    return os.environ.get("LT_CLI_USED") == "1"


def or_from_command_line(name: str, given: Any, default: Any) -> Any:
    """An argument, or what the command line says of it.

    Raises:
        ValueError: If both say something, and not the same.
    """
    word = os.environ.get(f"LT_{name.upper()}") if is_from_command_line() else None
    if word is None:
        return given
    if given != default and str(given) != word:
        option = name.replace("_", "-")
        raise ValueError(
            f"The program has Fabric({name}={given!r}), and the command line --{option}={word}. Leave one of "
            "the two out."
        )
    return word


def check_module(module: Any, optimizers: tuple[Optimizer, ...], caller: str, *, moves: bool) -> None:
    """Refuse what is no model, or can't be set up."""
    if is_wrapped(module):
        raise ValueError(f"`{caller}` got a model that was set up before. Pass each model once.")
    if not isinstance(module, nn.Module):
        raise TypeError(f"`{caller}` takes a torch.nn.Module first, and got a {type(module).__name__}.")
    parameters = [*module.parameters(), *(p for each in optimizers for p in _parameters(each))]
    if any(each.is_meta for each in (*parameters, *module.buffers())):
        raise RuntimeError(
            f"`{caller}` got a model with parameters on the meta device, which have no values. Make it "
            "within `with fabric.init_module():`, or call `model.to_empty(device=fabric.device)`, load its "
            "weights, and make the optimizer then."
        )
    devices = sorted({str(each.device) for each in module.parameters()})
    if moves and len(devices) > 1:
        rank_zero_warn(
            f"The model's parameters are on {', '.join(devices)}; `{caller}` moves all of them to one. "
            "If they are to stay, pass move_to_device=False.",
            category=PossibleUserWarning,
        )


def check_optimizer(optimizer: Any, caller: str) -> None:
    """Refuse what is no optimizer, or was set up before."""
    if is_wrapped(optimizer):
        raise ValueError(f"`{caller}` got an optimizer that was set up before. Pass each one once.")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"`{caller}` takes torch.optim.Optimizer, and got a {type(optimizer).__name__}.")


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def as_wrapped(module: Any, call: str) -> FabricModule:
    """A model that was set up; anything else is an error."""
    found = getattr(module, "_orig_mod", module)
    if not isinstance(found, FabricModule):
        raise TypeError(
            f"`fabric.{call}` got a {type(module).__name__} that was not set up. Pass what `setup` gave: "
            "`model = fabric.setup(model)`."
        )
    return found
