"""The law: a run that was stopped anywhere and gone on with is the run that was never stopped.

Each program is run once without a stop, and a checkpoint is written at every point at which one can be. From
each of them the run is gone on with by new objects, in a process whose random state is another one. Samples,
rows, weights and the random states of the end must be those of the uninterrupted run.
"""

from __future__ import annotations

import os
import random
import signal
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, random_split

import levin as L
from levin.callbacks import Checkpoint, ModelCheckpoint
from levin.loggers import CSVLogger, Logger
from levin.utils.seed import collect_rng_state

SIZE = 23  # of the training set: with batches of 3 the last one is short


class Samples(Dataset):
    """Sample i is i, four numbers that depend on it, and one that is drawn anew each time."""

    def __init__(self, size=SIZE):
        self.x = torch.randn(size, 4, generator=torch.Generator().manual_seed(size))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        drawn = torch.rand(()) + random.random() + np.random.rand()
        return index, torch.cat([self.x[index], drawn.float().view(1)]), self.x[index].sum().sin()


class Stream(IterableDataset):
    def __iter__(self):
        yield from (Stream.sample(i) for i in range(SIZE))

    @staticmethod
    def sample(i):
        x = torch.full((5,), i / SIZE)
        return i, x, x.sum().sin()


class Augmented(Samples):
    """Its transform has a generator of its own."""

    class Jitter:
        def __init__(self):
            self.rng = np.random.default_rng(4)

    def __init__(self):
        super().__init__()
        self.transforms = [Augmented.Jitter()]

    def __getitem__(self, index):
        index, x, y = super().__getitem__(index)
        return index, x + self.transforms[0].rng.random(), y


class Shuffled(IterableDataset):
    """Shuffles with a generator of its own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(2)

    def __iter__(self):
        yield from map(Stream.sample, torch.randperm(SIZE, generator=self.generator).tolist())


class Overstated(DataLoader):
    """Has fewer batches than it says."""

    def __len__(self):
        return super().__len__() + 2


class StreamWithPlace(IterableDataset):
    """Knows where it is, and nobody needs to read it again."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < SIZE:
            self.at += 1
            yield Stream.sample(self.at - 1)
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class DrawingWithPlace(StreamWithPlace):
    """Draws, too."""

    def __iter__(self):
        for i, x, y in super().__iter__():
            yield i, x + torch.rand(1), y


class LoaderWithPlace:
    """A loader that shuffles in a way of its own, and can go on by itself."""

    def __init__(self):
        self.state = {"passes": 0, "at": 0}

    def __iter__(self):
        if self.state["at"] >= SIZE:
            self.state = {"passes": self.state["passes"] + 1, "at": 0}
        order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(self.state["passes"])).tolist()
        while self.state["at"] < SIZE:
            indices = order[self.state["at"] : self.state["at"] + 3]
            self.state["at"] += 3
            yield torch.utils.data.default_collate([Stream.sample(i) for i in indices])

    def state_dict(self):
        return dict(self.state)

    def load_state_dict(self, state):
        self.state = dict(state)


