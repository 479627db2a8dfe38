from __future__ import annotations

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from levin.callbacks import LearningRateMonitor
from levin.loggers import CSVLogger
from levin.utils.errors import MisconfigurationException


@pytest.fixture
def rows(fit, tmp_path, stepping):
    """``rows(configure, arguments)`` trains two epochs and gives what was logged."""

    class Listening(CSVLogger):
        def log_metrics(self, metrics, step=None):
            logged.append((step, metrics))

    logged: list = []

    def run(configure, limit_val_batches=0, val_check_interval=1.0, **arguments):
        class Model(stepping):
            def __init__(self):
                super().__init__()
                self.bias = torch.nn.Parameter(torch.zeros(()))

            def configure_optimizers(self):
                return configure(self)

        monitor = LearningRateMonitor(**arguments)
        settings = {"logger": Listening(tmp_path), "log_every_n_steps": 2}
        settings |= {"limit_val_batches": limit_val_batches, "val_check_interval": val_check_interval}
        trainer = fit(monitor, Model(), max_epochs=2, enable_checkpointing=False, **settings)
        return logged, monitor, trainer

    return run


def scheduled(module, interval="epoch", name=None, optimizer=None):
    optimizer = optimizer or SGD(module.parameters(), 1.0)
    scheduler = {"scheduler": StepLR(optimizer, 1), "interval": interval, "name": name}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


def test_a_rate_that_changes_by_the_epoch_is_logged_by_the_epoch(rows):
    logged, monitor, _ = rows(scheduled)
    assert logged == [(0, {"lr-SGD": 1.0}), (4, {"lr-SGD": 0.1})]
    assert monitor.lrs == {"lr-SGD": [1.0, 0.1]}


def test_a_rate_that_changes_by_the_step_is_logged_when_steps_are(rows):
    logged, _, _ = rows(lambda module: scheduled(module, "step", "mine"))
    assert [step for step, _ in logged] == [1, 3, 5, 7]
    assert [values["mine"] for _, values in logged] == pytest.approx([1e-1, 1e-3, 1e-5, 1e-7])


def test_a_rate_that_changes_by_the_validation_is_logged_when_it_is_first_used(rows):
    logged, _, _ = rows(
        lambda module: scheduled(module, "validation", "mine"), limit_val_batches=1, val_check_interval=3
    )
    assert [step for step, values in logged if "mine" in values] == [0, 3, 7]
    assert [values["mine"] for _, values in logged if "mine" in values] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("interval", "steps"), [("step", [1, 3, 5, 7]), ("epoch", [0, 4]), (None, [0, 1, 3, 4, 5, 7])]
)
def test_a_rate_without_a_scheduler_is_logged_as_often_as_asked(rows, interval, steps):
    logged, _, _ = rows(lambda module: SGD(module.parameters(), 0.5), logging_interval=interval)
    assert logged == [(step, {"lr-SGD": 0.5}) for step in steps]


def test_momentum_and_weight_decay_are_logged_on_demand(rows):
    logged, _, trainer = rows(
        lambda module: scheduled(
            module, optimizer=Adam(module.parameters(), 1.0, (0.8, 0.9), weight_decay=0.3)
        ),
        log_momentum=True,
        log_weight_decay=True,
    )
    assert logged[0] == (0, {"lr-Adam": 1.0, "lr-Adam-momentum": 0.8, "lr-Adam-weight_decay": 0.3})
    assert trainer.callback_metrics["lr-Adam-momentum"] == pytest.approx(0.8)


def test_the_momentum_of_an_optimizer_that_has_one_is_taken(rows):
    logged, _, _ = rows(lambda module: SGD(module.parameters(), 0.5, momentum=0.7), log_momentum=True)
    assert logged[0][1]["lr-SGD-momentum"] == 0.7


def test_other_callbacks_see_the_rates(rows):
    _, _, trainer = rows(scheduled)
    assert trainer.callback_metrics["lr-SGD"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [((None, None), ["/pg1", "/pg2"]), (("w", None), ["/w", "/pg2"]), (("w", "b"), ["/w", "/b"])],
)
def test_groups_have_names_of_their_own(rows, given, expected):
    def configure(module):
        groups = [{"params": [each]} for each in (module.weight, module.bias)]
        for group, name in zip(groups, given, strict=True):
            if name:
                group["name"] = name
        return SGD(groups, 0.5)

    _, monitor, _ = rows(configure, logging_interval="epoch")
    assert monitor.lrs == {f"lr-SGD{name}": [0.5, 0.5] for name in expected}


def test_two_groups_of_one_name_are_refused(rows):
    def configure(module):
        return SGD([{"params": [each], "name": "same"} for each in (module.weight, module.bias)], 0.5)

    with pytest.raises(MisconfigurationException, match=r"\['same'\]"):
        rows(configure)


def test_a_group_that_comes_later_is_logged_too(rows):
    def configure(module):
        optimizer = SGD([module.weight], 0.5)
        module.on_train_epoch_end = lambda: optimizer.add_param_group(
            {"params": [torch.nn.Parameter(torch.zeros(1))]}
        )
        return optimizer

    logged, _, _ = rows(configure, logging_interval="epoch")
    assert [sorted(values) for _, values in logged] == [["lr-SGD"], ["lr-SGD/pg1", "lr-SGD/pg2"]]


@pytest.mark.parametrize(("name", "expected"), [(None, ["lr-SGD", "lr-SGD-1"]), ("x", ["x", "x-1"])])
def test_several_optimizers_have_names_of_their_own(fit, tmp_path, stepping, name, expected):
    class Manual(stepping):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            optimizers = [SGD(self.parameters(), 1.0), SGD(self.parameters(), 1.0)]
            return optimizers, [{"scheduler": StepLR(each, 1), "name": name} for each in optimizers]

    monitor = LearningRateMonitor()
    fit(
        monitor,
        Manual(),
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        max_epochs=1,
        enable_checkpointing=False,
    )
    assert monitor.lrs == {each: [1.0] for each in expected}


def test_without_an_optimizer_nothing_is_logged(fit, tmp_path, stepping):
    class Frozen(stepping):
        def configure_optimizers(self):
            return None

    monitor = LearningRateMonitor()
    with pytest.warns(UserWarning, match="optimizer"):
        fit(
            monitor,
            Frozen(),
            logger=CSVLogger(tmp_path),
            log_every_n_steps=1,
            max_epochs=1,
            enable_checkpointing=False,
        )
    assert monitor.lrs == {}


def test_a_trainer_without_a_logger_is_refused(fit):
    with pytest.raises(MisconfigurationException, match="no logger"):
        fit(LearningRateMonitor())


def test_an_unknown_interval_is_refused():
    with pytest.raises(MisconfigurationException, match="logging_interval='batch'"):
        LearningRateMonitor("batch")
