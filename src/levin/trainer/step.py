"""A training step: forward, backward and update; what does not change in an epoch is settled before it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor
from torch.optim import LBFGS

from levin.core.module import LightningModule
from levin.precision.base import Precision
from levin.trainer.former_hooks import FORMER_KEYS, tell_of_former_keys
from levin.trainer.gradients import Window, finisher
from levin.utils.errors import MisconfigurationException, SkipStep
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.optim import Optimizer

    from levin.core.metrics import Metrics
    from levin.core.optimizers import LightningOptimizer
    from levin.strategies.base import Strategy
    from levin.trainer.dispatch import HookTable
    from levin.trainer.gradients import Watch
    from levin.trainer.progress import Progress
    from levin.trainer.states import Run


class Step(Protocol):
    """What the fit loop does with a batch.

    Attributes:
        stepped: Whether the last batch was one at which optimizers step.
    """

    stepped: bool

    def run(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any]:
        """Train on a batch; returns what `on_train_batch_end` gets."""
        ...

    def take_optimizers(self, run: Run) -> None:
        """Step with the optimizers that the run has now."""
        ...

    def pass_over(self, batch_idx: int, is_last: bool) -> None:
        """Do without a batch in this place."""
        ...

    def finish(self) -> bool:
        """Step with what a window has gathered, where its data ended before it was full.

        Returns:
            Whether there was a step.
        """
        ...

    def pending(self) -> Iterable[Tensor]:
        """The parameters whose gradients are a part of the next step's."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it is in a window, for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


