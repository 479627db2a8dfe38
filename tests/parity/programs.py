"""Training programs whose numbers are compared between levin and Lightning, bit for bit.

Each function trains something small with the framework `L` and returns what came out, as `report` gathers it.
Names that end in ``_step`` are values of single steps and compared exactly; other logged values are means
over an epoch, which levin sums in another order and precision, and may differ in the seventh digit.
"""

from __future__ import annotations

import csv
import importlib
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAMS: dict[str, Callable[[Any, Path], dict[str, Any]]] = {}


def program(function: Callable[[Any, Path], dict[str, Any]]) -> Callable[[Any, Path], dict[str, Any]]:
    """Put a program into the table."""
    PROGRAMS[function.__name__] = function
    return function


KINDS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")
"""The trainer's dicts of logged values."""

OUR_KEYS = {"levin", "levin_version"}
"""What levin adds to a checkpoint."""

# what is compared


def differences(theirs: Any, ours: Any, where: str = "", name: str = "_step") -> list[str]:
    """Return where two reports differ, one line each.

    Args:
        theirs: Lightning's report, or a part of it.
        ours: Levin's.
        where: The way to this part.
        name: The last string key on the way: it says whether a float must be exact.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        lines = [f"{where}: theirs only: {key!r}" for key in theirs if key not in ours]
        lines += [f"{where}: ours only: {key!r}" for key in ours if key not in theirs]
        for key in theirs:
            if key in ours:
                lines += differences(
                    theirs[key], ours[key], f"{where}[{key!r}]", key if isinstance(key, str) else name
                )
        return lines
    if isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)):
        lines = [] if len(theirs) == len(ours) else [f"{where}: {len(theirs)} entries against {len(ours)}"]
        for index, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            lines += differences(one, other, f"{where}[{index}]", name)
        return lines
    if isinstance(theirs, torch.Tensor) and isinstance(ours, torch.Tensor):
        same = theirs.dtype == ours.dtype and theirs.shape == ours.shape and torch.equal(theirs, ours)
        return (
            [] if same else [f"{where}: tensors differ: {theirs.flatten()[:4]} against {ours.flatten()[:4]}"]
        )
    if isinstance(theirs, float) and isinstance(ours, float) and not exact(name):
        return [] if math.isclose(theirs, ours, rel_tol=1e-6) else [f"{where}: {theirs!r} against {ours!r}"]
    same = type(theirs) is type(ours) and (theirs == ours or theirs != theirs)
    return [] if same else [f"{where}: {theirs!r} against {ours!r}"]


def exact(name: str) -> bool:
    """Whether the metric `name` holds the value of a single step."""
    return name.split("/")[0].endswith("_step")


def numbers_of(metrics: dict[str, Any]) -> dict[str, float]:
    """Return a metrics dict with floats for tensors."""
    return {name: float(value) for name, value in metrics.items()}


def make_spy(L: Any) -> Any:
    """Return a callback that keeps the three metric dicts of the trainer at each end of something."""

    def keeping(hook: str) -> Any:
        def method(self: Any, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
            if not trainer.sanity_checking:  # what it logs is dropped, and with several loaders comes late
                seen = {kind: numbers_of(getattr(trainer, kind)) for kind in KINDS}
                counters = {"epoch": trainer.current_epoch, "step": trainer.global_step}
                self.seen.append({"hook": hook, **counters, **seen})

        return method

    hooks = [
        f"on_{x}_{y}" for x in ("train", "validation", "test") for y in ("batch_end", "epoch_end", "end")
    ]
    spy = type("Spy", (L.Callback,), {hook: keeping(hook) for hook in hooks})()
    spy.seen = []
    return spy


def make_trainer(L: Any, root: Path, *callbacks: Any, **arguments: Any) -> Any:
    """Return a quiet CPU trainer with a spy and a CSVLogger that keeps every step.

    Args:
        L: The framework.
        root: The directory it writes to.
        *callbacks: More callbacks.
        **arguments: Of the trainer; they win over the usual ones.
    """
    usual = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "default_root_dir": str(root),
        "logger": importlib.import_module(f"{L.__name__}.loggers").CSVLogger(str(root)),
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [make_spy(L), *callbacks],
    }
    return L.Trainer(**{**usual, **arguments})


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.csv without their empty cells, numbers as numbers."""
    with file.open() as text:
        return [
            {key: int(cell) if key in ("step", "epoch") else float(cell) for key, cell in row.items() if cell}
            for row in csv.DictReader(text)
        ]


