"""CUDAAccelerator: NVIDIA GPUs, and AMD's through ROCm."""

from __future__ import annotations

from typing import Any

import torch

from levin.accelerators.base import Accelerator, AcceleratorRegistry, check_device, parse_indices
from levin.utils.rank import rank_zero_info


class CUDAAccelerator(Accelerator):
    """CUDA devices, numbered as ``CUDA_VISIBLE_DEVICES`` leaves them."""

    @staticmethod
    def name() -> str:
        """``"cuda"``."""
        return "cuda"

    @staticmethod
    def is_available() -> bool:
        """Whether there is one; CUDA is not initialised for it, so that processes can still be forked."""
        return num_cuda_devices() > 0

    @staticmethod
    def auto_device_count() -> int:
        """All there are."""
        return num_cuda_devices()

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """The indices of the devices: see `levin.accelerators.base.parse_indices`."""
        return parse_indices(devices, num_cuda_devices(), "CUDA")

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """The devices of these indices."""
        return [torch.device("cuda", index) for index in devices]

    def setup_device(self, device: torch.device) -> None:
        """Make the device the current one.

        Raises:
            MisconfigurationException: It is no CUDA device.
        """
        check_device(device, "cuda")
        _mention_tensor_cores(device)
        torch.cuda.set_device(device)

    def get_device_stats(self, device: str | torch.device) -> dict[str, Any]:
        """What torch's allocator counts: see `torch.cuda.memory_stats`."""
        return torch.cuda.memory_stats(device)

    def teardown(self) -> None:
        """Give cached memory back to the device."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's
            torch.cuda.empty_cache()


AcceleratorRegistry.register("cuda", CUDAAccelerator, "NVIDIA GPUs, and AMD's through ROCm")


def num_cuda_devices() -> int:
    """How many CUDA devices this process may use; asks the driver without initialising CUDA."""
    return torch.cuda.device_count()


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """The indices of devices on which memory can be had: not those in exclusive use by other processes.

    It initialises CUDA on the devices it tries, so that processes can't be forked afterwards.

    Args:
        num_devices: How many; -1 for all that are usable.

    Raises:
        ValueError: There are fewer devices.
        RuntimeError: There are, but fewer are usable.
    """
    if num_devices == 0:
        return []
    visible = num_cuda_devices()
    if visible == 0:
        raise ValueError(f"{_asked(num_devices)} but there are no visible CUDA devices on this machine.")
    if num_devices > visible:
        raise ValueError(f"{_asked(num_devices)} but this machine has {visible}.")
    usable: list[int] = []
    for index in range(visible):
        if len(usable) == num_devices:
            break
        if _is_usable(index):
            usable.append(index)
    if num_devices != -1 and len(usable) < num_devices:
        raise RuntimeError(f"{_asked(num_devices)} but of {visible} only these are free to use: {usable}.")
    return usable


def _asked(num_devices: int) -> str:
    return f"{'All' if num_devices == -1 else num_devices} CUDA devices were asked for,"


def _is_usable(index: int) -> bool:
    try:
        torch.zeros(1, device=torch.device("cuda", index))
    except RuntimeError:
        return False
    return True


def _mention_tensor_cores(device: torch.device) -> None:
    """Since Ampere, float32 products run several times faster if they may be rounded a little."""
    if torch.version.hip or torch.get_float32_matmul_precision() != "highest":
        return
    if torch.cuda.get_device_capability(device)[0] >= 8:
        rank_zero_info(
            "%s has Tensor Cores, which float32 products do not use. "
            "`torch.set_float32_matmul_precision('high')` lets them, for less precision and more speed; "
            "with 'highest' everything stays as it is.",
            torch.cuda.get_device_name(device),
        )
