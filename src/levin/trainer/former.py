"""The Trainer of earlier versions: its arguments in today's words, or what took their place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from levin.callbacks.accumulation import GradientAccumulationScheduler
from levin.callbacks.early_stopping import EarlyStopping
from levin.callbacks.lambda_callback import LambdaCallback
from levin.callbacks.model_checkpoint import ModelCheckpoint
from levin.callbacks.model_summary import ModelSummary
from levin.callbacks.progress.rich import RichProgressBar
from levin.callbacks.progress.tqdm import TQDMProgressBar
from levin.core.callback import Callback
from levin.utils.former import ENVIRONMENT, NOT_YET
from levin.utils.imports import available
from levin.utils.parameters import grad_norm
from levin.utils.rank import rank_zero_deprecation

if TYPE_CHECKING:
    from levin.trainer.trainer import Trainer


@dataclass(frozen=True)
class Today:
    """What says the same as an argument of earlier versions.

    Attributes:
        arguments: Arguments of today.
        callbacks: Classes of callbacks, and the arguments that they are made with.
        objects: Callbacks that the user made himself.
        text: How to write it, where the above does not say.
        later: What is done with the trainer once it is made.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Mapping[type[Callback], Mapping[str, Any]] = field(default_factory=dict)
    objects: tuple[Callback, ...] = ()
    text: str = ""
    later: Callable[[Trainer], None] | None = None

    def __str__(self) -> str:
        if self.text:
            return self.text
        made = [f"{kind.__name__}({_listed(given)})" for kind, given in self.callbacks.items()]
        made += [_brief(callback) for callback in self.objects]
        words = [_listed(self.arguments)] if self.arguments else []
        words += [f"callbacks=[{', '.join(made)}]"] if made else []
        return f"`{', '.join(words)}`" if words else "nothing: leave it out"


@dataclass(frozen=True)
class Argument:
    """An argument of earlier versions.

    Attributes:
        advice: What to do instead, for those values that can't be translated.
        translate: Its value -> what says the same today; None if nothing does.
        off: Values that asked for nothing: they are left out.
    """

    advice: str
    translate: Callable[[Any], Today | None] | None = None
    off: tuple[Any, ...] = (None, False)

    def today(self, value: Any) -> Today | None:
        """What says the same as that value; None if nothing does."""
        if any(value is off or (value == off and type(value) is type(off)) for off in self.off):
            return Today()
        return None if self.translate is None else self.translate(value)


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_brief(value)}" for name, value in arguments.items())


def _brief(value: Any) -> str:
    """A value as it may stand in a sentence."""
    is_plain = value is None or isinstance(value, (str, int, float, list, tuple, dict))
    return repr(value) if is_plain else f"{type(value).__name__}(...)"


# ---------------------------------------------------------------------- one by one


def _renamed(today: str, values: Callable[[Any], Any] = lambda value: value) -> Argument:
    """An argument that got another name, and perhaps other words for its values."""
    return Argument(f"Use `{today}=...`.", lambda value: Today({today: values(value)}), off=(None,))


def _gone(advice: str, off: tuple[Any, ...] = (None, False)) -> Argument:
    """An argument that nothing stands for unless it asked for nothing."""
    return Argument(advice, off=off)


def _gpus(value: Any) -> Today:
    if value in (0, "0", []):
        return Today({"accelerator": "cpu"})
    return Today({"accelerator": "gpu", "devices": value})


def _weights_summary(value: Any) -> Today | None:
    if value is None:
        return Today({"enable_model_summary": False})
    if value == "top":
        return Today({"enable_model_summary": True})
    return Today(callbacks={ModelSummary: {"max_depth": -1}}) if value == "full" else None


def _refresh_rate(value: Any) -> Today:
    if value == 0:
        return Today({"enable_progress_bar": False})
    kind = TQDMProgressBar if available("tqdm") else RichProgressBar
    return Today(callbacks={kind: {"refresh_rate": value}})


def _checkpoint_callback(value: Any) -> Today | None:
    if isinstance(value, bool):
        return Today({"enable_checkpointing": value})
    return Today(objects=(value,)) if isinstance(value, Callback) else None


