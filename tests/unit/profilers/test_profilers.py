from __future__ import annotations

import logging
import pstats
from array import array

import pytest

import levin.profilers
from levin.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
    parse_profiler,
)
from levin.utils.errors import MisconfigurationException


class Recording(Profiler):
    """Writes down what happens."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.events = []

    def start(self, action_name):
        self.events.append(f"start {action_name}")

    def stop(self, action_name):
        self.events.append(f"stop {action_name}")

    def summary(self):
        return "100 % of it\n"


# ---------------------------------------------------------------------- the base


def test_a_profiled_block_is_started_and_stopped():
    profiler = Recording()
    with profiler.profile("a") as name:
        assert name == "a"
        profiler.events.append("block")
    assert profiler.events == ["start a", "block", "stop a"]


def test_a_wrapped_function_runs_between_start_and_stop():
    profiler = Recording()
    fn = profiler.wrap("a", lambda x, *, y: profiler.events.append("fn") or x + y)
    assert fn(1, y=2) == 3
    assert profiler.events == ["start a", "fn", "stop a"]


def test_an_action_is_stopped_when_it_raises():
    profiler = Recording()

    def broken():
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        profiler.wrap("a", broken)()
    with pytest.raises(OSError, match="disk"), profiler.profile("b"):
        broken()
    assert profiler.events == ["start a", "stop a", "start b", "stop b"]


def test_what_is_off_costs_nothing_since_the_function_stays_itself():
    def fn():
        return None

    assert PassThroughProfiler().wrap("a", fn) is fn


def test_the_profiler_that_measures_nothing_says_nothing(caplog, tmp_path):
    profiler = PassThroughProfiler(tmp_path, "report")
    with profiler.profile("a"):
        pass
    profiler.describe()
    assert caplog.text == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def console(caplog):
    logger = logging.getLogger("levin")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_the_report_goes_to_the_console_without_a_filename(console, tmp_path):
    profiler = Recording(dirpath=tmp_path)
    profiler.setup("fit")
    profiler.describe()
    assert console.messages[-1] == "FIT Profiler Report\n\n100 % of it\n"
    assert list(tmp_path.iterdir()) == []


def test_the_report_goes_to_a_file_of_its_name(tmp_path):
    profiler = Recording(dirpath=tmp_path / "new" / "folder", filename="perf")
    profiler.setup("fit")
    profiler.describe()
    assert (
        tmp_path / "new" / "folder" / "fit-perf.txt"
    ).read_text() == "FIT Profiler Report\n\n100 % of it\n"


def test_each_process_writes_a_file_of_its_own(tmp_path):
    profiler = Recording(dirpath=tmp_path, filename="perf")
    assert profiler.local_rank == 0
    profiler.setup("test", local_rank=1)
    profiler.describe()
    assert profiler.local_rank == 1
    assert [path.name for path in tmp_path.iterdir()] == ["test-perf-1.txt"]


def test_files_go_to_the_loggers_folder_by_default(tmp_path):
    profiler = Recording(filename="perf")
    profiler.setup("fit", log_dir=tmp_path)
    profiler.describe()
    assert [path.name for path in tmp_path.iterdir()] == ["fit-perf.txt"]


def test_runs_of_one_stage_follow_one_another_in_the_file(tmp_path):
    profiler = Recording(dirpath=tmp_path, filename="perf")
    for _ in range(2):
        profiler.setup("test")
        profiler.describe()
    assert (tmp_path / "test-perf.txt").read_text().count("TEST Profiler Report") == 2


def test_names_of_files_have_no_forbidden_characters(tmp_path):
    profiler = Recording(dirpath=tmp_path, filename='a/b:c"d')
    profiler.setup("fit")
    profiler.describe()
    assert [path.name for path in tmp_path.iterdir()] == ["fit-a_b_c_d.txt"]


# ---------------------------------------------------------------------- simple


@pytest.fixture
def clock(monkeypatch):
    """A clock that ticks one second with each look at it."""
    ticks = iter(range(1000))
    monkeypatch.setattr("levin.profilers.simple.monotonic", lambda: float(next(ticks)))


def test_durations_are_recorded_for_each_call(clock):
    profiler = SimpleProfiler()
    for _ in range(2):
        with profiler.profile("outer"), profiler.profile("inner"):
            pass
    assert profiler.recorded_durations == {"outer": array("d", [3, 3]), "inner": array("d", [1, 1])}


def test_the_extended_report_has_calls_and_shares(clock):
    profiler = SimpleProfiler()
    with profiler.profile("outer"), profiler.profile("inner"):
        pass
    assert profiler.summary() == (
        "Action | Mean duration (s) | Num calls | Total time (s) | Percentage %\n"
        "-------+-------------------+-----------+----------------+-------------\n"
        "Total  |                 - |         2 |              5 |          100\n"
        "outer  |                 3 |         1 |              3 |           60\n"
        "inner  |                 1 |         1 |              1 |           20"
    )


def test_the_short_report_has_durations_only(clock):
    profiler = SimpleProfiler(extended=False)
    with profiler.profile("a"):
        pass
    assert profiler.summary().splitlines()[0] == "Action | Mean duration (s) | Total time (s)"
    assert "Total " not in profiler.summary().splitlines()[2]


def test_an_action_cannot_begin_twice():
    profiler = SimpleProfiler()
    profiler.start("a")
    with pytest.raises(ValueError, match="'a' was started while it is going on"):
        profiler.start("a")


@pytest.mark.parametrize("make", [SimpleProfiler, AdvancedProfiler, PyTorchProfiler])
def test_an_action_that_was_never_started_cannot_be_stopped(make):
    with pytest.raises(ValueError, match="'a' was stopped and never started"):
        make().stop("a")


# ---------------------------------------------------------------------- advanced


def count_to(number):
    return sum(range(number))


def test_the_advanced_report_has_a_table_for_each_action():
    profiler = AdvancedProfiler()
    for name in ("a", "b"):
        with profiler.profile(name):
            count_to(10)
    report = profiler.summary()
    assert report.count("Profile stats for:") == 2
    assert report.count("(count_to)") == 2


def test_what_runs_in_an_inner_action_counts_for_it_alone():
    profiler = AdvancedProfiler()
    with profiler.profile("outer"):
        count_to(1)
        with profiler.profile("inner"):
            count_to(2)
            count_to(3)
        count_to(4)
    calls = {
        name: next(
            stat[0] for function, stat in pstats.Stats(profile).stats.items() if function[2] == "count_to"
        )
        for name, profile in profiler.profiled_actions.items()
    }
    assert calls == {"outer": 2, "inner": 2}


def test_the_lines_of_the_advanced_report_can_be_limited():
    profiler = AdvancedProfiler(line_count_restriction=1)
    with profiler.profile("a"):
        count_to(10)
    assert "to 1 due to restriction" in profiler.summary()


def test_measurements_can_be_written_for_viewers(tmp_path):
    profiler = AdvancedProfiler(tmp_path, "perf", dump_stats=True)
    profiler.setup("fit")
    with profiler.profile("[Strategy]X.step"):
        count_to(10)
    profiler.describe()
    stats = pstats.Stats(str(tmp_path / "fit-perf-[Strategy]X.step.prof"))
    assert any(function == "count_to" for _, _, function in stats.stats)


def test_an_interrupted_run_leaves_no_measurement_going_on():
    profiler = AdvancedProfiler()
    profiler.start("a")
    profiler.teardown("fit")
    with AdvancedProfiler().profile("b"):  # Python would refuse a second one at a time
        count_to(1)


# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("simple", SimpleProfiler),
        ("advanced", AdvancedProfiler),
        ("pytorch", PyTorchProfiler),
        (None, PassThroughProfiler),
    ],
)
def test_words_for_profilers(word, kind):
    assert type(parse_profiler(word)) is kind


def test_a_profiler_is_taken_as_it_is():
    profiler = SimpleProfiler()
    assert parse_profiler(profiler) is profiler


@pytest.mark.parametrize("value", ["foo", "", 5, True])
def test_an_unknown_profiler_is_told_with_the_known_ones(value):
    with pytest.raises(MisconfigurationException, match="'simple', 'advanced', 'pytorch'"):
        parse_profiler(value)


def test_a_near_word_is_suggested():
    with pytest.raises(MisconfigurationException, match="Did you mean 'simple'"):
        parse_profiler("simpl")


def test_xla_is_not_available():
    with pytest.raises(MisconfigurationException, match="XLA"):
        parse_profiler("xla")


@pytest.mark.parametrize("name", levin.profilers.__all__)
def test_public_names_are_there(name):
    assert getattr(levin.profilers, name) is not None
    assert name in dir(levin.profilers)


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="SimpleProfiler"):
        levin.profilers.SimplProfiler  # noqa: B018  # looking it up is the test
