from __future__ import annotations

import copy
import fcntl
import io
import os
import pickle
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import levin as L
import levin.callbacks.progress
from levin.callbacks.progress import ProgressBar, RichProgressBar, RichProgressBarTheme, TQDMProgressBar
from levin.callbacks.progress import tqdm as tqdm_module
from levin.callbacks.progress.base import get_standard_metrics
from levin.loggers import CSVLogger

BARS = [TQDMProgressBar, RichProgressBar]


class Model(L.LightningModule):
    """Logs a loss for the bar; ``between`` is called in every training step."""

    def __init__(self, between=lambda: None):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.between = between

    def training_step(self, batch, batch_idx):
        self.between()
        self.log("loss", 0.25, prog_bar=True)
        return self.layer(batch).sum()

    def test_step(self, batch, batch_idx):
        self.log("test", 0.75, prog_bar=True)

    def predict_step(self, batch, batch_idx):
        return self.layer(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Validated(Model):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val", 0.5, prog_bar=True)


def loader(batches):
    return DataLoader(torch.zeros(batches, 4))


class Endless(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(7, 4))


@pytest.fixture
def trainer_with(tmp_path):
    def make(bar, **kwargs):
        settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": 2}
        quiet = {"enable_model_summary": False, "num_sanity_val_steps": 0, "default_root_dir": tmp_path}
        return L.Trainer(callbacks=[bar], **{**settings, **quiet, **kwargs})

    return make


class LiveTQDM(TQDMProgressBar):
    """Is drawn though the tests' standard output is no terminal."""

    is_live = True


def live_rich(**kwargs):
    """Return a bar that draws a terminal of its own, which is a file: ``bar.text()`` is what it shows."""
    file = io.StringIO()
    bar = RichProgressBar(
        console_kwargs={"file": file, "force_terminal": True, "width": 150, "color_system": None}, **kwargs
    )
    bar.text = lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    return bar


def frozen(bar):
    """Return the bar with a clock that stands still, so that only what must be drawn is drawn."""
    bar.clock = lambda: 100.0
    return bar


def counting(bar):
    """Return the bar, and a list that grows whenever it reads metrics."""
    reads = []
    inner = bar.get_metrics
    bar.get_metrics = lambda *args: reads.append(1) or inner(*args)
    return bar, reads


# ---------------------------------------------------------------------- lines, where there is no terminal


@pytest.mark.parametrize("kind", BARS)
def test_without_a_terminal_a_fit_is_told_in_lines(kind, trainer_with, capsys):
    bar, clock = kind(), SimpleNamespace(now=0.0)
    bar.clock = lambda: clock.now
    model = Validated(lambda: setattr(clock, "now", clock.now + 10))
    trainer_with(bar).fit(model, loader(5), loader(2))
    assert capsys.readouterr().out.splitlines() == [
        "epoch 0/1  step 0/5 (0%)",
        "epoch 0/1  step 1/5 (20%)  0.1 it/s  loss 0.25",
        "epoch 0/1  step 4/5 (80%)  0.1 it/s  eta 0:01:00  loss 0.25",
        "epoch 0/1  step 5/5 (100%)  0.1 it/s  eta 0:00:50  loss 0.25  val 0.5",
        "epoch 1/1  step 3/5 (60%)  0.1 it/s  eta 0:00:20  loss 0.25  val 0.5",
        "epoch 1/1  step 5/5 (100%)  0.1 it/s  eta 0:00:00  loss 0.25  val 0.5",
    ]


@pytest.mark.parametrize("kind", BARS)
def test_a_quick_fit_without_a_terminal_writes_its_beginning_and_its_end(kind, trainer_with, capsys):
    trainer_with(frozen(kind()), max_epochs=50).fit(Validated(), loader(2), loader(2))
    first, last = capsys.readouterr().out.splitlines()
    assert first == "epoch 0/49  step 0/2 (0%)"
    assert last == "epoch 49/49  step 2/2 (100%)  took 0:00:00  loss 0.25  val 0.5"


@pytest.mark.parametrize("kind", BARS)
def test_validate_test_and_predict_write_a_line_each(kind, trainer_with, capsys):
    trainer = trainer_with(frozen(kind()))
    trainer.validate(Validated(), loader(3), verbose=False)
    trainer.test(Model(), loader(4), verbose=False)
    trainer.predict(Model(), loader(5))
    assert capsys.readouterr().out.splitlines() == [
        "validation 3/3 (100%)  took 0:00:00  val 0.5",
        "test 4/4 (100%)  took 0:00:00  test 0.75",
        "predict 5/5 (100%)  took 0:00:00",
    ]


def test_a_long_validation_is_told_about_too(trainer_with, capsys):
    bar, clock = TQDMProgressBar(), SimpleNamespace(now=0.0)
    bar.clock = lambda: clock.now

    class SlowValidation(Model):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            clock.now += 20

    trainer_with(bar, max_epochs=1).fit(SlowValidation(), loader(1), [loader(2), loader(3)])
    told = [line for line in capsys.readouterr().out.splitlines() if "validation" in line]
    assert told == [
        "epoch 0  validation 1/2 (50%)  0.05 it/s  loss 0.25",
        "epoch 0  validation dataloader 1 1/3 (33%)  0.05 it/s  eta 0:00:40  loss 0.25",
        "epoch 0  validation dataloader 1 3/3 (100%)  0.05 it/s  eta 0:00:00  loss 0.25",
    ]


@pytest.mark.parametrize(
    "limits", [{"max_epochs": -1, "max_steps": 60}, {"max_epochs": 100, "max_steps": 60}]
)
def test_the_eta_is_that_of_the_whole_fit(trainer_with, capsys, limits):
    bar, clock = TQDMProgressBar(), SimpleNamespace(now=0.0)
    bar.clock = lambda: clock.now
    model = Model(lambda: setattr(clock, "now", clock.now + 1))
    trainer_with(bar, **limits).fit(model, loader(20))
    assert "eta 0:00:55" in capsys.readouterr().out.splitlines()[1]


def test_data_without_a_length_is_counted_on(trainer_with, capsys):
    trainer_with(frozen(TQDMProgressBar()), max_epochs=1).fit(Model(), DataLoader(Endless(), batch_size=None))
    assert capsys.readouterr().out.splitlines()[-1] == "epoch 0/0  step 7  took 0:00:00  loss 0.25"


def test_lines_hold_what_get_metrics_returns(trainer_with, capsys):
    class Mine(TQDMProgressBar):
        def get_metrics(self, trainer, pl_module):
            return {**super().get_metrics(trainer, pl_module), "mine": "yes"}

    trainer_with(frozen(Mine())).fit(Model(), loader(2))
    assert capsys.readouterr().out.splitlines()[-1].endswith("loss 0.25  mine yes")


@pytest.mark.parametrize("kind", BARS)
def test_metrics_are_read_only_for_a_line_that_is_written(kind, trainer_with):
    bar, reads = counting(frozen(kind()))
    trainer_with(bar, max_epochs=3).fit(Validated(), loader(20), loader(2))
    assert len(reads) == 1


def test_rich_is_not_loaded_for_lines_nor_tqdm_for_rich():
    program = """
        import sys, torch, levin
        loaded = set(sys.modules)
        from levin.callbacks.progress import RichProgressBar, TQDMProgressBar
        RichProgressBar(), TQDMProgressBar()
        class Model(levin.LightningModule):
            def predict_step(self, batch, batch_idx):
                return batch
        trainer = levin.Trainer(logger=False, enable_model_summary=False, accelerator="cpu")
        assert isinstance(trainer.progress_bar_callback, RichProgressBar)
        trainer.predict(Model(), torch.utils.data.DataLoader(torch.zeros(2, 1)))
        print({"rich", "tqdm"} & set(sys.modules) - loaded)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout.splitlines()[-1] == "set()"


# ---------------------------------------------------------------------- in a terminal


SCRIPT = """
import torch, levin as L
from torch.utils.data import DataLoader
from levin.callbacks.progress import RichProgressBar, TQDMProgressBar

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, batch_idx):
        self.log("loss", 0.25, prog_bar=True)
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=2,
                    callbacks=[{bar}()], enable_model_summary=False)
