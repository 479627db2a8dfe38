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
        return _replaced(model, _BatchNorm, _synchronised)

    def revert(self, model: nn.Module) -> nn.Module:
        """Put plain batch norms back."""
        return _replaced(model, (nn.SyncBatchNorm, SyncBatchNorm), _plain)


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance are those of all processes' batches, on any device.

    Processes may have different numbers of samples. The sums of values, of squares and the count are added up
    over the processes, with their gradients.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name for it
        if input.dim() < 2:
            raise ValueError(f"Batch norm needs at least 2 dimensions, and got {input.dim()}.")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name for it
        """Normalise: by the batches of all processes while training, else as any batch norm does."""
        is_alone = not group.is_started() or dist.get_world_size() == 1
        if is_alone or not (self.training or self.running_mean is None):
            return super().forward(input)
        self._check_input_dim(input)
        dims = [0, *range(2, input.dim())]
        count = input.numel() // input.size(1)
        sums = torch.cat([input.sum(dims), input.new_tensor([count])])
        sums = _sum_over_processes(sums)
        total = sums[-1].detach()
        mean = sums[:-1] / total
        shape = [1, -1, *[1] * (input.dim() - 2)]
        centred = input - mean.view(shape)
        variance = _sum_over_processes((centred * centred).sum(dims)) / total
        self._note(mean.detach(), variance.detach(), total)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if not self.affine:
            return scaled
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    def _note(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Move the running averages, which evaluation uses."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), share)


def _sum_over_processes(tensor: Tensor) -> Tensor:
    gathered: Tensor = collectives.all_gather(tensor, sync_grads=True)
    return gathered.sum(0)


_SETTINGS = ("eps", "momentum", "affine", "track_running_stats")
_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _synchronised(layer: Any) -> nn.Module:
    is_cuda = layer.weight is not None and layer.weight.is_cuda
    made = nn.SyncBatchNorm if is_cuda else SyncBatchNorm
    return _like(layer, made(layer.num_features, **{name: getattr(layer, name) for name in _SETTINGS}))


def _plain(layer: Any) -> nn.Module:
    made = getattr(layer, "plain_class", nn.BatchNorm1d)
    plain = made.__new__(made)
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
    if not isinstance(layer, (nn.SyncBatchNorm, SyncBatchNorm)):
        made.plain_class = type(layer)
    like: nn.Module = made
    return like


def _replaced(model: nn.Module, kind: Any, make: Any) -> nn.Module:
    is_done = (nn.SyncBatchNorm, SyncBatchNorm)
    if isinstance(model, kind) and not (kind is _BatchNorm and isinstance(model, is_done)):
        made: nn.Module = make(model)
        return made
    for name, child in model.named_children():
        replaced = _replaced(child, kind, make)
        if replaced is not child:
            setattr(model, name, replaced)
    return model
