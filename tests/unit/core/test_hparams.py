from __future__ import annotations

import copy
import functools
import inspect
import io
import pickle
import sys
import threading
from argparse import Namespace
from dataclasses import InitVar, dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from levin.core.datamodule import LightningDataModule
from levin.core.hparams import (
    HyperparametersMixin,
    given_hyperparameters,
    hyperparameters_to_log,
    restored,
)
from levin.core.module import LightningModule
from levin.utils.types import AttributeDict


class Plain(LightningModule):
    def __init__(self, lr=0.1, depth=2):
        super().__init__()
        self.save_hyperparameters()


def saving(*args, **kwargs) -> type[LightningModule]:
    """A module with arguments ``config`` and ``lr`` that saves in this way."""

    class Model(LightningModule):
        def __init__(self, config=None, lr=0.1):
            super().__init__()
            self.save_hyperparameters(*args, **kwargs)

    return Model


# ----------------------------------------------------------------------------------- what is collected


def test_all_kinds_of_arguments_are_saved_but_for_varargs():
    class Model(LightningModule):
        def __init__(self, a, /, b, *args, c=3, **others):
            super().__init__()
            self.save_hyperparameters()

    assert Model(1, 2, 9, 9, z=5).hparams == {"a": 1, "b": 2, "c": 3, "z": 5}


def test_a_value_is_the_one_that_the_name_has_when_it_is_saved():
    class Model(LightningModule):
        def __init__(self, lr, unrelated=0):
            super().__init__()
            lr = lr * 10
            local = lr
            self.save_hyperparameters()
            lr = local + 1

    assert Model(1).hparams == {"lr": 10, "unrelated": 0}


def test_a_call_in_the_parent_saves_the_arguments_of_the_child():
    class Child(Plain):
        def __init__(self, width, **others):
            unrelated = 0
            super().__init__(depth=7, **others)
            self.unrelated = unrelated

    assert Child(5, lr=1).hparams == {"width": 5, "lr": 1, "depth": 7}


def test_where_parent_and_child_name_the_same_the_child_wins():
    class Child(Plain):
        def __init__(self, lr):
            super().__init__(lr=lr * 100)

    assert Child(5).hparams == {"lr": 5, "depth": 2}


def test_ignoring_in_the_child_removes_what_the_parent_saved():
    class Child(Plain):
        def __init__(self, lr, depth, width):
            super().__init__(lr, depth)
            self.save_hyperparameters(ignore=["depth"])

    model = Child(1, 2, 3)
    assert model.hparams == model.hparams_initial == {"lr": 1, "width": 3}


def test_a_class_without_its_own_init_saves_like_its_parent():
    class Child(Plain): ...

    assert Child(3).hparams == {"lr": 3, "depth": 2}


