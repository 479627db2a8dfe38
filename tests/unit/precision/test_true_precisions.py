from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn

from levin.precision import DoublePrecision, HalfPrecision, Precision

TRUE = [
    pytest.param(HalfPrecision, "16-true", torch.float16, id="16-true"),
    pytest.param(HalfPrecision, "bf16-true", torch.bfloat16, id="bf16-true"),
    pytest.param(lambda _: DoublePrecision(), "64-true", torch.float64, id="64-true"),
]


def test_float32_costs_nothing_since_the_step_is_the_function_itself():
    def step(batch):
        return batch

    assert Precision().wrap_step(step) is step


def test_float32_leaves_everything_as_it_is():
    precision, module, batch = Precision(), nn.Linear(2, 1), {"x": torch.zeros(1, dtype=torch.float64)}
    assert precision.convert_module(module) is module
    assert precision.convert_input(batch) is batch
    assert precision.convert_output(batch) is batch
    assert precision.state_dict() == {}
    with precision.module_init_context(), precision.tensor_init_context(), precision.forward_context():
        assert torch.zeros(1).dtype is torch.float32


def test_float32_neither_scales_nor_skips():
    precision = Precision()
    assert precision.scaler is None
    assert not precision.scales
    assert precision.stepped


@pytest.mark.parametrize(("make", "word", "dtype"), TRUE)
def test_a_true_precision_casts_module_input_and_new_tensors(make, word, dtype):
    precision = make(word)
    assert precision.precision == word
    assert {p.dtype for p in precision.convert_module(nn.Linear(2, 1)).parameters()} == {dtype}
    assert precision.convert_input(torch.zeros(1)).dtype is dtype
    for context in (precision.module_init_context, precision.tensor_init_context, precision.forward_context):
        with context():
            assert nn.Linear(1, 1).weight.dtype is dtype
        assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize(("make", "word", "dtype"), TRUE)
def test_only_floating_point_tensors_are_cast_however_deep_they_lie(make, word, dtype):
    pair = namedtuple("pair", "left right")
    batch = {
        "a": [pair(torch.ones(2), torch.ones(2, dtype=torch.int64))],
        "b": (torch.ones(1, dtype=torch.bool), "text", 3),
    }
    cast = make(word).convert_input(batch)
    assert cast["a"][0].left.dtype is dtype
    assert cast["a"][0].right.dtype is torch.int64
    assert cast["b"][0].dtype is torch.bool
    assert cast["b"][1:] == ("text", 3)
    assert isinstance(cast["a"][0], pair)


@pytest.mark.parametrize(("make", "word", "dtype"), TRUE)
def test_outputs_return_to_the_default_type(make, word, dtype):
    assert make(word).convert_output({"y": torch.zeros(1, dtype=dtype)})["y"].dtype is torch.float32


@pytest.mark.parametrize(("make", "word", "dtype"), TRUE)
def test_a_wrapped_step_gets_converted_arguments_and_makes_tensors_of_its_type(make, word, dtype):
    step = make(word).wrap_step(
        lambda batch, batch_idx, *, weight: (batch.dtype, batch_idx, weight.dtype, torch.ones(1).dtype)
    )
    assert step(torch.zeros(1), 7, weight=torch.zeros(1)) == (dtype, 7, dtype, dtype)


@pytest.mark.parametrize(("make", "word", "dtype"), TRUE)
def test_the_default_type_comes_back_when_a_step_raises(make, word, dtype):
    def step(batch):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        make(word).wrap_step(step)(torch.zeros(1))
    assert torch.get_default_dtype() is torch.float32


def test_half_precision_knows_two_words():
    with pytest.raises(ValueError, match="'16-true' or 'bf16-true'"):
        HalfPrecision("16-mixed")


@pytest.mark.parametrize(("make", "word", "dtype"), TRUE)
def test_training_is_bit_equal_to_a_loop_written_by_hand(make, word, dtype):
    data = torch.randn(5, 8, 4, generator=torch.Generator().manual_seed(1))

    def model():
        torch.manual_seed(0)
        return nn.Linear(4, 1)

    by_hand = model().to(dtype)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for batch in data:
        optimizer.zero_grad()
        by_hand(batch.to(dtype)).square().mean().backward()
        optimizer.step()

    precision = make(word)
    ours = precision.convert_module(model())
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    step = precision.wrap_step(lambda batch: ours(batch).square().mean())
    for batch in data:
        optimizer.zero_grad()
        precision.backward(step(batch))
        precision.optimizer_step(optimizer)
    assert torch.equal(ours.weight, by_hand.weight)
    assert torch.equal(ours.bias, by_hand.bias)


def test_backward_hands_its_arguments_to_torch():
    x = torch.ones(2, requires_grad=True)
    loss = (x * 3).sum()
    Precision().backward(loss, None, torch.tensor(2.0), retain_graph=True)
    Precision().backward(loss)
    assert x.grad.tolist() == [9.0, 9.0]


def test_a_step_runs_the_closure_and_returns_its_loss():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert Precision().optimizer_step(optimizer, closure).item() == 1.0
    assert weight.item() == 0.0


def grads(*values):
    parameters = []
    for value in values:
        parameter = nn.Parameter(torch.zeros(()))
        parameter.grad = torch.tensor(value)
        parameters.append(parameter)
    return parameters


def test_clipping_by_norm_keeps_the_direction_and_returns_the_norm_before():
    parameters = grads(3.0, 4.0)
    assert Precision().clip_gradients(iter(parameters), 1.0).item() == 5.0
    assert [round(p.grad.item(), 4) for p in parameters] == [0.6, 0.8]


def test_clipping_by_value_bounds_each_gradient():
    parameters = grads(3.0, -4.0, 0.5)
    assert Precision().clip_gradients(parameters, 1.0, "value") is None
    assert [p.grad.item() for p in parameters] == [1.0, -1.0, 0.5]


def test_a_bound_of_zero_clips_nothing():
    parameters = grads(3.0)
    Precision().clip_gradients(parameters, 0.0)
    assert parameters[0].grad.item() == 3.0


def test_an_unknown_clipping_algorithm_is_told_with_the_known_ones():
    from levin.utils.errors import MisconfigurationException

    with pytest.raises(MisconfigurationException, match="'norm' or 'value'"):
        Precision().clip_gradients([], 1.0, "nrom")
