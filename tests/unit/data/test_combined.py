from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, defaultdict, namedtuple

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler

from levin.data import CombinedLoader

MODES = ("min_size", "max_size_cycle", "max_size", "sequential")


class Recorded:
    """A loader that writes down when its iterator is made and when a batch is drawn."""

    def __init__(self, name, length, calls):
        self.name, self.length, self.calls = name, length, calls

    def __len__(self):
        return self.length

    def __iter__(self):
        self.calls.append(f"iter({self.name})")
        return RecordedIterator(self)


class RecordedIterator:
    def __init__(self, loader):
        self.loader, self.drawn = loader, 0

    def __next__(self):
        self.drawn += 1
        self.loader.calls.append(f"{self.loader.name}{self.drawn}")
        if self.drawn > self.loader.length:
            raise StopIteration
        return f"{self.loader.name}{self.drawn}"


class Unsized:
    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Stateful(Unsized):
    loaded = None

    def state_dict(self):
        return {"items": len(self.items)}

    def load_state_dict(self, state):
        self.loaded = state


def batches(loader):
    return [batch for batch, _, _ in loader]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_size", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ("max_size", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": None}]),
        ("max_size_cycle", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "x"}]),
        ("sequential", [1, 2, 3, "x", "y"]),
    ],
)
def test_what_each_mode_gives(mode, expected):
    loader = CombinedLoader({"a": [1, 2, 3], "b": ["x", "y"]}, mode)
    assert batches(loader) == expected
    assert batches(loader) == expected, "a second time round"
    assert len(loader) == len(expected)


def test_batches_are_numbered_within_each_loader():
    numbers = [numbers for _, *numbers in CombinedLoader([[1, 2], [3]], "sequential")]
    assert numbers == [[0, 0], [1, 0], [0, 1]]
    numbers = [numbers for _, *numbers in CombinedLoader([[1, 2], [3, 4]], "min_size")]
    assert numbers == [[0, 0], [1, 0]]


# The order in which Lightning 2.6 makes iterators and draws batches. Random states depend on it.
@pytest.mark.parametrize(
    ("mode", "lengths", "calls"),
    [
        ("min_size", (2, 4), "iter(a) iter(b) a1 b1 a2 b2 a3"),
        ("min_size", (3, 2), "iter(a) iter(b) a1 b1 a2 b2 a3 b3"),
        ("max_size_cycle", (2, 4), "iter(a) iter(b) a1 b1 a2 b2 a3 iter(a) a1 b3 a2 b4 a3 iter(a) a1 b5"),
        ("max_size_cycle", (3, 2), "iter(a) iter(b) a1 b1 a2 b2 a3 b3 iter(b) b1 a4"),
        ("max_size_cycle", (2, 2), "iter(a) iter(b) a1 b1 a2 b2 a3 iter(a) a1 b3"),
        ("max_size", (2, 2), "iter(a) iter(b) a1 b1 a2 b2 a3 b3"),
        ("sequential", (2, 1), "iter(a) a1 a2 a3 iter(b) b1 b2"),
    ],
)
def test_the_order_of_iterators_and_draws(mode, lengths, calls):
    seen = []
    loader = CombinedLoader(
        [Recorded(name, length, seen) for name, length in zip("ab", lengths, strict=True)], mode
    )
    for _ in loader:
        pass
    assert seen == calls.split()


@pytest.mark.parametrize(
    ("mode", "calls"), [("sequential", ["iter(a)"]), ("min_size", ["iter(a)", "iter(b)"])]
)
def test_iterators_are_made_before_the_first_batch_is_asked_for(mode, calls):
    seen = []
    iter(CombinedLoader([Recorded(name, 2, seen) for name in "ab"], mode))
    assert seen == calls


@pytest.mark.parametrize("mode", MODES)
def test_a_pass_that_was_broken_off_ends_before_the_next_begins(mode):
    seen = []

    class Ending:
        def __iter__(self):
            seen.append("begin")
            return self.rows()

        def rows(self):
            try:
                yield from range(3)
            finally:
                seen.append("end")

    loader = CombinedLoader([Ending()], mode)
    next(iter(loader))
    next(iter(loader))
    assert seen == ["begin", "end", "begin"]


