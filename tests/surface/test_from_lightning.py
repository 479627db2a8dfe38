"""What docs/from-lightning.md says of import lines is so: here, and (parity) there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "from-lightning.md").read_text()
ROWS = [
    [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:4]]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
HERE = [(here, name) for _, (here,), names in ROWS for name in names]
THERE = [(there, names) for theirs, _, names in ROWS for there in theirs]


def test_the_table_is_read_whole():
    assert len(ROWS) == PAGE.count("\n| `") >= 40


@pytest.mark.parametrize(("module", "name"), HERE)
def test_a_name_is_where_the_page_says(module, name):
    assert getattr(import_module(module), name) is not None


@pytest.mark.parametrize(
    "package", ["accelerators", "callbacks", "checkpoint", "core", "loggers", "profilers", "trainer"]
)
def test_no_public_name_of_a_package_that_lightning_has_is_left_out(package):
    more = {"DummyLogger", "parse_profiler"}  # `DummyLogger` has a line of its own
    public = set(import_module(f"levin.{package}").__all__) - more
    assert public <= {name for module, name in HERE if module == f"levin.{package}"}


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("module", "names"), THERE)
def test_lightning_has_the_names_there(module, names):
    theirs = import_module(module.replace("…", "lightning.pytorch"))
    assert [name for name in names if not hasattr(theirs, name)] == []
