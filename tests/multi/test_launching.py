"""`fit` and the others in new processes: what runs there, what comes back, how they end."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.callbacks import ModelCheckpoint
from levin.clusters import LightningEnvironment
from levin.launchers import FunctionLauncher
from levin.loggers import CSVLogger
from levin.strategies import DDPStrategy
from levin.utils.errors import MisconfigurationException, RankFailedError

pytestmark = [pytest.mark.multi, pytest.mark.filterwarnings("ignore:.*there is no validation data")]


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.net = torch.nn.Linear(4, 1).double()
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen += len(x)
        loss = ((self.net(x) - y) ** 2).mean()
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val", ((self.net(batch[0]) - batch[1]) ** 2).mean())

    def test_step(self, batch, batch_idx):
        self.log("test", ((self.net(batch[0]) - batch[1]) ** 2).mean())

    def predict_step(self, batch, batch_idx):
        return batch[0][:, 0]

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def data(size=16):
    x = torch.arange(4.0 * size, dtype=torch.float64).reshape(size, 4) / size
    return TensorDataset(x, x.sum(1, keepdim=True))


def loader(batch_size=2):
    return DataLoader(data(), batch_size=batch_size)


def trainer(tmp_path, strategy="ddp_fork", **kwargs):
    quiet = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "max_epochs": 2, "accelerator": "cpu", "devices": 2,
    }  # fmt: skip
    return L.Trainer(**{**quiet, "strategy": strategy, "default_root_dir": tmp_path, **kwargs})


# ---------------------------------------------------------------------- what comes back


def test_after_a_fit_in_new_processes_the_module_is_trained_as_by_one_process(tmp_path):
    module, alone = Model(), Model()
    weight = module.net.weight
    fit = trainer(tmp_path)
    fit.fit(module, loader(2), loader())
    trainer(tmp_path, "auto", devices=1).fit(alone, loader(4), loader())
    assert module.net.weight is weight
    torch.testing.assert_close(list(module.parameters()), list(alone.parameters()))
    assert module.seen.item() == 16  # rank 0's share of two epochs: a buffer that no checkpoint holds


def test_after_a_fit_the_trainer_knows_what_happened(tmp_path):
    module, fit = Model(), trainer(tmp_path)
    fit.fit(module, loader(), loader())
    assert fit.state.finished
    assert (fit.global_step, fit.current_epoch, fit.num_training_batches) == (8, 2, 4)
    assert {"loss", "val"} <= fit.callback_metrics.keys()
    assert fit.lr_scheduler_configs[0].scheduler.optimizer is fit.optimizers[0]
    assert fit.optimizers[0].param_groups[0]["params"][0] is module.net.weight
    assert fit.optimizers[0].state[module.net.weight]["step"] == 8


def test_callbacks_come_back_as_the_first_process_left_them(tmp_path):
    class Notes(L.Callback):
        def __init__(self):
            self.losses, self.model, self.lock = [], None, None

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.losses.append(outputs["loss"].item())
            self.model = pl_module

        def on_fit_end(self, trainer, pl_module):
            self.lock = (value for value in ())  # what can't be sent stays there

    notes, checkpoint, module = Notes(), ModelCheckpoint(tmp_path, monitor="val"), Model()
    trainer(tmp_path, enable_checkpointing=True, callbacks=[notes, checkpoint]).fit(
        module, loader(), loader()
    )
    assert len(notes.losses) == 8
    assert notes.model is module
    assert notes.lock is None
    assert os.path.exists(checkpoint.best_model_path)
    assert checkpoint.best_model_score is not None


def test_a_second_fit_goes_on_from_the_first(tmp_path):
    module, alone = Model(), Model()
    logger = CSVLogger(tmp_path)
    several, one = trainer(tmp_path, logger=logger, log_every_n_steps=1), trainer(tmp_path, "auto", devices=1)
    for fit, model, batch_size in ((several, module, 2), (one, alone, 4)):
        fit.fit(model, loader(batch_size))
        fit.max_epochs = 3
        fit.fit(model, loader(batch_size))
    assert (several.global_step, several.current_epoch) == (12, 3)
    torch.testing.assert_close(list(module.parameters()), list(alone.parameters()))
    rows = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    assert sum(row.split(",")[rows[0].split(",").index("loss_step")] != "" for row in rows[1:]) == 12


@pytest.mark.filterwarnings("ignore:The checkpoint was written by 1 processes")
def test_a_checkpoint_saved_after_the_fit_is_gone_on_with(tmp_path):
    module, fit = Model(), trainer(tmp_path)
    fit.fit(module, loader())
    fit.save_checkpoint(tmp_path / "after.ckpt")
    later = trainer(tmp_path, max_epochs=3)
    later.fit(Model(), loader(), ckpt_path=tmp_path / "after.ckpt")
    assert (later.global_step, later.current_epoch) == (12, 3)


def test_results_and_predictions_come_back_whole_and_in_order(tmp_path):
    module, several = Model(), trainer(tmp_path)
    one = trainer(tmp_path, "auto", devices=1)
    for entry in ("validate", "test"):
        mine = getattr(several, entry)(module, loader(), verbose=False)
        theirs = getattr(one, entry)(module, loader(), verbose=False)
        assert mine[0] == pytest.approx(theirs[0])
    found = several.predict(module, loader(3))
    assert torch.equal(torch.cat(found), data().tensors[0][:, 0])


def test_a_test_after_the_fit_takes_the_best_weights_of_that_fit(tmp_path):
    fit, module = trainer(tmp_path, enable_checkpointing=True), Model()
    fit.fit(module, loader())
    with torch.no_grad():
        module.net.weight.zero_()
    fit.test(dataloaders=loader(), ckpt_path="best", verbose=False)
    assert module.net.weight.abs().sum() > 0
    assert fit.ckpt_path == fit.checkpoint_callback.best_model_path


def test_random_numbers_go_on_as_after_a_run_of_one_process(tmp_path):
    drawn = []
    for kwargs in ({"strategy": "ddp_fork"}, {"strategy": "auto", "devices": 1}):
        L.seed_everything(3, verbose=False)
        trainer(tmp_path, max_epochs=1, **kwargs).validate(Model(), loader(), verbose=False)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


def test_what_configure_model_makes_is_made_in_this_process_too(tmp_path):
    class Late(Model):
        def __init__(self):
            super().__init__()
            self.net = None

        def configure_model(self):
            if self.net is None:
                self.net = torch.nn.Linear(4, 1).double()

    module = Late()
    trainer(tmp_path).fit(module, loader())
    before = module.net.weight.clone()
    trainer(tmp_path).fit(module, loader())
    assert not torch.equal(module.net.weight, before)


# ---------------------------------------------------------------------- how they begin


def test_the_program_runs_once_and_its_processes_are_others(tmp_path):
    class Where(L.Callback):
        def on_fit_start(self, trainer, pl_module):
            self.pid, self.world = os.getpid(), trainer.world_size

    where = Where()
    trainer(tmp_path, callbacks=[where]).fit(Model(), loader())
    assert where.world == 2
    assert where.pid != os.getpid()
    assert "LOCAL_RANK" not in os.environ


def test_bad_input_is_refused_before_a_process_is_started(tmp_path, monkeypatch):
    class NoStep(Model):
        training_step = L.LightningModule.training_step

    started = []
    monkeypatch.setattr(FunctionLauncher, "run", lambda *_, **__: started.append(1))
    fit = trainer(tmp_path)
    with pytest.raises(MisconfigurationException, match="training_step"):
        fit.fit(NoStep(), loader())
    assert not started
    assert fit.interrupted


def test_a_fork_works_after_this_process_has_computed_with_several_threads(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.rand(600, 600) @ torch.rand(600, 600)
        trainer(tmp_path, max_epochs=1).fit(Model(), loader())
    finally:
        torch.set_num_threads(threads)


def test_a_run_in_this_process_before_does_not_disturb(tmp_path):
    module = Model()
    trainer(tmp_path, "auto", devices=1).fit(module, loader())
    several = trainer(tmp_path)
    several.fit(module, loader())
    assert several.global_step == 8


def test_an_unknown_start_method_is_refused_by_name():
    with pytest.raises(ValueError, match=r"start_method='thread' is not known.*'forkserver'"):
        DDPStrategy(start_method="thread")


# ---------------------------------------------------------------------- how they end


class Failing(Model):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def training_step(self, batch, batch_idx):
        if self.global_rank == 1 and self.trainer.global_step == 2:
            self.act()
        return super().training_step(batch, batch_idx)


def raise_value_error():
    raise ValueError("boom")


def raise_unpackable():
    class OddError(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    raise OddError(1, 2)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_an_error_of_a_worker_is_raised_here_with_its_rank_and_traceback(tmp_path):
    fit, module = trainer(tmp_path), Failing(raise_value_error)
    with pytest.raises(ValueError, match=r"^boom$") as caught:
        fit.fit(module, loader())
    told = str(caught.value.__cause__)
    assert "Rank 1 on" in told
    assert "in raise_value_error" in told
    assert fit.interrupted


def test_an_error_that_cannot_be_sent_is_told(tmp_path):
    with pytest.raises(RankFailedError, match=r"(?s)Rank 1 on .* failed:.*OddError: 1"):
        trainer(tmp_path).fit(Failing(raise_unpackable), loader())


def test_a_worker_that_was_killed_is_told_by_name(tmp_path):
    with pytest.raises(RankFailedError, match=r"(?s)Rank 1 on .* ended by SIGKILL"):
        trainer(tmp_path).fit(Failing(kill_itself), loader())


def test_ctrl_c_in_the_processes_ends_the_run_here_and_keeps_what_was_learnt(tmp_path):
    module = Failing(interrupt)
    before = module.net.weight.clone()
    fit = trainer(tmp_path, max_epochs=1000)
    with pytest.raises(KeyboardInterrupt):
        fit.fit(module, loader())
    assert fit.interrupted
    assert 2 < fit.global_step < 4000
    assert not torch.equal(module.net.weight, before)


def add(left, right=0):
    return left + right + int(os.environ["LOCAL_RANK"])


def test_a_launcher_runs_any_function_and_returns_what_the_first_process_did():
    launcher = FunctionLauncher(LightningEnvironment(), 2, start_method="fork")
    assert launcher.launch(add, 3, right=4) == 7


def fail_in_rank_one():
    if os.environ["LOCAL_RANK"] == "1":
        raise LookupError("nothing here")
    return "well"


def test_a_launcher_raises_what_any_process_raised():
    launcher = FunctionLauncher(LightningEnvironment(), 2, start_method="fork")
    with pytest.raises(LookupError, match="nothing here"):
        launcher.launch(fail_in_rank_one)


def form_a_group():
    from levin.distributed import group

    group.start(
        group.Place(0, 1), backend="gloo", address="127.0.0.1", port=0, share_port=lambda port: port or 0
    )
    FunctionLauncher(LightningEnvironment(), 2, start_method="fork").launch(add, 1)


def test_a_process_of_a_group_is_told_that_it_starts_no_functions():
    launcher = FunctionLauncher(LightningEnvironment(), 1, start_method="fork")
    with pytest.raises(RuntimeError, match="in a group of processes already"):
        launcher.launch(form_a_group)
