"""Programs for earlier versions explain themselves: a former name works as it did, or names its successor."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

import levin as L
from levin.utils import former
from levin.utils.errors import LevinDeprecationWarning

# ---------------------------------------------------------------------- modules and names in them


@pytest.mark.parametrize("place", former.MODULES)
def test_the_import_of_a_former_module_says_what_to_import(place):
    package, _, name = f"levin.{place}".rpartition(".")
    for line in (f"import levin.{place}", f"import levin.{place}.part", f"from {package} import {name}"):
        with pytest.raises(ModuleNotFoundError) as raised:
            exec(line, {})
        assert str(raised.value) == f"There is no `levin.{place}`. {former.MODULES[place]}"


@pytest.mark.parametrize("place", former.NAMES)
def test_the_import_of_a_former_name_says_what_to_use(place):
    module, _, name = f"levin.{place}".rpartition(".")
    with pytest.raises(ImportError) as raised:
        exec(f"from {module} import {name}", {})
    assert str(raised.value) == f"There is no `levin.{place}`. {former.NAMES[place]}"


@pytest.mark.parametrize("place", [*former.NAMES, *former.MODULES])
def test_a_former_name_is_no_attribute_and_says_what_to_use(place):
    module, _, name = f"levin.{place}".rpartition(".")
    owner = importlib.import_module(module)
    assert not hasattr(owner, name)
    if hasattr(owner, "__getattr__"):  # all but those with nothing public
        with pytest.raises(AttributeError, match=f"There is no `levin.{place}`"):
            getattr(owner, name)


@pytest.mark.parametrize(("place", "home"), former.ALIASES.items())
def test_a_name_that_changed_and_nothing_else_still_works(place, home):
    module, _, name = f"levin.{place}".rpartition(".")
    with pytest.warns(LevinDeprecationWarning, match=f"`levin.{place}` has become `{module}.") as warned:
        found = getattr(importlib.import_module(module), name)
    assert [warning.filename for warning in warned] == [__file__]
    home, _, there = home.partition(":")
    assert found is getattr(importlib.import_module(home), there)
    assert getattr(importlib.import_module(module), there) is found  # public under its new name


def test_what_was_never_there_is_told_as_always():
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        exec("from levin.callbacks import Nonsense", {})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'levin.nonsense'"):
        exec("import levin.nonsense", {})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'metrics'"):
        exec("import metrics", {})


def sentences():
    """Every sentence that names a successor."""
    return [*former.NAMES.values(), *former.MODULES.values(), *former.ENVIRONMENT.values()]


def test_what_is_to_be_imported_instead_can_be():
    lines = {
        line for text in sentences() for line in re.findall(r"`(from levin[\w.]* import \w[\w, ]*)`", text)
    }
    assert len(lines) >= 10
    for line in sorted(lines):
        exec(line, {})


@pytest.mark.parametrize(
    ("place", "name"),
    [("levin.callbacks", "DeviceStatsMonitor"), ("levin.cli", "LightningCLI"), ("levin", "Fabric"),
     ("levin", "tuner"), ("levin", "fabric")],
)  # fmt: skip
def test_what_this_version_is_said_not_to_have_it_does_not_have(place, name):
    assert not hasattr(importlib.import_module(place), name), "change the sentences in levin/utils/former.py"


def test_imports_are_explained_once_however_often_levin_is_loaded():
    assert sys.meta_path.count(former.FormerNames) == 1
    former.install()
    assert sys.meta_path.count(former.FormerNames) == 1
    assert L.__name__ == "levin"


def test_a_script_sees_the_explanation_as_its_last_line():
    run = subprocess.run(
        [sys.executable, "-c", "from levin.metrics.functional import accuracy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stderr.splitlines()[-1].startswith("ModuleNotFoundError: There is no `levin.metrics`. Metrics")
