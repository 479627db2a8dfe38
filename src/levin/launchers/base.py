"""Launcher: what starts the other processes of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Launcher(ABC):
    """Starts the processes of a run on this machine, but for those that something else has started.

    Attributes:
        runs_function: Whether it runs a function in new processes, all of them, while this one waits for what
            it returns; else it starts the program again, and this process is the first of them.
        is_interactive_compatible: Whether it works where there is no script, as in a notebook.
    """

    runs_function: bool = False
    is_interactive_compatible: bool = False

    @abstractmethod
    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function in all processes.

        Returns:
            What it returned in the process of rank 0.
        """
