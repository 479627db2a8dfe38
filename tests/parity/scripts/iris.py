"""The Iris course example as its users write it: one script, loaders given to `fit`."""

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
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


class TrainingLogger(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        loss = trainer.callback_metrics.get("train_loss")
        print(f"Spy Report: Epoch {trainer.current_epoch} ended. Loss: {loss:.4f}")


iris = np.load("./data/iris.npz")
dataset = TensorDataset(
    torch.tensor(iris["X"], dtype=torch.float32), torch.tensor(iris["y"], dtype=torch.long)
)
train_loader = DataLoader(dataset, batch_size=16, shuffle=True)

model = IrisClassifier()
trainer = L.Trainer(max_epochs=10, callbacks=[TrainingLogger()], accelerator="cpu")
trainer.fit(model, train_loader)
