"""What a fit is set to, how that differs from the settings in its checkpoint, and which of the two counts."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import Tensor

from levin.checkpoint import OWN_KEY
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import rank_zero_info

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from torch.optim import Optimizer

    from levin.trainer.states import Run

Settings = dict[str, Any]
"""Where a setting is, as ``"optimizers.0.lr"`` -> its value."""

_OPTIMIZER, _SCHEDULER = "optimizer", "scheduler"
_RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # the last ones are what OneCycleLR puts into the groups
_NO_SETTINGS = ("params", "param_names", "initial_lr")
# how far a scheduler is, and what stands in the optimizer, too
_POSITION = frozenset(
    {"last_epoch", "best", "num_bad_epochs", "cooldown_counter", "mode_worse", "T_cur", "T_i", "base_lrs"}
)
_NEVER_RESTORED = ("interval", "frequency", "monitor")
_CLASS = "class"
_NUM_TOLD = 20
_ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "nothing"})()


def names_of(reset: str | Iterable[str] | None) -> frozenset[str]:
    """What ``fit(reset=...)`` names."""
    return frozenset([reset] if isinstance(reset, str) else reset or ())


def settle(run: Run, checkpoint: dict[str, Any] | None, reset: Collection[str]) -> dict[str, Any] | None:
    """Note what the fit is set to; tell how that differs from the checkpoint; take anew what ``reset`` names.

    Args:
        run: The run, its optimizers and schedulers as `configure_optimizers` made them.
        checkpoint: What the fit goes on from.
        reset: What is taken from the program and not from the checkpoint: see `Trainer.fit`.

    Returns:
        The checkpoint to go on from.

    Raises:
        MisconfigurationException: If nothing is called so, or a state is that of another optimizer.
    """
    _check_names(reset, run.strategy.optimizers)
    now = _settings(run)
    if checkpoint is None:
        run.settings = now
        return None
    saved = _saved_settings(checkpoint, now)
    kept = {key for key in saved.keys() & now.keys() if _is_kept(key, reset)}
    if _OPTIMIZER not in reset:
        _check_classes(saved, now, run.strategy.optimizers, checkpoint["optimizer_states"])
    run.settings = now | {key: saved[key] for key in kept}
    hparams = (_hparams_of(checkpoint), _hparams_of(_current_hparams(run)))
    lines = [*_differences(*hparams, ()), *_differences(saved, now, kept)]
    if lines:
        more = [f"... and {len(lines) - _NUM_TOLD} more"] if len(lines) > _NUM_TOLD else []
        listed = "\n  ".join(lines[:_NUM_TOLD] + more)
        rank_zero_info(f"Settings that differ from those of the checkpoint (saved -> now):\n  {listed}")
    return _with_fresh(run, checkpoint, reset) if reset else checkpoint


# ---------------------------------------------------------------------------------- which settings there are


def _settings(run: Run) -> Settings:
    updates = run.updates
    found: Settings = {
        "trainer.precision": run.strategy.precision.precision,
        "trainer.world_size": run.strategy.world_size,
        "trainer.global_batch_size": run.global_batch_size,
        "trainer.limit_train_batches": run.limits.limit_train_batches,
        "trainer.accumulate_grad_batches": updates.accumulate_grad_batches,
        "trainer.gradient_clip_val": updates.gradient_clip_val,
        "trainer.gradient_clip_algorithm": updates.gradient_clip_algorithm,
        "trainer.normalize_by": updates.normalize_by,
    }
    for index, optimizer in enumerate(run.strategy.optimizers):
        found[f"optimizers.{index}.{_CLASS}"] = type(optimizer).__name__
        found |= _settings_of_groups(optimizer.param_groups, f"optimizers.{index}")
    for index, config in enumerate(run.lr_scheduler_configs):
        found[f"schedulers.{index}.{_CLASS}"] = type(config.scheduler).__name__
        found |= {f"schedulers.{index}.{name}": getattr(config, name) for name in _NEVER_RESTORED}
        with suppress(
            Exception
        ):  # of a built-in function, torch has no state; a fit without saving needs none
            found |= _settings_of_scheduler(config.scheduler.state_dict(), f"schedulers.{index}")
    return found


def _settings_of_groups(groups: Iterable[Mapping[str, Any]], place: str) -> Settings:
    found: Settings = {}
    for index, group in enumerate(groups):
        values = {**group, "lr": group.get("initial_lr", group.get("lr"))}
        found |= {
            f"{place}.{f'groups.{index}.' if index else ''}{name}": value
            for name, value in _plain_items(values)
            if name not in _NO_SETTINGS
        }
    return found


def _settings_of_scheduler(state: Mapping[str, Any], place: str) -> Settings:
    found = {
        f"{place}.{name}": value
        for name, value in _plain_items(state)
        if not name.startswith("_") and name not in _POSITION
    }
    for index, part in enumerate(state.get("_schedulers", ())):
        found |= _settings_of_scheduler(part, f"{place}.{index}")
    return found


def _plain_items(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries that are settings: numbers, words, and rows of them."""
    for name, given in values.items():
        value = given.item() if isinstance(given, Tensor) and given.numel() == 1 else given
        value = sorted(value.elements()) if isinstance(value, Counter) else value
        row = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(item, (bool, int, float, str, type(None))) for item in row):
            yield str(name), list(value) if isinstance(value, tuple) else value


