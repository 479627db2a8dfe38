"""Accelerator: a kind of device, which of them there are, and how users name them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from levin.utils.errors import MisconfigurationException
from levin.utils.imports import require
from levin.utils.registry import Registry

if TYPE_CHECKING:
    import torch

    from levin.trainer.trainer import Trainer


class Accelerator(ABC):
    """A kind of device: the static methods answer for the machine, the others for a run on a device.

    Subclass it and register the class, ``AcceleratorRegistry.register("npu", NPUAccelerator)``, to use
    ``accelerator="npu"``.
    """

    @staticmethod
    @abstractmethod
    def name() -> str:
        """The word for ``accelerator=``."""

    @staticmethod
    @abstractmethod
    def is_available() -> bool:
        """Whether this machine has such devices; found out without taking hold of one."""

    @staticmethod
    @abstractmethod
    def auto_device_count() -> int:
        """How many devices ``devices="auto"`` takes."""

    @staticmethod
    @abstractmethod
    def parse_devices(devices: Any) -> Any:
        """What ``devices=`` means here: a number of devices, or the list of their indices.

        Raises:
            TypeError: It is of a type that can't mean devices.
            MisconfigurationException: It names no devices, or such as are not there.
        """

    @staticmethod
    @abstractmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """The devices that `parse_devices` chose."""

    @abstractmethod
    def setup_device(self, device: torch.device) -> None:
        """Make a device this process's own, before anything is put on it.

        Raises:
            MisconfigurationException: It is of another kind.
        """

    def setup(self, trainer: Trainer) -> None:  # noqa: B027  # optional
        """Called once a run, after `setup_device`."""

    def get_device_stats(self, device: str | torch.device) -> dict[str, Any]:  # noqa: ARG002  # nothing is known about it
        """How busy a device is: name -> number."""
        return {}

    def teardown(self) -> None:  # noqa: B027  # optional
        """Give back what a run took."""


AcceleratorRegistry: Registry[Accelerator] = Registry("accelerator", entry_point_group="levin.accelerators")
"""The kinds of devices by name."""


def parse_indices(devices: Any, available: int, kind: str) -> list[int]:
    """The indices that ``devices=`` means for devices that are told apart by a number.

    Args:
        devices: A number of devices, as an int or a text; -1 or "auto" for all; a sequence of indices, or a
            text of indices separated by commas (``"3,"`` is the device of index 3).
        available: How many there are.
        kind: What they are called in messages.

    Raises:
        TypeError: It is none of these.
        ValueError: A text that is not understood.
        MisconfigurationException: No device, one that is not there, or one twice.
    """
    indices = _indices(devices, available)
    if not indices:
        hint = f"there is no {kind} device on this machine" if available == 0 else "at least one is needed"
        raise MisconfigurationException(f"devices={devices!r} asks for no {kind} device: {hint}.")
    missing = [index for index in indices if not 0 <= index < available]
    if missing:
        there = f"the indices of those there are: {list(range(available))}" if available else "there is none"
        raise MisconfigurationException(
            f"devices={devices!r} asks for {kind} devices {missing}, but {there}."
        )
    if len(set(indices)) != len(indices):
        raise MisconfigurationException(f"devices={devices!r} names a {kind} device twice.")
    return indices


def _indices(devices: Any, available: int) -> list[int]:
    if isinstance(devices, str):
        devices = _parse_text(devices)
    if isinstance(devices, Sequence) and all(type(index) is int for index in devices):
        return list(devices)
    if type(devices) is not int:
        raise TypeError(
            f"devices={devices!r} can't name devices. Give a number of them, a list of indices such as "
            '[0, 2], a text such as "2" or "0,2", or -1 or "auto" for all.'
        )
    if devices < -1:
        raise MisconfigurationException(f"devices={devices} is no number of devices. -1 means all of them.")
    return list(range(available if devices == -1 else devices))


def _parse_text(text: str) -> int | list[int]:
    if text.strip() == "auto":
        return -1
    try:
        if "," in text:
            return [int(part) for part in text.split(",") if part.strip()]
        return int(text)
    except ValueError:
        raise ValueError(
            f'devices={text!r} is not understood. Examples: "2" (two devices), "0,2" (those of these '
            'indices), "3," (the one of index 3), "-1" or "auto" (all).'
        ) from None


def check_device(device: torch.device, kind: str) -> None:
    """Raise a MisconfigurationException unless a device is of a kind."""
    if device.type != kind:
        raise MisconfigurationException(f"A {kind} device is needed, and this is {str(device)!r}.")


def host_stats(prefix: str) -> dict[str, float]:
    """How busy the machine is: percentages of its memory, its processors and its swap space, by psutil."""
    psutil = require("psutil")
    return {
        f"{prefix}_vm_percent": psutil.virtual_memory().percent,
        f"{prefix}_percent": psutil.cpu_percent(),
        f"{prefix}_swap_percent": psutil.swap_memory().percent,
    }
