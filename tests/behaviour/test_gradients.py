"""Gradients between backward and step: exact windows, non-finite values, updates by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

import levin as L
from levin.testing import BoringModel
from levin.utils.errors import MisconfigurationException, NonFiniteError

SAMPLES = 6


def compositions(total: int) -> list[tuple[int, ...]]:
    """All ways to cut ``total`` samples into batches, in order."""
    cuts = itertools.product((False, True), repeat=total - 1)
    return [
        tuple(len(part) for part in "".join("|." if cut else "." for cut in (False, *row)).split("|"))
        for row in cuts
    ]


class Sentences(L.LightningModule):
    """Classifies the tokens of sentences of different lengths; keeps the gradients of each step."""

    def __init__(self, say=()):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 3)).double()
        self.say = say
        self.gradients = []

    def losses(self, batch):
        words, labels = batch
        return nn.functional.cross_entropy(
            self.net(words).flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none"
        )

    def training_step(self, batch, batch_idx):
        number = (batch[1] != -100).sum()
        if "num_tokens" in self.say:
            return {"loss": self.losses(batch).sum() / number, "num_tokens": number}
        each = self.losses(batch).view(batch[1].shape).mean(1)  # a loss a sample
        return {"loss": each.mean(), "num_samples": len(each)} if self.say else each.mean()

    def on_before_optimizer_step(self, optimizer):
        self.gradients.append([p.grad.clone() for p in self.parameters()])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def sentences():
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(11, (SAMPLES, 5), generator=generator)
    labels = torch.randint(3, (SAMPLES, 5), generator=generator)
    for row, length in enumerate((1, 5, 2, 3, 5, 4)):
        labels[row, length:] = -100
    return words, labels


def whole_batch_gradients(module, loss):
    module.zero_grad()
    loss.backward()
    gradients = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    return gradients


def fit(module, loader, **arguments):
    trainer = L.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        **{"max_epochs": 1, **arguments},
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(loader, batch_size=None))
    return trainer


EACH_PARTITION = pytest.mark.parametrize(
    "sizes", compositions(SAMPLES), ids=lambda sizes: "+".join(map(str, sizes))
)


@EACH_PARTITION
@pytest.mark.parametrize("by", ["samples", "tokens"])
def test_a_window_has_the_gradients_of_one_big_batch_however_it_is_cut(by, sizes):
    batches = list(zip(*(part.split(sizes) for part in sentences()), strict=True))
    module = Sentences(say=("num_tokens",) if by == "tokens" else ())
    fit(module, batches, accumulate_grad_batches=SAMPLES, normalize_by=by, precision="64-true")
    losses = module.losses(sentences())
    whole = losses.sum() / (losses != 0).sum() if by == "tokens" else losses.view(SAMPLES, -1).mean(1).mean()
    expected = whole_batch_gradients(module, whole)
    (gradients,) = module.gradients
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@EACH_PARTITION
@pytest.mark.parametrize(("by", "window"), [("batches", SAMPLES), (None, SAMPLES), (None, None)])
def test_a_window_has_the_mean_of_its_batches_gradients_however_it_is_cut(by, window, sizes):
    batches = list(zip(*(part.split(sizes) for part in sentences()), strict=True))
    module = Sentences()
    fit(
        module,
        batches,
        accumulate_grad_batches=window or len(sizes),
        normalize_by=by,
        precision="64-true",
    )
    total = sum(module.losses(batch).view(batch[1].shape).mean() for batch in batches)
    divisor = len(sizes) if by == "batches" or window is None else window
    expected = whole_batch_gradients(module, total / divisor)
    (gradients,) = module.gradients
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@EACH_PARTITION
@pytest.mark.parametrize("by", ["samples", "tokens"])
def test_each_of_several_windows_has_the_gradients_of_one_big_batch(by, sizes):
    cut = [sizes[first : first + 2] for first in range(0, len(sizes), 2)]
    module = Sentences(say=("num_tokens",) if by == "tokens" else ())
    batches = list(zip(*(part.split(sizes) for part in sentences()), strict=True))
    fit(module, batches, accumulate_grad_batches=2, normalize_by=by, precision="64-true")
    windows = zip(*(part.split([sum(window) for window in cut]) for part in sentences()), strict=True)
    for gradients, window in zip(module.gradients, windows, strict=True):
        losses = module.losses(window)
        counted = losses != 0 if by == "tokens" else torch.ones_like(losses)
        expected = whole_batch_gradients(module, losses.sum() / counted.sum())
        for ours, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("by", ["batches", "samples"])
def test_a_short_last_window_counts_in_full(by):
    words, labels = sentences()
    batches = [(words[i : i + 1], labels[i : i + 1]) for i in range(5)]
    module = Sentences(say=("num_samples",))
    fit(module, batches, accumulate_grad_batches=4, normalize_by=by, precision="64-true")
    expected = [
        whole_batch_gradients(module, module.losses((words[part], labels[part])).view(-1, 5).mean())
        for part in (slice(0, 4), slice(4, 5))
    ]
    for ours, theirs in zip(module.gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_by_default_a_short_last_window_is_divided_by_the_full_one():
    words, labels = sentences()
    batches = [(words[i : i + 1], labels[i : i + 1]) for i in range(5)]
    module = Sentences()
    fit(module, batches, accumulate_grad_batches=4, precision="64-true")
    alone = whole_batch_gradients(module, module.losses((words[4:5], labels[4:5])).mean())
    torch.testing.assert_close(module.gradients[1], [grad / 4 for grad in alone])


def test_clipping_sees_the_gradients_of_the_big_batch():
    batches = list(zip(*(part.split((1, 5)) for part in sentences()), strict=True))
    module = Sentences()
    clipped = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            clipped[:] = [p.grad.clone() for p in pl_module.parameters()]

    fit(
        module, batches, accumulate_grad_batches=2, normalize_by="samples", precision="64-true",
        gradient_clip_val=1e-3, callbacks=Look(),
    )  # fmt: skip
    assert math.isclose(torch.cat([g.flatten() for g in clipped]).norm(), 1e-3, rel_tol=1e-5)
    assert torch.cat([g.flatten() for g in module.gradients[0]]).norm() > 1e-3


def test_under_fp16_a_window_is_exact_too():
    class Line(L.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 1)
            self.gradients = []

        def training_step(self, batch, batch_idx):
            return self.layer(batch).pow(2).mean()

        def on_before_optimizer_step(self, optimizer):
            self.gradients.append(self.layer.weight.grad.clone())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    data = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    module = Line()
    plugin = L.precision.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))
    fit(module, data.split((1, 5)), accumulate_grad_batches=2, normalize_by="samples", plugins=plugin)
    (expected, _) = whole_batch_gradients(module, module.layer(data).pow(2).mean())
    torch.testing.assert_close(module.gradients[0], expected, rtol=2e-2, atol=2e-3)


def test_tokens_must_be_said():
    with pytest.raises(MisconfigurationException, match="'num_tokens': n"):
        fit(
            Sentences(),
            [sentences()] * 2,
            accumulate_grad_batches=2,
            normalize_by="tokens",
            precision="64-true",
        )


@pytest.mark.parametrize(
    ("name", "value"), [("normalize_by", "token"), ("on_nonfinite", "stop"), ("on_nonfinite", None)]
)
def test_an_unknown_word_is_refused(name, value):
    with pytest.raises(MisconfigurationException, match=f"`{name}` is {value!r}. It is .* or '"):
        L.Trainer(**{name: value})


# ---------------------------------------------------------------------- what is not finite


class Fragile(L.LightningModule):
    """Fits numbers; a batch that holds NaN gives such a loss, one that holds 13 only such gradients."""

    def __init__(self, manual=False):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)
        self.automatic_optimization = not manual

    def training_step(self, batch, batch_idx):
        loss = (self.layer(batch) - batch).pow(2).mean()
        if (batch == 13).any():  # the root of zero: a value, and no derivative
            loss = loss + (self.layer.weight * 0).sum().sqrt()
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return None

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        if not self.automatic_optimization:
            return optimizer
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def numbers(*bad, of=6):
    """Batches; those at the places of ``bad`` hold its values."""
    batches = [torch.full((2, 1), float(i + 1)) for i in range(of)]
    for place, value in dict(bad).items():
        batches[place] = torch.full((2, 1), value)
    return batches


BAD = {"loss": math.nan, "gradient": 13.0}


@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize("what", BAD)
def test_raise_names_step_and_batch_and_leaves_the_weights_as_they_were(what, manual):
    module, clean = Fragile(manual), Fragile(manual)
    found = "gradient" if manual else what
    with pytest.raises(NonFiniteError, match=rf"The {found} of batch 3 in epoch 0 \(global step 3\) is NaN"):
        fit(module, numbers((3, BAD[what])), on_nonfinite="raise")
    fit(clean, numbers(of=3))
    assert torch.equal(module.layer.weight, clean.layer.weight)


@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize("what", BAD)
def test_skip_trains_as_if_the_batch_had_not_been(what, manual):
    module, clean = Fragile(manual), Fragile(manual)
    batches = numbers((3, BAD[what]), (5, BAD[what]))
    with pytest.warns(
        UserWarning, match=r"of batch [35] in epoch 0 \(global step [34]\) is NaN or infinite: it is skip"
    ):
        ours = fit(module, batches, on_nonfinite="skip")
    theirs = fit(clean, [batch for i, batch in enumerate(batches) if i not in (3, 5)])
    assert torch.equal(module.layer.weight, clean.layer.weight)
    assert ours.global_step == theirs.global_step == 4
    states = [trainer.optimizers[0].state_dict() for trainer in (ours, theirs)]
    assert states[0]["param_groups"] == states[1]["param_groups"]  # the scheduler did not move either
    torch.testing.assert_close(states[0]["state"], states[1]["state"], rtol=0, atol=0)


def test_a_bad_batch_of_a_window_leaves_the_others_to_step():
    module, clean = Fragile(), Fragile()
    with pytest.warns(UserWarning, match="The loss of batch 1"):
        fit(
            module,
            numbers((1, math.nan), of=4),
            on_nonfinite="skip",
            accumulate_grad_batches=4,
            normalize_by="samples",
        )
    fit(clean, numbers(of=1) + numbers(of=4)[2:], accumulate_grad_batches=4, normalize_by="samples")
    torch.testing.assert_close(module.layer.weight, clean.layer.weight)


def test_a_step_is_skipped_where_the_module_steps_in_its_own_way():
    class Own(Fragile):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            optimizer.step(closure=optimizer_closure)

    module, clean = Own(), Own()
    with pytest.warns(UserWarning, match="it is skipped"):
        trainer = fit(module, numbers((0, math.nan)), on_nonfinite="skip")
    fit(clean, numbers()[1:])
    assert torch.equal(module.layer.weight, clean.layer.weight)
    assert trainer.global_step == 5


def test_skipping_without_end_is_an_error():
    with (
        pytest.warns(UserWarning, match="it is skipped"),
        pytest.raises(NonFiniteError, match="the 100th in a row to be skipped"),
    ):
        fit(Fragile(), [torch.full((2, 1), math.nan)] * 200, on_nonfinite="skip")


def test_ignoring_is_the_default():
    module = Fragile()
    assert fit(module, numbers((3, math.nan))).global_step == 6
    assert module.layer.weight.isnan().all()


def test_an_overflow_under_fp16_is_the_scalers_business():
    plugin = L.precision.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**40))
    trainer = fit(Fragile(), numbers(of=60), plugins=plugin, on_nonfinite="raise")
    assert plugin.scaler.get_scale() < 2.0**40
    assert 0 < trainer.global_step < 60  # those that the scaler left out do not count


# ---------------------------------------------------------------------- manual optimization


class Pair(L.LightningModule):
    """A generator and a critic, each with its optimizer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator, self.critic = nn.Linear(2, 3), nn.Linear(3, 1)
        self.automatic_optimization = False

    def critic_loss(self, batch):
        return (
            self.critic(self.generator(batch)).mean() + self.critic(batch.repeat(1, 2)[:, :3]).pow(2).mean()
        )

    def generator_loss(self, batch):
        return (self.critic(self.generator(batch)) - 1).pow(2).mean()

    def training_step(self, batch, batch_idx):
        generator, critic = self.optimizers()
        with self.update(critic, gradient_clip_val=0.5, accumulate_grad_batches=2):
            self.manual_backward(self.critic_loss(batch))
        with self.update(generator, accumulate_grad_batches=2):
            self.manual_backward(self.generator_loss(batch))

    def configure_optimizers(self):
        return [torch.optim.Adam(part.parameters(), lr=0.05) for part in (self.generator, self.critic)]


