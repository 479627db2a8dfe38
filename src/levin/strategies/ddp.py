"""DDPStrategy: a copy of the model in each process, gradients averaged while they are computed."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from levin.distributed import collectives, group
from levin.strategies.averaging import level
from levin.strategies.communication import Communication, as_torch_wants, wrapper_options
from levin.strategies.compression import LowRank
from levin.strategies.forward import Carrier, through
from levin.strategies.manual import ManualSync
from levin.strategies.parallel import ParallelStrategy
from levin.strategies.unused import LeftOut
from levin.utils.errors import SkipStep
from levin.utils.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch.optim import Optimizer

    from levin.strategies.averaging import Averaging, LocalSGD
    from levin.strategies.compression import PowerSGD


class DDPStrategy(ParallelStrategy):
    """A copy of the model on each device; torch's DistributedDataParallel averages their gradients.

    Only training needs that: evaluation and prediction run the module itself.

    Args:
        find_unused_parameters: Whether a step may leave parameters out; costs a walk through the graph. By
            default it may in manual optimization with several optimizers, where each backward is for the
            parameters of one, and not otherwise.
        static_graph: Whether every step uses the same parameters, the same number of times.
        gradient_compression: What gradients are sent as: "fp16", "bf16", "powersgd" or a `PowerSGD`.
        local_sgd: Average weights now and then, instead of gradients in each step: after how many steps, or a
            `LocalSGD`.
        ddp_comm_hook: A hook of torch's kind that averages a bucket of gradients.
        ddp_comm_state: What the hook gets as its first argument.
        ddp_comm_wrapper: A function that makes a hook of the hook.
        model_averaging_period: With a `PostLocalSGDState` of torch's, after how many steps weights are
            averaged.
        **kwargs: As for `ParallelStrategy`, and more of DistributedDataParallel's: `bucket_cap_mb`,
            `gradient_as_bucket_view` (True by default here), `broadcast_buffers` ...

    Raises:
        TypeError: If an argument is known to neither.
        MisconfigurationException: If arguments do not fit together.
    """

    def __init__(
        self,
        *,
        find_unused_parameters: bool | None = None,
        static_graph: bool = False,
        gradient_compression: str | PowerSGD | None = None,
        local_sgd: int | LocalSGD | None = None,
        ddp_comm_state: Any = None,
        ddp_comm_hook: Callable[..., Any] | None = None,
        ddp_comm_wrapper: Callable[..., Any] | None = None,
        model_averaging_period: int | None = None,
        **kwargs: Any,
    ) -> None:
        if "precision_plugin" in kwargs:
            kwargs["precision"] = kwargs.pop("precision_plugin")
        ours = {name: kwargs.pop(name) for name in _PARALLEL if name in kwargs}
        self._options: dict[str, Any] = wrapper_options(kwargs, (*_PARALLEL, *_OWN))
        super().__init__(**ours)
        self._may_leave_out = find_unused_parameters
        self._options["static_graph"] = static_graph
        self._communication = Communication(
            gradient_compression,
            local_sgd,
            state=ddp_comm_state,
            hook=ddp_comm_hook,
            wrapper=ddp_comm_wrapper,
            period=model_averaging_period,
        )
        self._carrier: Carrier | None = None
        self._hook: Callable[[Any, Any], Any] | None = None
        self._averaged: list[str] = []  # the parameters whose gradients are
        self._left_out: LeftOut | None = None
        self._manual: ManualSync | None = None
        self._averaging: Averaging | None = None
        self._low_rank: LowRank | None = None
        self._machine: Any = None  # the group of this machine's processes

    # ------------------------------------------------------------------ set up and put away

    def setup_module(self, module: nn.Module) -> nn.Module:
        """Convert the module, move it to the device, and give all processes the same weights."""
        module = super().setup_module(module)
        _check_that_all_have(module)
        buffers = module.buffers() if self._gives_out_buffers else ()
        collectives.broadcast_tensors([*module.parameters(), *buffers])
        return module

    @property
    def _gives_out_buffers(self) -> bool:
        return self._options.get("forward_sync_buffers", self._options.get("broadcast_buffers")) is not False

    def wrap_module(self, module: nn.Module, *, steps_backward: bool = False) -> nn.Module:
        """Let the gradients of the module be averaged."""
        if not _trained(module):
            return module
        if self.layer_sync is not None:
            module = self.layer_sync.apply(module)
        self._carrier = Carrier(module)
        self._take_communication(module)
        self._manual = ManualSync() if steps_backward else None
        return self._wrap(self._carrier, may_leave_out=bool(self._may_leave_out))

    def _wrap(self, carrier: Carrier, *, may_leave_out: bool) -> DistributedDataParallel:
        """Wrap the module, perhaps anew: for other parameters, or another way to look for them."""
        device, before = self.root_device, self.model
        if isinstance(before, DistributedDataParallel) and before.module is carrier:
            before._remove_autograd_hooks()  # type: ignore[no-untyped-call]  # noqa: SLF001  # another takes its place
        model = DistributedDataParallel(
            carrier,
            device_ids=None if device.type == "cpu" else [device.index],
            process_group=self._group_of_gradients(),
            find_unused_parameters=may_leave_out,
            **self._options,
        )
        self.model: nn.Module | None = model
        self._averaged = _trained(carrier.module)
        self._left_out = LeftOut(model, self._averaged)
        if self._manual is not None:
            self._manual.take(model, self._left_out)
        if self._hook is not None:
            model.register_comm_hook(self._communication.state, as_torch_wants(self._hook))
        self._follow_phase()
        return model

    def _group_of_gradients(self) -> Any:
        """A group for gradients alone, so that nothing else gets in their way; None for the one of all."""
        if self.root_device.type != "cpu":  # each is a lot of memory there
            return None
        return group.further("gradients", self.timeout)

    def _take_communication(self, module: nn.Module) -> None:
        """Make what a run has of its own to average gradients and weights."""
        chosen = self._communication
        if chosen.needs_machine and self._machine is None:
            self._machine = collectives.group_of(self.node_rank)
        self._averaging = chosen.new_averaging()
        self._hook = chosen.new_hook(module, self._machine, lambda: self._is_local)
        self._low_rank = self._hook if isinstance(self._hook, LowRank) else None

    def setup_optimizers(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """Take the optimizers in; their steps are counted where weights are averaged now and then.

        Raises:
            ValueError: If one of them averages weights itself, or holds only a part of its state, and so does
                the strategy; or if nothing does.
        """
        optimizers = super().setup_optimizers(optimizers)
        self._make_room_for_turns(len(optimizers))
        strange = [type(each).__name__ for each in optimizers if _averages_itself(each) or _is_divided(each)]
        if self._averaging is not None and strange:
            raise ValueError(
                f"Weights are to be averaged now and then, and {', '.join(strange)} can't be averaged from "
                "outside. Return the plain optimizer from `configure_optimizers`."
            )
        if self._communication.is_post_local and self._averaging is None and not strange:
            raise ValueError(
                "The PostLocalSGDState lets processes step on their own, and nothing averages their weights. "
                "Pass `model_averaging_period`, or use local_sgd=LocalSGD(...) in place of all of it."
            )
        if self._averaging is not None:
            self._averaging.take(optimizers)
            self._follow_phase()
        return optimizers

    def _make_room_for_turns(self, num_optimizers: int) -> None:
        """With several optimizers each backward is for the parameters of one, and leaves the others' out."""
        is_meant = self._may_leave_out is None and not self._options["static_graph"]
        if self._manual is None or self._carrier is None or num_optimizers < 2 or not is_meant:
            return
        if not self._wrapper.find_unused_parameters:
            self._wrap(self._carrier, may_leave_out=True)

    def teardown(self) -> None:
        """Let go of the wrapper, and give the devices back."""
        if self._carrier is not None:
            module, self._carrier = self._carrier.module, None
            self.model = module if self.layer_sync is None else self.layer_sync.revert(module)
        self._left_out = self._manual = self._averaging = self._low_rank = self._hook = None
        super().teardown()

    # ------------------------------------------------------------------ a step

    @property
    def _wrapper(self) -> DistributedDataParallel:
        assert isinstance(self.model, DistributedDataParallel)
        return self.model

    def redirect(self, module: nn.Module, name: str) -> Callable[..., Any]:
        """A method of the module as loops call it; that of a training step goes through the wrapper."""
        method = super().redirect(module, name)
        if self._carrier is None or self._left_out is None or name not in ("training_step", "forward"):
            return method
        if _trained(self._carrier.module) != self._averaged:  # some were frozen or thawed since
            self._wrap(self._carrier, may_leave_out=self._wrapper.find_unused_parameters)
        self._carrier.carry(method if self._manual is None else self._manual.inner(method))
        step = self._explained(self._wrapper, self._left_out)
        return step if self._manual is None else self._manual.outer(step)

    def call_through(self, wrapped: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of a module, called through the wrapper that averages its gradients."""
        if not isinstance(wrapped, DistributedDataParallel):
            return method
        left_out = LeftOut(wrapped, _trained(wrapped.module.module))
        return self._explained(through(wrapped, wrapped.module, method), left_out)

    @staticmethod
    def _explained(call: Callable[..., Any], left_out: LeftOut) -> Callable[..., Any]:
        """A call that names the parameters that the last step left out, if that was its fault."""

        def step(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except RuntimeError as error:
                told = left_out.explained(error)
                if told is error:
                    raise
                raise told from None

        return step

    def settled_backward(self, own: Callable[..., None] | None = None) -> Callable[..., None]:
        """`backward` as a loop calls it: it ends with the mean of the gradients over the processes."""
        backward = super().settled_backward(own)
        if self._left_out is None:
            return backward
        if self._manual is not None:
            return self._manual.averaged(backward)
        return self._left_out.checked(backward)

    def block_backward_sync(
        self, module: nn.Module | None = None, *, enabled: bool = True
    ) -> AbstractContextManager[Any]:
        """Within it, backward adds up gradients in each process for itself."""
        if isinstance(module, DistributedDataParallel) and module is not self.model:
            return module.no_sync() if enabled else nullcontext()
        if not enabled or self._carrier is None:
            return super().block_backward_sync(enabled=enabled)
        if self._manual is not None:
            return self._manual.blocked()
        model = self._wrapper
        if model.static_graph and not model._static_graph_delay_allreduce_enqueued:  # noqa: SLF001  # told nowhere else
            return nullcontext()  # the first backward shows the graph, and has to be averaged for that
        return model.no_sync()

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, model: Any = None, **kwargs: Any
    ) -> Any:
        """Step the optimizer, and average the weights if it is time."""
        if closure is not None and _averages_itself(optimizer):  # it takes none
            loss = closure()
            super().optimizer_step(optimizer, None, model, **kwargs)
            return loss
        if self._averaging is None:
            return super().optimizer_step(optimizer, closure, model, **kwargs)
        try:
            result = super().optimizer_step(optimizer, closure, model, **kwargs)
        except SkipStep:  # in this process perhaps, and not in the others
            self._stepped(self._averaging, optimizer)
            raise
        self._stepped(self._averaging, optimizer)
        return result

    def _stepped(self, averaging: Averaging, optimizer: Optimizer) -> None:
        averaging.after_step(optimizer)
        self._follow_phase()

    @property
    def steps_its_own_way(self) -> bool:
        """Whether `optimizer_step` has to get the closure, as one may need it that somebody has written."""
        return overrides(self, "optimizer_step", DDPStrategy)

    @property
    def _is_local(self) -> bool:
        """Whether processes step on their own for now."""
        return self._averaging is not None and self._averaging.is_local

    def _follow_phase(self) -> None:
        """Let gradients be averaged, or not."""
        if not self._communication.steps_alone:
            return  # if they ever do, a hook sees to it
        syncs = not self._is_local
        if self._manual is not None:
            self._manual.syncs = syncs
        else:
            self._wrapper.require_backward_grad_sync = syncs

    def stand_in(self, module: nn.Module) -> Callable[..., Any] | None:
        """A training step whose gradients are zero, for a process without a batch."""
        if self._carrier is None:
            return None
        return through(self._wrapper, self._carrier, lambda *_: _nothing_of(module))

    def zero_loss(self, module: nn.Module) -> Tensor | None:
        """A loss for a step that had none; where parameters may be left out, the wrapper has to know it."""
        if self._carrier is None:
            return None
        loss, model = _nothing_of(module), self._wrapper
        if model.find_unused_parameters and model.require_backward_grad_sync:
            model.reducer.prepare_for_backward([loss])
        return loss

    # ------------------------------------------------------------------ the same everywhere

    def level(self, *, also_optimizers: bool = False) -> None:
        """Make the processes' weights and buffers the same.

        Where processes step on their own, their weights are averaged; and, if training is to go on from a
        file, their optimizers' states and what compression keeps.
        """
        if self._carrier is None:
            return
        module = self._carrier.module
        if self._is_local or any(_averages_itself(each) for each in self.optimizers):
            buffers = module.buffers() if self._gives_out_buffers else ()
            level(self.optimizers, buffers, also_states=also_optimizers)
        elif self._gives_out_buffers:
            collectives.broadcast_tensors([*module.buffers()])
        if also_optimizers and self._low_rank is not None:
            self._low_rank.level()

    def state_dict(self) -> dict[str, Any]:
        """How far the processes are with compressing and averaging."""
        state: dict[str, Any] = {}
        if self._averaging is not None:
            state["averaging"] = self._averaging.state_dict()
        if self._low_rank is not None:
            state["compression"] = self._low_rank.state_dict()
        if self._communication.is_post_local:
            state["post_local"] = {"iter": self._communication.state.iter}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; what this strategy does not do is passed over."""
        if self._averaging is not None and "averaging" in state:
            self._averaging.load_state_dict(state["averaging"])
            self._follow_phase()
        if self._low_rank is not None and "compression" in state:
            self._low_rank.load_state_dict(state["compression"])
        if self._communication.is_post_local and "post_local" in state:
            self._communication.state.iter = state["post_local"]["iter"]


def _nothing_of(module: nn.Module) -> Tensor:
    """Zero, as a sum over no elements of each parameter: so are the gradients, whatever they are."""
    parts = [each.flatten()[:0].sum() for each in module.parameters() if each.requires_grad]
    return torch.stack([part.to(parts[0].dtype) for part in parts]).sum()


def _trained(module: nn.Module) -> list[str]:
    """The names of the parameters that need gradients."""
    return [name for name, each in module.named_parameters() if each.requires_grad]


def _check_that_all_have(module: nn.Module) -> None:
    """Find processes out that have made another model: they would wait for one another.

    Raises:
        RuntimeError: With the first difference.
    """
    mine = [(name, tuple(each.shape), str(each.dtype)) for name, each in module.named_parameters()]
    digest = hashlib.blake2b(repr(mine).encode(), digest_size=16).hexdigest()
    if len(set(collectives.gather_objects(digest))) == 1:
        return
    everyones = collectives.gather_objects(mine)
    for rank, theirs in enumerate(everyones):
        if theirs != everyones[0]:
            here = [each for each in theirs if each not in everyones[0]]
            there = [each for each in everyones[0] if each not in theirs]
            raise RuntimeError(
                f"Rank {rank} has made another model than rank 0. Only there: {here[:3]}; only in rank 0: "
                f"{there[:3]}. All processes have to make the same parameters, in the same order."
            )


def _averages_itself(optimizer: Any) -> bool:
    """Whether this is torch's optimizer that averages weights."""
    return type(optimizer).__name__ == "PostLocalSGDOptimizer"  # its module is slow to import


def _is_divided(optimizer: Any) -> bool:
    """Whether an optimizer holds only a part of its state in each process."""
    return type(optimizer).__name__ in ("ZeroRedundancyOptimizer", "DistributedOptimizer")


_PARALLEL = (
    "accelerator", "precision", "checkpoint_io", "parallel_devices", "cluster_environment",
    "process_group_backend", "timeout", "start_method",
)  # fmt: skip
_OWN = (
    "find_unused_parameters", "static_graph", "gradient_compression", "local_sgd", "ddp_comm_state",
    "ddp_comm_hook", "ddp_comm_wrapper", "model_averaging_period", "precision_plugin",
)  # fmt: skip
