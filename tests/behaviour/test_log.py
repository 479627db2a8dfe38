from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics

import levin as L
from levin.loggers import Logger
from levin.utils.errors import MisconfigurationException

ROW_OF_TWO, ROW_OF_ONE = torch.tensor([1.0, 3.0]), torch.tensor([8.0])
UNEVEN = (ROW_OF_TWO, ROW_OF_ONE, torch.tensor([0.0, 3.0, 6.0]))  # batches whose means are 2, 8 and 3


class Rows(Logger):
    """Keeps what it is given: pairs of a step and the values."""

    name, version = "rows", 0

    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))

    def log_hyperparams(self, params):
        pass

    def of(self, name):
        """Return the steps and values of one name."""
        return [(step, row[name]) for step, row in self.rows if name in row]


class Loader:
    """A loader of the batches that it is given: a list of tensors would be a list of loaders."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Line(L.LightningModule):
    """One weight; each step of the optimizer takes 1 from it."""

    def __init__(self, **parts):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        for name, part in parts.items():
            setattr(self, name, part)

    def training_step(self, batch, batch_idx):
        return self.weight * 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def line(train=None, parts=None, **methods):
    """Make a module with these methods; ``train(self, batch, batch_idx)`` runs in its training step."""

    def training_step(self, batch, batch_idx):
        train(self, batch, batch_idx)
        return self.weight * 1

    if train is not None:
        methods["training_step"] = training_step
    return type("Logging", (Line,), methods)(**(parts or {}))


@pytest.fixture
def fit(quiet):
    """``fit(model, *batches, val=..., **Trainer's arguments)`` trains an epoch and returns the trainer."""

    def run(model, *batches, val=None, **settings):
        trainer = quiet(**{"logger": Rows(), "max_epochs": 1, "log_every_n_steps": 1, **settings})
        trainer.fit(model, Loader(*(batches or UNEVEN)), val)
        return trainer

    return run


def floats(metrics):
    return {name: value.item() for name, value in metrics.items()}


# ------------------------------------------------------------ where it may be called

EACH_STEP = [
    "training_step", "on_train_batch_start", "on_train_batch_end", "on_before_backward", "backward",
    "on_after_backward", "on_before_optimizer_step", "optimizer_step", "configure_gradient_clipping",
    "clip_gradients", "on_before_zero_grad", "optimizer_zero_grad",
]  # fmt: skip
EACH_EVALUATION_BATCH = [
    "validation_step", "on_validation_batch_start", "on_validation_batch_end",
    "test_step", "on_test_batch_start", "on_test_batch_end",
]  # fmt: skip
EACH_EPOCH = [
    "on_train_start", "on_train_epoch_start", "on_train_epoch_end",
    "on_validation_start", "on_validation_epoch_start", "on_validation_epoch_end",
    "on_test_start", "on_test_epoch_start", "on_test_epoch_end",
]  # fmt: skip
NOWHERE = [
    "setup", "teardown", "prepare_data", "train_dataloader", "val_dataloader", "test_dataloader",
    "predict_dataloader", "configure_optimizers", "configure_model", "on_fit_start", "on_fit_end",
    "on_train_end", "on_validation_end", "on_test_end", "predict_step", "on_predict_start", "on_predict_end",
    "on_predict_epoch_start", "on_predict_epoch_end", "on_predict_batch_start", "on_predict_batch_end",
    "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer", "lr_scheduler_step",
    "on_validation_model_eval", "on_validation_model_train", "on_validation_model_zero_grad",
    "on_test_model_eval", "on_test_model_train", "on_predict_model_eval", "on_save_checkpoint",
    "on_load_checkpoint",
]  # fmt: skip
ONLY_CALLBACKS = ["on_sanity_check_start", "on_sanity_check_end", "on_exception"]
MODULE_AND_CALLBACKS = {
    name
    for name in [*EACH_STEP, *EACH_EVALUATION_BATCH, *EACH_EPOCH, *NOWHERE]
    if name.startswith("on_") and "_model_" not in name and "transfer" not in name
}


class Whole(Line):
    """Overrides all there is, with two batches of everything."""

    def forward(self, batch):
        return batch

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        pass

    def predict_step(self, batch, batch_idx):
        return batch

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    def loader(self):
        return Loader(ROW_OF_TWO, ROW_OF_ONE)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


def logging_in(hook, base, options):
    """Make a subclass that logs x in a hook, and keeps the errors of that."""

    def method(self, *args, **kwargs):
        try:
            self.log("x", 1.0, **options)
        except Exception as error:
            self.errors.append(error)
        return getattr(super(cls, self), hook)(*args, **kwargs)

    cls = type(base.__name__, (base,), {hook: method, "errors": []})
    return cls()


def visit(hook, quiet, tmp_path, *, callback=False, **options):
    """Run all that calls a hook; return the logger's rows with x, and the first error of `self.log`."""
    owner = logging_in(hook, L.Callback if callback else Whole, options)
    model, callbacks = (Whole(), [owner]) if callback else (owner, [])
    settings = {"max_epochs": 1, "log_every_n_steps": 1, "gradient_clip_val": 1.0, "logger": Rows()}
    settings |= {"num_sanity_val_steps": int("sanity" in hook), "enable_checkpointing": "checkpoint" in hook}
    trainer = quiet(callbacks=callbacks, **settings)
    if "test" in hook:
        trainer.test(model, verbose=False)
    elif "predict" in hook:
        trainer.predict(model)
    elif hook == "on_exception":
        with pytest.raises(ZeroDivisionError):
            trainer.fit(type("Broken", (Whole,), {"training_step": lambda *_: 1 / 0})())
    else:
        trainer.fit(model)
    if hook == "on_load_checkpoint":
        trainer.fit(model, ckpt_path=trainer.checkpoint_callback.best_model_path)
    return len(trainer.logger.of("x")), (owner.errors or [None])[0]


OWNERS = [(hook, False) for hook in EACH_STEP] + [(h, True) for h in EACH_STEP if h in MODULE_AND_CALLBACKS]


@pytest.mark.parametrize(("hook", "callback"), OWNERS)
def test_what_is_logged_around_a_step_is_the_steps_value(hook, callback, quiet, tmp_path):
    assert visit(hook, quiet, tmp_path, callback=callback) == (2, None)
    assert visit(hook, quiet, tmp_path, callback=callback, on_step=False, on_epoch=True) == (1, None)


OWNERS = [(hook, False) for hook in EACH_EVALUATION_BATCH]
OWNERS += [(hook, True) for hook in EACH_EVALUATION_BATCH if hook in MODULE_AND_CALLBACKS]


@pytest.mark.parametrize(("hook", "callback"), OWNERS)
def test_what_is_logged_around_an_evaluation_batch_is_the_mean_of_all(hook, callback, quiet, tmp_path):
    assert visit(hook, quiet, tmp_path, callback=callback) == (1, None)
    assert visit(hook, quiet, tmp_path, callback=callback, on_step=True, on_epoch=False) == (2, None)


@pytest.mark.parametrize("callback", [False, True], ids=["module", "callback"])
@pytest.mark.parametrize("hook", EACH_EPOCH)
def test_what_is_logged_once_an_epoch_is_the_epochs_value_and_no_steps(hook, callback, quiet, tmp_path):
    assert visit(hook, quiet, tmp_path, callback=callback) == (1, None)
    for options in ({"on_step": True}, {"on_epoch": False, "on_step": True}):
        rows, error = visit(hook, quiet, tmp_path, callback=callback, **options)
        assert rows == 0
        assert isinstance(error, MisconfigurationException)
        assert f"`{hook}`" in str(error)


OWNERS = [(hook, False) for hook in NOWHERE]
OWNERS += [(hook, True) for hook in NOWHERE if hook in MODULE_AND_CALLBACKS or hook in ("setup", "teardown")]
OWNERS += [(hook, True) for hook in ONLY_CALLBACKS]


@pytest.mark.parametrize(("hook", "callback"), OWNERS)
def test_where_there_is_no_step_or_epoch_logging_is_an_error_that_names_the_hook(
    hook, callback, quiet, tmp_path
):
    rows, error = visit(hook, quiet, tmp_path, callback=callback)
    assert rows == 0
    assert isinstance(error, MisconfigurationException)
    assert f"can't be used in `{hook}`" in str(error)


@pytest.mark.parametrize("hook", ["training_step", "validation_step", "on_train_epoch_end"])
def test_logging_neither_by_step_nor_by_epoch_is_an_error(hook, quiet, tmp_path):
    _, error = visit(hook, quiet, tmp_path, on_step=False, on_epoch=False)
    assert isinstance(error, MisconfigurationException)
    assert "would log nothing" in str(error)


def test_without_a_trainer_logging_warns_and_does_nothing():
    with pytest.warns(UserWarning, match="no run going on"):
        Line().log("x", 1.0)


def test_after_a_run_logging_is_an_error(fit):
    model = line()
    fit(model)
    with pytest.raises(MisconfigurationException, match="in no hook"):
        model.log("x", 1.0)


@pytest.mark.parametrize("automatic", [True, False])
def test_after_a_run_that_failed_in_a_step_logging_is_an_error(fit, automatic):
    model = line(lambda self, batch, i: 1 / 0)
    model.automatic_optimization = automatic
    with pytest.raises(ZeroDivisionError):
        fit(model)
    with pytest.raises(MisconfigurationException, match="in no hook"):
        model.log("x", 1.0)


def test_a_barebones_run_warns_and_logs_nothing(tmp_path):
    trainer = L.Trainer(accelerator="cpu", barebones=True, max_epochs=1, default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match="barebones"):
        trainer.fit(line(lambda self, batch, i: self.log("x", 1.0, on_epoch=True)), Loader(*UNEVEN))
    assert trainer.callback_metrics == {}


# ------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["x"]),
        ({"on_step": False, "on_epoch": True}, ["x"]),
        ({"on_epoch": True}, ["x_step", "x_epoch"]),
    ],
)
def test_a_name_gets_an_ending_only_where_two_values_share_it(fit, options, names):
    trainer = fit(line(lambda self, batch, i: self.log("x", batch.mean(), prog_bar=True, **options)))
    assert list(trainer.logged_metrics) == list(trainer.progress_bar_metrics) == names
    assert sorted(trainer.callback_metrics) == sorted({"x", *names})


