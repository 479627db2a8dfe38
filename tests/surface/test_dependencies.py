"""What the package imports is what pyproject.toml asks for."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import levin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCE = Path(levin.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTION = {
    "yaml": "PyYAML",
    "sklearn": "scikit-learn",
    "torch_tensorrt": "torch-tensorrt",
}  # where it is not called like its package
# Not ours to install: the first holds settings that the user made with it, the second measures on request.
USERS_OWN = {"omegaconf", "psutil"}


def names(requirements: list[str]) -> set[str]:
    return {
        requirement.split(">")[0].split("=")[0].split("[")[0].split(";")[0].strip()
        for requirement in requirements
    }


class WithoutTyping(ast.NodeTransformer):
    """Leaves out what only a type checker imports."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported(tree: ast.AST) -> set[tuple[str, bool]]:
    """Return the distributions of a file, and whether it asks for them with ``require(name)``."""
    found = set()
    for node in ast.walk(WithoutTyping().visit(tree)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, False) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module, False))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
            name = node.args[0]
            if isinstance(name, ast.Constant):
                found.add((name.value, True))
    return {(DISTRIBUTION.get(top, top), asks) for name, asks in found for top in [name.split(".")[0]]}


def third_party() -> set[tuple[str, bool]]:
    files = [ast.parse(file.read_text()) for file in SOURCE.rglob("*.py")]
    known = {"levin", *sys.stdlib_module_names}
    return {(name, asks) for tree in files for name, asks in imported(tree) if name not in known}


def test_what_is_imported_without_asking_is_a_hard_dependency():
    optional = {name for name, asks in third_party() if asks}
    hard = {name for name, asks in third_party() if not asks} - optional
    assert hard <= names(PROJECT["dependencies"]) | USERS_OWN


def test_what_is_asked_for_stands_in_an_extra_or_is_there():
    asked = {name for name, asks in third_party() if asks}
    users = [name for name in EXTRAS if name not in ("all", "test", "dev", "parity", "slow", "docs")]
    assert asked >= {"tensorboard", "safetensors", "scikit-learn"}
    assert asked - USERS_OWN <= set().union(
        names(PROJECT["dependencies"]), *(names(EXTRAS[name]) for name in users)
    )


def test_the_hard_dependencies_are_these_and_no_more():
    assert names(PROJECT["dependencies"]) == {"torch", "numpy", "fsspec", "torchmetrics", "rich", "PyYAML"}


def test_every_pin_of_the_project_itself_is_in_the_constraints():
    constraints = (Path(__file__).parents[2] / "constraints.txt").read_text().lower()
    for name in (
        names(PROJECT["dependencies"]) | names(EXTRAS["demo"]) | {"pytest", "ruff", "mypy", "import-linter"}
    ):
        assert f"\n{name.lower()}==" in constraints, name