def test_one_loader_alone_is_iterated_over_once_and_its_batches_come_as_they_are():
    for mode in MODES:
        seen = []
        loader = CombinedLoader(Recorded("a", 2, seen), mode)
        assert list(loader) == [("a1", 0, 0), ("a2", 1, 0)]
        assert seen == ["iter(a)", "a1", "a2", "a3"]


@pytest.mark.parametrize("mode", MODES)
def test_shuffled_loaders_draw_the_same_as_in_a_loop_written_by_hand(mode):
    def loaders():
        torch.manual_seed(3)
        return [DataLoader(range(6), batch_size=2, shuffle=True) for _ in range(2)]

    left, right = loaders()
    drawn = [*left, *right] if mode == "sequential" else list(zip(left, right, strict=True))
    ours = batches(CombinedLoader(loaders(), mode))
    assert str(ours) == str([batch if mode == "sequential" else list(batch) for batch in drawn])


def test_a_loader_that_is_its_own_iterator_is_begun_once():
    class Own:
        begun = 0

        def __iter__(self):
            self.begun += 1
            self.rest = [1, 2]
            return self

        def __next__(self):
            if not self.rest:
                raise StopIteration
            return self.rest.pop()

    for mode in MODES:
        own = Own()
        assert len(batches(CombinedLoader(own, mode))) == 2
        assert own.begun == 1


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("loaders", "batch"),
    [
        ([[1, 2], [3]], [1, 3]),
        (([1], [2]), (1, 2)),
        ({"x": [[1], ([2],)], "y": [3]}, {"x": [1, (2,)], "y": 3}),
        (Pair([1], [2]), Pair(1, 2)),
        (OrderedDict(z=[1], a=[2]), OrderedDict(z=1, a=2)),
        (defaultdict(list, z=[1]), defaultdict(list, z=1)),
    ],
)
def test_a_batch_has_the_shape_of_the_collection(loaders, batch):
    drawn, *_ = next(iter(CombinedLoader(loaders, "min_size")))
    assert drawn == batch
    assert type(drawn) is type(batch)


@pytest.mark.parametrize("data", [[1, 2], (1.5, 2.5), ["ab", "cd"], range(2)])
def test_a_list_of_plain_values_is_one_loader(data):
    assert CombinedLoader(data).flattened == [data]
    assert batches(CombinedLoader(data)) == list(data)


def test_an_empty_collection_gives_nothing():
    for mode in MODES:
        loader = CombinedLoader([], mode)
        assert batches(loader) == []
        assert len(loader) == 0


def test_what_cannot_be_iterated_over_is_a_type_error():
    with pytest.raises(TypeError, match="not iterable"):
        iter(CombinedLoader([None, [1]]))


def test_an_unknown_mode_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="'min_size', 'max_size_cycle', 'max_size', 'sequential'"):
        CombinedLoader([], "max")


def test_an_empty_loader_among_others_is_told():
    with pytest.warns(UserWarning, match="Dataloader 1 has no batches"):
        assert batches(CombinedLoader([[1, 2], Unsized()], "max_size_cycle")) == []


@pytest.mark.parametrize(
    ("mode", "limits", "count", "length"),
    [
        ("sequential", None, 8, 8),
        ("sequential", 2, 4, 4),
        ("sequential", [1, 0], 1, 1),
        ("sequential", [0, 3], 3, 3),
        ("sequential", [float("inf"), 2], 5, 5),
        ("sequential", [1.5, 0], 2, 1),
        ("min_size", 2, 3, 2),
        ("max_size", 2, 5, 2),
    ],
)
def test_limits_bound_the_length_and_one_after_another_the_batches(mode, limits, count, length):
    loader = CombinedLoader([range(3), range(5)], mode)
    loader.limits = limits
    assert len(batches(loader)) == count
    assert len(loader) == length


