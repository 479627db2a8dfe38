"""Communication: what DDPStrategy is told of how gradients travel and when weights are averaged, checked."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

from torch.nn.parallel import DistributedDataParallel

from levin.strategies.averaging import Averaging, averaging_hook, parse_local_sgd
from levin.strategies.compression import compression_hook, parse_compression
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn


class Communication:
    """How gradients travel, and when weights are averaged.

    Args:
        compression: As `DDPStrategy` takes `gradient_compression`.
        local_sgd: As it takes `local_sgd`.
        state: As it takes `ddp_comm_state`; this and the next two are torch's.
        hook: As it takes `ddp_comm_hook`.
        wrapper: As it takes `ddp_comm_wrapper`.
        period: As it takes `model_averaging_period`.

    Attributes:
        state: What the hook gets.
        is_post_local: Whether that is the state of torch's hook for post-local SGD.
        steps_alone: Whether no gradients are averaged at all, where processes step on their own.
        needs_machine: Whether some gradients are averaged within machines.

    Raises:
        MisconfigurationException: If arguments do not fit together.
    """

    def __init__(
        self, compression: Any, local_sgd: Any, *, state: Any, hook: Any, wrapper: Any, period: int | None
    ) -> None:
        self._compression = parse_compression(compression)
        self._local_sgd = parse_local_sgd(local_sgd)
        self.state: Any = state
        self._hook, self._wrapper, self._period = hook, wrapper, period
        self.is_post_local: bool = type(state).__name__ == "PostLocalSGDState"  # its module is slow to import
        within_node = self._local_sgd is not None and self._local_sgd.within_node
        self.steps_alone: bool = self._local_sgd is not None and not within_node
        self.needs_machine: bool = within_node or (self.is_post_local and state.subgroup is None)
        self._check(within_node)

    def _check(self, within_node: bool) -> None:
        chosen = {
            "gradient_compression": self._compression is not None,
            "ddp_comm_hook": self._hook is not None or self._wrapper is not None,
            "local_sgd (within_node)": within_node,
        }
        if sum(chosen.values()) > 1:
            both = " and ".join(name for name, is_chosen in chosen.items() if is_chosen)
            raise MisconfigurationException(f"{both} each say how gradients are averaged. Give one of them.")
        if self._period is not None and self._local_sgd is not None:
            raise MisconfigurationException(
                "`model_averaging_period` and `local_sgd` each say when weights are averaged. Give one of "
                "them."
            )
        if self._period is not None and not self.is_post_local:
            raise MisconfigurationException(
                "`model_averaging_period` belongs to torch's post-local SGD: pass its PostLocalSGDState as "
                "`ddp_comm_state` and its hook as `ddp_comm_hook`; or use "
                "local_sgd=LocalSGD(period=..., warmup_steps=...), which needs neither."
            )

    def new_averaging(self) -> Averaging | None:
        """What averages weights in a run; None if nothing does."""
        if self._local_sgd is not None:
            period = self._local_sgd.period
            return Averaging(period, self._local_sgd.warmup_steps, first=period)
        if self._period is not None:
            return Averaging(self._period, self.state.start_localSGD_iter, first=1)
        return None

    def new_hook(
        self, module: nn.Module, machine: Any, is_local: Callable[[], bool]
    ) -> Callable[[Any, Any], Any] | None:
        """What averages gradients in a run; None for what the wrapper does by itself.

        Args:
            module: The module.
            machine: The group of this machine's processes, if `needs_machine`.
            is_local: Whether processes step on their own for now.
        """
        hook: Callable[[Any, Any], Any] | None = self._hook
        if self._compression is not None:
            hook = compression_hook(self._compression, module)
        elif self._local_sgd is not None and self._local_sgd.within_node:
            hook = averaging_hook(lambda: machine if is_local() else None)
        if self.is_post_local and self.state.subgroup is None:
            self.state.subgroup = machine
        if self._wrapper is not None:
            hook = self._wrapper(hook or averaging_hook(lambda: None))
        return hook


def as_torch_wants(hook: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A hook whose arguments have the names that torch looks for, and no other types than its own: none."""

    def communicate(state: Any, bucket: Any) -> Any:
        return hook(state, bucket)

    communicate.__annotations__ = {}
    return communicate


def wrapper_options(given: dict[str, Any], also_known: Iterable[str]) -> dict[str, Any]:
    """DistributedDataParallel's arguments, as this version of torch has them.

    Args:
        given: The user's.
        also_known: Other names that may have been meant.

    Raises:
        TypeError: If one is unknown, or is not the user's to give.
    """
    known = set(inspect.signature(DistributedDataParallel.__init__).parameters)
    allowed = known - {"self", "module", "device_ids", "output_device", "dim"}
    for name in given:
        if name in known - allowed:
            raise TypeError(
                f"DDPStrategy got {name}={given[name]!r}: the model and its devices are the run's."
            )
        if name not in allowed:
            near = difflib.get_close_matches(name, [*allowed, *also_known], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"DDPStrategy got an argument {name!r}, which neither it nor torch's DistributedDataParallel "
                f"has.{hint}"
            )
    options = {"gradient_as_bucket_view": True, **given}
    if "init_sync" in known:  # all have the same weights by then
        options.setdefault("init_sync", False)
    if "forward_sync_buffers" in known and options.get("broadcast_buffers") is not None:
        options.setdefault("forward_sync_buffers", options.pop("broadcast_buffers"))  # its name by now
    return options
