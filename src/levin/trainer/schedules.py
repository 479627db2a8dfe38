"""The learning rates that a fit will have, said before it begins: copies of its schedulers are tried."""

from __future__ import annotations

import copy
import dis
import math
import warnings
from bisect import bisect_left, bisect_right
from contextlib import contextmanager, suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import lr_scheduler as torchs

from levin.core.module import LightningModule
from levin.utils.errors import PossibleUserWarning
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_info, rank_zero_only, rank_zero_warn
from levin.utils.seed import isolate_rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from levin.trainer.states import Run
    from levin.utils.types import LRSchedulerConfig

    Rate = Callable[[int], float]  # the learning rate after so many moves from now

# of these `step(n)` gives the rate after n moves, whatever came before
_JUMPING = (
    torchs.StepLR, torchs.MultiStepLR, torchs.ConstantLR, torchs.LinearLR, torchs.ExponentialLR,
    torchs.PolynomialLR, torchs.CosineAnnealingLR, torchs.CosineAnnealingWarmRestarts, torchs.LambdaLR,
    torchs.OneCycleLR, torchs.CyclicLR, torchs.SequentialLR,
)  # fmt: skip
# what a function calls if it does more than compute
_ACTING = frozenset({
    "next", "send", "append", "extend", "insert", "pop", "popleft", "popitem", "remove", "clear", "add",
    "update", "setdefault", "setattr", "print", "write", "log", "info", "debug", "warning", "exec", "eval",
})  # fmt: skip
_NO_WARM_UP = 50  # epochs: nobody warms up for as many


def tell_plans(
    run: Run, configs: Sequence[LRSchedulerConfig], max_batches: int | float, *, validates: bool
) -> None:
    """Say for each scheduler where the learning rate begins, how high it gets and where it ends.

    Warns where a schedule that goes by epochs was surely meant by steps. What can't be told, or not without
    calling code that may do more than compute, is left out.

    Args:
        run: The run.
        configs: The schedulers that the fit moves.
        max_batches: Training batches in an epoch; infinite if nobody knows.
        validates: Whether there are validations.
    """
    if not configs or rank_zero_only.rank != 0 or run.debugging.fast_dev_run or run.debugging.barebones:
        return
    length = _length(run, max_batches)
    for config in configs:
        if config.interval == "validation" and not validates:
            name = type(config.scheduler).__name__
            rank_zero_warn(f"{name} moves with validations, and this fit has none: it will not move.")
        plan = advice = end = ""
        with _trying():
            plan = _plan(run, config, *length)
        with _trying():
            advice = _advice(run, config, *length)
        with _trying():
            end = _early_end(run, config, *length)
        if plan:
            rank_zero_info(plan)
        if advice:
            rank_zero_warn(advice, category=PossibleUserWarning)
        if end:
            rank_zero_warn(end)


def _length(run: Run, max_batches: int | float) -> tuple[int | None, int | None]:
    """Whole epochs and optimizer steps of the fit; None where nobody knows."""
    limits, steps = run.limits, run.module.trainer.estimated_stepping_batches
    epochs = None if limits.max_epochs == -1 else limits.max_epochs
    if limits.max_steps != -1 and max_batches == math.inf:
        epochs = None
    elif limits.max_steps != -1:
        whole = limits.max_steps // math.ceil(max_batches / run.updates.accumulate_grad_batches)
        epochs = whole if epochs is None else min(epochs, whole)
    return epochs, int(steps) if 0 <= steps < math.inf else None


