"""What DDPStrategy can be told: how gradients travel, when weights are averaged, what steps leave out."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.strategies import DDPStrategy, LocalSGD, PowerSGD
from levin.testing.processes import in_processes

pytestmark = pytest.mark.multi

WIDTH = 32


class Regression(L.LightningModule):
    def __init__(self, width=WIDTH, norm=False, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(5)
        layers = [nn.Linear(16, width), nn.BatchNorm1d(width) if norm else nn.Identity(), nn.Tanh()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 16)).to(dtype)
        self.losses = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.net(x) - y) ** 2).mean()
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def numbers(size=64, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 16, generator=generator, dtype=dtype)
    return TensorDataset(x, x.roll(1, 1) * 0.5)


def loader(world, batch_size=8, dtype=torch.float64, **kwargs):
    return DataLoader(numbers(dtype=dtype), batch_size=batch_size // world, **kwargs)


def trainer(world, *, devices=None, **kwargs):
    quiet = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 2, "accelerator": "cpu", "devices": devices or world,
        "num_sanity_val_steps": 0,
    }  # fmt: skip
    return L.Trainer(**{**quiet, **kwargs})


def weights(module):
    return [each.tolist() for each in module.parameters()]


def spread(one, other):
    """Return the largest difference between weights."""
    pairs = zip(one, other, strict=True)
    return max((torch.tensor(a) - torch.tensor(b)).abs().max().item() for a, b in pairs)


class Traffic(TorchDispatchMode):
    """Notes what processes send: the kind and the bytes of each message."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            sent = [each for each in tree_leaves(args[0]) if isinstance(each, torch.Tensor)]
            self.messages.append((function.__name__.split(".")[0], sum(each.nbytes for each in sent)))
        return function(*args, **(kwargs or {}))


