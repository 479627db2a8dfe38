"""Fabric: the calls that a loop of your own makes to run on any hardware."""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from levin.data.even import divided
from levin.data.loaders import seed_workers_of
from levin.fabric import states
from levin.fabric.checks import (
    as_wrapped,
    check_module,
    check_optimizer,
    is_from_command_line,
    or_from_command_line,
)
from levin.fabric.wrappers import (
    Backward,
    FabricDataLoader,
    FabricModule,
    FabricOptimizer,
    unwrapped,
)
from levin.resolve import resolve
from levin.strategies.base import Strategy
from levin.utils.apply import apply_to_collection, move_data_to_device
from levin.utils.errors import RankFailedError
from levin.utils.former_members import Keyword, had, took
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_deprecation, rank_zero_warn
from levin.utils.seed import seed_everything

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch.optim import Optimizer

    from levin.accelerators.base import Accelerator
    from levin.distributed.watch import Watch
    from levin.loggers.base import Logger

_NUMBERS = (Tensor, np.ndarray, int, float)


def _do_nothing(*_: Any) -> None:
    """What `Fabric.launch` runs if it is given no function."""


def _gpus(value: Any) -> Mapping[str, Any]:
    return {"accelerator": "gpu", "devices": value} if value else {"accelerator": "cpu"}


