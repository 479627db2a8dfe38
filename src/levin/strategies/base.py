"""Strategy: the words in which loops speak to hardware. It knows tensors and modules, never a Trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from levin.checkpoint.io import CheckpointIO, TorchCheckpointIO
from levin.precision.base import Precision
from levin.utils.apply import apply_to_collection, move_data_to_device
from levin.utils.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
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
        is_distributed: Whether processes have to meet before anything is set up.
    """

    is_distributed = False
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

    timeout: timedelta = timedelta(minutes=30)
    """How long a process waits for the others."""
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

    def wrap_module(self, module: nn.Module, *, steps_backward: bool = False) -> nn.Module:
        """Prepare a module, set up already, for training: wrapped, if processes train together.

        Args:
            module: The module.
            steps_backward: Whether its training step calls backward itself, as in manual optimization.

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

    @contextmanager
    def tensor_init_context(self) -> Iterator[None]:
        """Within it, new tensors are made on the device and in the precision of the run."""
        with self.root_device, self.precision.tensor_init_context():
            yield

    @contextmanager
    def module_init_context(self, empty_init: bool | None = None) -> Iterator[None]:
        """Within it, new layers are made on the device and in the precision of the run.

        Args:
            empty_init: Whether their weights are left as the memory was, for those that are loaded anyway.
        """
        with (
            self.root_device,
            self.precision.module_init_context(),
            _LeftEmpty() if empty_init else nullcontext(),
        ):
            yield

    # ------------------------------------------------------------------ a step

    def redirect(self, module: nn.Module, name: str) -> Callable[..., Any]:
        """A method of the module as loops call it: in the run's precision, through a wrapper's forward.

        Args:
            module: The module.
            name: The method.
        """
        method: Callable[..., Any] = getattr(module, name)
        return self.precision.wrap_step(method)

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        """Move a batch to the device."""
        return move_data_to_device(batch, device or self.root_device)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients; what comes after the loss goes to `torch.Tensor.backward`."""
        self.precision.backward(loss, self.model, *args, **kwargs)

    def settled_backward(self, own: Callable[..., None] | None = None) -> Callable[..., None]:
        """`backward` as a loop calls it: torch's own where nothing comes before or after it.

        Args:
            own: What computes the gradients in place of `backward`, if the module has its own way.
        """
        if own is not None:
            return own
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
        return optimizer.step(**kwargs) if closure is None else optimizer.step(closure, **kwargs)

    @property
    def steps_its_own_way(self) -> bool:
        """Whether `optimizer_step` has to get the closure, as one may need it that somebody has written."""
        return overrides(self, "optimizer_step", Strategy)

    def clip_gradients(self, parameters: Iterable[Tensor], clip_val: float, algorithm: str = "norm") -> None:
        """Clip gradients, by the norm of all together or each value."""
        self.precision.clip_gradients(parameters, clip_val, algorithm)

    def clip_gradients_norm(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = True,
    ) -> Tensor:
        """Unscale an optimizer's gradients and clip them by their norm, for loops of users.

        Args:
            module: What `wrap_module` gave.
            optimizer: The optimizer.
            max_norm: The largest norm.
            norm_type: Which norm.
            error_if_nonfinite: Whether a norm that is no number is an error. Under a gradient scaler it is
                none: the scaler leaves such a step out.

        Returns:
            The norm before clipping.
        """
        self.precision.unscale_gradients(optimizer)
        raises = error_if_nonfinite and not self.precision.scales
        return nn.utils.clip_grad_norm_(
            _parameters_of(optimizer), max_norm, norm_type, error_if_nonfinite=raises
        )

    def clip_gradients_value(self, module: nn.Module, optimizer: Optimizer, clip_val: float) -> None:
        """Unscale an optimizer's gradients and clip each value, for loops of users."""
        self.precision.unscale_gradients(optimizer)
        nn.utils.clip_grad_value_(_parameters_of(optimizer), clip_val)

    def call_through(self, wrapped: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a module, called through what `wrap_module` made of that module.

        Args:
            wrapped: What `wrap_module` gave.
            method: The method.
        """
        return method

    def block_backward_sync(
        self, module: nn.Module | None = None, *, enabled: bool = True
    ) -> AbstractContextManager[Any]:
        """Within it, backward does not average gradients over processes.

        Args:
            module: What `wrap_module` gave; by default the newest.
            enabled: Whether it is so at all.
        """
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

    def gather_at_zero(self, obj: Any) -> list[Any] | None:
        """What every process has, in the order of ranks, in the process of rank 0; None in the others."""
        return [obj]

    def stand_in(self, module: nn.Module) -> Callable[..., Any] | None:
        """What takes part in a training step in place of one that has no batch; None in one process."""
        return None

    def zero_loss(self, module: nn.Module) -> Tensor | None:
        """A loss for a step that has none, where others wait for its gradients."""
        return None

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:  # noqa: B027  # one process's are what they are
        """Average gradients over processes that were added up in each for itself."""

    def level(self, *, also_optimizers: bool = False) -> None:  # noqa: B027  # one process has one copy
        """Make the processes' weights and buffers the same: they are evaluated or saved. All have to call it.

        Args:
            also_optimizers: Whether what training goes on from becomes the same, too.
        """

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

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights and optimizers for training to go on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  # nothing is kept
        """Take back what `state_dict` gave."""

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


def _parameters_of(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class _LeftEmpty(TorchFunctionMode):
    """Within it, `torch.nn.init` does nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def optimizer_to_device(optimizer: Optimizer, device: torch.device) -> None:
    """Move an optimizer's state; counters of steps stay where torch wants them."""
    for parameter, state in optimizer.state.items():
        capturable = any(group.get("capturable") or group.get("fused") for group in optimizer.param_groups)
        for key, value in state.items():
            if isinstance(value, Tensor) and (key != "step" or capturable):
                state[key] = value.to(device)
        optimizer.state[parameter] = state
