from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from levin.accelerators import CPUAccelerator
from levin.checkpoint import CheckpointIO
from levin.precision import Precision, parse_precision
from levin.strategies import SingleDeviceStrategy, Strategy
from levin.utils.errors import MisconfigurationException


@pytest.fixture
def strategy():
    return SingleDeviceStrategy("cpu")


def test_a_strategy_is_one_process_unless_it_says_otherwise(strategy):
    ranks = (strategy.global_rank, strategy.local_rank, strategy.node_rank, strategy.world_size)
    assert ranks == (0, 0, 0, 1)
    assert strategy.is_global_zero
    traits = (strategy.accumulates_itself, strategy.shards_parameters, strategy.restore_after_setup)
    assert traits == (False, False, False)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_single_device_may_be_named_or_given(device):
    assert SingleDeviceStrategy(device).root_device == torch.device("cpu")


def test_the_base_asks_for_a_device():
    with pytest.raises(TypeError, match="root_device"):
        Strategy()


def test_alone_speaking_with_others_is_speaking_to_oneself(strategy):
    value = torch.ones(2)
    assert strategy.broadcast({"a": 1}) == {"a": 1}
    assert strategy.reduce(value) is value
    assert strategy.all_gather(value) is value
    assert strategy.reduce_boolean_decision(True) is True
    assert strategy.reduce_boolean_decision(False, all=False) is False
    assert strategy.barrier("here") is None


def test_numbers_that_are_gathered_become_tensors(strategy):
    gathered = strategy.all_gather({"a": 1.5, "b": [2, torch.ones(1)]})
    assert gathered == {"a": torch.tensor(1.5), "b": [torch.tensor(2), torch.ones(1)]}


def test_numbers_arrays_and_tensors_that_are_gathered_are_on_the_device():
    data = [3, 1.5, True, np.ones(2), torch.ones(2)]
    gathered = SingleDeviceStrategy("meta").all_gather([*data, "text", None])
    assert [(x.device.type, x.dtype) for x in gathered[:-2]] == [
        ("meta", dtype) for dtype in (torch.int64, torch.float32, torch.bool, torch.float64, torch.float32)
    ]
    assert gathered[-2:] == ["text", None]


def test_a_module_and_a_batch_reach_the_device(strategy):
    module = nn.Linear(1, 1)
    assert strategy.setup_module(module) is strategy.model is module
    assert strategy.batch_to_device({"x": torch.ones(1)}) == {"x": torch.ones(1)}
    assert strategy.batch_to_device(torch.ones(1), torch.device("meta")).device.type == "meta"


def test_a_module_is_converted_to_the_precision():
    strategy = SingleDeviceStrategy("cpu", precision=parse_precision("bf16-true", "cpu"))
    assert strategy.setup_module(nn.Linear(1, 1)).weight.dtype == torch.bfloat16
    with strategy.module_init_context():
        assert nn.Linear(1, 1).weight.dtype == torch.bfloat16


def test_a_method_runs_in_the_precision():
    strategy = SingleDeviceStrategy("cpu", precision=parse_precision("bf16-mixed", "cpu"))
    module = nn.Linear(1, 1)
    assert strategy.redirect(module, "forward")(torch.ones(1)).dtype == torch.bfloat16
    assert SingleDeviceStrategy("cpu").redirect(module, "forward")(torch.ones(1)).dtype == torch.float32


def test_an_optimizer_is_stepped_with_the_closure(strategy):
    weight = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([weight], lr=0.5)

    def closure():
        loss = weight * 1
        loss.backward()
        return loss.detach()

    assert strategy.optimizer_step(optimizer, closure) == 1.0
    assert weight.item() == 0.5


def test_backward_is_torchs_own_where_nobody_adds_to_it(strategy):
    assert strategy.settled_backward() is torch.Tensor.backward

    class Scaling(Precision):
        def backward(self, loss, module, *args, **kwargs):
            (loss * 2).backward(*args, **kwargs)

    weight = nn.Parameter(torch.tensor(1.0))
    SingleDeviceStrategy("cpu", precision=Scaling()).settled_backward()(weight * 3)
    assert weight.grad == 6.0


