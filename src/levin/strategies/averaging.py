"""Local SGD: processes step on their own, and their weights are averaged now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import Tensor

from levin.distributed import collectives
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch.futures import Future
    from torch.optim import Optimizer


@dataclass(frozen=True)
class LocalSGD:
    """Average weights now and then, instead of gradients in every step (Stich, 2018; Lin et al., 2018).

    Args:
        period: After how many optimizer steps the weights are averaged.
        warmup_steps: The number of optimizer steps before, in which gradients are averaged as usual
            ("post-local SGD").
        within_node: Whether the processes of a machine go on averaging their gradients, so that only machines
            part ways: little traffic between machines, as much as before within.

    Raises:
        MisconfigurationException: If a number is out of range.
    """

    period: int = 8
    warmup_steps: int = 0
    within_node: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.period, bool) or self.period < 1 or self.warmup_steps < 0:
            raise MisconfigurationException(
                f"{self} makes no sense: period is 1 or more, warmup_steps 0 or more."
            )


def parse_local_sgd(given: Any) -> LocalSGD | None:
    """What ``local_sgd=`` asks for: None, a period, or a `LocalSGD`.

    Raises:
        MisconfigurationException: If it is something else.
    """
    if given is None or isinstance(given, LocalSGD):
        return given
    if isinstance(given, int):
        return LocalSGD(given)
    raise MisconfigurationException(
        f"local_sgd={given!r} is not known. Give the number of steps between two averagings, or "
        "LocalSGD(period=..., warmup_steps=..., within_node=...) from levin.strategies."
    )


class Averaging:
    """Averages the weights of optimizers, each after so many of its steps.

    Args:
        period: After how many steps.
        warmup_steps: How many come before the first of them.
        first: After how many steps, those before not counted, is the first averaging: `period`, or 1 as
            torch's `PeriodicModelAverager` has it.
    """

    def __init__(self, period: int, warmup_steps: int, *, first: int) -> None:
        self._period, self._warmup_steps, self._first = period, warmup_steps, first
        self._counts: list[int] = []
        self._optimizers: list[Optimizer] = []

    def take(self, optimizers: list[Optimizer]) -> None:
        """Count the steps of these optimizers; those that were there before keep their counts by place."""
        self._optimizers = optimizers
        self._counts = (self._counts + [0] * len(optimizers))[: len(optimizers)]

    @property
    def is_local(self) -> bool:
        """Whether all optimizers are past the steps in which gradients are averaged."""
        return min(self._counts, default=0) >= self._warmup_steps

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer stepped: average its weights if it is time. All processes have to call it."""
        place = next(index for index, each in enumerate(self._optimizers) if each is optimizer)
        self._counts[place] += 1
        past = self._counts[place] - self._warmup_steps - self._first
        if past >= 0 and past % self._period == 0:
            collectives.average_tensors(_parameters(optimizer))

    def state_dict(self) -> dict[str, Any]:
        """How many steps each optimizer made."""
        return {"steps": list(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._counts = list(state["steps"])
        self.take(self._optimizers)


def level(optimizers: Iterable[Optimizer], buffers: Iterable[Tensor], *, also_states: bool) -> None:
    """Give all processes the mean of their weights.

    Args:
        optimizers: What steps them.
        buffers: The module's; means of floating-point ones, of others those of rank 0.
        also_states: Whether the optimizers' own state is averaged, too (momentum and the like).
    """
    tensors: list[Tensor] = []
    for optimizer in optimizers:
        tensors += _parameters(optimizer)
        if also_states:
            tensors += _states(optimizer)
    rest: list[Tensor] = []
    for buffer in buffers:
        (tensors if buffer.is_floating_point() else rest).append(buffer)
    collectives.average_tensors(tensors)
    collectives.broadcast_tensors(rest)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"] if each.requires_grad]


def _states(optimizer: Optimizer) -> Iterator[Tensor]:
    for parameter in _parameters(optimizer):
        for name, value in sorted(optimizer.state.get(parameter, {}).items()):
            if name != "step" and isinstance(value, Tensor) and value.is_floating_point():
                yield value


def averaging_hook(group_now: Callable[[], Any]) -> Callable[[Any, Any], Future[Tensor]]:
    """A hook for DistributedDataParallel that averages gradients over the group that there is at the time."""

    def hook(_: Any, bucket: Any) -> Future[Tensor]:
        group = group_now()
        return collectives.start_all_reduce(bucket.buffer().div_(dist.get_world_size(group)), group)

    return hook
