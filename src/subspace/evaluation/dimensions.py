"""Single dimensions: what each of an embedding's numbers alone says of a factor."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, false_discovery_control, kruskal, rankdata, spearmanr
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.model_selection import GroupKFold

from subspace.arrays import AnyFloats, Floats, Ints
from subspace.data.labels import Column
from subspace.evaluation.rank_agreement import (
    RankAgreement,
    Stability,
    independent_groups,
    measure_stability,
)
from subspace.evaluation.scores import score_predictions

# How often the texts are halved to see what of the ranking remains.
SPLITS = 10
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class DimensionStatistics:
    """What training texts say of every dimension of an embedding.

    Attributes:
        score: Cross-validated score of the linear probe on each dimension alone (D,).
        information: Mutual information with the label in nats (D,).
        p: Of a rank test (D,), see `association_p`, not adjusted.
        stability: Of the ranking by score.
        information_halves: How alike two halves rank by mutual information.
    """

    score: Floats
    information: Floats
    p: Floats
    stability: Stability
    information_halves: RankAgreement


def measure_dimensions(
    x: AnyFloats, column: Column, *, groups: Ints, seed: int, rng: np.random.Generator
) -> DimensionStatistics:
    """Measures every dimension by itself.

    Args:
        x: One vector per training text (N, D).
        column: The label of each (N,), none missing.
        groups: Group of each (N,), -1 for none; 20 groups at least.
        seed: Of the mutual information's noise.
        rng: Draws halves.
    """

    def score(at: Ints) -> Floats:
        return cross_validate(x[at], column.take(at), groups=groups[at])

    def information(at: Ints) -> Floats:
        return mutual_information(x[at], column.take(at), seed=seed)

    everything = np.arange(len(x))
    return DimensionStatistics(
        score=score(everything),
        information=information(everything),
        p=association_p(x, column, groups=groups),
        stability=measure_stability(score, groups=groups, splits=SPLITS, rng=rng),
        # A hundred times slower, so once.
        information_halves=measure_stability(information, groups=groups, splits=1, rng=rng).halves,
    )


def mutual_information(x: AnyFloats, column: Column, *, seed: int) -> Floats:
    """Mutual information of each dimension with the label in nats (D,), 0 or more.

    By nearest neighbours (Ross 2014 for classes, Kraskov et al. 2004 for numbers): it sees what
    is not linear, and neither the scale nor the sign of a dimension changes it.

    Args:
        x: One vector per text (N, D).
        column: The label of each (N,), none missing.
        seed: Of the noise, far below any difference, that tells equal numbers apart.
    """
    if column.values is not None:
        found = mutual_info_regression(x, column.values, random_state=seed)
    else:
        found = mutual_info_classif(x, column.codes, discrete_features=False, random_state=seed)
    return np.asarray(found, dtype=np.float64)


def association_p(x: AnyFloats, column: Column, *, groups: Ints) -> Floats:
    """Chance of an association this strong if dimension and label were independent (D,).

    Rank tests that look at one dimension each, by their asymptotic chi-squared: Kruskal and
    Wallis for classes, Spearman for numbers, divided by the design effect. 1 where nothing varies.

    Args:
        x: One vector per text (N, D).
        column: The label of each (N,), none missing.
        groups: Group of each (N,), -1 for none.
    """
    p = np.ones(x.shape[1])
    labels = column.codes if column.values is None else column.values
    varies = np.flatnonzero(np.ptp(x, axis=0) > 0)
    if len(np.unique(labels)) < 2 or not len(varies):
        return p
    if column.values is not None:
        correlations = [spearmanr(x[:, n], column.values).statistic for n in varies]
        statistic, freedom = (len(x) - 1) * np.square(correlations), 1
    else:
        classes = [x[column.codes == code][:, varies] for code in np.unique(column.codes)]
        statistic, freedom = kruskal(*classes, axis=0).statistic, len(classes) - 1
    p[varies] = chi2.sf(statistic / design_effect(column, groups=groups), freedom)
    return p


def design_effect(column: Column, *, groups: Ints) -> float:
    """By how much texts of a group that are not independent inflate an association, 1 or more.

    The variance of the covariance of the labels with something that is the same in a whole
    group, over that with something independent in every text (Moulton 1986): the size of the
    groups where the label is the same in a group; 1 without groups, and where every group has
    all labels, so that what its texts have in common cancels.
    """
    if column.values is not None:
        labels = rankdata(column.values)[:, None]
    else:
        labels = np.eye(column.class_count)[column.codes]
    labels = labels - labels.mean(axis=0)
    _, cluster = np.unique(independent_groups(groups), return_inverse=True)
    sums = np.zeros((cluster.max() + 1, labels.shape[1]))
    np.add.at(sums, cluster, labels)
    return max(1.0, float(np.square(sums).sum() / np.square(labels).sum()))


def correct(p: Floats) -> Floats:
    """Adjusts p values for all comparisons that were made, same shape (Benjamini, Yekutieli 2001).

    Of what is below 0.05 then, one in twenty is expected to be chance, and if there is nothing
    to find, anything is below it in one study of twenty. This holds however the tests depend on
    one another, as those of dimensions of one embedding do in ways that nobody knows.
    """
    return np.asarray(false_discovery_control(p, axis=None, method="by")).reshape(p.shape)


def predict_each(x: AnyFloats, column: Column, *, unseen: AnyFloats) -> npt.NDArray[np.generic]:
    """The linear probe on each dimension alone, as `linear_probe` would predict (D, N_unseen).

    With balanced class weights and a single dimension, ridge regression on class indicators has
    the slopes m_c - m, where m_c is the mean of a class and m the mean of these, whatever its
    strength: above m it says the class of the highest mean, below it that of the lowest, and
    never another. So of C classes one dimension can get 2 / C right. For numbers only the sign
    of the correlation matters.

    Args:
        x: One vector per training text (N, D).
        column: The label of each (N,), none missing.
        unseen: One vector per text to predict (N_unseen, D).
    """
    if column.values is not None:
        sign = np.sign((column.values - column.values.mean()) @ x)
        return np.asarray((unseen * sign).T)
    codes = np.unique(column.codes)
    means = np.stack([x[column.codes == code].mean(axis=0, dtype=np.float64) for code in codes])
    highest, lowest = codes[means.argmax(axis=0)], codes[means.argmin(axis=0)]
    return np.asarray(np.where(unseen > means.mean(axis=0), highest, lowest).T)


def cross_validate(x: AnyFloats, column: Column, *, groups: Ints) -> Floats:
    """Score of the linear probe on each dimension alone (D,), 5-fold, a group in one fold.

    Args:
        x: One vector per text (N, D).
        column: The label of each (N,), none missing.
        groups: Group of each (N,), -1 for none; 5 at least.
    """
    predicted = np.zeros((x.shape[1], len(x)), dtype=np.float64)
    for known, held in GroupKFold(_FOLDS).split(x, groups=independent_groups(groups)):
        predicted[:, held] = predict_each(x[known], column.take(known), unseen=x[held])
    return score_predictions(predicted, truth=column)[:, 0]
