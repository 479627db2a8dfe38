"""What gradients are sent as: in 16 bits, or as products of narrow matrices (PowerSGD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from levin.distributed import collectives
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class PowerSGD:
    """Send matrices of gradients as products of two narrow ones, as Vogels, Karimireddy and Jaggi do (2019).

    A matrix of n rows and m columns becomes (n + m) times `matrix_rank` numbers. What gets lost is added to
    the next step's gradients, so that nothing is lost for good. Vectors are sent as they are.

    Args:
        matrix_rank: The width of the narrow matrices; the more, the closer to the gradients.
        warmup_steps: The number of steps before, in which gradients are sent whole: early ones matter most.
        min_compression: A matrix is sent whole unless it gets smaller by this factor.

    Raises:
        MisconfigurationException: If a number is out of range.
    """

    matrix_rank: int = 1
    warmup_steps: int = 1000
    min_compression: float = 2.0

    def __post_init__(self) -> None:
        if self.matrix_rank < 1 or self.warmup_steps < 0 or self.min_compression < 1:
            raise MisconfigurationException(
                f"{self} makes no sense: matrix_rank is 1 or more, warmup_steps 0 or more, min_compression 1 "
                "or more."
            )


def compressed_to(dtype: torch.dtype) -> Callable[[Any, Any], Future[Tensor]]:
    """A hook for DistributedDataParallel that sends gradients in another type."""

    def hook(_: Any, bucket: Any) -> Future[Tensor]:
        whole = bucket.buffer()
        # divided before it is made small: the sum of what fits has to fit, too
        small = whole.div(dist.get_world_size()).to(dtype)
        return collectives.start_all_reduce(small).then(lambda done: whole.copy_(done.value()))

    return hook


def compression_hook(chosen: Any, module: nn.Module) -> Callable[[Any, Any], Future[Tensor]]:
    """The hook for DistributedDataParallel that does what `gradient_compression` asks for."""
    return LowRank(chosen, module) if isinstance(chosen, PowerSGD) else compressed_to(_HALVES[chosen])


def parse_compression(given: Any) -> Any:
    """What ``gradient_compression=`` asks for: None, "fp16", "bf16" or a `PowerSGD`.

    Raises:
        MisconfigurationException: If it is something else.
    """
    if given == "powersgd":
        return PowerSGD()
    if given is None or isinstance(given, PowerSGD) or (isinstance(given, str) and given in _HALVES):
        return given
    raise MisconfigurationException(
        f"gradient_compression={given!r} is not known. Use 'fp16', 'bf16', 'powersgd', or "
        "PowerSGD(matrix_rank=..., warmup_steps=...) from levin.strategies."
    )


class LowRank:
    """`PowerSGD` at work: a hook for DistributedDataParallel that keeps what it learns by parameter.

    Args:
        settings: How narrow, and from when on.
        module: The module whose gradients these are.

    Attributes:
        steps: How many backwards were averaged.
    """

    def __init__(self, settings: PowerSGD, module: nn.Module) -> None:
        self.settings = settings
        self.steps: int = 0
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._guesses: dict[str, Tensor] = {}  # the right-hand matrices of the last step
        self._losses: dict[str, Tensor] = {}  # what of the gradients was not sent

    def __call__(self, _: Any, bucket: Any) -> Future[Tensor]:
        """Average the gradients of a bucket."""
        buffer, is_warm = bucket.buffer(), self.steps >= self.settings.warmup_steps
        self.steps += bucket.is_last()
        if not is_warm:
            return collectives.start_all_reduce(buffer.div_(dist.get_world_size()))
        matrices: dict[str, Tensor] = {}
        others: list[Tensor] = []
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            if self._gains(gradient):
                matrices[self._names[parameter]] = gradient.view(len(gradient), -1)
            else:
                others.append(gradient)
        self._average(matrices, others)
        done: Future[Tensor] = Future()
        done.set_result(buffer)
        return done

    def _gains(self, gradient: Tensor) -> bool:
        if gradient.dim() < 2 or not gradient.is_contiguous():
            return False
        rows, columns = len(gradient), gradient.numel() // len(gradient)
        sent = (rows + columns) * self.settings.matrix_rank
        return sent * self.settings.min_compression < rows * columns

    def _average(self, matrices: Mapping[str, Tensor], others: list[Tensor]) -> None:
        """Overwrite the gradients with their mean: that of matrices nearly, and others exactly."""
        for name, matrix in matrices.items():
            if name in self._losses:
                matrix += self._losses[name]
        lefts = [matrix @ self._guess(name, matrix) for name, matrix in matrices.items()]
        collectives.average_tensors([*lefts, *others])
        lefts = [_orthonormal(left) for left in lefts]
        rights = [matrix.T @ left for matrix, left in zip(matrices.values(), lefts, strict=True)]
        collectives.average_tensors(rights)
        for (name, matrix), left, right in zip(matrices.items(), lefts, rights, strict=True):
            near = left @ right.T
            self._losses[name] = matrix - near
            self._guesses[name] = right
            matrix.copy_(near)

    def _guess(self, name: str, matrix: Tensor) -> Tensor:
        if name not in self._guesses:  # the same in all processes
            generator = torch.Generator().manual_seed(len(self._guesses))
            self._guesses[name] = torch.randn(
                matrix.size(1), self.settings.matrix_rank, generator=generator, dtype=torch.float32
            ).to(matrix)
        return self._guesses[name]

    def level(self) -> None:
        """Give all processes the mean of what was not sent, which is all that later steps depend on."""
        collectives.average_tensors(self._losses[name] for name in sorted(self._losses))

    def state_dict(self) -> dict[str, Any]:
        """What later steps depend on."""
        return {"steps": self.steps, "guesses": dict(self._guesses), "losses": dict(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.steps = state["steps"]
        devices = {name: parameter.device for parameter, name in self._names.items()}
        for name in ("guesses", "losses"):
            kept = {each: value.to(devices[each]) for each, value in state[name].items() if each in devices}
            setattr(self, f"_{name}", kept)


def _orthonormal(matrix: Tensor) -> Tensor:
    """An orthonormal basis of a matrix's columns."""
    wide = torch.promote_types(matrix.dtype, torch.float32)
    basis: Tensor = torch.linalg.qr(matrix.to(wide))[0]
    return basis.to(matrix)
