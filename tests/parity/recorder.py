"""Classes that write down every call a framework makes into user code.

They are written once and made for whichever framework is asked for: `L` is a module with the names
`Trainer`, `LightningModule`, `LightningDataModule` and `Callback` (`levin` or `lightning.pytorch`).
A line of a trace is ``owner.hook argument=value ... | e0 s3 grad train``: after the bar stand
`current_epoch`, `global_step`, how autograd is set and `module.training` at that moment.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

# Arguments whose value says nothing about order, or that another framework may fill with a richer object.
SILENT_ARGUMENTS = {
    "self",
    "trainer",
    "pl_module",
    "batch",
    "loss",
    "optimizer_closure",
    "checkpoint",
    "state_dict",
}

DATA_HOOKS = [
    "prepare_data",
    "setup",
    "teardown",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
]

TRAIN_HOOKS = [
    "on_fit_start",
    "on_fit_end",
    "on_train_start",
    "on_train_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
]

EVALUATION_HOOKS = [
    f"on_{stage}_{moment}"
    for stage in ("validation", "test", "predict")
    for moment in ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")
]

MODULE_HOOKS = [
    *DATA_HOOKS,
    *TRAIN_HOOKS,
    *EVALUATION_HOOKS,
    *[
        "configure_callbacks",
        "configure_model",
        "configure_gradient_clipping",
        "clip_gradients",
        "backward",
        "optimizer_step",
        "optimizer_zero_grad",
        "lr_scheduler_step",
        "zero_grad",
        "on_validation_model_eval",
        "on_validation_model_train",
        "on_validation_model_zero_grad",
        "on_test_model_eval",
        "on_test_model_train",
        "on_predict_model_eval",
        "on_save_checkpoint",
        "on_load_checkpoint",
        "state_dict",
        "load_state_dict",
    ],
]

CALLBACK_HOOKS = [
    *TRAIN_HOOKS,
    *EVALUATION_HOOKS,
    *[
        "setup",
        "teardown",
        "on_sanity_check_start",
        "on_sanity_check_end",
        "on_exception",
        "on_save_checkpoint",
        "on_load_checkpoint",
        "load_state_dict",
    ],
]

DATAMODULE_HOOKS = [*DATA_HOOKS, "load_state_dict"]


class Recorder:
    """The list of calls, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def note(self, owner: str, hook: str, arguments: dict[str, Any] | None = None, context: str = "") -> None:
        """Append one line.

        Args:
            owner: Whose hook it is.
            hook: Its name.
            arguments: What it was given, by name; the silent ones are left out.
            context: What held at that moment (counters, modes).
        """
        told = [f"{k}={describe(v)}" for k, v in (arguments or {}).items() if k not in SILENT_ARGUMENTS]
        line = " ".join([f"{owner}.{hook}", *told])
        self.calls.append(f"{line} | {context}" if context else line)


