"""A module in other forms: compiled or not, as ONNX, TorchScript or a TensorRT engine."""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Mapping
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import nn

from levin.core.hooks import ModelHooks
from levin.utils.errors import MisconfigurationException
from levin.utils.imports import require
from levin.utils.modes import in_evaluation
from levin.utils.paths import PathLike, atomic_writer, local_path, makedirs, parent
from levin.utils.rank import rank_zero_deprecation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import GraphModule
    from torch.onnx import ONNXProgram

    from levin.core.module import LightningModule

_IRS = ("default", "dynamo", "ts")
_FORMATS = ("exported_program", "torchscript")


# ---------------------------------------------------------------------- torch.compile


def from_compiled(model: nn.Module) -> LightningModule:
    """The module in what ``torch.compile`` returned; the Trainer runs its steps compiled, as it would those.

    Its forward pass is compiled as well. `to_uncompiled` undoes it.

    Args:
        model: What ``torch.compile(module)`` returned.

    Raises:
        ValueError: It is something else, or holds no `LightningModule`.
    """
    module, compiler = getattr(model, "_orig_mod", None), getattr(model, "dynamo_ctx", None)
    if module is None or compiler is None:
        raise ValueError(
            f"`from_compiled` takes what `torch.compile(module)` returned, not a {type(model).__name__}."
        )
    if not (isinstance(module, ModelHooks) and isinstance(module, nn.Module)):
        raise ValueError(
            f"A compiled {type(module).__name__} was given: `from_compiled` takes a compiled LightningModule."
        )
    # past nn.Module's own __setattr__: the first is where the Trainer looks for the compiler
    vars(module).update(dynamo_ctx=compiler, forward=compiler(module.forward))
    return module  # type: ignore[return-value]


def to_uncompiled(model: nn.Module) -> LightningModule:
    """The module as it was before ``torch.compile`` or `from_compiled`.

    Args:
        model: What one of them returned.

    Raises:
        ValueError: It is no compiled module.
        TypeError: It is one, but holds no `LightningModule`.
    """
    module = getattr(model, "_orig_mod", None)
    if module is not None:
        if not isinstance(module, ModelHooks):
            raise TypeError(f"A compiled {type(module).__name__} was given: it holds no LightningModule.")
        return module  # type: ignore[return-value]
    if "dynamo_ctx" not in vars(model):
        raise ValueError(
            "`to_uncompiled` takes what `torch.compile(module)` or `from_compiled` returned. This "
            f"{type(model).__name__} is not compiled."
        )
    del vars(model)["dynamo_ctx"], vars(model)["forward"]
    return model  # type: ignore[return-value]


# ---------------------------------------------------------------------- ONNX


def to_onnx(
    module: LightningModule,
    file_path: PathLike | IO[bytes] | None,
    input_sample: Any,
    options: dict[str, Any],
) -> ONNXProgram | None:
    """Export a module to ONNX: see `LightningModule.to_onnx`."""
    options = {"dynamo": True, "verbose": False, **options}
    if file_path is None and not options["dynamo"]:
        raise ValueError("With dynamo=False the model can only be written to a file: pass `file_path`.")
    args, kwargs = _arguments(module, input_sample, "to_onnx")
    require("onnx")
    if options["dynamo"]:
        require("onnxscript")
    file = _ready(file_path)
    with in_evaluation(module):
        return torch.onnx.export(module, args, file, kwargs=kwargs, **options)


# ---------------------------------------------------------------------- TorchScript


def to_torchscript(
    module: LightningModule,
    file_path: PathLike | None,
    method: str | None,
    example_inputs: Any,
    options: dict[str, Any],
) -> torch.jit.ScriptModule:
    """Export a module to TorchScript: see `LightningModule.to_torchscript`."""
    rank_zero_deprecation(
        "`to_torchscript` will go away, as TorchScript does in torch. Use "
        "`torch.export.export(model.eval(), args)`, or `model.to_onnx(...)`."
    )
    if method not in ("script", "trace"):
        raise ValueError(f"method={method!r} is not known. Use 'script' or 'trace'.")
    with in_evaluation(module), _within_reach_of_jit(module), warnings.catch_warnings():
        # torch says the same once more, several times
        warnings.filterwarnings("ignore", message=r".*`torch\.jit\.", category=DeprecationWarning)
        if method == "script":
            script: torch.jit.ScriptModule = torch.jit.script(module, **options)
        else:
            args, kwargs = _arguments(module, example_inputs, "to_torchscript", "example_inputs")
            script = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch's
                module, args or None, example_kwarg_inputs=kwargs or None, **options
            )
        if file_path is not None:
            with atomic_writer(file_path) as file:
                torch.jit.save(script, file)
    return script


