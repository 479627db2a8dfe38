"""Lines of programs for earlier versions, one table a subject: each works, or is told what to write instead.

A row is a line, what becomes of it, and words of what is said. ``works``: it does, with a warning that calls
it old; ``runs``: it does, perhaps with another warning; all else is the name of an error.
"""

from __future__ import annotations

import argparse
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

import levin as L
from levin.testing import BoringModel
from levin.utils.errors import LevinDeprecationWarning

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": 1, "limit_train_batches": 2,
    "limit_val_batches": 1, "limit_test_batches": 1, "limit_predict_batches": 1,
}  # fmt: skip


def quiet(**arguments):
    return L.Trainer(**{**QUIET, **arguments})


def fit(model=None, *callbacks, **arguments):
    trainer = quiet(callbacks=list(callbacks), **arguments)
    trainer.fit(model or BoringModel())
    return trainer


def old(base=BoringModel, **members):
    return type("Old", (base,), members)()


def module(body):
    """A module whose `on_train_start` does that, in a fit."""
    return fit(old(on_train_start=body))


def callback(name, *arguments):
    """A callback with a hook that takes these arguments, in a fit."""
    hook = eval(f"lambda self, {', '.join(arguments)}: None")
    return fit(None, old(L.Callback, **{name: hook}))


def logged(**returned):
    """A module whose step returns more than the loss, in a fit."""
    return fit(old(training_step=lambda self, batch, batch_idx: {"loss": self.step(batch), **returned}))


class Data(L.LightningDataModule):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def outcome(line, folder):
    """What became of a line: works, runs or an error's name; and all that was said."""
    names = {
        "L": L, "pl": L, "torch": torch, "argparse": argparse, "DataLoader": DataLoader, "Data": Data,
        "BoringModel": BoringModel, "Trainer": L.Trainer, "quiet": quiet, "fit": fit, "old": old,
        "module": module, "callback": callback, "logged": logged, "model": BoringModel(), "folder": folder,
        "loader": DataLoader(torch.randn(4, 32)),
    }  # fmt: skip
    ended = "runs"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            exec(line, names)
        except Exception as error:  # which one it is, is compared
            ended, text = type(error).__name__, str(error)
    told = [each for each in warned if not str(each.message).startswith("The learning rate")]
    if ended == "runs":
        is_of_old = any(each.category is LevinDeprecationWarning for each in told)
        ended, text = ("works" if is_of_old else "runs"), ""
    return ended, " ".join([text, *(str(each.message) for each in told)])


NOT_YET = "which this version does not have yet"

