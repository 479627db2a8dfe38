"""save_hyperparameters: what an object was built with, for itself, for logs and for checkpoints."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import operator
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from torch import nn

from levin.checkpoint.plain import plain, type_name
from levin.utils.apply import apply_to_collection
from levin.utils.imports import available, require
from levin.utils.rank import rank_zero_warn
from levin.utils.types import AttributeDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

# What `hparams_name` says when the entries are the arguments, rather than the content of one of them.
ARGUMENTS = "kwargs"

# Entries that tell how to build an object; they are no settings.
BUILD_KEYS = frozenset({"_class_path", "_instantiator"})

_REFUSED = object()


class HyperparametersMixin:
    """Adds `save_hyperparameters` and `hparams` to a class.

    Attributes:
        logs_hyperparameters: Whether the hyper-parameters go to the loggers when a run starts.
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "hparams_type"

    # Defaults of the class, so that saving works before, and without, `super().__init__()`.
    logs_hyperparameters: bool = False
    _hparams: Any = None
    _hparams_initial: Any = None
    _hparams_name: str | None = None
    _hparams_refused: frozenset[str] = frozenset()

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: str | Iterable[str] | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep the arguments of ``__init__`` in `hparams`.

        To be called in ``__init__``. Values are those that the arguments' names have at that moment. The
        arguments of every running ``__init__`` of the object count, so a call in a parent class sees the
        child's, too; where names agree, the child's win. ``**kwargs`` count one by one, ``*args`` not at all.
        Repeated calls add up. Elsewhere no arguments can be seen: an object has to be given.

        Args:
            *args: Nothing for all arguments; names for some of them; or a dict or a Namespace whose entries
                are then the hyper-parameters.
            ignore: Names to leave out, even if a parent class has saved them.
            frame: The frame from which to look for ``__init__``; by default the caller's.
            logger: Whether the loggers get them when a run starts.

        Raises:
            KeyError: There is no argument of such a name.
            ValueError: An object is neither a mapping nor a Namespace.

        Examples:
            >>> class Settings(HyperparametersMixin):
            ...     def __init__(self, width, depth=2, **others):
            ...         self.save_hyperparameters(ignore="depth")
            >>> Settings(3, act="relu").hparams
            "act":   relu
            "width": 3
        """
        frame = frame or sys._getframe(1)  # noqa: SLF001 - a documented function
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        arguments = {name: value for name, value in self._arguments(frame).items() if name not in ignored}
        values, self._hparams_name = _chosen(args, arguments)
        _advise_against_modules(values, ignored)
        if isinstance(values, dict) and isinstance(self.hparams, dict):
            self.hparams.update(values)
        else:
            self._hparams = values
        self._hparams_initial = _copied(self._hparams)
        self.remove_ignored_hparams(ignored)
        self.logs_hyperparameters = logger

    @property
    def hparams(self) -> Any:
        """The hyper-parameters, free to change: an `AttributeDict`, or the OmegaConf container given."""
        if self._hparams is None:
            self._hparams = AttributeDict()
        return self._hparams

    @hparams.setter
    def hparams(self, values: Any) -> None:
        self._hparams = None
        self.save_hyperparameters(values)

    @property
    def hparams_initial(self) -> Any:
        """A copy of the hyper-parameters as they were when they were last saved."""
        return AttributeDict() if self._hparams_initial is None else _copied(self._hparams_initial)

    def remove_ignored_hparams(self, ignore: Iterable[str]) -> None:
        """Forget the hyper-parameters of these names."""
        for values in (self._hparams, self._hparams_initial):
            for name in ignore:
                if values is not None and name in values:
                    del values[name]

    def hyper_parameters_for_checkpoint(self) -> dict[str, Any]:
        """What a checkpoint keeps: entries under the keys ``CHECKPOINT_HYPER_PARAMS_*``, if any are saved.

        Values are made plain. One that can't be is left out, with a warning the first time.
        """
        if not self.hparams:
            return {}
        content = _without_omegaconf(self.hparams)
        values = {name: _plain_or_refused(name, value) for name, value in content.items()}
        refused = {name: content[name] for name, value in values.items() if value is _REFUSED}
        self._report(refused)
        kept = {name: value for name, value in values.items() if name not in refused}
        if _is_omegaconf(self.hparams):
            kinds: list[Any] = [[[], _OMEGACONF]]
        else:
            kinds = list(_kinds({name: self.hparams[name] for name in kept}))
        entries: dict[str, Any] = {self.CHECKPOINT_HYPER_PARAMS_KEY: kept}
        if self._hparams_name is not None:
            entries[self.CHECKPOINT_HYPER_PARAMS_NAME] = self._hparams_name
        if kinds:
            entries[_kinds_key(self)] = plain(kinds)
        return entries

    def _arguments(self, frame: FrameType | None) -> dict[str, Any]:
        """The arguments of the object's running ``__init__``s."""
        given = _given.get()
        if given is not None and given[0] is type(self):
            return dict(given[1])
        arguments: dict[str, Any] = {}
        while frame is not None:
            if frame.f_code.co_name == "__init__":
                arguments.update(_arguments_in(frame, self))
            frame = frame.f_back
        owner: Any = self
        if arguments and dataclasses.is_dataclass(owner):
            names = [field.name for field in dataclasses.fields(owner) if hasattr(self, field.name)]
            arguments.update({name: getattr(self, name) for name in names})
        return arguments

    def _report(self, refused: dict[str, Any]) -> None:
        """Say which entries a checkpoint goes without, each once."""
        new = sorted(refused.keys() - self._hparams_refused)
        if not new:
            return
        self._hparams_refused |= frozenset(new)
        listed = ", ".join(f"`hparams.{name}` ({type_name(refused[name])})" for name in new)
        arguments = ", ".join(f"{name}=..." for name in new)
        rank_zero_warn(
            f"Checkpoints of {type(self).__name__} leave out {listed}: only plain values and tensors can be "
            f"loaded safely. To load one, write `load_from_checkpoint(path, {arguments})`; to be rid of "
            f"this warning, `save_hyperparameters(ignore={new})`."
        )


