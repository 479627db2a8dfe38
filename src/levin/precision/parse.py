"""The words of ``precision=``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from levin.precision.amp import MixedPrecision
from levin.precision.base import Precision
from levin.precision.double import DoublePrecision
from levin.precision.half import HalfPrecision
from levin.utils.imports import available
from levin.utils.rank import rank_zero_deprecation, rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable

# word -> what makes the precision for a type of device
_MAKERS: dict[str, Callable[[str], Precision]] = {
    "32-true": lambda _: Precision(),
    "64-true": lambda _: DoublePrecision(),
    "16-true": lambda _: HalfPrecision("16-true"),
    "bf16-true": lambda _: HalfPrecision("bf16-true"),
    "16-mixed": lambda device_type: MixedPrecision("16-mixed", device_type),
    "bf16-mixed": lambda device_type: MixedPrecision("bf16-mixed", device_type),
}

_TRANSFORMER_ENGINE = ("transformer-engine", "transformer-engine-float16")

PRECISIONS: tuple[str, ...] = (*_MAKERS, *_TRANSFORMER_ENGINE)
"""The words that ``precision=`` takes."""

_SHORT = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}
_AMBIGUOUS = ("16", "bf16")

_QUANTISED = ("bitsandbytes", "bnb", "nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "int8-training", "8", "4")

# what is known elsewhere, and what it would be here
_ELSEWHERE = {
    "fp32": "32-true", "float32": "32-true", "float": "32-true", "single": "32-true",
    "fp64": "64-true", "float64": "64-true", "double": "64-true",
    "fp16": "16-mixed", "float16": "16-mixed", "half": "16-true", "mixed": "16-mixed", "amp": "16-mixed",
    "bfloat16": "bf16-mixed",
}  # fmt: skip


def canonical_precision(value: str | int | None) -> str:
    """The full word for a precision.

    Args:
        value: One of `PRECISIONS`; or 16, 32, 64 or "bf16", as a number or a text; None is ``"32-true"``.

    Raises:
        ValueError: It is not known.
    """
    word = "32-true" if value is None else str(value)
    if word in PRECISIONS:
        return word
    if word not in _SHORT:
        raise ValueError(_unknown(value))
    full = _SHORT[word]
    if word in _AMBIGUOUS:
        rank_zero_deprecation(
            f"precision={value!r} is taken for {full!r}, as in earlier versions. Write {full!r}, "
            f"or {full.replace('mixed', 'true')!r} if the weights shall have 16 bits, too."
        )
    return full


def parse_precision(value: str | int | Precision | None, device_type: str = "cpu") -> Precision:
    """The precision that a user asks for.

    Args:
        value: A word, see `canonical_precision`, or a precision, which is returned as it is.
        device_type: The type of device it is for, such as ``"cuda"``. On ``"cpu"``, ``"16-mixed"`` warns and
            becomes ``"bf16-mixed"``; who wants float16 there passes a ``MixedPrecision`` with a scaler of his
            own.

    Raises:
        ValueError: The word is not known.
        ModuleNotFoundError: It needs a package that is not installed.
        NotImplementedError: It is not built.
    """
    if isinstance(value, Precision):
        return value
    word = canonical_precision(value)
    if word in _TRANSFORMER_ENGINE:
        raise _no_transformer_engine(word)
    if word == "16-mixed" and device_type == "cpu":
        rank_zero_warn(
            "precision='16-mixed' is not possible on the CPU, whose float16 arithmetic is too slow. "
            "'bf16-mixed' is used instead."
        )
        word = "bf16-mixed"
    return _MAKERS[word](device_type)


def _no_transformer_engine(word: str) -> Exception:
    """Why there is no such precision."""
    instead = (
        f"precision={word!r} is something which this version does not have yet. Put layers of the package "
        "`transformer_engine` into your module, with precision='bf16-true'"
    )
    if available("transformer_engine"):
        return NotImplementedError(f"{instead}.")
    return ModuleNotFoundError(
        f"{instead}; it needs an NVIDIA GPU, and is not installed: pip install transformer_engine[pytorch]",
        name="transformer_engine",
    )


def _unknown(value: Any) -> str:
    word = str(value).lower()
    near = _ELSEWHERE.get(word) or next(
        iter(difflib.get_close_matches(word, [*PRECISIONS, *_SHORT], n=1)), None
    )
    hint = f" Did you mean {near!r}?" if near else ""
    if word in _QUANTISED:
        hint = (
            " Quantised weights are something which this version does not have yet: put layers of the "
            "package `bitsandbytes` into your module (pip install bitsandbytes)."
        )
    known = ", ".join(map(repr, PRECISIONS))
    return f"precision={value!r} is not known.{hint} Known: {known}; short forms: 32, 64, 16, 'bf16'."
