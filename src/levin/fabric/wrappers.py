"""What `Fabric.setup` and `setup_dataloaders` give back: your objects, run by strategy and precision."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from levin.data.loaders import samplers_by_epoch
from levin.precision.base import Precision
from levin.utils.apply import apply_to_collection
from levin.utils.overrides import overrides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.optim import Optimizer

    from levin.strategies.base import Strategy


class Backward:
    """How losses are differentiated, as the strategy and the precision say.

    Args:
        strategy: The strategy.

    Attributes:
        is_needed: Whether gradients are wrong if torch's own ``loss.backward()`` is called in its place.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._is_running = False
        self.is_needed: bool = strategy.precision.scales

    def __call__(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of a loss."""
        self._is_running = True
        try:
            self._strategy.backward(loss, *args, **kwargs)
        finally:
            self._is_running = False

    def watch(self, output: Tensor) -> Tensor:
        """Have a backward through this output noticed that did not come from here."""
        if output.requires_grad:
            output.register_hook(self._check)  # type: ignore[no-untyped-call]  # torch's
        return output

    def _check(self, grad: Tensor) -> Tensor:
        if not self._is_running:
            raise RuntimeError(
                f"precision={self._strategy.precision.precision!r} scales losses: call "
                "`fabric.backward(loss)` in place of `loss.backward()`."
            )
        return grad


class FabricModule(nn.Module):
    """A module as a loop calls it: its forward runs in the precision, and through the strategy's wrapper.

    Everything else (attributes, parameters and their names, `train`, `to`, `state_dict`, ...) is the module's
    own: this object is another face of it.

    Args:
        original: The module.
        wrapped: What the strategy's `wrap_module` made of it; may be the module itself.
        strategy: The strategy.
        backward: How losses are differentiated.
        forward: What computes its output: the module, or what `torch.compile` made of it.
    """

    _original_module: nn.Module
    _forward_module: nn.Module
    _strategy: Strategy
    _backward: Backward
    _forward: Callable[..., Any]
    _marked: dict[str, Callable[..., Any]]

    def __init__(
        self,
        original: nn.Module,
        wrapped: nn.Module,
        strategy: Strategy,
        backward: Backward,
        forward: Callable[..., Any],
    ) -> None:
        # not nn.Module's own: there are no parameters and hooks of its own
        vars(self).update(
            _original_module=original,
            _forward_module=wrapped,
            _strategy=strategy,
            _backward=backward,
            _marked={},
        )
        vars(self)["_forward"] = self._settled(forward)

    # ------------------------------------------------------------------ calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output."""
        return self._forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output."""
        return self._forward(*args, **kwargs)

    def mark_forward_method(self, method: str | Callable[..., Any]) -> None:
        """Let another method than `forward` run in the precision and through the strategy's wrapper, too.

        Methods that are called in place of `forward` to compute something with the parameters need it.

        Args:
            method: The method, or its name.

        Raises:
            ValueError: If it is `forward`, which always does.
            AttributeError: If the module has no such method.
            TypeError: If it is neither a method nor a name.
        """
        name = getattr(method, "__name__", None) if callable(method) else method
        if not isinstance(name, str):
            raise TypeError(
                f"`mark_forward_method` takes a method or its name, and got a {type(method).__name__}."
            )
        if name == "forward":
            raise ValueError("`forward` needs no mark: it runs through the strategy as it is. Leave it out.")
        owner = type(self._original_module).__name__
        bound = getattr(self._original_module, name, None)
        if not inspect.ismethod(bound):
            raise AttributeError(
                f"`mark_forward_method({name!r})`: {owner} has no method of this name to mark."
            )
        self._marked[name] = self._settled(bound)

    def _settled(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method as a loop calls it. What precision and strategy have nothing to do with is left alone."""
        precision = self._strategy.precision
        call = precision.wrap_step(self._strategy.call_through(self._forward_module, method))
        if overrides(precision, "convert_output", Precision):
            call = _followed_by(call, precision.convert_output)
        if self._backward.is_needed:
            watch = functools.partial(apply_to_collection, dtype=Tensor, function=self._backward.watch)
            call = _followed_by(call, watch)
        return call

    # ------------------------------------------------------------------ the other face

    def __getattr__(self, name: str) -> Any:
        if name in FabricModule.__annotations__:  # not there yet: while it is being made
            raise AttributeError(name)
        if name in self._marked:
            return self._marked[name]
        found = getattr(self._original_module, name)
        is_method = inspect.ismethod(found) and found.__self__ is self._original_module
        if is_method and self._forward_module is not self._original_module:
            return self._guarded(name, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._original_module, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._original_module, name)

    def __dir__(self) -> list[str]:
        return sorted({*super(nn.Module, self).__dir__(), *dir(self._original_module)})

    def __deepcopy__(self, memo: dict[int, Any]) -> FabricModule:
        """A copy of the module, run by the same strategy."""
        original, wrapped = (
            copy.deepcopy(each, memo) for each in (self._original_module, self._forward_module)
        )
        made = FabricModule(original, wrapped, self._strategy, self._backward, original)
        for name in self._marked:
            made.mark_forward_method(name)
        return made

    @property
    def training(self) -> bool:  # type: ignore[override]  # torch has it as a plain attribute
        """Whether the module is in training mode."""
        return self._original_module.training

    @property
    def device(self) -> torch.device:
        """The device of the module."""
        return next((each.device for each in self._original_module.parameters()), self._strategy.root_device)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the module."""
        types = (each.dtype for each in self._original_module.parameters() if each.is_floating_point())
        return next(types, torch.get_default_dtype())

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method that is not marked: if it turns out to run a layer, it should be."""
        original = self._original_module

        def refuse(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001  # a hook's
            if torch.is_grad_enabled() or self._strategy.shards_parameters:
                raise RuntimeError(
                    f"`{type(original).__name__}.{name}()` runs layers of the model past "
                    f"{type(self._strategy).__name__}, which would leave its gradients as they are in this "
                    f'process. After `fabric.setup(...)`, call `model.mark_forward_method("{name}")` once.'
                )

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            hooks = [each.register_forward_pre_hook(refuse) for each in original.modules()]
            try:
                return method(*args, **kwargs)
            finally:
                for hook in hooks:
                    hook.remove()

        return call


def _followed_by(call: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: change(call(*args, **kwargs))


def _of_the_original(name: str) -> Callable[..., Any]:
    """A method of `torch.nn.Module` that is called on the module itself, which may override it."""

    @functools.wraps(getattr(nn.Module, name))
    def call(self: FabricModule, *args: Any, **kwargs: Any) -> Any:
        original = vars(self)["_original_module"]
        result = getattr(original, name)(*args, **kwargs)
        return self if result is original else result

    return call


for _name, _member in vars(nn.Module).items():
    if inspect.isfunction(_member) and not _name.startswith("__") and _name not in vars(FabricModule):
        setattr(FabricModule, _name, _of_the_original(_name))


if TYPE_CHECKING:
    _AnOptimizer = Optimizer
else:
    _AnOptimizer = object  # what it really inherits is the class of the optimizer that it wraps


def _of_the_wrapped(name: str) -> property:
    return property(
        lambda self: getattr(self.optimizer, name), lambda self, value: setattr(self.optimizer, name, value)
    )


class FabricOptimizer(_AnOptimizer):
    """An optimizer as a loop steps it: by strategy and precision; all else is its own.

    It is an instance of the optimizer's class, too, so that schedulers take it for what it wraps.

    Args:
        optimizer: The optimizer.
        strategy: What steps it.
        after_step: Called after each step with ``strategy`` and ``optimizer``.
    """

    def __new__(cls, optimizer: Optimizer, *_: Any, **__: Any) -> FabricOptimizer:
        """Make an instance of a class that is both."""
        both = type(f"Fabric{type(optimizer).__name__}", (cls, type(optimizer)), {"__module__": __name__})
        return cast("FabricOptimizer", object.__new__(both))

    def __init__(
        self, optimizer: Optimizer, strategy: Strategy, after_step: tuple[Callable[..., Any], ...] = ()
    ) -> None:
        self._optimizer = optimizer
        self._strategy = strategy
        self._after_step = after_step

    if not TYPE_CHECKING:  # to a type checker they are an optimizer's
        param_groups = _of_the_wrapped("param_groups")
        state = _of_the_wrapped("state")
        defaults = _of_the_wrapped("defaults")

    @property
    def optimizer(self) -> Optimizer:
        """The wrapped optimizer."""
        return self._optimizer

    def __getattr__(self, name: str) -> Any:
        """Everything else is the wrapped optimizer's."""
        if name == "_optimizer":  # not there yet: while unpickling
            raise AttributeError(name)
        return getattr(self._optimizer, name)

    def __reduce__(self) -> tuple[type[FabricOptimizer], tuple[Any, ...]]:
        return FabricOptimizer, (self._optimizer, self._strategy, self._after_step)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state."""
        return self._strategy.get_optimizer_state(self._optimizer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the optimizer's state."""
        self._optimizer.load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self._optimizer.zero_grad(set_to_none=set_to_none)

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Step the optimizer.

        Args:
            closure: Evaluates the model and returns the loss, for optimizers that do so themselves.
            **kwargs: Passed to the optimizer.

        Returns:
            What the closure returned.
        """
        result = self._strategy.optimizer_step(self._optimizer, closure, **kwargs)
        for hook in self._after_step:
            hook(strategy=self._strategy, optimizer=self._optimizer)
        return result


class FabricDataLoader:
    """A loader as a loop reads it: each pass is the next epoch, and batches come on the device.

    Everything else is the loader's own.

    Args:
        loader: The loader.
        move: Brings a batch to the device; None leaves it where it is.
    """

    def __init__(self, loader: Any, move: Callable[[Any], Any] | None = None) -> None:
        self._loader = loader
        self._move = move
        self._epoch = self._told = 0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for sampler in samplers_by_epoch(self._loader):
            own = getattr(sampler, "epoch", self._told)
            if own != self._told:  # the program has told it, as after a restart
                self._epoch = own
        self.set_epoch(self._epoch)
        self._epoch += 1
        return iter(self._loader) if self._move is None else map(self._move, self._loader)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is of; by itself it is the number of passes before it.

        Args:
            epoch: The epoch, from 0.
        """
        for sampler in samplers_by_epoch(self._loader):
            sampler.set_epoch(epoch)
        self._epoch = self._told = epoch

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # not there yet: while unpickling
            raise AttributeError(name)
        return getattr(self._loader, name)


def is_wrapped(obj: object) -> bool:
    """Whether it came out of one of Fabric's ``setup`` methods."""
    return isinstance(getattr(obj, "_orig_mod", obj), (FabricModule, FabricOptimizer, FabricDataLoader))


def unwrapped(obj: Any) -> Any:
    """What was given to ``setup``, of an object that came out of it; anything else as it is."""
    obj = getattr(obj, "_orig_mod", obj) if isinstance(obj, nn.Module) else obj
    if isinstance(obj, FabricModule):
        return vars(obj)["_original_module"]
    return obj.optimizer if isinstance(obj, FabricOptimizer) else obj