trainer.fit(Model(), DataLoader(torch.zeros(6, 4)))
"""


def output_in_terminal(program, columns):
    """Run a program whose terminal is a pseudo one, and return what it writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    text = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(4096):
                text += part
        except OSError:  # Linux says so when the other side is closed
            pass
    assert run.wait(60) == 0, text.decode()
    return text.decode()


@pytest.mark.parametrize("columns", [100, 0])  # script(1) makes a terminal that is 0 wide
@pytest.mark.parametrize(("kind", "bar"), [("TQDMProgressBar", "█"), ("RichProgressBar", "━")])
def test_in_a_terminal_a_bar_is_drawn_over_itself(kind, bar, columns):
    text = output_in_terminal(SCRIPT.replace("{bar}", kind), columns)
    assert "\r" in text.replace("\r\n", "\n")
    assert bar in text
    assert "6/6" in text
    assert "Epoch 1" in text


@pytest.mark.parametrize("kind", ["TQDMProgressBar", "RichProgressBar"])
def test_redirected_there_is_not_a_single_carriage_return(kind):
    program = SCRIPT.replace("{bar}", kind)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=120)
    assert b"\r" not in run.stdout + run.stderr
    assert run.stdout.decode().splitlines()[-1].startswith("epoch 1/1  step 6/6 (100%)")


