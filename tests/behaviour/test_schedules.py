"""What a fit says of its learning rates before it begins, and of which schedules it warns."""

from __future__ import annotations

import random
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as torchs

import levin as L
from levin.testing import BoringModel
from levin.trainer.schedules import tell_plans
from levin.utils.errors import PossibleUserWarning


def lambdas(function):
    return lambda optimizer: torchs.LambdaLR(optimizer, function)


def one(kind, *args, **kwargs):
    return lambda optimizer: kind(optimizer, *args, **kwargs)


def after_warm_up(steps, total):
    def make(optimizer):
        parts = [torchs.LinearLR(optimizer, 0.01, total_iters=steps)]
        parts.append(torchs.CosineAnnealingLR(optimizer, total - steps))
        return torchs.SequentialLR(optimizer, parts, milestones=[steps])

    return make


class Ends(L.Callback):
    """Ends a fit before its first batch."""

    def on_train_start(self, trainer, pl_module):
        trainer.should_stop = True


class Compares(Ends):
    """Has the plan said once more, and notes what there is before and after it."""

    def on_train_start(self, trainer, pl_module):
        super().on_train_start(trainer, pl_module)
        self.before = self.state(trainer)
        configs, batches = trainer.lr_scheduler_configs, trainer.num_training_batches
        tell_plans(trainer.run, configs, batches, validates=True)
        self.after = self.state(trainer)

    def state(self, trainer):
        numbers = [*random.getstate()[1], *np.random.get_state()[1], *torch.get_rng_state().tolist()]
        scheduler, optimizer = trainer.lr_scheduler_configs[0].scheduler, trainer.optimizers[0]
        return deepcopy((scheduler.state_dict(), optimizer.state_dict(), numbers))


@pytest.fixture
def plan(quiet, noting, batches, said):
    """``plan(make_scheduler, batches, **settings)`` -> the line of the plan, and the trainer."""

    def run(make, count=100, settings=None, configure=None, **kwargs):
        def usual():
            optimizer = SGD(noting.parameters(), lr=1.0)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": make(optimizer), **(settings or {})},
            }

        noting.configure_optimizers = configure or usual
        trainer = quiet(**{"max_epochs": 2, "callbacks": Ends(), **kwargs})
        trainer.fit(noting, batches(count), batches(1))
        lines = [line for line in said().splitlines() if "Learning rate" in line]
        return [line[line.index("Learning rate") :] for line in lines]

    return run


# ---------------------------------------------------------------------- the plan

STEP = {"interval": "step"}
PLANS = {
    "by epochs": (
        one(torchs.ExponentialLR, 0.5),
        {},
        {"max_epochs": 4},
        "1 at the start, 0.125 at the end; ExponentialLR moves it each epoch, 4 times.",
    ),
    "by some epochs": (
        one(torchs.ExponentialLR, 0.5),
        {"frequency": 3},
        {"max_epochs": 7},
        "1 at the start, 0.25 at the end; ExponentialLR moves it every 3 epochs, 2 times.",
    ),
    "once": (
        one(torchs.ExponentialLR, 0.5),
        {},
        {"max_epochs": 1},
        "1 at the start, 1 at the end; ExponentialLR moves it each epoch, once.",
    ),
    "by steps": (
        one(torchs.OneCycleLR, 2.0, total_steps=200),
        STEP,
        {},
        "0.08 at the start, 2 at most, 8e-06 at the end; OneCycleLR moves it each step, 200 times.",
    ),
    "accumulating": (
        one(torchs.LinearLR, 1.0, 0.0, 49),
        STEP,
        {"accumulate_grad_batches": 4},
        "1 at the start, 0 at the end; LinearLR moves it each step, 50 times.",
    ),
    "up to max_steps": (
        one(torchs.LinearLR, 1.0, 0.0, 29),
        STEP,
        {"max_steps": 30},
        "1 at the start, 0 at the end; LinearLR moves it each step, 30 times.",
    ),
    "whole epochs": (
        one(torchs.ExponentialLR, 0.5),
        {},
        {"max_steps": 350, "max_epochs": -1},
        "1 at the start, 0.25 at the end; ExponentialLR moves it each epoch, 3 times.",
    ),
    "with a warm-up": (
        after_warm_up(50, 200),
        STEP,
        {},
        "0.01 at the start, 1 at most, 0.00011 at the end; SequentialLR moves it each step, 200 times.",
    ),
    "without an end": (
        one(torchs.ExponentialLR, 0.5),
        STEP,
        {"max_epochs": -1},
        "1 at the start; ExponentialLR moves it each step.",
    ),
    "until time is up": (
        one(torchs.ExponentialLR, 0.5),
        {},
        {"max_time": "00:00:01:00", "max_epochs": None},
        "1 at the start; ExponentialLR moves it each epoch.",
    ),
    "by some batches": (
        one(torchs.ExponentialLR, 0.5),
        {"frequency": 3, **STEP},
        {},
        "1 at the start; ExponentialLR moves it every 3 batches.",
    ),
    "by validations": (
        one(torchs.ExponentialLR, 0.5),
        {"interval": "validation"},
        {},
        "1 at the start; ExponentialLR moves it each validation.",
    ),
    "a metric": (
        one(torchs.ReduceLROnPlateau),
        {"monitor": "loss"},
        {},
        "1 at the start; ReduceLROnPlateau looks at 'loss' each epoch.",
    ),
    "move by move only": (
        one(torchs.MultiplicativeLR, lambda _: 0.5),
        {},
        {},
        "1 at the start; MultiplicativeLR moves it each epoch.",
    ),
}


