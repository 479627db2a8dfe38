from __future__ import annotations

import copy
import csv
import logging
import pickle
from argparse import Namespace
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
import torch
import yaml
from fsspec.implementations.memory import MemoryFileSystem

from levin.loggers import CSVLogger
from levin.loggers.csv import ExperimentWriter
from levin.utils.rank import rank_zero_only


def table(logger: CSVLogger) -> str:
    return (Path(logger.log_dir) / "metrics.csv").read_text()


def test_rows_have_sorted_columns_and_empty_cells(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"b": 1, "a": torch.tensor(2.5)}, step=0)
    logger.log_metrics({"a": 1.5, "epoch": 0}, step=1)
    logger.save()
    assert table(logger) == "a,b,epoch,step\n2.5,1,,0\n1.5,,0,1\n"


def test_a_new_name_gives_old_rows_an_empty_cell(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0, "note": 'with, comma and "quotes"'}, step=0)
    logger.save()
    logger.log_metrics({"acc": float("nan")}, step=1)
    logger.save()
    assert table(logger) == 'acc,loss,note,step\n,1.0,"with, comma and ""quotes""",0\nnan,,,1\n'


def test_saving_again_appends_and_leaves_what_is_there(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    logger.save()
    file = Path(logger.log_dir) / "metrics.csv"
    before = file.stat().st_ino
    logger.log_metrics({"a": 2}, step=1)
    logger.save()
    assert file.read_text() == "a,step\n1,0\n2,1\n"
    assert file.stat().st_ino == before  # a file that is written anew is another one


def test_saving_twice_writes_rows_once(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    logger.save()
    logger.save()
    assert table(logger) == "a,step\n1,0\n"


def test_without_steps_rows_are_counted_on(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=4)
    logger.log_metrics({"a": 2})
    logger.save()
    logger.log_metrics({"a": 3})
    logger.save()
    assert table(logger) == "a,step\n1,4\n2,5\n3,6\n"


def test_rows_are_flushed_when_enough_steps_went_by(tmp_path):
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=2)
    waiting = []
    for step in (0, 1, 2, 3, 6, 10):
        logger.log_metrics({"a": step}, step)
        waiting.append(len(logger.experiment.metrics))
    assert waiting == [1, 0, 1, 0, 0, 0]


def test_the_prefix_stands_before_every_metric(tmp_path):
    logger = CSVLogger(tmp_path, prefix="exp")
    logger.log_metrics({"a": 1}, step=0)
    logger.save()
    assert table(logger) == "exp-a,step\n1,0\n"


@pytest.mark.parametrize(
    "params", [{"lr": 0.1, "net": {"width": 3}}, Namespace(lr=0.1, net=Namespace(width=3))]
)
def test_hyper_parameters_go_to_a_file_of_their_own(tmp_path, params):
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams(params)
    logger.log_hyperparams({"seed": 1})
    logger.finalize("success")
    text = (Path(logger.log_dir) / "hparams.yaml").read_text()
    assert yaml.safe_load(text) == {"lr": 0.1, "net": {"width": 3}, "seed": 1}


def test_hyper_parameters_are_written_again_only_when_they_change(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams({"a": 1})
    logger.save()
    file = Path(logger.log_dir) / "hparams.yaml"
    file.write_text("untouched")
    logger.save()
    assert file.read_text() == "untouched"


def test_a_logger_that_was_never_used_leaves_nothing(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.save()
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_the_directory_appears_with_the_experiment(tmp_path):
    logger = CSVLogger(tmp_path)
    assert isinstance(logger.experiment, ExperimentWriter)
    assert Path(logger.log_dir).is_dir()


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_continued(tmp_path, caplog):
    first, second = CSVLogger(tmp_path, version=0), CSVLogger(tmp_path, version=0)
    first.log_metrics({"a": 1, "b": 2}, step=0)
    first.save()
    logging.getLogger("levin").addHandler(caplog.handler)
    second.log_metrics({"b": 3, "c": 4}, step=1)
    logging.getLogger("levin").removeHandler(caplog.handler)
    second.save()
    assert table(second) == "a,b,c,step\n1,2,,0\n,3,4,1\n"
    assert "rows of an earlier run" in caplog.text


@pytest.mark.parametrize(("torn", "kept"), [("a,step\n1,0\n2.34", "a,step\n1,0\n"), ("a,st", "")])
def test_a_line_that_a_killed_process_did_not_finish_is_cut_off(tmp_path, torn, kept):
    (tmp_path / "metrics.csv").write_text(torn)
    writer = ExperimentWriter(tmp_path)
    writer.log_metrics({"a": 5}, step=1)
    writer.save()
    assert (tmp_path / "metrics.csv").read_text() == (kept or "a,step\n") + "5,1\n"


def test_no_temporary_files_stay(tmp_path):
    logger = CSVLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({f"name_{step}": step}, step)
        logger.save()
    assert [file.name for file in Path(logger.log_dir).iterdir()] == ["metrics.csv"]


def test_a_failing_write_keeps_the_rows_for_later(tmp_path):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    directory = Path(logger.log_dir)
    file = directory / "metrics.csv"
    file.mkdir()  # nothing can be written there
    with pytest.raises(OSError, match=r"metrics\.csv"):
        logger.save()
    file.rmdir()
    logger.save()
    assert table(logger) == "a,step\n1,0\n"


def test_a_url_is_written_to_like_a_directory():
    logger = CSVLogger("memory://bucket/csv-logs", name="url", version=0)
    for step in range(3):
        logger.log_metrics({"a": step} if step < 2 else {"b": step}, step)
        logger.save()
    logger.log_hyperparams({"lr": 1})
    logger.finalize("success")
    files = fsspec.filesystem("memory")
    assert files.cat(f"{logger.log_dir}/metrics.csv") == b"a,b,step\n0,,0\n1,,1\n,2,2\n"
    assert files.cat(f"{logger.log_dir}/hparams.yaml") == b"lr: 1\n"
    assert CSVLogger("memory://bucket/csv-logs", name="url").version == 1


class ObjectStore(MemoryFileSystem):
    """Cannot append, like most of its kind."""

    protocol = "objects"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    def open(self, path, mode="rb", **kwargs):
        if "a" in mode:
            raise NotImplementedError(mode)
        return super().open(path, mode, **kwargs)


def test_where_nothing_can_be_appended_the_file_is_put_anew():
    fsspec.register_implementation("objects", ObjectStore, clobber=True)
    logger = CSVLogger("objects://bucket/logs", version=0)
    for step in range(3):
        logger.log_metrics({"a": step}, step)
        logger.save()
    assert fsspec.filesystem("objects").cat(f"{logger.log_dir}/metrics.csv") == b"a,step\n0,0\n1,1\n2,2\n"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda logger: pickle.loads(pickle.dumps(logger))])
def test_a_copy_writes_to_the_same_directory_with_a_writer_of_its_own(tmp_path, duplicate):
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, step=0)
    other = duplicate(logger)
    assert other.log_dir == logger.log_dir
    assert other.experiment.metrics == []


