from __future__ import annotations

import copy
import pickle
from itertools import chain

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import levin as L
from levin.loggers import CSVLogger


class Line(L.LightningModule):
    """One weight; ``act(self)`` runs in its training step."""

    def __init__(self, act=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.act = act

    def training_step(self, batch, batch_idx):
        if self.act is not None:
            self.act(self)
        return self.weight * 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Nest(Line):
    """Has modules of levin at three places."""

    def __init__(self):
        super().__init__()
        self.child = Line()
        self.child.grandchild = Line()
        self.others = torch.nn.ModuleList([Line()])

    def parts(self):
        return [self, self.child, self.child.grandchild, self.others[0]]


@pytest.fixture
def fit(quiet, batches):
    """``fit(module, **Trainer's arguments)`` trains on one batch and returns the trainer."""

    def run(module, **settings):
        trainer = quiet(**{"max_epochs": 1, **settings})
        trainer.fit(module, batches(1))
        return trainer

    return run


def in_a_step(fit, act, **settings):
    """Return what ``act(module)`` returns in a training step."""
    seen = []
    fit(Line(lambda self: seen.append(act(self))), **settings)
    return seen[0]


# ------------------------------------------------------------ the run a module is in


def test_nested_modules_are_in_the_same_run(fit):
    module = Nest()
    trainer = fit(module)
    assert all(part.trainer is trainer for part in module.parts())


def test_a_nested_module_logs_into_the_run_of_the_outer_one(fit):
    module = Nest()
    module.act = lambda self: self.child.grandchild.log("deep", 2.0)
    assert fit(module).callback_metrics == {"deep": 2.0}


def test_hooks_of_nested_modules_are_not_called(fit):
    module = Nest()
    module.child.on_train_start = module.child.configure_optimizers = lambda: 1 / 0
    assert fit(module).state.finished


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_in_no_run_and_the_original_stays(fit, copied):
    module = Nest()
    trainer = fit(module)
    copies = copied(module).parts()
    for part in copies:
        with pytest.raises(RuntimeError, match="not attached to a `Trainer`"):
            _ = part.trainer
    assert module.trainer is module.child.trainer is trainer
    assert [part.weight.item() for part in copies] == [-1.0, 0.0, 0.0, 0.0]


def test_a_copy_can_be_trained_on(fit):
    module = Line()
    fit(module)
    other = copy.deepcopy(module)
    fit(other)
    assert (module.weight.item(), other.weight.item()) == (-1.0, -2.0)


def test_a_module_may_be_copied_in_the_middle_of_a_run(fit):
    module = in_a_step(fit, copy.deepcopy)
    with pytest.raises(RuntimeError, match="not attached"):
        _ = module.trainer


def test_a_module_knows_where_its_run_is(fit):
    def where(self):
        return self.current_epoch, self.global_step, self.global_rank, self.local_rank

    seen = []
    fit(Line(lambda self: seen.append(where(self))), max_epochs=2)
    assert seen == [(0, 0, 0, 0), (1, 1, 0, 0)]


def test_a_module_reaches_the_loggers_of_its_run(fit, tmp_path):
    loggers = [CSVLogger(tmp_path, name="one"), CSVLogger(tmp_path, name="two")]
    with pytest.warns(UserWarning, match="log_every_n_steps"):
        logger, all_of_them = in_a_step(fit, lambda self: (self.logger, self.loggers), logger=loggers)
    assert logger is loggers[0]
    assert all_of_them == loggers


def test_without_loggers_there_are_none(fit):
    assert in_a_step(fit, lambda self: (self.logger, self.loggers)) == (None, [])


def test_a_module_prints_through_its_run(fit, capsys):
    fit(Line(lambda self: self.print("a", 1, sep="-", end="!")))
    assert capsys.readouterr().out == "a-1!"


# ------------------------------------------------------------ all_gather


def test_what_one_process_gathers_is_what_it_has(fit):
    tensor = torch.ones(2, 3)
    assert in_a_step(fit, lambda self: self.all_gather(tensor)) is tensor


def test_numbers_are_gathered_as_tensors_wherever_they_are(fit):
    data = {"a": 3, "b": [1.5, torch.tensor(2)], "c": ("text",)}
    gathered = in_a_step(fit, lambda self: self.all_gather(data))
    assert all(isinstance(x, torch.Tensor) and x.ndim == 0 for x in (gathered["a"], *gathered["b"]))
    assert (gathered["a"].item(), gathered["b"][0].item(), gathered["b"][1].item()) == (3, 1.5, 2)
    assert gathered["c"] == ("text",)


def test_a_gathered_tensor_keeps_its_graph(fit):
    assert in_a_step(fit, lambda self: self.all_gather(self.weight * 1, sync_grads=True)).requires_grad


# ------------------------------------------------------------ device and type


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32-true", torch.float32), ("64-true", torch.float64), ("bf16-true", torch.bfloat16)],
)
def test_a_module_has_the_type_of_its_run(fit, precision, dtype):
    seen = in_a_step(fit, lambda self: (self.dtype, self.weight.dtype, self.device), precision=precision)
    assert seen == (dtype, dtype, torch.device("cpu"))


# ------------------------------------------------------------ freezing


def test_frozen_parts_are_not_trained_and_stay_in_evaluation_mode(fit):
    class Frozen(Nest):
        def training_step(self, batch, batch_idx):
            modes.append((self.training, self.child.training))
            return self.weight + self.child.weight

        def configure_optimizers(self):
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1.0)

    modes = []
    module = Frozen()
    module.child.freeze()
    fit(module)
    assert (module.weight.item(), module.child.weight.item()) == (-1.0, 0.0)
    assert modes == [(True, False)]


