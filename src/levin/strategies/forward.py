"""Send a call of any method through the forward of what wraps a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Carrier(nn.Module):
    """What is wrapped in place of a module: its forward is whichever method is to be called.

    Wrappers (as torch's DistributedDataParallel) do their part around `forward`.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.carry(module.forward)

    def carry(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Let forward be a method; returns what it was."""
        before: Any = vars(self).get("forward")
        vars(self)["forward"] = method  # of this object: one frame less in each step
        return before or method


def through(wrapper: nn.Module, carrier: Carrier, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, called through the wrapper's forward, which calls another one otherwise."""

    def call(*args: Any, **kwargs: Any) -> Any:
        before = carrier.carry(method)
        try:
            return wrapper(*args, **kwargs)
        finally:
            carrier.carry(before)

    return call