def test_a_strategy_of_ones_own_may_add_to_backward():
    class Doubling(SingleDeviceStrategy):
        def backward(self, loss, *args, **kwargs):
            super().backward(2 * loss, *args, **kwargs)

    weight = nn.Parameter(torch.tensor(1.0))
    Doubling("cpu").settled_backward()(weight * 3)
    assert weight.grad == 6.0


@pytest.mark.parametrize(("algorithm", "clipped"), [("norm", [0.6, 0.8]), ("value", [1.0, 1.0])])
def test_gradients_are_clipped(strategy, algorithm, clipped):
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    strategy.clip_gradients([weight], 1.0, algorithm)
    assert torch.allclose(weight.grad, torch.tensor(clipped))


def test_states_of_module_and_optimizers_come_back(strategy):
    def made():
        module = nn.Linear(1, 1)
        return module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)

    module, optimizer = made()
    module(torch.ones(1)).backward()
    optimizer.step()
    other, other_optimizer = made()
    strategy.setup_optimizers([other_optimizer])
    strategy.load_module_state_dict(other, strategy.get_module_state_dict(module))
    strategy.load_optimizer_states([strategy.get_optimizer_state(optimizer)])
    assert torch.equal(other.weight, module.weight)
    momenta = [next(iter(each.state.values()))["momentum_buffer"] for each in (optimizer, other_optimizer)]
    assert torch.equal(*momenta)


def test_a_state_that_does_not_fit_is_refused_unless_told_otherwise(strategy):
    with pytest.raises(RuntimeError, match="Missing key"):
        strategy.load_module_state_dict(nn.Linear(1, 1), {})
    strategy.load_module_state_dict(nn.Linear(1, 1), {}, strict=False)


def test_checkpoints_go_through_the_checkpoint_io(tmp_path):
    class Shelf(CheckpointIO):
        def __init__(self):
            self.kept, self.is_down = {}, False

        def save_checkpoint(self, checkpoint, path, storage_options=None):
            self.kept[path] = (checkpoint, storage_options)

        def load_checkpoint(self, path, map_location=None, weights_only=None):
            return self.kept[path], map_location, weights_only

        def remove_checkpoint(self, path):
            del self.kept[path]

        def teardown(self):
            self.is_down = True

    shelf = Shelf()
    strategy = SingleDeviceStrategy("cpu", checkpoint_io=shelf)
    strategy.save_checkpoint("a", {"x": 1}, storage_options="fast")
    assert strategy.load_checkpoint("a", weights_only=False) == (({"x": 1}, "fast"), "cpu", False)
    strategy.remove_checkpoint("a")
    strategy.teardown()
    assert (shelf.kept, shelf.is_down) == ({}, True)


def test_a_process_that_does_not_speak_for_all_writes_and_removes_nothing(tmp_path):
    class Second(SingleDeviceStrategy):
        global_rank = 1

    strategy, path = Second("cpu"), tmp_path / "x.ckpt"
    strategy.save_checkpoint(path, {"x": 1})
    assert not path.exists()
    path.touch()
    strategy.remove_checkpoint(path)
    assert path.exists()


def test_an_accelerator_makes_its_own_device_ready():
    strategy = SingleDeviceStrategy("cpu", accelerator=CPUAccelerator())
    strategy.setup_environment()
    strategy.teardown()
    with pytest.raises(MisconfigurationException):
        SingleDeviceStrategy("meta", accelerator=CPUAccelerator()).setup_environment()


def test_teardown_brings_what_was_on_a_device_back_to_the_cpu():
    strategy = SingleDeviceStrategy("meta")
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight])
    optimizer.state[weight] = {"step": torch.tensor(1.0), "exp_avg": torch.ones(1)}
    strategy.setup_optimizers([optimizer])
    state = optimizer.state[weight]
    assert (state["exp_avg"].device.type, state["step"].device.type) == ("meta", "cpu")


def test_gradients_are_not_shared_and_need_no_blocking(strategy):
    with strategy.block_backward_sync():
        weight = nn.Parameter(torch.ones(()))
        (weight * 2).backward()
    assert weight.grad == 2.0