class AutomaticStep:
    """Forward, backward and update for automatic optimization, with accumulation.

    The optimizer gets one closure, the same each time, and calls it when it wants the loss and the gradients.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        module, strategy = run.module, run.strategy
        self._run = run
        self.hooks: HookTable = run.hooks
        self.metrics: Metrics = run.metrics
        self.progress: Progress = run.progress
        self.strategy: Strategy = strategy
        self.precision: Precision = strategy.precision
        self.optimizer: Optimizer
        self.wrapped: LightningOptimizer
        self.zero_grad: Callable[[], None]
        self.asks_for_loss: bool
        self.take_optimizers(run)
        self.accumulate: int = 1
        self.training_step: Callable[..., Any] = bind_step(run, "training_step")
        self.custom_step: Callable[..., Any] | None = _override(run, "optimizer_step")
        self.window: Window | None = _window(run)
        self.finish_gradients: Callable[[Optimizer], None] | None = finisher(run, self.window)
        self.backward: Callable[..., None] = _backward(run) if self.window is None else self._weighted(run)
        self.has_own_backward: bool = overrides(module, "backward", LightningModule)
        self.clip: Callable[[Optimizer], None] = _clipping(run)
        self.has_own_clipping: bool = overrides(
            module, "configure_gradient_clipping", LightningModule
        ) or overrides(module, "clip_gradients", LightningModule)
        self.batch: Any = None
        self.batch_idx: int = 0
        self.stepped: bool = False
        self.is_gathering: bool = False
        self.is_evaluated: bool = False
        self.output: Any = None
        self.loss: Tensor | None = None
        self.stand_in: Callable[..., Any] | None = run.strategy.stand_in(module)

    def run(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any]:
        """Train on a batch: accumulate, or step where the window is full or the epoch over."""
        self.batch, self.batch_idx = batch, batch_idx
        if not self.strategy.accumulates_itself:
            self.accumulate = self._run.updates.accumulate_grad_batches  # a callback may have changed it
        self.stepped = is_last or (batch_idx + 1) % self.accumulate == 0
        self.is_gathering = not self.stepped
        self.is_evaluated = False
        if not self.stepped:
            with self.strategy.block_backward_sync():
                self.closure()
        elif self.custom_step is None:
            if self.asks_for_loss:
                self.strategy.optimizer_step(self.optimizer, self.closure)
            else:
                self.closure()
                self.strategy.optimizer_step(self.optimizer)
            self.progress.step += self.precision.stepped  # a scaler may have left it out
        else:
            self.custom_step(self.progress.epoch, batch_idx, self.wrapped, self.closure)
            self.progress.step += self.precision.stepped
        if not self.is_evaluated:
            _refuse_idle_step(self.custom_step is not None, self.optimizer)
        hooks = self.hooks
        outputs = self._outputs() if hooks.on_train_batch_end or hooks.saves_on_train_batch_end else {}
        self.batch = self.output = self.loss = None  # the graph goes before the next forward
        return outputs

    def take_optimizers(self, run: Run) -> None:
        """Step with the run's optimizer."""
        self.optimizer, self.wrapped = run.strategy.optimizers[0], run.wrapped_optimizers[0]
        # what comes before a step belongs to the call of `optimizer.step`, wherever that is made
        self.wrapped.before_step = self._prepare_step
        self.zero_grad = self._zero_grad(run)
        self.asks_for_loss = _asks_for_loss(run, self.optimizer)

    def pass_over(self, batch_idx: int, is_last: bool) -> None:
        """Do without a batch: a window that ends with it is dropped, or what there is of it normalised."""
        if self.stand_in is not None:
            self._stand_in(self.stand_in, batch_idx, is_last)
            return
        self.stepped = is_last or (batch_idx + 1) % self._run.updates.accumulate_grad_batches == 0
        if self.stepped and self.window is not None:
            self.finish()
        self.is_gathering = self.is_gathering and not self.stepped

    def finish(self) -> bool:
        """Step with what a window has gathered, where its data ended before it was full."""
        if not self.is_gathering:
            return False
        self.is_gathering, self.stepped = False, True
        self.strategy.average_gradients(self._run.module.parameters())
        if self.custom_step is None:
            self.strategy.optimizer_step(self.optimizer, lambda: self._prepare_step(self.optimizer))
        else:
            self.custom_step(self.progress.epoch, self.batch_idx, self.wrapped, lambda: None)
        self.progress.step += self.precision.stepped
        return True

    def _stand_in(self, stand_in: Callable[..., Any], batch_idx: int, is_last: bool) -> None:
        """Take part in the others' step without a batch: with gradients that are zero."""
        usual = self.training_step, self.backward
        self.training_step, self.backward = stand_in, _backward(self._run)  # it counts for nothing
        try:
            self.run(None, batch_idx, is_last)
        finally:
            self.training_step, self.backward = usual

    def pending(self) -> Iterable[Tensor]:
        """The parameters, while a window gathers gradients."""
        return self._run.module.parameters() if self.is_gathering else ()

    def state_dict(self) -> dict[str, Any]:
        """Where it is in a window."""
        window = {} if self.window is None else self.window.state_dict()
        return {"stepped": self.stepped, "is_gathering": self.is_gathering, "window": window}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.stepped, self.is_gathering = state["stepped"], state["is_gathering"]
        if self.window is not None and state["window"]:
            self.window.load_state_dict(state["window"])

    def closure(self) -> Tensor | None:
        """Compute the loss and the gradients of the batch, and make them ready for the step."""
        self.is_evaluated, metrics = True, self.metrics
        outer, metrics.scope = metrics.scope, "training_step"
        try:
            self.output = output = self.training_step(self.batch, self.batch_idx)
        finally:
            metrics.scope = outer
        loss = output if isinstance(output, Tensor) else _loss_of(output)
        if loss is None and self.stand_in is not None:
            loss = self.strategy.zero_loss(self._run.module)  # the others wait for this one's gradients
        if loss is not None and self.accumulate > 1 and self.window is None:
            loss = loss / self.accumulate
        self.loss = loss
        if self.batch_idx % self.accumulate == 0:
            for hook in self.hooks.on_before_zero_grad:
                hook(self.optimizer)
            self.zero_grad()
        if loss is not None:
            self._differentiate(loss)
        if self.stepped and self.custom_step is None:
            self._prepare_step(self.optimizer)
        return loss

    def _differentiate(self, loss: Tensor) -> None:
        if not self.has_own_backward and (not loss.requires_grad or loss.numel() != 1):
            _refuse_loss(loss)
        for hook in self.hooks.on_before_backward:
            hook(loss)
        self.backward(loss)
        for hook in self.hooks.on_after_backward:
            hook()

    def _weighted(self, run: Run) -> Callable[..., None]:
        """Backward of a loss that counts in its window as much as its batch does."""
        backward, window = _backward(run), self.window
        assert window is not None
        return lambda loss: backward(window.weigh(loss, self.output, self.batch))

    def _prepare_step(self, optimizer: Optimizer) -> None:
        if self.finish_gradients is not None:
            self.finish_gradients(optimizer)
        for hook in self.hooks.on_before_optimizer_step:
            hook(optimizer)
        if self.has_own_clipping or self._run.updates.gradient_clip_val is not None:
            self.clip(optimizer)

    def _take_back(self, step: int) -> None:
        """Forget the batch, and that there was a step with it."""
        self.progress.step, self.stepped = step, False
        self.batch = self.output = self.loss = None

    def _zero_grad(self, run: Run) -> Callable[[], None]:
        custom = _override(run, "optimizer_zero_grad")
        if custom is None:
            return self.optimizer.zero_grad
        return lambda: custom(self.progress.epoch, self.batch_idx, self.optimizer)

    def _outputs(self) -> dict[str, Any]:
        """What `on_train_batch_end` gets: the loss apart from its graph, the rest as it was returned."""
        if self.loss is None:
            return {}
        loss = self.loss.detach()
        return {**self.output, "loss": loss} if isinstance(self.output, Mapping) else {"loss": loss}


