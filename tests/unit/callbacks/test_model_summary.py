from __future__ import annotations

import io
import logging
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import levin as L
from levin.callbacks.model_summary import ModelSummary as SummaryCallback
from levin.callbacks.model_summary import RichModelSummary
from levin.utils.model_summary import (
    DeepSpeedSummary,
    LayerSummary,
    ModelSummary,
    get_formatted_model_size,
    get_human_readable_count,
    parse_batch_shape,
    summarize,
)


class Net(L.LightningModule):
    """Two layers and a parameter of its own; part of it is frozen, part in eval mode."""

    def __init__(self, example=None):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2))
        self.norm = nn.BatchNorm1d(2)
        self.scale = nn.Parameter(torch.ones(5))
        self.norm.weight.requires_grad = False
        self.norm.eval()
        self.example_input_array = example

    def forward(self, x):
        return self.norm(self.encoder(x)) * self.scale.sum()

    def training_step(self, batch, batch_idx):
        return self(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def text(golden):
    return textwrap.dedent(golden).strip("\n")


@pytest.fixture
def log(caplog):
    logger = logging.getLogger("levin")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


# ---------------------------------------------------------------------- the table


def test_the_table_of_a_module():
    assert str(ModelSummary(Net())) == text("""
          | Name         | Type        | Params | Mode
        --------------------------------------------------
        0 | encoder      | Sequential  | 2.2 K  | train
        1 | norm         | BatchNorm1d | 4      | eval
          | other params | n/a         | 5      | n/a
        --------------------------------------------------
        2.2 K     Trainable params
        2         Non-trainable params
        2.3 K     Total params
        0.009     Total estimated model params size (MB)
        4         Modules in train mode
        1         Modules in eval mode
    """)


def test_the_table_of_all_layers_with_an_example_input():
    assert str(ModelSummary(Net(torch.zeros(4, 32)), max_depth=-1)) == text("""
          | Name         | Type        | Params | Mode  | FLOPs  | In sizes | Out sizes
        ----------------------------------------------------------------------------------
        0 | encoder      | Sequential  | 2.2 K  | train | 17.4 K | [4, 32]  | [4, 2]
        1 | encoder.0    | Linear      | 2.1 K  | train | 16.4 K | [4, 32]  | [4, 64]
        2 | encoder.1    | ReLU        | 0      | train | 0      | [4, 64]  | [4, 64]
        3 | encoder.2    | Linear      | 130    | train | 1.0 K  | [4, 64]  | [4, 2]
        4 | norm         | BatchNorm1d | 4      | eval  | 0      | [4, 2]   | [4, 2]
          | other params | n/a         | 5      | n/a   | n/a    | n/a      | n/a
        ----------------------------------------------------------------------------------
        2.2 K     Trainable params
        2         Non-trainable params
        2.3 K     Total params
        0.009     Total estimated model params size (MB)
        4         Modules in train mode
        1         Modules in eval mode
        17.4 K    Total Flops
    """)


def test_the_table_of_an_empty_module():
    class Empty(L.LightningModule):
        pass

    assert str(ModelSummary(Empty())).splitlines()[:3] == [
        "  | Name | Type | Params | Mode",
        "----------------------------------",
        "----------------------------------",
    ]


@pytest.mark.parametrize(
    ("max_depth", "names"),
    [
        (0, []),
        (1, ["encoder", "norm"]),
        (2, ["encoder", "encoder.0", "encoder.1", "encoder.2", "norm"]),
        (-1, ["encoder", "encoder.0", "encoder.1", "encoder.2", "norm"]),
    ],
)
def test_max_depth_says_how_deep_to_go(max_depth, names):
    summary = summarize(Net(), max_depth)
    assert summary.layer_names == [name for name, _ in summary.named_modules] == names
    assert summary.total_parameters == 2251


@pytest.mark.parametrize("max_depth", [-2, 1.0, "all", None])
@pytest.mark.parametrize(
    "make", [lambda depth: ModelSummary(Net(), depth), SummaryCallback, RichModelSummary]
)
def test_another_depth_is_refused(make, max_depth):
    with pytest.raises(ValueError, match="max_depth"):
        make(max_depth)


def test_what_a_summary_knows():
    summary = ModelSummary(Net(torch.zeros(4, 32)))
    assert summary.layer_types == ["Sequential", "BatchNorm1d"]
    assert summary.param_nums == [2242, 4]
    assert summary.training_modes == [True, False]
    assert summary.in_sizes == [[4, 32], [4, 2]]
    assert summary.out_sizes == [[4, 2], [4, 2]]
    assert summary.total_parameters == 2251
    assert summary.trainable_parameters == 2249
    assert summary.total_layer_params == 2246
    assert summary.model_size == pytest.approx(2251 * 4 / 1e6)
    assert summary.total_training_modes == {"train": 4, "eval": 1}
    assert summary.flop_counts == {"encoder": 2 * 4 * (32 * 64 + 64 * 2), "norm": 0}
    assert summary.total_flops == 17408


def test_without_an_example_sizes_and_flops_are_not_known():
    summary = ModelSummary(Net())
    assert summary.in_sizes == summary.out_sizes == ["?", "?"]
    assert (summary.total_flops, summary.flop_counts) == (0, {})


def test_a_plain_module_has_a_summary_too():
    assert ModelSummary(nn.Sequential(nn.Linear(2, 3))).param_nums == [9]


def test_shared_parameters_count_once():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    model["again"] = model["a"]
    summary = ModelSummary(model)
    assert summary.layer_names == ["a", "b"]
    assert summary.total_parameters == summary.total_layer_params == 15
    assert "other params" not in str(summary)


def test_the_size_follows_the_precision():
    assert ModelSummary(nn.Linear(10, 10, bias=False).half()).model_size == pytest.approx(200e-6)


def test_parameters_that_the_first_batch_makes_are_marked():
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3))
    with pytest.warns(UserWarning, match="made by the first batch"):
        summary = ModelSummary(model)
    assert (summary.param_nums, summary.total_parameters) == ([0, 12], 12)
    assert dict(summary.table())["Params"] == ["~0  ", "12  "]


