"""PredictionLoop: run a model over data and hand back what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from levin.data.combined import length_of
from levin.data.loaders import with_batch_sampler
from levin.data.reader import Reader
from levin.trainer.dataloaders import (
    close_all,
    count_batches,
    draws_itself,
    flatten,
    is_short,
    one_pass,
    set_epoch,
    tell_shortage,
    warn_if_shuffled,
    without_dropping,
)
from levin.trainer.dividing import divide, in_order
from levin.trainer.evaluate import check_arguments, modes_kept
from levin.trainer.step import bind_step
from levin.utils.modes import restore_modes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from levin.data.combined import CombinedLoader
    from levin.data.fetch import Fetcher
    from levin.trainer.dataloaders import DataSource
    from levin.trainer.states import Run


class PredictionLoop:
    """Run `predict_step` over data, and gather what it returns.

    Args:
        run: The run.

    Attributes:
        loaders: The loaders as the hook returned them; None before they were needed.
        max_batches: How many batches of each are run.
        return_predictions: Whether predictions are kept.
        keeps_indices: Whether the numbers of the samples in each batch are kept, for callbacks that write
            predictions.
        current_batch_indices: The numbers of the samples of the batch at hand.
        epoch_batch_indices: For each loader and each of its batches, the numbers of its samples.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.source: DataSource | None = None
        self.loaders: Any = None
        self.max_batches: list[int | float] = []
        self.return_predictions = True
        self.keeps_indices = False
        self.current_batch_indices: list[int] = []
        self.epoch_batch_indices: list[list[list[int]]] = []
        self.predictions: list[list[Any]] = []
        self._flat: list[Any] = []
        self._passes: list[Fetcher] = []
        self._readers: list[Reader] = []

    def reset(self, source: DataSource) -> None:
        """A new run begins, with other data."""
        self.source, self.loaders, self._flat, self.max_batches = source, None, [], []
        self._passes, self._readers = [], []

    def close(self) -> None:
        """Let go of the data, and end the worker processes that loaders keep."""
        close_all([*self._passes, *self._readers])

    def set_up_data(self) -> None:
        """Get the loaders.

        Raises:
            ValueError: If they are to run together, which predictions can't.
            NotImplementedError: If a callback asks which samples they belong to, and the step draws them.
        """
        limit = self._run.limits.limit_predict_batches
        if self.source is None or not limit or self.loaders is not None:
            return
        self.loaders = self.source.load("predict")
        _check_mode(self.loaders)
        whole = [without_dropping(loader) for loader in flatten(self.loaders)]
        self._flat = [divide(self._run, loader, "predict") for loader in whole]
        warn_if_shuffled("predict", self._flat)
        self.max_batches = count_batches("predict", self._flat, limit)
        step = self._run.module.predict_step
        check_arguments(step, len(self._flat))
        if self.keeps_indices and draws_itself(step):
            raise NotImplementedError(
                "A callback that writes predictions can't know which samples they belong to where "
                "`predict_step(self, dataloader_iter)` draws its batches. Define `predict_step(self, batch)`."
            )
        self._run.profiler.attach(self._run.module, sum(self.max_batches))

    def run(self) -> list[Any] | None:
        """Predict.

        Returns:
            What `predict_step` returned, in order: a list for one loader, a list of lists for several; None
            if it was not to be kept.
        """
        run = self._run
        with torch.inference_mode() if run.debugging.inference_mode else torch.no_grad():
            self.set_up_data()
            if not run.any_has(sum(self.max_batches)):
                return [] if self.return_predictions else None
            set_epoch(self.loaders, run.progress.epoch)
            passes = self._passes = [self._fetcher(index) for index in range(len(self._flat))]
            passes[0].start()
            with modes_kept(run.module) as modes:
                self._model_eval()
                self._predict(passes)
            restore_modes(modes)
        predictions, self.predictions = self.predictions, []
        if not self.return_predictions:
            return None
        if run.companions is not None:
            predictions = in_order(run.strategy.gather_objects(predictions))
        return predictions[0] if len(predictions) == 1 else predictions

    def _predict(self, passes: list[Fetcher]) -> None:
        """One prediction, from its first hook to its last."""
        hooks = self._run.hooks
        for hook in hooks.on_predict_start:
            hook()
        for hook in hooks.on_predict_epoch_start:
            hook()
        self._run_batches(passes)
        for hook in hooks.on_predict_epoch_end:
            hook()
        for hook in hooks.on_predict_end:
            hook()

    def _run_batches(self, passes: list[Fetcher]) -> None:
        run, hooks = self._run, self._run.hooks
        step = bind_step(run, "predict_step")
        self.predictions = [[] for _ in passes]
        self.epoch_batch_indices = [[] for _ in passes]
        for index, batches in enumerate(passes):
            extra = (index,) if len(passes) > 1 else ()
            for batch_idx, batch in enumerate(batches):
                self.current_batch_indices = self._indices(index, batch_idx)
                for hook in hooks.on_predict_batch_start:
                    hook(batch, batch_idx, *extra)
                run.metrics.scope = "predict_step"
                prediction = step(batch, batch_idx, *extra)
                run.metrics.scope = ""
                for hook in hooks.on_predict_batch_end:
                    hook(prediction, batch, batch_idx, *extra)
                if self.return_predictions:
                    self.predictions[index].append(prediction)
                if run.companions is not None:
                    run.companions.at_predicted_batch()
                if run.state.request is not None:
                    raise run.state.request
            if is_short(self._flat[index], batches):
                tell_shortage("predict", length_of(self._flat[index]), batches.fetched)
                self.max_batches[index] = batches.fetched

    def _fetcher(self, index: int) -> Fetcher:
        loader = self._flat[index]
        if self.keeps_indices and _has_indices(loader):
            loader = with_batch_sampler(loader, _RememberingSampler(loader.batch_sampler))
            self._flat[index] = loader
        reader = Reader(loader, seeds_samples=self._run.seeds_samples)
        self._readers.append(reader)
        label = "[PredictionLoop].predict_next"
        return one_pass(self._run, "predict_step", reader, self.max_batches[index], label=label, index=index)

    def _indices(self, index: int, batch_idx: int) -> list[int]:
        """The numbers of a batch's samples; workers may have asked the sampler for later ones already."""
        sampler = getattr(self._flat[index], "batch_sampler", None)
        if not self.keeps_indices or not isinstance(sampler, _RememberingSampler):
            return []
        indices = sampler.seen[batch_idx]
        self.epoch_batch_indices[index].append(indices)
        return indices

    def _model_eval(self) -> None:
        self._run.hooks.bind("on_predict_model_eval", self._run.module)()


def _check_mode(loaders: CombinedLoader | Any) -> None:
    mode = getattr(loaders, "mode", "sequential")
    if hasattr(loaders, "flattened") and mode != "sequential":
        raise ValueError(
            f"`predict` runs loaders one after another, and got CombinedLoader(mode={mode!r}). Use "
            "mode='sequential'."
        )


def _has_indices(loader: Any) -> bool:
    is_indexed = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    return is_indexed and loader.batch_sampler is not None


class _RememberingSampler(BatchSampler):
    """A batch sampler that remembers what it gave out."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.seen: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        self.seen = []
        for indices in self.inner:
            self.seen.append(list(indices))
            yield indices

    def __len__(self) -> int:
        return len(self.inner)
