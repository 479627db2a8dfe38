from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
import torch

from levin.testing import count_calls, count_reads, frames_of


@pytest.fixture
def package(tmp_path):
    """A folder with a module of three functions."""
    (tmp_path / "inner.py").write_text(
        textwrap.dedent("""
        def leaf():
            return 1

        def twice():
            return leaf() + leaf()

        def numbers():
            yield 1
            yield 2

        def through(fn):
            return fn()
        """)
    )
    return tmp_path


@pytest.fixture
def inner(package, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    import inner

    yield inner
    del sys.modules["inner"]


def totals(counters):
    return [sum(counter.values()) for counter in counters]


def test_calls_are_counted_between_marks(package, inner):
    def run(mark):
        inner.leaf()  # before the first mark
        for times in (1, 0, 2):
            mark()
            for _ in range(times):
                inner.twice()
        mark()
        inner.leaf()  # after the last

    assert totals(count_calls(run, under=package)) == [3, 0, 6]


def test_counted_calls_are_named(package, inner):
    def run(mark):
        mark()
        inner.twice()
        mark()

    (counter,) = count_calls(run, under=package)
    assert dict(counter) == {"inner.py:5 twice": 1, "inner.py:2 leaf": 2}


def test_each_value_of_a_generator_is_a_call(package, inner):
    def run(mark):
        mark()
        list(inner.numbers())
        mark()

    assert totals(count_calls(run, under=package)) == [3]


def test_calls_of_other_packages_do_not_count():
    def run(mark):
        mark()
        textwrap.dedent("a")
        torch.nn.Linear(1, 1)(torch.ones(1))
        mark()

    assert totals(count_calls(run)) == [0]


def test_the_profile_function_of_before_comes_back():
    def mine(frame, event, arg):
        pass

    before = sys.getprofile()
    sys.setprofile(mine)
    try:
        with pytest.raises(ZeroDivisionError):
            count_calls(lambda mark: 1 / 0)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("item", lambda t: t.item()),
        ("tolist", lambda t: t.tolist()),
        ("numpy", lambda t: t.numpy()),
        ("cpu", lambda t: t.cpu()),
        ("__float__", float),
        ("__int__", int),
        ("__bool__", bool),
        ("__index__", lambda t: range(3)[t.int()]),
        ("__array__", np.asarray),
    ],
)
def test_reads_are_written_down_with_their_line(name, read):
    with count_reads() as reads:
        read(torch.ones(()))
    assert reads[0].startswith(f"{name} at {__file__}:")


def test_parameters_are_tensors_too():
    with count_reads() as reads:
        torch.nn.Parameter(torch.ones(())).item()
    assert len(reads) == 1


def test_what_stays_on_the_device_is_no_read():
    with count_reads() as reads:
        weight = torch.ones(2, requires_grad=True)
        (weight * 2).sum().backward()
        torch.stack([weight.detach().max(), weight.grad.min()])
    assert reads == []


def test_tensors_are_as_before_afterwards():
    before = dict(vars(torch.Tensor))
    with count_reads():
        assert float(torch.ones(())) == 1.0
    assert dict(vars(torch.Tensor)) == before
    assert float(torch.ones(())) == 1.0


def test_frames_on_the_stack(package, inner):
    frames = inner.through(lambda: inner.through(lambda: frames_of(under=package)))
    assert frames == ["inner.py:12 through", "inner.py:12 through"]


def test_frames_of_an_error(package, inner):
    with pytest.raises(ZeroDivisionError) as caught:
        inner.through(lambda: inner.through(lambda: 1 / 0))
    assert frames_of(caught.value, under=package) == ["inner.py:12 through", "inner.py:12 through"]


def test_frames_of_this_test_are_none_of_levins():
    assert frames_of() == []
