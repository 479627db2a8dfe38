from __future__ import annotations

import os

import pytest

from levin.utils.rank import rank_zero_only

OTHERS = {
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK",
    "MASTER_ADDR", "MASTER_PORT",
}  # fmt: skip
LAUNCHERS = ("TORCHELASTIC_", "SLURM_", "LSB_", "JSM_", "OMPI_", "PMI_", "PMIX_", "MPI_")


@pytest.fixture(autouse=True)
def started_by_hand(monkeypatch):
    """No launcher has left anything in the environment, and afterwards all is as it was."""
    for name in list(os.environ):
        if name in OTHERS or name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    for name in ("MASTER_PORT", "WORLD_SIZE"):  # noted, so that what the code sets is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def started_with(monkeypatch):
    """Return a function that sets the variables of a launcher."""

    def start(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start