ARGUMENTS = [
    ("quiet(gpus=0)", "works", "`accelerator='cpu'`"),
    ("quiet(gpus=None)", "works", "leave it out"),
    ("Trainer(tpu_cores=8)", "ValueError", "`accelerator='tpu', devices=8`"),
    ("Trainer(tpu_cores=8)", "ValueError", "is not supported"),
    ("Trainer(ipus=4)", "TypeError", "CPU, CUDA and MPS"),
    ("Trainer(hpus=4)", "TypeError", "CPU, CUDA and MPS"),
    ("quiet(num_processes=1)", "works", "leave it out"),
    ("quiet(num_processes=2)", "works", "`accelerator='cpu', devices=2`"),
    ("quiet(nb_gpu_nodes=1)", "works", "`num_nodes=1`"),
    ("quiet(num_nodes='1')", "works", "`num_nodes=1`"),
    ("Trainer(auto_select_gpus=True)", "TypeError", "find_usable_cuda_devices(n)"),
    ("quiet(distributed_backend='ddp')", "works", "`strategy='ddp'`"),
    ("quiet(accelerator='ddp')", "works", "`strategy='ddp'`"),
    ("Trainer(accelerator='dp')", "ValueError", "`strategy='dp'`"),
    ("quiet(plugins='ddp_sharded')", "ValueError", "Use strategy='fsdp'"),
    *[
        (f"quiet(strategy={name!r})", "ValueError", f"was removed. Use strategy={today!r}")
        for name, today in {
            "dp": "ddp",
            "ddp2": "ddp",
            "horovod": "ddp",
            "bagua": "ddp",
            "hivemind": "ddp",
            "ddp_sharded": "fsdp",
            "ddp_sharded_spawn": "fsdp",
            "colossalai": "fsdp",
            "ddp_fully_sharded": "fsdp",
            "fsdp_native": "fsdp",
        }.items()
    ],
    ("quiet(strategy=None)", "works", "leave it out"),
    ("quiet(precision=16, amp_backend='apex')", "TypeError", "Apex is gone"),
    ("quiet(amp_level='O2', amp_backend='native')", "TypeError", 'precision="16-mixed"'),
    ("quiet(precision=16)", "works", "'16-mixed'"),
    ("quiet(precision='16')", "works", "'16-mixed'"),
    ("quiet(precision='bf16')", "works", "'bf16-mixed'"),
    ("quiet(precision=32)", "runs", ""),
    ("Trainer(auto_lr_find=True)", "TypeError", "`Tuner(trainer).lr_find(model)`"),
    ("Trainer(auto_scale_batch_size=True)", "TypeError", "`Tuner(trainer).scale_batch_size(model)`"),
    ("quiet(replace_sampler_ddp=False)", "works", "`use_distributed_sampler=False`"),
    ("L.Trainer(weights_summary='full', accelerator='cpu')", "works", "ModelSummary(max_depth=-1)"),
    ("L.Trainer(weights_summary=None, accelerator='cpu')", "works", "`enable_model_summary=False`"),
    ("L.Trainer(progress_bar_refresh_rate=0, accelerator='cpu')", "works", "`enable_progress_bar=False`"),
    ("L.Trainer(progress_bar_refresh_rate=9, accelerator='cpu')", "works", "TQDMProgressBar(refresh_rate=9)"),
    ("L.Trainer(process_position=1, accelerator='cpu')", "works", "TQDMProgressBar(process_position=1)"),
    ("L.Trainer(show_progress_bar=False, accelerator='cpu')", "works", "`enable_progress_bar=False`"),
    ("L.Trainer(checkpoint_callback=False, accelerator='cpu')", "works", "`enable_checkpointing=False`"),
    (
        "L.Trainer(checkpoint_callback=L.callbacks.ModelCheckpoint(), accelerator='cpu')",
        "works",
        "callbacks=[ModelCheckpoint(...)]",
    ),
    ("quiet(early_stop_callback=True)", "works", "EarlyStopping(monitor='val_loss'"),
    ("quiet(resume_from_checkpoint='x.ckpt')", "works", "ckpt_path='x.ckpt'"),
    ("quiet(weights_save_path='x')", "works", "ModelCheckpoint(dirpath='x')"),
    ("quiet(default_save_path='x')", "works", "`default_root_dir='x'`"),
    ("quiet(terminate_on_nan=True)", "works", "`on_nonfinite='raise'`"),
    ("quiet(track_grad_norm=2)", "works", "grad_norm(self, norm_type=2)"),
    ("Trainer(print_nan_grads=True)", "TypeError", "detect_anomaly=True"),
    ("Trainer(log_grad_norm=True)", "TypeError", "grad_norm(self, norm_type=2)"),
    ("Trainer(stochastic_weight_avg=True)", "TypeError", "StochasticWeightAveraging(swa_lrs=...)"),
    ("quiet(flush_logs_every_n_steps=9)", "works", "CSVLogger(flush_logs_every_n_steps=...)"),
    ("quiet(log_save_interval=9)", "works", "CSVLogger(flush_logs_every_n_steps=...)"),
    ("quiet(row_log_interval=9)", "works", "`log_every_n_steps=9`"),
    ("quiet(add_row_log_interval=9)", "works", "`log_every_n_steps=9`"),
    ("Trainer(log_gpu_memory='all')", "TypeError", "DeviceStatsMonitor()"),
    ("quiet(reload_dataloaders_every_epoch=True)", "works", "`reload_dataloaders_every_n_epochs=1`"),
    ("quiet(multiple_trainloader_mode='min_size')", "works", "CombinedLoader(loaders, 'min_size')"),
    ("Trainer(truncated_bptt_steps=2)", "TypeError", "manual optimization"),
    ("quiet(accumulate_grad_batches={4: 2})", "works", "GradientAccumulationScheduler(scheduling={4: 2})"),
    ("Trainer(prepare_data_per_node=False)", "TypeError", "self.prepare_data_per_node = False"),
    ("quiet(move_metrics_to_cpu=True)", "works", "leave it out"),
    ("quiet(use_amp=True)", "works", "`precision='16-mixed'`"),
    ("L.Trainer(min_nb_epochs=1, max_nb_epochs=2, accelerator='cpu')", "works", "`max_epochs=2`"),
    ("L.Trainer(nb_sanity_val_steps=0, accelerator='cpu')", "works", "`num_sanity_val_steps=0`"),
    ("L.Trainer(train_percent_check=0.5, accelerator='cpu')", "works", "`limit_train_batches=0.5`"),
    ("L.Trainer(val_percent_check=0.5, accelerator='cpu')", "works", "`limit_val_batches=0.5`"),
    ("L.Trainer(test_percent_check=0.5, accelerator='cpu')", "works", "`limit_test_batches=0.5`"),
    ("quiet(overfit_pct=0.5)", "works", "`overfit_batches=0.5`"),
    ("quiet(max_steps=None)", "works", "`max_steps=-1`"),
    ("quiet(benchmark=False)", "runs", ""),
    ("quiet(logger=[L.loggers.CSVLogger(folder), L.loggers.CSVLogger(folder)])", "runs", ""),
    ("quiet(logger=L.loggers.LoggerCollection([]))", "AttributeError", "`Trainer(logger=[first, second])`"),
    ("quiet(profiler=True)", "works", "`profiler='simple'`"),
]