@pytest.mark.parametrize("number", [8, 7], ids=["whole windows", "a short last window"])
def test_update_is_the_loop_that_one_would_write_by_hand(number):
    batches = list(torch.randn(number, 4, 2, generator=torch.Generator().manual_seed(3)))
    module, plain = Pair(), Pair()
    trainer = fit(module, batches, max_epochs=2)
    generator, critic = plain.configure_optimizers()
    for _ in range(2):
        for first in range(0, number, 2):
            window = batches[first : first + 2]
            sums = {optimizer: [0.0] * 2 for optimizer in (critic, generator)}
            for batch in window:
                for optimizer, part, loss in (
                    (critic, plain.critic, plain.critic_loss),
                    (generator, plain.generator, plain.generator_loss),
                ):
                    grads = torch.autograd.grad(loss(batch), list(part.parameters()))
                    sums[optimizer] = [a + b for a, b in zip(sums[optimizer], grads, strict=True)]
                    if batch is window[-1]:
                        for parameter, total in zip(part.parameters(), sums[optimizer], strict=True):
                            parameter.grad = total / len(window)
                        if optimizer is critic:
                            nn.utils.clip_grad_norm_(part.parameters(), 0.5)
                        optimizer.step()
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert trainer.global_step == 2 * 2 * math.ceil(number / 2)