def test_a_child_module_saves_its_own_arguments_only():
    class Parent(LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.child = Plain(lr=99, depth=98)
            self.save_hyperparameters()

    model = Parent(5)
    assert model.hparams == {"lr": 5}
    assert model.child.hparams == {"lr": 99, "depth": 98}


def test_the_caller_of_the_constructor_is_not_looked_into():
    def build(lr=77, width=3):
        return Plain(depth=5)

    assert build().hparams == {"lr": 0.1, "depth": 5}


def test_the_first_argument_may_have_any_name():
    class Model(LightningModule):
        def __init__(this, lr):  # noqa: N805
            super().__init__()
            this.save_hyperparameters()

    assert Model(3).hparams == {"lr": 3}


def test_a_decorated_init_is_seen():
    def logged(init):
        @functools.wraps(init)
        def wrapper(self, *args, **kwargs):
            init(self, *args, **kwargs)

        return wrapper

    class Model(LightningModule):
        @logged
        def __init__(self, lr, depth=2):
            super().__init__()
            self.save_hyperparameters()

    assert Model(3).hparams == {"lr": 3, "depth": 2}


def test_an_argument_that_a_closure_uses_is_saved():
    class Model(LightningModule):
        def __init__(self, lr, **others):
            super().__init__()
            self.read = lambda: (self, lr, others)
            self.save_hyperparameters()

    assert Model(3, b=1).hparams == {"lr": 3, "b": 1}


def test_a_method_called_by_init_may_save():
    class Model(LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.prepare(lr * 2)

        def prepare(self, lr):
            self.save_hyperparameters()

    assert Model(3).hparams == {"lr": 3}


def test_a_frame_can_be_given():
    def save_for(model):
        model.save_hyperparameters(frame=inspect.currentframe().f_back)

    class Model(LightningModule):
        def __init__(self, lr):
            super().__init__()
            save_for(self)

    assert Model(3).hparams == {"lr": 3}


def test_the_fields_of_a_dataclass_are_saved():
    @dataclass(eq=False)
    class Model(LightningModule):
        lr: float
        names: list = field(default_factory=list)
        steps: InitVar[int] = 3

        def __post_init__(self, steps):
            super().__init__()
            self.lr *= 2
            self.save_hyperparameters()

    assert Model(0.5).hparams == {"lr": 1.0, "names": [], "steps": 3}


def test_saving_works_before_and_without_the_parents_init():
    class Early(LightningModule):
        def __init__(self, lr):
            self.save_hyperparameters()
            super().__init__()

    class Never(HyperparametersMixin):
        def __init__(self, lr):
            self.save_hyperparameters()

    assert Early(1).hparams == Never(1).hparams == {"lr": 1}
    assert Early(1).logs_hyperparameters


def test_a_datamodule_saves_alike():
    class Data(LightningDataModule):
        def __init__(self, batch_size):
            super().__init__()
            self.save_hyperparameters()

    assert Data(4).hparams == {"batch_size": 4}


# -------------------------------------------------------------------------------------- what is chosen


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (saving(), {"config": 1, "lr": 0.1}),
        (saving("lr"), {"lr": 0.1}),
        (saving("config", "lr"), {"config": 1, "lr": 0.1}),
        (saving(ignore="config"), {"lr": 0.1}),
        (saving(ignore=["config", "unknown"]), {"lr": 0.1}),
        (saving(ignore=("config", "lr")), {}),
        (saving({"a": 1}), {"a": 1}),
        (saving({"a": 1, "b": 2}, ignore="b"), {"a": 1}),
        (saving(Namespace(a=1)), {"a": 1}),
        (saving(AttributeDict(a=1)), {"a": 1}),
        (saving({"a": 1}, Namespace(b=2), "lr"), {"a": 1, "b": 2, "lr": 0.1}),
    ],
)
def test_names_and_objects_choose_what_is_saved(model, expected):
    hparams = model(config=1).hparams
    assert hparams == expected
    assert type(hparams) is AttributeDict


def test_a_name_that_is_no_argument_is_an_error_with_a_near_one():
    with pytest.raises(KeyError, match=r"no argument 'lrr'. Did you mean 'lr'\? Arguments: config, lr"):
        saving("lrr")()


@pytest.mark.parametrize("value", [3, 0.5, True, [1], (1,), {1}, SimpleNamespace(a=1)])
def test_other_objects_are_refused(value):
    with pytest.raises(ValueError, match="a dict or Namespace, but got"):
        saving(value)()


def test_a_configuration_dataclass_is_refused_with_advice():
    @dataclass
    class Config:
        lr: float = 0.1

    with pytest.raises(ValueError, match=r"Config\. Pass `vars\(...\)` of it"):
        saving(Config())()


def test_repeated_calls_add_up_and_the_last_says_whether_it_is_logged():
    class Model(LightningModule):
        def __init__(self, a, b=2):
            super().__init__()
            self.save_hyperparameters("a", logger=False)
            self.save_hyperparameters("b")
            self.save_hyperparameters({"a": 3, "c": 4})

    model = Model(1)
    assert model.hparams == {"a": 3, "b": 2, "c": 4}
    assert model.logs_hyperparameters


