"""What does not fit is refused: the message says what was given, what is allowed and what to do."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import levin as L
from levin.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from levin.data import CombinedLoader
from levin.testing import BoringDataModule, BoringModel, ManualOptimBoringModel
from levin.utils.errors import MisconfigurationException, PossibleUserWarning


class Bare(L.LightningModule):
    """A module that defines nothing but a layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)


def rows():
    return DataLoader(torch.randn(3, 32))


def boring(**methods):
    """A BoringModel of a class with other methods."""
    return type("Boring", (BoringModel,), methods)()


@pytest.fixture
def short(quiet):
    """``short(**arguments)`` makes a Trainer that runs two batches of everything, once."""
    limits = {f"limit_{kind}_batches": 2 for kind in ("train", "val", "test", "predict")}
    return lambda **kwargs: quiet(**{"max_epochs": 1, **limits, **kwargs})


# ---------------------------------------------------------------------- places that can't be written to

NEEDED = {
    "checkpoints": ({}, "Checkpoints can't be written to .*enable_checkpointing=False"),
    "logs": ({"logger": True}, r"Logs can't be written to .*Logger\(save_dir=\.\.\.\), or write none"),
}


@pytest.mark.parametrize(("settings", "message"), NEEDED.values(), ids=NEEDED)
def test_a_place_that_can_not_be_written_to_is_told_before_the_work(short, tmp_path, settings, message):
    (tmp_path / "file").touch()
    model, steps = BoringModel(), []
    model.on_train_batch_start = lambda *_: steps.append(1)
    with pytest.raises(NotADirectoryError, match=message):
        short(
            **{"default_root_dir": tmp_path / "file" / "runs", "enable_checkpointing": True, **settings}
        ).fit(model)
    assert steps == []


def test_a_place_that_is_not_written_to_is_not_looked_at(short, tmp_path):
    (tmp_path / "file").touch()
    for settings in ({}, {"fast_dev_run": True, "enable_checkpointing": True, "logger": True}):
        trainer = short(default_root_dir=tmp_path / "file" / "runs", **settings)
        trainer.fit(BoringModel())
        assert trainer.state.finished


# ---------------------------------------------------------------------- unknown arguments


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("max_epoch", "max_epochs"), ("acelerator", "accelerator"),
        ("limit_train_batch", "limit_train_batches"), ("checkpointing", "enable_checkpointing"),
        ("log_every_n_step", "log_every_n_steps"),
        ("gradient_clipping_val", "gradient_clip_val"), ("callback", "callbacks"),
    ],
)  # fmt: skip
def test_an_unknown_argument_names_the_nearest(given, nearest):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{given}'. Did you mean '{nearest}'"):
        L.Trainer(**{given: 1})


def test_an_argument_like_no_other_is_told_with_all_that_are_known():
    with pytest.raises(TypeError, match=r"'xyz'. Known arguments: accelerator, .*, model_registry"):
        L.Trainer(xyz=1)


# ---------------------------------------------------------------------- no model, or only half of one


@pytest.mark.parametrize(
    ("model", "named"),
    [(nn.Linear(1, 1), "torch.nn.*Linear.*Put it into a LightningModule"), (None, "NoneType"), ([], "list"),
     (BoringModel, "the class BoringModel")],
)  # fmt: skip
def test_what_is_no_module_is_named(short, model, named):
    with pytest.raises(TypeError, match=f"`LightningModule` or .*OptimizedModule.*{named}"):
        short().fit(model, rows())


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_an_evaluation_without_any_model_says_so(short, name):
    with pytest.raises(TypeError, match=rf"`trainer.{name}\(\)` needs a model"):
        getattr(short(), name)(dataloaders=rows())


def test_a_forgotten_super_init_is_told(short):
    class Forgetful(L.LightningModule):
        def __init__(self):
            self.size = 1

    with pytest.raises(AttributeError, match=r"`Forgetful.__init__` did not call `super\(\).__init__\(\)`"):
        short().fit(Forgetful(), rows())


def test_a_forgotten_super_init_of_a_datamodule_is_told(short):
    class Forgetful(L.LightningDataModule):
        def __init__(self):
            self.size = 1

    with pytest.raises(AttributeError, match=r"`Forgetful.__init__` did not call `super\(\)"):
        short().fit(BoringModel(), datamodule=Forgetful())


@pytest.mark.parametrize(
    ("name", "needs"),
    [("fit", "training_step"), ("validate", "validation_step"), ("test", "test_step"),
     ("predict", "predict_step")],
)  # fmt: skip
def test_a_missing_step_is_named(short, name, needs):
    with pytest.raises(MisconfigurationException, match=f"`trainer.{name}` needs `{needs}`.*Bare"):
        getattr(short(), name)(Bare(), rows())