@had(
    is_distributed="Use `fabric.world_size > 1`.",
    reduce="Use `fabric.all_reduce(data, reduce_op=...)`.",
    model_to_device="Use `fabric.to_device(model)`.",
)
class Fabric:
    """A loop of your own on any device, in any number of processes and any precision.

    Args:
        accelerator: The kind of device: "cpu", "cuda", "mps", "gpu", or "auto" for the best there is.
        strategy: How the model is laid over the devices: "auto", "ddp", ... or a `Strategy`.
        devices: How many on this machine, which ones, or "auto".
        num_nodes: How many machines.
        precision: What numbers are computed in: "32-true", "16-mixed", "bf16-mixed", "bf16-true", ...
        plugins: Parts that replace the default ones: a precision, a cluster environment, a checkpoint IO.
        callbacks: Objects with methods that `call` calls; one or a list.
        loggers: Where `log` writes; one or a list.

    Examples:
        >>> import torch, levin as L
        >>> fabric = L.Fabric(accelerator="cpu", devices=1)
        >>> model = torch.nn.Linear(1, 1)
        >>> model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> loss = model(torch.ones(4, 1)).mean()
        >>> fabric.backward(loss)
        >>> optimizer.step()
    """

    @took(
        gpus=Keyword("Use `accelerator='gpu', devices=...`.", _gpus),
        tpu_cores=Keyword("levin runs on CPU, CUDA and MPS devices."),
    )
    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: str | int | None = None,
        plugins: Any = None,
        callbacks: Any = None,
        loggers: Logger | list[Logger] | None = None,
    ) -> None:
        self._hardware = resolve(
            accelerator=or_from_command_line("accelerator", accelerator, "auto"),
            strategy=or_from_command_line("strategy", strategy, "auto"),
            devices=or_from_command_line("devices", devices, "auto"),
            num_nodes=int(or_from_command_line("num_nodes", num_nodes, 1)),
            precision=or_from_command_line("precision", precision, None),
            plugins=plugins,
        )
        self._callbacks = _listed(callbacks)
        self._loggers: list[Logger] = _listed(loggers)
        self._backward = Backward(self.strategy)
        self._has_met = False
        self._watch: Watch | None = None
        self._by_command_line = is_from_command_line()
        self._was_launched = False
        if overrides(self, "run", Fabric):
            vars(self)["run"] = functools.partial(self._launch, self.run)
        if self._by_command_line:
            self._meet()

    # ------------------------------------------------------------------ where we are

    @property
    def accelerator(self) -> Accelerator:
        """The kind of device."""
        return self._hardware.accelerator

    @property
    def strategy(self) -> Strategy:
        """How models are laid over devices."""
        return self._hardware.strategy

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.strategy.root_device

    @property
    def global_rank(self) -> int:
        """The number of this process among all."""
        return self.strategy.global_rank

    @property
    def local_rank(self) -> int:
        """The number of this process on its machine."""
        return self.strategy.local_rank

    @property
    def node_rank(self) -> int:
        """The number of this machine."""
        return self.strategy.node_rank

    @property
    def world_size(self) -> int:
        """The number of processes."""
        return self.strategy.world_size

    @property
    def is_global_zero(self) -> bool:
        """Whether this process speaks for all."""
        return self.strategy.is_global_zero

    @property
    def loggers(self) -> list[Logger]:
        """The loggers."""
        return self._loggers

    @property
    def logger(self) -> Logger | None:
        """The first logger, if there is one."""
        return self._loggers[0] if self._loggers else None

    # ------------------------------------------------------------------ processes

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Override it in a subclass: calling it then starts the other processes, and runs it in each."""

    def launch(self, function: Callable[..., Any] = _do_nothing, *args: Any, **kwargs: Any) -> Any:
        """Start the other processes, if nothing else has, and let all of them meet.

        Called once, before `setup`. Strategies that start the program again (``"ddp"``) need no function: the
        rest of the program runs in each process. The others (``"ddp_spawn"``, ``"ddp_fork"``) run the
        function in each. If a process fails, the others end within seconds, with its error.

        Args:
            function: Runs in each process, with this Fabric as its first argument.
            *args: What else it gets.
            **kwargs: What else it gets.

        Returns:
            What the function returned; that of the first process where they run a function.

        Raises:
            TypeError: If the function can't be called with an argument, or none is given and one is needed.
            RuntimeError: If the command line has started the processes, and it is called a second time.
        """
        if self._by_command_line and self._was_launched:
            raise RuntimeError(
                "The command line has started the processes, and `fabric.launch()` was called a second time. "
                "Call it once, or not at all."
            )
        self._was_launched = True
        self._check_function(function)
        return self._launch(function, self, *args, **kwargs)

    def _check_function(self, function: Any) -> None:
        if not callable(function):
            raise TypeError(
                f"`fabric.launch` takes a function, and got {function!r}. Write `fabric.launch(main)`, not "
                "`fabric.launch(main())`."
            )
        if function is _do_nothing:
            launcher = getattr(self.strategy, "launcher", None)
            if launcher is not None and launcher.runs_function:
                raise TypeError(
                    f"{type(self.strategy).__name__} with start_method="
                    f"{getattr(self.strategy, 'start_method', None)!r} runs a function in its processes: "
                    "`fabric.launch(main)`. With strategy='ddp' none is needed."
                )
        elif not inspect.signature(function).parameters:
            name = getattr(function, "__name__", repr(function))
            raise TypeError(
                f"`fabric.launch({name})` calls `{name}(fabric)`, and it takes no argument. Write `def "
                f"{name}(fabric):`."
            )

    def _launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        launcher = getattr(self.strategy, "launcher", None)
        if launcher is not None and launcher.runs_function and not self._has_met:
            return launcher.launch(self._run_in_process, function, args, kwargs)
        self._meet()
        return self._run_watched(function, args, kwargs)

    def _run_in_process(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What a process does that was started for a function."""
        self._meet()
        try:
            return self._run_watched(function, args, kwargs)
        finally:
            self._end()  # such processes don't come to what `atexit` knows

    def _run_watched(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if self._watch is None or (isinstance(error, SystemExit) and not error.code):
                raise
            cause = self._watch.fail(error)
            if cause is error:
                raise
            raise cause from None

    def _meet(self) -> None:
        """Find the other processes, and begin to look after them."""
        if self._has_met:
            return
        self.strategy.setup_environment()
        self._has_met = True
        atexit.register(self._end)
        self._watch = self.strategy.start_watch()
        if self._watch is not None:
            self._watch.start(_do_nothing)
            _tell_of_the_end(self._watch)
            for logger in self._loggers:
                logger.settle_version(self.strategy.broadcast)

    def _end(self) -> None:
        """The program is over in this process."""
        for logger in self._loggers:
            logger.save()
        self.strategy.checkpoint_io.teardown()
        if self._watch is not None:
            self._watch.end()

    def _be_ready(self) -> None:
        """What is asked of the devices, or of other processes, comes after `launch`."""
        if self._has_met:
            return
        if self.strategy.is_distributed:
            raise RuntimeError(
                f"The processes of this Fabric ({self.world_size}) have not met yet. Call `fabric.launch()` "
                "first, or start the program with `levin run`."
            )
        self._meet()

    # ------------------------------------------------------------------ set up

    def setup(
        self,
        module: nn.Module,
        *optimizers: Optimizer,
        scheduler: Any = None,
        move_to_device: bool = True,
        _reapply_compile: bool = True,
    ) -> Any:
        """Prepare a model and its optimizers.

        Args:
            module: The model. One of `torch.compile` stays compiled.
            *optimizers: Its optimizers.
            scheduler: A learning-rate scheduler, which is handed back.
            move_to_device: Whether the model is moved to the device.

        Returns:
            The model alone if nothing else was given, else a tuple of all in the order of the arguments.

        Raises:
            ValueError: If one of them was set up before.
            RuntimeError: If `launch` has to come first, or the model is on the meta device.
        """
        self._be_ready()
        for optimizer in optimizers:
            check_optimizer(optimizer, "setup")
        model = self._set_up_module(module, optimizers, move_to_device, "setup")
        rest = [] if scheduler is None else [scheduler]
        if not optimizers and not rest:
            return model
        return (model, *self._attach(model, optimizers), *rest)

    def setup_module(
        self,
        module: nn.Module,
        move_to_device: bool = True,
        _reapply_compile: bool = True,
    ) -> Any:
        """Prepare a model alone; its optimizers follow, made of what this returns, with `setup_optimizers`.

        Args:
            module: The model.
            move_to_device: Whether it is moved to the device.
        """
        self._be_ready()
        return self._set_up_module(module, (), move_to_device, "setup_module")

    def setup_optimizers(self, *optimizers: Optimizer) -> Any:
        """Prepare optimizers of models that were set up by `setup_module`.

        Returns:
            The optimizer, or a tuple of several.
        """
        self._be_ready()
        if not optimizers:
            raise ValueError("`setup_optimizers` got no optimizer. Pass one or more.")
        for optimizer in optimizers:
            check_optimizer(optimizer, "setup_optimizers")
        wrapped = self._set_up_optimizers(optimizers)
        return wrapped[0] if len(wrapped) == 1 else wrapped

    def _set_up_module(
        self, module: nn.Module, optimizers: tuple[Optimizer, ...], move_to_device: bool, caller: str
    ) -> FabricModule:
        check_module(module, optimizers, caller, moves=move_to_device)
        original: nn.Module = getattr(module, "_orig_mod", module)  # of a `torch.compile`d one
        strategy = self.strategy
        ready = (
            strategy.setup_module(original) if move_to_device else strategy.precision.convert_module(original)
        )
        wrapped = strategy.wrap_module(ready)
        run = module if ready is original else ready
        model = FabricModule(ready, wrapped, strategy, self._backward, run.__call__)
        self._attach(model, ())
        self.call("on_after_setup", fabric=self, module=model)
        return model

    def _attach(self, model: FabricModule, optimizers: tuple[Optimizer, ...]) -> tuple[FabricOptimizer, ...]:
        """Set up the optimizers of a model, and let one that can work with a Fabric know of both."""
        wrapped = self._set_up_optimizers(optimizers) if optimizers else ()
        use = getattr(type(unwrapped(model)), "use_fabric", None)  # a LightningModule's
        if use is not None:
            use(unwrapped(model), self, wrapped)
            for name in ("training_step", "validation_step", "test_step", "predict_step"):
                model.mark_forward_method(name)
        return wrapped

    def _set_up_optimizers(self, optimizers: tuple[Optimizer, ...]) -> tuple[FabricOptimizer, ...]:
        hooks = [getattr(callback, "on_after_optimizer_step", None) for callback in self._callbacks]
        after_step = tuple(hook for hook in hooks if callable(hook))
        ready = self.strategy.setup_optimizers(list(optimizers))
        return tuple(FabricOptimizer(optimizer, self.strategy, after_step) for optimizer in ready)

    def setup_dataloaders(
        self, *dataloaders: DataLoader[Any], use_distributed_sampler: bool = True, move_to_device: bool = True
    ) -> Any:
        """Prepare loaders: each process reads its part, another order each epoch, batches on the device.

        All processes get the same number of batches (`levin.data.even`). A loader that divides its data
        itself, by a `torch.utils.data.DistributedSampler`, is left to do so; each pass is told its epoch.

        Args:
            *dataloaders: The loaders.
            use_distributed_sampler: Whether the data is divided among the processes.
            move_to_device: Whether batches are moved to the device.

        Returns:
            The loader, or a list of several.

        Raises:
            ValueError: If there is none, or one was set up before.
            TypeError: If one is no `torch.utils.data.DataLoader`.
        """
        self._be_ready()
        if not dataloaders:
            raise ValueError("`setup_dataloaders` got no dataloader. Pass one or more.")
        found = [self._set_up_loader(each, use_distributed_sampler, move_to_device) for each in dataloaders]
        return found[0] if len(found) == 1 else found

    def _set_up_loader(self, loader: Any, divides: bool, moves: bool) -> FabricDataLoader:
        if isinstance(loader, FabricDataLoader):
            raise ValueError("`setup_dataloaders` got a dataloader that it gave back. Pass each one once.")
        if not isinstance(loader, DataLoader):
            raise TypeError(
                f"`setup_dataloaders` takes torch.utils.data.DataLoader, and got a {type(loader).__name__}. "
                "Iterate over anything else as it is, and move its batches: `fabric.to_device(batch)`."
            )
        strategy, part = self.strategy, loader
        if divides and self.world_size > 1:
            part = divided(
                loader,
                num_replicas=self.world_size,
                rank=self.global_rank,
                seed=int(os.environ.get("PL_GLOBAL_SEED", "0")),
                gather=strategy.gather_objects,
            )
        seed_workers_of(getattr(part, "loader", part), self.global_rank)
        move: Callable[[Any], Any] = strategy.batch_to_device
        if not overrides(strategy, "batch_to_device", Strategy):
            move = functools.partial(move_data_to_device, device=self.device)
        return FabricDataLoader(part, move if moves else None)

    # ------------------------------------------------------------------ a step

    def backward(self, tensor: Tensor, *args: Any, model: nn.Module | None = None, **kwargs: Any) -> None:
        """Compute the gradients of a loss, scaled where the precision scales.

        Args:
            tensor: The loss.
            *args: As for `torch.Tensor.backward`.
            model: The model that it is of, for strategies that have to know it.
            **kwargs: As for `torch.Tensor.backward`.
        """
        if model is not None:
            as_wrapped(model, "backward(loss, model=model)")
        self._backward(tensor, *args, **kwargs)

    def clip_gradients(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        clip_val: float | None = None,
        max_norm: float | None = None,
        norm_type: float | int = 2.0,
        error_if_nonfinite: bool = True,
    ) -> Tensor | None:
        """Clip the gradients of an optimizer's parameters, between `backward` and the step.

        Args:
            module: The model.
            optimizer: The optimizer.
            clip_val: The largest absolute value of each, or
            max_norm: the largest norm of all together.
            norm_type: Which norm.
            error_if_nonfinite: Whether a norm that is no number is an error. Under a gradient scaler it is
                none, for the scaler leaves such a step out.

        Returns:
            With ``max_norm``, the norm before clipping.

        Raises:
            ValueError: Unless just one of ``clip_val`` and ``max_norm`` is given.
        """
        if (clip_val is None) == (max_norm is None):
            what = "neither" if clip_val is None else "both"
            raise ValueError(
                f"`clip_gradients` got {what} of `clip_val` and `max_norm`. Give one: `clip_val` bounds each "
                "value, `max_norm` the norm of all gradients."
            )
        wrapped = vars(module).get("_forward_module", module)
        inner = unwrapped(optimizer)
        if clip_val is not None:
            self.strategy.clip_gradients_value(wrapped, inner, clip_val)
            return None
        assert max_norm is not None
        return self.strategy.clip_gradients_norm(wrapped, inner, max_norm, norm_type, error_if_nonfinite)

    def autocast(self) -> AbstractContextManager[Any]:
        """Within it, what is computed outside of the model is computed in the precision, too."""
        return self.strategy.precision.forward_context()

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> AbstractContextManager[Any]:
        """Within it, gradients are added up in each process, and not averaged: for accumulation.

        Args:
            module: The model, as `setup` gave it. Forward and backward have to be within.
            enabled: Whether it is so at all: False for the last batch before a step.

        Raises:
            TypeError: If the model was not set up.
        """
        wrapped = as_wrapped(module, "no_backward_sync(model)")
        return self.strategy.block_backward_sync(vars(wrapped)["_forward_module"], enabled=enabled)

    def to_device(self, obj: Any) -> Any:
        """Move a module (in place), a tensor or a collection of tensors to the device."""
        if not isinstance(obj, nn.Module):
            return move_data_to_device(obj, self.device)
        self.strategy.module_to_device(obj)
        return obj

    def init_tensor(self) -> AbstractContextManager[Any]:
        """Within it, new tensors are made on the device and in the precision."""
        return self.strategy.tensor_init_context()

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[Any]:
        """Within it, new modules are made on the device and in the precision.

        Args:
            empty_init: Whether weights are left uninitialised, for such as are loaded anyway.
        """
        self._be_ready()
        return self.strategy.module_init_context(empty_init)

    def sharded_model(self) -> AbstractContextManager[Any]:
        """Of earlier versions: use `init_module`."""
        rank_zero_deprecation("`fabric.sharded_model()` is now `fabric.init_module()`.")
        return nullcontext()

    # ------------------------------------------------------------------ speaking with other processes

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print, in the first process of each machine."""
        if self.local_rank == 0:
            print(*args, **kwargs)  # noqa: T201  # what it is for

    def barrier(self, name: str | None = None) -> None:
        """Wait until all processes are here; the name is told if they don't come."""
        self._be_ready()
        self.strategy.barrier(name)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Give every process what the process of rank ``src`` has."""
        self._be_ready()
        return self.strategy.broadcast(obj, src)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Collect tensors or numbers, or collections of them, from all processes.

        Args:
            data: Of the same shapes in each.
            group: Some of the processes; None for all.
            sync_grads: Whether gradients flow back.

        Returns:
            The same collection, each tensor with a new first dimension of the number of processes; with none
            on a single device.
        """
        self._be_ready()
        return self.strategy.all_gather(data, group, sync_grads)

    def all_reduce(self, data: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """Combine tensors or numbers, or collections of them, over all processes.

        Args:
            data: Of the same shapes in each.
            group: Some of the processes; None for all.
            reduce_op: "mean", "sum", "min", "max" or "product".

        Returns:
            The same collection of tensors, in each process.
        """
        self._be_ready()
        tensors = apply_to_collection(data, _NUMBERS, torch.as_tensor, device=self.device)
        return apply_to_collection(tensors, Tensor, self.strategy.reduce, group, reduce_op)

    @contextmanager
    def rank_zero_first(self, local: bool = False) -> Iterator[None]:
        """The first process runs the body while the others wait, however long it takes; then they run it.

        Args:
            local: Whether the first process of each machine goes first, and not only that of all.
        """
        self._be_ready()
        is_first = (self.local_rank if local else self.global_rank) == 0
        let_go = functools.partial(
            self.strategy.in_turn, _do_nothing, label="rank_zero_first", per_node=local
        )
        if not is_first:
            let_go()  # which is to wait, there
        try:
            yield
        finally:
            if is_first:
                let_go()

    # ------------------------------------------------------------------ checkpoints

    def save(
        self,
        path: str | Path,
        state: dict[str, Any],
        filter: dict[str, Callable[[str, Any], bool]] | None = None,  # noqa: A002  # the known name
    ) -> None:
        """Write a checkpoint. All processes call it; it is there when they go on.

        Args:
            path: The file.
            state: Name -> module, optimizer, anything else with ``state_dict`` and ``load_state_dict``, or a
                plain value; dicts of such, too.
            filter: Name -> function of a key and a value of that state, which says whether it is kept.

        Raises:
            TypeError: If something can't be written so that it loads safely; names it.
        """
        self._be_ready()
        if isinstance(path, Mapping):
            raise TypeError("`fabric.save` got the state first. Write `fabric.save(path, state)`.")
        content = states.collect(self.strategy, state, filter)
        self.strategy.save_checkpoint(path, content)
        self.strategy.barrier("save")

    def load(
        self,
        path: str | Path,
        state: dict[str, Any] | None = None,
        strict: bool = True,
        *,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, and give the objects in ``state`` their states back. All processes call it.

        Args:
            path: The file.
            state: As for `save`: objects are loaded in place, other values are replaced in it.
            strict: Whether the file must have everything that ``state`` names, and modules all their keys.
            weights_only: False allows pickled objects, and with them any code: only for files that you trust.

        Returns:
            What the file has beyond ``state``.

        Raises:
            KeyError: If the file lacks something; nothing was loaded then.
        """
        self._be_ready()
        content = states.read(self.strategy, path, weights_only)
        return (
            content if state is None else states.restore(self.strategy, path, state, content, strict=strict)
        )

    def load_raw(
        self, path: str | Path, obj: Any, strict: bool = True, *, weights_only: bool | None = None
    ) -> None:
        """Load a file that is the state of one object, as ``torch.save(model.state_dict(), path)`` makes it.

        Args:
            path: The file.
            obj: The module, the optimizer, or a dict as for `load`.
            strict: Whether a module must find all its keys.
            weights_only: As for `load`.
        """
        self._be_ready()
        if isinstance(obj, dict):
            self.load(path, obj, strict, weights_only=weights_only)
            return
        content = states.read(self.strategy, path, weights_only)
        states.load_into(self.strategy, unwrapped(obj), content, strict=strict)

    # ------------------------------------------------------------------ callbacks, loggers, seeds

    def call(self, hook_name: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of each callback that has it.

        Args:
            hook_name: Any name.
            *args: What it gets.
            **kwargs: What it gets by name, as far as it takes it.
        """
        for callback in self._callbacks:
            method = getattr(callback, hook_name, None)
            if method is None:
                continue
            if not callable(method):
                rank_zero_warn(
                    f"`fabric.call({hook_name!r})` passes over {type(callback).__name__}.{hook_name}, which "
                    f"is a {type(method).__name__} and can't be called."
                )
                continue
            method(*args, **_accepted(method, kwargs))

    def log(self, name: str, value: Any, step: int | None = None) -> None:
        """Write a value to all loggers.

        Args:
            name: Its name.
            value: A number or a tensor of one element.
            step: Where on the x-axis it belongs; None leaves that to the logger.
        """
        self.log_dict({name: value}, step)

    def log_dict(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write values that belong together to all loggers.

        Args:
            metrics: Name -> number or tensor of one element.
            step: Where on the x-axis they belong; None leaves that to the logger.

        Raises:
            ValueError: If a tensor has several elements.
        """
        if not self.strategy.is_distributed:
            self._be_ready()  # so that they are written out in the end
        numbers = states.as_numbers(metrics)
        for logger in self._loggers:
            logger.log_metrics(numbers, step=step)

    @staticmethod
    def seed_everything(seed: int | None = None, workers: bool | None = None, verbose: bool = True) -> int:
        """Seed all generators of this process, and those of the workers of loaders.

        Args:
            seed: As for `levin.seed_everything`.
            workers: Whether workers get streams of their own; None means yes.
            verbose: Whether the seed is logged.
        """
        return seed_everything(seed, workers=workers is not False, verbose=verbose)


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _tell_of_the_end(watch: Watch) -> None:
    """If the program ends with an error, let the other processes know, or tell what began with them."""
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        cause = error if isinstance(error, RankFailedError) else watch.fail(error)
        if cause is not error:
            kind, trace = type(cause), cause.__traceback__
        before(kind, cause, trace)

    sys.excepthook = tell


def _accepted(method: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Those of the keywords that a method takes."""
    taken = inspect.signature(method).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in taken):
        return kwargs
    names = {each.name for each in taken}
    return {name: value for name, value in kwargs.items() if name in names}