@contextmanager
def _trying() -> Iterator[None]:
    """No fit fails of what there was to say of it, or draws other random numbers."""
    with suppress(Exception), isolate_rng(include_cuda=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has something to say of jumps
        yield


def _plan(run: Run, config: LRSchedulerConfig, epochs: int | None, steps: int | None) -> str:
    """What there is to say of a scheduler."""
    optimizer, name, every = config.scheduler.optimizer, type(config.scheduler).__name__, config.frequency
    units = {"step": "batches", "epoch": "epochs", "validation": "validations"}[config.interval]
    rhythm = f"each {config.interval}" if every == 1 else f"every {every} {units}"
    what = f"Learning rate of {type(optimizer).__name__}"
    if len(optimizer.param_groups) > 1:
        what += f" (first of {len(optimizer.param_groups)} groups)"
    what += f": {float(optimizer.param_groups[0]['lr']):.3g} at the start"
    if config.reduce_on_plateau:
        return f"{what}; {name} looks at {config.monitor!r} {rhythm}."
    done, total = {"epoch": (run.progress.epoch, epochs), "step": (run.progress.step, steps)}.get(
        config.interval, (0, None)
    )
    is_counted = total is not None and (config.interval == "epoch" or every == 1)
    rate = _rate(run, config.scheduler) if is_counted else None
    if total is None or rate is None:
        return f"{what}; {name} moves it {rhythm}."
    moves, last = total // every - done // every, (total - 1) // every - done // every
    highest, end = rate(_peak(rate, last)), rate(last)
    if highest > 1.001 * max(rate(0), end):
        what += f", {highest:.3g} at most"
    times = "once" if moves == 1 else f"{moves} times"
    return f"{what}, {end:.3g} at the end; {name} moves it {rhythm}, {times}."


def _early_end(run: Run, config: LRSchedulerConfig, epochs: int | None, steps: int | None) -> str:
    """What to warn of, if a scheduler has an end and this fit goes further."""
    made_for, made = getattr(config.scheduler, "total_steps", None), config.scheduler.last_epoch
    done, total = (run.progress.step, steps) if config.interval == "step" else (run.progress.epoch, epochs)
    if not isinstance(made_for, int) or total is None or config.interval == "validation":
        return ""
    moves = total // config.frequency - done // config.frequency
    name = type(config.scheduler).__name__
    if made + moves <= made_for:
        return ""
    return (
        f"{name} was made for {made_for} moves. It has made {made}, and this fit makes {moves} more: unless "
        "it stops before, torch ends it with an error. Make it for all of them; where it comes from a "
        "checkpoint, pass reset={'scheduler'} to `fit`, so that it begins anew as it is made now."
    )


def _advice(run: Run, config: LRSchedulerConfig, epochs: int | None, steps: int | None) -> str:
    """What to warn of, if a scheduler moves by epochs and was surely meant to move by steps."""
    scheduler, name = config.scheduler, type(config.scheduler).__name__
    is_told = isinstance(scheduler, torchs.OneCycleLR) or run.progress.step > 0  # when it was made, or begun
    if config.interval != "epoch" or is_told or epochs is None or steps is None:
        return ""
    rate, moves = _rate(run, scheduler), epochs // config.frequency
    if rate is None:
        return ""
    remedy = (
        f"In this fit that is {moves} times, and it has {steps} optimizer steps. If the schedule is planned "
        'in steps, say so in `configure_optimizers`: {"scheduler": scheduler, "interval": "step"}.'
    )
    horizon = getattr(scheduler, "T_max", getattr(scheduler, "total_iters", 0))
    if horizon >= max(_NO_WARM_UP, 5 * moves) and 0.9 <= horizon / steps <= 1.1:
        return f"{name} is planned for {horizon} moves, and moves at the end of epochs. {remedy}"
    peak = _peak(rate, steps)
    highest, reached = rate(peak), rate(_peak(rate, moves))
    warm_up = bisect_left(range(peak), 0.99 * highest, key=rate)
    is_warm_up = reached < highest / 2 and peak <= 0.9 * steps  # what rises to the end is none
    if is_warm_up and warm_up >= max(_NO_WARM_UP, min(5 * moves, 5 * _NO_WARM_UP)):
        return (
            f"{name} would bring the learning rate from {rate(0):.3g} to {highest:.3g} in {peak} moves, and "
            f"gets to {reached:.3g}: it moves at the end of epochs. {remedy}"
        )
    return ""


def _peak(rate: Rate, last: int) -> int:
    """After which of the moves the rate is the highest, for the first time; looked for ever more closely."""
    low, high = 0, last
    while True:
        stride = max(1, (high - low) // 40)
        best: int = max((*range(low, high, stride), high), key=rate)
        if stride == 1:
            return best
        low, high = max(low, best - stride), min(high, best + stride)


# ---------------------------------------------------------------------- trying a scheduler


def _rate(run: Run, scheduler: Any) -> Rate | None:
    """The rate after so many moves, by a copy with an optimizer of its own; None if it can't be tried."""
    if overrides(run.module, "lr_scheduler_step", LightningModule):  # nobody knows how it moves
        return None
    parts = list(_parts(scheduler))
    functions = [function for part in parts for function in getattr(part, "lr_lambdas", ())]
    functions += [own for part in parts if (own := getattr(part, "_scale_fn_custom", None)) is not None]
    if not all(type(part) in _JUMPING for part in parts) or not all(map(_only_computes, functions)):
        return None
    groups = [
        {key: float(value) if isinstance(value, Tensor) else value for key, value in group.items()}
        for group in ({**group, "params": []} for group in scheduler.optimizer.param_groups)
    ]
    stand_in = SimpleNamespace(param_groups=groups, step=None)
    memo = {id(scheduler.optimizer): stand_in, **{id(function): function for function in functions}}
    trial, now = copy.deepcopy(scheduler, memo), scheduler.last_epoch

    def rate(moves: int) -> float:
        _jump(trial, now + moves)
        return float(groups[0]["lr"])

    return rate


def _parts(scheduler: Any) -> Iterator[Any]:
    """A scheduler and those that it is made of."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _parts(part)


def _jump(scheduler: Any, moves: int) -> None:
    """Bring a scheduler to where it is after so many moves in all."""
    while isinstance(scheduler, torchs.SequentialLR):
        milestones, parts = scheduler._milestones, scheduler._schedulers  # noqa: SLF001  # torch has no other way
        index = bisect_right(milestones, moves)
        scheduler, moves = parts[index], moves - (milestones[index - 1] if index else 0)
    scheduler.step(moves)


def _only_computes(function: Any) -> bool:
    """Whether a user's function changes nothing, as far as its code shows: so it may be called more often."""
    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    if not isinstance(function, FunctionType):
        function = type(function).__call__
    code = getattr(function, "__code__", None)
    return code is not None and all(map(_is_innocent, _codes(code)))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_innocent(code: CodeType) -> bool:
    if _ACTING & set(code.co_names):
        return False
    stored = (each for each in dis.get_instructions(code) if each.opname.startswith(("STORE_", "DELETE_")))
    return all("_FAST" in each.opname or each.argval in code.co_cellvars for each in stored)
