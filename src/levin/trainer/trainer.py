"""Trainer: its arguments, and fit, validate, test, predict. A fit's path goes on in `fit.py`."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from levin import resolve as hardware
from levin.core.metrics import Metrics
from levin.profilers import parse_profiler
from levin.trainer import saving
from levin.trainer.arguments import (
    Debugging,
    Duration,
    Intervals,
    Limits,
    Reproducibility,
    Updates,
    check_barebones,
    for_dev_run,
    friendly,
    parse_global_batch_size,
    parse_uneven,
    without_extras,
)
from levin.trainer.dispatch import HookTable
from levin.trainer.elsewhere import function_launcher
from levin.trainer.evaluate import EvaluationLoop
from levin.trainer.fit import FitLoop
from levin.trainer.former_names import as_today, with_former
from levin.trainer.parts import gather_callbacks, gather_loggers, has_timer
from levin.trainer.predict import PredictionLoop
from levin.trainer.progress import Progress
from levin.trainer.running import RunningTrainer
from levin.trainer.settings import names_of
from levin.trainer.signals import parse_stop_signals
from levin.trainer.states import Run, RunningStage, TrainerFn
from levin.trainer.table import results_table
from levin.utils.paths import is_local, local_path
from levin.utils.rank import rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from levin.accelerators.base import Accelerator
    from levin.core.callback import Callback
    from levin.core.datamodule import LightningDataModule
    from levin.core.module import LightningModule
    from levin.loggers.base import Logger
    from levin.profilers.base import Profiler
    from levin.strategies.base import Strategy
    from levin.trainer.when import Every


class Trainer(RunningTrainer):
    """Runs a `LightningModule`: trains, validates, tests and predicts with it.

    All arguments are checked here; those that can't be served on one device say so.

    Args:
        accelerator: "cpu", "cuda", "mps", "gpu" (either of these two), or "auto" for the best there is.
        strategy: How the model is laid over devices: "auto", "single_device" or an instance of `Strategy`.
        devices: How many, or which: a number, "0,1", [0, 1], -1 for all, or "auto".
        num_nodes: Machines.
        precision: "32-true" (default), "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true".
        logger: A logger, several, True for the default one (TensorBoard where it is installed, else CSV),
            False for none.
        callbacks: A callback or several.
        fast_dev_run: Run this many batches of everything and write nothing; True is 1.
        max_epochs: Stop after this many epochs; 1000 where neither steps nor time are limited; -1 for no
            limit.
        min_epochs: Do not stop before.
        max_steps: Stop after this many optimizer steps; -1 for no limit.
        min_steps: Do not stop before; ``min_epochs`` is 1 then, unless it is given.
        max_time: Stop after this time: "DD:HH:MM:SS", a timedelta, or a dict of its arguments.
        limit_train_batches: Training batches of an epoch: a number, or a share as a float.
        limit_val_batches: The same for validation.
        limit_test_batches: The same for test.
        limit_predict_batches: The same for prediction.
        overfit_batches: Train and validate on this many batches, always the same.
        val_check_interval: Validate every so many training batches (int), share of an epoch (float), or time
            ("DD:HH:MM:SS", a timedelta, a dict of its arguments); or, over the whole fit, every so many
            batches, updates or samples: ``Every(1000, "updates")``.
        check_val_every_n_epoch: Validate in every so many epochs; None counts batches over epochs.
        num_sanity_val_steps: Validation batches that are tried before training: 2 by default, -1 for all.
        log_every_n_steps: Loggers get every so many steps' values: 50 by default.
        enable_checkpointing: Whether there is a default `ModelCheckpoint`.
        enable_progress_bar: Whether there is a default progress bar.
        enable_model_summary: Whether there is a default summary of the model.
        accumulate_grad_batches: Batches whose gradients are added up for one optimizer step.
        gradient_clip_val: The bound that gradients are clipped to.
        gradient_clip_algorithm: "norm" (of all together; the default) or "value" (of each one).
        deterministic: Whether torch must use deterministic algorithms; "warn" warns where there is none.
        benchmark: Sets `torch.backends.cudnn.benchmark`.
        inference_mode: Whether validate, test and predict use `torch.inference_mode`, or `no_grad`.
        use_distributed_sampler: Whether data is divided among processes.
        profiler: "simple", "advanced", "pytorch", or a `Profiler`.
        detect_anomaly: Whether autograd looks for NaN; slow.
        barebones: Leave out everything that costs time, to measure the loop.
        plugins: A precision or a checkpoint IO of your own.
        sync_batchnorm: Whether batch norm is computed over all processes.
        reload_dataloaders_every_n_epochs: Make the loaders anew every so many epochs; 0 for never.
        default_root_dir: Where logs and checkpoints go, unless told otherwise: the current folder by default.
        enable_autolog_hparams: Whether hyper-parameters are logged when a run begins.
        model_registry: The name of a model registry; none is supported.
        normalize_by: What the gradients of an accumulation window are the mean over. By default each loss is
            divided by ``accumulate_grad_batches``, so that a short last window counts less, and a small batch
            as much as a large one. "batches" divides by the batches that there were; "samples" and "tokens"
            give the gradients of one big batch, for losses that are means over samples or tokens: their
            number is the batch size, or "num_samples" or "num_tokens" in the dict that `training_step`
            returns.
        on_nonfinite: What happens if a loss or a gradient is NaN or infinite: "ignore" (train on), "raise"
            (a `NonFiniteError` that names step and batch) or "skip" (train as if the batch had not been).
        worker_seeds: What the random numbers that worker processes draw follow from: "sample" (the pass over
            the data and the index of the sample: the same for any number of workers, and after a resume) or
            "torch" (the worker, as torch seeds it: a resume can't give them again).
        uneven: What happens where processes have different numbers of training batches: "stop_together" (an
            epoch ends with the first that has no more), "drop" (the same, and samples too few for all are
            left out), "zero_weight" (with the last; who has none adds nothing to the gradients), "error".
        global_batch_size: The number of samples of an optimizer step, over all processes and the batches that
            are accumulated: the loader's batch_size becomes that share of it. The order of the samples then
            follows from seed and epoch, so that training is the same for any number of processes.
        stop_signals: Signals after which a run stops as after SIGTERM (saved, at the end of the batch), and
            the exit status that the program has then: ``{"SIGUSR1": 0}``. SIGTERM's is 143.

    Raises:
        TypeError: If an argument is unknown; its successor or the nearest name is said.
        MisconfigurationException: If an argument has no meaning, or does not fit another.
        ValueError: If a name is unknown.
    """

    @friendly
    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: str | int | None = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        callbacks: Iterable[Callback] | Callback | None = None,
        fast_dev_run: int | bool = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: Duration | None = None,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: int | float | Duration | Every | None = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
        deterministic: bool | str | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        profiler: Profiler | str | None = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        plugins: Any = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: str | Path | None = None,
        enable_autolog_hparams: bool = True,
        model_registry: str | None = None,
        normalize_by: Literal["batches", "samples", "tokens"] | None = None,
        on_nonfinite: Literal["ignore", "raise", "skip"] = "ignore",
        worker_seeds: Literal["sample", "torch"] = "sample",
        stop_signals: Mapping[str | int, int] | None = None,
        uneven: Literal["stop_together", "drop", "zero_weight", "error"] = "stop_together",
        global_batch_size: int | None = None,
    ) -> None:
        check_barebones(
            barebones, fast_dev_run=fast_dev_run, detect_anomaly=detect_anomaly, profiler=profiler,
            logger=logger, enable_checkpointing=enable_checkpointing, enable_progress_bar=enable_progress_bar,
            enable_model_summary=enable_model_summary, log_every_n_steps=log_every_n_steps,
            num_sanity_val_steps=num_sanity_val_steps,
        )  # fmt: skip
        limits = Limits.parse(
            max_epochs=max_epochs, min_epochs=min_epochs, max_steps=max_steps, min_steps=min_steps,
            limit_train_batches=limit_train_batches, limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches, limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
        )  # fmt: skip
        intervals = Intervals.parse(
            val_check_interval=val_check_interval, check_val_every_n_epoch=check_val_every_n_epoch,
            num_sanity_val_steps=num_sanity_val_steps, log_every_n_steps=log_every_n_steps,
            reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
        )  # fmt: skip
        if barebones:
            intervals = without_extras(intervals)
            logger = enable_checkpointing = enable_progress_bar = enable_model_summary = False
        debugging = Debugging(fast_dev_run, detect_anomaly, barebones, inference_mode)
        if fast_dev_run:
            limits, intervals = for_dev_run(int(fast_dev_run), limits, intervals)
        reproducibility = Reproducibility(deterministic, benchmark, worker_seeds)
        reproducibility.apply()
        self._hardware = hardware.resolve(
            accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy,
            precision=precision, plugins=plugins, sync_batchnorm=sync_batchnorm,
        )  # fmt: skip
        hardware.announce(self._hardware)
        self.default_root_dir: str = _root_dir(default_root_dir)
        self.use_distributed_sampler = use_distributed_sampler
        self.enable_autolog_hparams = enable_autolog_hparams
        self.model_registry = model_registry
        if model_registry is not None:
            rank_zero_warn(f"`model_registry={model_registry!r}` is ignored: no registry is supported.")
        self._callbacks = gather_callbacks(
            callbacks, checkpoints=enable_checkpointing, progress_bar=enable_progress_bar,
            summary=enable_model_summary, max_time=max_time,
        )  # fmt: skip
        self.metrics: Metrics = Metrics(enabled=not barebones)
        self.run: Run = Run(
            limits=limits.with_open_end(has_timer=has_timer(self._callbacks)),
            intervals=intervals,
            updates=Updates(
                accumulate_grad_batches,
                gradient_clip_val,
                gradient_clip_algorithm,
                normalize_by,
                on_nonfinite,
            ),
            debugging=debugging,
            strategy=self._hardware.strategy,
            profiler=(parsed := parse_profiler(profiler)),
            hooks=HookTable(self.metrics, parsed),
            metrics=self.metrics,
            progress=Progress(),
            loggers=gather_loggers(logger, self.default_root_dir, dev_run=bool(fast_dev_run)),
            seeds_samples=reproducibility.worker_seeds == "sample",
            stop_signals=parse_stop_signals(stop_signals),
            divides_data=use_distributed_sampler,
            uneven=parse_uneven(uneven),
            global_batch_size=parse_global_batch_size(global_batch_size),
        )
        self.fit_loop: FitLoop = FitLoop(
            self.run, EvaluationLoop(self.run, RunningStage.VALIDATING), self._look_again
        )
        self.validate_loop: EvaluationLoop = EvaluationLoop(self.run, RunningStage.VALIDATING)
        self.test_loop: EvaluationLoop = EvaluationLoop(self.run, RunningStage.TESTING)
        self.predict_loop: PredictionLoop = PredictionLoop(self.run)
        self._ckpt_path: str | None = None
        self._user_ckpt_path: str | None = None
        self._backward: Callable[..., None] | None = None

    # ------------------------------------------------------------------ the entry points

    @as_today
    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
        reset: str | Iterable[str] | None = None,
        **former: NoReturn,
    ) -> None:
        """Train a module.

        Args:
            model: The module.
            train_dataloaders: An iterable of batches, a (nested) collection of such, or a data module.
            val_dataloaders: An iterable of batches, or several.
            datamodule: A data module, in place of loaders.
            ckpt_path: The checkpoint to go on from: a path, a URL, "last", "best", "hpc", "auto" (the newest
                whole one, and the beginning if there is none).
            weights_only: False allows arbitrary pickled objects in that file: only for files you trust.
            reset: What is taken from the program and not from that checkpoint, by name: "lr" or another
                setting of the optimizers' parameter groups (their states go on, and schedules at their place,
                from the new rate); "scheduler" (schedules and rates begin anew); "optimizer" (the optimizers
                begin anew). Weights, counters and data go on. In any case the settings that differ are told.
            **former: Keywords of earlier versions.

        Raises:
            MisconfigurationException: If the module lacks a step, there is no data, or nothing is called as
                ``reset`` says.
            TypeError: If ``model`` or a loader is none.
        """
        given = with_former(Trainer.fit, {"train": train_dataloaders, "val": val_dataloaders}, former)
        resume, self.run.resume_from = self.run.resume_from, None
        path = resume if ckpt_path is None else ckpt_path
        self.run.reset = names_of(reset)
        if (launcher := function_launcher(self)) is not None:
            self._elsewhere(
                launcher, TrainerFn.FITTING, model, given, datamodule=datamodule, ckpt_path=path,
                weights_only=weights_only, reset=reset,
            )  # fmt: skip
            return
        with self._running(TrainerFn.FITTING, model, given, datamodule, path, weights_only):
            self._sanity_check()
            self.fit_loop.run()

    @as_today
    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        **former: NoReturn,
    ) -> list[dict[str, float]]:
        """Validate a module.

        Args:
            model: The module; by default the last one, with its best weights.
            dataloaders: An iterable of batches, several, or a data module.
            ckpt_path: The checkpoint to take weights from: a path, a URL, "last", "best" or "auto".
            verbose: Whether the results are printed.
            datamodule: A data module, in place of loaders.
            weights_only: False allows arbitrary pickled objects in that file: only for files you trust.
            **former: Keywords of earlier versions.

        Returns:
            For each dataloader the logged names and their values.
        """
        given = with_former(Trainer.validate, {"val": dataloaders}, former)
        if (launcher := function_launcher(self)) is not None:
            return cast(
                "list[dict[str, float]]",
                self._elsewhere(
                    launcher, TrainerFn.VALIDATING, model, given, datamodule=datamodule,
                    ckpt_path=ckpt_path, weights_only=weights_only, verbose=verbose,
                ),
            )  # fmt: skip
        with self._running(TrainerFn.VALIDATING, model, given, datamodule, ckpt_path, weights_only):
            results = self.validate_loop.run()
        self._show(results, "validate", verbose)
        return results

    @as_today
    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        **former: NoReturn,
    ) -> list[dict[str, float]]:
        """Test a module; arguments and result are those of `validate`."""
        given = with_former(Trainer.test, {"test": dataloaders}, former)
        if (launcher := function_launcher(self)) is not None:
            return cast(
                "list[dict[str, float]]",
                self._elsewhere(
                    launcher, TrainerFn.TESTING, model, given, datamodule=datamodule,
                    ckpt_path=ckpt_path, weights_only=weights_only, verbose=verbose,
                ),
            )  # fmt: skip
        with self._running(TrainerFn.TESTING, model, given, datamodule, ckpt_path, weights_only):
            results = self.test_loop.run()
        self._show(results, "test", verbose)
        return results

    @as_today
    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
        **former: NoReturn,
    ) -> list[Any] | None:
        """Predict with a module.

        Args:
            model: The module; by default the last one, with its best weights.
            dataloaders: An iterable of batches, several, or a data module.
            datamodule: A data module, in place of loaders.
            return_predictions: Whether the predictions are kept and returned; None means yes.
            ckpt_path: The checkpoint to take weights from: a path, a URL, "last", "best" or "auto".
            weights_only: False allows arbitrary pickled objects in that file: only for files you trust.
            **former: Keywords of earlier versions.

        Returns:
            What `predict_step` returned for each batch; for several loaders a list for each.
        """
        self.predict_loop.return_predictions = return_predictions is not False
        given = with_former(Trainer.predict, {"predict": dataloaders}, former)
        if (launcher := function_launcher(self)) is not None:
            return cast(
                "list[Any] | None",
                self._elsewhere(
                    launcher, TrainerFn.PREDICTING, model, given, datamodule=datamodule,
                    ckpt_path=ckpt_path, weights_only=weights_only, return_predictions=return_predictions,
                ),
            )  # fmt: skip
        with self._running(TrainerFn.PREDICTING, model, given, datamodule, ckpt_path, weights_only):
            return self.predict_loop.run()

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint of the run as it is now.

        Args:
            filepath: Where to.
            weights_only: Whether only what is needed to use the model is written.
            storage_options: Passed to the checkpoint IO.

        Raises:
            AttributeError: If there is no module yet.
        """
        if self.run.attached is None:
            raise AttributeError(
                "There is no model to save yet: call fit, validate, test or predict with one first. To save "
                "a model without a Trainer: torch.save(model.state_dict(), path)."
            )
        if self.run.watch is not None:
            self.run.watch.hear()
        with self.profiler.profile("save_checkpoint"):
            if self.run.companions is None or not self.run.companions.is_failing:  # else nobody answers
                self.strategy.level(also_optimizers=not weights_only)
            rest = None if weights_only else self.fit_loop.state_dict()
            checkpoint = saving.dump(self.run, self.callbacks, rest)
            saving.describe(self.run, checkpoint, filepath, weights_only=bool(weights_only))
            write = partial(
                self.strategy.save_checkpoint, filepath, checkpoint, storage_options=storage_options
            )
            self._write_while_all_wait(write)
            saving.note(self.run, checkpoint, filepath)

    def _show(self, results: list[dict[str, float]], stage: str, verbose: bool) -> None:
        table = results_table(stage, results) if verbose and self.is_global_zero else ""
        if table:
            sys.stdout.write(f"{table}\n")


def _root_dir(path: str | Path | None) -> str:
    """Where a run writes: an absolute path, or a URL as it is."""
    if path is None:
        return os.getcwd()
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"`default_root_dir` is {path!r}. It is a path, a URL, or None for the current folder."
        )
    text = os.fspath(path)
    return os.path.realpath(os.path.expanduser(local_path(text))) if is_local(text) else text
