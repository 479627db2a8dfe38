from __future__ import annotations

import pytest

from levin.trainer.trainer import Trainer
from levin.utils.enums import GradClipAlgorithmType, LightningEnum


class Shape(LightningEnum):
    ROUND = "is-round"
    FLAT = "is-flat"


class Other(LightningEnum):
    ANYTHING = "IS-ROUND"


@pytest.mark.parametrize("word", ["is-round", "IS-Round", Shape.ROUND, Other.ANYTHING])
def test_a_member_equals_its_word_in_any_case(word):
    assert word == Shape.ROUND
    assert hash(Shape.ROUND) == hash("is-round")


@pytest.mark.parametrize("word", ["ROUND", "is-flat", Shape.FLAT, None, 1])
def test_a_member_equals_nothing_else(word):
    assert word != Shape.ROUND


@pytest.mark.parametrize(
    ("word", "source"),
    [("round", "key"), ("Is-Round", "value"), ("ROUND", "any"), ("is-round", "any")],
)
def test_a_member_is_found_by_its_name_or_its_word(word, source):
    assert Shape.from_str(word, source) is Shape.ROUND


@pytest.mark.parametrize(("word", "source"), [("is-round", "key"), ("round", "value"), ("oval", "any")])
def test_an_unknown_word_is_told_with_the_known_ones(word, source):
    with pytest.raises(ValueError, match=f"'{word}' is no Shape. Known: '.*', '.*'"):
        Shape.from_str(word, source)


def test_a_word_may_be_tried():
    assert Shape.try_from_str("round") is Shape.ROUND
    with pytest.warns(UserWarning, match="'oval' is no Shape"):
        assert Shape.try_from_str("oval") is None


def test_the_algorithms_of_gradient_clipping():
    assert GradClipAlgorithmType.supported_types() == ["value", "norm"]
    assert GradClipAlgorithmType.supported_type("norm")
    assert not GradClipAlgorithmType.supported_type("length")


def test_the_trainer_takes_a_member_for_its_word():
    trainer = Trainer(gradient_clip_val=1.0, gradient_clip_algorithm=GradClipAlgorithmType.NORM, logger=False)
    assert trainer.gradient_clip_algorithm == "norm"
