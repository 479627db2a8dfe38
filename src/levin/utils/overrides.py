"""Whether a class or an instance overrides a method."""

from __future__ import annotations

import functools
import inspect
from typing import Any

# What users subclass. They live in higher layers, so they are recognised by name.
_PARENTS = {"LightningModule", "LightningDataModule", "Callback"}


def overrides(obj: object, name: str, base: type) -> bool:
    """Whether ``obj`` defines ``name`` itself, on its class or on the instance, or takes ``base``'s."""
    return name in vars(obj) or getattr(type(obj), name, None) is not getattr(base, name, None)


def is_overridden(method_name: str, instance: object | None = None, parent: type | None = None) -> bool:
    """Whether ``instance`` has a ``method_name`` of its own, seen through wrappers, partials and spies.

    Unlike :func:`overrides` this compares the code that would run in the end: a method that is only decorated
    with ``functools.wraps``, made a partial, or watched by a mock with ``wraps=`` still is the parent's.

    Args:
        method_name: The name of the method.
        instance: The object in question. A missing or None method on it is not overridden.
        parent: The class to compare with; found for modules, datamodules and callbacks.

    Raises:
        ValueError: ``parent`` has no such method, or is not given and cannot be found.
    """
    if instance is None:
        return False
    parent = parent or _known_parent(instance)
    method = _innermost(getattr(instance, method_name, None))
    if method is None:
        return False
    original = getattr(parent, method_name, None)
    if original is None:
        raise ValueError(f"`{parent.__name__}` has no method `{method_name}` that could be overridden.")
    return bool(_code(method) != _code(_innermost(original)))


def _known_parent(instance: object) -> type:
    for cls in type(instance).__mro__:
        if cls.__name__ in _PARENTS and cls.__module__.partition(".")[0] == "levin":
            return cls
    raise ValueError(
        f"`{type(instance).__name__}` is no module, datamodule or callback of levin: "
        "say which class to compare with, `is_overridden(name, instance, parent=...)`."
    )


def _innermost(method: Any) -> Any:
    """What a method runs in the end: below partials, `functools.wraps` decorators and mocks."""
    while method is not None:
        if isinstance(method, functools.partial):
            method = method.func
        elif any(cls.__module__ == "unittest.mock" for cls in type(method).__mro__):
            method = getattr(method, "_mock_wraps", None)
        elif hasattr(method, "__wrapped__"):
            method = inspect.unwrap(method)
        else:
            return method
    return None


def _code(method: Any) -> Any:
    return getattr(method, "__code__", method)
