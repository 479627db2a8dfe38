"""What a checkpoint holds, who owns each part, and in which order the parts come back."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from levin._version import __version__
from levin.checkpoint import FORMAT_VERSION, OWN_KEY
from levin.checkpoint.index import COMMIT_KEY, commit_for
from levin.checkpoint.io import as_checkpoint
from levin.checkpoint.plain import as_file, as_written, pack
from levin.core.hparams import announce
from levin.core.metrics import to_numbers
from levin.trainer.states import TrainerFn
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from levin.core.callback import Callback
    from levin.trainer.states import Run
    from levin.utils.paths import PathLike


def dump(run: Run, callbacks: Sequence[Callback], rest: dict[str, Any] | None) -> dict[str, Any]:
    """Collect a checkpoint.

    Args:
        run: The run.
        callbacks: The callbacks whose states are kept.
        rest: What the fit loop needs beside the field's common form to go on to the same bits; None to keep
            only what is needed to use the model, not what is needed to train on.

    Raises:
        TypeError: If a part can't be written so that it loads safely; names the part.
    """
    module, strategy = run.module, run.strategy
    checkpoint: dict[str, Any] = {
        "epoch": run.progress.epoch,
        "global_step": run.progress.step,
        "pytorch-lightning_version": FORMAT_VERSION,
        "levin_version": __version__,
        "state_dict": strategy.get_module_state_dict(module),
        "loops": _loops(run),
    }
    if rest is not None:
        checkpoint["callbacks"] = {cb.state_key: state for cb in callbacks if (state := cb.state_dict())}
        checkpoint["optimizer_states"] = [
            strategy.get_optimizer_state(optimizer) for optimizer in strategy.optimizers
        ]
        checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in run.lr_scheduler_configs]
        scaling = strategy.precision.state_dict()
        if scaling:
            checkpoint[type(strategy.precision).__qualname__] = scaling
        checkpoint[OWN_KEY] = {**rest, "settings": run.settings, "strategy": strategy.state_dict()}
    for owner in (module, run.datamodule):
        if owner is not None:
            checkpoint.update(owner.hyper_parameters_for_checkpoint())
    if run.datamodule is not None:
        data_state = run.datamodule.state_dict()
        if data_state:
            checkpoint[type(run.datamodule).__qualname__] = data_state
    if rest is not None:
        for hook in run.hooks.of_callbacks("on_save_checkpoint"):
            hook(checkpoint)
    for hook in run.hooks.of_module("on_save_checkpoint"):
        hook(checkpoint)
    return as_file(checkpoint)


def check(run: Run, callbacks: Sequence[Callback]) -> None:
    """Find out, before hours of training, whether a checkpoint of the run could be loaded.

    Hyper-parameters that can't be kept, and such that make checkpoints big, are told. What hooks add while a
    checkpoint is made is not known yet.

    Raises:
        NotPlainError: If a state can't be written so that it loads safely; names it.
    """
    for owner in (run.module, run.datamodule):
        if owner is not None:
            announce(owner)
    strategy = run.strategy
    states: dict[str, Callable[[], Any]] = {
        f"callbacks.{callback.state_key}": callback.state_dict
        for callback in callbacks
        if not type(callback).state_dict.__module__.startswith("levin.")  # ours are known to be plain
    }
    if run.datamodule is not None:
        states[type(run.datamodule).__qualname__] = run.datamodule.state_dict
    if not strategy.shards_parameters:
        states["state_dict"] = partial(strategy.get_module_state_dict, run.module)
        for index, optimizer in enumerate(strategy.optimizers):
            states[f"optimizer_states.{index}"] = partial(strategy.get_optimizer_state, optimizer)
    for index, config in enumerate(run.lr_scheduler_configs):
        states[f"lr_schedulers.{index}"] = config.scheduler.state_dict
    for name, state_dict in states.items():
        try:
            state = state_dict()
        except Exception:  # it may be a state that only training gives
            continue
        pack(state, f"checkpoint.{name}")


def describe(run: Run, checkpoint: dict[str, Any], path: PathLike, *, weights_only: bool) -> None:
    """Let a checkpoint say which run it is of, what came before it and what was measured then."""
    described = run.lineage.describe(
        path, metrics=to_numbers(run.metrics.published), weights_only=weights_only
    )
    checkpoint.setdefault(OWN_KEY, {})[COMMIT_KEY] = described


def note(run: Run, checkpoint: dict[str, Any], path: PathLike) -> None:
    """The checkpoint was handed over: the next one descends from it, and the index will know it."""
    strategy = run.strategy
    run.lineage.parent = os.fspath(path)
    if strategy.is_global_zero and not strategy.checkpoint_io.keeps_index:
        found = commit_for(path, checkpoint)
        if found is not None:
            strategy.checkpoint_io.after_commit(partial(found[0].add, found[1]))


_NO_BATCHES = {"ready": 0, "completed": 0, "started": 0, "processed": 0}


def _loops(run: Run) -> dict[str, Any]:
    """The counters, in the field's common form; evaluations outside of fit have none to keep."""
    fit = run.progress.state_dict(
        automatic=run.module.automatic_optimization, is_timed=run.intervals.is_timed
    )
    progress = {"total": dict(_NO_BATCHES), "current": dict(_NO_BATCHES)}
    evaluation = {"state_dict": {}, "batch_progress": {**progress, "is_last_batch": False}}
    return {
        "fit_loop": fit,
        "validate_loop": evaluation,
        "test_loop": evaluation,
        "predict_loop": {"state_dict": {}, "batch_progress": progress},
    }


