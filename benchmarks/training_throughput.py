"""Training from stored vectors against a bare PyTorch loop: same mathematics, batches, tensors.

    python benchmarks/training_throughput.py --data data/factorial

Both train the same number of steps in one process, in turn. The bare loop gets its batches made
beforehand, in memory, and calls nothing but the loss, the backward pass and Adam. Prints the steps
per second of each, the median of their ratios, and the process's own memory beside the size of the
mapped file.
"""

import argparse
import statistics
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch

from subspace.training.batches import Batch
from subspace.training.data_module import FactorData
from subspace.training.module import ProjectionModule


class StepClock(pl.Callback):
    """Times the steps alone, without set-up."""

    seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Stops it."""
        self.seconds = time.perf_counter() - self._start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")

    data = FactorData(
        sources=arguments.data,
        exclude=arguments.exclude,
        store=arguments.store,
        steps_per_epoch=arguments.steps,
    )
    ratios = []
    for _ in range(arguments.rounds):
        module, ours = fit_with_lightning(data, steps=arguments.steps)
        batches = list(data.train_dataloader())  # the trainer has ended: the steps that follow
        bare = fit_bare(module, batches[: arguments.steps])
        ratios.append(ours / bare)
        print(f"bare {bare:.1f} steps/s, subspace fit {ours:.1f} steps/s, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")
    print(
        f"memory of its own {own_memory():.0f} MiB; mapped file "
        f"{data.fitting_data.vectors.nbytes / 2**20:.0f} MiB"
    )


def own_memory() -> float:
    """Resident memory in MiB that is not a mapped file (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def fit_with_lightning(data: FactorData, *, steps: int) -> tuple[ProjectionModule, float]:
    """The trained module and its steps per second."""
    clock = StepClock()
    module = ProjectionModule(solver="sgd")
    trainer = pl.Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[clock],
    )
    trainer.fit(module, datamodule=data)
    return module, steps / clock.seconds


def fit_bare(module: ProjectionModule, batches: list[Batch]) -> float:
    """Steps per second of the same steps without any trainer."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    start = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        module.total(module.loss_terms(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return len(batches) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