OF_THE_TRAINER = [
    ("quiet().training_type_plugin", "works", "`trainer.strategy`"),
    ("quiet().accelerator_connector", "AttributeError", "`trainer.strategy`"),
    *[(f"quiet().{name}", "works", "num_devices`") for name in
      ("num_gpus", "gpus", "tpu_cores", "ipus", "num_processes")],
    ("quiet().root_gpu", "works", "`trainer.strategy.root_device.index`"),
    ("quiet().data_parallel_device_ids", "works", "`trainer.device_ids`"),
    ("fit().lr_schedulers", "works", "`trainer.lr_scheduler_configs`"),
    *[(f"fit().{did}_ckpt_path", "works", "`trainer.ckpt_path`")
      for did in ("validated", "tested", "predicted")],
    ("quiet().running_sanity_check", "works", "`trainer.sanity_checking`"),
    ("fit().disable_validation", "works", "`not trainer.enable_validation`"),
    ("quiet().progress_bar_dict", "works", "`trainer.progress_bar_metrics`"),
    ("quiet().use_amp", "works", "`trainer.precision`"),
    ("quiet().amp_backend", "works", "`trainer.precision`"),
    ("quiet().train_loop", "works", "`trainer.fit_loop`"),
    ("quiet().weights_save_path", "works", "`trainer.default_root_dir`"),
    ("quiet().should_rank_save_checkpoint", "works", "`trainer.is_global_zero`"),
    ("quiet().prediction_writer_callbacks", "works", "`trainer.callbacks`"),
    ("quiet().lightning_optimizers", "works", "`self.optimizers()`"),
    ("quiet().optimizer_frequencies", "AttributeError", "manual optimization"),
    ("quiet().call_hook('on_fit_start')", "AttributeError", "`print(trainer.hooks)`"),
    ("quiet().run_stage()", "AttributeError", "`trainer.fit(model)`"),
    ("quiet().run_evaluation()", "AttributeError", "`trainer.validate(model)`"),
    *[(f"quiet().{name}(model)", "AttributeError", "reload_dataloaders_every_n_epochs")
      for name in ("request_dataloader", "reset_train_dataloader", "reset_val_dataloader",
                   "reset_test_dataloader", "reset_predict_dataloader", "reset_train_val_dataloaders")],
    ("quiet().verbose_evaluate", "AttributeError", "verbose=False"),
    ("quiet().logger_connector", "AttributeError", "`trainer.loggers`"),
    ("quiet().tuner.lr_find(model)", "AttributeError", "`Tuner(trainer).lr_find(model)`"),
    ("quiet().tune(model)", "AttributeError", "`Tuner(trainer).lr_find(model)`"),
    ("quiet().get_model()", "AttributeError", "`trainer.lightning_module`"),
    ("quiet().on_gpu", "works", "`trainer.strategy.root_device.type`"),
    ("quiet().proc_rank", "works", "`trainer.global_rank`"),
    ("quiet().slurm_job_id", "AttributeError", "SLURM_JOB_ID"),
    ("quiet().evaluation_loop", "AttributeError", "`trainer.test_loop`"),
    ("quiet().hpc_save('x', None)", "AttributeError", "`trainer.save_checkpoint(path)`"),
    ("Trainer.from_argparse_args(argparse.Namespace(max_epochs=1))", "works", "`Trainer(**settings)`"),
    ("Trainer.add_argparse_args(argparse.ArgumentParser())", "works", "LightningCLI"),
    ("Trainer.default_attributes()", "works", "inspect.signature(Trainer)"),
    ("Trainer.match_env_arguments()", "AttributeError", "PL_TRAINER_MAX_EPOCHS"),
    ("Trainer.get_init_arguments_and_types()", "AttributeError", "`inspect.signature`"),
    ("quiet().fit(model, train_dataloader=loader)", "works", "`train_dataloaders=...`"),
    ("quiet().test(model, test_dataloaders=loader)", "works", "`dataloaders=...`"),
    ("quiet().validate(model, val_dataloaders=loader)", "works", "`dataloaders=...`"),
]  # fmt: skip