def restored(checkpoint: Mapping[str, Any], owner: type[HyperparametersMixin]) -> tuple[Any, str | None]:
    """What ``checkpoint`` holds for ``owner``.

    Returns:
        The hyper-parameters, and the name of the one argument whose content they are, or None.
    """
    values = checkpoint.get(owner.CHECKPOINT_HYPER_PARAMS_KEY, {})
    kinds = checkpoint.get(_kinds_key(owner), [])
    if kinds:
        values = copy.deepcopy(values)
    for path, kind in reversed(kinds):  # what is inside comes first
        values = _rebuilt(values, path, _BUILDERS.get(kind, lambda content: content))
    name = checkpoint.get(owner.CHECKPOINT_HYPER_PARAMS_NAME)
    return values, None if name == ARGUMENTS else name


def hyperparameters_to_log(*owners: HyperparametersMixin | None) -> dict[str, Any] | None:
    """The initial hyper-parameters of all ``owners`` that log theirs, in one; None if nobody does.

    Raises:
        RuntimeError: Two of them have different values under one name.
    """
    logging = [owner for owner in owners if owner is not None and owner.logs_hyperparameters]
    merged: dict[str, Any] = {}
    for owner in logging:
        initial = {name: value for name, value in owner.hparams_initial.items() if name not in BUILD_KEYS}
        for name in initial.keys() & merged.keys():
            if _differ(merged[name], initial[name]):
                raise RuntimeError(
                    f"The hyper-parameter {name!r} has different values in "
                    f"{' and '.join(type(each).__name__ for each in logging)}: {merged[name]!r} and "
                    f"{initial[name]!r}. Loggers can take only one: rename it, or in one of the two write "
                    f"`save_hyperparameters(ignore=[{name!r}])` or `save_hyperparameters(logger=False)`."
                )
        merged.update(initial)
    return merged if logging else None


_given: ContextVar[tuple[type, Mapping[str, Any]] | None] = ContextVar("given_hyperparameters", default=None)


@contextmanager
def given_hyperparameters(cls: type, values: Mapping[str, Any]) -> Iterator[None]:
    """In the body, objects of exactly ``cls`` save ``values`` in place of the arguments they are built with.

    For those who build objects from a configuration, which says more than the arguments do.
    """
    token = _given.set((cls, values))
    try:
        yield
    finally:
        _given.reset(token)


def _arguments_in(frame: FrameType, owner: object) -> dict[str, Any]:
    """The arguments of the method of ``owner`` in ``frame``, as they are now; none if it is another's."""
    code, values = frame.f_code, frame.f_locals
    if not code.co_argcount or values.get(code.co_varnames[0]) is not owner:
        return {}
    num_named = code.co_argcount + code.co_kwonlyargcount
    arguments = {name: values[name] for name in code.co_varnames[1:num_named] if name in values}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        has_varargs = bool(code.co_flags & inspect.CO_VARARGS)
        others = values.get(code.co_varnames[num_named + has_varargs])
        arguments.update(others if isinstance(others, Mapping) else {})
    return arguments


