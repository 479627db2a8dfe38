"""Companions: the other processes of a run, as its loops deal with them. Randomness, stopping, failing."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from levin.distributed.collectives import Votes
from levin.distributed.watch import SHOULD_STOP
from levin.utils.errors import RankFailedError, SIGTERMException, StopSignal
from levin.utils.seed import collect_rng_state, derive_seed, seed_generators, set_rng_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from levin.distributed.watch import Watch
    from levin.strategies.base import Strategy
    from levin.trainer.states import TrainerState

_SHARED = 2**31  # the number of the stream that all have in common, beyond any rank


class Companions:
    """The other processes of a run.

    Args:
        strategy: How they speak.
        state: What the trainer is doing.
        watch: What looks after them.

    Attributes:
        wants_stop: Whether this process wants the fit to end, which the others have not agreed on yet.
        is_failing: Whether the run is ending with an error: nobody can be waited for any more.
    """

    def __init__(self, strategy: Strategy, state: TrainerState, watch: Watch) -> None:
        self._strategy, self._state, self._watch = strategy, state, watch
        self._shared: dict[str, Any] | None = None
        self._evaluations = 0  # loaders that were evaluated
        self._votes: Votes | None = None
        self.wants_stop: bool = False
        self.is_failing: bool = False

    def begin(self) -> None:
        """Begin to look after one another; from here on all draw the same random numbers, until `part`."""
        self._watch.start(self._end)
        self._state.ask_others = self._watch.ask_to_stop
        set_rng_state(self._strategy.broadcast(collect_rng_state(include_cuda=False)))

    def end(self) -> None:
        """The run is over. A signal that came when all was done ends what comes after it as well."""
        self._state.ask_others = None
        if self._watch.wish is not None and not self.is_failing:
            self._obey()
        self._watch.end()

    @property
    def votes(self) -> Votes:
        """How they ask one another, each step, whether there is another batch."""
        self._votes = self._votes or Votes(self._strategy.timeout)
        return self._votes

    # ------------------------------------------------------------------ random numbers

    def part(self) -> None:
        """From here on each process draws numbers of its own; rank 0 goes on as a single process would."""
        state = collect_rng_state(include_cuda=False)["torch"].numpy().tobytes()
        base = int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "little")
        own = collect_rng_state()
        seed_generators(derive_seed(base, _SHARED))
        self._shared = collect_rng_state()
        if self._strategy.global_rank == 0:
            set_rng_state(own)
        else:
            seed_generators(derive_seed(base, self._strategy.global_rank))

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Within it, all processes draw the same numbers: what makes data must make the same everywhere."""
        if self._shared is None:
            yield
            return
        own = collect_rng_state()
        set_rng_state(self._shared)
        try:
            yield
        finally:
            self._shared = collect_rng_state()
            set_rng_state(own)

    def state_dict(self) -> dict[str, Any]:
        """The state of the stream that all have in common, for a checkpoint."""
        return {} if self._shared is None else {"shared": self._shared}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._shared = state.get("shared", self._shared)

    # ------------------------------------------------------------------ stopping

    def at_batch(self, place: int, window: int) -> None:
        """Between two training batches: stop where all do, if somebody wants to.

        Args:
            place: How many batches were trained on.
            window: After how many of them gradients are averaged, which keeps the processes together.
        """
        if self.wants_stop:
            self._watch.ask_to_stop(SHOULD_STOP)
        if self._watch.stop is not None and self._is_place("training, signal", place, ahead=2 * window):
            self._obey()
        if not self._state.should_stop and self._watch.wants_end:
            self._state.should_stop = self._is_place("training, end", place, ahead=2 * window)

    def at_evaluated_batch(self, place: int) -> None:
        """Between two batches of an evaluation: stop where all do.

        Args:
            place: How many batches were evaluated.
        """
        if self._watch.stop is not None and self._is_place(f"evaluation {self._evaluations}", place, ahead=2):
            self._obey()

    def after_evaluated_batches(self) -> None:
        """After the batches of one loader, before all bring their metrics together: stop if all do."""
        room, self._evaluations = f"evaluation {self._evaluations}", self._evaluations + 1
        if self._watch.stop is not None and self._watch.leave(room):
            self._obey()

    def at_predicted_batch(self) -> None:
        """Between two batches of a prediction, after which nobody waits for anybody: stop at once."""
        if self._watch.stop is not None:
            self._obey()

    def agree(self) -> None:
        """Where all meet anyway, after a validation, an epoch or the fit: stop if anybody wants to."""
        is_asked = self._watch.tell_stop()
        if not self._strategy.reduce_boolean_decision(self.wants_stop or is_asked, all=False):
            return
        if self._strategy.reduce_boolean_decision(self.wants_stop, all=False):
            self._state.should_stop = True
        if self._strategy.reduce_boolean_decision(is_asked, all=False):
            self._watch.learn_stop()
            self._obey()

    def _is_place(self, room: str, place: int, ahead: int) -> bool:
        at = self._watch.vote(room, place, ahead)
        return at is not None and place >= at

    def _obey(self) -> None:
        stop = self._watch.wish
        if stop is None or self._state.request is not None:
            return
        kinds: dict[str, BaseException] = {
            "SIGINT": KeyboardInterrupt(),
            "SIGTERM": SIGTERMException(stop.status),
        }
        self._state.request = kinds.get(stop.kind) or StopSignal(stop.status)

    # ------------------------------------------------------------------ failing

    def fail(self, error: BaseException) -> BaseException:
        """The run ends with an error in this process.

        Returns:
            What to raise: the error, or, where it only follows from another process's, one that tells that.
        """
        if error is self._state.request and not isinstance(error, RankFailedError):
            return error  # all stop at this place
        self.is_failing = True
        return self._watch.fail(error)

    def _end(self, error: RankFailedError) -> None:
        self.is_failing = True
        if self._state.request is None:
            self._state.request = error
