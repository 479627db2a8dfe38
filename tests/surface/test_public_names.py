from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import levin

LAZY = [
    "levin",
    "levin.callbacks",
    "levin.callbacks.progress",
    "levin.checkpoint",
    "levin.core",
    "levin.fabric",
    "levin.loggers",
    "levin.profilers",
    "levin.trainer",
]
PUBLIC = [(package, name) for package in LAZY for name in importlib.import_module(package).__all__]


def names_under_type_checking(package: str) -> set[str]:
    tree = ast.parse(Path(importlib.import_module(package).__file__).read_text())
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in imports for alias in node.names}


@pytest.mark.parametrize("package", LAZY)
def test_what_is_loaded_on_use_is_known_to_type_checkers(package):
    homes = importlib.import_module(package)._HOMES
    assert {f"{home}.{name}" for name, home in homes.items()} <= names_under_type_checking(package)


@pytest.mark.parametrize("package", LAZY)
def test_what_is_loaded_on_use_is_public(package):
    module = importlib.import_module(package)
    assert set(module._HOMES) <= set(module.__all__) <= set(dir(module))


def test_the_first_page_of_names_is_this_short():
    assert levin.__all__ == sorted([*levin._HOMES, "__version__"])
    names = {name for name in names_under_type_checking("levin") if name.count(".") > 1}  # no sub-packages
    assert names == {f"{home}.{name}" for name, home in levin._HOMES.items()}


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=lambda value: value)
def test_a_public_name_is_there(package, name):
    assert getattr(importlib.import_module(package), name) is not None


@pytest.mark.parametrize(
    "package", ["callbacks", "clusters", "core", "loggers", "strategies", "trainer", "utils"]
)
def test_a_sub_package_is_an_attribute(package):
    assert getattr(levin, package).__name__ == f"levin.{package}"


@pytest.mark.parametrize("package", LAZY)
def test_an_unknown_name_is_told_with_the_known_ones(package):
    with pytest.raises(AttributeError, match=r"no attribute 'Trianer'.*Its public names: \w+"):
        importlib.import_module(package).Trianer  # noqa: B018  (looking it up is the test)
