"""Handwritten digits in a loop of one's own: a raw PyTorch program, and the lines that Fabric changes in it.

pip install ".[demo]"
python examples/fabric_mnist.py               # on the best device there is
python examples/fabric_mnist.py --devices 2   # in two processes

The lines that were there before stand in comments, marked `# raw:`.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import levin as L


def digits():
    """The 1,797 scanned digits of scikit-learn: four fifths to train on, the rest to test with."""
    x, y = load_digits(return_X_y=True)
    everything = TensorDataset(torch.from_numpy(x).float() / 16, torch.from_numpy(y))
    return random_split(everything, [0.8, 0.2], torch.Generator().manual_seed(0))


def network():
    image = nn.Unflatten(1, (1, 8, 8))
    layers = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(image, *layers, nn.Flatten(), nn.Linear(128, 10))


def main(devices, epochs):
    # 1. raw: device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fabric = L.Fabric(devices=devices)
    fabric.launch()
    fabric.seed_everything(42)

    train_set, test_set = digits()
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=64)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    # 2. raw: model = model.to(device)
    model, optimizer = fabric.setup(model, optimizer)
    # 3. raw: (nothing: the loaders as they are)
    train_loader, test_loader = fabric.setup_dataloaders(train_loader, test_loader)

    for epoch in range(epochs):
        model.train()
        for x, y in train_loader:
            # 4. raw: x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            # 5. raw: loss.backward()
            fabric.backward(loss)
            optimizer.step()

        model.eval()
        right = torch.zeros(2, device=fabric.device)
        with torch.no_grad():
            for x, y in test_loader:
                right += torch.tensor([(model(x).argmax(1) == y).sum(), len(y)], device=fabric.device)
        hits, seen = fabric.all_reduce(right, reduce_op="sum")  # of all processes
        fabric.print(f"epoch {epoch}: {hits / seen:.1%} of {int(seen)} digits are read right")
    fabric.save("digits.ckpt", {"model": model, "optimizer": optimizer, "epochs": epochs})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    main(args.devices, args.epochs)
