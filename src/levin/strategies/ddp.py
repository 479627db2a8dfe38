"""DDPStrategy: a copy of the model in each process, gradients averaged while they are computed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from levin.distributed import collectives
from levin.precision.base import Precision
from levin.strategies.forward import Carrier, through
from levin.strategies.parallel import ParallelStrategy
from levin.utils.apply import apply_to_collection
from levin.utils.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class DDPStrategy(ParallelStrategy):
    """A copy of the model on each device; torch's DistributedDataParallel averages their gradients.

    Only training needs that: evaluation and prediction run the module itself.

    Args:
        find_unused_parameters: Whether a step may leave parameters out; costs a walk through the graph.
        static_graph: Whether every step uses the same parameters, the same number of times.
        **kwargs: As for `ParallelStrategy`, and more of DistributedDataParallel's: `bucket_cap_mb`,
            `gradient_as_bucket_view` (True by default here), `broadcast_buffers` ...
    """

    def __init__(
        self, *, find_unused_parameters: bool = False, static_graph: bool = False, **kwargs: Any
    ) -> None:
        ours = {name: kwargs.pop(name) for name in _PARALLEL if name in kwargs}
        super().__init__(**ours)
        self._options: dict[str, Any] = {
            "gradient_as_bucket_view": True,
            "find_unused_parameters": find_unused_parameters,
            "static_graph": static_graph,
            **kwargs,
        }
        self._carrier: Carrier | None = None
        self._steps_backward = False  # whether backward is called within the step, and not after it

    # ------------------------------------------------------------------ set up and put away

    def setup_module(self, module: nn.Module) -> nn.Module:
        """Convert the module, move it to the device, and give all processes the same weights."""
        module = super().setup_module(module)
        collectives.broadcast_tensors([*module.parameters(), *module.buffers()])
        return module

    def wrap_module(self, module: nn.Module) -> nn.Module:
        """Let the gradients of the module be averaged."""
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        if self.layer_sync is not None:
            module = self.layer_sync.apply(module)
        self._carrier = Carrier(module)
        device = self.root_device
        ids = None if device.type == "cpu" else [device.index]
        # apart from all else, so that nothing gets in the way of gradients
        own = collectives.new_group(self.timeout) if device.type == "cpu" else None
        self.model = DistributedDataParallel(
            self._carrier, device_ids=ids, process_group=own, **self._options
        )
        return self.model

    def teardown(self) -> None:
        """Let go of the wrapper, and give the devices back."""
        if self._carrier is not None:
            module, self._carrier = self._carrier.module, None
            self.model = module if self.layer_sync is None else self.layer_sync.revert(module)
        super().teardown()

    # ------------------------------------------------------------------ a step

    def redirect(self, module: nn.Module, name: str, *, steps_backward: bool = False) -> Callable[..., Any]:
        """A method of the module as loops call it; that of a training step goes through the wrapper."""
        method = super().redirect(module, name)
        if self._carrier is None or name not in ("training_step", "forward"):
            return method
        assert isinstance(self.model, DistributedDataParallel)
        self._steps_backward = steps_backward
        call = through(self.model, self._carrier, method)
        return self._manual(call) if steps_backward else self._explained(call)

    def call_through(self, wrapped: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a module, called through the wrapper that averages its gradients."""
        if not isinstance(wrapped, DistributedDataParallel):
            return method
        call = through(wrapped, wrapped.module, method)
        return self._explained(call) if wrapped is self.model else call

    def _manual(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A step that calls backward itself: the wrapper is not to expect one after it."""
        model = self._wrapper

        def step(*args: Any, **kwargs: Any) -> Any:
            model.require_backward_grad_sync = False
            try:
                return call(*args, **kwargs)
            finally:
                model.require_backward_grad_sync = True

        return self._explained(step)

    def _explained(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A step that names the parameters that the last one left out, if that was its fault."""

        def step(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except RuntimeError as error:
                if "Expected to have finished reduction" not in str(error):
                    raise
                raise RuntimeError(self._unused(str(error))) from None

        return step

    def _unused(self, error: str) -> str:
        assert self._carrier is not None
        named = [name for name, each in self._carrier.module.named_parameters() if each.requires_grad]
        found = re.search(r"did not receive grad for rank \d+: ([\d ]+)", error)
        names = [named[int(index)] for index in found[1].split()] if found else []
        return (
            f"The last training step left {len(names) or 'some'} parameters out, whose gradients the others "
            f"wait for: {', '.join(names) or 'see above'}. If that is meant (a branch that is not always "
            "taken, an optimizer's part of the model), use strategy='ddp_find_unused_parameters_true'. If "
            "not, let the loss depend on them, or freeze them with `requires_grad_(False)`."
        )

    @property
    def _wrapper(self) -> DistributedDataParallel:
        assert isinstance(self.model, DistributedDataParallel)
        return self.model

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, and their mean over the processes."""
        if self._steps_backward and isinstance(self.model, DistributedDataParallel):
            self._expect_backward(loss)
        super().backward(loss, *args, **kwargs)

    def _expect_backward(self, loss: Tensor) -> None:
        """What the wrapper does at the end of its forward, for a backward that comes within it."""
        model = self._wrapper
        model.require_backward_grad_sync = True
        tensors: list[Tensor] = []
        if model.find_unused_parameters and not model.static_graph:
            apply_to_collection(loss, Tensor, tensors.append)
        model.reducer.prepare_for_backward(tensors)

    def settled_backward(self) -> Callable[..., None]:
        """`backward` as a loop calls it: torch's own after a step that has told the wrapper of it."""
        is_own = type(self).backward is not DDPStrategy.backward
        if self._steps_backward or is_own or overrides(self.precision, "backward", Precision):
            return self.backward
        return Tensor.backward

    def block_backward_sync(
        self, module: nn.Module | None = None, *, enabled: bool = True
    ) -> AbstractContextManager[Any]:
        """Within it, backward adds up gradients in each process for itself."""
        wrapper = self.model if module is None else module
        if not enabled or not isinstance(wrapper, DistributedDataParallel):
            return super().block_backward_sync(module, enabled=enabled)
        return wrapper.no_sync()

    def stand_in(self, module: nn.Module) -> Callable[..., Any] | None:
        """A training step whose gradients are zero, for a process without a batch."""
        if self._carrier is None:
            return None
        return through(self._wrapper, self._carrier, lambda *_: _nothing_of(module))

    def zero_loss(self, module: nn.Module) -> Tensor | None:
        """A loss for a step that had none; where parameters may be left out, none is waited for."""
        if self._carrier is None or self._wrapper.find_unused_parameters:
            return None
        return _nothing_of(module)

    def sync_buffers(self) -> None:
        """Give all processes the buffers of rank 0, as the next training step would: they are evaluated."""
        if self._carrier is not None and self._wrapper.will_sync_module_buffers():  # type: ignore[no-untyped-call]  # torch's
            collectives.broadcast_tensors([*self._carrier.module.buffers()])


def _nothing_of(module: nn.Module) -> Tensor:
    """Zero, as a sum over no elements of each parameter: so are the gradients, whatever they are."""
    parts = [each.flatten()[:0].sum() for each in module.parameters() if each.requires_grad]
    return torch.stack([part.to(parts[0].dtype) for part in parts]).sum()


_PARALLEL = (
    "accelerator", "precision", "checkpoint_io", "parallel_devices", "cluster_environment",
    "process_group_backend", "timeout", "start_method",
)  # fmt: skip
