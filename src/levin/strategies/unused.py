"""Parameters that a step left out: found where it happens, and told by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.nn.parallel import DistributedDataParallel


class LeftOut:
    """Looks whether all gradients that the processes wait for are there, as soon as a backward is over.

    Args:
        model: The wrapped model.
        names: Of the parameters whose gradients it averages, in its order.
    """

    def __init__(self, model: DistributedDataParallel, names: list[str]) -> None:
        self._model, self._names = model, names
        # raises if the last backward left parameters out; in torch for this purpose
        self.finalized: Callable[[], None] = model.reducer._check_reducer_finalized  # noqa: SLF001

    def checked(self, backward: Callable[..., None]) -> Callable[..., None]:
        """A backward that raises if it left parameters out whose gradients were to be averaged."""
        model, check = self._model, self.finalized

        def differentiate(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            backward(loss, *args, **kwargs)
            if model.require_backward_grad_sync:
                try:
                    check()
                except RuntimeError as error:
                    raise self.explained(error) from None

        return differentiate

    def explained(self, error: RuntimeError) -> RuntimeError:
        """The error with the names, if it is about parameters that were left out."""
        text = str(error)
        if "Expected to have finished reduction" not in text:
            return error
        found = re.search(r"did not receive grad for rank (\d+): ([\d ]+)", text)
        if found is None:
            return error
        names = [self._names[int(index)] for index in found[2].split()]
        return RuntimeError(
            f"The training step left {len(names)} parameters out in rank {found[1]}, and the processes wait "
            f"for their gradients: {', '.join(names)}. If that is meant (a branch "
            "that is not always taken), use strategy='ddp_find_unused_parameters_true'. If not, let the loss "
            "depend on them, or freeze them with `requires_grad_(False)` before training."
        )
