from __future__ import annotations

from collections import OrderedDict, UserDict
from types import SimpleNamespace

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR

import levin as L
from levin.testing import BoringModel
from levin.utils.errors import MisconfigurationException
from levin.utils.types import LRSchedulerConfig


class Line(L.LightningModule):
    """One weight, from which each step takes the learning rate: 1 unless a test says otherwise.

    `rates` holds the learning rate at the start of each batch.
    """

    def __init__(self, configure=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.configure = configure or sgd
        self.rates = []

    def training_step(self, batch, batch_idx):
        return self.weight * 1

    def on_train_batch_start(self, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[0].get("lr"))

    def configure_optimizers(self):
        return self.configure(self)


def sgd(module):
    return SGD(module.parameters(), lr=1.0)


def halving(module, settings=None, make=lambda optimizer: ExponentialLR(optimizer, gamma=0.5), **more):
    """Return the dict form: SGD with a scheduler that halves, and the settings of its dict."""
    optimizer = sgd(module)
    scheduler = make(optimizer)
    given = scheduler if settings is None else {"scheduler": scheduler, **settings}
    return {"optimizer": optimizer, "lr_scheduler": given, **more}


def pair(module):
    optimizer = sgd(module)
    return optimizer, ExponentialLR(optimizer, gamma=0.5)


@pytest.fixture
def fit(quiet, batches):
    """``fit(module, **Trainer's arguments)`` trains two epochs of three batches and returns the trainer."""

    def run(module, val=None, ckpt_path=None, **settings):
        trainer = quiet(**{"max_epochs": 2, **settings})
        trainer.fit(module, batches(3), val, ckpt_path=ckpt_path)
        return trainer

    return run


# ------------------------------------------------------------ forms

WITHOUT_SCHEDULER = {
    "an optimizer": sgd,
    "a list of it": lambda m: [sgd(m)],
    "a tuple of it": lambda m: (sgd(m),),
    "two lists, one empty": lambda m: ([sgd(m)], []),
    "a dict": lambda m: {"optimizer": sgd(m)},
    "a dict without a scheduler": lambda m: {"optimizer": sgd(m), "lr_scheduler": None},
    "a list of a dict": lambda m: [{"optimizer": sgd(m)}],
    "an ordered dict": lambda m: OrderedDict(optimizer=sgd(m)),
}
WITH_SCHEDULER = {
    "two lists": lambda m: ([(p := pair(m))[0]], [p[1]]),
    "a list of two lists": lambda m: [[(p := pair(m))[0]], [p[1]]],
    "a list and a bare scheduler": lambda m: ([(p := pair(m))[0]], p[1]),
    "a list and a scheduler's dict": lambda m: ([(p := pair(m))[0]], [{"scheduler": p[1]}]),
    "a dict with a bare scheduler": halving,
    "a dict with a scheduler's dict": lambda m: halving(m, {"interval": "epoch"}),
    "a tuple of such a dict": lambda m: (halving(m),),
}


@pytest.mark.parametrize("configure", WITHOUT_SCHEDULER.values(), ids=WITHOUT_SCHEDULER)
def test_an_optimizer_may_be_given_in_any_form(fit, configure):
    module = Line(configure)
    trainer = fit(module)
    assert module.weight.item() == -6
    assert [type(optimizer) for optimizer in trainer.optimizers] == [SGD]
    assert trainer.lr_scheduler_configs == []
    assert module.lr_schedulers() is None


@pytest.mark.parametrize("configure", WITH_SCHEDULER.values(), ids=WITH_SCHEDULER)
def test_a_scheduler_may_be_given_in_any_form(fit, configure):
    module = Line(configure)
    trainer = fit(module)
    assert module.rates == [1.0] * 3 + [0.5] * 3
    assert module.lr_schedulers() is trainer.lr_scheduler_configs[0].scheduler


def test_without_an_optimizer_everything_runs_and_nothing_is_learnt(fit):
    module = Line(lambda _: None)
    module.on_before_zero_grad = lambda optimizer: module.rates.append(optimizer)
    with pytest.warns(UserWarning, match="returned None"):
        trainer = fit(module)
    assert (module.weight.item(), trainer.global_step) == (0, 6)
    assert len([rate for rate in module.rates if rate is not None]) == 6


NO_FORMS = {
    "a text": (lambda m: "adam", "returned a str, which is none of the forms"),
    "a class": (lambda m: SGD, "returned a type, which is none of the forms"),
    "an optimizer and a scheduler": (pair, r"a tuple of \[SGD, ExponentialLR\]"),
    "an optimizer and a dict": (lambda m: [sgd(m), {"optimizer": sgd(m)}], r"a list of \[SGD, dict\]"),
    "a dict without an optimizer": (lambda m: {"opt": sgd(m)}, r"keys \['opt'\]: 'optimizer' is missing"),
    "a class in a dict": (lambda m: {"optimizer": SGD}, "returned the class SGD where an optimizer is due"),
    "None in a list": (lambda m: ([None], []), "returned None where an optimizer is due"),
}


@pytest.mark.parametrize(("configure", "message"), NO_FORMS.values(), ids=NO_FORMS)
def test_what_is_none_of_the_forms_is_refused_with_what_was_given(fit, configure, message):
    with pytest.raises(MisconfigurationException, match=message):
        fit(Line(configure))


@pytest.mark.parametrize(
    ("configure", "count"),
    [
        (lambda m: [sgd(m), sgd(m)], 2),
        (lambda m: ([sgd(m), sgd(m)], []), 2),
        (lambda m: [{"optimizer": sgd(m)}, {"optimizer": sgd(m)}], 2),
        (lambda m: [], 0),
        (lambda m: ([], []), 0),
    ],
)
def test_automatic_optimization_takes_one_optimizer(fit, configure, count):
    with pytest.raises(RuntimeError, match=f"{count} optimizers.*automatic_optimization = False"):
        fit(Line(configure))


def test_unknown_keys_beside_an_optimizer_warn(fit):
    with pytest.warns(RuntimeWarning, match=r"unknown keys.*\['lr_schedular'\]"):
        fit(Line(lambda m: {"optimizer": sgd(m), "lr_schedular": None}))


# ------------------------------------------------------------ a scheduler's settings


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"interval": "step", "frequency": 2, "name": "halving"},
        {"monitor": "loss", "strict": False},
    ],
    ids=str,
)
def test_what_is_not_said_of_a_scheduler_has_a_default(fit, settings):
    (config,) = fit(Line(lambda m: halving(m, settings))).lr_scheduler_configs
    defaults = {"interval": "epoch", "frequency": 1, "monitor": None, "strict": True, "name": None}
    assert config == LRSchedulerConfig(
        config.scheduler, **{**defaults, "reduce_on_plateau": False, **settings}
    )


