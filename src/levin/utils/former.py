"""What earlier versions called things, and what says the same today: the words; each is told where it is met.

Programs for Lightning 1.x are full of such names. Where the old form loses nothing it works, with one
`LevinDeprecationWarning`; where it can't, the error names what took its place.
"""

from __future__ import annotations

import sys

_PACKAGE = __name__.partition(".")[0]

NOT_YET = "which this version does not have yet"
"""Said of what is planned: a test holds that it is not there, so that who builds it changes the sentence."""

ALIASES: dict[str, str] = {
    "accelerators.GPUAccelerator": "levin.accelerators.cuda:CUDAAccelerator",
    "callbacks.LearningRateLogger": "levin.callbacks.lr_monitor:LearningRateMonitor",
    "callbacks.ProgressBarBase": "levin.callbacks.progress.base:ProgressBar",
    "callbacks.progress.ProgressBarBase": "levin.callbacks.progress.base:ProgressBar",
    "loggers.LightningLoggerBase": "levin.loggers.base:Logger",
    "loggers.base.LightningLoggerBase": "levin.loggers.base:Logger",
    "precision.DoublePrecisionPlugin": "levin.precision.double:DoublePrecision",
    "precision.HalfPrecisionPlugin": "levin.precision.half:HalfPrecision",
    "precision.MixedPrecisionPlugin": "levin.precision.amp:MixedPrecision",
    "precision.NativeMixedPrecisionPlugin": "levin.precision.amp:MixedPrecision",
    "precision.PrecisionPlugin": "levin.precision.base:Precision",
}
"""Names that changed and nothing else: they still work. Each with the class that it stands for."""

_RESULT = "Log what it held, `self.log(name, value)`, and return the loss."
_DDP = 'Use `Trainer(strategy="ddp")`.'
_FSDP = 'Use `Trainer(strategy="fsdp")`.'
_NO_DEVICES = "levin runs on CPU, CUDA and MPS devices."
_DEVICE_STATS = f"Its place is taken by `DeviceStatsMonitor()`, {NOT_YET}."
_GRAD_NORM = "Call `levin.utilities.grad_norm(module, norm_type=2)` in the hook `on_before_optimizer_step`."
_LOGGERS = "Use `CSVLogger` or `TensorBoardLogger` of `levin.loggers`, or write a `Logger` of your own."
_DATA_LOADER = "Leave the decorator out: `def train_dataloader(self)` is found by its name."
_QUANTIZATION = "Use `torch.ao.quantization` in a callback of your own."
_LITE = (
    "LightningLite has become `Fabric`: `from levin import Fabric`. A `run` of a subclass works as it did; "
    "`gpus=2` is `accelerator='gpu', devices=2`, `setup_dataloaders(replace_sampler=False)` is "
    "`use_distributed_sampler=False`, and `save(content, path)` is `save(path, state)`."
)
_LIGHTNING_CLI = f"`LightningCLI` is something {NOT_YET}: read arguments with argparse."

NAMES: dict[str, str] = {
    "EvalResult": _RESULT,
    "TrainResult": _RESULT,
    "LightningLite": _LITE,
    "data_loader": _DATA_LOADER,
    "core.data_loader": _DATA_LOADER,
    "callbacks.GPUStatsMonitor": _DEVICE_STATS,
    "callbacks.XLAStatsMonitor": _DEVICE_STATS,
    "callbacks.GradNormTracker": _GRAD_NORM,
    "callbacks.QuantizationAwareTraining": _QUANTIZATION,
    "profilers.BaseProfiler": "Use `from levin.profilers import Profiler`.",
    "loggers.LoggerCollection": "Pass a list: `Trainer(logger=[first, second])`.",
    "loggers.NeptuneLogger": _LOGGERS,
    "loggers.TestTubeLogger": _LOGGERS,
    "loggers.TrainsLogger": _LOGGERS,
    "accelerators.HPUAccelerator": _NO_DEVICES,
    "accelerators.IPUAccelerator": _NO_DEVICES,
    "accelerators.TPUAccelerator": _NO_DEVICES,
    "accelerators.XLAAccelerator": _NO_DEVICES,
    "precision.ApexMixedPrecisionPlugin": 'Use `MixedPrecision`, or `Trainer(precision="16-mixed")`.',
    "precision.BitsandbytesPrecision": f"Quantised weights are something {NOT_YET}: put layers of the "
    "package `bitsandbytes` into your module.",
    "precision.TransformerEnginePrecision": f"8-bit floats are something {NOT_YET}: put layers of the "
    "package `transformer_engine` into your module, with precision='bf16-true'.",
    "precision.HPUPrecisionPlugin": _NO_DEVICES,
    "precision.TPUBf16PrecisionPlugin": _NO_DEVICES,
    "precision.TPUPrecisionPlugin": _NO_DEVICES,
    "precision.XLABf16PrecisionPlugin": _NO_DEVICES,
    "precision.XLAPrecision": _NO_DEVICES,
    "precision.XLAPrecisionPlugin": _NO_DEVICES,
    "clusters.XLAEnvironment": _NO_DEVICES,
    "strategies.BaguaStrategy": _DDP,
    "strategies.ColossalAIStrategy": _FSDP,
    "strategies.DDP2Strategy": _DDP,
    "strategies.DDPFullyShardedNativeStrategy": _FSDP,
    "strategies.DDPFullyShardedStrategy": _FSDP,
    "strategies.DDPShardedStrategy": _FSDP,
    "strategies.DDPSpawnShardedStrategy": _FSDP,
    "strategies.DDPSpawnStrategy": 'Use `DDPStrategy(start_method="spawn")`, or strategy="ddp_spawn".',
    "strategies.DataParallelStrategy": _DDP,
    "strategies.HPUParallelStrategy": _NO_DEVICES,
    "strategies.HivemindStrategy": _DDP,
    "strategies.HorovodStrategy": _DDP,
    "strategies.IPUStrategy": _NO_DEVICES,
    "strategies.SingleHPUStrategy": _NO_DEVICES,
    "strategies.SingleTPUStrategy": _NO_DEVICES,
    "strategies.SingleDeviceXLAStrategy": _NO_DEVICES,
    "strategies.TPUSpawnStrategy": _NO_DEVICES,
    "strategies.XLAFSDPStrategy": _NO_DEVICES,
    "strategies.XLAStrategy": _NO_DEVICES,
    "cli.LightningCLI": _LIGHTNING_CLI,
}
"""Names that are gone, or not there yet, by their place below levin -> what to do."""