def test_the_bare_name_is_the_steps_value_until_the_epochs_is_known(fit):
    seen = []
    model = line(
        lambda self, batch, i: self.log("x", batch.mean(), on_epoch=True),
        on_train_batch_end=lambda self, *_: seen.append(float(self.trainer.callback_metrics["x"])),
        on_train_epoch_end=lambda self: seen.append(float(self.trainer.callback_metrics["x"])),
    )
    fit(model, max_epochs=2)
    epoch = [2.0, 8.0, 3.0, pytest.approx((2 * 2 + 1 * 8 + 3 * 3) / 6)]
    assert seen == epoch * 2


def test_names_of_several_loaders_end_with_the_loaders_number(fit):
    model = line(validation_step=lambda self, b, i, dataloader_idx: self.log("x", b.mean(), on_step=True))
    trainer = fit(model, val=[Loader(ROW_OF_TWO), Loader(ROW_OF_ONE)])
    assert floats(trainer.callback_metrics) == {
        "x/dataloader_idx_0": 2.0, "x_epoch/dataloader_idx_0": 2.0,
        "x/dataloader_idx_1": 8.0, "x_epoch/dataloader_idx_1": 8.0,
    }  # fmt: skip
    assert {"x_step/dataloader_idx_0", "x_step/dataloader_idx_1"} < set(trainer.logged_metrics)


