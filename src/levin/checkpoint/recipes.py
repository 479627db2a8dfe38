"""Recipes: classes, functions and modules as the import path and the arguments that they come from.

A file must not choose what code runs. What it may name is what the program has imported already, and of that
only what can do no harm whatever it is called with: see `Home.allows`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

if TYPE_CHECKING:
    from collections.abc import Iterable


class NotRestorableError(TypeError):
    """A file names an object that this program can't, or must not, make.

    Args:
        reason: Why.
        place: Where in the file it is.
    """

    def __init__(self, reason: str, place: str | None = None) -> None:
        super().__init__(reason if place is None else f"{place}: {reason}.")
        self.reason = reason
        self.place = place


_HARMLESS_BASES = (nn.Module, Optimizer, LRScheduler, ReduceLROnPlateau, Distribution, Enum)
_HARMLESS_CLASSES = frozenset(
    {bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, OrderedDict, Tensor}
)
# Functions without a module of their own are looked for here, the nearest to users first.
_HARMLESS_MODULES = ("torch.nn.functional", "torch.nn.init", "torch", "torch.special", "math")
_WRITES_FILES = "from_file"


@dataclass(frozen=True)
class Home:
    """To whom values belong, which decides what may be named in them.

    Attributes:
        modules: The names of the modules that define the owner's class and its bases.
        held: The ids of the modules whose weights the checkpoint holds in any case.
        is_trusted: Whether a file may name, and import, anything.
    """

    modules: tuple[str, ...] = ()
    held: frozenset[int] = frozenset()
    is_trusted: bool = False

    @classmethod
    def of(cls, owner: type | object, *, is_trusted: bool = False) -> Home:
        """The home of what belongs to an object, or to objects of a class."""
        kind = owner if isinstance(owner, type) else type(owner)
        names = [
            base.__module__ for base in kind.__mro__ if base.__module__.partition(".")[0] not in _FOREIGN
        ]
        held = owner.modules() if isinstance(owner, nn.Module) else ()
        return cls(tuple(dict.fromkeys(names)), frozenset(map(id, held)), is_trusted)

    def allows(self, obj: Any) -> bool:
        """Whether a file may name ``obj``.

        It may name classes of torch's kinds and enumerations; functions on tensors and numbers; and whatever
        the owner's own package defines.
        """
        if self.is_trusted or self.defines(obj):
            return True
        if isinstance(obj, type):
            return obj in _HARMLESS_CLASSES or issubclass(obj, _HARMLESS_BASES)
        if _is_ufunc(obj):
            return True
        return _harmless_place(obj) is not None

    def defines(self, obj: Any) -> bool:
        """Whether ``obj`` is defined in the owner's own package."""
        module = getattr(obj, "__module__", None) or ""
        package = module.partition(".")[0]
        return any(name.partition(".")[0] == package for name in self.modules)


# Packages of which users' classes have bases, too, without being a part of them.
_FOREIGN = frozenset(
    {"torch", "levin", "lightning", "pytorch_lightning", "builtins", "abc", "typing", "numpy"}
)


class Recipe(NamedTuple):
    """How an object is made.

    Attributes:
        kind: "name": it is what is found there; "call": the result of calling that; "partial": a
            `functools.partial` of it.
        of: The import path, as ``"package.module:Name"``.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    kind: str
    of: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012  # never changed


RECIPES = frozenset({"name", "call", "partial"})
"""The kinds of recipes."""


def recipe_of(value: Any, home: Home) -> Recipe | None:
    """How ``value`` can be made again, or None if there is no telling."""
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)) or _is_ufunc(value):
        path = path_of(value)
        return Recipe("name", path) if path is not None and home.allows(value) else None
    if type(value) is functools.partial:
        inner = recipe_of(value.func, home)
        if inner is None or inner.kind != "name":
            return None
        return Recipe("partial", inner.of, value.args, value.keywords)
    return _recipe_of_module(value, home) if isinstance(value, nn.Module) else None


def follow(recipe: Recipe, home: Home) -> Any:
    """Make what ``recipe`` tells.

    Raises:
        NotRestorableError: It is not there, or must not be named by a file.
    """
    found = find(recipe.of, home)
    is_callable_once = recipe.kind == "call" and isinstance(found, type) and issubclass(found, nn.Module)
    if recipe.kind == "call" and not (is_callable_once and (home.is_trusted or _may_be_built(found, home))):
        raise NotRestorableError(f"{recipe.of} is no module that a file may have built")
    if not home.allows(found):
        raise NotRestorableError(
            f"{recipe.of} is neither of torch nor of the package that is loaded, and a file that is not "
            "trusted must not choose it"
        )
    if recipe.kind == "name":
        return found
    if recipe.kind == "partial":
        return functools.partial(found, *recipe.args, **recipe.kwargs)
    try:
        return found(*recipe.args, **recipe.kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotRestorableError(f"{recipe.of} could not be built: {error}") from error


def path_of(obj: Any) -> str | None:
    """The path at which ``obj`` can be found, as ``"package.module:Name"``; None if there is none."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and _at(sys.modules.get(module), name) is obj:
        return f"{module}:{name}"
    if _is_ufunc(obj):
        return f"numpy:{obj.__name__}" if _at(sys.modules.get("numpy"), obj.__name__) is obj else None
    place = _harmless_place(obj)
    return None if place is None else f"{place}:{obj.__name__}"


