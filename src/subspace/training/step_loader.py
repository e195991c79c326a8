"""StepLoader: gives batches by the trainer's step, so that a run resumes exactly in mid-epoch."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, DistributedSampler

from subspace.arrays import Ints, Vectors
from subspace.errors import ConfigError
from subspace.training.batches import Batch, BatchPlan, make_batch


class PlannedBatches(Dataset[Batch]):
    """The batches of a plan, by their number."""

    def __init__(self, plan: BatchPlan, *, vectors: Vectors, rows: Sequence[Ints]) -> None:
        """Keeps the plan and the data. Batches are drawn on access.

        Args:
            plan: Plan that draws the texts of each batch.
            vectors: All stored embeddings (rows, D).
            rows: Rows of the training texts, by source.
        """
        self._plan = plan
        self._vectors = vectors
        self._rows = rows

    def __getitem__(self, number: int) -> Batch:
        source, positions = self._plan.draw(number)
        return make_batch(
            self._vectors,
            source=source,
            labels=self._plan.sources[source].take(positions),
            rows=self._rows[source][positions],
        )


class PreparedBatches(Dataset[Batch], Sized):
    """Batches that are held in memory."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Keeps the batches."""
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, position: int) -> Batch:
        return self._batches[position]


class StepLoader(DataLoader[Batch]):
    """A data loader without state, since the trainer's step gives its position in the data.

    The two methods tell Lightning that resuming in the middle of an epoch is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns an empty state, since the trainer keeps the step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignores the state, which is empty."""


# Both samplers are DistributedSamplers because Lightning does not replace those. It would replace
# any other sampler by one that ignores the trainer's step.


class StepSampler(DistributedSampler[int]):
    """Numbers of the batches of one epoch, from the trainer's step on.

    With W processes and A accumulated batches per step, process r takes the batches
    (A step + a) W + r for a = 0 .. A - 1. Together they see the same batches as one process that
    accumulates W A batches per step.
    """

    def __init__(self, trainer: Any, steps_per_epoch: int) -> None:
        """Keeps the trainer, whose step is read whenever an epoch begins.

        Raises:
            ConfigError: A step of the optimizer would span two epochs.
        """
        accumulated = trainer.accumulate_grad_batches
        if accumulated < 1:
            raise ConfigError(
                f"trainer.accumulate_grad_batches must be 1 or more, got {accumulated}"
            )
        if steps_per_epoch % accumulated:
            raise ConfigError(
                f"data.steps_per_epoch ({steps_per_epoch}) must be a multiple of "
                f"trainer.accumulate_grad_batches ({accumulated}), so that a step never spans two "
                "epochs"
            )
        super().__init__(
            cast(Any, range(steps_per_epoch)),
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            shuffle=False,
        )
        self._trainer = trainer
        self._steps_per_epoch = steps_per_epoch

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __iter__(self) -> Iterator[int]:
        start = self._trainer.global_step * self._trainer.accumulate_grad_batches
        end = (start // self._steps_per_epoch + 1) * self._steps_per_epoch
        return (number * self.num_replicas + self.rank for number in range(start, end))


class EveryBatch(DistributedSampler[Batch]):
    """All batches in every process, so that all processes validate alike and stop together."""

    def __init__(self, batches: PreparedBatches) -> None:
        """Keeps the batches in their order."""
        super().__init__(batches, num_replicas=1, rank=0, shuffle=False)
