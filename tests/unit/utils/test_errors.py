from __future__ import annotations

import traceback
from contextlib import contextmanager
from types import ModuleType

import pytest

from levin.utils.errors import SIGTERMException, shorten_traceback


def code_of(package: str, source: str) -> ModuleType:
    """A module of another package, for frames that look like its."""
    module = ModuleType(package)
    exec(compile(source, f"<{package}>", "exec"), vars(module))
    return module


def raised_through(*packages: str) -> BaseException:
    """An error that went through a function of each of the packages, outermost first."""

    def call(number: int) -> None:
        if number == len(packages):
            raise ValueError("deep down")
        module = code_of(packages[number], f"def frame_{number}(call): call({number + 1})")
        getattr(module, f"frame_{number}")(call)

    try:
        call(0)
    except ValueError as error:
        return error
    raise AssertionError("nothing was raised")


def frames(error: BaseException) -> list[str]:
    return [
        frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.name.startswith("frame_")
    ]


def test_levins_inner_frames_go_and_all_others_stay():
    error = raised_through("levin.trainer", *["levin.fit"] * 6, "torch.optim", "levin.step", "user")
    assert frames(shorten_traceback(error)) == ["frame_0", "frame_7", "frame_9"]


def test_the_error_itself_is_returned_for_raising_again():
    error = raised_through(*["levin"] * 8)
    assert shorten_traceback(error) is error


def test_few_frames_of_levin_stay():
    error = raised_through(*["levin"] * 6)
    assert frames(shorten_traceback(error)) == [f"frame_{number}" for number in range(6)]


def test_keep_says_how_many_frames_do_not_disturb():
    error = raised_through("levin", "levin", "levin", "user")
    assert frames(shorten_traceback(error, keep=2)) == ["frame_0", "frame_3"]


def test_the_frame_that_raised_stays_even_if_it_is_levins():
    module = code_of(
        "levin.x", "def frame_last(): raise ValueError\ndef frame_a(n): frame_a(n - 1) if n else frame_last()"
    )
    with pytest.raises(ValueError, match=r"^$") as caught:
        module.frame_a(8)
    assert frames(shorten_traceback(caught.value)) == ["frame_a", "frame_last"]


def test_frames_of_contextlib_below_levins_go_with_them():
    @contextmanager
    def context():
        yield

    source = "@context()\ndef frame_a(n, call):\n  frame_a(n - 1, call) if n else call()"
    module = ModuleType("levin.x")
    module.context = context
    exec(compile(source, "<levin.x>", "exec"), vars(module))

    @context()
    def frame_user() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        module.frame_a(8, frame_user)
    names = [frame.name for frame in traceback.extract_tb(shorten_traceback(caught.value).__traceback__)]
    assert names[1:] == ["inner", "frame_a", "frame_user"]


LIKE_A_TRAINER = """
from contextlib import contextmanager
from levin.utils.errors import shorten_traceback

@contextmanager
def context():
    try:
        yield
    except ValueError as error:
        shorten_traceback(error)
        raise

def frame_fit(call):
    with context():
        frame_loop(9, call)

def frame_loop(n, call):
    frame_loop(n - 1, call) if n else call()
"""


def test_it_works_within_a_context_manager():
    def frame_user() -> None:
        raise ValueError("mine")

    fit = code_of("levin.trainer", LIKE_A_TRAINER).frame_fit
    with pytest.raises(ValueError, match="mine") as caught:
        fit(frame_user)
    assert frames(caught.value) == ["frame_fit", "frame_user"]


def test_the_environment_switches_it_off(monkeypatch):
    monkeypatch.setenv("LEVIN_FULL_TRACEBACK", "1")
    error = raised_through(*["levin"] * 9)
    assert len(frames(shorten_traceback(error))) == 9


def test_sigterm_ends_a_program_that_does_not_catch_it():
    with pytest.raises(SystemExit):
        raise SIGTERMException
