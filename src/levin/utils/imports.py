"""Optional dependencies: is it there, and a clear error where it is not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from typing import Any

# Modules whose distribution goes by another name.
_DISTRIBUTIONS = {"yaml": "PyYAML", "sklearn": "scikit-learn", "PIL": "pillow"}


def available(name: str) -> bool:
    """Whether the module ``name`` could be imported, found out without importing it or its parents."""
    top, *rest = name.split(".")
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module made by hand, without a spec: it has no parts
        return False
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    return spec is not None


def require(name: str) -> Any:
    """Import and return the module ``name``, dotted if need be, which is needed now.

    Raises:
        ModuleNotFoundError: It is not installed; the text says what to install. If it is installed but one of
            its own dependencies is missing, the original error is raised.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        raise ModuleNotFoundError(
            f"The package `{top}` is needed for this but is not installed. Install it: "
            f"pip install {distribution(top)}",
            name=error.name,
        ) from None


def distribution(package: str) -> str:
    """What a package is installed as."""
    return _DISTRIBUTIONS.get(package, package.replace("_", "-"))
