from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from levin.core.module import LightningModule
from levin.core.optimizers import LightningOptimizer, SchedulerSet, configure
from levin.strategies import SingleDeviceStrategy
from levin.utils.errors import MisconfigurationException
from levin.utils.types import LRSchedulerConfig


class Module(LightningModule):
    def __init__(self, returned=None, automatic=True):
        super().__init__()
        self.automatic_optimization = automatic
        self.returned = returned

    def configure_optimizers(self):
        return self.returned


def sgd():
    return SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)


# ------------------------------------------------------------ configure


def test_optimizers_and_schedulers_come_out_in_the_order_of_the_dicts():
    optimizers = [sgd() for _ in range(3)]
    schedulers = [StepLR(optimizers[0], 1), ReduceLROnPlateau(optimizers[2])]
    returned = [
        {"optimizer": optimizers[0], "lr_scheduler": schedulers[0]},
        {"optimizer": optimizers[1]},
        {"optimizer": optimizers[2], "lr_scheduler": {"scheduler": schedulers[1], "name": "last"}},
    ]
    found, configs = configure(Module(returned, automatic=False))
    assert found == optimizers
    assert configs == [
        LRSchedulerConfig(schedulers[0]),
        LRSchedulerConfig(schedulers[1], name="last", reduce_on_plateau=True),
    ]


def test_each_dict_has_a_monitor_of_its_own():
    optimizers = [sgd(), sgd()]
    returned = [
        {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1), "monitor": name}
        for optimizer, name in zip(optimizers, "ab", strict=True)
    ]
    with pytest.warns(RuntimeWarning, match=r"\['monitor'\], which do nothing in manual"):
        _, configs = configure(Module(returned, automatic=False))
    assert [config.monitor for config in configs] == ["a", "b"]


def test_one_optimizer_may_have_several_schedulers():
    optimizer = sgd()
    schedulers = [StepLR(optimizer, 1), ExponentialLR(optimizer, 0.5)]
    for returned in (([optimizer], schedulers), {"optimizer": optimizer, "lr_scheduler": schedulers}):
        _, configs = configure(Module(returned))
        assert [config.scheduler for config in configs] == schedulers


def test_what_the_user_returned_is_not_changed():
    optimizer = sgd()
    settings = {"scheduler": StepLR(optimizer, 1), "interval": "step"}
    returned = {"optimizer": optimizer, "lr_scheduler": settings, "monitor": "loss"}
    before = (dict(returned), dict(settings))
    configure(Module(returned))
    assert (returned, settings) == before


@pytest.mark.parametrize("count", [0, 1, 2])
def test_manual_optimization_takes_any_number_of_optimizers(count):
    optimizers = [sgd() for _ in range(count)]
    assert configure(Module(optimizers, automatic=False)) == (optimizers, [])


def test_in_manual_optimization_a_plateau_needs_no_monitor():
    optimizer = sgd()
    _, (config,) = configure(Module(([optimizer], [ReduceLROnPlateau(optimizer)]), automatic=False))
    assert config.monitor is None


@pytest.mark.parametrize("key", ["frequency", "monitor", "strict", "reduce_on_plateau"])
def test_in_manual_optimization_settings_do_nothing_and_it_is_told(key):
    optimizer = sgd()
    values = {"frequency": 0, "monitor": "x", "strict": False, "reduce_on_plateau": False}
    settings = {"scheduler": StepLR(optimizer, 1), key: values[key]}
    with pytest.warns(RuntimeWarning, match=rf"\['{key}'\], which do nothing in manual"):
        configure(Module(([optimizer], [settings]), automatic=False))


def test_the_optimizer_that_stands_for_none_does_nothing():
    with pytest.warns(UserWarning, match="returned None"):
        (optimizer,), schedulers = configure(Module(None))
    assert schedulers == []
    assert optimizer.step(lambda: 7) == 7
    assert optimizer.step() is None
    optimizer.zero_grad()
    optimizer.load_state_dict({"anything": 1})
    assert optimizer.state_dict() == {}
    assert repr(optimizer) == "No optimizer"


# ------------------------------------------------------------ SchedulerSet


def moved(configs, metrics=None, **where):
    """Return which schedulers moved, with the metric that each got."""
    moves = []
    schedulers = SchedulerSet(configs, lambda *call: moves.append(call), lambda: metrics or {})
    count = schedulers.step(**where)
    assert count == len(moves)
    return moves


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("plateau", [False, True])
def test_only_schedulers_of_the_interval_and_the_kind_move(interval, plateau):
    configs = [
        LRSchedulerConfig(f"{i} {p}", interval=i, reduce_on_plateau=p, monitor="x")
        for i in ("step", "epoch")
        for p in (False, True)
    ]
    moves = moved(configs, {"x": 3.0}, interval=interval, number=1, plateau=plateau)
    assert moves == [(f"{interval} {plateau}", 3.0 if plateau else None)]