def test_what_a_flush_writes_does_not_grow_with_the_file(tmp_path):
    writer = ExperimentWriter(tmp_path)
    written = []
    for step in range(200):
        writer.log_metrics({"loss": 1.0}, step)
        size = (tmp_path / "metrics.csv").stat().st_size if step else 0
        writer.save()
        written.append((tmp_path / "metrics.csv").stat().st_size - size)
    assert max(written[1:]) < 10  # bytes a row, however many there are
    with (tmp_path / "metrics.csv").open() as file:
        assert len(list(csv.reader(file))) == 201


def rows_in(folder):
    return list(csv.DictReader((folder / "version_0" / "metrics.csv").read_text().splitlines()))


def written(folder, *losses):
    """A logger that wrote these rows, and its position after two of them."""
    logger = CSVLogger(folder, name=None, version=0)
    for step, loss in enumerate(losses):
        if step == 2:
            position = logger.position()
        logger.log_metrics({"loss": loss, **({"late": 1} if step == 3 else {})}, step=step)
    logger.save()
    return position


def test_rows_are_taken_back_in_a_folder_that_was_moved(tmp_path):
    position = written(tmp_path / "first", 0.1, torch.tensor(0.2), 0.3, 0.4)
    (tmp_path / "first").rename(tmp_path / "second")
    again = CSVLogger(tmp_path / "second", name=None, version=0)
    again.go_on(position)
    assert again.position() == {**position, "log_dir": again.log_dir}
    again.log_metrics({"loss": 0.5}, step=2)
    again.save()
    assert [row["loss"] for row in rows_in(tmp_path / "second")] == [
        "0.1",
        str(torch.tensor(0.2).item()),
        "0.5",
    ]


def test_rows_of_another_run_stay(tmp_path):
    position = written(tmp_path / "first", 0.1, 0.2, 0.3)
    written(tmp_path / "second", 0.1, 0.25, 0.3)
    for folder in ("second", "third"):
        CSVLogger(tmp_path / folder, name=None, version=0).go_on(position)
    assert len(rows_in(tmp_path / "second")) == 3
