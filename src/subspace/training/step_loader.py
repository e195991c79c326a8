"""StepLoader: batches by the trainer's step, so that resuming in mid-epoch is exact."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from subspace.arrays import Ints, Vectors
from subspace.errors import ConfigError
from subspace.training.batches import Batch, BatchPlan, make_batch
from subspace.training.pair_batches import PairBatch, PairPlan


class PlannedBatches(Dataset[Batch | PairBatch]):
    """Map from step to batch; pairs are drawn as often as one factor."""

    def __init__(
        self,
        plan: BatchPlan,
        *,
        vectors: Vectors,
        rows: Sequence[Ints],
        pairs: Sequence[PairPlan],
    ) -> None:
        """Draws nothing yet.

        Args:
            plan: Of labelled texts.
            vectors: All stored embeddings (rows, D).
            rows: Rows of the training texts, by source.
            pairs: Of queries and documents, one per set.
        """
        self._plan = plan
        self._vectors = vectors
        self._rows = rows
        self._pairs = pairs

    def __getitem__(self, step: int) -> Batch | PairBatch:
        if self._pairs:
            # Not the draw of the plans: theirs would hang on whether there are pairs.
            rng = np.random.default_rng((self._plan.seed, step, 1))
            if rng.integers(len(self._plan.factors) + 1) == 0:
                return self._pairs[int(rng.integers(len(self._pairs)))].draw(step)
        source, positions = self._plan.draw(step)
        return make_batch(
            self._vectors,
            source=source,
            labels=self._plan.sources[source].take(positions),
            rows=self._rows[source][positions],
        )


class PreparedBatches(Dataset[Batch | PairBatch], Sized):
    """Batches made beforehand."""

    def __init__(self, batches: Sequence[Batch | PairBatch]) -> None:
        """Keeps them."""
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, position: int) -> Batch | PairBatch:
        return self._batches[position]


class StepLoader(DataLoader[Batch | PairBatch]):
    """A loader whose place in the data is the trainer's step: it has no state of its own.

    The two methods tell Lightning that resuming in the middle of an epoch is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the step is the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""


class StepSampler(Sampler[int]):
    """The steps of one epoch, from the trainer's step on: resuming in mid-epoch is exact."""

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
        self._trainer = trainer
        self._steps_per_epoch = steps_per_epoch

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __iter__(self) -> Iterator[int]:
        start = self._trainer.global_step * self._trainer.accumulate_grad_batches
        end = (start // self._steps_per_epoch + 1) * self._steps_per_epoch
        return iter(range(start, end))
