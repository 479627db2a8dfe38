"""What processes say to one another: the one door to torch's collective operations.

Each one tells the watch (`watch`) that it waits, under which name and for which line of the program, so that
processes that wait for different things are found out within seconds, by name.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from levin.distributed import watch
from levin.distributed.group import further, is_started
from levin.utils.apply import apply_to_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from torch.futures import Future

_OPERATIONS = {
    "sum": dist.ReduceOp.SUM, "mean": dist.ReduceOp.SUM, "avg": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN,
    "max": dist.ReduceOp.MAX, "product": dist.ReduceOp.PRODUCT,
}  # fmt: skip


def _waiting(name: str) -> AbstractContextManager[Any]:
    watching = watch.current()
    return nullcontext() if watching is None else watching.waiting(name)


def all_reduce(tensor: Tensor, reduce_op: Any = "mean", group: Any = None) -> Tensor:
    """Combine a tensor over all processes.

    Args:
        tensor: Of the same shape in each; it stays as it is.
        reduce_op: "mean", "sum", "min", "max" or "product", or torch's own `ReduceOp`.
        group: Some of the processes; None for all.

    Returns:
        The combination, in each; a mean of whole numbers is a float.

    Raises:
        ValueError: If the operation is unknown.
    """
    word = reduce_op.lower() if isinstance(reduce_op, str) else None
    if word is not None and word not in _OPERATIONS:
        raise ValueError(f"reduce_op={reduce_op!r} is not known. Known: {', '.join(sorted(_OPERATIONS))}.")
    if not is_started():
        return tensor
    is_mean = word in ("mean", "avg")
    result = tensor.detach().clone(memory_format=torch.contiguous_format)
    if is_mean and not (result.is_floating_point() or result.is_complex()):
        result = result.to(torch.get_default_dtype())
    with _waiting("all_reduce"):
        dist.all_reduce(result, op=_OPERATIONS[word] if word is not None else reduce_op, group=group)
    return result.div_(dist.get_world_size(group)) if is_mean else result


def start_all_reduce(tensor: Tensor, group: Any = None) -> Future[Tensor]:
    """Begin to add up a tensor over the processes, in place, and go on meanwhile.

    Args:
        tensor: Of the same shape in each; it becomes the sum.
        group: Some of the processes; None for all.

    Returns:
        The tensor, as soon as it is the sum.
    """
    work = dist.all_reduce(tensor, group=group, async_op=True)
    # what it gives is a list of tensors: the one that was handed in
    summed: Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed


def average_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with their means over the processes, many in one message.

    Args:
        tensors: In the same order and of the same shapes in each process.
    """
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    for same in kinds.values():
        for part in _parts(same):
            mean = all_reduce(torch.cat([tensor.reshape(-1) for tensor in part]), "mean")
            for tensor, piece in zip(
                part, torch.split(mean, [tensor.numel() for tensor in part]), strict=True
            ):
                tensor.copy_(piece.view_as(tensor))


_MESSAGE_BYTES = 32 * 2**20  # more than that at once is no faster, and takes memory