@pytest.mark.parametrize("make", [LiveTQDM, live_rich])
def test_metrics_are_read_at_most_once_in_the_drawing_interval(make, trainer_with):
    bar, clock = make(refresh_rate=1), SimpleNamespace(now=0.0)
    bar.clock = lambda: clock.now
    bar, reads = counting(bar)
    model = Model(lambda: setattr(clock, "now", clock.now + 0.01))
    trainer_with(bar, max_epochs=1).fit(model, loader(200))
    assert 20 <= len(reads) <= 20 + 5  # two seconds, besides the first and the last drawings


def test_in_a_slow_terminal_the_bar_is_drawn_less_often(trainer_with):
    bar, clock, draws = LiveTQDM(), SimpleNamespace(now=0.0), []
    bar.clock = lambda: clock.now

    def slow_draw(*_):
        draws.append(clock.now)
        clock.now += 0.2

    bar._draw = slow_draw
    model = Model(lambda: setattr(clock, "now", clock.now + 0.1))
    trainer_with(bar, max_epochs=1).fit(model, loader(400))
    assert 0.2 * len(draws) < 0.06 * clock.now + 0.8


@pytest.mark.parametrize("make", [LiveTQDM, live_rich])
def test_the_last_batch_of_an_epoch_is_drawn_however_fast_it_was(make, trainer_with, capsys):
    bar = frozen(make(refresh_rate=4))
    trainer_with(bar, max_epochs=3).fit(Model(), loader(7))
    shown = capsys.readouterr().out if make is LiveTQDM else bar.text()
    assert [f"Epoch {epoch}" in shown for epoch in range(3)] == [True] * 3
    assert shown.count("7/7") >= 3


@pytest.mark.parametrize("make", [LiveTQDM, live_rich])
def test_drawing_gives_way_when_it_takes_too_long(make, trainer_with):
    bar, clock = make(), SimpleNamespace(now=0.0)
    bar.clock = lambda: clock.now
    draws = []
    inner = bar._draw

    def slow_draw(*args):
        draws.append(1)
        clock.now += 1.0  # a terminal far away
        inner(*args)

    bar._draw = slow_draw
    trainer_with(bar, max_epochs=100).fit(Model(), loader(1))
    assert len(draws) < 10


def test_the_count_moves_in_units_of_the_refresh_rate_and_ends_with_the_last_batch(trainer_with):
    bar, counts = frozen(LiveTQDM(refresh_rate=3)), []
    trainer_with(bar, max_epochs=1).fit(Model(lambda: counts.append(bar.train_progress_bar.n)), loader(8))
    assert [*counts, bar.train_progress_bar.n] == [0, 0, 0, 3, 3, 3, 6, 6, 8]


