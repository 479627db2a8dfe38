from __future__ import annotations

import copy
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import levin.loggers
from levin.loggers.base import (
    DirectoryLogger,
    DummyExperiment,
    DummyLogger,
    Logger,
    claim_version,
    merge_dicts,
    next_version,
    rank_zero_experiment,
)
from levin.loggers.params import as_params, flatten, plain, write_hparams
from levin.utils.rank import rank_zero_only


class ListLogger(Logger):
    """Keeps what it is given; the least that a logger of one's own has."""

    name = "list"
    version = 1

    def __init__(self):
        self.rows = []
        self.saved = 0

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_hyperparams(self, params):
        self.hparams = params

    def save(self):
        self.saved += 1


class FolderLogger(DirectoryLogger):
    log_metrics = log_hyperparams = None

    @property
    @rank_zero_experiment
    def experiment(self):
        return "the real one"


@pytest.fixture
def rank_one(monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)


def test_a_logger_of_ones_own_gets_defaults_for_all_the_rest():
    logger = ListLogger()
    logger.log_graph(nn.Linear(1, 1))
    logger.after_save_checkpoint(None)
    logger.settle_version(lambda value: value)
    assert (logger.save_dir, logger.root_dir, logger.log_dir, logger.group_separator) == (
        None,
        None,
        None,
        "/",
    )


def test_finalize_saves_by_default():
    logger = ListLogger()
    logger.finalize("success")
    assert logger.saved == 1


def test_a_logger_may_assign_its_experiment():
    logger = ListLogger()
    assert logger.experiment is None
    logger.experiment = "mine"
    assert logger.experiment == "mine"


def test_a_logger_without_its_abstract_methods_cannot_be_built():
    with pytest.raises(TypeError, match="log_metrics"):
        type("Half", (Logger,), {"name": "", "version": 0})()


def test_building_a_logger_and_asking_where_it_writes_creates_nothing(tmp_path):
    logger = FolderLogger(tmp_path / "logs", name="run")
    assert logger.log_dir == str(tmp_path / "logs" / "run" / "version_0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", None])
def test_without_a_name_versions_lie_in_save_dir_itself(tmp_path, name):
    logger = FolderLogger(tmp_path, name=name)
    assert (logger.name, logger.root_dir, logger.log_dir) == ("", str(tmp_path), str(tmp_path / "version_0"))


def test_a_version_that_is_a_text_is_the_whole_name_of_the_directory(tmp_path):
    assert FolderLogger(tmp_path, "n", version="2024-run").log_dir == str(tmp_path / "n" / "2024-run")
    assert FolderLogger(tmp_path, "n", version=7).log_dir == str(tmp_path / "n" / "version_7")


def test_the_version_is_decided_once_and_stays(tmp_path):
    logger = FolderLogger(tmp_path)
    assert logger.version == 0
    (tmp_path / "lightning_logs" / "version_0").mkdir(parents=True)
    assert logger.version == 0
    assert FolderLogger(tmp_path).version == 1


def test_home_and_variables_in_save_dir_are_replaced(monkeypatch):
    monkeypatch.setenv("WHERE", "/somewhere")
    monkeypatch.setenv("HOME", "/home/me")
    assert FolderLogger("$WHERE/logs").save_dir == "/somewhere/logs"
    assert FolderLogger(Path("~/logs")).save_dir == "/home/me/logs"


def test_urls_are_joined_with_slashes():
    assert FolderLogger("memory://bucket/logs", "a", 3).log_dir == "memory://bucket/logs/a/version_3"


def test_the_next_version_follows_the_largest_one(tmp_path):
    for name in ("version_2", "version_10", "version_x", "other"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11
    assert next_version(tmp_path / "missing") == 0


def test_claiming_at_the_same_moment_gives_everybody_a_version_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(claim_version, [tmp_path] * 40))
    assert sorted(versions) == list(range(40))


