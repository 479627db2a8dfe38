"""The Iris course example with its data in a datamodule; the validation loader has no step to serve."""

import os

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from sklearn.model_selection import train_test_split
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset


class IrisClassifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer_1 = nn.Linear(4, 16)
        self.layer_2 = nn.Linear(16, 3)

    def forward(self, x):
        return self.layer_2(F.relu(self.layer_1(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return Adam(self.parameters(), lr=0.01)


class IrisDataModule(L.LightningDataModule):
    def __init__(
        self, data_dir="./data", batch_size=16, num_workers=0, val_size=0.2, random_state=42, shuffle=True
    ):
        super().__init__()
        self.data_file = os.path.join(data_dir, "iris.npz")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_size = val_size
        self.random_state = random_state
        self.shuffle = shuffle
        self.train_ds = None
        self.val_ds = None
        self.save_hyperparameters(ignore=["num_workers"])

    def prepare_data(self):
        if not os.path.exists(self.data_file):
            raise FileNotFoundError(self.data_file)

    def setup(self, stage=None):
        data = np.load(self.data_file)
        x, y = data["X"].astype(np.float32), data["y"].astype(np.int64)
        x_train, x_val, y_train, y_val = train_test_split(
            x, y, test_size=self.val_size, random_state=self.random_state, stratify=y
        )
        self.train_ds = TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train))
        self.val_ds = TensorDataset(torch.from_numpy(x_val), torch.from_numpy(y_val))

    def train_dataloader(self):
        return DataLoader(
            self.train_ds, batch_size=self.batch_size, shuffle=self.shuffle, num_workers=self.num_workers
        )

    def val_dataloader(self):
        return DataLoader(
            self.val_ds, batch_size=self.batch_size, shuffle=False, num_workers=self.num_workers
        )


class TrainingLogger(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        loss = trainer.callback_metrics.get("train_loss")
        print(f"Spy Report: Epoch {trainer.current_epoch} ended. Loss: {loss:.4f}")


dm = IrisDataModule(data_dir="./data", batch_size=16, val_size=0.2, random_state=42)
trainer = L.Trainer(max_epochs=10, callbacks=[TrainingLogger()], accelerator="cpu")
model = IrisClassifier()
trainer.fit(model, datamodule=dm)
