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
