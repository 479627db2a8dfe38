from __future__ import annotations

import ast
from pathlib import Path

import pytest

import levin

TREE = ast.parse(Path(levin.__file__).read_text())


def names_under_type_checking() -> set[str]:
    block = next(
        node for node in TREE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {f"{node.module}.{alias.name}" for node in block.body for alias in node.names}


def test_the_names_for_type_checkers_are_the_names_loaded_on_use():
    assert names_under_type_checking() == {f"{home}.{name}" for name, home in levin._HOMES.items()}


def test_all_lists_every_lazy_name_and_the_version():
    assert sorted(levin.__all__) == sorted([*levin._HOMES, "__version__"])


@pytest.mark.parametrize("name", levin.__all__)
def test_a_public_name_is_there(name):
    assert getattr(levin, name) is not None


@pytest.mark.parametrize("name", [name for name in levin._HOMES if name[0].isupper()])
def test_a_public_class_says_where_it_lives(name):
    assert getattr(levin, name).__module__ == levin._HOMES[name]


def test_dir_lists_names_that_are_not_loaded_yet():
    assert set(levin.__all__) <= set(dir(levin))


@pytest.mark.parametrize("package", ["callbacks", "core", "loggers", "strategies", "trainer", "utils"])
def test_a_sub_package_is_an_attribute(package):
    assert getattr(levin, package).__name__ == f"levin.{package}"


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Trianer'.*Trainer"):
        levin.Trianer  # noqa: B018  (looking it up is the test)
