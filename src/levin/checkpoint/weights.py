"""The weights of a checkpoint alone, in a file that other programs read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from levin.checkpoint.io import TorchCheckpointIO, as_checkpoint, load
from levin.utils.imports import require
from levin.utils.paths import atomic_writer

if TYPE_CHECKING:
    from levin.utils.paths import PathLike


def export_weights(path: PathLike, target: PathLike, *, prefix: str = "") -> list[str]:
    """Write the weights of a checkpoint to a file of their own.

    Args:
        path: The checkpoint.
        target: The file. One that ends in ``.safetensors`` is written in that format; any other one is a bare
            state dict as `torch.save` writes it.
        prefix: Only the weights whose names begin so are taken, and named without it.

    Returns:
        The names of what is left out, as it is no tensor.

    Raises:
        KeyError: No name begins with ``prefix``.
        ValueError: A weight is sparse or quantized, and the format knows none such.
    """
    weights = as_checkpoint(load(path), path)["state_dict"]
    taken = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    if not taken:
        raise KeyError(
            f"No weight of {os.fspath(path)} begins with {prefix!r}. There are: {', '.join(weights)}."
        )
    tensors = {name: value for name, value in taken.items() if isinstance(value, Tensor)}
    if os.fspath(target).endswith(".safetensors"):
        content = require("safetensors.torch").save(_apart(tensors), {"format": "pt"})
        with atomic_writer(target) as file:
            file.write(content)
    else:
        TorchCheckpointIO().save_checkpoint(tensors, target)
    return [name for name in taken if name not in tensors]


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in one piece each: that format knows no memory that two of them share."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            message = (
                f"The weight {name!r} is {'quantized' if tensor.is_quantized else 'sparse'}, and safetensors "
                "holds plain tensors only. Export to a file of another ending, or with a prefix that leaves "
                "it out."
            )
            raise ValueError(message)
        storage = tensor.untyped_storage().data_ptr()
        whole = tensor.detach().contiguous()
        apart[name] = whole.clone() if storage in seen else whole
        seen.add(storage)
    return apart
