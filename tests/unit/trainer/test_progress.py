from __future__ import annotations

import pytest

from levin.trainer.progress import Progress


def run(progress, *epochs, accumulate=1, until_end=True):
    """Count as the fit loop does; each of ``epochs`` is a number of batches. The last one may stay open."""
    for number, batches in enumerate(epochs):
        progress.in_epoch = True
        progress.start_epoch()
        for batch in range(batches):
            progress.is_last_batch = batch + 1 == batches
            stepped = progress.is_last_batch or (batch + 1) % accumulate == 0
            progress.step += stepped
            progress.batch_done()
            progress.in_batch = False
            progress.batches_that_stepped += stepped
        if until_end or number + 1 < len(epochs):
            progress.in_epoch_end = True
            progress.epoch_done()
    return progress


def counts(progress):
    return progress.epoch, progress.batch, progress.total_batches, progress.step, progress.unfinished


def test_counters_of_epochs_that_are_over():
    progress = run(Progress(), 3, 2)
    assert counts(progress) == (2, 2, 5, 5, 0)
    assert progress.epochs_processed == 2


def test_an_epoch_counts_as_processed_once_its_last_hooks_run():
    progress = run(Progress(), 3, until_end=False)
    assert progress.epochs_processed == 0
    progress.in_epoch_end = True
    assert (progress.epochs_processed, progress.epoch) == (1, 0)


def test_a_new_epoch_begins_with_nothing_left_of_the_one_before():
    progress = run(Progress(), 3, until_end=False)
    progress.in_batch = progress.in_epoch_end = True  # an exception ended it there
    progress.start_epoch()
    assert (progress.batch, progress.in_batch, progress.in_epoch_end, progress.is_last_batch) == (
        0,
        *[False] * 3,
    )


@pytest.mark.parametrize("automatic", [True, False])
def test_counters_come_back(automatic):
    progress = run(Progress(scheduler_steps=4), 3, 2)
    again = Progress()
    again.load_state_dict(progress.state_dict(automatic=automatic))
    assert counts(again) == counts(progress)
    assert (again.batches_that_stepped, again.scheduler_steps, again.is_last_batch) == (5, 4, True)


def test_an_epochs_end_is_the_next_epochs_beginning():
    progress = run(Progress(), 3, until_end=False)
    progress.in_epoch_end = True  # where checkpoints of an epoch's end are written
    again = Progress()
    again.load_state_dict(progress.state_dict(automatic=True))
    assert (again.epoch, again.unfinished, again.step) == (1, 0, 3)


def test_steps_are_kept_where_the_kind_of_optimization_has_its_place():
    progress = run(run(Progress(), 1), 1)
    steps = {"ready": 2, "completed": 2}
    automatic, manual = (progress.state_dict(automatic=kind) for kind in (True, False))
    where = "epoch_loop.automatic_optimization.optim_progress"
    assert automatic[where]["optimizer"]["step"]["total"] == steps
    assert manual["epoch_loop.manual_optimization.optim_step_progress"] == {"total": steps, "current": steps}
    assert manual[where]["optimizer"]["step"]["total"] == {"ready": 0, "completed": 0}


def test_current_counts_are_the_epochs_and_totals_all():
    state = run(Progress(), 3, 2).state_dict(automatic=True)
    batches = state["epoch_loop.batch_progress"]
    assert (batches["total"]["completed"], batches["current"]["completed"]) == (5, 2)
    step = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    assert (step["total"]["completed"], step["current"]["completed"]) == (5, 2)


def test_a_batch_whose_hooks_still_run_is_processed_and_not_complete():
    progress = run(Progress(), 3, until_end=False)
    progress.in_batch = True
    batches = progress.state_dict(automatic=True)["epoch_loop.batch_progress"]["current"]
    assert batches == {"ready": 3, "started": 3, "processed": 3, "completed": 2}
