"""Agreement: do other texts rank the dimensions of an embedding alike?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from subspace.arrays import Floats, Ints

# So many first dimensions are compared between two rankings.
TOPS = (8, 64)


@dataclass(frozen=True)
class RankAgreement:
    """How alike two rankings of the same dimensions are.

    Attributes:
        correlation: Spearman's rank correlation over all dimensions.
        shared: How many of the first k of one are among the first k of the other, by k; two
            rankings that know nothing of each other share k * k / D.
    """

    correlation: float
    shared: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Stability:
    """How much of a ranking remains where only half of the texts are seen.

    Attributes:
        halves: Between the two rankings by one half each, mean over the splits.
        among_first: By k, the share of all halves in which a dimension is among the first k (D,).
    """

    halves: RankAgreement
    among_first: Mapping[int, Floats]


def rank_dimensions(values: Floats) -> Ints:
    """Dimensions (D,), the one of the highest value first."""
    return np.argsort(-values, kind="stable")


def compare_rankings(first: Floats, second: Floats) -> RankAgreement:
    """Compares the rankings by two values of every dimension (D,)."""
    varies = np.ptp(first) > 0 and np.ptp(second) > 0
    one, two = rank_dimensions(first), rank_dimensions(second)
    return RankAgreement(
        correlation=float(spearmanr(first, second).statistic) if varies else 0.0,
        shared={k: len(np.intersect1d(one[:k], two[:k])) for k in tops(len(first))},
    )


def tops(dim: int) -> tuple[int, ...]:
    """Those of `TOPS` that are fewer than all dimensions."""
    return tuple(k for k in TOPS if k < dim)


def measure_stability(
    values: Callable[[Ints], Floats], *, groups: Ints, splits: int, rng: np.random.Generator
) -> Stability:
    """Ranks the dimensions on halves of the texts; a group is in one half.

    Args:
        values: What ranks the dimensions (D,), from the texts at some positions.
        groups: Group of each text (N,), -1 for none.
        splits: How often the texts are halved.
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
    """The mean of one or more."""
    return RankAgreement(
        correlation=float(np.mean([a.correlation for a in agreements])),
        shared={k: float(np.mean([a.shared[k] for a in agreements])) for k in agreements[0].shared},
    )


def independent_groups(groups: Ints) -> Ints:
    """The groups (N,) with a number of its own for every text that has none."""
    return np.where(groups < 0, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
