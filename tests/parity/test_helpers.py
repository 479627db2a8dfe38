"""The helpers that programs import give what Lightning's give, and refuse what those refuse."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from levin import utilities as ours

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

Pair = namedtuple("Pair", "a b")
CPU = torch.device("cpu")
BORING = "demos.boring_classes"
ZEROS = torch.zeros(3, 2)


@dataclass
class Both:
    a: Any
    b: Any = 2


def with_gradients() -> nn.Module:
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(2, 1)})
    model["b"].weight.requires_grad_(False)
    model["b"](model["a"](torch.ones(2, 3))).sum().backward()
    return model


def tied() -> nn.Module:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    model["b"].weight, model["c"].bias = model["a"].weight, model["a"].bias
    return model


def plus_one(x: Any) -> Any:
    return x + 1


MODEL, TIED = with_gradients(), tied()
BATCHES = [
    ZEROS, {"a": "text", "b": ZEROS}, {"a": ZEROS, "b": torch.zeros(5)}, [torch.tensor(0.0)], (ZEROS,),
    Pair(ZEROS, 1), Both(ZEROS), [torch.zeros(7, 2), [ZEROS]], {"x": [torch.zeros(0, 3)]}, [None, ZEROS],
    "text", ["text"], {}, [[1, 2]], 5,
]  # fmt: skip
NESTED = [ZEROS, [ZEROS, "a"], {"a": ZEROS}, Pair(ZEROS, 2), Both(ZEROS), None, 3, "text"]
ERRORS = [
    RuntimeError("CUDA out of memory. Tried to allocate"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("something else"), ValueError("CUDA out of memory."),
]  # fmt: skip

# where Lightning has it (below `lightning.pytorch.utilities`) and its name -> what it is called with
CALLS: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    ("data", "extract_batch_size"): [(batch,) for batch in BATCHES],
    ("model_summary", "get_human_readable_count"): [
        (n,) for n in (0, 1, 99, 123, 1234, 12345, 123456, 2 * 10**6, 3 * 10**9, 4 * 10**14, 5 * 10**15)
    ],
    ("model_summary", "get_formatted_model_size"): [(0.0,), (1.2345,), (1e6,)],
    ("model_summary", "parse_batch_shape"): [
        (batch,)
        for batch in (ZEROS, [ZEROS, torch.zeros(1)], (ZEROS, [ZEROS]), {"a": ZEROS}, "a", None, [], 3)
    ],
    ("", "suggested_max_num_workers"): [(1,), (2,), (3,), (1000,), (0,), (-1,)],
    ("", "AttributeDict"): [({},), ({"a": 1, "b": "x"},), ({"long_name": [1, 2], "b": {"c": 1}},)],
    ("", "grad_norm"): [(MODEL, p) for p in (1, 2, "2", 2.0, 0.5, "inf", float("inf"), 0, -1, "x")],
    ("", "find_shared_parameters"): [(MODEL,), (TIED,)],
    ("", "is_picklable"): [(1,), (plus_one,), (lambda: 0,), (MODEL,)],
    ("", "move_data_to_device"): [(batch, CPU) for batch in NESTED],
    ("memory", "is_oom_error"): [(error,) for error in ERRORS],
    ("memory", "is_cuda_out_of_memory"): [(error,) for error in ERRORS],
    ("memory", "is_cudnn_snafu"): [(error,) for error in ERRORS],
    ("memory", "is_out_of_cpu_memory"): [(error,) for error in ERRORS],
}
CASES = [(where, name, given) for (where, name), calls in CALLS.items() for given in calls]

APPLIED = [
    ([1, "a", {"b": 2}], int, plus_one), (Pair(1, 2.0), int, plus_one), (Both(1, "x"), int, plus_one),
((1, 2), int, plus_one), (OrderedDict(a=1), int, plus_one),
    (defaultdict(list, {"a": 1}), int, plus_one), (None, int, plus_one), (1, int, plus_one),
]  # fmt: skip


def outcome(fn, *given, **more):
    """Return what a call gives, or the class of what it raises, in a form that can be compared."""
    try:
        return repr(fn(*given, **more))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("where", "name", "given"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_helper_gives_what_lightnings_gives(where, name, given):
    theirs = import_module(f"lightning.pytorch.utilities.{where}".rstrip("."))
    assert outcome(getattr(ours, name), *given) == outcome(getattr(theirs, name), *given)


@pytest.mark.parametrize("given", APPLIED, ids=lambda given: str(given).partition(" at 0x")[0])
def test_a_function_is_applied_to_the_same_parts(given):
    theirs = import_module("lightning_utilities.core.apply_func").apply_to_collection
    assert outcome(ours.apply_to_collection, *given) == outcome(theirs, *given)


def flops(measure, with_loss):
    with torch.device("meta"):
        layer, batch = nn.Linear(4, 3), torch.randn(2, 4)
    return measure(layer, lambda: layer(batch), (lambda out: out.sum()) if with_loss else None)


@pytest.mark.parametrize("with_loss", [False, True])
def test_as_many_operations_are_counted(with_loss):
    theirs = import_module("lightning.pytorch.utilities").measure_flops
    assert flops(ours.measure_flops, with_loss) == flops(theirs, with_loss) > 0


def rates(throughput):
    seen = []
    for i in range(1, 5):
        throughput.update(time=i * 2.0, batches=i, samples=i * 3, lengths=i * 7, flops=100)
        seen.append(throughput.compute())
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        {"window_size": 2}, {"window_size": 3, "available_flops": 1000.0}, {"window_size": 100},
        {"window_size": 2, "world_size": 2}, {"window_size": 2, "separator": "-"},
    ],
    ids=str,
)  # fmt: skip
def test_rates_have_the_same_names_and_values(settings):
    theirs = import_module("lightning.fabric.utilities.throughput").Throughput(**settings)
    assert rates(ours.Throughput(**settings)) == [pytest.approx(row) for row in rates(theirs)]


FIRST = {"time": 1.0, "batches": 1, "samples": 2, "lengths": 4}
SECOND = {"time": 2.0, "batches": 2, "samples": 4, "lengths": 8}


@pytest.mark.parametrize(
    "wrong", [{"time": 0.5}, {"batches": 1}, {"samples": 2}, {"samples": 1}, {"lengths": 3}], ids=str
)
def test_updates_that_do_not_grow_are_refused(wrong):
    for library in (ours, import_module("lightning.fabric.utilities.throughput")):
        throughput = library.Throughput(window_size=2)
        throughput.update(**FIRST)
        with pytest.raises(ValueError, match=r"\w"):
            throughput.update(**{**SECOND, **wrong})


def summary(model_summary, boring_classes, levels):
    model = boring_classes.BoringModel()
    model.example_input_array = torch.ones(2, 32)
    made = model_summary.ModelSummary(model, max_depth=levels)
    return [
        made.layer_names, made.layer_types, made.param_nums, made.in_sizes, made.out_sizes,
        made.total_parameters, made.trainable_parameters, round(made.model_size, 9), made.total_flops,
        made.training_modes, made.total_training_modes,
    ]  # fmt: skip


@pytest.mark.parametrize("levels", [0, 1, -1])
def test_a_summary_counts_the_same(levels):
    theirs = [import_module(f"lightning.pytorch.{name}") for name in ("utilities.model_summary", BORING)]
    assert summary(ours, import_module(f"levin.{BORING}"), levels) == summary(*theirs, levels)


@pytest.mark.parametrize("name", ["BoringModel", "ManualOptimBoringModel", "DemoModel", "Net"])
def test_a_boring_model_draws_the_same_weights(name):
    weights = []
    for library in ("levin", "lightning.pytorch"):
        torch.manual_seed(0)
        model = getattr(import_module(f"{library}.{BORING}"), name)()
        weights.append({key: value.tolist() for key, value in model.state_dict().items()})
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "name", ["RandomDataset", "RandomDictDataset", "RandomIterableDataset", "RandomIterableDatasetWithLen"]
)
def test_a_boring_dataset_draws_the_same_rows(name):
    rows = []
    for library in ("levin", "lightning.pytorch"):
        torch.manual_seed(0)
        dataset = getattr(import_module(f"{library}.{BORING}"), name)(3, 4)
        drawn = list(dataset) if "Iterable" in name else [dataset[i] for i in range(4)]
        rows.append((repr(drawn), outcome(len, dataset)))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", ["BoringDataModule", "BoringDataModuleNoLen", "IterableBoringDataModule"])
def test_a_boring_data_module_draws_the_same_batches(name):
    batches = []
    for library in ("levin", "lightning.pytorch"):
        torch.manual_seed(0)
        data = getattr(import_module(f"{library}.{BORING}"), name)()
        for stage in ("fit", "validate", "test", "predict"):
            data.setup(stage)
        loaders = [
            data.train_dataloader(),
            data.val_dataloader(),
            data.test_dataloader(),
            data.predict_dataloader(),
        ]
        batches.append(
            [[list(part) for part in found] if isinstance(found, list) else list(found) for found in loaders]
        )
    assert repr(batches[0]) == repr(batches[1])
