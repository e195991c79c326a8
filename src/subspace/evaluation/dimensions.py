"""Single dimensions: how well each dimension of an embedding alone predicts a factor."""

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

# Number of random halvings of the texts that test how stable the ranking is.
SPLITS = 10
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class DimensionStatistics:
    """Statistics of every dimension of an embedding, from training texts.

    Attributes:
        score: Cross-validated score of the linear probe on each dimension alone (D,).
        information: Mutual information with the label in nats (D,).
        p: p values of a rank test (D,), see `association_p`; not adjusted.
        stability: Stability of the ranking by score.
        information_halves: Agreement of two halves of the texts that rank the dimensions by
            mutual information.
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
        column: The label of each text (N,), none missing.
        groups: Group of each text (N,), -1 for none; at least 20 groups.
        seed: Seed of the noise in `mutual_information`.
        rng: Draws the halves.
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
        # One split only: mutual information takes a hundred times longer than the probe.
        information_halves=measure_stability(information, groups=groups, splits=1, rng=rng).halves,
    )


def mutual_information(x: AnyFloats, column: Column, *, seed: int) -> Floats:
    """Estimates the mutual information of each dimension with the label in nats (D,), 0 or more.

    Uses nearest neighbours (Ross 2014 for classes, Kraskov et al. 2004 for numbers). The estimate
    includes nonlinear dependence and does not change with the scale or sign of a dimension.

    Args:
        x: One vector per text (N, D).
        column: The label of each text (N,), none missing.
        seed: Seed of the tiny noise that breaks ties between equal values.
    """
    if column.values is not None:
        found = mutual_info_regression(x, column.values, random_state=seed)
    else:
        found = mutual_info_classif(x, column.codes, discrete_features=False, random_state=seed)
    return np.asarray(found, dtype=np.float64)


def association_p(x: AnyFloats, column: Column, *, groups: Ints) -> Floats:
    """Returns the p value of a rank test for each dimension (D,), not adjusted.

    The tests are Kruskal-Wallis for classes and Spearman for numbers. Their statistic is divided
    by the design effect and compared to its asymptotic chi-squared distribution. p is 1 if the
    dimension or the label does not vary.

    Args:
        x: One vector per text (N, D).
        column: The label of each text (N,), none missing.
        groups: Group of each text (N,), -1 for none.
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
    """Returns the factor by which dependence within groups inflates a test statistic, 1 or more.

    It is a ratio of two variances of the covariance between the labels and a variable: for a
    variable that is constant within groups, over one that is independent for every text (Moulton
    1986). If the label is constant within groups, the ratio is the group size. It is 1 without
    groups, and if every group has all labels, since a common effect of a group then cancels.
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
    """Adjusts p values for multiple comparisons, same shape (Benjamini and Yekutieli 2001).

    Among the values below 0.05 after adjustment, at most 5 % are expected to be false discoveries.
    This holds under any dependence between the tests; the dependence between the dimensions of an
    embedding is unknown.
    """
    return np.asarray(false_discovery_control(p, axis=None, method="by")).reshape(p.shape)


def predict_each(x: AnyFloats, column: Column, *, unseen: AnyFloats) -> npt.NDArray[np.generic]:
    """Predicts like `linear_probe` from each dimension alone (D, N_unseen).

    With one dimension and balanced class weights, ridge regression on class indicators has slopes
    proportional to m_c - m for any ridge strength, where m_c is the mean of class c and m the mean
    of these means. Above m it predicts the class with the highest mean, below m the class with the
    lowest, and never another class. So the balanced accuracy of one dimension on C classes is at
    most 2 / C. For numbers, the prediction is the dimension with the sign of its correlation.

    Args:
        x: One vector per training text (N, D).
        column: The label of each training text (N,), none missing.
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
    """Scores the linear probe on each dimension alone (D,) by 5-fold cross-validation.

    All texts of a group are in the same fold.

    Args:
        x: One vector per text (N, D).
        column: The label of each text (N,), none missing.
        groups: Group of each text (N,), -1 for none; at least 5 groups.
    """
    predicted = np.zeros((x.shape[1], len(x)), dtype=np.float64)
    for known, held in GroupKFold(_FOLDS).split(x, groups=independent_groups(groups)):
        predicted[:, held] = predict_each(x[known], column.take(known), unseen=x[held])
    return score_predictions(predicted, truth=column)[:, 0]
