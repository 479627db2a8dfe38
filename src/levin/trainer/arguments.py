"""The Trainer's arguments, checked when it is built and grouped into frozen dataclasses."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, Generic, ParamSpec, TypeVar, overload

import torch

from levin.trainer.former import ARGUMENTS, Translation, tell_of_environment
from levin.trainer.when import Every
from levin.utils.errors import MisconfigurationException
from levin.utils.namespace import literal
from levin.utils.rank import rank_zero_info, rank_zero_warn

P = ParamSpec("P")
T = TypeVar("T")
G = TypeVar("G")

Duration = str | timedelta | Mapping[str, int]


@dataclass(frozen=True)
class Limits:
    """How long a run is and how much of the data it takes.

    Counts of batches are ints, shares of the data floats between 0 and 1.
    """

    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    limit_test_batches: int | float = 1.0
    limit_predict_batches: int | float = 1.0
    overfit_batches: int | float = 0.0

    def __post_init__(self) -> None:
        """Check each one."""
        for name in ("max_steps", "max_epochs", "min_epochs", "min_steps"):
            value = getattr(self, name)
            if value is not None or name == "max_steps":
                count = _parse_count(name, value, at_least=-1, unlimited="-1 (no limit)")
                object.__setattr__(self, name, count)
        for name in (
            "limit_train_batches",
            "limit_val_batches",
            "limit_test_batches",
            "limit_predict_batches",
            "overfit_batches",
        ):
            object.__setattr__(self, name, _parse_share(name, getattr(self, name)))

    @classmethod
    def parse(cls, **given: Any) -> Limits:
        """Fill in what was not given, and say what 1 and 1.0 mean where they were."""
        for name, value in given.items():
            if name.startswith("limit_") and value in (1, 1.0) and value is not None:
                meaning = "one batch" if isinstance(value, int) else "all batches"
                other = "1.0 for all batches" if isinstance(value, int) else "1 for one batch"
                rank_zero_info(f"`Trainer({name}={value})` was given: {meaning} will be used. (Use {other}.)")
        known = {name: value for name, value in given.items() if value is not None or name == "max_steps"}
        if "min_steps" in known:
            known.setdefault("min_epochs", 1)  # who asks for steps alone gets the first epoch whole
        limits = cls(**known)
        if limits.overfit_batches:
            limits = replace(
                limits, limit_train_batches=limits.overfit_batches, limit_val_batches=limits.overfit_batches
            )
        return limits

    def with_open_end(self, *, has_timer: bool) -> Limits:
        """No number of epochs ends a run that steps or time end."""
        is_open = self.max_epochs is None and (self.max_steps != -1 or has_timer)
        return replace(self, max_epochs=-1) if is_open else self


@dataclass(frozen=True)
class Intervals:
    """How often things happen."""

    val_check_interval: int | float | Duration | Every = 1.0
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | float = 2
    log_every_n_steps: int = 50
    reload_dataloaders_every_n_epochs: int = 0

    def __post_init__(self) -> None:
        """Check each one."""
        lowest = {"log_every_n_steps": 0, "reload_dataloaders_every_n_epochs": 0}
        if self.check_val_every_n_epoch is not None:
            lowest["check_val_every_n_epoch"] = 1
        for name, at_least in lowest.items():
            object.__setattr__(self, name, _parse_count(name, getattr(self, name), at_least=at_least))
        steps = self.num_sanity_val_steps
        if steps != math.inf:
            steps = _parse_count("num_sanity_val_steps", steps, at_least=-1, unlimited="-1 (all batches)")
            object.__setattr__(self, "num_sanity_val_steps", math.inf if steps == -1 else steps)
        object.__setattr__(self, "val_check_interval", _parse_interval(self.val_check_interval))

    @property
    def is_timed(self) -> bool:
        """Whether validations go by the clock."""
        return isinstance(self.val_check_interval, timedelta)

    @classmethod
    def parse(cls, **given: Any) -> Intervals:
        """Fill in what was not given.

        Raises:
            MisconfigurationException: If a share of an epoch was given for batches counted over epochs.
        """
        interval = given["val_check_interval"]
        if given["check_val_every_n_epoch"] is None and isinstance(interval, float):
            raise MisconfigurationException(
                f"`val_check_interval={interval}` is a share of an epoch, and "
                "`check_val_every_n_epoch=None` counts batches over epochs. Give the interval as a number "
                "of batches."
            )
        known = {
            name: value
            for name, value in given.items()
            if value is not None or name == "check_val_every_n_epoch"
        }
        return cls(**known)


@dataclass(frozen=True)
class Updates:
    """What happens to gradients before they update the weights."""

    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    normalize_by: str | None = None
    on_nonfinite: str = "ignore"

    def __post_init__(self) -> None:
        """Check each one."""
        _check_word("normalize_by", self.normalize_by, (None, "batches", "samples", "tokens"))
        _check_word("on_nonfinite", self.on_nonfinite, ("ignore", "raise", "skip"))
        if isinstance(self.accumulate_grad_batches, Mapping):
            raise TypeError(
                f"`accumulate_grad_batches` is {self.accumulate_grad_batches!r}. It is a whole number; for a "
                "schedule pass "
                "callbacks=[GradientAccumulationScheduler(scheduling={epoch: factor})]."
            )
        count = _parse_count("accumulate_grad_batches", self.accumulate_grad_batches, at_least=1)
        object.__setattr__(self, "accumulate_grad_batches", count)
        value: Any = self.gradient_clip_val
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise TypeError(
                f"`gradient_clip_val` is {value!r}, a {type(value).__name__}. It is a number, or None."
            )
        algorithm = self.gradient_clip_algorithm
        if algorithm is not None:
            word = str(getattr(algorithm, "value", algorithm)).lower()
            if word not in ("norm", "value"):
                raise MisconfigurationException(
                    f"`gradient_clip_algorithm` is {algorithm!r}. It is 'norm' or 'value'."
                )
            object.__setattr__(self, "gradient_clip_algorithm", word)


def _check_word(name: str, value: Any, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        words = ", ".join(map(repr, allowed[:-1]))
        raise MisconfigurationException(f"`{name}` is {value!r}. It is {words} or {allowed[-1]!r}.")


@dataclass(frozen=True)
class Debugging:
    """Switches for finding faults."""

    fast_dev_run: int | bool = False
    detect_anomaly: bool = False
    barebones: bool = False
    inference_mode: bool = True

    def __post_init__(self) -> None:
        """Check each one."""
        if not isinstance(self.fast_dev_run, bool):
            batches = _parse_count("fast_dev_run", self.fast_dev_run, at_least=0)
            object.__setattr__(self, "fast_dev_run", True if batches == 1 else batches)
        if self.detect_anomaly:
            rank_zero_info("`Trainer(detect_anomaly=True)` makes training slow: use it to find a fault only.")


@dataclass(frozen=True)
class Reproducibility:
    """Settings of the whole process that decide whether results repeat to the bit."""

    deterministic: bool | str | None = None
    benchmark: bool | None = None
    worker_seeds: str = "sample"

    def __post_init__(self) -> None:
        """Check them."""
        if self.worker_seeds not in ("sample", "torch"):
            raise MisconfigurationException(
                f"`worker_seeds` is {self.worker_seeds!r}. It is 'sample' (what a sample draws in a worker "
                "process follows from the sample) or 'torch' (from the worker, as torch seeds it)."
            )
        if self.deterministic not in (None, True, False, "warn"):
            raise MisconfigurationException(
                f"`deterministic` is {self.deterministic!r}. It is True, False, 'warn' or None."
            )
        if self.deterministic and self.benchmark:
            rank_zero_warn(
                "`deterministic` and `benchmark=True` work against each other: the fastest algorithm may "
                "change."
            )

    def apply(self) -> None:
        """Tell torch."""
        if self.deterministic is not None:
            torch.use_deterministic_algorithms(
                bool(self.deterministic), warn_only=self.deterministic == "warn"
            )
        if self.deterministic:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        benchmark = False if self.deterministic and self.benchmark is None else self.benchmark
        if benchmark is not None:
            torch.backends.cudnn.benchmark = benchmark


class Setting(Generic[T]):
    """An attribute of the Trainer that stands in a frozen group; to set it replaces and checks the group.

    Args:
        group: The attribute of the run that holds the group.
        run: The attribute that holds the run.
    """

    def __init__(self, group: str, *, run: str = "run") -> None:
        self.group: str = group
        self.run: str = run

    def __set_name__(self, owner: type, name: str) -> None:
        self.name: str = name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: Any, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return getattr(getattr(getattr(instance, self.run), self.group), self.name)

    def __set__(self, instance: Any, value: T) -> None:
        run = getattr(instance, self.run)
        setattr(run, self.group, replace(getattr(run, self.group), **{self.name: value}))


def friendly(init: Callable[P, None]) -> Callable[P, None]:
    """Let `Trainer.__init__` take arguments by position, from the environment and of earlier versions.

    Unknown ones are explained.
    """
    names = tuple(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        self, *positional = args
        if len(positional) > len(names):
            raise TypeError(f"Trainer takes {len(names)} arguments, and got {len(positional)}. Name them.")
        given: dict[str, Any] = dict(zip(names, positional, strict=False))
        for name in kwargs:
            if name not in names and name not in ARGUMENTS:
                raise TypeError(_unknown(name, names))
            if name in given:
                raise TypeError(
                    f"Trainer got {name!r} twice: as argument {names.index(name) + 1}, which is "
                    f"{given[name]!r}, and by name, {kwargs[name]!r}. Leave one of the two out."
                )
        given.update(kwargs)
        tell_of_environment()
        default = Translation(_from_environment((*names, *ARGUMENTS)), names)
        wanted = Translation(given, names)
        init(self, **{**default.arguments, **wanted.arguments})  # type: ignore[arg-type]
        for act in (*default.later, *wanted.later):
            act(self)  # type: ignore[arg-type]

    return checked


def _from_environment(names: Iterable[str]) -> dict[str, Any]:
    found = {name: os.environ.get(f"PL_TRAINER_{name.upper()}") for name in names}
    return {name: literal(text) for name, text in found.items() if text is not None}


def _unknown(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"Trainer got an unexpected keyword argument {name!r}. {meant}Known arguments: {', '.join(known)}."


def check_barebones(barebones: bool, **given: Any) -> None:
    """Refuse what `barebones` exists to leave out.

    Raises:
        ValueError: If one of the features was asked for by name.
    """
    if not barebones:
        return
    asked = [name for name, value in given.items() if value]
    if asked:
        raise ValueError(
            "`Trainer(barebones=True)` leaves out everything that costs time, and "
            f"{asked[0]}={given[asked[0]]!r} was given. Leave one of the two out."
        )
    rank_zero_info(
        "`Trainer(barebones=True)`: checkpoints, loggers, progress bar, model summary, sanity check, "
        "profiler and `self.log` are off. Use it to measure the loop itself."
    )


def without_extras(intervals: Intervals) -> Intervals:
    """The intervals of a `barebones` run."""
    return replace(intervals, log_every_n_steps=0, num_sanity_val_steps=0)


def for_dev_run(batches: int, limits: Limits, intervals: Intervals) -> tuple[Limits, Intervals]:
    """The limits of a `fast_dev_run`: a few batches of everything, once."""
    rank_zero_info(
        f"Running in `fast_dev_run` mode: will run the requested loop using {batches} batch(es). Logging "
        "and checkpointing is suppressed."
    )
    limits = replace(
        limits, max_epochs=1, max_steps=batches, limit_train_batches=batches, limit_val_batches=batches,
        limit_test_batches=batches, limit_predict_batches=batches,
    )  # fmt: skip
    return limits, replace(
        intervals, val_check_interval=1.0, check_val_every_n_epoch=1, num_sanity_val_steps=0
    )


def parse_duration(name: str, value: Duration) -> timedelta:
    """Make a timedelta of a text "DD:HH:MM:SS", a timedelta, or a timedelta's arguments."""
    if isinstance(value, timedelta):
        return value
    units = ("days", "hours", "minutes", "seconds")
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) == len(units) and all(part.strip().isdecimal() for part in parts):
        value = dict(zip(units, map(int, parts), strict=True))
    try:
        return timedelta(**value)  # type: ignore[arg-type]  # what is no mapping is refused below
    except TypeError:
        raise MisconfigurationException(
            f"`{name}` is {value!r}. It is a text 'DD:HH:MM:SS' (as '00:12:00:00' for twelve hours), a "
            "timedelta, or a dict as {'hours': 12}."
        ) from None


