"""EpochEndMixin: `training_epoch_end(outputs)` and its kin, as Lightning 1.x had them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from levin.core.callback import Callback
from levin.core.module import LightningModule
from levin.utils.memory import recursive_detach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from levin.trainer.trainer import Trainer

_PREFIXES = {"training": "train", "validation": "validation", "test": "test"}


def _with_collector(configure: Callable[[Any], Any]) -> Callable[[Any], list[Callback]]:
    """A class's `configure_callbacks`, with the one that collects, whether it asks its parent or not."""

    @functools.wraps(configure)
    def configured(self: LightningModule) -> list[Callback]:
        own = configure(self)
        callbacks = [own] if isinstance(own, Callback) else list(own)
        if not any(isinstance(callback, _Collector) for callback in callbacks):
            callbacks.append(_Collector(stage for stage in _PREFIXES if hasattr(self, f"{stage}_epoch_end")))
        return callbacks

    return configured


class EpochEndMixin(LightningModule):
    """Inherit from it first, and the hooks work that got what the steps returned.

    ``training_epoch_end(outputs)``, ``validation_epoch_end(outputs)`` and ``test_epoch_end(outputs)`` get a
    list with what the step returned for each batch; with several dataloaders, a list of lists, one for each.
    For training these are dicts with the detached "loss" and what else `training_step` returned. They run
    before all other hooks of that moment. The outputs of an epoch stay in memory until then.

    ``training_step_end(output)``, ``validation_step_end(output)`` and ``test_step_end(output)`` get what the
    step returned, and may return something in its place.

    Of what a step or one of these hooks returns, ``{"log": {...}, "progress_bar": {...}}`` is logged.

    Examples:
        >>> import levin as L
        >>> class Old(L.compat.EpochEndMixin, L.LightningModule):
        ...     def validation_step(self, batch, batch_idx):
        ...         return {"val_loss": batch.mean()}
        ...
        ...     def validation_epoch_end(self, outputs):
        ...         self.log("val_loss", sum(out["val_loss"] for out in outputs) / len(outputs))
    """

    adapted_hooks: frozenset[str] = frozenset(
        f"{stage}_{kind}_end" for stage in _PREFIXES for kind in ("epoch", "step")
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let steps end in `*_step_end`, and let a class's own callbacks come with the one that collects."""
        super().__init_subclass__(**kwargs)
        for stage in _PREFIXES:
            step = getattr(cls, f"{stage}_step")
            if step is not getattr(LightningModule, f"{stage}_step") and not hasattr(step, "ends_here"):
                setattr(cls, f"{stage}_step", _with_end(step, stage))
        if "configure_callbacks" in vars(cls):
            cls.configure_callbacks = _with_collector(cls.configure_callbacks)  # type: ignore[method-assign]

    @_with_collector
    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """The module's callbacks, and the one that collects the outputs."""
        return super().configure_callbacks()


def _with_end(step: Callable[..., Any], stage: str) -> Callable[..., Any]:
    """A class's step, followed by `*_step_end`, unless a child's step is what calls it."""

    @functools.wraps(step)
    def ended(self: EpochEndMixin, *args: Any, **kwargs: Any) -> Any:
        output = step(self, *args, **kwargs)
        if getattr(type(self), f"{stage}_step") is not ended:
            return output
        end = getattr(self, f"{stage}_step_end", None)
        replaced = None if end is None else end(output)
        output = output if replaced is None else replaced
        _log_returned(self, output)
        if stage == "training" and isinstance(output, Mapping):
            output = {key: value for key, value in output.items() if key not in ("log", "progress_bar")}
        return output

    ended.ends_here = True  # type: ignore[attr-defined]
    return ended


def _log_returned(module: LightningModule, returned: Any, *, all_numbers: bool = False) -> None:
    """Log the entries of a returned dict that were logged once.

    Args:
        module: What logs them.
        returned: What a step or hook returned.
        all_numbers: Whether its single numbers are shown to callbacks, too.
    """
    if not isinstance(returned, Mapping):
        return
    to_loggers, to_bar = returned.get("log") or {}, returned.get("progress_bar") or {}
    numbers = {name: value for name, value in returned.items() if all_numbers and _is_number(value)}
    for name, value in {**numbers, **to_bar, **to_loggers}.items():
        module.log(name, value, prog_bar=name in to_bar, logger=None if name in to_loggers else False)


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, (int, float))


class _Collector(Callback):
    """Keeps what an epoch's batches gave for the module's `*_epoch_end`; listens where there is one."""

    order = -100

    def __init__(self, stages: Iterable[str]) -> None:
        super().__init__()
        self._outputs: dict[str, list[list[Any]]] = {}
        for stage in stages:
            prefix = _PREFIXES[stage]
            hooks: dict[str, Callable[..., None]] = {
                f"on_{prefix}_epoch_start": self._begin,
                f"on_{prefix}_batch_end": self._keep,
                f"on_{prefix}_epoch_end": self._end,
            }
            vars(self).update({name: functools.partial(hook, stage) for name, hook in hooks.items()})

    def _begin(self, stage: str, trainer: Trainer, _: LightningModule) -> None:
        batches = {"validation": trainer.num_val_batches, "test": trainer.num_test_batches}
        self._outputs[stage] = [[] for _ in batches.get(stage, [1])]

    def _keep(
        self, stage: str, _: Trainer, __: LightningModule, outputs: Any, ___: Any, ____: int, index: int = 0
    ) -> None:
        is_skipped = outputs is None or (stage == "training" and not outputs)
        if not is_skipped:
            self._outputs[stage][index].append(recursive_detach(outputs))

    def _end(self, stage: str, _: Trainer, module: LightningModule) -> None:
        outputs = self._outputs.pop(stage)
        hook = getattr(module, f"{stage}_epoch_end")
        _log_returned(module, hook(outputs[0] if len(outputs) == 1 else outputs), all_numbers=True)

    def on_exception(self, *_: Any) -> None:
        """Let go of the outputs of an epoch that does not end."""
        self._outputs.clear()