SEVERAL = "self.automatic_optimization = False"

MODULES = [
    *[(f"fit(old({stage}_epoch_end=lambda self, outputs: None))", "NotImplementedError", words)
      for stage, words in {"training": "`on_train_epoch_end(self)`", "validation": "EpochEndMixin",
                           "test": "self.outputs.append"}.items()],
    *[(f"fit(old({stage}_step_end=lambda self, output: None))", "NotImplementedError", words)
      for stage, words in {"training": "`on_train_batch_end`", "validation": "`on_validation_batch_end`",
                           "test": "`on_test_batch_end`"}.items()],
    *[(f"fit(old({name}=lambda self: None))", "NotImplementedError", f"`{today}`")
      for name, today in {
          "on_epoch_start": "on_train_epoch_start", "on_epoch_end": "on_train_epoch_end",
          "on_batch_start": "on_train_batch_start", "on_batch_end": "on_train_batch_end",
          "on_pretrain_routine_start": "on_fit_start", "on_pretrain_routine_end": "on_fit_start",
          "on_train_dataloader": "train_dataloader", "on_val_dataloader": "val_dataloader",
          "on_test_dataloader": "test_dataloader", "on_predict_dataloader": "predict_dataloader",
          "on_hpc_save": "on_save_checkpoint", "on_hpc_load": "on_load_checkpoint",
      }.items()],
    ("fit(old(on_post_move_to_device=lambda self: None))", "runs", "stay tied"),
    ("fit(old(tbptt_split_batch=lambda self, b, n: None))", "NotImplementedError", SEVERAL),
    ("fit(old(truncated_bptt_steps=2))", "MisconfigurationException", SEVERAL),
    ("fit(old(get_progress_bar_dict=lambda self: {}))", "runs", "`get_metrics` of the progress bar"),
    *[(f"fit(old({name}=lambda self, optimizer_idx, *args: None))", "RuntimeError", SEVERAL)
      for name in ("training_step", "backward", "optimizer_step", "configure_gradient_clipping",
                   "lr_scheduler_step", "optimizer_zero_grad")],
    ("module(lambda self: self.toggle_optimizer(self.optimizers(), 0))", "TypeError", "the optimizer alone"),
    ("module(lambda self: self.untoggle_optimizer(optimizer_idx=0))", "TypeError", "the optimizer alone"),
    (("fit(old(optimizer_step=lambda self, epoch, i, optimizer, closure, on_tpu, using_native_amp,"
     " using_lbfgs: None))"), "TypeError", "requires `on_tpu`"),
    (("fit(old(optimizer_step=lambda self, epoch, i, optimizer, closure, on_tpu=False, using_lbfgs=False:"
     " optimizer.step(closure)))"), "runs", ""),
    ("fit(old(on_before_optimizer_step=lambda self, optimizer, optimizer_idx: None))", "TypeError", SEVERAL),
    ("fit(old(on_train_epoch_end=lambda self, outputs: None))", "TypeError", "self.outputs.append"),
    ("quiet().predict(old(on_predict_epoch_end=lambda self, results: None))", "TypeError", "trainer.predict"),
    *[(f"module(lambda self: self.{name}('x', 1))", "AttributeError", "BasePredictionWriter")
      for name in ("write_prediction", "write_prediction_dict", "write_predictions")],
    ("module(lambda self: self.summarize())", "AttributeError", "ModelSummary(self, max_depth=1)"),
    ("module(lambda self: self.model_size)", "AttributeError", "ModelSummary(self).model_size"),
    *[(f"module(lambda self: self.{name}(2))", "AttributeError", "levin.utilities.grad_norm")
      for name in ("grad_norm", "log_grad_norm", "grad_norm_dict")],
    ("module(lambda self: self.use_amp)", "AttributeError", "self.trainer.precision"),
    ("module(lambda self: self.precision)", "AttributeError", "self.trainer.precision"),
    ("module(lambda self: self.datamodule)", "AttributeError", "self.trainer.datamodule"),
    ("module(lambda self: self.loaded_optimizer_states_dict)", "AttributeError", "`on_load_checkpoint`"),
    ("model.hparams = {'lr': 1}; assert model.hparams.lr == 1", "runs", ""),
    ("module(lambda self: self.log('x', 1.0, sync_dist_op='sum'))", "TypeError", "`reduce_fx`"),
    ("module(lambda self: self.log('x', 1.0, tbptt_reduce_fx=max))", "TypeError", "leave it out"),
    ("module(lambda self: self.log('x', 1.0, tbptt_pad_token=0))", "TypeError", "leave it out"),
    ("module(lambda self: self.log('x', 1.0, reduce_fx=torch.max))", "runs", ""),
    ("module(lambda self: self.log('x', 1.0, reduce_fx=lambda x: x))", "MisconfigurationException",
     "torchmetrics.Metric"),
    ("L.EvalResult(checkpoint_on=1)", "AttributeError", "`self.log(name, value)`"),
    ("L.TrainResult(minimize=1)", "AttributeError", "`self.log(name, value)`"),
    ("logged(log={'acc': 1.0})", "runs", "`self.log_dict(values)`"),
    ("logged(progress_bar={'acc': 1.0})", "runs", "prog_bar=True"),
    ("fit(old(add_model_specific_args=staticmethod(lambda parser: parser)))", "runs", ""),
    ("fit(old(configure_sharded_model=lambda self: None))", "works", "`configure_model`"),
    *[(f"fit(old({name}=lambda self, *_: None))", "runs", words) for name, words in {
        "training_end": "the end of `training_step`", "validation_end": "`on_validation_epoch_end`",
        "test_end": "`on_test_epoch_end`", "tng_dataloader": "`train_dataloader`",
        "configure_ddp": "Trainer(strategy=...)", "configure_apex": "Trainer(precision=...)",
        "init_ddp_connection": "MASTER_ADDR"}.items()],
]  # fmt: skip

