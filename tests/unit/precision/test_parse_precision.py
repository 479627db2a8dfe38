from __future__ import annotations

import pytest

from levin.precision import (
    PRECISIONS,
    DoublePrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
    canonical_precision,
    parse_precision,
)
from levin.utils.errors import LevinDeprecationWarning


@pytest.mark.parametrize(
    ("value", "word", "kind"),
    [
        (None, "32-true", Precision),
        (32, "32-true", Precision),
        ("32", "32-true", Precision),
        ("32-true", "32-true", Precision),
        (64, "64-true", DoublePrecision),
        ("64", "64-true", DoublePrecision),
        ("64-true", "64-true", DoublePrecision),
        ("16-true", "16-true", HalfPrecision),
        ("bf16-true", "bf16-true", HalfPrecision),
        ("bf16-mixed", "bf16-mixed", MixedPrecision),
    ],
)
def test_words_and_short_forms(value, word, kind):
    precision = parse_precision(value, "cpu")
    assert type(precision) is kind
    assert precision.precision == canonical_precision(value) == word


@pytest.mark.parametrize(("value", "word"), [(16, "16-mixed"), ("16", "16-mixed"), ("bf16", "bf16-mixed")])
def test_ambiguous_short_forms_warn_with_the_full_word(value, word):
    with pytest.warns(LevinDeprecationWarning, match=f"Write '{word}'"):
        assert canonical_precision(value) == word


def test_float16_on_the_cpu_becomes_bfloat16_with_a_warning():
    with pytest.warns(UserWarning, match="'bf16-mixed' is used instead"):
        precision = parse_precision("16-mixed", "cpu")
    assert precision.precision == "bf16-mixed"
    assert precision.scaler is None


def test_a_precision_is_taken_as_it_is():
    precision = DoublePrecision()
    assert parse_precision(precision, "cpu") is precision


@pytest.mark.parametrize("value", [8, True, 32.0, "FP16", "half", "bf16-tru", ""])
def test_an_unknown_word_is_told_with_the_known_ones(value):
    with pytest.raises(ValueError, match="Known: '32-true'"):
        parse_precision(value)


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("bf16-tru", "bf16-true"),
        ("fp16", "16-mixed"),
        ("half", "16-true"),
        ("double", "64-true"),
        ("16mixed", "16-mixed"),
    ],
)
def test_a_near_word_is_suggested(value, near):
    with pytest.raises(ValueError, match=f"Did you mean '{near}'"):
        parse_precision(value)


@pytest.mark.parametrize("value", ["transformer-engine", "transformer-engine-float16"])
def test_transformer_engine_says_what_it_needs(value):
    assert value in PRECISIONS
    with pytest.raises(ModuleNotFoundError, match="pip install transformer_engine"):
        parse_precision(value, "cuda")


@pytest.mark.parametrize("value", ["nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "int8-training"])
def test_quantised_weights_say_what_they_need(value):
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        parse_precision(value)


@pytest.mark.parametrize("name", ["BitsandbytesPrecision", "TransformerEnginePrecision"])
def test_classes_that_are_not_there_yet_say_what_to_do(name):
    with pytest.raises(
        ImportError, match=r"does not have yet: put layers of the package `\w+` into your module"
    ):
        exec(f"from levin.precision import {name}", {})
