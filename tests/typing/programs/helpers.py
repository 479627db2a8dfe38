"""The helpers that programs import."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import levin as L
from levin.testing import BoringModel, RandomDataset
from levin.utils.apply import apply_to_collection, move_data_to_device
from levin.utils.errors import MisconfigurationException
from levin.utils.overrides import is_overridden
from levin.utils.rank import rank_zero_info, rank_zero_only
from levin.utils.seed import isolate_rng
from levin.utils.types import AttributeDict


@rank_zero_only
def tell(text: str, times: int = 1) -> None:
    print(text * times)


@rank_zero_only
def count(text: str) -> int:
    return len(text)


def twice(tensor: Tensor) -> Tensor:
    return 2 * tensor


class Nested(L.LightningModule):
    """A module in a module; the outer one's run is the inner one's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = BoringModel()
        self.example_input_array = torch.ones(1, 32)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        assert self.inner.trainer is self.trainer
        gathered = self.all_gather(batch)
        return self.forward(gathered).mean().to(self.dtype)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(RandomDataset(32, 4), batch_size=2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(self.parameters())


def main() -> None:
    seed: int = L.seed_everything(3, workers=True)
    with isolate_rng():
        torch.rand(1)
    tell("ab", times=2)
    length: int | None = count("abc")
    batch = move_data_to_device({"x": torch.ones(2), "n": 1}, torch.device("cpu"))
    doubled = apply_to_collection(batch, Tensor, twice)
    print(seed, length, doubled["x"].sum(), AttributeDict(a=1).a)
    assert is_overridden("training_step", Nested())
    rank_zero_info("training")

    model = Nested()
    trainer = L.Trainer(max_steps=2, max_epochs=1, accelerator="cpu", logger=False)
    trainer.fit(model)
    model.unfreeze()
    try:
        L.Trainer(limit_train_batches=-1)
    except MisconfigurationException as error:
        print(error)
    with trainer.init_module():
        again = Nested()
    print(
        again.device,
        again.on_gpu,
        model.current_epoch,
        trainer.predict(again, DataLoader(RandomDataset(32, 1))),
    )


if __name__ == "__main__":
    main()