def test_a_monitor_beside_the_scheduler_is_the_schedulers_unless_it_has_one(fit):
    def configs(settings):
        return fit(Line(lambda m: halving(m, settings, monitor="outer"))).lr_scheduler_configs

    assert configs(None)[0].monitor == configs({})[0].monitor == "outer"
    assert configs({"monitor": "inner"})[0].monitor == "inner"


NO_SETTINGS = {
    "interval": (lambda m: halving(m, {"interval": "batch"}), "interval is 'batch'"),
    "frequency": (lambda m: halving(m, {"frequency": 0}), "frequency is 0"),
    "no scheduler": (
        lambda m: {"optimizer": sgd(m), "lr_scheduler": {"interval": "step"}},
        r"keys \['interval'\]: 'scheduler' is missing",
    ),
    "no monitor": (lambda m: halving(m, make=ReduceLROnPlateau), "ReduceLROnPlateau follows a metric"),
    "another's optimizer": (
        lambda m: {"optimizer": sgd(m), "lr_scheduler": StepLR(sgd(m), 1)},
        "StepLR moves an optimizer that `configure_optimizers` did not return",
    ),
}


@pytest.mark.parametrize(("configure", "message"), NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_settings_that_make_no_sense_are_refused(fit, configure, message):
    with pytest.raises(MisconfigurationException, match=message):
        fit(Line(configure))


def test_unknown_settings_of_a_scheduler_warn(fit):
    with pytest.warns(RuntimeWarning, match=r"unknown keys.*\['freq'\].*'frequency'"):
        fit(Line(lambda m: halving(m, {"freq": 2})))


def test_a_cycle_planned_in_steps_and_moved_in_epochs_warns(fit):
    with pytest.warns(RuntimeWarning, match="'interval': 'step'"):
        fit(Line(lambda m: halving(m, make=lambda o: OneCycleLR(o, 1.0, total_steps=9))))


# ------------------------------------------------------------ when schedulers move

MOVES = {  # settings, accumulation -> how often the rate was halved before each of two times four batches
    "epoch": ({}, 1, [0, 0, 0, 0, 1, 1, 1, 1]),
    "every second epoch": ({"frequency": 2}, 1, [0, 0, 0, 0, 0, 0, 0, 0]),
    "step": ({"interval": "step"}, 1, [0, 1, 2, 3, 4, 5, 6, 7]),
    "every second batch": ({"interval": "step", "frequency": 2}, 1, [0, 0, 1, 1, 2, 2, 3, 3]),
    "every third batch of an epoch": ({"interval": "step", "frequency": 3}, 1, [0, 0, 0, 1, 1, 1, 1, 2]),
    "step, accumulating": ({"interval": "step"}, 2, [0, 0, 1, 1, 2, 2, 3, 3]),
    "every third batch, where it steps": ({"interval": "step", "frequency": 3}, 2, [0] * 8),
    "every second batch, where it steps": ({"interval": "step", "frequency": 2}, 3, [0, 0, 0, 0, 1, 1, 1, 1]),
    "epoch, accumulating": ({}, 3, [0, 0, 0, 0, 1, 1, 1, 1]),
}


@pytest.mark.parametrize(("settings", "accumulate", "halvings"), MOVES.values(), ids=MOVES)
def test_a_scheduler_moves_at_batches_that_step_and_at_the_ends_of_epochs(
    quiet, batches, settings, accumulate, halvings
):
    module = Line(lambda m: halving(m, settings))
    quiet(max_epochs=2, accumulate_grad_batches=accumulate).fit(module, batches(4))
    assert module.rates == [0.5**count for count in halvings]


def test_every_second_epoch_is_the_second_the_fourth(fit):
    module = Line(lambda m: halving(m, {"frequency": 2}))
    fit(module, max_epochs=5)
    assert module.rates[::3] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_a_schedulers_epoch_ends_before_the_validation_and_before_the_batchs_hook(fit, batches):
    class Watching(Line):
        def rate(self):
            return self.trainer.optimizers[0].param_groups[0]["lr"]

        def on_train_batch_end(self, *_):
            self.rates.append(("batch end", self.rate()))

        def validation_step(self, *_):
            self.rates.append(("validation", self.rate()))

    module = Watching(halving)
    fit(module, batches(1), max_epochs=1, limit_train_batches=1)
    assert module.rates == [1.0, ("batch end", 0.5), ("validation", 0.5)]


# ------------------------------------------------------------ what follows a metric


class Plateau(Line):
    """Logs one score of a list in each validation; a score that is not below the last halves the rate."""

    def __init__(self, scores, **settings):
        super().__init__(lambda m: halving(m, {"monitor": "score", **settings}, make=self.plateau))
        self.scores = iter(scores)

    @staticmethod
    def plateau(optimizer):
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=0)

    def validation_step(self, batch, batch_idx):
        self.log("score", next(self.scores))


