"""Run an entry point of a trainer in new processes, and bring back what it changed."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levin.core.module import LightningModule
from levin.core.optimizers import LightningOptimizer
from levin.launchers import FunctionLauncher
from levin.launchers.functions import deliver
from levin.launchers.parcels import Parcel, pack, pack_parts, unpack
from levin.utils.overrides import overrides
from levin.utils.seed import collect_rng_state, set_rng_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from levin.trainer.states import TrainerStatus
    from levin.trainer.trainer import Trainer

_COUNTS = ("max_batches", "val_check_batch", "loaded_in_epoch")  # what a trainer tells of its loops


def function_launcher(trainer: Trainer) -> FunctionLauncher | None:
    """What runs the trainer's entry points in other processes; None where this one takes part itself."""
    launcher = trainer.strategy.launcher
    return launcher if isinstance(launcher, FunctionLauncher) else None


def run_elsewhere(
    trainer: Trainer, launcher: FunctionLauncher, given: dict[str, Any], receive: Callable[[Outcome], None]
) -> Any:
    """Call an entry point in new processes.

    Args:
        trainer: The trainer, to which module and data are attached; its state tells the entry point.
        launcher: What starts the processes.
        given: The arguments.
        receive: Called with what the first process has changed, also if the run ended with an error.

    Returns:
        What it returned in the first process.
    """
    call = (trainer, str(trainer.state.fn), given)
    return launcher.run(_call, call, {}, signals=(signal.SIGINT, *trainer.run.stop_signals), receive=receive)


def _call(trainer: Trainer, entry: str, given: dict[str, Any]) -> Any:
    """What each worker does."""
    try:
        result = getattr(trainer, entry)(**given)
    except BaseException:
        if trainer.local_rank == 0:
            with suppress(Exception):  # the error must not hide behind another one
                deliver(outcome_of(trainer))
        raise
    if trainer.local_rank == 0:
        deliver(outcome_of(trainer))
    return result


@dataclass
class Outcome:
    """What a run has changed, in a form that goes to another process.

    Attributes:
        weights: Parameters and buffers, by name, packed.
        status: How the run ended.
        should_stop: Whether somebody asked it to end.
        ckpt_path: The checkpoint that it began with.
        parts: What else the trainer knows of it, packed.
        training: Optimizers and schedulers, packed; None where they can't be.
        members: For each callback and logger its class's name and its attributes, packed.
        random: The state of random generators.
    """

    weights: Parcel
    status: TrainerStatus
    should_stop: bool
    ckpt_path: str | None
    parts: Parcel
    training: Parcel | None
    members: list[tuple[str, list[Parcel]]]
    random: dict[str, Any]


def outcome_of(trainer: Trainer) -> Outcome:
    """What the run of this process has changed."""
    run, known = trainer.run, _known(trainer)
    parts = {
        "progress": vars(run.progress),
        "lineage": run.lineage,
        "settings": run.settings,
        "metrics": run.metrics.state_dict(),
        "counts": [
            {name: getattr(loop, name) for name in _COUNTS if hasattr(loop, name)} for loop in _loops(trainer)
        ],
    }
    training = None
    with suppress(Exception):  # a schedule may be a function that can't be packed
        training = pack((trainer.optimizers, run.lr_scheduler_configs), known=known, to_host=True)
    return Outcome(
        weights=pack(_tensors(run.module), to_host=True),
        status=run.state.status,
        should_stop=run.state.should_stop,
        ckpt_path=None if trainer.ckpt_path is None else str(trainer.ckpt_path),
        parts=pack(parts, name="trainer", known=known, to_host=True),
        training=training,
        members=[
            (_class_of(member), pack_parts(_attributes(member), known=known)) for member in _members(trainer)
        ],
        random=collect_rng_state(include_cuda=False),
    )


def take_back(trainer: Trainer, outcome: Outcome) -> str | None:
    """Let this process's trainer be as the one was that ran.

    Returns:
        The checkpoint that the run began with.
    """
    run = trainer.run
    _set_tensors(trainer, unpack(outcome.weights))
    known = _known(trainer)
    run.state.status, run.state.should_stop = outcome.status, outcome.should_stop
    parts = unpack(outcome.parts, known)
    vars(run.progress).update(parts["progress"])
    run.lineage, run.settings = parts["lineage"], parts["settings"]
    run.metrics.start_run(run.module)
    run.metrics.load_state_dict({**parts["metrics"], "epoch": []})
    for loop, counts in zip(_loops(trainer), parts["counts"], strict=True):
        vars(loop).update(counts)
    if outcome.training is not None:
        optimizers, run.lr_scheduler_configs = unpack(outcome.training, known)
        run.strategy.optimizers = optimizers
        run.wrapped_optimizers = [LightningOptimizer(each, run.strategy, run.module) for each in optimizers]
    members = _members(trainer)
    if [name for name, _ in outcome.members] == [_class_of(member) for member in members]:
        for member, (_, packed) in zip(members, outcome.members, strict=True):
            for part in packed:
                vars(member).update(unpack(part, known))
    set_rng_state(outcome.random)
    return outcome.ckpt_path


def _loops(trainer: Trainer) -> tuple[Any, ...]:
    fit = trainer.fit_loop
    return fit, fit.validation, trainer.validate_loop, trainer.test_loop, trainer.predict_loop


def _members(trainer: Trainer) -> list[Any]:
    return [*trainer.callbacks, *trainer.loggers]


def _class_of(member: Any) -> str:
    # a new interpreter has imported the program under another name
    module = type(member).__module__.replace("__mp_main__", "__main__")
    return f"{module}.{type(member).__qualname__}"


def _attributes(member: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name not in ("log", "log_dict")}


def _known(trainer: Trainer) -> list[Any]:
    """What both processes have, in the same order."""
    run, module = trainer.run, trainer.run.module
    return [
        trainer, run, module, run.datamodule, run.strategy, run.hooks, run.metrics, run.profiler, run.state,
        *_loops(trainer), *_members(trainer), *module.parameters(),
    ]  # fmt: skip


def _tensors(module: LightningModule) -> dict[str, dict[str, Tensor]]:
    """Parameters and buffers as they are, and what the module adds to its state."""
    return {
        "parameters": {name: each.detach() for name, each in module.named_parameters(remove_duplicate=False)},
        "buffers": {name: each.detach() for name, each in module.named_buffers(remove_duplicate=False)},
    }


def _set_tensors(trainer: Trainer, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Copy values into the module's own tensors; what a run makes first is made here, too."""
    module = trainer.run.module
    present: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    if present.keys() != tensors["parameters"].keys() and overrides(
        module, "configure_model", LightningModule
    ):
        with trainer.strategy.module_init_context():
            module.configure_model()
        present = dict(module.named_parameters(remove_duplicate=False))
    present.update(module.named_buffers(remove_duplicate=False))
    for name, value in {**tensors["parameters"], **tensors["buffers"]}.items():
        if name in present:
            _set(present[name], value)


def _set(mine: Tensor, value: Tensor) -> None:
    if mine.shape == value.shape and mine.dtype == value.dtype and mine.device == value.device:
        mine.data.copy_(value)
    else:  # a run may have converted it, or given it its shape
        mine.data = value