def find(path: str, home: Home) -> Any:
    """What is at ``path``, among what the program has imported, and without running anything.

    A class of the program's main file is looked for in the owner's modules, too: the file that is the main
    one when a model is trained is imported when the model is used.

    Raises:
        NotRestorableError: There is no such thing.
    """
    module, _, name = path.partition(":")
    if home.is_trusted and module not in sys.modules:
        try:
            import_module(module)
        except ImportError as error:
            raise NotRestorableError(f"{module} can't be imported: {error}") from error
    places = [module]
    if module not in sys.modules or "__main__" in (module, *home.modules):
        places += home.modules
    for place in places:
        found = _at(sys.modules.get(place), name)
        if found is not None:
            return found
    if module in sys.modules:
        raise NotRestorableError(f"the module {module} has no {name} any more")
    raise NotRestorableError(f"{module}, which defines {name}, is not imported: import it before")


def _at(place: Any, name: str) -> Any:
    """What is called ``name`` in a module, looked up so that no module's or class's own code runs."""
    for part in name.split("."):
        if not isinstance(place, (ModuleType, type)):
            return None
        place = vars(place).get(part)
    return place


def _is_ufunc(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, numpy.ufunc)


def _harmless_place(obj: Any) -> str | None:
    """The module of functions on tensors and numbers in which ``obj`` is found."""
    if not isinstance(obj, (FunctionType, BuiltinFunctionType)) or obj.__name__ == _WRITES_FILES:
        return None
    name = obj.__name__
    for place in _HARMLESS_MODULES:
        if _at(sys.modules.get(place), name) is obj and (place != "torch" or _is_operation(obj)):
            return place
    return None


def _is_operation(obj: Any) -> bool:
    """Whether a function of torch's top level is an operation on tensors."""
    return isinstance(obj, BuiltinFunctionType) and obj.__qualname__.startswith("_VariableFunctions")


# ---------------------------------------------------------------------------------------- modules


def _may_be_built(cls: type, home: Home) -> bool:
    return _is_torchs(cls) or home.defines(cls)


def _is_torchs(cls: type) -> bool:
    return cls.__module__.startswith("torch.nn.modules.")


def _recipe_of_module(module: nn.Module, home: Home) -> Recipe | None:
    """The call that makes ``module`` but for its weights, if it can be read off and its weights are kept."""
    cls = type(module)
    path = path_of(cls)
    has_weights = any(True for _ in _states(module))
    is_kept = not has_weights or id(module) in home.held
    if path is None or not is_kept or not _may_be_built(cls, home):
        return None
    if cls in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        return _recipe_of_container(module, path)
    kwargs = _arguments_of(module)
    return None if kwargs is None else Recipe("call", path, (), kwargs)


def _recipe_of_container(module: nn.Module, path: str) -> Recipe:
    children = OrderedDict(module.named_children())
    are_numbered = list(children) == [str(index) for index in range(len(children))]
    if isinstance(module, nn.ModuleList):
        return Recipe("call", path, (list(children.values()),))
    if isinstance(module, nn.Sequential) and are_numbered:
        return Recipe("call", path, tuple(children.values()))
    return Recipe("call", path, (children,))


def _arguments_of(module: nn.Module) -> dict[str, Any] | None:
    """The arguments of the call that gives such a module, or None.

    Torch's modules keep them as attributes of the same names; a call with these is tried. What the attributes
    of users' modules mean nobody knows: they are taken only if they have no arguments at all.
    """
    parameters = inspect.signature(type(module)).parameters.values()
    if not _is_torchs(type(module)):
        has_none = not parameters or type(module).__init__ is nn.Module.__init__
        return {} if has_none else None
    kwargs: dict[str, Any] = {}
    for parameter in parameters:
        if hasattr(module, parameter.name):
            value = getattr(module, parameter.name)
            is_switch = parameter.name == "bias" and (value is None or isinstance(value, nn.Parameter))
            kwargs[parameter.name] = value is not None if is_switch else value
    return kwargs if _is_built_alike(module, kwargs) else None


def _is_built_alike(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether a call with ``kwargs`` gives such a module; nothing is computed for it, nor drawn."""
    try:
        with torch.device("meta"):
            other = type(module)(**kwargs)
    except Exception:  # whatever it objects to, it is not the call
        return False
    return _looks(module) == _looks(other)


def _looks(module: nn.Module) -> dict[str, Any]:
    """What two modules that were built in the same way have in common."""
    plain = (bool, int, float, str, tuple, type(None), FunctionType, BuiltinFunctionType)
    looks: dict[str, Any] = {
        name: value for name, value in vars(module).items() if type(value) in plain and name != "training"
    }
    looks |= {
        name: (type(value), value.shape, value.dtype, value.requires_grad) for name, value in _states(module)
    }
    return looks | {f"{name}.": _looks(child) for name, child in module.named_children()}


def _states(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
