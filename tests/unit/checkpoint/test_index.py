"""The index of commits, and what becomes of files that it does not agree with."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import sys

import pytest
import torch

from levin.checkpoint import TorchCheckpointIO
from levin.checkpoint.index import COMMIT_KEY, INDEX_NAME, Commit, Index, Lineage, damage
from levin.checkpoint.io import CorruptCheckpointError, load
from levin.checkpoint.plain import OWN_KEY
from levin.utils import paths


def save(folder, name, value=1.0, size=50, **said):
    """Save a checkpoint as a callback has it saved, and return its path."""
    path = paths.join(str(folder), name)
    lineage = Lineage("run")
    with lineage.noting(home=str(folder), owner="callback", role="kept", **said):
        commit = lineage.describe(path, step=int(value))
    state = {"state_dict": {"weight": torch.full((size,), float(value))}, OWN_KEY: {COMMIT_KEY: commit}}
    TorchCheckpointIO().save_checkpoint({**state, "global_step": int(value), "epoch": 0}, path)
    return path


def value(path):
    return load(path)["state_dict"]["weight"].unique().item()


def flip(path, at, bit=0):
    """Turn one bit of a file round."""
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.fixture(params=["here", "memory"])
def folder(request, tmp_path):
    return str(tmp_path / "c") if request.param == "here" else f"memory://{tmp_path.name}/c"


def test_a_commit_has_a_line_with_its_size_and_digest(folder):
    path = save(folder, "a.ckpt", 3, score=0.5, monitor="loss")
    (commit,) = Index(folder).commits()
    assert (commit.name, commit.step, commit.score, commit.run) == ("a.ckpt", 3, 0.5, "run")
    assert commit.size == paths.size(path)
    with paths.fetched(path) as content:
        assert damage(path, content) is None
    assert len(commit.sha256) == 64


def test_lines_are_only_ever_appended(folder):
    save(folder, "a.ckpt", 1)
    with paths.open_file(Index(folder).path) as file:
        before = file.read()
    TorchCheckpointIO().remove_checkpoint(save(folder, "b.ckpt", 2))
    with paths.open_file(Index(folder).path) as file:
        assert file.read().startswith(before)
    assert [commit.name for commit in Index(folder).present()] == ["a.ckpt"]


def test_a_name_with_folders_in_it_is_known_by_the_folder_above(folder):
    path = save(folder, "val/loss=0.5.ckpt")
    assert [commit.name for commit in Index(folder).present()] == ["val/loss=0.5.ckpt"]
    TorchCheckpointIO().remove_checkpoint(path)
    assert not Index(folder).commits()


def test_files_that_nobody_looks_after_get_no_index(tmp_path):
    TorchCheckpointIO().save_checkpoint({"state_dict": {}}, tmp_path / "mine.ckpt")
    assert os.listdir(tmp_path) == ["mine.ckpt"]


def test_a_file_among_those_of_an_index_is_noted_there(tmp_path):
    save(tmp_path, "a.ckpt")
    TorchCheckpointIO().save_checkpoint({"state_dict": {}, "global_step": 7}, tmp_path / "mine.ckpt")
    assert [(each.name, each.step) for each in Index(tmp_path).present()] == [("a.ckpt", 1), ("mine.ckpt", 7)]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 0.0])
def test_any_score_comes_back_from_a_line_of_json(score):
    line = Commit("a.ckpt", score=score, metrics={"m": score}).line()
    json.loads(line, parse_constant=pytest.fail)
    commit = Commit.parse(json.loads(line))
    assert str((commit.score, commit.metrics["m"])) == str((score, score))


def test_a_line_of_a_later_version_is_read_as_far_as_it_is_known():
    assert Commit.parse({"name": "a.ckpt", "step": 2, "colour": "red"}) == Commit("a.ckpt", 2)


def test_lines_that_can_not_be_read_are_passed_over(tmp_path):
    save(tmp_path, "a.ckpt")
    with open(tmp_path / INDEX_NAME, "a") as file:
        file.write('[1]\n"text"\n{"name": "b.ckpt", "score": []}\n{"name": "half')
    save(tmp_path, "c.ckpt")
    assert [commit.name for commit in Index(tmp_path).commits()] == ["a.ckpt", "c.ckpt"]


def test_a_link_in_place_of_a_file_is_no_commit_of_its_own(tmp_path):
    save(tmp_path, "last.ckpt", 1)
    os.remove(tmp_path / "last.ckpt")
    save(tmp_path, "a.ckpt", 2)
    os.symlink("a.ckpt", tmp_path / "last.ckpt")
    assert [commit.name for commit in Index(tmp_path).present()] == ["a.ckpt"]
    assert value(tmp_path / "last.ckpt") == 2


# ------------------------------------------------------------------------------------------- damaged files


def test_a_changed_bit_is_found_and_the_newest_whole_file_named(folder):
    save(folder, "a.ckpt", 1)
    path = save(folder, "b.ckpt", 2)
    with paths.open_file(path) as file:
        content = bytearray(file.read())
    content[len(content) // 2] ^= 1
    with paths.open_file(path, "wb") as file:
        file.write(content)
    with pytest.raises(CorruptCheckpointError, match=r"b.ckpt is damaged.* beside it is .*a.ckpt"):
        load(path)


@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
def test_a_file_that_was_cut_off_is_found(tmp_path, kept):
    path = save(tmp_path, "a.ckpt")
    size = os.path.getsize(path)
    os.truncate(path, int(kept * size) if 0 < kept < 1 else kept % size)
    with pytest.raises(CorruptCheckpointError, match=f"of {size} bytes are there"):
        load(path)


@pytest.mark.parametrize("is_known", [True, False], ids=["in the index", "alone"])
def test_no_changed_bit_is_ever_read_as_something_else(tmp_path, is_known):
    path = save(tmp_path, "a.ckpt", 2.5, size=5)
    if not is_known:
        os.remove(tmp_path / INDEX_NAME)
    generator, wrong = random.Random(0), []
    for at in range(os.path.getsize(path)):
        bit = generator.randrange(8)
        flip(path, at, bit)
        with contextlib.suppress(Exception):  # any error is loud
            if value(path) != 2.5:
                wrong.append(at)
        flip(path, at, bit)
    assert not wrong
    assert value(path) == 2.5


@pytest.mark.filterwarnings("error")
def test_a_whole_file_that_somebody_put_there_is_used_with_a_warning(tmp_path):
    path = save(tmp_path, "a.ckpt", 1)
    edited = load(path)
    edited["state_dict"]["weight"] += 1
    torch.save(edited, path)
    with pytest.warns(UserWarning, match=r"a.ckpt is not the file that was written there"):
        assert value(path) == 2


# ------------------------------------------------------------------------------------ crashes anywhere


def dies_at(number, act):
    """Run ``act`` in a forked process that ends without a word before its ``number``-th line of levin's."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = number

    def count(frame, event, _):
        nonlocal left
        place = frame.f_code.co_filename
        if "levin/checkpoint" not in place and "levin/utils" not in place:
            return None
        left -= event == "line"
        if left < 0:
            os._exit(9)
        return count

    sys.settrace(count)
    act()
    os._exit(0)