def test_update_leaves_no_gradients_at_the_others_and_all_as_it_was():
    seen = []

    class Looking(Pair):
        def training_step(self, batch, batch_idx):
            _, critic = self.optimizers()
            with self.update(critic):
                seen.append([p.requires_grad for p in self.generator.parameters()])
                self.manual_backward(self.critic_loss(batch))
            seen.append([p.grad for p in self.generator.parameters()])
            seen.append([p.requires_grad for p in self.parameters()])

    fit(Looking(), [torch.ones(4, 2)])
    assert seen == [[False] * 2, [None] * 2, [True] * 4]


def test_update_clips_unscaled_gradients_under_fp16():
    norms = []

    class Looking(Pair):
        def on_before_optimizer_step(self, optimizer):
            if optimizer is self.trainer.optimizers[1]:
                norms.append(torch.cat([p.grad.flatten() for p in self.critic.parameters()]).norm().item())

    plugin = L.precision.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    fit(Looking(), [torch.ones(4, 2) * 5] * 4, plugins=plugin)
    assert norms
    assert all(math.isclose(norm, 0.5, rel_tol=1e-3) for norm in norms)


def test_update_belongs_to_manual_optimization():
    class Automatic(Fragile):
        def training_step(self, batch, batch_idx):
            with self.update(self.optimizers()):
                return super().training_step(batch, batch_idx)

    with pytest.raises(MisconfigurationException, match="`update` belongs to manual optimization"):
        fit(Automatic(), numbers())


def test_normalize_by_is_refused_in_manual_optimization():
    with pytest.raises(MisconfigurationException, match=r"with self.update\(optimizer"):
        fit(Pair(), [torch.ones(4, 2)], normalize_by="samples")


def test_update_refuses_what_makes_no_sense(quiet):
    class Wrong(BoringModel):
        def __init__(self, **arguments):
            super().__init__()
            self.automatic_optimization, self.arguments = False, arguments

        def training_step(self, batch):
            other = torch.optim.SGD(self.parameters(), 0.1)
            with self.update(self.optimizers() if self.arguments else other, **self.arguments):
                pass

    with pytest.raises(MisconfigurationException, match="`configure_optimizers` did not return"):
        quiet(max_steps=1).fit(Wrong())
    with pytest.raises(MisconfigurationException, match=r"accumulate_grad_batches=0\. It is 1 or more"):
        quiet(max_steps=1).fit(Wrong(accumulate_grad_batches=0))
