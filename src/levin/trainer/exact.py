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

    from levin.data.fetch import Fetcher
    from levin.data.reader import Reader
    from levin.data.together import Together
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


def surroundings(run: Run, loader: Reader | Together | None, validation: EvaluationLoop) -> dict[str, Any]:
    """What a validation changes, though it does not train: it begins anew where it was interrupted."""
    return {
        "orders": orders([loader]),
        "random": collect_rng_state(),
        "generators": {
            name: [generator_state(each) for each in generators_of(owner)] for name, owner in _owners(run)
        },
        "validation": validation.rest(),
        "loggers": [logger.position() for logger in run.loggers],
    }


def training(run: Run, batches: Fetcher | None, step: Step | None) -> dict[str, Any]:
    """Where training is: what was logged, the place in the data, and gradients for a step to come."""
    progress = run.progress
    is_within = progress.in_epoch and not progress.in_epoch_end
    kept = {"metrics": run.metrics.state_dict(), "in_epoch_end": progress.in_epoch_end}
    if batches is not None and (batches.is_open or is_within):
        kept["position"] = batches.position(progress.batch if is_within else 0)
    return {**kept, **_window(run, step)} if is_within and step is not None else kept


def restore_writings(run: Run, kept: dict[str, Any]) -> None:
    """Put back what was logged, and take back rows that were written after the checkpoint."""
    run.metrics.load_state_dict(kept["metrics"])
    for logger, position in zip(run.loggers, kept["loggers"], strict=False):
        logger.go_on(position)


def restore_surroundings(
    run: Run, kept: dict[str, Any], loader: Reader | Together | None, validation: EvaluationLoop
) -> None:
    """Put the random generators back: nothing may draw before that."""
    restore_orders([loader], kept["orders"])
    validation.settle_order(kept["validation"])
    for name, owner in _owners(run):
        for generator, state in zip(generators_of(owner), kept["generators"].get(name, ()), strict=False):
            set_generator_state(generator, state)
    set_rng_state(kept["random"])


def _owners(run: Run) -> list[tuple[str, Any]]:
    """Who may have generators of their own, by name."""
    parts = [("datamodule", run.datamodule), *run.module.named_modules(prefix="module")]
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
