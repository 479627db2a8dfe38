from __future__ import annotations

import inspect
import re

import pytest
import torch

from levin.core.callback import Callback
from levin.core.datamodule import LightningDataModule
from levin.core.hooks import HOOKS, LOG_RULES, REMOVED_HOOKS, HookSpec, LogRule, ModelHooks, hook
from levin.core.module import LightningModule

NONE, STAGE = (), ("stage",)
BATCH, OUTPUTS = ("batch", "batch_idx"), ("outputs", "batch", "batch_idx")
EPOCHS = ("train", "validation", "test", "predict")

ARGUMENTS = {
    **dict.fromkeys(("setup", "teardown"), STAGE),
    **dict.fromkeys(("on_fit_start", "on_fit_end", "on_after_backward", "prepare_data"), NONE),
    **{
        f"on_{kind}{part}_{end}": NONE
        for kind in EPOCHS
        for part in ("", "_epoch")
        for end in ("start", "end")
    },
    **{f"on_{kind}_model_eval": NONE for kind in EPOCHS[1:]},
    **dict.fromkeys(
        ("on_validation_model_train", "on_test_model_train", "on_validation_model_zero_grad"), NONE
    ),
    **{f"{kind}_dataloader": NONE for kind in ("train", "val", "test", "predict")},
    "on_train_batch_start": BATCH,
    "on_train_batch_end": OUTPUTS,
    **{f"on_{kind}_batch_start": (*BATCH, "dataloader_idx") for kind in EPOCHS[1:]},
    **{f"on_{kind}_batch_end": (*OUTPUTS, "dataloader_idx") for kind in EPOCHS[1:]},
    "on_before_zero_grad": ("optimizer",),
    "on_before_optimizer_step": ("optimizer",),
    "on_before_backward": ("loss",),
    "on_save_checkpoint": ("checkpoint",),
    "on_load_checkpoint": ("checkpoint",),
    "on_sanity_check_start": NONE,
    "on_sanity_check_end": NONE,
    "on_exception": ("exception",),
    "on_before_batch_transfer": ("batch", "dataloader_idx"),
    "transfer_batch_to_device": ("batch", "device", "dataloader_idx"),
    "on_after_batch_transfer": ("batch", "dataloader_idx"),
}
OTHER_METHODS = {
    "backward": ("loss", "args", "kwargs"),
    "optimizer_step": ("epoch", "batch_idx", "optimizer", "optimizer_closure"),
    "optimizer_zero_grad": ("epoch", "batch_idx", "optimizer"),
    "lr_scheduler_step": ("scheduler", "metric"),
    "configure_gradient_clipping": ("optimizer", "gradient_clip_val", "gradient_clip_algorithm"),
    "clip_gradients": ("optimizer", "gradient_clip_val", "gradient_clip_algorithm"),
    "manual_backward": ("loss", "args", "kwargs"),
    "configure_optimizers": NONE,
    "configure_callbacks": NONE,
    "configure_model": NONE,
}


def parameters(fn):
    return tuple(inspect.signature(fn).parameters)


def test_these_are_all_hooks():
    assert sorted(spec.name for spec in HOOKS) == sorted(ARGUMENTS)


@pytest.mark.parametrize("spec", HOOKS, ids=lambda spec: spec.name)
def test_a_hook_has_the_arguments_that_users_write(spec):
    owners = [cls for cls in (LightningModule, LightningDataModule) if hasattr(cls, spec.name)]
    for owner in owners:
        assert parameters(getattr(owner, spec.name)) == ("self", *ARGUMENTS[spec.name])
    if spec.callbacks:
        arguments = parameters(getattr(Callback, spec.name))
        assert arguments == ("self", "trainer", "pl_module", *ARGUMENTS[spec.name])
    else:
        assert owners
        assert not hasattr(Callback, spec.name)


@pytest.mark.parametrize("name", OTHER_METHODS)
def test_a_method_that_is_overridden_has_the_arguments_that_users_write(name):
    assert parameters(getattr(LightningModule, name)) == ("self", *OTHER_METHODS[name])


@pytest.mark.parametrize("spec", [s for s in HOOKS if "dataloader_idx" in ARGUMENTS[s.name] and s.callbacks])
def test_the_loaders_number_has_a_default_in_the_hooks_of_evaluation(spec):
    for owner in (LightningModule, Callback):
        assert inspect.signature(getattr(owner, spec.name)).parameters["dataloader_idx"].default == 0


def test_modules_have_all_hooks_but_those_of_callbacks():
    missing = {spec.name for spec in HOOKS if not hasattr(LightningModule, spec.name)}
    assert missing == {"on_sanity_check_start", "on_sanity_check_end", "on_exception"}


def test_data_modules_have_those_of_data():
    names = {spec.name for spec in HOOKS if hasattr(LightningDataModule, spec.name)}
    loaders = {f"{kind}_dataloader" for kind in ("train", "val", "test", "predict")}
    transfer = {"on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"}
    assert names == {"prepare_data", "setup", "teardown", "on_exception", *loaders, *transfer}


def test_a_rule_says_its_defaults_and_whether_they_are_fixed():
    rules = {rule.name: (rule.on_step, rule.on_epoch, rule.is_free) for rule in LogRule}
    assert rules == {"STEP": (True, False, True), "BATCH": (False, True, True), "EPOCH": (False, True, False)}


def test_there_is_a_rule_for_each_place_of_a_users_code():
    others = {"training_step", "validation_step", "test_step", "predict_step"}
    placed = set(OTHER_METHODS) - {"clip_gradients", "manual_backward", "configure_callbacks"}
    assert set(LOG_RULES) == {*ARGUMENTS, *others, *placed}


@pytest.mark.parametrize(("old", "new"), REMOVED_HOOKS.items())
def test_a_hook_of_former_days_is_gone_and_its_successor_is_there(old, new):
    assert not any(hasattr(cls, old) for cls in (LightningModule, LightningDataModule, Callback))
    assert set(re.findall(r"`(\w+)(?:\(self\))?`", new)) & {*ARGUMENTS, "training_step"}


def test_marking_a_method_keeps_it_and_says_what_it_is():
    @hook(log=LogRule.EPOCH, callbacks=False)
    def on_something(self):
        return 7

    assert on_something(None) == 7
    assert on_something.__hook__ == HookSpec("on_something", LogRule.EPOCH, callbacks=False)


@pytest.mark.parametrize("name", [n for n in vars(ModelHooks) if n.startswith("on_") and "_model_" not in n])
def test_by_default_a_hook_does_nothing(name):
    assert getattr(LightningModule(), name)(*ARGUMENTS[name]) is None


def test_by_default_a_batch_is_moved_and_else_left_alone():
    batch = {"x": torch.ones(2), "name": "a"}
    module = LightningModule()
    assert module.on_before_batch_transfer(batch, 0) is batch
    assert module.on_after_batch_transfer(batch, 0) is batch
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["x"].device.type == "meta"
    assert moved["name"] == "a"


@pytest.mark.parametrize("kind", EPOCHS[1:])
def test_by_default_an_evaluation_is_in_evaluation_mode(kind):
    module = LightningModule()
    getattr(module, f"on_{kind}_model_eval")()
    assert not module.training
    if kind != "predict":
        getattr(module, f"on_{kind}_model_train")()
        assert module.training


def test_by_default_gradients_are_cleared_before_a_validation():
    module = LightningModule()
    module.weight = torch.nn.Parameter(torch.ones(1))
    module.weight.grad = torch.ones(1)
    module.on_validation_model_zero_grad()
    assert module.weight.grad is None
