"""docs/differences.md is a list of differences, each said once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"


def tables():
    """Return for each section its rows, as lists of cells."""
    sections = [section.splitlines() for section in PAGE.read_text().split("\n## ")[1:]]
    return {
        title: [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line.startswith("|")]
        for title, *lines in sections
    }


def test_each_difference_stands_once():
    said = Counter(row[0] for rows in tables().values() for row in rows[2:])
    assert [name for name, times in said.items() if times > 1] == []


def test_each_row_has_the_cells_of_its_table():
    odd = {title: [row for row in rows if len(row) != len(rows[0])] for title, rows in tables().items()}
    assert {title: rows for title, rows in odd.items() if rows} == {}
