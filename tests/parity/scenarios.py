"""Training programs whose calls into user code are compared between levin and Lightning.

Each function below is one program, written once. `Run` gives it classes of the framework asked for; the
name of the function is the name of its trace in `traces/`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from recorder import (
    Recorder,
    grad_mode,
    loader,
    make_callback,
    make_datamodule,
    make_logger,
    make_module,
    stream,
    traced_optimizer,
    traced_scheduler,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

SCENARIOS: dict[str, Callable[[Run], None]] = {}


def scenario(program: Callable[[Run], None]) -> Callable[[Run], None]:
    """Put a program into the table."""
    SCENARIOS[program.__name__] = program
    return program


class Run:
    """What one program needs from one framework.

    Args:
        L: `levin` or `lightning.pytorch`.
        root: A directory of its own for checkpoints.
    """

    def __init__(self, L: Any, root: str) -> None:
        self.L = L
        self.root = root
        self.recorder = Recorder()
        self.Module = make_module(L, self.recorder)
        self.Data = make_datamodule(L, self.recorder)
        self.Callback = make_callback(L, self.recorder)
        self.callbacks = importlib.import_module(f"{L.__name__}.callbacks")

    def trainer(self, *extra: Any, **arguments: Any) -> Any:
        """Return a quiet CPU trainer with the recording callback and logger.

        Args:
            *extra: More callbacks.
            **arguments: Of the trainer; they win over the usual ones.
        """
        usual = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "default_root_dir": self.root,
            "logger": make_logger(self.L, self.recorder, self.root),
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [self.Callback(), *extra],
        }
        return self.L.Trainer(**{**usual, **arguments})

    def loader(self, name: str, batches: int) -> DataLoader:
        """Return a recording loader."""
        return loader(self.recorder, name, batches)

    def traced(self, base: type, owner: str, *hooks: str) -> type:
        """Return a subclass of the callback class `base` that notes the given hooks.

        Args:
            base: The framework's callback class.
            owner: Its name in the trace.
            *hooks: Names of the hooks to note.
        """

        def noting(hook: str) -> Any:
            def method(callback: Any, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
                self.recorder.note(owner, hook, None, grad_mode())
                getattr(base, hook)(callback, trainer, pl_module, *args, **kwargs)

            return method

        return type(base.__name__, (base,), {hook: noting(hook) for hook in hooks})


def trace(name: str, L: Any, root: str) -> list[str]:
    """Run the scenario `name` with the framework `L` and return its calls.

    Args:
        name: A key of `SCENARIOS`.
        L: `levin` or `lightning.pytorch`.
        root: An empty directory.
    """
    run = Run(L, root)
    torch.manual_seed(1)
    SCENARIOS[name](run)
    return run.recorder.calls


# fit: which loops run, and when


@scenario
def fit_with_validation_accumulating_two(run: Run) -> None:
    run.trainer(max_epochs=2, accumulate_grad_batches=2).fit(run.Module(), datamodule=run.Data())


@scenario
def fit_with_hooks_and_loaders_of_the_module(run: Run) -> None:
    class Module(run.Module):
        def train_dataloader(self) -> Any:
            self.note("train_dataloader")
            return run.loader("train", 2)

        def val_dataloader(self) -> Any:
            self.note("val_dataloader")
            return run.loader("val", 1)

    run.trainer(max_epochs=2).fit(Module())


@scenario
def fit_without_validation(run: Run) -> None:
    class Module(run.Module):
        validation_step = run.L.LightningModule.validation_step

    run.trainer(max_epochs=2).fit(Module(), run.loader("train", 3))


@scenario
def fit_without_sanity_check(run: Run) -> None:
    run.trainer(num_sanity_val_steps=0).fit(run.Module(), datamodule=run.Data())


@scenario
def fit_with_one_sanity_step(run: Run) -> None:
    run.trainer(num_sanity_val_steps=1, limit_train_batches=1).fit(run.Module(), datamodule=run.Data())


@scenario
def fit_logging_every_second_step(run: Run) -> None:
    run.trainer(log_every_n_steps=2, max_epochs=2, limit_val_batches=0).fit(
        run.Module(), datamodule=run.Data()
    )


@scenario
def validation_every_two_batches(run: Run) -> None:
    run.trainer(max_epochs=2, val_check_interval=2).fit(
        run.Module(), run.loader("train", 5), run.loader("val", 1)
    )


@scenario
def validation_every_half_epoch(run: Run) -> None:
    run.trainer(val_check_interval=0.5).fit(run.Module(), run.loader("train", 5), run.loader("val", 1))


@scenario
def validation_every_three_batches_across_epochs(run: Run) -> None:
    trainer = run.trainer(max_epochs=2, val_check_interval=3, check_val_every_n_epoch=None)
    trainer.fit(run.Module(), run.loader("train", 4), run.loader("val", 1))


@scenario
def validation_every_two_epochs(run: Run) -> None:
    trainer = run.trainer(max_epochs=3, check_val_every_n_epoch=2)
    trainer.fit(run.Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def validation_in_the_middle_of_an_accumulation(run: Run) -> None:
    trainer = run.trainer(val_check_interval=1, accumulate_grad_batches=2, num_sanity_val_steps=0)
    trainer.fit(run.Module(), run.loader("train", 3), run.loader("val", 1))


@scenario
def max_steps_in_the_middle_of_an_epoch(run: Run) -> None:
    run.trainer(max_epochs=-1, max_steps=4).fit(run.Module(), datamodule=run.Data())


@scenario
def max_epochs_zero(run: Run) -> None:
    run.trainer(max_epochs=0).fit(run.Module(), datamodule=run.Data())


@scenario
def max_steps_zero(run: Run) -> None:
    run.trainer(max_steps=0).fit(run.Module(), datamodule=run.Data())


@scenario
def fast_dev_run(run: Run) -> None:
    run.trainer(fast_dev_run=True).fit(run.Module(), datamodule=run.Data())


@scenario
def fast_dev_run_of_two(run: Run) -> None:
    run.trainer(fast_dev_run=2).fit(run.Module(), datamodule=run.Data())


@scenario
def limit_val_batches_zero(run: Run) -> None:
    run.trainer(limit_val_batches=0).fit(run.Module(), datamodule=run.Data())


@scenario
def limit_train_batches_zero(run: Run) -> None:
    run.trainer(limit_train_batches=0).fit(run.Module(), datamodule=run.Data())


@scenario
def limited_batches(run: Run) -> None:
    trainer = run.trainer(max_epochs=2, limit_train_batches=2, limit_val_batches=1)
    trainer.fit(run.Module(), datamodule=run.Data())


@scenario
def overfit_batches(run: Run) -> None:
    run.trainer(overfit_batches=1, max_epochs=2).fit(
        run.Module(), run.loader("train", 3), run.loader("val", 2)
    )


@scenario
def two_validation_loaders(run: Run) -> None:
    loaders = [run.loader("val_a", 2), run.loader("val_b", 1)]
    run.trainer().fit(run.Module(), run.loader("train", 2), loaders)


@scenario
def two_training_loaders(run: Run) -> None:
    class Module(run.Module):
        def loss(self, batch: Any) -> torch.Tensor:
            return (
                super().loss(torch.cat(list(batch.values())))
                if isinstance(batch, dict)
                else super().loss(batch)
            )

    loaders = {"a": run.loader("train_a", 2), "b": run.loader("train_b", 2)}
    run.trainer(max_epochs=2, limit_val_batches=0).fit(Module(), loaders)


@scenario
def loader_of_unknown_length(run: Run) -> None:
    trainer = run.trainer(max_epochs=2, num_sanity_val_steps=1)
    trainer.fit(run.Module(), stream(run.recorder, "train", 3), stream(run.recorder, "val", 2))


@scenario
def loader_of_unknown_length_limited(run: Run) -> None:
    trainer = run.trainer(max_epochs=2, limit_train_batches=2, limit_val_batches=1)
    trainer.fit(run.Module(), stream(run.recorder, "train", 4), stream(run.recorder, "val", 3))


@scenario
def loaders_reloaded_every_epoch(run: Run) -> None:
    run.trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(run.Module(), datamodule=run.Data())


@scenario
def second_fit_of_one_trainer(run: Run) -> None:
    trainer = run.trainer(limit_train_batches=1, limit_val_batches=1)
    model, data = run.Module(), run.Data()
    trainer.fit(model, datamodule=data)
    run.recorder.note("user", "fit again")
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, datamodule=data)


# optimization


@scenario
def manual_optimization_with_two_optimizers(run: Run) -> None:
    class Module(run.Module):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.other = torch.nn.Linear(4, 2)

        def configure_optimizers(self) -> Any:
            self.note("configure_optimizers")
            first = traced_optimizer(run.recorder, torch.optim.SGD)(self.layer.parameters(), lr=0.1)
            second = traced_optimizer(run.recorder, torch.optim.Adam)(self.other.parameters(), lr=0.1)
            return [first, second], [
                traced_scheduler(run.recorder, torch.optim.lr_scheduler.StepLR)(first, 1)
            ]

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            self.note("training_step", batch_idx=batch_idx)
            first, second = self.optimizers()
            self.toggle_optimizer(first)
            first.zero_grad()
            self.manual_backward(self.loss(batch))
            self.clip_gradients(first, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            first.step()
            self.untoggle_optimizer(first)

            def closure() -> torch.Tensor:
                second.zero_grad()
                loss = self.other(batch).square().mean()
                self.manual_backward(loss)
                return loss

            second.step(closure)
            run.recorder.note("user", "steps done", {"global_step": self.global_step})
            if self.trainer.is_last_batch:
                self.lr_schedulers().step()

    run.trainer(max_epochs=2).fit(Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def manual_optimization_that_seldom_steps(run: Run) -> None:
    class Module(run.Module):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            self.note("training_step", batch_idx=batch_idx)
            loss = self.loss(batch)
            self.log("train_loss", loss)
            if batch_idx % 2:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return {"loss": loss, "odd": batch_idx % 2} if batch_idx else loss

    run.trainer(limit_val_batches=0).fit(Module(), run.loader("train", 4))


@scenario
def clip_by_norm(run: Run) -> None:
    run.trainer(gradient_clip_val=0.5, limit_val_batches=0).fit(run.Module(), run.loader("train", 2))


@scenario
def clip_by_value(run: Run) -> None:
    trainer = run.trainer(gradient_clip_val=0.5, gradient_clip_algorithm="value", limit_val_batches=0)
    trainer.fit(run.Module(), run.loader("train", 2))


@scenario
def optimizer_that_calls_its_closure_twice(run: Run) -> None:
    class Module(run.Module):
        def configure_optimizers(self) -> Any:
            return traced_optimizer(run.recorder, torch.optim.LBFGS)(
                self.parameters(), max_iter=2, tolerance_grad=0
            )

    run.trainer(limit_val_batches=0).fit(Module(), run.loader("train", 2))


@scenario
def optimizer_step_overridden(run: Run) -> None:
    class Module(run.Module):
        def optimizer_step(
            self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
        ) -> None:
            self.note("optimizer_step (own)", batch_idx=batch_idx)
            if batch_idx == 1:
                optimizer_closure()
            else:
                optimizer.step(closure=optimizer_closure)

    run.trainer(limit_val_batches=0).fit(Module(), run.loader("train", 3))


@scenario
def no_optimizer(run: Run) -> None:
    class Module(run.Module):
        def configure_optimizers(self) -> None:
            self.note("configure_optimizers")

    run.trainer(limit_val_batches=0).fit(Module(), run.loader("train", 2))


@scenario
def scheduler_every_second_step(run: Run) -> None:
    class Module(run.Module):
        def configure_optimizers(self) -> Any:
            optimizer = traced_optimizer(run.recorder, torch.optim.SGD)(self.parameters(), lr=0.1)
            scheduler = traced_scheduler(run.recorder, torch.optim.lr_scheduler.StepLR)(
                optimizer, step_size=1
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 2},
            }

    run.trainer(max_epochs=2, limit_val_batches=0).fit(Module(), run.loader("train", 5))


@scenario
def scheduler_every_second_step_accumulating(run: Run) -> None:
    class Module(run.Module):
        def configure_optimizers(self) -> Any:
            optimizer = traced_optimizer(run.recorder, torch.optim.SGD)(self.parameters(), lr=0.1)
            kind = traced_scheduler(run.recorder, torch.optim.lr_scheduler.StepLR)
            every = {"scheduler": kind(optimizer, step_size=1), "interval": "step", "frequency": 2}
            epoch = {"scheduler": kind(optimizer, step_size=1), "interval": "epoch", "frequency": 2}
            return [optimizer], [every, epoch]

    trainer = run.trainer(max_epochs=2, limit_val_batches=0, accumulate_grad_batches=3)
    trainer.fit(Module(), run.loader("train", 5))


@scenario
def reduce_on_plateau(run: Run) -> None:
    class Module(run.Module):
        def configure_optimizers(self) -> Any:
            optimizer = traced_optimizer(run.recorder, torch.optim.SGD)(self.parameters(), lr=0.1)
            kind = traced_scheduler(run.recorder, torch.optim.lr_scheduler.ReduceLROnPlateau)
            return {"optimizer": optimizer, "lr_scheduler": kind(optimizer), "monitor": "val_loss"}

    run.trainer(max_epochs=2).fit(Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def reduce_on_plateau_every_step(run: Run) -> None:
    class Module(run.Module):
        def configure_optimizers(self) -> Any:
            optimizer = traced_optimizer(run.recorder, torch.optim.SGD)(self.parameters(), lr=0.1)
            kind = traced_scheduler(run.recorder, torch.optim.lr_scheduler.ReduceLROnPlateau)
            plan = {"scheduler": kind(optimizer), "interval": "step", "monitor": "train_loss"}
            return {"optimizer": optimizer, "lr_scheduler": plan}

    run.trainer().fit(Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def outputs_of_every_kind(run: Run) -> None:
    class Module(run.Module):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            loss = self.loss(batch)
            return [loss, {"loss": loss, "also": loss, "text": "t"}, None][batch_idx]

        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            return [{"value": self.loss(batch), "n": 1}, None][batch_idx]

    run.trainer().fit(Module(), run.loader("train", 3), run.loader("val", 2))


@scenario
def losses_that_are_none(run: Run) -> None:
    class Module(run.Module):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            self.note("training_step", batch_idx=batch_idx)
            return None if batch_idx == 1 else self.loss(batch)

    run.trainer(limit_val_batches=0).fit(Module(), run.loader("train", 3))


@scenario
def losses_that_are_none_accumulating(run: Run) -> None:
    class Module(run.Module):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            self.note("training_step", batch_idx=batch_idx)
            return None if batch_idx == 0 else self.loss(batch)

    run.trainer(limit_val_batches=0, accumulate_grad_batches=2).fit(Module(), run.loader("train", 3))


@scenario
def part_of_the_module_in_eval_mode(run: Run) -> None:
    class Module(run.Module):
        on_validation_model_train = run.L.LightningModule.on_validation_model_train

        def __init__(self) -> None:
            super().__init__()
            self.frozen = torch.nn.Dropout().eval()

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            modes = {"layer": self.layer.training, "frozen": self.frozen.training}
            run.recorder.note("user", "modes", modes)

    run.trainer(val_check_interval=1).fit(Module(), run.loader("train", 2), run.loader("val", 1))


# stopping early


@scenario
def rest_of_the_epoch_skipped(run: Run) -> None:
    class Module(run.Module):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            super().on_train_batch_start(batch, batch_idx)
            return -1 if batch_idx == 1 and self.current_epoch == 0 else None

    run.trainer(max_epochs=2).fit(Module(), datamodule=run.Data())


@scenario
def whole_epoch_skipped(run: Run) -> None:
    class Module(run.Module):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            super().on_train_batch_start(batch, batch_idx)
            return -1 if self.current_epoch == 0 else None

    run.trainer(max_epochs=2).fit(Module(), datamodule=run.Data())


@scenario
def skipped_by_a_callback(run: Run) -> None:
    class Skip(run.L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> Any:
            return -1 if batch_idx == 1 else None

    run.trainer(Skip(), max_epochs=2).fit(run.Module(), run.loader("train", 3))


@scenario
def stop_asked_for_in_the_middle_of_an_epoch(run: Run) -> None:
    class Module(run.Module):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(outputs, batch, batch_idx)
            if batch_idx == 0:
                self.trainer.should_stop = True

    run.trainer(max_epochs=3).fit(Module(), datamodule=run.Data())


@scenario
def stop_asked_for_before_min_epochs(run: Run) -> None:
    class Module(run.Module):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.trainer.should_stop = True

    trainer = run.trainer(max_epochs=3, min_epochs=2)
    trainer.fit(Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def stop_asked_for_before_min_steps(run: Run) -> None:
    class Module(run.Module):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.trainer.should_stop = True

    trainer = run.trainer(max_epochs=3, min_steps=4)
    trainer.fit(Module(), run.loader("train", 3), run.loader("val", 1))


@scenario
def stop_asked_for_on_fit_start(run: Run) -> None:
    class Module(run.Module):
        def on_fit_start(self) -> None:
            super().on_fit_start()
            self.trainer.should_stop = True

    run.trainer(max_epochs=2).fit(Module(), datamodule=run.Data())


@scenario
def stop_asked_for_in_a_validation(run: Run) -> None:
    class Module(run.Module):
        def on_validation_end(self) -> None:
            super().on_validation_end()
            self.trainer.should_stop = not self.trainer.sanity_checking

    trainer = run.trainer(max_epochs=2, val_check_interval=1)
    trainer.fit(Module(), run.loader("train", 3), run.loader("val", 1))


@scenario
def early_stopping(run: Run) -> None:
    class Module(run.Module):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log("score", float(self.current_epoch))

    stopping = run.traced(
        run.callbacks.EarlyStopping, "early_stopping", "on_train_epoch_end", "on_validation_end"
    )
    saving = run.traced(
        run.callbacks.ModelCheckpoint, "checkpoint", "on_train_epoch_end", "on_validation_end"
    )
    trainer = run.trainer(stopping("score", patience=1), saving(), max_epochs=5)
    trainer.fit(Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def early_stopping_in_the_middle_of_an_epoch(run: Run) -> None:
    class Module(run.Module):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log("score", 1.0)

    stopping = run.traced(
        run.callbacks.EarlyStopping, "early_stopping", "on_train_epoch_end", "on_validation_end"
    )
    trainer = run.trainer(stopping("score", patience=1), max_epochs=3, val_check_interval=2)
    trainer.fit(Module(), run.loader("train", 6), run.loader("val", 1))


@scenario
def exception_in_training_step(run: Run) -> None:
    class Module(run.Module):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise ArithmeticError
            return self.loss(batch)

    try:
        run.trainer().fit(Module(), datamodule=run.Data())
    except ArithmeticError:
        run.recorder.note("user", "caught ArithmeticError")


@scenario
def exception_in_validation_step(run: Run) -> None:
    class Module(run.Module):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            raise ArithmeticError

    try:
        run.trainer().validate(Module(), datamodule=run.Data())
    except ArithmeticError:
        run.recorder.note("user", "caught ArithmeticError")


@scenario
def stop_iteration_in_training_step(run: Run) -> None:
    class Module(run.Module):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise StopIteration
            return self.loss(batch)

    run.trainer(max_epochs=2).fit(Module(), run.loader("train", 3), run.loader("val", 1))


# checkpoints


@scenario
def checkpoint_every_two_steps(run: Run) -> None:
    saving = run.traced(
        run.callbacks.ModelCheckpoint, "checkpoint", "on_train_batch_end", "on_train_epoch_end"
    )
    trainer = run.trainer(saving(every_n_train_steps=2, save_top_k=-1), max_epochs=2)
    trainer.fit(run.Module(), run.loader("train", 3), run.loader("val", 1))


@scenario
def checkpoint_after_validation(run: Run) -> None:
    saving = run.callbacks.ModelCheckpoint(monitor="val_loss", save_on_train_epoch_end=False)
    run.trainer(saving, max_epochs=2).fit(run.Module(), run.loader("train", 2), run.loader("val", 1))


@scenario
def checkpoint_of_weights_only(run: Run) -> None:
    saving = run.callbacks.ModelCheckpoint(save_weights_only=True)
    run.trainer(saving).fit(run.Module(), datamodule=run.Data())


@scenario
def checkpoint_by_hand(run: Run) -> None:
    trainer = run.trainer(enable_checkpointing=False, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(run.Module(), datamodule=run.Data())
    run.recorder.note("user", "save_checkpoint")
    trainer.save_checkpoint(f"{run.root}/full.ckpt")
    run.recorder.note("user", "save_checkpoint weights_only")
    trainer.save_checkpoint(f"{run.root}/weights.ckpt", weights_only=True)


def saved(run: Run, **arguments: Any) -> str:
    """Fit for one epoch, save a checkpoint, forget the calls so far and return the checkpoint's path."""
    trainer = run.trainer(enable_checkpointing=False, **arguments)
    trainer.fit(run.Module(), datamodule=run.Data())
    trainer.save_checkpoint(f"{run.root}/saved.ckpt")
    run.recorder.calls.clear()
    return f"{run.root}/saved.ckpt"


