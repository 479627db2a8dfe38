"""What happens to gradients between backward and step, where asked for: `normalize_by`, `on_nonfinite`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from levin.core.metrics import batch_size_of
from levin.core.optimizers import divide_gradients, gradients_of
from levin.utils.errors import MisconfigurationException, NonFiniteError, SkipStep
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from levin.strategies.base import Strategy
    from levin.trainer.states import Run

_MOST_IN_A_ROW = 100


class Window:
    """An accumulation window whose gradients are to be those of one big batch.

    A batch's loss is a mean over its samples (or tokens), so that the loss of all batches is their mean
    weighted by the numbers of samples: each loss is multiplied by its number, and the gradients are divided
    by the sum at the step, when the window's true length is known.

    Args:
        by: What is counted: "batches", "samples" or "tokens".
        total: Gives what this process's share of the window's number is, where that is known; else it is
            counted here, and over all processes.
        strategy: How the processes speak.
    """

    def __init__(self, by: str, strategy: Strategy, total: Callable[[], float] | None = None) -> None:
        self._by = by
        self._strategy = strategy
        self._known_total = total
        # weights are taken relative to the first, so that float16 has room; one that all processes have
        self._first: Any = None
        self._total: Any = 0.0

    def weigh(self, loss: Tensor, output: Any, batch: Any) -> Tensor:
        """The loss as its batch counts.

        Args:
            loss: The mean over the batch.
            output: What `training_step` returned.
            batch: The batch.
        """
        weight = self._weight(output, batch)
        if isinstance(
            weight, torch.Tensor
        ):  # a quotient of integers would be a float32, whatever the loss is
            weight = weight.detach().to(torch.promote_types(loss.dtype, torch.float32)).clamp(min=1)
        if self._first is None:
            self._first = weight if self._strategy.world_size == 1 else 1
        share = weight / self._first
        self._total = self._total + share
        weighted: Tensor = loss * share
        return weighted

    def close(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients, which are sums, by what they are the sum of."""
        if self._first is None and self._strategy.world_size == 1:  # no batch had a loss
            return
        total = self._total
        if self._known_total is not None:
            total = self._known_total() / (1 if self._first is None else self._first)
        elif self._strategy.world_size > 1:
            total = self._strategy.reduce(
                torch.as_tensor(total, device=self._strategy.root_device), None, "mean"
            )
        divide_gradients(optimizer, total)
        self._first, self._total = None, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far."""
        return {"first": self._first, "total": self._total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._first, self._total = state["first"], state["total"]

    def _weight(self, output: Any, batch: Any) -> Any:
        if self._by == "batches":
            return 1
        key = f"num_{self._by}"
        if isinstance(output, Mapping) and key in output:
            weight = output[key]
            return weight if isinstance(weight, torch.Tensor) else max(weight, 1)
        if self._by == "tokens":
            raise MisconfigurationException(
                "normalize_by='tokens' must know how many tokens the loss is the mean over. Return it from "
                "`training_step`: {'loss': loss, 'num_tokens': n}, a number or a tensor on the device."
            )
        remedy = "return {'loss': loss, 'num_samples': n} from `training_step`"
        return max(batch_size_of(batch, remedy=remedy), 1)


class Watch:
    """Looks for losses and gradients that are NaN or infinite.

    To leave a step out, the host must know before it: one number is read. To raise, nothing waits: what a
    CUDA device found is heard when it has come, at the latest before a checkpoint is written and at the end
    of an epoch.

    Args:
        run: The run, whose ``on_nonfinite`` is "raise" or "skip".
    """

    def __init__(self, run: Run) -> None:
        self._progress = run.progress
        self._skips = run.updates.on_nonfinite == "skip"
        self._asked: deque[tuple[Tensor, torch.cuda.Event, str]] = deque()
        self._in_a_row = 0

    def accepts_loss(self, loss: Tensor) -> bool:
        """Whether a batch takes part, going by its loss."""
        return self._accepts(loss.detach().isfinite().all(), "loss")

    def check_gradients(self, optimizer: Optimizer) -> None:
        """Look at all gradients of a step.

        Raises:
            SkipStep: The step is to be left out.
            NonFiniteError: The run is to end.
        """
        gradients = [grad for grad in gradients_of(optimizer) if grad.numel()]
        if gradients:
            largest = torch._foreach_norm(gradients, float("inf"))  # noqa: SLF001  # as torch's clipping does
            if not self._accepts(torch.stack(largest).isfinite().all(), "gradient"):
                raise SkipStep
        self._in_a_row = 0

    def hear(self, *, wait: bool = True) -> None:
        """Raise if something was found since the last time."""
        while self._asked and (wait or self._asked[0][1].query()):  # type: ignore[no-untyped-call]  # torch's
            is_finite, arrived, place = self._asked.popleft()
            arrived.synchronize()
            if not is_finite:
                raise _error(place)

    def _accepts(self, is_finite: Tensor, what: str) -> bool:
        progress = self._progress
        place = (
            f"The {what} of batch {progress.batch} in epoch {progress.epoch} (global step {progress.step})"
        )
        if not self._skips and is_finite.is_cuda:
            self._ask(is_finite, place)
            return True
        if is_finite:
            return True
        if not self._skips:
            raise _error(place)
        self._in_a_row += 1
        if self._in_a_row == _MOST_IN_A_ROW:
            raise NonFiniteError(
                f"{place} is NaN or infinite, the {_MOST_IN_A_ROW}th in a row to be skipped: nothing is "
                "learnt any more."
            )
        rank_zero_warn(f"{place} is NaN or infinite: it is skipped.")
        return False

    def _ask(self, is_finite: Tensor, place: str) -> None:
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(is_finite, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's
        arrived.record()
        self._asked.append((answer, arrived, place))
        self.hear(wait=False)


def _error(place: str) -> NonFiniteError:
    return NonFiniteError(
        f"{place} is NaN or infinite. Look at that batch, and at the learning rate; detect_anomaly=True "
        "finds the operation, on_nonfinite='skip' leaves such batches out."
    )


def finisher(run: Run, window: Window | None = None) -> Callable[[Optimizer], None] | None:
    """What makes gradients ready to be looked at, settled once; None where there is nothing to do.

    Args:
        run: The run.
        window: The accumulation window that the gradients belong to.
    """
    precision, watch = run.strategy.precision, run.watch
    acts: list[Callable[[Optimizer], None]] = []
    if precision.scales:
        acts.append(precision.unscale_gradients)
    elif watch is not None:  # gradients that overflow are the scaler's business
        acts.append(watch.check_gradients)
    if window is not None:
        acts.append(window.close)
    if len(acts) < 2:
        return acts[0] if acts else None

    def finish(optimizer: Optimizer) -> None:
        for act in acts:
            act(optimizer)

    return finish