def _early_stop_callback(value: Any) -> Today | None:
    if value is True:
        return Today(callbacks={EarlyStopping: {"monitor": "val_loss", "verbose": True}})
    return Today(objects=(value,)) if isinstance(value, Callback) else None


def _resume_from_checkpoint(value: Any) -> Today:
    def remember(trainer: Trainer) -> None:
        trainer.run.resume_from = value

    return Today(text=f"`trainer.fit(model, ckpt_path={_brief(value)})`", later=remember)


def _weights_save_path(value: Any) -> Today:
    folder = ModelCheckpoint(dirpath=value).dirpath

    def redirect(trainer: Trainer) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = folder

    return Today(text=f"`callbacks=[ModelCheckpoint(dirpath={value!r})]`", later=redirect)


def _loader_mode(value: Any) -> Today | None:
    if value not in ("max_size_cycle", "min_size"):
        return None

    def combine(trainer: Trainer) -> None:
        trainer.fit_loop.loader_mode = value

    return Today(text=f"`trainer.fit(model, CombinedLoader(loaders, {value!r}))`", later=combine)


def _track_grad_norm(value: Any) -> Today:
    def log(trainer: Trainer, module: Any, _: Any) -> None:
        if trainer.should_log:
            module.log_dict(grad_norm(module, norm_type=value))

    text = f"`self.log_dict(grad_norm(self, norm_type={value!r}))` in the hook `on_before_optimizer_step`"
    return Today(callbacks={LambdaCallback: {"on_before_optimizer_step": log}}, text=text)


_MANUAL = "Do it in `training_step` with manual optimization: `self.automatic_optimization = False`."
_NO_DEVICES = "levin runs on CPU, CUDA and MPS devices: `accelerator=...`."
_GRAD_NORM = "Use `self.log_dict(grad_norm(self, norm_type=2))` in the hook `on_before_optimizer_step`."
_FLUSHING = Argument(
    "", lambda _: Today(text="the logger's: `CSVLogger(flush_logs_every_n_steps=...)`"), off=(None,)
)
_GPUS = Argument('Use `accelerator="gpu", devices=...`.', _gpus, off=(None,))

