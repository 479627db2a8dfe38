"""load_from_checkpoint: build an object as it was built, and give it back its weights."""

from __future__ import annotations

import ast
import csv
import functools
import inspect
import os
from argparse import Namespace
from collections.abc import Mapping, MutableMapping
from enum import Enum
from types import MethodType
from typing import IO, TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from levin.checkpoint.io import as_checkpoint, load
from levin.checkpoint.plain import as_written, plain
from levin.core.hparams import BUILD_KEYS, HyperparametersMixin, restored
from levin.utils.imports import require
from levin.utils.paths import PathLike, atomic_writer, exists, is_dir, open_file, parent
from levin.utils.rank import rank_zero_warn
from levin.utils.types import AttributeDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.core.datamodule import LightningDataModule
    from levin.core.module import LightningModule

M = TypeVar("M", bound="LightningModule")
D = TypeVar("D", bound="LightningDataModule")
T = TypeVar("T", bound=HyperparametersMixin)

# Where checkpoints of Lightning before 1.0 have the hyper-parameters.
_OLD_KEYS = ("hparams", "module_arguments")

# What a model does without; the classes of objects in there need not be imported where it is used.
_OF_TRAINING = ("callbacks", "loops", "optimizer_states", "lr_schedulers")

if TYPE_CHECKING:
    class_only = classmethod
else:

    class class_only:  # noqa: N801 - a decorator, used as classmethod is
        """A class method that refuses to be called on an instance, whose state it would not touch."""

        def __init__(self, function: Callable[..., Any]) -> None:
            self.__func__ = function
            functools.update_wrapper(self, function)

        def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
            if instance is None:
                return MethodType(self.__func__, owner)
            # only the call fails: those who look through the attributes of an object must not stumble over it
            return functools.partial(_refuse_instance, owner, self.__func__.__name__)


def load_module_from_checkpoint(
    cls: type[M],
    path: PathLike | IO[bytes],
    map_location: Any = None,
    hparams_file: PathLike | None = None,
    strict: bool | None = None,
    weights_only: bool | None = None,
    **kwargs: Any,
) -> M:
    """Make a module from a checkpoint: see `LightningModule.load_from_checkpoint`."""
    checkpoint = _read(path, map_location, weights_only)
    module = _build(cls, checkpoint, hparams_file, kwargs, is_trusted=weights_only is False)
    strict = _strictness(module, strict)
    module.configure_model()
    module.on_load_checkpoint(checkpoint)
    weights = checkpoint["state_dict"]
    outcome = module.load_state_dict(weights, strict=strict)
    if not strict and outcome is not None:
        _report("in the model and not in the checkpoint", outcome.missing_keys)
        _report("in the checkpoint and not in the model", outcome.unexpected_keys)
    device = next((value.device for value in weights.values() if isinstance(value, Tensor)), None)
    if device is None:
        rank_zero_warn(
            f"The state dict in {getattr(path, 'name', path)} holds no tensors: nothing was loaded."
        )
        return module
    return module.to(device)


def load_datamodule_from_checkpoint(
    cls: type[D],
    path: PathLike | IO[bytes],
    map_location: Any = None,
    hparams_file: PathLike | None = None,
    weights_only: bool | None = None,
    **kwargs: Any,
) -> D:
    """Make a data module from a checkpoint: see `LightningDataModule.load_from_checkpoint`."""
    checkpoint = _read(path, map_location, weights_only)
    datamodule = _build(cls, checkpoint, hparams_file, kwargs, is_trusted=weights_only is False)
    if cls.__qualname__ in checkpoint:
        datamodule.load_state_dict(checkpoint[cls.__qualname__])
    return datamodule


def _read(path: PathLike | IO[bytes], map_location: Any, weights_only: bool | None) -> dict[str, Any]:
    map_location = _where_it_was if map_location is None else map_location
    content = as_checkpoint(load(path, map_location, weights_only), path)
    return as_written(content, is_trusted=weights_only is False, besides=_OF_TRAINING)


def _refuse_instance(owner: type, name: str, *_: Any, **__: Any) -> None:
    raise TypeError(
        f"`{name}` makes a new {owner.__name__} and can't be called on an instance. Call it on the class "
        f"and keep what it returns: `model = {owner.__name__}.{name}(...)`."
    )


