"""Whose dataloaders a run takes, how many batches of each, and how a batch reaches the device."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from levin.core.hooks import DataHooks
from levin.data.combined import CombinedLoader, length_of
from levin.data.fetch import DrawnFetcher, Fetcher
from levin.data.loaders import samplers_by_epoch, seed_workers_of, with_batch_sampler, with_sampler
from levin.data.together import Together
from levin.precision.base import Precision
from levin.strategies.base import Strategy
from levin.trainer.arguments import batches_to_run
from levin.trainer.former_hooks import check_arguments
from levin.utils.apply import move_data_to_device
from levin.utils.errors import MisconfigurationException, PossibleUserWarning
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_warn
from levin.utils.seed import collect_rng_state, set_rng_state

if TYPE_CHECKING:
    from levin.core.datamodule import LightningDataModule
    from levin.core.module import LightningModule
    from levin.data.combined import Mode
    from levin.data.reader import Reader, Readers
    from levin.trainer.states import Run


class DataSource:
    """Where a run's loaders come from: what was passed, else the data module, else the module.

    A data module takes the module's place altogether: a hook that it lacks is not looked for on the module.

    Args:
        run: The run.
        given: The loaders that were passed, by "train", "val", "test" or "predict".

    Attributes:
        drawn: The random states that hooks found which make data, by kind of loader or "setup".
        drawn_before: Those of the run that is gone on with. The first call of each hook finds them again, as
            what they draw (a split, a subset) is to be the same.
    """

    def __init__(self, run: Run, given: Mapping[str, Any]) -> None:
        self._run = run
        self._given = {kind: loaders for kind, loaders in given.items() if loaders is not None}
        self.drawn: dict[str, Any] = {}
        self.drawn_before: dict[str, Any] = {}

    @property
    def _owner(self) -> LightningModule | LightningDataModule:
        datamodule = self._run.datamodule
        return self._run.module if datamodule is None else datamodule

    def has(self, kind: str) -> bool:
        """Whether there are loaders of this kind at all."""
        if kind in self._given:
            given = self._given[kind]
            return not isinstance(given, (list, tuple, dict)) or bool(given)
        return overrides(self._owner, f"{kind}_dataloader", DataHooks)

    def set_up(self, kept: dict[str, Any] | None) -> None:
        """Before `setup`: let hooks find the random states that they found in a run that is gone on with.

        Args:
            kept: What its checkpoint told.
        """
        kept = kept or {}
        validation = {"val": kept.get("validation", {}).get("drawn")}
        self.drawn_before = {**kept.get("drawn", {}), **validation}
        self.may_draw("setup")

    def may_draw(self, kind: str) -> None:
        """A hook is about to be called that makes data of a kind."""
        state = self.drawn_before.pop(kind, None)
        if state is not None:
            set_rng_state(state)
        self.drawn[kind] = collect_rng_state()

    def load(self, kind: str) -> Any:
        """Get the loaders, from their hook if they were not passed.

        Raises:
            MisconfigurationException: If there are none.
            TypeError: If they can't be iterated over.
        """
        name = f"{kind}_dataloader"
        if kind in self._given:
            loaders, origin = self._given[kind], f"was passed as `{kind}` data"
        elif self.has(kind):
            owner = self._owner
            check_arguments(name, owner, DataHooks)
            hook = self._run.hooks.bind(name, owner)
            with self._run.alike():
                self.may_draw(kind)
                loaders = hook()
            origin = f"was returned by `{type(owner).__name__}.{name}`"
        else:
            raise MisconfigurationException(
                f"There is no data for this run. Pass a dataloader, or `{name}` must be implemented by "
                f"{type(self._owner).__name__}."
            )
        check_iterable(loaders, origin)
        seed_workers(loaders, self._run.strategy.global_rank)
        return loaders


def check_iterable(loaders: Any, origin: str) -> None:
    """Refuse what is no loader, nor a collection of loaders.

    Raises:
        TypeError: If one of them can't be iterated over, or is data that was meant to be in a loader.
    """
    for loader in flatten(loaders):
        reason = _why_not(loader)
        if reason is not None:
            raise TypeError(
                f"An invalid dataloader {origin}: {loader!r}. {reason}A loader is anything that can be "
                "iterated over (as a torch.utils.data.DataLoader), or a list, tuple or dict of such."
            )


def _why_not(loader: Any) -> str | None:
    """Why something can't be a loader, and what to do; None if it can."""
    if isinstance(loader, type):
        return f"It is a class: make one of it, {loader.__name__}(...). "
    if isinstance(loader, DataHooks):
        return "Pass it alone, or as `datamodule=`. "
    if isinstance(loader, Dataset) and not hasattr(loader, "__iter__"):
        return "It gives single samples: make batches of them, DataLoader(dataset, batch_size=...). "
    is_iterable = hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")
    if is_iterable and not isinstance(loader, (str, bytes)):
        return None
    return "Call it first. " if callable(loader) else ""


