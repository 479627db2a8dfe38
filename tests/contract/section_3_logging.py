"""3.9: self.log, its keys, its means, and the rows that loggers get."""

from __future__ import annotations

import torch
from lines import Raises, Warns, line, lines, waiting
from torch.utils.data import DataLoader

ME = "MisconfigurationException"


def log_in(lab, hook, *args, **kwargs):
    """Fit, test or predict with a module that logs in this hook; return the callback metrics by value."""

    def hooked(model, *_args, **_kwargs):
        model.log("x", 1.0, *args, **kwargs)
        return base(model, *_args, **_kwargs)

    base = getattr(lab.Module, hook)
    name = next((n for n in ("test", "predict") if n in hook), "fit")
    model = lab.model(**{hook: hooked})
    trainer = lab.trainer(num_sanity_val_steps=1 if "sanity" in hook else 0)
    getattr(trainer, name)(model, *[lab.loader(2)] * (2 if name == "fit" else 1))
    return {key: value.item() for key, value in trainer.callback_metrics.items()}


# ---------------------------------------------------------------------- where it is allowed

STEP_HOOKS = """
    training_step on_train_batch_start on_train_batch_end on_before_backward backward on_after_backward
    on_before_optimizer_step optimizer_step configure_gradient_clipping clip_gradients on_before_zero_grad
    optimizer_zero_grad
"""
BATCH_HOOKS = """
    validation_step on_validation_batch_start on_validation_batch_end test_step on_test_batch_start
    on_test_batch_end
"""
EPOCH_HOOKS = """
    on_train_start on_validation_start on_test_start on_train_epoch_start on_train_epoch_end
    on_validation_epoch_start
    on_validation_epoch_end on_test_epoch_start on_test_epoch_end
"""
FORBIDDEN = """
    setup teardown prepare_data configure_optimizers configure_model configure_callbacks on_fit_start
    on_fit_end
    on_train_end on_validation_end on_test_end on_predict_start on_predict_epoch_start on_predict_batch_start
    predict_step on_predict_batch_end on_predict_epoch_end on_predict_end on_before_batch_transfer
    transfer_batch_to_device on_after_batch_transfer on_validation_model_eval on_validation_model_train
    on_validation_model_zero_grad on_test_model_eval on_test_model_train on_predict_model_eval
"""


@lines(
    "3.9/step hooks",
    "the step's value by default; the epoch's, or both, if asked",
    {hook: ({"hook": hook}, ({"x"}, {"x"}, {"x", "x_step", "x_epoch"})) for hook in STEP_HOOKS.split()},
)
def _(lab, hook):
    return tuple(
        set(log_in(lab, hook, **kwargs))
        for kwargs in ({}, {"on_step": False, "on_epoch": True}, {"on_step": True, "on_epoch": True})
    )


@lines(
    "3.9/batch hooks",
    "the epoch's value by default; both, if asked (callbacks see no _step)",
    {hook: ({"hook": hook}, ({"x"}, {"x", "x_epoch"})) for hook in BATCH_HOOKS.split()},
)
def _(lab, hook):
    return set(log_in(lab, hook)), set(log_in(lab, hook, on_step=True))


@lines(
    "3.9/epoch hooks",
    "the epoch's value, and nothing else",
    {hook: ({"hook": hook}, [{"x": 1.0}, ME, ME]) for hook in EPOCH_HOOKS.split()},
)
def _(lab, hook):
    found = [log_in(lab, hook)]
    for kwargs in ({"on_step": True}, {"on_epoch": False}):
        try:
            found.append(log_in(lab, hook, **kwargs))
        except Exception as error:  # noqa: PERF203  # two times
            found.append(type(error).__name__)
    return found


@lines(
    "3.9/forbidden",
    "there is nothing that it could belong to",
    {hook: ({"hook": hook}, Raises(ME, f"{hook}|predict|no hook")) for hook in FORBIDDEN.split()},
)
def _(lab, hook):
    return log_in(lab, hook)


@lines(
    "3.9/forbidden/loaders",
    "nor in the loaders' hooks",
    {name: ({"name": name}, Raises(ME, name)) for name in ("train_dataloader", "val_dataloader")},
)
def _(lab, name):
    def load(model):
        model.log("x", 1.0)
        return lab.loader(2)

    model = lab.model(train_dataloader=lambda _: lab.loader(2), val_dataloader=lambda _: lab.loader(2))
    setattr(type(model), name, load)
    lab.trainer().fit(model)


