from __future__ import annotations

import pytest
import torch
from torch import nn

import levin as L
from levin.strategies import DDPStrategy, LocalSGD, PowerSGD, StrategyRegistry, TorchSyncBatchNorm
from levin.strategies.averaging import Averaging
from levin.strategies.forward import Carrier, through
from levin.utils.errors import MisconfigurationException


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"find_unused_parameter": True}, "Did you mean 'find_unused_parameters'"),
        ({"bucket_cap": 3}, "Did you mean 'bucket_cap_mb'"),
        ({"gradient_compresion": "fp16"}, "Did you mean 'gradient_compression'"),
        ({"no_such_thing": 1}, "neither it nor torch's DistributedDataParallel has"),
        ({"device_ids": [0]}, "the model and its devices are the run's"),
    ],
)
def test_an_unknown_argument_is_refused_when_the_strategy_is_made(arguments, told):
    with pytest.raises(TypeError, match=told):
        DDPStrategy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"gradient_compression": "int4"}, "Use 'fp16', 'bf16', 'powersgd'"),
        ({"gradient_compression": ["fp16"]}, "is not known"),
        ({"local_sgd": "often"}, "Give the number of steps"),
        ({"local_sgd": 0}, "period is 1 or more"),
        ({"local_sgd": True}, "period is 1 or more"),
        ({"gradient_compression": "fp16", "ddp_comm_hook": print}, "Give one of them"),
        ({"gradient_compression": "fp16", "local_sgd": LocalSGD(within_node=True)}, "Give one of them"),
        ({"model_averaging_period": 4}, "PostLocalSGDState"),
        ({"model_averaging_period": 4, "local_sgd": 4}, "Give one of them"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_when_the_strategy_is_made(arguments, told):
    with pytest.raises(MisconfigurationException, match=told):
        DDPStrategy(**arguments)


@pytest.mark.parametrize(
    "settings", [{"matrix_rank": 0}, {"warmup_steps": -1}, {"min_compression": 0.5}], ids=str
)
def test_powersgd_refuses_numbers_out_of_range(settings):
    with pytest.raises(MisconfigurationException, match=r"matrix_rank is 1 or more"):
        PowerSGD(**settings)


def test_arguments_of_torchs_wrapper_are_passed_on():
    DDPStrategy(bucket_cap_mb=5, gradient_as_bucket_view=False, broadcast_buffers=False, static_graph=True)


def test_each_name_makes_a_strategy():
    names = [name for name in StrategyRegistry.available() if name.startswith("ddp")]
    assert len(names) >= 12
    assert all(isinstance(StrategyRegistry.make(name), DDPStrategy) for name in names)


def test_what_is_carried_comes_back_after_another_call():
    carrier = Carrier(nn.Linear(2, 2))
    carrier.carry(lambda: "step")
    assert through(carrier, carrier, lambda: "other")() == "other"
    assert carrier() == "step"


def test_what_is_carried_comes_back_after_an_error():
    carrier = Carrier(nn.Linear(2, 2))
    carrier.carry(lambda: "step")
    with pytest.raises(ZeroDivisionError):
        through(carrier, carrier, lambda: 1 / 0)()
    assert carrier() == "step"


def test_steps_are_counted_for_each_optimizer_and_kept():
    first, second = [torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1) for _ in range(2)]
    averaging = Averaging(2, 1, first=2)
    averaging.take([first, second])
    assert not averaging.is_local
    averaging.after_step(first)
    assert not averaging.is_local
    averaging.after_step(second)
    assert averaging.is_local
    other = Averaging(2, 1, first=2)
    other.take([first, second])
    other.load_state_dict(averaging.state_dict())
    assert other.is_local
    assert other.state_dict() == {"steps": [1, 1]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        shared = nn.BatchNorm1d(2)
        self.a, self.b = nn.Sequential(nn.Linear(2, 2), shared), nn.Sequential(shared, nn.BatchNorm3d(2))


def test_batch_norms_come_back_as_they_were():
    net = Net()
    before, parameters = dict(net.state_dict()), list(net.parameters())
    synchronised = TorchSyncBatchNorm().apply(net)
    assert type(synchronised.a[1]).__name__ == "SyncBatchNorm"
    assert list(synchronised.state_dict()) == list(before)
    back = TorchSyncBatchNorm().revert(synchronised)
    assert [type(each).__name__ for each in back.modules()] == [
        type(each).__name__ for each in Net().modules()
    ]
    assert all(ours is theirs for ours, theirs in zip(back.parameters(), parameters, strict=True))
    assert repr(back) == repr(Net())


def test_a_synchronised_batch_norm_of_the_users_own_stays():
    own = nn.Sequential(nn.SyncBatchNorm(2))
    reverted = TorchSyncBatchNorm().revert(TorchSyncBatchNorm().apply(own))
    assert type(reverted[0]) is nn.SyncBatchNorm


def test_alone_a_synchronised_batch_norm_is_a_batch_norm():
    batch = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    layer, plain = TorchSyncBatchNorm().apply(nn.BatchNorm1d(2)), nn.BatchNorm1d(2)
    assert torch.equal(layer(batch), plain(batch))
    assert torch.equal(layer.eval()(batch), plain.eval()(batch))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bagua", "gradient_compression='bf16'.*local_sgd=LocalSGD"),
        ("horovod", "gradient_compression='fp16'"),
        ("ddp2", r"self.all_gather\(z, sync_grads=True\)"),
        ("hivemind", "local_sgd=8"),
    ],
)
def test_former_names_say_which_argument_does_what_theirs_did(name, told):
    with pytest.raises(ValueError, match=told):
        L.Trainer(accelerator="cpu", devices=1, strategy=name)
