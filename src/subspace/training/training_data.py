"""TrainingData: what a training module has to know of its data, whoever provides them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace.data.labels import Column
from subspace.encoder import Fingerprint
from subspace.fitting.moments import SourceStatistics
from subspace.fitting.pair_blocks import Together


@dataclass(frozen=True)
class HeadSpec:
    """One labelled factor of one source: what a probe head for it looks like.

    Attributes:
        source: Name of the source.
        factor: Name of the factor.
        class_count: Number of classes; 0 for numbers.
        mean: Mean of the numbers, 0 for classes.
        scale: Standard deviation of the numbers, 1 for classes or if they are all equal.
    """

    source: str
    factor: str
    class_count: int
    mean: float
    scale: float

    @classmethod
    def of(cls, source: str, factor: str, column: Column) -> "HeadSpec":
        """Describes the head for a column of labels."""
        if column.values is None:
            return cls(source, factor, class_count=column.class_count, mean=0.0, scale=1.0)
        values = column.values[column.labelled]
        spread = float(np.std(values)) if len(values) else 0.0
        mean = float(np.mean(values)) if len(values) else 0.0
        return cls(source, factor, class_count=0, mean=mean, scale=spread or 1.0)


@dataclass(frozen=True)
class TrainingData:
    """Statistics and description of the training texts.

    Attributes:
        statistics: Class statistics by source; the order of the sources is that of
            `Batch.source`.
        heads: Every labelled factor of every source.
        encoder_model: What to load the encoder by (name, folder or hub id).
        fingerprint: What the embeddings depend on.
        data_sha256: Hash of each source's records.
        recipe: How the statistics were made, for the checkpoint's manifest: JSON-ready.
        together: What pairs, halves and groups say of texts that belong together; None without
            pairs.
    """

    statistics: Mapping[str, SourceStatistics]
    heads: tuple[HeadSpec, ...]
    encoder_model: str
    fingerprint: Fingerprint
    data_sha256: Mapping[str, str]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    together: Together | None = None

    @property
    def input_dim(self) -> int:
        """Dimension D of the embeddings."""
        return self.fingerprint.dim