def test_settling_makes_the_directory_on_rank_zero_and_tells_the_others(tmp_path, monkeypatch):
    told = []
    first, second = FolderLogger(tmp_path), FolderLogger(tmp_path)
    first.settle_version(lambda value: told.append(value) or value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    second.settle_version(lambda _: told[0])
    assert first.log_dir == second.log_dir == str(tmp_path / "lightning_logs" / "version_0")
    assert Path(first.log_dir).is_dir()


def test_a_given_version_is_the_same_for_all_after_settling(tmp_path):
    logger = FolderLogger(tmp_path, version="job-17")
    logger.settle_version(lambda value: value)
    assert logger.version == "job-17"


def test_other_ranks_get_an_experiment_that_ignores_all(tmp_path, rank_one):
    assert isinstance(FolderLogger(tmp_path).experiment, DummyExperiment)


def test_rank_zero_gets_the_real_experiment(tmp_path):
    assert FolderLogger(tmp_path).experiment == "the real one"


def test_a_dummy_experiment_takes_anything():
    dummy = DummyExperiment()
    dummy["series"].append(1)
    dummy["x"] = 3
    with dummy.start(run=1) as run:
        run.a.b.c(2)
    assert list(dummy) == []
    assert dummy[0] is dummy


def test_dummies_can_be_copied():
    assert isinstance(copy.deepcopy(DummyExperiment()), DummyExperiment)
    assert isinstance(copy.deepcopy(DummyLogger()), DummyLogger)


def test_a_dummy_logger_takes_every_call_of_other_loggers():
    logger = DummyLogger()
    logger.log_metrics({"a": 1}, step=1)
    logger.log_hyperparams("a", b=2)
    logger.log_image(key="x", images=[])
    logger.experiment.add_figure("a", None)
    logger.finalize("success")
    assert (logger.name, logger.version, logger[0], list(logger)) == ("", "", logger, [])


def test_merging_dicts_takes_the_mean_unless_told_otherwise():
    first = {"a": 1.75, "b": 2.0, "c": 1, "d": {"x": 1, "y": 3}}
    second = {"a": 1.25, "b": 2.5, "v": 1, "d": {"x": 2, "z": 5}}
    merged = merge_dicts([first, second], agg_key_funcs={"b": min, "d": {"x": sum}})
    assert merged == {"a": 1.5, "b": 2.0, "c": 1, "v": 1, "d": {"x": 3, "y": 3, "z": 5}}


def test_merging_dicts_with_another_default():
    assert merge_dicts([{"a": 1}, {"a": 5}, {}], default_func=max) == {"a": 5}
    assert merge_dicts([]) == {}


class Colour(Enum):
    RED = 1


@dataclass
class Options:
    lr: float
    layers: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1e-5, 1e-5),
        (Colour.RED, "RED"),
        (Options(0.1, (3, 4)), {"lr": 0.1, "layers": [3, 4]}),
        (Namespace(a=Namespace(b=1)), {"a": {"b": 1}}),
        ({1: {2, 1}}, {1: [1, 2]}),
        ({Colour.RED: 1}, {"RED": 1}),
        (np.float64(0.5), 0.5),
        (np.int32(4), 4),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.zeros(10, 10), "array of shape [10, 10], torch.float32"),
        (np.arange(3), [0, 1, 2]),
        (range(2), [0, 1]),
        (b"ab", "b'ab'"),
        (nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (nn.ReLU(), "ReLU()"),
        (Path("a/b"), "a/b"),
        (torch.float16, "torch.float16"),
    ],
)
def test_hyper_parameters_become_plain(value, expected):
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    "params", [{"lr": 0.1, "layers": ()}, Namespace(lr=0.1, layers=()), Options(0.1, ())]
)
def test_hyper_parameters_come_in_several_forms(params):
    assert as_params(params) == {"lr": 0.1, "layers": ()}
    assert as_params(None) == {}


def test_flattening_puts_nested_names_together():
    params = {"optim": {"lr": 0.1, "betas": (0.9, 0.99)}, "act": nn.ReLU(), "seed": None, 3: True}
    assert flatten(params) == {
        "optim/lr": 0.1,
        "optim/betas": "[0.9, 0.99]",
        "act": "ReLU()",
        "seed": "None",
        "3": True,
    }


def test_written_hyper_parameters_load_safely_and_keep_their_order(tmp_path):
    write_hparams(tmp_path / "hparams.yaml", {"z": nn.ReLU(), "a": {"lr": 1e-5, "names": ("ü", "b")}})
    text = (tmp_path / "hparams.yaml").read_text()
    assert yaml.safe_load(text) == {"z": "ReLU()", "a": {"lr": 1e-5, "names": ["ü", "b"]}}
    assert text.startswith("z:")


def test_an_unknown_logger_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'CVSLogger'.*CSVLogger"):
        levin.loggers.CVSLogger  # noqa: B018  (looking it up is the test)


def test_every_public_logger_is_there():
    assert all(getattr(levin.loggers, name).__name__ == name for name in levin.loggers.__all__)
    assert set(levin.loggers.__all__) <= set(dir(levin.loggers))


def test_building_the_loggers_loads_neither_tensorboard_nor_yaml_nor_fsspec(tmp_path):
    program = (
        "import sys; from levin.loggers import CSVLogger, TensorBoardLogger\n"
        f"CSVLogger({str(tmp_path)!r}).log_dir, TensorBoardLogger({str(tmp_path)!r}).log_dir\n"
        "heavy = ('tensorboard', 'yaml', 'fsspec', 'torch.utils.tensorboard')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "[]"
