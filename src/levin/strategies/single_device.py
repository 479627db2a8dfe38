"""One process on one device."""

from __future__ import annotations

from typing import Any

import torch

from levin.strategies.base import Strategy


class SingleDeviceStrategy(Strategy):
    """The whole model on one device.

    Args:
        device: The device.
        **kwargs: As for `Strategy`.
    """

    def __init__(self, device: str | int | torch.device = "cpu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._root_device = torch.device(device)

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        return self._root_device