def test_the_next_loader_is_begun_even_if_its_limit_is_zero():
    seen = []
    loader = CombinedLoader([Recorded(name, 3, seen) for name in "abc"], "sequential")
    loader.limits = [2, 0, 1]
    assert batches(loader) == ["a1", "a2", "c1"]
    assert seen == ["iter(a)", "a1", "a2", "iter(b)", "iter(c)", "c1"]


def test_limits_need_one_number_for_each_loader():
    loader = CombinedLoader([[1], [2]])
    loader.limits = 1
    assert loader.limits == [1, 1]
    with pytest.raises(ValueError, match="3 limits are given for 2 loaders"):
        loader.limits = [1, 2, 3]


def test_there_is_no_length_before_iter():
    with pytest.raises(RuntimeError, match="Please call `iter"):
        len(CombinedLoader([[1], [2]]))


def test_there_is_no_batch_before_iter():
    with pytest.raises(RuntimeError, match="Call `iter"):
        next(CombinedLoader([[1], [2]]))


def test_an_unsized_loader_matters_to_the_length_only_where_it_may_be_the_longest():
    loaders = [[1, 2], Unsized(1, 2, 3)]
    assert len(iter(CombinedLoader(loaders, "min_size"))) == 2
    for mode in ("max_size", "max_size_cycle", "sequential"):
        with pytest.raises(TypeError, match="no length"):
            len(iter(CombinedLoader(loaders, mode)))


def test_loaders_can_be_replaced_in_place():
    loader = CombinedLoader({"x": [[1], [2]], "y": [3]}, "min_size")
    loader.flattened = [range(9, 10), [8], [7]]
    assert loader.iterables == {"x": [range(9, 10), [8]], "y": [7]}
    assert batches(loader) == [{"x": [9, 8], "y": 7}]
    with pytest.raises(ValueError, match="give as many"):
        loader.flattened = [[1]]


def test_names_say_where_each_loader_stands():
    assert CombinedLoader({"clean": range(2), "noisy": [range(1), range(1)]}).names == [
        "clean",
        "noisy/0",
        "noisy/1",
    ]
    assert CombinedLoader(range(2)).names == [""]


def test_samplers_have_the_shape_of_the_collection():
    loader = CombinedLoader({"x": DataLoader(range(4), shuffle=True), "y": [[1]]})
    assert isinstance(loader.sampler["x"], RandomSampler)
    assert loader.batch_sampler["x"].batch_size == 1
    assert loader.sampler["y"] == [None]


def test_reset_begins_anew_and_ends_worker_processes():
    kept = DataLoader(range(2), num_workers=1, persistent_workers=True)
    loader = CombinedLoader([kept], "min_size")
    assert len(batches(loader)) == 2
    workers = kept._iterator._workers
    loader.reset()
    assert kept._iterator is None
    assert not any(worker.is_alive() for worker in workers)
    with pytest.raises(RuntimeError, match="iter"):
        len(loader)


def test_states_are_those_of_the_loaders_that_have_one():
    loader = CombinedLoader({"a": Stateful(1, 2), "b": [1, 2], "c": Stateful(3)}, "min_size")
    states = loader.state_dicts()
    assert states == [{"items": 2}, {"items": 1}]
    loader.load_state_dicts(states)
    assert [part.loaded for part in loader.flattened if isinstance(part, Stateful)] == states


def test_states_of_other_loaders_are_refused():
    loader = CombinedLoader([Stateful(1), [2]])
    loader.load_state_dicts([])
    with pytest.raises(RuntimeError, match="states of 2 dataloaders, and 1 of those in use"):
        loader.load_state_dicts([{}, {}])


def test_it_can_be_copied_and_pickled_in_the_middle():
    loader = CombinedLoader([[1, 2], [3, 4]], "min_size")
    next(iter(loader))
    for twin in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert batches(twin) == [[1, 3], [2, 4]]
    assert next(loader)[0] == [2, 4]


def test_an_error_of_a_loader_comes_through_unchanged():
    def broken():
        yield 1
        raise OSError("disk")

    for mode in MODES:
        with pytest.raises(OSError, match="disk"):
            list(CombinedLoader([broken()], mode))
