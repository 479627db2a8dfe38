"""The table of results that `validate` and `test` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def results_table(stage: str, results: Sequence[dict[str, float]]) -> str:
    """A table with a row for each metric and a column for each dataloader.

    Args:
        stage: "validate" or "test".
        results: The values of each dataloader.
    """
    names = sorted({name for values in results for name in values})
    if not names:
        return ""
    suffixes = [f"/dataloader_idx_{index}" for index in range(len(results))]
    rows: dict[str, list[str]] = {}
    for index, (values, suffix) in enumerate(zip(results, suffixes, strict=True)):
        for name, value in values.items():
            row = rows.setdefault(name.removesuffix(suffix), [""] * len(results))
            row[index] = f"{value:.6g}"
    header = [f"{stage.capitalize()} metric", *(f"DataLoader {index}" for index in range(len(results)))]
    return _boxed([header, *([name, *rows[name]] for name in sorted(rows))])


def _boxed(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + right

    def text(row: list[str]) -> str:
        return "│" + "│".join(f" {cell:>{width}} " for cell, width in zip(row, widths, strict=True)) + "│"

    header, *body = rows
    return "\n".join(
        [line("┌", "┬", "┐"), text(header), line("├", "┼", "┤"), *map(text, body), line("└", "┴", "┘")]
    )
