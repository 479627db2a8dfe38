"""GradientAccumulationScheduler: accumulate more gradients, or fewer, as training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback
from levin.core.module import LightningModule
from levin.utils.errors import MisconfigurationException
from levin.utils.overrides import is_overridden
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from levin.trainer.trainer import Trainer


class GradientAccumulationScheduler(Callback):
    """Set ``trainer.accumulate_grad_batches`` by epoch.

    Args:
        scheduling: Epoch (from 0) -> how many batches' gradients make one step, from that epoch on. Before
            the first of them it is 1.

    Raises:
        TypeError: If ``scheduling`` is empty.
        MisconfigurationException: If an epoch is no whole number from 0 on, or a factor none from 1 on.
    """

    def __init__(self, scheduling: dict[int, int]) -> None:
        super().__init__()
        if not scheduling:
            raise TypeError("GradientAccumulationScheduler needs a dict such as {0: 4, 10: 8}, but got none.")
        for epoch, factor in scheduling.items():
            _check("epoch", epoch, at_least=0)
            _check("factor", factor, at_least=1)
        self.scheduling: dict[int, int] = {0: 1, **scheduling}
        self.epochs: list[int] = sorted(self.scheduling)
        self._factor = 1  # the one that was set

    def going_to_accumulate_grad_batches(self) -> bool:
        """Whether any of the factors is more than 1."""
        return any(factor > 1 for factor in self.scheduling.values())

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """The factor in that epoch."""
        return self.scheduling[max(start for start in self.epochs if start <= epoch)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that nobody else decides, and set the factor: a run may go on inside of an epoch.

        Raises:
            RuntimeError: If the module steps its optimizers itself, or the strategy counts on its own.
            ValueError: If the Trainer has ``accumulate_grad_batches``, too.
        """
        if not pl_module.automatic_optimization:
            raise RuntimeError(
                "GradientAccumulationScheduler works with automatic optimization only. With manual "
                "optimization step your optimizers every so many batches yourself."
            )
        if trainer.strategy.accumulates_itself:
            raise RuntimeError(
                f"{type(trainer.strategy).__name__} accumulates gradients on its own, by the number given to "
                "the Trainer: GradientAccumulationScheduler can't change it."
            )
        if trainer.accumulate_grad_batches not in (1, self._factor):
            raise ValueError(
                f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}) and "
                "GradientAccumulationScheduler both decide. Keep one: {0: n} is accumulate_grad_batches=n."
            )
        has_own = is_overridden("optimizer_zero_grad", pl_module, LightningModule)
        if has_own and self.going_to_accumulate_grad_batches():
            rank_zero_warn(
                "Your `optimizer_zero_grad` runs once a step, not for each batch whose gradients add up."
            )
        self._set_factor(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the factor of the epoch."""
        self._set_factor(trainer)

    def _set_factor(self, trainer: Trainer) -> None:
        self._factor = self.get_accumulate_grad_batches(trainer.current_epoch)
        trainer.accumulate_grad_batches = self._factor


def _check(name: str, value: Any, *, at_least: int) -> None:
    if not isinstance(value, int) or value < at_least:
        raise MisconfigurationException(
            f"GradientAccumulationScheduler: each {name} is a whole number of {at_least} or more, but there "
            f"is {value!r}."
        )