def _parts(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in groups that make a message each."""
    part: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        if part and num_bytes + tensor.nbytes > _MESSAGE_BYTES:
            yield part
            part, num_bytes = [], 0
        part.append(tensor)
        num_bytes += tensor.nbytes
    yield part


def group_of(room: Any) -> Any:
    """The group of the processes that say the same: those of a machine, say. All processes have to ask.

    Args:
        room: What this process says; can be pickled and sorted.
    """
    rooms = gather_objects(room)
    own = None
    for each in sorted(set(rooms)):
        made = dist.new_group([rank for rank, other in enumerate(rooms) if other == each])
        own = made if each == room else own
    return own


def all_gather(data: Any, group: Any = None, *, sync_grads: bool = False) -> Any:
    """Collect tensors from all processes.

    Args:
        data: A tensor of the same shape in each, or a collection of such.
        group: Some of the processes; None for all.
        sync_grads: Whether gradients go back to the process that a part came from.

    Returns:
        The same collection, each tensor with a new first dimension: the processes.
    """
    if not is_started():
        return data
    return apply_to_collection(data, Tensor, _gather_tensor, group=group, sync_grads=sync_grads)


def _gather_tensor(tensor: Tensor, group: Any, sync_grads: bool) -> Tensor:
    tensor = tensor.contiguous()
    if sync_grads:
        with _waiting("all_gather"):
            return cast("Tensor", _Gather.apply(tensor, group))  # type: ignore[no-untyped-call]  # torch's
    with _waiting("all_gather"):
        return _gathered(tensor.detach(), group)


def _gathered(tensor: Tensor, group: Any) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, tensor, group=group)
    return torch.stack(parts)


class _Gather(torch.autograd.Function):
    """`all_gather` with a way back: each process gets the sum of all gradients of its own part."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Any) -> Tensor:
        """Gather."""
        ctx.group = group
        return _gathered(tensor, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Add up what every process has for this one's part."""
        grad = grad.contiguous().clone()  # gloo misreads permuted memory
        dist.all_reduce(grad, group=ctx.group)
        return grad[dist.get_rank(ctx.group)], None


def gather_objects(obj: Any, group: Any = None) -> list[Any]:
    """What every process has, in the order of ranks: anything that can be pickled."""
    if not is_started():
        return [obj]
    found: list[Any] = [None] * dist.get_world_size(group)
    with _waiting("gather_objects"):
        dist.all_gather_object(found, obj, group=group)
    return found


def gather_at_zero(obj: Any) -> list[Any] | None:
    """What every process has, in the order of ranks, in the process of rank 0; None in the others."""
    if not is_started():
        return [obj]
    found: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    with _waiting("gather_at_zero"):
        dist.gather_object(obj, found)
    return found


def broadcast_object(obj: Any, src: int = 0, group: Any = None) -> Any:
    """What the process of rank ``src`` has, in every process."""
    if not is_started():
        return obj
    box = [obj]
    with _waiting("broadcast"):
        dist.broadcast_object_list(box, src, group=group)
    return box[0]


def broadcast_tensors(tensors: list[Tensor], src: int = 0) -> None:
    """Overwrite tensors with those of the process of rank ``src``."""
    if not is_started():
        return
    with _waiting("broadcast"):
        for tensor in tensors:
            source = tensor.detach()
            # gloo sends memory as it lies
            dense = source if source.is_contiguous() else source.contiguous()
            dist.broadcast(dense, src)
            if dense is not source:
                source.copy_(dense)


def barrier(name: str | None = None, group: Any = None) -> None:
    """Wait until all processes are here."""
    if not is_started():
        return
    with _waiting("barrier" if name is None else f"barrier({name!r})"):
        # on the CPU: torch's own `barrier` picks a device by the rank
        dist.all_reduce(torch.zeros(1, device=_device()), group=group)


def _device() -> torch.device:
    backend = dist.get_backend()
    return torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")


def in_turn(first: Callable[[], Any], *, is_first: bool, label: str, room: str = "all") -> Any:
    """Let one process act while the others wait for it, however long it takes.

    They wait at the store, which knows no time-out, and not in a collective operation.

    Args:
        first: What the one does; what it returns is for it alone.
        is_first: Whether this process is the one.
        label: What it does, for a line that tells of it while it lasts.
        room: Who waits for one another, if not all.
    """
    watching = watch.current()
    if watching is None:
        return first() if is_first else None
    return watching.act(first, label, room) if is_first else watching.wait_for(room)


class Votes:
    """A question that all processes answer while they compute, so that nobody waits for the count.

    It has a group of its own, whose messages do not come in the way of others. All processes have to make it.

    Args:
        timeout: How long to wait for one another.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._timeout = timeout
        self._asked: tuple[Any, Tensor] | None = None

    def ask(self, vote: bool) -> None:
        """Give this process's vote; the others' arrive meanwhile."""
        box = torch.tensor([int(vote)])
        group = further("votes", self._timeout, "gloo")
        self._asked = (dist.all_reduce(box, group=group, async_op=True), box)

    def count(self) -> int:
        """How many said yes to the newest question."""
        assert self._asked is not None
        work, box = self._asked
        with _waiting("votes"):
            work.wait()
        return int(box)
