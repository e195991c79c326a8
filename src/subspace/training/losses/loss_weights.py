"""LossWeights: how much each term of the training loss counts."""

from dataclasses import asdict, dataclass

import numpy as np

from subspace.errors import ConfigError


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; 0 leaves a term out altogether.

    Attributes:
        contrastive: Same label close, others apart, inside the factor's block.
        probe: A linear head on the block predicts its own factor.
        guard: Nothing linear predicts another factor from the block.
        keep: The blocks together, and the content block alone, rank like the raw embedding.
        pairs: Queries close to their relevant documents in the blocks learned from pairs.
    """

    contrastive: float = 1.0
    probe: float = 0.5
    guard: float = 10.0
    keep: float = 5.0
    pairs: float = 1.0

    def __post_init__(self) -> None:
        """Checks that every weight is finite and not negative."""
        for name, weight in asdict(self).items():
            if not np.isfinite(weight) or weight < 0:
                raise ConfigError(f"model.losses.{name} must be 0 or more, got {weight}")
