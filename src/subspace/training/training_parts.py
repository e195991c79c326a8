"""Training texts of the encoded sources, and the training heads that their labels need."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Ints
from subspace.data.labels import Column, Labels
from subspace.data.records import Split
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.stored_sources import StoredSource


@dataclass(frozen=True, eq=False)  # comparing arrays gives an array, not a bool
class Part:
    """Some texts of one source.

    Attributes:
        labels: Labels of the texts.
        rows: Row of each text in the store.
    """

    labels: Labels
    rows: Ints


@dataclass(frozen=True)
class TrainingHeadSpec:
    """The training head for one labelled factor of one source.

    Attributes:
        source: Name of the source.
        factor: Name of the factor.
        class_count: Number of classes; 0 for numbers.
        mean: Mean of the numbers; 0 for classes.
        scale: Standard deviation of the numbers; 1 for classes, or if all numbers are equal.
    """

    source: str
    factor: str
    class_count: int
    mean: float
    scale: float

    @classmethod
    def of(cls, source: str, factor: str, column: Column) -> "TrainingHeadSpec":
        """Describes the head for a column of labels."""
        if column.values is None:
            return cls(source, factor, class_count=column.class_count, mean=0.0, scale=1.0)
        values = column.values[column.labelled]
        spread = float(np.std(values)) if len(values) else 0.0
        mean = float(np.mean(values)) if len(values) else 0.0
        return cls(source, factor, class_count=0, mean=mean, scale=spread or 1.0)

    def __str__(self) -> str:
        """Describes the head for messages and checkpoints."""
        kind = f"{self.class_count} classes" if self.class_count else "numbers"
        return f"{self.factor} of {self.source} ({kind})"


def take_parts(sources: Mapping[str, StoredSource], *splits: Split) -> dict[str, Part]:
    """Returns the texts of some splits by source; skips sources without any."""
    parts = {}
    for name, source in sources.items():
        positions = np.concatenate([source.labels.positions(split) for split in splits])
        if len(positions):
            parts[name] = Part(source.labels.take(positions), source.rows[positions])
    return parts


def training_parts(data: FittingData) -> dict[str, Part]:
    """Returns training texts and rewrites by source; `Batch.source` is a position in this order."""
    return take_parts({**data.sources, **data.rewrites}, "train")


def training_heads(data: FittingData) -> list[TrainingHeadSpec]:
    """Returns a head for every labelled factor of every training source."""
    return [
        TrainingHeadSpec.of(source, factor, column)
        for source, part in training_parts(data).items()
        for factor, column in part.labels.columns.items()
    ]