DATA = [
    *[(f"assert Data({name}=7).{name} == 7", "works", f"`self.{name} = ...`")
      for name in ("train_transforms", "val_transforms", "test_transforms", "dims")],
    *[(f"Data().{name}", "AttributeError", f"`self.{name} = ...`")
      for name in ("train_transforms", "val_transforms", "test_transforms", "dims")],
    ("Data().size(0)", "AttributeError", ".shape"),
    *[(f"Data().has_{note}", "AttributeError", "called by every run")
      for note in ("prepared_data", "setup_fit", "setup_validate", "setup_test", "setup_predict",
                   "teardown_fit", "teardown_validate", "teardown_test", "teardown_predict")],
    ("data = Data(); data.dims = (1, 28, 28); data.train_transforms = None", "runs", ""),
    (("quiet().fit(model, datamodule=old(Data, train_dataloader=lambda self: loader,"
     " val_dataloader=lambda self: loader, on_save_checkpoint=lambda self, saved: None))"),
     "runs", "Use `state_dict`"),
    (("quiet().fit(model, datamodule=old(Data, train_dataloader=lambda self: loader,"
     " val_dataloader=lambda self: loader, on_load_checkpoint=lambda self, saved: None))"),
     "runs", "Use `load_state_dict`"),
    ("Data.from_argparse_args(argparse.Namespace())", "works", "`Data(**settings)`"),
    ("Data.add_argparse_args(argparse.ArgumentParser())", "works", "parser.add_argument"),
    ("Data.get_init_arguments_and_types()", "AttributeError", "`inspect.signature`"),
]  # fmt: skip

