"""`levin ckpt` on the checkpoints of a real run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.checkpoint.index import Commit, Index
from levin.cli.main import main
from levin.testing.models import BoringModel
from levin.utils.paths import filesystem


class Model(BoringModel):
    def __init__(self, width=3):
        super().__init__()
        self.save_hyperparameters()
        self.register_buffer("same", self.layer.weight)

    def on_train_epoch_end(self):
        self.log("score", float(abs(self.current_epoch - 1)))


@pytest.fixture
def folder(tmp_path):
    """Four checkpoints, of which that of epoch 1 is the best, and a link to the last one."""
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=4, limit_train_batches=2, limit_val_batches=0, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(tmp_path / "run", monitor="score", save_top_k=-1, save_last=True)],
    )  # fmt: skip
    trainer.fit(Model())
    return tmp_path / "run"


@pytest.fixture
def ckpt(capsys):
    """``ckpt(word, ...)`` runs the command, and returns its exit status, its lines and its errors."""

    def run(*words):
        capsys.readouterr()
        status = main(["ckpt", *map(str, words)])
        told = capsys.readouterr()
        return status, told.out.splitlines(), told.err

    return run


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_ls_lists_steps_scores_and_links_of_all_folders_below(ckpt, folder):
    torch.save({}, folder.parent / "other.ckpt")
    status, lines, _ = ckpt("ls", folder.parent)
    assert status == 0
    assert lines[0].split() == ["checkpoint", "step", "epoch", "size", "saved", "score"]
    assert lines[1].split() == ["other.ckpt", *lines[1].split()[1:3], "in", "no", "index"]
    assert [line.split()[:3] for line in lines[2:6]] == [
        [f"run/epoch={epoch}-step={2 * epoch + 2}.ckpt", str(2 * epoch + 2), str(epoch)] for epoch in range(4)
    ]
    assert [line.split()[-1] for line in lines[2:6]] == ["score=1", "score=0", "score=1", "score=2"]
    assert lines[6].split() == ["run/last.ckpt", "->", "epoch=3-step=8.ckpt"]


def test_ls_of_an_empty_folder_says_so_and_of_none_fails(ckpt, tmp_path):
    assert ckpt("ls", tmp_path)[:2] == (0, [f"There are no checkpoints in {tmp_path}."])
    status, _, error = ckpt("ls", tmp_path / "none")
    assert (status, error) == (2, f"levin ckpt: There is no folder {tmp_path / 'none'}.\n")


def test_show_tells_what_the_newest_one_holds(ckpt, folder):
    status, lines, _ = ckpt("show", folder, "--tensors")
    rows = [line.split() for line in lines]
    assert status == 0
    assert rows[0][:2] == ["file", f"{folder}/epoch=3-step=8.ckpt,"]
    assert ["step", "8"] in rows
    assert ["state_dict", "3", "130", "520", "bytes", "float32"] in rows
    assert ["width", "3"] in rows
    assert ["optimizers.0.lr", "0.1"] in rows
    assert ["layer.weight", "(2,", "32)", "float32"] in rows


def test_verify_finds_what_is_damaged_missing_or_unsafe(ckpt, folder):
    assert ckpt("verify", folder)[:2][1][-1] == "5 of 5 checkpoints are whole and load safely."
    flip(folder / "epoch=0-step=2.ckpt", 3000)
    (folder / "epoch=1-step=4.ckpt").unlink()
    torch.save({"state_dict": {}, "what": Model}, folder / "unsafe.ckpt")
    status, lines, _ = ckpt("verify", folder)
    assert status == 1
    told = {os.path.basename(line.split()[1].rstrip(":")): line.split()[0] for line in lines[:-1]}
    assert told == {
        "epoch=0-step=2.ckpt": "DAMAGED",
        "epoch=1-step=4.ckpt": "MISSING",
        "epoch=2-step=6.ckpt": "whole",
        "epoch=3-step=8.ckpt": "whole",
        "last.ckpt": "whole",
        "unsafe.ckpt": "DAMAGED",
    }
    assert lines[-1] == "3 of 6 checkpoints are whole and load safely."


def test_diff_tells_values_and_by_how_much_tensors_differ(ckpt, folder):
    first, second = folder / "epoch=0-step=2.ckpt", folder / "last.ckpt"
    status, lines, _ = ckpt("diff", first, second)
    assert status == 1
    assert lines[:2] == ["epoch: 0 -> 3", "global_step: 2 -> 8"]
    gap = torch.load(second)["state_dict"]["layer.bias"] - torch.load(first)["state_dict"]["layer.bias"]
    assert f"state_dict.layer.bias: 2 of 2 differ, by at most {gap.abs().max().item():.3g}" in lines
    assert ckpt("diff", second, folder)[:2] == (0, ["The two hold the same."])


def test_diff_tells_other_shapes_and_what_is_on_one_side_alone(ckpt, tmp_path):
    nan = float("nan")
    torch.save({"a": torch.zeros(2), "b": nan, "c": 1, "e": torch.zeros(1)}, tmp_path / "a")
    torch.save({"a": torch.zeros(3), "b": nan, "d": "x", "e": torch.ones(1)}, tmp_path / "b")
    assert ckpt("diff", tmp_path / "a", tmp_path / "b")[1] == [
        "a: a tensor (2,) of float32 -> a tensor (3,) of float32",
        "c: 1 -> nothing",
        "e: 0.0 -> 1.0",
        "d: nothing -> 'x'",
    ]


def unusual(last):
    values = torch.tensor([1.0, 0.0, last])
    parts = {"sparse": values.to_sparse(), "complex": values * 1j, "eighth": values.to(torch.float8_e4m3fn)}
    whole = values.expand(4, 3)
    rows = {"csr": whole.to_sparse_csr(), "csc": whole.to_sparse_csc(), "conj": parts["complex"].conj()}
    return {"state_dict": {**parts, **rows, "none": torch.empty(0, 3)}}


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support is in beta state")
def test_tensors_of_other_kinds_are_shown_and_compared(ckpt, tmp_path):
    for number in (2, 4):
        torch.save(unusual(number), tmp_path / str(number))
    status, lines, _ = ckpt("show", tmp_path / "2", "--tensors")
    assert status == 0
    assert next(line for line in lines if "state_dict" in line).split()[:3] == ["state_dict", "7", "36"]
    assert ckpt("diff", tmp_path / "2", tmp_path / "2")[0] == 0
    told = ckpt("diff", tmp_path / "2", tmp_path / "4")[1]
    single = {f"state_dict.{name}: 1 of 3 differ, by at most 2" for name in ("sparse", "complex", "eighth")}
    assert single < set(told)
    assert len(told) == 6


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support is in beta state")
def test_export_names_a_weight_that_safetensors_can_not_hold(ckpt, tmp_path):
    pytest.importorskip("safetensors")
    torch.save(unusual(2), tmp_path / "a.ckpt")
    status, _, error = ckpt("export", tmp_path / "a.ckpt", tmp_path / "w.safetensors")
    assert status == 2
    assert "The weight 'sparse' is sparse, and safetensors holds plain tensors only" in error
    assert not (tmp_path / "w.safetensors").exists()
    assert ckpt("export", tmp_path / "a.ckpt", tmp_path / "w.pt")[0] == 0


def test_diff_shows_so_many_lines_unless_all_are_wanted(ckpt, tmp_path):
    for number in range(2):
        torch.save({f"a{index}": number for index in range(50)}, tmp_path / str(number))
    assert ckpt("diff", tmp_path / "0", tmp_path / "1")[1][40:] == ["... and 10 more: --all shows them"]
    assert len(ckpt("diff", "--all", tmp_path / "0", tmp_path / "1")[1]) == 50


def test_export_writes_safetensors_that_others_read(ckpt, folder, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    status, lines, _ = ckpt("export", folder, tmp_path / "w.safetensors")
    assert (status, len(lines)) == (0, 1)
    weights = torch.load(folder / "last.ckpt")["state_dict"]
    read = safetensors.load_file(tmp_path / "w.safetensors")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_export_takes_a_part_and_tells_what_is_no_tensor(ckpt, tmp_path):
    weights = {"net.a": torch.ones(2, 3).T, "net._extra_state": {"x": 1}, "other": torch.ones(1)}
    torch.save({"state_dict": weights}, tmp_path / "a.ckpt")
    status, lines, _ = ckpt("export", tmp_path / "a.ckpt", tmp_path / "w.pt", "--prefix", "net.")
    assert (status, lines[1]) == (0, "Left out, as it is no tensor: _extra_state")
    assert torch.equal(torch.load(tmp_path / "w.pt")["a"], weights["net.a"])
    status, _, error = ckpt("export", tmp_path / "a.ckpt", tmp_path / "w.pt", "--prefix", "x.")
    assert status == 2
    assert "begins with 'x.'. There are: net.a, net._extra_state, other." in error


def test_prune_keeps_the_newest_the_best_and_what_it_does_not_know(ckpt, folder):
    torch.save({}, folder / "mine.ckpt")
    before = sorted(os.listdir(folder))
    assert ckpt("prune", folder, "--keep", 1, "--dry-run")[1][-1].startswith("2 kept, 2 to remove: ")
    assert sorted(os.listdir(folder)) == before
    assert ckpt("prune", folder, "--keep", 1)[1][-1].startswith("2 kept, 2 removed: ")
    gone = {"epoch=0-step=2.ckpt", "epoch=2-step=6.ckpt"}
    assert sorted(os.listdir(folder)) == sorted(set(before) - gone)
    assert ckpt("verify", folder)[0] == 0


def test_prune_keeps_the_newest_whole_one(ckpt, folder):
    for name in ("epoch=3-step=8.ckpt", "epoch=1-step=4.ckpt"):
        flip(folder / name, 3000)
    ckpt("prune", folder, "--keep", 1)
    assert (folder / "epoch=2-step=6.ckpt").exists()
    flip(folder / "epoch=2-step=6.ckpt", 3000)
    status, _, error = ckpt("prune", folder, "--keep", 1)
    assert status == 2
    assert "None of the checkpoints" in error


def test_prune_knows_what_a_good_score_is_and_what_is_there_to_go_on_from(ckpt, tmp_path):
    owner = "ModelCheckpoint{'mode': 'max'}"
    commits = [
        *(Commit("linked.ckpt"), Commit("copy.ckpt", role="last"), Commit("good.ckpt", owner=owner, score=3)),
        *(Commit("bad.ckpt", owner=owner, score=1), Commit("new.ckpt", owner=owner, score=2)),
    ]
    for commit in commits:
        torch.save({"state_dict": {}}, tmp_path / commit.name)
        Index(tmp_path).add(commit)
    (tmp_path / "last.ckpt").symlink_to("linked.ckpt")
    assert ckpt("prune", tmp_path, "--keep", 1)[1][0] == f"removed {tmp_path}/bad.ckpt"
    kept = {"linked.ckpt", "copy.ckpt", "good.ckpt", "new.ckpt", "last.ckpt", ".checkpoints.jsonl"}
    assert set(os.listdir(tmp_path)) == kept


def test_prune_without_an_index_touches_nothing(ckpt, tmp_path):
    torch.save({}, tmp_path / "mine.ckpt")
    assert "others are not touched" in ckpt("prune", tmp_path, "--keep", 1)[1][0]
    with pytest.raises(SystemExit, match="2"):
        ckpt("prune", tmp_path, "--keep", 0)


def test_a_file_that_is_not_safe_is_named_and_not_run(ckpt, tmp_path):
    torch.save({"state_dict": {}, "what": Model}, tmp_path / "unsafe.ckpt")
    status, _, error = ckpt("show", tmp_path / "unsafe.ckpt")
    assert status == 2
    assert "Model" in error


def test_a_url_is_as_good_as_a_path(ckpt, folder):
    shutil.copytree(folder, folder.parent / "copy", symlinks=True)
    url = (folder.parent / "copy").as_uri()
    assert len(ckpt("ls", url)[1]) == 6
    assert ckpt("verify", url)[0] == 0
    assert ckpt("diff", url, folder)[0] == 0
    memory = filesystem("memory://run")
    for name in (".checkpoints.jsonl", "epoch=0-step=2.ckpt"):
        memory.pipe(f"/run/{name}", (folder / name).read_bytes())
    assert ckpt("ls", "memory://run")[1][1].split()[:2] == ["memory://run/epoch=0-step=2.ckpt", "2"]
    assert ckpt("show", "memory://run")[0] == 0
    assert ckpt("verify", "memory://run")[1][-1] == "1 of 4 checkpoints are whole and load safely."


@pytest.mark.parametrize("words", [["--help"], ["ckpt", "--help"], ["ckpt", "ls", "."]])
def test_help_and_lists_do_without_torch(words, tmp_path):
    program = (
        "import sys\nfrom levin.cli.main import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, *words], check=True, cwd=tmp_path, capture_output=True)
