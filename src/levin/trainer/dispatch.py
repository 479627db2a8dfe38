"""HookTable: for each hook the functions that will really run, found before the loop, called inside."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from levin.core.callback import Callback, Checkpoint
from levin.core.datamodule import LightningDataModule
from levin.core.hooks import HOOKS, IDLE_HOOKS, REMOVED_HOOKS
from levin.core.module import LightningModule
from levin.trainer.former_hooks import check_arguments, keeps_nothing
from levin.utils.overrides import overrides
from levin.utils.rank import rank_zero_deprecation, rank_zero_warn

if TYPE_CHECKING:
    from levin.core.metrics import Metrics
    from levin.profilers.base import Profiler
    from levin.trainer.trainer import Trainer

Hooks = tuple[Callable[..., Any], ...]

SHARED_HOOKS = tuple(spec.name for spec in HOOKS if spec.callbacks)
"""The hooks that callbacks have: those of the table. What only modules have is called where it belongs."""

_CALLBACKS_ONLY = frozenset(name for name in SHARED_HOOKS if not hasattr(LightningModule, name))


class HookTable:
    """An attribute for each hook, holding a tuple of functions: ``for hook in hooks.on_fit_start: hook()``.

    A tuple is empty when nobody overrides the hook, and the loop over it costs nothing. In a tuple stand the
    callbacks' functions in the callbacks' order, then the module's; in `on_train_epoch_end` the callbacks
    that monitor come after the module. Those that save come last of all, so that what they save is complete:
    after the module, and in training also after the row for the loggers (``saves_...``). Each function has
    the trainer and the module filled in, tells `self.log` where it is, and is measured if there is a
    profiler.

    ``print(trainer.hooks)`` shows who listens where.
    """

    setup: Hooks = ()
    on_fit_start: Hooks = ()
    on_fit_end: Hooks = ()
    on_sanity_check_start: Hooks = ()
    on_sanity_check_end: Hooks = ()
    on_train_start: Hooks = ()
    on_train_end: Hooks = ()
    on_train_epoch_start: Hooks = ()
    on_train_epoch_end: Hooks = ()
    saves_on_train_epoch_end: Hooks = ()
    on_train_batch_start: Hooks = ()
    on_train_batch_end: Hooks = ()
    saves_on_train_batch_end: Hooks = ()
    on_before_zero_grad: Hooks = ()
    on_before_backward: Hooks = ()
    on_after_backward: Hooks = ()
    on_before_optimizer_step: Hooks = ()
    on_validation_start: Hooks = ()
    on_validation_end: Hooks = ()
    on_validation_epoch_start: Hooks = ()
    on_validation_epoch_end: Hooks = ()
    on_validation_batch_start: Hooks = ()
    on_validation_batch_end: Hooks = ()
    on_test_start: Hooks = ()
    on_test_end: Hooks = ()
    on_test_epoch_start: Hooks = ()
    on_test_epoch_end: Hooks = ()
    on_test_batch_start: Hooks = ()
    on_test_batch_end: Hooks = ()
    on_predict_start: Hooks = ()
    on_predict_end: Hooks = ()
    on_predict_epoch_start: Hooks = ()
    on_predict_epoch_end: Hooks = ()
    on_predict_batch_start: Hooks = ()
    on_predict_batch_end: Hooks = ()
    on_save_checkpoint: Hooks = ()
    on_load_checkpoint: Hooks = ()
    on_exception: Hooks = ()
    teardown: Hooks = ()

    def __init__(self, metrics: Metrics, profiler: Profiler) -> None:
        self._metrics = metrics
        self._profiler = profiler
        self._labels: dict[str, list[str]] = {}
        self._modules: dict[str, Callable[..., Any]] = {}

    def rebuild(self, trainer: Trainer, module: LightningModule, callbacks: Sequence[Callback]) -> None:
        """Look who overrides what: when a run begins, at each epoch, and when the callbacks change."""
        self._labels, self._modules = {}, {}
        for name in SHARED_HOOKS:
            listening = [callback for callback in callbacks if overrides(callback, name, Callback)]
            early = [callback for callback in listening if not _waits(name, callback)]
            bound = [self.bind_callback(name, callback, trainer, module) for callback in early]
            if name not in _CALLBACKS_ONLY and overrides(module, name, LightningModule):
                self._modules[name] = self.bind(name, module)
                self._label(name, type(module).__name__)
                bound.append(self._modules[name])
            late = [callback for callback in listening if callback not in early]
            saving = [each for each in late if name in _TRAINING_ENDS and isinstance(each, Checkpoint)]
            bound += [
                self.bind_callback(name, callback, trainer, module)
                for callback in late
                if callback not in saving
            ]
            setattr(self, name, tuple(bound))
            if name in _TRAINING_ENDS:
                saves = (self.bind_callback(name, callback, trainer, module) for callback in saving)
                setattr(self, f"saves_{name}", tuple(saves))

    def of_module(self, name: str) -> Hooks:
        """The module's part of a hook."""
        return (self._modules[name],) if name in self._modules else ()

    def of_callbacks(self, name: str) -> Hooks:
        """The callbacks' part of a hook."""
        hooks: Hooks = getattr(self, name)
        return tuple(hook for hook in hooks if hook is not self._modules.get(name))

    def bind_callback(
        self, name: str, callback: Callback, trainer: Trainer, module: LightningModule
    ) -> Callable[..., None]:
        """A callback's hook as the loop calls it; what it returns is dropped."""
        metrics, fn = self._metrics, getattr(callback, name)
        if name == "on_save_checkpoint":
            fn = keeps_nothing(fn, type(callback).__name__)
        self._label(name, type(callback).__name__)

        def hook(*args: Any, **kwargs: Any) -> None:
            outer, metrics.scope = metrics.scope, name
            try:
                fn(trainer, module, *args, **kwargs)
            finally:
                metrics.scope = outer

        return self._profiler.wrap(f"[Callback]{callback.state_key}.{name}", hook)

    def bind(
        self, name: str, owner: LightningModule | LightningDataModule, fn: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """A user's method as loops call it: `self.log` knows where it is, and the profiler measures it.

        Args:
            name: The method's name.
            owner: Whose it is.
            fn: What to call in its place.
        """
        metrics, method = self._metrics, fn or getattr(owner, name)
        kind = "LightningModule" if isinstance(owner, LightningModule) else "LightningDataModule"

        def hook(*args: Any, **kwargs: Any) -> Any:
            outer, metrics.scope = metrics.scope, name
            try:
                return method(*args, **kwargs)
            finally:
                metrics.scope = outer

        return self._profiler.wrap(f"[{kind}]{type(owner).__name__}.{name}", hook)

    def _label(self, name: str, owner: str) -> None:
        self._labels.setdefault(name, []).append(owner)

    def __getstate__(self) -> dict[str, Any]:
        # each run looks anew who listens, in its own process
        return {"_metrics": self._metrics, "_profiler": self._profiler, "_labels": {}, "_modules": {}}

    def __str__(self) -> str:
        """Each hook that somebody listens to, with the listeners in the order in which they run."""
        width = max((len(name) for name in self._labels), default=0)
        return "\n".join(f"{name:<{width}}  {', '.join(owners)}" for name, owners in self._labels.items())


_TRAINING_ENDS = ("on_train_batch_end", "on_train_epoch_end")
"""The hooks after which the loggers get a row."""


def _waits(name: str, callback: Callback) -> bool:
    """Whether a callback's hook comes after the module's."""
    if isinstance(callback, Checkpoint):
        return name in _TRAINING_ENDS or name == "on_validation_end"
    return name == "on_train_epoch_end" and callback.monitors


_METHODS = (
    "training_step", "validation_step", "test_step", "predict_step",
    "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader",
    "configure_optimizers", "configure_model", "configure_callbacks", "prepare_data",
)  # fmt: skip
"""What users define that does not begin with ``on_``; methods of their own may be called nearly so."""

_HOOK_NAMES = frozenset(spec.name for spec in HOOKS)


def check_hook_names(
    module: LightningModule, datamodule: LightningDataModule | None, callbacks: Iterable[Callback]
) -> None:
    """Report hooks that will never be called, former ones and misspelt ones, or with other arguments.

    Raises:
        NotImplementedError: If one was removed: a run would silently leave it out.
        TypeError: If one could not be called.
    """
    owners: list[tuple[Any, type]] = [
        (module, LightningModule),
        *((callback, Callback) for callback in callbacks),
    ]
    if datamodule is not None:
        owners.append((datamodule, LightningDataModule))
    for owner, base in owners:
        for name in _own_methods(type(owner), base):
            _check_hook_name(name, owner, base)


def _own_methods(cls: type, base: type) -> list[str]:
    """The public methods that the user's classes define."""
    ours = set(cls.__mro__) - set(base.__mro__)
    return sorted({name for klass in ours for name, value in vars(klass).items() if callable(value)})


def _check_hook_name(name: str, owner: Any, base: type) -> None:
    where = f"`{type(owner).__name__}.{name}`"
    if name in getattr(owner, "adapted_hooks", ()):  # somebody calls it
        return
    if name in REMOVED_HOOKS:
        raise NotImplementedError(f"{where} is never called: the hook was removed. {REMOVED_HOOKS[name]}")
    if hasattr(base, name):
        if name in _HOOK_NAMES and not name.endswith("_dataloader"):  # which nobody may ask for
            check_arguments(name, owner, base)
        return
    if name == "configure_sharded_model" and base is LightningModule:
        if overrides(owner, "configure_model", base):
            raise RuntimeError(f"{where} is now `configure_model`, which is defined, too. Leave it out.")
        rank_zero_deprecation(f"{where} is now `configure_model`.")
        return
    if name in IDLE_HOOKS:
        rank_zero_warn(f"{where} is never called: it was removed. {IDLE_HOOKS[name]}")
        return
    if name.startswith("on_"):
        near = difflib.get_close_matches(
            name, [spec.name for spec in HOOKS if hasattr(base, spec.name)], n=1, cutoff=0.8
        )
    else:
        missing = [
            method for method in _METHODS if hasattr(base, method) and not overrides(owner, method, base)
        ]
        near = difflib.get_close_matches(name, missing, n=1, cutoff=0.9)
    if near:
        rank_zero_warn(f"{where} is no hook of levin and is never called. Did you mean `{near[0]}`?")
