from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from levin.core.module import LightningModule
from levin.utils.errors import MisconfigurationException


class Nest(LightningModule):
    """Has a layer, a module without parameters, and one of levin in it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.child = LightningModule()
        self.others = nn.ModuleList([LightningModule()])

    def forward(self, x):
        return self.layer(x)


# ------------------------------------------------------------ where it is

CASTS = {
    "half": (lambda m: m.half(), torch.float16),
    "double": (lambda m: m.double(), torch.float64),
    "bfloat16": (lambda m: m.bfloat16(), torch.bfloat16),
    "float after half": (lambda m: m.half().float(), torch.float32),
    "to a type": (lambda m: m.to(torch.float64), torch.float64),
    "to a keyword": (lambda m: m.to(dtype=torch.float64), torch.float64),
    "to a tensor's": (lambda m: m.to(torch.zeros(1, dtype=torch.float64)), torch.float64),
    "type": (lambda m: m.type(torch.float16), torch.float16),
}


@pytest.mark.parametrize("make", [LightningModule, Nest], ids=["without parameters", "nested"])
@pytest.mark.parametrize(("cast", "dtype"), CASTS.values(), ids=CASTS)
def test_the_type_follows_every_cast(make, cast, dtype):
    module = make()
    assert cast(module) is module
    parts = [part for part in module.modules() if isinstance(part, LightningModule)]
    assert {part.dtype for part in parts} == {dtype}
    assert {parameter.dtype for parameter in module.parameters()} <= {dtype}


@pytest.mark.parametrize(
    "move",
    [
        lambda m: m.to("meta"),
        lambda m: m.to(torch.device("meta")),
        lambda m: m.to(device="meta", dtype=torch.float32),
        lambda m: m.to_empty(device="meta"),
    ],
)
@pytest.mark.parametrize("make", [LightningModule, Nest], ids=["without parameters", "nested"])
def test_the_device_follows_every_move(make, move):
    module = make()
    assert module.device == torch.device("cpu")
    move(module)
    parts = [part for part in module.modules() if isinstance(part, LightningModule)]
    assert {part.device.type for part in parts} == {"meta"}
    assert not module.on_gpu


def test_a_part_that_is_moved_alone_moves_alone():
    module = Nest()
    module.child.double()
    assert (module.dtype, module.child.dtype) == (torch.float32, torch.float64)


def test_a_module_begins_with_the_default_type():
    torch.set_default_dtype(torch.float64)
    try:
        assert LightningModule().dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_type_is_changed_by_converting_the_module():
    module = Nest()
    with pytest.raises(RuntimeError, match=r"module\.to\(torch\.float64\)"):
        module.dtype = torch.float64
    assert module.dtype is torch.float32


def test_where_a_module_is_is_no_part_of_its_state():
    assert set(Nest().state_dict()) == {"layer.weight", "layer.bias"}


# ------------------------------------------------------------ freezing


def test_freezing_is_of_everything_and_can_be_undone():
    module = Nest()
    assert module.freeze() is module
    assert not any(p.requires_grad for p in module.parameters())
    assert not any(part.training for part in module.modules())
    assert module.unfreeze() is module
    assert all(p.requires_grad for p in module.parameters())
    assert all(part.training for part in module.modules())


# ------------------------------------------------------------ without a run


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.trainer,
        lambda m: m.optimizers(),
        lambda m: m.lr_schedulers(),
        lambda m: m.all_gather(1),
        lambda m: m.clip_gradients(None),
        lambda m: m.toggle_optimizer(torch.optim.SGD(m.parameters(), lr=1.0)),
    ],
)
def test_what_needs_a_run_says_so(use):
    with pytest.raises(RuntimeError, match=r"Nest is not attached to a `Trainer`.*trainer\.fit"):
        use(Nest())


def test_without_a_run_counters_are_zero_and_loggers_none():
    module = Nest()
    counters = (module.current_epoch, module.global_step, module.global_rank, module.local_rank)
    assert counters == (0, 0, 0, 0)
    assert (module.logger, module.loggers, module.fabric, module.device_mesh) == (None, [], None, None)


@pytest.mark.parametrize("automatic", [True, False])
def test_manual_backward_needs_manual_optimization_and_a_run(automatic):
    module = Nest()
    module.automatic_optimization = automatic
    error = MisconfigurationException if automatic else RuntimeError
    with pytest.raises(error, match="automatic_optimization" if automatic else "not attached"):
        module.manual_backward(torch.ones(()))


def test_without_a_run_printing_is_pythons(capsys):
    module, file = Nest(), io.StringIO()
    module.print("a", 1, sep="-", end="!")
    module.print("b", "c", sep=None, flush=True)
    module.print("d", file=file)
    assert capsys.readouterr().out == "a-1!b c\n"
    assert file.getvalue() == "d\n"


@pytest.mark.parametrize("name", ["log", "log_dict"])
def test_without_a_run_logging_warns(name):
    arguments = ("x", 1.0) if name == "log" else ({"x": 1.0},)
    with pytest.warns(UserWarning, match=r"self.log\('x'\).*no run going on"):
        getattr(Nest(), name)(*arguments)


# ------------------------------------------------------------ copies


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_leaves_the_run_behind(copied):
    module, run = Nest(), object()
    module.trainer = run
    other = copied(module)
    with pytest.raises(RuntimeError, match="not attached"):
        _ = other.trainer
    assert module.trainer is module.child.trainer is module.others[0].trainer is run
    assert torch.equal(other.layer.weight, module.layer.weight)


def test_a_run_is_left_by_all_parts_at_once():
    module = Nest()
    module.trainer = object()
    module.trainer = None
    for part in (module, module.child, module.others[0]):
        with pytest.raises(RuntimeError, match="not attached"):
            _ = part.trainer


# ------------------------------------------------------------ settings


def test_settings_have_defaults_and_can_be_set():
    module = Nest()
    defaults = {
        "automatic_optimization": True,
        "strict_loading": True,
        "example_input_array": None,
        "prepare_data_per_node": True,
        "allow_zero_length_dataloader_with_multiple_devices": False,
    }
    assert {name: getattr(module, name) for name in defaults} == defaults
    for name in ("automatic_optimization", "strict_loading", "prepare_data_per_node"):
        setattr(module, name, False)
        assert getattr(module, name) is False
    module.example_input_array = (torch.ones(2), {"x": 1})
    assert module.example_input_array[1] == {"x": 1}


def test_checkpoints_keep_hyper_parameters_under_these_keys():
    assert LightningModule.CHECKPOINT_HYPER_PARAMS_KEY == "hyper_parameters"
    assert LightningModule.CHECKPOINT_HYPER_PARAMS_NAME == "hparams_name"
    assert LightningModule.CHECKPOINT_HYPER_PARAMS_TYPE == "hparams_type"


def test_whether_the_module_moves_schedulers_itself_is_known():
    class Moving(LightningModule):
        def lr_scheduler_step(self, scheduler, metric):
            pass

    assert Moving().overrides_scheduler_step
    assert not Nest().overrides_scheduler_step


def test_scripting_leaves_all_properties_alone():
    properties = {
        name for name in dir(LightningModule) if isinstance(getattr(LightningModule, name), property)
    }
    assert properties <= set(LightningModule.__jit_unused_properties__)


# ------------------------------------------------------------ steps and their parts by default


def test_by_default_predicting_is_calling():
    module, x = Nest(), torch.ones(1, 2)
    assert torch.equal(module.predict_step(x, 0), module(x))
    assert torch.equal(module.predict_step(batch=x, batch_idx=0), module(x))


@pytest.mark.parametrize("name", ["training_step", "configure_optimizers"])
def test_what_is_needed_to_train_warns_when_it_is_missing(name):
    arguments = (None, 0) if name == "training_step" else ()
    with pytest.warns(UserWarning, match=f"`LightningModule.{name}` is not defined"):
        assert getattr(LightningModule(), name)(*arguments) is None


@pytest.mark.parametrize("name", ["validation_step", "test_step"])
def test_what_is_not_needed_does_nothing(name):
    assert getattr(LightningModule(), name)(None, 0) is None
    assert LightningModule().configure_callbacks() == []
    assert LightningModule().configure_model() is None


def test_by_default_backward_and_step_are_torchs():
    module = Nest()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    before = module.layer.bias.detach().clone()
    module.backward(module.layer.bias.sum(), retain_graph=False)
    module.optimizer_step(0, 0, optimizer, lambda: None)
    assert torch.equal(module.layer.bias, before - 1)
    module.optimizer_zero_grad(0, 0, optimizer)
    assert module.layer.bias.grad is None


def test_by_default_a_scheduler_gets_its_metric_if_it_has_one():
    class Scheduler:
        def step(self, *metrics):
            calls.append(metrics)

    calls = []
    module = Nest()
    module.lr_scheduler_step(Scheduler(), None)
    module.lr_scheduler_step(Scheduler(), 2.0)
    module.lr_scheduler_step(Scheduler(), 0.0)
    assert calls == [(), (2.0,), (0.0,)]
