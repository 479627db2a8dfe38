"""4: LightningDataModule."""

from __future__ import annotations

import torch
from lines import Raises, Warns, line, lines, waiting
from torch.utils.data import IterableDataset, TensorDataset

ME = "MisconfigurationException"


@line("4/attributes", "of one that no Trainer has", (None, True, False, None, {}))
def _(lab):
    data = lab.L.LightningDataModule()
    return (
        data.trainer, data.prepare_data_per_node, data.allow_zero_length_dataloader_with_multiple_devices,
        data.name,
        dict(data.hparams),
    )  # fmt: skip


@line("4/trainer", "is there once it was given to one", True)
def _(lab):
    data, trainer = lab.data(), lab.trainer()
    trainer.fit(lab.model(), datamodule=data)
    return data.trainer is trainer


def calls_of(lab, name, *names):
    """Run `name` with a data module, a callback and a module that note these hooks; return who was called."""
    seen = []

    def noting(owner):
        return {
            hook: lambda self, *args, _hook=hook, **kwargs: seen.append(f"{owner}.{_hook}") for hook in names
        }

    data, callback, model = lab.data(**noting("DM")), lab.callback(**noting("CB")), lab.model(**noting("M"))
    getattr(lab.trainer(callback), name)(model, datamodule=data)
    return seen


@lines(
    "4/order",
    "setup and teardown once in each run: the data module, the callbacks, the module",
    {
        name: (
            {"name": name},
            ["DM.setup", "CB.setup", "M.setup", "DM.teardown", "CB.teardown", "M.teardown"],
        )
        for name in ("fit", "validate", "test", "predict")
    },
)
def _(lab, name):
    return calls_of(lab, name, "setup", "teardown")


@line(
    "4/prepare_data",
    "comes before setup, the data module's before the module's",
    ["DM.prepare_data", "M.prepare_data", "DM.setup", "CB.setup", "M.setup"],
)
def _(lab):
    return calls_of(lab, "fit", "prepare_data", "setup")


@lines(
    "4/stage",
    "setup and teardown get the name of the run",
    {
        name: ({"name": name}, [("setup", True), ("teardown", True)])
        for name in ("fit", "validate", "test", "predict")
    },
)
def _(lab, name):
    seen = []
    data = lab.data(
        setup=lambda data, stage: seen.append(("setup", stage == name)),
        teardown=lambda data, stage: seen.append(("teardown", stage == name)),
    )
    getattr(lab.trainer(), name)(lab.model(), datamodule=data)
    return seen


@line("4/teardown after an exception", "is not called", ["setup"])
def _(lab):
    seen = []

    def fail(*_):
        raise OSError

    data = lab.data(
        setup=lambda data, stage: seen.append("setup"), teardown=lambda data, stage: seen.append("teardown")
    )
    try:
        lab.trainer().fit(lab.model(training_step=fail), datamodule=data)
    except OSError:
        return seen


@line("4/on_exception", "gets the exception", [OSError])
def _(lab):
    seen = []

    def fail(*_):
        raise OSError

    data = lab.data(on_exception=lambda data, error: seen.append(type(error)))
    try:
        lab.trainer().fit(lab.model(training_step=fail), datamodule=data)
    except OSError:
        return seen


class Numbers(IterableDataset):
    """Three numbers, not counted."""

    def __iter__(self):
        return iter([0.0, 1.0, 2.0])


def from_datasets(lab, **datasets):
    """Return a data module of these, with batches of 2."""
    return lab.L.LightningDataModule.from_datasets(**datasets, batch_size=2)


def four_loaders(lab):
    rows = TensorDataset(torch.arange(4.0))
    data = from_datasets(lab, train_dataset=rows, val_dataset=rows, test_dataset=rows, predict_dataset=rows)
    return [getattr(data, f"{kind}_dataloader")() for kind in ("train", "val", "test", "predict")]


@line(
    "4/from_datasets",
    "loaders of the given size; training shuffles, evaluations do not",
    [("RandomSampler", 2), ("SequentialSampler", 2), ("SequentialSampler", 2), ("SequentialSampler", 2)],
)
def _(lab):
    return [(type(loader.sampler).__name__, loader.batch_size) for loader in four_loaders(lab)]


@line(
    "4/from_datasets/pinned",
    "their batches are pinned",
    [True] * 4,
    ours=[torch.cuda.is_available()] * 4,
    differs="`LightningDataModule.from_datasets`",
)
def _(lab):
    return [loader.pin_memory for loader in four_loaders(lab)]


@line("4/from_datasets/iterable", "training data that can't be shuffled is not", [[0.0, 1.0], [2.0]])
def _(lab):
    return [batch.tolist() for batch in from_datasets(lab, train_dataset=Numbers()).train_dataloader()]


@lines(
    "4/from_datasets/several",
    "a mapping or a sequence of datasets gives loaders of that shape",
    {
        "mapping": (
            {"train_dataset": {"a": TensorDataset(torch.arange(4.0)), "b": TensorDataset(torch.arange(2.0))}},
            ("dict", [2, 1]),
        ),
        "sequence": (
            {"train_dataset": [TensorDataset(torch.arange(4.0)), TensorDataset(torch.arange(2.0))]},
            ("list", [2, 1]),
        ),
    },
)
def _(lab, train_dataset):
    loaders = from_datasets(lab, train_dataset=train_dataset).train_dataloader()
    each = loaders.values() if isinstance(loaders, dict) else loaders
    return type(loaders).__name__, [len(loader) for loader in each]


@line(
    "4/from_datasets/only those given",
    "a loader that has no dataset is not there",
    Raises(ME, "test_dataloader"),
)
def _(lab):
    lab.trainer().test(
        lab.model(), datamodule=from_datasets(lab, train_dataset=TensorDataset(torch.arange(4.0)))
    )


