from __future__ import annotations

import pytest
import torch
from torch import nn

from levin.utils.throughput import _DISTINCTIONS, _PEAKS, Throughput, get_available_flops, measure_flops

CUDA = torch.device("cuda", 0)


def after(num_updates: int, throughput: Throughput, **per_batch: int) -> dict[str, float]:
    """Update every two seconds with a batch of four samples; return what is computed in the end."""
    for i in range(1, num_updates + 1):
        counts = {name: n if name == "flops" else n * i for name, n in per_batch.items()}
        throughput.update(time=2.0 * i, batches=i, samples=4 * i, **counts)
    return throughput.compute()


def test_before_the_first_update_there_is_nothing():
    assert Throughput().compute() == {}


def test_rates_wait_for_a_full_window():
    assert after(2, Throughput(window_size=3), lengths=40) == {
        "time": 4.0, "batches": 2, "samples": 8, "lengths": 80,
    }  # fmt: skip


def test_rates_of_one_device():
    assert after(3, Throughput(window_size=3), lengths=40, flops=10) == {
        "time": 6.0,
        "batches": 3,
        "samples": 12,
        "lengths": 120,
        "device/batches_per_sec": 0.5,
        "device/samples_per_sec": 2.0,
        "device/items_per_sec": 20.0,
        "device/flops_per_sec": 5.0,
    }


def test_several_devices_and_what_they_could_do():
    throughput = Throughput(available_flops=50, world_size=4, window_size=2, separator="|")
    computed = after(2, throughput, flops=10)
    rates = {name: value for name, value in computed.items() if "sec" in name or "mfu" in name}
    assert rates == {
        "device|batches_per_sec": 0.5,
        "device|samples_per_sec": 2.0,
        "device|flops_per_sec": 5.0,
        "batches_per_sec": 2.0,
        "samples_per_sec": 8.0,
        "flops_per_sec": 20.0,
        "device|mfu": 0.1,
    }


def test_the_window_forgets_what_was_before_it():
    throughput = Throughput(window_size=2)
    throughput.update(time=100.0, batches=1, samples=1)  # a slow first batch
    throughput.update(time=101.0, batches=2, samples=2)
    throughput.update(time=102.0, batches=3, samples=3)
    assert throughput.compute()["device/batches_per_sec"] == 1.0


def test_operations_that_were_not_always_counted_give_no_rate():
    throughput = Throughput(available_flops=1, window_size=3)
    throughput.update(time=1.0, batches=1, samples=1, flops=5)
    throughput.update(time=2.0, batches=2, samples=2, flops=5)
    throughput.update(time=3.0, batches=3, samples=3)
    assert not {"device/flops_per_sec", "device/mfu"} & set(throughput.compute())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time": 1.0}, "time=1.0 has to be more than in the last update, where it was 1.0"),
        ({"batches": 1}, "batches=1 has to be more"),
        ({"samples": 4}, "samples=4 has to be more"),
        ({"lengths": 40}, "lengths=40 has to be more"),
        ({"samples": 1}, "samples=1 is less than batches=2"),
        ({"lengths": 5}, "lengths=5 is less than samples=8"),
    ],
)
def test_counts_must_grow_and_fit_and_otherwise_nothing_is_noted(changed, message):
    throughput = Throughput()
    throughput.update(time=1.0, batches=1, samples=4, lengths=40)
    before = throughput.compute()
    with pytest.raises(ValueError, match=message):
        throughput.update(**{"time": 2.0, "batches": 2, "samples": 8, "lengths": 80, **changed})
    assert throughput.compute() == before


def test_after_a_reset_counts_may_begin_anew():
    throughput = Throughput(window_size=2)
    after(2, throughput)
    throughput.reset()
    assert after(1, throughput) == {"time": 2.0, "batches": 1, "samples": 4}


@pytest.mark.parametrize(
    "arguments",
    [{"available_flops": 0}, {"world_size": 0}, {"window_size": 1}],
    ids=lambda given: next(iter(given)),
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Throughput(**arguments)


def test_a_forward_pass_is_two_operations_for_each_weight_and_sample():
    with torch.device("meta"):
        model, batch = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10)), torch.randn(4, 30)
    assert measure_flops(model, lambda: model(batch)) == 2 * 4 * (30 * 20 + 20 * 10)


