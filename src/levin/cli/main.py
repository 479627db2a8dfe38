"""The ``levin`` command: a table of commands, each loaded when it is called."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from levin._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(NamedTuple):
    """One command: the module whose ``main(arguments) -> exit status`` runs it, and its line in the help."""

    module: str
    summary: str


# A new command is a module with a ``main`` and a line here.
COMMANDS = {
    "ckpt": Command("levin.cli.ckpt", "look at checkpoints: ls, show, verify, diff, export, prune"),
    "demo": Command("levin.cli.demo", "train a small network on handwritten digits, and draw its curves"),
    "run": Command("levin.cli.run", "run a program in several processes, and again when one of them fails"),
    "verify-resume": Command(
        "levin.cli.verify_resume", "kill a training program again and again, and prove that nothing is lost"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``levin <command> ...``.

    Args:
        arguments: the words after ``levin``; those of this process by default.

    Returns:
        The exit status: 0 when all went well, 2 when there is no such command, else what the command returns.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "help"):
        print(usage())
        return 0
    if first in ("-V", "--version"):
        print(f"levin {__version__}")
        return 0
    if first not in COMMANDS:
        print(unknown(first), file=sys.stderr)
        return 2
    status: int = import_module(COMMANDS[first].module).main(words[1:])
    return status


def usage() -> str:
    """Return what ``levin --help`` prints."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    head = "usage: levin <command> [options]\n\nCommands:"
    return "\n".join(
        [head, *lines, "", "levin <command> --help tells a command's options, levin --version the version."]
    )


def unknown(word: str) -> str:
    """Return the message for a word that is no command: the nearest one, and all there are."""
    near = get_close_matches(word, COMMANDS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"levin: there is no command {word!r}.{hint} Commands: {', '.join(COMMANDS)}. See `levin --help`."