def step_of_newest(home):
    """The step of the newest commit, once another process has looked; the file has to be what it says."""
    index = Index(home)
    index.settle("run")
    commit = index.present()[-1]
    assert damage(index.path_of(commit)) is None
    assert value(index.path_of(commit)) == commit.step
    return commit.step


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("second", ["b.ckpt", "a.ckpt"], ids=["another", "in place"])
def test_a_death_at_any_line_of_a_save_leaves_the_old_or_the_new(tmp_path, second, stride):
    steps, status = [], 9
    while status == 9:
        home = tmp_path / str(len(steps))
        save(home, "a.ckpt", 1)
        status = dies_at(stride * len(steps), lambda: save(home, second, 2))  # noqa: B023  # called at once
        steps.append(step_of_newest(home))
        save(home, "c.ckpt", 3)
        expected = {INDEX_NAME, "a.ckpt", "c.ckpt", *([second] if steps[-1] == 2 else [])}
        assert set(os.listdir(home)) == expected
    assert status == 0
    assert len(steps) > 200 / stride
    assert steps == sorted(steps)
    assert set(steps) == {1, 2}


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_death_at_any_line_of_a_removal_leaves_an_index_that_is_right(tmp_path, stride):
    left, status = [], 9
    while status == 9:
        home = tmp_path / str(len(left))
        save(home, "a.ckpt", 1)
        path = save(home, "b.ckpt", 2)
        status = dies_at(stride * len(left), lambda: TorchCheckpointIO().remove_checkpoint(path))  # noqa: B023
        left.append(step_of_newest(home))
        assert [each.name for each in Index(home).present()] == sorted(set(os.listdir(home)) - {INDEX_NAME})
    assert status == 0
    assert set(left) == {1, 2}