def _where_it_was(storage: Any, location: str) -> Any:
    """Put a tensor on the device that it was saved from, or on the CPU where there is no such device."""
    device = torch.device(location) if location.partition(":")[0] in ("cuda", "mps") else None
    if device is None:
        return None  # torch's own way
    is_here = (
        (device.index or 0) < torch.cuda.device_count()
        if device.type == "cuda"
        else torch.backends.mps.is_available()
    )
    return None if is_here else storage


# ------------------------------------------------------------------------------------------------- building


def _build(
    cls: type[T],
    checkpoint: Mapping[str, Any],
    hparams_file: PathLike | None,
    kwargs: dict[str, Any],
    *,
    is_trusted: bool,
) -> T:
    """Call ``cls`` with the hyper-parameters of the checkpoint, or of the file, and ``kwargs`` over them."""
    values, holder, lost = restored(checkpoint, cls, is_trusted=is_trusted)
    for key in _OLD_KEYS:
        values = {**checkpoint[key], **values} if isinstance(checkpoint.get(key), Mapping) else values
    if hparams_file is not None:
        values, lost = _read_hparams_file(hparams_file), {}
    names, required, takes_all = _parameters(cls)
    own = {name: value for name, value in kwargs.items() if name in names}
    others = {name: value for name, value in kwargs.items() if name not in names}
    if holder in names:
        if holder not in own and (needed := [name for name in lost if name not in others]):
            raise TypeError(_missing(cls, f"`{holder}`", needed, values, lost))
        content = AttributeDict(values) if isinstance(values, dict) else values
        content.update(others)
        return cls(**{str(holder): content, **own})
    if others and not takes_all:
        rank_zero_warn(
            f"Not used, as `{cls.__name__}.__init__` has no such argument: {', '.join(others)}. It has: "
            f"{', '.join(names) or 'none'}."
        )
    arguments = {name: value for name, value in values.items() if name not in BUILD_KEYS} | kwargs
    if needed := [name for name in required if name not in arguments]:
        raise TypeError(_missing(cls, f"`{cls.__name__}.__init__`", needed, values, lost))
    if absent := [name for name in lost if (takes_all or name in names) and name not in arguments]:
        rank_zero_warn(
            f"The defaults of {cls.__name__} are used for {_listed(absent, lost)}. {_give(cls, absent)}"
        )
    return cls(**{name: value for name, value in arguments.items() if takes_all or name in names})


def _missing(
    cls: type, place: str, needed: list[str], values: Mapping[str, Any], lost: Mapping[str, str]
) -> str:
    """What to do about entries that ``place`` needs and nobody gives; ``lost``: why some are not stored."""
    stored = [name for name in values if name not in BUILD_KEYS]
    holds = f"these hyper-parameters: {', '.join(stored)}" if stored else "no hyper-parameters"
    said = f"{place} needs {_listed(needed, lost)}, and the checkpoint holds {holds}. {_give(cls, needed)}"
    if lost.keys() >= set(needed):
        return said
    return f"{said} To have it in checkpoints from now on, call `self.save_hyperparameters()` in `__init__`."


