from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from levin.utils.rank import rank_zero_only
from levin.utils.seed import (
    collect_rng_state,
    derive_seed,
    isolate_rng,
    pl_worker_init_function,
    seed_everything,
    set_rng_state,
)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    with isolate_rng():
        yield


def draw() -> tuple[float, float, float, float]:
    return random.random(), random.gauss(0, 1), float(np.random.randn()), torch.rand(1).item()


def test_the_same_seed_gives_the_same_numbers_everywhere():
    assert seed_everything(7) == 7
    first = draw()
    seed_everything(7)
    assert draw() == first
    seed_everything(8)
    assert not set(draw()) & set(first)


def test_the_seed_is_told_and_handed_to_child_processes(caplog):
    caplog.set_level("INFO", logger="levin")
    seed_everything(42, workers=True)
    assert [record.getMessage() for record in caplog.records] == ["Seed set to 42"]
    assert (os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"]) == ("42", "1")


def test_it_can_be_silent(caplog):
    caplog.set_level("INFO", logger="levin")
    seed_everything(42, verbose=False)
    assert not caplog.records
    assert os.environ["PL_SEED_WORKERS"] == "0"


def test_without_a_seed_the_environment_says_it(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    assert seed_everything() == 17


def test_without_any_seed_it_is_zero_with_a_warning():
    with pytest.warns(UserWarning, match="the seed is set to 0"):
        assert seed_everything() == 0


def test_a_seed_in_the_environment_that_is_no_number_is_zero_with_a_warning(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "x")
    with pytest.warns(UserWarning, match="PL_GLOBAL_SEED='x' is not an integer"):
        assert seed_everything() == 0


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_an_error_and_changes_nothing(seed):
    with pytest.raises(ValueError, match=f"seed={seed} is out of range"):
        seed_everything(seed)
    assert "PL_GLOBAL_SEED" not in os.environ


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_limits_are_in_range(seed):
    assert seed_everything(seed) == seed


def test_isolated_code_leaves_no_trace():
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    with isolate_rng():
        inside = draw()
        seed_everything(99)
    assert inside == expected
    assert draw() == expected


def draw_and_fail() -> None:
    with isolate_rng():
        torch.rand(1)
        raise RuntimeError("inside")


def test_the_state_is_put_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_state_survives_a_checkpoint(tmp_path):
    (
        draw(),
        random.gauss(0, 1),
        np.random.randn(),
    )  # so that the cached halves of the normal generators count, too
    torch.save(collect_rng_state(), tmp_path / "state.pt")
    expected = draw()
    set_rng_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected


def test_derived_seeds_are_reproducible_and_far_apart():
    seeds = {
        derive_seed(base, rank, worker) for base in (0, 1, 42) for rank in range(4) for worker in range(4)
    }
    assert len(seeds) == 48
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3)
    assert derive_seed(1, 2) != derive_seed(1, 2, 0)


def worker_draws(base: int, worker: int, rank: int) -> tuple[float, float, float, float]:
    """What the worker draws first, as torch prepares it: seeded with the sum of base seed and number."""
    with isolate_rng():
        torch.manual_seed(base + worker)
        pl_worker_init_function(worker, rank)
        return draw()


def test_every_worker_rank_and_base_seed_has_its_own_streams():
    draws = [worker_draws(*case) for case in np.ndindex(3, 3, 3)]
    for stream in zip(*draws, strict=True):
        assert len(set(stream)) == len(draws)


def test_the_streams_of_a_worker_are_reproducible():
    assert worker_draws(5, 1, 0) == worker_draws(5, 1, 0)


def test_the_rank_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    assert worker_draws(5, 1, None) == worker_draws(5, 1, 3)


class _Draws(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([random.random(), np.random.rand(), torch.rand(1).item()], dtype=torch.float64)


def epoch(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    loader = DataLoader(_Draws(), batch_size=1, num_workers=2, worker_init_fn=pl_worker_init_function)
    return torch.cat(list(loader))


def test_a_loader_draws_differently_in_each_worker_and_alike_in_each_run():
    first, again, other = epoch(1), epoch(1), epoch(2)
    assert torch.equal(first, again)
    for column in torch.cat([first, other]).T:
        assert len(column.unique()) == 8


@pytest.mark.gpu
def test_cuda_generators_are_seeded_isolated_and_restored():
    seed_everything(1)
    state = torch.cuda.get_rng_state()
    with isolate_rng():
        torch.rand(1, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), state)
    kept = collect_rng_state()
    first = torch.rand(1, device="cuda")
    set_rng_state(kept)
    assert torch.equal(torch.rand(1, device="cuda"), first)


FIRST_USE = """
import torch
from levin.utils.seed import isolate_rng

torch.manual_seed(3)
with isolate_rng():
    torch.rand(1, device="cuda")
first = torch.rand(2, device="cuda")
torch.manual_seed(3)
assert torch.equal(first, torch.rand(2, device="cuda"))
"""


@pytest.mark.gpu
def test_isolated_code_may_be_the_first_to_use_cuda():
    subprocess.run([sys.executable, "-c", FIRST_USE], check=True)
