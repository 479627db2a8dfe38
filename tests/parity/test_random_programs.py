"""Random programs give the numbers, hook calls, files and errors of Lightning."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("hypothesis")
sys.path.append(str(Path(__file__).parent))

from generator import disagreements, programs, script
from hypothesis import HealthCheck, given, settings

pytestmark = [pytest.mark.nightly, pytest.mark.filterwarnings("default")]


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_a_random_program_does_what_it_does_with_lightning(program):
    assert disagreements(program) == [], script(program)
