"""A precision that keeps float32 weights and feeds the model rounded numbers."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import levin as L
from levin.precision import MixedPrecision, Precision
from levin.testing import BoringModel
from levin.utils.apply import apply_to_collection


class RoundedInput(Precision):
    precision = "32-true"

    def __init__(self, digits: int = 2) -> None:
        super().__init__()
        self.digits = digits
        self.steps = 0
        self.forwards = 0

    def convert_module(self, module: nn.Module) -> nn.Module:
        return super().convert_module(module).float()

    def convert_input(self, batch: Any) -> Any:
        return apply_to_collection(batch, Tensor, torch.round, decimals=self.digits)

    @contextmanager
    def forward_context(self) -> Generator[None]:
        self.forwards += 1
        with super().forward_context():
            yield

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any
    ) -> Any:
        self.steps += 1
        return super().optimizer_step(optimizer, closure, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def main() -> None:
    rounded = RoundedInput(digits=1)
    for plugin in (rounded, MixedPrecision("bf16-mixed", "cpu")):
        trainer = L.Trainer(
            max_epochs=1,
            limit_train_batches=2,
            limit_val_batches=0,
            plugins=[plugin],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
        )
        trainer.fit(BoringModel())
        assert trainer.precision_plugin is plugin
        print(trainer.precision)
    assert rounded.steps == 2


if __name__ == "__main__":
    main()
