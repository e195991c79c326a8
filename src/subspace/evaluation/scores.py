"""Scores of predictions, and their bootstrap intervals over test texts."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, rankdata

from subspace.arrays import Floats, Ints
from subspace.data.labels import Column

Floats: TypeAlias = Floats

_RESAMPLES = 2000


def score_predictions(
    predicted: npt.NDArray[np.generic], *, truth: Column, weights: Floats | None = None
) -> Floats:
    """Returns balanced accuracy for classes, Spearman's rank correlation for numbers.

    Args:
        predicted: Predictions of S probes for N texts (S, N): class codes, or numbers.
        truth: The labels of the texts (N,).
        weights: How often each text counts in each of R bootstrap replicates (R, N); None to
            count each text once.

    Returns:
        Scores (S, R), or (S, 1) without weights. A replicate skips classes that were not drawn,
        and uses the ranks among all texts.
    """
    if weights is None:
        weights = np.ones((1, predicted.shape[1]))
    if truth.values is None:
        return _balanced_accuracy(predicted == truth.codes, codes=truth.codes, weights=weights)
    ranks = np.stack([rankdata(row) for row in predicted])
    return _weighted_correlation(ranks, rankdata(truth.values), weights=weights)


def chance_of(truth: Column) -> float:
    """Returns the score of guessing: 1 / number of classes that occur, or 0 for numbers."""
    return 0.0 if truth.ordered else 1 / len(np.unique(truth.codes))


def bootstrap_weights(
    clusters: Ints, *, replicates: int, rng: np.random.Generator, copies: int = 1
) -> Floats:
    """Draws bootstrap replicates: how often each text counts in each of them (R, N).

    Whole clusters are drawn. Parallel versions of a text have the same content, and counting them
    as independent would make the intervals too narrow.

    Args:
        clusters: Cluster of each text (N,); a text with a number below 0 is a cluster by itself.
        replicates: Number of replicates.
        rng: Source of randomness.
        copies: How often each cluster that is drawn counts; as many fewer are drawn.
    """
    alone = clusters < 0
    ids = np.where(alone, clusters.max(initial=0) + 1 + np.arange(len(clusters)), clusters)
    _, cluster = np.unique(ids, return_inverse=True)
    count = int(cluster.max()) + 1
    draws = -(-count // copies)
    drawn = copies * rng.multinomial(draws, np.full(count, 1 / count), size=replicates)
    return drawn[:, cluster].astype(np.float64)


def interval(replicates: npt.ArrayLike) -> tuple[float, float]:
    """Returns the 95 % percentile interval of bootstrap replicates; ignores NaN."""
    low, high = np.nanquantile(np.asarray(replicates, dtype=np.float64), [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: Floats) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a mean (percentile, 2,000 resamples)."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _balanced_accuracy(hits: npt.NDArray[np.bool_], *, codes: Ints, weights: Floats) -> Floats:
    recalls = []
    for code in np.unique(codes):
        own = codes == code
        drawn = weights[:, own].sum(axis=1)
        found = hits[:, own].astype(np.float64) @ weights[:, own].T
        recalls.append(
            np.divide(
                found,
                drawn,
                out=np.full_like(found, np.nan),
                where=np.broadcast_to(drawn > 0, found.shape),
            )
        )
    return np.asarray(np.nanmean(recalls, axis=0))


def _weighted_correlation(x: Floats, y: Floats, *, weights: Floats) -> Floats:
    """Returns Pearson correlations (S, R) of each row of `x` (S, N) with `y` (N,).

    Each replicate has its weights (R, N).
    """
    total = weights.sum(axis=1)
    x_mean, y_mean = x @ weights.T / total, weights @ y / total
    covariance = (x * y) @ weights.T / total - x_mean * y_mean
    x_variance = np.square(x) @ weights.T / total - np.square(x_mean)
    y_variance = weights @ np.square(y) / total - np.square(y_mean)
    scale = np.sqrt(np.maximum(x_variance, 0) * np.maximum(y_variance, 0))
    # The correlation is 0 if one of the two does not vary, apart from rounding.
    return np.asarray(
        np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-9 * x.shape[1])
    )
