# ruff: noqa: ARG002  # steps take the number of a batch, whether they use it or not
"""Models and data so small that a test can run them whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from levin.core.datamodule import LightningDataModule
from levin.core.module import LightningModule

if TYPE_CHECKING:
    from collections.abc import Iterator


class RandomDataset(Dataset[Tensor]):
    """Rows drawn from a normal distribution, once.

    Args:
        size: How many numbers a row has.
        length: How many rows there are.
    """

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data: Tensor = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(Dataset[dict[str, Tensor]]):
    """The same rows in dicts: "a" is a row, "b" is the row plus 2."""

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data: Tensor = torch.randn(length, size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.data[index]
        return {"a": row, "b": row + 2}

    def __len__(self) -> int:
        return self.len


class RandomIterableDataset(IterableDataset[Tensor]):
    """Rows drawn from a normal distribution as they are asked for; it has no length.

    Args:
        size: How many numbers a row has.
        count: How many rows there are.
    """

    def __init__(self, size: int, count: int) -> None:
        self.count = count
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """The same, with a length."""

    def __len__(self) -> int:
        return self.count


class BoringModel(LightningModule):
    """One linear layer that learns to give ones; it brings its own data, 64 batches of one row.

    Override what a test is about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer: nn.Linear = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Any:
        """What the layer gives."""
        return self.layer(x)

    def loss(self, preds: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean squared difference, from ones if there are no labels."""
        return nn.functional.mse_loss(preds, torch.ones_like(preds) if labels is None else labels)

    def step(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """``{"loss": loss}``."""
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """``{"x": loss}``."""
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """``{"y": loss}``."""
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> Any:
        """SGD, and a scheduler that divides its learning rate by ten with each epoch."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))

    def val_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))

    def test_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))

    def predict_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(RandomDataset(32, 64))


class ManualOptimBoringModel(BoringModel):
    """The same in manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """One step of the optimizer; returns the loss."""
        optimizer: Any = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class DemoModel(LightningModule):
    """One linear layer from 32 numbers, and Adam: a model with hyper-parameters and no data.

    Args:
        out_dim: How many numbers it gives.
        learning_rate: The learning rate.
    """

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.l1: nn.Linear = nn.Linear(32, out_dim)
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Any:
        """What the layer gives, where it is positive."""
        return torch.relu(self.l1(x.view(x.size(0), -1)))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The sum of what it gives."""
        return self(batch).sum()

    def configure_optimizers(self) -> Any:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class Net(nn.Module):
    """A small convolutional network for images of 28 x 28 grey pixels in ten classes, such as MNIST's digits.

    It gives the logarithms of the classes' probabilities.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(1, 32, kernel_size=3)
        self.conv2: nn.Conv2d = nn.Conv2d(32, 64, kernel_size=3)
        self.dropout1: nn.Dropout = nn.Dropout(0.25)
        self.dropout2: nn.Dropout = nn.Dropout(0.5)
        self.fc1: nn.Linear = nn.Linear(64 * 12 * 12, 128)
        self.fc2: nn.Linear = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, 1, 28, 28]`` -> log-probabilities ``[N, 10]``."""
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = self.dropout1(nn.functional.max_pool2d(x, 2)).flatten(1)
        x = self.dropout2(torch.relu(self.fc1(x)))
        return torch.log_softmax(self.fc2(x), dim=1)


class BoringDataModule(LightningDataModule):
    """256 rows for `BoringModel`: 64 each for training, validation, test and prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.random_full: RandomDataset = RandomDataset(32, 64 * 4)

    def setup(self, stage: str) -> None:
        """Take the rows of the stage."""
        if stage == "fit":
            self.random_train: Subset[Tensor] = Subset(self.random_full, range(64))
        if stage in ("fit", "validate"):
            self.random_val: Subset[Tensor] = Subset(self.random_full, range(64, 64 * 2))
        if stage == "test":
            self.random_test: Subset[Tensor] = Subset(self.random_full, range(64 * 2, 64 * 3))
        if stage == "predict":
            self.random_predict: Subset[Tensor] = Subset(self.random_full, range(64 * 3, 64 * 4))

    def train_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_train)

    def val_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_val)

    def test_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_test)

    def predict_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_predict)


class BoringDataModuleNoLen(LightningDataModule):
    """Rows for `BoringModel` from loaders without a length: 512, 128, 256 and 64 for the four stages."""

    def setup(self, stage: str) -> None:
        """Make the rows of the stage."""
        if stage == "fit":
            self.random_train: RandomIterableDataset = RandomIterableDataset(32, 512)
        if stage in ("fit", "validate"):
            self.random_val: RandomIterableDataset = RandomIterableDataset(32, 128)
        if stage == "test":
            self.random_test: RandomIterableDataset = RandomIterableDataset(32, 256)
        if stage == "predict":
            self.random_predict: RandomIterableDataset = RandomIterableDataset(32, 64)

    def train_dataloader(self) -> Any:
        """512 batches of one row."""
        return DataLoader(self.random_train)

    def val_dataloader(self) -> Any:
        """128 batches of one row."""
        return DataLoader(self.random_val)

    def test_dataloader(self) -> Any:
        """256 batches of one row."""
        return DataLoader(self.random_test)

    def predict_dataloader(self) -> Any:
        """64 batches of one row."""
        return DataLoader(self.random_predict)


class IterableBoringDataModule(LightningDataModule):
    """Two loaders for each stage, the first with a length and the second without, of rows of 4 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.train_datasets: list[Dataset[Tensor]] = []
        self.val_datasets: list[Dataset[Tensor]] = []
        self.test_datasets: list[Dataset[Tensor]] = []
        self.predict_datasets: list[Dataset[Tensor]] = []

    def setup(self, stage: str) -> None:
        """Make the rows of the stage."""
        if stage == "fit":
            self.train_datasets = _sized_and_unsized(16)
        if stage in ("fit", "validate"):
            self.val_datasets = _sized_and_unsized(32)
        if stage == "test":
            self.test_datasets = _sized_and_unsized(64)
        if stage == "predict":
            self.predict_datasets = _sized_and_unsized(128)

    def train_dataloader(self) -> Any:
        """Two times 16 batches."""
        return [DataLoader(dataset) for dataset in self.train_datasets]

    def val_dataloader(self) -> Any:
        """Two times 32 batches."""
        return [DataLoader(dataset) for dataset in self.val_datasets]

    def test_dataloader(self) -> Any:
        """Two times 64 batches."""
        return [DataLoader(dataset) for dataset in self.test_datasets]

    def predict_dataloader(self) -> Any:
        """Two times 128 batches."""
        return [DataLoader(dataset) for dataset in self.predict_datasets]


def _sized_and_unsized(rows: int) -> list[Dataset[Tensor]]:
    return [RandomDataset(4, rows), RandomIterableDataset(4, rows)]
