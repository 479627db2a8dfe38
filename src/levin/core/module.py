"""LightningModule: the model, its steps and its optimizers in one place."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from levin.core import export
from levin.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from levin.core.hparams import HyperparametersMixin
from levin.core.in_fabric import FabricInPlaceOfTrainer
from levin.core.optimizers import divide_gradients
from levin.core.restore import class_only, load_module_from_checkpoint
from levin.utils.errors import MisconfigurationException
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch.fx import GraphModule
    from torch.onnx import ONNXProgram
    from torch.optim import Optimizer
    from typing_extensions import Self

    from levin.core.callback import Callback
    from levin.core.optimizers import OneOrSeveral
    from levin.fabric.fabric import Fabric
    from levin.loggers.base import Logger
    from levin.trainer.trainer import Trainer
    from levin.utils.types import STEP_OUTPUT


class LightningModule(ModelHooks, DataHooks, CheckpointHooks, HyperparametersMixin, nn.Module):
    """A model with its training: write `training_step`, `configure_optimizers`, and what else you need.

    Examples:
        >>> import levin as L, torch
        >>> class Line(L.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(1, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         loss = torch.nn.functional.mse_loss(self.layer(x), y)
        ...         self.log("train_loss", loss)
        ...         return loss
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)

    Attributes:
        prepare_data_per_node: Whether `prepare_data` runs on each node, or once in all.
        allow_zero_length_dataloader_with_multiple_devices: Whether a process may have no batches while others
            have some.
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "hparams_type"

    # torch.jit.script would evaluate these, and they need a trainer
    __jit_unused_properties__: list[str] = [  # noqa: RUF012  # torch reads it from the class
        "example_input_array", "on_gpu", "current_epoch", "global_step", "global_rank", "local_rank",
        "logger", "loggers",
        "automatic_optimization", "strict_loading", "trainer", "fabric", "device_mesh", "device", "dtype",
        "hparams",
        "hparams_initial", "overrides_scheduler_step",
    ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepare_data_per_node = True
        self.allow_zero_length_dataloader_with_multiple_devices = False
        self._trainer: Trainer | None = None
        self._automatic_optimization = True
        self._strict_loading: bool | None = None
        self._example_input_array: Any = None
        # goes wherever the parameters are sent, so that a module without parameters knows its device and
        # dtype
        self._placement = torch.empty(0)

    # ------------------------------------------------------------------ write these

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model computes; `predict_step` and the exports use it."""
        return super().forward(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Compute the loss of a batch.

        Args:
            *args: ``(batch, batch_idx)``, or ``(batch)`` alone.
            **kwargs: None.

        Returns:
            The loss (a tensor of one element), a dict with the key "loss", or None to skip the batch.
        """
        rank_zero_warn(f"`{type(self).__name__}.training_step` is not defined: nothing is trained.")
        return None

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Evaluate a batch: ``(batch, batch_idx)``, and ``dataloader_idx`` if there are several loaders."""
        return None

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Test on a batch: ``(batch, batch_idx)``, and ``dataloader_idx`` if there are several loaders."""
        return None

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Predict on a batch: ``(batch, batch_idx)``, and ``dataloader_idx`` if there are several loaders.

        Returns:
            What `Trainer.predict` collects; by default ``self(batch)``.
        """
        batch = kwargs["batch"] if "batch" in kwargs else args[0]
        return self(batch)

    def configure_optimizers(self) -> Any:
        """Choose optimizers and learning-rate schedulers.

        Returns:
            One of: an optimizer; a list or tuple of them (manual optimization); ``([optimizers],
            [schedulers])``; a dict with "optimizer" and, if wanted, "lr_scheduler" and "monitor"; a list of
            such dicts; None for no optimizer. A scheduler may be given as a dict with "scheduler" and
            "interval" ("epoch", "step" or "validation"), "frequency", "monitor", "strict", "name".
        """
        rank_zero_warn(f"`{type(self).__name__}.configure_optimizers` is not defined: nothing is trained.")
        return None

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Callbacks that belong to the model; each replaces the trainer's of the same class."""
        return []

    def configure_model(self) -> None:
        """Build large layers here: on the right device and in the right precision from the start.

        It is called for each fit, validate, test and predict, so that it must leave layers alone which it
        built before.
        """

    # ------------------------------------------------------------------ override these to change how a step
    # works

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients.

        Args:
            loss: The loss, divided by ``accumulate_grad_batches`` and scaled by the precision.
            *args: What was given to `manual_backward`.
            **kwargs: What was given to `manual_backward`.
        """
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch's

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step the optimizer; who overrides it must hand the closure on, for it computes loss and gradients.

        Args:
            epoch: The current epoch.
            batch_idx: The number of the batch in the epoch.
            optimizer: The optimizer, as `optimizers()` gives it.
            optimizer_closure: Runs `training_step`, clears the gradients and runs `backward`.
        """
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients."""
        optimizer.zero_grad()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients; called before each step with the Trainer's settings."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Move a scheduler.

        Args:
            scheduler: The scheduler.
            metric: The monitored value for a scheduler that follows one, else None.
        """
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    @property
    def overrides_scheduler_step(self) -> bool:
        """Whether the module says itself how schedulers move."""
        return overrides(self, "lr_scheduler_step", LightningModule)

    # ------------------------------------------------------------------ logging

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[[Any], Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Log a value.

        Args:
            name: Its name.
            value: A number, a tensor of one element, or a torchmetrics.Metric.
            prog_bar: Whether the progress bar shows it.
            logger: Whether loggers get it; None means yes.
            on_step: Whether the value of each step is logged; by default in training steps.
            on_epoch: Whether the epoch's value is logged; by default everywhere else. With both,
                ``name_step`` and ``name_epoch``.
            reduce_fx: How the epoch's value comes from the steps': "mean" (weighted by batch size), "sum",
                "min" or "max".
            enable_graph: Whether the value stays attached to the graph.
            sync_dist: Whether the epoch's value is taken over all processes.
            sync_dist_group: The process group for that.
            add_dataloader_idx: Whether ``/dataloader_idx_N`` is added where several dataloaders are
                evaluated.
            batch_size: The weight in the epoch's mean; by default the first dimension of the batch's first
                tensor.
            metric_attribute: The attribute that holds the metric, if levin can't find it.
            rank_zero_only: Whether only the first process logs it.

        Raises:
            MisconfigurationException: Where there is nothing to log for, or the arguments differ from the
                last call's.
            ValueError: If the value is none of the above.
        """
        trainer = self._trainer
        if trainer is None:
            rank_zero_warn(f"self.log({name!r}) was called with no run going on, and does nothing.")
            return
        options = (  # the fields of levin.core.metrics.LogOptions
            prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, sync_dist_group,
            add_dataloader_idx, metric_attribute, rank_zero_only,
        )  # fmt: skip
        trainer.metrics.log(name, value, options, batch_size)

    def log_dict(self, dictionary: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Log several values at once.

        Args:
            dictionary: Name -> value; a torchmetrics.MetricCollection is one, too.
            *args: As for `log`, from ``prog_bar`` on.
            **kwargs: As for `log`.
        """
        if not hasattr(dictionary, "items"):
            raise TypeError(
                f"self.log_dict got a {type(dictionary).__name__}. It takes a dict of names and values; for "
                "one value use self.log(name, value)."
            )
        for name, value in dictionary.items():
            self.log(name, value, *args, **kwargs)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process only, above a progress bar if there is one."""
        if self._trainer is not None:
            self._trainer.print(*args, **kwargs)
        else:
            print(*args, **kwargs)  # noqa: T201  # what it stands for

    # ------------------------------------------------------------------ the run this module is in

    @property
    def trainer(self) -> Trainer:
        """The trainer whose run this module is in.

        Raises:
            RuntimeError: If there is none.
        """
        if self._trainer is None:
            raise RuntimeError(
                f"{type(self).__name__} is not attached to a `Trainer`: pass it to trainer.fit(model), or "
                "set what you need yourself."
            )
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        for module in self.modules():
            if isinstance(module, LightningModule):
                module._trainer = trainer  # noqa: SLF001  # a module's own class

    @property
    def logger(self) -> Logger | None:
        """The trainer's first logger."""
        return self._trainer.logger if self._trainer is not None else None

    @property
    def loggers(self) -> list[Logger]:
        """The trainer's loggers."""
        return self._trainer.loggers if self._trainer is not None else []

    @property
    def current_epoch(self) -> int:
        """The current epoch, from 0."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """The number of optimizer steps so far."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def global_rank(self) -> int:
        """The number of this process among all."""
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def local_rank(self) -> int:
        """The number of this process on its node."""
        return self._trainer.local_rank if self._trainer is not None else 0

    @property
    def fabric(self) -> Fabric | None:
        """The Fabric that this module was set up with."""
        in_place: Any = self._trainer
        return in_place.fabric if isinstance(in_place, FabricInPlaceOfTrainer) else None

    @fabric.setter
    def fabric(self, fabric: Fabric | None) -> None:
        self.trainer = None
        if fabric is not None:
            self.use_fabric(fabric)

    def use_fabric(self, fabric: Fabric, optimizers: Sequence[Optimizer] = ()) -> None:
        """Be part of a loop with a Fabric: `Fabric.setup` calls it.

        `log` writes to its loggers, `manual_backward`, `print`, `all_gather` and others go to it, and so do
        the attributes of `trainer` that it has.

        Args:
            fabric: The Fabric.
            optimizers: Those that were set up together with the module.
        """
        self.trainer = cast("Trainer", FabricInPlaceOfTrainer(fabric, optimizers))

    @property
    def device_mesh(self) -> None:
        """The mesh that a model-parallel strategy lays the model over."""
        return

    @property
    def automatic_optimization(self) -> bool:
        """Whether levin runs backward, step and zero_grad; False leaves them to `training_step`."""
        return self._automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, value: bool) -> None:
        self._automatic_optimization = value

    @property
    def strict_loading(self) -> bool:
        """Whether a checkpoint must hold just the keys of `state_dict`."""
        return self._strict_loading is not False

    @strict_loading.setter
    def strict_loading(self, value: bool) -> None:
        self._strict_loading = value

    @property
    def example_input_array(self) -> Any:
        """An input of `forward` for summary and exports: a tensor, a tuple of arguments, a dict of them."""
        return self._example_input_array

    @example_input_array.setter
    def example_input_array(self, example: Any) -> None:
        self._example_input_array = example

    # ------------------------------------------------------------------ where it is

    @property
    def device(self) -> torch.device:
        """The device of the module."""
        return self._placement.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the module."""
        return self._placement.dtype

    @dtype.setter
    def dtype(self, dtype: torch.dtype) -> None:
        raise RuntimeError(f"The dtype follows the parameters. Convert them: module.to({dtype}).")

    @property
    def on_gpu(self) -> bool:
        """Whether the module is on a CUDA device."""
        return self.device.type == "cuda"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `cuda`, `half` and their kin come down to."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        self._placement = fn(self._placement)
        return self

    # ------------------------------------------------------------------ optimizers

    def optimizers(self, use_pl_optimizer: bool = True) -> OneOrSeveral:
        """The optimizers of this run: the one there is, or a list of several.

        Args:
            use_pl_optimizer: Whether they are wrapped, so that precision, hooks and counters take part in
                `step`.
        """
        found: Any = self.trainer.wrapped_optimizers if use_pl_optimizer else self.trainer.optimizers
        one_or_several: OneOrSeveral = found[0] if len(found) == 1 else found
        return one_or_several

    def lr_schedulers(self) -> Any:
        """The schedulers of this run: None, the one there is, or a list."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return None if not found else found[0] if len(found) == 1 else found

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Run backward in manual optimization, so that precision and hooks take part.

        Raises:
            MisconfigurationException: In automatic optimization.
        """
        if self.automatic_optimization and self.fabric is None:
            raise MisconfigurationException(
                "`manual_backward` belongs to manual optimization. Set `self.automatic_optimization = "
                "False` in `__init__`, or just return the loss."
            )
        self.trainer.backward(loss, *args, **kwargs)

    @contextmanager
    def update(
        self,
        optimizer: Optimizer,
        *,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
        accumulate_grad_batches: int = 1,
    ) -> Iterator[None]:
        """An update in manual optimization: what is differentiated within it, the optimizer steps with.

        >>> def training_step(self, batch, batch_idx):  # doctest: +SKIP
        ...     generator, critic = self.optimizers()
        ...     with self.update(critic, gradient_clip_val=1.0, accumulate_grad_batches=2):
        ...         self.manual_backward(self.critic_loss(batch))

        Clears the gradients before, switches those of the other optimizers' parameters off within
        (`toggle_optimizer`), and after it unscales, clips and steps. A window of accumulated updates ends
        when it is full or with the last batch of an epoch; its gradients are divided by the updates that it
        had.

        Args:
            optimizer: One of `optimizers()`.
            gradient_clip_val: The bound that gradients are clipped to.
            gradient_clip_algorithm: "norm" (of all together; the default) or "value" (of each one).
            accumulate_grad_batches: How many updates share one step.

        Raises:
            MisconfigurationException: In automatic optimization, or if an argument makes no sense.
        """
        trainer = self.trainer
        if self.automatic_optimization:
            raise MisconfigurationException(
                "`update` belongs to manual optimization. Set `self.automatic_optimization = False` in "
                "`__init__`, or just return the loss."
            )
        ours = [each for each in trainer.wrapped_optimizers if optimizer in (each, each.optimizer)]
        if not ours or accumulate_grad_batches < 1:
            raise MisconfigurationException(
                f"`update` got accumulate_grad_batches={accumulate_grad_batches}. It is 1 or more."
                if ours
                else "`update` got an optimizer that `configure_optimizers` did not return. Take one of "
                "`self.optimizers()`."
            )
        wrapped = ours[0]
        if not wrapped.num_accumulated:
            wrapped.zero_grad()
        ends = wrapped.num_accumulated + 1 >= accumulate_grad_batches or trainer.is_last_batch
        with trainer.strategy.block_backward_sync(enabled=not ends), self.toggled_optimizer(wrapped):
            yield
        wrapped.num_accumulated += 1
        if ends:
            divide_gradients(wrapped, wrapped.num_accumulated)
            wrapped.num_accumulated = 0
            self.clip_gradients(wrapped, gradient_clip_val, gradient_clip_algorithm)
            wrapped.step()

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of an optimizer's parameters.

        Args:
            optimizer: The optimizer.
            gradient_clip_val: The bound; by default the Trainer's. None there, too: nothing is clipped.
            gradient_clip_algorithm: "norm" (of all together, the default) or "value" (each one).

        Raises:
            MisconfigurationException: If the algorithm is unknown, or both this call and the Trainer say, and
                differently.
        """
        trainer = self.trainer
        value = _agree("gradient_clip_val", gradient_clip_val, trainer.gradient_clip_val)
        algorithm = (
            _agree("gradient_clip_algorithm", gradient_clip_algorithm, trainer.gradient_clip_algorithm)
            or "norm"
        )
        if algorithm not in ("norm", "value"):
            raise MisconfigurationException(
                f"gradient_clip_algorithm={algorithm!r} is unknown. Use 'norm' or 'value'."
            )
        if value is not None:
            precision = trainer.strategy.precision
            if precision.scales:  # in manual optimization nobody has done it yet; twice does no harm
                precision.unscale_gradients(getattr(optimizer, "optimizer", optimizer))
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            trainer.strategy.clip_gradients(parameters, value, algorithm)

    def toggle_optimizer(self, optimizer: Optimizer) -> None:
        """Switch gradients off for parameters that only other optimizers have, until `untoggle_optimizer`.

        One optimizer at a time: what an earlier call switched off is on again.
        """
        self.untoggle_optimizer(optimizer)
        mine = {p for group in optimizer.param_groups for p in group["params"]}
        others = {
            p for other in self.trainer.optimizers for group in other.param_groups for p in group["params"]
        } - mine
        self._toggled = {p: p.requires_grad for p in others}
        for parameter in others:
            parameter.requires_grad = False

    def untoggle_optimizer(self, optimizer: Optimizer) -> None:
        """Give the other optimizers' parameters back what `toggle_optimizer` took."""
        for parameter, required in self.__dict__.pop("_toggled", {}).items():
            parameter.requires_grad = required

    @contextmanager
    def toggled_optimizer(self, optimizer: Optimizer) -> Iterator[None]:
        """`toggle_optimizer` at the beginning, `untoggle_optimizer` at the end."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    # ------------------------------------------------------------------ all the rest

    def freeze(self) -> Self:
        """Need no gradients, and be in evaluation mode."""
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Need gradients for all parameters, and be in training mode."""
        self.requires_grad_(True)
        return self.train()

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Collect tensors from all processes.

        Args:
            data: A tensor, a number, or a collection of them.
            group: The processes; by default all.
            sync_grads: Whether gradients flow back.

        Returns:
            The same collection, each tensor with a new first dimension of the number of processes; unchanged
            in one process.
        """
        return self.trainer.strategy.all_gather(data, group=group, sync_grads=sync_grads)

    @class_only
    def load_from_checkpoint(
        cls,  # noqa: N805  # `class_only` makes it a class method
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a module from a checkpoint: its hyper-parameters, and its weights.

        Args:
            checkpoint_path: A path, a URL or an open file.
            map_location: Where tensors go, as for `torch.load`; by default where they were.
            hparams_file: A .yaml or .csv file with hyper-parameters, for checkpoints that hold none.
            strict: Whether the keys must agree; by default `strict_loading`.
            weights_only: False allows arbitrary pickled objects, and with them arbitrary code: only for files
                you trust.
            **kwargs: Arguments of ``__init__`` that replace the checkpoint's.

        Returns:
            The module, in training mode.

        Raises:
            TypeError: If it is called on an instance, or an argument of ``__init__`` is missing.
        """
        return load_module_from_checkpoint(
            cls, checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )

    def to_onnx(
        self, file_path: str | Path | IO[bytes] | None = None, input_sample: Any = None, **kwargs: Any
    ) -> ONNXProgram | None:
        """Write the forward pass as an ONNX model, in eval mode; needs the extra ``onnx``.

        Args:
            file_path: Where to: a path on this machine, or an open file. None writes nothing.
            input_sample: What `forward` is traced with: a tensor, a tuple of arguments or a dict of keyword
                arguments; by default `example_input_array`. It goes through the batch transfer hooks.
            **kwargs: Further arguments of `torch.onnx.export`; ``dynamo=True`` by default.

        Returns:
            The program; None with ``dynamo=False``.

        Raises:
            ValueError: If there is no example, or neither a file nor a program is asked for.
            ModuleNotFoundError: If the packages for it are not installed.
        """
        return export.to_onnx(self, file_path, input_sample, kwargs)

    def to_torchscript(
        self,
        file_path: str | Path | None = None,
        method: str | None = "script",
        example_inputs: Any = None,
        **kwargs: Any,
    ) -> torch.jit.ScriptModule:
        """Make a TorchScript module of the forward pass, in eval mode. Deprecated: use `torch.export.export`.

        Args:
            file_path: Where to save it, if anywhere; a local or remote path.
            method: "script" reads the code of `forward`, "trace" runs it.
            example_inputs: What it is traced with: a tensor, a tuple of arguments or a dict of keyword
                arguments; by default `example_input_array`. It goes through the batch transfer hooks.
            **kwargs: Further arguments of `torch.jit.script` or `torch.jit.trace`.

        Raises:
            ValueError: If the method is unknown, or there is no example to trace with.
        """
        return export.to_torchscript(self, file_path, method, example_inputs, kwargs)

    def to_tensorrt(
        self,
        file_path: str | Path | IO[bytes] | None = None,
        input_sample: Any = None,
        ir: Literal["default", "dynamo", "ts"] = "default",
        output_format: Literal["exported_program", "torchscript"] = "exported_program",
        retrace: bool = False,
        default_device: str | torch.device = "cuda",
        **compile_kwargs: Any,
    ) -> torch.jit.ScriptModule | GraphModule:
        """Compile the forward pass with TensorRT, in eval mode; needs CUDA and the extra ``tensorrt``.

        Args:
            file_path: Where to save it, if anywhere: a path on this machine, or an open file.
            input_sample: What `forward` is compiled for: a tensor, a tuple of arguments or a dict of keyword
                arguments; by default `example_input_array`. It goes through the batch transfer hooks.
            ir: What `torch_tensorrt.compile` starts from.
            output_format: How it is saved; with ``ir="ts"`` only "torchscript" is possible.
            retrace: Whether it is exported anew before it is saved.
            default_device: The device for a module that is not on a CUDA device; that module stays where it
                is, and a copy of it is compiled.
            **compile_kwargs: Further arguments of `torch_tensorrt.compile`.

        Raises:
            ValueError: If there is no example, or the arguments do not go together.
            MisconfigurationException: If there is no CUDA device.
            ModuleNotFoundError: If the package for it is not installed.
        """
        return export.to_tensorrt(
            self, file_path, input_sample, ir, output_format, retrace, default_device, compile_kwargs
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the trainer: a module is copied and sent without its run."""
        return {**super().__getstate__(), "_trainer": None}  # type: ignore[no-untyped-call]  # torch's


def _agree(name: Literal["gradient_clip_val", "gradient_clip_algorithm"], here: Any, trainers: Any) -> Any:
    if here is not None and trainers is not None and here != trainers:
        raise MisconfigurationException(
            f"{name} is {here!r} in `clip_gradients` and {trainers!r} in the Trainer. Say it in one place."
        )
    return trainers if here is None else here
