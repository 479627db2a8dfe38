"""``levin verify-resume train.py``: whether a program that is killed and gone on with ends at the same bits.

The program runs twice without a stop, and once more with as many kills (SIGKILL, at random places in random
batches) as asked for, gone on with after each. Its batches, logged values and weights have to be the same.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levin.cli.ledger import MOMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

SAME, DIFFERENT, UNKNOWN = 0, 1, 2
_KILLED = -9
_KINDS = {
    "data": "the samples of the batch, or their order",
    "logged": "logged values",
    "weights": "the weights",
}

Line = dict[str, Any]
Lines = list[Line]


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 if the runs are the same, 1 if not, 2 if that could not be found out.
    """
    given = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix="levin-verify-") as room:
        try:
            said, status = verify(given, Path(room))
        except _ProgramError as failed:
            said, status = str(failed), UNKNOWN
    print(said, file=sys.stdout if status == SAME else sys.stderr)
    return status


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="levin verify-resume",
        description="Run a training program twice without a stop and once with kills, and compare what its "
        "first fit did. It must be seeded, and end by itself: keep it short, or pass --max-steps.",
    )
    parser.add_argument("--kills", type=int, default=3, help="how often it is killed (default: 3)")
    parser.add_argument(
        "--every", type=int, default=1, help="batches between two checkpoints (default: 1, after each)"
    )
    parser.add_argument("--max-steps", type=int, help="end each fit after so many optimizer steps")
    parser.add_argument("--seed", type=int, help="choose the same places to kill it again")
    parser.add_argument("script", help="the program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser.parse_args(arguments)


def verify(given: argparse.Namespace, room: Path) -> tuple[str, int]:
    """Do the runs.

    Args:
        given: The command's arguments.
        room: A folder for ledgers and checkpoints.

    Returns:
        The verdict, and the exit status.

    Raises:
        _ProgramError: If the program does not run, or trains nothing.
    """
    _run(given, room / "whole")
    whole = _ledger(room / "whole")
    _run(given, room / "again")
    again = _ledger(room / "again")
    fault = _difference(whole, again, _reason_without_a_stop)
    if fault is not None:
        return f"The program does not repeat itself, even without a stop: in {fault}", DIFFERENT
    seed = random.randrange(10**6) if given.seed is None else given.seed
    chosen = random.Random(seed)
    batches = max(line["number"] for line in whole)
    numbers = sorted(chosen.sample(range(1, batches + 1), min(given.kills, batches)))
    kills = [f"{number}:{chosen.choice(MOMENTS)}" for number in numbers]
    for kill in kills:
        _run(given, room / "parts", "--kill", kill)
    _run(given, room / "parts")
    places = ", ".join(kill.replace(":", " (") + ")" for kill in kills)
    reason = partial(_reason, unsteady=_unsteady(whole, again))
    fault = _difference(whole, _ledger(room / "parts"), reason)
    if fault is not None:
        said = (
            f"NOT THE SAME. The program was killed in batch {places}; gone on with, it differs in {fault}\n"
            f"(--seed {seed} kills it in the same places.)"
        )
        return said, DIFFERENT
    values = sum(len(line["logged"]) for line in whole if line["rank"] == 0)
    processes = 1 + max(line["rank"] for line in whole)
    among = "" if processes == 1 else f" in each of {processes} processes"
    said = (
        f"The same to the last bit: {batches} batches, {values} logged values and the weights after each"
        f"{among}, though the program was killed in batch {places}."
    )
    return said, SAME


class _ProgramError(Exception):
    pass


def _run(given: argparse.Namespace, folder: Path, *options: str) -> None:
    limit = () if given.max_steps is None else ("--max-steps", str(given.max_steps))
    command = [
        sys.executable, "-m", "levin.cli.ledger", str(folder), "--every", str(given.every), *limit, *options,
        given.script, *given.arguments,
    ]  # fmt: skip
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode not in (0, _KILLED if options else 0):
        last_lines = "\n".join(ended.stderr.strip().splitlines()[-15:])
        raise _ProgramError(f"{given.script} ended with status {ended.returncode}:\n{last_lines}")


def _ledger(folder: Path) -> Lines:
    files = sorted((folder / "fit-0").glob("ledger-*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    if not lines:
        raise _ProgramError("The program trained nothing: it does not call `Trainer.fit`, or has no data.")
    return lines


def _unsteady(whole: Lines, again: Lines) -> set[str]:
    """Names of state that differs between two runs without a stop, and changes nothing: times, say."""
    return {
        name
        for one, other in zip(whole, again, strict=False)
        for name, value in one["state"].items()
        if other["state"].get(name) != value
    }


def _difference(whole: Lines, other: Lines, reason: Callable[[Line, Line], str]) -> str | None:
    """Where the other run differs first, and what seems to be the reason; None if nowhere.

    Args:
        whole: The lines of a run without a stop.
        other: Those of another run; a batch may be there several times.
        reason: Says why a line is not the wanted one.
    """
    expected = {(line["number"], line["rank"]): line for line in whole}
    for line in other:
        wanted = expected.get((line["number"], line["rank"]))
        if wanted is None:
            return f"batch {line['number']}: there is none in a run without a stop."
        kinds = [said for kind, said in _KINDS.items() if line[kind] != wanted[kind]]
        if kinds:
            rank = f", rank {line['rank']}" if line["rank"] else ""
            place = f"batch {line['number']} (batch {line['batch']} of epoch {line['epoch']}{rank})"
            return f"{place}: {' and '.join(kinds)}. {reason(wanted, line)}"
    missing = sorted(set(expected) - {(line["number"], line["rank"]) for line in other})
    return f"batch {missing[0][0]}: it is missing." if missing else None


def _reason(wanted: Line, line: Line, unsteady: Collection[str]) -> str:
    """What is not as it should be after a stop: the program's generators, its other state, global generators.

    Args:
        wanted: The line of a run without a stop.
        line: That of one with stops.
        unsteady: Names of state that is no reason.
    """
    own, shared = _astray(wanted, line)
    if own:
        return (
            f"The random generator {' and '.join(own)} stands elsewhere: it is not seeded, or no checkpoint "
            "holds it. Seed it, and let it be an attribute of the module, data module, sampler or dataset."
        )
    changed = [name for name in _changed(wanted, line) if name not in unsteady]
    if changed:
        return (
            f"{' and '.join(changed)}: not as without a stop, as no checkpoint holds it. Keep it in a "
            "buffer, in `on_save_checkpoint`, or in the `state_dict` of a callback or data module."
        )
    if shared:
        return f"The global random generator of {' and '.join(shared)} stands elsewhere."
    return "All random generators are as they should be: it comes from something else that changes."


def _reason_without_a_stop(wanted: Line, line: Line) -> str:
    """What differs between two runs that nobody stopped: generators, or what follows something else."""
    own, shared = _astray(wanted, line)
    if own:
        return f"The random generator {' and '.join(own)} stands elsewhere: it is not seeded. Seed it."
    if shared:
        return (
            f"The global random generator of {' and '.join(shared)} stands elsewhere. Seed it: call "
            "levin.seed_everything(...) before anything is made."
        )
    changed = _changed(wanted, line)
    differs = f" {' and '.join(changed)}: not the same in each run." if changed else ""
    return (
        f"All random generators are as they should be.{differs} What follows the time, the speed of the "
        "machine or the order of a set can't be repeated."
    )


def _astray(wanted: Line, line: Line) -> tuple[list[str], list[str]]:
    """The generators that stand elsewhere: the program's own, and those that all share."""
    names = [name for name, state in wanted["random"].items() if line["random"].get(name) != state]
    shared = [name for name in names if name in ("python", "numpy", "torch", "cuda")]
    return [name for name in names if name not in shared], shared


def _changed(wanted: Line, line: Line) -> list[str]:
    """The names of other state that is not the same."""
    return [name for name, state in wanted["state"].items() if line["state"].get(name) != state]
