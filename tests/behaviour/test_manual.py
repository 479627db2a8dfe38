from __future__ import annotations

import copy

import pytest
import torch
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

import levin as L
from levin.core.optimizers import LightningOptimizer
from levin.utils.errors import MisconfigurationException


class Manual(L.LightningModule):
    """Two layers of one weight each, a weight that both optimizers have, and one that none has."""

    def __init__(self, train=None):
        super().__init__()
        self.automatic_optimization = False
        self.a, self.b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        self.a.bias.requires_grad = False
        self.shared, self.free = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.train_by = train or (lambda self: None)

    def training_step(self, batch, batch_idx):
        return self.train_by(self)

    def loss(self):
        return sum(parameter.sum() for parameter in self.parameters())

    def needing_gradients(self):
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def configure_optimizers(self):
        return [SGD([*layer.parameters(), self.shared], lr=1.0) for layer in (self.a, self.b)]


class Single(L.LightningModule):
    """One weight with the gradient 3, and one optimizer."""

    def __init__(self, train=lambda self: None):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.train_by = train

    def training_step(self, batch, batch_idx):
        self.weight.grad = torch.tensor(3.0)
        return self.train_by(self)

    def configure_optimizers(self):
        return SGD(self.parameters(), lr=1.0)


@pytest.fixture
def fit(quiet, batches):
    """``fit(module, **Trainer's arguments)`` trains on two batches and returns the trainer."""

    def run(module, **settings):
        trainer = quiet(**{"max_epochs": 1, **settings})
        trainer.fit(module, batches(2))
        return trainer

    return run


# ------------------------------------------------------------ counting


def test_each_step_of_each_optimizer_counts(fit):
    def train(self):
        first, second = self.optimizers()
        for optimizer in (first, second, first):
            before = self.global_step
            optimizer.step()
            assert self.global_step == before + 1

    assert fit(Manual(train)).global_step == 6


def test_batches_without_a_step_do_not_count(fit):
    assert fit(Manual()).global_step == 0


def test_steps_end_a_training_that_is_limited_in_steps(fit):
    def train(self):
        for optimizer in self.optimizers():
            optimizer.step()

    assert fit(Manual(train), max_epochs=9, max_steps=5).global_step == 6  # a batch is not cut in two


def test_without_optimizers_the_module_does_what_it_likes(fit):
    module = Manual(lambda self: seen.append(self.optimizers()))
    module.configure_optimizers = list
    seen = []
    assert fit(module).optimizers == []
    assert seen == [[], []]


# ------------------------------------------------------------ outputs


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (None, {}),
        (torch.tensor(2.0), {"loss": 2.0}),
        ({"x": "anything"}, {"x": "anything"}),
        ({"loss": "no tensor"}, {"loss": "no tensor"}),
        ({"loss": torch.tensor(2.0), "x": 1}, {"loss": 2.0, "x": 1}),
    ],
)
def test_a_step_may_return_a_tensor_a_dict_or_nothing(fit, returned, expected):
    seen = []
    module = Manual(lambda self: returned)
    module.on_train_batch_end = lambda outputs, batch, batch_idx: seen.append(outputs)
    fit(module)
    assert seen == [expected] * 2


def test_a_loss_is_seen_by_hooks_without_its_graph(fit):
    seen = []
    for wrap in (lambda loss: loss, lambda loss: {"loss": loss}):
        module = Manual(lambda self, wrap=wrap: wrap(self.loss()))
        module.on_train_batch_end = lambda outputs, *_: seen.append(outputs["loss"].requires_grad)
        fit(module)
    assert seen == [False] * 4


def test_anything_else_is_refused(fit):
    with pytest.raises(MisconfigurationException, match=r"returned a float.*manual optimization"):
        fit(Manual(lambda self: 1.0))


# ------------------------------------------------------------ what the Trainer leaves alone


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 1.0}, r"gradient_clip_val=1.0.*self\.clip_gradients"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
    ],
)
def test_the_trainer_can_neither_clip_nor_accumulate(fit, settings, message):
    with pytest.raises(MisconfigurationException, match=message):
        fit(Manual(), **settings)


