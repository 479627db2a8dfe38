"""Write the tree of modules into docs/design.md, each with the first line of its docstring.

    python scripts/tree.py

A test compares the page with the code; run this when it fails.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "levin"
PAGE = ROOT / "docs" / "design.md"
START, END = "<!-- tree -->\n", "<!-- end of tree -->\n"


def summary(file):
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def lines(folder=SOURCE, depth=0):
    """Yield (place, what it is) for a package and all that it holds, files first."""
    yield f"{'  ' * depth}{folder.name}/", summary(folder / "__init__.py")
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"{'  ' * (depth + 1)}{file.name}", summary(file)
    for package in sorted(file.parent for file in folder.glob("*/__init__.py")):
        yield from lines(package, depth + 1)


def tree():
    """Return the tree as it stands in the page."""
    width = max(len(place) for place, _ in lines())
    return (
        "```text\n"
        + "".join(f"{place:<{width}}  {what}".rstrip() + "\n" for place, what in lines())
        + "```\n"
    )


def main():
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + START + tree() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