def _chosen(args: tuple[Any, ...], arguments: dict[str, Any]) -> tuple[Any, str | None]:
    """What ``save_hyperparameters(*args)`` saves, and the name it goes by."""
    if not args:
        return arguments, ARGUMENTS if arguments else None
    names = [arg for arg in args if isinstance(arg, str)]
    objects = [arg for arg in args if not isinstance(arg, str)]
    if not names and len(objects) == 1:
        holder = next((name for name, value in arguments.items() if value is objects[0]), None)
        return _entries_of(objects[0]), holder
    unknown = [name for name in names if name not in arguments]
    if unknown:
        near = get_close_matches(unknown[0], arguments, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(arguments) or "none (they are seen while `__init__` runs)"
        raise KeyError(
            f"save_hyperparameters: there is no argument {unknown[0]!r}.{hint} Arguments: {known}."
        )
    chosen = {name: arguments[name] for name in names}
    for obj in objects:
        chosen.update(_entries_of(obj))
    return chosen, ARGUMENTS


def _entries_of(obj: Any) -> Any:
    """What is in an object that stands for all hyper-parameters; an OmegaConf container stays what it is."""
    if isinstance(obj, Namespace):
        return dict(vars(obj))
    if _is_omegaconf(obj):
        return obj
    if isinstance(obj, Mapping):
        return dict(obj)
    hint = " Pass `vars(...)` of it." if dataclasses.is_dataclass(obj) else ""
    raise ValueError(
        f"save_hyperparameters takes names of arguments, or a dict or Namespace, but got {obj!r}, of type "
        f"{type_name(obj)}.{hint}"
    )


def _advise_against_modules(values: Mapping[str, Any], ignored: set[str]) -> None:
    names = [name for name, value in values.items() if isinstance(value, nn.Module) and name not in ignored]
    if names:
        rank_zero_warn(
            f"The hyper-parameters {names} are `nn.Module`s. Their weights are in the checkpoint already, "
            f"in the state dict: leave them out with `save_hyperparameters(ignore={names})`."
        )


def _copied(values: Any) -> Any:
    if not isinstance(values, dict):
        return copy.deepcopy(values)
    return AttributeDict((name, _copied_entry(value)) for name, value in values.items())


def _copied_entry(value: Any) -> Any:
    """A deep copy, but for what can't be copied, and for modules, which are big and are no settings."""
    try:
        return value if isinstance(value, nn.Module) else copy.deepcopy(value)
    except Exception:  # whatever a foreign object raises
        return value


def _differ(first: Any, second: Any) -> bool:
    if first is second:
        return False
    if type(first) is not type(second):
        return True
    try:
        return bool(first != second)
    except (RuntimeError, ValueError):  # tensors and arrays don't say it in one word
        return True


# -------------------------------------------------------- types that plain values stand for, to be had back

_OMEGACONF = "OmegaConf"


def _to_omegaconf(content: Any) -> Any:
    return require("omegaconf", extra="").OmegaConf.create(content) if available("omegaconf") else content


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "Namespace": lambda content: Namespace(**content),
    "AttributeDict": AttributeDict,
    "Path": Path,
    _OMEGACONF: _to_omegaconf,
}


def _kinds_key(owner: HyperparametersMixin | type[HyperparametersMixin]) -> str:
    return f"{owner.CHECKPOINT_HYPER_PARAMS_TYPE}s"


def _kinds(value: Any, path: tuple[Any, ...] = ()) -> Iterator[list[Any]]:
    """``[path, name]`` for each part whose type a checkpoint does not keep, the outer before the inner."""
    kind = _kind(value)
    if kind is not None:
        yield [list(path), kind]
    inside = vars(value) if isinstance(value, Namespace) else value
    if isinstance(inside, dict):
        for key, item in inside.items():
            yield from _kinds(item, (*path, key))
    elif isinstance(inside, list):
        for index, item in enumerate(inside):
            yield from _kinds(item, (*path, index))


def _rebuilt(values: Any, path: list[Any], build: Callable[[Any], Any]) -> Any:
    """``values`` with what is at ``path`` built anew; nothing happens if a hook has taken it away."""
    if not path:
        return build(values)
    *above, last = path
    with suppress(LookupError, TypeError):
        parent = functools.reduce(operator.getitem, above, values)
        parent[last] = build(parent[last])
    return values


def _kind(value: Any) -> str | None:
    if isinstance(value, PurePath):
        return "Path"
    if type(value) in (Namespace, AttributeDict):
        return type(value).__name__
    return _OMEGACONF if _is_omegaconf(value) else None


def _is_omegaconf(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "omegaconf"


def _without_omegaconf(value: Any) -> Any:
    """``value`` with dicts and lists for OmegaConf's containers, their interpolations as they are written."""
    omegaconf = sys.modules.get("omegaconf")
    if omegaconf is None:
        return value
    kinds = (omegaconf.DictConfig, omegaconf.ListConfig)
    return apply_to_collection(value, kinds, omegaconf.OmegaConf.to_container, resolve=False)


def _plain_or_refused(name: str, value: Any) -> Any:
    try:
        return plain(value, f"hparams.{name}")
    except TypeError:
        return _REFUSED