def test_a_plateau_is_looked_for_after_each_validation(fit, batches):
    module = Plateau([3.0, 2.0, 2.0, 1.0, 5.0])
    fit(module, batches(1), max_epochs=5)
    assert module.rates[::3] == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == 0.25


def test_a_plateau_may_be_looked_for_at_each_step(fit):
    class Stepping(Plateau):
        def training_step(self, batch, batch_idx):
            self.log("score", next(self.scores))
            return super().training_step(batch, batch_idx)

        validation_step = L.LightningModule.validation_step

    module = Stepping([3.0, 2.0, 2.0, 1.0, 5.0, 9.0], interval="step")
    fit(module)
    assert module.rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_a_plateau_may_follow_what_the_end_of_the_epoch_logs(fit):
    class AtTheEnd(Plateau):
        def on_train_epoch_end(self):
            self.log("score", next(self.scores))

        validation_step = L.LightningModule.validation_step

    module = AtTheEnd([1.0, 1.0, 1.0])
    fit(module, max_epochs=3)
    assert module.rates[::3] == [1.0, 1.0, 0.5]


def test_a_metric_that_nobody_logs_is_an_error_that_lists_those_there_are(fit, batches):
    module = Plateau([1.0], monitor="scroe")
    with pytest.raises(MisconfigurationException, match=r"'scroe', which was not logged.*\['score'\]"):
        fit(module, batches(1))


