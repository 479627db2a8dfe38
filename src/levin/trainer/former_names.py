"""The Trainer of earlier versions: its attributes and the keywords of its methods, under today's names."""

from __future__ import annotations

import difflib
import inspect
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from levin.callbacks.prediction_writer import BasePredictionWriter
from levin.trainer.former import ARGUMENTS
from levin.utils.former import NOT_YET
from levin.utils.rank import rank_zero_deprecation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from levin.trainer.trainer import Trainer

F = TypeVar("F", bound="Callable[..., Any]")


def _num_gpus(trainer: Trainer) -> int:
    return trainer.num_devices if trainer.strategy.root_device.type in ("cuda", "mps") else 0


RENAMED: dict[str, str] = {
    "data_parallel_device_ids": "device_ids",
    "num_processes": "num_devices",
    "predicted_ckpt_path": "ckpt_path",
    "proc_rank": "global_rank",
    "progress_bar_dict": "progress_bar_metrics",
    "root_gpu": "strategy.root_device.index",
    "running_sanity_check": "sanity_checking",
    "should_rank_save_checkpoint": "is_global_zero",
    "tested_ckpt_path": "ckpt_path",
    "train_loop": "fit_loop",
    "training_type_plugin": "strategy",
    "validated_ckpt_path": "ckpt_path",
    "weights_save_path": "default_root_dir",
}
"""Attributes that have another name."""

COMPUTED: dict[str, tuple[str, Callable[[Trainer], Any]]] = {
    "on_gpu": (
        "`trainer.strategy.root_device.type`",
        lambda trainer: trainer.strategy.root_device.type == "cuda",
    ),
    "num_gpus": ("`trainer.num_devices`, where it trains on GPUs", _num_gpus),
    "gpus": ("`trainer.num_devices`, where it trains on GPUs", _num_gpus),
    "tpu_cores": ("`trainer.num_devices`: there are no TPUs", lambda _: 0),
    "ipus": ("`trainer.num_devices`: there are no IPUs", lambda _: 0),
    "disable_validation": ("`not trainer.enable_validation`", lambda trainer: not trainer.enable_validation),
    "use_amp": ("`trainer.precision`", lambda trainer: trainer.precision.endswith("-mixed")),
    "amp_backend": (
        "`trainer.precision`",
        lambda trainer: "native" if trainer.precision.endswith("-mixed") else None,
    ),
    "lr_schedulers": (
        "`trainer.lr_scheduler_configs`, whose parts are attributes",
        lambda trainer: [dict(vars(config)) for config in trainer.lr_scheduler_configs],
    ),
    "lightning_optimizers": (
        "`self.optimizers()` in the module",
        lambda trainer: dict(enumerate(trainer.wrapped_optimizers)),
    ),
    "prediction_writer_callbacks": (
        "`trainer.callbacks`",
        lambda trainer: [each for each in trainer.callbacks if isinstance(each, BasePredictionWriter)],
    ),
}
"""Attributes that say something else today, and how they were: what to write, and their value."""

_PRIVATE = (
    "What connects the Trainer's parts is private; `trainer.strategy` and `trainer.loggers` are public."
)
_TUNER = f"Its place is taken by `Tuner(trainer).lr_find(model)` and `.scale_batch_size(model)`, {NOT_YET}."
_LOADERS = (
    "Loaders are made when a run begins, and anew with `Trainer(reload_dataloaders_every_n_epochs=...)`; "
    "`trainer.train_dataloader` and `trainer.val_dataloaders` hold them."
)
_RUN = "Use `trainer.validate(model)`, `trainer.test(model)` or `trainer.fit(model)`."

