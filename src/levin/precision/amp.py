"""MixedPrecision: float32 weights, 16-bit arithmetic where that is safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from levin.precision.base import Precision, cast_floats
from levin.utils.errors import MisconfigurationException, NonFiniteError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

F = TypeVar("F", bound=Callable[..., Any])

# from the first scale, 65536, this many halvings lead to one at which nothing finite can overflow
_MOST_IN_A_ROW = 100

_DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class MixedPrecision(Precision):
    """Weights in float32, forward under `torch.autocast`: ``"16-mixed"`` or ``"bf16-mixed"``.

    float16 has so little range that small gradients would vanish: the loss is multiplied by a scale, the
    gradients are divided by it before anybody looks at them, a step whose gradients overflowed is left out,
    and the scale follows. bfloat16 needs none of this.

    Args:
        precision: ``"16-mixed"`` or ``"bf16-mixed"``.
        device: The type of device, such as ``"cuda"``.
        scaler: The gradient scaler for ``"16-mixed"``; by default a new `torch.amp.GradScaler`.

    Raises:
        ValueError: The precision is neither.
        MisconfigurationException: A scaler is given for bfloat16.
    """

    def __init__(
        self,
        precision: Literal["16-mixed", "bf16-mixed"],
        device: str,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if precision not in _DTYPES:
            raise ValueError(
                f"MixedPrecision({precision!r}) is not possible. Use '16-mixed' or 'bf16-mixed'."
            )
        if precision == "bf16-mixed" and scaler is not None:
            raise MisconfigurationException(
                f"precision='bf16-mixed' does not use a scaler, and one was given: {scaler}. "
                "Leave it out, or use precision='16-mixed'."
            )
        self.precision = precision
        self.dtype: torch.dtype = _DTYPES[precision]
        self.device: str = torch.device(device).type
        self.scaler: torch.amp.GradScaler | None = (
            torch.amp.GradScaler(self.device) if precision == "16-mixed" and scaler is None else scaler
        )
        self.scales: bool = self.scaler is not None
        self.stepped: bool = True
        # A round goes from the first unscaling to the adaptation of the scale, which must wait until every
        # gradient made with the old scale is used. Here: id of an unscaled optimizer -> the backwards until
        # then.
        self._unscaled: dict[int, int] = {}
        self._num_backwards = 0
        self._has_stepped = False
        self._left_out_in_a_row = 0

    # ------------------------------------------------------------------ forward

    def forward_context(self) -> AbstractContextManager[Any]:
        """Within it, operations that gain from it and can stand it run in 16 bits."""
        # weights cast once and kept would be those from before a step within `training_step`
        return torch.autocast(self.device, dtype=self.dtype, cache_enabled=False)

    def convert_output(self, output: Any) -> Any:
        """Cast floating-point tensors to the default type."""
        return cast_floats(output, torch.get_default_dtype())

    def wrap_step(self, fn: F) -> F:
        """The function in `forward_context`. Batches stay as they are: autocast converts what it needs."""

        def step(*args: Any, **kwargs: Any) -> Any:
            if self._unscaled:
                self._end_round()
            with self.forward_context():
                return fn(*args, **kwargs)

        return step  # type: ignore[return-value]  # it takes and returns what fn does

    # ------------------------------------------------------------------ backward

    def backward(self, loss: Tensor, owner: Any = None, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, scaled."""
        super().backward(self.pre_backward(loss), owner, *args, **kwargs)

    def pre_backward(self, loss: Tensor) -> Tensor:
        """The loss times the scale."""
        if self.scaler is None:
            return loss
        self._num_backwards += 1
        self.stepped = True  # what was left out before does not count for these gradients
        if self._has_stepped:
            self._end_round()
        return self.scaler.scale(loss)

    # ------------------------------------------------------------------ step

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Divide an optimizer's gradients by the scale; a second call for the same gradients does nothing."""
        if self.scaler is None or not _has_gradients(optimizer):
            return
        before = self._unscaled.get(id(optimizer))
        if before == self._num_backwards:
            return
        if before is not None:
            self._end_round()  # those gradients were dropped without a step, these are new
        self.scaler.unscale_(optimizer)
        self._unscaled[id(optimizer)] = self._num_backwards

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any
    ) -> Any:
        """Step an optimizer, unless its gradients are not finite: closure, unscale, check, step, new scale.

        An optimizer without gradients (``training_step`` returned None) does not step. If backward ran before
        the closure and not in it, other optimizers may still hold gradients made with the same scale: then
        the scale is adapted before the next backward.

        Raises:
            MisconfigurationException: LBFGS evaluates its closure many times, which no scaler can follow.
            NonFiniteError: The gradients were not finite for so many steps that no scale can be the cause.
        """
        if self.scaler is None:
            return super().optimizer_step(optimizer, closure, **kwargs)
        if isinstance(optimizer, LBFGS):
            raise MisconfigurationException(
                "precision='16-mixed' scales gradients, which LBFGS can't follow. "
                "Use precision='bf16-mixed' or '32-true'."
            )
        num_backwards = self._num_backwards
        result = closure() if closure is not None else None
        self.stepped = True
        if not _has_gradients(optimizer):
            return result
        if id(optimizer) not in self._unscaled:
            self.unscale_gradients(optimizer)
        self.stepped = False
        hook = optimizer.register_step_pre_hook(self._note_step)
        try:
            self.scaler.step(optimizer, **kwargs)
        finally:
            hook.remove()
        self._has_stepped = True
        self._left_out_in_a_row = 0 if self.stepped else self._left_out_in_a_row + 1
        if self._left_out_in_a_row == _MOST_IN_A_ROW:
            raise _hopeless(self.scaler)
        if self._num_backwards > num_backwards:
            self._end_round()
        return result

    def _note_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002  # torch's signature
        """Torch calls it when a step takes place; fused optimizers still leave it out by a flag they get."""
        found_inf = getattr(optimizer, "found_inf", None)
        self.stepped = found_inf is None or not found_inf.item()

    def _end_round(self) -> None:
        """Adapt the scale to what was found since the last time."""
        self._unscaled.clear()
        self._has_stepped = False
        if self.scaler is not None:
            self.scaler.update()

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state."""
        if self._has_stepped:
            self._end_round()
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the scaler's state, if the checkpoint was written with a scaler."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)

    def teardown(self) -> None:
        """End what is left of the last step."""
        if self._unscaled:
            self._end_round()


def _hopeless(scaler: torch.amp.GradScaler) -> NonFiniteError:
    return NonFiniteError(
        f"The last {_MOST_IN_A_ROW} steps were left out, as their gradients were NaN or infinite, down to a "
        f"scale of {scaler.get_scale():g}: nothing is learnt. Look at the loss and the learning rate; "
        "detect_anomaly=True finds the operation, precision='bf16-mixed' has the range of float32."
    )


def _has_gradients(optimizer: Optimizer) -> bool:
    """Whether there is anything to unscale; without it a scaler raises where a plain step does nothing."""
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])