@pytest.mark.parametrize(
    ("frequency", "numbers"), [(1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4]), (7, [])]
)
def test_a_scheduler_moves_at_every_so_many(frequency, numbers):
    configs = [LRSchedulerConfig("it", frequency=frequency)]
    due = [number for number in range(1, 7) if moved(configs, interval="epoch", number=number, plateau=False)]
    assert due == numbers


def test_a_missing_metric_is_an_error_or_a_wait():
    strict = LRSchedulerConfig("it", reduce_on_plateau=True, monitor="x")
    where = {"interval": "epoch", "number": 1, "plateau": True}
    with pytest.raises(MisconfigurationException, match=r"str follows 'x'.*\['y', 'z'\].*'strict': False"):
        moved([strict], {"z": 1.0, "y": 2.0}, **where)
    waiting = LRSchedulerConfig("it", reduce_on_plateau=True, monitor="x", strict=False)
    with pytest.warns(RuntimeWarning, match=r"'x', which was not logged"):
        assert moved([waiting], {}, **where) == []


# ------------------------------------------------------------ LightningOptimizer


@pytest.fixture
def wrap():
    """``wrap(optimizer)`` is the optimizer as a module sees it."""
    return lambda optimizer: LightningOptimizer(optimizer, SingleDeviceStrategy("cpu"), Module())


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_wrapped_optimizer_is_of_both_kinds(wrap, make):
    optimizer = wrap(make([torch.nn.Parameter(torch.zeros(()))]))
    assert isinstance(optimizer, make)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert isinstance(optimizer, LightningOptimizer)
    assert type(optimizer).__name__ == f"Lightning{make.__name__}"


def test_a_wrapped_optimizer_steps_and_clears_the_gradients(wrap):
    raw = sgd()
    optimizer, parameter = wrap(raw), raw.param_groups[0]["params"][0]
    parameter.grad = torch.tensor(2.0)
    assert optimizer.step(lambda: 5.0) == 5.0
    assert parameter.item() == -2.0
    optimizer.zero_grad(set_to_none=False)
    assert parameter.grad == 0
    optimizer.zero_grad()
    assert parameter.grad is None


def test_what_comes_before_and_after_a_step_is_called_around_it(wrap):
    raw = sgd()
    optimizer, parameter, calls = wrap(raw), raw.param_groups[0]["params"][0], []
    parameter.grad = torch.tensor(1.0)
    optimizer.before_step = lambda inner: calls.append(("before", inner, parameter.item()))
    optimizer.after_step = lambda: calls.append(("after", parameter.item()))
    optimizer.step(lambda: calls.append("closure"))
    assert calls == ["closure", ("before", raw, 0.0), ("after", -1.0)]
    optimizer.step()
    assert calls[3:] == [("before", raw, -1.0), ("after", -2.0)]


def test_a_wrapped_optimizer_follows_what_it_wraps(wrap):
    raw = sgd()
    optimizer = wrap(raw)
    other = sgd()
    raw.load_state_dict({**other.state_dict(), "param_groups": [{"lr": 0.5, "params": [0]}]})
    assert optimizer.param_groups is raw.param_groups
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.state is raw.state
    assert optimizer.state_dict() == raw.state_dict()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))]
)
def test_a_copy_of_a_wrapped_optimizer_steps_and_has_no_part_in_the_run(wrap, duplicate):
    optimizer = wrap(sgd())
    optimizer.before_step, optimizer.after_step = print, print
    other = duplicate(optimizer)
    assert isinstance(other, LightningOptimizer)
    assert isinstance(other, SGD)
    assert (other.before_step, other.after_step) == (None, None)
    (weight,) = other.param_groups[0]["params"]
    weight.grad = torch.tensor(3.0)
    other.step()
    assert weight.item() == -3.0
    assert optimizer.param_groups[0]["params"][0].item() == (-3.0 if duplicate is copy.copy else 0.0)


def test_hooks_put_on_the_wrapper_are_on_the_optimizer(wrap):
    raw, calls = sgd(), []
    wrap(raw).register_step_post_hook(lambda *_: calls.append("stepped"))
    raw.step()
    assert calls == ["stepped"]


def test_an_unknown_attribute_is_one_of_the_optimizer(wrap):
    with pytest.raises(AttributeError, match="'SGD' object has no attribute 'moments'"):
        _ = wrap(sgd()).moments


def test_looking_at_a_wrapper_that_is_not_made_yet_does_not_go_round_in_circles():
    empty = object.__new__(LightningOptimizer)
    with pytest.raises(AttributeError, match="_optimizer"):
        _ = empty.anything
    assert copy.copy(sgd()).defaults["lr"] == 1.0