@line(
    "4/from_datasets/arguments",
    "go to __init__; batch_size and num_workers as well, if it takes them",
    (3, 2),
)
def _(lab):
    class Data(lab.L.LightningDataModule):
        def __init__(self, width, batch_size=1):
            super().__init__()
            self.given = width, batch_size

    return Data.from_datasets(train_dataset=TensorDataset(torch.arange(4.0)), batch_size=2, width=3).given


def settings_data(lab):
    """Return the class of a data module with hyper-parameters."""

    class Data(lab.L.LightningDataModule):
        def __init__(self, a, b=2):
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self):
            return lab.loader(1)

    return Data


@lines(
    "4/load_from_checkpoint",
    "its hyper-parameters come from the checkpoint; given ones win",
    {"from the file": ({}, (1, 2)), "given": ({"b": 7}, (1, 7))},
)
def _(lab, **kwargs):
    Data, trainer = settings_data(lab), lab.trainer()
    trainer.fit(lab.model(), datamodule=Data(1))
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    data = Data.load_from_checkpoint(lab.tmp / "x.ckpt", **kwargs)
    return data.hparams.a, data.hparams.b


@line("4/load_from_checkpoint/on an instance", "is a TypeError", Raises("TypeError", "instance"))
def _(lab):
    settings_data(lab)(1).load_from_checkpoint("x.ckpt")


@line(
    "4/checkpoint",
    "its hyper-parameters, and its state under the name of its class",
    ({"a": 1, "b": 2}, "kwargs", {"seen": 3}),
)
def _(lab):
    Data = settings_data(lab)
    Data.state_dict = lambda data: {"seen": 3}
    trainer = lab.trainer()
    trainer.fit(lab.model(), datamodule=Data(1))
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    checkpoint = torch.load(lab.tmp / "x.ckpt", weights_only=False)
    return (
        dict(checkpoint["datamodule_hyper_parameters"]),
        checkpoint["datamodule_hparams_name"],
        checkpoint[Data.__qualname__],
    )


@line("4/state", "comes back when a fit goes on", [{"seen": 3}])
def _(lab):
    seen = []
    hooks = {
        "state_dict": lambda data: {"seen": 3},
        "load_state_dict": lambda data, state: seen.append(state),
    }
    trainer = lab.trainer()
    trainer.fit(lab.model(), datamodule=lab.data(**hooks))
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    lab.trainer(max_epochs=2).fit(lab.model(), datamodule=lab.data(**hooks), ckpt_path=lab.tmp / "x.ckpt")
    return seen


@line("4/state/empty", "an empty one is not kept", False)
def _(lab):
    data, trainer = lab.data(), lab.trainer()
    trainer.fit(lab.model(), datamodule=data)
    trainer.save_checkpoint(lab.tmp / "x.ckpt")
    return type(data).__qualname__ in torch.load(lab.tmp / "x.ckpt", weights_only=False)


@line(
    "4/str",
    "a line for each kind of loader: size, several sizes, NA where there is none, None where there "
    "is no loader",
    "{Train dataloader: size=4}\n{Validation dataloader: 1. size=5 ; 2. size=7}\n{Test dataloader: size=NA}\n"
    "{Predict dataloader: None}",
)
def _(lab):
    class Data(lab.L.LightningDataModule):
        def train_dataloader(self):
            return lab.loader(4)

        def val_dataloader(self):
            return [lab.loader(5), lab.loader(7)]

        def test_dataloader(self):
            return lab.stream(3)

    return str(Data())


@line("4/priority/loaders", "those that are passed win over the module's", 5)
def _(lab):
    model = lab.model(train_dataloader=lambda _: lab.loader(3))
    trainer = lab.trainer()
    trainer.fit(model, lab.loader(5))
    return trainer.global_step


@line(
    "4/priority/data module",
    "all loaders are the data module's; one that it lacks is not looked up on the module",
    (["0.0"], []),
)
def _(lab):
    class Data(lab.L.LightningDataModule):
        def train_dataloader(self):
            return lab.loader(1)

    model = lab.model(val_dataloader=lambda _: lab.loader(2), train_dataloader=lambda _: lab.loader(3))
    lab.trainer().fit(model, datamodule=Data())
    return model.noted("train"), model.noted("val")


@line("4/priority/data module without training data", "is refused", Raises(ME, "train_dataloader"))
def _(lab):
    lab.trainer().fit(
        lab.model(train_dataloader=lambda _: lab.loader(3)), datamodule=lab.L.LightningDataModule()
    )


def transfers(lab, *owners):
    """Fit with a transfer hook in these owners; return whose ran."""
    seen = set()

    def moves(name):
        def transfer_batch_to_device(owner, batch, device, dataloader_idx):
            seen.add(name)
            return batch

        return {"transfer_batch_to_device": transfer_batch_to_device} if name in owners else {}

    lab.trainer().fit(lab.model(**moves("M")), datamodule=lab.data(**moves("DM")))
    return seen


@lines(
    "4/transfer hooks",
    "the data module's if it has them, else the module's",
    {
        "DM": ({"owners": ["DM"]}, {"DM"}),
        "M": ({"owners": ["M"]}, {"M"}),
        "both": ({"owners": ["M", "DM"]}, {"DM"}),
    },
)
def _(lab, owners):
    return transfers(lab, *owners)


@line(
    "4/transfer hooks/only the module's",
    "beside a data module are warned of",
    Warns("UserWarning", "transfer_batch_to_device"),
)
def _(lab):
    transfers(lab, "M")


waiting(5, ("4/prepare_data/ranks", "on one process of each node, then setup on every process"))
