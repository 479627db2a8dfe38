"""Fabric on one device: the numbers of a raw loop, and what each call does and refuses."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import levin as L
from levin.fabric import is_wrapped
from levin.launchers import Launcher
from levin.loggers import CSVLogger
from levin.precision import MixedPrecision
from levin.strategies import SingleDeviceStrategy
from levin.testing import count_reads
from levin.utils.errors import LevinDeprecationWarning


def fabric(**settings):
    return L.Fabric(**{"accelerator": "cpu", "devices": 1, **settings})


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def numbers(size=24):
    x = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1, keepdim=True))


def set_up(**settings):
    ours = fabric(**settings)
    model = network()
    return ours, *ours.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))


# ---------------------------------------------------------------------- a loop


def raw_loop(epochs=3):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    for _ in range(epochs):
        for x, y in DataLoader(numbers(), batch_size=5):
            optimizer.zero_grad()
            ((model(x) - y) ** 2).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            scheduler.step()
    return model.state_dict()


def loop_with_fabric(L, epochs=3):
    fabric = L.Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model, optimizer = fabric.setup(model, optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    loader = fabric.setup_dataloaders(DataLoader(numbers(), batch_size=5))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            fabric.backward(((model(x) - y) ** 2).mean())
            fabric.clip_gradients(model, optimizer, max_norm=0.5)
            optimizer.step()
            scheduler.step()
    return model.state_dict()


def test_a_loop_gives_the_weights_of_the_raw_one_under_the_same_names():
    raw, ours = raw_loop(), loop_with_fabric(L)
    assert list(raw) == list(ours)
    assert all(torch.equal(raw[name], ours[name]) for name in raw)


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_a_loop_gives_the_weights_of_lightnings_fabric():
    theirs = loop_with_fabric(pytest.importorskip("lightning"))
    ours = loop_with_fabric(L)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def lbfgs(wrap):
    model = nn.Linear(4, 1)
    nn.init.constant_(model.weight, 0.1)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
    model, optimizer, backward = wrap(model, optimizer)
    x, y = numbers().tensors

    def closure():
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        backward(loss)
        return loss

    return optimizer.step(closure).item(), model.weight.tolist()


def test_an_optimizer_that_calls_its_closure_several_times_gives_the_raw_numbers():
    ours = fabric()
    raw = lbfgs(lambda model, optimizer: (model, optimizer, torch.Tensor.backward))
    assert raw == lbfgs(lambda model, optimizer: (*ours.setup(model, optimizer), ours.backward))


# ---------------------------------------------------------------------- setup


def test_setup_gives_back_what_it_got_in_its_order():
    ours, module = fabric(), network()
    first, second = (torch.optim.SGD(module.parameters(), lr=0.1) for _ in range(2))
    scheduler = torch.optim.lr_scheduler.StepLR(first, 1)
    model, *rest = ours.setup(module, first, second, scheduler=scheduler)
    assert [is_wrapped(each) for each in (model, *rest)] == [True, True, True, False]
    assert rest[0].optimizer is first
    assert rest[2] is scheduler
    assert is_wrapped(ours.setup(network()))
    assert is_wrapped(ours.setup_module(network()))
    assert is_wrapped(ours.setup_optimizers(torch.optim.SGD(network().parameters(), lr=0.1)))


def again(ours, model, optimizer):
    return {
        "setup": lambda: ours.setup(model),
        "setup's optimizer": lambda: ours.setup(network(), optimizer),
        "setup_module": lambda: ours.setup_module(model),
        "setup_optimizers": lambda: ours.setup_optimizers(optimizer),
        "no optimizer": lambda: ours.setup_optimizers(),
        "no loader": lambda: ours.setup_dataloaders(),
        "setup_dataloaders": lambda: ours.setup_dataloaders(ours.setup_dataloaders(DataLoader(numbers()))),
    }


@pytest.mark.parametrize("case", again(None, None, None))
def test_setting_up_nothing_or_something_twice_is_refused(case):
    with pytest.raises(ValueError, match=r"once\.|one or more\."):
        again(*set_up())[case]()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda ours: ours.setup(3), r"takes a torch\.nn\.Module first, and got a int"),
        (lambda ours: ours.setup(network(), 3), r"takes torch\.optim\.Optimizer, and got a int"),
        (
            lambda ours: ours.setup_dataloaders([1, 2]),
            r"takes torch\.utils\.data\.DataLoader, and got a list",
        ),
        (lambda ours: ours.no_backward_sync(network()), r"not set up\. Pass what `setup` gave"),
        (lambda ours: ours.backward(torch.ones(1), model=network()), r"not set up\. Pass what `setup` gave"),
    ],
    ids=["module", "optimizer", "loader", "no_backward_sync", "backward"],
)
def test_other_objects_are_refused_by_their_type(call, words):
    with pytest.raises(TypeError, match=words):
        call(fabric())


def test_a_model_without_values_is_refused_with_what_to_do():
    with torch.device("meta"):
        model = network()
    with pytest.raises(RuntimeError, match=r"meta device.*fabric\.init_module.*to_empty"):
        fabric().setup(model)


def test_a_compiled_model_stays_compiled():
    module, calls = network(), []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    model = fabric().setup(torch.compile(module, backend=backend))
    x = torch.ones(3, 4)
    assert torch.equal(model(x), copy.deepcopy(module)(x))
    assert len(calls) == 1
    assert model.state_dict().keys() == module.state_dict().keys()


# ---------------------------------------------------------------------- the model


def test_the_model_has_the_modules_own_attributes_and_names():
    ours = fabric()
    module = network()
    module.note = "mine"
    model = ours.setup(module)
    model.note += " too"
    model.added = 3
    assert (module.note, module.added, model.device, model.dtype) == (
        "mine too",
        3,
        ours.device,
        torch.float32,
    )
    del model.added
    assert not hasattr(module, "added")
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in module.named_parameters()]
    assert list(model.children()) == list(module.children())
    assert "note" in dir(model)
    with pytest.raises(AttributeError, match=r"Sequential.*nothing"):
        model.nothing  # noqa: B018  # asking is the test


def test_methods_that_the_module_overrides_are_the_ones_that_run():
    class Frozen(nn.Linear):
        def train(self, mode=True):
            return super().train(False)

    module = Frozen(1, 1)
    model = fabric().setup(module)
    assert model.train() is model
    assert not module.training
    assert not model.training
    assert model.to(torch.float64) is model
    assert module.weight.dtype is torch.float64


def test_hooks_of_the_module_run_once_a_call():
    seen = []
    model = fabric().setup(network())
    model.register_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    model(torch.ones(3, 4))
    assert seen == [nn.Sequential]


def test_the_model_can_be_a_part_of_another_module_and_be_copied():
    model = fabric().setup(network())
    whole = nn.ModuleDict({"part": model})
    assert list(whole.state_dict()) == [f"part.{name}" for name in model.state_dict()]
    whole.eval()
    assert not model.training
    copied = copy.deepcopy(model)
    x = torch.ones(3, 4)
    assert is_wrapped(copied)
    assert torch.equal(copied(x), model(x))
    next(copied.parameters()).data.zero_()
    assert not torch.equal(copied(x), model(x))


class TwoWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)

    def other(self, x):
        return self.layer(x)


def test_a_marked_method_runs_in_the_precision_and_an_unmarked_one_does_not():
    model = fabric(precision="bf16-true").setup(TwoWays())
    with pytest.raises(RuntimeError):
        model.other(torch.ones(1, 2))
    model.mark_forward_method("other")
    assert model.other(torch.ones(1, 2)).dtype is torch.float32  # converted, as what leaves forward is
    again = fabric(precision="bf16-true").setup(TwoWays())
    again.mark_forward_method(TwoWays.other)
    assert again.other(torch.ones(1, 2)).dtype is torch.float32


@pytest.mark.parametrize(
    ("method", "error"),
    [("forward", ValueError), ("nothing", AttributeError), ("layer", AttributeError), (3, TypeError)],
    ids=str,
)
def test_what_can_not_be_marked_is_told(method, error):
    with pytest.raises(error, match=r"Leave it out|no method of this name|a method or its name"):
        fabric().setup(TwoWays()).mark_forward_method(method)


# ---------------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("precision", "weights"),
    [(None, "float32"), ("64-true", "float64"), ("bf16-true", "bfloat16"), ("bf16-mixed", "float32")],
    ids=str,
)
def test_the_precision_holds_for_weights_and_what_leaves_the_model_has_the_default_type(precision, weights):
    model = fabric(precision=precision).setup(nn.Linear(2, 2))
    assert str(model.weight.dtype) == f"torch.{weights}"
    assert model(torch.ones(1, 2)).dtype is torch.float32


def test_a_precision_that_scales_losses_wants_its_own_backward():
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    ours = fabric(plugins=MixedPrecision("16-mixed", "cpu", scaler))
    model = nn.Linear(2, 1)
    model, optimizer = ours.setup(model, torch.optim.SGD(model.parameters(), lr=1.0))
    x = torch.ones(1, 2)
    with pytest.raises(RuntimeError, match=r"call `fabric\.backward\(loss\)` in place of"):
        model(x).sum().backward()
    optimizer.zero_grad()
    before = model.weight.detach().clone()
    ours.backward(model(x).sum())
    assert model.weight.grad.tolist() == [[4.0, 4.0]]
    assert float(ours.clip_gradients(model, optimizer, max_norm=10.0)) == pytest.approx(3**0.5)
    optimizer.step()
    assert torch.allclose(model.weight, before - 1.0)


def test_a_gradient_that_overflowed_is_left_to_the_scaler():
    ours = fabric(plugins=MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0)))
    model = nn.Linear(1, 1)
    model, optimizer = ours.setup(model, torch.optim.SGD(model.parameters(), lr=1.0))
    before = model.weight.item()
    ours.backward(model(torch.ones(1, 1)).sum() * float("inf"))
    ours.clip_gradients(model, optimizer, max_norm=1.0)
    optimizer.step()
    assert model.weight.item() == before


def test_autocast_computes_in_the_precision():
    with fabric(precision="bf16-mixed").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


def test_tensors_and_modules_can_be_made_in_the_precision():
    ours = fabric(precision="64-true")
    with ours.init_tensor():
        assert torch.ones(1).dtype is torch.float64
    with ours.init_module():
        assert nn.Linear(1, 1).weight.dtype is torch.float64
    state = torch.get_rng_state()
    with ours.init_module(empty_init=True):
        assert nn.Linear(300, 300).weight.shape == (300, 300)
    assert torch.equal(state, torch.get_rng_state())


# ---------------------------------------------------------------------- gradients


def test_gradients_are_clipped_by_norm_or_by_value():
    ours, model, optimizer = set_up()
    x, y = numbers().tensors
    ours.backward(((model(x) - y) ** 2).sum())
    norm = ours.clip_gradients(model, optimizer, max_norm=0.5)
    assert norm > 0.5
    total = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert float(total) == pytest.approx(0.5, rel=1e-4)
    assert ours.clip_gradients(model, optimizer, clip_val=0.01) is None
    assert max(p.grad.abs().max() for p in model.parameters()) <= 0.01


@pytest.mark.parametrize("given", [{}, {"clip_val": 1.0, "max_norm": 1.0}], ids=["neither", "both"])
def test_clipping_needs_one_bound(given):
    ours, model, optimizer = set_up()
    with pytest.raises(ValueError, match=r"got (neither|both) of `clip_val` and `max_norm`\. Give one"):
        ours.clip_gradients(model, optimizer, **given)


def test_a_norm_that_is_no_number_is_an_error_unless_it_is_not_to_be():
    ours, model, optimizer = set_up()
    ours.backward(model(torch.ones(3, 4)).sum() * float("nan"))
    with pytest.raises(RuntimeError, match="non-finite"):
        ours.clip_gradients(model, optimizer, max_norm=1.0)
    assert ours.clip_gradients(model, optimizer, max_norm=1.0, error_if_nonfinite=False).isnan()


# ---------------------------------------------------------------------- the optimizer


def test_the_optimizer_is_one_of_its_own_class_and_shares_its_state():
    module = network()
    own = torch.optim.Adam(module.parameters(), lr=0.1)
    ours = fabric()
    model, optimizer = ours.setup(module, own)
    assert isinstance(optimizer, torch.optim.Adam)
    ours.backward(model(torch.ones(3, 4)).sum())
    optimizer.step()
    assert optimizer.state is own.state
    optimizer.param_groups[0]["lr"] = 0.5
    assert own.param_groups[0]["lr"] == 0.5
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    assert own.state_dict()["param_groups"] == saved["param_groups"]
    optimizer.zero_grad()
    assert all(p.grad is None for p in module.parameters())


# ---------------------------------------------------------------------- loaders


def test_one_loader_comes_alone_and_several_in_a_list():
    ours = fabric()
    loader = ours.setup_dataloaders(DataLoader(numbers(6), batch_size=4))
    assert (len(loader), loader.batch_size, len(loader.dataset)) == (2, 4, 6)
    both = ours.setup_dataloaders(DataLoader(numbers(6)), DataLoader(numbers(6)), move_to_device=False)
    assert isinstance(both, list)
    assert [len(each) for each in both] == [6, 6]


class ByEpoch(torch.utils.data.DistributedSampler):
    def __init__(self):
        super().__init__(range(3), num_replicas=1, rank=0)
        self.told = []

    def set_epoch(self, epoch):
        super().set_epoch(epoch)
        self.told.append(epoch)


def test_each_pass_is_told_its_epoch_and_the_program_may_say_which():
    sampler = ByEpoch()
    loader = fabric().setup_dataloaders(DataLoader(range(3), sampler=sampler))
    for _ in range(2):
        list(loader)
    loader.set_epoch(7)
    list(loader)
    sampler.set_epoch(20)
    list(loader)
    list(loader)
    assert [sampler.told[index] for index in (0, 1, 3, 5, 6)] == [0, 1, 7, 20, 21]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


def test_a_stream_is_read_as_it_is():
    loader = fabric().setup_dataloaders(DataLoader(Stream(), batch_size=2))
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


def test_seeding_reaches_the_workers_of_loaders(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    assert L.Fabric.seed_everything(3, verbose=False) == 3
    loader = fabric().setup_dataloaders(DataLoader(range(3)))
    assert loader.worker_init_fn.func.__name__ == "pl_worker_init_function"
    L.Fabric.seed_everything(3, workers=False, verbose=False)
    assert fabric().setup_dataloaders(DataLoader(range(3))).worker_init_fn is None


# ---------------------------------------------------------------------- launch


def test_launch_calls_the_function_with_the_fabric_and_returns_what_it_returns():
    ours = fabric()
    assert ours.launch() is None
    assert ours.launch() is None
    assert ours.launch(lambda given, x, y: (given is ours, x, y), 1, y=2) == (True, 1, 2)


@pytest.mark.parametrize(
    ("function", "words"),
    [(3, r"got 3\. Write `fabric\.launch\(main\)`"), (lambda: 1, r"takes no argument\. Write `def ")],
    ids=["no function", "no argument"],
)
def test_what_launch_can_not_call_is_refused(function, words):
    with pytest.raises(TypeError, match=words):
        fabric().launch(function)


class InAnotherRoom(Launcher):
    """Runs functions, as launchers do that start processes for them."""

    runs_function = True

    def launch(self, function, *args, **kwargs):
        return "from there", function(*args, **kwargs)


class Elsewhere(SingleDeviceStrategy):
    launcher = InAnotherRoom()
    start_method = "room"


def test_strategies_that_run_a_function_need_one_and_give_back_what_it_returns():
    assert fabric(strategy=Elsewhere()).launch(lambda ours, x: x + 1, 4) == ("from there", 5)
    with pytest.raises(TypeError, match=r"start_method='room' runs a function.*`fabric\.launch\(main\)`"):
        fabric(strategy=Elsewhere()).launch()


def test_a_subclass_with_run_runs_it():
    class Mine(L.Fabric):
        def run(self, x, y=1):
            return self.world_size, x, y

    assert Mine(accelerator="cpu", devices=1).run(4, y=5) == (1, 4, 5)
    assert fabric().run() is None


BEFORE_LAUNCH = {
    "setup": lambda ours: ours.setup(network()),
    "setup_module": lambda ours: ours.setup_module(network()),
    "setup_optimizers": lambda ours: ours.setup_optimizers(torch.optim.SGD(network().parameters(), lr=1.0)),
    "setup_dataloaders": lambda ours: ours.setup_dataloaders(DataLoader(range(3))),
    "barrier": lambda ours: ours.barrier(),
    "broadcast": lambda ours: ours.broadcast(1),
    "all_gather": lambda ours: ours.all_gather(1),
    "all_reduce": lambda ours: ours.all_reduce(1),
    "rank_zero_first": lambda ours: ours.rank_zero_first().__enter__(),
    "save": lambda ours: ours.save("x", {}),
    "load": lambda ours: ours.load("x"),
    "load_raw": lambda ours: ours.load_raw("x", network()),
}


@pytest.mark.parametrize("call", BEFORE_LAUNCH)
def test_several_devices_need_launch_first(call):
    with pytest.raises(
        RuntimeError, match=r"Fabric \(2\) have not met yet\. Call `fabric\.launch\(\)` first"
    ):
        BEFORE_LAUNCH[call](fabric(devices=2))


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def command_line(monkeypatch):
    monkeypatch.setenv("LT_CLI_USED", "1")
    return lambda **words: [monkeypatch.setenv(f"LT_{name.upper()}", word) for name, word in words.items()]


def test_the_command_line_says_what_the_program_does_not(command_line):
    command_line(accelerator="cpu", devices="1", precision="64-true", num_nodes="1", strategy="auto")
    ours = L.Fabric()
    assert (ours.device.type, ours.world_size, ours.strategy.precision.precision) == ("cpu", 1, "64-true")
    assert L.Fabric(accelerator="cpu", devices=1).world_size == 1


def test_a_program_that_says_something_else_is_refused(command_line):
    command_line(accelerator="cpu", devices="1")
    with pytest.raises(
        ValueError, match=r"Fabric\(devices=2\), and the command line --devices=1\. Leave one"
    ):
        L.Fabric(devices=2)


def test_without_the_command_line_its_variables_are_not_read(monkeypatch):
    monkeypatch.setenv("LT_PRECISION", "64-true")
    assert fabric().strategy.precision.precision == "32-true"


def test_under_the_command_line_launch_does_nothing_once_and_is_an_error_twice(command_line):
    command_line(accelerator="cpu", devices="1")
    ours = L.Fabric()
    ours.launch()
    with pytest.raises(RuntimeError, match=r"`fabric\.launch\(\)` was called a second time"):
        ours.launch()


# ---------------------------------------------------------------------- one process speaks with itself


def test_one_process_has_what_it_gives(capsys):
    ours = fabric()
    assert ours.broadcast("x") == "x"
    assert ours.all_gather({"a": 1.5, "b": torch.ones(2)})["b"].tolist() == [1.0, 1.0]
    reduced = ours.all_reduce({"a": 2, "b": [torch.ones(2)]}, reduce_op="sum")
    assert (reduced["a"].item(), reduced["b"][0].tolist()) == (2, [1.0, 1.0])
    ours.barrier("here")
    with ours.rank_zero_first(), ours.rank_zero_first(local=True):
        ours.print("said", "once", sep="-")
    assert capsys.readouterr().out == "said-once\n"
    assert (ours.global_rank, ours.local_rank, ours.node_rank, ours.world_size) == (0, 0, 0, 1)
    assert ours.is_global_zero
    assert type(ours.accelerator).__name__ == "CPUAccelerator"
    assert ours.to_device({"a": torch.ones(1)})["a"].device == ours.device
    module = nn.Linear(1, 1)
    assert ours.to_device(module) is module
    model = ours.setup(module)
    with ours.no_backward_sync(model), ours.no_backward_sync(model, enabled=False):
        pass


# ---------------------------------------------------------------------- callbacks and loggers


class Notes:
    a_number = 3

    def __init__(self):
        self.seen = []

    def on_after_setup(self, fabric, module):
        self.seen.append(("set up", is_wrapped(module)))

    def on_after_optimizer_step(self, strategy, optimizer):
        self.seen.append(("stepped", type(strategy).__name__, type(optimizer).__name__))

    def on_mine(self, x, y=0):
        self.seen.append((x, y))

    def on_anything(self, *args, **kwargs):
        self.seen.append((args, kwargs))


def test_callbacks_hear_of_set_up_steps_and_whatever_the_loop_calls():
    notes = Notes()
    ours, model, optimizer = set_up(callbacks=[notes, object()])
    ours.backward(model(torch.ones(3, 4)).sum())
    optimizer.step()
    ours.call("on_mine", 1, y=2, unknown=3)
    ours.call("on_anything", 1, z=2)
    ours.call("on_nothing")
    assert notes.seen == [
        ("set up", True), ("stepped", "SingleDeviceStrategy", "SGD"), (1, 2), ((1,), {"z": 2}),
    ]  # fmt: skip


def test_a_callbacks_attribute_that_can_not_be_called_is_passed_over_with_a_warning():
    with pytest.warns(UserWarning, match=r"passes over Notes\.a_number, which is a int"):
        fabric(callbacks=Notes()).call("a_number")


def test_values_go_to_all_loggers_with_one_read(tmp_path):
    loggers = [CSVLogger(tmp_path / name) for name in "ab"]
    ours = fabric(loggers=loggers)
    assert (ours.logger, ours.loggers) == (loggers[0], loggers)
    ours.log("a", 1.0, step=3)
    with count_reads() as reads:
        ours.log_dict({"b": torch.tensor(2.0, requires_grad=True), "c": torch.ones(1), "d": 4}, step=4)
    assert len([read for read in reads if "fabric" in read]) == 1
    for logger in loggers:
        logger.save()
        rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
        assert rows == ["a,b,c,d,step", "1.0,,,,3", ",2.0,1.0,4,4"]


@pytest.mark.slow
def test_what_was_logged_is_written_when_the_program_ends(tmp_path):
    program = "import levin as L; from levin.loggers import CSVLogger as C; "
    program += "L.Fabric(accelerator='cpu', loggers=C('here', name='run', version='x')).log('a', 1.0)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "here/run/x/metrics.csv").read_text() == "a,step\n1.0,0\n"


def test_a_value_of_several_elements_is_refused():
    with pytest.raises(ValueError, match=r"tensor of shape \(2,\) for 'a'.*log its mean"):
        fabric().log("a", torch.ones(2))


def test_without_loggers_there_is_no_logger():
    assert (fabric().logger, fabric().loggers) == (None, [])


# ---------------------------------------------------------------------- a LightningModule


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        self.log("loss", 1.5)
        self.log("hidden", 2.5, logger=False)
        self.print("step", batch_idx)
        return self.layer(batch).sum()


def test_a_lightning_module_works_in_a_loop_of_ones_own(tmp_path, capsys):
    ours = fabric(loggers=CSVLogger(tmp_path))
    module = Module()
    model, optimizer = ours.setup(module, torch.optim.SGD(module.parameters(), lr=1.0))
    before = module.layer.bias.item()
    model.manual_backward(model.training_step(torch.ones(1, 2), 4))
    module.clip_gradients(optimizer, 0.5, "value")
    optimizer.step()
    assert module.layer.bias.item() == pytest.approx(before - 0.5)
    assert module.fabric is ours
    assert module.optimizers() is optimizer
    assert (module.logger, module.loggers, module.current_epoch) == (ours.logger, ours.loggers, 0)
    assert (module.trainer.world_size, module.global_rank) == (1, 0)
    assert module.all_gather(torch.ones(1)).tolist() == [1.0]
    module.toggle_optimizer(optimizer)
    module.untoggle_optimizer(optimizer)
    ours.logger.save()
    assert (Path(ours.logger.log_dir) / "metrics.csv").read_text() == "loss,step\n1.5,0\n"
    assert capsys.readouterr().out == "step 4\n"


def test_what_a_fabric_has_not_is_told_where_a_module_asks_its_trainer():
    module = Module()
    module.fabric = fabric()
    with pytest.raises(AttributeError, match=r"no `trainer\.max_epochs` in a loop of your own.*all_gather"):
        module.trainer.max_epochs  # noqa: B018  # asking is the test
    module.fabric = None
    assert module.fabric is None


# ---------------------------------------------------------------------- what was


def test_names_of_earlier_versions_say_what_to_use():
    with pytest.warns(LevinDeprecationWarning, match=r"is now `fabric\.init_module\(\)`"):
        fabric().sharded_model()
    with pytest.warns(LevinDeprecationWarning, match=r"`Fabric\(gpus=0\)` is now `accelerator='cpu'`"):
        assert L.Fabric(gpus=0, devices=1).device.type == "cpu"
    with pytest.raises(TypeError, match=r"'tpu_cores'.*CPU, CUDA and MPS devices"):
        L.Fabric(tpu_cores=8)
    with pytest.raises(AttributeError, match=r"fabric\.world_size > 1"):
        fabric().is_distributed  # noqa: B018  # asking is the test
    with pytest.raises(TypeError, match=r"Write `fabric\.save\(path, state\)`"):
        fabric().save({"model": 1}, "file.ckpt")
