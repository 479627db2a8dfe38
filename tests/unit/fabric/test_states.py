"""Fabric's checkpoints: what goes in comes back, in place; other programs can read them."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
import torch
from torch import nn

import levin as L
from levin.checkpoint.plain import NotPlainError


class Counter:
    """Something of a program's own that has a state."""

    def __init__(self, count=0):
        self.count = count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def parts(framework=L):
    fabric = framework.Fabric(accelerator="cpu", devices=1)
    model = nn.Linear(2, 2)
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=0.1))
    fabric.backward(model(torch.ones(1, 2)).sum())
    optimizer.step()
    return fabric, model, optimizer


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_objects_come_back_in_place_and_the_rest_is_handed_over(tmp_path):
    fabric, model, optimizer = parts()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7)
    saved = {
        "model": model, "optimizer": optimizer, "counter": Counter(5), "step": 3, "folder": Path("there"),
        "scheduler": scheduler, "nested": {"model": model, "best": 0.5}, "plain": {"a": [1, 2]},
    }  # fmt: skip
    fabric.save(tmp_path / "x.ckpt", saved)
    fabric, other, other_optimizer = parts()
    counter = Counter()
    state = {
        "model": other, "optimizer": other_optimizer, "counter": counter, "step": 0,
        "nested": {"model": nn.Linear(2, 2), "best": 0.0}, "plain": {},
    }  # fmt: skip
    rest = fabric.load(tmp_path / "x.ckpt", state)
    assert same(other.state_dict(), model.state_dict())
    moments = [s.state_dict()["state"][0]["exp_avg"] for s in (optimizer, other_optimizer)]
    assert torch.equal(*moments)
    assert (counter.count, state["counter"], state["step"]) == (5, counter, 3)
    assert (state["plain"], state["nested"]["best"]) == ({"a": [1, 2]}, 0.5)
    assert same(state["nested"]["model"].state_dict(), model.state_dict())
    assert rest.keys() == {"folder", "scheduler"}
    assert rest["folder"] == Path("there")
    assert rest["scheduler"]["step_size"] == 7


def test_the_file_is_plain_and_whoever_has_torch_can_read_it(tmp_path):
    fabric, model, optimizer = parts()
    fabric.save(tmp_path / "x.ckpt", {"model": model, "optimizer": optimizer, "step": 3})
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert content.keys() == {"model", "optimizer", "step"}
    assert content["model"].keys() == {"weight", "bias"}


def test_without_a_state_the_whole_file_is_handed_over(tmp_path):
    fabric, model, _ = parts()
    fabric.save(tmp_path / "x.ckpt", {"model": model, "step": 3})
    assert fabric.load(tmp_path / "x.ckpt").keys() == {"model", "step"}


def test_what_the_file_lacks_is_an_error_before_anything_is_loaded(tmp_path):
    fabric, model, _ = parts()
    fabric.save(tmp_path / "x.ckpt", {"model": model})
    other = nn.Linear(2, 2)
    before = other.weight.tolist()
    with pytest.raises(
        KeyError, match=r"has no 'step'\. It has \['model'\].*Nothing was loaded; strict=False"
    ):
        fabric.load(tmp_path / "x.ckpt", {"model": other, "step": 0})
    assert other.weight.tolist() == before
    state = {"model": other, "step": 0}
    assert fabric.load(tmp_path / "x.ckpt", state, strict=False) == {}
    assert other.weight.tolist() == model.weight.tolist()
    assert state["step"] == 0


def test_a_filter_chooses_what_is_kept(tmp_path):
    fabric, model, _ = parts()
    fabric.save(tmp_path / "x.ckpt", {"model": model}, filter={"model": lambda name, value: "bias" in name})
    assert fabric.load(tmp_path / "x.ckpt")["model"].keys() == {"bias"}
    with pytest.raises(RuntimeError, match="weight"):
        fabric.load(tmp_path / "x.ckpt", {"model": model})
    fabric.load(tmp_path / "x.ckpt", {"model": model}, strict=False)


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [
        (3, TypeError, r"got 3\. It takes a dict"),
        ({"other": bool}, ValueError, r"names \['other'\], and the state has \['model'\]"),
        ({"model": 3}, TypeError, r"has 3 for 'model'\. It takes a function"),
    ],
    ids=["no dict", "unknown", "no function"],
)
def test_a_filter_that_makes_no_sense_is_refused(tmp_path, keep, error, words):
    fabric, model, _ = parts()
    with pytest.raises(error, match=words):
        fabric.save(tmp_path / "x.ckpt", {"model": model}, filter=keep)
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_loaded_safely_is_not_saved(tmp_path):
    fabric, model, _ = parts()
    with pytest.raises(NotPlainError, match=r"checkpoint\.odd is a .*object"):
        fabric.save(tmp_path / "x.ckpt", {"model": model, "odd": object()})
    with pytest.raises(TypeError, match="got a list"):
        fabric.save(tmp_path / "x.ckpt", [model])
    assert not list(tmp_path.iterdir())


def test_other_containers_come_back_as_what_they_were(tmp_path):
    fabric, _, _ = parts()
    fabric.save(tmp_path / "x.ckpt", {"last": deque([1, 2], maxlen=2)})
    assert fabric.load(tmp_path / "x.ckpt") == {"last": deque([1, 2], maxlen=2)}


def test_a_bare_state_dict_is_loaded_into_one_object(tmp_path):
    fabric, model, optimizer = parts()
    source = nn.Linear(2, 2)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    fabric.load_raw(tmp_path / "model.pt", model)
    fabric.load_raw(tmp_path / "optimizer.pt", optimizer)
    assert same(model.state_dict(), source.state_dict())
    with pytest.raises(TypeError, match=r"A int has no state to load"):
        fabric.load_raw(tmp_path / "model.pt", 3)
    with pytest.raises(RuntimeError, match="weight"):
        fabric.load_raw(tmp_path / "model.pt", nn.Linear(3, 3))


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint nowhere/x\.ckpt"):
        parts()[0].load("nowhere/x.ckpt")


def test_a_checkpoint_of_a_trainer_is_read_as_well(tmp_path):
    from levin.testing import BoringModel

    model = BoringModel()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = BoringModel()
    rest = parts()[0].load(tmp_path / "x.ckpt", {"state_dict": other})
    assert same(model.state_dict(), other.state_dict())
    assert rest["global_step"] == 1


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("writes", ["levin", "lightning"])
def test_files_are_exchanged_with_lightnings_fabric(tmp_path, writes):
    lightning = pytest.importorskip("lightning")
    writer, reader = (L, lightning) if writes == "levin" else (lightning, L)
    fabric, model, optimizer = parts(writer)
    fabric.save(tmp_path / "x.ckpt", {"model": model, "optimizer": optimizer, "step": 3})
    fabric, other, other_optimizer = parts(reader)
    state = {"model": other, "optimizer": other_optimizer, "step": 0}
    assert fabric.load(tmp_path / "x.ckpt", state) == {}
    assert same(other.state_dict(), model.state_dict())
    assert state["step"] == 3
