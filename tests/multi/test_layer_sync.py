"""Batch norm over the batches of all processes is batch norm over one batch that holds them all."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.strategies import DDPStrategy, LayerSync, TorchSyncBatchNorm
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi

KINDS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SETTINGS = [
    {},
    {"affine": False},
    {"track_running_stats": False},
    {"momentum": None},
    {"momentum": 0.4, "eps": 0.1},
    {"affine": False, "track_running_stats": False},
]


def net(dims, settings, dtype=torch.float64):
    torch.manual_seed(1)
    kind = (nn.Linear, nn.Conv2d, nn.Conv3d)[dims - 1]
    size = () if dims == 1 else (1,)
    layer = KINDS[dims](4, **settings)
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return nn.Sequential(kind(3, 4, *size), layer, nn.Tanh(), kind(4, 2, *size)).to(dtype)


def samples(dims, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, 7, 3, *[3] * (dims if dims > 1 else 0), generator=generator, dtype=dtype)


def learn(model, batches, parts):
    """Train on batches, of which this process has a part; the loss is the mean over all samples."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in batches:
        mine = batch[parts]
        optimizer.zero_grad()
        out = model(mine)
        (out.square().sum() / (len(batch) * out.shape[1:].numel())).backward()
        for parameter in model.parameters():
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(parameter.grad)
        optimizer.step()
    return out


def result(model, out, parts, dims):
    model.eval()
    evaluated = model(samples(dims)[0][parts])
    state = {name: value.double().tolist() for name, value in model.state_dict().items()}
    return state, out.tolist(), evaluated.tolist()


def synchronised(cases):
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    parts = (slice(0, 5), slice(5, 7))[rank]
    results = []
    for dims, settings in cases:
        model = TorchSyncBatchNorm().apply(net(dims, settings))
        out = learn(model, samples(dims), parts)
        results.append(result(TorchSyncBatchNorm().revert(model), out, parts, dims))
    return results


def test_layers_compute_what_one_process_computes_over_all_samples():
    cases = [(dims, settings) for dims in KINDS for settings in SETTINGS]
    first, second = in_processes(synchronised, 2, cases)
    for case, ours, theirs in zip(cases, first, second, strict=True):
        dims, settings = case
        model = net(dims, settings)
        out = learn(model, samples(dims), slice(None))
        state, outputs, evaluated = result(model, out, slice(None), dims)
        assert list(ours[0]) == list(state), case
        for name, value in state.items():
            for rank in (ours, theirs):
                there = torch.tensor(rank[0][name])
                torch.testing.assert_close(there, torch.tensor(value), rtol=1e-10, atol=1e-10, msg=str(case))
        assert torch.allclose(torch.tensor(ours[1] + theirs[1]), torch.tensor(outputs), rtol=1e-10), case
        if settings.get("track_running_stats", True):  # else each process has but its own part to go by
            assert torch.allclose(torch.tensor(ours[2] + theirs[2]), torch.tensor(evaluated)), case


def empty_and_small():
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    model = TorchSyncBatchNorm().apply(net(1, {}))
    out = learn(model, samples(1), (slice(0, 0), slice(0, 7))[rank])
    state, *_ = result(model, out, slice(None), 1)
    with pytest.raises(ValueError, match="one value for each channel in all processes"):
        model.train()(samples(1)[0][: 1 - rank])
    halves = TorchSyncBatchNorm().apply(nn.BatchNorm1d(3)).train()
    large = halves(samples(1)[0].half() * 1000 + 30000)  # sums that float16 does not hold
    return state, str(large.dtype), bool(large.isfinite().all())


def test_a_process_may_have_no_samples_and_halves_are_added_up_in_float32():
    model = net(1, {})
    state, *_ = result(model, learn(model, samples(1), slice(None)), slice(None), 1)
    for ours, dtype, is_finite in in_processes(empty_and_small, 2):
        assert {
            name: pytest.approx(torch.tensor(value).flatten().tolist()) for name, value in state.items()
        } == {name: torch.tensor(value).flatten().tolist() for name, value in ours.items()}
        assert dtype == "torch.float16"
        assert is_finite


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.kinds = net(1, {}), []

    def training_step(self, batch, batch_idx):
        self.kinds.append(type(self.net[1]).__name__)
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val", self.net(batch[0]).square().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(world, **kwargs):
    module = Classifier()
    trainer = L.Trainer(
        accelerator="cpu", devices=world, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **kwargs,
    )  # fmt: skip
    data = DataLoader(TensorDataset(samples(1).flatten(0, 1)[:16]), batch_size=8 // world)
    trainer.fit(module, data, data)
    state = {name: value.tolist() for name, value in module.state_dict().items()}
    return state, module.kinds[0], type(module.net[1]).__name__, trainer.callback_metrics["val"].item()


class Doubled(LayerSync):
    """A layer sync of one's own: marks what it did."""

    def apply(self, model):
        model.applied = True
        return model

    def revert(self, model):
        assert model.applied
        model.reverted = True
        return model


def with_plugin():
    module = Classifier()
    strategy = DDPStrategy()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, fast_dev_run=True, plugins=[Doubled()], strategy=strategy
    )
    data = DataLoader(TensorDataset(samples(1)[0][:4]), batch_size=2)
    trainer.fit(module, data, data)
    return module.reverted


def test_the_flag_gives_the_numbers_of_one_process_and_plain_layers_afterwards():
    state, _, _, value = fit(1)
    for ours, kind, afterwards, theirs in in_processes(fit_together, 2):
        assert (kind, afterwards) == ("SyncBatchNorm", "BatchNorm1d")
        for name, one in state.items():
            torch.testing.assert_close(torch.tensor(ours[name]), torch.tensor(one), rtol=1e-10, atol=1e-10)
        assert theirs == pytest.approx(value)


def fit_together():
    return fit(2, sync_batchnorm=True)


def test_a_layer_sync_of_ones_own_is_a_plugin():
    assert in_processes(with_plugin, 2) == [True, True]
