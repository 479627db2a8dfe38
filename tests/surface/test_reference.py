"""Every public name stands in the reference."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "reference").glob("*.md"))
SHOWN = {name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text(), flags=re.MULTILINE)}
PACKAGES = [
    "",
    ".accelerators",
    ".callbacks",
    ".callbacks.progress",
    ".checkpoint",
    ".clusters",
    ".compat",
    ".core",
    ".data",
    ".fabric",
    ".loggers",
    ".precision",
    ".profilers",
    ".strategies",
    ".testing",
    ".trainer",
    ".utilities",
]
NAMES = [
    (f"levin{package}", name)
    for package in PACKAGES
    for name in import_module(f"levin{package}").__all__
    if name != "__version__"
]


def home(package: str, name: str) -> str:
    """Return the full name of what a package takes a public name from, or of what it makes itself."""
    for node in ast.walk(ast.parse(Path(import_module(package).__file__).read_text())):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if (alias.asname or alias.name) == name:
                return f"{node.module}.{alias.name}"
    return f"{package}.{name}"


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_public_name_is_in_the_reference(package, name):
    there = home(package, name)
    assert {package, there, there.rpartition(".")[0]} & SHOWN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_of_the_reference_is_in_the_menu(page):
    assert f"reference/{page.name}" in (DOCS.parent / "mkdocs.yml").read_text()


def test_examples_are_shown_as_code():
    """The section is called "Examples:", however many there are; anything else is shown as prose."""
    source = Path(import_module("levin").__file__).parent
    assert not [
        file for file in source.rglob("*.py") if re.search(r"^ *Example:$", file.read_text(), re.MULTILINE)
    ]
