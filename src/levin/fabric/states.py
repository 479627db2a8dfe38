"""The states of a loop's objects, to a checkpoint and back; values as loggers take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levin.checkpoint import OWN_KEY
from levin.checkpoint.plain import as_file, as_written
from levin.fabric.wrappers import unwrapped
from levin.utils.types import Stateful

if TYPE_CHECKING:
    from pathlib import Path

    from levin.strategies.base import Strategy

Filter = Callable[[str, Any], bool]


def collect(strategy: Strategy, state: Any, keep: Any) -> dict[str, Any]:
    """A checkpoint of a state: objects by their states, all in a form that loads safely.

    Args:
        strategy: The strategy.
        state: Name -> object or value.
        keep: Name -> function that chooses what of that state is kept, or None.

    Raises:
        TypeError: If one of the two is not such a dict, or something in it can't be written.
        ValueError: If something is to be filtered that is not there.
    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"`fabric.save` got a {type(state).__name__}. It takes a dict of what is to be saved: "
            "`fabric.save(path, {'model': model, 'optimizer': optimizer})`."
        )
    _check_filter(keep, state)
    content = {name: _state_of(strategy, value) for name, value in state.items()}
    for name, function in (keep or {}).items():
        content[name] = {key: value for key, value in content[name].items() if function(key, value)}
    return as_file(content)


def _check_filter(keep: Any, state: Mapping[str, Any]) -> None:
    if keep is None:
        return
    if not isinstance(keep, Mapping):
        raise TypeError(
            f"`fabric.save(filter=...)` got {keep!r}. It takes a dict: name -> function of key and value."
        )
    unknown = sorted(map(str, keep.keys() - state.keys()))
    if unknown:
        raise ValueError(
            f"`fabric.save(filter=...)` names {unknown}, and the state has {sorted(map(str, state))}."
        )
    for name, function in keep.items():
        if not callable(function):
            raise TypeError(
                f"`fabric.save(filter=...)` has {function!r} for {name!r}. It takes a function of key and "
                "value that returns whether the value is kept."
            )


def _state_of(strategy: Strategy, value: Any) -> Any:
    value = unwrapped(value)
    if isinstance(value, nn.Module):
        return strategy.get_module_state_dict(value)
    if isinstance(value, Optimizer):
        return strategy.get_optimizer_state(value)
    if isinstance(value, Stateful):
        return value.state_dict()
    if type(value) is dict and _holds_objects(value):
        return {name: _state_of(strategy, each) for name, each in value.items()}
    return value


def _is_object(value: Any) -> bool:
    """Whether a value is loaded in place, and not replaced."""
    return isinstance(value, (nn.Module, Optimizer, Stateful)) or (
        type(value) is dict and _holds_objects(value)
    )


def _holds_objects(value: dict[Any, Any]) -> bool:
    return any(_is_object(each) for each in value.values())


def read(strategy: Strategy, path: str | Path, weights_only: bool | None) -> Any:
    """What a file holds, with the objects in it that `collect` made plain."""
    content: Any = strategy.load_checkpoint(path, weights_only)
    if not isinstance(content, dict):
        return content
    content = as_written(content, is_trusted=weights_only is False)
    own = content.get(OWN_KEY)
    if not isinstance(own, dict) or "objects" not in own:
        return content
    rest = {name: value for name, value in own.items() if name != "objects"}
    return {**{k: v for k, v in content.items() if k != OWN_KEY}, **({OWN_KEY: rest} if rest else {})}


def restore(
    strategy: Strategy, path: Any, state: dict[str, Any], content: dict[str, Any], *, strict: bool
) -> dict[str, Any]:
    """Give objects their states back, and replace other values.

    Returns:
        What is left over.

    Raises:
        KeyError: If something is missing.
    """
    missing = [name for name in state if name not in content]
    if strict and missing:
        raise KeyError(
            f"{path} has no {', '.join(map(repr, missing))}. It has {sorted(map(str, content))}. Nothing was "
            "loaded; strict=False passes over what is missing."
        )
    for name, value in state.items():
        if name not in content:
            continue
        if _is_object(value):
            load_into(strategy, unwrapped(value), content[name], strict=strict)
        else:
            state[name] = content[name]
    return {name: value for name, value in content.items() if name not in state}


def load_into(strategy: Strategy, value: Any, content: Any, *, strict: bool) -> None:
    """Give one object its state back."""
    if isinstance(value, nn.Module):
        strategy.load_module_state_dict(value, content, strict=strict)
    elif isinstance(value, dict):
        restore(strategy, "The file", value, content, strict=strict)
    elif isinstance(value, Stateful):
        value.load_state_dict(content)
    else:
        raise TypeError(f"A {type(value).__name__} has no state to load. Pass a module or an optimizer.")


def as_numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Values as loggers take them: tensors are read, all at once.

    Raises:
        ValueError: If a tensor has several elements.
    """
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if tensor.numel() != 1:
            raise ValueError(
                f"`fabric.log` got a tensor of shape {tuple(tensor.shape)} for {name!r}. It takes numbers "
                "and tensors of one element: log its mean, or each under a name of its own."
            )
    if len({(tensor.device, tensor.dtype) for tensor in tensors.values()}) == 1:
        values = torch.stack([tensor.detach().reshape(()) for tensor in tensors.values()]).tolist()
    else:
        values = [tensor.item() for tensor in tensors.values()]
    return {**metrics, **dict(zip(tensors, values, strict=True))}
