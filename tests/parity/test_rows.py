"""Where the generator avoids a difference, the difference is listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = re.sub(r"\s+(# )?", " ", (HERE / "generator.py").read_text())
NAMES = [
    name
    for named in re.findall(r'\brows? ("[^"]+"(?: and "[^"]+")?)', SOURCE)
    for name in named.split('"')[1::2]
]
TABLE = (HERE.parent.parent / "docs" / "differences.md").read_text().splitlines()


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_a_row_that_the_generator_names_is_there(name):
    assert any(line.startswith("|") and name in line.split("|")[1] for line in TABLE)


def test_rows_are_found_in_the_generator():
    assert len(NAMES) > 30
