from __future__ import annotations

import pytest
import torch

from levin.accelerators import Accelerator, AcceleratorRegistry, CPUAccelerator, CUDAAccelerator
from levin.checkpoint import TorchCheckpointIO
from levin.precision import Precision, parse_precision
from levin.resolve import announce, choose_accelerator, parse_plugins, resolve
from levin.strategies import DDPStrategy, SingleDeviceStrategy
from levin.utils.errors import MisconfigurationException


class Toy(Accelerator):
    """Two devices of a kind that nobody has."""

    @staticmethod
    def name():
        return "toy"

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def auto_device_count():
        return 2

    @staticmethod
    def parse_devices(devices):
        return [int(devices)] if isinstance(devices, (int, str)) else devices

    @staticmethod
    def get_parallel_devices(devices):
        return [torch.device("meta", index) for index in devices]

    def setup_device(self, device): ...

    def get_device_stats(self, device):
        return {}


def test_the_parts_come_together():
    hardware = resolve(accelerator="cpu", precision="bf16-mixed")
    assert isinstance(hardware.accelerator, CPUAccelerator)
    assert (hardware.devices, hardware.num_nodes) == ((torch.device("cpu"),), 1)
    assert isinstance(hardware.strategy, SingleDeviceStrategy)
    assert hardware.strategy.accelerator is hardware.accelerator
    assert hardware.strategy.precision.precision == "bf16-mixed"


def test_an_accelerator_of_ones_own_decides_on_the_device():
    hardware = resolve(accelerator=Toy(), devices=[1])
    assert hardware.strategy.root_device == torch.device("meta", 1)


def test_a_registered_accelerator_is_known_by_its_name():
    AcceleratorRegistry.register("toy", Toy, "for a test")
    try:
        assert isinstance(choose_accelerator("toy"), Toy)
        assert isinstance(choose_accelerator("TOY"), Toy)
    finally:
        AcceleratorRegistry.remove("toy")


def test_several_devices_have_a_process_each():
    assert isinstance(resolve(accelerator=Toy(), devices=[0, 1]).strategy, DDPStrategy)


def test_auto_takes_all_devices_there_are():
    assert len(resolve(accelerator=Toy(), devices=[0, 1]).devices) == 2
    assert len(resolve(accelerator=Toy(), devices="auto").devices) == 1  # Toy's 2 is an index


def test_the_strategys_own_accelerator_counts_where_none_was_asked_for():
    strategy = SingleDeviceStrategy("meta", accelerator=Toy())
    assert isinstance(resolve(strategy=strategy).accelerator, Toy)
    assert isinstance(resolve(strategy=strategy, accelerator=Toy()).accelerator, Toy)
    with pytest.raises(MisconfigurationException, match="its own: Toy"):
        resolve(strategy=strategy, accelerator="cpu")


def test_a_strategy_without_an_accelerator_gets_the_chosen_one():
    strategy = SingleDeviceStrategy("cpu")
    assert resolve(strategy=strategy, accelerator="cpu").strategy.accelerator is strategy.accelerator
    assert isinstance(strategy.accelerator, CPUAccelerator)


def test_the_strategys_own_precision_counts_where_none_was_asked_for():
    strategy = SingleDeviceStrategy("cpu", precision=parse_precision("64-true", "cpu"))
    assert resolve(strategy=strategy).strategy.precision.precision == "64-true"
    assert resolve(strategy=strategy, precision=64).strategy.precision.precision == "64-true"
    with pytest.raises(MisconfigurationException, match=r"'bf16-true' was given.*its own: '64-true'"):
        resolve(strategy=strategy, precision="bf16-true")


def test_plugins_are_sorted_by_what_they_replace():
    precision, checkpoint_io = Precision(), TorchCheckpointIO()
    assert parse_plugins([checkpoint_io, precision], None) == parse_plugins((precision, checkpoint_io), None)
    assert parse_plugins(precision, None).precision is precision
    assert parse_plugins(None, None) == parse_plugins([], None)


@pytest.mark.parametrize(
    ("plugins", "precision", "error", "text"),
    [
        ([Precision(), Precision()], None, MisconfigurationException, "two of a kind"),
        (Precision(), 64, ValueError, "precision=64 and the plugin"),
        ([object()], None, MisconfigurationException, "which is no plugin"),
        ("ddp", None, MisconfigurationException, "strategy='ddp'"),
    ],
)
def test_plugins_that_do_not_fit_are_refused(plugins, precision, error, text):
    with pytest.raises(error, match=text):
        parse_plugins(plugins, precision)


def test_synchronised_batch_norm_changes_nothing_on_one_device(said):
    resolve(accelerator="cpu", sync_batchnorm=True)
    assert "`sync_batchnorm=True` changes nothing on a single device" in said()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_that_there_is_no_gpu_is_said(said):
    announce(resolve(accelerator="cpu"))
    assert "GPU available: False, used: False" in said()


def test_a_gpu_that_lies_idle_is_told(monkeypatch):
    hardware = resolve(accelerator="cpu")
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    with pytest.warns(UserWarning, match=r'not used. accelerator="gpu" uses it \(cuda\)'):
        announce(hardware)
