"""LightningDataModule: where the data comes from, apart from the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from levin.core.hooks import DataHooks
from levin.core.hparams import HyperparametersMixin
from levin.core.restore import class_only, load_datamodule_from_checkpoint
from levin.utils.former_members import Keyword, had, took
from levin.utils.namespace import FromNamespace

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from levin.trainer.trainer import Trainer


_OWN = "Keep it yourself: `self.{0} = ...` in `__init__`."
_CALLED = "`prepare_data`, `setup` and `teardown` are called by every run: note in them what was done."
_OWN_ATTRIBUTES = {
    name: _OWN.format(name) for name in ("train_transforms", "val_transforms", "test_transforms", "dims")
}
_NOTES = (
    "has_prepared_data",
    *(
        f"has_{did}_{stage}"
        for did in ("setup", "teardown")
        for stage in ("fit", "validate", "test", "predict")
    ),
)


@had(size="Ask a sample: `self.train_set[0][0].shape`.", **_OWN_ATTRIBUTES, **dict.fromkeys(_NOTES, _CALLED))
class LightningDataModule(DataHooks, HyperparametersMixin, FromNamespace):
    """Data for training, validation, test and prediction, with all that is needed to get it.

    Examples:
        >>> import levin as L
        >>> from torch.utils.data import DataLoader
        >>> class Digits(L.LightningDataModule):
        ...     def prepare_data(self): ...  # download, on one process
        ...     def setup(self, stage):  # split, on each process
        ...         self.train = list(range(10))
        ...     def train_dataloader(self):
        ...         return DataLoader(self.train, batch_size=2)

    Attributes:
        name: A name for it, if it has one.
        trainer: The trainer whose run it takes part in.
        prepare_data_per_node: Whether `prepare_data` runs on each node, or once in all.
        allow_zero_length_dataloader_with_multiple_devices: Whether a process may have no batches while others
            have some.
    """

    name: str | None = None

    CHECKPOINT_HYPER_PARAMS_KEY = "datamodule_hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "datamodule_hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "datamodule_hparams_type"

    @took(**{name: Keyword(advice, is_kept=True) for name, advice in _OWN_ATTRIBUTES.items()})
    def __init__(self) -> None:
        super().__init__()
        self.trainer: Trainer | None = None
        self.prepare_data_per_node = True
        self.allow_zero_length_dataloader_with_multiple_devices = False

    def setup(self, stage: str) -> None:
        """Split and transform; on every process, at the start of each fit, validate, test and predict."""

    def teardown(self, stage: str) -> None:
        """Put away what `setup` built."""

    def on_exception(self, exception: BaseException) -> None:
        """Called when a run ends by an exception."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the data module."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> Self:
        """Make a data module of datasets that are there already.

        Args:
            train_dataset: A dataset, or a mapping or sequence of them; it is shuffled unless it is iterable.
            val_dataset: A dataset, or a sequence of them.
            test_dataset: A dataset, or a sequence of them.
            predict_dataset: A dataset, or a sequence of them.
            batch_size: Samples in a batch, for all of them.
            num_workers: Worker processes of each loader.
            **datamodule_kwargs: Arguments of ``__init__``; it gets ``batch_size`` and ``num_workers``, too,
                if it takes them.
        """

        def loaders(dataset: Any, *, shuffle: bool = False) -> Any:
            if isinstance(dataset, Mapping):
                return {name: loaders(part, shuffle=shuffle) for name, part in dataset.items()}
            if isinstance(dataset, Sequence) and not isinstance(dataset, Dataset):
                return [loaders(part, shuffle=shuffle) for part in dataset]
            return DataLoader(
                dataset,
                batch_size=batch_size,
                num_workers=num_workers,
                shuffle=shuffle and not isinstance(dataset, IterableDataset),
                pin_memory=torch.cuda.is_available(),  # or torch warns that it can't be
            )

        parameters = inspect.signature(cls.__init__).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        sizes = {"batch_size": batch_size, "num_workers": num_workers}
        forwarded = {name: value for name, value in sizes.items() if takes_all or name in parameters}
        datamodule = cls(**{**forwarded, **datamodule_kwargs})
        given = {"train": train_dataset, "val": val_dataset, "test": test_dataset, "predict": predict_dataset}
        for kind, dataset in given.items():
            if dataset is not None:
                setattr(
                    datamodule, f"{kind}_dataloader", _loader_hook(loaders, dataset, shuffle=kind == "train")
                )
        return datamodule

    @class_only
    def load_from_checkpoint(
        cls,  # noqa: N805  # `class_only` makes it a class method
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a data module from the hyper-parameters that a checkpoint holds.

        Args:
            checkpoint_path: A path, a URL or an open file.
            map_location: Where tensors go, as for `torch.load`.
            hparams_file: A .yaml or .csv file with hyper-parameters, for checkpoints that hold none.
            weights_only: False allows arbitrary pickled objects, and with them arbitrary code: only for files
                you trust.
            **kwargs: Arguments of ``__init__`` that replace the checkpoint's.
        """
        return load_datamodule_from_checkpoint(
            cls, checkpoint_path, map_location, hparams_file, weights_only, **kwargs
        )

    def __str__(self) -> str:
        """The loaders and the sizes of their datasets, as far as they are known."""
        kinds = {"Train": "train", "Validation": "val", "Test": "test", "Predict": "predict"}
        return "\n".join(
            f"{{{title} dataloader: {_describe(getattr(self, f'{kind}_dataloader'))}}}"
            for title, kind in kinds.items()
        )


def _loader_hook(loaders: Callable[..., Any], dataset: Any, *, shuffle: bool) -> Callable[[], Any]:
    return lambda: loaders(dataset, shuffle=shuffle)


def _describe(hook: Callable[[], Any]) -> str:
    try:
        found = hook()
    except Exception:  # before `setup` there may be no data yet, and each hook fails in its own way
        return "None"
    if found is None:
        return "None"
    flat = list(_flatten(found))
    if len(flat) == 1:
        return f"size={_size(flat[0])}"
    return " ; ".join(f"{number}. size={_size(loader)}" for number, loader in enumerate(flat, 1))


def _flatten(loaders: Any) -> list[Any]:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        return [flat for loader in loaders for flat in _flatten(loader)]
    return [loaders]


def _size(loader: Any) -> int | str:
    try:
        return len(getattr(loader, "dataset", loader))
    except (TypeError, NotImplementedError):
        return "NA"
