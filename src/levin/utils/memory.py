"""Memory that ran out, and memory that can be given back."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import Tensor

from levin.utils.apply import apply_to_collection

# What is in the messages of torch and the libraries below it.
_DEVICE_IS_FULL = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "HIP out of memory",
    "MPS backend out of memory",
    "XPU out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_CPU_IS_FULL = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
_CUDNN_IS_STUCK = "CUDNN_STATUS_NOT_SUPPORTED"


def is_oom_error(exception: BaseException) -> bool:
    """Whether ``exception`` says that memory ran out, on a device or on the host."""
    return is_cuda_out_of_memory(exception) or is_cudnn_snafu(exception) or is_out_of_cpu_memory(exception)


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Whether ``exception`` says that the memory of a CUDA, or another, device ran out."""
    return isinstance(exception, torch.cuda.OutOfMemoryError) or _says(exception, *_DEVICE_IS_FULL)


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Whether ``exception`` is the one that cuDNN raises for sizes it can't work with, big batches mostly."""
    return _says(exception, _CUDNN_IS_STUCK)


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Whether ``exception`` says that the memory of the host ran out."""
    return isinstance(exception, MemoryError) or _says(exception, *_CPU_IS_FULL)


def _says(exception: BaseException, *texts: str) -> bool:
    return isinstance(exception, RuntimeError) and any(text in str(exception) for text in texts)


def garbage_collection_cuda() -> None:
    """Free what nothing refers to, and give the memory that CUDA keeps in reserve back to the device."""
    gc.collect()
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        if not is_oom_error(error):  # right after memory ran out, this can run out of it as well
            raise


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """Detach the tensors of a nested structure from their graphs.

    Args:
        in_dict: A tensor, or a nested structure; it stays as it is.
        to_cpu: Copy them to the host, too.

    Returns:
        The same structure of detached tensors.
    """

    def detached(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu() if to_cpu else tensor.detach()

    return apply_to_collection(in_dict, Tensor, detached)