def report(trainer: Any, model: Any, root: Path, **more: Any) -> dict[str, Any]:
    """Return all that came out of a run.

    Args:
        trainer: After its run.
        model: The module.
        root: The directory everything was written to.
        **more: What the program itself has to say.
    """
    checkpoints = sorted(root.rglob("*.ckpt"))
    return {
        **more,
        "weights": dict(model.state_dict()),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "seen": next((c.seen for c in trainer.callbacks if type(c).__name__ == "Spy"), None),
        "rows": {str(f.relative_to(root)): rows_of(f) for f in sorted(root.rglob("metrics.csv"))},
        "columns": {
            str(f.relative_to(root)): f.read_text().splitlines()[0].split(",")
            for f in sorted(root.rglob("metrics.csv"))
        },
        "checkpoints": {
            str(f.relative_to(root)): sorted(set(torch.load(f, weights_only=False)) - OUR_KEYS)
            for f in checkpoints
        },
        "counters": {
            "current_epoch": trainer.current_epoch,
            "global_step": trainer.global_step,
            "num_training_batches": trainer.num_training_batches,
            "num_val_batches": list(trainer.num_val_batches),
            "should_stop": trainer.should_stop,
            "status": str(trainer.state.status.value),
        },
        "random state": torch.get_rng_state(),
    }


def outcome(whole: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the part of a report that is small, and the same on each machine but for rounding.

    Args:
        whole: What a program returned.
    """
    rows = [[file, row] for file, rows in whole["rows"].items() for row in rows]
    checkpoints = [[file, keys] for file, keys in whole["checkpoints"].items()]
    return {"rows": rows, "checkpoints": checkpoints, "counters": list(map(list, whole["counters"].items()))}


# data and modules


def blobs(rows: int = 40, seed: int = 3) -> TensorDataset:
    """Return `rows` points of 8 features in 3 classes, drawn from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (rows,), generator=generator)
    return TensorDataset(torch.randn(rows, 8, generator=generator) + y[:, None], y)


def loader(rows: int = 40, *, shuffle: bool = True, seed: int = 3, **arguments: Any) -> DataLoader:
    """Return a loader of blobs; 40 rows by 16 leave a smaller last batch."""
    return DataLoader(blobs(rows, seed), **{"batch_size": 16, "shuffle": shuffle, **arguments})


def with_own_draws(rows: int = 40, **arguments: Any) -> DataLoader:
    """Return a loader that draws nothing from torch's generator: Lightning opens some twice, levin once."""
    return loader(rows, shuffle=False, generator=torch.Generator(), **arguments)


