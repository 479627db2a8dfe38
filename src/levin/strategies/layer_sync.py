"""LayerSync: layers whose numbers are computed over the batches of all processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from levin.distributed import collectives, group


class LayerSync(ABC):
    """Replaces layers before training by such that speak with the other processes, and puts them back."""

    @abstractmethod
    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the layers; returns the model."""

    @abstractmethod
    def revert(self, model: nn.Module) -> nn.Module:
        """Put the layers back; returns the model."""


class TorchSyncBatchNorm(LayerSync):
    """Batch norm over the samples of all processes: torch's on CUDA devices, one of our own elsewhere."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace each batch norm; parameters and buffers stay the same objects."""
        return _replaced(model, _BatchNorm, _synchronised, {})

    def revert(self, model: nn.Module) -> nn.Module:
        """Put plain batch norms back."""
        return _replaced(model, _SYNCHRONISED, _plain, {})


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance are those of all processes' batches, on any device.

    Processes may have different numbers of samples, or none. Sums and counts are added up over the processes,
    in float32 at least, and gradients go back to each. In evaluation nobody is waited for.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name for it
        if input.dim() < 2:
            raise ValueError(f"Batch norm needs at least 2 dimensions, and got {input.dim()}.")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name for it
        """Normalise: by the batches of all processes while training, else as any batch norm does."""
        is_alone = not group.is_started() or dist.get_world_size() == 1
        if is_alone or not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, wide.dim())]
        sums = torch.cat([wide.sum(dims), wide.new_tensor([wide.numel() // wide.size(1)])])
        sums = _sum_over_processes(sums)
        total = sums[-1].detach()
        if total < 2:
            raise ValueError(
                f"Batch norm got one value for each channel in all processes together ({tuple(input.shape)} "
                "here), which has no variance. Use larger batches."
            )
        mean = sums[:-1] / total
        shape = [1, -1, *[1] * (wide.dim() - 2)]
        centred = wide - mean.view(shape)
        variance = _sum_over_processes((centred * centred).sum(dims)) / total
        self._note(mean.detach(), variance.detach(), total)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _note(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Move the running averages, which evaluation uses."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_((variance * total / (total - 1)).to(self.running_var), share)


def _sum_over_processes(tensor: Tensor) -> Tensor:
    gathered: Tensor = collectives.all_gather(tensor, sync_grads=True)
    return gathered.sum(0)


_SYNCHRONISED = (nn.SyncBatchNorm, SyncBatchNorm)
_SETTINGS = ("eps", "momentum", "affine", "track_running_stats")
_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _synchronised(layer: Any) -> nn.Module:
    """The layer that takes a plain one's place."""
    if isinstance(layer, _SYNCHRONISED):
        return layer
    told = layer.weight if layer.weight is not None else layer.running_mean
    kind = nn.SyncBatchNorm if told is not None and told.is_cuda else SyncBatchNorm
    made = _like(layer, kind(layer.num_features, **{name: getattr(layer, name) for name in _SETTINGS}))
    made.plain_class = type(layer)  # type: ignore[assignment]  # a mark on a module
    return made


def _plain(layer: Any) -> nn.Module:
    """The layer that another was put in place of; one that was the user's own stays."""
    kind = getattr(layer, "plain_class", None)
    if kind is None:
        return layer  # type: ignore[no-any-return]  # it is a module
    plain = kind.__new__(kind)
    nn.Module.__init__(plain)
    vars(plain).update({name: getattr(layer, name) for name in ("num_features", *_SETTINGS)})
    return _like(layer, plain)


def _like(layer: Any, made: Any) -> nn.Module:
    """Give a layer the parameters and buffers of another, the same objects."""
    for name in _STATE:
        value = getattr(layer, name)
        if name in ("weight", "bias"):
            made._parameters[name] = value  # noqa: SLF001  # they stay what an optimizer holds
        else:
            made._buffers[name] = value  # noqa: SLF001  # as above
    made.training = layer.training
    like: nn.Module = made
    return like


def _replaced(model: nn.Module, kind: Any, make: Any, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """The module with each layer of a kind made anew, itself if it is one.

    Args:
        model: The module.
        kind: The kind of layers.
        make: What makes another of a layer.
        made: Those that were made already: a layer may stand in several places.
    """
    if isinstance(model, kind):
        if model not in made:
            made[model] = make(model)
        return made[model]
    for name, child in model._modules.items():  # noqa: SLF001  # `named_children` leaves out what it gave before
        if child is not None:
            replaced = _replaced(child, kind, make, made)
            if replaced is not child:
                setattr(model, name, replaced)
    return model
