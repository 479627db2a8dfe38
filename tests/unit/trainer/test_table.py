from __future__ import annotations

from levin.trainer.table import results_table


def test_a_row_for_each_metric_and_a_column_for_each_loader():
    results = [{"loss/dataloader_idx_0": 0.5, "both": 1.0}, {"loss/dataloader_idx_1": 1234567.0, "both": 1.0}]
    assert results_table("test", results).splitlines() == [
        "┌─────────────┬──────────────┬──────────────┐",
        "│ Test metric │ DataLoader 0 │ DataLoader 1 │",
        "├─────────────┼──────────────┼──────────────┤",
        "│        both │            1 │            1 │",
        "│        loss │          0.5 │  1.23457e+06 │",
        "└─────────────┴──────────────┴──────────────┘",
    ]


def test_a_metric_that_a_loader_lacks_leaves_its_cell_empty():
    table = results_table("validate", [{"a/dataloader_idx_0": 1.0}, {"b/dataloader_idx_1": 2.0}])
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]
    assert rows[1:] == [["a", "1", ""], ["b", "", "2"]]


def test_nothing_logged_is_no_table():
    assert results_table("test", []) == results_table("test", [{}, {}]) == ""
