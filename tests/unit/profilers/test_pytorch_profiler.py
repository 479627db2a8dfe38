from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerAction, schedule

from levin.profilers import PyTorchProfiler
from levin.utils.errors import MisconfigurationException

STEP = "[Strategy]SingleDeviceStrategy.training_step"
CHECK = "[Strategy]SingleDeviceStrategy.validation_step"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)


def run(profiler, actions, *, stage="fit", num_steps=None):
    """A run of a small model that makes these steps."""
    net = Net()
    profiler.setup(stage)
    if num_steps is not None:
        profiler.attach(net, num_steps)
    for action in actions:
        profiler.wrap(action, net)(torch.ones(1, 4))
    report = profiler.summary()
    profiler.teardown(stage)
    return net, report


def calls(profiler, label):
    return sum(event.count for event in profiler.function_events.key_averages() if event.key == label)


def test_by_default_three_steps_are_recorded_once():
    profiler = PyTorchProfiler()
    _, report = run(profiler, [STEP] * 20, num_steps=20)
    assert calls(profiler, f"[profile]{STEP}") == 3
    assert calls(profiler, "aten::linear") == 3
    assert "aten::linear" in report
    assert report.startswith("Profile stats for: records")


def test_other_steps_do_not_advance_the_schedule():
    profiler = PyTorchProfiler()
    run(profiler, [CHECK] * 10 + [STEP] * 3 + [CHECK] * 2 + [STEP] * 5, num_steps=8)
    assert calls(profiler, f"[profile]{STEP}") == 3
    assert calls(profiler, f"[profile]{CHECK}") == 2


def test_a_short_run_is_recorded_whole():
    profiler = PyTorchProfiler()
    run(profiler, [STEP] * 2, num_steps=2)
    assert calls(profiler, f"[profile]{STEP}") == 2


@pytest.mark.parametrize(
    ("stage", "step"), [("validate", "validation_step"), ("test", "test_step"), ("predict", "predict_step")]
)
def test_each_stage_counts_its_own_steps(stage, step):
    profiler = PyTorchProfiler()
    action = f"[Strategy]SingleDeviceStrategy.{step}"
    run(profiler, [action] * 9, stage=stage, num_steps=9)
    assert calls(profiler, f"[profile]{action}") == 3


def test_without_a_schedule_everything_is_recorded_from_the_first_action_on():
    profiler = PyTorchProfiler(schedule=None)
    run(profiler, ["setup", *[STEP] * 7])
    assert calls(profiler, "[profile]setup") == 1
    assert calls(profiler, f"[profile]{STEP}") == 7


def test_a_schedule_of_the_users_own():
    profiler = PyTorchProfiler(schedule=schedule(wait=0, warmup=1, active=2, repeat=1))
    run(profiler, [STEP] * 6, num_steps=6)
    assert calls(profiler, f"[profile]{STEP}") == 2


def test_modules_are_marked_by_type_and_name_and_left_as_they_were():
    profiler = PyTorchProfiler()
    net, _ = run(profiler, [STEP] * 6, num_steps=6)
    assert calls(profiler, "[module]torch.nn.modules.linear.Linear: layer") == 3
    assert not net.layer._forward_hooks
    assert not net.layer._forward_pre_hooks


def test_module_names_can_be_left_out():
    profiler = PyTorchProfiler(record_module_names=False)
    run(profiler, [STEP] * 6, num_steps=6)
    assert not any(event.key.startswith("[module]") for event in profiler.function_events)


def test_a_recording_is_written_as_a_trace(tmp_path):
    profiler = PyTorchProfiler(tmp_path, "perf")
    run(profiler, [STEP] * 6, num_steps=6)
    (trace,) = tmp_path.iterdir()
    assert trace.name.startswith("fit-perf-training_step-")
    assert any(event.get("name") == "aten::linear" for event in json.loads(trace.read_text())["traceEvents"])


def test_no_trace_is_written_unless_wanted(tmp_path):
    run(PyTorchProfiler(tmp_path, export_to_chrome=False), [STEP] * 6, num_steps=6)
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_the_users_own_gets_the_recording(tmp_path):
    taken = []
    run(PyTorchProfiler(tmp_path, on_trace_ready=taken.append), [STEP] * 6, num_steps=6)
    assert len(taken) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_written(tmp_path):
    profiler = PyTorchProfiler(tmp_path, "perf", export_to_chrome=False)
    profiler.setup("fit")
    for _ in range(6):
        profiler.wrap(STEP, torch.ones)(1)
    profiler.describe()
    assert "aten::ones" in (tmp_path / "fit-perf.txt").read_text()


def test_a_run_without_enough_steps_for_its_schedule_says_so():
    _, report = run(PyTorchProfiler(schedule=schedule(wait=9, warmup=1, active=1)), [STEP], num_steps=1)
    assert "schedule=None records everything" in report


def test_a_profiler_can_be_used_for_several_runs():
    profiler = PyTorchProfiler()
    for _ in range(2):
        run(profiler, [STEP] * 8, num_steps=8)
        assert calls(profiler, f"[profile]{STEP}") == 3


def test_a_module_that_raises_is_unmarked():
    profiler = PyTorchProfiler()
    net = Net()
    profiler.setup("fit")
    profiler.attach(net, 10)
    with pytest.raises(RuntimeError, match="shapes"):
        profiler.wrap(STEP, net)(torch.ones(1, 5))
    assert not any(profiler._marks.values())
    profiler.teardown("fit")


def test_rows_of_the_report_can_be_limited_sorted_and_widened():
    profiler = PyTorchProfiler(row_limit=1, sort_by_key="count", table_kwargs={"max_name_column_width": 12})
    _, report = run(profiler, [STEP] * 6, num_steps=6)
    assert "aten::linear" not in report
    assert "..." in report


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"foo": 1}, r"profiler_kwargs has \['foo'\].*with_stack"),
        ({"table_kwargs": {"row_limit": 3}}, r"table_kwargs has \['row_limit'\].*time_unit"),
        ({"sort_by_key": "time"}, "sort_by_key='time'.*cpu_time_total"),
        ({"schedule": 3}, "schedule=3 can't be called"),
        ({"schedule": lambda step: "record"}, "'record' for step 0"),
    ],
)
def test_bad_options_are_refused_at_once(options, text):
    with pytest.raises(MisconfigurationException, match=text):
        PyTorchProfiler(**options)


def test_a_schedule_may_be_any_function_of_the_step():
    profiler = PyTorchProfiler(schedule=lambda step: ProfilerAction.RECORD)
    run(profiler, [STEP] * 4, num_steps=4)
    assert calls(profiler, f"[profile]{STEP}") == 4


@pytest.mark.gpu
def test_on_a_gpu_its_time_is_reported():
    profiler = PyTorchProfiler()
    net = Net().cuda()
    profiler.setup("fit")
    for _ in range(6):
        profiler.wrap(STEP, net)(torch.ones(1, 4, device="cuda"))
    assert "CUDA" in profiler.summary()


@pytest.mark.gpu
def test_marks_for_nvidias_tools():
    profiler = PyTorchProfiler(emit_nvtx=True)
    net = Net().cuda()
    profiler.setup("fit")
    profiler.wrap(STEP, net)(torch.ones(1, 4, device="cuda"))
    assert profiler.summary() == ""
    profiler.teardown("fit")
