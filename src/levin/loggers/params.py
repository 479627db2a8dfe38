"""Hyper-parameters as loggers write them: plain, nested or flat."""

from __future__ import annotations

import dataclasses
import enum
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from levin.utils import paths
from levin.utils.imports import require

if TYPE_CHECKING:
    from levin.utils.paths import PathLike

# Larger arrays are named in a file of hyper-parameters, not written out.
_MAX_TENSOR_VALUES = 32


def plain(value: Any) -> Any:
    """Return ``value`` made of dicts, lists, texts and numbers; what is none of these becomes its text.

    A file made of that can be read by anything, and reading it runs no code.
    """
    if isinstance(value, (Mapping, Namespace)) or _is_settings(value):
        return {_key(key): plain(item) for key, item in as_params(value).items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    return _plain_leaf(value)


def _key(key: Any) -> bool | int | float | str | None:
    return key if key is None or type(key) in (bool, int, float, str) else str(_plain_leaf(key))


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):  # the value of a subclass too
            return kind(value)
    return _described(value)


def _described(value: Any) -> Any:
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        is_small = math.prod(value.shape) <= _MAX_TENSOR_VALUES
        return value.tolist() if is_small else f"array of shape {list(value.shape)}, {value.dtype}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def as_params(params: Any) -> dict[Any, Any]:
    """Return hyper-parameters as a dict, its values as they are.

    Args:
        params: A mapping, a Namespace, an instance of a dataclass, or None for none.
    """
    if params is None:
        return {}
    if _is_settings(params):
        return {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return dict(vars(params) if isinstance(params, Namespace) else params)


def flatten(params: Mapping[str, Any], separator: str = "/") -> dict[str, bool | int | float | str]:
    """Return nested hyper-parameters side by side and plain: ``{"a": {"b": 1}}`` is ``{"a/b": 1}``."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in plain(params).items():
        if isinstance(value, dict):
            below = flatten(value, separator)
            flat.update({f"{key}{separator}{name}": item for name, item in below.items()})
        else:
            flat[str(key)] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def write_hparams(path: PathLike, params: Mapping[str, Any]) -> None:
    """Write hyper-parameters, nested as they are, to a YAML file that any reader can load."""
    with paths.atomic_writer(path, "w") as file:
        require("yaml").safe_dump(plain(params), file, sort_keys=False, allow_unicode=True)


def scalar(value: Any) -> Any:
    """Return the number in a tensor (or numpy array) that holds one; anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) is not None else value