def test_without_the_loaders_number_a_name_belongs_to_one_loader(fit):
    def log(self, batch, batch_idx, dataloader_idx):
        self.log(f"x{dataloader_idx}", batch.mean(), add_dataloader_idx=False)

    trainer = fit(line(validation_step=log), val=[Loader(ROW_OF_TWO), Loader(ROW_OF_ONE)])
    assert floats(trainer.callback_metrics) == {"x0": 2.0, "x1": 8.0}


def test_two_loaders_can_not_share_a_name(fit):
    def log(self, batch, batch_idx, dataloader_idx):
        self.log("x", batch.mean(), add_dataloader_idx=False)

    with pytest.raises(MisconfigurationException, match="for dataloader 0 and for 1"):
        fit(line(validation_step=log), val=[Loader(ROW_OF_TWO), Loader(ROW_OF_ONE)])


def test_the_loaders_number_may_be_written_only_where_levin_does_not_add_it(fit):
    def log(self, batch, batch_idx):
        self.log("x/dataloader_idx_0", 1.0, add_dataloader_idx=not self.current_epoch)

    with pytest.raises(MisconfigurationException, match="add_dataloader_idx=False"):
        fit(line(log))
    model = line(lambda self, *_: self.log("x/dataloader_idx_0", 1.0, add_dataloader_idx=False))
    assert "x/dataloader_idx_0" in fit(model).callback_metrics


# ------------------------------------------------------------ weights


def test_the_mean_of_an_epoch_weighs_each_batch_by_its_size(fit):
    model = line(lambda self, batch, i: self.log("x", batch.mean(), on_step=False, on_epoch=True))
    assert fit(model).callback_metrics["x"].item() == pytest.approx(torch.cat(UNEVEN).mean().item())


def test_a_given_batch_size_is_the_weight(fit):
    def log(self, batch, batch_idx):
        self.log("x", float(batch_idx), on_step=False, on_epoch=True, batch_size=10**batch_idx)

    expected = np.average([0, 1, 2], weights=[1, 10, 100])
    assert fit(line(log)).callback_metrics["x"].item() == pytest.approx(expected)


def test_a_batch_size_may_be_a_tensor(fit):
    def log(self, batch, batch_idx):
        self.log("x", batch.mean(), on_step=False, on_epoch=True, batch_size=(batch > 0).sum())

    sizes = [int((batch > 0).sum()) for batch in UNEVEN]
    expected = np.average([2.0, 8.0, 3.0], weights=sizes)
    assert fit(line(log)).callback_metrics["x"].item() == pytest.approx(expected)


@pytest.mark.parametrize("make", [float, torch.tensor], ids=["number", "tensor"])
def test_the_mean_over_no_samples_is_no_number(fit, make):
    model = line(lambda self, *_: self.log("x", make(1.0), on_step=False, on_epoch=True, batch_size=0))
    assert math.isnan(fit(model).callback_metrics["x"])


def test_a_batch_of_tensors_of_different_lengths_warns_and_the_first_counts(fit):
    batches = [(torch.zeros(3), torch.zeros(2)), (torch.ones(1), torch.ones(2))]
    model = line(lambda self, batch, i: self.log("x", batch[0].mean(), on_step=False, on_epoch=True))
    with pytest.warns(UserWarning, match=r"different lengths \[., .\], and"):
        trainer = fit(model, *batches)
    assert trainer.callback_metrics["x"].item() == pytest.approx(1 / 4)


def test_a_text_in_a_batch_says_nothing_of_its_size(fit):
    batches = [("three", torch.zeros(3)), ("1", torch.ones(1))]
    model = line(lambda self, batch, i: self.log("x", batch[1].mean(), on_step=False, on_epoch=True))
    assert fit(model, *batches).callback_metrics["x"].item() == pytest.approx(1 / 4)


def test_a_batch_without_a_size_needs_one(fit):
    model = line(lambda self, *_: self.log("x", 1.0, on_epoch=True))
    with pytest.raises(MisconfigurationException, match=r"batch of type str.*batch_size="):
        fit(model, "a text")


@pytest.mark.parametrize(
    "options", [{}, {"on_epoch": True, "reduce_fx": "max"}, {"on_epoch": True, "batch_size": 3}], ids=str
)
def test_a_batch_without_a_size_needs_none_where_nothing_is_weighed(fit, options):
    trainer = fit(line(lambda self, *_: self.log("x", 1.0, **options)), "a text")
    assert trainer.callback_metrics["x"] == 1.0


