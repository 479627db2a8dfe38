"""Optional dependencies: is it there, and a clear error where it is not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from typing import Any

# Modules whose distribution goes by another name.
_DISTRIBUTIONS = {"yaml": "PyYAML", "sklearn": "scikit-learn", "PIL": "pillow", "comet_ml": "comet-ml"}


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


def require(name: str, *, extra: str) -> Any:
    """Import and return the module ``name``, which is needed now.

    Args:
        name: The module, dotted if need be.
        extra: The extra of levin that installs it, or an empty text for a package installed by its own name.

    Raises:
        ModuleNotFoundError: It is not installed; the text says what to install. If it is installed but one of
            its own dependencies is missing, the original error is raised, as the extra would not help.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        wanted = f'"levin[{extra}]"' if extra else _DISTRIBUTIONS.get(top, top)
        raise ModuleNotFoundError(
            f"The package `{top}` is needed for this but is not installed. Install it: pip install {wanted}",
            name=error.name,
        ) from None
