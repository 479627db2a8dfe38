"""What `self.log` keeps, and how it is read.

Writing happens in every step and is a dictionary hit; reading is rare, and pays. Nothing here waits for the
device until somebody asks for a number: the loggers at their interval, a progress bar when it draws, a
callback that looks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levin.core.entries import NUMBERS, Entry, LogOptions, wide_dtype
from levin.core.hooks import LOG_RULES, LogRule
from levin.core.sharing import Sharing
from levin.utils.apply import move_data_to_device
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from torch import nn

    from levin.strategies.base import Strategy


class Metrics:
    """All values that were logged in a run.

    The loops say where they are (`scope`, `batch`, `dataloader_idx`, and the methods that start and end
    things), `self.log` calls `log`, everyone else reads `callback_metrics`, `logged_metrics` and
    `progress_bar_metrics`.

    Attributes:
        scope: The hook that runs now.
        batch: The batch that runs now: batch sizes are taken from it where none is given.
        dataloader_idx: The evaluation loader that runs now, if there are several.

    Args:
        enabled: False lets `log` do nothing, with one warning.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.scope: str = ""
        self.batch: Any = None
        self.dataloader_idx: int | None = None
        self._module: nn.Module | None = None
        self._training: dict[tuple[str, str, int | None], Entry] = {}
        self._evaluation: dict[tuple[str, str, int | None], Entry] = {}
        self._entries = self._training
        self._in_step = False
        self._updates_before: dict[str, int] | None = None  # of metric objects, by an evaluation under way
        self._is_fresh = False  # whether something was logged since the last publication
        self._sized_batch: Any = None
        self._batch_size = 1
        self._callback: dict[str, Tensor] = {}
        self._logged: dict[str, Any] = {}
        self._progress_bar: dict[str, Any] = {}
        self._sharing: Sharing | None = None
        if not enabled:
            self.log = self._say_that_it_is_off  # type: ignore[method-assign, assignment]  # so that no step asks

    # ------------------------------------------------------------------ writing

    def log(self, name: str, value: Any, options: tuple[Any, ...], batch_size: int | None) -> None:
        """Take one value in.

        Args:
            name: The name given to `self.log`.
            value: A number, a tensor of one element, or a torchmetrics.Metric.
            options: The fields of `LogOptions`, in their order.
            batch_size: The weight of the value in the epoch's mean; None takes the batch's.
        """
        entry = self._entries.get((self.scope, name, self.dataloader_idx))
        if entry is None or entry.options != options:
            is_known = False
        elif entry.metric is not None:
            is_known = value is entry.metric
        else:
            is_known = value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, NUMBERS)
        if entry is None or not is_known:
            entry = self._declare(name, value, options)
        if batch_size is None:
            if entry.weighted and (self._sized_batch is not self.batch or self.batch is None):
                self._batch_size = batch_size_of(self.batch)
                self._sized_batch = self.batch
            batch_size = self._batch_size
        self._is_fresh = True
        entry.add(value, batch_size)

    def _say_that_it_is_off(self, name: str, *_: Any) -> None:
        """What `log` is where nothing is logged, when it is called for the first time."""
        self.log = _ignore  # type: ignore[method-assign, assignment]
        rank_zero_warn(f"self.log({name!r}) does nothing with `Trainer(barebones=True)`; nor do other names.")

    def _declare(self, name: str, value: Any, options: tuple[Any, ...]) -> Entry:
        """Check the first call for a name, and settle what it means."""
        if not isinstance(name, str):
            raise TypeError(f"self.log({name!r}, ...) got a {type(name).__name__} as its name. Give a text.")
        settings = LogOptions(*options)
        rule = self._rule(name)
        _check_value(name, value)
        former = self._entries.get((self.scope, name, self.dataloader_idx))
        if former is not None and former.options:
            raise MisconfigurationException(
                f"self.log({name!r}) was called twice in `{self.scope}` with different arguments. One name "
                "has one meaning: give both calls the same arguments, or log under two names."
            )
        if settings.add_dataloader_idx and "/dataloader_idx_" in name:
            raise MisconfigurationException(
                f"self.log({name!r}): the suffix '/dataloader_idx_N' is added by levin where several "
                "dataloaders are evaluated. Leave it out, or pass add_dataloader_idx=False."
            )
        index = self.dataloader_idx if settings.add_dataloader_idx else None
        entry = Entry(name, options, settings, rule, index)
        self._check_timing(name, entry, rule)
        if not settings.add_dataloader_idx:
            self._check_shared_name(name)
        if settings.logger and not getattr(self._module, "loggers", True):
            rank_zero_warn(
                f"self.log({name!r}, logger=True) reaches no logger, for there is none. Give one: "
                "Trainer(logger=...)."
            )
        if _is_metric(value):
            self._attach_metric(name, entry, value, settings.metric_attribute)
        if former is not None:  # restored from a checkpoint
            entry.last, entry.total, entry.weight = former.last, former.total, former.weight
        self._entries[self.scope, name, self.dataloader_idx] = entry
        return entry

    def _rule(self, name: str) -> LogRule:
        if self.scope not in LOG_RULES:
            where = f"`{self.scope}`, which is no hook of levin" if self.scope else "no hook"
            raise MisconfigurationException(
                f"self.log({name!r}) was called in {where}. Call it in a step or a hook."
            )
        rule = LOG_RULES[self.scope]
        if rule is None:
            raise MisconfigurationException(
                f"self.log({name!r}) can't be used in `{self.scope}`: there is no step or epoch that the "
                "value could belong to. Log in a `*_step`, `on_*_batch_*` or `on_*_epoch_*` hook, or write "
                "to `self.logger` yourself."
            )
        return rule

    def _check_timing(self, name: str, entry: Entry, rule: LogRule) -> None:
        if not entry.on_step and not entry.on_epoch:
            raise MisconfigurationException(
                f"self.log({name!r}, on_step=False, on_epoch=False) would log nothing. Set one of them to "
                "True."
            )
        if not rule.is_free and (entry.on_step or not entry.on_epoch):
            raise MisconfigurationException(
                f"self.log({name!r}, on_step={entry.on_step}, on_epoch={entry.on_epoch}) in `{self.scope}`: "
                "this hook runs once an epoch, so that only on_step=False, on_epoch=True (its default) has "
                "a meaning."
            )

    def _check_shared_name(self, name: str) -> None:
        """A name without the loader's suffix belongs to one loader."""
        for scope, other, index in self._entries:
            if (scope, other) == (self.scope, name) and index != self.dataloader_idx:
                raise MisconfigurationException(
                    f"self.log({name!r}, add_dataloader_idx=False) was called twice with different "
                    f"arguments: for dataloader {index} and for {self.dataloader_idx}. Log the name for one "
                    "dataloader only, or let levin add the suffix."
                )

    def _attach_metric(self, name: str, entry: Entry, metric: Any, attribute: str | None) -> None:
        known = dict(self._module.named_modules()) if self._module is not None else {}
        if attribute is None and not any(metric is module for module in known.values()):
            raise MisconfigurationException(
                f"self.log({name!r}): the {type(metric).__name__} is not an attribute of your module, so "
                "that it would be neither moved to the device nor saved. Assign it in `__init__` (self.acc "
                "= ...), or pass metric_attribute='acc'."
            )
        is_there = attribute is None or attribute in known or hasattr(self._module, attribute)
        if known and not is_there:
            raise MisconfigurationException(
                f"self.log({name!r}, metric_attribute={attribute!r}): the module has no such attribute. It "
                f"has: {sorted(known)[1:]}."
            )
        entry.metric = metric
        entry.weighted = False

    # ------------------------------------------------------------------ where the run is

    def start_run(self, module: nn.Module, *, compiled: bool = False) -> None:
        """Forget everything of former runs.

        Args:
            module: The module of the run.
            compiled: Whether its steps are compiled: `log` then stays outside of their graphs, for what it
                counts would be guarded, and each step compiled anew.
        """
        self._module, self.scope = module, ""
        if compiled:
            self.log = torch.compiler.disable(self.log)  # type: ignore[method-assign, no-untyped-call]
        self.clear()

    def share(self, strategy: Strategy | None) -> None:
        """From here on epochs' values are those of all processes; None for those of this one."""
        self._sharing = None if strategy is None else Sharing(strategy)

    def bring_together(self) -> None:
        """Give the epoch's values of the loader at hand the meaning that they have over all processes.

        All processes call it, where they meet anyway. In one process nothing is to be done.
        """
        if self._sharing is None:
            return
        index, where = self.dataloader_idx, "training" if self._entries is self._training else "evaluation"
        mine = {key: entry for key, entry in self._entries.items() if entry.on_epoch and key[2] == index}
        self._sharing.reduce(f"{where} {index}", self._entries, mine, self._metric_objects())
        self._is_fresh = True

    def bring_steps_together(self) -> None:
        """Give the newest step's values that were logged with ``sync_dist=True`` their meaning over all.

        All processes call it before a row is written.
        """
        if self._sharing is not None:
            self._sharing.reduce_steps(self._entries)
            self._is_fresh = True

    def clear(self) -> None:
        """Forget what was logged and published; the sanity check leaves no trace."""
        for entries in (self._training, self._evaluation):
            _reset(entries)
        self._entries, self._in_step, self._is_fresh = self._training, False, False
        self._updates_before = None
        self.dataloader_idx = self._sized_batch = self.batch = None
        # new ones: who holds what the last run published keeps it
        self._callback, self._logged, self._progress_bar = {}, {}, {}
        self.scope = ""

    def start_batches(self) -> None:
        """From here on, `self.log` is about single steps."""
        self._in_step = True

    def end_batches(self) -> None:
        """All batches are done: publish the last step's values, then those of the epoch."""
        self.publish_fresh()
        self._in_step = False
        self._is_fresh = True
        self.bring_together()
        self.batch = None  # what comes now is about no batch

    def end_training_epoch(self) -> None:
        """The epoch's values are written: the next epoch begins with nothing."""
        self.publish_fresh()
        _reset(self._training)

    def start_evaluation(self) -> None:
        """Keep the training epoch's values aside while an evaluation runs."""
        self.publish_fresh()
        _reset(self._evaluation)
        self._entries, self._in_step, self.batch = self._evaluation, False, None
        self._updates_before = {path: _num_updates(metric) for path, metric in self._metric_objects().items()}

    def end_evaluation(self, *, in_step: bool) -> None:
        """Go back to the training epoch."""
        self.publish_fresh()
        _reset(self._evaluation)
        self._entries, self._in_step, self._updates_before = self._training, in_step, None
        self.dataloader_idx = None

    # ------------------------------------------------------------------ reading

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of each name, as tensors without dimensions."""
        self.publish_fresh()
        return self._callback

    @property
    def logged_metrics(self) -> dict[str, Any]:
        """The newest value of each name that goes to loggers."""
        self.publish_fresh()
        return self._logged

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The newest value of each name logged with ``prog_bar=True``, as numbers: one transfer for all."""
        self.publish_fresh()
        self._progress_bar.update(to_numbers(self._progress_bar))
        return self._progress_bar

    @property
    def published(self) -> dict[str, Tensor]:
        """The `callback_metrics` that were there last: nothing is computed for it."""
        return self._callback

    def publish(self, values: Mapping[str, Any]) -> None:
        """Let callbacks see values that came another way than through `self.log`."""
        self._callback.update({name: self._as_tensor(value) for name, value in values.items()})

    def publish_fresh(self) -> None:
        """Bring what the readers see up to date, without waiting for the device."""
        if not self._is_fresh:
            return
        self._is_fresh = False
        for entry, name, value in self._current():
            if self._entries is self._training or not self._in_step:
                self._callback[entry.bare_name] = self._callback[name] = self._as_tensor(value)
            if entry.logger:
                self._logged[name] = value
            if entry.prog_bar:
                self._progress_bar[name] = value

    def _current(self) -> Iterator[tuple[Entry, str, Any]]:
        """The entries of the loader at hand, each with its name and value: the step's or the epoch's."""
        for (_, _, index), entry in self._entries.items():
            if index != self.dataloader_idx:
                continue
            if self._in_step and entry.on_step:
                name, value = entry.step_name, entry.step_value()
            elif not self._in_step and entry.on_epoch:
                name, value = entry.epoch_name, entry.epoch_value()
            else:
                continue
            if value is not None:
                yield entry, name, value

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """What was logged in the running epoch, and the newest values of all names.

        Of an evaluation that is under way nothing is kept: it begins anew.
        """
        self.publish_fresh()
        metrics = self._metric_objects()
        return {
            "epoch": [
                {"scope": scope, "name": name, **entry.state_dict(metrics)}
                for (scope, name, _), entry in self._training.items()
            ],
            "objects": {
                path: _metric_state(metric)
                for path, metric in metrics.items()
                if self._updates_before is None or self._updates_before.get(path) == _num_updates(metric)
            },
            "callback": dict(self._callback),
            "logged": dict(self._logged),
            "progress_bar": dict(self._progress_bar),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        device = getattr(self._module, "device", None)
        state = move_data_to_device(state, device) if device is not None else state
        metrics = self._metric_objects()
        for entry in state["epoch"]:
            self._training[entry["scope"], entry["name"], None] = Entry.restored(entry, metrics)
        self._callback, self._logged = dict(state["callback"]), dict(state["logged"])
        self._progress_bar = dict(state["progress_bar"])
        self._is_fresh = bool(state["epoch"])
        for path, metric_state in state["objects"].items():
            if path in metrics:
                _set_metric_state(metrics[path], metric_state)

    def _metric_objects(self) -> dict[str, Any]:
        """The metrics of torchmetrics that are parts of the module, by where they stand in it."""
        if "torchmetrics" not in sys.modules or self._module is None:
            return {}
        return {path: module for path, module in self._module.named_modules() if _is_metric(module)}

    def _as_tensor(self, value: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value
        return torch.tensor(
            value, dtype=torch.get_default_dtype(), device=getattr(self._module, "device", None)
        )

    def loggable(self) -> dict[str, Any]:
        """What loggers get of the step or epoch at hand."""
        return {name: value for entry, name, value in self._current() if entry.logger}


def _ignore(*_: Any) -> None:
    pass


def _reset(entries: dict[tuple[str, str, int | None], Entry]) -> None:
    for entry in entries.values():
        if entry.metric is not None:
            entry.metric.reset()
    entries.clear()


def to_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The values as Python numbers; all tensors come from the device in one transfer."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        return dict(values)
    device = next(iter(tensors.values())).device
    stacked = torch.stack([t.detach().to(device, wide_dtype(t)) for t in tensors.values()])
    return {**values, **dict(zip(tensors, stacked.tolist(), strict=True))}


def _is_metric(value: Any) -> bool:
    torchmetrics = sys.modules.get("torchmetrics")  # who has a metric has imported it
    return torchmetrics is not None and isinstance(value, torchmetrics.Metric)


def _num_updates(metric: Any) -> int:
    count: int = metric._update_count  # noqa: SLF001  # torchmetrics has no public name for it
    return count


def _metric_state(metric: Any) -> dict[str, Any]:
    return {"values": dict(metric.metric_state), "update_count": _num_updates(metric)}


def _set_metric_state(metric: Any, state: Mapping[str, Any]) -> None:
    for name, value in state["values"].items():
        setattr(metric, name, value)
    metric._update_count, metric._computed = state["update_count"], None  # noqa: SLF001  # see above


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return
        given, hint = f"a tensor of shape {tuple(value.shape)}", " Say which: value.mean(), value.max() ..."
    elif isinstance(value, NUMBERS) or _is_metric(value):
        return
    else:
        given, hint = f"a {type(value).__name__}", ""
        if hasattr(value, "items"):
            hint = " Use self.log_dict for a dict."
    raise ValueError(
        f"self.log({name!r}, ...) got {given}. It takes a number, a tensor of one element, or a "
        f"torchmetrics.Metric.{hint}"
    )


def batch_size_of(batch: Any, *, remedy: str = "pass it to self.log(..., batch_size=...)") -> int:
    """The number of samples in a batch: the first dimension of its tensors, wherever it holds them.

    Warns where the tensors disagree and takes the first one's.

    Args:
        batch: The batch.
        remedy: What to do where it can't be told, for messages.

    Raises:
        MisconfigurationException: If there is nothing to take it from.
    """
    if batch is None:  # outside of batches: the value stands for itself
        return 1
    sizes: list[int] = []
    pending = [batch]
    while pending:
        item = pending.pop()
        if isinstance(item, Tensor):
            sizes.append(item.shape[0] if item.ndim else 1)
        else:
            pending.extend(reversed(_parts(item)))
    if not sizes:
        raise MisconfigurationException(
            f"The batch size can't be told from a batch of type {type(batch).__name__}: it holds no tensor. "
            f"The remedy: {remedy}."
        )
    if len(set(sizes)) > 1:
        rank_zero_warn(
            f"The batch holds tensors of different lengths {sorted(set(sizes))}, and {sizes[0]} (the first "
            f"one's) is taken as its size. If that is wrong, {remedy}."
        )
    return sizes[0]


def _parts(item: Any) -> list[Any]:
    """What a batch is made of; nothing for texts, arrays, and what can be read only once."""
    if isinstance(item, Mapping):
        return list(item.values())
    if is_dataclass(item) and not isinstance(item, type):
        return [getattr(item, field.name) for field in fields(item)]
    if isinstance(item, (str, bytes, Iterator)) or hasattr(item, "__array__"):
        return []
    return list(item) if isinstance(item, Iterable) else []