def test_missing_optimizers_are_named(short):
    class Trains(Bare):
        def training_step(self, batch): ...

    with pytest.raises(MisconfigurationException, match="needs `configure_optimizers`, and Trains does not"):
        short().fit(Trains(), rows())


def test_a_step_without_data_is_told(short, noting, batches):
    with pytest.warns(
        PossibleUserWarning, match="Noting has a `validation_step`, and there is no validation"
    ):
        short().fit(noting, batches(2))


def test_data_without_a_step_is_told(short, batches):
    class Trains(Bare):
        configure_optimizers = BoringModel.configure_optimizers

        def training_step(self, batch):
            return self.layer(batch.view(-1, 1)).sum()

    with pytest.warns(UserWarning, match="validation data, and Trains has no `validation_step`"):
        short().fit(Trains(), batches(2), batches(2))


def test_a_hook_that_was_removed_is_an_error(short):
    model = boring(validation_epoch_end=lambda self, outputs: None)
    with pytest.raises(
        NotImplementedError, match=r"Boring.validation_epoch_end.*`on_validation_epoch_end\(self\)`"
    ):
        short().fit(model)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("on_train_bach_end", "on_train_batch_end"), ("on_validation_epochs_end", "on_validation_epoch_end"),
     ("on_tran_start", "on_train_start")],
)  # fmt: skip
def test_a_misspelt_hook_is_told_at_start(short, misspelt, meant):
    model = boring(**{misspelt: lambda self, *args: None})
    with pytest.warns(UserWarning, match=f"`Boring.{misspelt}` is no hook .*Did you mean `{meant}`"):
        short().fit(model)


def test_a_misspelt_step_is_told_where_the_right_one_is_missing(short, batches):
    class Model(Bare):
        configure_optimizers = BoringModel.configure_optimizers

        def training_step(self, batch):
            return self.layer(batch.view(-1, 1)).sum()

        def validaton_step(self, batch): ...

        def training_steps(self): ...

    with pytest.warns(UserWarning, match="`Model.validaton_step` is no hook.*`validation_step`"):
        short().fit(Model(), batches(2))


def test_a_misspelt_hook_of_a_callback_is_told(short):
    callback = type("Mine", (L.Callback,), {"on_train_epoch_ends": lambda self, *args: None})()
    with pytest.warns(UserWarning, match="`Mine.on_train_epoch_ends`.*`on_train_epoch_end`"):
        short(callbacks=callback).fit(BoringModel())


def test_methods_of_the_users_own_are_not_taken_for_hooks(short):
    names = ("on_button_pressed", "make_loader", "forward_features", "step_size")
    short().fit(boring(**{name: lambda self: None for name in names}))  # a warning would be an error


# ---------------------------------------------------------------------- no data, or no loaders


@pytest.mark.parametrize(
    ("name", "hook"),
    [("fit", "train_dataloader"), ("validate", "val_dataloader"), ("test", "test_dataloader"),
     ("predict", "predict_dataloader")],
)  # fmt: skip
def test_missing_data_names_the_hook_that_could_bring_it(short, noting, name, hook):
    with pytest.raises(MisconfigurationException, match=f"`{hook}` must be implemented by Noting"):
        getattr(short(), name)(noting)


def test_a_datamodule_without_the_data_is_told(short, noting):
    with pytest.raises(
        MisconfigurationException, match="`train_dataloader` must be implemented by Lightning"
    ):
        short().fit(noting, datamodule=L.LightningDataModule())


@pytest.mark.parametrize("given", [5, "rows", lambda: 1, [DataLoader([1]), None], {"a": [None]}, DataLoader])
@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_what_can_not_be_iterated_over_is_no_loader(short, noting, name, given):
    noting.val_dataloader = rows
    with pytest.raises(
        TypeError, match=r"An invalid dataloader was passed as `\w+` data: .*DataLoader.*list"
    ):
        getattr(short(), name)(noting, given)


@pytest.mark.parametrize("hook", ["train_dataloader", "val_dataloader"])
@pytest.mark.parametrize("returned", [None, 5])
def test_a_hook_that_returns_no_loader_is_named(short, hook, returned):
    model = boring(**{hook: lambda self: returned})
    with pytest.raises(TypeError, match=f"was returned by `Boring.{hook}`: {returned}"):
        short().fit(model)


