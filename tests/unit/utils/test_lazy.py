from __future__ import annotations

import importlib
import sys

import pytest

from levin.utils.lazy import load_on_use

PACKAGE = """
from levin.utils.lazy import load_on_use
__all__ = ["pi", "circle"]
load_on_use(__name__, {"pi": "shapes.round", "circle": "shapes.round:disc"})
"""


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A package whose names live in its sub-module `round`."""
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/__init__.py").write_text(PACKAGE)
    (tmp_path / "shapes/round.py").write_text("pi, disc = 3.14, object()\n")
    (tmp_path / "shapes/angular.py").write_text("corners = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("shapes")
    for name in [name for name in sys.modules if name.split(".")[0] == "shapes"]:
        del sys.modules[name]


def test_a_name_is_loaded_when_it_is_asked_for_and_stays(shapes):
    assert "shapes.round" not in sys.modules
    assert shapes.pi == 3.14
    assert vars(shapes)["pi"] == 3.14


def test_a_name_may_be_another_where_it_lives(shapes):
    assert shapes.circle is importlib.import_module("shapes.round").disc


def test_sub_modules_are_attributes_without_an_import(shapes):
    assert shapes.angular.corners == 4


def test_dir_shows_what_is_there_and_what_would_be_loaded(shapes):
    assert {"pi", "circle", "__all__"} <= set(dir(shapes))
    assert "shapes.round" not in sys.modules


@pytest.mark.parametrize("name", ["pie", "_round", "__path_hooks__"])
def test_an_unknown_name_is_told_with_the_known_ones(shapes, name):
    with pytest.raises(AttributeError, match=f"'shapes' has no attribute '{name}'.*: pi, circle"):
        getattr(shapes, name)


def test_a_module_that_is_no_package_has_no_sub_modules(shapes):
    names = vars(importlib.import_module("shapes.round"))
    names["__all__"] = []
    load_on_use("shapes.round", {})
    with pytest.raises(AttributeError, match=r"'shapes\.round' has no attribute 'angular'"):
        shapes.round.angular  # noqa: B018  (looking it up is the test)