GONE: dict[str, str] = {
    "accelerator_connector": _PRIVATE,
    "callback_connector": _PRIVATE,
    "checkpoint_connector": _PRIVATE,
    "data_connector": _PRIVATE,
    "logger_connector": _PRIVATE,
    "optimizer_connector": _PRIVATE,
    "batch_idx": "Use `batch_idx` as the hooks get it.",
    "evaluation_loop": "`trainer.validate_loop` and `trainer.test_loop` are two.",
    "get_model": "Use `trainer.lightning_module`.",
    "hpc_save": "Use `trainer.save_checkpoint(path)`.",
    "hpc_load": "Use `trainer.fit(model, ckpt_path=path)`.",
    "slurm_job_id": 'Use `os.environ.get("SLURM_JOB_ID")`.',
    "total_batch_idx": "Use `trainer.global_step`.",
    "call_hook": "Hooks are called by the loops; `print(trainer.hooks)` shows who listens to which.",
    "match_env_arguments": "The constructor reads variables such as PL_TRAINER_MAX_EPOCHS itself.",
    "optimizer_frequencies": "Optimizers take turns in `training_step`: manual optimization.",
    "request_dataloader": _LOADERS,
    "reset_predict_dataloader": _LOADERS,
    "reset_test_dataloader": _LOADERS,
    "reset_train_dataloader": _LOADERS,
    "reset_train_val_dataloaders": _LOADERS,
    "reset_val_dataloader": _LOADERS,
    "run_evaluation": _RUN,
    "run_stage": _RUN,
    "tune": _TUNER,
    "tuner": _TUNER,
    "verbose_evaluate": "Use `trainer.validate(model, verbose=False)`.",
}
"""Attributes and methods that are gone -> what to do."""


def former_attribute(trainer: Trainer, name: str) -> Any:
    """The value of an attribute that has another name today.

    Raises:
        AttributeError: If there is none; says what took its place, if something did.
    """
    if name in RENAMED:
        rank_zero_deprecation(f"`trainer.{name}` is now `trainer.{RENAMED[name]}`.")
        return attrgetter(RENAMED[name])(trainer)
    if name in COMPUTED:
        today, compute = COMPUTED[name]
        rank_zero_deprecation(f"`trainer.{name}` is now {today}.")
        return compute(trainer)
    advice = GONE.get(name) or (ARGUMENTS[name].advice if name in ARGUMENTS else None)
    if advice is not None:
        raise AttributeError(f"There is no `trainer.{name}`. {advice}")
    return object.__getattribute__(trainer, name)  # raises what it raised


# ---------------------------------------------------------------------- keywords

KEYWORDS: dict[str, dict[str, str]] = {
    "fit": {"train_dataloader": "train_dataloaders", "val_dataloader": "val_dataloaders"},
    "validate": {"val_dataloaders": "dataloaders", "val_dataloader": "dataloaders"},
    "test": {"test_dataloaders": "dataloaders", "test_dataloader": "dataloaders"},
    "predict": {"predict_dataloaders": "dataloaders", "predict_dataloader": "dataloaders"},
}
"""For each entry point: former keywords -> today's."""


def as_today(method: F) -> F:
    """Show an entry point without the keywords of earlier versions that it takes, too."""
    signature = inspect.signature(method)
    today = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    method.__signature__ = signature.replace(parameters=today)  # type: ignore[attr-defined]
    return method


def with_former(
    method: Callable[..., Any], given: dict[str, Any], former: Mapping[str, Any]
) -> dict[str, Any]:
    """The loaders of a call, those that came under a former keyword among them.

    Args:
        method: The entry point.
        given: Kind of data -> loaders.
        former: The keywords that are none of today's.

    Raises:
        TypeError: If one of them never was one, or if its successor was given, too.
    """
    for name, loaders in former.items():
        today = KEYWORDS[method.__name__].get(name)
        if today is None:
            raise TypeError(_unknown_keyword(method, name))
        kind = name.partition("_")[0]
        if given[kind] is not None:
            raise TypeError(f"`trainer.{method.__name__}` got `{name}` and `{today}`: leave `{name}` out.")
        rank_zero_deprecation(f"`trainer.{method.__name__}({name}=...)` is now `{today}=...`.")
        given = {**given, kind: loaders}
    return given


def _unknown_keyword(method: Callable[..., Any], name: str) -> str:
    known = list(inspect.signature(method).parameters)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Trainer.{method.__name__}() got an unexpected keyword argument {name!r}.{hint}"
