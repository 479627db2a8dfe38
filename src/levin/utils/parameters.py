"""The parameters of a module: how long their gradients are, which of them are one and the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def grad_norm(
    module: nn.Module, norm_type: float | int | str, group_separator: str = "/"
) -> dict[str, Tensor]:
    """The norm of each parameter's gradient, and that of all of them together.

    ``self.log_dict(grad_norm(self, norm_type=2))`` in ``on_before_optimizer_step`` logs them. With mixed
    float16 precision the gradients there are already unscaled.

    Args:
        module: The module; parameters without a gradient are left out.
        norm_type: The p of the p-norm, above 0; ``"inf"`` for the largest absolute value.
        group_separator: What stands between the kind of norm and the name, for loggers that make groups.

    Returns:
        ``{"grad_2.0_norm/<name>": ..., "grad_2.0_norm_total": ...}``: tensors without dimensions, on the
        devices of the gradients, in float32 where these have 16 bits; empty if there are no gradients.

    Raises:
        ValueError: ``norm_type`` is no number above 0.
    """
    try:
        order = float(norm_type)
    except ValueError:
        order = 0.0
    if not order > 0:  # not a number either
        raise ValueError(f"norm_type={norm_type!r} has to be a number above 0, or 'inf'.")
    norms = {
        f"grad_{order}_norm{group_separator}{name}": _norm(parameter.grad, order)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        first, *others = norms.values()
        together = torch.stack([first, *(norm.to(first.device) for norm in others)])
        norms[f"grad_{order}_norm_total"] = _norm(together, order)
    return norms


def _norm(values: Tensor, order: float) -> Tensor:
    values = values.detach()
    if values.is_sparse:
        values = values.coalesce().values()
    # the sum of squares of 16-bit numbers soon leaves their range
    dtype = torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else None
    norm: Tensor = torch.linalg.vector_norm(values, order, dtype=dtype)
    return norm


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """The names of parameters that are one and the same under several names, a group for each.

    Examples:
        >>> model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
        >>> model["b"].weight = model["a"].weight
        >>> find_shared_parameters(model)
        [['a.weight', 'b.weight']]
    """
    names: dict[Tensor, list[str]] = {}  # tensors are told apart by identity
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return [group for group in names.values() if len(group) > 1]


def set_shared_parameters(module: nn.Module, shared_params: Sequence[Sequence[str]]) -> nn.Module:
    """Make the parameters of each group one again, that of the first name.

    Moving a module to some devices makes copies of what it shared: find the groups before, set them after.

    Args:
        module: The module; it is changed in place.
        shared_params: What `find_shared_parameters` gave.

    Returns:
        The module.

    Raises:
        AttributeError: It has no parameter of one of the names.
    """
    for first, *others in shared_params:
        shared = module.get_parameter(first)
        for name in others:
            module.get_parameter(name)  # a name that is wrong must not make a new one
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, shared)
    return module