# ---------------------------------------------------------------------- restoring


def read(run: Run, path: str, *, weights_only: bool | None) -> dict[str, Any]:
    """Read a checkpoint, and check that the run can go on from it.

    Raises:
        FileNotFoundError: If there is none.
        KeyError: If it holds weights only, and training is to go on from it.
        MisconfigurationException: If it is further on than the run is to go.
    """
    checkpoint = as_written(
        as_checkpoint(run.strategy.load_checkpoint(path, weights_only=weights_only), path),
        is_trusted=weights_only is False,
    )
    if run.state.fn is not TrainerFn.FITTING:
        return checkpoint
    missing = [key for key in ("optimizer_states", "lr_schedulers", "loops") if key not in checkpoint]
    if missing:
        raise KeyError(
            f"Training can't go on from {path}: it lacks {missing}, as what was saved with "
            "save_weights_only=True does. To start a new training from these weights use "
            "`load_from_checkpoint`, and `fit` without ckpt_path."
        )
    limit, epoch = run.limits.max_epochs, checkpoint.get("epoch", 0)
    if limit is not None and limit != -1 and epoch > limit:
        raise MisconfigurationException(
            f"{path} was saved in epoch {epoch}, and `max_epochs={limit}`. Set max_epochs to the number of "
            "epochs in all."
        )
    return checkpoint


def restore_model(run: Run, checkpoint: dict[str, Any], callbacks: Sequence[Callback]) -> None:
    """Take back weights, data state and callbacks: what every kind of run needs."""
    for hook in run.hooks.of_module("on_load_checkpoint"):
        hook(checkpoint)
    run.strategy.load_module_state_dict(
        run.module, checkpoint["state_dict"], strict=run.module.strict_loading
    )
    if run.datamodule is not None:
        data_state = checkpoint.get(type(run.datamodule).__qualname__)
        if data_state:
            run.datamodule.load_state_dict(data_state)
    _restore_callbacks(run, checkpoint, callbacks)


def _restore_callbacks(run: Run, checkpoint: dict[str, Any], callbacks: Sequence[Callback]) -> None:
    if "callbacks" not in checkpoint:  # of weights alone: callbacks had no part in saving it
        return
    for hook in run.hooks.of_callbacks("on_load_checkpoint"):
        hook(checkpoint)
    states: dict[Any, Any] = checkpoint["callbacks"] or {}
    # files from before 1.5 know callbacks by their class alone
    present = [(callback, (callback.state_key, type(callback).__qualname__)) for callback in callbacks]
    known = {key for _, keys in present for key in keys}
    absent = [str(key) for key in states if str(key) not in known]
    if absent and run.state.fn is TrainerFn.FITTING:
        rank_zero_warn(
            f"The checkpoint holds the states of callbacks that this Trainer does not have: {absent}. Add "
            "them to go on as before."
        )
    for callback, keys in present:
        key = next((key for key in keys if key in states), None)
        if key is not None:
            callback.load_state_dict(states[key])


def restore_training(run: Run, checkpoint: dict[str, Any]) -> None:
    """Take back counters, optimizers and schedulers: what training goes on from."""
    precision = run.strategy.precision
    scaling = checkpoint.get(type(precision).__qualname__)
    if scaling:
        precision.load_state_dict(scaling)
    fit_loop = checkpoint["loops"]["fit_loop"]
    run.progress.load_state_dict(fit_loop)
    optimizers, schedulers = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    said = "The checkpoint holds the states of {} {}, and `configure_optimizers` returned {}."
    ours = len(run.strategy.optimizers)
    if ours != len(optimizers):
        raise ValueError(
            f"{said.format(len(optimizers), 'optimizers', ours)} Return as many as then, or pass "
            "reset={'optimizer'} to `fit`, with which they begin anew."
        )
    _check_groups(run, optimizers)
    run.strategy.load_optimizer_states(optimizers)
    run.strategy.load_state_dict((checkpoint.get(OWN_KEY) or {}).get("strategy") or {})
    ours = len(run.lr_scheduler_configs)
    if ours != len(schedulers):
        rank_zero_warn(f"{said.format(len(schedulers), 'schedulers', ours)} The others start anew.")
    for config, state in zip(run.lr_scheduler_configs, schedulers, strict=False):
        config.scheduler.load_state_dict(state)


def _check_groups(run: Run, states: list[dict[str, Any]]) -> None:
    """Refuse the state of other parameter groups, as those are that a hook adds while it trains."""
    for index, (optimizer, state) in enumerate(zip(run.strategy.optimizers, states, strict=True)):
        saved = [len(group["params"]) for group in state.get("param_groups", ())]
        ours = [len(group["params"]) for group in optimizer.param_groups]
        if saved and saved != ours:
            raise ValueError(
                f"The checkpoint holds the state of {type(optimizer).__name__} (optimizer {index}) for "
                f"groups of {saved} parameters, and there are groups of {ours}. If a hook added some with "
                "`add_param_group` in training, add them in `configure_optimizers` or `on_fit_start` to go "
                "on; or pass reset={'optimizer'} to `fit`, with which its state begins anew."
            )