def test_schedulers_move_when_they_are_told_to(fit):
    class Scheduled(Single):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [ExponentialLR(optimizer, 0.5), ReduceLROnPlateau(optimizer)]

    def train(self):
        self.optimizers().step()
        if self.current_epoch == 1:
            self.lr_schedulers()[0].step()

    module = Scheduled(train)
    trainer = fit(module, max_epochs=3)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.25
    assert [type(scheduler) for scheduler in module.lr_schedulers()] == [ExponentialLR, ReduceLROnPlateau]


def test_settings_of_schedulers_that_do_nothing_warn(fit):
    class Scheduled(Single):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            settings = {"interval": "step", "frequency": 2, "name": "rate"}
            return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.5), **settings}]

    with pytest.warns(RuntimeWarning, match=r"sets \['frequency'\], which do nothing in manual"):
        fit(Scheduled())


def test_manual_backward_belongs_to_manual_optimization(fit):
    module = Single(lambda self: self.manual_backward(self.weight * 1))
    module.automatic_optimization = True
    with pytest.raises(MisconfigurationException, match="automatic_optimization = False"):
        fit(module)


# ------------------------------------------------------------ hooks


def test_manual_backward_runs_the_hooks_and_passes_its_arguments_on(fit):
    class Watching(Single):
        def on_before_backward(self, loss):
            seen.append(("before", loss.item()))

        def backward(self, loss, *args, **kwargs):
            seen.append((args, kwargs))
            super().backward(loss, *args, **kwargs)

        def on_after_backward(self):
            seen.append(("after", self.weight.grad.item()))

    seen = []
    scale = torch.tensor(2.0)
    fit(Watching(lambda self: self.manual_backward(self.weight * 1 + 5, scale, retain_graph=True)))
    once = [("before", 5.0), ((scale,), {"retain_graph": True}), ("after", 5.0)]
    assert seen == once * 2


def test_a_step_runs_the_hook_before_it_with_the_optimizer_itself_and_no_other_hook(fit):
    class Watching(Single):
        def on_before_optimizer_step(self, optimizer):
            seen.append(("before", type(optimizer), self.weight.item()))

        def on_before_zero_grad(self, optimizer):
            raise AssertionError

        def optimizer_step(self, *_):
            raise AssertionError

        optimizer_zero_grad = configure_gradient_clipping = clip_gradients = optimizer_step

    def train(self):
        self.optimizers().step(closure=lambda: seen.append("closure"))
        self.optimizers().zero_grad()

    seen = []
    fit(Watching(train))
    assert seen == ["closure", ("before", SGD, 0.0), "closure", ("before", SGD, -3.0)]


# ------------------------------------------------------------ the optimizer as modules see it


def wrapped(fit, make=SGD):
    """Return a wrapped optimizer and what it wraps."""
    seen = []
    module = Single(lambda self: seen.append(self.optimizers()))
    module.configure_optimizers = lambda: make(module.parameters(), lr=1.0)
    trainer = fit(module)
    return seen[0], trainer.optimizers[0]


def test_a_wrapped_optimizer_is_one_of_its_own_kind(fit):
    optimizer, raw = wrapped(fit)
    assert isinstance(optimizer, SGD)
    assert isinstance(optimizer, LightningOptimizer)
    assert type(optimizer).__name__ == "LightningSGD"
    assert optimizer.optimizer is raw
    assert (optimizer.param_groups is raw.param_groups, optimizer.state is raw.state) == (True, True)
    assert optimizer.defaults is raw.defaults


def test_everything_else_of_a_wrapped_optimizer_is_the_others(fit):
    class Counting(SGD):
        count = 7

        def add(self, number):
            self.count += number
            return self.count

    optimizer, raw = wrapped(fit, Counting)
    assert optimizer.__getattr__("count") == 7
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    assert len(raw.param_groups) == 2
    raw.state[raw.param_groups[0]["params"][0]]["momentum_buffer"] = torch.ones(())
    assert optimizer.state_dict() == raw.state_dict()
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = optimizer.nothing_like_it


def test_a_state_loaded_through_the_wrapper_is_the_others(fit):
    optimizer, raw = wrapped(fit)
    state = raw.state_dict()
    state["param_groups"][0]["lr"] = 0.125
    optimizer.load_state_dict(state)
    assert raw.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.125


def test_a_scheduler_may_be_made_of_a_wrapped_optimizer(fit):
    optimizer, raw = wrapped(fit)
    scheduler = ExponentialLR(optimizer, gamma=0.5)
    optimizer.step()
    scheduler.step()
    assert raw.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("name", ["param_groups", "state", "defaults"])
