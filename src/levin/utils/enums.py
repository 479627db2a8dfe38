"""Enumerations whose members are words."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from typing_extensions import Self

Source = Literal["key", "value", "any"]


class LightningEnum(str, Enum):
    """Words that equal strings, and each other, whatever their case.

    Examples:
        >>> class Colour(LightningEnum):
        ...     RED = "red"
        >>> Colour.RED == "Red"
        True
        >>> Colour.from_str("red")
        <Colour.RED: 'red'>
    """

    @classmethod
    def from_str(cls, value: str, source: Source = "key") -> Self:
        """The member that ``value`` stands for, in any case.

        Args:
            value: The word.
            source: Whether it is a member's name ("key"), its value ("value"), or either ("any").

        Raises:
            ValueError: There is none.
        """
        for member in cls:
            names = {"key": (member.name,), "value": (member.value,), "any": (member.name, member.value)}
            if value.lower() in (str(name).lower() for name in names[source]):
                return member
        known = [member.value if source == "value" else member.name for member in cls]
        raise ValueError(f"{value!r} is no {cls.__name__}. Known: {', '.join(map(repr, known))}.")

    @classmethod
    def try_from_str(cls, value: str, source: Source = "key") -> Self | None:
        """The same as `from_str`, but warn and return None where there is no such member."""
        try:
            return cls.from_str(value, source)
        except ValueError as error:
            rank_zero_warn(str(error))
            return None

    def __eq__(self, other: object) -> bool:
        word = other.value if isinstance(other, Enum) else other
        return isinstance(word, str) and str(self.value).lower() == word.lower()

    def __hash__(self) -> int:
        return hash(str(self.value).lower())


class GradClipAlgorithmType(LightningEnum):
    """How gradients are clipped: each by its value, or all together by their norm."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(val: str) -> bool:
        """Whether ``val`` is one of them."""
        return val in GradClipAlgorithmType.supported_types()

    @staticmethod
    def supported_types() -> list[str]:
        """Their values."""
        return [member.value for member in GradClipAlgorithmType]