def _parse_interval(value: Any) -> Any:
    """An interval of validations: a number of batches, a share of the epoch, a time, or an `Every`."""
    name = "val_check_interval"
    if isinstance(value, Every):
        return value
    if isinstance(value, (str, timedelta, Mapping)):
        return parse_duration(name, value)
    if isinstance(value, Integral):
        return _parse_count(name, value, at_least=1)
    return _parse_share(name, value, at_least=1)


def _parse_share(name: str, value: Any, *, at_least: int = 0) -> int | float:
    """A count of batches as an int, a share as a float between 0 and 1; 2.0 is 2."""
    if _is_int(value) and value >= at_least:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral):
        share = float(value)
        if 0 <= share <= 1:
            return share
        if share > 1 and share.is_integer():
            return int(share)
    raise MisconfigurationException(
        f"`{name}` is {value!r}. Give a number of batches (a whole number from {at_least}) or a share of "
        "them (a float from 0.0 to 1.0)."
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _parse_count(name: str, value: Any, *, at_least: int, unlimited: str = "") -> int:
    """A whole number, which may have been written as 1e5."""
    lowest = unlimited or str(at_least)
    message = f"`{name}` is {value!r}. It is a whole number from {lowest} on."
    if value is None:
        raise TypeError(message)
    is_whole = _is_int(value) or (isinstance(value, float) and value.is_integer())
    if not is_whole or value < at_least:
        raise MisconfigurationException(message)
    return int(value)


def batches_to_run(stage: str, length: int | float, limit: int | float) -> int | float:
    """How many batches of a loader a run takes.

    Args:
        stage: "train", "val", "test" or "predict", for messages.
        length: The loader's length; infinite if it has none.
        limit: A count, or a share.

    Raises:
        MisconfigurationException: If a share of an unknown length is asked for, or the share comes to
            nothing.
    """
    name = f"limit_{stage}_batches"
    if limit == 0 or length == 0:
        return 0
    if isinstance(limit, int):
        return min(length, limit)
    if limit == 1.0:
        return length
    if length == math.inf:
        raise MisconfigurationException(
            f"`Trainer({name}={limit})` is a share of a loader without a length. Give a number of batches, "
            "or 1.0 for all."
        )
    batches = int(length * limit)
    if batches == 0:
        raise MisconfigurationException(
            f"`Trainer({name}={limit})` of {length} batches is less than one batch. Give at least "
            f"{1 / length:.3g}, or a number of batches."
        )
    return batches


def parse_global_batch_size(size: Any) -> int | None:
    """``Trainer(global_batch_size=...)``.

    Raises:
        MisconfigurationException: If it is no number of samples.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise MisconfigurationException(
            f"`global_batch_size` is {size!r}. It is the number of samples of an optimizer step, over all "
            "processes: a whole number from 1 on, or None to go by the loaders' batch_size."
        )
    return size


_UNEVEN = ("stop_together", "drop", "zero_weight", "error")


def parse_uneven(uneven: str) -> str:
    """``Trainer(uneven=...)``.

    Raises:
        MisconfigurationException: If there is no such policy.
    """
    if uneven not in _UNEVEN:
        raise MisconfigurationException(
            f"`uneven` is {uneven!r}. It is one of {', '.join(map(repr, _UNEVEN))}."
        )
    return uneven
