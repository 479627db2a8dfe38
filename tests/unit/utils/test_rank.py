from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest
from torch import nn

from levin.utils.errors import LevinDeprecationWarning, PossibleUserWarning
from levin.utils.rank import (
    RankZeroOnly,
    disable_possible_user_warnings,
    rank_from_environment,
    rank_zero_debug,
    rank_zero_deprecation,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)

VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@pytest.fixture
def second_process(monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "5"}, 1),
        ({"SLURM_PROCID": "5", "JSM_NAMESPACE_RANK": "6"}, 5),
        ({"JSM_NAMESPACE_RANK": "6"}, 6),
        ({"RANK": "", "LOCAL_RANK": "2"}, 2),
        ({"RANK": "no number"}, None),
    ],
)
def test_the_first_variable_that_names_a_rank_counts(monkeypatch, environment, expected):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_from_environment() == expected


@pytest.mark.parametrize(("rank", "expected"), [(0, "done"), (1, None)])
def test_only_rank_zero_runs_the_function(rank, expected):
    assert RankZeroOnly(rank)(lambda: "done")() == expected


def test_the_other_ranks_get_the_default():
    assert RankZeroOnly(2)(lambda: "done", default="skipped")() == "skipped"


def test_a_rank_that_is_set_later_counts():
    only = RankZeroOnly()

    @only
    def greet(name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    assert greet("you") == "hello you"
    assert greet.__doc__ == "Say hello."
    only.rank = 1
    assert greet("you") is None


def test_messages_are_logged_with_their_arguments(caplog):
    caplog.set_level(logging.DEBUG, logger="levin")
    rank_zero_info("%d of %s", 1, "two")
    rank_zero_debug("details")
    records = [(record.levelname, record.getMessage(), record.filename) for record in caplog.records]
    assert records == [("INFO", "1 of two", "test_rank.py"), ("DEBUG", "details", "test_rank.py")]


def test_other_ranks_are_silent(caplog, second_process):
    caplog.set_level(logging.DEBUG, logger="levin")
    rank_zero_info("a")
    rank_zero_debug("b")
    rank_zero_warn("c")
    rank_zero_deprecation("d")
    assert not caplog.records


@pytest.mark.parametrize(
    ("warn", "category"),
    [
        (lambda: rank_zero_warn("careful"), UserWarning),
        (lambda: rank_zero_warn("careful", category=PossibleUserWarning), PossibleUserWarning),
        (lambda: rank_zero_warn(RuntimeWarning("careful")), RuntimeWarning),
        (lambda: rank_zero_deprecation("careful"), LevinDeprecationWarning),
    ],
)
def test_warnings_have_their_category(warn, category):
    with pytest.warns(category, match="careful") as caught:
        warn()
    assert caught[0].category is category


def warn_from_within(module_name: str, call) -> None:
    """Call ``call`` from code that belongs to ``module_name``."""
    names = {"__name__": module_name, "call": call}
    exec(compile("def inner(): call()\ndef outer(): inner()\nouter()", f"<{module_name}>", "exec"), names)


def code_of(module_name: str, source: str, **names) -> dict:
    """Run code that belongs to ``module_name``, and give back the names that it defines."""
    names = {"__name__": module_name, **names}
    exec(compile(source, f"<{module_name}>", "exec"), names)
    return names


def test_a_warning_points_at_the_nearest_line_that_a_user_wrote():
    trainer = code_of("levin.trainer", "def loop(): warn('here')\ndef fit(): loop()", warn=rank_zero_warn)
    with pytest.warns(UserWarning, match="here") as caught:
        code_of("script", "\n\nfit()", fit=trainer["fit"])
    assert (caught[0].filename, caught[0].lineno) == ("<script>", 3)


def test_frames_of_torch_are_passed_over_too():
    class Model(nn.Module):
        def forward(self) -> None:
            code_of("torch.optim", "warn('here')", warn=rank_zero_warn)

    with pytest.warns(UserWarning, match="here") as caught:
        Model()()
    assert caught[0].filename == __file__


@pytest.mark.parametrize("level", [1, 2])
def test_a_stacklevel_counts_as_in_the_warnings_module(level):
    def call(warn) -> None:
        warn("here", stacklevel=level)

    with pytest.warns(UserWarning, match="here") as caught:
        call(rank_zero_warn), call(warnings.warn)
    assert (caught[0].filename, caught[0].lineno) == (caught[1].filename, caught[1].lineno)


def test_a_deprecation_passes_its_stacklevel_on():
    with pytest.warns(LevinDeprecationWarning) as caught:
        rank_zero_deprecation("old", stacklevel=1)
    assert caught[0].filename == __file__


def test_possible_user_warnings_can_be_silenced_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        disable_possible_user_warnings()
        rank_zero_warn("maybe", PossibleUserWarning)
        rank_zero_warn("surely")
    assert [str(warning.message) for warning in caught] == ["surely"]


def run_program(source: str, **environment: str) -> str:
    """What a fresh process writes to its standard error."""
    settings = {key: value for key, value in os.environ.items() if key not in (*VARIABLES, "PYTHONWARNINGS")}
    command = [sys.executable, "-c", source]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**settings, **environment}
    ).stderr


INFORM = (
    "from levin.utils.rank import *; import logging; from levin.utils.rank import rank_zero_info as info\n"
)


def test_a_program_without_logging_sees_infos_once():
    assert run_program(INFORM + "logging.basicConfig(); info('hello')") == "hello\n"


def test_a_program_with_logging_decides_for_itself():
    before = "import logging; logging.basicConfig(format='mine: %(message)s')\n"
    assert run_program(before + INFORM + "info('hello')") == "mine: hello\n"


def test_a_process_of_another_rank_is_silent_from_the_start():
    assert run_program(INFORM + "info('hello')", SLURM_PROCID="1") == ""


@pytest.mark.parametrize(("value", "shown"), [("off", False), ("0", False), ("OFF", False), ("1", True)])
def test_the_environment_silences_possible_user_warnings(value, shown):
    source = (
        "from levin.utils.rank import rank_zero_warn; from levin.utils.errors import PossibleUserWarning\n"
        "rank_zero_warn('maybe', PossibleUserWarning)"
    )
    assert ("maybe" in run_program(source, POSSIBLE_USER_WARNINGS=value)) is shown


def test_deprecations_are_shown_wherever_they_are_raised():
    source = (
        "from levin.utils.rank import rank_zero_deprecation\n"
        "exec('warn(\"old\")', {'__name__': 'library', 'warn': rank_zero_deprecation})"
    )
    assert "LevinDeprecationWarning: old" in run_program(source)
