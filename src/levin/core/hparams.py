"""save_hyperparameters: what an object was built with, for itself, for logs and for checkpoints."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from levin.checkpoint.forms import is_omegaconf, taken
from levin.checkpoint.plain import LEFT_OUT, NotPlainError, in_order, pack, type_name, unpack
from levin.checkpoint.recipes import Home, NotRestorableError
from levin.utils.rank import rank_zero_warn
from levin.utils.types import AttributeDict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from levin.checkpoint.forms import Mark

# What `hparams_name` says when the entries are the arguments, rather than the content of one of them.
ARGUMENTS = "kwargs"

# Entries that tell how to build an object; they are no settings.
BUILD_KEYS = frozenset({"_class_path", "_instantiator"})


class HyperparametersMixin:
    """Adds `save_hyperparameters` and `hparams` to a class.

    Attributes:
        logs_hyperparameters: Whether the hyper-parameters go to the loggers when a run starts.
        big_hparams_are_told: Whether it was said that they make checkpoints big.
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
    big_hparams_are_told: bool = False

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

        Values are made plain, and marks beside them tell what they were. What has neither a plain form nor an
        import path is left out, with a warning the first time.
        """
        if not self.hparams:
            return {}
        home = Home.of(self)
        values = dict(_entries_in(self.hparams))
        refused = {name: error for name, value in values.items() if (error := _refusal(name, value, home))}
        kept, marks = pack({name: values[name] for name in values if name not in refused}, "hparams", home)
        told = {name: refused[name] for name in refused if not _is_default(type(self), name, values[name])}
        if told:
            inside = {str(name): {"is": MISSING, "type": type_name(values[name])} for name in told}
            marks = {**marks, "in": {**marks.get("in", {}), **inside}}
        self._report(told)
        entries: dict[str, Any] = {self.CHECKPOINT_HYPER_PARAMS_KEY: kept}
        if self._hparams_name is not None:
            entries[self.CHECKPOINT_HYPER_PARAMS_NAME] = self._hparams_name
        marks = {**marks, **_mark_of(self.hparams)}
        if marks:
            entries[_marks_key(self)] = marks
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

    def _report(self, refused: dict[str, NotPlainError]) -> None:
        """Say which entries a checkpoint goes without, each once."""
        new = sorted(refused.keys() - self._hparams_refused)
        if not new:
            return
        self._hparams_refused |= frozenset(new)
        listed = ", ".join(f"`{refused[name].path}` ({refused[name].kind})" for name in new)
        arguments = ", ".join(f"{name}=..." for name in new)
        rank_zero_warn(
            f"Checkpoints of {type(self).__name__} leave out {listed}: only plain values, tensors and what "
            "an import path tells can be loaded safely. To load one, write "
            f"`load_from_checkpoint(path, {arguments})`; to be rid of this warning, "
            f"`save_hyperparameters(ignore={new})`."
        )


def announce(owner: HyperparametersMixin) -> None:
    """Say, before there are any checkpoints, what they will go without and what will make them big.

    Each is said once.
    """
    kept = owner.hyper_parameters_for_checkpoint().get(owner.CHECKPOINT_HYPER_PARAMS_KEY, {})
    found: dict[str, int] = {}
    _weigh(kept, "hparams", found)
    if not found or owner.big_hparams_are_told:
        return
    owner.big_hparams_are_told = True
    listed = ", ".join(f"`{path}` ({size / 1e6:.0f} MB)" for path, size in found.items())
    names = sorted({path.split(".")[1] for path in found if "." in path})
    rank_zero_warn(
        f"Every checkpoint of {type(owner).__name__} will hold {listed}, as hyper-parameters. Data are no "
        f"settings: leave them out with `save_hyperparameters(ignore={names})` and give them to "
        "`load_from_checkpoint` by name, or save where they come from."
    )


_BIG = 10_000_000  # bytes; settings that a person wrote are far from it


def _weigh(value: Any, path: str, found: dict[str, int]) -> int:
    """Put into ``found`` what is big in ``value``, the innermost of it, and return the bytes of the rest."""
    if isinstance(value, Tensor):
        size = value.nbytes
    elif isinstance(value, (str, bytes, bytearray)):
        size = len(value)
    elif isinstance(value, dict):
        size = sum(_weigh(item, f"{path}.{key}", found) for key, item in value.items())
    elif isinstance(value, (list, tuple, set)):
        size = sum(_weigh(item, f"{path}.{index}", found) for index, item in enumerate(value))
    else:
        size = 8
    if size < _BIG:
        return size
    found[path] = size
    return 0


class Restored(NamedTuple):
    """The hyper-parameters in a checkpoint.

    Attributes:
        values: Those that could be made again.
        holder: The name of the one argument whose content they are, or None.
        missing: Name -> why it is not among the values.
    """

    values: Any
    holder: str | None
    missing: dict[str, str]


def restored(
    checkpoint: Mapping[str, Any], owner: type[HyperparametersMixin], *, is_trusted: bool = False
) -> Restored:
    """What ``checkpoint`` holds for ``owner``.

    Args:
        checkpoint: The checkpoint.
        owner: The class whose hyper-parameters they are.
        is_trusted: Whether the file may have modules imported and functions named as it likes.
    """
    values = checkpoint.get(owner.CHECKPOINT_HYPER_PARAMS_KEY, {})
    marks = checkpoint.get(_marks_key(owner)) or {}
    missing: dict[str, str] = {}
    home = Home.of(owner, is_trusted=is_trusted)
    if marks:
        inside, content = marks.get("in", {}), values
        values = {}
        for name in in_order(content, marks):
            try:
                values[name] = unpack(
                    content.get(name, LEFT_OUT), inside.get(name, {}), home, f"hparams.{name}"
                )
            except NotRestorableError as error:  # noqa: PERF203  # the others are made all the same
                missing[name] = error.reason
        missing |= {
            name: f"it was a {mark['type']}, which no checkpoint can hold"
            for name, mark in inside.items()
            if mark.get("is") == MISSING
        }
        whole = {word: mark for word, mark in marks.items() if word != "in"}
        values = unpack(values, whole, home, "hparams")
    name = checkpoint.get(owner.CHECKPOINT_HYPER_PARAMS_NAME)
    return Restored(values, None if name == ARGUMENTS else name, missing)


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
    if is_omegaconf(obj):
        return obj
    if isinstance(obj, Mapping):
        return dict(obj)
    hint = " Pass `vars(...)` of it." if dataclasses.is_dataclass(obj) else ""
    raise ValueError(
        f"save_hyperparameters takes names of arguments, or a dict or Namespace, but got {obj!r}, of type "
        f"{type_name(obj)}.{hint}"
    )


def _advise_against_modules(values: Mapping[str, Any], ignored: set[str]) -> None:
    names = [name for name, value in values.items() if _has_weights(value) and name not in ignored]
    if names:
        rank_zero_warn(
            f"The hyper-parameters {names} are `nn.Module`s. Their weights are in the checkpoint already, "
            f"in the state dict: leave them out with `save_hyperparameters(ignore={names})`."
        )


def _has_weights(value: Any) -> bool:
    return isinstance(value, nn.Module) and bool([*value.parameters(), *value.buffers()])


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


# ------------------------------------------------------------------------------- what checkpoints keep

MISSING = "missing"
"""What the mark of an entry says that is not in the file, and can't be made again."""


def _marks_key(owner: HyperparametersMixin | type[HyperparametersMixin]) -> str:
    return f"{owner.CHECKPOINT_HYPER_PARAMS_TYPE}s"


def _entries_in(hparams: Any) -> Iterable[tuple[Any, Any]]:
    """The entries, those of OmegaConf's containers as they are written."""
    found = taken(hparams) if is_omegaconf(hparams) else None
    return (hparams if found is None else found[0]).items()  # type: ignore[no-any-return]


def _mark_of(hparams: Any) -> Mark:
    """What the hyper-parameters are as a whole; an ordinary dict need not say it."""
    found = taken(hparams) if is_omegaconf(hparams) else None
    return {} if found is None else found[1]


def _refusal(name: Any, value: Any, home: Home) -> NotPlainError | None:
    """Why no checkpoint can hold an entry, or None."""
    try:
        pack(name, f"hparams, key {name!r}")
        pack(value, f"hparams.{name}", home)
    except NotPlainError as error:
        return error
    return None


def _is_default(cls: type, name: str, value: Any) -> bool:
    """Whether ``value`` is what the argument ``name`` is in any case, unless it is given."""
    parameter = inspect.signature(cls).parameters.get(name)
    return parameter is not None and parameter.default is value