@scenario
def resume_after_an_epoch(run: Run) -> None:
    trainer = run.trainer(max_epochs=1)
    trainer.fit(run.Module(), datamodule=run.Data())
    path = trainer.checkpoint_callback.best_model_path
    run.recorder.calls.clear()
    run.trainer(max_epochs=2).fit(run.Module(), datamodule=run.Data(), ckpt_path=path)


@scenario
def resume_when_all_is_done(run: Run) -> None:
    path = saved(run)
    run.trainer(max_epochs=1).fit(run.Module(), datamodule=run.Data(), ckpt_path=path)


@scenario
def resume_in_the_middle_of_an_epoch(run: Run) -> None:
    saving = run.callbacks.ModelCheckpoint(every_n_train_steps=2, save_top_k=-1)
    run.trainer(saving).fit(run.Module(), run.loader("train", 5), run.loader("val", 1))
    path = f"{saving.dirpath}/epoch=0-step=2.ckpt"
    run.recorder.calls.clear()
    run.trainer(max_epochs=2).fit(run.Module(), run.loader("train", 5), run.loader("val", 1), ckpt_path=path)


@scenario
def resume_after_a_validation_in_the_middle_of_an_epoch(run: Run) -> None:
    saving = run.callbacks.ModelCheckpoint(save_on_train_epoch_end=False, save_top_k=-1)
    plan = {"val_check_interval": 2, "max_epochs": 1}
    run.trainer(saving, **plan).fit(run.Module(), run.loader("train", 5), run.loader("val", 1))
    path = f"{saving.dirpath}/epoch=0-step=2.ckpt"
    run.recorder.calls.clear()
    run.trainer(**plan).fit(run.Module(), run.loader("train", 5), run.loader("val", 1), ckpt_path=path)


