"""What may be in a checkpoint: values that `torch.load(weights_only=True)` reads back, and nothing else.

`pack` makes any value plain, and says beside it, in marks, what was something else; `unpack` turns it back.
"""

from __future__ import annotations

import contextlib
import copy
from argparse import Namespace
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence
from dataclasses import is_dataclass
from enum import Enum
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from levin.checkpoint import OWN_KEY
from levin.checkpoint.forms import Mark, made, taken
from levin.checkpoint.recipes import RECIPES, Home, NotRestorableError, Recipe, follow, recipe_of

_ATOMS = frozenset(
    {
        str, int, float, bool, type(None), complex,
        torch.dtype, torch.device, torch.Size, torch.layout, torch.qscheme,
    }
)  # fmt: skip
_BYTES = frozenset({bytes, bytearray})  # safe loading does not take empty ones
_TENSORS = frozenset({Tensor, nn.Parameter})
_MAPPINGS = frozenset({dict, OrderedDict, Counter})
_SERIES = (list, tuple, set)
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)

# Subclasses of these are stored as what they are at heart, enumerations of strings and numbers among them.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (complex, complex),
    (bytes, bytes),
    (PurePath, str),
)

_HINTS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (_UNINITIALIZED, "it after a first batch has given it its shape"),
    (nn.Module, "its `state_dict()`, or leave it out: `save_hyperparameters(ignore=[...])`"),
    (Enum, "its `.value`"),
    (deque, "a list of it"),
)

LEFT_OUT: Any = type("LeftOut", (), {"__repr__": lambda _: "<left out>"})()
"""The content of what has no plain form: it is not in the file, and its mark tells how it is made again."""


