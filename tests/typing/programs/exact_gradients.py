"""Windows that count as one big batch, losses that are not finite, updates in one `with`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import levin as L
from levin.utils.errors import NonFiniteError

Tokens = tuple[Tensor, Tensor]


class Tagger(L.LightningModule):
    """Sentences of different lengths: what has the label -100 is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 3))

    def training_step(self, batch: Tokens, batch_idx: int) -> dict[str, Tensor]:
        words, tags = batch
        logits: Tensor = self.net(words)
        loss = F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=-100)
        return {"loss": loss, "num_tokens": (tags != -100).sum()}

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Broken(Tagger):
    def training_step(self, batch: Tokens, batch_idx: int) -> dict[str, Tensor]:
        output = super().training_step(batch, batch_idx)
        return {**output, "loss": output["loss"] * math.nan} if batch_idx == 1 else output


class ByHand(Tagger):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Tokens, batch_idx: int) -> dict[str, Tensor]:
        output = super().training_step(batch, batch_idx)
        with self.update(self.optimizers(), gradient_clip_val=0.5, accumulate_grad_batches=2):
            self.manual_backward(output["loss"])
        return output


def loader() -> DataLoader[tuple[Tensor, ...]]:
    words, tags = torch.randint(8, (10, 5)), torch.randint(3, (10, 5))
    tags[::2, 3:] = -100
    return DataLoader(TensorDataset(words, tags), batch_size=2)


def main() -> None:
    exact = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        accumulate_grad_batches=2,
        normalize_by="tokens",
    )
    exact.fit(Tagger(), loader())
    by_hand = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    by_hand.fit(ByHand(), loader())
    assert exact.global_step == by_hand.global_step == 3
    try:
        L.Trainer(max_epochs=1, accelerator="cpu", logger=False, on_nonfinite="raise").fit(Broken(), loader())
    except NonFiniteError as error:
        print(error)


if __name__ == "__main__":
    main()