# ------------------------------------------------------------ configure_model, callbacks, hyper-parameters


def test_layers_may_be_made_in_the_runs_precision(quiet, batches):
    class Late(Line):
        def __init__(self):
            super().__init__()
            self.layer = None

        def configure_model(self):
            calls.append(str(self.trainer.state.fn))
            if self.layer is None:
                self.layer = torch.nn.Linear(1, 1)

        def validation_step(self, batch, batch_idx):
            return self.layer(batch[:, None])

    calls = []
    module, trainer = Late(), quiet(max_epochs=1, precision="64-true")
    trainer.fit(module, batches(1), batches(1))
    layer = module.layer
    trainer.validate(module, batches(1))
    assert calls == ["fit", "validate"]
    assert module.layer is layer
    assert layer.weight.dtype is torch.float64
    assert any(p is layer.weight for group in trainer.optimizers[0].param_groups for p in group["params"])


# ------------------------------------------------------------ data modules


def rows(count):
    return TensorDataset(torch.arange(float(count)))


class Summing(Line):
    """Notes the rows that it is run on."""

    def __init__(self):
        super().__init__()
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch[0].tolist())
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen["val"].append((dataloader_idx, batch[0].tolist()))

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch[0].tolist())

    def predict_step(self, batch, batch_idx):
        return batch[0].tolist()


@pytest.fixture
def from_datasets():
    """`LightningDataModule.from_datasets` without the warning that there is nothing to pin memory for."""
    return lambda **datasets: L.LightningDataModule.from_datasets(batch_size=2, **datasets)


pins_for_nothing = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")


@pins_for_nothing
def test_a_data_module_of_datasets_serves_all_four_runs(quiet, from_datasets):
    datasets = {
        f"{kind}_dataset": rows(n) for kind, n in (("train", 3), ("val", 4), ("test", 5), ("predict", 1))
    }
    module, trainer, data = Summing(), quiet(max_epochs=1), from_datasets(**datasets)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert sorted(chain(*module.seen["train"])) == [0.0, 1.0, 2.0]
    assert module.seen["val"] == [(0, [0.0, 1.0]), (0, [2.0, 3.0])]
    assert module.seen["test"] == [[0.0, 1.0], [2.0, 3.0], [4.0]]
    assert trainer.predict(module, datamodule=data) == [[0.0]]


@pins_for_nothing
def test_several_datasets_to_validate_on_are_several_loaders(quiet, from_datasets):
    module = Summing()
    quiet().validate(module, datamodule=from_datasets(val_dataset=[rows(1), rows(2)]), verbose=False)
    assert module.seen["val"] == [(0, [0.0]), (1, [0.0, 1.0])]


@pins_for_nothing
def test_several_datasets_to_train_on_come_together(quiet, from_datasets):
    batches = []
    module = Line()
    module.training_step = lambda batch, batch_idx: batches.append(batch) or module.weight * 1
    quiet(max_epochs=1).fit(module, datamodule=from_datasets(train_dataset={"a": rows(2), "b": rows(3)}))
    assert [set(batch) for batch in batches] == [{"a", "b"}] * 2
    assert sorted(chain(*(batch["b"][0].tolist() for batch in batches))) == [0.0, 1.0, 2.0]


@pins_for_nothing
def test_training_shuffles_and_evaluation_does_not(quiet, from_datasets):
    torch.manual_seed(0)
    module = Summing()
    data = from_datasets(train_dataset=rows(50), val_dataset=rows(50))
    quiet(max_epochs=1).fit(module, datamodule=data)
    drawn = list(chain(*module.seen["train"]))
    assert drawn != sorted(drawn) == list(range(50))
    assert [number for _, batch in module.seen["val"] for number in batch] == list(range(50))


@pins_for_nothing
def test_iterable_data_is_taken_as_it_comes(quiet, from_datasets):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(rows(3))

    module = Summing()
    quiet(max_epochs=1).fit(module, datamodule=from_datasets(train_dataset=Stream(), val_dataset=rows(1)))
    assert module.seen["train"] == [[0.0, 1.0], [2.0]]


def test_a_data_module_knows_its_trainer(quiet):
    class Data(L.LightningDataModule):
        def setup(self, stage):
            seen.append((self.trainer, stage))

        def train_dataloader(self):
            return DataLoader(rows(self.trainer.max_epochs))

    seen = []
    data, trainer = Data(), quiet(max_epochs=1)
    assert data.trainer is None
    trainer.fit(Line(), datamodule=data)
    assert seen == [(trainer, "fit")]
    assert trainer.datamodule is data


def test_the_state_of_a_data_module_is_in_the_checkpoint(quiet, tmp_path):
    class Data(L.LightningDataModule):
        read = 0

        def train_dataloader(self):
            self.read += 1
            return DataLoader(rows(1))

        def state_dict(self):
            return {"read": self.read}

        def load_state_dict(self, state_dict):
            self.read = state_dict["read"] + 100

    trainer = quiet(max_epochs=1)
    trainer.fit(Line(), datamodule=Data())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    data = Data()
    quiet(max_epochs=2).fit(Line(), datamodule=data, ckpt_path=tmp_path / "x.ckpt")
    assert data.read == 102
