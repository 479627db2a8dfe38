from __future__ import annotations

import logging

import pytest


@pytest.fixture
def said(caplog):
    """Return a function that gives all that levin's logger was told until then, as one text."""
    logger = logging.getLogger("levin")
    level = logger.level
    logger.setLevel(logging.INFO)
    if not logger.propagate:  # else pytest's own handler, at the root, hears it already
        logger.addHandler(caplog.handler)
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def pytest_collection_modifyitems(items):
    """Refuse ids with addresses in them: processes that share the tests would have different ones."""
    unlike = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unlike:
        raise pytest.UsageError(f"Give these parameters ids that are the same in every process: {unlike}")