@scenario
def resume_after_the_validation_of_the_last_batch(run: Run) -> None:
    saving = run.callbacks.ModelCheckpoint(save_on_train_epoch_end=False, save_top_k=-1)
    run.trainer(saving).fit(run.Module(), run.loader("train", 2), run.loader("val", 1))
    path = f"{saving.dirpath}/epoch=0-step=2.ckpt"
    run.recorder.calls.clear()
    run.trainer(max_epochs=2).fit(run.Module(), run.loader("train", 2), run.loader("val", 1), ckpt_path=path)


# validate, test, predict


@scenario
def validate(run: Run) -> None:
    run.trainer().validate(run.Module(), datamodule=run.Data(), verbose=False)


@scenario
def validate_without_inference_mode(run: Run) -> None:
    run.trainer(inference_mode=False).validate(run.Module(), run.loader("val", 1), verbose=False)


@scenario
def validate_from_a_checkpoint(run: Run) -> None:
    path = saved(run)
    run.trainer().validate(run.Module(), datamodule=run.Data(), ckpt_path=path, verbose=False)


@scenario
def validate_with_two_loaders(run: Run) -> None:
    loaders = [run.loader("val_a", 2), run.loader("val_b", 1)]
    run.trainer().validate(run.Module(), loaders, verbose=False)


