from __future__ import annotations

import gc
import weakref

import pytest
import torch

from levin.utils.memory import (
    garbage_collection_cuda,
    is_cuda_out_of_memory,
    is_cudnn_snafu,
    is_oom_error,
    is_out_of_cpu_memory,
    recursive_detach,
)

DEVICE, CUDNN, HOST = is_cuda_out_of_memory, is_cudnn_snafu, is_out_of_cpu_memory


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), DEVICE),
        (RuntimeError("CUDA error: out of memory"), DEVICE),
        (torch.cuda.OutOfMemoryError("anything"), DEVICE),
        (RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"), DEVICE),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), DEVICE),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), DEVICE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."), CUDNN),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), HOST),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), HOST),
        (MemoryError(), HOST),
    ],
)
def test_memory_that_ran_out_is_recognised(error, kind):
    assert is_oom_error(error)
    assert [said(error) for said in (DEVICE, CUDNN, HOST)] == [kind is said for said in (DEVICE, CUDNN, HOST)]


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("CUDA out of memory."), KeyError(1)]
)
def test_another_error_is_not_taken_for_it(error):
    assert not is_oom_error(error)


def test_memory_of_the_host_that_really_ran_out_is_recognised():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_cpu_memory(caught.value)


class Ring:
    def __init__(self):
        self.me = self


def test_cycles_are_collected_and_cuda_is_left_alone():
    gc.disable()
    try:
        gone = weakref.ref(Ring())
        assert gone() is not None
        before = torch.cuda.is_initialized()
        garbage_collection_cuda()
    finally:
        gc.enable()
    assert gone() is None
    assert torch.cuda.is_initialized() == before


def test_tensors_are_detached_at_any_depth_and_the_given_ones_stay():
    x = torch.ones(1, requires_grad=True)
    given = {"a": x * 2, "b": [x * 3, {"c": x * 4}], "d": "text"}
    detached = recursive_detach(given, to_cpu=True)
    assert detached == {"a": 2.0, "b": [3.0, {"c": 4.0}], "d": "text"}
    assert not any(t.requires_grad for t in (detached["a"], detached["b"][0], detached["b"][1]["c"]))
    assert given["a"].requires_grad


def test_detaching_does_not_copy():
    x = torch.ones(1, requires_grad=True)
    assert recursive_detach([x])[0].data_ptr() == x.data_ptr()
