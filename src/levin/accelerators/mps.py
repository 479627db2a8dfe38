"""MPSAccelerator: the GPU of Apple's processors."""

from __future__ import annotations

import os
from typing import Any

import torch

from levin.accelerators.base import Accelerator, AcceleratorRegistry, check_device, host_stats, parse_indices


class MPSAccelerator(Accelerator):
    """The GPU of Apple's processors: there is one, of index 0. ``DISABLE_MPS=1`` hides it."""

    @staticmethod
    def name() -> str:
        """``"mps"``."""
        return "mps"

    @staticmethod
    def is_available() -> bool:
        """Whether there is one, and it is not hidden."""
        return os.environ.get("DISABLE_MPS", "0") != "1" and torch.backends.mps.is_available()

    @staticmethod
    def auto_device_count() -> int:
        """One."""
        return 1

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """``[0]``, if this or one device is asked for: see `levin.accelerators.base.parse_indices`."""
        return parse_indices(devices, int(MPSAccelerator.is_available()), "MPS")

    @staticmethod
    def get_parallel_devices(devices: int | str | list[int]) -> list[torch.device]:
        """The one device."""
        return [torch.device("mps", index) for index in MPSAccelerator.parse_devices(devices)]

    def setup_device(self, device: torch.device) -> None:
        """Nothing is to be done.

        Raises:
            MisconfigurationException: It is no MPS device.
        """
        check_device(device, "mps")

    def get_device_stats(self, device: str | torch.device) -> dict[str, Any]:  # noqa: ARG002  # there is one
        """``M1_vm_percent``, ``M1_percent`` and ``M1_swap_percent``; needs psutil."""
        return host_stats("M1")

    def teardown(self) -> None:
        """Give cached memory back."""
        if self.is_available():
            torch.mps.empty_cache()


AcceleratorRegistry.register("mps", MPSAccelerator, "The GPU of Apple's processors")
