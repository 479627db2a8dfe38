"""What classes had in earlier versions is explained, and stays free for those who define it."""

from __future__ import annotations

import inspect

import pytest

import levin as L
from levin.callbacks import ModelCheckpoint, ProgressBar
from levin.loggers import CSVLogger
from levin.utils.errors import LevinDeprecationWarning
from levin.utils.former_members import Keyword, had, renamed, took


@had(size="Use `len`.")
class Box:
    @took(
        width=renamed("breadth"),
        colour=Keyword("Keep it yourself.", is_kept=True),
        lid=Keyword("There is none.", lambda value: None if value else {}),
    )
    def __init__(self, breadth=1):
        self.breadth = breadth


def test_an_attribute_that_is_gone_says_what_to_use_of_an_object_and_of_its_class():
    for owner in (Box, Box(), type("Crate", (Box,), {})()):
        with pytest.raises(AttributeError, match=r"There is no `(Box|Crate).size`. Use `len`."):
            _ = owner.size
        assert not hasattr(owner, "size")


def test_an_attribute_that_is_gone_may_be_defined_anew():
    box = Box()
    box.size = 3
    assert box.size == 3
    assert type("Crate", (Box,), {"size": 4})().size == 4
    assert type("Closing", (CSVLogger,), {"close": lambda self: 5})("x").close() == 5


def test_a_keyword_that_has_another_name_works():
    with pytest.warns(LevinDeprecationWarning, match=r"`Box\(width=2\)` is now `breadth=2`") as warned:
        assert Box(width=2).breadth == 2
    assert [warning.filename for warning in warned] == [__file__]


def test_a_keyword_that_was_an_attribute_still_is_one():
    with pytest.warns(LevinDeprecationWarning, match=r"`Box\(colour=...\)` is of earlier versions. Keep it"):
        box = Box(colour="red", breadth=2)
    assert vars(box) == {"breadth": 2, "colour": "red"}


def test_a_keyword_without_an_equivalent_says_what_to_do_unless_it_asked_for_nothing():
    with pytest.raises(TypeError, match=r"Box\(\) got an unexpected keyword argument 'lid'. There is none."):
        Box(lid=True)
    with pytest.warns(LevinDeprecationWarning, match="There is none"):
        assert Box(lid=False).breadth == 1


def test_a_former_keyword_beside_todays_is_refused():
    with pytest.raises(TypeError, match=r"`width=2` and `breadth=3`. Leave one of the two out"):
        Box(width=2, breadth=3)


def test_todays_keywords_and_unknown_ones_are_as_ever():
    assert Box(3).breadth == Box(breadth=3).breadth == 3
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'height'$"):
        Box(height=1)


@pytest.mark.parametrize("kind", [Box, ModelCheckpoint, ProgressBar, L.LightningDataModule])
def test_the_signature_is_todays(kind):
    kinds = {each.kind for each in inspect.signature(kind).parameters.values()}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert not {"width", "filepath", "refresh_rate", "dims"} & set(inspect.signature(kind).parameters)
