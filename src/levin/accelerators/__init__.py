"""Kinds of devices: which of them there are, and how users name them.

``AcceleratorRegistry`` knows them by name: ``"cpu"``, ``"cuda"``, ``"mps"``, and what other packages
register.
"""

from __future__ import annotations

from levin.accelerators.base import Accelerator, AcceleratorRegistry
from levin.accelerators.cpu import CPUAccelerator
from levin.accelerators.cuda import CUDAAccelerator, find_usable_cuda_devices
from levin.accelerators.mps import MPSAccelerator
from levin.utils.lazy import load_on_use

__all__ = [
    "Accelerator",
    "AcceleratorRegistry",
    "CPUAccelerator",
    "CUDAAccelerator",
    "MPSAccelerator",
    "find_usable_cuda_devices",
]

load_on_use(__name__, {})
