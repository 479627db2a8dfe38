from __future__ import annotations

import pytest
import torch
from torch import nn

from levin.testing import BoringModel
from levin.trainer.trainer import Trainer
from levin.utils.parameters import find_shared_parameters, grad_norm, set_shared_parameters


def two_layers(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Two parameters with gradients (3, 4) and (12,), and two without any."""
    layers = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    layers.to(dtype)
    layers[0].weight.grad = torch.tensor([[3.0, -4.0]], dtype=dtype)
    layers[1].bias.grad = torch.tensor([12.0], dtype=dtype)
    return layers


@pytest.mark.parametrize(
    ("norm_type", "name", "of_first", "total"),
    [
        (2, "2.0", 5.0, 13.0),
        ("2", "2.0", 5.0, 13.0),
        (1.0, "1.0", 7.0, 19.0),
        ("inf", "inf", 4.0, 12.0),
        (float("inf"), "inf", 4.0, 12.0),
    ],
)
def test_each_gradient_has_its_norm_and_all_together_theirs(norm_type, name, of_first, total):
    assert grad_norm(two_layers(), norm_type) == {
        f"grad_{name}_norm/0.weight": of_first,
        f"grad_{name}_norm/1.bias": 12.0,
        f"grad_{name}_norm_total": total,
    }


def test_the_separator_can_be_chosen():
    assert next(iter(grad_norm(two_layers(), 2, group_separator="|"))) == "grad_2.0_norm|0.weight"


def test_without_gradients_there_is_nothing():
    assert grad_norm(nn.Linear(2, 2), 2) == {}


@pytest.mark.parametrize("norm_type", [0, -1, "nan", float("nan"), "long"])
def test_a_norm_that_is_none_is_refused(norm_type):
    with pytest.raises(ValueError, match=f"norm_type={norm_type!r} has to be a number above 0"):
        grad_norm(two_layers(), norm_type)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_do_not_overflow(dtype):
    layer = nn.Linear(4, 1, bias=False, dtype=dtype)
    layer.weight.grad = torch.full_like(layer.weight, 2.0**15)
    assert grad_norm(layer, 2)["grad_2.0_norm_total"] == 2.0**16


def test_a_sparse_gradient_is_measured_as_a_dense_one():
    table = nn.Embedding(10, 1, sparse=True)
    table(torch.tensor([1, 1, 4])).sum().backward()  # the same row twice: gradients 2 and 1
    assert grad_norm(table, 1)["grad_1.0_norm_total"] == 3.0


def test_the_norms_need_no_graph():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.grad = torch.ones(1, 1, requires_grad=True) * 2  # as of a loss that has gradients in it
    assert not any(norm.requires_grad for norm in grad_norm(layer, 2).values())


class LogsNorms(BoringModel):
    def on_before_optimizer_step(self, optimizer):
        self.log_dict(grad_norm(self, norm_type=2))


def test_the_norms_can_be_logged(tmp_path):
    trainer = Trainer(
        max_steps=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(LogsNorms())
    assert {"grad_2.0_norm/layer.weight", "grad_2.0_norm_total"} <= set(trainer.callback_metrics)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.inner = nn.ModuleList([nn.Linear(2, 2), self.first])


def test_parameters_of_several_names_are_found():
    assert find_shared_parameters(Tied()) == [
        ["first.weight", "second.weight", "inner.1.weight"],
        ["first.bias", "inner.1.bias"],
    ]


def test_parameters_that_are_only_equal_are_not_shared():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].load_state_dict(model[0].state_dict())
    assert find_shared_parameters(model) == []


def test_parameters_that_came_apart_are_one_again():
    model = Tied()
    groups = find_shared_parameters(model)
    model.second.weight = nn.Parameter(torch.zeros(2, 2))
    assert set_shared_parameters(model, groups) is model
    assert model.second.weight is model.first.weight
    assert find_shared_parameters(model) == groups


def test_a_name_that_is_not_there_makes_no_new_parameter():
    model = Tied()
    with pytest.raises(AttributeError, match="wieght"):
        set_shared_parameters(model, [["first.weight", "second.wieght"]])
    assert not hasattr(model.second, "wieght")