_PLANNED = {
    "cli": "ArgsType LightningArgumentParser LRSchedulerCallable OptimizerCallable SaveConfigCallback "
    "instantiate_class",
    "callbacks": "BackboneFinetuning BaseFinetuning BatchSizeFinder DeviceStatsMonitor EMAWeightAveraging "
    "LearningRateFinder ModelPruning SpikeDetection StochasticWeightAveraging ThroughputMonitor "
    "WeightAveraging",
    "clusters": "SLURMEnvironment",
    "loggers": "CometLogger MLFlowLogger WandbLogger",
    "precision": "BitsandbytesPrecisionPlugin DeepSpeedPrecision DeepSpeedPrecisionPlugin FSDPPrecision "
    "FSDPPrecisionPlugin FSDPMixedPrecisionPlugin TransformerEnginePrecisionPlugin",
    "strategies": "DeepSpeedStrategy FSDPStrategy ModelParallelStrategy",
}
NAMES.update(
    (f"{package}.{name}", f"It is something {NOT_YET}.")
    for package, names in _PLANNED.items()
    for name in names.split()
)

_ONE_MODULE = "`levin.utilities` is one module: `from levin.utilities import ...`."

MODULES: dict[str, str] = {
    "pytorch": "Its names are in `levin` itself: `import levin`, `levin.callbacks`, ...",
    "metrics": "Metrics are a package of their own: `import torchmetrics`.",
    "lite": _LITE,
    "profiler": "Use `levin.profilers`.",
    "logging": "Use `levin.loggers`.",
    "plugins": "Precisions are in `levin.precision`, the way to the disk is in `levin.checkpoint`, cluster "
    "environments are in `levin.clusters`. DDPPlugin "
    'and its kin (DDPSpawnPlugin, DeepSpeedPlugin, ...) are strategies: `Trainer(strategy="ddp")`.',
    "loops": "Loops are no longer classes to replace: use hooks, or `self.automatic_optimization = False`. "
    "`trainer.fit_loop` is the one that runs.",
    "overrides": "A module is wrapped by the strategy, and a step is written in the `LightningModule`.",
    "tuner": f"`Tuner` is something {NOT_YET}.",
    "serve": f"Serving is something {NOT_YET}.",
    "root_module": "Use `from levin import LightningModule`.",
    "accelerators.gpu": "Use `levin.accelerators.cuda`.",
    "accelerators.hpu": _NO_DEVICES,
    "accelerators.tpu": _NO_DEVICES,
    "strategies.hpu_parallel": _NO_DEVICES,
    "strategies.single_hpu": _NO_DEVICES,
    "core.root_module": "Use `from levin import LightningModule`.",
    "core.step_result": _RESULT,
    "core.lightning": "Use `from levin import LightningModule`.",
    "core.memory": "Use `from levin.utilities import ModelSummary`.",
    "core.grads": "Use `from levin.utilities import grad_norm`.",
    "core.decorators": "In place of `auto_move_data` use `trainer.predict(model, loader)`, or move the batch "
    "yourself: `levin.utilities.move_data_to_device(batch, model.device)`.",
    "core.mixins": "Use `from levin.core.hparams import HyperparametersMixin`.",
    "core.optimizer": "Use `from levin.core.optimizers import LightningOptimizer`.",
    "core.saving": "Use `levin.core.restore`.",
    "callbacks.base": "Use `from levin.callbacks import Callback`.",
    "callbacks.callback": "Use `from levin.callbacks import Callback`.",
    "callbacks.progress.progress_bar": "Use `levin.callbacks.progress.base`.",
    "callbacks.progress.rich_progress": "Use `levin.callbacks.progress.rich`.",
    "callbacks.progress.tqdm_progress": "Use `levin.callbacks.progress.tqdm`.",
    "callbacks.device_stats_monitor": _DEVICE_STATS,
    "callbacks.gpu_stats_monitor": _DEVICE_STATS,
    "callbacks.gradient_accumulation_scheduler": "Use `levin.callbacks.accumulation`.",
    "callbacks.lambda_function": "Use `levin.callbacks.lambda_callback`.",
    "callbacks.lr_logger": "Use `from levin.callbacks import LearningRateMonitor`.",
    "callbacks.pt_callbacks": "Use `levin.callbacks`.",
    "callbacks.rich_model_summary": "Use `levin.callbacks.model_summary`.",
    "callbacks.xla_stats_monitor": _DEVICE_STATS,
    "callbacks.quantization": _QUANTIZATION,
    "loggers.csv_logs": "Use `levin.loggers.csv`.",
    "loggers.logger": "Use `levin.loggers.base`.",
    "loggers.neptune": _LOGGERS,
    "loggers.test_tube": _LOGGERS,
    "loggers.trains": _LOGGERS,
    "trainer.connectors": "What connects the Trainer's parts is private: use its public attributes.",
    "trainer.supporters": "Use `from levin.data import CombinedLoader`.",
    "trainer.training_loop": "Use `trainer.fit_loop`.",
    "utilities.cli": _LIGHTNING_CLI,
    "utilities.distributed": "Use `from levin.utilities import rank_zero_only, rank_zero_info`.",
    "utilities.warnings": "Use `from levin.utilities import rank_zero_warn, PossibleUserWarning`.",
    "utilities.apply_func": "Use `from levin.utilities import apply_to_collection, move_data_to_device`.",
    "utilities.cloud_io": "Use `torch.load(path, weights_only=True)`, or `levin.checkpoint` for all places "
    "that fsspec knows.",
    "utilities.device_parser": "Use `Trainer(devices=...)` and `trainer.device_ids`.",
    "utilities.seed": "Use `from levin import seed_everything`, `from levin.utilities import isolate_rng`.",
    "utilities.finite_checks": 'Use `torch.isfinite`, or `Trainer(on_nonfinite="raise")`.',
    "utilities.enums": "Precisions and strategies are named by strings, as in `Trainer(precision=...)`.",
    "utilities.imports": "Use `importlib.util.find_spec(name)`.",
    "utilities.argparse": "Use argparse, and `Trainer(**vars(args))`.",
    "utilities.combined_loader": _ONE_MODULE,
    "utilities.compile": _ONE_MODULE,
    "utilities.data": _ONE_MODULE,
    "utilities.exceptions": _ONE_MODULE,
    "utilities.grads": _ONE_MODULE,
    "utilities.memory": _ONE_MODULE,
    "utilities.model_helpers": _ONE_MODULE,
    "utilities.model_summary": _ONE_MODULE,
    "utilities.parsing": _ONE_MODULE,
    "utilities.rank_zero": _ONE_MODULE,
    "utilities.types": _ONE_MODULE,
}
"""Modules that are gone, by their place below levin -> what to do."""

