"""StepLoader: batches by the trainer's step, so that resuming in mid-epoch is exact."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, DistributedSampler

from subspace.arrays import Ints, Vectors
from subspace.errors import ConfigError
from subspace.training.batches import Batch, BatchPlan, make_batch


class PlannedBatches(Dataset[Batch]):
    """Maps a number to the batch that the plan draws for it."""

    def __init__(self, plan: BatchPlan, *, vectors: Vectors, rows: Sequence[Ints]) -> None:
        """Draws nothing yet.

        Args:
            plan: Of labelled texts.
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
    """Batches made beforehand."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        """Keeps them."""
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, position: int) -> Batch:
        return self._batches[position]


class StepLoader(DataLoader[Batch]):
    """A loader whose place in the data is the trainer's step: it has no state of its own.

    The two methods tell Lightning that resuming in the middle of an epoch is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the step is the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""


# Both samplers are DistributedSamplers because Lightning leaves those alone: any other it would
# wrap in one of its own, which knows nothing of steps.


class StepSampler(DistributedSampler[int]):
    """The batches of one epoch, from the trainer's step on: resuming in mid-epoch is exact.

    Of W processes with A accumulated batches per step, process r takes the batches
    (A step + a) W + r for a = 0 .. A - 1: together they see what one process that accumulates W A
    batches would see.
    """

    def __init__(self, trainer: Any, steps_per_epoch: int) -> None:
        """Reads the step from the trainer whenever an epoch begins.

        Raises:
            ConfigError: A step of the optimizer would span two epochs.
        """
        accumulated = trainer.accumulate_grad_batches
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
    """All batches in every process, so that all judge alike and stop together."""

    def __init__(self, batches: PreparedBatches) -> None:
        """Takes them in their order."""
        super().__init__(batches, num_replicas=1, rank=0, shuffle=False)