class GuardedStep(AutomaticStep):
    """An `AutomaticStep` under ``on_nonfinite``: a bad batch leaves no gradients, a bad step no trace."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        assert run.watch is not None
        self.watch: Watch = run.watch
        self._has_gradients = False  # whether any batch of the window left some
        self._is_left_out = False

    def run(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any]:
        """Train on a batch, unless its loss or the step's gradients are not finite."""
        step, self._is_left_out = self.progress.step, False
        try:
            outputs = super().run(batch, batch_idx, is_last)
        except SkipStep:
            outputs = self._outputs()
        if self._is_left_out:  # a module's own `optimizer_step` may have gone on
            self._take_back(step)
        return outputs

    def finish(self) -> bool:
        """Step with what a window has gathered, if it is finite."""
        step, self._is_left_out = self.progress.step, False
        with suppress(SkipStep):
            if self._has_gradients:
                super().finish()
        if self._is_left_out:
            self._take_back(step)
        return self.progress.step > step

    def state_dict(self) -> dict[str, Any]:
        """Where it is in a window, and whether any of its batches left gradients."""
        return {**super().state_dict(), "has_gradients": self._has_gradients}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        self._has_gradients = state.get("has_gradients", self.is_gathering)

    def _differentiate(self, loss: Tensor) -> None:
        if self.watch.accepts_loss(loss):
            super()._differentiate(loss)
            self._has_gradients = True

    def _prepare_step(self, optimizer: Optimizer) -> None:
        has_gradients, self._has_gradients = self._has_gradients, False
        self._is_left_out = True
        if not has_gradients and self.loss is not None:
            raise SkipStep
        super()._prepare_step(optimizer)
        self._is_left_out = False


