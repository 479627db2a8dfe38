from __future__ import annotations

import functools
import io
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from levin.checkpoint.io import load
from levin.checkpoint.plain import LEFT_OUT, NotPlainError, pack, unpack
from levin.checkpoint.recipes import Home, NotRestorableError, Recipe, follow


class Owner(nn.Module):
    def __init__(self, *held):
        super().__init__()
        self.held = nn.ModuleList(held)


class Loss(nn.Module):
    pass


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale


def double(value):
    return 2 * value


def again(value, owner=Owner):
    """``value`` after it was packed, written, read safely and unpacked, as one of ``owner``'s."""
    file = io.BytesIO()
    torch.save(pack({"value": value}, "hparams", Home.of(owner)), file)
    file.seek(0)
    return unpack(*load(file), Home.of(owner))["value"]


NAMED = [
    *(nn.ReLU, torch.optim.Adam, torch.optim.lr_scheduler.StepLR, int, Loss, torch.distributions.Normal),
    *(F.relu, F.gelu, F.cross_entropy, torch.tanh, nn.init.xavier_uniform_, math.sqrt, np.tanh, double),
]  # fmt: skip


@pytest.mark.parametrize("value", NAMED, ids=lambda value: value.__name__)
def test_classes_and_functions_come_back(value):
    assert again(value) is value
    assert again({"a": [1, value]}) == {"a": [1, value]}


def test_in_the_plain_form_they_are_left_out():
    assert pack(nn.ReLU, home=Home())[0] is LEFT_OUT
    assert pack({"act": nn.ReLU, "lr": 1, "acts": [nn.ReLU]}, home=Home())[0] == {"lr": 1, "acts": [None]}


def test_without_an_owner_they_are_refused():
    with pytest.raises(NotPlainError, match=r"callbacks\.a is a type"):
        pack({"a": nn.ReLU}, "callbacks")


def test_a_partial_keeps_its_arguments():
    result = again(functools.partial(torch.optim.SGD, lr=0.1, momentum=np.float32(0.5)))
    assert (result.func, result.args) == (torch.optim.SGD, ())
    assert result.keywords == {"lr": 0.1, "momentum": np.float32(0.5)}
    assert type(result.keywords["momentum"]) is np.float32


BUILT = [
    *(nn.MSELoss(), nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"), nn.ReLU(inplace=True)),
    *(nn.Dropout(0.3), nn.Identity(), nn.Flatten(2), nn.LeakyReLU(0.3), nn.GELU("tanh"), Loss()),
]  # fmt: skip


@pytest.mark.parametrize("module", BUILT, ids=repr)
def test_modules_without_weights_come_back(module):
    result = again(module)
    assert result is not module
    assert repr(result) == repr(module)
    assert type(result) is type(module)


def test_the_weights_of_a_loss_are_arguments_of_it():
    weight = torch.tensor([1.0, 2.0])
    loss = nn.CrossEntropyLoss(weight=weight)
    assert torch.equal(again(loss, Owner(loss)).weight, weight)


WITH_WEIGHTS = [
    *(nn.Linear(2, 3), nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3, affine=False), nn.Embedding(4, 2)),
    *(nn.Conv2d(1, 2, (3, 5), padding="same"), nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Dropout(0.1))),
    *(nn.ModuleList([nn.Linear(1, 1)]), nn.ModuleDict({"a": nn.Linear(1, 1)}), nn.LayerNorm(3)),
]  # fmt: skip


@pytest.mark.parametrize("module", WITH_WEIGHTS, ids=repr)
def test_modules_whose_weights_the_checkpoint_holds_come_back_without_them(module):
    result = again(module, Owner(module))
    assert repr(result) == repr(module)
    result.load_state_dict(module.state_dict())


def test_making_one_out_draws_no_random_numbers():
    module = nn.Linear(2, 3)
    state = torch.get_rng_state()
    pack(module, home=Home.of(Owner(module)))
    assert torch.equal(torch.get_rng_state(), state)


NOT_BUILT = [
    (nn.Linear(1, 1), Owner()),  # its weights are nowhere
    (Scaled(2), Owner()),  # a class of a user's, with arguments
    (nn.LSTM(1, 1), None),  # its arguments can't be read off
    (nn.Linear(1, 1).double(), None),  # is not what such a call gives
    (nn.Linear(1, 1).requires_grad_(False), None),
    (nn.Sequential(nn.Linear(1, 1), Scaled(1)), None),
]


@pytest.mark.parametrize(("module", "owner"), NOT_BUILT, ids=str)
def test_modules_of_which_the_call_or_the_weights_are_unknown_are_refused(module, owner):
    with pytest.raises(NotPlainError):
        pack(module, home=Home.of(owner or Owner(module)))


@pytest.mark.parametrize(
    "value",
    [lambda: 0, os.system, print, eval, subprocess.Popen, torch.load, torch.from_file, [].append],
    ids=lambda value: value.__name__,
)
def test_what_a_file_must_not_name_is_refused_when_it_is_written(value):
    with pytest.raises(NotPlainError):
        pack({"f": value}, home=Home.of(Owner))
    with pytest.raises(NotPlainError):
        pack({"f": functools.partial(value)}, home=Home.of(Owner))


EVIL = [
    *("os:system", "subprocess:Popen", "builtins:eval", "torch:load", "torch.hub:load", "torch:from_file"),
    *("torch.nn.functional:importlib", "levin.checkpoint.io:load", "posix:system"),
]  # fmt: skip


@pytest.mark.parametrize("path", EVIL)
@pytest.mark.parametrize("kind", ["name", "call", "partial"])
def test_what_a_file_must_not_name_is_refused_when_it_is_read(kind, path):
    with pytest.raises(NotRestorableError):
        follow(Recipe(kind, path, ("true",)), Home.of(Owner))


def test_only_modules_are_called():
    for path in (f"{__name__}:double", "torch.optim.sgd:SGD", "builtins:list"):
        with pytest.raises(NotRestorableError, match="no module that a file may have built"):
            follow(Recipe("call", path), Home.of(Owner))


def test_functions_of_other_packages_are_not_the_owners():
    with pytest.raises(NotPlainError):
        pack({"f": double}, home=Home(modules=("other.package",)))
    with pytest.raises(NotRestorableError):
        follow(Recipe("name", f"{__name__}:double"), Home(modules=("other.package",)))


def test_a_trusted_file_may_name_and_import_anything():
    sys.modules.pop("this_is_no_module", None)
    trusted = Home(is_trusted=True)
    assert follow(Recipe("name", "os:getcwd"), trusted) is os.getcwd
    with pytest.raises(NotRestorableError, match="can't be imported"):
        follow(Recipe("name", "this_is_no_module:x"), trusted)


def test_what_was_defined_in_the_main_file_is_found_where_the_owner_is_defined():
    assert follow(Recipe("name", "__main__:Loss"), Home.of(Owner)) is Loss
    assert follow(Recipe("name", "train:Loss"), Home.of(Owner)) is Loss  # a file that is not imported


def test_arguments_that_do_not_fit_are_told():
    with pytest.raises(NotRestorableError, match=r"torch.nn.modules.activation:ReLU could not be built"):
        follow(Recipe("call", "torch.nn.modules.activation:ReLU", (1, 2, 3)), Home())