class NotPlainError(TypeError):
    """A value has no plain form.

    Args:
        value: The value.
        path: Where it is.
        message: What is said about it.
    """

    def __init__(self, value: Any, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.kind: str = type_name(value)


def plain(value: Any, path: str = "checkpoint") -> Any:
    """``value`` in a form that can be read back with ``torch.load(weights_only=True)``; see `pack`."""
    return pack(value, path)[0]


def pack(value: Any, path: str = "checkpoint", home: Home | None = None) -> tuple[Any, Mark]:
    """``value`` in a form that can be read back with ``torch.load(weights_only=True)``, and what it was.

    What is plain already is returned as it is, the very same object; tensors are never copied. Other objects
    become plain values that can be used as they are: a path is a string, a data class a dict, an array a
    tensor over the same memory. Attributes that Python code gave a tensor are left out.

    Args:
        value: Anything.
        path: How ``value`` is called in errors.
        home: Whose value it is. Only with one may classes, functions and modules be in it: they are named in
            the marks, and are not in the plain form (in a list None stands in their place, and the whole is
            `LEFT_OUT` if there is nothing else).

    Returns:
        The plain form, and the marks with which `unpack` makes the value of it; none where they are the same.

    Raises:
        NotPlainError: Something in it can't be read back; the text names it as ``path.key.key`` and says what
            to store instead.
    """
    try:
        return _Packer(home).pack(value, path)
    except RecursionError:
        message = f"{path} is nested too deeply to be written, or contains itself."
        raise NotPlainError(value, path, message) from None


class _Packer:
    """Makes values plain, and collects their marks."""

    def __init__(self, home: Home | None) -> None:
        self._home = home

    def pack(self, value: Any, path: str) -> tuple[Any, Mark]:
        kind = type(value)
        if kind in _ATOMS or (kind in _BYTES and value):
            return value, {}
        if kind in _TENSORS:
            return (value.detach() if vars(value) else value), {}
        if kind in _MAPPINGS:
            return self._pack_mapping(value, kind, path)
        if kind in _SERIES:
            return self._pack_series(value, kind, path)
        return self._pack_object(value, path)

    def _pack_mapping(self, value: Mapping[Any, Any], kind: type, path: str) -> tuple[Any, Mark]:
        is_changed = type(value) is not kind
        items: dict[Any, Any] = {}
        keys, inside = [], {}
        for key, item in value.items():
            plain_key, key_mark = (key, {}) if type(key) in _ATOMS else self.pack(key, f"{path}, key {key!r}")
            content, mark = (item, {}) if type(item) in _ATOMS else self.pack(item, f"{path}.{key}")
            if not _can_be_added(plain_key, items):
                pairs, marks = self._pack_series(list(value.items()), list, path)
                return pairs, {**marks, "is": kind.__name__}
            is_changed = is_changed or plain_key is not key or content is not item
            if key_mark:
                keys.append([plain_key, key_mark])
            if mark:
                inside[plain_key] = mark
            items[plain_key] = content
        # a module's state dict carries the versions of its modules as an attribute
        attributes = vars(value) if kind is OrderedDict else {}
        plain_attributes = self.pack(attributes, path)[0] if attributes else attributes
        kept = {key: item for key, item in items.items() if item is not LEFT_OUT}
        order = list(items) if 0 < len(kept) < len(items) else []
        marks = {name: found for name, found in (("keys", keys), ("in", inside), ("order", order)) if found}
        if not is_changed and plain_attributes is attributes:
            return value, marks
        rebuilt = kind(kept)
        if plain_attributes:
            vars(rebuilt).update(plain_attributes)
        return rebuilt, marks

    def _pack_series(self, value: Iterable[Any], kind: type, path: str) -> tuple[Any, Mark]:
        items, inside = [], {}
        is_changed = type(value) is not kind
        for index, item in enumerate(value):
            content, mark = (item, {}) if type(item) in _ATOMS else self.pack(item, f"{path}.{index}")
            is_changed = is_changed or content is not item
            if mark:
                inside[index] = mark
            items.append(None if content is LEFT_OUT else content)
        marks = {"in": inside} if inside else {}
        if kind is set and inside:  # a set has no places that marks could name
            return items, {"is": "set", **marks}
        return (kind(items) if is_changed else value), marks

    def _pack_object(self, value: Any, path: str) -> tuple[Any, Mark]:
        if type(value) in torch.serialization.get_safe_globals():  # allowed by whoever wrote the class
            return value, {}
        found = taken(value)
        if found is not None:
            content, own = found
            content, mark = self.pack(content, path)
            return content, {**mark, **own}
        recipe = None if self._home is None else recipe_of(value, self._home)
        if recipe is not None:
            return LEFT_OUT, self._pack_recipe(recipe, path)
        return self._pack_heart(value, path)

    def _pack_recipe(self, recipe: Recipe, path: str) -> Mark:
        mark: Mark = {"is": recipe.kind, "of": recipe.of}
        if recipe.args or recipe.kwargs:
            mark["with"], marks = self.pack([list(recipe.args), dict(recipe.kwargs)], path)
            if marks:
                mark["marks"] = marks
        return mark

    def _pack_heart(self, value: Any, path: str) -> tuple[Any, Mark]:
        """The plain value that an object of an unknown class is at heart."""
        for base, convert in _BASES:
            if isinstance(value, base):
                return self.pack(convert(value), path)
        if isinstance(value, (Namespace, SimpleNamespace)):
            value = vars(value)
        if isinstance(value, Mapping):
            return self._pack_mapping(value, dict, path)
        for base in (tuple, set, MutableSequence):
            if isinstance(value, base) and not isinstance(value, deque):
                return self._pack_series(value, list if base is MutableSequence else base, path)
        if isinstance(value, Tensor) and not isinstance(value, _UNINITIALIZED):
            with contextlib.suppress(RuntimeError, TypeError):
                return value.as_subclass(Tensor), {}
        raise NotPlainError(value, path, _refusal(value, path))


def _can_be_added(key: Any, items: dict[Any, Any]) -> bool:
    """Whether a plain form is a key, and another one than those that are there."""
    try:
        return key is not LEFT_OUT and key not in items
    except TypeError:  # it can't be a key
        return False


def unpack(content: Any, mark: Mark, home: Home | None = None, path: str = "checkpoint") -> Any:
    """The value of which `pack` made ``content`` and ``mark``; ``content`` is not changed.

    Args:
        content: The plain form, or `LEFT_OUT`.
        mark: Its marks. What they tell of and is not in ``content`` any more is passed over.
        home: Whose value it is; see `pack`.
        path: How the value is called in errors.

    Raises:
        NotRestorableError: Something can't be made here, or a file must not have it made. The text says what
            and why.
    """
    home = Home() if home is None else home
    if isinstance(content, dict) and ("keys" in mark or "in" in mark):
        content = _with_items(content, mark, home, path)
    elif isinstance(content, (list, tuple)) and "in" in mark:
        inside = mark["in"]
        content = type(content)(
            unpack(item, inside[index], home, f"{path}.{index}") if index in inside else item
            for index, item in enumerate(content)
        )
    if "is" not in mark:
        return content
    try:
        if mark["is"] in RECIPES:
            args, kwargs = unpack(mark.get("with", [[], {}]), mark.get("marks", {}), home, path)
            return follow(Recipe(mark["is"], mark["of"], tuple(args), kwargs), home)
        return made(content, mark, home)
    except NotRestorableError as error:
        if error.place is not None:
            raise
        raise NotRestorableError(error.reason, path) from error


def as_file(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """``checkpoint`` as it is written: plain, with the marks under ``checkpoint["levin"]["objects"]``.

    Raises:
        NotPlainError: Something in it can't be read back; the text names it.
    """
    content, marks = pack(checkpoint)
    if not marks:
        return content  # type: ignore[no-any-return]
    return {**content, OWN_KEY: {**content.get(OWN_KEY, {}), "objects": marks}}


def as_written(
    content: dict[str, Any], *, is_trusted: bool = False, besides: Collection[str] = ()
) -> dict[str, Any]:
    """The checkpoint of which `as_file` made ``content``.

    Args:
        content: What was read.
        is_trusted: Whether the file may have modules imported and functions named as it likes.
        besides: The keys of what is not needed, and stays plain.

    Raises:
        NotRestorableError: Something in it can't be made here; the text says what to do.
    """
    marks = (content.get(OWN_KEY) or {}).get("objects")
    if not marks:
        return content
    inside = {key: mark for key, mark in marks.get("in", {}).items() if key not in besides}
    return unpack(content, {**marks, "in": inside}, Home(is_trusted=is_trusted))  # type: ignore[no-any-return]


def _with_items(content: dict[Any, Any], mark: Mark, home: Home, path: str) -> dict[Any, Any]:
    names, inside = dict(mark.get("keys", ())), mark.get("in", {})
    rebuilt = copy.copy(content)
    rebuilt.clear()
    for key in in_order(content, mark):
        item = unpack(content.get(key, LEFT_OUT), inside.get(key, {}), home, f"{path}.{key}")
        rebuilt[unpack(key, names.get(key, {}), home, path)] = item
    return rebuilt


def in_order(content: Mapping[Any, Any], mark: Mark) -> list[Any]:
    """The keys of a packed mapping and of what its marks make again, in the order that they had."""
    order = dict.fromkeys([*mark.get("order", ()), *content, *mark.get("in", ())])
    return [key for key in order if key in content or mark["in"].get(key, {}).get("is") in RECIPES]


def _refusal(value: Any, path: str) -> str:
    instead = next((hint for kinds, hint in _HINTS if isinstance(value, kinds)), "")
    if not instead and is_dataclass(value):
        instead = "`dataclasses.asdict(...)` of it, or define the class at the top of its module,"
    if not instead and callable(value):
        instead = "its import path as a string"
    return (
        f"{path} is a {type_name(value)}, and a checkpoint with it could not be read back safely "
        f"(weights_only=True). Store {instead or 'numbers, strings, tensors or dicts of them'} instead."
    )


def type_name(value: Any) -> str:
    """The name of the class of ``value``, with its module's unless it is built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