def test_loaders_and_a_datamodule_at_once_are_refused(short):
    for name in ("fit", "validate", "test", "predict"):
        with pytest.raises(MisconfigurationException, match=f"`trainer.{name}` got dataloaders and a data"):
            getattr(short(), name)(BoringModel(), rows(), datamodule=BoringDataModule())


def test_what_is_no_datamodule_is_named(short):
    with pytest.raises(TypeError, match="must be a `LightningDataModule`, and is a int"):
        short().fit(BoringModel(), datamodule=5)


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_a_step_that_lacks_the_loaders_number_is_told(short, name):
    step = {"validate": "validation"}.get(name, name) + "_step"
    model = boring(**{step: lambda self, batch, batch_idx: None})
    with pytest.raises(RuntimeError, match=r"There are 2 dataloaders.*dataloader_idx=0"):
        getattr(short(), name)(model, [rows(), rows()])


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_a_step_that_needs_the_number_of_the_only_loader_is_told(short, name):
    step = {"validate": "validation"}.get(name, name) + "_step"
    model = boring(**{step: lambda self, batch, batch_idx, dataloader_idx: None})
    with pytest.raises(RuntimeError, match="requires `dataloader_idx`, and there is only one"):
        getattr(short(), name)(model, rows())


def test_loaders_of_one_after_another_can_not_be_trained_on(short):
    loader = CombinedLoader([rows(), rows()], "sequential")
    with pytest.raises(ValueError, match=r"each step needs a batch of each.*max_size_cycle"):
        short().fit(BoringModel(), loader)


# ---------------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("returned", "named"),
    [("loss", "a str"), (1.5, "a float"), ([1], "a list"), ({}, r"a dict with the keys \[\]"),
     ({"x": 1}, r"a dict with the keys \['x'\]"), ({"loss": 1.0}, r"a dict with the keys \['loss'\]")],
)  # fmt: skip
def test_what_is_no_loss_is_named(short, returned, named):
    model = boring(training_step=lambda self, batch: returned)
    with pytest.raises(
        MisconfigurationException, match=f"`training_step` returned {named}.*the key 'loss', or None"
    ):
        short().fit(model)


def test_a_loss_of_several_numbers_is_told(short):
    model = boring(training_step=lambda self, batch: self.layer(batch).view(-1))
    with pytest.raises(RuntimeError, match=r"loss has the shape \(2,\).*return loss.mean\(\)"):
        short().fit(model)


def test_a_loss_without_a_graph_is_told(short):
    model = boring(training_step=lambda self, batch: self.layer(batch).sum().detach())
    with pytest.raises(RuntimeError, match=r"not attached to a graph.*`.detach\(\)`.*frozen"):
        short().fit(model)


def test_a_loss_of_shape_one_is_a_number(short):
    short().fit(boring(training_step=lambda self, batch: self.layer(batch).sum().view(1)))


def test_manual_optimization_takes_no_text_for_an_output(short):
    model = type("Manual", (ManualOptimBoringModel,), {"training_step": lambda self, batch: "done"})()
    with pytest.raises(MisconfigurationException, match="a tensor, a dict or None"):
        short().fit(model)


# ---------------------------------------------------------------------- settings that do not fit the module


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"gradient_clip_val": 0.5}, r"gradient_clip_val=0.5.*self.clip_gradients"),
     ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2.*in `training_step`")],
)  # fmt: skip
def test_what_manual_optimization_has_to_do_itself_is_told(short, settings, text):
    with pytest.raises(MisconfigurationException, match=text):
        short(**settings).fit(ManualOptimBoringModel())


def test_manual_backward_belongs_to_manual_optimization(short):
    model = boring(training_step=lambda self, batch: self.manual_backward(self.step(batch)))
    with pytest.raises(MisconfigurationException, match=r"automatic_optimization = False.*return the loss"):
        short().fit(model)


def test_optimizer_idx_is_gone(short):
    def training_step(self, batch, batch_idx, optimizer_idx): ...

    with pytest.raises(RuntimeError, match=r"takes `optimizer_idx`, which is gone.*self.optimizers\(\)"):
        short().fit(boring(training_step=training_step))


def test_two_optimizers_need_manual_optimization(short):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    with pytest.raises(RuntimeError, match=r"2 optimizers.*automatic_optimization = False"):
        short().fit(boring(configure_optimizers=configure_optimizers))


def plateau(self):
    optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "los"}