@scenario
def validate_with_two_loaders_limited(run: Run) -> None:
    loaders = {"a": run.loader("val_a", 3), "b": run.loader("val_b", 3)}
    run.trainer(limit_val_batches=1).validate(run.Module(), loaders, verbose=False)


@scenario
def validate_nothing(run: Run) -> None:
    run.trainer(limit_val_batches=0).validate(run.Module(), datamodule=run.Data(), verbose=False)


@scenario
def test(run: Run) -> None:
    run.trainer().test(run.Module(), datamodule=run.Data(), verbose=False)


@scenario
def test_from_a_checkpoint(run: Run) -> None:
    path = saved(run)
    run.trainer().test(run.Module(), datamodule=run.Data(), ckpt_path=path, verbose=False)


@scenario
def fit_then_test_the_best(run: Run) -> None:
    trainer = run.trainer(limit_train_batches=1, limit_val_batches=1)
    data = run.Data()
    trainer.fit(run.Module(), datamodule=data)
    run.recorder.calls.clear()
    trainer.test(datamodule=data, ckpt_path="best", verbose=False)


@scenario
def predict(run: Run) -> None:
    run.trainer().predict(run.Module(), datamodule=run.Data())


@scenario
def predict_from_a_checkpoint(run: Run) -> None:
    path = saved(run)
    run.trainer().predict(run.Module(), datamodule=run.Data(), ckpt_path=path)


@scenario
def predict_with_two_loaders(run: Run) -> None:
    loaders = [run.loader("predict_a", 2), run.loader("predict_b", 1)]
    run.trainer().predict(run.Module(), loaders, return_predictions=False)


@scenario
def predict_with_the_default_step(run: Run) -> None:
    class Module(run.Module):
        predict_step = run.L.LightningModule.predict_step

    run.trainer().predict(Module(), run.loader("predict", 2))


# what callbacks see of one another


@scenario
def callbacks_of_the_module_come_after_the_trainers(run: Run) -> None:
    class Own(run.L.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            run.recorder.note("own", "on_train_start")

        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            run.recorder.note("own", "setup")

    class Module(run.Module):
        def configure_callbacks(self) -> Any:
            self.note("configure_callbacks")
            return [Own()]

    saving = run.traced(run.callbacks.ModelCheckpoint, "checkpoint", "setup", "on_train_start")
    trainer = run.trainer(limit_train_batches=1, limit_val_batches=0, callbacks=[saving(), run.Callback()])
    trainer.fit(Module(), datamodule=run.Data())
