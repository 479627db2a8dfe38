from __future__ import annotations

import functools
from unittest.mock import MagicMock, Mock

import pytest

from levin.core.callback import Callback
from levin.core.datamodule import LightningDataModule
from levin.core.module import LightningModule
from levin.utils.overrides import is_overridden, overrides


class Base:
    def hook(self) -> None: ...


class Child(Base):
    def hook(self) -> int:
        return 1


class Idle(Base): ...


def with_attribute(obj: object, value: object) -> object:
    obj.hook = value
    return obj


def decorated(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("obj", "expected"),
    [(Idle(), False), (Child(), True), (with_attribute(Idle(), lambda: 1), True), (Base(), False)],
)
def test_overrides_sees_the_class_and_the_instance(obj, expected):
    assert overrides(obj, "hook", Base) is expected


def test_a_name_that_base_lacks_is_overridden_where_it_exists():
    class Extended(Base):
        def extra(self) -> None: ...

    assert overrides(Extended(), "extra", Base)
    assert not overrides(Idle(), "extra", Base)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (Idle(), False),
        (Child(), True),
        (with_attribute(Idle(), None), False),
        (with_attribute(Child(), None), False),
        (with_attribute(Idle(), decorated(Base().hook)), False),
        (with_attribute(Idle(), decorated(Child().hook)), True),
        (with_attribute(Idle(), functools.partial(Idle().hook)), False),
        (with_attribute(Idle(), functools.partial(Child().hook)), True),
        (with_attribute(Idle(), decorated(functools.partial(Child().hook))), True),
        (with_attribute(Idle(), Mock(wraps=Idle().hook)), False),
        (with_attribute(Idle(), MagicMock(wraps=Child().hook)), True),
        (with_attribute(Child(), Mock()), False),
        (None, False),
    ],
)
def test_is_overridden_compares_the_code_that_runs_in_the_end(obj, expected):
    assert is_overridden("hook", obj, parent=Base) is expected


def test_a_parent_without_the_method_is_an_error():
    with pytest.raises(ValueError, match="`Base` has no method `other`"):
        is_overridden("other", with_other(), parent=Base)


def with_other() -> Base:
    obj = Idle()
    obj.other = lambda: None
    return obj


def test_the_parent_of_modules_datamodules_and_callbacks_is_known():
    class Model(LightningModule):
        def training_step(self, batch): ...

    class Data(LightningDataModule):
        def setup(self, stage): ...

    class Listener(Callback):
        def on_fit_start(self, trainer, pl_module): ...

    assert is_overridden("training_step", Model())
    assert not is_overridden("validation_step", Model())
    assert is_overridden("setup", Data())
    assert not is_overridden("teardown", Data())
    assert is_overridden("on_fit_start", Listener())
    assert not is_overridden("on_fit_end", Listener())


def test_the_parent_of_other_objects_has_to_be_given():
    with pytest.raises(ValueError, match="parent="):
        is_overridden("hook", Child())