CALLBACKS = [
    ("callback('on_keyboard_interrupt', 'trainer', 'module')", "NotImplementedError", "`on_exception`"),
    ("callback('on_init_start', 'trainer')", "NotImplementedError", "`setup`"),
    ("callback('on_init_end', 'trainer')", "NotImplementedError", "`setup`"),
    ("callback('on_configure_sharded_model', 't', 'm')", "NotImplementedError", "`setup`"),
    ("callback('on_before_accelerator_backend_setup', 't', 'm')", "NotImplementedError", "`setup`"),
    ("callback('on_batch_start', 't', 'm')", "NotImplementedError", "`on_train_batch_start`"),
    ("callback('on_batch_end', 't', 'm')", "NotImplementedError", "`on_train_batch_end`"),
    ("callback('on_epoch_start', 't', 'm')", "NotImplementedError", "`on_train_epoch_start`"),
    ("callback('on_epoch_end', 't', 'm')", "NotImplementedError", "`on_train_epoch_end`"),
    ("callback('on_pretrain_routine_start', 't', 'm')", "NotImplementedError", "`on_fit_start`"),
    ("callback('on_load_checkpoint', 'callback_state')", "TypeError", "trainer, pl_module, checkpoint"),
    ("callback('on_save_checkpoint', 't', 'm')", "TypeError", "trainer, pl_module, checkpoint"),
    (("fit(None, old(L.Callback, on_save_checkpoint=lambda self, t, m, saved: {'n': 1}))"
     ".save_checkpoint(folder / 'x.ckpt')"), "runs", "Return it from `state_dict(self)`"),
    ("L.callbacks.GPUStatsMonitor()", "AttributeError", "`DeviceStatsMonitor()`"),
    ("L.callbacks.XLAStatsMonitor()", "AttributeError", "`DeviceStatsMonitor()`"),
    ("L.callbacks.ProgressBarBase", "works", "`levin.callbacks.ProgressBar`"),
    ("from levin.callbacks.progress import ProgressBarBase", "works", "progress.ProgressBar`"),
    ("L.callbacks.ProgressBar(refresh_rate=20)", "TypeError", "`TQDMProgressBar(refresh_rate=...)`"),
    ("L.callbacks.ProgressBar(process_position=1)", "TypeError", "`TQDMProgressBar(process_position=...)`"),
    ("L.callbacks.QuantizationAwareTraining()", "AttributeError", "torch.ao.quantization"),
    ("it = L.callbacks.ModelCheckpoint(filepath=str(folder)); assert it.dirpath == str(folder)",
     "works", "dirpath="),
    (("it = L.callbacks.ModelCheckpoint(filepath='x/{epoch}-{val_loss:.2f}', monitor='val_loss')\n"
     "assert (it.dirpath[-2:], it.filename) == ('/x', '{epoch}-{val_loss:.2f}')"), "works", "dirpath='x'"),
    ("assert L.callbacks.ModelCheckpoint(filepath='best').filename == 'best'", "works", "`dirpath='.', "),
    ("assert L.callbacks.ModelCheckpoint(filepath=None).dirpath is None", "works", "dirpath=None"),
    ("L.callbacks.ModelCheckpoint(prefix='best')", "TypeError", "Begin `filename` with it"),
    ("L.callbacks.ModelCheckpoint(prefix='')", "works", "Begin `filename` with it"),
    ("assert L.callbacks.ModelCheckpoint(period=3)._every_n_epochs == 3", "works", "`every_n_epochs=3`"),
    ("L.callbacks.ModelCheckpoint(every_n_val_epochs=3)", "works", "`every_n_epochs=3`"),
    ("L.callbacks.ModelCheckpoint(period=3, every_n_epochs=3)", "TypeError", "Leave one of the two out"),
    ("L.callbacks.ModelCheckpoint(save_function=print)", "TypeError", "CheckpointIO"),
    ("L.callbacks.ModelCheckpoint(mode='auto')", "MisconfigurationException", "'min' or 'max'"),
    ("L.callbacks.LearningRateMonitor().lr_sch_names", "AttributeError", "Use `lrs`"),
    ("L.callbacks.LearningRateLogger()", "works", "LearningRateMonitor"),
    ("L.callbacks.EarlyStopping()", "TypeError", "'monitor'"),
    ("L.callbacks.GradNormTracker()", "AttributeError", "levin.utilities.grad_norm"),
    ("L.callbacks.LambdaCallback(on_epoch_end=print)", "TypeError", "Use `on_train_epoch_end`"),
]  # fmt: skip

LOGGERS = [
    ("L.loggers.TestTubeLogger('x')", "AttributeError", "`CSVLogger` or `TensorBoardLogger`"),
    ("L.loggers.LightningLoggerBase", "works", "`levin.loggers.Logger`"),
    ("from levin.loggers.base import LightningLoggerBase", "works", "`levin.loggers.base.Logger`"),
    ("from levin.loggers.base import rank_zero_experiment", "runs", ""),
    ("from levin.loggers.logger import Logger", "ModuleNotFoundError", "`levin.loggers.base`"),
    ("L.loggers.LoggerCollection([])", "AttributeError", "`Trainer(logger=[first, second])`"),
    ("L.loggers.CSVLogger(folder).agg_and_log_metrics({}, 1)", "AttributeError", "`log_metrics`"),
    ("L.loggers.CSVLogger(folder).update_agg_funcs()", "AttributeError", "reduce_fx"),
    ("L.loggers.CSVLogger(folder).close()", "AttributeError", "`finalize(status)`"),
    ("L.loggers.NeptuneLogger()", "AttributeError", "a `Logger` of your own"),
    ("L.loggers.TrainsLogger()", "AttributeError", "a `Logger` of your own"),
    ("L.loggers.TensorBoardLogger(folder).log_hyperparams_metrics({}, {})", "AttributeError",
     "`log_hyperparams(params, metrics)`"),
    ("L.loggers.WandbLogger(sync_step=False)", "AttributeError", NOT_YET),
]  # fmt: skip