def test_what_is_assigned_to_the_wrapper_is_the_optimizers(fit, name):
    optimizer, raw = wrapped(fit)
    replacement = copy.copy(getattr(raw, name))
    setattr(optimizer, name, replacement)
    assert getattr(raw, name) is getattr(optimizer, name) is replacement


def test_a_step_returns_what_its_closure_returns(fit):
    seen = []

    def train(self):
        seen.append((self.optimizers().step(closure=lambda: 5.0), self.optimizers().step()))

    fit(Single(train))
    assert seen == [(5.0, None)] * 2


def test_what_can_not_be_called_is_no_closure(fit):
    with pytest.raises(MisconfigurationException, match=r"got a Tensor\. Pass a function"):
        fit(Single(lambda self: self.optimizers().step(torch.ones(()))))


def test_arguments_of_a_step_reach_the_optimizer(fit):
    class Scaled(SGD):
        def step(self, closure=None, *, scale=1.0):
            self.param_groups[0]["lr"] = scale
            return super().step(closure)

    module = Single(lambda self: self.optimizers().step(scale=0.5))
    module.configure_optimizers = lambda: Scaled(module.parameters(), lr=1.0)
    fit(module)
    assert module.weight.item() == -3.0


def test_an_optimizer_may_call_its_closure_many_times(fit):
    def train(self):
        def closure():
            calls.append(1)
            optimizer.zero_grad()
            loss = (self.weight - 2) ** 2
            self.manual_backward(loss)
            return loss

        optimizer = self.optimizers()
        optimizer.step(closure)

    calls = []
    module = Single(train)
    module.configure_optimizers = lambda: LBFGS(module.parameters(), lr=0.5, max_iter=4)
    trainer = fit(module)
    by_hand = torch.nn.Parameter(torch.zeros(()))
    reference = LBFGS([by_hand], lr=0.5, max_iter=4)
    for _ in range(2):
        reference.step(lambda: (reference.zero_grad(), (loss := (by_hand - 2) ** 2).backward(), loss)[-1])
    assert module.weight.item() == by_hand.item()
    assert len(calls) > trainer.global_step == 2


def test_optimizers_come_alone_or_as_a_list(fit):
    seen = []
    fit(Manual(lambda self: seen.append((self.optimizers(), self.optimizers(use_pl_optimizer=False)))))
    fit(Single(lambda self: seen.append((self.optimizers(), self.optimizers(use_pl_optimizer=False)))))
    names = [[type(o).__name__ for o in (x if isinstance(x, list) else [x])] for x in (*seen[0], *seen[2])]
    assert names == [["LightningSGD"] * 2, ["SGD"] * 2, ["LightningSGD"], ["SGD"]]
    assert not isinstance(seen[2][0], list)


# ------------------------------------------------------------ toggling

ALL = {"a.weight", "b.weight", "b.bias", "shared", "free"}  # a.bias is frozen
OF_A, OF_B = {"a.weight", "shared", "free"}, {"b.weight", "b.bias", "shared", "free"}


def toggle_and_back(self, optimizer):
    self.toggle_optimizer(optimizer)
    yield
    self.untoggle_optimizer(optimizer)


def in_context(self, optimizer):
    with self.toggled_optimizer(optimizer):
        yield


def in_context_of_the_optimizer(self, optimizer):
    with optimizer.toggle_model():
        yield


def in_context_without_sync(self, optimizer):
    with optimizer.toggle_model(sync_grad=False):
        yield


def the_optimizer_itself(self, optimizer):
    yield from toggle_and_back(self, optimizer.optimizer)


@pytest.mark.parametrize(
    "toggle",
    [toggle_and_back, in_context, in_context_of_the_optimizer, in_context_without_sync, the_optimizer_itself],
)
def test_toggling_takes_gradients_from_what_only_others_have_and_gives_them_back(fit, toggle):
    def train(self):
        for optimizer in self.optimizers():
            seen.extend(self.needing_gradients() for _ in toggle(self, optimizer))
            seen.append(self.needing_gradients())

    seen = []
    fit(Manual(train), limit_train_batches=1)
    assert seen == [OF_A, ALL, OF_B, ALL]