def test_outside_of_init_objects_can_be_saved_and_arguments_can_not():
    model = LightningModule()
    model.save_hyperparameters()
    assert model.hparams == {}
    model.save_hyperparameters({"lr": 1})
    assert model.hparams == {"lr": 1}
    with pytest.raises(KeyError, match="seen while `__init__` runs"):
        model.save_hyperparameters("lr")


def test_a_module_among_the_values_gets_advice():
    class Model(LightningModule):
        def __init__(self, net, lr=0.1):
            super().__init__()
            self.save_hyperparameters()

    with pytest.warns(UserWarning, match=r"\['net'\] are `nn.Module`s.*ignore=\['net'\]") as caught:
        model = Model(nn.Linear(1, 1))
    assert caught[0].filename == __file__
    assert isinstance(model.hparams.net, nn.Linear)


def test_an_ignored_module_is_no_matter():
    class Model(LightningModule):
        def __init__(self, net, lr=0.1):
            super().__init__()
            self.save_hyperparameters(ignore=["net"])

    assert Model(nn.Linear(1, 1)).hparams == {"lr": 0.1}


# -------------------------------------------------------------------------------------- how it is kept


def test_without_saving_there_are_none_and_they_can_be_added():
    model = LightningModule()
    assert (model.hparams, model.hparams_initial, model.logs_hyperparameters) == ({}, {}, False)
    model.hparams.lr = 0.1
    assert model.hparams == {"lr": 0.1}
    assert LightningModule().hparams == {}


@pytest.mark.parametrize("config", [{"lr": 1}, Namespace(lr=1)])
def test_assigning_saves_what_is_assigned_and_nothing_else(config):
    class Old(LightningModule):
        def __init__(self, config):
            super().__init__()
            self.save_hyperparameters({"gone": 1})
            self.hparams = config

    model = Old(config)
    assert model.hparams == model.hparams_initial == {"lr": 1}
    assert through_a_file(model) == ({"lr": 1}, "config")


def test_hparams_change_and_the_initial_ones_do_not():
    model = Plain(lr=[1])
    model.hparams.lr.append(2)
    model.hparams.depth = 5
    model.hparams_initial["depth"] = 9
    assert model.hparams == {"lr": [1, 2], "depth": 5}
    assert model.hparams_initial == {"lr": [1], "depth": 2}


def test_what_can_not_be_copied_is_shared_by_the_initial_ones():
    lock = threading.Lock()
    assert Plain(lr=lock).hparams_initial.lr is lock


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_module_keep_their_own(duplicate):
    model = Plain(lr=1)
    other = duplicate(model)
    other.hparams.lr = 2
    assert (model.hparams.lr, other.hparams.lr) == (1, 2)
    assert other.logs_hyperparameters


def test_a_given_configuration_is_saved_in_place_of_the_arguments_of_that_class_alone():
    class Child(Plain): ...

    with given_hyperparameters(Plain, {"lr": 5, "_class_path": "x"}):
        assert Plain(lr=1).hparams == {"lr": 5, "_class_path": "x"}
        assert Child(lr=1).hparams == {"lr": 1, "depth": 2}
    assert Plain(lr=1).hparams == {"lr": 1, "depth": 2}


# ------------------------------------------------------------------------------------ what loggers get


def test_those_who_log_are_merged_without_the_keys_for_building():
    first, second = saving({"a": 1, "_instantiator": "x"})(), saving({"a": 1, "b": 2})()
    assert hyperparameters_to_log(first, None, second) == {"a": 1, "b": 2}


def test_the_initial_values_are_logged():
    model = Plain(lr=1)
    model.hparams.lr = 2
    assert hyperparameters_to_log(model) == {"lr": 1, "depth": 2}


def test_nobody_who_logs_means_none():
    assert hyperparameters_to_log(saving(logger=False)(), LightningModule(), None) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 2), (1, True), (torch.zeros(2), torch.zeros(2)), (np.zeros(2), np.zeros(2)), ([1], [2])],
)
def test_one_name_with_two_values_is_an_error(one, other):
    with pytest.raises(RuntimeError, match="'a' has different values"):
        hyperparameters_to_log(saving({"a": one})(), saving({"a": other})())