def _listed(names: list[str], lost: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({lost[name]})" if name in lost else name for name in names)


def _give(cls: type, names: list[str]) -> str:
    given = ", ".join(f"{name}=..." for name in names)
    return f"Give what is missing: {cls.__name__}.load_from_checkpoint(path, {given})."


def _parameters(cls: type) -> tuple[list[str], list[str], bool]:
    """The arguments that ``cls`` can be called with, those it needs, and whether it takes any other, too."""
    definer = next(base for base in cls.__mro__ if "__init__" in vars(base))
    if definer is object or definer.__module__.startswith("levin.core."):
        return [], [], False  # the bases pass on whatever they get, and in the end nobody takes it
    parameters = list(inspect.signature(vars(definer)["__init__"]).parameters.values())[1:]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [parameter for parameter in parameters if parameter.kind not in kinds]
    required = [parameter.name for parameter in named if parameter.default is inspect.Parameter.empty]
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return [parameter.name for parameter in named], required, takes_all


def _strictness(module: LightningModule, strict: bool | None) -> bool:
    if strict is None:
        return module.strict_loading
    if strict and not module.strict_loading:
        raise ValueError(
            f"strict=True contradicts `{type(module).__name__}.strict_loading`, which is False. Leave one "
            "of them out."
        )
    return strict


def _report(where: str, keys: list[str]) -> None:
    if keys:
        rank_zero_warn(f"These keys are {where}, and were passed over: {keys}.")


# -------------------------------------------------------------------------------- hyper-parameters in files


def _read_hparams_file(path: PathLike) -> dict[str, Any]:
    extension = os.path.splitext(os.fspath(path))[1].lower()
    if extension == ".csv":
        return load_hparams_from_tags_csv(path)
    if extension in (".yaml", ".yml"):
        return load_hparams_from_yaml(path)
    raise ValueError(f"hparams_file={os.fspath(path)!r} has to end in .csv, .yml or .yaml.")


def save_hparams_to_yaml(config_yaml: PathLike, hparams: Mapping[str, Any] | Namespace) -> None:
    """Write hyper-parameters as YAML.

    Entries that plain YAML can't hold are left out, with a warning.

    Args:
        config_yaml: The file; its folder has to be there.
        hparams: The hyper-parameters.

    Raises:
        RuntimeError: The folder is not there.
        TypeError: ``hparams`` is no mapping and no Namespace.
    """
    yaml = require("yaml")

    def is_plain(value: Any) -> bool:
        try:
            yaml.safe_dump(plain(value))
        except (TypeError, yaml.YAMLError):
            return False
        return True

    entries = _entries(config_yaml, hparams)
    entries = {name: value.name if isinstance(value, Enum) else value for name, value in entries.items()}
    kept = {name: plain(value) for name, value in entries.items() if is_plain(value)}
    refused = [name for name in entries if name not in kept]
    if refused:
        rank_zero_warn(f"{os.fspath(config_yaml)} goes without {', '.join(refused)}: no plain YAML.")
    with atomic_writer(config_yaml, "w") as file:
        yaml.safe_dump(kept, file)


def load_hparams_from_yaml(config_yaml: PathLike) -> dict[str, Any]:
    """Read what `save_hparams_to_yaml` wrote; an empty dict, with a warning, if there is no such file."""
    if _is_missing(config_yaml):
        return {}
    yaml = require("yaml")
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    # the files that Lightning writes have tuples in them
    loader.add_constructor(
        "tag:yaml.org,2002:python/tuple", lambda own, node: tuple(own.construct_sequence(node))
    )
    with open_file(config_yaml, "r") as file:
        return dict(yaml.load(file, Loader=loader) or {})


def save_hparams_to_tags_csv(tags_csv: PathLike, hparams: Mapping[str, Any] | Namespace) -> None:
    """Write hyper-parameters as rows of ``key,value``.

    Args:
        tags_csv: The file; its folder has to be there.
        hparams: The hyper-parameters.

    Raises:
        RuntimeError: The folder is not there.
        TypeError: ``hparams`` is no mapping and no Namespace.
    """
    entries = _entries(tags_csv, hparams)
    with atomic_writer(tags_csv, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("key", "value"))
        writer.writerows((name, str(value)) for name, value in entries.items())


def load_hparams_from_tags_csv(tags_csv: PathLike) -> dict[str, Any]:
    """Read what `save_hparams_to_tags_csv` wrote; an empty dict, with a warning, if there is no such file."""
    if _is_missing(tags_csv):
        return {}
    with open_file(tags_csv, "r") as file:
        return {row["key"]: convert(row["value"]) for row in csv.DictReader(file)}


def convert(text: str) -> Any:
    """The number, list, dict, bool or None that ``text`` spells in Python, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def update_hparams(hparams: MutableMapping[str, Any], updates: Mapping[str, Any]) -> None:
    """Put ``updates`` into ``hparams``, dicts within dicts entry by entry."""
    for name, value in updates.items():
        if isinstance(value, Mapping) and isinstance(hparams.get(name), MutableMapping):
            update_hparams(hparams[name], value)
        else:
            hparams[name] = value


def _entries(path: PathLike, hparams: Mapping[str, Any] | Namespace) -> dict[str, Any]:
    if not is_dir(parent(path) or "."):
        raise RuntimeError(
            f"The folder {parent(path)} is not there: make it before {os.fspath(path)} is written."
        )
    if isinstance(hparams, Namespace):
        return dict(vars(hparams))
    if not isinstance(hparams, Mapping):
        raise TypeError(f"hparams has to be a mapping or a Namespace, but is a {type(hparams).__name__}.")
    return dict(hparams)


def _is_missing(path: PathLike) -> bool:
    if exists(path):
        return False
    rank_zero_warn(f"There is no file {os.fspath(path)}: no hyper-parameters are read.", RuntimeWarning)
    return True
