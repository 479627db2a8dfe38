from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from levin.precision import MixedPrecision
from levin.utils.errors import MisconfigurationException, NonFiniteError

DATA = torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(1))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def scaled(**kwargs) -> MixedPrecision:
    scaler = torch.amp.GradScaler("cpu", **{"init_scale": 1024.0, "growth_interval": 2, **kwargs})
    return MixedPrecision("16-mixed", "cpu", scaler)


def one(value: float = 1.0) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    """A parameter whose gradient is the factor in its loss, and its optimizer."""
    weight = nn.Parameter(torch.tensor(value))
    return weight, torch.optim.SGD([weight], lr=1.0)


def test_a_step_runs_under_autocast_and_leaves_batches_alone():
    seen = []
    MixedPrecision("bf16-mixed", "cpu").wrap_step(
        lambda batch: seen.append((batch.dtype, model()(batch).dtype))
    )(DATA[0])
    assert seen == [(torch.float32, torch.bfloat16)]
    assert not torch.is_autocast_enabled("cpu")


def test_bfloat16_has_no_scaler_and_takes_none():
    precision = MixedPrecision("bf16-mixed", "cpu")
    assert precision.scaler is None
    assert not precision.scales
    assert precision.state_dict() == {}
    with pytest.raises(MisconfigurationException, match="does not use a scaler"):
        MixedPrecision("bf16-mixed", "cpu", torch.amp.GradScaler("cpu"))


def test_only_mixed_words_are_taken():
    with pytest.raises(ValueError, match="'16-mixed' or 'bf16-mixed'"):
        MixedPrecision("16-true", "cpu")


def test_float16_makes_a_scaler_of_its_own():
    assert MixedPrecision("16-mixed", "cpu").scaler.get_scale() == 65536.0


def by_hand(data: torch.Tensor, scaler: torch.amp.GradScaler, clip: float) -> nn.Module:
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for batch in data:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = net(batch).float().square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    return net


def with_levin(data: torch.Tensor, precision: MixedPrecision, clip: float) -> tuple[nn.Module, list[bool]]:
    net, stepped = model(), []
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    forward = precision.wrap_step(lambda batch: net(batch).float().square().mean())
    for batch in data:

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = forward(batch)
            precision.backward(loss)
            precision.unscale_gradients(optimizer)
            precision.clip_gradients(net.parameters(), clip)
            return loss

        precision.optimizer_step(optimizer, closure)
        stepped.append(precision.stepped)
    return net, stepped


def test_float16_training_with_an_overflow_is_bit_equal_to_a_loop_written_by_hand():
    data = DATA.clone()
    data[2] *= 1e4  # its squared error overflows float16 gradients
    kwargs = {"init_scale": 2.0**10, "growth_interval": 2}
    scaler = torch.amp.GradScaler("cpu", **kwargs)
    expected = by_hand(data, scaler, clip=0.1)
    precision = scaled(**kwargs)
    net, stepped = with_levin(data, precision, clip=0.1)
    assert torch.equal(net.weight, expected.weight)
    assert torch.equal(net.bias, expected.bias)
    assert precision.scaler.state_dict() == scaler.state_dict()
    assert stepped == [True, True, False, True, True, True]


@pytest.mark.parametrize("fused", [False, True])
def test_an_overflow_leaves_the_weights_alone_halves_the_scale_and_says_so(fused):
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=fused)
    precision = scaled()
    precision.backward((weight * float("inf")).sum())
    precision.optimizer_step(optimizer)
    assert weight.item() == 1.0
    assert not precision.stepped
    assert precision.state_dict()["scale"] == 512.0
    optimizer.zero_grad()
    precision.backward((weight * 2).sum())
    precision.optimizer_step(optimizer)
    assert weight.item() == pytest.approx(0.9)
    assert precision.stepped


def test_the_closures_loss_comes_back_unscaled():
    weight, optimizer = one()
    precision = scaled()

    def closure():
        loss = weight * 3
        precision.backward(loss)
        return loss.detach()

    assert precision.optimizer_step(optimizer, closure).item() == 3.0
    assert weight.item() == -2.0


def test_who_runs_backward_himself_gets_the_scaled_loss():
    weight, optimizer = one()
    precision = scaled()
    loss = weight * 3
    precision.pre_backward(loss).backward()
    assert weight.grad.item() == 3 * 1024
    assert not precision.post_backward(loss).requires_grad
    precision.optimizer_step(optimizer)
    assert weight.item() == -2.0


def test_gradients_are_unscaled_once_however_often_one_asks():
    weight, optimizer = one()
    precision = scaled()
    precision.backward(weight * 3)
    for _ in range(3):
        precision.unscale_gradients(optimizer)
    assert weight.grad.item() == 3.0
    precision.optimizer_step(optimizer)
    assert weight.item() == -2.0


def test_a_closure_without_a_loss_leaves_weights_and_scale_alone():
    weight, optimizer = one()
    weight.grad = torch.tensor(5.0)
    precision = scaled()
    assert precision.optimizer_step(optimizer, optimizer.zero_grad) is None
    assert weight.item() == 1.0
    assert precision.scaler.get_scale() == 1024.0
    assert precision.stepped  # nothing was left out


