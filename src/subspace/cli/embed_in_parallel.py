"""Shards written by several processes or GPUs, which Lightning's strategies start and feed."""

import logging
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

# Lightning's warnings about what is meant to be so.
_EXPECTED = (
    ".*does not have many workers.*",  # a shard's number is all that is loaded
    ".*isinstance.treespec, LeafSpec.*",  # Lightning uses a name that torch is about to drop
)


class _Numbers(Dataset[int]):
    """The numbers below a count."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> int:
        return number


class _WriteShards(pl.LightningModule):
    """Writes the shards whose numbers it is given; each process opens an encoder of its own."""

    def __init__(self, job: ShardJob) -> None:
        super().__init__()
        self._job = job

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        _expect_warnings()  # here too: the process may be a new one
        embedder = replace(self._job.embedder, device=str(self.device))
        self._job = replace(self._job, embedder=embedder)
        if self.trainer.is_global_zero:
            say_dtype(embedder)

    def predict_step(self, batch: Any, batch_idx: int) -> int:  # noqa: ARG002
        if int(batch) < len(self._job.shards):
            self._job.write(int(batch))
        return int(batch)  # Lightning warns of None


def write_in_parallel(job: ShardJob, *, settings: dict[str, str]) -> None:
    """Writes what is missing with as many processes as the trainer's settings say.

    When it returns in the first process, the others have written their share, too.

    Raises:
        ConfigError: The trainer does not take the settings.
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
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(f"--trainer: {error}") from error
    # All shards, done or not: every process must be given the same list, and something of it.
    count = max(len(job.shards), trainer.world_size)
    numbers: DataLoader[int] = DataLoader(_Numbers(count), batch_size=None)
    trainer.predict(_WriteShards(job), numbers, return_predictions=False)
    # No barrier of the trainer's: it gives up after half an hour, and one process may have hours
    # more to do than another. Of a process that dies, the launcher ends the others.
    if trainer.is_global_zero:
        job.shards.wait()


def _expect_warnings() -> None:
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)