def seed_workers(loaders: Any, rank: int) -> None:
    """Let the workers of stock loaders draw streams of their own, if `seed_everything` was asked to."""
    for loader in flatten(loaders):
        seed_workers_of(loader, rank)


def flatten(loaders: Any) -> list[Any]:
    """The loaders of a nested collection, one after another; a list of plain values is one of them."""
    if isinstance(loaders, (list, tuple, dict)) and not loaders:
        return []
    combined = loaders if isinstance(loaders, CombinedLoader) else CombinedLoader(loaders)
    return list(combined.flattened)


def collection(loaders: Any) -> Any:
    """The loaders in the shape that they were given in; of a CombinedLoader, what it combines."""
    return loaders.iterables if isinstance(loaders, CombinedLoader) else loaders


def rebuild_loaders(loaders: Any, change: Callable[[Any], Any]) -> Any:
    """The same collection with each loader changed."""
    combined = loaders if isinstance(loaders, CombinedLoader) else CombinedLoader(loaders)
    combined.flattened = [change(loader) for loader in combined.flattened]
    return combined if combined is loaders else combined.iterables


def one_at_a_time(loaders: Any, readers: Readers) -> list[Reader | Together]:
    """The loaders of an evaluation: one runs after the other, unless a CombinedLoader says otherwise."""
    if isinstance(loaders, CombinedLoader) and loaders.mode != "sequential":
        return [Together(loaders, readers)]
    return [readers.of(loader) for loader in flatten(loaders)]


def together(loaders: Any, readers: Readers, mode: Mode = "max_size_cycle") -> Reader | Together:
    """The loader of a training: of several, each step gets a batch of each.

    Args:
        loaders: The loaders.
        readers: Makes the reader of each.
        mode: How those of different lengths are combined, unless a CombinedLoader says it.

    Raises:
        ValueError: If a CombinedLoader says that they run one after another.
    """
    if isinstance(loaders, CombinedLoader):
        if loaders.mode == "sequential":
            raise ValueError(
                "`CombinedLoader(mode='sequential')` can't be trained on: each step needs a batch of each "
                "loader. Use 'max_size_cycle', 'min_size' or 'max_size'."
            )
        return Together(loaders, readers)
    if isinstance(loaders, (Mapping, list, tuple)):
        return Together(CombinedLoader(loaders, mode), readers)
    return readers.of(loaders)


def count_batches(kind: str, loaders: list[Any], limit: int | float) -> list[int | float]:
    """How many batches of each loader a run takes."""
    counts = []
    for loader in loaders:
        length = length_of(loader)
        if length == 0:
            rank_zero_warn(
                f"A {kind} dataloader has no batches (its length is 0). Is the dataset empty, or smaller "
                "than a batch with drop_last?"
            )
        counts.append(batches_to_run(kind, length, limit))
    return counts


def is_short(loader: Any, batches: Fetcher) -> bool:
    """After a pass over a loader: whether it gave less than it said, or nothing at all."""
    if not batches.fetched:
        return batches.count > 0
    return batches.fetched < batches.count and length_of(loader) < math.inf


def tell_shortage(kind: str, length: int | float, count: int) -> None:
    """Say that a loader gave less than its length promised, or nothing."""
    promise = "" if length == math.inf else f", and its length is {length}"
    if count:
        rank_zero_warn(
            f"A {kind} dataloader gave {count} batches{promise}. A pass ends where the data does; what goes "
            "by the length (progress bars, shares such as `val_check_interval=0.5`) is right from the next "
            "pass on. Correct its `__len__`, or leave it out."
        )
    else:
        rank_zero_warn(
            f"A {kind} dataloader gave no batches{promise}. A generator or another iterator can be gone "
            "through once only: give what begins anew each time, as a DataLoader does."
        )


