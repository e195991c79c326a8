"""Centre: the mean of given texts, on which blocks are centred, and how their scores vary there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace.arrays import Vectors, from_base64, to_base64
from subspace.errors import LayoutError

# Weight of the training mean against that of N texts, in texts. Measured on 29 corpora: a text is 2
# to 6 times as far from the mean of its corpus, squared, as that mean is from the training mean.
PRIOR_TEXTS = 5


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Centre:
    """The mean of some texts, and how the scores of the blocks vary between them.

    Attributes:
        embedding: Mean raw embedding (D,), float32.
        score_spreads: By block, the standard deviation of the cosine between two of the texts.
    """

    embedding: Vectors
    score_spreads: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns a value that `json.dumps` takes and `from_json` reads."""
        spreads = {name: float(spread) for name, spread in self.score_spreads.items()}
        return {"embedding": to_base64(self.embedding), "score_spreads": spreads}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> "Centre | None":
        """Reads what `to_json` wrote; None stays None.

        Raises:
            ValueError: A number is not finite, or the embedding is no base64 of float32.
            KeyError: A part is missing.
            TypeError: A part is of another kind.
            AttributeError: The spreads are no mapping.
        """
        if value is None:
            return None
        spreads = {str(name): float(one) for name, one in value["score_spreads"].items()}
        if not all(0 < spread < np.inf for spread in spreads.values()):
            raise ValueError(f"a score spread is not above 0 and finite: {spreads}")
        return cls(embedding=from_base64(value["embedding"]), score_spreads=spreads)


def mean_of(vectors: Vectors, *, training: Vectors) -> Vectors:
    """Returns the mean raw embedding (D,) of texts (N, D); the training mean counts as 5 more.

    Raises:
        LayoutError: The vectors have another dimension than the training mean, or are not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1:] != training.shape:
        raise LayoutError(
            f"the texts' vectors have shape {vectors.shape}, the projection takes "
            f"{len(training)} dimensions"
        )
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise LayoutError(
            f"{len(broken)} of the embeddings hold NaN or infinity, the first at position "
            f"{broken[0]}"
        )
    total = vectors.sum(axis=0, dtype=np.float64) + PRIOR_TEXTS * training.astype(np.float64)
    return np.asarray(total / (len(vectors) + PRIOR_TEXTS), dtype=np.float32)
