"""Rank agreement: how similarly different texts rank the dimensions of an embedding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from subspace.arrays import Floats, Ints

# Numbers k of first dimensions that are compared between two rankings.
TOPS = (8, 64)


@dataclass(frozen=True)
class RankAgreement:
    """Agreement of two rankings of the same dimensions.

    Attributes:
        correlation: Spearman's rank correlation over all dimensions; 0 if a ranking is constant.
        shared: By k, the number of dimensions that are among the first k of both rankings. Two
            independent rankings share k * k / D on average.
    """

    correlation: float
    shared: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Stability:
    """Stability of a ranking when only half of the texts are used.

    Attributes:
        halves: Agreement of the rankings by the two halves, mean over the splits.
        among_first: By k, the share of all halves in which a dimension is among the first k (D,).
    """

    halves: RankAgreement
    among_first: Mapping[int, Floats]


def rank_dimensions(values: Floats) -> Ints:
    """Orders dimensions by their value (D,), the highest first."""
    return np.argsort(-values, kind="stable")


def compare_rankings(first: Floats, second: Floats) -> RankAgreement:
    """Compares two rankings of dimensions, each given by a value per dimension (D,)."""
    varies = np.ptp(first) > 0 and np.ptp(second) > 0
    one, two = rank_dimensions(first), rank_dimensions(second)
    return RankAgreement(
        correlation=float(spearmanr(first, second).statistic) if varies else 0.0,
        shared={k: len(np.intersect1d(one[:k], two[:k])) for k in tops(len(first))},
    )


def tops(dim: int) -> tuple[int, ...]:
    """Returns the numbers of `TOPS` that are below `dim`."""
    return tuple(k for k in TOPS if k < dim)


def measure_stability(
    values: Callable[[Ints], Floats], *, groups: Ints, splits: int, rng: np.random.Generator
) -> Stability:
    """Compares rankings by random halves of the texts; groups are not divided.

    Args:
        values: Takes positions of texts and returns the value that ranks each dimension (D,).
        groups: Group of each text (N,), -1 for none.
        splits: Number of times that the texts are halved.
        rng: Source of randomness.
    """
    _, cluster = np.unique(independent_groups(groups), return_inverse=True)
    agreements, orders = [], []
    for _ in range(splits):
        side = rng.permutation(cluster.max() + 1)[cluster] % 2
        first, second = (values(np.flatnonzero(side == half)) for half in (0, 1))
        agreements.append(compare_rankings(first, second))
        orders += [rank_dimensions(first), rank_dimensions(second)]
    dim = len(orders[0])
    return Stability(
        halves=mean_agreement(agreements),
        among_first={
            k: np.bincount(np.concatenate([o[:k] for o in orders]), minlength=dim) / len(orders)
            for k in tops(dim)
        },
    )


def mean_agreement(agreements: list[RankAgreement]) -> RankAgreement:
    """Averages one or more agreements."""
    return RankAgreement(
        correlation=float(np.mean([a.correlation for a in agreements])),
        shared={k: float(np.mean([a.shared[k] for a in agreements])) for k in agreements[0].shared},
    )


def independent_groups(groups: Ints) -> Ints:
    """Returns the groups (N,), with a new group for every text that has none."""
    return np.where(groups < 0, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