def test_without_strict_a_scheduler_waits_for_its_metric(fit, batches):
    module = Plateau([1.0, 1.0, 1.0, 1.0], strict=False)
    with pytest.warns(RuntimeWarning, match="'score', which was not logged"):
        fit(module, batches(1), max_epochs=4, check_val_every_n_epoch=2)
    assert module.rates[::3] == [1.0, 1.0, 1.0, 0.5]


# ------------------------------------------------------------ what moves with validations


class Validating(Line):
    def validation_step(self, batch, batch_idx):
        self.log("loss", 1.0)


def rate_of(trainer):
    return trainer.optimizers[0].param_groups[0]["lr"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("frequency", [1, 2])
def test_a_scheduler_moves_once_a_validation(quiet, batches, frequency, accumulate):
    module = Validating(lambda m: halving(m, {"interval": "validation", "frequency": frequency}))
    trainer = quiet(
        max_epochs=3, val_check_interval=7, check_val_every_n_epoch=None, num_sanity_val_steps=2,
        accumulate_grad_batches=accumulate,
    )  # fmt: skip
    trainer.fit(module, batches(10), batches(1))
    assert trainer.progress.validations == 4  # after batches 7, 14, 21 and 28
    assert rate_of(trainer) == 0.5 ** (4 // frequency)
    assert trainer.progress.scheduler_steps == 4 // frequency
    turns = [7, 14, 21, 28][frequency - 1 :: frequency]
    assert module.rates == [0.5 ** sum(turn <= batch for turn in turns) for batch in range(30)]


def test_a_plateau_that_goes_by_validations_sees_the_metric_of_each(fit, batches):
    module = Plateau([3.0, 2.0, 2.0, 1.0, 5.0, 9.0], interval="validation")
    fit(module, batches(1), val_check_interval=1)
    assert module.rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert rate_of(module.trainer) == 0.125


def test_what_a_validation_moves_has_moved_when_it_is_saved(fit, batches, tmp_path):
    """So that a fit that goes on from there neither repeats the move nor misses it."""

    class Saving(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.progress.validations}")

    def configure(module):
        return halving(module, {"interval": "validation", "frequency": 2})

    settings = {"val_check_interval": 1, "max_epochs": 3}
    trainer = fit(Validating(configure), batches(1), callbacks=Saving(), **settings)
    assert (trainer.progress.validations, rate_of(trainer)) == (9, 0.5**4)
    for validations in range(1, 9):
        again = Validating(configure)
        trainer = fit(again, batches(1), ckpt_path=tmp_path / f"{validations}", **settings)
        assert (trainer.progress.validations, rate_of(trainer)) == (9, 0.5**4)
        assert again.rates[0] == 0.5 ** (validations // 2)


# ------------------------------------------------------------ schedulers of one's own


class Own:
    """No scheduler of torch: each move adds to the rate."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def add(self, amount):
        self.optimizer.param_groups[0]["lr"] += amount

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class MovesOwn(Line):
    def __init__(self):
        super().__init__(lambda m: halving(m, {"interval": "step"}, make=Own))

    def lr_scheduler_step(self, scheduler, metric):
        assert metric is None
        scheduler.add(10)


def test_a_scheduler_of_ones_own_is_moved_by_the_module(fit):
    module = MovesOwn()
    fit(module)
    assert module.rates == [1, 11, 21, 31, 41, 51]


def test_a_scheduler_of_ones_own_needs_somebody_to_move_it(fit):
    with pytest.raises(MisconfigurationException, match=r"Own is no scheduler of torch.*lr_scheduler_step"):
        fit(Line(lambda m: halving(m, make=Own)))


def test_a_scheduler_without_a_state_is_refused_before_a_checkpoint_would_need_it(fit):
    module = MovesOwn()
    module.configure = lambda m: {"optimizer": sgd(m), "lr_scheduler": SimpleNamespace()}
    with pytest.raises(TypeError, match=r"SimpleNamespace.*`state_dict`"):
        fit(module)


def test_the_module_may_move_torchs_schedulers_too_with_the_metric_they_follow(fit, batches):
    class Moving(Plateau):
        def lr_scheduler_step(self, scheduler, metric):
            moves.append((type(scheduler), metric.item()))
            super().lr_scheduler_step(scheduler, metric)

    moves = []
    fit(Moving([3.0, 4.0]), batches(1))
    assert moves == [(ReduceLROnPlateau, 3.0), (ReduceLROnPlateau, 4.0)]


# ------------------------------------------------------------ a step of one's own


def test_a_step_of_ones_own_gets_epoch_batch_optimizer_and_closure(fit):
    class Own(Line):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            seen.append((epoch, batch_idx, isinstance(optimizer, SGD), callable(optimizer_closure)))
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    seen = []
    fit(Own(), limit_train_batches=2)
    assert seen == [(0, 0, True, True), (0, 1, True, True), (1, 0, True, True), (1, 1, True, True)]


def test_a_step_may_warm_the_rate_up(fit):
    class WarmingUp(Line):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)
            for group in optimizer.param_groups:
                group["lr"] = 1.0 + self.global_step

    module = WarmingUp()
    fit(module, max_epochs=1)
    assert module.rates == [1.0, 1.0, 2.0]  # the step of the batch counts once it is over


def test_a_step_may_be_left_out_by_calling_the_closure_alone(fit):
    class EverySecond(Line):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            if batch_idx % 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    module = EverySecond()
    trainer = fit(module)
    assert (module.weight.item(), trainer.global_step) == (-2, 6)


def test_a_step_that_does_not_call_its_closure_is_an_error(fit):
    class Forgetting(Line):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step()

    with pytest.raises(MisconfigurationException, match=r"`optimizer_step` did not call the closure"):
        fit(Forgetting())


def test_an_optimizer_that_does_not_call_its_closure_is_an_error(fit):
    class Forgetting(SGD):
        def step(self, closure=None):
            return super().step()

    with pytest.raises(MisconfigurationException, match=r"`Forgetting.step` did not call the closure"):
        fit(Line(lambda m: Forgetting(m.parameters(), lr=1.0)))


def test_backward_of_ones_own_gets_the_loss_divided_by_the_accumulation(fit):
    class Own(Line):
        def training_step(self, batch, batch_idx):
            return self.weight * 0 + 6

        def backward(self, loss):
            seen.append(loss.item())
            super().backward(loss)

    seen = []
    fit(Own(), max_epochs=1, accumulate_grad_batches=2)
    assert seen == [3.0] * 3


def test_gradients_may_be_cleared_in_ones_own_way_once_a_window(fit):
    class Keeping(Line):
        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            seen.append((epoch, batch_idx, type(optimizer)))

    seen = []
    module = Keeping()
    fit(module, max_epochs=1, accumulate_grad_batches=2)
    assert seen == [(0, 0, SGD), (0, 2, SGD)]
    assert module.weight.item() == -(1.0 + 1.5)  # what was not cleared is still there


def test_clipping_of_ones_own_gets_the_trainers_settings(fit):
    class Own(Line):
        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            seen.append((type(optimizer), gradient_clip_val, gradient_clip_algorithm))
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    seen = []
    module = Own()
    fit(module, limit_train_batches=1, gradient_clip_val=0.25, gradient_clip_algorithm="value")
    assert seen == [(SGD, 0.25, "value")] * 2
    assert module.weight.item() == -0.5


def test_clipping_of_ones_own_may_choose_where_the_trainer_does_not(fit):
    class Own(Line):
        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            self.clip_gradients(optimizer, gradient_clip_val=0.25, gradient_clip_algorithm="norm")

    module = Own()
    fit(module, limit_train_batches=1)
    assert module.weight.item() == pytest.approx(-0.5, abs=1e-5)


def test_clipping_without_a_word_is_the_trainers(fit):
    class Own(Line):
        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            self.clip_gradients(optimizer)

    module = Own()
    fit(module, limit_train_batches=1, gradient_clip_val=0.25, gradient_clip_algorithm="value")
    assert module.weight.item() == -0.5


def test_clipping_of_ones_own_can_not_contradict_the_trainer(fit):
    class Own(Line):
        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            self.clip_gradients(optimizer, gradient_clip_val=1.0)

    with pytest.raises(MisconfigurationException, match=r"gradient_clip_val is 1.0.*and 0.25 in the Trainer"):
        fit(Own(), gradient_clip_val=0.25)


def test_hooks_see_unclipped_gradients_and_the_optimizer_itself(fit):
    class Watching(Line):
        def on_before_optimizer_step(self, optimizer):
            seen.append((type(optimizer), self.weight.grad.item()))

    seen = []
    module = Watching()
    fit(module, max_epochs=1, limit_train_batches=1, gradient_clip_val=0.5, gradient_clip_algorithm="value")
    assert seen == [(SGD, 1.0)]
    assert module.weight.item() == -0.5


def test_optimizers_can_be_reached_in_automatic_optimization(fit):
    class Reaching(Line):
        def training_step(self, batch, batch_idx):
            self.optimizers().param_groups[0]["lr"] = 0.5
            seen.append((self.optimizers(), self.optimizers(use_pl_optimizer=False), self.lr_schedulers()))
            return super().training_step(batch, batch_idx)

    seen = []
    module = Reaching(halving)
    trainer = fit(module, max_epochs=1, limit_train_batches=1)
    ((wrapped, raw, scheduler),) = seen
    assert wrapped.optimizer is raw is trainer.optimizers[0]
    assert isinstance(scheduler, ExponentialLR)
    assert module.weight.item() == -0.5


@pytest.mark.parametrize("when", ["on_train_batch_start", "on_train_batch_end", "on_train_epoch_start"])
@pytest.mark.parametrize("own_step", [False, True])
def test_the_optimizer_may_be_replaced_while_training(fit, when, own_step):
    class Replacing(L.Callback):
        """Ten times the rate from the second batch, or epoch, on."""

    def replace(trainer, module, *_):
        if trainer.global_step == steps_before:
            trainer.optimizers = [SGD(module.parameters(), lr=10.0)]

    class OwnStep(Line):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)

    steps_before = 3 if when == "on_train_epoch_start" else 1
    callback, module = Replacing(), (OwnStep if own_step else Line)()
    setattr(callback, when, replace)
    trainer = fit(module, callbacks=callback, gradient_clip_val=100.0)
    assert module.weight.item() == -steps_before - 10.0 * (6 - steps_before)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 10.0
    assert trainer.global_step == 6


# ------------------------------------------------------------ what a step may return

OUTPUTS = {
    "tensor": (lambda loss: loss, {}),
    "tensor of one element": (lambda loss: loss.view(1), {}),
    "dict": (lambda loss: {"loss": loss, "name": "x"}, {"name": "x"}),
    "other mapping": (lambda loss: UserDict(loss=loss, name="x"), {"name": "x"}),
}


@pytest.mark.parametrize(("wrap", "more"), OUTPUTS.values(), ids=OUTPUTS)
def test_a_step_returns_its_loss_alone_or_with_other_things(fit, wrap, more):
    class Returning(Line):
        def training_step(self, batch, batch_idx):
            return wrap(self.weight * 1 + 8)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append(outputs)

    seen = []
    module = Returning()
    fit(module, max_epochs=1, accumulate_grad_batches=4)
    assert module.weight.item() == -0.75
    assert [output.pop("loss").item() for output in seen] == [2.0] * 3
    assert seen == [more] * 3


def test_the_loss_that_hooks_see_has_no_graph_and_what_else_was_returned_keeps_its_own(fit):
    class Returning(Line):
        def training_step(self, batch, batch_idx):
            return {"loss": self.weight * 1, "other": self.weight * 2}

        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append((outputs["loss"].requires_grad, outputs["other"].requires_grad))

    seen = []
    fit(Returning(), max_epochs=1)
    assert seen == [(False, True)] * 3


NO_OUTPUTS = {
    "number": (lambda loss: 1.0, MisconfigurationException, "returned a float"),
    "text": (lambda loss: "1.0", MisconfigurationException, "returned a str"),
    "dict without loss": (
        lambda loss: {"x": loss},
        MisconfigurationException,
        r"a dict with the keys \['x'\]",
    ),
    "dict with None": (lambda loss: {"loss": None}, MisconfigurationException, r"the keys \['loss'\]"),
    "no graph": (lambda loss: loss.detach(), RuntimeError, "not attached to a graph"),
    "several values": (lambda loss: loss.repeat(2), RuntimeError, r"shape \(2,\).*loss\.mean\(\)"),
}


@pytest.mark.parametrize(("wrap", "error", "message"), NO_OUTPUTS.values(), ids=NO_OUTPUTS)
def test_what_is_no_loss_is_refused(fit, wrap, error, message):
    class Returning(Line):
        def training_step(self, batch, batch_idx):
            return wrap(self.weight * 1)

    with pytest.raises(error, match=message):
        fit(Returning())


def test_a_step_without_a_loss_has_no_backward_and_counts(fit):
    class Skipping(Line):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) if batch_idx == 1 else None

        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append(set(outputs))

    seen = []
    module = Skipping()
    with pytest.warns(UserWarning, match="returned None: there is no backward"):
        trainer = fit(module, max_epochs=1)
    assert (module.weight.item(), trainer.global_step) == (-1, 3)
    assert seen == [set(), {"loss"}, set()]


# ------------------------------------------------------------ resuming


def test_optimizers_and_schedulers_go_on_from_a_checkpoint(quiet, batches, tmp_path):
    def momentum(module):
        optimizer = SGD(module.parameters(), lr=1.0, momentum=0.9)
        return [optimizer], [LambdaLR(optimizer, lambda epoch: 1 / (epoch + 1))]

    whole, first, second = (Line(momentum) for _ in range(3))
    quiet(max_epochs=4).fit(whole, batches(3))
    half = quiet(max_epochs=2)
    half.fit(first, batches(3))
    half.save_checkpoint(tmp_path / "half.ckpt")
    quiet(max_epochs=4).fit(second, batches(3), ckpt_path=tmp_path / "half.ckpt")
    assert second.weight.item() == whole.weight.item()
    assert first.rates + second.rates == whole.rates


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.LBFGS], ids=lambda kind: kind.__name__)
def test_a_hook_before_the_step_sees_the_gradients_of_the_batch(kind, quiet):
    """LBFGS alone asks for them within its step."""
    seen = []

    class Model(BoringModel):
        def configure_optimizers(self):
            optimizer = kind(self.parameters(), lr=0.1)
            optimizer.register_step_pre_hook(lambda *_: seen.append(self.layer.weight.grad is not None))
            return optimizer

    quiet(max_steps=1).fit(Model())
    assert seen == [kind is torch.optim.SGD]
