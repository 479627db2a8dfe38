"""What a step costs: calls, reads of tensors, frames. It is counted, so that every machine agrees."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

_ROOT = Path(__file__).parents[1]
_TESTING = Path(__file__).parent

# what brings a tensor's value to the host; for a tensor on a device each of them waits for it
_READS = (
    "item", "tolist", "numpy", "cpu",
    "__array__", "__bool__", "__int__", "__float__", "__complex__", "__index__",
)  # fmt: skip


def count_calls(run: Callable[[Callable[[], None]], Any], under: str | Path = _ROOT) -> list[Counter[str]]:
    """Count the Python calls of functions of levin, step by step.

    Calls into other packages do not count, nor do those of the code that uses levin or of `levin.testing`.
    Each value that a generator is asked for is a call, too.

    Args:
        run: What is counted: a function of ``mark``, which calls ``mark()`` once in each step, always in the
            same place (a model's ``training_step`` is a good one).
        under: The folder whose functions count.

    Returns:
        For each step, from one mark to the next, how often each function was called. What comes before the
        first mark and after the last is not counted.

    Examples:
        >>> def run(mark):
        ...     for _ in range(3):
        ...         mark()
        >>> [counter.total() if hasattr(counter, "total") else 0 for counter in count_calls(run)]
        [0, 0]
    """
    name_of = _names_under(Path(under))
    steps: list[Counter[str]] = []

    def mark() -> None:
        steps.append(Counter())

    def see(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not steps:
            return
        name = name_of(frame.f_code)
        if name:
            steps[-1][name] += 1

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run(mark)
    finally:
        sys.setprofile(before)
    return steps[:-1]


@contextmanager
def count_reads() -> Iterator[list[str]]:
    """Within it, write down where Python code reads a tensor: `item`, `tolist`, `float`, `if` and so on.

    On a device each of these waits until all that was asked of it is done.

    Yields:
        A list that grows with each read: what was called, and the line that called it.

    Examples:
        >>> with count_reads() as reads:
        ...     _ = torch.ones(2).sum().item()
        >>> len(reads)
        1
    """
    reads: list[str] = []
    own = {name: vars(torch.Tensor)[name] for name in _READS if name in vars(torch.Tensor)}
    for name in _READS:
        setattr(torch.Tensor, name, _counted(name, getattr(torch.Tensor, name), reads))
    try:
        yield reads
    finally:
        for name in _READS:
            if name in own:
                setattr(torch.Tensor, name, own[name])
            else:
                delattr(torch.Tensor, name)


def _counted(name: str, read: Callable[..., Any], reads: list[str]) -> Callable[..., Any]:
    @functools.wraps(read)
    def counted(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1)  # noqa: SLF001  # documented; `inspect` would read source files for the same
        reads.append(f"{name} at {caller.f_code.co_filename}:{caller.f_lineno}")
        return read(*args, **kwargs)

    return counted


def frames_of(error: BaseException | None = None, under: str | Path = _ROOT) -> list[str]:
    """The frames of levin's functions between a program and the place where it is, outermost first.

    Args:
        error: An error: the frames of its traceback. Without it, those of the stack at this moment.
        under: The folder whose functions count; `levin.testing` never does.
    """
    name_of = _names_under(Path(under))
    if error is not None:
        codes, link = [], error.__traceback__
        while link is not None:
            codes.append(link.tb_frame.f_code)
            link = link.tb_next
    else:
        codes, frame = [], sys._getframe(1)  # noqa: SLF001  # documented
        while frame is not None:
            codes.insert(0, frame.f_code)
            frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return [name for name in map(name_of, codes) if name]


def _names_under(folder: Path) -> Callable[[CodeType], str]:
    """What names the functions of a folder: ``trainer/step.py:42 run``; an empty text for others."""
    root, testing = f"{folder}/", f"{_TESTING}/"

    @functools.cache
    def name_of(code: CodeType) -> str:
        file = code.co_filename
        if not file.startswith(root) or file.startswith(testing):
            return ""
        return f"{file[len(root) :]}:{code.co_firstlineno} {code.co_name}"

    return name_of