ARGUMENTS: dict[str, Argument] = {
    "gpus": _GPUS,
    "num_gpus": _GPUS,
    "auto_select_gpus": _gone('Use `devices="auto"`, or `devices=find_usable_cuda_devices(n)`.'),
    "tpu_cores": Argument(
        _NO_DEVICES, lambda value: Today({"accelerator": "tpu", "devices": value}), off=(None, 0)
    ),
    "ipus": _gone(_NO_DEVICES, off=(None, 0)),
    "hpus": _gone(_NO_DEVICES, off=(None, 0)),
    "num_processes": Argument(
        'Use `accelerator="cpu", devices=...`.',
        lambda value: Today({"accelerator": "cpu", "devices": value}),
        off=(None, 1),
    ),
    "nb_gpu_nodes": _renamed("num_nodes"),
    "distributed_backend": Argument(
        "Use `strategy=...`.", lambda value: _accelerator(value) or Today({"strategy": value}), off=(None,)
    ),
    "amp_backend": _gone('Apex is gone: use `precision="16-mixed"`.', off=(None, "native")),
    "amp_level": _gone('It was for apex, which is gone: use `precision="16-mixed"`.', off=(None,)),
    "use_amp": Argument('Use `precision="16-mixed"`.', lambda _: Today({"precision": "16-mixed"})),
    "auto_lr_find": _gone(f"Its place is taken by `Tuner(trainer).lr_find(model)`, {NOT_YET}."),
    "auto_scale_batch_size": _gone(
        f"Its place is taken by `Tuner(trainer).scale_batch_size(model)`, {NOT_YET}."
    ),
    "replace_sampler_ddp": _renamed("use_distributed_sampler"),
    "weights_summary": Argument(
        "Use `enable_model_summary=...` or `callbacks=[ModelSummary(max_depth=...)]`.",
        _weights_summary,
        off=(),
    ),
    "progress_bar_refresh_rate": Argument(
        "Use `callbacks=[TQDMProgressBar(refresh_rate=...)]`.", _refresh_rate, off=(None,)
    ),
    "process_position": Argument(
        "Use `callbacks=[TQDMProgressBar(process_position=...)]`.",
        lambda value: Today(callbacks={TQDMProgressBar: {"process_position": value}}),
        off=(None, 0),
    ),
    "show_progress_bar": _renamed("enable_progress_bar"),
    "checkpoint_callback": Argument(
        "Use `enable_checkpointing=...` or `callbacks=[ModelCheckpoint(...)]`.",
        _checkpoint_callback,
        off=(None,),
    ),
    "early_stop_callback": Argument("Use `callbacks=[EarlyStopping(...)]`.", _early_stop_callback),
    "resume_from_checkpoint": Argument(
        "Use `trainer.fit(model, ckpt_path=...)`.", _resume_from_checkpoint, off=(None,)
    ),
    "weights_save_path": Argument(
        "Use `callbacks=[ModelCheckpoint(dirpath=...)]`.", _weights_save_path, off=(None,)
    ),
    "default_save_path": _renamed("default_root_dir"),
    "terminate_on_nan": Argument(
        'Use `on_nonfinite="raise"`.', lambda _: Today({"on_nonfinite": "raise"}), off=(None, False)
    ),
    "print_nan_grads": _gone('Use `on_nonfinite="raise"`, or `detect_anomaly=True` to see where it begins.'),
    "track_grad_norm": Argument(_GRAD_NORM, _track_grad_norm, off=(None, -1, False)),
    "log_grad_norm": _gone(_GRAD_NORM),
    "stochastic_weight_avg": _gone(
        f"Its place is taken by `callbacks=[StochasticWeightAveraging(swa_lrs=...)]`, {NOT_YET}."
    ),
    "flush_logs_every_n_steps": _FLUSHING,
    "log_save_interval": _FLUSHING,
    "row_log_interval": _renamed("log_every_n_steps"),
    "add_row_log_interval": _renamed("log_every_n_steps"),
    "log_gpu_memory": _gone(f"Its place is taken by `callbacks=[DeviceStatsMonitor()]`, {NOT_YET}."),
    "reload_dataloaders_every_epoch": _renamed("reload_dataloaders_every_n_epochs", int),
    "multiple_trainloader_mode": Argument(
        "Use `trainer.fit(model, CombinedLoader(loaders, mode))`.", _loader_mode, off=(None,)
    ),
    "truncated_bptt_steps": _gone(_MANUAL, off=(None, 0)),
    "prepare_data_per_node": _gone(
        "Set it in `__init__` of the module or the data module: `self.prepare_data_per_node = False`.",
        off=(None, True),
    ),
    "move_metrics_to_cpu": Argument("Leave it out.", lambda _: Today()),
    "min_nb_epochs": _renamed("min_epochs"),
    "max_nb_epochs": _renamed("max_epochs"),
    "nb_sanity_val_steps": _renamed("num_sanity_val_steps"),
    "train_percent_check": _renamed("limit_train_batches", float),
    "val_percent_check": _renamed("limit_val_batches", float),
    "test_percent_check": _renamed("limit_test_batches", float),
    "overfit_pct": _renamed("overfit_batches", float),
}
"""Arguments of earlier versions. Those that can be translated work."""


# ---------------------------------------------------------------------- former values of today's arguments

_STRATEGIES = ("ddp", "dp", "fsdp", "deepspeed", "horovod", "bagua", "colossalai", "hivemind")


def _accelerator(value: Any) -> Today | None:
    if value == "ddp_cpu":
        return Today({"accelerator": "cpu", "strategy": "ddp_spawn"})
    is_strategy = isinstance(value, str) and value.startswith(_STRATEGIES)
    return Today({"strategy": value}) if is_strategy else _none_is_auto(value)


def _none_is_auto(value: Any) -> Today | None:
    return Today() if value is None else None


def _plugins(value: Any) -> Today | None:
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    names = [name for name in given if isinstance(name, str) and name.startswith(_STRATEGIES)]
    if len(names) != 1:
        return None
    others = [plugin for plugin in given if plugin is not names[0]]
    return Today({"strategy": names[0], **({"plugins": others} if others else {})})


def _num_nodes(value: Any) -> Today | None:
    is_text = isinstance(value, str) and value.isdecimal()
    return Today({"num_nodes": int(value)}) if is_text else None