def test_backward_may_run_before_a_closure_that_returns_nothing():
    weight, optimizer = one()
    precision = scaled()
    precision.backward(weight * 3)
    precision.optimizer_step(optimizer, lambda: precision.unscale_gradients(optimizer))
    assert precision.stepped
    assert weight.item() == -2.0


def test_a_closure_that_forgets_to_return_its_loss_still_steps():
    weight, optimizer = one()
    precision = scaled()
    precision.optimizer_step(optimizer, lambda: precision.backward(weight * 3))
    assert weight.item() == -2.0


def test_an_optimizer_without_gradients_is_no_error():
    weight, optimizer = one()
    precision = scaled()
    precision.unscale_gradients(optimizer)
    precision.optimizer_step(optimizer)
    assert weight.item() == 1.0
    assert precision.scaler.get_scale() == 1024.0


def test_two_optimizers_may_both_be_clipped_before_both_step():
    (left, first), (right, second) = one(), one()
    precision = scaled()
    precision.backward(left * 3)
    precision.backward(right * 5)
    for optimizer in (first, second):
        precision.unscale_gradients(optimizer)
    precision.clip_gradients([left], 1.0)
    precision.optimizer_step(first)
    precision.optimizer_step(second)
    assert left.item() == pytest.approx(0.0, abs=1e-5)
    assert right.item() == -4.0


def test_what_was_left_out_is_forgotten_with_the_next_backward():
    weight, optimizer = one()
    precision = scaled()
    precision.backward(weight * float("inf"))
    precision.optimizer_step(optimizer)
    assert not precision.stepped
    precision.backward(weight * 2)
    assert precision.stepped


def test_when_no_scale_helps_it_is_an_error():
    weight, optimizer = one()
    precision = scaled()

    def step(factor):
        optimizer.zero_grad()
        precision.backward(weight * factor)
        precision.optimizer_step(optimizer)

    for _ in range(99):
        step(float("nan"))
    step(1.0)
    for _ in range(99):
        step(float("nan"))
    with pytest.raises(NonFiniteError, match=r"The last 100 steps were left out.*'bf16-mixed'"):
        step(float("nan"))


@pytest.mark.parametrize("closure", [None, lambda: None])
def test_an_overflow_of_one_optimizer_skips_that_one_alone(closure):
    (left, first), (right, second) = one(), one()
    precision = scaled()
    precision.backward(left * float("inf"))
    precision.backward(right * 5)
    stepped = []
    for optimizer in (first, second):
        precision.optimizer_step(optimizer, closure)
        stepped.append(precision.stepped)
    assert stepped == [False, True]
    assert (left.item(), right.item()) == (1.0, -4.0)


def test_gradients_that_were_unscaled_and_then_dropped_do_not_spoil_the_next_step():
    weight, optimizer = one()
    precision = scaled()

    def training_step(factor, *, use):
        precision.backward(weight * factor)
        precision.unscale_gradients(optimizer)
        if use:
            precision.optimizer_step(optimizer)
        optimizer.zero_grad()

    step = precision.wrap_step(training_step)
    step(3.0, use=False)
    step(2.0, use=True)
    assert weight.item() == -1.0


def test_unscaling_again_after_another_backward_works_without_a_wrapped_step_too():
    weight, optimizer = one()
    precision = scaled()
    for factor in (3.0, 2.0):
        optimizer.zero_grad()
        precision.backward(weight * factor)
        precision.unscale_gradients(optimizer)
    precision.optimizer_step(optimizer)
    assert weight.item() == -1.0


def test_an_optimizer_may_step_many_times_within_one_training_step():
    weight, optimizer = one()
    precision = scaled()

    def training_step():
        for factor in (float("inf"), 3.0, 2.0):
            optimizer.zero_grad()
            precision.backward(weight * factor)
            precision.optimizer_step(optimizer)

    precision.wrap_step(training_step)()
    assert weight.item() == -4.0


def test_lbfgs_cannot_be_scaled_but_runs_in_bfloat16():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.LBFGS([weight])
    with pytest.raises(MisconfigurationException, match="LBFGS"):
        scaled().optimizer_step(optimizer, lambda: None)
    precision = MixedPrecision("bf16-mixed", "cpu")

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        precision.backward(loss)
        return loss

    precision.optimizer_step(optimizer, closure)
    assert abs(weight.item()) < 1e-3


def test_the_scalers_state_survives_a_checkpoint():
    precision = scaled()
    weight, optimizer = one()
    precision.backward(weight * float("nan"))
    precision.optimizer_step(optimizer)
    state = copy.deepcopy(precision.state_dict())
    restored = scaled()
    restored.load_state_dict(state)
    assert restored.state_dict() == state
    assert restored.scaler.get_scale() == 512.0


def test_a_checkpoint_written_without_a_scaler_can_be_loaded():
    precision = scaled()
    precision.load_state_dict({})
    assert precision.scaler.get_scale() == 1024.0