@pytest.mark.parametrize("batch", ["a text", (torch.zeros(3), torch.zeros(2))], ids=["sizeless", "ambiguous"])
def test_what_is_logged_once_an_epoch_does_not_look_at_a_batch(fit, batch):
    hooks = ["on_train_epoch_end", "on_validation_start", "on_validation_epoch_end"]
    methods = {hook: lambda self, hook=hook: self.log(hook, 1.0) for hook in hooks}
    trainer = fit(line(**methods, validation_step=lambda *_: None), batch, val=Loader(batch))
    assert floats(trainer.callback_metrics) == dict.fromkeys(hooks, 1.0)


# ------------------------------------------------------------ reductions

VALUES = [4.0, -1.0, 2.5]
REDUCTIONS = [
    *[(fx, np.mean) for fx in ("mean", "avg", "MEAN", "Avg", torch.mean)],
    *[(fx, np.sum) for fx in ("sum", "Sum", torch.sum, sum)],
    *[(fx, np.min) for fx in ("min", "MIN", torch.min, min)],
    *[(fx, np.max) for fx in ("max", "Max", torch.max, max)],
]


@pytest.mark.parametrize("make", [float, torch.tensor], ids=["number", "tensor"])
@pytest.mark.parametrize(("fx", "oracle"), REDUCTIONS, ids=lambda fx: getattr(fx, "__name__", fx))
def test_an_epochs_value_is_reduced_as_asked(fit, fx, oracle, make):
    def log(self, batch, batch_idx):
        self.log("x", make(VALUES[batch_idx]), on_epoch=True, reduce_fx=fx)

    trainer = fit(line(log), *[torch.zeros(2)] * 3)
    assert trainer.callback_metrics["x_epoch"].item() == pytest.approx(oracle(VALUES))
    assert trainer.callback_metrics["x_step"].item() == VALUES[-1]


@pytest.mark.parametrize("fx", ["median", torch.std, len, None, lambda values: values])
def test_any_other_reduction_is_refused_and_the_ways_out_are_named(fit, fx):
    with pytest.raises(MisconfigurationException, match=r"'mean', 'sum', 'min', 'max'.*torchmetrics\.Metric"):
        fit(line(lambda self, *_: self.log("x", 1.0, reduce_fx=fx)))


def test_sums_and_extremes_are_not_weighed(fit):
    def log(self, batch, batch_idx):
        for fx in ("mean", "sum", "min", "max"):
            self.log(fx, batch.mean(), on_step=False, on_epoch=True, reduce_fx=fx)
            self.log(f"sized {fx}", batch.mean(), on_step=False, on_epoch=True, reduce_fx=fx, batch_size=5)

    values = floats(fit(line(log)).callback_metrics)
    assert (values.pop("mean"), values.pop("sized mean")) == (pytest.approx(3.5), pytest.approx(13 / 3))
    unweighed = {"sum": 13.0, "min": 2.0, "max": 8.0}
    assert values == {**unweighed, **{f"sized {fx}": value for fx, value in unweighed.items()}}


def test_what_is_for_several_processes_changes_nothing_in_one(fit):
    def log(self, batch, batch_idx):
        for number, options in enumerate(({}, {"sync_dist": True}, {"rank_zero_only": True})):
            self.log(f"x{number}", batch.mean(), on_step=False, on_epoch=True, **options)

    values = floats(fit(line(log)).callback_metrics)
    assert values == dict.fromkeys(("x0", "x1", "x2"), pytest.approx(3.5))


# ------------------------------------------------------------ values

NUMBERS = {
    "int": int,
    "bool": lambda i: i > 1,
    "float": float,
    "numpy float32": np.float32,
    "numpy float64": np.float64,
    "numpy int64": np.int64,
    "integer tensor": torch.tensor,
    "boolean tensor": lambda i: torch.tensor(i > 1),
    "tensor of one element": lambda i: torch.tensor([[float(i)]]),
    "bfloat16": lambda i: torch.tensor(float(i), dtype=torch.bfloat16),
}


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
def test_whatever_is_a_number_arrives_as_a_float(fit, make):
    trainer = fit(line(lambda self, batch, i: self.log("x", make(i), on_epoch=True)))
    steps = [float(make(i)) for i in range(3)]
    assert [row["x_step"] for _, row in trainer.logger.rows[:3]] == steps
    (mean,) = [value for _, value in trainer.logger.of("x_epoch")]
    assert mean == pytest.approx(np.average(steps, weights=[2, 1, 3]), rel=1e-6)
    values = [value for _, row in trainer.logger.rows for name, value in row.items() if name != "epoch"]
    assert {type(value) for value in values} == {float}
    assert all(value.is_floating_point() and value.ndim == 0 for value in trainer.callback_metrics.values())


NO_NUMBERS = {
    "text": ("0.5", "got a str"),
    "None": (None, "got a NoneType"),
    "dict": ({"a": 1.0}, r"got a dict.*self\.log_dict"),
    "list": ([1.0], "got a list"),
    "array": (np.ones(2), "got a ndarray"),
    "tensor of two": (torch.ones(2), r"shape \(2,\).*value\.mean\(\)"),
    "empty tensor": (torch.ones(0), r"shape \(0,\)"),
    "collection": (torchmetrics.MetricCollection([torchmetrics.MeanMetric()]), r"MetricCollection.*log_dict"),
}


