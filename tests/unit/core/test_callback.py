from __future__ import annotations

import ast
import inspect

import pytest

import levin.core.callback
from levin.core.callback import Callback, Checkpoint
from levin.core.hooks import HOOKS

NAMES = [spec.name for spec in HOOKS if spec.callbacks]
ARGUMENTS = {  # what each hook gets after the trainer and the module
    name: list(inspect.signature(getattr(Callback, name)).parameters)[3:] for name in NAMES
}


def declared():
    """Return what type checkers read: for each hook, its arguments and their defaults."""
    tree = ast.parse(inspect.getsource(levin.core.callback))
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Callback"]
    blocks = [node for node in cls.body if isinstance(node, ast.If)]
    functions = [node for block in blocks for node in block.body if isinstance(node, ast.FunctionDef)]
    return {
        fn.name: ([arg.arg for arg in fn.args.args], [ast.literal_eval(value) for value in fn.args.defaults])
        for fn in functions
    }


def test_type_checkers_read_the_hooks_that_there_are():
    assert sorted(declared()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_type_checkers_read_the_arguments_that_there_are(name):
    parameters = inspect.signature(getattr(Callback, name)).parameters
    defaults = [p.default for p in parameters.values() if p.default is not inspect.Parameter.empty]
    assert declared()[name] == (list(parameters), defaults)


@pytest.mark.parametrize("name", NAMES)
def test_by_default_a_hook_does_nothing_and_can_be_called_by_position_and_by_name(name):
    hook = getattr(Callback(), name)
    assert hook("trainer", "module", *ARGUMENTS[name]) is None
    assert hook(trainer="trainer", pl_module="module", **dict.fromkeys(ARGUMENTS[name])) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_named_and_explained(name):
    hook = getattr(Callback, name)
    assert (hook.__name__, hook.__qualname__) == (name, f"Callback.{name}")
    assert hook.__doc__


def test_a_subclass_may_call_the_parents():
    class Mine(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            return super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    assert Mine().on_train_batch_end(None, None, {}, None, 0) is None


def test_the_state_of_a_callback_is_empty_and_filed_under_its_class():
    class Mine(Callback):
        pass

    callback = Mine()
    callback.load_state_dict({"anything": 1})
    assert callback.state_dict() == {}
    assert callback.state_key == Mine.__qualname__
    assert callback.state_key.endswith("<locals>.Mine")


def test_callbacks_of_one_class_are_told_apart_by_their_arguments():
    class Monitor(Callback):
        def __init__(self, monitor):
            self.monitor = monitor

        @property
        def state_key(self):
            return self._generate_state_key(monitor=self.monitor)

    one, other = Monitor("a"), Monitor("b")
    assert one.state_key != other.state_key
    assert one.state_key == f"{Monitor.__qualname__}{{'monitor': 'a'}}"


def test_checkpoints_come_last_and_wait_for_the_module():
    assert (Callback.order, Callback.monitors) == (0, False)
    assert (Checkpoint.order, Checkpoint.monitors) == (100, True)


def test_outside_of_a_run_there_is_nowhere_to_log():
    with pytest.raises(AttributeError, match="log"):
        Callback().log("x", 1.0)