class Counting(L.Callback):
    """Listens to the traffic of each training step, from `first` on."""

    def __init__(self, first=0):
        self.first, self.steps, self.spreads = first, [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.traffic = Traffic()
        self.traffic.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.traffic.__exit__(None, None, None)
        self.steps.append(self.traffic.messages)
        ours = torch.cat([each.detach().flatten() for each in pl_module.parameters()])
        all_of_them = trainer.strategy.all_gather(ours)
        self.spreads.append(bool((all_of_them != all_of_them[0]).any()))


def train(world, options, settings=None, dtype=torch.float64):
    counting, module = Counting(), Regression(dtype=dtype)
    strategy = DDPStrategy(**options) if world > 1 else "auto"
    fit = trainer(world, strategy=strategy, callbacks=[counting], **(settings or {}))
    fit.fit(module, loader(world, dtype=dtype))
    return {
        "weights": weights(module),
        "steps": counting.steps,
        "spreads": counting.spreads,
        "losses": module.losses,
        "final": bool(fit.strategy.reduce(torch.tensor(0.0)) == 0) if world > 1 else True,
    }


NUM_BYTES = 8 * (16 * WIDTH + WIDTH + WIDTH * 16 + 16)


# ---------------------------------------------------------------------- plain


def test_a_step_sends_its_gradients_and_nothing_else():
    for rank in in_processes(train, 2, 2, {}):
        for messages in rank["steps"][2:]:  # once buckets are where they stay
            assert messages == [("allreduce_", NUM_BYTES)]


def test_accumulated_gradients_are_sent_once():
    for rank in in_processes(train, 2, 2, {}, {"accumulate_grad_batches": 4}):
        assert [len(messages) for messages in rank["steps"][8:]] == [0, 0, 0, 1, 0, 0, 0, 1]


def test_buckets_of_a_given_size_are_sent_apart():
    for rank in in_processes(train, 2, 2, {"bucket_cap_mb": 0.002}):
        assert len(rank["steps"][-1]) > 1
        assert sum(size for _, size in rank["steps"][-1]) == NUM_BYTES


@pytest.mark.parametrize("options", [{"static_graph": True}, {"gradient_as_bucket_view": False}], ids=str)
def test_weights_are_those_of_one_process_with(options):
    alone = train(1, {})
    for rank in in_processes(train, 2, 2, options, {"accumulate_grad_batches": 2}):
        other = train(1, {}, {"accumulate_grad_batches": 2})
        assert spread(rank["weights"], other["weights"]) < 1e-10
        assert spread(rank["weights"], alone["weights"]) > 1e-6


# ---------------------------------------------------------------------- compression


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_gradients_in_16_bits_take_a_quarter_of_64_and_train_as_well(kind):
    alone, ranks = train(1, {}), in_processes(train, 2, 2, {"gradient_compression": kind})
    for rank in ranks:
        assert rank["steps"][-1] == [("allreduce_", NUM_BYTES // 4)]
        assert not any(rank["spreads"])
        assert 0 < spread(rank["weights"], alone["weights"]) < 0.02
        assert rank["losses"][-1] < 0.5 * rank["losses"][0]


def test_powersgd_sends_narrow_matrices_and_training_gets_there():
    options = {"gradient_compression": PowerSGD(matrix_rank=2, warmup_steps=3)}
    for rank in in_processes(train, 2, 2, options, {"max_epochs": 8}):
        assert rank["steps"][2] == [("allreduce_", NUM_BYTES)]
        rows = 16 + WIDTH
        assert sum(size for _, size in rank["steps"][3]) == 8 * (2 * (2 * rows) + WIDTH + 16)
        assert not any(rank["spreads"])
        assert rank["losses"][-1] < 0.3 * rank["losses"][3]


def test_powersgd_is_exact_for_matrices_that_are_narrow_already():
    """A step's gradient of one sample a process is of rank 2, so that two columns hold all of it."""
    options = {"gradient_compression": PowerSGD(matrix_rank=2, warmup_steps=0, min_compression=1)}
    compressed, plain = [
        [rank["weights"] for rank in in_processes(one_sample_each, 2, given)] for given in (options, {})
    ]
    assert spread(compressed[0], plain[0]) < 1e-10
    assert compressed[0] == compressed[1]


def one_sample_each(options):
    module = Regression()
    fit = trainer(2, strategy=DDPStrategy(**options), max_epochs=1, limit_train_batches=1)
    fit.fit(module, loader(2, batch_size=2))
    return {"weights": weights(module)}


# ---------------------------------------------------------------------- hooks of torch's kind


def scaled_hook(state, bucket):
    state["buckets"] += 1
    buffer = bucket.buffer().div_(torch.distributed.get_world_size())
    work = torch.distributed.all_reduce(buffer, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def with_hooks():
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
        bf16_compress_hook,
        fp16_compress_wrapper,
    )

    state = {"buckets": 0}
    plain = train(2, {})
    own = train(2, {"ddp_comm_hook": scaled_hook, "ddp_comm_state": state})
    wrapped = train(2, {"ddp_comm_wrapper": fp16_compress_wrapper})
    bf16 = train(2, {"ddp_comm_hook": bf16_compress_hook})
    last = [given["steps"][-1] for given in (wrapped, bf16)]
    return state["buckets"], plain["weights"] == own["weights"], last


def test_hooks_of_torchs_kind_are_used_on_every_device():
    for buckets, is_same, last in in_processes(with_hooks, 2):
        assert buckets == 32 // 2
        assert is_same
        assert last == [[("allreduce_", NUM_BYTES // 4)]] * 2


# ---------------------------------------------------------------------- local SGD


def test_local_sgd_sends_weights_now_and_then_and_trains():
    options = {"local_sgd": LocalSGD(period=4, warmup_steps=4)}
    for rank in in_processes(train, 2, 2, options, {"max_epochs": 4}):
        assert rank["spreads"][:9] == [False] * 4 + [True] * 3 + [False, True]
        counts = [len(messages) for messages in rank["steps"][4:16]]
        assert counts == [0, 0, 0, 1] * 3
        assert rank["losses"][-1] < 0.5 * rank["losses"][0]


def test_weights_are_the_same_everywhere_when_local_sgd_ends():
    first, second = in_processes(train, 2, 2, {"local_sgd": 5}, {"max_epochs": 1, "limit_train_batches": 7})
    assert first["spreads"] == [True] * 4 + [False] + [True] * 2
    assert first["weights"] == second["weights"]


def test_local_sgd_with_a_period_of_one_and_plain_sgd_is_ddp():
    averaged, plain = [
        in_processes(plain_sgd, 2, options)[0] for options in ({"local_sgd": 1}, {"bucket_cap_mb": 25})
    ]
    assert spread(averaged, plain) < 1e-12


class PlainSGD(Regression):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain_sgd(options):
    module = PlainSGD()
    trainer(2, strategy=DDPStrategy(**options)).fit(module, loader(2))
    return weights(module)


class Evaluated(Regression):
    def validation_step(self, batch, batch_idx):
        self.log("sum", sum(each.sum() for each in self.parameters()).item() * 1.0)
        self.sums = [each.sum().item() for each in self.net.state_dict().values()]

    def on_validation_end(self):
        self.told = self.trainer.strategy.gather_objects(self.sums)


def validated_in_local_sgd():
    module = Evaluated(norm=True)
    fit = trainer(2, strategy=DDPStrategy(local_sgd=100), max_epochs=1)
    fit.fit(module, loader(2), loader(2))
    return module.told


def test_a_validation_evaluates_one_model_with_local_sgd():
    for told in in_processes(validated_in_local_sgd, 2):
        assert told[0] == told[1]


def on_two_machines(within_node):
    os.environ["GROUP_RANK"] = str(int(os.environ["RANK"]) // 2)
    os.environ["LOCAL_RANK"] = str(int(os.environ["RANK"]) % 2)
    options = {"local_sgd": LocalSGD(period=100, within_node=within_node)}
    module, counting = Regression(), Counting()
    fit = trainer(
        4, devices=2, num_nodes=2, strategy=DDPStrategy(**options), callbacks=[counting], max_epochs=1
    )
    before_end = []
    note = L.callbacks.LambdaCallback(on_train_epoch_end=lambda *_: before_end.append(weights(module)))
    fit.callbacks.append(note)
    fit.fit(module, loader(4))
    return before_end[0], weights(module)


def test_within_a_machine_gradients_can_stay_averaged():
    ranks = in_processes(
        on_two_machines, 4, True, environment={"GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    )
    local, final = [rank[0] for rank in ranks], [rank[1] for rank in ranks]
    assert local[0] == local[1]
    assert local[2] == local[3]
    assert local[0] != local[2]
    assert all(each == final[0] for each in final)


def post_local(given):
    from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import (
        PostLocalSGDState,
        post_localSGD_hook,
    )

    alone = [torch.distributed.new_group([rank]) for rank in range(2)] if given == "subgroup" else None
    state = PostLocalSGDState(None, alone and alone[torch.distributed.get_rank()], 4)
    return {
        "ddp_comm_state": state, "ddp_comm_hook": post_localSGD_hook, "model_averaging_period": 4,
    }  # fmt: skip


def with_post_local():
    torch.distributed.init_process_group("gloo")
    return train(2, post_local("subgroup"))


def test_torchs_post_local_sgd_averages_when_torch_would():
    for rank in in_processes(with_post_local, 2):
        # its averager counts from the first step on its own, and averages after that one
        assert rank["spreads"] == [False] * 5 + [True] * 3 + [False] + [True] * 3 + [False] + [True] * 3


class SelfAveraging(Regression):
    def configure_optimizers(self):
        from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
        from torch.distributed.optim import PostLocalSGDOptimizer

        return PostLocalSGDOptimizer(super().configure_optimizers(), PeriodicModelAverager(4, 4))


def with_torchs_optimizer(folder):
    torch.distributed.init_process_group("gloo")
    module, counting = SelfAveraging(), Counting()
    options = {**post_local("subgroup"), "model_averaging_period": None}
    fit = trainer(2, strategy=DDPStrategy(**options), callbacks=[counting], max_epochs=1)
    fit.fit(module, loader(2))
    path = f"{folder}/a.ckpt"
    fit.save_checkpoint(path)
    again, more = SelfAveraging(), Counting()
    options = {**post_local("subgroup"), "model_averaging_period": None}
    fit = trainer(2, strategy=DDPStrategy(**options), callbacks=[more], max_epochs=2)
    fit.fit(again, loader(2), ckpt_path=path)
    return counting.spreads, more.spreads


def test_an_optimizer_of_torchs_that_averages_by_itself_can_be_used_and_resumed(tmp_path):
    for before, after in in_processes(with_torchs_optimizer, 2, str(tmp_path)):
        assert before == [False] * 5 + [True] * 3
        assert after == [False] + [True] * 3 + [False] + [True] * 3


def averaged_twice_or_never():
    torch.distributed.init_process_group("gloo")
    never = {**post_local("subgroup"), "model_averaging_period": None}
    told = []
    for module, options in ((Regression(), never), (SelfAveraging(), {"local_sgd": 4})):
        with pytest.raises(ValueError, match="average") as caught:
            trainer(2, strategy=DDPStrategy(**options)).fit(module, loader(2))
        told.append(str(caught.value))
    return told


def test_weights_that_nothing_averages_or_two_things_do_are_refused_before_training():
    for never, twice in in_processes(averaged_twice_or_never, 2):
        assert "Pass `model_averaging_period`" in never
        assert "PostLocalSGDOptimizer can't be averaged from outside" in twice


RESUMED = {
    "local_sgd": {"local_sgd": LocalSGD(period=5, warmup_steps=3)},
    "powersgd": {"gradient_compression": PowerSGD(matrix_rank=1, warmup_steps=2)},
    "bf16": {"gradient_compression": "bf16"},
    "torch's post-local SGD": None,
}


def resumed(options, folder):
    """Train 12 steps; and 6, from whose file another fit goes on. Both save after 6."""

    if options is None:
        torch.distributed.init_process_group("gloo")

    def fit(steps, **kwargs):
        module, chosen = Regression(norm=True), post_local("subgroup") if options is None else options
        saving = L.callbacks.ModelCheckpoint(folder, every_n_train_steps=6, save_top_k=-1, filename="{step}")
        fit = trainer(
            2, strategy=DDPStrategy(**chosen), max_steps=steps, max_epochs=-1, enable_checkpointing=True,
            callbacks=[saving],
        )  # fmt: skip
        fit.fit(module, loader(2), **kwargs)
        return [each.tolist() for each in module.state_dict().values()]

    whole = fit(12)
    return whole == fit(12, ckpt_path=f"{folder}/step=6.ckpt"), whole


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_ends_at_the_same_bits(name, tmp_path):
    (first, mine), (second, theirs) = in_processes(resumed, 2, RESUMED[name], str(tmp_path))
    assert first
    assert second
    assert mine == theirs


# ---------------------------------------------------------------------- parameters that a step leaves out


class Branching(Regression):
    """Leaves its second branch out, at a step, in some of the processes."""

    def __init__(self, at, ranks):
        super().__init__()
        self.other, self.at, self.ranks = nn.Linear(16, 16).double(), at, ranks

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if batch_idx == self.at and self.global_rank in self.ranks:
            return loss
        return loss + self.other(batch[0]).square().mean()


def leaving_out(at, ranks, num_batches):
    module = Branching(at, ranks)
    fit = trainer(2, max_epochs=1, limit_train_batches=num_batches)
    with pytest.raises(RuntimeError) as caught:
        fit.fit(module, loader(2))
    return str(caught.value), len(module.losses)


def test_parameters_left_out_are_named_at_their_step_even_the_last():
    for told, num_batches in in_processes(leaving_out, 2, 2, (0, 1), 3):
        assert "left 2 parameters out in rank" in told
        assert "other.weight, other.bias" in told
        assert "ddp_find_unused_parameters_true" in told
        assert num_batches == 3


def test_a_branch_that_one_process_takes_ends_the_run_with_names():
    with pytest.raises(RuntimeError) as caught:
        in_processes(leaving_out_alone, 2)
    assert "left 2 parameters out in rank 1" in str(caught.value)
    assert "other.weight, other.bias" in str(caught.value)


def leaving_out_alone():
    trainer(2, max_epochs=1, limit_train_batches=3).fit(Branching(1, (1,)), loader(2))


def finding_unused():
    module = Branching(1, (1,))
    fit = trainer(2, strategy="ddp_find_unused_parameters_true", max_epochs=1, limit_train_batches=3)
    fit.fit(module, loader(2))
    return weights(module)


def test_branches_may_differ_where_that_is_said():
    first, second = in_processes(finding_unused, 2)
    assert first == second


class Sulking(Regression):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx == 1 and self.global_rank == 1 else loss


def sulking(strategy):
    module = Sulking()
    trainer(2, strategy=strategy, max_epochs=1, limit_train_batches=3).fit(module, loader(2))
    return weights(module)


@pytest.mark.parametrize("strategy", ["ddp", "ddp_find_unused_parameters_true"])
def test_a_process_without_a_loss_does_not_keep_the_others_waiting(strategy):
    first, second = in_processes(sulking, 2, strategy)
    assert first == second


def test_a_model_that_differs_between_processes_is_told():
    for told in in_processes(different_models, 2):
        assert "Rank 1 has made another model than rank 0" in told
        assert "(20, 16)" in told


def different_models():
    with pytest.raises(RuntimeError) as caught:
        trainer(2).fit(Regression(width=int(os.environ["RANK"]) * 4 + 16), loader(2))
    return str(caught.value)


class Thawing(Regression):
    """Trains one layer in its first epoch, and the other from then on."""

    def __init__(self, automatic):
        super().__init__()
        self.automatic_optimization = automatic
        self.net[0].requires_grad_(False)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.net[0].requires_grad_(True)
            self.net[3].requires_grad_(False)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if not self.automatic_optimization:
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def thawing(world, automatic):
    module = Thawing(automatic)
    trainer(world).fit(module, loader(world))
    return weights(module)


@pytest.mark.parametrize("automatic", [True, False])
def test_parameters_may_be_frozen_and_thawed_when_an_epoch_begins(automatic):
    alone = thawing(1, automatic)
    for others in in_processes(thawing, 2, 2, automatic):
        assert spread(alone, others) < 1e-10


# ---------------------------------------------------------------------- manual optimization


class Gan(L.LightningModule):
    """Two networks, two optimizers; `how` says how the step keeps them apart."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(3)
        self.automatic_optimization, self.how = False, how
        self.generator = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 16)).double()
        self.critic = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def training_step(self, batch, batch_idx):
        x, _ = batch
        return getattr(self, self.how)(x, *self.optimizers())

    def critic_loss(self, x):
        return self.critic(self.generator(x).detach()).square().mean() + (self.critic(x) - 1).square().mean()

    def generator_loss(self, x):
        return (self.critic(self.generator(x)) - 1).square().mean()

    def plainly(self, x, g, c):
        c.zero_grad()
        self.manual_backward(self.critic_loss(x))
        c.step()
        g.zero_grad()
        self.manual_backward(self.generator_loss(x))
        g.step()

    def toggled(self, x, g, c):
        for optimizer, loss in ((c, self.critic_loss), (g, self.generator_loss)):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(loss(x))
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def updated(self, x, g, c):
        with self.update(c, accumulate_grad_batches=2):
            self.manual_backward(self.critic_loss(x))
        with self.update(g, gradient_clip_val=0.1):
            self.manual_backward(self.generator_loss(x))

    def several(self, x, g, c):
        c.zero_grad()
        g.zero_grad()
        self.manual_backward(self.critic_loss(x), retain_graph=True)
        self.manual_backward(self.critic(x).mean() * 0.1)
        c.step()
        self.manual_backward(self.generator_loss(x))
        g.step()

    def blocked(self, x, g, c):
        c.zero_grad()
        g.zero_grad()
        with self.trainer.strategy.block_backward_sync():
            self.manual_backward(self.critic_loss(x[: len(x) // 2]))
            self.manual_backward(self.generator_loss(x[: len(x) // 2]))
        self.manual_backward(self.critic_loss(x[len(x) // 2 :]) + self.generator_loss(x[len(x) // 2 :]))
        c.step()
        g.step()

    def penalised(self, x, g, c):
        at = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.critic(at).sum(), at, create_graph=True)
        c.zero_grad()
        self.manual_backward(self.critic_loss(x) + (slope.norm(dim=1) - 1).square().mean())
        c.step()
        self.plainly(x, g, c)

    def configure_optimizers(self):
        generator = torch.optim.Adam(self.generator.parameters(), lr=0.01)
        return generator, torch.optim.SGD(self.critic.parameters(), lr=0.1, momentum=0.9)


def fight(world, how, strategy="auto"):
    module, counting = Gan(how), Counting()
    # gradients of halves of a batch: each process's first half is to be the first half of all
    fit = trainer(world, strategy=strategy, callbacks=[counting])
    order = [8 * i + j for i in range(8) for j in range(8)]
    if world == 1:
        order = [8 * i + j for i in range(8) for j in (0, 2, 4, 6, 1, 3, 5, 7)]
        order = [8 * i + j for i in range(8) for j in (0, 1, 2, 3, 4, 5, 6, 7)]
    fit.fit(module, DataLoader(torch.utils.data.Subset(numbers(), order), batch_size=8 // world))
    return weights(module), [len(messages) for messages in counting.steps], any(counting.spreads)


@pytest.mark.parametrize("how", ["plainly", "toggled", "updated", "several", "blocked", "penalised"])
def test_a_gan_trains_as_in_one_process(how):
    alone = fight(1, how)[0]
    for others, _, differ in in_processes(fight, 2, 2, how, "ddp"):
        assert not differ
        assert spread(alone, others) < 1e-10


def test_a_blocked_backward_sends_nothing():
    for _, counts, _ in in_processes(fight, 2, 2, "blocked", "ddp"):
        assert counts[-1] == 2  # the gradients, and which parameters have some


class OneOptimizer(Regression):
    def __init__(self):
        super().__init__(norm=True)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class Bare(OneOptimizer):
    """With a backward of its own."""

    def backward(self, loss, *args, **kwargs):
        loss.backward(*args, **kwargs)


def manually(kind, options):
    module, counting = kind(), Counting()
    trainer(2, strategy=DDPStrategy(**options), callbacks=[counting]).fit(module, loader(2))
    return [each.tolist() for each in module.state_dict().values()], any(counting.spreads)


def automatically():
    module = Regression(norm=True)
    trainer(2).fit(module, loader(2))
    return [each.tolist() for each in module.state_dict().values()], False


def manual_ways(kind, options):
    return [manually(kind, options), automatically()]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (OneOptimizer, {}),
        (OneOptimizer, {"static_graph": True}),
        (OneOptimizer, {"find_unused_parameters": False}),
        (OneOptimizer, {"local_sgd": LocalSGD(period=2, warmup_steps=100)}),
        (Bare, {}),
    ],
    ids=["plain", "static graph", "nothing is left out", "in warm-up", "own backward"],
)
def test_a_manual_step_does_what_an_automatic_one_does(kind, options):
    for (mine, differ), (theirs, _) in in_processes(manual_ways_by_name, 2, kind.__name__, options):
        assert not differ
        assert spread(mine, theirs) < 1e-12


def manual_ways_by_name(name, options):
    return manual_ways(globals()[name], options)


def test_local_sgd_in_manual_optimization_counts_each_optimizers_steps():
    for _, counts, _ in in_processes(fight_locally, 2):
        assert counts[2:] == [0, 2] * 7


def fight_locally():
    return fight(2, "toggled", DDPStrategy(local_sgd=2))


# ---------------------------------------------------------------------- buffers


class WithBuffer(Regression):
    def __init__(self):
        super().__init__()
        self.register_buffer("own", torch.zeros(1, dtype=torch.float64))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(self.own.item())
        self.own += self.global_rank + 1
        return super().training_step(batch, batch_idx)


def buffers(options):
    module = WithBuffer()
    fit = trainer(2, strategy=DDPStrategy(**options), max_epochs=1, limit_train_batches=3)
    fit.fit(module, loader(2))
    return module.seen


def test_buffers_are_rank_zeros_before_each_step_unless_they_are_each_processs_own():
    assert in_processes(buffers, 2, {}) == [[0, 1, 2]] * 2
    assert in_processes(buffers, 2, {"broadcast_buffers": False}) == [[0, 1, 2], [0, 2, 4]]


def test_weights_that_no_gradient_reaches_are_no_reason_to_stop():
    for rank in in_processes(all_frozen, 2):
        assert rank == "fitted"


class Frozen(Regression):
    """Everything is frozen, and the step returns nothing to learn from."""

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        return None


def all_frozen():
    module = Frozen()
    module.requires_grad_(False)
    trainer(2, max_epochs=1, strategy="ddp").fit(module, loader(2))
    return "fitted"