@pytest.mark.parametrize(
    ("settings", "methods", "error"),
    [({"callbacks": EarlyStopping("los")}, {}, RuntimeError),
     ({"callbacks": ModelCheckpoint(monitor="los"), "enable_checkpointing": True}, {},
      MisconfigurationException),
     ({}, {"configure_optimizers": plateau}, MisconfigurationException)],
)  # fmt: skip
def test_a_monitor_that_was_never_logged_is_told_with_what_was(short, settings, methods, error):
    model = boring(validation_step=lambda self, batch: self.log("loss", 1.0), **methods)
    with pytest.raises(error, match=r"'los'.*'loss'"):
        short(**settings).fit(model)


def test_a_learning_rate_monitor_needs_a_logger(short):
    with pytest.raises(MisconfigurationException, match=r"LearningRateMonitor.*Trainer\(logger=True\)"):
        short(callbacks=LearningRateMonitor()).fit(BoringModel())


# ---------------------------------------------------------------------- checkpoints


def test_nothing_can_be_saved_before_there_is_a_model(quiet, tmp_path):
    with pytest.raises(AttributeError, match="no model to save yet: call fit, validate, test or predict"):
        quiet().save_checkpoint(tmp_path / "x.ckpt")


@pytest.fixture
def saved(short, tmp_path):
    """A folder with the checkpoints of a fit of one epoch: ``full.ckpt`` and ``weights.ckpt``."""
    trainer = short()
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "full.ckpt")
    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    return tmp_path