def test_rich_moves_at_least_once_a_second(trainer_with):
    bar, clock, counts = live_rich(), SimpleNamespace(now=0.0), []
    bar.clock = lambda: clock.now

    def step():
        clock.now += 0.5
        counts.append(bar.train_progress_bar.completed)

    trainer_with(bar, max_epochs=1).fit(Model(step), loader(8))
    assert bar.refresh_rate == 100
    assert counts == [0, 0, 2, 2, 4, 4, 6, 6]


def test_the_descriptions_of_tqdm_bars(trainer_with, capsys):
    trainer = trainer_with(frozen(LiveTQDM()), num_sanity_val_steps=1)
    trainer.fit(Validated(), loader(2), [loader(2), loader(3)])
    trainer.test(Model(), loader(4), verbose=False)
    trainer.predict(Model(), loader(5))
    shown = re.findall(r"[A-Z][A-Za-z ]+ ?\d?(?=:)", capsys.readouterr().out)
    assert list(dict.fromkeys(shown)) == [
        "Sanity Checking DataLoader 0",
        "Sanity Checking DataLoader 1",
        "Epoch 0",
        "Validation DataLoader 0",
        "Validation DataLoader 1",
        "Epoch 1",
        "Testing DataLoader 0",
        "Predicting DataLoader 0",
    ]


def test_the_descriptions_of_rich_bars(trainer_with):
    bar = frozen(live_rich())
    trainer = trainer_with(bar, num_sanity_val_steps=1)
    trainer.fit(Validated(), loader(2), [loader(2), loader(3)])
    trainer.test(Model(), loader(4), verbose=False)
    trainer.predict(Model(), loader(5))
    shown = re.findall(r"[A-Z][A-Za-z ]+(?:\d/\d|\d)?(?= +[━╸╺])", bar.text())
    assert list(dict.fromkeys(shown)) == [
        "Sanity Checking",
        "Sanity Checking DataLoader 1",
        "Epoch 0/1",
        "Validation",
        "Validation DataLoader 1",
        "Epoch 1/1",
        "Testing",
        "Predicting",
    ]


def test_an_epoch_without_a_last_one_has_no_total(trainer_with):
    bar = frozen(live_rich())
    trainer_with(bar, max_epochs=-1, max_steps=3).fit(Model(), loader(2))
    assert "Epoch 1 ━" in bar.text()


def test_a_tqdm_bar_shows_version_and_metrics(trainer_with, capsys, tmp_path):
    trainer_with(LiveTQDM(), logger=CSVLogger(tmp_path, version=7), log_every_n_steps=1).fit(
        Validated(), loader(2), loader(1)
    )
    assert re.search(
        r"2/2 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+it/s, v_num=7, loss=0.250, val=0.500\]", capsys.readouterr().out
    )


def test_a_rich_bar_shows_version_and_metrics(trainer_with, tmp_path):
    bar = live_rich()
    trainer_with(bar, logger=CSVLogger(tmp_path, version=7), log_every_n_steps=1).fit(
        Validated(), loader(2), loader(1)
    )
    assert re.search(r"2/2 \d:\d\d:\d\d • 0:00:00 [\d.]+it/s v_num: 7 loss: 0.250 val: 0.500", bar.text())


def test_tqdm_counts_data_without_a_length(trainer_with):
    bar = LiveTQDM()
    trainer_with(bar, max_epochs=1).fit(Model(), DataLoader(Endless(), batch_size=None))
    assert (bar.train_progress_bar.total, bar.train_progress_bar.n) == (None, 7)


def test_rich_counts_data_without_a_length(trainer_with):
    bar = live_rich()
    trainer_with(bar, max_epochs=1).fit(Model(), DataLoader(Endless(), batch_size=None))
    assert "7/--" in bar.text()