def _saved_settings(checkpoint: Mapping[str, Any], now: Settings) -> Settings:
    """The settings in a checkpoint; of one without them, what its optimizers' states show beside today's."""
    own = (checkpoint.get(OWN_KEY) or {}).get("settings")
    if own:
        return dict(own)
    found: Settings = {}
    for index, state in enumerate(checkpoint["optimizer_states"]):
        groups = state.get("param_groups", ())
        if checkpoint["lr_schedulers"]:  # these may have moved the others
            groups = [_with_names(group, ("initial_lr", "weight_decay")) for group in groups]
        found |= _settings_of_groups(groups, f"optimizers.{index}")
    return now | {key: value for key, value in found.items() if key in now and value is not None}


def _with_names(group: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name in names}


def _current_hparams(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for owner in (run.module, run.datamodule):
        if owner is not None:
            found |= owner.hyper_parameters_for_checkpoint()
    return found


def _hparams_of(checkpoint: Mapping[str, Any]) -> Settings:
    found: Settings = {}
    for key, place in (
        ("hyper_parameters", "hparams"),
        ("datamodule_hyper_parameters", "datamodule.hparams"),
    ):
        found |= _flat(checkpoint.get(key, {}), place)
    return found


def _flat(value: Any, place: str) -> Settings:
    if isinstance(value, dict):
        return {
            inner: item
            for name, part in value.items()
            for inner, item in _flat(part, f"{place}.{name}").items()
        }
    return dict(_plain_items({place: value}))


# ------------------------------------------------------------------------------------- how they differ


def _is_kept(key: str, reset: Collection[str]) -> bool:
    """Whether the saved value counts."""
    owner, leaf = key.partition(".")[0], key.rpartition(".")[2]
    if owner == "optimizers":
        is_rate = leaf in _RATES and not {"lr", _SCHEDULER}.isdisjoint(reset)
        return _OPTIMIZER not in reset and leaf not in reset and not is_rate
    return owner == "schedulers" and _SCHEDULER not in reset and leaf not in _NEVER_RESTORED


def _differences(saved: Settings, now: Settings, kept: Collection[str]) -> Iterator[str]:
    """A line for each setting that differs; where a class does, for that alone."""
    keys = [key for key in saved | now if saved.get(key, _ABSENT) != now.get(key, _ABSENT)]
    classes = tuple(key.removesuffix(_CLASS) for key in keys if key.endswith(f".{_CLASS}"))
    for key in keys:
        if key.startswith(classes) and not key.endswith(f".{_CLASS}"):
            continue
        line = f"{key}: {saved.get(key, _ABSENT)!r} -> {now.get(key, _ABSENT)!r}"
        yield (
            f"{line}; the saved one is used, reset={{{_word(key)!r}}} takes the new one"
            if key in kept
            else line
        )


def _word(key: str) -> str:
    """What has to be reset for a setting to be taken anew."""
    if key.startswith("schedulers."):
        return _SCHEDULER
    leaf = key.rpartition(".")[2]
    return _OPTIMIZER if leaf == _CLASS else "lr" if leaf in _RATES else leaf


def _check_names(reset: Collection[str], optimizers: Iterable[Optimizer]) -> None:
    in_groups = {name for optimizer in optimizers for group in optimizer.param_groups for name in group}
    allowed = [_OPTIMIZER, _SCHEDULER, *sorted(in_groups - set(_NO_SETTINGS))]
    for name in reset:
        if name not in allowed:
            near = get_close_matches(name, allowed, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise MisconfigurationException(
                f"reset={{{name!r}}}: there is nothing of that name.{meant} What can be reset: "
                f"{', '.join(map(repr, allowed))}."
            )


def _check_classes(
    saved: Settings, now: Settings, optimizers: Iterable[Optimizer], states: list[dict[str, Any]]
) -> None:
    """Refuse the state of an optimizer of another class, if it lacks settings that this one needs."""
    for index, (own, other) in enumerate(zip(optimizers, states, strict=False)):
        key = f"optimizers.{index}.{_CLASS}"
        was, is_now = saved.get(key), now.get(key)
        pairs = zip(own.param_groups, other.get("param_groups", ()), strict=False)
        if was not in (None, is_now) and any(group.keys() - before.keys() for group, before in pairs):
            raise MisconfigurationException(
                f"The checkpoint holds the state of {was}, which {is_now} can't go on from. Pass "
                "reset={'optimizer'} to `fit` to begin with a new state, and go on with weights, counters "
                "and data."
            )


# ------------------------------------------------------------------------------------- taking anew


def _with_fresh(run: Run, checkpoint: dict[str, Any], reset: Collection[str]) -> dict[str, Any]:
    """``checkpoint``, with what ``reset`` names as the program has made it."""
    fresh = [run.strategy.get_optimizer_state(optimizer) for optimizer in run.strategy.optimizers]
    saved = checkpoint["optimizer_states"]
    goes_on = _SCHEDULER not in reset and bool(run.lr_scheduler_configs)
    states = [
        _state_of_optimizer(own, saved[index] if index < len(saved) else {}, reset, schedule_goes_on=goes_on)
        for index, own in enumerate(fresh)
    ]
    if _OPTIMIZER not in reset and len(saved) != len(fresh):
        states = saved  # to be refused where states are restored
    own_schedulers = [config.scheduler.state_dict() for config in run.lr_scheduler_configs]
    schedulers = own_schedulers if _SCHEDULER in reset else checkpoint["lr_schedulers"]
    if _SCHEDULER not in reset and not {_OPTIMIZER, "lr"}.isdisjoint(reset):
        schedulers = list(schedulers)
        for index, own in enumerate(own_schedulers[: len(schedulers)]):
            optimizer = run.lr_scheduler_configs[index].scheduler.optimizer
            place = next(i for i, each in enumerate(run.strategy.optimizers) if each is optimizer)
            rates = [group["lr"] for group in states[place]["param_groups"]]
            schedulers[index] = _with_rates(schedulers[index], own, rates)
    return {**checkpoint, "optimizer_states": states, "lr_schedulers": schedulers}


def _state_of_optimizer(
    own: dict[str, Any], saved: Mapping[str, Any], reset: Collection[str], *, schedule_goes_on: bool
) -> dict[str, Any]:
    groups = []
    before = saved.get("param_groups", ())
    for index, group in enumerate(own.get("param_groups", ())):
        old = before[index] if index < len(before) else group
        taken = group if _OPTIMIZER in reset else {**old, **_with_names(group, reset)}
        if not {_OPTIMIZER, "lr", _SCHEDULER}.isdisjoint(reset):
            taken = {**taken, **_with_names(group, _RATES)}
            if schedule_goes_on and old.get("initial_lr"):
                taken["lr"] = group.get("initial_lr", group["lr"]) * (old["lr"] / old["initial_lr"])
        groups.append(taken)
    return {**(own if _OPTIMIZER in reset else saved), "param_groups": groups}


def _with_rates(saved: dict[str, Any], own: dict[str, Any], rates: list[Any]) -> dict[str, Any]:
    """A scheduler's state with the rates that its schedule now begins with; the last are ``rates``."""
    taken = {**saved, "_last_lr": rates}
    for name in ("base_lrs", "max_lrs"):
        if name in own and name in saved:
            taken[name] = own[name]
    if "_schedulers" in saved:
        parts = zip(saved["_schedulers"], own.get("_schedulers", ()), strict=False)
        taken["_schedulers"] = [_with_rates(part, new, rates) for part, new in parts]
    return taken
