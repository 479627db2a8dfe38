"""A profiler that counts, beside those that measure."""

from collections import Counter
from pathlib import Path

from torch import Tensor

import levin as L
from levin.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from levin.testing import BoringModel


class CountingProfiler(Profiler):
    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        self.started: Counter[str] = Counter()
        self.running: list[str] = []

    def start(self, action_name: str) -> None:
        self.started[action_name] += 1
        self.running.append(action_name)

    def stop(self, action_name: str) -> None:
        self.running.remove(action_name)

    def summary(self) -> str:
        return "\n".join(f"{name}: {count}" for name, count in self.started.most_common())

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | Path | None = None) -> None:
        super().setup(stage, local_rank, log_dir)

    def teardown(self, stage: str | None = None) -> None:
        super().teardown(stage=stage)


class Measured(BoringModel):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        with self.trainer.profiler.profile("my forward") as name:
            loss: Tensor = self(batch).mean()
        assert name == "my forward"
        return loss


def main() -> None:
    counting = CountingProfiler()
    profilers: list[Profiler | str | None] = [
        counting, SimpleProfiler(filename="simple"), AdvancedProfiler(filename="advanced"), "simple", None,
    ]  # fmt: skip
    for profiler in profilers:
        trainer = L.Trainer(
            max_epochs=1,
            limit_train_batches=2,
            limit_val_batches=0,
            profiler=profiler,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
        )
        trainer.fit(Measured())
    assert counting.started["my forward"] == 2
    assert not counting.running


if __name__ == "__main__":
    main()
