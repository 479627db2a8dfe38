"""CPUAccelerator: processes on the processor."""

from __future__ import annotations

from typing import Any

import torch

from levin.accelerators.base import Accelerator, AcceleratorRegistry, check_device, host_stats
from levin.utils.errors import MisconfigurationException


class CPUAccelerator(Accelerator):
    """The processor. A "device" is a process on it."""

    @staticmethod
    def name() -> str:
        """``"cpu"``."""
        return "cpu"

    @staticmethod
    def is_available() -> bool:
        """It always is."""
        return True

    @staticmethod
    def auto_device_count() -> int:
        """One process."""
        return 1

    @staticmethod
    def parse_devices(devices: int | str) -> int:
        """A number of processes, as an int or a text; "auto" is one.

        Raises:
            TypeError: It is something else, such as a list of indices: processes can't be told apart.
            MisconfigurationException: It is none at all.
        """
        if devices in (0, "0", [], ()) and not isinstance(devices, bool):
            raise MisconfigurationException(
                f"devices={devices!r} asks for no process. At least one is needed."
            )
        if devices == "auto":
            return CPUAccelerator.auto_device_count()
        if isinstance(devices, str) and devices.strip().isdecimal():
            return int(devices)
        if type(devices) is int and devices > 0:
            return devices
        raise TypeError(
            f"devices={devices!r} is not possible with accelerator='cpu'. "
            "Give a number of processes, such as 2."
        )

    @staticmethod
    def get_parallel_devices(devices: int | str) -> list[torch.device]:
        """The same device for each process."""
        return [torch.device("cpu")] * CPUAccelerator.parse_devices(devices)

    def setup_device(self, device: torch.device) -> None:
        """Nothing is to be done.

        Raises:
            MisconfigurationException: It is no CPU.
        """
        check_device(device, "cpu")

    def get_device_stats(self, device: str | torch.device) -> dict[str, Any]:  # noqa: ARG002  # there is one
        """``cpu_vm_percent``, ``cpu_percent`` and ``cpu_swap_percent``; needs psutil."""
        return host_stats("cpu")


AcceleratorRegistry.register("cpu", CPUAccelerator, "The processor")