NO_CHECKPOINTS = {
    "text": (lambda full: b"Dear diary,", "11 bytes begin with b'Dear diary,'"),
    "empty": (lambda full: b"", "it is empty"),
    "truncated": (lambda full: full[: len(full) // 2], "was cut off after"),
    "tensor": (lambda full: torch.ones(3), "torch.Tensor, and no dict.*save_checkpoint"),
    "state_dict": (
        lambda full: BoringModel().state_dict(),
        "a bare state dict of 2 tensors.*load_state_dict",
    ),
    "other": (lambda full: {"model": 1}, r'without "state_dict": its keys are \[\'model\'\]'),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
@pytest.mark.parametrize("name", ["fit", "test"])
def test_a_file_that_is_no_checkpoint_is_told_what_it_is(short, saved, kind, name):
    make, text = NO_CHECKPOINTS[kind]
    content = make((saved / "full.ckpt").read_bytes())
    path = saved / "given.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    model = BoringModel()
    before = model.layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match=f"(?s)given.ckpt.*{text}"):
        getattr(short(), name)(model, ckpt_path=path)
    assert torch.equal(model.layer.weight, before)


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_a_missing_file_is_told_with_its_neighbours(short, saved, name):
    with pytest.raises(FileNotFoundError, match=r"fall.ckpt'.*The folder holds: full.ckpt, weights.ckpt"):
        getattr(short(), name)(BoringModel(), ckpt_path=saved / "fall.ckpt")
    with pytest.raises(FileNotFoundError, match="The folder '/nowhere' does not exist either"):
        getattr(short(), name)(BoringModel(), ckpt_path="/nowhere/full.ckpt")


def test_an_empty_path_is_no_path(short):
    with pytest.raises(ValueError, match="ckpt_path='' is no path"):
        short().test(BoringModel(), ckpt_path="")


def test_weights_alone_can_be_tested_but_not_trained_on(short, saved):
    short().test(BoringModel(), ckpt_path=saved / "weights.ckpt")
    with pytest.raises(KeyError, match=r"lacks \['optimizer_states', 'lr_schedulers'\].*save_weights_only"):
        short(max_epochs=2).fit(BoringModel(), ckpt_path=saved / "weights.ckpt")


def test_callbacks_are_not_asked_to_load_from_weights_alone_which_they_had_no_part_in(short, saved):
    class Loading(L.Callback):
        def on_load_checkpoint(self, trainer, pl_module, checkpoint):
            loaded.append(sorted({"callbacks"} & set(checkpoint)))

    loaded = []
    for name in ("weights.ckpt", "full.ckpt"):
        short(callbacks=Loading()).test(BoringModel(), ckpt_path=saved / name)
    assert loaded == [["callbacks"]]


def test_a_checkpoint_of_a_later_epoch_than_the_last_is_refused(short, saved):
    with pytest.raises(MisconfigurationException, match=r"saved in epoch 1, and `max_epochs=0`"):
        short(max_epochs=0).fit(BoringModel(), ckpt_path=saved / "full.ckpt")


def test_a_checkpoint_of_another_model_is_refused(short, saved):
    model = boring()
    model.layer = nn.Linear(32, 3)
    with pytest.raises(RuntimeError, match=r"size mismatch for layer.weight"):
        short().test(model, ckpt_path=saved / "full.ckpt")


def test_a_checkpoint_with_another_number_of_optimizers_is_refused(short, saved):
    class Two(ManualOptimBoringModel):
        def configure_optimizers(self):
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    with pytest.raises(ValueError, match="states of 1 optimizers, and `configure_optimizers` returned 2"):
        short(max_epochs=2).fit(Two(), ckpt_path=saved / "full.ckpt")


def test_a_checkpoint_with_another_number_of_schedulers_is_told(short, saved):
    model = boring(configure_optimizers=lambda self: torch.optim.SGD(self.parameters(), lr=0.1))
    with pytest.warns(UserWarning, match="states of 1 schedulers, and `configure_optimizers` returned 0"):
        short(max_epochs=2).fit(model, ckpt_path=saved / "full.ckpt")


def test_the_best_checkpoint_of_nothing_is_told(short):
    with pytest.raises(ValueError, match="needs a ModelCheckpoint callback, and there is none"):
        short().test(BoringModel(), ckpt_path="best")
    with pytest.raises(ValueError, match=r"there is no best checkpoint yet. Call `trainer.fit` first"):
        short(enable_checkpointing=True).test(BoringModel(), ckpt_path="best")
    with pytest.raises(ValueError, match="can't be used with fast_dev_run"):
        short(fast_dev_run=True, enable_checkpointing=True).test(BoringModel(), ckpt_path="best")


def test_the_last_checkpoint_of_nothing_is_told(short):
    with pytest.warns(UserWarning, match="no last checkpoint yet. Training starts from the beginning"):
        short().fit(BoringModel(), ckpt_path="last")
    with pytest.warns(UserWarning, match="no last checkpoint yet. The weights are used as they are"):
        short().test(BoringModel(), ckpt_path="last")


# ---------------------------------------------------------------------- a full disk

FULL_DISK = """
    import resource, signal, torch, levin as L
    from levin.callbacks import ModelCheckpoint
    from levin.testing import BoringModel

    class Big(BoringModel):
        def __init__(self):
            super().__init__()
            self.ballast = torch.nn.Parameter(torch.zeros(50_000))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as it does on a full disk
    saving = ModelCheckpoint(dirpath={folder!r}, every_n_train_steps=1, save_top_k=-1)
    model = Big()

    class Fill(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    L.Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=4, limit_val_batches=0, logger=False,
              callbacks=[Fill(), saving], enable_progress_bar=False, enable_model_summary=False).fit(model)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits to the size of files")
def test_a_full_disk_leaves_what_was_whole_and_nothing_that_is_half(tmp_path):
    program = textwrap.dedent(FULL_DISK).format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "epoch=0-step=2.ckpt could not be written: File too large. It needs about" in last
    assert "Nothing half-written was left" in last
    assert {path.name for path in tmp_path.iterdir()} == {"epoch=0-step=1.ckpt", ".checkpoints.jsonl"}
    assert torch.load(tmp_path / "epoch=0-step=1.ckpt", weights_only=True)["global_step"] == 1


class LogsAtWill(BoringModel):
    """Logs in a step as it is told to."""

    def __init__(self, log):
        super().__init__()
        self.log_something = log

    def training_step(self, batch, batch_idx):
        self.log_something(self)
        return super().training_step(batch, batch_idx)


class SchedulesAtWill(BoringModel):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "frequency": "2"}}


class BringsNoCallback(BoringModel):
    def configure_callbacks(self):
        return [5]


@pytest.mark.parametrize(
    ("model", "arguments", "said"),
    [
        (LogsAtWill(lambda self: self.log(3, 1.0)), {}, r"self.log\(3, ...\) got a int as its name"),
        (LogsAtWill(lambda self: self.log_dict(5)), {}, r"self.log_dict got a int. It takes a dict"),
        (SchedulesAtWill(), {}, "frequency is '2'. It is a whole number"),
        (BringsNoCallback(), {}, "`configure_callbacks` holds 5, which is no `Callback`"),
        (BoringModel(), {"ckpt_path": 5}, "ckpt_path=5 is a int. Give the path of a checkpoint"),
    ],
)
def test_what_has_the_wrong_type_is_told_by_its_name(model, arguments, said, quiet):
    with pytest.raises((TypeError, MisconfigurationException), match=said):
        quiet(max_steps=1).fit(model, **arguments)


@pytest.mark.parametrize("name", ["epoch_loop", "epoch_progress", "batch_idx", "total_batch_idx"])
def test_parts_that_loops_had_are_told_by_what_there_is(name, quiet):
    with pytest.raises(AttributeError, match=rf"{name}.*`trainer\."):
        getattr(quiet().fit_loop, name)