IMPORTS = [
    ("from levin.metrics import Accuracy", "ModuleNotFoundError", "`import torchmetrics`"),
    ("from levin.lite import LightningLite", "ModuleNotFoundError", "`from levin import Fabric`"),
    ("from levin import LightningLite", "ModuleNotFoundError", "`save(path, state)`"),
    ("class Lite(L.LightningLite): pass", "AttributeError", "`use_distributed_sampler=False`"),
    ("from levin.profiler import AdvancedProfiler", "ModuleNotFoundError", "`levin.profilers`"),
    ("from levin.profilers import BaseProfiler", "ModuleNotFoundError", "import Profiler"),
    ("from levin.utilities.cli import LightningCLI", "ModuleNotFoundError", "argparse"),
    ("from levin.core.lightning import LightningModule", "ModuleNotFoundError", "from levin import Light"),
    ("from levin.core.memory import ModelSummary", "ModuleNotFoundError", "import ModelSummary"),
    ("from levin.core.grads import GradInformation", "ModuleNotFoundError", "import grad_norm"),
    ("from levin.core.decorators import auto_move_data", "ModuleNotFoundError", "`trainer.predict(model"),
    ("from levin.core.step_result import EvalResult", "ModuleNotFoundError", "`self.log(name, value)`"),
    ("from levin.callbacks.base import Callback", "ModuleNotFoundError", "from levin.callbacks import Call"),
    ("from levin.loops.base import Loop", "ModuleNotFoundError", "`trainer.fit_loop`"),
    ("from levin.utilities.distributed import rank_zero_only", "ModuleNotFoundError", "import rank_zero"),
    ("from levin.utilities.apply_func import move_data_to_device", "ModuleNotFoundError", "apply_to_coll"),
    ("from levin.utilities.cloud_io import load", "ModuleNotFoundError", "torch.load"),
    ("from levin.utilities.device_parser import parse_gpu_ids", "ModuleNotFoundError", "devices=..."),
    ("from levin.utilities.seed import seed_everything", "ModuleNotFoundError", "from levin import seed_ev"),
    ("from levin.trainer.states import TrainerState; TrainerState.FITTING", "AttributeError", "`trainer.st"),
    ("L.accelerators.GPUAccelerator", "works", "CUDAAccelerator"),
    ("from levin.accelerators.gpu import GPUAccelerator", "ModuleNotFoundError", "`levin.accelerators.cuda`"),
    *[(f"from levin.plugins import {name}", "ModuleNotFoundError", 'Trainer(strategy="ddp")')
      for name in ("DDPPlugin", "DDPSpawnPlugin", "DDP2Plugin", "DDPShardedPlugin", "DeepSpeedPlugin")],
    ("from levin.strategies import DDPSpawnStrategy", "ModuleNotFoundError", 'start_method="spawn"'),
    ("from levin.strategies import DDPFullyShardedNativeStrategy", "ModuleNotFoundError", 'strategy="fsdp"'),
    ("from levin.precision import NativeMixedPrecisionPlugin", "works", "`levin.precision.MixedPrecision`"),
    ("from levin.precision import ApexMixedPrecisionPlugin", "ModuleNotFoundError", "`MixedPrecision`"),
    ("from levin.overrides.data_parallel import LightningDataParallel", "ModuleNotFoundError", "strategy"),
    ("from levin.utilities.finite_checks import detect_nan_parameters", "ModuleNotFoundError", "isfinite"),
    ("from levin.utilities.argparse import from_argparse_args", "ModuleNotFoundError", "vars(args)"),
    # names that Lightning 2.6 still imports, and calls old
    *[(f"from levin.precision import {name}Plugin", "works", f"`levin.precision.{name}`")
      for name in ("DoublePrecision", "HalfPrecision", "MixedPrecision")],
    ("from levin.precision import PrecisionPlugin", "works", "`levin.precision.Precision`"),
    *[(f"from levin.precision import {name}PrecisionPlugin", "ModuleNotFoundError", NOT_YET)
      for name in ("Bitsandbytes", "DeepSpeed", "FSDP", "FSDPMixed", "TransformerEngine")],
    *[(f"from levin.{place} import {name}", "ModuleNotFoundError", "CPU, CUDA and MPS")
      for place, name in [
          ("accelerators.hpu", "HPUAccelerator"), ("accelerators", "TPUAccelerator"),
          ("strategies.hpu_parallel", "HPUParallelStrategy"), ("strategies", "SingleTPUStrategy"),
          ("strategies.single_hpu", "SingleHPUStrategy"), ("precision", "TPUPrecisionPlugin"),
          ("precision", "TPUBf16PrecisionPlugin"), ("precision", "XLABf16PrecisionPlugin"),
          ("precision", "XLAPrecisionPlugin"), ("precision", "HPUPrecisionPlugin")]],
    ("from levin.plugins.io.hpu_plugin import HPUCheckpointIO", "ModuleNotFoundError", "levin.checkpoint"),
    ("import pytest; model.to_torchscript(method='trace', example_inputs=torch.ones(1, 32))", "works",
     "torch.export"),
]  # fmt: skip

