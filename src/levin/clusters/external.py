"""ExternalEnvironment: what all environments share whose processes somebody else has started and numbered."""

from __future__ import annotations

from levin.clusters.base import ClusterEnvironment
from levin.utils.rank import rank_zero_only


class ExternalEnvironment(ClusterEnvironment):
    """Processes that somebody else has started and numbered: levin takes the numbers as they are.

    Attributes:
        launcher: Who that is, for messages.
    """

    launcher = "the launcher"

    @property
    def creates_processes_externally(self) -> bool:
        """Always: levin starts none."""
        return True

    def set_world_size(self, size: int) -> None:
        """Have no effect: the processes are counted."""

    def set_global_rank(self, rank: int) -> None:  # noqa: ARG002  # the number that counts is there already
        """Tell `levin.utils.rank.rank_zero_only` the rank this process was given, whatever ``rank`` is."""
        rank_zero_only.rank = self.global_rank()

    def share_port(self, port: int | None) -> int:
        """Agree on a port: that is not possible here, unless the process is alone.

        Raises:
            ValueError: There are others. It is raised in all of them, so that none waits for the rest.
        """
        if port is not None and self.world_size() == 1:
            return super().share_port(port)
        raise ValueError(
            f"{type(self).__name__} knows no port at which the {self.world_size()} processes could meet: the "
            "environment variable MASTER_PORT is not set. Set it to the same free port for all of them."
        )

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compare what a run asks for with the processes that there are.

        Raises:
            ValueError: They are not as many. The text says which argument to change.
        """
        asked, there, here = num_devices * num_nodes, self.world_size(), self.local_world_size()
        if asked == there and here in (None, num_devices):
            return
        on_this = "" if here is None else f" ({here} on this machine)"
        raise ValueError(
            f"devices={num_devices} and num_nodes={num_nodes} ask for {asked} processes ({num_devices} on "
            f"each machine), but {self.launcher} has started {there}{on_this}. "
            f"{_remedy(num_devices, num_nodes, there, here)}"
        )


def _remedy(num_devices: int, num_nodes: int, there: int, here: int | None) -> str:
    """Which arguments to change, so that they fit the processes that there are."""
    if here is None:
        fits = [(num_nodes, there // num_nodes), (num_devices, num_devices)]
        here = next((each for divisor, each in fits if there % divisor == 0), there)
    if not here or there % here:
        return "Start as many on one machine as on the other, and set devices to their number on each."
    fitting = {"devices": (here, num_devices), "num_nodes": (there // here, num_nodes)}
    changes = [f"{name}={new}" for name, (new, old) in fitting.items() if new != old]
    return f"Set {' and '.join(changes)}, or start as many processes as these ask for."