def test_two_values_are_no_matter_if_one_is_not_logged():
    quiet = saving({"a": 2}, logger=False)()
    assert hyperparameters_to_log(saving({"a": 1})(), quiet) == {"a": 1}


# ------------------------------------------------------------------------------- what checkpoints keep


class Color(Enum):
    RED = 1


class Size(str, Enum):
    BIG = "big"


def through_a_file(owner: HyperparametersMixin) -> tuple[object, str | None]:
    """The hyper-parameters after they were written and read safely."""
    file = io.BytesIO()
    torch.save(owner.hyper_parameters_for_checkpoint(), file)
    file.seek(0)
    values, holder, missing = restored(torch.load(file, weights_only=True), type(owner))
    assert not missing
    return values, holder


def test_entries_have_the_keys_of_their_class():
    class Data(LightningDataModule):
        def __init__(self, batch_size=3):
            super().__init__()
            self.save_hyperparameters()

    assert Plain().hyper_parameters_for_checkpoint() == {
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "depth": 2},
    }
    assert Data().hyper_parameters_for_checkpoint() == {
        "datamodule_hparams_name": "kwargs",
        "datamodule_hyper_parameters": {"batch_size": 3},
    }


def test_nothing_saved_means_no_entries():
    assert LightningModule().hyper_parameters_for_checkpoint() == {}


def test_the_current_values_are_kept():
    model = Plain(lr=1)
    model.hparams.lr = 2
    assert model.hyper_parameters_for_checkpoint()["hyper_parameters"]["lr"] == 2


class Configured(LightningModule):
    def __init__(self, config, lr=0.1):
        super().__init__()
        self.save_hyperparameters(config)


@pytest.mark.parametrize("config", [{"a": 1}, Namespace(a=1), AttributeDict(a=1)])
def test_the_argument_that_holds_a_configuration_is_named(config):
    assert through_a_file(Configured(config)) == ({"a": 1}, "config")


def test_a_configuration_that_is_no_argument_has_no_name():
    model = saving({"a": 1})()
    assert model.hyper_parameters_for_checkpoint() == {"hyper_parameters": {"a": 1}}
    assert through_a_file(model) == ({"a": 1}, None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [1, (2.5, {"a": True})],
        Path("data/train"),
        [Path("a"), {"b": Path("c")}],
        Namespace(a=1, b=Namespace(c=Path("d"))),
        {"inner": AttributeDict(a=AttributeDict(b=[Path("x")]))},
        torch.float16,
        Size.BIG,
        np.float64(0.5),
    ],
)
def test_values_come_back_as_they_were(value):
    values, name = through_a_file(Plain(lr=value))
    assert values == {"lr": value, "depth": 2}
    assert name is None
    assert type(values["lr"]) is type(value)


def test_the_types_of_inner_values_come_back():
    values, _ = through_a_file(Plain(lr={"a": [Namespace(b=AttributeDict(c=1))]}))
    inner = values["lr"]["a"][0]
    assert type(inner) is Namespace
    assert type(inner.b) is AttributeDict


def test_keys_of_any_kind_come_back():
    config = {Path("a"): Path("b"), Size.BIG: [Path("c")], Color.RED: 1}
    assert through_a_file(Plain(lr=config))[0]["lr"] == config
    assert through_a_file(Configured(config)) == (config, "config")


def test_entries_that_a_hook_took_away_are_no_matter():
    checkpoint = Plain(lr=[Path("a")], depth=Path("b")).hyper_parameters_for_checkpoint()
    del checkpoint["hyper_parameters"]["lr"]
    assert restored(checkpoint, Plain).values == {"depth": Path("b")}


def test_writing_changes_nothing_of_the_values():
    config = Namespace(path=Path("a"))
    model = Plain(lr=config)
    model.hyper_parameters_for_checkpoint()
    assert model.hparams.lr is config
    assert config.path == Path("a")


