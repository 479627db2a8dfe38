from __future__ import annotations

import pytest

import levin as L


@pytest.fixture
def trainer(tmp_path):
    """A Trainer without anything that prints or writes."""
    return L.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
    )  # fmt: skip
