"""PyTorchProfiler: which operators the time goes to, by `torch.profiler`."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule

from levin.profilers.base import Profiler
from levin.utils.errors import MisconfigurationException

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

    from torch import nn

SORT_KEYS = frozenset(
    {
        "cpu_time", "cpu_time_total", "self_cpu_time_total", "cpu_memory_usage", "self_cpu_memory_usage",
        "cuda_time", "cuda_time_total", "self_cuda_time_total", "cuda_memory_usage", "self_cuda_memory_usage",
        "count",
    }
)  # fmt: skip
"""What the table of operators can be sorted by."""

# the step of each stage: a schedule counts these
_STEPS = {
    "fit": "training_step",
    "validate": "validation_step",
    "test": "test_step",
    "predict": "predict_step",
}

# wait, warm up, record three
_ONCE = schedule(wait=1, warmup=1, active=3, repeat=1)
_STEPS_FOR_ONCE = 5

_TABLE_OPTIONS = frozenset(inspect.signature(EventList.table).parameters) - {"self", "sort_by", "row_limit"}
_PROFILER_OPTIONS = frozenset(inspect.signature(profile.__init__).parameters) - {"self"}


class PyTorchProfiler(Profiler):
    """Measures operators on the CPU and the GPU, and shows which action and which module they belong to.

    By default the first step is left out, the second warms up, the next three are recorded, and that is all;
    a run of fewer than five steps is recorded whole. Steps are those of the stage: in a fit, training steps.

    Args:
        dirpath: See `Profiler`. Traces go there, too; without it and without a logger none is written.
        filename: See `Profiler`.
        group_by_input_shapes: Whether the table has a row for each shape of inputs; takes
            ``record_shapes=True``.
        emit_nvtx: Mark actions and operators for NVIDIA's tools rather than measure them:
            ``nsys profile -t cuda,nvtx python train.py``.
        export_to_chrome: Whether each recording is written as a trace, which https://ui.perfetto.dev shows.
        row_limit: The number of rows in the report; -1 for all.
        sort_by_key: What the rows are sorted by, one of `SORT_KEYS`; by default the time of an operator with
            all that it calls, on the GPU if there is one.
        record_module_names: Whether the modules inside the model are marked, too.
        table_kwargs: Further options of the table: see `torch.autograd.profiler_util.EventList.table`.
        **profiler_kwargs: Options of `torch.profiler.profile`, such as ``schedule``, ``profile_memory`` or
            ``with_stack``. ``schedule=None`` records everything, from the first action on.

    Raises:
        MisconfigurationException: An option is not known, or can't be what was given.

    Attributes:
        function_events: What was recorded last, as `torch.profiler.profile.events` gives it.
    """

    def __init__(  # noqa: PLR0913  # the names that users know
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        emit_nvtx: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        record_module_names: bool = True,
        table_kwargs: dict[str, Any] | None = None,
        **profiler_kwargs: Any,
    ) -> None:
        super().__init__(dirpath, filename)
        on_gpu = torch.cuda.is_available()
        self.group_by_input_shapes = group_by_input_shapes
        self.emit_nvtx = emit_nvtx
        self.export_to_chrome = export_to_chrome
        self.row_limit = row_limit
        self.sort_by_key: str = sort_by_key or ("cuda_time_total" if on_gpu else "cpu_time_total")
        self.record_module_names = record_module_names
        self.table_kwargs: dict[str, Any] = table_kwargs or {}
        self.function_events: EventList | None = None
        self._check_options(profiler_kwargs)
        self._on_trace_ready: Callable[[profile], None] | None = profiler_kwargs.pop("on_trace_ready", None)
        self._schedule: Callable[[int], ProfilerAction] | None = profiler_kwargs.pop("schedule", _ONCE)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        self._options = {"activities": activities, "with_stack": False, **profiler_kwargs}
        self._running: AbstractContextManager[Any] | None = None
        self._marks: defaultdict[object, list[record_function]] = defaultdict(list)
        self._module_hooks: list[Any] = []
        self._num_steps = float("inf")
        self._is_over = False

    def _check_options(self, profiler_kwargs: dict[str, Any]) -> None:
        if self.sort_by_key not in SORT_KEYS:
            raise MisconfigurationException(
                f"sort_by_key={self.sort_by_key!r} is not known. Use one of {sorted(SORT_KEYS)}."
            )
        _refuse_unknown("table_kwargs", self.table_kwargs, _TABLE_OPTIONS)
        _refuse_unknown("profiler_kwargs", profiler_kwargs, _PROFILER_OPTIONS)
        given = profiler_kwargs.get("schedule")
        if given is not None and not callable(given):
            raise MisconfigurationException(
                f"schedule={given!r} can't be called. Use `torch.profiler.schedule`."
            )
        if given is not None and not isinstance(given(0), ProfilerAction):
            raise MisconfigurationException(
                f"The schedule gives {given(0)!r} for step 0, which is no `torch.profiler.ProfilerAction`."
            )

    # ------------------------------------------------------------------ actions

    def start(self, action_name: str) -> None:
        """An action begins; a step tells torch's profiler, which goes by its schedule."""
        is_step = self._is_step(action_name)
        if self._running is None:
            if not self._is_over and (is_step or self._schedule is None or self.emit_nvtx):
                self._running = self._begin()
        elif is_step and isinstance(self._running, profile):
            self._running.step()
        if self._is_over:
            self._end()
        self._mark(action_name, f"[profile]{action_name}")

    def stop(self, action_name: str) -> None:
        """An action ends.

        Raises:
            ValueError: It is not going on.
        """
        if not self._marks[action_name]:
            raise ValueError(f"The action {action_name!r} was stopped and never started.")
        self._unmark(action_name)

    def _is_step(self, action_name: str) -> bool:
        step = _STEPS.get(self._stage or "fit", "training_step")
        return action_name.startswith("[Strategy]") and action_name.endswith(f".{step}")

    def _mark(self, key: object, label: str) -> None:
        mark = record_function(label)
        mark.__enter__()  # type: ignore[no-untyped-call]
        self._marks[key].append(mark)

    def _unmark(self, key: object) -> None:
        self._marks[key].pop().__exit__(None, None, None)

    # ------------------------------------------------------------------ around a run

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | Path | None = None) -> None:
        """A run begins: what was recorded in the last one is forgotten."""
        super().setup(stage, local_rank, log_dir)
        self.function_events = None
        self._num_steps = float("inf")
        self._is_over = False

    def attach(self, module: nn.Module, num_steps: float) -> None:
        """The loop of a run is about to begin: mark the modules inside this one."""
        self._num_steps = num_steps
        if not self.record_module_names or self._module_hooks:
            return
        for name, inner in module.named_modules():
            if name and not isinstance(inner, torch.jit.ScriptModule):
                self._mark_forward(
                    inner, f"[module]{type(inner).__module__}.{type(inner).__qualname__}: {name}"
                )

    def _mark_forward(self, module: nn.Module, label: str) -> None:
        def before(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001  # torch's signature
            self._mark(module, label)

        def after(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001  # torch's signature
            self._unmark(module)

        self._module_hooks += [
            module.register_forward_pre_hook(before),
            module.register_forward_hook(after, always_call=True),
        ]

    def summary(self) -> str:
        """A table of the operators that were recorded."""
        self._end()
        if self.emit_nvtx:
            return ""
        if self.function_events is None:
            return (
                "No step was recorded: there were too few for the schedule. schedule=None records everything."
            )
        by_shape = self.group_by_input_shapes
        averages = self.function_events.key_averages(by_shape)  # type: ignore[no-untyped-call]
        table = averages.table(sort_by=self.sort_by_key, row_limit=self.row_limit, **self.table_kwargs)
        return f"Profile stats for: records\n{table}"

    def teardown(self, stage: str | None = None) -> None:  # noqa: ARG002  # the same for all
        """End the recording, and leave the modules as they were."""
        self._end()
        for hook in self._module_hooks:
            hook.remove()
        self._module_hooks.clear()
        for key in list(self._marks):
            while self._marks[key]:
                self._unmark(key)

    # ------------------------------------------------------------------ torch's profiler

    def _begin(self) -> AbstractContextManager[Any]:
        running: AbstractContextManager[Any]
        if self.emit_nvtx:
            running = torch.autograd.profiler.emit_nvtx()  # type: ignore[no-untyped-call]
        else:
            is_short = self._schedule is _ONCE and self._num_steps < _STEPS_FOR_ONCE
            wanted = None if is_short else self._schedule
            running = profile(schedule=wanted, on_trace_ready=self._take, **self._options)
        running.__enter__()  # type: ignore[no-untyped-call]
        return running

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def _take(self, recorded: profile) -> None:
        """Torch has a recording ready: in a step after it, or at the end."""
        self.function_events = recorded.events()  # type: ignore[no-untyped-call]
        self._is_over = self._schedule is _ONCE
        if self._on_trace_ready is not None:
            self._on_trace_ready(recorded)
        elif self.export_to_chrome and self._folder is not None:
            step = _STEPS.get(self._stage or "fit")
            self._export(recorded, self._path(".pt.trace.json", step, str(time.time_ns())))

    def _export(self, recorded: profile, path: str) -> None:
        with tempfile.TemporaryDirectory() as folder:  # torch writes to local paths only
            trace = Path(folder, "trace.json")
            recorded.export_chrome_trace(str(trace))
            self._write(path, trace.read_bytes(), "wb")


def _refuse_unknown(what: str, given: Collection[str], known: Collection[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise MisconfigurationException(f"{what} has {unknown}, which is not known. Known: {sorted(known)}.")
