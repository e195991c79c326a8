"""LossWeights: the weight of each term of the training loss."""

from dataclasses import asdict, dataclass

import numpy as np

from subspace.errors import ConfigError


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; 0 leaves a term out altogether.

    Attributes:
        contrastive: Same label close, others apart, inside the factor's block.
        probe: A linear head on the block predicts its own factor.
        keep: Blocks without signal power, such as topic, rank like the raw embedding.
        anchor: Blocks stay near their closed-form start.
        erasure: Nothing linear predicts another factor from the block.
    """

    contrastive: float = 1.0
    probe: float = 0.5
    keep: float = 1.0
    anchor: float = 10.0
    erasure: float = 0.0

    def __post_init__(self) -> None:
        """Checks that every weight is finite and not negative."""
        for name, weight in asdict(self).items():
            if not np.isfinite(weight) or weight < 0:
                raise ConfigError(f"model.losses.{name} must be 0 or more, got {weight}")
