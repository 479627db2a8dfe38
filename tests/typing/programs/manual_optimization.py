"""Two optimizers that take turns, with their schedulers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler
from torch.utils.data import DataLoader, TensorDataset

import levin as L


class SmallGAN(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Linear(2, 4)
        self.discriminator = nn.Linear(4, 1)

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> None:
        (real,) = batch
        opt_g, opt_d = self.optimizers()
        noise = torch.randn(len(real), 2, device=self.device)

        self.toggle_optimizer(opt_g)
        g_loss = self._verdict(self.generator(noise), truth=1.0)
        opt_g.zero_grad()
        self.manual_backward(g_loss)
        self.clip_gradients(opt_g, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        opt_g.step()
        self.untoggle_optimizer(opt_g)

        with opt_d.toggle_model():
            fake: Tensor = self.generator(noise)
            d_loss = self._verdict(real, truth=1.0) + self._verdict(fake.detach(), truth=0.0)
            opt_d.zero_grad()
            self.manual_backward(d_loss)
            opt_d.step()

        self.log_dict({"g": g_loss, "d": d_loss}, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        optimizers: list[Optimizer] = [
            torch.optim.Adam(self.generator.parameters(), lr=1e-3),
            torch.optim.SGD(self.discriminator.parameters(), lr=1e-2),
        ]
        return optimizers, [ExponentialLR(optimizer, gamma=0.9) for optimizer in optimizers]

    def _verdict(self, images: Tensor, truth: float) -> Tensor:
        logits: Tensor = self.discriminator(images)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))


class OneByHand(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        optimizer = self.optimizers()
        loss: Tensor = self.layer(batch[0]).mean()
        self.manual_backward(loss)
        if (batch_idx + 1) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            rate: float = optimizer.param_groups[0]["lr"]
            self.log("lr", rate)
        return loss

    def on_train_epoch_end(self) -> None:
        found = self.optimizers()
        assert isinstance(found, Optimizer)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ExponentialLR):
            scheduler.step()

    def configure_optimizers(self) -> dict[str, Optimizer | LRScheduler]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, gamma=0.5)}


def main() -> None:
    loader = DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=2)
    for model, steps in ((SmallGAN(), 8), (OneByHand(), 2)):
        trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.fit(model, loader)
        assert trainer.global_step == steps


if __name__ == "__main__":
    main()
