"""What `resolve` makes of arguments, machines and environments: each row of ``resolve_table.txt``.

A section of the table is a machine and an environment: a title, and a line of settings. ``cuda=4`` and
``mps`` are the machine's devices, ``ps1`` is a terminal or a notebook, capitals are environment variables. In
a row stand arguments of the Trainer, and below them what comes of them.

``python tests/unit/test_resolve_table.py`` writes the results anew; read what has changed.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import levin.precision
from levin import accelerators, checkpoint, clusters, strategies
from levin.resolve import resolve
from levin.utils.rank import rank_zero_only

TABLE = Path(__file__).with_name("resolve_table.txt")
NAMES = {
    name: getattr(module, name)
    for module in (levin.precision, accelerators, checkpoint, clusters, strategies)
    for name in module.__all__
} | {"torch": torch, "OwnSync": type("OwnSync", (strategies.LayerSync,), {"apply": None, "revert": None})}
# What a machine or a shell of one's own may have set.
FOREIGN = re.compile(
    r"^(\w*RANK|\w*WORLD_SIZE|MASTER_\w+|TORCHELASTIC_\w+|OMPI_\w+|PMIX?_\w+|LSB_\w+|JSM_\w+)$"
)


@dataclass(frozen=True)
class Section:
    """A machine and an environment, and what is asked of them."""

    title: str
    settings: list[str]
    rows: list[str]

    def text(self, results):
        """As it stands in the table."""
        told = "\n".join(f"{row}\n{textwrap.indent(result, '    ')}" for row, result in results)
        return f"== {self.title}\n   {' '.join(self.settings)}\n\n{told}\n"


def read():
    """The table: the sections, and their texts."""
    texts = [f"== {text.rstrip()}\n" for text in TABLE.read_text(encoding="utf-8").split("== ")[1:]]
    for text in texts:
        title, settings, *lines = text.removeprefix("== ").splitlines()
        yield Section(title, settings.split(), [line for line in lines if line.startswith("Trainer(")]), text


def actual(section):
    with machine(section.settings):
        return section.text([(row, outcome(row)) for row in section.rows])


@contextmanager
def machine(settings):
    """Within it, this is the machine and the environment that a section tells of."""
    given = dict(each.partition("=")[::2] for each in settings)
    num_cuda, has_mps, is_interactive = int(given.pop("cuda", 0)), "mps" in given, "ps1" in given
    before = rank_zero_only.rank
    with pytest.MonkeyPatch.context() as patch:
        for name in list(filter(FOREIGN.match, os.environ)):
            patch.delenv(name)
        for name, value in given.items():
            if name.isupper():
                patch.setenv(name, value)
        patch.setattr(accelerators.cuda, "num_cuda_devices", lambda: num_cuda)
        patch.setattr(torch.cuda, "is_available", lambda: num_cuda > 0)  # a gradient scaler asks
        patch.setattr(accelerators.MPSAccelerator, "is_available", staticmethod(lambda: has_mps))
        patch.setattr(sys, "ps1", ">>> ", raising=False)
        if not is_interactive:
            patch.delattr(sys, "ps1")
        rank_zero_only.rank = 0  # who warns
        yield
    rank_zero_only.rank = before


def outcome(row):
    """What comes of the arguments in a row."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            told = described(resolve(**eval(f"dict({row.removeprefix('Trainer')[1:-1]})", dict(NAMES))))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
    lines = [told, *(f"warns: {each.message}" for each in caught)]
    return "\n".join(
        textwrap.fill(line, 106, subsequent_indent="  ", break_long_words=False) for line in lines
    )


def described(hardware):
    strategy, cluster = hardware.strategy, hardware.cluster
    parts = [
        f"{type(strategy).__name__}{options(strategy)}",
        devices(hardware),
        strategy.precision.precision,
    ]
    if isinstance(strategy, strategies.ParallelStrategy):
        started = "started by others" if cluster.creates_processes_externally else started_by(strategy)
        parts.insert(2, f"rank {strategy.global_rank} of {strategy.world_size}, {started}")
    if type(cluster) is not clusters.LightningEnvironment:
        parts.append(type(cluster).__name__)
    if getattr(strategy, "layer_sync", None) is not None:
        parts.append(type(strategy.layer_sync).__name__)
    if type(strategy.checkpoint_io) is not checkpoint.TorchCheckpointIO:
        parts.append(type(strategy.checkpoint_io).__name__)
    return " | ".join(parts)


def options(strategy):
    if not isinstance(strategy, strategies.DDPStrategy):
        return ""
    chosen = {"find_unused_parameters": strategy._may_leave_out, **strategy._options}
    usual = {"static_graph": False, "find_unused_parameters": None, **strategies.DDPStrategy()._options}
    told = [f"{name}={value}" for name, value in chosen.items() if value != usual.get(name)]
    return f"({', '.join(told)})" if told else ""


def devices(hardware):
    found = [str(each) for each in hardware.devices]
    told = f"{len(found)} x cpu" if set(found) == {"cpu"} else " ".join(found)
    nodes = f" on each of {hardware.num_nodes} machines" if hardware.num_nodes > 1 else ""
    mine = str(hardware.strategy.root_device)
    return told + nodes + (f", here {mine}" if len(set(found)) > 1 else "")


def started_by(strategy):
    return "starts none" if strategy.launcher is None else f"by {strategy.start_method}"


@pytest.mark.parametrize(("section", "text"), [pytest.param(*each, id=each[0].title) for each in read()])
def test_arguments_machine_and_environment_come_to_what_the_table_says(section, text):
    assert actual(section) == text


if __name__ == "__main__":
    head = TABLE.read_text(encoding="utf-8").partition("== ")[0]
    TABLE.write_text(head + "\n".join(actual(section) for section, _ in read()), encoding="utf-8")