@pytest.mark.parametrize(("make", "settings", "kwargs", "expected"), PLANS.values(), ids=PLANS)
def test_the_plan_is_said(plan, make, settings, kwargs, expected):
    assert plan(make, 100, settings, **kwargs) == [f"Learning rate of SGD: {expected}"]


def test_of_several_groups_the_first_is_told(plan, noting):
    def configure():
        other = torch.nn.Parameter(torch.zeros(1))
        groups = [{"params": noting.parameters(), "lr": 0.5}, {"params": [other], "lr": 9}]
        optimizer = SGD(groups)
        return [optimizer], [torchs.StepLR(optimizer, 1), torchs.StepLR(optimizer, 5)]

    lines = plan(None, configure=configure)
    rates = [line.removeprefix("Learning rate of SGD (first of 2 groups): ").split(";")[0] for line in lines]
    assert rates == ["0.5 at the start, 0.05 at the end", "0.5 at the start, 0.5 at the end"]


@pytest.mark.parametrize("mode", [{"fast_dev_run": 2}, {"barebones": True}], ids=str)
def test_a_trial_says_nothing(quiet, noting, batches, said, mode):
    optimizer = SGD(noting.parameters(), 1.0)
    noting.configure_optimizers = lambda: ([optimizer], [torchs.CosineAnnealingLR(optimizer, 200)])
    settings = {"max_epochs": 2, **mode}
    if "barebones" in mode:
        trainer = L.Trainer(accelerator="cpu", **settings, callbacks=Ends())
    else:
        trainer = quiet(**settings, callbacks=Ends())
    trainer.fit(noting, batches(100), batches(1))
    assert "Learning rate" not in said()


def test_manual_optimization_says_nothing(plan, noting):
    noting.automatic_optimization = False
    assert plan(one(torchs.StepLR, 1)) == []


def test_a_module_that_moves_schedulers_its_own_way_is_asked_for_no_more(plan, noting):
    type(noting).lr_scheduler_step = lambda self, scheduler, metric: scheduler.step(self.current_epoch)
    try:
        assert plan(one(torchs.StepLR, 1)) == [
            "Learning rate of SGD: 1 at the start; StepLR moves it each epoch."
        ]
    finally:
        del type(noting).lr_scheduler_step


def test_a_cycle_that_is_too_short_has_no_plan(plan):
    with pytest.warns(UserWarning, match=r"OneCycleLR was made for 20 moves. It has made 0"):
        assert plan(one(torchs.OneCycleLR, 1.0, total_steps=20), settings=STEP) == []


def test_a_scheduler_that_can_not_be_copied_is_no_error(plan):
    class Gamma(float):
        def __deepcopy__(self, memo):
            raise TypeError

    assert plan(one(torchs.ExponentialLR, Gamma(0.5))) == []


