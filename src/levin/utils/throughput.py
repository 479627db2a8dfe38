"""How fast a run goes: batches, samples and FLOPs a second, and the most that a device could do."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from levin.utils.imports import require
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

_TERA = 10**12

# The most that a device can do, in 10^12 operations a second, dense, by its data sheet; 0 where it can't, or
# where the sheet doesn't say. Products of 16-bit numbers are summed in 32 bits, as torch does it. A device is
# the first line whose words are all in its name.
# fmt: off
_TYPES = (             "float64", "float32", "tf32", "float16", "bfloat16", "float8", "int8")
_PEAKS = {
    "gb200":          (45,   90,   1250,  2500,   2500,   5000,   5000),
    "b200":           (40,   80,   1100,  2250,   2250,   4500,   4500),
    "gh200":          (33.5, 66.9, 494.7, 989.4,  989.4,  1978.9, 1978.9),
    "h200 nvl":       (30,   60,   417.5, 835.5,  835.5,  1670.5, 1670.5),
    "h200":           (33.5, 66.9, 494.7, 989.4,  989.4,  1978.9, 1978.9),
    "h100 nvl":       (30,   60,   417.5, 835.5,  835.5,  1670.5, 1670.5),
    "h100 pcie":      (25.6, 51.2, 378,   756,    756,    1513,   1513),
    "h100":           (33.5, 66.9, 494.7, 989.4,  989.4,  1978.9, 1978.9),
    "a100":           (9.7,  19.5, 156,   312,    312,    0,      624),
    "a30":            (5.2,  10.3, 82,    165,    165,    0,      330),
    "a40":            (0,    37.4, 74.8,  149.7,  149.7,  0,      299.3),
    "a10g":           (0,    35,   35,    70,     70,     0,      140),
    "a10":            (0,    31.2, 62.5,  125,    125,    0,      250),
    "l40s":           (0,    91.6, 183,   362,    362,    733,    733),
    "l40":            (0,    90.5, 90.5,  181,    181,    362,    362),
    "l4":             (0,    30.3, 60,    121,    121,    242.5,  242.5),
    "v100s":          (8.2,  16.4, 0,     130,    0,      0,      0),
    "v100 pcie":      (7,    14,   0,     112,    0,      0,      0),
    "v100":           (7.8,  15.7, 0,     125,    0,      0,      0),
    "p100 pcie":      (4.7,  9.3,  0,     18.7,   0,      0,      0),
    "p100":           (5.3,  10.6, 0,     21.2,   0,      0,      0),
    "t4":             (0,    8.1,  0,     65,     0,      0,      130),
    "rtx 6000 ada":   (0,    91.1, 182.1, 364.2,  364.2,  728.5,  728.5),
    "rtx a6000":      (0,    38.7, 77.4,  154.8,  154.8,  0,      309.7),
    "quadro rtx 8000": (0,   16.3, 0,     130.5,  0,      0,      261),
    "quadro rtx 6000": (0,   16.3, 0,     130.5,  0,      0,      261),
    "quadro rtx 5000": (0,   11.2, 0,     89.2,   0,      0,      178.4),
    "titan rtx":      (0,    16.3, 0,     130.5,  0,      0,      261),
    "rtx 5090":       (0,    104.8, 104.8, 209.5, 209.5,  419,    838),
    "rtx 5080":       (0,    56.3, 56.3,  112.6,  112.6,  225.1,  450.2),
    "rtx 4090":       (0,    82.6, 82.6,  165.2,  165.2,  330.3,  660.6),
    "rtx 4080 super": (0,    52.2, 52.2,  104.4,  104.4,  208.9,  417.7),
    "rtx 4080":       (0,    48.7, 48.7,  97.5,   97.5,   194.9,  389.9),
    "rtx 3090 ti":    (0,    40,   40,    80,     80,     0,      320),
    "rtx 3090":       (0,    35.6, 35.6,  71,     71,     0,      284),
    "rtx 3080 ti":    (0,    34.1, 34.1,  68.2,   68.2,   0,      272.8),
    "rtx 3080":       (0,    29.8, 29.8,  59.5,   59.5,   0,      238),
    "rtx 3070":       (0,    20.3, 20.3,  40.6,   40.6,   0,      162.6),
    "rtx 2080 ti":    (0,    13.4, 0,     53.8,   0,      0,      215.2),
    "rtx 2080 super": (0,    11.2, 0,     44.6,   0,      0,      178.4),
    "rtx 2080":       (0,    10,   0,     40.3,   0,      0,      161.1),
    "mi325x":         (81.7, 163.4, 653.7, 1307.4, 1307.4, 2614.9, 2614.9),
    "mi300x":         (81.7, 163.4, 653.7, 1307.4, 1307.4, 2614.9, 2614.9),
}
# fmt: on

# Words that make another device of one, or a part of it: a line that lacks such a word of the name is wrong.
_DISTINCTIONS = {"ti", "super", "d", "ada", "laptop", "mobile", "max", "mig"}


@dataclass(frozen=True)
class _Point:
    """How far a run was at a time. What is counted is counted from the start, except for ``flops``."""

    time: float
    batches: int
    samples: int
    lengths: int | None
    flops: int | None


class Throughput:
    """Rates over the latest part of a run.

    Rates are there once the window is full: between its first and its last point lie ``window_size - 1``
    updates.

    Args:
        available_flops: The floating-point operations a second that one device could do at best: see
            `get_available_flops`. Without it there is no MFU.
        world_size: How many devices there are. They are taken to go equally fast.
        window_size: How many updates the rates are taken over, at least 2.
        separator: What stands between ``device`` and the name of a rate of one device.

    Raises:
        ValueError: One of them makes no sense.

    Examples:
        >>> throughput = Throughput(window_size=2)
        >>> throughput.update(time=1.0, batches=1, samples=32)
        >>> throughput.update(time=3.0, batches=2, samples=64)
        >>> throughput.compute()["device/samples_per_sec"]
        16.0
    """

    def __init__(
        self,
        available_flops: float | None = None,
        world_size: int = 1,
        window_size: int = 100,
        separator: str = "/",
    ) -> None:
        if available_flops is not None and not available_flops > 0:
            raise ValueError(f"available_flops={available_flops} has to be above 0, or None if not known.")
        if world_size < 1:
            raise ValueError(f"world_size={world_size} has to be 1 or more.")
        if window_size < 2:
            raise ValueError(f"window_size={window_size} has to be 2 or more: a rate is between two points.")
        self.available_flops: float | None = available_flops
        self.world_size: int = world_size
        self.separator: str = separator
        self._points: deque[_Point] = deque(maxlen=window_size)

    def update(
        self,
        *,
        time: float,
        batches: int,
        samples: int,
        lengths: int | None = None,
        flops: int | None = None,
    ) -> None:
        """Note how far this device is. All but ``flops`` count from the start of the run, and must grow.

        Args:
            time: Seconds.
            batches: Batches done.
            samples: Samples in them.
            lengths: Items (tokens, frames) in the samples.
            flops: Floating-point operations since the update before: see `measure_flops`.

        Raises:
            ValueError: Something has not grown, or there are fewer samples than batches, or fewer items than
                samples. Nothing is noted then.
        """
        if samples < batches:
            raise ValueError(f"samples={samples} is less than batches={batches}: no batch is empty.")
        if lengths is not None and lengths < samples:
            raise ValueError(f"lengths={lengths} is less than samples={samples}: no sample is empty.")
        point = _Point(time, batches, samples, lengths, flops)
        if self._points:
            last = self._points[-1]
            for name in ("time", "batches", "samples", "lengths"):
                before, now = getattr(last, name), getattr(point, name)
                if before is not None and now is not None and now <= before:
                    raise ValueError(
                        f"{name}={now} has to be more than in the last update, where it was {before}. "
                        "It counts from the start of the run; call `reset` at the start of another."
                    )
        self._points.append(point)

    def compute(self) -> dict[str, float]:
        """What the last update said, and the rates once the window is full.

        Returns:
            ``time``, ``batches``, ``samples``, ``lengths``; ``device/<rate>`` for one device and, if there
            are several, ``<rate>`` for all of them, where the rates are ``batches_per_sec``,
            ``samples_per_sec``, ``items_per_sec`` and ``flops_per_sec``; ``device/mfu``: the share of
            ``available_flops`` that is made use of. What nothing is known of is left out.
        """
        if not self._points:
            return {}
        last = self._points[-1]
        metrics: dict[str, float] = {"time": last.time, "batches": last.batches, "samples": last.samples}
        if last.lengths is not None:
            metrics["lengths"] = last.lengths
        if len(self._points) < (self._points.maxlen or 0):
            return metrics
        rates = self._rates()
        for name, rate in rates.items():
            metrics[f"device{self.separator}{name}"] = rate
            if self.world_size > 1:
                metrics[name] = rate * self.world_size
        if self.available_flops is not None and "flops_per_sec" in rates:
            metrics[f"device{self.separator}mfu"] = rates["flops_per_sec"] / self.available_flops
        return metrics

    def reset(self) -> None:
        """Forget all updates."""
        self._points.clear()

    def _rates(self) -> dict[str, float]:
        first, *others = self._points
        last = others[-1]
        done: dict[str, float] = {
            "batches_per_sec": last.batches - first.batches,
            "samples_per_sec": last.samples - first.samples,
        }
        if first.lengths is not None and last.lengths is not None:
            done["items_per_sec"] = last.lengths - first.lengths
        flops = [point.flops for point in others if point.flops is not None]
        if len(flops) == len(others):
            done["flops_per_sec"] = sum(flops)
        elapsed = last.time - first.time
        return {name: amount / elapsed for name, amount in done.items()}


def measure_flops(
    model: nn.Module, forward_fn: Callable[[], Tensor], loss_fn: Callable[[Tensor], Tensor] | None = None
) -> int:
    """Count the floating-point operations of a forward pass and, with ``loss_fn``, of the backward pass.

    A multiplication and an addition count as two. Operations that torch has no formula for count as none.
    Under ``torch.device("meta")`` a model of any size can be counted without computing anything.

    Args:
        model: The model; the gradients of its parameters are afterwards as they were.
        forward_fn: Calls the model on a batch.
        loss_fn: Makes a loss of what ``forward_fn`` returned.

    Returns:
        The number of operations.

    Examples:
        >>> with torch.device("meta"):
        ...     layer, batch = torch.nn.Linear(32, 8), torch.randn(2, 32)
        >>> measure_flops(layer, lambda: layer(batch))
        1024
    """
    counter = require("torch.utils.flop_counter").FlopCounterMode(display=False)
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _ in gradients:
            parameter.grad = None  # it would be added to in place
        with counter:
            result = forward_fn()
            if loss_fn is not None:
                loss_fn(result).backward()  # type: ignore[no-untyped-call]  # torch's
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return int(counter.get_total_flops())


def get_available_flops(device: torch.device, dtype: torch.dtype | str) -> int | None:
    """The operations a second that ``device`` could do at best, by its data sheet, without sparsity.

    Args:
        device: A CUDA or ROCm device.
        dtype: What the matrix products are computed in, such as ``torch.bfloat16``, ``"float16"`` or
            ``"tf32"``. For float32 TF32 counts if ``torch.set_float32_matmul_precision`` allows it and the
            device has it.

    Returns:
        The number; None, with a warning, where the device or the type is not in the table, and None for CPUs
        and other kinds of devices.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    peaks = _peaks_of(name)
    if peaks is None:
        rank_zero_warn(
            f"How many operations a second {name!r} can do is not known here. Take the number from its data "
            "sheet: Throughput(available_flops=...)."
        )
        return None
    wanted = str(dtype).removeprefix("torch.")
    kind = "float8" if wanted.startswith("float8") else wanted
    if kind == "float32" and peaks.get("tf32") and torch.get_float32_matmul_precision() != "highest":
        kind = "tf32"
    peak = peaks.get(kind)
    if not peak:
        known = ", ".join(name for name, value in peaks.items() if value)
        rank_zero_warn(f"How fast {name!r} is with {wanted} is not known here. Known: {known}.")
        return None
    return round(peak * _TERA)


def _peaks_of(name: str) -> dict[str, float] | None:
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    for line, peaks in _PEAKS.items():
        wanted = set(line.split())
        if wanted <= words and not (words & _DISTINCTIONS) - wanted:
            return dict(zip(_TYPES, peaks, strict=True))
    return None
