"""Precision: conversions, contexts, backward, clipping and the optimizer's step. Here: plain float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from levin.utils.apply import apply_to_collection
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from torch.optim import Optimizer

F = TypeVar("F", bound=Callable[..., Any])


class Precision:
    """What numbers are computed in. This class is ``"32-true"``: everything stays as it is, at no cost.

    Attributes:
        precision: The word for it, as ``precision=`` takes it.
        scaler: The gradient scaler, if there is one.
        scales: Whether gradients are scaled until `unscale_gradients`. Where this is False, it need not be
            called.
        stepped: False if the last step was left out: a scaler does that where gradients are not finite. It
            does not count then, and schedulers wait.
    """

    precision: str = "32-true"
    scaler: torch.amp.GradScaler | None = None
    scales: bool = False
    stepped: bool = True

    # ------------------------------------------------------------------ conversions

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Give a module's parameters and buffers their type, in place, before it goes to the device."""
        return module

    def convert_input(self, batch: Any) -> Any:
        """Give the floating-point tensors of a batch the type that the module takes."""
        return batch

    def convert_output(self, output: Any) -> Any:
        """Give floating-point tensors that leave the module the default type, for loops of users."""
        return output

    # ------------------------------------------------------------------ contexts

    def module_init_context(self) -> AbstractContextManager[Any]:
        """Within it, new layers get the type of the parameters."""
        return self.tensor_init_context()

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """Within it, new floating-point tensors get the type of the parameters."""
        return nullcontext()

    def forward_context(self) -> AbstractContextManager[Any]:
        """Within it, forward and loss are computed: steps of all four kinds run in it."""
        return nullcontext()

    def wrap_step(self, fn: F) -> F:
        """The function as a loop calls it: in `forward_context`, with converted arguments.

        Asked for once, before the loop. In float32 it is ``fn`` itself.
        """
        return fn

    # ------------------------------------------------------------------ gradients

    def backward(self, loss: Tensor, owner: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  # for engines
        """Compute the gradients of a loss, with `pre_backward` before and `post_backward` after.

        Args:
            loss: The loss.
            owner: The wrapped module; only engines that run backward on their own need it.
            *args: Passed on to `torch.Tensor.backward`.
            **kwargs: Passed on to `torch.Tensor.backward`.
        """
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch's

    def pre_backward(self, loss: Tensor) -> Tensor:
        """The loss as ``loss.backward()`` needs it; for who calls that rather than `backward`."""
        return loss

    def post_backward(self, loss: Tensor) -> Tensor:
        """Called after such a ``loss.backward()``; returns the loss, cut off from its graph."""
        return loss.detach()

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale, once a step, so that they can be looked at and clipped."""

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any
    ) -> Any:
        """Step an optimizer.

        Args:
            optimizer: The optimizer itself, not a wrapper around it.
            closure: Computes loss and gradients and prepares these (unscaled, clipped); None where that is
                done already.
            **kwargs: Passed on to ``optimizer.step``.

        Returns:
            What the closure returned.
        """
        return optimizer.step(**kwargs) if closure is None else optimizer.step(closure, **kwargs)

    def clip_gradients(
        self, parameters: Iterable[Tensor], clip_val: float, algorithm: str = "norm"
    ) -> Tensor | None:
        """Clip gradients in place. They must be unscaled.

        Args:
            parameters: The parameters whose gradients are clipped.
            clip_val: The largest norm, or the largest absolute value; 0 and less clip nothing.
            algorithm: "norm" (that of all gradients together) or "value" (each one).

        Returns:
            With "norm", the norm before clipping.

        Raises:
            MisconfigurationException: If the algorithm is neither.
        """
        if algorithm not in ("norm", "value"):
            raise MisconfigurationException(
                f"The clipping algorithm {algorithm!r} is not known. Use 'norm' or 'value'."
            )
        if clip_val <= 0:
            return None
        if algorithm == "value":
            nn.utils.clip_grad_value_(parameters, clip_val)
            return None
        return nn.utils.clip_grad_norm_(parameters, clip_val)

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the scaler's state, if there is one."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def teardown(self) -> None:
        """Called when a run ends."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.precision!r})"


class TruePrecision(Precision):
    """The base of precisions in which parameters, batches and new tensors all have one type.

    Attributes:
        dtype: That type.
    """

    dtype: torch.dtype

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Cast floating-point parameters and buffers."""
        return module.to(self.dtype)

    def convert_input(self, batch: Any) -> Any:
        """Cast the floating-point tensors of a batch."""
        return cast_floats(batch, self.dtype)

    def convert_output(self, output: Any) -> Any:
        """Cast floating-point tensors to the default type."""
        return cast_floats(output, torch.get_default_dtype())

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """Within it, the default type is the one of the parameters."""
        return default_dtype(self.dtype)

    def forward_context(self) -> AbstractContextManager[Any]:
        """Within it, the default type is the one of the parameters."""
        return default_dtype(self.dtype)

    def wrap_step(self, fn: F) -> F:
        """The function in `forward_context`, with converted arguments."""
        return in_context(self, fn)


def in_context(precision: Precision, fn: F) -> F:
    """``fn`` with converted arguments, in the precision's `forward_context`."""

    def step(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = precision.convert_input((args, kwargs))
        with precision.forward_context():
            return fn(*args, **kwargs)

    return step  # type: ignore[return-value]  # it takes and returns what fn does


def cast_floats(data: Any, dtype: torch.dtype) -> Any:
    """Cast the floating-point tensors of a nested structure; integers, booleans and complex numbers stay."""
    return apply_to_collection(
        data, Tensor, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor
    )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Within it, ``dtype`` is torch's default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