def test_a_backward_pass_costs_as_much_for_weights_and_again_for_inputs():
    model, batch = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 10)), torch.randn(4, 30)
    first, second = 2 * 4 * 30 * 20, 2 * 4 * 20 * 10
    measured = measure_flops(model, lambda: model(batch), torch.sum)
    assert measured == (first + second) + first + 2 * second  # the input of the first layer needs no gradient


def test_measuring_leaves_gradients_alone():
    model = nn.Linear(2, 1)
    model.weight.grad = torch.ones(1, 2)
    measure_flops(model, lambda: model(torch.ones(1, 2)), torch.sum)
    assert model.weight.grad.tolist() == [[1.0, 1.0]]
    assert model.bias.grad is None


def test_measuring_that_fails_leaves_gradients_alone():
    model = nn.Linear(2, 1)
    model.weight.grad = torch.ones(1, 2)
    with pytest.raises(RuntimeError):
        measure_flops(model, lambda: model(torch.ones(1, 3)))
    assert model.weight.grad is not None


@pytest.fixture
def a_device(monkeypatch):
    """Let the CUDA device have the name that is given."""
    return lambda name: monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989.4),
        ("NVIDIA H100 PCIe", "float16", 756),
        ("NVIDIA H100 NVL", torch.bfloat16, 835.5),
        ("NVIDIA H200", torch.float8_e4m3fn, 1978.9),
        ("NVIDIA B200", torch.bfloat16, 2250),
        ("NVIDIA A100-SXM4-80GB", torch.float64, 9.7),
        ("NVIDIA A100 80GB PCIe", "tf32", 156),
        ("Tesla V100-SXM2-16GB", torch.float16, 125),
        ("Tesla V100-PCIE-16GB", torch.float16, 112),
        ("Tesla V100S-PCIE-32GB", torch.float32, 16.4),
        ("Tesla T4", torch.int8, 130),
        ("NVIDIA L40S", torch.bfloat16, 362),
        ("NVIDIA A10G", torch.float16, 70),
        ("NVIDIA GeForce RTX 4080 SUPER", torch.float32, 52.2),
        ("NVIDIA GeForce RTX 4080", torch.float32, 48.7),
        ("NVIDIA GeForce RTX 3090 Ti", torch.bfloat16, 80),
        ("NVIDIA RTX 6000 Ada Generation", torch.bfloat16, 364.2),
        ("Quadro RTX 6000", torch.float16, 130.5),
        ("AMD Instinct MI300X", torch.bfloat16, 1307.4),
    ],
)
def test_a_known_device_is_found_by_its_name(a_device, name, dtype, tera):
    a_device(name)
    assert get_available_flops(CUDA, dtype) == round(tera * 10**12)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3070 Ti",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A1000",
        "Some Device",
    ],
)
def test_a_device_that_is_only_similar_is_not_known(a_device, name):
    a_device(name)
    with pytest.warns(UserWarning, match=f"'{name}' can do is not known here.*available_flops"):
        assert get_available_flops(CUDA, torch.float32) is None


def test_a_type_that_a_device_has_not_is_told_with_those_it_has(a_device):
    a_device("Tesla T4")
    with pytest.warns(UserWarning, match="with bfloat16 is not known here. Known: float32, float16, int8"):
        assert get_available_flops(CUDA, torch.bfloat16) is None


@pytest.mark.parametrize(("precision", "tera"), [("highest", 66.9), ("high", 494.7), ("medium", 494.7)])
def test_float32_is_as_fast_as_the_products_may_be_rounded(a_device, precision, tera):
    a_device("NVIDIA H200")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert get_available_flops(CUDA, torch.float32) == round(tera * 10**12)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("kind", ["cpu", "mps", "meta"])
def test_other_kinds_of_devices_are_not_in_the_table(kind):
    assert get_available_flops(torch.device(kind), torch.float32) is None


def test_no_line_of_the_table_hides_a_later_one():
    lines = [set(line.split()) for line in _PEAKS]
    for index, line in enumerate(lines):
        for later in lines[index + 1 :]:
            assert not (line <= later and not (later & _DISTINCTIONS) - line), (line, later)


@pytest.mark.parametrize("line", _PEAKS)
def test_fewer_bits_are_never_slower(line):
    known = [peak for peak in _PEAKS[line][:4] if peak]  # float64, float32, tf32, float16
    assert known == sorted(known)