def make_classifier(L: Any) -> Any:
    """Return the class of a classifier with dropout that logs in every way, an Adam and a StepLR."""

    class Classifier(L.LightningModule):
        def __init__(self, width: int = 12, lr: float = 0.02) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            x, y = batch
            logits = self(x)
            loss = F.cross_entropy(logits, y)
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            self.log("acc", (logits.argmax(1) == y).float().mean(), on_step=False, on_epoch=True)
            self.log("only_step", loss * 2, prog_bar=True)
            self.log("hidden", loss, logger=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
            x, y = batch
            logits = self(x)
            loss = F.cross_entropy(logits, y)
            self.log("val_loss", loss, prog_bar=True)
            self.log("val_acc", (logits.argmax(1) == y).float().mean(), on_step=True, on_epoch=True)
            self.log_dict({"val_max": loss, "val_hidden": loss}, reduce_fx="max", logger=False)
            return loss

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            x, y = batch
            self.log("test_loss", F.cross_entropy(self(x), y), on_step=True, on_epoch=True)
            self.log("test_sum", y.sum().float(), reduce_fx="sum")

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
            return self(batch[0]).softmax(1)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    return Classifier


def fitted(L: Any, root: Path, *callbacks: Any, train: Any = None, val: Any = None, **arguments: Any) -> Any:
    """Seed, fit the classifier, and return its report.

    Args:
        L: The framework.
        root: The directory it writes to.
        *callbacks: More callbacks.
        train: The training loader; a shuffled one when not given.
        val: The validation loader or loaders; a shuffled one when not given.
        **arguments: Of the trainer.
    """
    L.seed_everything(7, verbose=False)
    model = make_classifier(L)()
    trainer = make_trainer(L, root, *callbacks, **arguments)
    trainer.fit(model, loader() if train is None else train, loader(24, seed=4) if val is None else val)
    return report(trainer, model, root)


# the programs


@program
def classifier_with_shuffled_loaders(L: Any, root: Path) -> dict[str, Any]:
    L.seed_everything(7, verbose=False)
    model = make_classifier(L)()
    trainer = make_trainer(L, root, max_epochs=3)
    trainer.fit(model, loader(), loader(24, seed=4))
    fit = {kind: numbers_of(getattr(trainer, kind)) for kind in KINDS}
    results = trainer.validate(model, loader(24, seed=4, shuffle=False), verbose=False)
    tests = trainer.test(model, loader(24, seed=5, shuffle=False), verbose=False)
    predictions = trainer.predict(model, loader(20, seed=6, shuffle=False))
    return report(trainer, model, root, after_fit=fit, validate=results, test=tests, predictions=predictions)


@program
def best_checkpoint_tested(L: Any, root: Path) -> dict[str, Any]:
    L.seed_everything(7, verbose=False)
    model = make_classifier(L)()
    saving = importlib.import_module(f"{L.__name__}.callbacks").ModelCheckpoint(
        monitor="val_loss", mode="max"
    )
    trainer = make_trainer(L, root, saving, max_epochs=3)
    trainer.fit(model, loader(), loader(24, seed=4))
    best = str(saving.best_model_path).rsplit("/", 1)[-1]
    tests = trainer.test(dataloaders=loader(24, seed=5, shuffle=False), ckpt_path="best", verbose=False)
    predictions = trainer.predict(dataloaders=loader(20, shuffle=False), ckpt_path=saving.best_model_path)
    score = float(saving.best_model_score)
    return report(trainer, model, root, best=best, score=score, test=tests, predictions=predictions)


@program
def accumulation_with_an_uneven_end(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, accumulate_grad_batches=2)


@program
def clipping_by_norm(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, gradient_clip_val=0.2)


@program
def clipping_by_value(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, gradient_clip_val=0.02, gradient_clip_algorithm="value")


@program
def two_loaders_to_validate_on(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, val=[loader(24, seed=4), loader(20, seed=5, batch_size=7)])


@program
def validation_within_the_epoch(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, train=loader(80), val_check_interval=0.4)


@program
def validation_across_epochs(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, train=loader(80), val_check_interval=3, check_val_every_n_epoch=None)


@program
def validation_every_second_epoch(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, max_epochs=3, check_val_every_n_epoch=2)


@program
def logging_every_third_step(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, train=loader(112), log_every_n_steps=3)


@program
def limits_as_fractions(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, train=loader(80), limit_train_batches=0.6, limit_val_batches=0.5)


@program
def max_steps_within_an_epoch(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, max_epochs=-1, max_steps=5)


@program
def two_workers(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, train=loader(num_workers=2), val=loader(24, seed=4, num_workers=1))


@program
def no_sanity_check(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, num_sanity_val_steps=0)


@program
def whole_sanity_check(L: Any, root: Path) -> dict[str, Any]:
    return fitted(L, root, num_sanity_val_steps=-1)


@program
def loaders_reloaded(L: Any, root: Path) -> dict[str, Any]:
    class Module(make_classifier(L)):
        def train_dataloader(self) -> DataLoader:
            return with_own_draws(32, seed=10 + self.current_epoch)

        def val_dataloader(self) -> DataLoader:
            return with_own_draws(16, seed=20 + self.current_epoch)

    L.seed_everything(7, verbose=False)
    model = Module()
    trainer = make_trainer(L, root, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    trainer.fit(model)
    out = report(trainer, model, root)
    # levin numbers the rows of single validation batches on, Lightning from 0 again with each reload
    rows = {file: [row for row in rows if "val_acc_step" not in row] for file, rows in out["rows"].items()}
    return {**out, "rows": rows}


@program
def rate_monitor_and_checkpoints(L: Any, root: Path) -> dict[str, Any]:
    callbacks = importlib.import_module(f"{L.__name__}.callbacks")
    best = callbacks.ModelCheckpoint(
        monitor="val_loss", save_top_k=2, save_last=True, filename="{epoch:02d}-{val_loss:.2f}"
    )
    steps = callbacks.ModelCheckpoint(root / "steps", every_n_train_steps=2, save_top_k=-1)
    weights = callbacks.ModelCheckpoint(root / "weights", save_weights_only=True)
    rates = callbacks.LearningRateMonitor(log_momentum=True)
    stop = callbacks.EarlyStopping("val_acc", mode="max", patience=1, min_delta=0.2)
    out = fitted(L, root, best, steps, weights, rates, stop, max_epochs=5)
    scores = {str(path).rsplit("/", 1)[-1]: float(score) for path, score in best.best_k_models.items()}
    return {**out, "scores": scores, "waited": stop.wait_count, "stopped": stop.stopped_epoch}


@program
def resumed_after_an_epoch(L: Any, root: Path) -> dict[str, Any]:
    # nothing random: levin goes on with the numbers of the first run, Lightning with any
    L.seed_everything(7, verbose=False)
    first = make_trainer(L, root / "first", max_epochs=2)
    model = make_classifier(L)()
    model.net[2].p = 0.0
    first.fit(model, loader(shuffle=False), loader(24, seed=4, shuffle=False))
    path = first.checkpoint_callback.best_model_path
    L.seed_everything(8, verbose=False)
    model = make_classifier(L)()
    model.net[2].p = 0.0
    # no validation: levin goes on with the x axis of its steps, Lightning begins a new one
    trainer = make_trainer(L, root / "second", max_epochs=4, limit_val_batches=0)
    trainer.fit(model, loader(shuffle=False), loader(24, seed=4, shuffle=False), ckpt_path=path)
    out = report(trainer, model, root)
    # levin also goes on with the metrics and the random state of the first run
    ends = [seen for seen in out["seen"] if seen["hook"] in ("on_train_epoch_end", "on_train_end")]
    for metrics in (seen[kind] for seen in ends for kind in KINDS):
        for name in [name for name in metrics if name.startswith("val_")]:
            del metrics[name]
    out.pop("random state")
    return {**out, "seen": ends}


@program
def adversarial_pair_by_hand(L: Any, root: Path) -> dict[str, Any]:
    class Pair(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
            self.critic = nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(), nn.Linear(8, 1))

        def training_step(self, batch: Any, batch_idx: int) -> None:
            real = batch[0]
            for_generator, for_critic = self.optimizers()
            noise = torch.randn(len(real), 4, device=self.device)
            self.toggle_optimizer(for_generator)
            score = self.critic(self.generator(noise))
            g_loss = F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
            for_generator.zero_grad()
            self.manual_backward(g_loss)
            for_generator.step()
            self.untoggle_optimizer(for_generator)
            self.toggle_optimizer(for_critic)
            good, bad = self.critic(real), self.critic(self.generator(noise).detach())
            d_loss = F.softplus(-good).mean() + F.softplus(bad).mean()
            for_critic.zero_grad()
            self.manual_backward(d_loss)
            self.clip_gradients(for_critic, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            for_critic.step()
            self.untoggle_optimizer(for_critic)
            self.log_dict({"g_loss": g_loss, "d_loss": d_loss}, prog_bar=True, on_step=True, on_epoch=True)
            if self.trainer.is_last_batch:
                self.lr_schedulers().step()

        def configure_optimizers(self) -> Any:
            generator = torch.optim.Adam(self.generator.parameters(), lr=0.01, betas=(0.5, 0.9))
            critic = torch.optim.RMSprop(self.critic.parameters(), lr=0.01)
            return [generator, critic], [torch.optim.lr_scheduler.ExponentialLR(critic, 0.5)]

    L.seed_everything(7, verbose=False)
    model = Pair()
    trainer = make_trainer(L, root, max_epochs=3)
    trainer.fit(model, loader())
    return report(trainer, model, root)


@program
def closures_called_many_times(L: Any, root: Path) -> dict[str, Any]:
    class Module(make_classifier(L)):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), max_iter=4, lr=0.5)

    L.seed_everything(7, verbose=False)
    model = Module()
    trainer = make_trainer(L, root)
    trainer.fit(model, loader(), loader(24, seed=4))
    return report(trainer, model, root)


@program
def schedulers_of_every_kind(L: Any, root: Path) -> dict[str, Any]:
    class Module(make_classifier(L)):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
            schedule = torch.optim.lr_scheduler
            return [optimizer], [
                {"scheduler": schedule.ExponentialLR(optimizer, 0.9), "interval": "step", "frequency": 2},
                {"scheduler": schedule.ReduceLROnPlateau(optimizer, patience=0), "monitor": "val_loss"},
                schedule.LambdaLR(optimizer, lambda epoch: 0.8**epoch),
            ]

    L.seed_everything(7, verbose=False)
    model = Module()
    monitor = importlib.import_module(f"{L.__name__}.callbacks").LearningRateMonitor("step")
    trainer = make_trainer(L, root, monitor, max_epochs=4)
    trainer.fit(model, loader(), loader(24, seed=4))
    return report(trainer, model, root)


@program
def metrics_from_every_hook(L: Any, root: Path) -> dict[str, Any]:
    class Module(make_classifier(L)):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)
            self.val_accuracy = torchmetrics.classification.MulticlassAccuracy(3)
            self.mean = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            logits = self(x)
            loss = F.cross_entropy(logits, y)
            self.accuracy(logits, y)
            self.log("metric", self.accuracy, on_step=True, on_epoch=True)
            self.log("count", batch_idx, on_step=True, on_epoch=True, reduce_fx="sum")
            self.log("low", loss, on_step=False, on_epoch=True, reduce_fx="min")
            self.log("high", loss, on_step=False, on_epoch=True, reduce_fx=torch.max)
            self.log("weighted", float(batch_idx), on_step=False, on_epoch=True, batch_size=batch_idx + 1)
            self.log("group/nested", loss, on_step=True, on_epoch=True)
            return {"loss": loss, "logits": logits}

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("from_batch_end", outputs["loss"], on_epoch=True)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.val_accuracy.update(self(x), y)
            self.mean.update(x.mean())
            self.log("val_metric", self.val_accuracy)
            self.log_dict({"val_mean": self.mean}, on_step=True, on_epoch=True)

        def on_train_epoch_start(self) -> None:
            self.log("at_start", float(self.current_epoch))

        def on_train_epoch_end(self) -> None:
            self.log("at_end", float(self.current_epoch), prog_bar=True)

        def on_validation_epoch_end(self) -> None:
            self.log("at_val_end", 5.0)

    class Logging(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.log("callback_value", float(batch_idx), prog_bar=True)

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.log("callback_val", 2.0)

    L.seed_everything(7, verbose=False)
    model = Module()
    trainer = make_trainer(L, root, Logging())
    trainer.fit(model, loader(), loader(24, seed=4))
    return report(trainer, model, root)


@program
def evaluation_of_several_loaders(L: Any, root: Path) -> dict[str, Any]:
    class Module(make_classifier(L)):
        def on_validation_epoch_end(self) -> None:
            self.log("hook", 3.0)

    L.seed_everything(7, verbose=False)
    model = Module()
    trainer = make_trainer(L, root)
    loaders = [loader(24, shuffle=False), loader(21, seed=5, shuffle=False), loader(16, seed=6)]
    results = {
        "validate": trainer.validate(model, loaders, verbose=False),
        "after validate": {k: numbers_of(getattr(trainer, k)) for k in KINDS},
        "validate again": trainer.validate(model, loaders[0], verbose=False),
        "test": trainer.test(model, loaders, verbose=False),
        "test one": trainer.test(model, loaders[1], verbose=False),
        "after test": {k: numbers_of(getattr(trainer, k)) for k in KINDS},
        "predict": trainer.predict(model, loaders),
        "predict one": trainer.predict(model, loaders[1]),
    }
    return report(trainer, model, root, results=results)


@program
def several_training_loaders(L: Any, root: Path) -> dict[str, Any]:
    class Module(make_classifier(L)):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            present = [part for part in batch.values() if part is not None]
            return super().training_step(
                [torch.cat(parts) for parts in zip(*present, strict=True)], batch_idx
            )

    L.seed_everything(7, verbose=False)
    model = Module()
    trainer = make_trainer(L, root)
    trainer.fit(model, {"a": loader(40), "b": loader(24, seed=5, batch_size=6)})
    return report(trainer, model, root)


@program
def rows_without_a_known_length(L: Any, root: Path) -> dict[str, Any]:
    class Rows(IterableDataset):
        def __iter__(self) -> Any:
            return iter(blobs(40))

    return fitted(L, root, train=DataLoader(Rows(), batch_size=16), val=DataLoader(Rows(), batch_size=16))


def at_precision(precision: str) -> Callable[[Any, Path], dict[str, Any]]:
    """Return the program that fits the classifier at a precision."""

    def fit(L: Any, root: Path) -> dict[str, Any]:
        return fitted(L, root, precision=precision, gradient_clip_val=0.5)

    fit.__name__ = f"precision_{precision.replace('-', '_')}"
    return fit


for precision in ("bf16-mixed", "bf16-true", "64-true"):
    program(at_precision(precision))


@program
def two_fits_of_one_trainer(L: Any, root: Path) -> dict[str, Any]:
    L.seed_everything(7, verbose=False)
    model = make_classifier(L)()
    trainer = make_trainer(L, root)
    trainer.fit(model, with_own_draws(), with_own_draws(24, seed=4))
    trainer.fit_loop.max_epochs = 4
    trainer.fit(model, with_own_draws(), with_own_draws(24, seed=4))
    return report(trainer, model, root)


@program
def boring_model(L: Any, root: Path) -> dict[str, Any]:
    home = "levin.testing" if L.__name__ == "levin" else "lightning.pytorch.demos.boring_classes"
    boring = importlib.import_module(home)
    L.seed_everything(7, verbose=False)
    model = boring.BoringModel()
    trainer = make_trainer(L, root)
    trainer.fit(model)
    results = {
        "validate": trainer.validate(model),
        "test": trainer.test(model),
        "predict": trainer.predict(model),
    }
    return report(trainer, model, root, results=results)


@program
def boring_datamodule(L: Any, root: Path) -> dict[str, Any]:
    home = "levin.testing" if L.__name__ == "levin" else "lightning.pytorch.demos.boring_classes"
    boring = importlib.import_module(home)
    L.seed_everything(7, verbose=False)
    model, data = boring.BoringModel(), boring.BoringDataModule()
    trainer = make_trainer(L, root)
    trainer.fit(model, datamodule=data)
    return report(trainer, model, root, results=trainer.test(model, datamodule=data))