class SizedLoaderWithPlace(LoaderWithPlace):
    def __len__(self):
        return -(-SIZE // 3)


class Remembering(Logger):
    """A logger that keeps its rows, and can take them back."""

    name = version = "memory"

    def __init__(self, rows=()):
        super().__init__()
        self.rows = list(rows)

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def position(self):
        return len(self.rows)

    def go_on(self, position):
        del self.rows[position:]


class Noisy(L.LightningModule):
    """Dropout, batch norm, Adam, a schedule by steps; notes which samples it was trained on."""

    def __init__(self, plateau=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.plateau, self.seen = plateau, []

    def loss(self, batch):
        _ids, x, y = batch
        return mse_loss(self.net(x + 0.01 * torch.randn_like(x)).squeeze(1).float(), y)

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch[0].tolist(), batch[1].tolist()))
        loss = self.loss(batch)
        self.log("train", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val", self.loss(batch), on_step=True, on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        if self.plateau:
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val"}}
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class ByHand(Noisy):
    """Two optimizers; one accumulates."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(5, 1)

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch[0].tolist(), batch[1].tolist()))
        first, second = self.optimizers()
        first.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        first.step()
        with self.update(second, accumulate_grad_batches=3):
            self.manual_backward(mse_loss(self.other(batch[1]).squeeze(1), batch[2]))
        self.log("train", loss, on_step=True, on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), 0.01), torch.optim.SGD(self.other.parameters(), 0.01)


class DrawsItsNoise(Noisy):
    """Draws from generators of its own."""

    def __init__(self):
        super().__init__()
        self.generator, self.numpy = torch.Generator().manual_seed(1), np.random.default_rng(1)

    def loss(self, batch):
        noise = torch.rand(1, generator=self.generator) + self.numpy.random()
        return super().loss(batch) + (noise.float() * self.net[0].weight).sum()


class Jitter(L.Callback):
    """Changes batches by a generator of its own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(8)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch[1].mul_(1 + torch.rand(1, generator=self.generator))


class Jittered(Noisy):
    def configure_callbacks(self):
        return Jitter()


class Switching(Noisy):
    """Stops moving statistics and freezes layers as it goes."""

    def on_train_epoch_start(self):
        self.net[1].train(self.current_epoch != 1)
        self.net[0].requires_grad_(self.current_epoch != 2)

    def on_validation_end(self):
        self.net[3].requires_grad_(self.global_step % 2 == 0)


class Counting(Noisy):
    """Logs an object of torchmetrics, too."""

    def __init__(self):
        super().__init__()
        from torchmetrics import MeanMetric

        self.mean = MeanMetric()

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.mean(loss)
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        return loss


def shuffled(**kwargs):
    return DataLoader(Samples(), batch_size=3, shuffle=True, **kwargs)


def validation(**kwargs):
    return DataLoader(Samples(7), batch_size=3, **kwargs)


class SharesItsGenerator(Noisy):
    """Its loaders draw from one generator."""

    def __init__(self):
        super().__init__()
        self.loaders_draw_from = torch.Generator().manual_seed(6)

    def train_dataloader(self):
        return shuffled(generator=self.loaders_draw_from)

    def val_dataloader(self):
        return validation(generator=self.loaders_draw_from)


class DrawsItsData(Noisy):
    """Splits and selects at random, by no generator in particular."""

    def setup(self, stage):
        self.parts = random_split(Samples(SIZE + 9), [SIZE, 9])

    def train_dataloader(self):
        return DataLoader(Subset(self.parts[0], torch.randperm(SIZE)[:17].tolist()), 3, shuffle=True)

    def val_dataloader(self):
        return DataLoader(Subset(self.parts[1], torch.randperm(9)[:8].tolist()), 3)


class Paired(Noisy):
    """Takes a batch of each of two loaders."""

    def training_step(self, batch, batch_idx):
        one, two = batch["one"], batch["two"]
        return super().training_step([torch.cat([a, b]) for a, b in zip(one, two, strict=True)], batch_idx)


def two_loaders():
    return {"one": shuffled(drop_last=True), "two": DataLoader(Samples(9), batch_size=3, shuffle=True)}


def torchdatas_loader(data=Samples, **kwargs):
    loaders = pytest.importorskip("torchdata.stateful_dataloader")
    return loaders.StatefulDataLoader(data(), batch_size=3, **kwargs)


def two_loaders_of_unknown_length():
    return {
        "one": shuffled(drop_last=True),
        "two": DataLoader(DrawingWithPlace(), batch_size=3, drop_last=True),
    }


PROGRAMS = {
    "plain": (Noisy, shuffled, {}),
    "accumulation": (Noisy, shuffled, {"accumulate_grad_batches": 3}),
    "windows by samples": (Noisy, shuffled, {"accumulate_grad_batches": 3, "normalize_by": "samples"}),
    "validation inside of the epoch": (Noisy, shuffled, {"val_check_interval": 3}),
    "validation over epochs": (Noisy, shuffled, {"val_check_interval": 5, "check_val_every_n_epoch": None}),
    "mixed precision": (Noisy, shuffled, {"precision": "bf16-mixed", "accumulate_grad_batches": 2}),
    "two workers": (Noisy, partial(shuffled, num_workers=2), {"val_check_interval": 3}),
    "workers that stay": (
        Noisy, partial(shuffled, num_workers=1, persistent_workers=True), {"val_check_interval": 4},
    ),
    "manual optimization": (ByHand, shuffled, {}),
    "torchmetrics": (Counting, shuffled, {"val_check_interval": 3}),
    "plateau": (partial(Noisy, plateau=True), shuffled, {"val_check_interval": 0.5}),
    "a stream": (Noisy, lambda: DataLoader(Stream(), batch_size=3), {}),
    "a stream that knows its place": (Noisy, lambda: DataLoader(StreamWithPlace(), batch_size=3), {}),
    "a stream that knows its place and draws": (
        Noisy, lambda: DataLoader(DrawingWithPlace(), batch_size=3), {},
    ),
    "torchdata's loader": (Noisy, partial(torchdatas_loader, shuffle=True), {"val_check_interval": 3}),
    "torchdata's loader of a stream": (Noisy, partial(torchdatas_loader, DrawingWithPlace), {}),
    "two loaders of unknown length": (Paired, two_loaders_of_unknown_length, {"accumulate_grad_batches": 2}),
    "a loader that knows its place": (Noisy, LoaderWithPlace, {"accumulate_grad_batches": 2}),
    "a loader that knows its place and length": (Noisy, SizedLoaderWithPlace, {"val_check_interval": 3}),
    "a transform with a generator": (Noisy, lambda: DataLoader(Augmented(), batch_size=3, shuffle=True), {}),
    "a stream that shuffles by itself": (Noisy, lambda: DataLoader(Shuffled(), batch_size=3), {}),
    "a length that is too large": (
        Noisy, lambda: Overstated(Samples(), batch_size=3, shuffle=True), {"accumulate_grad_batches": 3},
    ),
    "a callback with a generator": (Jittered, shuffled, {"val_check_interval": 3}),
    "hooks that freeze": (Switching, shuffled, {"val_check_interval": 3}),
    "one generator for both loaders": (SharesItsGenerator, lambda: None, {"val_check_interval": 3}),
    "generators of the module's": (DrawsItsNoise, shuffled, {}),
    "a generator of its own": (
        Noisy,
        lambda: shuffled(generator=torch.Generator().manual_seed(3)),
        {"val_check_interval": 3},
    ),
    "gradients of the last window": (Noisy, shuffled, {"accumulate_grad_batches": 5, "max_epochs": 2}),
    "two loaders": (Paired, two_loaders, {"accumulate_grad_batches": 2}),
    "a part of the data": (Noisy, shuffled, {"limit_train_batches": 5, "limit_val_batches": 2}),
    "a sanity check": (Noisy, shuffled, {"num_sanity_val_steps": 1}),
    "no validation": (Noisy, shuffled, {"limit_val_batches": 0, "log_every_n_steps": 3}),
    "non-finite steps left out": (Noisy, shuffled, {"on_nonfinite": "skip", "accumulate_grad_batches": 2}),
    "a split drawn at random": (DrawsItsData, lambda: None, {"num_sanity_val_steps": 1}),
    "data drawn anew": (
        DrawsItsData, lambda: None, {"reload_dataloaders_every_n_epochs": 2, "val_check_interval": 3},
    ),
    "data drawn anew in each epoch": (
        DrawsItsData, lambda: None, {"reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 1},
    ),
    "loaders made anew": (Noisy, lambda: shuffled, {"reload_dataloaders_every_n_epochs": 2}),
}  # fmt: skip
WITH_WORKERS = {"two workers", "workers that stay"}


class SaveAlways(Checkpoint):
    """Writes a checkpoint wherever one can be written, and notes what there was by then."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.points = folder, []

    def save(self, trainer, hook):
        if trainer.sanity_checking:
            return
        path = self.folder / f"{len(self.points)}-{hook}.ckpt"
        trainer.save_checkpoint(path)
        self.points.append((path, len(trainer.lightning_module.seen), list(trainer.logger.rows)))


for name in (
    "on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end",
    "on_validation_batch_end", "on_validation_epoch_end", "on_train_start", "on_train_epoch_start",
):  # fmt: skip
    setattr(SaveAlways, name, lambda self, trainer, *_, hook=name: self.save(trainer, hook))


class GoesOn:
    """What of a run is to be the same."""

    def __init__(self, program, quiet, *, callbacks=(), ckpt_path=None, rows=(), seed=None, **changes):
        make_model, make_data, settings = PROGRAMS[program]
        L.seed_everything(1, verbose=False)  # the program's own: the model that it makes
        self.model, data = make_model(), make_data()
        val = validation(num_workers=1, persistent_workers=True) if program in WITH_WORKERS else validation()
        if data is None:
            val = None
        elif callable(data) and not hasattr(data, "__iter__"):  # a hook that makes it
            self.model.train_dataloader, self.model.val_dataloader = data, validation
            data = val = None
        if seed is not None:
            L.seed_everything(seed, verbose=False)
        self.logger = Remembering(rows)
        self.trainer = quiet(
            **{"max_epochs": 3, "log_every_n_steps": 2, **settings, **changes},
            enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
            logger=self.logger, callbacks=list(callbacks),
        )  # fmt: skip
        self.trainer.fit(self.model, data, val, ckpt_path=ckpt_path)
        parts = (self.model.state_dict(), [each.state_dict() for each in self.trainer.optimizers])
        self.end = str(parts), str(collect_rng_state()), self.trainer.global_step


@pytest.fixture
def exactly():
    """All digits of tensors are compared."""
    torch.set_printoptions(precision=12, threshold=100_000)
    yield
    torch.set_printoptions(profile="default")


@pytest.mark.usefixtures("exactly")
@pytest.mark.filterwarnings("ignore:A train dataloader gave 8 batches", "ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "step",
    [7, pytest.param(3, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.nightly)],
    ids=["some", "many", "all"],
)
def test_a_run_goes_on_from_every_point_to_the_same_bits(program, step, quiet, tmp_path):
    saver = SaveAlways(tmp_path)
    whole = GoesOn(program, quiet, callbacks=[saver])
    hooks = {path.stem.split("-")[1] for path, _, _ in saver.points}
    assert {"on_train_start", "on_train_batch_end", "on_train_epoch_end", "on_train_end"} <= hooks
    first = zlib.crc32(program.encode()) % step  # others for each program
    for path, seen, rows in saver.points[first::step]:
        garbage = [(0, {"written": "after the checkpoint"})]
        again = GoesOn(program, quiet, ckpt_path=path, rows=rows + garbage, seed=random.randrange(10**6))
        assert again.model.seen == whole.model.seen[seen:], path.name
        assert str(again.logger.rows) == str(whole.logger.rows), path.name
        assert again.end == whole.end, path.name


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("program", ["plain", "accumulation", "validation inside of the epoch", "a stream"])
def test_two_runs_of_some_steps_are_one_of_all(program, quiet, tmp_path):
    """Here the first run ends by itself, at ``max_steps``."""
    whole = GoesOn(program, quiet)
    for steps in range(1, whole.trainer.global_step, 2):
        path = tmp_path / f"{steps}.ckpt"
        first = GoesOn(program, quiet, max_steps=steps)
        first.trainer.save_checkpoint(path)
        second = GoesOn(program, quiet, ckpt_path=path, seed=5)
        assert first.model.seen + second.model.seen == whole.model.seen, steps
        assert second.end == whole.end, steps


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start", "on_train_epoch_end"])
def test_a_signal_anywhere_costs_nothing(hook, number, quiet, tmp_path):
    program = "validation inside of the epoch"
    whole = GoesOn(program, quiet)

    class Signals(L.Callback):
        calls = 0

    def send(self, *_):
        self.calls += 1
        if self.calls == 2:
            signal.raise_signal(number)

    setattr(Signals, hook, send)
    keeping = ModelCheckpoint(tmp_path, save_last=True, every_n_epochs=10)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped:
        GoesOn(program, quiet, callbacks=[Signals(), keeping])
    assert stopped.value.__class__.__name__ in ("KeyboardInterrupt", "SIGTERMException")
    again = GoesOn(program, quiet, callbacks=[keeping], ckpt_path=tmp_path / "last.ckpt", seed=5)
    assert again.model.seen == whole.model.seen[len(whole.model.seen) - len(again.model.seen) :]
    assert again.end == whole.end


class Averaging(L.Callback):
    """Validates an average of the weights in place of the weights."""

    def setup(self, trainer, module, stage):
        self.mean = [each.detach().clone() for each in module.parameters()]

    def on_train_batch_end(self, trainer, module, *_):
        for mean, weight in zip(self.mean, module.parameters(), strict=True):
            mean.lerp_(weight.detach(), 0.1)

    def on_validation_start(self, trainer, module):
        self.own = [each.detach().clone() for each in module.parameters()]
        self.put(module, self.mean)

    def on_validation_batch_start(self, trainer, *_):
        if trainer.global_step == self.stop_at:
            signal.raise_signal(signal.SIGTERM)

    def on_validation_end(self, trainer, module):
        self.put(module, self.own)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


def write_over(module, values):
    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.detach().copy_(value)


def put_in_place(module, values):
    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.data = value


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("put", [write_over, put_in_place])
def test_weights_that_a_hook_puts_in_for_a_validation_are_not_saved_as_those_to_train(put, quiet, tmp_path):
    def fit(folder, stop_at=-1, **arguments):
        averaging, program = Averaging(), "validation inside of the epoch"
        averaging.put, averaging.stop_at = put, stop_at
        keeping = ModelCheckpoint(tmp_path / folder, save_last=True, every_n_epochs=10)
        return GoesOn(program, quiet, callbacks=[averaging, keeping], **arguments)

    whole = fit("whole")
    with pytest.raises(SystemExit):
        fit("parts", stop_at=3)
    again = fit("parts", ckpt_path=tmp_path / "parts" / "last.ckpt", seed=5)
    assert again.end == whole.end


def test_a_resumed_run_writes_no_row_twice_to_the_same_file(quiet, tmp_path):
    def fit(folder, **kwargs):
        L.seed_everything(3, verbose=False)
        keeping = ModelCheckpoint(folder / "kept", filename="{step}", save_top_k=-1, every_n_train_steps=5)
        trainer = quiet(
            max_epochs=2, callbacks=[keeping], enable_checkpointing=True, log_every_n_steps=1,
            logger=CSVLogger(folder, name="", version="run"),
        )  # fmt: skip
        trainer.fit(Noisy(), shuffled(), validation(), **kwargs)
        return (folder / "run" / "metrics.csv").read_text()

    whole = fit(tmp_path / "whole")
    parts = fit(tmp_path / "parts")
    assert parts == whole
    for name in ("step=5.ckpt", "step=10.ckpt", "step=15.ckpt"):
        assert fit(tmp_path / "parts", ckpt_path=tmp_path / "parts" / "kept" / name) == whole


def test_samples_that_were_trained_on_are_not_read_again(quiet, tmp_path):
    read = []

    class Watched(Samples):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    def fit(steps, **kwargs):
        trainer = quiet(max_steps=steps, max_epochs=1)
        trainer.fit(Noisy(), DataLoader(Watched(), batch_size=3, shuffle=True), validation(), **kwargs)
        return trainer

    fit(3).save_checkpoint(tmp_path / "three.ckpt")
    fit(8, ckpt_path=tmp_path / "three.ckpt")
    assert sorted(read) == list(range(SIZE))


def test_what_is_frozen_before_a_fit_that_goes_on_stays_frozen(quiet, tmp_path):
    trainer = quiet(max_steps=3)
    trainer.fit(Noisy(), shuffled(), validation())
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    model = Noisy()
    model.net[0].requires_grad_(False)
    model.net[1].eval()
    quiet(max_steps=5).fit(model, shuffled(), validation(), ckpt_path=tmp_path / "three.ckpt")
    saved = torch.load(tmp_path / "three.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(model.net[0].weight, saved["net.0.weight"])
    assert torch.equal(model.net[1].running_mean, saved["net.1.running_mean"])
    assert not torch.equal(model.net[3].weight, saved["net.3.weight"])


def test_weights_alone_hold_no_state_of_the_run(quiet, tmp_path):
    trainer = quiet(max_steps=1)
    trainer.fit(Noisy(), shuffled(), validation())
    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    assert "random" not in torch.load(tmp_path / "weights.ckpt", weights_only=True).get("levin", {})
    assert os.path.getsize(tmp_path / "weights.ckpt") < 10_000
