"""RunningTrainer: what surrounds the loops. Set-up, sanity check, clean-up, and the end after an error."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from levin.checkpoint.index import Lineage
from levin.core.callback import Checkpoint
from levin.core.datamodule import LightningDataModule
from levin.core.hooks import DataHooks
from levin.core.hparams import hyperparameters_to_log
from levin.core.module import LightningModule
from levin.core.optimizers import configure
from levin.trainer import choosing, saving, settings
from levin.trainer.companions import Companions
from levin.trainer.dataloaders import DataSource
from levin.trainer.dispatch import check_hook_names
from levin.trainer.elsewhere import run_elsewhere, take_back
from levin.trainer.former_hooks import explain
from levin.trainer.parts import with_callbacks_of
from levin.trainer.signals import heard
from levin.trainer.states import RunningStage, TrainerFn, TrainerStatus
from levin.trainer.step import backward_with_hooks
from levin.trainer.verify import check_datamodule, check_module, verify
from levin.trainer.view import TrainerView
from levin.utils.errors import MisconfigurationException, shorten_traceback
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_info, rank_zero_only, rank_zero_warn
from levin.utils.seed import isolate_rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from levin.launchers import FunctionLauncher
    from levin.trainer.choosing import Choice
    from levin.trainer.elsewhere import Outcome
    from levin.trainer.evaluate import EvaluationLoop
    from levin.trainer.fit import FitLoop
    from levin.trainer.predict import PredictionLoop
    from levin.trainer.trainer import Trainer


class RunningTrainer(TrainerView):
    """A `Trainer` apart from arguments and entry points: everything around a loop, in the order of a run."""

    @contextmanager
    def _running(
        self,
        fn: TrainerFn,
        model: LightningModule | None,
        given: dict[str, Any],
        datamodule: LightningDataModule | None,
        ckpt_path: str | Path | None,
        weights_only: bool | None,
    ) -> Iterator[None]:
        """Everything around a loop: set up before, put away after, and tidy up after an exception."""
        module, source = self._attach(fn, model, given, datamodule)
        state = self.state
        with heard(state, self.run.stop_signals):  # and while it tidies up: a second one must not end that
            try:
                self._verify(module, source)
                self._meet()
                wanted = self._wanted_path(fn, ckpt_path)
                if wanted == "last":
                    self._settle_versions()
                choice = choosing.choose(
                    wanted, fn=fn, model_given=model is not None, trainer=cast("Trainer", self)
                )
                self._wait_for_all("choose")
                detects = self.run.debugging.detect_anomaly
                with torch.autograd.set_detect_anomaly(True) if detects else nullcontext():
                    self._set_up(module, choice, weights_only)
                    yield
                    self._tear_down()
                state.status = TrainerStatus.FINISHED
            except BaseException as error:
                explain(error, module)
                cause = self._tell_others(error)
                self._fail(error)
                shorten_traceback(error, keep=5)  # the frame of `fit` itself comes on top
                if cause is not error:
                    raise cause from None
                raise
            finally:
                for loop in self._loops_of(fn):
                    loop.close()
                state.stage = None
                self._detach_callbacks()
                self._part()
        if state.request is not None:  # it came when all was done; what comes after the run is to end as well
            raise state.request

    def _elsewhere(
        self,
        launcher: FunctionLauncher,
        fn: TrainerFn,
        model: LightningModule | None,
        given: dict[str, Any],
        **rest: Any,
    ) -> Any:
        """Call this entry point in new processes, once it is known to make sense, and wait for them.

        Args:
            launcher: What starts them.
            fn: The entry point.
            model: Its module.
            given: Its loaders.
            **rest: Its other arguments.

        Returns:
            What it returned in the first of them.
        """
        module, source = self._attach(fn, model, given, rest["datamodule"])
        state, trainer = self.state, cast("Trainer", self)
        try:
            with rank_zero_only.silent():  # what there is to say is said there
                self._verify(module, source)
        except BaseException as error:
            explain(error, module)
            self._fail(error)
            raise
        finally:
            state.stage = None
            self._detach_callbacks()
        word = "{}_dataloaders" if fn is TrainerFn.FITTING else "dataloaders"
        loaders = {word.format(kind): loader for kind, loader in given.items()}
        outcomes: list[Outcome] = []
        try:
            result = run_elsewhere(trainer, launcher, {"model": model, **loaders, **rest}, outcomes.append)
            state.status = TrainerStatus.FINISHED
        except BaseException as error:
            state.status = TrainerStatus.INTERRUPTED
            state.request = None if isinstance(error, Exception) else error
            raise
        finally:
            for outcome in outcomes:
                self._ckpt_path = take_back(trainer, outcome)
        return result

    def _attach(
        self,
        fn: TrainerFn,
        model: LightningModule | None,
        given: dict[str, Any],
        datamodule: LightningDataModule | None,
    ) -> tuple[LightningModule, DataSource]:
        """Bring module and data together, if the call makes sense."""
        run, state = self.run, self.state
        first = next(iter(given))
        if isinstance(given[first], LightningDataModule):
            if datamodule is not None:
                raise MisconfigurationException(f"`trainer.{fn}` got two data modules. Pass one of the two.")
            given, datamodule = {**given, first: None}, given[first]
        if datamodule is not None and any(loaders is not None for loaders in given.values()):
            raise MisconfigurationException(
                f"`trainer.{fn}` got dataloaders and a data module. Pass one of the two."
            )
        check_datamodule(datamodule)
        if model is None and fn is not TrainerFn.FITTING:
            model = run.attached
            if model is None:
                raise TypeError(
                    f"`trainer.{fn}()` needs a model: no fit came before it whose model could be used. Pass "
                    "one."
                )
        module = check_module(getattr(model, "_orig_mod", model))
        run.compiler = getattr(model, "dynamo_ctx", None)  # of a `torch.compile`d module
        state.fn, state.status = fn, TrainerStatus.RUNNING
        state.stage = RunningStage.TRAINING if fn is TrainerFn.FITTING else RunningStage(fn.value)
        if fn is TrainerFn.FITTING:
            state.should_stop = False
        trainer = cast("Trainer", self)
        run.attached, run.datamodule, module.trainer = module, datamodule, trainer
        if datamodule is not None:
            datamodule.trainer = trainer
        source = DataSource(run, given)
        for loop in self._loops_of(fn):
            loop.reset(source)
        return module, source

    def _meet(self) -> None:
        """Start the other processes if that is to be done, and let all of them find each other."""
        run = self.run
        run.strategy.setup_environment()
        watch = run.strategy.start_watch()
        if watch is not None:
            run.companions = Companions(run.strategy, run.state, watch)
            run.companions.begin()

    def _part(self) -> None:
        """The run is over in this process."""
        if self.run.companions is not None:
            self.run.companions.end()
            self.run.companions = None

    def _wait_for_all(self, name: str) -> None:
        if self.run.companions is not None and not self.run.companions.is_failing:
            self.strategy.barrier(name)

    def _write_while_all_wait(self, write: Callable[[], None]) -> None:
        """Write a checkpoint: when the processes go on, the file is there for all, however long it took."""
        companions = self.run.companions
        if companions is not None and not companions.is_failing and not self.strategy.shards_parameters:
            self.strategy.in_turn(write, label="save_checkpoint", per_node=False)
            return
        write()
        if companions is None and self.state.status is not TrainerStatus.INTERRUPTED:
            self.strategy.barrier("save_checkpoint")  # after an error nobody knows who is there

    def _tell_others(self, error: BaseException) -> BaseException:
        """Let the other processes know; returns what is to be raised."""
        companions = self.run.companions
        return error if companions is None else companions.fail(error)

    def _verify(self, module: LightningModule, source: DataSource) -> None:
        """Gather the callbacks, and check that module, data and settings fit together."""
        self._look_again()  # so that they hear of what is wrong
        self._callbacks = with_callbacks_of(module, self._callbacks)
        check_hook_names(module, self.run.datamodule, self.callbacks)
        self._look_again()
        verify(self.run, source)

    def _loops_of(self, fn: TrainerFn) -> tuple[FitLoop | EvaluationLoop | PredictionLoop, ...]:
        if fn is TrainerFn.FITTING:
            return self.fit_loop, self.fit_loop.validation
        if fn is TrainerFn.PREDICTING:
            return (self.predict_loop,)
        return (self.validate_loop if fn is TrainerFn.VALIDATING else self.test_loop,)

    def _set_up(self, module: LightningModule, choice: Choice, weights_only: bool | None) -> None:
        """Everything up to the first batch, in the order in which hooks may count on it."""
        run, is_fit = self.run, self.state.fn is TrainerFn.FITTING
        self.strategy.checkpoint_io.on_failure(self._ask_to_end)
        self._settle_versions()
        rank = self.local_rank if self.world_size > 1 else None
        self.profiler.setup(stage=str(self.state.fn), local_rank=rank, log_dir=self.log_dir)
        self.metrics.start_run(module, compiled=run.compiler is not None)
        self.metrics.share(None if run.companions is None else run.strategy)
        checkpoint = self._read(choice, weights_only)
        if is_fit:
            assert self.fit_loop.source is not None
            kept = None if checkpoint is None else checkpoint.get("levin")
            self.fit_loop.source.set_up(kept)
            run.goes_on_with_shards = bool(kept and kept.get("samples"))
        self._set_up_data(module)
        for name in ("configure_sharded_model", "configure_model"):
            if overrides(module, name, LightningModule):
                with self.strategy.module_init_context():
                    self._call(module, name)
        if checkpoint is not None and not self.strategy.restore_after_setup:
            saving.restore_model(run, checkpoint, self.callbacks)
        self.strategy.setup_module(module)
        if is_fit:
            self.strategy.wrap_module(module, steps_backward=not module.automatic_optimization)
        if checkpoint is not None and self.strategy.restore_after_setup:
            saving.restore_model(run, checkpoint, self.callbacks)
        if is_fit:
            self._set_up_optimizers(module)
            for hook in self.hooks.on_fit_start:
                hook()
        self._log_hyperparameters(module)
        if is_fit:
            self._take_up_training(checkpoint)
        module.zero_grad()

    def _take_up_training(self, checkpoint: dict[str, Any] | None) -> None:
        """Be where the checkpoint's run was, but for what is to begin anew."""
        checkpoint = settings.settle(self.run, checkpoint, self.run.reset)
        if checkpoint is not None:
            saving.restore_training(self.run, checkpoint)
            self.fit_loop.load_state_dict(checkpoint.get("levin"))
        if any(isinstance(callback, Checkpoint) for callback in self.callbacks):
            saving.check(self.run, self.callbacks)

    def _settle_versions(self) -> None:
        """Let the loggers decide where they write, before anybody asks."""
        for logger in self.loggers:
            logger.settle_version(self.strategy.broadcast)

    def _set_up_data(self, module: LightningModule) -> None:
        datamodule = self.run.datamodule
        for owner in (datamodule, module):
            if owner is not None and overrides(owner, "prepare_data", DataHooks):
                prepare = partial(self._call, owner, "prepare_data")
                self.strategy.in_turn(prepare, label="prepare_data", per_node=owner.prepare_data_per_node)
        for logger in self.loggers:
            _ = logger.experiment  # makes its folder, before `setup` may want to write there
        if datamodule is not None:
            self._call(datamodule, "setup", stage=self.state.fn)
        for hook in self.hooks.setup:
            hook(stage=self.state.fn)
        self._look_again()

    def _set_up_optimizers(self, module: LightningModule) -> None:
        run = self.run
        optimizers, run.lr_scheduler_configs = self.hooks.bind("configure_optimizers", module, configure)(
            module
        )
        run.take_optimizers(optimizers)
        self._backward = backward_with_hooks(run)

    def _wanted_path(self, fn: TrainerFn, given: str | Path | None) -> str | Path | None:
        """The argument, else what was set as `ckpt_path`."""
        if given is not None and self._user_ckpt_path is not None:
            rank_zero_warn(
                f"`trainer.ckpt_path` was set to {self._user_ckpt_path!r}, and `trainer.{fn}(ckpt_path="
                f"{str(given)!r})` asks for another: the argument is used."
            )
        return self._user_ckpt_path if given is None else given

    def _read(self, choice: Choice, weights_only: bool | None) -> dict[str, Any] | None:
        """The checkpoint to begin with; from now on the run's own ones descend from it."""
        run, is_fit = self.run, self.state.fn is TrainerFn.FITTING
        found = choosing.read_first_whole(choice, partial(saving.read, run, weights_only=weights_only))
        self._ckpt_path = found.path
        if is_fit:
            run.lineage = Lineage.resumed(
                found.checkpoint, found.path, goes_on=choice.goes_on, broken=found.broken
            )
        if found.path is not None:
            what = "Restoring states from the checkpoint path"
            if not is_fit:
                what = "Loaded model weights from the checkpoint"
            rank_zero_info(f"{what} at {found.path}")
        return found.checkpoint

    def _ask_to_end(self, error: BaseException) -> None:
        """End the run at its next safe point, unless it is about to."""
        if self.state.request is None:
            self.state.request = error

    def _sanity_check(self) -> None:
        """Try a few validation batches, so that an error in them shows before hours of training."""
        loop, steps = self.fit_loop.validation, self.run.intervals.num_sanity_val_steps
        if not loop.is_enabled or not steps or self.run.progress.unfinished:
            return
        self.state.stage = RunningStage.SANITY_CHECKING
        with isolate_rng():
            for hook in self.hooks.on_sanity_check_start:
                hook()
            loop.run(at_most=steps)
            for hook in self.hooks.on_sanity_check_end:
                hook()
        self.metrics.clear()
        self.run.progress.evaluated_batches = 0
        self.state.stage = RunningStage.TRAINING

    def _tear_down(self) -> None:
        self.strategy.teardown()
        if self.state.fn is TrainerFn.FITTING:
            for hook in self.hooks.on_fit_end:
                hook()
        if self.run.datamodule is not None:
            self._call(self.run.datamodule, "teardown", stage=self.state.fn)
        for hook in self.hooks.teardown:
            hook(stage=self.state.fn)
        for logger in self.loggers:
            logger.finalize("success")
        self.profiler.describe()
        self.profiler.teardown(stage=str(self.state.fn))

    def _fail(self, error: BaseException) -> None:
        """Tell everybody that the run ends here, and put the device away."""
        self.state.status = TrainerStatus.INTERRUPTED
        if isinstance(error, KeyboardInterrupt):
            rank_zero_info("Detected KeyboardInterrupt, shutting down ...")
        last_acts: list[Callable[[], None]] = [partial(hook, error) for hook in self.hooks.on_exception]
        if self.run.datamodule is not None:
            last_acts.append(partial(self.run.datamodule.on_exception, error))
        last_acts += [partial(logger.finalize, "failed") for logger in self.loggers]
        last_acts += [self.strategy.teardown, partial(self.profiler.teardown, stage=str(self.state.fn))]
        for act in last_acts:
            try:
                act()
            except Exception as later:  # noqa: PERF203  # the user's error must not hide behind it
                if later is not error:  # which a save in the background may be
                    rank_zero_warn(
                        f"While tidying up after {type(error).__name__}: {type(later).__name__}: {later}"
                    )

    def _log_hyperparameters(self, module: LightningModule) -> None:
        if not self.loggers or not self.enable_autolog_hparams:
            return
        values = hyperparameters_to_log(module, self.run.datamodule)
        for logger in self.loggers:
            if values is not None:
                logger.log_hyperparams(values)
            logger.log_graph(module)
            logger.save()

    def _call(self, owner: LightningModule | LightningDataModule, name: str, **kwargs: Any) -> Any:
        """Call a method of the user's that is no hook of the table."""
        return self.hooks.bind(name, owner)(**kwargs)

    def _look_again(self) -> None:
        """Find anew which hooks run; callbacks may have come since, and log as the module does."""
        module = self.run.attached
        if module is not None:
            for callback in self.callbacks:
                vars(callback).update(log=module.log, log_dict=module.log_dict)
            self.hooks.rebuild(cast("Trainer", self), module, self.callbacks)

    def _detach_callbacks(self) -> None:
        for callback in self.callbacks:
            vars(callback).pop("log", None)
            vars(callback).pop("log_dict", None)