class ManualStep:
    """Manual optimization: `training_step` does it all; its optimizers bring in precision, hooks, counters.

    Args:
        run: The run.
    """

    stepped = True  # loggers count batches, whatever the optimizers do

    def __init__(self, run: Run) -> None:
        self.hooks: HookTable = run.hooks
        self.metrics: Metrics = run.metrics
        self.progress: Progress = run.progress
        self.precision: Precision = run.strategy.precision
        self.finish_gradients: Callable[[Optimizer], None] | None = finisher(run)
        self.training_step: Callable[..., Any] = bind_step(run, "training_step")
        self.take_optimizers(run)

    def take_optimizers(self, run: Run) -> None:
        """Make the run's optimizers count, and begin their windows anew."""
        self._optimizers = list(run.wrapped_optimizers)
        for optimizer in self._optimizers:
            optimizer.before_step, optimizer.after_step = self._before_step, self._after_step
            optimizer.num_accumulated = 0  # what an epoch that was cut off left

    def run(self, batch: Any, batch_idx: int, is_last: bool) -> dict[str, Any]:  # noqa: ARG002  # a step's
        """Train on a batch."""
        metrics = self.metrics
        outer, metrics.scope = metrics.scope, "training_step"
        try:
            output = self.training_step(batch, batch_idx)
        finally:
            metrics.scope = outer
        if output is None:
            return {}
        if isinstance(output, Tensor):
            return {"loss": output.detach()}
        if isinstance(output, Mapping):
            loss = output.get("loss")
            return {**output, "loss": loss.detach()} if isinstance(loss, Tensor) else dict(output)
        raise MisconfigurationException(
            f"`training_step` returned a {type(output).__name__}. In manual optimization return a tensor, a "
            "dict or None."
        )

    def pass_over(self, batch_idx: int, is_last: bool) -> None:
        """Do without a batch in this place."""

    def finish(self) -> bool:
        """Do nothing: `training_step` does as it likes."""
        return False

    def pending(self) -> Iterable[Tensor]:
        """The parameters of optimizers that did not step since the last backward."""
        gathering = [optimizer for optimizer in self._optimizers if optimizer.is_gathering]
        return (
            each for optimizer in gathering for group in optimizer.param_groups for each in group["params"]
        )

    def state_dict(self) -> dict[str, Any]:
        """Where each optimizer is in its window."""
        states = [(optimizer.num_accumulated, optimizer.is_gathering) for optimizer in self._optimizers]
        return {"optimizers": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for optimizer, kept in zip(self._optimizers, state.get("optimizers", ()), strict=False):
            optimizer.num_accumulated, optimizer.is_gathering = kept

    def _before_step(self, optimizer: Optimizer) -> None:
        if self.finish_gradients is not None:
            self.finish_gradients(optimizer)
        for hook in self.hooks.on_before_optimizer_step:
            hook(optimizer)

    def _after_step(self) -> None:
        self.progress.step += self.precision.stepped


def step_for(run: Run) -> Step:
    """What the fit loop does with a batch in this run."""
    if not run.module.automatic_optimization:
        return ManualStep(run)
    return AutomaticStep(run) if run.watch is None else GuardedStep(run)


def bind_step(run: Run, name: str) -> Callable[..., Any]:
    """A step of the module as loops call it: with as many of batch, batch_idx, dataloader_idx as it takes."""
    module = run.module
    step = run.strategy.redirect(module, name)
    if run.compiler is not None:
        step = run.compiler(step)
    accepts = num_arguments(getattr(module, name))
    if accepts == 1:
        step = _first_only(step)
    return run.profiler.wrap(f"[Strategy]{type(run.strategy).__name__}.{name}", step)


def _first_only(step: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda batch, *_: step(batch)


def num_arguments(fn: Callable[..., Any]) -> float:
    """How many positional arguments a bound method takes."""
    kinds = [parameter.kind for parameter in inspect.signature(fn).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return float("inf")
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in positional for kind in kinds)


def _window(run: Run) -> Window | None:
    """What the gradients of a window are the mean over, if that is not for each loss to say."""
    by = run.updates.normalize_by
    if run.global_batch_size is None:
        return None if by is None else Window(by, run.strategy)
    if by not in (None, "samples"):
        return Window(by, run.strategy)
    return Window("samples", run.strategy, lambda: samples_of_window(run) / run.strategy.world_size)


def samples_of_window(run: Run) -> int:
    """How many samples the window has that ends with the batch at hand, over all processes."""
    window, size = run.updates.accumulate_grad_batches, run.global_batch_size or 1
    batch = run.progress.batch
    so_far = size // window * (batch % window + 1)
    return min(so_far, run.num_samples - batch // window * size) if run.num_samples else so_far


def _override(run: Run, name: str) -> Callable[..., Any] | None:
    """The module's own version of a method, as the loop calls it; None if it has none."""
    module = run.module
    if not overrides(module, name, LightningModule):
        return None
    return run.hooks.bind(name, module)


def _backward(run: Run) -> Callable[..., None]:
    """What computes gradients: the module's own way, or the strategy's."""
    custom, precision = _override(run, "backward"), run.strategy.precision
    if custom is not None:
        return run.strategy.settled_backward(
            lambda loss, *args, **kwargs: custom(precision.pre_backward(loss), *args, **kwargs)
        )
    label = f"[Strategy]{type(run.strategy).__name__}.backward"
    return run.profiler.wrap(label, run.strategy.settled_backward())


def backward_with_hooks(run: Run) -> Callable[..., None]:
    """What `manual_backward` does."""
    backward = _backward(run)

    def differentiate(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        for hook in run.hooks.on_before_backward:
            hook(loss)
        backward(loss, *args, **kwargs)
        for optimizer in run.wrapped_optimizers:
            optimizer.is_gathering = True
        for hook in run.hooks.on_after_backward:
            hook()

    return differentiate


def _clipping(run: Run) -> Callable[[Optimizer], None]:
    """What clips gradients before a step: the module's way, with the Trainer's settings as they are then."""
    configure = run.hooks.bind("configure_gradient_clipping", run.module)

    def clip(optimizer: Optimizer) -> None:
        updates = run.updates
        configure(
            optimizer,
            gradient_clip_val=updates.gradient_clip_val,
            gradient_clip_algorithm=updates.gradient_clip_algorithm,
        )

    return clip


def _loss_of(output: Any) -> Tensor | None:
    """The loss that `training_step` returned in another form than as a tensor."""
    if output is None:
        rank_zero_warn(
            "`training_step` returned None: there is no backward for this batch. If that was not meant, "
            "return the loss."
        )
        return None
    if isinstance(output, Mapping) and isinstance(output.get("loss"), Tensor):
        if not FORMER_KEYS.isdisjoint(output):
            tell_of_former_keys(output)
        loss: Tensor = output["loss"]
        return loss
    given = (
        f"a dict with the keys {list(output)}"
        if isinstance(output, Mapping)
        else f"a {type(output).__name__}"
    )
    raise MisconfigurationException(
        f"`training_step` returned {given}. In automatic optimization return the loss (a tensor), a dict "
        "with the key 'loss', or None to skip the batch."
    )


def _refuse_idle_step(is_overridden: bool, optimizer: Optimizer) -> None:
    """The closure was not called: there was no `training_step`, and nothing to step with."""
    where = "`optimizer_step`" if is_overridden else f"`{type(optimizer).__name__}.step`"
    raise MisconfigurationException(
        f"{where} did not call the closure that it got, so that `training_step` did not run. Pass it on "
        "(`optimizer.step(closure=optimizer_closure)`), or, to leave out a step, call it "
        "(`optimizer_closure()`)."
    )


def _asks_for_loss(run: Run, optimizer: Optimizer) -> bool:
    """Whether a step has to get the closure: torch's optimizers but LBFGS would only call it first of all."""
    strategy = run.strategy
    is_torchs = type(optimizer).__module__.startswith("torch.optim.") and not isinstance(optimizer, LBFGS)
    return (
        not is_torchs
        or strategy.steps_its_own_way
        or overrides(strategy.precision, "optimizer_step", Precision)
    )


def _refuse_loss(loss: Tensor) -> None:
    if loss.numel() != 1:
        raise RuntimeError(
            f"The loss has the shape {tuple(loss.shape)}, and backward needs a single number. Return its "
            "mean: `return loss.mean()`."
        )
    raise RuntimeError(
        "The loss is not attached to a graph (requires_grad is False), so that there are no gradients to "
        "compute. Usual causes: `.detach()`, `.item()` or `torch.no_grad()` on the way to it, or all "
        "parameters frozen."
    )