@pytest.mark.parametrize("make", [LiveTQDM, live_rich])
def test_a_fit_that_goes_on_in_the_middle_of_an_epoch_is_counted_from_there(
    make, trainer_with, tmp_path, capsys
):
    class Saving(Model):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            if batch_idx == 2:
                self.trainer.save_checkpoint(tmp_path / "half.ckpt")

    trainer_with(TQDMProgressBar(refresh_rate=0), max_epochs=1).fit(Saving(), loader(7))
    bar = frozen(make())
    trainer_with(bar, max_epochs=1).fit(Model(), loader(7), ckpt_path=tmp_path / "half.ckpt")
    shown = capsys.readouterr().out if make is LiveTQDM else bar.text()
    counts = re.findall(r"\d/7", shown)
    assert (counts[0], counts[-1]) == ("3/7", "7/7")


@pytest.mark.parametrize(("leave", "kept"), [(False, 1), (True, 3)])
def test_tqdm_bars_of_epochs_stay_if_asked_to(trainer_with, capsys, leave, kept):
    trainer_with(frozen(LiveTQDM(leave=leave)), max_epochs=3).fit(Model(), loader(2))
    rows = [row.split("\r")[-1] for row in capsys.readouterr().out.split("\n")]
    assert sum("2/2" in row for row in rows) == kept


@pytest.mark.parametrize(("leave", "kept"), [(False, 1), (True, 3)])
def test_rich_bars_of_epochs_stay_if_asked_to(trainer_with, leave, kept):
    bar = frozen(live_rich(leave=leave))
    trainer_with(bar, max_epochs=3).fit(Model(), loader(2))
    rows = [row.split("\r")[-1] for row in bar.text().split("\n")]
    assert sum("2/2" in row for row in rows) == kept


def test_a_bar_is_changed_by_overriding_how_it_is_made(trainer_with, capsys):
    class Mine(TQDMProgressBar):
        is_live = True

        def init_train_tqdm(self):
            bar = super().init_train_tqdm()
            bar.bar_format = "mine {n_fmt}"
            return bar

    trainer_with(Mine()).fit(Model(), loader(2))
    assert "mine 2" in capsys.readouterr().out


def test_the_columns_of_rich_can_be_changed(trainer_with):
    from rich.progress import TextColumn

    bar = live_rich()
    bar.configure_columns = lambda trainer: [TextColumn("only {task.description} {task.completed}")]
    trainer_with(bar).fit(Model(), loader(2))
    assert re.search(r"only Epoch 1/1 2 +loss: 0.250", bar.text())


def test_the_theme_of_rich_says_how_metrics_look(trainer_with):
    theme = RichProgressBarTheme(metrics_format=".1e", metrics_text_delimiter="; ", metrics="bold")
    bar = live_rich(theme=theme)
    trainer_with(bar).fit(Validated(), loader(2), loader(1))
    assert "loss: 2.5e-01; val: 5.0e-01" in bar.text()


@pytest.mark.parametrize("make", [LiveTQDM, live_rich])
def test_printing_goes_above_the_bar(make, trainer_with, capsys):
    class Talking(Model):
        def on_train_epoch_end(self):
            self.trainer.print("hello", "there", sep="-")

    bar = make()
    trainer_with(bar, max_epochs=1).fit(Talking(), loader(2))
    text = capsys.readouterr().out if make is LiveTQDM else bar.text()
    assert re.search(r"(^|[\r\n])hello-there *\n", text)


def test_printing_without_a_bar_is_printing(trainer_with, capsys):
    TQDMProgressBar().print("a", 1, sep=", ", end="!")
    RichProgressBar().print("b")
    assert capsys.readouterr().out == "a, 1!b\n"


@pytest.mark.parametrize("make", [LiveTQDM, live_rich])
def test_after_an_exception_the_terminal_is_free(make, trainer_with):
    bar = make()

    with pytest.raises(ZeroDivisionError):
        trainer_with(bar).fit(Model(lambda: 1 / 0), loader(2))
    if make is live_rich:
        assert bar.progress is None
    else:
        assert bar.train_progress_bar.disable


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda bar: pickle.loads(pickle.dumps(bar))])
@pytest.mark.parametrize("make", [LiveTQDM, lambda: RichProgressBar(console_kwargs={"force_terminal": True})])
def test_bars_can_be_copied_and_pickled_while_they_are_drawn(make, duplicate, capsys):
    bar = make()
    trainer = SimpleNamespace(is_global_zero=True, num_training_batches=3, current_epoch=0)
    trainer.progress, trainer.state = SimpleNamespace(unfinished=0), SimpleNamespace(fn="fit")
    bar.setup(trainer, None, "fit")
    bar.on_train_start(trainer, None)
    other = duplicate(bar)
    with pytest.raises(TypeError, match="There is no bar"):
        other.train_progress_bar  # noqa: B018  (looking it up is the test)
    bar.teardown(trainer, None, "fit")