def test_the_example_makes_lazy_parameters():
    class Lazy(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.LazyLinear(3)
            self.example_input_array = torch.zeros(2, 5)

        def forward(self, x):
            return self.layer(x)

    summary = ModelSummary(Lazy())
    assert (summary.param_nums, summary.in_sizes) == ([18], [[2, 5]])


# ---------------------------------------------------------------------- the example input


def test_looking_at_a_model_leaves_it_as_it_was():
    model = Net(torch.randn(4, 32))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    ModelSummary(model, max_depth=-1)
    assert [module.training for module in model.modules()] == [True, True, True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_is_left_as_it_was_even_if_its_forward_fails():
    model = Net(torch.randn(4, 7))
    with pytest.raises(RuntimeError, match="shape"):
        ModelSummary(model)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_the_example_is_sent_through_in_eval_mode_without_gradients():
    seen = []

    class Looking(Net):
        def forward(self, x):
            torch.rand(3)
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    model, state = Looking(torch.zeros(1, 32)), torch.get_rng_state()
    ModelSummary(model)
    assert seen == [(False, False)]
    assert torch.equal(torch.get_rng_state(), state)


class Pair(L.LightningModule):
    def __init__(self, example):
        super().__init__()
        self.left, self.right = nn.Linear(2, 3), nn.Linear(4, 5)
        self.both = nn.Bilinear(3, 5, 1)
        self.example_input_array = example

    def forward(self, x, y):
        left, right = self.left(x), self.right(y)
        return self.both(left, right), [left, {"right": right}]


@pytest.mark.parametrize(
    "example",
    [(torch.zeros(1, 2), torch.zeros(1, 4)), {"y": torch.zeros(1, 4), "x": torch.zeros(1, 2)}],
)
def test_an_example_may_be_several_arguments(example):
    summary = ModelSummary(Pair(example))
    assert summary.in_sizes == [[1, 2], [1, 4], [[1, 3], [1, 5]]]
    assert summary.out_sizes == [[1, 3], [1, 5], [1, 1]]


def test_a_float_example_follows_the_precision_of_the_model():
    assert ModelSummary(Net(torch.zeros(4, 32)).double()).out_sizes == [[4, 2], [4, 2]]


def test_a_layer_used_twice_has_the_sizes_of_the_first_time():
    class Twice(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.ReLU()
            self.example_input_array = torch.zeros(2, 3)

        def forward(self, x):
            return self.layer(self.layer(x)[:1])

    assert ModelSummary(Twice()).in_sizes == [[2, 3]]


def test_flops_are_counted_without_loading_anything_before_they_are_needed():
    program = """
        import sys, torch
        before = set(sys.modules)
        from levin.utils.model_summary import ModelSummary
        ModelSummary(torch.nn.Linear(1, 1))
        print({"torch._dynamo", "sympy", "rich", "torch.utils.flop_counter"} & (set(sys.modules) - before))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout == "set()\n"


# ---------------------------------------------------------------------- one layer, one number


def test_a_layer_by_itself():
    layer = LayerSummary(nn.Linear(3, 4))
    assert (layer.layer_type, layer.num_parameters, layer.training) == ("Linear", 16, True)
    assert (layer.in_size, layer.out_size) == ("?", "?")


def test_a_watched_layer_notes_the_first_sizes_only():
    module = nn.LSTM(2, 3, batch_first=True)
    layer = LayerSummary(module)
    layer.watch()
    module(torch.zeros(4, 5, 2))
    module(torch.zeros(1, 1, 2))
    assert layer.in_size == [4, 5, 2]
    assert layer.out_size == [[4, 5, 3], [[1, 4, 3], [1, 4, 3]]]


@pytest.mark.parametrize(
    ("batch", "shape"),
    [
        (torch.zeros(2, 3), [2, 3]),
        ([torch.zeros(1), torch.zeros(2, 2)], [[1], [2, 2]]),
        ((torch.zeros(1), [torch.zeros(2)]), [[1], [[2]]]),
        ({"a": torch.zeros(2)}, "?"),
        (None, "?"),
    ],
)
def test_the_shape_of_a_batch(batch, shape):
    assert parse_batch_shape(batch) == shape


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0  "),
        (66, "66  "),
        (999, "999  "),
        (1000, "1.0 K"),
        (1234, "1.2 K"),
        (123456, "123 K"),
        (999_999, "999 K"),
        (1_000_000, "1.0 M"),
        (3_400_000, "3.4 M"),
        (30_000_000, "30.0 M"),
        (10**9, "1.0 B"),
        (10**12, "1.0 T"),
        (4 * 10**15, "4,000 T"),
    ],
)
def test_counts_are_readable(number, shown):
    assert get_human_readable_count(number) == shown


def test_a_count_below_zero_is_refused():
    with pytest.raises(ValueError, match="-1"):
        get_human_readable_count(-1)


def test_sizes_are_readable():
    assert [get_formatted_model_size(size) for size in (0.0, 0.0012, 12345.678)] == [
        "0.000",
        "0.001",
        "12,345.678",
    ]


def test_dealt_out_parameters_are_counted_in_all_and_on_this_device():
    layer = nn.Linear(4, 5, bias=False)
    layer.weight = nn.Parameter(torch.zeros(0))
    layer.weight.ds_numel, layer.weight.ds_tensor = 20, torch.zeros(10)
    summary = DeepSpeedSummary(nn.Sequential(layer))
    assert (summary.param_nums, summary.parameters_per_layer) == ([20], [10])
    assert dict(summary.table())["Params per Device"] == ["10  "]


# ---------------------------------------------------------------------- the callbacks


@pytest.fixture
def fit(tmp_path):
    def run(callback, model=None):
        trainer = L.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            max_epochs=1,
            callbacks=[callback],
            default_root_dir=tmp_path,
        )
        trainer.fit(model or Net(), torch.utils.data.DataLoader(torch.zeros(4, 32), batch_size=4))

    return run


def test_the_callback_logs_the_table(fit, log):
    fit(SummaryCallback())
    assert "\n  | Name         | Type        | Params | Mode\n" in log.text
    assert "2.3 K     Total params" in log.text


def test_depth_zero_prints_nothing(fit, log):
    fit(SummaryCallback(max_depth=0))
    assert "Params" not in log.text


def test_other_ranks_print_nothing(log):
    trainer = SimpleNamespace(is_global_zero=False, strategy=SimpleNamespace())
    SummaryCallback().on_fit_start(trainer, Net())
    assert log.text == ""


def test_a_model_with_dealt_out_parameters_gets_a_summary_that_knows(log):
    trainer = SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(zero_stage_3=True))
    SummaryCallback().on_fit_start(trainer, Net())
    assert "Params per Device" in log.text


def test_a_subclass_can_do_something_else_with_the_table(fit):
    kept = {}

    class Keeping(SummaryCallback):
        @staticmethod
        def summarize(
            summary_data,
            total_parameters,
            trainable_parameters,
            model_size,
            total_training_modes,
            total_flops,
            **summarize_kwargs,
        ):
            kept.update(locals())

    fit(Keeping(max_depth=1, colour="blue"))
    assert kept["summary_data"][1] == ("Name", ["encoder", "norm", "other params"])
    assert (kept["total_parameters"], kept["trainable_parameters"]) == (2251, 2249)
    assert (kept["total_training_modes"], kept["total_flops"]) == ({"train": 4, "eval": 1}, 0)
    assert kept["summarize_kwargs"] == {"colour": "blue"}


def test_the_rich_callback_prints_the_table_as_wide_as_it_needs_to_be(fit, capsys):
    model = Net(torch.zeros(4, 32))
    model.a_layer_with_a_name_that_is_longer_than_a_terminal_is_wide_which_is_eighty_characters = (
        nn.Identity()
    )
    fit(RichModelSummary(max_depth=-1), model)
    shown = capsys.readouterr().out
    assert "a_layer_with_a_name_that_is_longer_than_a_terminal_is_wide_which_is_eighty_characters" in shown
    assert [line.split("│")[3].strip() for line in shown.splitlines() if "norm" in line] == ["BatchNorm1d"]
    assert "17.4 K Total Flops" in shown


def test_options_of_the_rich_callback_are_those_of_its_table(fit, capsys):
    fit(RichModelSummary(title="My layers"))
    assert "My layers" in capsys.readouterr().out


def test_the_rich_callback_draws_in_the_terminals_width(monkeypatch):
    import rich
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    summary = ModelSummary(Net(torch.zeros(4, 32)))
    RichModelSummary.summarize(summary.table(), 2251, 2249, 0.009, {"train": 4, "eval": 1}, 17408)
    assert max(map(len, file.getvalue().splitlines())) <= 60


def test_without_rich_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ModuleNotFoundError, match="pip install rich"):
        RichModelSummary()