def test_gradients_are_given_back_after_an_error(fit):
    def train(self):
        with self.toggled_optimizer(self.optimizers()[0]):
            raise ZeroDivisionError

    module = Manual(train)
    with pytest.raises(ZeroDivisionError):
        fit(module)
    assert module.needing_gradients() == ALL


def test_untoggling_what_was_not_toggled_changes_nothing(fit):
    module = Manual(lambda self: self.untoggle_optimizer(self.optimizers()[0]))
    fit(module)
    assert module.needing_gradients() == ALL


def test_a_second_toggle_ends_the_first(fit):
    def train(self):
        first, second = self.optimizers()
        with self.toggled_optimizer(first):
            seen.append(self.needing_gradients())
            with self.toggled_optimizer(second):
                seen.append(self.needing_gradients())
        seen.append(self.needing_gradients())

    seen = []
    fit(Manual(train), limit_train_batches=1)
    assert seen == [OF_A, OF_B, ALL]


def test_optimizers_may_be_replaced_while_training(fit):
    def train(self):
        if self.global_step == 1:
            self.trainer.optimizers = [SGD(self.parameters(), lr=10.0)]
        self.optimizers().step()

    module = Single(train)
    assert fit(module).global_step == 2
    assert module.weight.item() == -3.0 - 30.0


def test_a_backward_within_a_toggle_reaches_the_optimizers_own_parameters_alone(fit):
    def train(self):
        with self.toggled_optimizer(self.optimizers()[1]):
            self.manual_backward(self.loss())

    module = Manual(train)
    fit(module, limit_train_batches=1)
    assert {name for name, p in module.named_parameters() if p.grad is not None} == OF_B


# ------------------------------------------------------------ clipping

CLIPPED = {  # the Trainer's settings, the call's -> the gradient, which was 3
    "nothing said": ({}, {}, 3.0),
    "said in the call": ({}, {"gradient_clip_val": 2.0}, 2.0),
    "by value": ({}, {"gradient_clip_val": 2.0, "gradient_clip_algorithm": "value"}, 2.0),
    "nothing to clip to": ({}, {"gradient_clip_val": 0}, 3.0),
    "large enough": ({}, {"gradient_clip_val": 5.0}, 3.0),
    "the algorithm in the Trainer": ({"gradient_clip_algorithm": "value"}, {"gradient_clip_val": 2.0}, 2.0),
    "switched off in the Trainer": ({"gradient_clip_val": 0}, {}, 3.0),
}


@pytest.mark.parametrize(("settings", "call", "gradient"), CLIPPED.values(), ids=CLIPPED)
def test_gradients_are_clipped_as_said(fit, settings, call, gradient):
    seen = []

    def train(self):
        self.clip_gradients(self.optimizers(), **call)
        seen.append(self.weight.grad.item())

    fit(Single(train), **settings)
    assert seen == pytest.approx([gradient] * 2, abs=1e-5)


def test_clipping_by_norm_is_of_all_parameters_together(fit):
    def train(self):
        for parameter in self.parameters():
            parameter.grad = torch.full_like(parameter, 3.0)
        self.clip_gradients(self.optimizers()[0], gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        seen.append([p.grad.item() for p in (self.a.weight, self.a.bias, self.shared, self.b.weight)])

    seen = []
    fit(Manual(train), limit_train_batches=1)
    third = 1 / 3**0.5
    assert seen[0] == pytest.approx([third, third, third, 3.0], abs=1e-5)


CONFLICTS = {
    "value": ({"gradient_clip_val": 0}, {"gradient_clip_val": 2.0}, "gradient_clip_val is 2.0"),
    "algorithm": (
        {"gradient_clip_algorithm": "norm"},
        {"gradient_clip_val": 2.0, "gradient_clip_algorithm": "value"},
        "gradient_clip_algorithm is 'value'.*'norm' in the Trainer",
    ),
    "unknown": ({}, {"gradient_clip_val": 2.0, "gradient_clip_algorithm": "mean"}, "'mean' is unknown"),
    "unknown, with nothing to clip": ({}, {"gradient_clip_algorithm": "mean"}, "'mean' is unknown"),
}


@pytest.mark.parametrize(("settings", "call", "message"), CONFLICTS.values(), ids=CONFLICTS)
def test_contradictions_about_clipping_are_refused(fit, settings, call, message):
    with pytest.raises(MisconfigurationException, match=message):
        fit(Single(lambda self: self.clip_gradients(self.optimizers(), **call)), **settings)
