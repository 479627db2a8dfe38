"""A strategy that counts what it is asked to do."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import levin as L
from levin.strategies import SingleDeviceStrategy
from levin.testing import BoringModel


class CountingStrategy(SingleDeviceStrategy):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device=device)
        self.calls: Counter[str] = Counter()

    def setup_module(self, module: nn.Module) -> nn.Module:
        self.calls["setup_module"] += 1
        return super().setup_module(module)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.calls["backward"] += 1
        super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, model: Any = None, **kwargs: Any
    ) -> Any:
        self.calls["optimizer_step"] += 1
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        self.calls["batch_to_device"] += 1
        return super().batch_to_device(batch, device, dataloader_idx)

    def reduce(self, tensor: Any, group: Any = None, reduce_op: str = "mean") -> Any:
        return super().reduce(tensor, group=group, reduce_op=reduce_op)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return super().broadcast(obj, src)

    def teardown(self) -> None:
        self.calls["teardown"] += 1
        super().teardown()


def main() -> None:
    strategy = CountingStrategy()
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=3,
        limit_val_batches=0,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(BoringModel())
    assert trainer.strategy is strategy
    assert strategy.calls["optimizer_step"] == strategy.calls["backward"] == 3, strategy.calls
    print(strategy.root_device, strategy.is_global_zero, dict(strategy.calls))


if __name__ == "__main__":
    main()
