"""ModelCheckpoint: when to save, under which name, and which files stay."""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from levin.callbacks.former import MODEL_CHECKPOINT
from levin.callbacks.monitored import agreed_value, not_logged
from levin.callbacks.retention import NameTemplate, Stock, TopK
from levin.checkpoint.io import point_to
from levin.core.callback import Checkpoint
from levin.utils import paths
from levin.utils.errors import MisconfigurationException
from levin.utils.former_members import took
from levin.utils.imports import require
from levin.utils.rank import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from levin.core.module import LightningModule
    from levin.trainer.trainer import Trainer


class ModelCheckpoint(Checkpoint):
    """Save checkpoints while training, and keep the best or the newest of them.

    A file is complete before an older one is deleted, ``last.ckpt`` is a link to the newest file that was
    kept, and a file named after a validation metric holds the weights that this metric was measured with: a
    save that falls between two validations waits for the next one.

    Args:
        dirpath: The folder, or a URL that fsspec knows. By default ``checkpoints`` in the folder of the first
            logger's version, or in the Trainer's ``default_root_dir`` if there is no logger.
        filename: The name without its extension. ``{name}`` and ``{name:format}`` are replaced by metrics, by
            ``epoch`` (from 0) and by ``step`` (the optimizer's). By default ``{epoch}-{step}``.
        monitor: The metric that scores a checkpoint; None keeps the newest.
        verbose: Whether to log a line for each decision.
        save_last: True or "link": keep ``last.ckpt`` pointing at the newest file. It is a relative symbolic
            link (a copy where there are none), or the file itself with ``save_top_k=0``. It is written at
            the end of training at the latest. With True and saves by steps or time it is never older than
            the last of these: where that was not among the best, it is a file of its own.
        save_top_k: How many of the best stay: -1 all, 0 none. Without a ``monitor`` only -1, 0 and 1 make
            sense.
        save_on_exception: Whether an exception that ends training, Ctrl-C too, leaves one more checkpoint.
        save_weights_only: Whether to leave out what training needs to be continued.
        mode: Whether a small ("min") or a large ("max") score is good.
        auto_insert_metric_name: Whether ``{val_loss}`` becomes ``val_loss=0.5`` rather than ``0.5``.
        every_n_train_steps: Save when ``global_step`` is a multiple of it; 0 for never.
        train_time_interval: Save when this time has passed since the last such save.
        every_n_epochs: Save at each n-th epoch; 0 for never. 1 if none of these three is given; at most one
            can be.
        save_on_train_epoch_end: Whether an epoch's save comes at the end of its training, not after its
            validation. None: at the end of training, unless validations follow another rhythm than epochs.
        enable_version_counter: Whether a name that is taken by another file gets ``-v1``, ``-v2``, ...,
            instead of replacing it.

    Attributes:
        best_model_path: The file with the best score; without a ``monitor`` the newest.
        best_model_score: Its score.
        best_k_models: Path -> score of the files that are kept.
        kth_best_model_path: The worst of these, once there are ``save_top_k``; ``kth_value`` is its score.
        current_score: The score of the newest file that was kept.
        last_model_path: The path of ``last.ckpt``.

    Raises:
        MisconfigurationException: Arguments contradict one another.
    """

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    @took(**MODEL_CHECKPOINT)
    def __init__(
        self,
        dirpath: paths.PathLike | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: str = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
    ) -> None:
        super().__init__()
        self.dirpath: str | None = None if dirpath is None else paths.absolute(dirpath)
        self.filename: str | None = None if filename is None else os.fspath(filename)
        self.monitor = monitor
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.mode = mode
        self.auto_insert_metric_name = auto_insert_metric_name
        if every_n_train_steps is None and train_time_interval is None and every_n_epochs is None:
            every_n_epochs = 1
        self._every_n_train_steps = every_n_train_steps or 0
        self._train_time_interval = train_time_interval
        self._every_n_epochs = every_n_epochs or 0
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._enable_version_counter = enable_version_counter
        self._check_arguments()

        self.current_score: Tensor | None = None
        self.best_model_path: str = ""
        self.best_model_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.kth_best_model_path: str = ""
        self.kth_value: Tensor = torch.tensor(torch.inf if mode == "min" else -torch.inf)
        self.last_model_path: str = ""

        self._own_steps: dict[str, int] = {}  # what this run had written before it was restarted
        self._only_path = ""  # what goes when a newer file comes, where only the newest is kept
        self._saved_at_step = 0
        self._saved_at_time = 0.0
        self._has_saved_last = False
        self._is_waiting = False  # a save is due, and comes after the next validation
        self._has_validated = False
        self._score_before: Tensor | None = None  # the monitored metric when the running validation began
        self._validated_score: Tensor | None = None  # what the last validation made of it,
        self._validated_at_step = 0  # and when

    def _check_arguments(self) -> None:
        steps, epochs = self._every_n_train_steps, self._every_n_epochs
        k: Any = self.save_top_k
        if (steps > 0) + (epochs > 0) + (self._train_time_interval is not None) > 1:
            raise MisconfigurationException(
                "ModelCheckpoint takes one of every_n_train_steps, train_time_interval and every_n_epochs, "
                f"but got {steps}, {self._train_time_interval} and {epochs}. Use one for each rhythm."
            )
        for name, value in (("every_n_train_steps", steps), ("every_n_epochs", epochs)):
            if value < 0:
                raise MisconfigurationException(f"ModelCheckpoint({name}={value}) must be 0 (never) or more.")
        if not isinstance(k, int) or k < -1:
            raise MisconfigurationException(f"ModelCheckpoint(save_top_k={k!r}) must be -1 (all), 0 or more.")
        if self.monitor is None and k not in (-1, 0, 1):
            raise MisconfigurationException(
                f"ModelCheckpoint(save_top_k={k}) needs a metric to choose the best {k} by: pass `monitor`. "
                "Without one it can keep the newest (1), all (-1) or none (0)."
            )
        if self.mode not in ("min", "max"):
            raise MisconfigurationException(f"ModelCheckpoint(mode={self.mode!r}) must be 'min' or 'max'.")
        if self.save_last == "link" and self.dirpath is not None and not paths.is_local(self.dirpath):
            raise ValueError(
                f'ModelCheckpoint(save_last="link"): {self.dirpath} has no links. Pass True for a copy.'
            )

    # ------------------------------------------------------------------ when

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle on one folder for all ranks, in which files can be written."""
        self.dirpath = trainer.strategy.broadcast(self.folder(trainer))
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:
            paths.check_writable(
                self.dirpath,
                "Checkpoints",
                "Choose a place with Trainer(default_root_dir=...) or ModelCheckpoint(dirpath=...), or write "
                "none: Trainer(enable_checkpointing=False).",
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a killed process left unfinished; go on with the files of a run that goes on."""
        if trainer.fast_dev_run:
            return
        if trainer.is_global_zero:
            paths.remove_leftovers(str(self.dirpath))
        self._own_steps = {}
        if trainer.lineage.goes_on:
            for path in self.recall(trainer, trainer.lineage.run):
                trainer.strategy.remove_checkpoint(path)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to wait; what a run was resumed from or a former fit saved need not be saved again."""
        is_new = not trainer.lineage.goes_on and not trainer.fast_dev_run
        if is_new and trainer.is_global_zero and self.save_top_k != 0:
            self._warn_about_files(trainer)
        if trainer.ckpt_path or not trainer.global_step:
            self._saved_at_step, self._has_saved_last = trainer.global_step, False
        self._saved_at_time = time.monotonic()
        self._is_waiting = self._has_validated = False
        self._validated_score = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save at every n-th step, or when the time has come."""
        if not self._every_n_train_steps and self._train_time_interval is None:
            return
        if (self._is_step_due(trainer) or self._is_time_up(trainer)) and not self._is_idle(trainer):
            self._save_or_wait(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the score, to see whether this validation is what computes it."""
        if self.monitor is not None:
            self._score_before = trainer.callback_metrics.get(self.monitor)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what waited for this validation, and at every n-th epoch if that is when its save is due."""
        if not _is_training(trainer):
            return
        self._note_score(trainer)
        is_due = self._is_epoch_due(trainer) and not self._saves_on_train_epoch_end(trainer)
        if self._is_waiting or (is_due and not self._is_idle(trainer)):
            self._save(trainer, waited=not is_due)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at every n-th epoch."""
        is_due = self._is_epoch_due(trainer) and self._saves_on_train_epoch_end(trainer)
        if not self._is_idle(trainer) and is_due:
            self._save_or_wait(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``last.ckpt`` itself if there is nothing that it could point at, or a save still waits."""
        is_behind = self._is_waiting or not self._has_saved_last
        if self.save_last and is_behind and not self._is_idle(trainer):
            self._save_last(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave one more checkpoint, which counts among no best ones; the last where an end was asked for."""
        is_asked_for = exception is trainer.state.request and not isinstance(exception, Exception)
        if is_asked_for and self is trainer.checkpoint_callback and _is_training(trainer):
            self._write(trainer, "", self._name_last(trainer, self._candidates(trainer)), self._record())
            return
        if not self.save_on_exception or self._is_idle(trainer):
            return
        before, metrics = self._record(), self._candidates(trainer)
        path = self._free_path(trainer, metrics, replaces="" if self.monitor else self.best_model_path)
        last = self._name_last(trainer, metrics) if self.save_last else ""
        self._write(trainer, path, last, before, is_kept=False)

    def _is_idle(self, trainer: Trainer) -> bool:
        """Whether there is nothing to save: no training, or no step since the last time."""
        return not _is_training(trainer) or self._saved_at_step == trainer.global_step

    def _is_step_due(self, trainer: Trainer) -> bool:
        return self._every_n_train_steps > 0 and trainer.global_step % self._every_n_train_steps == 0

    def _is_time_up(self, trainer: Trainer) -> bool:
        if self._train_time_interval is None:
            return False
        now = time.monotonic()
        is_up = now - self._saved_at_time >= self._train_time_interval.total_seconds()
        is_up = bool(trainer.strategy.broadcast(is_up))  # clocks differ
        if is_up:
            self._saved_at_time = now
        return is_up

    def _is_epoch_due(self, trainer: Trainer) -> bool:
        return self._every_n_epochs > 0 and (trainer.current_epoch + 1) % self._every_n_epochs == 0

    def _saves_on_train_epoch_end(self, trainer: Trainer) -> bool:
        if self._save_on_train_epoch_end is not None:
            return self._save_on_train_epoch_end
        if not _has_validation(trainer):
            return True
        return bool(trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1)

    # ------------------------------------------------------------------ whose weights a score is of

    def _note_score(self, trainer: Trainer) -> None:
        self._has_validated = True
        if self.monitor is None:
            return
        score = trainer.callback_metrics.get(self.monitor)
        if score is not self._score_before:
            self._validated_score, self._validated_at_step = score, trainer.global_step
        self._score_before = None

    def _save_or_wait(self, trainer: Trainer) -> None:
        # rank 0 decides: a metric may be logged there alone
        self._is_waiting = trainer.strategy.broadcast(self._has_to_wait(trainer))
        if not self._is_waiting:
            self._save(trainer)
        elif self._last_follows_steps and not trainer.strategy.broadcast(trainer.validation_due):
            self._save_last(trainer)

    def _has_to_wait(self, trainer: Trainer) -> bool:
        """Whether the score of these weights is yet to be computed, by a validation at this step or later."""
        if self.monitor is None or self.save_top_k == 0:
            return False
        score = trainer.callback_metrics.get(self.monitor)
        if score is None:
            is_counter = self.monitor in ("epoch", "step")
            return not is_counter and not self._has_validated and _has_validation(trainer)
        return score is self._validated_score and self._validated_at_step != trainer.global_step

    # ------------------------------------------------------------------ which files stay

    def _save(self, trainer: Trainer, *, waited: bool = False) -> None:
        self._is_waiting = False
        self._may_miss = waited or not self._has_validated
        before, metrics = self._record(), self._candidates(trainer)
        path = ""
        if self.save_top_k != 0:
            keep = self._keep_newest if self.monitor is None else self._keep_best
            path = keep(trainer, metrics)
        is_new = bool(path) or self.save_top_k == 0 or self._last_follows_steps
        last = self._name_last(trainer, metrics) if self.save_last and is_new else ""
        if path or last:
            self._write(trainer, path, last, before)

    @property
    def _last_follows_steps(self) -> bool:
        """Whether ``last.ckpt`` is written anew when a save is due, though no other file is kept."""
        return self.save_last is True and not self._every_n_epochs

    def _save_last(self, trainer: Trainer) -> None:
        before = self._record()
        last = self._name_last(trainer, self._candidates(trainer))
        self._write(trainer, "", last, before)

    def _keep_newest(self, trainer: Trainer, metrics: dict[str, Any]) -> str:
        self.best_model_path = self._free_path(trainer, metrics, replaces=self.best_model_path)
        if self.save_top_k == 1:
            self._only_path = self.best_model_path
        return self.best_model_path

    def _keep_best(self, trainer: Trainer, metrics: dict[str, Any]) -> str:
        """The path for a new file, or nothing if its score is not good enough."""
        score = self._score(trainer, metrics)
        if score is None:
            return ""
        if not self.check_monitor_top_k(trainer, score):
            self._tell(trainer, f"was {float(score):.5f}, not among the best {self.save_top_k}")
            return ""
        self.current_score = score
        kept, metrics = self._top_k, {**metrics, str(self.monitor): score}
        path = self._free_path(trainer, metrics, replaces=kept.worst if kept.is_full else "")
        self._keep(kept.with_one_more(path, score))
        best = float(self.best_k_models[self.best_model_path])
        self._tell(trainer, f"reached {float(score):.5f} (best {best:.5f}), saving {path}")
        return path

    def _keep(self, kept: TopK) -> None:
        self.best_k_models = kept.scores
        self.best_model_path, self.best_model_score = kept.best, kept.scores.get(kept.best)
        if kept.scores and (kept.is_full or kept.size == -1):
            self.kth_best_model_path, self.kth_value = kept.worst, kept.scores[kept.worst]

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a checkpoint with the score ``current`` would be kept."""
        return current is not None and self._top_k.accepts(current)

    @property
    def _top_k(self) -> TopK:
        return TopK(self.save_top_k, self.mode, self.best_k_models)

    def _score(self, trainer: Trainer, metrics: dict[str, Any]) -> Tensor | None:
        """The monitored value, the same on all ranks; None if it is not there and may yet come."""
        monitor = str(self.monitor)
        value = metrics.get(monitor)
        score = agreed_value(trainer, None if value is None else torch.as_tensor(value))
        if score is None:
            message = not_logged("ModelCheckpoint", monitor, metrics)
            if not self._may_miss:
                raise MisconfigurationException(message)
            rank_zero_warn(f"{message} Nothing is saved meanwhile.")
        elif torch.isnan(score):
            score = torch.full_like(score, torch.inf if self.mode == "min" else -torch.inf)
            rank_zero_warn(
                f"ModelCheckpoint watches {monitor!r}, which is NaN: it counts as the worst score there is."
            )
        return score

    def _candidates(self, trainer: Trainer) -> dict[str, Any]:
        """What can be monitored and can stand in a name."""
        metrics: dict[str, Any] = dict(trainer.callback_metrics)
        for name, count in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
            metrics[name] = int(metrics.get(name, count))
        return metrics

    # ------------------------------------------------------------------ writing, then deleting

    def _write(
        self, trainer: Trainer, path: str, last: str, before: dict[str, Any], *, is_kept: bool = True
    ) -> None:
        """Save ``path``, or ``last`` itself if there is no path, then let go what it supersedes.

        The names are settled before, as the checkpoint holds the state of this callback.
        """
        role = ("kept" if is_kept else "") if path else "last"
        score = float(self.best_k_models[path]) if role == "kept" and self.monitor is not None else None
        note = {"home": self.dirpath, "owner": self.state_key, "role": role}
        try:
            with trainer.lineage.noting(**note, monitor=self.monitor, score=score):
                trainer.save_checkpoint(path or last, self.save_weights_only)
        except BaseException:
            vars(self).update(before)
            raise
        self._saved_at_step = trainer.global_step
        self._has_saved_last = self._has_saved_last or bool(last)
        superseded = [
            old for old in _files(before) if old not in _files(vars(self)) and self._may_delete(trainer, old)
        ]
        trainer.strategy.checkpoint_io.after_commit(partial(self._settle, trainer, path, last, superseded))

    def _settle(self, trainer: Trainer, path: str, last: str, superseded: list[str]) -> None:
        """The new file is on disk: move the link to it, and delete what came before."""
        if trainer.is_global_zero and path and last and path != last:
            point_to(last, path)
        for old in superseded:
            trainer.strategy.remove_checkpoint(old)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(weakref.proxy(self))

    def _record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_STATE, "current_score", "_only_path")}

    def _may_delete(self, trainer: Trainer, path: str) -> bool:
        """Whether a file is nobody else's: in this folder, not resumed from, not kept by another callback."""
        others = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        if any(path in _files(vars(other)) for other in others if other is not self):
            return False
        is_start = _is_same(path, trainer.ckpt_path) and not trainer.lineage.goes_on
        return not is_start and paths.is_below(path, str(self.dirpath))

    # ------------------------------------------------------------------ names

    def format_checkpoint_name(
        self,
        metrics: dict[str, Any],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """The path of a checkpoint.

        Args:
            metrics: The values for the places in the name.
            filename: The name with places for metrics; by default the one given to the callback.
            ver: A number that is added as ``-v{ver}``.
            prefix: A text that is put in front, with a ``-``.
        """
        join = self.CHECKPOINT_JOIN_CHAR
        text = filename or self.filename or join.join(["{epoch}", "{step}"])
        equals = self.CHECKPOINT_EQUALS_CHAR if self.auto_insert_metric_name else None
        parts = [prefix, NameTemplate(text, equals).fill(metrics), None if ver is None else f"v{ver}"]
        name = join.join(part for part in parts if part) + self.FILE_EXTENSION
        return paths.join(self.dirpath, name) if self.dirpath else name

    def file_exists(self, filepath: paths.PathLike, trainer: Trainer) -> bool:
        """Whether rank 0 sees a file there; the same answer on all ranks."""
        return bool(trainer.strategy.broadcast(paths.exists(filepath)))

    def _name_last(self, trainer: Trainer, metrics: dict[str, Any]) -> str:
        self.last_model_path = self._free_path(
            trainer, metrics, self.CHECKPOINT_NAME_LAST, replaces=self.last_model_path
        )
        return self.last_model_path

    def _free_path(
        self, trainer: Trainer, metrics: dict[str, Any], template: str | None = None, *, replaces: str
    ) -> str:
        """A path where nothing of value is, as rank 0 sees it; ``replaces`` may be there already."""
        path = ""
        if trainer.is_global_zero:
            path, version = self.format_checkpoint_name(metrics, template), self.STARTING_VERSION
            while self._enable_version_counter and self._is_taken(trainer, path, replaces):
                path = self.format_checkpoint_name(metrics, template, ver=version)
                version += 1
        return str(trainer.strategy.broadcast(path))

    def _is_taken(self, trainer: Trainer, path: str, replaces: str) -> bool:
        if not paths.exists(path):
            return False
        if paths.is_dir(path):  # can't be replaced in one step: it stays until its successor is complete
            return True
        # what this run had written before it was restarted is written again, unless it is one of the best
        step = self._own_steps.get(path)
        is_own = step is not None and (path not in self.best_k_models or step == trainer.global_step)
        return path != replaces and not is_own

    def folder(self, trainer: Trainer) -> str:
        """Where files go: ``dirpath``, or else a folder beside what the first logger writes."""
        if self.dirpath:
            return str(self.dirpath)
        root = trainer.default_root_dir
        if not trainer.loggers:
            return paths.join(root, "checkpoints")
        logger = trainer.loggers[0]
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        return paths.join(logger.save_dir or root, str(logger.name), version, "checkpoints")

    def _warn_about_files(self, trainer: Trainer) -> None:
        folder = str(self.dirpath)
        ours = (self.best_model_path, self.last_model_path, os.path.abspath(trainer.ckpt_path or ""))
        goes_on = any(path.startswith(folder + os.sep) for path in ours)
        if not goes_on and paths.is_dir(folder) and paths.listdir(folder):
            rank_zero_warn(
                f"The folder {folder} is not empty. What is there stays; a new file gets another name if "
                "need be."
            )

    def _tell(self, trainer: Trainer, what: str) -> None:
        if self.verbose:
            step = trainer.global_step
            rank_zero_info(f"Epoch {trainer.current_epoch}, step {step}: {self.monitor} {what}.")

    # ------------------------------------------------------------------ state

    @property
    def every_n_epochs(self) -> int:
        """At each how many epochs a checkpoint is saved; 0 for never."""
        return self._every_n_epochs

    @property
    def state_key(self) -> str:
        """The name of the state in a checkpoint; it tells ModelCheckpoints apart by metric and rhythm."""
        return self._generate_state_key(
            monitor=self.monitor,
            mode=self.mode,
            every_n_train_steps=self._every_n_train_steps,
            every_n_epochs=self._every_n_epochs,
            train_time_interval=self._train_time_interval,
        )

    def state_dict(self) -> dict[str, Any]:
        """Which files there are, and how good they are."""
        return {name: getattr(self, name) for name in ("monitor", "current_score", "dirpath", *_STATE)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the files of the former run; with another folder only the best path is taken over."""
        self.best_model_path = state_dict["best_model_path"]
        if state_dict.get("dirpath", self.dirpath) == self.dirpath:
            vars(self).update({name: state_dict[name] for name in _STATE if name in state_dict})
            if self.monitor is None and self.save_top_k == 1:
                self._only_path = self.best_model_path
            return
        rank_zero_warn(
            f"ModelCheckpoint now saves to {self.dirpath}, and formerly to {state_dict['dirpath']}. The "
            "files there stay as they are: new ones are compared with none of them."
        )

    def recall(self, trainer: Trainer, run: str | None = None) -> list[str]:
        """Take over the files that another process left in the folder, as the index knows them.

        Args:
            trainer: Whose folder it is.
            run: The run that wrote them (`Commit.run`); the newest one that this callback saved for if None.

        Returns:
            The files that are too many now, as that process was killed before it could remove them.
        """
        stock = Stock()
        if trainer.is_global_zero:
            stock = Stock.of(self.folder(trainer), self.state_key, run, broken=trainer.lineage.broken)
        stock = trainer.strategy.broadcast(stock)
        self._own_steps, files = stock.steps, stock.kept
        if not files or self.save_top_k == 0:
            return []
        newest = next(reversed(files))
        if self.monitor is not None:
            self._keep(TopK(self.save_top_k, self.mode, {}).chosen_from(files))
        else:
            self.best_model_path, self._only_path = newest, newest if self.save_top_k == 1 else ""
        if stock.newest == newest:
            self._mend_last(trainer, newest)
        if self.save_top_k == -1:
            return []
        kept = {*self.best_k_models, self.best_model_path}
        return [path for path in files if path not in kept and not _is_same(path, trainer.ckpt_path)]

    def _mend_last(self, trainer: Trainer, newest: str) -> None:
        """Move ``last.ckpt`` to the newest file, if the process was killed before it could."""
        last = self.last_model_path
        if not (trainer.is_global_zero and self.save_last and last and paths.is_local(last)):
            return
        if trainer.lineage.goes_on and os.path.realpath(last) != os.path.realpath(newest):
            point_to(last, newest)

    def to_yaml(self, filepath: paths.PathLike | None = None) -> None:
        """Write `best_k_models` to a YAML file, by default ``best_k_models.yaml`` beside the checkpoints."""
        scores = {name: float(score) for name, score in self.best_k_models.items()}
        text = require("yaml").safe_dump(scores)
        path = filepath or paths.join(str(self.dirpath), "best_k_models.yaml")
        with paths.atomic_writer(path, "w") as file:
            file.write(text)


# what is restored, too; the newest score and the arguments are only written
_STATE = (
    "best_model_score",
    "best_model_path",
    "best_k_models",
    "kth_best_model_path",
    "kth_value",
    "last_model_path",
)


def _files(record: Mapping[str, Any]) -> set[str]:
    """The files that a ModelCheckpoint with these attributes looks after."""
    return {*record["best_k_models"], record["_only_path"], record["last_model_path"]} - {""}


def _is_training(trainer: Trainer) -> bool:
    return bool(trainer.state.fn == "fit") and not trainer.sanity_checking and not trainer.fast_dev_run


def _has_validation(trainer: Trainer) -> bool:
    is_known = trainer.val_dataloaders is not None  # not before the data was needed
    return bool(trainer.enable_validation and (not is_known or sum(trainer.num_val_batches) > 0))


def _is_same(path: str, other: Any) -> bool:
    return bool(other) and os.path.abspath(path) == os.path.abspath(other)