TOTAL_STEPS = """
def count(self):
    t = self.trainer
    devices = max(1, t.num_gpus, t.num_processes, t.tpu_cores or 0)
    batches = min(len(self.train_dataloader()), t.limit_train_batches)
    self.steps = batches // (t.accumulate_grad_batches * devices) * t.max_epochs
assert fit(old(on_train_start=count)).model.steps == 2
"""
ONE_CYCLE = """
def configure_optimizers(self):
    optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=self.trainer.max_steps)
    return [optimizer], [{"scheduler": schedule, "interval": "step", "frequency": 1}]
fit(old(configure_optimizers=configure_optimizers))
"""
PLATEAU = """
def training_epoch_end(self, outputs):
    self.lr_schedulers().step(self.trainer.callback_metrics["loss"])
fit(old(training_epoch_end=training_epoch_end))
"""

# what programs and guides in public places do, beyond the rows above
PROGRAMS = [
    ("L.callbacks.LearningRateMonitor(logging_interval='step')", "runs", ""),
    ("model.datamodule = Data(); assert isinstance(model.datamodule, Data); fit(model)", "runs", ""),
    ("trainer = quiet(strategy='auto', precision=32, devices=1, num_nodes=1); trainer.fit(model, loader)",
     "runs", ""),
    ("quiet().fit(model=model, train_dataloaders=loader)", "runs", ""),
    ("Trainer(devices=8, accelerator='tpu', strategy='ddp', precision=16)", "ValueError", "is not supported"),
    ("quiet(devices=1, strategy=None)", "works", "leave it out"),
    ("quiet(gpus=0, precision='bf16')", "works", "'bf16-mixed'"),
    ("quiet(devices=1, strategy='ddp2')", "ValueError", "Use strategy='ddp'"),
    ("quiet(replace_sampler_ddp=False, max_epochs=1)", "works", "`use_distributed_sampler=False`"),
    ("quiet().tuner.lr_find(model, datamodule=Data(), min_lr=1e-5)", "AttributeError", "`Tuner(trainer)"),
    ("from levin.plugins import DeepSpeedPlugin; DeepSpeedPlugin(save_full_weights=False)",
     "ModuleNotFoundError", "are strategies"),
    ("from levin.strategies import FSDPStrategy", "ModuleNotFoundError", NOT_YET),
    ("from levin.callbacks import StochasticWeightAveraging", "ModuleNotFoundError", NOT_YET),
    # a schedule's length from the trainer of 2021
    (TOTAL_STEPS, "works", "num_devices"),
    (ONE_CYCLE, "ValueError", "`self.trainer.estimated_stepping_batches`"),
    (PLATEAU, "NotImplementedError", "EpochEndMixin"),
    # a classifier and its logger of 2020
    ("from levin.loggers import TestTubeLogger", "ModuleNotFoundError", "`CSVLogger`"),
    ("L.Trainer(weights_summary='full', profiler='simple', accelerator='cpu')", "works", "ModelSummary("),
    ("quiet(gpus=0, num_nodes=1, accelerator='ddp')", "works", "`accelerator='cpu'`"),
    ("quiet(fast_dev_run=False, overfit_batches=0.0, limit_train_batches=0.2)", "runs", ""),
    (("fit(None, old(L.Callback, on_train_epoch_end=lambda self, trainer, pl_module:"
     " trainer.logger.log_metrics({'seconds': 1.0}, step=trainer.current_epoch)),"
     " logger=L.loggers.CSVLogger(folder))"), "runs", ""),
]  # fmt: skip

TABLES = [
    (line, ended, words)
    for table in (ARGUMENTS, OF_THE_TRAINER, MODULES, DATA, CALLBACKS, LOGGERS, IMPORTS, PROGRAMS)
    for line, ended, words in table
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="lines that ask for GPUs are told that there are none")
@pytest.mark.parametrize(("line", "ended", "words"), TABLES)
def test_a_line_of_an_old_program_works_or_says_what_to_write(line, ended, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, said = outcome(line, tmp_path)
    assert (found, words in said) == (ended, True), said