@line("3.9/forbidden/lr_scheduler_step", "nor there", Raises(ME, "lr_scheduler_step"))
def _(lab):
    def configure_optimizers(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    lab.fit(
        lab.model(
            configure_optimizers=configure_optimizers,
            lr_scheduler_step=lambda model, scheduler, metric: model.log("x", 1.0),
        )
    )


@lines(
    "3.9/forbidden/callbacks",
    "nor in callbacks' hooks of that kind",
    {
        hook: ({"hook": hook}, Raises(ME, hook))
        for hook in ("on_sanity_check_start", "on_sanity_check_end", "on_fit_start", "on_train_end", "setup")
    },
)
def _(lab, hook):
    callback = lab.callback(**{hook: lambda self, *args, **kwargs: self.log("x", 1.0)})
    lab.fit(None, callback, num_sanity_val_steps=1)


@line(
    "3.9/detached",
    "without a Trainer: a warning, and nothing happens",
    Warns("UserWarning", "self.log|`self.trainer`"),
)
def _(lab):
    lab.model().log("x", 1.0)


@line("3.9/callbacks", "may log as the module may", {"x": 1.0})
def _(lab):
    callback = lab.callback(on_train_epoch_end=lambda self, *_: self.log("x", 1.0))
    return {name: value.item() for name, value in lab.fit(None, callback).callback_metrics.items()}


# ---------------------------------------------------------------------- what is refused


@lines(
    "3.9/refused",
    "what has no meaning",
    {
        "neither step nor epoch": ({"on_step": False, "on_epoch": False}, Raises(ME, "on_step")),
        "text": ({"value": "a"}, Raises("ValueError", "str")),
        "None": ({"value": None}, Raises("ValueError", "")),
        "dict": ({"value": {"a": 1}}, Raises("ValueError", "")),
        "two numbers": ({"value": torch.ones(2)}, Raises("ValueError", "")),
        "reduce_fx": ({"reduce_fx": "median"}, Raises(ME, "median")),
        "suffix": ({"name": "x/dataloader_idx_0"}, Raises(ME, "dataloader_idx")),
    },
)
def _(lab, name="x", value=1.0, **kwargs):
    lab.fit(lab.model(validation_step=lambda model, batch, batch_idx: model.log(name, value, **kwargs)))


@lines(
    "3.9/reduce_fx",
    "words in any case, torch's functions, Python's",
    {
        **{
            word: ({"reduce_fx": word}, value)
            for word, value in (
                ("mean", 2.0),
                ("MEAN", 2.0),
                ("avg", 2.0),
                ("min", 1.0),
                ("Max", 3.0),
                ("sum", 6.0),
            )
        },
        "torch.mean": ({"reduce_fx": torch.mean}, 2.0),
        "torch.sum": ({"reduce_fx": torch.sum}, 6.0),
        "torch.max": ({"reduce_fx": torch.max}, 3.0),
        "torch.min": ({"reduce_fx": torch.min}, 1.0),
        "sum function": ({"reduce_fx": sum}, 6.0),
        "min function": ({"reduce_fx": min}, 1.0),
        "max function": ({"reduce_fx": max}, 3.0),
    },
)
def _(lab, reduce_fx):
    model = lab.model(
        validation_step=lambda model, batch, batch_idx: model.log("x", batch_idx + 1.0, reduce_fx=reduce_fx)
    )
    return lab.fit(model, val=3).callback_metrics["x"].item()


@line("3.9/two meanings", "one name in one hook has one set of arguments", Raises(ME, "x"))
def _(lab):
    def validation_step(model, batch, batch_idx):
        model.log("x", 1.0)
        model.log("x", 1.0, prog_bar=True)

    lab.fit(lab.model(validation_step=validation_step))


@line("3.9/logger=True without a logger", "is warned of", Warns("UserWarning", "logger"))
def _(lab):
    lab.fit(lab.model(validation_step=lambda model, batch, batch_idx: model.log("x", 1.0, logger=True)))


def with_metric(lab, log, attribute=True):
    """Return a module with a torchmetrics mean that its validation logs by `log(model, metric)`."""
    import torchmetrics

    def __init__(self):
        lab.Module.__init__(self)
        metric = torchmetrics.MeanMetric()
        if attribute:
            self.mean = metric
        else:
            self.hidden = [metric]

    def validation_step(model, batch, batch_idx):
        metric = model.mean if attribute else model.hidden[0]
        log(model, metric, batch.mean())

    return lab.module(__init__=__init__, validation_step=validation_step)()


def update_and_log(model, metric, value):
    metric.update(value)
    model.log("x", metric)


def forward_and_log(model, metric, value):
    metric(value)
    model.log("x", metric, on_step=True, on_epoch=True)


@line("3.9/Metric", "is computed at the end of the epoch and reset after it", [0.5, 0.5])
def _(lab):
    seen = []
    model = with_metric(lab, update_and_log)
    type(model).on_validation_end = lambda model: seen.append(model.trainer.callback_metrics["x"].item())
    lab.fit(model, max_epochs=2)
    return seen


@line(
    "3.9/Metric/step",
    "called, its value is the step's; the epoch's is computed",
    ([(0, 0.0), (1, 1.0)], [0.5]),
)
def _(lab):
    logger = lab.logger()
    lab.fit(with_metric(lab, forward_and_log), logger=logger)
    return logger.of("x_step"), [value for _, value in logger.of("x_epoch")]


@line("3.9/Metric/not an attribute", "is refused, unless metric_attribute names it", Raises(ME, "attribute"))
def _(lab):
    lab.fit(with_metric(lab, update_and_log, attribute=False))


@line("3.9/MetricCollection", "log_dict takes one", {"MeanMetric": 0.5, "MaxMetric": 1.0})
def _(lab):
    import torchmetrics

    def __init__(self):
        lab.Module.__init__(self)
        self.metrics = torchmetrics.MetricCollection([torchmetrics.MeanMetric(), torchmetrics.MaxMetric()])

    def validation_step(model, batch, batch_idx):
        model.metrics.update(batch.mean())
        model.log_dict(model.metrics)

    trainer = lab.fit(lab.module(__init__=__init__, validation_step=validation_step)())
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


# ---------------------------------------------------------------------- names


def metrics_seen(lab, **kwargs):
    """Return the names in callback, logged and progress-bar metrics during and after training."""
    seen = []

    def training_step(model, batch):
        model.log("x", 1.0, prog_bar=True, **kwargs)
        return model.weight * 1

    def look(model, *_):
        trainer = model.trainer
        seen.append(
            [
                set(found)
                for found in (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics)
            ]
        )

    trainer = lab.fit(
        lab.model(training_step=training_step, on_train_batch_end=look), train=1, logger=lab.logger()
    )
    look(trainer.lightning_module)
    return seen


@lines(
    "3.9/names",
    "(callbacks, loggers, bar) within the epoch and after it",
    {
        "step": ({}, [[{"x"}] * 3] * 2),
        "epoch": ({"on_step": False, "on_epoch": True}, [[set()] * 3, [{"x"}] * 3]),
        "both": (
            {"on_step": True, "on_epoch": True},
            [
                [{"x", "x_step"}, {"x_step"}, {"x_step"}],
                [{"x", "x_step", "x_epoch"}, {"x_step", "x_epoch"}, {"x_step", "x_epoch"}],
            ],
        ),
        "logger=False": ({"logger": False}, [[{"x"}, set(), {"x"}]] * 2),
    },
)
def _(lab, **kwargs):
    return metrics_seen(lab, **kwargs)


@line("3.9/bare name", "is the step's value before, the epoch's once it is known", [1.0, 2.0, 1.5])
def _(lab):
    seen = []

    def training_step(model, batch, batch_idx):
        model.log("x", batch_idx + 1.0, on_step=True, on_epoch=True)
        return model.weight * 1

    look = lambda model, *_: seen.append(model.trainer.callback_metrics["x"].item())  # noqa: E731
    trainer = lab.fit(lab.model(training_step=training_step, on_train_batch_end=look), train=2)
    look(trainer.lightning_module)
    return seen


def two_loaders(lab, log, **kwargs):
    """Return what a validation of two loaders returns whose step is `log(model, index)`."""

    def validation_step(model, batch, batch_idx, dataloader_idx):
        log(model, dataloader_idx)

    return lab.run(
        "validate", lab.model(validation_step=validation_step), [lab.loader(1), lab.loader(1)], **kwargs
    )


@line(
    "3.9/several loaders",
    "the names end in /dataloader_idx_N; each has a dict",
    [{"x/dataloader_idx_0": 0.0}, {"x/dataloader_idx_1": 1.0}],
)
def _(lab):
    return two_loaders(lab, lambda model, index: model.log("x", float(index)))


@line(
    "3.9/several loaders/both",
    "x_epoch/dataloader_idx_N",
    [{"x_epoch/dataloader_idx_0"}, {"x_epoch/dataloader_idx_1"}],
)
def _(lab):
    found = two_loaders(lab, lambda model, index: model.log("x", float(index), on_step=True, on_epoch=True))
    return [set(each) for each in found]


@line("3.9/add_dataloader_idx=False", "one name of one loader", [{"x0": 0.0}, {"x1": 1.0}])
def _(lab):
    return two_loaders(
        lab, lambda model, index: model.log(f"x{index}", float(index), add_dataloader_idx=False)
    )


@line(
    "3.9/add_dataloader_idx=False/shared",
    "two loaders can't share a name",
    Raises(ME, "twice.*different arguments"),
)
def _(lab):
    return two_loaders(lab, lambda model, index: model.log("x", float(index), add_dataloader_idx=False))


@line(
    "3.9/epoch-end hooks",
    "their values are in each loader's dict",
    [{"x/dataloader_idx_0": 0.0, "e": 7.0}, {"x/dataloader_idx_1": 1.0, "e": 7.0}],
)
def _(lab):
    def validation_step(model, batch, batch_idx, dataloader_idx):
        model.log("x", float(dataloader_idx))

    model = lab.model(
        validation_step=validation_step, on_validation_epoch_end=lambda model: model.log("e", 7.0)
    )
    return lab.run("validate", model, [lab.loader(1), lab.loader(1)])


# ---------------------------------------------------------------------- reduction


@line("3.9/mean", "is weighted by batch size", 0.8)
def _(lab):
    model = lab.model(validation_step=lambda model, batch, batch_idx: model.log("x", float(batch_idx == 0)))
    return round(
        lab.fit(model, val=DataLoader(torch.arange(5.0), batch_size=4)).callback_metrics["x"].item(), 6
    )


@line("3.9/mean/batch_size", "or by the one that is given", 0.25)
def _(lab):
    def validation_step(model, batch, batch_idx):
        model.log("x", float(batch_idx == 0), batch_size=1 if batch_idx == 0 else 3)

    return lab.fit(lab.model(validation_step=validation_step)).callback_metrics["x"].item()


@lines(
    "3.9/batch size",
    "the first dimension of the first tensor; of a number 1; a text has none",
    {
        "tensor": ({"batch": torch.zeros(3, 2)}, 3),
        "list": ({"batch": [torch.zeros(4), torch.zeros(4)]}, 4),
        "dict": ({"batch": {"a": {"b": torch.zeros(2)}}}, 2),
        "number in a tensor": ({"batch": torch.zeros(())}, 1),
        "text": ({"batch": "abc"}, Raises(ME, "batch")),
        "rows of text": ({"batch": ["abc", torch.zeros(2)]}, 2),
    },
)
def _(lab, batch):
    utilities = lab.part("utilities") if lab.ours else lab.part("utilities.data")
    return utilities.extract_batch_size(batch)


@line("3.9/batch size/ambiguous", "is warned of, and the first taken", Warns("UserWarning", "batch", gives=2))
def _(lab):
    utilities = lab.part("utilities") if lab.ours else lab.part("utilities.data")
    return utilities.extract_batch_size([torch.zeros(2), torch.zeros(3)])


@line("3.9/batch size/none", "there is none to be had: refused", Raises(ME, "batch"))
def _(lab):
    utilities = lab.part("utilities") if lab.ours else lab.part("utilities.data")
    return utilities.extract_batch_size([1, 2, None])


@lines(
    "3.9/unweighted",
    "sums, least and greatest know no batch sizes",
    {
        "sum": ({"reduce_fx": "sum"}, 3.0),
        "min": ({"reduce_fx": "min"}, 1.0),
        "max": ({"reduce_fx": "max"}, 2.0),
    },
)
def _(lab, reduce_fx):
    model = lab.model(
        validation_step=lambda model, batch, batch_idx: model.log(
            "x", batch_idx + 1.0, reduce_fx=reduce_fx, batch_size=9 - batch_idx
        )
    )
    return lab.fit(model).callback_metrics["x"].item()


@line("3.9/integers", "have means, too", 0.5)
def _(lab):
    model = lab.model(validation_step=lambda model, batch, batch_idx: model.log("x", torch.tensor(batch_idx)))
    return lab.fit(model).callback_metrics["x"].item()


@line("3.9/twice in a step", "the step's value is the last, the epoch's the mean of all", (3.0, 2.0))
def _(lab):
    def training_step(model, batch):
        model.log("x", 1.0, on_step=True, on_epoch=True)
        model.log("x", 3.0, on_step=True, on_epoch=True)
        return model.weight * 1

    metrics = lab.fit(lab.model(training_step=training_step), train=1).callback_metrics
    return metrics["x_step"].item(), metrics["x_epoch"].item()


def keeps_graph(lab, **kwargs):
    seen = []

    def training_step(model, batch):
        model.log("x", model.weight * 1, **kwargs)
        return model.weight * 1

    def look(model, *_):
        seen.append(model.trainer.callback_metrics["x"].requires_grad)

    lab.fit(lab.model(training_step=training_step, on_train_batch_end=look), train=1)
    return seen[0]


@line("3.9/graph", "values are detached", False)
def _(lab):
    return keeps_graph(lab)


@line(
    "3.9/graph/enable_graph",
    "what is published is detached all the same",
    False,
    ours=True,
    differs="`self.log(enable_graph=True)`",
)
def _(lab):
    return keeps_graph(lab, enable_graph=True)


@line("3.9/reset", "each epoch and each evaluation begins with nothing", [(0, 1.0), (1, 5.0)])
def _(lab):
    def training_step(model, batch, batch_idx):
        model.log("x", 4.0 * model.current_epoch + batch_idx, on_step=False, on_epoch=True)
        return model.weight * 1

    logger = lab.logger()
    lab.fit(lab.model(training_step=training_step), max_epochs=2, logger=logger)
    return [(row["epoch"], row["x"]) for row, _ in logger.rows]


# ---------------------------------------------------------------------- what is published


@line("3.9/callback_metrics", "keep what earlier epochs and evaluations logged", ({"t", "v"}, {"t", "v"}))
def _(lab):
    seen = []

    def training_step(model, batch):
        model.log("t", 1.0)
        return model.weight * 1

    model = lab.model(
        training_step=training_step,
        validation_step=lambda model, batch, batch_idx: model.log("v", 1.0),
        on_train_batch_end=lambda model, *_: seen.append(set(model.trainer.callback_metrics)),
    )
    trainer = lab.fit(model, max_epochs=2)
    return seen[-1], set(trainer.callback_metrics)


@line("3.9/progress_bar_metrics", "are numbers", [float])
def _(lab):
    model = lab.model(
        validation_step=lambda model, batch, batch_idx: model.log("v", torch.ones(()), prog_bar=True)
    )
    return [type(value) for value in lab.fit(model).progress_bar_metrics.values()]


@line("3.9/callback_metrics/tensors", "are tensors", [(torch.float32, 0)])
def _(lab):
    model = lab.model(validation_step=lambda model, batch, batch_idx: model.log("v", 1))
    return [(value.dtype, value.ndim) for value in lab.fit(model).callback_metrics.values()]


def logging_model(lab):
    def training_step(model, batch):
        model.log("t", 1.0, on_step=True, on_epoch=True)
        return model.weight * 1

    return lab.model(
        training_step=training_step,
        validation_step=lambda model, batch, batch_idx: model.log("v", 1.0, on_step=True, on_epoch=True),
    )


@lines(
    "3.9/rows",
    "the steps of the rows: train steps by batches that stepped, from 0; epochs at the last of them; "
    "evaluation steps on",
    {
        "t_step": ({"name": "t_step"}, [0, 1, 2, 3, 4, 5]),
        "t_epoch": ({"name": "t_epoch"}, [2, 5]),
        "v_step": ({"name": "v_step"}, [0, 1, 2, 3]),
        "v_epoch": ({"name": "v_epoch"}, [2, 5]),
        "every second": ({"name": "t_step", "log_every_n_steps": 2}, [1, 3, 5]),
        "none": ({"name": "t_step", "log_every_n_steps": 0}, []),
        "accumulating": ({"name": "t_step", "accumulate_grad_batches": 2}, [0, 1, 2, 3]),
        "accumulating, epoch": ({"name": "t_epoch", "accumulate_grad_batches": 2}, [1, 3]),
        "validation within": ({"name": "v_epoch", "val_check_interval": 2}, [1, 4]),
    },
)
def _(lab, name, **arguments):
    logger = lab.logger()
    lab.fit(logging_model(lab), logger=logger, max_epochs=2, **{"log_every_n_steps": 1, **arguments})
    return [step for step, _ in logger.of(name)]


@line("3.9/rows/should_stop and dev run", "the step before a stop is logged, whatever the interval", [1])
def _(lab):
    logger, model = lab.logger(), logging_model(lab)

    def on_train_batch_end(model, outputs, batch, batch_idx):
        model.trainer.should_stop = batch_idx == 1

    type(model).on_train_batch_end = on_train_batch_end
    lab.fit(model, logger=logger, log_every_n_steps=50)
    return [step for step, _ in logger.of("t_step")]


@line(
    "3.9/rows/epoch",
    "stands in the rows of steps and epochs, not in those of evaluation steps",
    {"t_step": True, "t_epoch": True, "v_step": False, "v_epoch": True},
)
def _(lab):
    logger = lab.logger()
    lab.fit(logging_model(lab), logger=logger, log_every_n_steps=1)
    return {
        name: all("epoch" in row for row, _ in logger.rows if name in row)
        for name in ("t_step", "t_epoch", "v_step", "v_epoch")
    }


@line("3.9/rows/several optimizers", "the x axis counts batches, not the optimizers' steps", ([0, 1, 2], 6))
def _(lab):
    def training_step(model, batch):
        for optimizer in model.optimizers():
            optimizer.step()
        model.log("x", 1.0)

    model = lab.model(
        training_step=training_step,
        configure_optimizers=lambda model: [torch.optim.SGD(model.parameters(), lr=1.0) for _ in range(2)],
    )
    model.automatic_optimization = False
    logger = lab.logger()
    trainer = lab.fit(model, logger=logger, log_every_n_steps=1)
    return [step for step, _ in logger.of("x")], trainer.global_step


@line("3.9/rows/evaluation alone", "a new Trainer's rows begin at 0", ([0, 1], [0]))
def _(lab):
    logger = lab.logger()
    lab.run("validate", logging_model(lab), 2, logger=logger)
    return [step for step, _ in logger.of("v_step")], [step for step, _ in logger.of("v_epoch")]


@line("3.9/step as a name", "is the row's place, and no epoch is added", [({"x": 1.0}, 40), ({"x": 1.0}, 41)])
def _(lab):
    def training_step(model, batch, batch_idx):
        model.log("x", 1.0)
        model.log("step", 40.0 + batch_idx)
        return model.weight * 1

    logger = lab.logger()
    lab.fit(lab.model(training_step=training_step), train=2, logger=logger, log_every_n_steps=1)
    return logger.rows


@line("3.9/epoch as a name", "is the user's", [9.0])
def _(lab):
    def training_step(model, batch, batch_idx):
        model.log("epoch", 9.0)
        return model.weight * 1

    logger = lab.logger()
    lab.fit(lab.model(training_step=training_step), train=1, logger=logger, log_every_n_steps=1)
    return [row["epoch"] for row, _ in logger.rows]


@line("3.9/rows/numbers", "are Python's", {float, int})
def _(lab):
    def training_step(model, batch):
        model.log("x", torch.ones(()))
        return model.weight * 1

    logger = lab.logger()
    lab.fit(lab.model(training_step=training_step), train=1, logger=logger, log_every_n_steps=1)
    return {type(value) for value in logger.rows[0][0].values()}


@lines(
    "3.9/prefix",
    "a logger's prefix comes before the names",
    {"CSVLogger": ({"kind": "CSVLogger"}, ["pre-epoch", "pre-v", "step"])},
)
def _(lab, kind):
    logger = getattr(lab.loggers, kind)(lab.tmp, prefix="pre")
    lab.fit(lab.model(validation_step=lambda model, batch, batch_idx: model.log("v", 1.0)), logger=logger)
    return sorted((lab.tmp / "lightning_logs/version_0/metrics.csv").read_text().splitlines()[0].split(","))


@line("3.9/self.logger", "loggers may be written to by hand", [({"mine": 3.0}, 8)])
def _(lab):
    logger = lab.logger()
    lab.fit(
        lab.model(on_train_start=lambda model: model.logger.log_metrics({"mine": 3.0}, step=8)), logger=logger
    )
    return logger.rows


@line("3.9/sync_dist on one device", "changes nothing", 0.5)
def _(lab):
    model = lab.model(
        validation_step=lambda model, batch, batch_idx: model.log("x", batch.mean(), sync_dist=True)
    )
    return lab.fit(model).callback_metrics["x"].item()


waiting(
    5,
    ("3.9/sync_dist", "values are taken over all processes, at the step and at the epoch's end"),
    ("3.9/sync_dist/unsynced", "an epoch's value of one process only is warned of"),
    ("3.9/rank_zero_only", "only the first process logs it; with sync_dist it is warned of"),
)
