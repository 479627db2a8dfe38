from __future__ import annotations

import io
import tokenize
from pathlib import Path

import pytest

import levin

SOURCE = Path(levin.__file__).parent
LIMIT = 450
WIDER = {
    "strategies/fsdp.py": 600,
    "strategies/deepspeed.py": 600,
}  # each wraps a large interface of another library
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """Count lines that hold code: neither blank nor a comment nor a string that stands alone."""
    lines: set[int] = set()
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            statement.append(token)
        elif token.type == tokenize.NEWLINE:
            if {part.type for part in statement} != {tokenize.STRING}:
                lines.update(line for part in statement for line in range(part.start[0], part.end[0] + 1))
            statement = []
    return len(lines)


def test_docstrings_comments_and_blank_lines_are_no_code():
    assert code_lines('"""Doc\n\nstring."""\n# why\n\nx = (\n    1\n)\n') == 3


@pytest.mark.parametrize(
    "file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix()
)
def test_a_file_keeps_to_its_room(file):
    assert code_lines(file.read_text()) <= WIDER.get(file.relative_to(SOURCE).as_posix(), LIMIT)
