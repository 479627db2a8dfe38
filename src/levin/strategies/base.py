"""Strategy: the words in which loops speak to hardware. It knows tensors and modules, never a Trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from levin.checkpoint.io import CheckpointIO, TorchCheckpointIO
from levin.precision.base import Precision
from levin.utils.apply import apply_to_collection, move_data_to_device
from levin.utils.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch.optim import Optimizer

    from levin.accelerators.base import Accelerator
    from levin.distributed.watch import Watch
    from levin.launchers import Launcher


class Strategy(ABC):
    """How a model is laid over devices, how it is stepped, and how processes speak to one another.

    This class does all of it for one process; those for several override what differs.

    Args:
        accelerator: The kind of device.
        precision: What numbers are computed in.
        checkpoint_io: How checkpoints reach the disk.

    Attributes:
        model: The module as it is called in a step, wrapped if need be; None outside of a run.
        optimizers: The optimizers of the run.
        brings_checkpoint_io: Whether it was made with a checkpoint IO of its own.
        accumulates_itself: Whether the strategy counts accumulation windows on its own.
        shards_parameters: Whether a process holds only a part of each parameter.
        restore_after_setup: Whether weights are loaded once the model is wrapped.
    """

    accumulates_itself = False
    shards_parameters = False
    restore_after_setup = False

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        precision: Precision | None = None,
        checkpoint_io: CheckpointIO | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.set_precision(precision or Precision())
        self.brings_checkpoint_io: bool = checkpoint_io is not None
        self.checkpoint_io: CheckpointIO = checkpoint_io or TorchCheckpointIO()
        self.model: nn.Module | None = None
        self.optimizers: list[Optimizer] = []

    def set_precision(self, precision: Precision) -> None:
        """Choose what numbers are computed in, before anything is set up."""
        self.precision = precision
        self._precision_steps = overrides(precision, "optimizer_step", Precision)

    # ------------------------------------------------------------------ where we are

    @property
    @abstractmethod
    def root_device(self) -> torch.device:
        """The device of this process."""

    global_rank = 0
    local_rank = 0
    node_rank = 0
    world_size = 1

    @property
    def is_global_zero(self) -> bool:
        """Whether this process speaks for all."""
        return self.global_rank == 0

    @property
    def precision_plugin(self) -> Precision:
        """The precision."""
        return self.precision

    @property
    def launcher(self) -> Launcher | None:
        """What starts the other processes of this machine; None where there are none, or they are there."""
        return None

    # ------------------------------------------------------------------ set up and put away

    def setup_environment(self) -> None:
        """Make the device ready, before anything is put on it."""
        if self.accelerator is not None:
            self.accelerator.setup_device(self.root_device)

    def setup_module(self, module: nn.Module) -> nn.Module:
        """Convert the module, move it to the device, and wrap it if need be.

        Returns:
            The module as it is called in a step.
        """
        module = self.precision.convert_module(module)
        self.module_to_device(module)
        self.model = module
        return module

    def module_to_device(self, module: nn.Module) -> None:
        """Move the module to the device."""
        module.to(self.root_device)

    def setup_optimizers(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """Take the optimizers in, wrapped if need be, with their state on the device."""
        self.optimizers = optimizers
        for optimizer in optimizers:
            optimizer_to_device(optimizer, self.root_device)
        return optimizers

    def wrap_module(self, module: nn.Module) -> nn.Module:
        """Prepare a module, set up already, for training: wrapped, if processes train together.

        Returns:
            The module as it is called in a step.
        """
        return module

    def start_watch(self) -> Watch | None:
        """What looks after the other processes of a run, if there are any; not started yet."""
        return None

    def teardown(self) -> None:
        """Give the devices back: what was on them moves to the CPU."""
        if self.root_device.type != "cpu":
            for optimizer in self.optimizers:
                optimizer_to_device(optimizer, torch.device("cpu"))
            if self.model is not None:
                self.model.cpu()
        self.precision.teardown()
        self.checkpoint_io.teardown()
        if self.accelerator is not None:
            self.accelerator.teardown()

    def module_init_context(self, empty_init: bool | None = None) -> AbstractContextManager[Any]:
        """Within it, new layers are made on the device and in the precision of the run."""
        return self.precision.module_init_context()

    # ------------------------------------------------------------------ a step

    def redirect(self, module: nn.Module, name: str, *, steps_backward: bool = False) -> Callable[..., Any]:
        """A method of the module as loops call it: in the run's precision, through a wrapper's forward.

        Args:
            module: The module.
            name: The method.
            steps_backward: Whether it calls backward itself, as a step of manual optimization does.
        """
        method: Callable[..., Any] = getattr(module, name)
        return self.precision.wrap_step(method)

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        """Move a batch to the device."""
        return move_data_to_device(batch, device or self.root_device)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients; what comes after the loss goes to `torch.Tensor.backward`."""
        self.precision.backward(loss, self.model, *args, **kwargs)

    def settled_backward(self) -> Callable[..., None]:
        """`backward` as a loop calls it: torch's own where nothing comes before or after it."""
        is_plain = not overrides(self, "backward", Strategy) and not overrides(
            self.precision, "backward", Precision
        )
        return Tensor.backward if is_plain else self.backward

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, model: Any = None, **kwargs: Any
    ) -> Any:
        """Step the optimizer; the closure computes the gradients."""
        if self._precision_steps:
            return self.precision.optimizer_step(optimizer, closure, **kwargs)
        return optimizer.step(closure, **kwargs)

    def clip_gradients(self, parameters: Iterable[Tensor], clip_val: float, algorithm: str = "norm") -> None:
        """Clip gradients, by the norm of all together or each value."""
        self.precision.clip_gradients(parameters, clip_val, algorithm)

    def block_backward_sync(self, *, enabled: bool = True) -> AbstractContextManager[Any]:
        """Within it, backward does not average gradients over processes."""
        return nullcontext()

    # ------------------------------------------------------------------ speaking with other processes

    def barrier(self, name: str | None = None) -> None:  # noqa: B027  # one process waits for nobody
        """Wait until all processes are here."""

    def in_turn(self, action: Callable[[], Any], *, label: str, per_node: bool = True) -> None:
        """Let one process act while the others wait for it, however long that takes.

        Args:
            action: What it does.
            label: What that is, for a word to those who wait.
            per_node: Whether one process of each machine acts, or one of all.
        """
        action()

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Give every process what ``src`` has."""
        return obj

    def all_gather(self, tensor: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Collect tensors from all processes; numbers and arrays become tensors on the device."""
        return apply_to_collection(
            tensor, (Tensor, np.ndarray, int, float), torch.as_tensor, device=self.root_device
        )

    def reduce(self, tensor: Any, group: Any = None, reduce_op: str = "mean") -> Any:
        """Combine a tensor over all processes."""
        return tensor

    def gather_objects(self, obj: Any) -> list[Any]:
        """What every process has, in the order of ranks: anything that can be pickled."""
        return [obj]

    def stand_in(self, module: nn.Module) -> Callable[..., Any] | None:
        """What takes part in a training step in place of one that has no batch; None in one process."""
        return None

    def zero_loss(self, module: nn.Module) -> Tensor | None:
        """A loss for a step that has none, where others wait for its gradients."""
        return None

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:  # noqa: B027  # one process's are what they are
        """Average gradients over processes that were added up in each for itself."""

    def sync_buffers(self) -> None:  # noqa: B027  # one process has one copy
        """Give all processes the buffers of rank 0, before they are evaluated or saved."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002  # the known name
        """Decide together: if all say so, or if any does."""
        return decision

    # ------------------------------------------------------------------ checkpoints

    def get_module_state_dict(self, module: nn.Module) -> dict[str, Any]:
        """The whole state of the module, under its own names."""
        return module.state_dict()

    def load_module_state_dict(
        self, module: nn.Module, state: Mapping[str, Any], *, strict: bool = True
    ) -> None:
        """Load the module's state."""
        module.load_state_dict(state, strict=strict)

    def get_optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of an optimizer."""
        state: dict[str, Any] = optimizer.state_dict()
        return state

    def load_optimizer_states(self, states: list[dict[str, Any]]) -> None:
        """Load the state of each optimizer, and put it where the parameters are."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
            optimizer_to_device(optimizer, self.root_device)

    def save_checkpoint(
        self, path: str | Path, state: dict[str, Any], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint: one process writes one file."""
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(state, path, storage_options=storage_options)

    def load_checkpoint(self, path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, into the memory of the host."""
        read: dict[str, Any] = self.checkpoint_io.load_checkpoint(
            path, map_location="cpu", weights_only=weights_only
        )
        return read

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        if self.is_global_zero:
            self.checkpoint_io.remove_checkpoint(path)


def optimizer_to_device(optimizer: Optimizer, device: torch.device) -> None:
    """Move an optimizer's state; counters of steps stay where torch wants them."""
    for parameter, state in optimizer.state.items():
        capturable = any(group.get("capturable") or group.get("fused") for group in optimizer.param_groups)
        for key, value in state.items():
            if isinstance(value, Tensor) and (key != "step" or capturable):
                state[key] = value.to(device)
        optimizer.state[parameter] = state