def without_shuffling(loader: Any) -> Any:
    """The loader for `overfit_batches`: the same batches each time."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    if isinstance(loader.sampler, SequentialSampler):
        return loader
    rank_zero_warn(
        "`overfit_batches` is set, so that the dataloader's sampler was replaced by a sequential one: no "
        "shuffling."
    )
    return with_sampler(loader, SequentialSampler(loader.dataset))  # type: ignore[arg-type]  # it has a length, or it had no sampler


def without_dropping(loader: Any) -> Any:
    """The loader for predictions: the rows of a last batch that is not full get theirs, too."""
    batches = getattr(loader, "batch_sampler", None)
    if (
        type(batches) is not BatchSampler
        or not batches.drop_last
        or isinstance(loader.dataset, IterableDataset)
    ):
        return loader
    return with_batch_sampler(loader, BatchSampler(batches.sampler, batches.batch_size, drop_last=False))


def close_all(parts: Iterable[Fetcher | Reader | Together | None]) -> None:
    """End passes, then the worker processes that loaders with ``persistent_workers`` keep."""
    for part in parts:
        if part is not None:
            part.close()


def warn_if_shuffled(kind: str, loaders: list[Any]) -> None:
    """Evaluation in a random order is nearly always a slip."""
    for loader in loaders:
        if isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler):
            rank_zero_warn(
                f"The {kind} dataloader shuffles. The order does not matter to metrics, and makes results "
                "harder to compare: shuffle=False is usual.",
                category=PossibleUserWarning,
            )


def set_epoch(loaders: Any, epoch: int) -> None:
    """Tell samplers that shuffle by epoch which one it is."""
    for loader in flatten(loaders):
        for sampler in samplers_by_epoch(loader):
            sampler.set_epoch(epoch)


def draws_itself(step: Callable[..., Any]) -> bool:
    """Whether a step reads its batches from an iterator: ``training_step(self, dataloader_iter)``."""
    return "dataloader_iter" in inspect.signature(step).parameters


def one_pass(
    run: Run,
    step: str,
    loader: Reader | Together,
    count: int | float,
    *,
    label: str,
    index: int = 0,
    **options: Any,
) -> Fetcher:
    """A pass over a loader in a run.

    Args:
        run: The run.
        step: The name of the module's method that gets the batches.
        loader: The loader.
        count: How many batches to take; infinite to take all there are.
        label: What a profiler calls the reading.
        index: The loader's number.
        **options: More of `Fetcher`'s.
    """
    options["read"] = run.profiler.wrap(label, next)
    if draws_itself(getattr(run.module, step)):
        tell = functools.partial(setattr, run.metrics, "batch")
        return DrawnFetcher(loader, count, tell, dataloader_idx=index, **options)
    move = batch_mover(run)
    transfer = functools.partial(move, dataloader_idx=index) if index else move
    return Fetcher(loader, count, transfer, **options)


def idleness(device: torch.device) -> Callable[[], bool] | None:
    """What tells whether a device has nothing to do; None for one that does nothing on its own."""
    if device.type != "cuda":
        return None
    return lambda: torch.cuda.current_stream(device).query()


def batch_mover(run: Run) -> Callable[..., Any]:
    """What brings a batch to the device: ``move(batch, dataloader_idx=0)``, with overridden hooks."""
    names = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    before, transfer, after = (_transfer_hook(run, name) for name in names)
    strategy, precision = run.strategy, run.strategy.precision
    convert = precision.convert_input if overrides(precision, "convert_input", Precision) else None
    is_plain = before is None and transfer is None and after is None and convert is None
    if is_plain and not overrides(strategy, "batch_to_device", Strategy):
        return functools.partial(_to_device, strategy.root_device)
    transfer = transfer or strategy.batch_to_device

    def move(batch: Any, dataloader_idx: int = 0) -> Any:
        if convert is not None:
            batch = convert(batch)
        if before is not None:
            batch = before(batch, dataloader_idx)
        batch = transfer(batch, strategy.root_device, dataloader_idx)
        return after(batch, dataloader_idx) if after is not None else batch

    return move


def _to_device(device: torch.device, batch: Any, dataloader_idx: int = 0) -> Any:  # noqa: ARG001  # a mover's
    return move_data_to_device(batch, device)


def _transfer_hook(run: Run, name: str) -> Callable[..., Any] | None:
    """A transfer hook that somebody overrides: the data module's, else the module's."""
    module, datamodule = run.module, run.datamodule
    modules_own = overrides(module, name, DataHooks)
    if datamodule is None:
        return run.hooks.bind(name, module) if modules_own else None
    datas_own = overrides(datamodule, name, DataHooks)
    if modules_own:
        used = "the data module's is used" if datas_own else "it is used, though the data is a data module's"
        rank_zero_warn(f"`{name}` is overridden by the module, beside a data module: {used}.")
    if datas_own:
        return run.hooks.bind(name, datamodule)
    return run.hooks.bind(name, module) if modules_own else None