def _profiler(value: Any) -> Today | None:
    return Today({"profiler": "simple"} if value else {}) if isinstance(value, bool) else None


def _accumulation(value: Any) -> Today | None:
    if not isinstance(value, Mapping):
        return None
    return Today(callbacks={GradientAccumulationScheduler: {"scheduling": value}})


VALUES: dict[str, Callable[[Any], Today | None]] = {
    "accelerator": _accelerator,
    "strategy": _none_is_auto,
    "devices": _none_is_auto,
    "num_nodes": _num_nodes,
    "plugins": _plugins,
    "profiler": _profiler,
    "max_steps": lambda value: Today({"max_steps": -1}) if value is None else None,
    "accumulate_grad_batches": _accumulation,
}
"""Arguments of today that took other values once: a value -> what says the same, None where it is today's."""


# ---------------------------------------------------------------------- all together


class Translation:
    """The arguments of a Trainer in today's words.

    Args:
        given: The arguments as they were given.
        known: The names of today's.

    Attributes:
        arguments: The arguments of today.
        later: What is to be done with the trainer once it is made.

    Raises:
        TypeError: If nothing says the same as a former argument, or an argument is given along with it.
    """

    def __init__(self, given: Mapping[str, Any], known: Iterable[str]) -> None:
        self.arguments: dict[str, Any] = dict(given)
        self.later: list[Callable[[Trainer], None]] = []
        self._callbacks: dict[type[Callback], dict[str, Any]] = {}
        self._objects: list[Callback] = []
        self._translated: dict[str, Any] = {}
        self._told: list[str] = []
        known = tuple(known)
        for name, translate in VALUES.items():
            if name in given and (today := translate(given[name])) is not None:
                self._replace(name, today)
        for name, argument in ARGUMENTS.items():
            if name in given and name not in known:
                self._replace(name, _require(name, given[name], argument))
        self._add_callbacks()
        if self._told:
            rank_zero_deprecation(f"Trainer was given what earlier versions took: {'; '.join(self._told)}.")

    def _replace(self, name: str, today: Today) -> None:
        value = self.arguments.pop(name)
        for key, translated in today.arguments.items():
            if key in self.arguments and not self._agrees(key, translated):
                raise TypeError(
                    f"Trainer got `{name}={_brief(value)}`, which is now {today}, and "
                    f"`{key}={_brief(self.arguments[key])}`, too. Leave one of the two out."
                )
            if self.arguments.get(key, "auto") == "auto":
                self.arguments[key] = self._translated[key] = translated
        for kind, arguments in today.callbacks.items():
            self._callbacks.setdefault(kind, {}).update(arguments)
        self._objects += today.objects
        if today.later is not None:
            self.later.append(today.later)
        self._told.append(f"`{name}={_brief(value)}` is now {today}")

    def _agrees(self, key: str, translated: Any) -> bool:
        """Whether an argument that is there may stand beside a former one that says it, too."""
        present = self.arguments[key]
        if key in self._translated:
            return bool(present == translated)
        if key != "accelerator":
            return False
        kinds = {"gpu": ("auto", "gpu", "cuda", "mps")}.get(translated, ("auto", translated))
        return not isinstance(present, str) or present in kinds

    def _add_callbacks(self) -> None:
        if self.arguments.get("enable_progress_bar") is False:
            self._callbacks.pop(TQDMProgressBar, None)
        made = [kind(**arguments) for kind, arguments in self._callbacks.items()] + self._objects
        if not made:
            return
        given = self.arguments.get("callbacks")
        several = list(given) if isinstance(given, (list, tuple)) else [] if given is None else [given]
        self.arguments["callbacks"] = several + made


def _require(name: str, value: Any, argument: Argument) -> Today:
    today = argument.today(value)
    if today is None:
        raise TypeError(
            f"Trainer got an unexpected keyword argument {name!r}: {_brief(value)}. {argument.advice}"
        )
    return today


def tell_of_environment() -> None:
    """Warn of variables that do nothing any more."""
    for name, advice in ENVIRONMENT.items():
        if os.environ.get(name):
            rank_zero_deprecation(f"The environment variable {name} does nothing any more. {advice}")
