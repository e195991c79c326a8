"""Writes shards with several processes or GPUs, which Lightning's strategies start."""

import logging
import sys
import warnings
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)
from torch.utils.data import DataLoader, Dataset

from subspace.cli.embed import say_dtype
from subspace.errors import ConfigError
from subspace.model.embed_shards import ShardJob

# Warnings of Lightning that are expected here.
_EXPECTED = (
    ".*does not have many workers.*",  # the loader gives only numbers of shards
    ".*isinstance.treespec, LeafSpec.*",  # Lightning uses a name that torch is about to remove
)


class _Numbers(Dataset[int]):
    """The numbers from 0 to `count` - 1."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> int:
        return number


class _WriteShards(pl.LightningModule):
    """Writes the shards whose numbers it receives. Each process opens its own encoder."""

    def __init__(self, job: ShardJob) -> None:
        super().__init__()
        self._job = job

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        _expect_warnings()  # again, since this may be a new process
        embedder = replace(self._job.embedder, device=str(self.device))
        self._job = replace(self._job, embedder=embedder)
        if self.trainer.is_global_zero:
            say_dtype(embedder)

    def predict_step(self, batch: Any, batch_idx: int) -> int:  # noqa: ARG002
        if int(batch) < len(self._job.shards):
            self._job.write(int(batch))
        return int(batch)  # Lightning warns if a step returns None


def write_in_parallel(job: ShardJob, *, settings: dict[str, str]) -> None:
    """Writes the missing shards with as many processes as the trainer's settings say.

    In the first process it returns after all other processes have written their shards.

    Raises:
        ConfigError: The trainer does not accept the settings.
    """
    _expect_warnings()
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    options: dict[str, Any] = {
        name: int(value) if value.isdigit() else value for name, value in settings.items()
    }
    try:
        trainer = pl.Trainer(
            **options,
            logger=False,
            enable_progress_bar=sys.stdout.isatty(),
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(f"--trainer: {error}") from error
    # All shards, done or not, since every process must get the same list and at least one number.
    count = max(len(job.shards), trainer.world_size)
    numbers: DataLoader[int] = DataLoader(_Numbers(count), batch_size=None)
    trainer.predict(_WriteShards(job), numbers, return_predictions=False)
    # A barrier of the trainer would time out after half an hour, but one process may need hours
    # longer than another. If a process dies, the launcher ends the others.
    if trainer.is_global_zero:
        job.shards.wait()


def _expect_warnings() -> None:
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)