def test_reading_changes_nothing_of_the_checkpoint():
    checkpoint = Plain(lr=Namespace(a=1)).hyper_parameters_for_checkpoint()
    restored(checkpoint, Plain)
    assert checkpoint["hyper_parameters"]["lr"] == {"a": 1}


@pytest.mark.parametrize("value", [lambda: 0, threading.Lock(), [object()], nn.GELU().forward, print])
def test_what_is_not_plain_is_left_out_with_a_warning_that_names_it_once(value):
    model = Plain(lr=value)
    with pytest.warns(
        UserWarning, match=r"`hparams.lr[.0]*` \(.*load_from_checkpoint\(path, lr=...\).*ignore=\['lr'\]"
    ):
        entries = model.hyper_parameters_for_checkpoint()
    assert entries["hyper_parameters"] == {"depth": 2}
    assert model.hyper_parameters_for_checkpoint() == entries  # and no second warning


def test_a_value_that_contains_itself_is_left_out():
    value: list = []
    value.append(value)
    with pytest.warns(UserWarning, match=r"`hparams.lr` \(list\)"):
        assert Plain(lr=value).hyper_parameters_for_checkpoint()["hyper_parameters"] == {"depth": 2}


def test_several_are_named_in_one_warning():
    model = Plain(lr={"how": [len]}, depth=object())
    with pytest.warns(UserWarning, match="leave out") as caught:
        model.hyper_parameters_for_checkpoint()
    assert len(caught) == 1
    assert "`hparams.depth` (object), `hparams.lr.how.0` (builtin_function_or_method)" in str(
        caught[0].message
    )


def test_the_default_of_an_argument_need_not_be_kept():
    class Model(LightningModule):
        def __init__(self, collate=lambda batch: batch, lr=0.1):
            super().__init__()
            self.save_hyperparameters()

    assert Model().hyper_parameters_for_checkpoint() == {
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1},
    }


def test_what_is_left_out_is_missing_when_it_is_read():
    with pytest.warns(UserWarning, match="leave out"):
        checkpoint = Plain(lr=threading.Lock()).hyper_parameters_for_checkpoint()
    assert restored(checkpoint, Plain).missing == {
        "lr": "it was a _thread.lock, which no checkpoint can hold"
    }


# ------------------------------------------------------------------------------------------- OmegaConf

omegaconf = pytest.importorskip("omegaconf")
OmegaConf = omegaconf.OmegaConf


@dataclass
class Optimizing:
    lr: float = 0.1
    color: Color = Color.RED


def test_an_omegaconf_container_stays_one():
    config = OmegaConf.create({"lr": 1, "twice": "${lr}"})
    model = Configured(config)
    assert model.hparams is config
    assert model.hyper_parameters_for_checkpoint()["hyper_parameters"] == {"lr": 1, "twice": "${lr}"}
    values, name = through_a_file(model)
    assert (type(values), values, name) == (omegaconf.DictConfig, config, "config")
    assert values.twice == 1


def test_an_omegaconf_argument_comes_back_at_any_depth():
    values, _ = through_a_file(Plain(lr=OmegaConf.create({"a": 1}), depth=[OmegaConf.create([2])]))
    assert type(values["lr"]) is omegaconf.DictConfig
    assert type(values["depth"][0]) is omegaconf.ListConfig


def test_a_structured_container_comes_back_with_its_types_and_flags():
    config = OmegaConf.structured(Optimizing)
    OmegaConf.set_readonly(config, True)
    again = through_a_file(Plain(lr=config))[0]["lr"]
    assert OmegaConf.get_type(again) is Optimizing
    assert again.color is Color.RED
    assert OmegaConf.is_readonly(again)
    OmegaConf.set_readonly(again, False)
    with pytest.raises(omegaconf.ValidationError):
        again.lr = "not a number"


def test_without_omegaconf_its_content_comes_back(monkeypatch):
    entries = Plain(lr=OmegaConf.create({"a": 1})).hyper_parameters_for_checkpoint()
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    assert type(restored(entries, Plain).values["lr"]) is dict
