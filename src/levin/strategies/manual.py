"""Gradients of steps that call backward themselves, once or several times: averaged in each backward."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor
    from torch.nn.parallel import DistributedDataParallel

    from levin.strategies.unused import LeftOut


class ManualSync:
    """Tells DistributedDataParallel of each backward, since none comes after its forward.

    Attributes:
        syncs: Whether gradients are averaged at all.
    """

    _model: DistributedDataParallel
    _left_out: LeftOut

    def __init__(self) -> None:
        self._is_blocked = False
        self._is_first = True
        self.syncs: bool = True

    def take(self, model: DistributedDataParallel, left_out: LeftOut) -> None:
        """Speak with this wrapper from now on.

        Args:
            model: The wrapped model.
            left_out: What looks for parameters that were left out.
        """
        self._model, self._left_out, self._is_first = model, left_out, True

    def inner(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The step as the wrapper calls it, which is not to expect a backward after it."""
        model = self._model

        def step(*args: Any, **kwargs: Any) -> Any:
            model.require_backward_grad_sync = False
            return method(*args, **kwargs)

        return step

    def outer(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The step as loops call it; buffers are given out before it, as before any other."""
        model = self._model

        def step(*args: Any, **kwargs: Any) -> Any:
            model.require_backward_grad_sync = model.require_forward_param_sync = self.syncs
            return call(*args, **kwargs)

        return step

    def averaged(self, backward: Callable[..., None]) -> Callable[..., None]:
        """A backward after which gradients are the means over the processes."""

        def differentiate(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            model, left_out = self._model, self._left_out
            reducer, looks = model.reducer, model.find_unused_parameters and not model.static_graph
            shows_graph = model.static_graph and self._is_first  # which an averaged backward has to do
            is_blocked = (self._is_blocked and not shows_graph) or not self.syncs
            if is_blocked or not torch.is_grad_enabled():
                backward(loss, *args, **kwargs)
                return
            reducer._rebuild_buckets()  # noqa: SLF001  # before each backward, as the wrapper's forward does
            reducer.prepare_for_backward([loss] if looks else [])
            backward(loss, *args, **kwargs)
            if shows_graph:  # then gradients are sent after backward, all at once
                self._is_first = False
                reducer._delay_all_reduce()  # type: ignore[attr-defined]  # noqa: SLF001  # the wrapper's forward would have seen to it
            try:
                left_out.finalized()
            except RuntimeError as error:
                raise left_out.explained(error) from None

        return differentiate

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Within it, gradients are added up in each process for itself."""
        before, self._is_blocked = self._is_blocked, True
        try:
            yield
        finally:
            self._is_blocked = before
