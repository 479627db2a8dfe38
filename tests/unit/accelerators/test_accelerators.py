from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from levin.accelerators import (
    Accelerator,
    AcceleratorRegistry,
    CPUAccelerator,
    CUDAAccelerator,
    MPSAccelerator,
    find_usable_cuda_devices,
)
from levin.accelerators.base import parse_indices
from levin.utils.errors import MisconfigurationException


@pytest.fixture
def four_cuda_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize(
    ("devices", "indices"),
    [
        (1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (-1, [0, 1, 2, 3]),
        ("1", [0]), ("3", [0, 1, 2]), ("3,", [3]), ("0,1", [0, 1]), (" 2, 0 ", [2, 0]),
        ("-1", [0, 1, 2, 3]), ("auto", [0, 1, 2, 3]),
        ([0], [0]), ([2, 1], [2, 1]), ((1, 2), [1, 2]), (range(2), [0, 1]),
    ],
)  # fmt: skip
def test_indices_of_devices(devices, indices):
    assert parse_indices(devices, 4, "CUDA") == indices


@pytest.mark.parametrize(
    "devices", [0, "0", [], ",", 5, "5", [4], [-1], [0, -1], "-1,", -2, "-2", [0, 0], "2,2"]
)
def test_devices_that_are_none_missing_or_double_are_refused(devices):
    with pytest.raises(MisconfigurationException):
        parse_indices(devices, 4, "CUDA")


def test_a_missing_device_is_named_beside_those_there_are():
    with pytest.raises(MisconfigurationException, match=r"CUDA devices \[4\].*\[0, 1, 2, 3\]"):
        parse_indices([3, 4], 4, "CUDA")


@pytest.mark.parametrize("devices", [None, True, 1.0, {0}, ["0"], [0.0], [True]])
def test_what_cannot_name_devices_is_a_type_error(devices):
    with pytest.raises(TypeError, match="can't name devices"):
        parse_indices(devices, 4, "CUDA")


@pytest.mark.parametrize("devices", ["", "a", "1,a"])
def test_a_text_that_is_not_understood_is_told_with_examples(devices):
    with pytest.raises(ValueError, match="Examples"):
        parse_indices(devices, 4, "CUDA")


def test_devices_on_a_machine_without_any():
    with pytest.raises(MisconfigurationException, match="there is no CUDA device"):
        parse_indices(-1, 0, "CUDA")
    with pytest.raises(MisconfigurationException, match="there is none"):
        parse_indices(1, 0, "CUDA")


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (2, 2), ("2", 2), (" 3 ", 3), ("auto", 1)])
def test_cpu_devices_are_a_number_of_processes(devices, count):
    assert CPUAccelerator.parse_devices(devices) == count
    assert CPUAccelerator.get_parallel_devices(devices) == [torch.device("cpu")] * count


@pytest.mark.parametrize("devices", [-1, "-1", [0], [1, 2], "2,", "a", 1.5, True, None])
def test_cpu_devices_can_be_nothing_else(devices):
    with pytest.raises(TypeError, match="accelerator='cpu'"):
        CPUAccelerator.parse_devices(devices)


@pytest.mark.parametrize("devices", [0, "0", []])
def test_no_cpu_process_at_all_is_refused(devices):
    with pytest.raises(MisconfigurationException, match="At least one"):
        CPUAccelerator.parse_devices(devices)


def test_cuda_devices(four_cuda_devices):
    assert CUDAAccelerator.is_available()
    assert CUDAAccelerator.auto_device_count() == 4
    assert CUDAAccelerator.parse_devices("0,2") == [0, 2]
    assert CUDAAccelerator.get_parallel_devices([0, 2]) == [torch.device("cuda:0"), torch.device("cuda:2")]


def test_mps_has_one_device(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert MPSAccelerator.parse_devices("auto") == [0]
    assert MPSAccelerator.get_parallel_devices(1) == [torch.device("mps:0")]
    with pytest.raises(MisconfigurationException, match="MPS"):
        MPSAccelerator.parse_devices(2)


def test_the_environment_can_hide_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("DISABLE_MPS", "1")
    assert not MPSAccelerator.is_available()


@pytest.mark.parametrize(
    ("accelerator", "other"), [(CPUAccelerator, "cuda:0"), (CUDAAccelerator, "cpu"), (MPSAccelerator, "cpu")]
)
def test_a_device_of_another_kind_is_refused(accelerator, other):
    with pytest.raises(MisconfigurationException, match=f"'{other}'"):
        accelerator().setup_device(torch.device(other))


def test_the_registry_makes_accelerators_by_name():
    assert {"cpu", "cuda", "mps"} <= set(AcceleratorRegistry.available())
    for name in ("cpu", "cuda", "mps"):
        assert AcceleratorRegistry.make(name).name() == name


def test_an_accelerator_of_another_package_can_be_registered():
    class NPUAccelerator(CPUAccelerator):
        @staticmethod
        def name():
            return "npu"

    AcceleratorRegistry.register("npu", NPUAccelerator)
    try:
        made = AcceleratorRegistry.make("npu")
        assert isinstance(made, Accelerator)
        assert made.name() == "npu"
    finally:
        AcceleratorRegistry.remove("npu")


def test_usable_devices_on_a_machine_without_any(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_usable_cuda_devices(0) == []
    with pytest.raises(ValueError, match="no visible CUDA devices"):
        find_usable_cuda_devices()


def test_more_usable_devices_than_there_are(four_cuda_devices):
    with pytest.raises(ValueError, match="5 CUDA devices were asked for, but this machine has 4"):
        find_usable_cuda_devices(5)


@pytest.fixture
def only_device_two_is_free(four_cuda_devices, monkeypatch):
    real = torch.zeros

    def zeros(*size, device):
        if device.index != 2:
            raise RuntimeError("busy")
        return real(*size)

    monkeypatch.setattr(torch, "zeros", zeros)


def test_busy_devices_are_passed_over(only_device_two_is_free):
    assert find_usable_cuda_devices() == [2]
    assert find_usable_cuda_devices(1) == [2]
    with pytest.raises(RuntimeError, match=r"only these are free to use: \[2\]"):
        find_usable_cuda_devices(2)


def test_counting_cuda_devices_does_not_initialise_cuda():
    program = (
        "import torch; from levin.accelerators import CUDAAccelerator; CUDAAccelerator.is_available(); "
        "assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_cpu_statistics_need_psutil():
    psutil = pytest.importorskip("psutil", reason="psutil is optional")
    stats = CPUAccelerator().get_device_stats("cpu")
    assert set(stats) == {"cpu_vm_percent", "cpu_percent", "cpu_swap_percent"}
    assert 0 < stats["cpu_vm_percent"] <= 100
    assert psutil is not None


def test_without_psutil_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ModuleNotFoundError, match="pip install psutil"):
        CPUAccelerator().get_device_stats("cpu")


@pytest.mark.gpu
def test_a_cuda_device_is_made_the_current_one_and_counted():
    accelerator = CUDAAccelerator()
    accelerator.setup_device(torch.device("cuda", 0))
    kept = torch.zeros(1024, device="cuda")
    assert accelerator.get_device_stats("cuda:0")["allocated_bytes.all.current"] >= kept.nbytes
    assert find_usable_cuda_devices(1) == [0]
    accelerator.teardown()