def test_without_validations_what_goes_by_them_is_told(plan):
    with pytest.warns(UserWarning, match=r"StepLR moves with validations, and this fit has none"):
        plan(one(torchs.StepLR, 1), settings={"interval": "validation"}, limit_val_batches=0)


# ---------------------------------------------------------------------- nothing is touched


class Warming:
    """A schedule with a state of its own."""

    calls = 0

    def __call__(self, step):
        self.calls += 1
        return 0.5

    def rate(self, step):
        self.calls += 1
        return 0.5


CALLS: list[int] = []
ACTING = {
    "appends": lambda step: (CALLS.append(step), 0.5)[1],
    "appends within": lambda step: [CALLS.append(each) for each in (step,)] and 0.5,
    "appends as a part": partial(lambda calls, step: calls.append(step) or 0.5, CALLS),
    "takes the next": (lambda rates: lambda step: next(rates))(iter([0.5] * 9)),
    "stores": Warming(),
    "stores as a method": Warming().rate,
    "is built in": {0: 0.5, 1: 0.4}.get,
}


@pytest.mark.parametrize("function", ACTING.values(), ids=ACTING)
def test_a_users_function_that_may_do_more_than_compute_is_not_called(plan, function):
    CALLS.clear()
    lines = plan(lambdas(function))
    assert lines == ["Learning rate of SGD: 0.5 at the start; LambdaLR moves it each epoch."]
    assert CALLS in ([], [0])  # torch itself calls it once


COMPUTING = {
    "a lambda": lambda step: 1 / (step + 1),
    "what it closes over": (lambda rates: lambda step: rates[step])([1, 0.5]),
    "a part": partial(lambda base, step: base**step, 0.5),
    "sums": lambda step: 1 - sum(0.5 for _ in range(step)),
}


@pytest.mark.parametrize("function", COMPUTING.values(), ids=COMPUTING)
def test_a_users_function_that_computes_is_tried(plan, function):
    (line,) = plan(lambdas(function))
    assert "1 at the start, 0.5 at the end" in line


@pytest.mark.parametrize(
    "make",
    [
        after_warm_up(50, 200),
        one(torchs.OneCycleLR, 2.0, total_steps=300),
        lambdas(lambda step: random.random() + np.random.rand() + float(torch.rand(()))),
    ],
)
def test_schedulers_optimizers_and_random_numbers_are_left_alone(quiet, noting, batches, said, make):
    def configure():
        optimizer = torch.optim.AdamW(noting.parameters(), lr=torch.tensor(1.0))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": make(optimizer), **STEP}}

    noting.configure_optimizers, compares = configure, Compares()
    quiet(max_epochs=2, callbacks=compares).fit(noting, batches(100), batches(1))
    assert said().count("at the end") == 2
    assert compares.after == compares.before


# ---------------------------------------------------------------------- steps that were taken for epochs

MISTAKEN = {  # all by epochs, in a fit of 2 epochs and 200 steps
    "a linear warm-up": one(torchs.LinearLR, total_iters=100),
    "a constant warm-up": one(torchs.ConstantLR, total_iters=60),
    "a warm-up of a function": lambdas(lambda step: min(1.0, (step + 1) / 100)),
    "a warm-up and a decay": lambdas(lambda step: min((step + 1) / 60, max(0, (200 - step) / 140))),
    "a warm-up in a sequence": after_warm_up(60, 200),
    "a cosine over all steps": one(torchs.CosineAnnealingLR, 200),
    "a decay over all steps": one(torchs.LinearLR, 1.0, 0.0, 200),
    "a polynomial over all steps": one(torchs.PolynomialLR, 195),
    "a cycle of steps": one(torchs.CyclicLR, 0.01, 1.0, step_size_up=80, cycle_momentum=False),
}


@pytest.mark.parametrize("make", MISTAKEN.values(), ids=MISTAKEN)
def test_a_schedule_of_steps_that_goes_by_epochs_is_told_with_what_mends_it(plan, make):
    mends = r'2 times, and it has 200 optimizer steps.*{"scheduler": scheduler, "interval": "step"}'
    with pytest.warns(PossibleUserWarning, match=mends) as caught:
        plan(make)
    assert len(caught) == 1


