from __future__ import annotations

import subprocess
import sys

import pytest

import levin
from levin.cli.main import COMMANDS, main


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_with_its_line(words, capsys):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(name in out and command.summary in out for name, command in COMMANDS.items())


def test_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"levin {levin.__version__}\n"


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["dmeo"]) == 2
    assert "no command 'dmeo'. Did you mean 'demo'?" in capsys.readouterr().err


def test_a_word_like_no_command_lists_them_all(capsys):
    assert main(["xyzzy"]) == 2
    err = capsys.readouterr().err
    assert "Did you mean" not in err
    assert f"Commands: {', '.join(COMMANDS)}." in err


def test_the_words_after_a_command_are_its_own(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])
    assert "levin demo" in capsys.readouterr().out


def test_python_m_levin_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "levin", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout) == (0, f"levin {levin.__version__}\n")


def test_python_m_levin_hands_on_the_exit_status():
    run = subprocess.run(
        [sys.executable, "-m", "levin", "no-such"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
