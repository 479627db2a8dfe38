"""SimpleProfiler: how long each action takes. AdvancedProfiler: and in which functions."""

from __future__ import annotations

import cProfile
import io
import marshal
import pstats
from array import array
from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING

from levin.profilers.base import Profiler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class SimpleProfiler(Profiler):
    """Measures how long each action takes.

    Args:
        dirpath: See `Profiler`.
        filename: See `Profiler`.
        extended: Whether the report has the number of calls and the share of the whole time, too.

    Attributes:
        recorded_durations: Action -> the seconds that each of its calls took.
        current_actions: Action -> the time at which it began, for those that go on.
    """

    def __init__(
        self, dirpath: str | Path | None = None, filename: str | None = None, extended: bool = True
    ) -> None:
        super().__init__(dirpath, filename)
        self.extended = extended
        self.current_actions: dict[str, float] = {}
        self.recorded_durations: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.start_time: float = monotonic()

    def start(self, action_name: str) -> None:
        """An action begins.

        Raises:
            ValueError: It is going on already.
        """
        if action_name in self.current_actions:
            raise ValueError(f"The action {action_name!r} was started while it is going on: stop it first.")
        self.current_actions[action_name] = monotonic()

    def stop(self, action_name: str) -> None:
        """An action ends.

        Raises:
            ValueError: It is not going on.
        """
        end = monotonic()
        if action_name not in self.current_actions:
            raise ValueError(f"The action {action_name!r} was stopped and never started.")
        self.recorded_durations[action_name].append(end - self.current_actions.pop(action_name))

    def summary(self) -> str:
        """A table of the actions, those that took longest first."""
        total = monotonic() - self.start_time
        recorded = {name: (len(times), sum(times)) for name, times in self.recorded_durations.items()}
        rows = [
            (name, f"{seconds / calls:.5g}", str(calls), f"{seconds:.5g}", f"{100 * seconds / total:.5g}")
            for name, (calls, seconds) in sorted(recorded.items(), key=lambda item: -item[1][1])
        ]
        all_calls = str(sum(calls for calls, _ in recorded.values()))
        header = ("Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %")
        if not self.extended:
            return _table([(name, mean, seconds) for name, mean, _, seconds, _ in (header, *rows)])
        return _table([header, ("Total", "-", all_calls, f"{total:.5g}", "100"), *rows])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """A table with its first column to the left, the others to the right, and a line under its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        cells = [name.ljust(widths[0])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append(" | ".join(cells).rstrip())
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return "\n".join(lines)


class AdvancedProfiler(Profiler):
    """Measures in which functions each action spends its time, by `cProfile`.

    Python can run one such measurement at a time: what an action spends in another action inside it counts
    for the inner one only.

    Args:
        dirpath: See `Profiler`.
        filename: See `Profiler`.
        line_count_restriction: How much of each action's table is reported: a number of lines, or a share
            between 0.0 and 1.0.
        dump_stats: Whether the measurements are written, too, one ``.prof`` file an action, as `pstats` and
            viewers such as snakeviz read them.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath, filename)
        self.line_count_restriction = line_count_restriction
        self.dump_stats = dump_stats
        self.profiled_actions: defaultdict[str, cProfile.Profile] = defaultdict(cProfile.Profile)
        self._going_on: list[str] = []

    def start(self, action_name: str) -> None:
        """An action begins; the one around it rests."""
        if self._going_on:
            self.profiled_actions[self._going_on[-1]].disable()
        self._going_on.append(action_name)
        self.profiled_actions[action_name].enable()

    def stop(self, action_name: str) -> None:
        """An action ends; the one around it goes on.

        Raises:
            ValueError: It is not going on.
        """
        if action_name not in self._going_on:
            raise ValueError(f"The action {action_name!r} was stopped and never started.")
        self.profiled_actions[self._going_on[-1]].disable()
        self._going_on.reverse()
        self._going_on.remove(action_name)
        self._going_on.reverse()
        if self._going_on:
            self.profiled_actions[self._going_on[-1]].enable()

    def summary(self) -> str:
        """A table of functions for each action."""
        return "\n".join(
            f"Profile stats for: {name}\n{self._table(profile)}"
            for name, profile in self.profiled_actions.items()
        )

    def describe(self) -> None:
        """Write the report, and the measurements if they are wanted."""
        super().describe()
        if not self.dump_stats:
            return
        for name, profile in self.profiled_actions.items():
            stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # the stubs lack it
            self._write(self._path(".prof", name), marshal.dumps(stats), "wb")

    def teardown(self, stage: str | None = None) -> None:  # noqa: ARG002  # the same for all
        """End what an interrupted run left."""
        for profile in self.profiled_actions.values():
            profile.disable()
        self._going_on.clear()

    def _table(self, profile: cProfile.Profile) -> str:
        text = io.StringIO()
        stats = pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumulative")
        stats.print_stats(self.line_count_restriction)
        return text.getvalue()
