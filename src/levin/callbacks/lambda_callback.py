"""LambdaCallback: hooks given as functions."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.core.hooks import HOOKS, REMOVED_HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = tuple(spec.name for spec in HOOKS if spec.callbacks)


class LambdaCallback(Callback):
    """A callback without a class: ``LambdaCallback(on_fit_end=lambda trainer, pl_module: ...)``.

    Args:
        hooks: For each hook, a function with the arguments of a callback's method, without ``self``.

    Raises:
        TypeError: If there is no such hook.
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in _NAMES:
                near = get_close_matches(name, _NAMES, n=1)
                guess = f" Did you mean {near[0]!r}?" if near else ""
                guess = f" It was removed. {REMOVED_HOOKS[name]}" if name in REMOVED_HOOKS else guess
                raise TypeError(
                    f"LambdaCallback got an unexpected keyword argument {name!r}: no such hook.{guess}"
                )
            if function is not None:
                setattr(self, name, function)
