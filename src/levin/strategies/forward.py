"""Send a call of any method through the forward of what wraps a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Carrier(nn.Module):
    """What is wrapped in place of a module: its forward calls whichever method is to be called.

    Wrappers (as torch's DistributedDataParallel) do their part around `forward`.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.method: Callable[..., Any] = module.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self.method(*args, **kwargs)


def through(wrapper: nn.Module, carrier: Carrier, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, called through the wrapper's forward."""

    def call(*args: Any, **kwargs: Any) -> Any:
        carrier.method = method
        return wrapper(*args, **kwargs)

    return call
