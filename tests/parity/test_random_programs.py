"""Random programs give the numbers, hook calls, files and errors of Lightning.

The programs are the same each time, until the generator draws others. `NIGHT=1`, or any number, takes other
ones for the nightly run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")
pytest.importorskip("hypothesis")
sys.path.append(str(Path(__file__).parent))

import torch
from generator import disagreements, programs, script
from hypothesis import HealthCheck, Phase, assume, given, settings

pytestmark = pytest.mark.filterwarnings("default")

DAYS = 3  # parts of each parity run
NIGHTS = 8  # and of each nightly one
FIRST = DAYS + NIGHTS * int(os.environ.get("NIGHT", "0"))
PARTS = [
    *[pytest.param(part, marks=pytest.mark.parity) for part in range(DAYS)],
    *[pytest.param(part, marks=pytest.mark.nightly) for part in range(FIRST, FIRST + NIGHTS)],
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def agreed():
    """The texts of the programs of this part that came out well."""
    return set()


@pytest.mark.parametrize("part", PARTS)
@settings(
    max_examples=40,
    derandomize=True,  # from the name of the test, in which the part stands
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # making a program smaller would take longer than a test may
    suppress_health_check=list(HealthCheck),
)
@given(program=programs())
def test_a_random_program_does_what_it_does_with_lightning(part, agreed, program):
    assume(program.text not in agreed)  # forty different ones
    assert disagreements(program) == [], script(program)
    agreed.add(program.text)