@contextlib.contextmanager
def _within_reach_of_jit(module: LightningModule) -> Iterator[None]:
    """Torch asks for the value of each property, and that of `trainer` is an error if there is none."""
    inner = [part for part in module.modules() if isinstance(part, ModelHooks)]
    before: list[tuple[Any, Any]] = [(part, vars(part)["_trainer"]) for part in inner]
    try:
        for part, trainer in before:
            if trainer is None:
                part.trainer = SimpleNamespace()
        yield
    finally:
        for part, trainer in before:  # from the outside to the inside, as each sets those below it
            part.trainer = trainer


# ---------------------------------------------------------------------- TensorRT


def to_tensorrt(
    module: LightningModule,
    file_path: PathLike | IO[bytes] | None,
    input_sample: Any,
    ir: str,
    output_format: str,
    retrace: bool,
    default_device: str | torch.device,
    options: dict[str, Any],
) -> torch.jit.ScriptModule | GraphModule:
    """Export a module to TensorRT: see `LightningModule.to_tensorrt`."""
    if ir not in _IRS:
        raise ValueError(f"ir={ir!r} is not known. Use one of {', '.join(map(repr, _IRS))}.")
    if output_format not in _FORMATS:
        known = ", ".join(map(repr, _FORMATS))
        raise ValueError(f"output_format={output_format!r} is not known. Use one of {known}.")
    if file_path is not None and ir == "ts" and output_format != "torchscript":
        raise ValueError(
            f"What ir='ts' makes can only be saved with output_format='torchscript', not {output_format!r}."
        )
    tensorrt = require("torch_tensorrt")
    module = _on_cuda(module, torch.device(default_device))
    args, kwargs = _arguments(module, input_sample, "to_tensorrt")
    inputs: dict[str, Any] = {"inputs": args, "kwarg_inputs": kwargs} if kwargs else {"inputs": args}
    with in_evaluation(module):
        engine: torch.jit.ScriptModule | GraphModule = tensorrt.compile(
            module=module, ir=ir, **inputs, **options
        )
        file = _ready(file_path)
        if file is not None and ir == "ts":
            torch.jit.save(engine, file)
        elif file is not None:
            tensorrt.save(engine, file, output_format=output_format, retrace=retrace, **inputs)
    return engine


def _on_cuda(module: LightningModule, default: torch.device) -> LightningModule:
    """The module, or a copy there: the engine may keep the parameters, so these can't be moved back."""
    if module.device.type == "cuda":
        return module
    if default.type != "cuda" or not torch.cuda.is_available():
        here = "" if torch.cuda.is_available() else ", and this machine has none"
        raise MisconfigurationException(
            f"TensorRT needs a CUDA device{here}. The module is on {module.device} and default_device is "
            f"'{default}'. Move the module to a CUDA device, or pass default_device='cuda'."
        )
    return copy.deepcopy(module).to(default)


# ---------------------------------------------------------------------- for all of them


def _arguments(
    module: LightningModule, given: Any, asked_by: str, called: str = "input_sample"
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that an example input stands for, on the module's device as a batch would be."""
    example = module.example_input_array if given is None else given
    if example is None:
        raise ValueError(
            f"`{asked_by}` sends an example through the model: pass `{called}`, or set "
            f"`{type(module).__name__}.example_input_array`."
        )
    example = module.on_before_batch_transfer(example, 0)
    example = module.transfer_batch_to_device(example, module.device, 0)
    example = module.on_after_batch_transfer(example, 0)
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, (tuple, list)) else (example,)), {}


def _ready(file: PathLike | IO[bytes] | None) -> Any:
    """The file as torch takes it, in a folder that is there; it writes to this machine only."""
    if isinstance(file, (str, os.PathLike)):
        makedirs(parent(file))
        return local_path(file)
    return file