@pytest.mark.parametrize("kind", BARS)
def test_a_refresh_rate_of_zero_shows_nothing(kind, trainer_with, capsys):
    bar = kind(refresh_rate=0)
    assert bar.is_disabled
    trainer_with(bar).fit(Validated(), loader(2), loader(2))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("make", [TQDMProgressBar, LiveTQDM, RichProgressBar, live_rich])
def test_a_bar_that_is_switched_off_in_a_run_shows_nothing_more(make, trainer_with, capsys):
    bar = make()
    model = Model(lambda: bar.disable())
    trainer_with(bar, max_epochs=1).fit(model, loader(5))
    assert "5/5" not in capsys.readouterr().out + (bar.text() if make is live_rich else "")


@pytest.mark.parametrize("kind", BARS)
def test_other_ranks_show_nothing(kind, capsys):
    bar = kind()
    bar.setup(SimpleNamespace(is_global_zero=False), None, "fit")
    assert bar.is_disabled
    bar.enable()
    assert bar.is_enabled


def test_a_trainer_says_which_bar_it_has(trainer_with):
    bar = TQDMProgressBar()
    assert trainer_with(bar).progress_bar_callback is bar


# ---------------------------------------------------------------------- what a bar knows


class Probe(ProgressBar):
    """Keeps what the base class says at some points of a run."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.seen[trainer.current_epoch] = (self.total_train_batches, self.total_val_batches)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        key = ("sanity" if trainer.sanity_checking else "val", dataloader_idx, batch_idx)
        changed = self.has_dataloader_changed(dataloader_idx)
        self.seen[key] = (changed, self.total_val_batches_current_dataloader)

    def on_validation_end(self, trainer, pl_module):
        self.reset_dataloader_idx_tracker()

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.has_dataloader_changed(dataloader_idx)
        self.seen["test"] = self.total_test_batches_current_dataloader

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.has_dataloader_changed(dataloader_idx)
        self.seen["predict"] = self.total_predict_batches_current_dataloader


def test_the_totals_of_batches(trainer_with):
    probe = Probe()
    trainer = trainer_with(probe, check_val_every_n_epoch=2, num_sanity_val_steps=1)
    trainer.fit(Validated(), loader(4), [loader(2), loader(3)])
    trainer.test(Model(), loader(5), verbose=False)
    trainer.predict(Model(), loader(6))
    assert probe.seen == {
        ("sanity", 0, 0): (True, 1),
        ("sanity", 1, 0): (True, 1),
        0: (4, 0),
        1: (4, 5),
        **{("val", 0, i): (i == 0, 2) for i in range(2)},
        **{("val", 1, i): (i == 0, 3) for i in range(3)},
        "test": 5,
        "predict": 6,
    }


def test_a_bar_of_ones_own_writes_no_lines(trainer_with, capsys):
    trainer_with(Probe()).fit(Model(), loader(2))
    assert capsys.readouterr().out == ""


def test_a_bar_without_a_run_has_no_trainer():
    with pytest.raises(TypeError, match="when a run begins"):
        ProgressBar().trainer  # noqa: B018  (looking it up is the test)


def test_a_bar_without_a_batch_has_no_loader():
    bar = ProgressBar()
    bar._trainer = SimpleNamespace(num_test_batches=[1])
    with pytest.raises(TypeError, match="first batch"):
        bar.total_test_batches_current_dataloader  # noqa: B018  (looking it up is the test)


@pytest.mark.parametrize("name", ["train", "val", "test", "predict"])
@pytest.mark.parametrize("kind", BARS)
def test_a_bar_that_is_not_there_is_said_to_be_missing(kind, name):
    with pytest.raises(TypeError, match="There is no bar"):
        getattr(kind(), f"{name}_progress_bar")


def test_a_bar_can_be_put_in_place_of_another(trainer_with):
    bar = TQDMProgressBar()
    for name in ("train", "val", "test", "predict"):
        setattr(bar, f"{name}_progress_bar", name)
        assert getattr(bar, f"{name}_progress_bar") == name


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], {}),
        ([None], {}),
        ([3], {"v_num": 3}),
        (["20240101-abcd"], {"v_num": "abcd"}),
        ([0, "xyz"], {"v_num": "_xyz"}),
    ],
)
def test_the_version_stands_beside_the_bar(versions, expected):
    trainer = SimpleNamespace(loggers=[SimpleNamespace(version=version) for version in versions])
    assert get_standard_metrics(trainer) == expected


def test_a_metric_that_takes_the_place_of_the_version_is_warned_about(trainer_with, tmp_path):
    class Clash(Model):
        def training_step(self, batch, batch_idx):
            self.log("v_num", 3.0, prog_bar=True)
            return super().training_step(batch, batch_idx)

    trainer = trainer_with(TQDMProgressBar(), logger=CSVLogger(tmp_path), log_every_n_steps=1)
    with pytest.warns(UserWarning, match="'v_num'"):
        trainer.fit(Clash(), loader(2))


def test_an_unknown_bar_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'TqdmProgressBar'.*TQDMProgressBar"):
        levin.callbacks.progress.TqdmProgressBar  # noqa: B018  (looking it up is the test)
    assert set(levin.callbacks.progress.__all__) <= set(dir(levin.callbacks.progress))


# ---------------------------------------------------------------------- tqdm's numbers and settings


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (100000, "1e+5"),
        (1.0, "1.000"),
        (0.123456, "0.123"),
        (-1.5, "-1.50"),
        (1e-8, "1e-8"),
        (12345.6, "12345.6"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("12", "12.00"),
        ("abcd", "abcd"),
    ],
)
def test_numbers_beside_a_bar_keep_their_width(number, text):
    assert tqdm_module.Tqdm.format_num(number) == text


@pytest.mark.parametrize(
    ("environment", "given", "resolved"),
    [
        ({}, 3, 3),
        ({"TQDM_MINITERS": "5"}, 1, 5),
        ({"TQDM_MINITERS": "5"}, 10, 10),
        ({"TQDM_MINITERS": "5"}, 0, 0),
        ({"TQDM_MINITERS": "many"}, 2, 2),
        ({"COLAB_GPU": "1"}, 1, 20),
        ({"COLAB_GPU": "1"}, 7, 7),
    ],
)
def test_the_refresh_rate_depends_on_the_environment(monkeypatch, environment, given, resolved):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert TQDMProgressBar(refresh_rate=given).refresh_rate == resolved


def test_bars_start_below_those_of_other_processes(trainer_with):
    bar, places = LiveTQDM(process_position=2), []

    class Looking(Validated):
        def validation_step(self, batch, batch_idx):
            places.extend([abs(bar.train_progress_bar.pos), abs(bar.val_progress_bar.pos)])

    trainer_with(bar, max_epochs=1).fit(Looking(), loader(1), loader(1))
    assert (bar.process_position, places) == (2, [4, 5])


@pytest.mark.parametrize(("kind", "package"), [(TQDMProgressBar, "tqdm"), (RichProgressBar, "rich")])
def test_a_missing_package_is_named(kind, package, monkeypatch, trainer_with):
    tqdm_module._tqdm_class.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=f"`{package}` is needed"):
        trainer_with(kind()).fit(Model(), loader(1))


def test_a_kernel_of_jupyter_draws_bars(monkeypatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert TQDMProgressBar().is_live


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("TERM", "dumb")
    assert not TQDMProgressBar().is_live
    monkeypatch.setenv("TERM", "xterm")
    assert TQDMProgressBar().is_live
