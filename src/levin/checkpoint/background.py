"""AsyncCheckpointIO: training goes on while a checkpoint is written."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from levin.checkpoint.io import CheckpointIO, MapLocation, TorchCheckpointIO
from levin.utils.rank import rank_zero_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from levin.utils.paths import PathLike

log: logging.Logger = logging.getLogger("levin")

_WORTH_TELLING_S = 1.0


class AsyncCheckpointIO(CheckpointIO):
    """Write checkpoints on a thread, out of a copy in the host's memory that training can't touch.

    A save takes as long as copying the state, once more of which stays in memory until the run ends. One is
    written at a time: the next one waits for it. Older checkpoints are deleted, and links moved, when the new
    one is on the disk, in the order of the saves. A save that fails ends the run after the batch at hand, and
    nothing is deleted for it. Leaving the program waits for what is under way.

    Args:
        checkpoint_io: What writes; by default a `TorchCheckpointIO`.

    Examples:
        ```python
        trainer = levin.Trainer(plugins=[AsyncCheckpointIO()])
        ```
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        self._inner = checkpoint_io or TorchCheckpointIO()
        self._memory = HostMemory()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_writing = False
        self._actions: deque[Callable[[], None]] = deque()
        self._has_failed = False  # the newest save; nothing may be done in its name
        self._error: BaseException | None = None
        self._tell: Callable[[BaseException], None] | None = None

    @property
    def keeps_index(self) -> bool:  # type: ignore[override]
        """Whether what writes notes commits in the index."""
        return self._inner.keeps_index

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any | None = None
    ) -> None:
        """Copy ``checkpoint`` and return; it is written to ``path`` meanwhile.

        Raises:
            OSError: An earlier save failed, and nobody was told; whatever it raised is raised here.
        """
        self._wait()
        if self._tell is None:
            self._raise_error()
        snapshot = self._memory.snapshot(checkpoint)
        self._has_failed, self._is_writing = False, True
        # no daemon: the interpreter waits for it
        self._thread = threading.Thread(
            target=self._write, args=(snapshot, path, storage_options), name="levin-checkpoint"
        )
        self._thread.start()

    def load_checkpoint(
        self, path: PathLike, map_location: MapLocation | None = None, weights_only: bool | None = None
    ) -> Any:
        """Read a checkpoint, once what is under way is written."""
        self._wait()
        return self._inner.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: PathLike) -> None:
        """Delete a checkpoint, once what is under way is written."""
        self._wait()
        self._inner.remove_checkpoint(path)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run ``action`` when the newest save is on the disk: on the writing thread, or now if it is.

        Nothing is run where that save failed.
        """
        with self._lock:
            if self._is_writing:
                self._actions.append(action)
                return
        if not self._has_failed:
            self._inner.after_commit(action)

    def on_failure(self, tell: Callable[[BaseException], None]) -> None:
        """Have ``tell`` called when a save fails; only `teardown` raises the error then."""
        self._tell = tell

    def teardown(self) -> None:
        """Wait for what is under way, and give the memory back.

        Raises:
            OSError: A save failed; whatever it raised is raised here.
        """
        self._wait()
        self._memory = HostMemory()
        self._tell = None
        self._inner.teardown()
        self._raise_error()

    def _write(self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any) -> None:
        try:
            self._inner.save_checkpoint(checkpoint, path, storage_options)
            while (action := self._next_action()) is not None:
                self._inner.after_commit(action)
        except BaseException as error:  # all of it is raised on the main thread
            with self._lock:
                self._actions.clear()
                self._has_failed, self._is_writing, self._error = True, False, error
            log.error("The checkpoint %s was not saved: %s: %s", path, type(error).__name__, error)
            if self._tell is not None:
                self._tell(error)

    def _next_action(self) -> Callable[[], None] | None:
        with self._lock:
            if self._actions:
                return self._actions.popleft()
            self._is_writing = False
            return None

    def _wait(self) -> None:
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        start = time.monotonic()
        thread.join()
        self._thread = None
        waited_s = time.monotonic() - start
        if waited_s > _WORTH_TELLING_S:
            rank_zero_info(f"Waited {waited_s:.1f} s for the former checkpoint to be written.")

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


class HostMemory:
    """Memory of the host that states are copied to; the same again for each, which saves making it."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []

    def snapshot(self, value: Any) -> Any:
        """``value`` with copies of all its tensors, which hold until the next snapshot.

        Tensors that share memory share it in the copy, too.
        """
        copying = _Copying(self._buffers)
        copied = copying.of(value)
        copying.finish()
        return copied


class _Copying:
    """One snapshot: tensors are copied storage by storage, into buffers that are reused in their order."""

    def __init__(self, buffers: list[Tensor]) -> None:
        self._buffers = buffers
        self._num_used = 0
        self._copies: dict[tuple[torch.device, int, int], Tensor] = {}
        self._devices: set[torch.device] = set()

    def of(self, value: Any) -> Any:
        kind = type(value)
        if kind in (dict, OrderedDict, Counter):
            copied = (
                kind((key, self.of(item)) for key, item in value.items())
                if kind is not Counter
                else value.copy()
            )
            if kind is OrderedDict:  # a module's state dict carries versions as an attribute
                vars(copied).update(copy.deepcopy(vars(value)))
            return copied
        if kind in (list, tuple, set):
            return kind(self.of(item) for item in value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        return copy.deepcopy(value)

    def finish(self) -> None:
        """Wait until the devices have handed over everything, and let go what is of no more use."""
        for device in self._devices:
            torch.accelerator.synchronize(device)
        del self._buffers[self._num_used :]

    def _tensor(self, tensor: Tensor) -> Tensor:
        is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
        if not is_plain or tensor.is_quantized or tensor.is_meta or tensor.is_conj() or tensor.is_neg():
            return tensor.detach().cpu().clone()
        storage = self._storage(tensor).untyped_storage()
        copied = torch.empty(0, dtype=tensor.dtype)
        copied.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(copied, tensor.requires_grad)
        return copied.requires_grad_(tensor.requires_grad)

    def _storage(self, tensor: Tensor) -> Tensor:
        """The copy of all the memory that a tensor is a part of, as bytes."""
        original = tensor.untyped_storage()
        key = (tensor.device, original.data_ptr(), original.nbytes())  # the memory of two may overlap
        if key not in self._copies:
            is_away = tensor.device.type != "cpu"
            self._copies[key] = self._buffer(original.nbytes(), pinned=is_away)
            source = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(original)
            self._copies[key].copy_(source, non_blocking=is_away)
            if is_away:
                self._devices.add(tensor.device)
        return self._copies[key]

    def _buffer(self, num_bytes: int, *, pinned: bool) -> Tensor:
        number, self._num_used = self._num_used, self._num_used + 1
        old = self._buffers[number] if number < len(self._buffers) else None
        if old is None or old.numel() != num_bytes or old.is_pinned() != pinned:
            old = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)
            self._buffers[number : number + 1] = [old]
        return old
