from __future__ import annotations

import copy
import os
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from levin.loggers import TensorBoardLogger
from levin.utils.rank import rank_zero_only


def events(log_dir: str) -> EventAccumulator:
    return EventAccumulator(str(log_dir)).Reload()


def scalars(log_dir: str) -> dict[str, list[tuple[int, float]]]:
    read = events(log_dir)
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def shown_hparams(log_dir: str) -> dict[str, object]:
    content = events(log_dir).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


class Doubling(nn.Module):
    def __init__(self, example=None):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.example_input_array = example

    def forward(self, x):
        return 2 * self.layer(x)


def test_metrics_can_be_read_back(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1, "b": torch.tensor(2.5)}, step=3)
    logger.log_metrics({"a": 2.0}, step=4)
    logger.save()
    assert scalars(logger.log_dir) == {"a": [(3, 1.0), (4, 2.0)], "b": [(3, 2.5)]}


def test_a_dict_of_numbers_is_one_picture(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": {"train": 1.0, "val": 2.0}}, step=1)
    logger.finalize("success")
    assert scalars(Path(logger.log_dir) / "loss_train") == {"loss": [(1, 1.0)]}
    assert scalars(Path(logger.log_dir) / "loss_val") == {"loss": [(1, 2.0)]}


@pytest.mark.parametrize("value", ["text", None, torch.zeros(2)])
def test_what_is_no_number_is_refused_by_name(tmp_path, value):
    with pytest.raises(ValueError, match="'acc'"):
        TensorBoardLogger(tmp_path).log_metrics({"acc": value}, step=0)


def test_the_prefix_stands_before_every_metric(tmp_path):
    logger = TensorBoardLogger(tmp_path, prefix="exp")
    logger.log_metrics({"a": 1}, step=0)
    logger.log_hyperparams({"lr": 1})
    logger.save()
    assert set(scalars(logger.log_dir)) == {"exp-a", "exp-hp_metric"}


def test_hyper_parameters_get_a_metric_without_which_they_are_not_shown(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.5})
    logger.save()
    assert scalars(logger.log_dir) == {"hp_metric": [(0, -1.0)]}
    assert shown_hparams(logger.log_dir) == {"lr": 0.5}


def test_nested_hyper_parameters_are_shown_flat_and_plain(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams(Namespace(net=Namespace(act=nn.ReLU(), sizes=[1, 2]), seed=None, ok=True))
    logger.save()
    assert shown_hparams(logger.log_dir) == {
        "net/act": "ReLU()",
        "net/sizes": "[1, 2]",
        "seed": "None",
        "ok": True,
    }


@pytest.mark.parametrize(
    ("metrics", "expected"), [({"m": 2.0}, {"m": [(7, 2.0)]}), (5.0, {"hp_metric": [(7, 5.0)]})]
)
def test_metrics_given_with_hyper_parameters_take_the_place_of_the_default_one(tmp_path, metrics, expected):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 1}, metrics, step=7)
    logger.save()
    assert scalars(logger.log_dir) == expected


def test_without_the_default_metric_hyper_parameters_go_to_their_file_only(tmp_path):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    logger.log_hyperparams({"lr": 1})
    logger.log_hyperparams({"net": {"sizes": (1, 2)}})
    logger.experiment.flush()
    logger.save()
    assert scalars(logger.log_dir) == {}
    text = (Path(logger.log_dir) / "hparams.yaml").read_text()
    assert yaml.safe_load(text) == {"lr": 1, "net": {"sizes": [1, 2]}}


def test_one_run_has_one_event_file(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 1}, {"m": 1.0})
    logger.log_metrics({"a": 1}, step=0)
    logger.finalize("success")
    assert [path.name for path in Path(logger.log_dir).iterdir() if path.is_dir()] == []
    assert len(list(Path(logger.log_dir).glob("events.*"))) == 1


def test_a_sub_directory_holds_all_files(tmp_path, monkeypatch):
    monkeypatch.setenv("PART", "one")
    logger = TensorBoardLogger(tmp_path, version="v", sub_dir="$PART/train")
    logger.log_hyperparams({"lr": 1})
    logger.save()
    assert logger.sub_dir == "$PART/train"
    assert logger.log_dir == str(tmp_path / "lightning_logs" / "v" / "one" / "train")
    assert (Path(logger.log_dir) / "hparams.yaml").is_file()


def test_building_and_finalizing_an_unused_logger_leaves_nothing(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.save()
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_metrics({"a": 1}, step=0)
    logger.log_hyperparams({"lr": 1})
    logger.log_graph(Doubling(torch.ones(1, 2)))
    logger.experiment.add_text("a", "b")
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_a_finalized_logger_can_be_written_to_again(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    logger.finalize("success")
    logger.log_metrics({"b": 1}, step=1)
    logger.finalize("success")
    assert set(scalars(logger.log_dir)) == {"a", "b"}


def test_the_graph_is_written_from_the_example_input(tmp_path):
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_graph(Doubling(torch.ones(1, 2)))
    logger.finalize("success")
    assert any("layer" in node.name for node in _graph(logger.log_dir).node)


def test_the_graph_is_written_from_a_given_input(tmp_path):
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_graph(Doubling(), torch.ones(1, 2))
    logger.finalize("success")
    assert any("layer" in node.name for node in _graph(logger.log_dir).node)


def _graph(log_dir: str):
    return events(log_dir).Graph()


def test_a_graph_without_an_input_is_warned_about(tmp_path):
    with pytest.warns(UserWarning, match="example_input_array"):
        TensorBoardLogger(tmp_path, log_graph=True).log_graph(Doubling())


def test_no_graph_is_written_unless_asked_for(tmp_path):
    TensorBoardLogger(tmp_path).log_graph(Doubling(torch.ones(1, 2)))
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_summary_writer(tmp_path):
    logger = TensorBoardLogger(tmp_path, filename_suffix=".mine")
    logger.log_metrics({"a": 1}, step=0)
    logger.finalize("success")
    assert [path.suffix for path in Path(logger.log_dir).glob("events.*")] == [".mine"]


def test_a_copy_has_an_event_file_of_its_own(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    other = copy.deepcopy(logger)
    assert other.log_dir == logger.log_dir
    assert other.experiment is not logger.experiment
    other.finalize("success")
    logger.finalize("success")


def test_without_tensorboard_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        TensorBoardLogger(tmp_path)
    assert os.listdir(tmp_path) == []
