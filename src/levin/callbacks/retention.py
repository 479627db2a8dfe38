"""How a ModelCheckpoint names its files, and which of them stay."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levin.checkpoint.index import Commit, Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PLACEHOLDER = re.compile(r"\{([^{}:]+)(:[^{}]*)?\}")


@dataclass(frozen=True)
class NameTemplate:
    """A file name with places for metrics: ``{epoch}-{val_loss:.2f}`` becomes ``epoch=3-val_loss=0.25``.

    Attributes:
        text: The name; a place is a metric's name in braces, with a format after a colon if need be.
        equals: What stands between a metric's name and its value; None leaves the names out.
    """

    text: str
    equals: str | None = "="

    def fill(self, metrics: Mapping[str, Any]) -> str:
        """The name with the values of ``metrics`` in it; 0 for a metric that is not there."""

        def value_of(place: re.Match[str]) -> str:
            name, spec = place.group(1), (place.group(2) or ":")[1:]
            label = "" if self.equals is None else f"{name}{self.equals}"
            return label + format(metrics.get(name, 0), spec)

        return _PLACEHOLDER.sub(value_of, self.text)


@dataclass(frozen=True)
class TopK:
    """Which of the scored files stay.

    Attributes:
        size: How many; -1 for all.
        mode: ``"min"`` or ``"max"``: which scores are good.
        scores: Path -> score of the files that there are.
    """

    size: int
    mode: str
    scores: dict[str, Tensor]

    @property
    def is_full(self) -> bool:
        """Whether one has to go before another comes."""
        return 0 <= self.size <= len(self.scores)

    @property
    def best(self) -> str:
        """The path with the best score; the oldest of equals."""
        return min(self.scores, key=self._badness, default="")

    @property
    def worst(self) -> str:
        """The path that goes next."""
        return max(self.scores, key=self._badness, default="")

    def _badness(self, path: str) -> float:
        score = float(self.scores[path])
        return score if self.mode == "min" else -score

    def accepts(self, score: Tensor) -> bool:
        """Whether a file with this score would stay; an equal one is no better than the one that is there."""
        if not self.is_full:
            return True
        if self.size == 0:
            return False
        worst = float(self.scores[self.worst])
        return float(score) < worst if self.mode == "min" else float(score) > worst

    def with_one_more(self, path: str, score: Tensor) -> TopK:
        """What stays when ``path`` comes."""
        rest = TopK(self.size, self.mode, {old: value for old, value in self.scores.items() if old != path})
        while rest.is_full:
            rest.scores.pop(rest.worst)
        rest.scores[path] = score
        return rest

    def chosen_from(self, files: Mapping[str, Commit]) -> TopK:
        """What stays of files that came one after another."""
        kept = self
        for path, commit in files.items():
            if commit.score is not None and kept.accepts(score := torch.tensor(commit.score)):
                kept = kept.with_one_more(path, score)
        return kept


@dataclass(frozen=True)
class Stock:
    """What a callback has written for a run, by the index of its folder.

    Attributes:
        steps: Path -> step of all it wrote.
        kept: Path -> commit of what is there because it was chosen; oldest first.
        newest: The newest file that is there.
    """

    steps: dict[str, int] = field(default_factory=dict)
    kept: dict[str, Commit] = field(default_factory=dict)
    newest: str = ""

    @classmethod
    def of(cls, folder: str, owner: str, run: str | None = None, *, broken: Iterable[str] = ()) -> Stock:
        """Read the index of a folder.

        Args:
            folder: The folder.
            owner: The `state_key` of the callback.
            run: The run (`Commit.run`); by default the newest one.
            broken: Files that are known to be damaged, which count as gone.
        """
        index = Index(folder)
        if run is not None:
            index.settle(run)
        written = [commit for commit in index.commits() if commit.owner == owner]
        run = written[-1].run if run is None and written else run
        lost = {os.path.realpath(path) for path in broken}
        there = [commit for commit in index.present() if (commit.owner, commit.run) == (owner, run)]
        there = [commit for commit in there if os.path.realpath(index.path_of(commit)) not in lost]
        return cls(
            {index.path_of(commit): commit.step for commit in written if commit.run == run},
            {index.path_of(commit): commit for commit in there if commit.role == "kept"},
            index.path_of(there[-1]) if there else "",
        )
