"""What a LightningModule finds in place of a trainer where a Fabric has set it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer

    from levin.fabric.fabric import Fabric


class FabricInPlaceOfTrainer:
    """`self.trainer` of a module in a loop with a Fabric: the Fabric, and what the module itself asks for.

    Args:
        fabric: The Fabric.
        optimizers: The optimizers that were set up together with the module.
    """

    current_epoch = 0  # a Fabric does not count
    global_step = 0
    is_last_batch = False
    gradient_clip_val = None
    gradient_clip_algorithm = None
    lr_scheduler_configs: tuple[Any, ...] = ()

    def __init__(self, fabric: Fabric, optimizers: Sequence[Optimizer]) -> None:
        self.fabric = fabric
        self.optimizers: list[Optimizer] = list(optimizers)
        self.wrapped_optimizers: list[Optimizer] = self.optimizers
        self.metrics = self

    def log(self, name: str, value: Any, options: tuple[Any, ...], batch_size: int | None = None) -> None:  # noqa: ARG002  # as a run's metrics take it
        """What `LightningModule.log` comes to: loggers get the value, unless it said ``logger=False``."""
        is_for_loggers = options[1] is not False
        if is_for_loggers:
            self.fabric.log(name, value)

    def __getattr__(self, name: str) -> Any:
        if name != "fabric" and not name.startswith("_") and hasattr(type(self.fabric), name):
            return getattr(self.fabric, name)
        raise AttributeError(
            f"This module was set up by a Fabric, and there is no `trainer.{name}` in a loop of your own. A "
            f"Fabric has {', '.join(n for n in dir(type(self.fabric)) if not n.startswith('_'))}."
        )
