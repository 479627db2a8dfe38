"""What a trainer shows of its run: the attributes that modules, callbacks and users read, and may set."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from levin.callbacks.accumulation import GradientAccumulationScheduler
from levin.callbacks.early_stopping import EarlyStopping
from levin.callbacks.progress.base import ProgressBar
from levin.core.callback import Callback, Checkpoint
from levin.trainer.arguments import Setting
from levin.trainer.dataloaders import collection
from levin.trainer.former import ARGUMENTS
from levin.trainer.former_names import former_attribute
from levin.trainer.parts import in_order
from levin.trainer.states import RunningStage, TrainerStatus
from levin.utils.errors import SIGTERMException
from levin.utils.namespace import FromNamespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer

    from levin.accelerators.base import Accelerator
    from levin.checkpoint.index import Lineage
    from levin.core.datamodule import LightningDataModule
    from levin.core.metrics import Metrics
    from levin.core.module import LightningModule
    from levin.core.optimizers import LightningOptimizer
    from levin.loggers.base import Logger
    from levin.precision.base import Precision
    from levin.profilers.base import Profiler
    from levin.resolve import Hardware
    from levin.strategies.base import Strategy
    from levin.trainer.arguments import Duration
    from levin.trainer.dispatch import HookTable
    from levin.trainer.evaluate import EvaluationLoop
    from levin.trainer.fit import FitLoop
    from levin.trainer.predict import PredictionLoop
    from levin.trainer.progress import Progress
    from levin.trainer.states import Run, TrainerState
    from levin.trainer.when import Every
    from levin.utils.types import LRSchedulerConfig


class TrainerView(FromNamespace):
    """The attributes of a `Trainer`, apart from what it does.

    Those declared with `Setting` may be set at any time, and are checked as the constructor checks them.
    """

    former_arguments: ClassVar[tuple[str, ...]] = tuple(ARGUMENTS)

    run: Run
    metrics: Metrics
    default_root_dir: str
    enable_autolog_hparams: bool
    fit_loop: FitLoop
    validate_loop: EvaluationLoop
    test_loop: EvaluationLoop
    predict_loop: PredictionLoop
    _callbacks: list[Callback]
    _ckpt_path: str | None
    _user_ckpt_path: str | None
    _backward: Callable[..., None] | None
    _hardware: Hardware
    _look_again: Callable[[], None]

    if not TYPE_CHECKING:  # or every attribute would exist to a type checker

        def __getattr__(self, name: str) -> Any:
            """The attributes of earlier versions."""
            return former_attribute(self, name)

    # ------------------------------------------------------------------ settings

    max_epochs: Setting[int | None] = Setting("limits")
    min_epochs: Setting[int | None] = Setting("limits")
    max_steps: Setting[int] = Setting("limits")
    min_steps: Setting[int | None] = Setting("limits")
    limit_train_batches: Setting[int | float] = Setting("limits")
    limit_val_batches: Setting[int | float] = Setting("limits")
    limit_test_batches: Setting[int | float] = Setting("limits")
    limit_predict_batches: Setting[int | float] = Setting("limits")
    overfit_batches: Setting[int | float] = Setting("limits")
    val_check_interval: Setting[int | float | Duration | Every] = Setting("intervals")
    check_val_every_n_epoch: Setting[int | None] = Setting("intervals")
    num_sanity_val_steps: Setting[int | float] = Setting("intervals")
    log_every_n_steps: Setting[int] = Setting("intervals")
    reload_dataloaders_every_n_epochs: Setting[int] = Setting("intervals")
    accumulate_grad_batches: Setting[int] = Setting("updates")
    gradient_clip_val: Setting[int | float | None] = Setting("updates")
    gradient_clip_algorithm: Setting[str | None] = Setting("updates")
    normalize_by: Setting[str | None] = Setting("updates")
    on_nonfinite: Setting[str] = Setting("updates")
    fast_dev_run: Setting[int | bool] = Setting("debugging")
    barebones: Setting[bool] = Setting("debugging")

    # ------------------------------------------------------------------ what it is doing

    @property
    def state(self) -> TrainerState:
        """Whether a run goes on, which, and at which stage."""
        return self.run.state

    @property
    def hooks(self) -> HookTable:
        """Who listens where: ``print(trainer.hooks)``."""
        return self.run.hooks

    @property
    def progress(self) -> Progress:
        """The counters of the fit."""
        return self.run.progress

    @property
    def current_epoch(self) -> int:
        """The current epoch, from 0; after a fit, the number of epochs."""
        return self.run.progress.epoch

    @property
    def global_step(self) -> int:
        """The number of optimizer steps so far; several optimizers count each for itself."""
        return self.run.progress.step

    @property
    def is_last_batch(self) -> bool:
        """Whether the training batch at hand is the last of its epoch."""
        return self.run.progress.is_last_batch

    @property
    def should_stop(self) -> bool:
        """Set it to end the fit after the current batch; one process can set it for all."""
        companions = self.run.companions
        return self.state.should_stop or (companions is not None and companions.wants_stop)

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if self.run.companions is None:
            self.state.should_stop = value
        else:
            self.run.companions.wants_stop = value

    def _is_at(self, stage: RunningStage) -> bool:
        return self.state.stage is stage

    @property
    def training(self) -> bool:
        """Whether training batches are run now."""
        return self._is_at(RunningStage.TRAINING)

    @training.setter
    def training(self, value: bool) -> None:
        self.state.stage = RunningStage.TRAINING if value else None

    @property
    def validating(self) -> bool:
        """Whether validation batches are run now."""
        return self._is_at(RunningStage.VALIDATING)

    @validating.setter
    def validating(self, value: bool) -> None:
        self.state.stage = RunningStage.VALIDATING if value else None

    @property
    def testing(self) -> bool:
        """Whether test batches are run now."""
        return self._is_at(RunningStage.TESTING)

    @testing.setter
    def testing(self, value: bool) -> None:
        self.state.stage = RunningStage.TESTING if value else None

    @property
    def predicting(self) -> bool:
        """Whether predictions are made now."""
        return self._is_at(RunningStage.PREDICTING)

    @predicting.setter
    def predicting(self, value: bool) -> None:
        self.state.stage = RunningStage.PREDICTING if value else None

    @property
    def sanity_checking(self) -> bool:
        """Whether validation batches are tried before training."""
        return self._is_at(RunningStage.SANITY_CHECKING)

    @property
    def evaluating(self) -> bool:
        """Whether metrics are computed without training."""
        return self.state.stage is not None and self.state.stage.evaluating

    @property
    def interrupted(self) -> bool:
        """Whether the last run ended by an exception."""
        return self.state.status is TrainerStatus.INTERRUPTED

    @property
    def received_sigterm(self) -> bool:
        """Whether SIGTERM asked this run to end."""
        return isinstance(self.state.request, SIGTERMException)

    @property
    def validation_due(self) -> bool:
        """Whether a validation runs after the current training batch."""
        return self.fit_loop.validation_due()

    @property
    def should_log(self) -> bool:
        """Whether this step is one of every ``log_every_n_steps``."""
        return self.fit_loop.log_due()

    @property
    def enable_validation(self) -> bool:
        """Whether fit validates at all."""
        return self.fit_loop.validation.is_enabled

    # ------------------------------------------------------------------ batches

    @property
    def data_wait_share(self) -> float:
        """The share of the newest training epoch's time that was spent waiting for its batches, from 0 to 1.

        It can be read at any time: at the end of an epoch for all of it, before that as far as it has come.
        Validations do not count. Where a CUDA device computes, waiting is what the device had to wait, too.
        """
        return self.fit_loop.waiting.share

    @property
    def num_training_batches(self) -> int | float:
        """Training batches in an epoch; infinite where it is not known."""
        return self.fit_loop.max_batches

    @property
    def num_sanity_val_batches(self) -> list[int | float]:
        """Batches of each loader that are tried before training."""
        return [min(self.num_sanity_val_steps, count) for count in self.fit_loop.validation.max_batches]

    @property
    def num_val_batches(self) -> list[int | float]:
        """Validation batches of each loader."""
        return self._validation_loop.max_batches

    @property
    def num_test_batches(self) -> list[int | float]:
        """Test batches of each loader."""
        return self.test_loop.max_batches

    @property
    def num_predict_batches(self) -> list[int | float]:
        """Batches of each loader that are predicted on."""
        return self.predict_loop.max_batches

    @property
    def val_check_batch(self) -> int | float:
        """Training batches between two validations; infinite where they are not counted."""
        return self.fit_loop.val_check_batch

    @property
    def _validation_loop(self) -> EvaluationLoop:
        return self.validate_loop if self.state.fn == "validate" else self.fit_loop.validation

    @property
    def estimated_stepping_batches(self) -> int | float:
        """The number of optimizer steps of the fit: what a schedule over the whole training needs.

        It is infinite where nothing limits them, and ``max_steps`` where the data has no length.
        """
        max_epochs = 1000 if self.max_epochs is None else self.max_epochs
        if max_epochs == -1:
            return self.max_steps if self.max_steps != -1 else math.inf
        self.fit_loop.load()
        if self.num_training_batches == math.inf:
            return self.max_steps
        epochs, factors = max(max_epochs, 1), self._accumulation
        starts = [epoch for epoch in sorted(factors) if epoch < epochs]
        steps = sum(
            math.ceil(self.num_training_batches / factors[start]) * (end - start)
            for start, end in zip(starts, [*starts[1:], epochs], strict=True)
        )
        return min(self.max_steps, steps) if self.max_steps != -1 else steps

    @property
    def _accumulation(self) -> dict[int, int]:
        """Epoch -> the batches of an optimizer step from that epoch on."""
        for callback in self.callbacks:
            if isinstance(callback, GradientAccumulationScheduler):
                return callback.scheduling
        return {0: self.accumulate_grad_batches}

    @property
    def train_dataloader(self) -> Any:
        """The training loaders as they are used, those of a CombinedLoader without it; None before."""
        return collection(self.fit_loop.loaders)

    @property
    def val_dataloaders(self) -> Any:
        """The validation loaders; None before they were needed."""
        return collection(self._validation_loop.loaders)

    @property
    def test_dataloaders(self) -> Any:
        """The test loaders; None before they were needed."""
        return collection(self.test_loop.loaders)

    @property
    def predict_dataloaders(self) -> Any:
        """The loaders that are predicted on; None before they were needed."""
        return collection(self.predict_loop.loaders)

    # ------------------------------------------------------------------ model and optimizers

    @property
    def lightning_module(self) -> LightningModule | None:
        """The module of the run."""
        return self.run.attached

    @property
    def model(self) -> Any:
        """The module as it is called in a step, wrapped if need be."""
        return self.strategy.model if self.strategy.model is not None else self.run.attached

    @property
    def datamodule(self) -> LightningDataModule | None:
        """The data module of the run."""
        return self.run.datamodule

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers of the run."""
        return self.strategy.optimizers

    @optimizers.setter
    def optimizers(self, optimizers: list[Optimizer]) -> None:
        self.run.take_optimizers(optimizers)
        self.fit_loop.take_optimizers()

    @property
    def wrapped_optimizers(self) -> list[LightningOptimizer]:
        """The optimizers as modules see them."""
        return self.run.wrapped_optimizers

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The schedulers of the run and when they move."""
        return self.run.lr_scheduler_configs

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Run backward with its hooks and in the run's precision: what `manual_backward` calls."""
        if self._backward is None:
            raise RuntimeError("There is no fit going on: `backward` belongs in `training_step`.")
        self._backward(loss, *args, **kwargs)

    # ------------------------------------------------------------------ hardware

    @property
    def strategy(self) -> Strategy:
        """How the model is laid over devices."""
        return self.run.strategy

    @property
    def accelerator(self) -> Accelerator:
        """The kind of device."""
        return self._hardware.accelerator

    @property
    def precision(self) -> str:
        """What numbers are computed in."""
        return self.strategy.precision.precision

    @property
    def precision_plugin(self) -> Precision:
        """What numbers are computed in, as an object."""
        return self.strategy.precision

    @property
    def scaler(self) -> Any:
        """The gradient scaler of fp16; None without one."""
        return self.strategy.precision.scaler

    @property
    def num_nodes(self) -> int:
        """The number of machines."""
        return self._hardware.num_nodes

    @property
    def num_devices(self) -> int:
        """The number of devices on this machine."""
        return len(self._hardware.devices)

    @property
    def device_ids(self) -> list[int]:
        """The numbers of the devices on this machine."""
        return [device.index or 0 for device in self._hardware.devices]

    @property
    def world_size(self) -> int:
        """The number of processes."""
        return self.strategy.world_size

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
    def is_global_zero(self) -> bool:
        """Whether this process speaks for all."""
        return self.strategy.is_global_zero

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any] | None:
        """How data is divided among processes; None where there is one by design."""
        kwargs: dict[str, Any] | None = getattr(self.strategy, "distributed_sampler_kwargs", None)
        return kwargs

    # ------------------------------------------------------------------ callbacks, loggers, profiler

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks, in the order in which they run; append to the list, or set another one."""
        return self._callbacks

    @callbacks.setter
    def callbacks(self, callbacks: list[Callback]) -> None:
        self._callbacks = in_order(callbacks)
        self._look_again()

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        """The callbacks that write checkpoints."""
        return [callback for callback in self.callbacks if isinstance(callback, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The first callback that writes checkpoints."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """The callbacks that stop early."""
        return [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first callback that stops early."""
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The progress bar."""
        return next((callback for callback in self.callbacks if isinstance(callback, ProgressBar)), None)

    @property
    def loggers(self) -> list[Logger]:
        """The loggers."""
        return self.run.loggers

    @loggers.setter
    def loggers(self, loggers: Iterable[Logger] | None) -> None:
        self.run.loggers = list(loggers or [])

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @logger.setter
    def logger(self, logger: Logger | None) -> None:
        self.loggers = [] if logger is None else [logger]

    @property
    def log_dir(self) -> str | None:
        """Where the first logger writes; without one, `default_root_dir`."""
        if not self.loggers:
            return self.default_root_dir
        first = self.loggers[0]
        found = first.log_dir or first.save_dir
        return None if found is None else str(found)

    @property
    def profiler(self) -> Profiler:
        """What measures where the time goes."""
        return self.run.profiler

    # ------------------------------------------------------------------ metrics

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of everything that was logged, as tensors."""
        return self.run.metrics.callback_metrics

    @property
    def logged_metrics(self) -> dict[str, Any]:
        """The newest value of everything that loggers get."""
        return self.run.metrics.logged_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The newest value of everything that the progress bar shows."""
        return self.run.metrics.progress_bar_metrics

    # ------------------------------------------------------------------ the rest

    @property
    def lineage(self) -> Lineage:
        """Which run the checkpoints belong to, which one came last, and whether the run goes on from it."""
        return self.run.lineage

    @property
    def ckpt_path(self) -> str | Path | None:
        """The checkpoint of the last run; set it to use one in all runs to come."""
        return self._user_ckpt_path or self._ckpt_path

    @ckpt_path.setter
    def ckpt_path(self, path: str | None) -> None:
        self._user_ckpt_path = self._ckpt_path = path

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process only, above a progress bar if there is one."""
        if not self.is_global_zero:
            return
        bar = self.progress_bar_callback
        if bar is not None and bar.is_enabled:
            bar.print(*args, **kwargs)
        else:
            text = str(kwargs.get("sep", " ")).join(map(str, args))
            (kwargs.get("file") or sys.stdout).write(f"{text}{kwargs.get('end', chr(10))}")

    @contextmanager
    def init_module(self, empty_init: bool | None = None) -> Iterator[None]:
        """Within it, new layers are made on the run's device and in its precision.

        Args:
            empty_init: Whether weights are left uninitialised, as is right before a checkpoint is loaded.
        """
        with torch.device(self.strategy.root_device), self.strategy.module_init_context(empty_init):
            yield