ENVIRONMENT: dict[str, str] = {
    "PL_TORCH_DISTRIBUTED_BACKEND": 'Use `DDPStrategy(process_group_backend="gloo")`.',
    "PL_FAULT_TOLERANT_TRAINING": "Go on from a checkpoint: `trainer.fit(model, ckpt_path=...)`.",
    "PL_RECONCILE_PROCESS": "When one process fails, the others end, too.",
    "PL_INTER_BATCH_PARALLELISM": "Batches are moved to the device when they are needed.",
}
"""Environment variables that do nothing any more -> what to do."""


def explanation(fullname: str) -> str | None:
    """What to say of a module or a name of it that was there in earlier versions; None of others."""
    package, _, place = fullname.partition(".")
    today = (MODULES.get(place) or NAMES.get(place)) if package == _PACKAGE else None
    return None if today is None else f"There is no `{fullname}`. {today}"


class FormerNames:
    """Python asks it for a module when nobody else has found one: it says what became of former ones."""

    @staticmethod
    def find_spec(fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG004  # Python's
        """Find nothing.

        Raises:
            ModuleNotFoundError: If there was such a module, or such a name in a module. It has no ``name``:
                ``from package import name`` would take an error of that name for its own, and replace it.
        """
        text = explanation(fullname)
        if text is not None:
            raise ModuleNotFoundError(text)


def install() -> None:
    """Explain imports of what is gone, from now on."""
    if FormerNames not in sys.meta_path:
        sys.meta_path.append(FormerNames)


LOOP_PARTS = {
    "epoch_loop": "Its counters are `trainer.progress.batch` (of the epoch) and "
    "`trainer.progress.total_batches`, and the loop that validates is `trainer.fit_loop.validation`.",
    "epoch_progress": "Use `trainer.current_epoch`.",
    "batch_idx": "Use the `batch_idx` that hooks get, or `trainer.progress.batch`, the epoch's so far.",
    "total_batch_idx": "Use `trainer.progress.total_batches`, the batches so far.",
}
"""What `trainer.fit_loop` had."""
