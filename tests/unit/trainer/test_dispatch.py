from __future__ import annotations

import pytest

import levin as L
from levin.core.callback import Checkpoint
from levin.core.metrics import Metrics
from levin.profilers import PassThroughProfiler, Profiler
from levin.trainer.dispatch import SHARED_HOOKS, HookTable, check_hook_names


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_start(self):
        self.calls.append("module")

    def on_train_epoch_end(self):
        self.calls.append("module")


class Calling(L.Callback):
    def __init__(self, name="callback"):
        self.name = name

    def on_train_start(self, trainer, pl_module):
        pl_module.calls.append(f"{self.name} of {trainer}")

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.calls.append(self.name)


class Saving(Checkpoint):
    on_train_epoch_end = Calling.on_train_epoch_end
    name = "checkpoint"


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def table(metrics):
    return HookTable(metrics, PassThroughProfiler())


def call(hooks):
    for hook in hooks:
        hook()


def test_a_hook_that_nobody_overrides_is_empty(table):
    table.rebuild("trainer", L.LightningModule(), [L.Callback()])
    assert {name: getattr(table, name) for name in SHARED_HOOKS} == dict.fromkeys(SHARED_HOOKS, ())


def test_callbacks_come_before_the_module_with_trainer_and_module_filled_in(table):
    module = Module()
    table.rebuild("trainer", module, [Calling("a"), Calling("b")])
    call(table.on_train_start)
    assert module.calls == ["a of trainer", "b of trainer", "module"]


def test_at_an_epochs_end_those_that_monitor_come_after_the_module(table):
    module = Module()
    table.rebuild("trainer", module, [Saving(), Calling("a")])
    call(table.on_train_epoch_end)
    call(table.saves_on_train_epoch_end)
    assert module.calls == ["a", "module", "checkpoint"]


def test_a_method_of_the_instance_counts_as_an_override(table):
    module, called = L.LightningModule(), []
    module.on_fit_start = lambda: called.append("fit")
    table.rebuild("trainer", module, [])
    call(table.on_fit_start)
    assert called == ["fit"]


def test_a_rebuilt_table_forgets_who_is_gone(table):
    module = Module()
    table.rebuild("trainer", module, [Calling()])
    table.rebuild("trainer", L.LightningModule(), [])
    assert table.on_train_start == ()
    assert str(table) == ""


def test_the_parts_of_callbacks_and_module_can_be_told_apart(table):
    module = Module()
    table.rebuild("trainer", module, [Calling("a")])
    call(table.of_module("on_train_start"))
    call(table.of_callbacks("on_train_start"))
    assert module.calls == ["module", "a of trainer"]
    assert table.of_module("on_fit_end") == ()


def test_while_a_hook_runs_the_metrics_know_its_name_even_if_it_raises(table, metrics):
    seen = []

    class Failing(L.Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(metrics.scope)
            raise ZeroDivisionError

    table.rebuild("trainer", L.LightningModule(), [Failing()])
    with pytest.raises(ZeroDivisionError):
        call(table.on_train_start)
    assert (seen, metrics.scope) == (["on_train_start"], "")


def test_what_a_callbacks_hook_returns_is_dropped_and_a_modules_is_not(table):
    class Skipping(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            return -1

    module = L.LightningModule()
    module.on_train_batch_start = lambda batch, batch_idx: -1
    table.rebuild("trainer", module, [Skipping()])
    assert [hook("batch", 0) for hook in table.on_train_batch_start] == [None, -1]


def test_a_profiler_measures_each_listener_under_a_label_of_its_own(metrics):
    class Listing(Profiler):
        def __init__(self):
            super().__init__()
            self.started = []

        def start(self, action_name):
            self.started.append(action_name)

        def stop(self, action_name): ...

    profiler = Listing()
    table = HookTable(metrics, profiler)
    table.rebuild("trainer", Module(), [Calling()])
    call(table.on_train_start)
    assert profiler.started == ["[Callback]Calling.on_train_start", "[LightningModule]Module.on_train_start"]


def test_the_table_prints_who_listens_in_their_order(table):
    table.rebuild("trainer", Module(), [Saving(), Calling()])
    lines = dict(line.split(maxsplit=1) for line in str(table).splitlines())
    assert lines == {"on_train_start": "Calling, Module", "on_train_epoch_end": "Calling, Module, Saving"}


# ---------------------------------------------------------------------- names


def owner(kind, name):
    return type("Mine", (kind,), {name: lambda self, *args: None})()


@pytest.mark.parametrize(
    ("kind", "name", "successor"),
    [
        (L.LightningModule, "training_epoch_end", "on_train_epoch_end"),
        (L.LightningModule, "validation_step_end", "on_validation_batch_end"),
        (L.LightningModule, "on_epoch_start", "on_train_epoch_start"),
    ],
)
def test_a_removed_hook_is_an_error_that_names_its_successor(kind, name, successor):
    with pytest.raises(NotImplementedError, match=f"`Mine.{name}` is never called.*{successor}"):
        check_hook_names(owner(kind, name), None, [])


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        (L.LightningModule, "on_train_epochend", "on_train_epoch_end"),
        (L.LightningModule, "configure_optimizer", "configure_optimizers"),
        (L.LightningModule, "trainig_step", "training_step"),
        (L.LightningDataModule, "train_dataloaders", "train_dataloader"),
        (L.LightningDataModule, "preparedata", "prepare_data"),
        (L.Callback, "on_train_batch_ends", "on_train_batch_end"),
    ],
)
def test_a_misspelt_name_is_told_with_the_right_one(kind, name, near):
    mine = owner(kind, name)
    parts = {L.LightningModule: (mine, None, []), L.Callback: (L.LightningModule(), None, [mine])}
    with pytest.warns(UserWarning, match=f"`Mine.{name}` is no hook.*Did you mean `{near}`"):
        check_hook_names(*parts.get(kind, (L.LightningModule(), mine, [])))


@pytest.mark.parametrize(
    "name", ["on_click", "on_new_best", "training_steps_done", "step", "my_dataloader", "_on_x"]
)
def test_a_name_like_no_hook_is_the_users_own(name):
    check_hook_names(owner(L.LightningModule, name), None, [])  # a warning would be an error


def test_a_helper_beside_the_real_step_is_the_users_own():
    class Mine(L.LightningModule):
        def training_step(self, batch): ...

        def training_steps(self): ...

    check_hook_names(Mine(), None, [])


def test_the_names_of_the_base_classes_themselves_are_not_looked_at():
    class Framework(L.LightningModule): ...

    check_hook_names(Framework(), L.LightningDataModule(), [L.Callback(), Checkpoint()])
