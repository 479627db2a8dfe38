"""Registry: name -> factory, with entry points."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """What a registry knows under one name.

    Attributes:
        factory: The class or function that makes the object.
        params: The keyword arguments it is called with.
        description: One sentence for listings.
    """

    factory: Callable[..., T]
    params: dict[str, Any] = field(default_factory=dict)
    description: str = ""

    def __call__(self, **overrides: Any) -> T:
        """Make the object; ``overrides`` win over the registered arguments."""
        return self.factory(**{**self.params, **overrides})


class Registry(Generic[T]):
    """Factories by name, open to other packages.

    Args:
        kind: What the factories make, as messages shall call it: ``"strategy"``.
        entry_point_group: A group of entry points, each a factory, added when a name is first looked up. They
            replace no name that is registered already.

    Examples:
        >>> loggers: Registry[object] = Registry("logger")
        >>> @loggers.register("memory", size=10)
        ... class MemoryLogger:
        ...     def __init__(self, size: int) -> None:
        ...         self.size = size
        >>> loggers.make("memory").size
        10
    """

    def __init__(self, kind: str, *, entry_point_group: str | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}
        self._group = entry_point_group

    @overload
    def register(
        self,
        name: str,
        cls: None = None,
        description: str = "",
        *,
        override: bool = False,
        **init_params: Any,
    ) -> Callable[[F], F]: ...

    @overload
    def register(
        self, name: str, cls: F, description: str = "", *, override: bool = False, **init_params: Any
    ) -> F: ...

    def register(
        self,
        name: str,
        cls: F | None = None,
        description: str = "",
        *,
        override: bool = False,
        **init_params: Any,
    ) -> F | Callable[[F], F]:
        """Make ``cls`` known under ``name``; without ``cls`` this is a decorator for it.

        Args:
            name: The name.
            cls: The class, or any other function that makes the object.
            description: One sentence for listings.
            override: Replace what has the name already.
            **init_params: Keyword arguments ``cls`` is called with.

        Returns:
            ``cls``, or the decorator.

        Raises:
            ValueError: The name is taken.
        """

        def add(factory: F) -> F:
            if name in self._entries and not override:
                raise ValueError(
                    f"The {self.kind} {name!r} is registered already: {self._entries[name].factory}. "
                    "Choose another name, or pass override=True to replace it."
                )
            self._entries[name] = Entry(factory, init_params, description)
            return factory

        return add if cls is None else add(cls)

    def get(self, name: str, default: Any = ...) -> Any:
        """The :class:`Entry` of ``name``, which makes the object when it is called.

        Args:
            name: The name.
            default: What to return for an unknown name, instead of raising.

        Raises:
            KeyError: The name is not known; the text suggests near ones.
        """
        entry = self._all().get(name)
        if entry is not None:
            return entry
        if default is not ...:
            return default
        raise KeyError(self.unknown(name))

    def make(self, name: str, **overrides: Any) -> T:
        """Make the object that ``name`` stands for.

        Args:
            name: The name.
            **overrides: Keyword arguments that win over the registered ones.

        Raises:
            KeyError: The name is not known.
        """
        made: T = self.get(name)(**overrides)
        return made

    def unknown(self, name: object) -> str:
        """The sentence that says that ``name`` is not known, and what is."""
        known = self.available()
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"The {self.kind} {name!r} is not known.{hint} Known: {', '.join(map(repr, known)) or 'none'}."

    def remove(self, name: str) -> None:
        """Forget ``name``.

        Raises:
            KeyError: The name is not known.
        """
        if name not in self._all():
            raise KeyError(self.unknown(name))
        del self._entries[name]

    def available(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._all())

    def describe(self) -> dict[str, str]:
        """Name -> description, sorted."""
        return {name: self._entries[name].description for name in self.available()}

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.available())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self.available()) or 'empty'})"

    def _all(self) -> dict[str, Entry[T]]:
        group, self._group = self._group, None
        for point in entry_points(group=group) if group else ():
            if point.name not in self._entries:
                self._entries[point.name] = Entry(_Deferred(point), {}, f"from {point.value}")
        return self._entries


class _Deferred:
    """A factory in another package, imported when something is to be made with it."""

    def __init__(self, point: Any) -> None:
        self._point = point
        self.__qualname__ = point.value

    def __call__(self, **params: Any) -> Any:
        return self._point.load()(**params)
