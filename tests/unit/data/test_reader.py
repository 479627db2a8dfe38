"""A pass over a loader that is gone on with elsewhere gives the batches that it would have given."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, Subset, WeightedRandomSampler

from levin.data.reader import Reader
from levin.utils.seed import collect_rng_state, seed_everything, set_rng_state


class Noisy(Dataset):
    """Item i is i and three random numbers."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.tensor(
            [index, random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64
        )


class Ids(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return index


class Stream(IterableDataset):
    def __init__(self, generator=None):
        self.generator = generator

    def __iter__(self):
        for i in range(20):
            yield torch.tensor([i, torch.rand((), generator=self.generator)])


class Place(IterableDataset):
    """Knows where it is."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 20:
            self.at += 1
            yield self.at - 1
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Backwards(Sampler):
    """Draws from a generator of its own, as it goes."""

    def __init__(self, kind):
        self.generator = {
            "torch": lambda: torch.Generator().manual_seed(3),
            "python": lambda: random.Random(3),
            "numpy": lambda: np.random.default_rng(3),
            "numpy's old one": lambda: np.random.RandomState(3),
        }[kind]()

    def __len__(self):
        return 20

    def __iter__(self):
        for _ in range(20):
            if isinstance(self.generator, torch.Generator):
                yield int(torch.randint(20, (), generator=self.generator))
            elif isinstance(self.generator, random.Random):
                yield self.generator.randrange(20)
            elif isinstance(self.generator, np.random.Generator):
                yield int(self.generator.integers(20))
            else:
                yield int(self.generator.randint(20))


class Secretive(Sampler):
    """Its order depends on how often it was used."""

    def __init__(self):
        self.used = 0

    def __len__(self):
        return 20

    def __iter__(self):
        self.used += 1
        return iter([(i * (self.used + 2)) % 20 for i in range(20)])


def with_generator(make):
    return lambda: make(torch.Generator().manual_seed(5))


LOADERS = {
    "shuffled": lambda: DataLoader(Noisy(), batch_size=3, shuffle=True),
    "in order": lambda: DataLoader(Noisy(), batch_size=3),
    "shuffled, workers": lambda: DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=2),
    "workers that stay": lambda: DataLoader(
        Noisy(), batch_size=3, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "a generator": with_generator(lambda g: DataLoader(Noisy(), batch_size=3, shuffle=True, generator=g)),
    "a generator, workers": with_generator(
        lambda g: DataLoader(Noisy(), batch_size=3, shuffle=True, generator=g, num_workers=2)
    ),
    "with replacement": lambda: DataLoader(
        Noisy(), batch_size=3, sampler=WeightedRandomSampler(torch.ones(20), 20)
    ),
    "a subset, workers": lambda: DataLoader(
        Subset(Noisy(), list(range(2, 20))), batch_size=3, shuffle=True, num_workers=1
    ),
    "single samples": lambda: DataLoader(Noisy(), batch_size=None, shuffle=True),
    "single samples, workers": lambda: DataLoader(Noisy(), batch_size=None, shuffle=True, num_workers=1),
    "a stream of its own generator": with_generator(lambda g: DataLoader(Stream(g), batch_size=3)),
    "a stream, workers": lambda: DataLoader(Stream(), batch_size=3, num_workers=1),
    "a stream that knows its place": lambda: DataLoader(Place(), batch_size=3),
    "a list": lambda: list(range(7)),
    **{
        f"a sampler with a generator of {kind}": (
            lambda kind=kind: DataLoader(Noisy(), batch_size=3, sampler=Backwards(kind))
        )
        for kind in ("torch", "python", "numpy", "numpy's old one")
    },
}


def drawing(iterator, batches):
    """Read batches, and draw in between as a model does."""
    drawn = []
    for _ in range(batches):
        batch = next(iterator, None)
        drawn += [batch, random.random(), np.random.rand(), torch.rand(2)]
    return drawn


def same(a, b):
    return str(a) == str(b)


@pytest.mark.parametrize("taken", [1, 4, 6])
@pytest.mark.parametrize("name", LOADERS)
def test_a_pass_goes_on_as_if_it_had_not_stopped(name, taken):
    torch.set_printoptions(precision=12)
    seed_everything(7, verbose=False)
    reader = Reader(LOADERS[name]())
    drawing(iter(reader), 8)  # an earlier epoch
    iterator = iter(reader)
    drawing(iterator, taken)
    position, rng = reader.position(taken), collect_rng_state()
    expected = drawing(iterator, 8 - taken)
    following = drawing(iter(reader), 8)

    seed_everything(99, verbose=False)
    again = Reader(LOADERS[name]())
    iterator = again.go_on(position)
    set_rng_state(rng)
    assert same(drawing(iterator, 8 - taken), expected)
    assert same(drawing(iter(again), 8), following)


def test_samples_that_were_used_are_not_read_again():
    read = []

    class Watched(Ids):
        def __getitem__(self, index):
            read.append(index)
            return index

    reader = Reader(DataLoader(Watched(), batch_size=2))
    next(iter(reader))
    position = reader.position(4)
    read.clear()
    next(Reader(DataLoader(Watched(), batch_size=2)).go_on(position))
    assert read == [8, 9]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_sample_draws_depends_on_no_number_of_workers(workers):
    def batches(workers):
        seed_everything(7, verbose=False)
        return list(Reader(DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=workers)))

    assert same(batches(workers), batches(2))


def test_what_a_sample_draws_is_new_in_each_pass_and_other_for_each_sample():
    reader = Reader(DataLoader(Noisy(), batch_size=20, num_workers=1))
    (first,), (second,) = list(reader), list(reader)
    drawn = torch.cat([first[:, 1:], second[:, 1:]]).flatten()
    assert len(drawn.unique()) == 120


def test_torchs_own_seeds_are_left_alone_when_asked():
    def batches(loader):
        seed_everything(7, verbose=False)
        return list(loader)

    loader = DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=2)
    assert same(batches(Reader(loader, seeds_samples=False)), batches(loader))
    assert not same(batches(Reader(loader)), batches(loader))


def test_a_pass_draws_what_the_bare_loader_draws():
    def order(loader):
        seed_everything(7, verbose=False)
        return [list(loader), list(loader), torch.rand(1)]

    for workers in (0, 2):
        loader = DataLoader(Ids(), batch_size=4, shuffle=True, num_workers=workers)
        assert same(order(Reader(loader)), order(loader))


def test_the_users_loader_and_dataset_stay_what_they_are():
    loader = DataLoader(Noisy(), batch_size=4, num_workers=1)
    dataset, batch_sampler = loader.dataset, loader.batch_sampler
    next(Reader(loader).go_on({**_position_of(loader), "taken": 2}))
    assert loader.dataset is dataset
    assert loader.batch_sampler is batch_sampler


def _position_of(loader):
    reader = Reader(loader)
    iter(reader)
    return reader.position(0)


def test_a_sampler_that_gives_another_order_is_told():
    reader = Reader(DataLoader(Ids(), batch_size=2, sampler=Secretive()))
    list(reader)
    next(iter(reader))
    position = reader.position(1)
    with pytest.warns(UserWarning, match="Secretive gives another order than before"):
        Reader(DataLoader(Ids(), batch_size=2, sampler=Secretive())).go_on(position)


@pytest.mark.filterwarnings("error")
def test_a_generator_that_workers_have_copies_of_is_told():
    class Own(Ids):
        def __init__(self):
            self.rng = np.random.default_rng(1)

    position = _position_of(DataLoader(Own(), batch_size=2, num_workers=1))
    with pytest.warns(UserWarning, match="Own has a random generator of its own, and each worker process"):
        Reader(DataLoader(Own(), batch_size=2, num_workers=1)).go_on({**position, "taken": 1})
    Reader(DataLoader(Own(), batch_size=2)).go_on({**position, "taken": 1})


def test_something_that_draws_before_the_first_batch_does_not_matter():
    def begin(reader):
        iterator = iter(reader)
        torch.rand(3)  # as a hook may
        yield reader.read_first(next, iterator)
        yield from iterator

    seed_everything(7, verbose=False)
    reader = Reader(DataLoader(Ids(), batch_size=4, shuffle=True))
    batches = list(begin(reader))
    assert same(list(Reader(reader.loader).go_on(reader.position(2))), batches[2:])


def test_a_stream_that_draws_with_the_model_is_told():
    reader = Reader(DataLoader(Stream(), batch_size=2))
    next(iter(reader))
    position = reader.position(1)
    with pytest.warns(UserWarning, match="Stream draws from the global random generators"):
        Reader(DataLoader(Stream(), batch_size=2)).go_on(position)


def test_a_loader_that_goes_on_by_itself_is_told_of_what_its_workers_draw():
    class Stateful(DataLoader):
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    def position(**kwargs):
        return _position_of(Stateful(Ids(), batch_size=2, **kwargs))

    with pytest.warns(UserWarning, match="worker processes of Stateful begin anew"):
        Reader(Stateful(Ids(), batch_size=2, num_workers=1)).go_on(position(num_workers=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Reader(Stateful(Ids(), batch_size=2)).go_on(position())


def test_a_place_in_data_of_another_size_is_told():
    reader = Reader(DataLoader(Ids(), batch_size=4))
    next(iter(reader))
    position = reader.position(1)
    with pytest.warns(
        UserWarning, match=r"batches: 5 before, 10 now; batch size: 4 before, 2 now\). The first 1"
    ):
        Reader(DataLoader(Ids(), batch_size=2)).go_on(position)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Reader(DataLoader(Ids(), batch_size=2)).go_on({**position, "taken": 0})


def _second_pass(reader):
    """A position in it, at which one batch was taken."""
    list(reader)
    reader.read_first(next, iter(reader))
    return reader.position(1)


class DrawsAnywhere(IterableDataset):
    """Draws from a generator that nobody knows of."""

    rng = (np.random.default_rng(1),)

    def __iter__(self):
        yield from self.rng[0].random(8)


def test_a_stream_that_gives_something_else_when_it_is_read_again_is_told():
    position = _second_pass(Reader(DataLoader(DrawsAnywhere(), batch_size=2)))
    with pytest.warns(UserWarning, match="DrawsAnywhere, read again, begins with another batch than before"):
        Reader(DataLoader(DrawsAnywhere(), batch_size=2)).go_on(position)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draws", [True, False])
def test_workers_that_live_on_are_told_of_where_they_draw(draws):
    def loader():
        data = Stream() if draws else range(8)
        return Reader(DataLoader(Replayed(data), batch_size=2, num_workers=1, persistent_workers=True))

    reader, again = loader(), loader()
    position = _second_pass(reader)
    if draws:
        with pytest.warns(UserWarning, match=r"live on from epoch to epoch \(persistent_workers=True\)"):
            again.go_on(position)
    else:
        again.go_on(position)
    reader.close()
    again.close()


class Replayed(IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        yield from self.data


def test_a_position_can_be_in_a_checkpoint(tmp_path):
    reader = Reader(LOADERS["a sampler with a generator of numpy"]())
    next(iter(reader))
    torch.save(reader.position(1), tmp_path / "position")
    assert torch.load(tmp_path / "position", weights_only=True)["taken"] == 1
