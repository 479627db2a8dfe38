from __future__ import annotations

import functools

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.core.callback import Checkpoint
from levin.core.hooks import HOOKS, REMOVED_HOOKS
from levin.testing import BoringModel
from levin.utils.errors import MisconfigurationException

SHARED = [spec.name for spec in HOOKS if spec.callbacks and hasattr(L.LightningModule, spec.name)]
OF_CALLBACKS = [spec.name for spec in HOOKS if spec.callbacks]


class Whole(L.LightningModule):
    """One weight, all steps, and two batches for each."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.weight * 1

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        pass

    def predict_step(self, batch, batch_idx):
        return batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def loader(self):
        return DataLoader(torch.arange(2.0))

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


class Data(L.LightningDataModule):
    """The loaders of `Whole`."""

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = Whole.loader


def noting(base, notes, name, hooks, **members):
    """Make an object that notes who it is as often as one of these hooks is called, with the arguments."""

    def note(hook):
        original = getattr(base, hook)

        @functools.wraps(original)
        def method(self, *args, **kwargs):
            notes.append((name, hook, args, kwargs))
            return original(self, *args, **kwargs)

        return method

    return type(name, (base,), {**{hook: note(hook) for hook in hooks}, **members})()


def run_all(trainer, module, **data):
    """Fit, validate, test and predict, and resume from a checkpoint."""
    trainer.fit(module, **data)
    trainer.validate(module, verbose=False, **data)
    trainer.test(module, verbose=False, **data)
    trainer.predict(module, **data)
    if trainer.checkpoint_callback is not None:
        trainer.fit(module, ckpt_path=trainer.checkpoint_callback.best_model_path, **data)


def who(notes):
    return [(name, hook) for name, hook, *_ in notes]


# ------------------------------------------------------------ who is called, and in which order


def test_every_hook_is_called_on_callbacks_and_modules(quiet):
    notes = []
    hooks = [name for name in SHARED if name != "on_exception"]
    callback = noting(L.Callback, notes, "callback", set(OF_CALLBACKS) - {"on_exception"})
    settings = {"max_epochs": 1, "enable_checkpointing": True, "num_sanity_val_steps": 1}
    run_all(quiet(callbacks=[callback], **settings), noting(Whole, notes, "module", hooks))
    called = set(who(notes))
    assert {hook for name, hook in called if name == "callback"} == set(OF_CALLBACKS) - {"on_exception"}
    assert {hook for name, hook in called if name == "module"} == set(hooks)


@pytest.mark.parametrize("hook", [h for h in SHARED if h not in ("on_save_checkpoint", "on_load_checkpoint")])
def test_callbacks_are_called_in_their_order_and_before_the_module(quiet, hook):
    notes = []
    callbacks = [noting(L.Callback, notes, name, [hook]) for name in ("first", "second")]
    run_all(quiet(max_epochs=1, callbacks=callbacks), noting(Whole, notes, "module", [hook]))
    names = [name for name, _ in who(notes)]
    assert names == ["first", "second", "module"] * (len(names) // 3)
    assert names


@pytest.mark.parametrize("hook", ["setup", "teardown"])
def test_a_data_module_is_set_up_and_torn_down_before_all_others(quiet, hook):
    notes = []
    callback, module, data = (
        noting(base, notes, name, [hook])
        for name, base in (("callback", L.Callback), ("module", Whole), ("data", Data))
    )
    run_all(quiet(max_epochs=1, callbacks=[callback]), module, datamodule=data)
    assert [name for name, _ in who(notes)] == ["data", "callback", "module"] * 4


def test_at_the_end_of_an_epoch_callbacks_that_monitor_wait_for_the_module(quiet):
    notes = []
    hook = ["on_train_epoch_end"]
    callbacks = [
        noting(Checkpoint, notes, "checkpoint", hook),
        noting(L.Callback, notes, "monitoring", hook, monitors=True),
        noting(L.Callback, notes, "other", hook),
    ]
    quiet(max_epochs=1, callbacks=callbacks, enable_checkpointing=None).fit(
        noting(Whole, notes, "module", hook)
    )
    assert [name for name, _ in who(notes)] == ["other", "module", "monitoring", "checkpoint"]


def test_callbacks_run_in_the_order_of_their_number(quiet):
    notes = []
    callbacks = [
        noting(L.Callback, notes, f"{number} {order}", ["on_fit_start"], order=order)
        for number, order in enumerate((100, 0, -10, 0))
    ]
    quiet(max_epochs=1, callbacks=callbacks).fit(Whole())
    assert [name for name, _ in who(notes)] == ["2 -10", "1 0", "3 0", "0 100"]


def test_callbacks_of_the_module_take_the_place_of_those_of_their_class(quiet):
    class Noting(L.Callback):
        def __init__(self, name):
            self.name = name

        def on_fit_start(self, trainer, pl_module):
            names.append(self.name)

    class More(Noting):
        pass

    names = []
    module = Whole()
    module.configure_callbacks = lambda: More("the module's")
    quiet(max_epochs=1, callbacks=[Noting("the trainer's"), L.Callback()]).fit(module)
    assert names == ["the module's"]


def test_an_exception_is_told_to_callbacks_and_the_data_module(quiet):
    notes = []
    callback = noting(L.Callback, notes, "callback", ["on_exception"])
    data = noting(Data, notes, "data", ["on_exception"])
    error = ZeroDivisionError("the user's")

    def fail(*_):
        raise error

    module = Whole()
    module.training_step = fail
    with pytest.raises(ZeroDivisionError, match="the user's"):
        quiet(max_epochs=1, callbacks=[callback]).fit(module, datamodule=data)
    assert who(notes) == [("callback", "on_exception"), ("data", "on_exception")]
    assert notes[0][2][2] is error
    assert notes[1][2] == (error,)


def test_a_hook_may_be_put_on_the_object(quiet):
    calls = []
    module, callback = Whole(), L.Callback()
    module.on_train_start = lambda: calls.append("module")
    callback.on_train_start = lambda trainer, pl_module: calls.append((trainer, pl_module))
    trainer = quiet(max_epochs=1, callbacks=[callback])
    trainer.fit(module)
    assert calls == [(trainer, module), "module"]


def test_a_hook_put_on_the_object_in_an_epoch_is_called_from_the_next_on(quiet):
    calls = []
    module = Whole()

    def join():
        module.on_train_batch_start = lambda batch, batch_idx: calls.append((module.current_epoch, batch_idx))

    module.on_train_start = join
    quiet(max_epochs=2, limit_train_batches=1).fit(module)
    assert calls == [(0, 0), (1, 0)]


def test_the_listeners_of_each_hook_can_be_shown(quiet):
    notes = []
    trainer = quiet(max_epochs=1, callbacks=[noting(L.Callback, notes, "Mine", ["on_fit_start"])])
    trainer.fit(noting(Whole, notes, "Model", ["on_fit_start", "on_train_end"]))
    lines = [line.split(maxsplit=1) for line in str(trainer.hooks).splitlines()]
    assert ["on_fit_start", "Mine, Model"] in lines
    assert ["on_train_end", "Model"] in lines


# ------------------------------------------------------------ arguments


def test_callbacks_get_the_trainer_and_the_module_before_all_else(quiet):
    notes = []
    callback = noting(L.Callback, notes, "callback", OF_CALLBACKS)
    trainer, module = quiet(max_epochs=1, callbacks=[callback]), Whole()
    run_all(trainer, module)
    assert all(args[0] is trainer and args[1] is module for _, _, args, _ in notes)
    assert len(notes) > len(OF_CALLBACKS) / 2


@pytest.mark.parametrize("hook", ["setup", "teardown"])
def test_the_stage_is_a_word_and_passed_by_name(quiet, hook):
    notes = []
    run_all(quiet(max_epochs=1), noting(Whole, notes, "module", [hook]))
    stages = [kwargs["stage"] for *_, kwargs in notes]
    assert stages == ["fit", "validate", "test", "predict"]
    assert [f"{stage}" for stage in stages] == stages


@pytest.mark.parametrize("kind", ["validation", "test", "predict"])
@pytest.mark.parametrize("num_loaders", [1, 2])
def test_the_loaders_number_is_passed_where_there_are_several(quiet, kind, num_loaders):
    def step(self, batch, batch_idx, dataloader_idx=9):
        indices.append(dataloader_idx)

    notes, indices = [], []
    hooks = [f"on_{kind}_batch_{end}" for end in ("start", "end")]
    module = noting(Whole, notes, "module", hooks, **{f"{kind}_step": step})
    loaders = [DataLoader(torch.zeros(1)) for _ in range(num_loaders)]
    run = {"validation": "validate"}.get(kind, kind)
    getattr(quiet(), run)(module, dataloaders=loaders if num_loaders > 1 else loaders[0])
    expected = [(index,) for index in range(num_loaders)] if num_loaders > 1 else [()]
    assert [args[2:] for _, hook, args, _ in notes if hook.endswith("start")] == expected
    assert [args[3:] for _, hook, args, _ in notes if hook.endswith("end")] == expected
    assert indices == ([0, 1] if num_loaders > 1 else [9])


@pytest.mark.parametrize("kind", ["validation", "test", "predict"])
def test_a_step_must_take_the_loaders_number_where_there_are_several_and_only_there(quiet, kind):
    run = getattr(quiet(), {"validation": "validate"}.get(kind, kind))
    loader = DataLoader(torch.zeros(1))
    with pytest.raises(RuntimeError, match=rf"2 dataloaders.*`{kind}_step`.*dataloader_idx=0"):
        run(Whole(), dataloaders=[loader, loader])
    module = type("Needs", (Whole,), {f"{kind}_step": lambda self, batch, batch_idx, dataloader_idx: None})()
    with pytest.raises(RuntimeError, match=r"requires `dataloader_idx`.*only one dataloader"):
        run(module, dataloaders=loader)


@pytest.mark.parametrize("name", ["training_step", "validation_step", "test_step", "predict_step"])
def test_a_step_may_take_the_batch_alone(quiet, name):
    batches = []

    def step(self, batch):
        batches.append(batch.item())
        return self.weight * 1

    run_all(quiet(max_epochs=1), type("Alone", (Whole,), {name: step})())
    assert batches[:2] == [0.0, 1.0]


def test_what_a_step_returns_reaches_the_hook_after_it(quiet):
    outputs = []
    module = Whole()
    for kind in ("validation", "test", "predict"):
        setattr(module, f"{kind}_step", lambda batch, batch_idx, kind=kind: {kind: batch_idx})
        setattr(module, f"on_{kind}_batch_end", lambda output, batch, batch_idx: outputs.append(output))
    trainer = quiet()
    trainer.validate(module, verbose=False)
    trainer.test(module, verbose=False)
    trainer.predict(module)
    assert outputs == [{kind: index} for kind in ("validation", "test", "predict") for index in (0, 1)]


def test_an_epoch_ends_when_the_module_says_so_and_not_when_a_callback_returns_the_same(quiet):
    class Returns(L.Callback):
        def on_train_batch_start(self, *_):
            return returned

    for by_module, steps in ((True, 1), (False, 2)):
        returned = None if by_module else -1
        module = Whole()
        module.on_train_batch_start = lambda batch, i, skips=by_module: -1 if skips and i == 1 else None
        trainer = quiet(max_epochs=1, callbacks=[Returns()])
        trainer.fit(module)
        assert trainer.global_step == steps


# ------------------------------------------------------------ data


def test_data_is_prepared_and_set_up_before_it_is_loaded(quiet):
    notes = []
    hooks = ["prepare_data", "setup", "train_dataloader", "teardown"]
    data = noting(Data, notes, "data", hooks)
    quiet(max_epochs=1, limit_val_batches=0).fit(Whole(), datamodule=data)
    assert who(notes) == [("data", hook) for hook in hooks]


def test_each_run_prepares_and_sets_up_anew(quiet):
    notes = []
    run_all(quiet(max_epochs=1), noting(Whole, notes, "module", ["prepare_data", "setup"]))
    assert who(notes) == [("module", "prepare_data"), ("module", "setup")] * 4


@pytest.mark.parametrize(
    ("method", "hook"),
    [("validate", "val_dataloader"), ("test", "test_dataloader"), ("predict", "predict_dataloader")],
)
def test_a_data_module_stands_in_for_all_loaders_of_the_module(quiet, method, hook):
    data = type("Lacking", (L.LightningDataModule,), {})()
    with pytest.raises(MisconfigurationException, match=f"`{hook}` must be implemented by Lacking"):
        getattr(quiet(), method)(Whole(), datamodule=data)


def test_a_data_module_without_validation_data_means_no_validation(quiet):
    notes = []
    data = type("Lacking", (L.LightningDataModule,), {"train_dataloader": Whole.loader})()
    module = noting(Whole, notes, "module", ["validation_step", "val_dataloader"])
    with pytest.warns(UserWarning, match="there is no validation data"):
        quiet(max_epochs=1).fit(module, datamodule=data)
    assert notes == []


def test_loaders_that_are_passed_come_before_the_modules_own(quiet):
    module = Whole()
    module.train_dataloader = module.val_dataloader = lambda: 1 / 0
    trainer = quiet(max_epochs=1)
    trainer.fit(module, module.loader(), module.loader())
    assert trainer.global_step == 2


TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


@pytest.mark.parametrize("owner", ["module", "data"])
def test_a_batch_is_brought_to_the_device_in_three_parts_before_the_step(quiet, owner):
    notes = []
    module = noting(Whole, notes, "m", [*(TRANSFER if owner == "module" else ()), "on_train_batch_start"])
    data = noting(Data, notes, "d", TRANSFER) if owner == "data" else None
    trainer = quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    assert [hook for _, hook, *_ in notes] == [*TRANSFER, "on_train_batch_start"]
    assert [args[1:] for _, hook, args, _ in notes if hook in TRANSFER] == [
        (0,),
        (torch.device("cpu"), 0),
        (0,),
    ]


def test_what_the_transfer_hooks_return_is_the_batch(quiet):
    seen = []
    module = Whole()
    module.on_before_batch_transfer = lambda batch, dataloader_idx: batch + 10
    module.transfer_batch_to_device = lambda batch, device, dataloader_idx: batch * 2
    module.on_after_batch_transfer = lambda batch, dataloader_idx: {"x": batch, "loader": dataloader_idx}
    module.validation_step = lambda batch, batch_idx, dataloader_idx: seen.append(
        (batch["x"].item(), batch["loader"])
    )
    quiet().validate(module, [DataLoader(torch.zeros(1)), DataLoader(torch.ones(1))], verbose=False)
    assert seen == [(20.0, 0), (22.0, 1)]


def test_where_both_override_a_transfer_hook_the_data_modules_is_used_and_it_is_told(quiet):
    notes = []
    module, data = (noting(base, notes, base.__name__, TRANSFER[:1]) for base in (Whole, Data))
    with pytest.warns(UserWarning, match=r"on_before_batch_transfer.*the data module's"):
        quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(module, datamodule=data)
    assert who(notes) == [("Data", "on_before_batch_transfer")]


def test_each_transfer_hook_is_the_data_modules_or_else_the_modules(quiet):
    notes = []
    data, module = noting(Data, notes, "data", TRANSFER[:1]), noting(Whole, notes, "module", TRANSFER[2:])
    with pytest.warns(UserWarning, match="on_after_batch_transfer"):
        quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(module, datamodule=data)
    assert who(notes) == [("data", "on_before_batch_transfer"), ("module", "on_after_batch_transfer")]


# ------------------------------------------------------------ modes and gradients


def test_an_evaluation_has_no_gradients_and_gives_the_modes_back(quiet):
    seen = []
    module = BoringModel()
    module.frozen = torch.nn.Dropout().eval()
    module.on_validation_start = lambda: seen.append((module.training, torch.is_grad_enabled()))
    module.on_train_epoch_end = lambda: seen.append(
        (module.training, module.frozen.training, torch.is_grad_enabled())
    )
    quiet(max_epochs=1, limit_train_batches=1, limit_val_batches=1).fit(module)
    assert seen == [(False, False), (True, False, True)]


def test_the_mode_of_an_evaluation_may_be_ones_own(quiet):
    seen = []
    module = Whole()
    module.on_validation_model_eval = lambda: seen.append("eval")
    module.on_validation_model_train = lambda: seen.append("train")
    module.validation_step = lambda batch, batch_idx: seen.append(module.training)
    quiet().validate(module, verbose=False)
    assert seen == ["eval", True, True, "train"]


# ------------------------------------------------------------ names that are no hooks


@pytest.mark.parametrize("base", [Whole, L.Callback, Data], ids=["module", "callback", "data module"])
@pytest.mark.parametrize("name", REMOVED_HOOKS)
def test_a_hook_of_former_days_is_refused_with_its_successor(quiet, base, name):
    owner = type("Old", (base,), {name: lambda self, *_: None})()
    module, callbacks, data = Whole(), [], None
    if base is Whole:
        module = owner
    elif base is Data:
        data = owner
    else:
        callbacks = [owner]
    with pytest.raises(NotImplementedError) as raised:
        quiet(max_epochs=1, callbacks=callbacks).fit(module, datamodule=data)
    expected = f"`Old.{name}` is never called: the hook was removed. {REMOVED_HOOKS[name]}"
    assert str(raised.value) == expected


MISSPELT = [
    (Whole, "on_train_bach_end", "on_train_batch_end"),
    (Whole, "on_validation_epoch_ends", "on_validation_epoch_end"),
    (L.Callback, "on_sanity_check_begin", "on_sanity_check_end"),
    (L.Callback, "on_train_epoch_strat", "on_train_epoch_start"),
    (Data, "on_after_batch_transfers", "on_after_batch_transfer"),
]


@pytest.mark.parametrize(("base", "name", "meant"), MISSPELT, ids=[name for _, name, _ in MISSPELT])
def test_a_misspelt_hook_is_told_with_the_nearest_one(quiet, base, name, meant):
    owner = type("Mine", (base,), {name: lambda self, *_: 1 / 0})()
    module = owner if base is Whole else Whole()
    callbacks = [owner] if base is L.Callback else []
    with pytest.warns(UserWarning, match=rf"`Mine\.{name}` is no hook.*Did you mean `{meant}`"):
        quiet(max_epochs=1, callbacks=callbacks).fit(module, datamodule=owner if base is Data else None)


def test_methods_of_ones_own_are_nobodys_business(quiet):
    names = ["on_the_moon", "training_loss", "validation_epoch", "setup_data", "one_train_batch_end"]
    module = type("Mine", (Whole,), {name: lambda self: 1 / 0 for name in names})()
    trainer = quiet(max_epochs=1)
    trainer.fit(module)
    assert trainer.state.finished