def describe(value: Any) -> str:
    """Return a short text for an argument: kinds for tensors and objects, values for plain things."""
    if isinstance(value, torch.Tensor):
        return "tensor+graph" if value.requires_grad else "tensor"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{describe(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(describe(v) for v in value) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, (str, torch.device)):
        return str(getattr(value, "value", value))
    if isinstance(value, torch.optim.Optimizer) and "Traced" not in type(value).__name__:
        return "stand-in"  # for a module without an optimizer; its name is the framework's own affair
    return type(value).__name__


def grad_mode() -> str:
    """Return how autograd stands: grad, no_grad or inference."""
    if torch.is_inference_mode_enabled():
        return "inference"
    return "grad" if torch.is_grad_enabled() else "no_grad"


def module_context(module: Any) -> str:
    """Return the counters and modes that a hook of this module sees."""
    mode = "train" if module.training else "eval"
    return f"e{module.current_epoch} s{module.global_step} {grad_mode()} {mode}"


def traced(owner: str, base: type, hook: str) -> Any:
    """Return a method that notes the call and does what `base` does.

    Args:
        owner: The name in the trace.
        base: The framework's class.
        hook: The method's name.
    """
    original = getattr(base, hook)
    signature = inspect.signature(original)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = {k: v for k, v in bound.arguments.items() if k not in ("args", "kwargs")}
        if hook in ("state_dict", "load_state_dict", "zero_grad"):
            arguments = {}
        if owner == "module":
            context = module_context(self)
        elif "pl_module" in arguments:
            context = module_context(arguments["pl_module"])
        else:
            context = grad_mode()
        self.recorder.note(owner, hook, arguments, context)
        return original(self, *args, **kwargs)

    method.__name__ = hook
    return method


def hooked(owner: str, base: type, hooks: list[str]) -> type:
    """Return a subclass of `base` that notes the calls of `hooks`.

    Args:
        owner: The name in the trace.
        base: The framework's class.
        hooks: The methods' names.
    """
    return type(f"Traced{base.__name__}", (base,), {hook: traced(owner, base, hook) for hook in hooks})


class Rows(Dataset):
    """Rows that follow from their index alone; knows the recorder so that reading them can be seen."""

    def __init__(self, recorder: Recorder, name: str, length: int) -> None:
        self.recorder = recorder
        self.name = name
        self.rows = torch.sin(torch.arange(length * 4, dtype=torch.float32)).view(length, 4)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def collate(self, samples: list[tuple[int, torch.Tensor]]) -> torch.Tensor:
        """Stack the rows, noting which they are."""
        self.recorder.note("data", f"{self.name}[{','.join(str(i) for i, _ in samples)}]")
        return torch.stack([row for _, row in samples])


class TracedLoader(DataLoader):
    """A DataLoader that notes when an iterator is asked for."""

    def __iter__(self) -> Any:
        self.dataset.recorder.note("data", f"{self.dataset.name}.iter")
        return super().__iter__()


def loader(recorder: Recorder, name: str, batches: int, batch_size: int = 2) -> DataLoader:
    """Return a loader of `batches` batches that notes each read."""
    rows = Rows(recorder, name, batches * batch_size)
    return TracedLoader(rows, batch_size=batch_size, collate_fn=rows.collate)


class Stream(IterableDataset):
    """The same rows from an iterable of unknown length."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.recorder = rows.recorder
        self.name = rows.name

    def __iter__(self) -> Any:
        return (self.rows[index] for index in range(len(self.rows)))


def stream(recorder: Recorder, name: str, batches: int, batch_size: int = 2) -> DataLoader:
    """Return a loader of unknown length that gives `batches` batches and notes each read."""
    rows = Rows(recorder, name, batches * batch_size)
    return TracedLoader(Stream(rows), batch_size=batch_size, collate_fn=rows.collate)


def traced_optimizer(recorder: Recorder, base: type) -> type:
    """Return a subclass of the torch optimizer `base` that notes `step` and `zero_grad`."""

    class Traced(base):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            recorder.note("optimizer", f"{base.__name__}.step", {"closure": closure is not None}, grad_mode())
            result = super().step(closure)
            recorder.note("optimizer", f"{base.__name__}.stepped")
            return result

        def zero_grad(self, set_to_none: bool = True) -> None:
            recorder.note("optimizer", f"{base.__name__}.zero_grad", {"set_to_none": set_to_none})
            super().zero_grad(set_to_none)

    Traced.__name__ = Traced.__qualname__ = f"Traced{base.__name__}"
    return Traced


def traced_scheduler(recorder: Recorder, base: type) -> type:
    """Return a subclass of the torch scheduler `base` that notes `step`."""

    class Traced(base):  # type: ignore[misc, valid-type]
        def step(self, *args: Any) -> None:
            recorder.note("scheduler", f"{base.__name__}.step", {"metric": len(args) > 0})
            super().step(*args)

    Traced.__name__ = Traced.__qualname__ = f"Traced{base.__name__}"
    return Traced


def make_module(L: Any, recorder: Recorder) -> Any:
    """Return the class of a small automatic module whose every hook is noted."""
    hooks = hooked("module", L.LightningModule, MODULE_HOOKS)

    class RecorderModule(hooks):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.recorder = recorder
            self.layer = torch.nn.Linear(4, 2)

        def note(self, hook: str, **arguments: Any) -> None:
            recorder.note("module", hook, arguments, module_context(self))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            return self(batch).square().mean()

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
            self.note("training_step", batch_idx=batch_idx)
            loss = self.loss(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.note("validation_step", batch_idx=batch_idx, dataloader_idx=dataloader_idx)
            loss = self.loss(batch)
            self.log("val_loss", loss)
            return loss

        def test_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.note("test_step", batch_idx=batch_idx, dataloader_idx=dataloader_idx)
            loss = self.loss(batch)
            self.log("test_loss", loss)
            return {"loss": loss, "size": len(batch)}

        def predict_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.note("predict_step", batch_idx=batch_idx, dataloader_idx=dataloader_idx)
            return self(batch)

        def configure_optimizers(self) -> Any:
            self.note("configure_optimizers")
            optimizer = traced_optimizer(recorder, torch.optim.SGD)(self.parameters(), lr=0.1)
            scheduler = traced_scheduler(recorder, torch.optim.lr_scheduler.StepLR)(optimizer, step_size=1)
            return [optimizer], [scheduler]

    return RecorderModule


def make_datamodule(L: Any, recorder: Recorder) -> Any:
    """Return the class of a datamodule (3 train, 2 val, 2 test, 2 predict batches) that notes every hook."""
    hooks = hooked("datamodule", L.LightningDataModule, DATAMODULE_HOOKS)

    class RecorderData(hooks):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.recorder = recorder

        def state_dict(self) -> dict[str, Any]:
            recorder.note("datamodule", "state_dict")
            return {"seen": 7}

        def train_dataloader(self) -> DataLoader:
            recorder.note("datamodule", "train_dataloader", None, grad_mode())
            return loader(recorder, "train", 3)

        def val_dataloader(self) -> DataLoader:
            recorder.note("datamodule", "val_dataloader", None, grad_mode())
            return loader(recorder, "val", 2)

        def test_dataloader(self) -> DataLoader:
            recorder.note("datamodule", "test_dataloader", None, grad_mode())
            return loader(recorder, "test", 2)

        def predict_dataloader(self) -> DataLoader:
            recorder.note("datamodule", "predict_dataloader", None, grad_mode())
            return loader(recorder, "predict", 2)

    return RecorderData


def make_callback(L: Any, recorder: Recorder) -> Any:
    """Return the class of a callback whose every hook is noted."""
    hooks = hooked("callback", L.Callback, CALLBACK_HOOKS)

    class RecorderCallback(hooks):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.recorder = recorder

        def state_dict(self) -> dict[str, Any]:
            recorder.note("callback", "state_dict")
            return {"seen": 5}

    return RecorderCallback


def make_logger(L: Any, recorder: Recorder, root: str) -> Any:
    """Return a logger that notes what it is told.

    Args:
        L: The framework.
        recorder: Where the calls go.
        root: The directory it says it saves to.
    """
    base = importlib.import_module(f"{L.__name__}.loggers").Logger

    class RecorderLogger(base):  # type: ignore[misc, valid-type]
        name = "recorder"
        version = 0
        save_dir = root

        is_saved = False

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            recorder.note("logger", "log_hyperparams")

        def log_graph(self, *args: Any, **kwargs: Any) -> None:
            recorder.note("logger", "log_graph")

        def save(self) -> None:
            if not self.is_saved:  # that nothing new is saved again is nobody's concern
                recorder.note("logger", "save")
            self.is_saved = True

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            recorder.note("logger", "log_metrics", {"step": step, "keys": sorted(metrics)})
            self.is_saved = False

        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            recorder.note("logger", "after_save_checkpoint")

        def finalize(self, status: str) -> None:
            recorder.note("logger", "finalize", {"status": status})

    return RecorderLogger()


def without_trial(calls: list[str]) -> list[str]:
    """Return a trace without the states that levin asks for before it trains: could they be loaded again?

    They are the last before the gradients are cleared.
    """
    kept: list[str] = []
    for call in calls:
        while call.startswith("module.zero_grad") and kept and ".state_dict" in kept[-1]:
            kept.pop()
        kept.append(call)
    return kept
