from __future__ import annotations

import sys
from types import ModuleType

import pytest

from levin.utils.imports import available, require


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("json", True),
        ("json.decoder", True),
        ("json.nothing_like_it", False),
        ("sys.nothing", False),
        ("no_such_package", False),
        ("no_such_package.part", False),
        ("__main__", True),
    ],
)
def test_available_says_whether_a_module_could_be_imported(name, expected):
    assert available(name) is expected


def test_available_imports_nothing(tmp_path, monkeypatch):
    package = tmp_path / "noisy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert available("noisy_package.part")
    assert "noisy_package" not in sys.modules


def test_a_module_that_was_ruled_out_is_not_available(monkeypatch):
    monkeypatch.setitem(sys.modules, "ruled_out", None)
    assert not available("ruled_out")


def test_a_module_made_by_hand_is_available_and_has_no_parts(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    assert available("made_by_hand")
    assert not available("made_by_hand.part")


def test_require_returns_the_module():
    assert require("json.decoder").JSONDecoder is sys.modules["json.decoder"].JSONDecoder


@pytest.mark.parametrize("name", ["no_such_package.part", "no_such_package"])
def test_require_says_what_to_install(name):
    with pytest.raises(ModuleNotFoundError, match=r"pip install no-such-package$") as caught:
        require(name)
    assert caught.value.name == "no_such_package"


def test_require_names_the_distribution_where_it_differs(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ModuleNotFoundError, match="pip install PyYAML"):
        require("yaml")


def test_a_broken_package_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import its_missing_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_missing_dependency") as caught:
        require("broken_package")
    assert "pip" not in str(caught.value)