@pytest.mark.parametrize("since", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize(("value", "message"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_refused_at_once(fit, value, message, since):
    seen = []

    def log(self, batch, batch_idx):
        seen.append(batch_idx)
        self.log("x", value if batch_idx >= since else 1.0, on_epoch=True)

    with pytest.raises(ValueError, match=message):
        fit(line(log))
    assert seen[-1] == since


def test_a_logged_tensor_may_be_changed_in_place(fit):
    def log(self, batch, batch_idx, **options):
        value = self.weight + 1.0
        self.log("x", value, on_epoch=True, **options)
        value += 100

    def log_with_graph(self, batch, batch_idx):
        log(self, batch, batch_idx, enable_graph=True)

    for train in (log, log_with_graph):
        trainer = fit(line(train), *[torch.zeros(1)] * 3)
        assert floats(trainer.callback_metrics) == {"x": 0.0, "x_step": -1.0, "x_epoch": 0.0}


@pytest.mark.parametrize("enable_graph", [False, True])
def test_a_value_keeps_its_graph_only_if_asked(fit, enable_graph):
    seen = []
    model = line(
        lambda self, *_: self.log("x", self.weight * 2, enable_graph=enable_graph),
        on_after_backward=lambda self: seen.append(self.trainer.callback_metrics["x"].requires_grad),
    )
    fit(model)
    assert seen == [enable_graph] * 3


def test_values_may_be_of_different_kinds_from_step_to_step(fit):
    values = [1, torch.tensor(2.0), 3.0, torch.tensor(4)]
    model = line(lambda self, batch, i: self.log("x", values[i], on_step=False, on_epoch=True))
    assert fit(model, *[torch.zeros(1)] * 4).callback_metrics["x"] == 2.5


def test_several_values_are_logged_by_one_call(fit):
    values = {"a": 1.0, "b": torch.tensor([2.0])}
    model = line(lambda self, *_: self.log_dict(values, prog_bar=True, on_step=False, on_epoch=True))
    assert fit(model).progress_bar_metrics == {"a": 1.0, "b": 2.0}


# ------------------------------------------------------------ one name, many calls


def test_a_name_logged_twice_in_a_batch_keeps_the_last_and_counts_both(fit):
    def log(self, *_):
        self.log("x", 1.0, on_epoch=True)
        self.log("x", 3.0, on_epoch=True)

    trainer = fit(line(log))
    assert floats(trainer.callback_metrics) == {"x": 2.0, "x_step": 3.0, "x_epoch": 2.0}


DIFFERENCES = [
    {"prog_bar": True}, {"logger": False}, {"on_step": True}, {"on_epoch": False}, {"reduce_fx": "max"},
    {"enable_graph": True}, {"sync_dist": True}, {"add_dataloader_idx": False}, {"rank_zero_only": True},
]  # fmt: skip


@pytest.mark.parametrize("options", DIFFERENCES, ids=str)
def test_a_name_has_one_set_of_arguments(fit, options):
    def log(self, batch, batch_idx):
        self.log("x", 1.0, **(options if batch_idx else {}))

    with pytest.raises(
        MisconfigurationException, match=r"'x'.*twice in `training_step`.*different arguments"
    ):
        fit(line(log))


def test_a_name_may_mean_something_else_in_another_hook(fit):
    model = line(
        lambda self, *_: self.log("x", 1.0),
        on_train_batch_end=lambda self, *_: self.log("x", 5.0, prog_bar=True),
    )
    trainer = fit(model)
    assert trainer.callback_metrics["x"] == 5.0
    assert trainer.progress_bar_metrics == {"x": 5.0}


def test_a_value_stays_the_newest_while_it_is_not_logged_again(fit):
    model = line(lambda self, batch, i: self.log("x", float(i)) if i != 1 else None)
    assert fit(model).logger.of("x") == [(0, 0.0), (1, 0.0), (2, 2.0)]


def test_each_epoch_begins_with_nothing(fit):
    model = line(lambda self, *_: self.log("x", 1.0 + self.current_epoch, on_step=False, on_epoch=True))
    assert [value for _, value in fit(model, max_epochs=3).logger.of("x")] == [1.0, 2.0, 3.0]


# ------------------------------------------------------------ metric objects


def accuracy():
    return torchmetrics.classification.BinaryAccuracy()


def predictions():
    """Return four batches of scores and truths, and the accuracy of each and of all."""
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.rand(n, generator=generator), torch.randint(2, (n,), generator=generator))
        for n in (3, 5, 1, 7)
    ]
    hits = [((scores > 0.5) == truths).float() for scores, truths in batches]
    return batches, [hit.mean().item() for hit in hits], torch.cat(hits).mean().item()


def test_a_called_metric_gives_the_batchs_value_and_the_epochs(fit):
    batches, each, overall = predictions()

    def log(self, batch, batch_idx):
        self.accuracy(*batch)
        self.log("accuracy", self.accuracy, on_step=True, on_epoch=True)

    trainer = fit(line(log, {"accuracy": accuracy()}), *batches, max_epochs=2)
    assert [value for _, value in trainer.logger.of("accuracy_step")] == pytest.approx(each * 2)
    assert [value for _, value in trainer.logger.of("accuracy_epoch")] == pytest.approx([overall] * 2)


def test_an_updated_metric_has_only_the_epochs_value(fit):
    batches, _, overall = predictions()

    def log(self, batch, batch_idx):
        self.accuracy.update(*batch)
        self.log("accuracy", self.accuracy, on_step=True, on_epoch=True)

    model = line(log, {"accuracy": accuracy()})
    trainer = fit(model, *batches)
    assert trainer.logger.of("accuracy_step") == []
    assert [value for _, value in trainer.logger.of("accuracy_epoch")] == pytest.approx([overall])
    assert model.accuracy.update_count == 0  # the end of the epoch resets it


def test_the_value_of_a_metric_is_a_number_like_any_other(fit):
    def log(self, batch, batch_idx):
        self.mean.update(batch)

    model = line(log, {"mean": torchmetrics.MeanMetric()})
    type(model).on_train_epoch_end = lambda self: self.log("mean", self.mean.compute())
    trainer = fit(model, max_epochs=2)
    assert trainer.callback_metrics["mean"].item() == pytest.approx(torch.cat(UNEVEN).mean().item())
    assert model.mean.update_count == 6  # a number resets nothing


def updates(name):
    """Make a step that updates a metric and logs it under the name of its attribute."""

    def step(self, batch, batch_idx):
        metric = getattr(self, name)
        metric.update(batch)
        self.log(name, metric, on_step=False, on_epoch=True)

    return step


def test_a_metric_is_reset_between_validations_and_keeps_training_metrics_alone(fit):
    model = line(
        updates("trained"),
        {"trained": torchmetrics.MeanMetric(), "validated": torchmetrics.MeanMetric()},
        validation_step=updates("validated"),
    )
    trainer = fit(model, val=Loader(ROW_OF_TWO, ROW_OF_ONE), val_check_interval=1)
    assert [value for _, value in trainer.logger.of("validated")] == pytest.approx([4.0] * 3)
    assert trainer.callback_metrics["trained"].item() == pytest.approx(3.5)


def test_a_collection_is_logged_as_a_dict(fit):
    def log(self, batch, batch_idx):
        self.both(batch)
        self.log_dict(self.both, on_step=True, on_epoch=True)

    both = torchmetrics.MetricCollection([torchmetrics.MaxMetric(), torchmetrics.SumMetric()], prefix="my_")
    rows = fit(line(log, {"both": both})).logger
    assert [value for _, value in rows.of("my_SumMetric_step")] == [4.0, 8.0, 9.0]
    assert [value for _, value in rows.of("my_MaxMetric_step")] == [3.0, 8.0, 6.0]
    assert rows.rows[-1][1] == {"my_SumMetric_epoch": 21.0, "my_MaxMetric_epoch": 8.0, "epoch": 0}


def test_a_metric_that_is_no_attribute_is_refused_unless_one_is_named(fit):
    loose = torchmetrics.MeanMetric()

    def log(self, batch, batch_idx, **options):
        loose(batch)
        self.log("mean", loose, **options)

    with pytest.raises(MisconfigurationException, match=r"MeanMetric is not an attribute.*metric_attribute="):
        fit(line(log))
    loose.reset()
    model = line(lambda *args: log(*args, metric_attribute="metrics"))
    model.metrics = {"mean": loose}
    assert fit(model).logger.of("mean") == [(0, 2.0), (1, 8.0), (2, 3.0)]


def test_a_metric_attribute_that_is_not_there_is_refused(fit):
    model = line(
        lambda self, batch, i: self.log("mean", self.mean, metric_attribute="maen"),
        {"mean": torchmetrics.MeanMetric()},
    )
    with pytest.raises(MisconfigurationException, match=r"'maen'.*no such attribute.*'mean'"):
        fit(model)


def test_a_nested_metric_is_an_attribute(fit):
    def log(self, batch, batch_idx):
        self.parts["mean"](batch)
        self.log("mean", self.parts["mean"])

    model = line(log, {"parts": torch.nn.ModuleDict({"mean": torchmetrics.MeanMetric()})})
    assert fit(model).logger.of("mean") == [(0, 2.0), (1, 8.0), (2, 3.0)]


@pytest.mark.parametrize("kinds", [("metric", "number"), ("number", "metric"), ("metric", "other metric")])
def test_a_name_is_of_one_metric_or_of_none(fit, kinds):
    def log(self, batch, batch_idx):
        values = {"metric": self.mean, "number": 1.0, "other metric": self.max}
        self.log("x", values[kinds[min(batch_idx, 1)]])

    parts = {"mean": torchmetrics.MeanMetric(), "max": torchmetrics.MaxMetric()}
    with pytest.raises(MisconfigurationException, match="twice in `training_step` with different arguments"):
        fit(line(log, parts))


@pytest.mark.parametrize("options", [{}, {"on_step": False, "on_epoch": True}], ids=["step", "epoch"])
def test_a_metric_of_several_values_is_refused(fit, options):
    def log(self, batch, batch_idx):
        self.all(batch)
        self.log("all", self.all, **options)

    with pytest.raises(ValueError, match=r"'all' computes tensor.*no single number"):
        fit(line(log, {"all": torchmetrics.CatMetric()}))


# ------------------------------------------------------------ who gets to see it


KINDS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")


def test_without_the_logger_a_value_is_for_callbacks_alone(fit):
    model = line(lambda self, *_: self.log("x", 1.0, logger=False, on_epoch=True))
    trainer = fit(model)
    assert set(trainer.callback_metrics) == {"x", "x_step", "x_epoch"}
    assert trainer.logged_metrics == {}
    assert trainer.logger.rows == []


def test_asking_for_a_logger_that_is_not_there_warns(fit):
    with pytest.warns(UserWarning, match=r"'x', logger=True\) reaches no logger"):
        fit(line(lambda self, *_: self.log("x", 1.0, logger=True)), logger=False)


def test_only_what_is_meant_for_it_reaches_the_progress_bar_as_numbers(fit):
    def log(self, batch, batch_idx):
        self.log("shown", batch.mean(), prog_bar=True)
        self.log("hidden", batch.mean())

    metrics = fit(line(log)).progress_bar_metrics
    assert metrics == {"shown": 3.0}
    assert type(metrics["shown"]) is float


def test_the_values_of_a_batch_are_there_when_the_batch_ends(fit):
    seen = []
    model = line(
        lambda self, batch, i: (
            self.log("s", batch.mean()),
            self.log("e", 1.0, on_step=False, on_epoch=True),
        ),
        on_train_batch_end=lambda self, *_: seen.append(floats(self.trainer.callback_metrics)),
    )
    fit(model)
    assert seen == [{"s": 2.0}, {"s": 8.0}, {"s": 3.0}]  # the epoch's value is not known yet


def test_a_validation_publishes_its_values_at_its_end_without_those_of_steps(fit):
    seen = {}

    def see(self, hook):
        seen[hook] = tuple(sorted(getattr(self.trainer, kind)) for kind in KINDS[:2])

    model = line(
        validation_step=lambda self, b, i: self.log("v", b.mean(), on_step=True),
        on_validation_batch_end=lambda self, *_: see(self, "batch"),
        on_validation_epoch_end=lambda self: (self.log("late", 1.0), see(self, "epoch")),
        on_validation_end=lambda self: see(self, "end"),
    )
    fit(model, val=Loader(*UNEVEN))
    after = (["late", "v", "v_epoch"], ["late", "v_epoch", "v_step"])
    assert seen == {"batch": ([], ["v_step"]), "epoch": after, "end": after}


def test_values_of_a_validation_stay_while_training_goes_on(fit):
    seen = []
    model = line(
        lambda self, *_: self.log("t", 1.0),
        validation_step=lambda self, b, i: self.log("v", float(self.current_epoch)),
        on_train_batch_start=lambda self, *_: seen.append(floats(self.trainer.callback_metrics)),
    )
    fit(model, ROW_OF_ONE, val=Loader(ROW_OF_ONE), max_epochs=2)
    assert seen == [{}, {"t": 1.0, "v": 0.0}]


def test_the_sanity_check_leaves_no_trace(fit):
    seen = []
    model = line(
        validation_step=lambda self, b, i: self.log("v", 7.0, on_step=True, prog_bar=True),
        on_train_start=lambda self: seen.append([dict(getattr(self.trainer, kind)) for kind in KINDS]),
        on_validation_end=lambda self: seen.append(floats(self.trainer.callback_metrics)),
    )
    trainer = fit(model, val=Loader(*UNEVEN), num_sanity_val_steps=2)
    during, after, _ = seen
    assert during == {"v": 7.0, "v_epoch": 7.0}
    assert after == [{}, {}, {}]
    assert trainer.logger.of("v_step") == [(0, 7.0), (1, 7.0), (2, 7.0)]


def test_a_metric_updated_by_the_sanity_check_begins_anew(fit):
    model = line(
        parts={"mean": torchmetrics.MeanMetric()},
        validation_step=updates("mean"),
    )
    trainer = fit(model, val=Loader(ROW_OF_ONE, torch.zeros(1)), num_sanity_val_steps=1)
    assert trainer.logger.of("mean") == [(2, 4.0)]


def test_callbacks_log_as_modules_do(fit):
    class Logs(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.log("size", float(len(batch)), on_step=False, on_epoch=True, batch_size=1)

        def on_validation_epoch_end(self, trainer, pl_module):
            self.log_dict({"a": 1.0, "b": 2.0})

    callback = Logs()
    trainer = fit(line(validation_step=lambda *_: None), val=Loader(ROW_OF_ONE), callbacks=[callback])
    assert floats(trainer.callback_metrics) == {"size": 2.0, "a": 1.0, "b": 2.0}
    assert not hasattr(callback, "log")  # the run is over
    with pytest.raises(MisconfigurationException, match="in no hook"):
        trainer.lightning_module.log("x", 1.0)


def test_a_second_run_begins_with_nothing(fit):
    model = line(
        lambda self, *_: self.log("t", 1.0), validation_step=lambda self, b, i: self.log("v", b.mean())
    )
    trainer = fit(model, val=Loader(ROW_OF_ONE))
    trainer.validate(model, Loader(ROW_OF_TWO), verbose=False)
    assert floats(trainer.callback_metrics) == floats(trainer.logged_metrics) == {"v": 2.0}


# ------------------------------------------------------------ results of an evaluation


def evaluated():
    def log(self, batch, batch_idx, dataloader_idx=0):
        self.log("mean", batch.mean())
        self.log("both", batch.mean(), on_step=True, on_epoch=True)
        self.log("each", batch.mean(), on_step=True, on_epoch=False)
        self.log("silent", batch.mean(), logger=False)

    def log_end(self):
        self.log("end", 7.0)

    return line(
        validation_step=log, test_step=log, on_validation_epoch_end=log_end, on_test_epoch_end=log_end
    )


@pytest.mark.parametrize("method", ["validate", "test"])
def test_an_evaluation_returns_what_loggers_get_of_the_whole(quiet, method):
    trainer = quiet(logger=Rows())
    (results,) = getattr(trainer, method)(evaluated(), Loader(*UNEVEN), verbose=False)
    assert results == {"mean": pytest.approx(3.5), "both_epoch": pytest.approx(3.5), "end": 7.0}
    assert {type(value) for value in results.values()} == {float}
    assert trainer.logger.rows[-1] == (0, {**results, "epoch": 0})


@pytest.mark.parametrize("method", ["validate", "test"])
def test_an_evaluation_of_two_loaders_returns_two_dicts(quiet, method):
    trainer = quiet(logger=Rows())
    loaders = [Loader(ROW_OF_TWO), Loader(ROW_OF_ONE)]
    first, second = getattr(trainer, method)(evaluated(), loaders, verbose=False)
    assert first == {"mean/dataloader_idx_0": 2.0, "both_epoch/dataloader_idx_0": 2.0, "end": 7.0}
    assert second == {"mean/dataloader_idx_1": 8.0, "both_epoch/dataloader_idx_1": 8.0, "end": 7.0}
    assert trainer.logger.rows[-1] == (0, {**first, **second, "epoch": 0})


def test_results_do_not_depend_on_a_logger(quiet):
    (results,) = quiet().validate(evaluated(), Loader(*UNEVEN), verbose=False)
    assert set(results) == {"mean", "both_epoch", "end"}


# ------------------------------------------------------------ the x axis


def logs_batch(self, batch, batch_idx):
    self.log("x", batch.mean(), on_epoch=True)


def test_steps_are_counted_from_zero_and_an_epoch_ends_at_its_last(fit):
    rows = fit(line(logs_batch), max_epochs=2).logger.rows
    assert [(step, *row) for step, row in rows] == [
        *[(step, "x_step", "epoch") for step in (0, 1, 2)], (2, "x_epoch", "epoch"),
        *[(step, "x_step", "epoch") for step in (3, 4, 5)], (5, "x_epoch", "epoch"),
    ]  # fmt: skip
    assert [row["epoch"] for _, row in rows] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("every", "steps"), [(1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [3]), (0, [])])
def test_every_so_many_steps_reach_the_loggers(fit, every, steps):
    rows = fit(line(logs_batch), *UNEVEN, *UNEVEN, log_every_n_steps=every).logger
    assert [step for step, _ in rows.of("x_step")] == steps
    assert [step for step, _ in rows.of("x_epoch")] == [5]


def test_the_axis_counts_batches_that_stepped_when_gradients_add_up(fit):
    rows = fit(line(logs_batch), *UNEVEN, *UNEVEN, accumulate_grad_batches=4).logger
    means = [batch.mean().item() for batch in UNEVEN] * 2
    assert rows.of("x_step") == [(0, means[3]), (1, means[5])]
    assert rows.of("x_epoch") == [(1, pytest.approx(3.5))]


def test_the_axis_counts_batches_and_not_the_steps_of_several_optimizers(fit):
    def train(self, batch, batch_idx):
        self.log("x", batch.mean())
        for optimizer in self.optimizers():
            optimizer.step()

    model = line(train, configure_optimizers=lambda self: [Line.configure_optimizers(self) for _ in range(2)])
    model.automatic_optimization = False
    trainer = fit(model)
    assert trainer.global_step == 6
    assert [step for step, _ in trainer.logger.of("x")] == [0, 1, 2]


def test_steps_of_validations_have_an_axis_of_their_own_that_goes_on(fit):
    model = line(validation_step=lambda self, b, i: self.log("v", b.mean(), on_step=True))
    rows = fit(model, val=Loader(ROW_OF_TWO, ROW_OF_ONE), max_epochs=2).logger
    assert rows.of("v_step") == [(0, 2.0), (1, 8.0), (2, 2.0), (3, 8.0)]
    assert rows.of("v_epoch") == [(2, 4.0), (5, 4.0)]
    assert all("epoch" not in row for _, row in rows.rows if "v_step" in row)


def test_a_validation_within_an_epoch_stands_at_the_batch_it_follows(fit):
    model = line(logs_batch, validation_step=lambda self, b, i: self.log("v", b.mean()))
    rows = fit(model, val=Loader(ROW_OF_ONE), val_check_interval=1).logger
    assert [step for step, _ in rows.of("v")] == [0, 1, 2]
    assert rows.of("x_step") == [(0, 2.0), (1, 8.0), (2, 3.0)]
    assert rows.of("x_epoch") == [(2, pytest.approx(3.5))]


def test_each_of_several_loaders_counts_its_own_steps(fit):
    model = line(validation_step=lambda self, b, i, dataloader_idx: self.log("v", b.mean(), on_step=True))
    rows = fit(model, val=[Loader(ROW_OF_TWO, ROW_OF_ONE), Loader(ROW_OF_ONE)], max_epochs=2).logger
    assert [step for step, _ in rows.of("v_step/dataloader_idx_0")] == [0, 1, 2, 3]
    assert [step for step, _ in rows.of("v_step/dataloader_idx_1")] == [0, 1]


def test_a_value_named_step_is_the_place_on_the_axis(fit):
    def log(self, batch, batch_idx):
        self.log_dict({"x": batch.mean(), "step": 10.0 * batch_idx})

    assert fit(line(log)).logger.rows == [(0, {"x": 2.0}), (10, {"x": 8.0}), (20, {"x": 3.0})]


def test_a_value_named_epoch_replaces_the_count(fit):
    model = line(lambda self, *_: self.log_dict({"x": 1.0, "epoch": 0.5}))
    assert fit(model, ROW_OF_ONE).logger.rows == [(0, {"x": 1.0, "epoch": 0.5})]


def test_a_step_before_a_stop_is_written_whatever_the_interval(fit):
    def log(self, batch, batch_idx):
        self.log("x", batch.mean())
        self.trainer.should_stop = batch_idx == 1

    with pytest.warns(UserWarning, match="log_every_n_steps"):
        rows = fit(line(log), log_every_n_steps=50).logger
    assert rows.of("x") == [(1, 8.0)]
