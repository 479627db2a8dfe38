"""What a checkpoint holds beside the field's common form, so that a run goes on to the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from levin.utils.seed import (
    collect_rng_state,
    generator_state,
    generators_of,
    set_generator_state,
    set_rng_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from levin.core.module import LightningModule
    from levin.data.fetch import Fetcher
    from levin.data.reader import Reader
    from levin.data.together import Together
    from levin.strategies.base import Strategy
    from levin.trainer.evaluate import EvaluationLoop
    from levin.trainer.states import Run
    from levin.trainer.step import Step


def orders(passes: Iterable[Reader | Together | None]) -> list[dict[str, Any]]:
    """What the next pass over each loader begins with: generators of its own, workers that live on."""
    return [
        {**reader.rest(), "generators": reader.generators()}
        for each in passes
        if each is not None
        for reader in each.readers
    ]


def settle(passes: Iterable[Reader | Together | None], kept: list[dict[str, Any]]) -> None:
    """Let loaders between two passes be as they were, but for generators."""
    readers = [reader for each in passes if each is not None for reader in each.readers]
    for reader, order in zip(readers, kept, strict=False):
        reader.settle(order)


def restore_orders(passes: Iterable[Reader | Together | None], kept: list[dict[str, Any]]) -> None:
    """Put back the generators of loaders, when all is opened that draws from them."""
    readers = [reader for each in passes if each is not None for reader in each.readers]
    for reader, order in zip(readers, kept, strict=False):
        reader.set_generators(order["generators"])


def own_part(kept: dict[str, Any] | None, strategy: Strategy) -> dict[str, Any] | None:
    """What a checkpoint holds for this process; None if it was written by another number of them."""
    if kept is None:
        return None
    parts = [kept, *kept.get("others", ())]
    if len(parts) != strategy.world_size or "random" not in kept:
        return None
    part: dict[str, Any] = parts[strategy.global_rank]
    return part


class Whereabouts:
    """Where a fit stands: what its checkpoints hold for going on to the same bits, and what one has told.

    Args:
        run: What the parts of a run share.
        validation: The loop that validates. What it changes is kept as it was before, as an interrupted
            validation begins anew.

    Attributes:
        kept: What a checkpoint told, until it is needed.
        moment: The state to go on from after an epoch was cut off.
    """

    def __init__(self, run: Run, validation: EvaluationLoop) -> None:
        self._run = run
        self._validation = validation
        self.reset()

    def reset(self) -> None:
        """A new run begins."""
        self.kept: dict[str, Any] | None = None
        self.moment: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None  # surroundings, before the validation under way
        self._modes: dict[str, bool] | None = None  # and modes
        self._first: dict[str, dict[str, bool]] = {"modes": {}, "trained": {}}

    def begin(self) -> None:
        """Training begins: what hooks switch from here on is what a checkpoint has to hold."""
        self._first = {"modes": _modes(self._run.module), "trained": _trained(self._run.module)}

    def enter_validation(self, loader: Reader | Together | None) -> None:
        """A validation begins, until `leave_validation`."""
        self._before, self._modes = self._surroundings(loader), _modes(self._run.module)

    def validated(self) -> None:
        """A validation has its metrics: what is saved from here on goes on after it."""
        self._before = None

    def leave_validation(self) -> None:
        """A validation is over, also one over nothing."""
        self._before = self._modes = None

    def state_dict(
        self, loader: Reader | Together | None, batches: Fetcher | None, step: Step | None
    ) -> dict[str, Any]:
        """What a checkpoint needs beside the field's common form.

        Args:
            loader: The training data.
            batches: Its pass, if one began.
            step: What trains on a batch, if an epoch began.
        """
        run, progress = self._run, self._run.progress
        if self.moment is not None:
            return self.moment
        if self.kept is not None:  # nothing was trained since then
            return {**self.kept, "metrics": run.metrics.state_dict(), "in_epoch_end": False}
        is_within = progress.in_epoch and not progress.in_epoch_end
        kept = {**(self._before or self._surroundings(loader)), "metrics": run.metrics.state_dict()}
        kept |= {"in_epoch_end": progress.in_epoch_end, "switched": self._switched()}
        if batches is not None and (batches.is_open or is_within):
            kept["position"] = batches.position(progress.batch if is_within else 0)
        return {**kept, **_window(run, step)} if is_within and step is not None else kept

    def restore(self, kept: dict[str, Any] | None, loader: Reader | Together | None) -> None:
        """Put back what hooks switched, and the random generators: nothing may draw before the next batch."""
        if kept is None:  # nothing to go on from
            return
        module, switched = self._run.module, kept.get("switched", {"modes": {}, "trained": {}})
        for name, part in module.named_modules():
            part.training = switched["modes"].get(name, part.training)
        for name, parameter in module.named_parameters():
            if name in switched["trained"]:
                parameter.requires_grad = switched["trained"][name]
        if self._run.companions is not None:
            self._run.companions.load_state_dict(kept)
        restore_orders([loader], kept["orders"])
        self._validation.settle_order(kept["validation"])
        for name, owner in _owners(self._run):
            for generator, state in zip(generators_of(owner), kept["generators"].get(name, ()), strict=False):
                set_generator_state(generator, state)
        if not kept.get("moved") or self._run.strategy.global_rank == 0:
            set_rng_state(kept["random"])

    def _surroundings(self, loader: Reader | Together | None) -> dict[str, Any]:
        """What a validation changes, though it does not train."""
        run = self._run
        return {
            "orders": orders([loader]),
            "random": collect_rng_state(),
            "generators": {
                name: [generator_state(each) for each in generators_of(owner)] for name, owner in _owners(run)
            },
            "validation": self._validation.rest(),
            "loggers": [logger.position() for logger in run.loggers],
        }

    def _switched(self) -> dict[str, dict[str, bool]]:
        """Which parts are in another mode, and which parameters trained or not, than as training began.

        No more than that: whoever freezes other layers before going on from a checkpoint means it.
        """
        module = self._run.module
        now = {"modes": self._modes or _modes(module), "trained": _trained(module)}
        return {
            kind: {name: value for name, value in now[kind].items() if first.get(name, value) != value}
            for kind, first in self._first.items()
        }


def _modes(module: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in module.named_modules()}


def _trained(module: LightningModule) -> dict[str, bool]:
    toggled = vars(module).get("_toggled", {})  # but for a moment
    return {name: toggled.get(each, each.requires_grad) for name, each in module.named_parameters()}


def restore_writings(run: Run, kept: dict[str, Any]) -> None:
    """Put back what was logged, and take back rows that were written after the checkpoint."""
    run.metrics.load_state_dict(kept["metrics"])
    for logger, position in zip(run.loggers, kept["loggers"], strict=False):
        logger.go_on(position)


def _owners(run: Run) -> list[tuple[str, Any]]:
    """Who may have generators of their own, by name."""
    callbacks = [(each.state_key, each) for each in run.module.trainer.callbacks]
    parts = [("datamodule", run.datamodule), *run.module.named_modules(prefix="module"), *callbacks]
    return [(name, owner) for name, owner in parts if generators_of(owner)]


def _window(run: Run, step: Step) -> dict[str, Any]:
    """What there is of an accumulation window that is not full."""
    pending = {id(parameter) for parameter in step.pending()}
    return {
        "step": step.state_dict(),
        "gradients": {
            name: parameter.grad
            for name, parameter in run.module.named_parameters()
            if id(parameter) in pending and parameter.grad is not None
        },
    }


def restore_window(run: Run, kept: dict[str, Any], step: Step) -> None:
    """Take back the gradients of an accumulation window that was not full, and what was counted of it."""
    step.load_state_dict(kept["step"])
    for name, parameter in run.module.named_parameters():
        if name in kept["gradients"]:
            parameter.grad = kept["gradients"][name].to(parameter.device)
