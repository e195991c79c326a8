"""Geometry of the blocks: their effective rank, variance, and spread of scores."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats
from subspace.evaluation.separation import EmbeddedSource
from subspace.model.projection import Projection

_PAIRS = 2000


@dataclass(frozen=True)
class BlockGeometry:
    """Geometry of one block over the test texts of all sources; every source counts the same.

    Attributes:
        effective_rank: Exponential of the entropy of the block's variances along its principal
            directions (Roy and Vetterli 2007); 0 if nothing varies.
        energy: This block's share of the variance of W (x - mu), taken before the blocks are
            scaled to unit length.
        score_mean: Mean score <q_b, d_b> of two random texts of one source.
        score_spread: Standard deviation of that score within a source. A weight on a block without
            spread has no effect.
    """

    effective_rank: float
    energy: float
    score_mean: float
    score_spread: float


def measure_geometry(
    projection: Projection, sources: Mapping[str, EmbeddedSource]
) -> dict[str, BlockGeometry]:
    """Measures every block.

    Args:
        projection: The projection; gives the blocks.
        sources: Labelled texts and their embeddings, by source; only test texts are used.
    """
    covariances: dict[str, Floats] = {}
    energies: dict[str, float] = {}
    scores: dict[str, list[Floats]] = {}
    rng = np.random.default_rng(0)
    for source in sources.values():
        x = source.x[source.labels.positions("test")]
        if len(x) < 2:
            continue
        first, second = rng.integers(0, len(x), (2, _PAIRS))
        first, second = first[first != second], second[first != second]
        plain = (x - projection.mean) @ projection.weight.T
        for block, z in projection.layout.split(projection(x)).items():
            spread = z.astype(np.float64)
            covariances[block] = covariances.get(block, 0) + np.cov(spread.T, bias=True).reshape(
                2 * (z.shape[1],)
            )
            energies[block] = energies.get(block, 0.0) + float(
                plain[:, projection.layout.slice(block)].astype(np.float64).var(axis=0).sum()
            )
            scores.setdefault(block, []).append((spread[first] * spread[second]).sum(axis=1))
    total = sum(energies.values())
    return {
        block: BlockGeometry(
            effective_rank=effective_rank(covariances[block]),
            energy=energies[block] / total if total > 0 else 0.0,
            score_mean=float(np.mean([part.mean() for part in scores[block]])),
            score_spread=float(np.sqrt(np.mean([part.var() for part in scores[block]]))),
        )
        for block in covariances
    }


def effective_rank(covariance: Floats) -> float:
    """Returns the exponential of the entropy of the eigenvalues, scaled to sum to 1.

    It is 0 if all eigenvalues are close to 0.
    """
    values = np.linalg.eigvalsh(covariance)
    values = values[values > max(values.max(), 0.0) * 1e-9]
    if not len(values) or values.sum() <= 1e-12:
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