@pytest.mark.parametrize("make", MISTAKEN.values(), ids=MISTAKEN)
def test_the_same_schedule_by_steps_is_as_it_should_be(plan, make):
    assert "moves it each step, 200 times" in plan(make, settings=STEP)[0]


def test_steps_are_counted_not_batches(plan):
    make = one(torchs.CosineAnnealingLR, 100)
    with pytest.warns(PossibleUserWarning, match="100 optimizer steps"):
        plan(make, 200, accumulate_grad_batches=4)
    plan(make, 200)


def test_it_is_told_once_not_when_a_fit_goes_on(plan, noting, quiet, batches, tmp_path):
    with pytest.warns(PossibleUserWarning):
        plan(one(torchs.CosineAnnealingLR, 200), callbacks=[])
    noting.trainer.save_checkpoint(tmp_path / "x.ckpt")
    quiet(max_epochs=3).fit(noting, batches(100), batches(1), ckpt_path=tmp_path / "x.ckpt")


def test_a_cycle_by_epochs_is_told_once_when_it_is_made(plan):
    with pytest.warns(RuntimeWarning, match="OneCycleLR") as caught:
        plan(one(torchs.OneCycleLR, 1.0, total_steps=200))
    assert len(caught) == 1


MEANT = {  # epochs, batches, scheduler
    "steps": (9, 100, one(torchs.StepLR, 3)),
    "steps beyond a short fit": (2, 100, one(torchs.StepLR, 30)),
    "milestones": (2, 100, one(torchs.MultiStepLR, [60, 90])),
    "an exponential": (5, 100, one(torchs.ExponentialLR, 0.9)),
    "a slow exponential": (5, 100, one(torchs.ExponentialLR, 0.99)),
    "a growing exponential": (5, 100, one(torchs.ExponentialLR, 1.02)),
    "a cosine": (10, 100, one(torchs.CosineAnnealingLR, 10)),
    "a cosine of a longer fit": (1, 20, one(torchs.CosineAnnealingLR, 100)),
    "a cosine over small epochs": (30, 2, one(torchs.CosineAnnealingLR, 60)),
    "restarts": (10, 100, one(torchs.CosineAnnealingWarmRestarts, 5)),
    "a warm-up": (10, 100, one(torchs.LinearLR, 0.01, total_iters=5)),
    "a warm-up that is cut off": (1, 100, one(torchs.LinearLR, 0.01, total_iters=20)),
    "a long warm-up that is cut off": (20, 100, one(torchs.LinearLR, 0.01, total_iters=60)),
    "a warm-up and a cosine": (100, 10, after_warm_up(5, 100)),
    "a warm-up and a cosine of a longer fit": (2, 100, after_warm_up(10, 300)),
    "a polynomial": (20, 100, one(torchs.PolynomialLR, 20)),
    "a function": (10, 100, lambdas(lambda epoch: 0.95**epoch)),
    "a function that grows": (10, 100, lambdas(lambda epoch: epoch + 1)),
    "a constant": (10, 100, lambdas(lambda epoch: 1.0)),
}


@pytest.mark.parametrize(("epochs", "count", "make"), MEANT.values(), ids=MEANT)
def test_a_schedule_of_epochs_is_no_cause_for_alarm(plan, epochs, count, make):
    (line,) = plan(make, count, max_epochs=epochs)
    assert "at the end" in line


def test_a_schedule_that_ends_before_the_fit_is_told_at_the_start(quiet, tmp_path):
    class Model(BoringModel):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            steps = self.trainer.estimated_stepping_batches
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    trainer = quiet(max_epochs=2, limit_train_batches=3)
    trainer.fit(Model())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    told = pytest.warns(UserWarning, match=r"made for 6 moves. It has made 6, and this fit makes 3 more")
    with told, pytest.raises(ValueError, match="Tried to step 7 times"):
        quiet(max_epochs=3, limit_train_batches=3).fit(Model(), ckpt_path=tmp_path / "two.ckpt")
    longer = quiet(max_epochs=3, limit_train_batches=3)
    longer.fit(Model(), ckpt_path=tmp_path / "two.ckpt", reset={"scheduler"})
    assert longer.global_step == 9
