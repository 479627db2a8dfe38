from __future__ import annotations

import ast
from pathlib import Path

import pytest

import levin.callbacks


@pytest.mark.parametrize("name", levin.callbacks.__all__)
def test_a_public_name_is_there_and_says_where_it_lives(name):
    cls = getattr(levin.callbacks, name)
    home = levin.callbacks._HOMES[name]
    assert cls.__name__ == name
    assert cls.__module__ == home or cls.__module__.startswith(f"{home}.")


def test_the_names_for_type_checkers_are_the_names_loaded_on_use():
    tree = ast.parse(Path(levin.callbacks.__file__).read_text())
    block = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == levin.callbacks._HOMES
    assert (
        sorted(told)
        == levin.callbacks.__all__
        == sorted(set(levin.callbacks.__all__) & set(dir(levin.callbacks)))
    )


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'ModelCheckpiont'.*ModelCheckpoint"):
        levin.callbacks.ModelCheckpiont  # noqa: B018
