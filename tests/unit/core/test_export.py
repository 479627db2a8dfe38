from __future__ import annotations

import io
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import levin as L
from levin.core.export import from_compiled, to_uncompiled
from levin.testing import BoringModel
from levin.utils.errors import LevinDeprecationWarning, MisconfigurationException
from levin.utils.imports import available, require

# other packages' own warnings: torch's exporters use what torch deprecates
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:copyreg")

needs_onnx = pytest.mark.skipif(
    not (available("onnx") and available("onnxscript")), reason="needs the extra `onnx`"
)


class Dropping(L.LightningModule):
    """A layer, and a dropout that shows in which mode it was exported; the layer alone is in eval mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.5)
        self.layer.eval()
        self.seen = []

    def forward(self, x, y=None):
        return self.dropout(self.layer(x if y is None else x + y))

    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.seen.append("before")
        return batch

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        self.seen.append(("transfer", device.type))
        return batch

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.seen.append("after")
        return batch


X = torch.arange(6.0).reshape(2, 3)
Y = X * 10


def in_evaluation(module: nn.Module, *args: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module.layer(sum(args))


def computed_by(program: Any, *args: torch.Tensor) -> torch.Tensor:
    """What an ONNX model makes of its inputs, by the reference implementation."""
    model = program.model_proto
    names = [given.name for given in model.graph.input]
    feeds = dict(zip(names, (x.numpy() for x in args), strict=True))
    return torch.from_numpy(require("onnx.reference").ReferenceEvaluator(model).run(None, feeds)[0])


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


# ---------------------------------------------------------------------- ONNX


@needs_onnx
def test_onnx_is_the_forward_pass_in_eval_mode_and_the_modes_come_back():
    module = Dropping()
    before = modes(module)
    program = module.to_onnx(input_sample=X)
    assert torch.allclose(computed_by(program, X), in_evaluation(module, X))
    assert modes(module) == before == [True, False, True]
    assert module.seen == ["before", ("transfer", "cpu"), "after"]


@needs_onnx
@pytest.mark.parametrize("example", [(X, Y), [X, Y], {"x": X, "y": Y}], ids=["tuple", "list", "dict"])
def test_an_example_may_be_several_arguments(example):
    module = Dropping()
    program = module.to_onnx(input_sample=example)
    assert torch.allclose(computed_by(program, X, Y), in_evaluation(module, X, Y))


@needs_onnx
def test_the_modules_own_example_is_taken_and_the_folder_made(tmp_path):
    module = Dropping()
    module.example_input_array = X
    path = tmp_path / "new" / "model.onnx"
    module.to_onnx(path)
    assert path.stat().st_size > 0


@needs_onnx
def test_onnx_can_be_written_to_an_open_file():
    file = io.BytesIO()
    Dropping().to_onnx(file, X)
    assert file.getvalue()


@needs_onnx
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_older_exporter_works_too(tmp_path):
    Dropping().to_onnx(tmp_path / "model.onnx", X, dynamo=False)
    assert (tmp_path / "model.onnx").stat().st_size > 0


@needs_onnx
def test_a_trained_module_can_be_exported(tmp_path):
    module = BoringModel()
    fit_one_step(module, tmp_path)
    assert module.to_onnx(input_sample=torch.ones(1, 32)) is not None


def test_the_older_exporter_needs_a_file():
    with pytest.raises(ValueError, match="pass `file_path`"):
        Dropping().to_onnx(input_sample=X, dynamo=False)


def test_onnx_goes_to_this_machine_only(monkeypatch):
    for package in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    with pytest.raises(ValueError, match="not a path on this machine"):
        Dropping().to_onnx("memory://model.onnx", X)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_of_onnx_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, "onnx", ModuleType("onnx"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"`{package}` is needed.*pip install {package}$"):
        Dropping().to_onnx(input_sample=X)


@pytest.mark.parametrize(
    ("export", "argument"),
    [
        (lambda module: module.to_onnx(), "input_sample"),
        (lambda module: module.to_torchscript(method="trace"), "example_inputs"),
    ],
    ids=["onnx", "torchscript"],
)
@pytest.mark.filterwarnings("ignore::levin.utils.errors.LevinDeprecationWarning")
def test_without_an_example_it_is_said_how_to_give_one(export, argument):
    with pytest.raises(ValueError, match=rf"pass `{argument}`, or set `Dropping.example_input_array`"):
        export(Dropping())


# ---------------------------------------------------------------------- TorchScript


@pytest.mark.parametrize("method", ["script", "trace"])
def test_torchscript_is_the_forward_pass_in_eval_mode(method):
    module = BoringModel()
    x = torch.ones(2, 32)
    with pytest.warns(LevinDeprecationWarning, match=r"torch\.export\.export") as told:
        script = module.to_torchscript(method=method, example_inputs=x)
    assert len(told) == 1
    assert torch.equal(script(x), module(x))
    assert module.training
    assert not script.training


@pytest.mark.filterwarnings("ignore::levin.utils.errors.LevinDeprecationWarning")
def test_each_layer_has_its_mode_again_after_torchscript():
    module = Dropping()
    module.to_torchscript(method="trace", example_inputs=X)
    assert modes(module) == [True, False, True]


@pytest.mark.filterwarnings("ignore::levin.utils.errors.LevinDeprecationWarning")
@pytest.mark.parametrize("example", [(X, Y), {"x": X, "y": Y}], ids=["tuple", "dict"])
def test_several_arguments_can_be_traced(example):
    module = Dropping()
    script = module.to_torchscript(method="trace", example_inputs=example)
    assert torch.equal(script(X, Y), in_evaluation(module, X, Y))


@pytest.mark.filterwarnings(
    "ignore::levin.utils.errors.LevinDeprecationWarning", "ignore::DeprecationWarning"
)
def test_torchscript_is_saved_and_can_be_loaded(tmp_path):
    module = BoringModel()
    path = tmp_path / "new" / "model.pt"
    module.to_torchscript(path)
    x = torch.ones(2, 32)
    assert torch.equal(torch.jit.load(path)(x), module(x))
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


class Around(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.inner = BoringModel()

    def forward(self, x):
        return self.inner(x)


@pytest.mark.filterwarnings("ignore::levin.utils.errors.LevinDeprecationWarning")
def test_a_module_in_a_module_can_be_scripted_and_both_are_detached_again():
    module = Around()
    assert module.to_torchscript()(torch.ones(1, 32)).shape == (1, 2)
    for part in (module, module.inner):
        with pytest.raises(RuntimeError, match="is not attached"):
            part.trainer  # noqa: B018  (looking it up is the test)


@pytest.mark.filterwarnings("ignore::levin.utils.errors.LevinDeprecationWarning")
def test_who_had_a_trainer_has_it_again_after_torchscript(tmp_path):
    module = Around()
    trainer = fit_one_step(module.inner, tmp_path)
    module.to_torchscript()
    assert module.inner.trainer is trainer
    with pytest.raises(RuntimeError, match="is not attached"):
        module.trainer  # noqa: B018  (looking it up is the test)


@pytest.mark.filterwarnings("ignore::levin.utils.errors.LevinDeprecationWarning")
@pytest.mark.parametrize("method", ["compile", None])
def test_another_method_is_refused(method):
    with pytest.raises(ValueError, match=f"method={method!r} is not known. Use 'script' or 'trace'"):
        BoringModel().to_torchscript(method=method)


# ---------------------------------------------------------------------- torch.export


def test_torch_export_takes_a_module_before_and_after_a_fit(tmp_path):
    module = BoringModel()
    x = torch.ones(2, 32)
    torch.export.export(module, (x,))
    fit_one_step(module, tmp_path)
    program = torch.export.export(module.eval(), (x,))
    assert torch.allclose(program.module()(x), module(x))
    assert set(program.state_dict) == {"layer.weight", "layer.bias"}


# ---------------------------------------------------------------------- TensorRT


class OnCuda(Dropping):
    """Says that it is on a CUDA device, for machines without one."""

    device = property(lambda self: torch.device("cuda", 0))


@pytest.fixture
def tensorrt(monkeypatch):
    """A stand-in for the package, which runs on few machines; it notes how it is called."""
    package = ModuleType("torch_tensorrt")
    package.calls = []

    def compile(**given):  # noqa: A001
        package.calls.append((given, given["module"].training, torch.is_grad_enabled()))
        return given["module"]

    package.compile = compile
    package.save = lambda engine, path, **given: package.calls.append((path, given))
    monkeypatch.setitem(sys.modules, "torch_tensorrt", package)
    return package


def test_tensorrt_compiles_in_eval_mode_and_saves(tensorrt, tmp_path):
    module = OnCuda()
    engine = module.to_tensorrt(
        tmp_path / "new" / "model.ep", X, retrace=True, enabled_precisions={torch.half}
    )
    (given, training, grad), (path, saved) = tensorrt.calls
    assert engine is module
    assert given == {"module": module, "ir": "default", "inputs": (X,), "enabled_precisions": {torch.half}}
    assert (training, grad) == (False, False)
    assert modes(module) == [True, False, True]
    assert path == str(tmp_path / "new" / "model.ep")
    assert saved == {"output_format": "exported_program", "retrace": True, "inputs": (X,)}


def test_tensorrt_may_save_nothing(tensorrt):
    OnCuda().to_tensorrt(input_sample={"x": X}, ir="dynamo")
    ((given, *_),) = tensorrt.calls
    assert given["inputs"] == ()
    assert given["kwarg_inputs"] == {"x": X}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the test is about")
def test_tensorrt_needs_a_cuda_device(tensorrt):
    with pytest.raises(MisconfigurationException, match="needs a CUDA device, and this machine has none"):
        Dropping().to_tensorrt(input_sample=X)


def test_a_device_that_is_not_cuda_is_refused(tensorrt):
    with pytest.raises(MisconfigurationException, match="default_device is 'cpu'"):
        Dropping().to_tensorrt(input_sample=X, default_device="cpu")


def test_the_missing_package_of_tensorrt_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(ModuleNotFoundError, match=r"`torch_tensorrt` is needed.*pip install torch-tensorrt"):
        Dropping().to_tensorrt(input_sample=X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ir": "onnx"}, "ir='onnx' is not known. Use one of 'default', 'dynamo', 'ts'"),
        ({"output_format": "zip"}, "output_format='zip' is not known"),
        ({"ir": "ts", "file_path": "x.pt"}, "only be saved with output_format='torchscript'"),
    ],
)
def test_arguments_of_tensorrt_that_do_not_go_together_are_told_before_the_work(arguments, message):
    with pytest.raises(ValueError, match=message):
        Dropping().to_tensorrt(input_sample=X, **arguments)


# ---------------------------------------------------------------------- torch.compile


class CountingBackend:
    """Compiles to what was there, and counts the graphs."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph


def fit_one_step(module: nn.Module, folder) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=1, limit_val_batches=0, default_root_dir=folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module)
    return trainer


def test_what_comes_from_compiled_is_the_module_and_runs_compiled(tmp_path):
    backend, module = CountingBackend(), BoringModel()
    assert from_compiled(torch.compile(module, backend=backend)) is module
    fit_one_step(module, tmp_path)
    assert backend.graphs > 0


def test_its_forward_pass_is_compiled_too():
    backend, module = CountingBackend(), BoringModel()
    x = torch.ones(1, 32)
    expected = module(x)
    assert torch.equal(from_compiled(torch.compile(module, backend=backend))(x), expected)
    assert backend.graphs == 1


def test_uncompiled_it_is_as_before():
    backend, module = CountingBackend(), BoringModel()
    wrapped = torch.compile(module, backend=backend)
    before = set(vars(module))
    assert to_uncompiled(from_compiled(wrapped)) is module
    assert set(vars(module)) == before
    module(torch.ones(1, 32))
    assert backend.graphs == 0


def test_what_torch_compile_returned_is_unwrapped():
    module = BoringModel()
    assert to_uncompiled(torch.compile(module, backend="eager")) is module


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize(
    ("convert", "error", "message"),
    [
        (lambda: from_compiled(BoringModel()), ValueError, "what `torch.compile.*not a BoringModel"),
        (lambda: from_compiled(compiled(nn.Linear(1, 1))), ValueError, "takes a compiled LightningModule"),
        (lambda: to_uncompiled(BoringModel()), ValueError, "This BoringModel is not compiled"),
        (lambda: to_uncompiled(nn.Linear(1, 1)), ValueError, "This Linear is not compiled"),
        (lambda: to_uncompiled(compiled(nn.Linear(1, 1))), TypeError, "holds no LightningModule"),
    ],
)
def test_what_is_not_a_compiled_module_is_refused(convert, error, message):
    with pytest.raises(error, match=message):
        convert()
