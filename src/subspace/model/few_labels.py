"""Directions and classes from a few labels, by Bayesian linear regression in closed form.

With x the features of a text, centred on the labelled texts, the labels are modelled as

    y = m(x) + w.x + noise,   w ~ N(0, b I),   noise ~ N(0, v)

where m is known before: a share of what a reference says, or 0. Instead of choosing b and v, the
solutions on a grid are averaged, each weighted by the probability of the labels under it (the
evidence; MacKay 1992), so that few or noisy labels move the result less. The singular values of the
features give all of the grid, and the predictions of every label from all others, at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats, Ints
from subspace.model.class_nearness import softmax

# The grid. Labels have standard deviation 1, features a mean squared length of 1.
_SIGNAL = (1e-6, 0.03, 0.1, 0.2, 0.4, 0.7)
_NOISE = (0.15, 0.3, 0.5, 0.8, 1.0)
# Ratios b / v for classes, whose scale is solved for.
_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# Expected correlation of a reference's score with the labels; chosen on corpora that the reference
# did not learn from (LOG.md).
_REFERENCE_SHARE = 0.4
# Predictions of left-out labels are trusted from a correlation of 0 to one of this, after half a
# standard error is taken off; a whole one for comparisons and classes (LOG.md).
_TRUSTED = 0.3
# Settings of the grid with a smaller share are left out of the prediction of labels.
_NEGLIGIBLE = 1e-3
# Predictions of comparisons below this, in standard deviations of labels, are rounding.
_ROUNDING = 1e-9
# Shares of a singular direction below which it counts as 0, and of what other rows determine.
_NOTHING = 1e-12
_DETERMINED = 0.01
# Shares of a second prediction in a sum, and standard errors at which it is trusted wholly.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_SURE = 3.0
_SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class NumberFit:
    """A direction that orders texts.

    Attributes:
        weight: Weights of the features (p,).
        trust: From 0 (labels tell nothing that holds for other labels) to 1.
        predicted: What is predicted of each label from the others (N,).
    """

    weight: Floats
    trust: float
    predicted: Floats


@dataclass(frozen=True, eq=False)
class ClassFit:
    """Linear scores of classes.

    Attributes:
        weight: Weights of the features by class (K, p); they sum to 0 over the classes.
        sharpness: Factor of the scores in the softmax that gives the classes' probabilities.
        trust: From 0 (labels tell nothing that holds for other labels) to 1.
        predicted: The scores of each label from the others (N, K).
    """

    weight: Floats
    sharpness: float
    trust: float
    predicted: Floats


@dataclass(frozen=True)
class ClassStack:
    """The sum of two fits of the same classes.

    Attributes:
        factors: By what the scores of either are multiplied.
        share: Share of the second in the deviation of the scores, from 0 to 1.
        sharpness: As in `ClassFit`, of the sum.
        trust: As in `ClassFit`, of the sum.
    """

    factors: tuple[float, float]
    share: float
    sharpness: float
    trust: float


def fit_numbers(
    features: Floats,
    labels: Floats,
    *,
    groups: Ints | None = None,
    pairs: Floats | None = None,
    texts: Ints | None = None,
    reference: Floats | None = None,
    scale: Floats | None = None,
) -> NumberFit:
    """Fits a direction to numbers and to comparisons.

    Args:
        features: Features of labelled texts (N, p), with a mean squared length of about 1.
        labels: Their labels (N,); may be empty.
        groups: Group of each text (N,): texts that say the same thing are left out together when
            the trust is measured. None if each is its own.
        pairs: Differences of features between the text that has more and the one that has less
            (M, p).
        texts: Numbers of the two texts of each pair (M, 2). A pair is left out together with all
            that share a text with it, or an order without a pattern would predict itself.
        reference: Direction that is believed before (p,), its scores with a standard deviation of
            1 among the texts; it keeps its share as far as the labels cannot be trusted.
        scale: Scores of the features of other texts are scaled to standard deviation 1 by this
            covariance of the features (p, p); None for that of `features`.
    """
    rows, targets = _standardised(features, labels)
    together = _same_group(groups, count=len(rows))
    labelled = len(rows)
    count = max(labelled - 1, 0)
    if pairs is not None and len(pairs):
        rows = np.concatenate([rows, pairs])
        # The expected difference of two random labels of standard deviation 1.
        targets = np.concatenate([targets, np.full(len(pairs), 2 / np.sqrt(np.pi))])
        together += [labelled + one for one in _sharing(texts, count=len(pairs))]
        count += len(pairs)
    if not count:
        nothing = np.zeros(features.shape[1]) if reference is None else reference
        return NumberFit(nothing, 0.0, np.zeros(0))
    before = np.zeros(len(rows)) if reference is None else _REFERENCE_SHARE * (rows @ reference)
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    projected, squares = left.T @ (targets - before), values**2
    rest = max(float(((targets - before) ** 2).sum() - (projected**2).sum()), 0.0)
    grid = [(signal, noise) for signal in _SIGNAL for noise in _NOISE]
    evidence, shrinks = [], []
    for signal, noise in grid:
        variances = signal * squares + noise
        # Less than 0 where the mean of the labels takes a direction of the features' space.
        missing = count - len(values)
        evidence.append(
            -0.5 * (np.log(variances).sum() + (projected**2 / variances).sum())
            - 0.5 * (missing * np.log(noise) + rest / noise)
        )
        shrinks.append(signal * squares / variances)
    share = _shares(evidence)
    shrink = np.tensordot(share, np.array(shrinks), 1)
    weight = right.T @ (np.divide(shrink, values, where=values > 0, out=0 * values) * projected)
    left_out = _left_out(
        left,
        shrinks,
        share,
        residuals=(targets - before)[:, None],
        together=together,
        labelled=labelled,
    )
    predicted = before + left_out[:, 0]
    # The targets of comparisons are all alike, so the share in the right order counts.
    # If the others tell nothing of a comparison, its prediction is rounding, which is no order.
    ordered = np.where(np.abs(predicted[labelled:]) > _ROUNDING, predicted[labelled:], 0.0)
    in_order = float(np.sign(ordered).sum())
    agreement = labelled * _correlation(predicted[:labelled], targets[:labelled]) + in_order
    doubt = (0.5 * labelled + 1.0 * (len(rows) - labelled)) / len(rows)  # one bit each tells less
    trust = _trust(agreement / len(rows), len(rows), doubt=doubt)
    if reference is None:
        return NumberFit(weight, trust, predicted[:labelled])
    weight = weight + _REFERENCE_SHARE * reference
    covariance = np.atleast_2d(np.cov(features.T) if scale is None else scale)
    spread = float(np.sqrt(max(float(weight @ covariance @ weight), 0.0))) or 1.0
    mixed = trust * weight / spread + (1 - trust) * reference
    return NumberFit(mixed, trust, predicted[:labelled])


def stack(first: Floats, second: Floats, *, labels: Floats) -> tuple[float, float]:
    """Weighs two predictions of labels that were left out, each scaled to standard deviation 1.

    Args:
        first: Predictions (N,).
        second: Other predictions (N,).
        labels: The labels (N,).

    Returns:
        The share of the second, from 0 to 1, at which the sum agrees best with the labels; and how
        far the sum can be trusted, from 0 to 1.
    """
    parts = [one / (one.std() or 1.0) for one in (first, second)]
    agreements = {
        share: _correlation((1 - share) * parts[0] + share * parts[1], labels) for share in _SHARES
    }
    best = max(agreements, key=lambda share: agreements[share])
    # Of many labels three standard errors are enough to believe them. A whole one is taken off, as
    # the share was chosen by the same labels.
    trusted = min(_TRUSTED, _SURE / np.sqrt(len(labels)))
    return best, _trust(agreements[best], len(labels), doubt=1.0, trusted=trusted)


def fit_classes(features: Floats, codes: Ints, *, groups: Ints | None = None) -> ClassFit:
    """Fits linear scores of classes, by regression on their indicators.

    Args:
        features: Features of labelled texts (N, p), with a mean squared length of about 1.
        codes: Their classes (N,), numbers from 0; every class occurs.
        groups: As in `fit_numbers`.
    """
    classes, count = int(codes.max()) + 1, len(codes)
    targets = _indicators(codes)
    rows = features - features.mean(axis=0)
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    projected, squares = left.T @ targets, values**2
    rest = max(float((targets**2).sum() - (projected**2).sum()), 0.0)
    freedom = max((count - 1) * (classes - 1), 1)
    evidence, shrinks = [], []
    for ratio in _RATIOS:
        variances = ratio * squares + 1
        total = float((projected**2 / variances[:, None]).sum()) + rest
        evidence.append(
            -0.5 * freedom * np.log(max(total, 1e-12) / freedom)
            - 0.5 * (classes - 1) * np.log(variances).sum()
        )
        shrinks.append(ratio * squares / variances)
    share = _shares(evidence)
    shrink = np.tensordot(share, np.array(shrinks), 1)
    scaled = np.divide(shrink, values, where=values > 0, out=0 * values)
    weight = (right.T @ (scaled[:, None] * projected)).T
    left_out = _left_out(
        left,
        shrinks,
        share,
        residuals=targets,
        together=_same_group(groups, count=count),
        labelled=count,
    )
    return ClassFit(
        weight=weight - weight.mean(axis=0),
        sharpness=_sharpness(left_out, codes),
        trust=_trust(_correlation(left_out.ravel(), targets.ravel()), count, doubt=1.0),
        predicted=left_out,
    )


def stack_classes(first: ClassFit, second: ClassFit, codes: Ints) -> ClassStack | None:
    """Adds two fits of the same labels, each times its sharpness and its trust.

    Args:
        first: One fit.
        second: Another one, on other features.
        codes: The classes (N,).

    Returns:
        The sum; None if it agrees with labels that are left out no better than the first alone.
    """
    sizes = np.array([one.trust * one.sharpness for one in (first, second)])
    sizes = sizes / (sizes.sum() or 1.0)
    parts = [size * one.predicted for size, one in zip(sizes, (first, second), strict=True)]
    spreads = [float(part.std()) for part in parts]
    targets = _indicators(codes).ravel()
    predicted = parts[0] + parts[1]
    agreement = _correlation(predicted.ravel(), targets)
    if agreement <= _correlation(parts[0].ravel(), targets):
        return None
    return ClassStack(
        factors=(float(sizes[0]), float(sizes[1])),
        share=spreads[1] / (sum(spreads) or 1.0),
        sharpness=_sharpness(predicted, codes),
        trust=_trust(agreement, len(codes), doubt=1.0),
    )


def _indicators(codes: Ints) -> Floats:
    """Returns for each class whether a text is of it (N, K), less the share of the class."""
    targets = np.eye(int(codes.max()) + 1)[codes]
    return np.asarray(targets - targets.mean(axis=0))


def _sharpness(scores: Floats, codes: Ints) -> float:
    """Returns the factor of scores (N, K) in the softmax that makes the classes most probable."""
    return max(_SHARPNESS, key=lambda one: _log_likelihood(one * scores, codes))


def _standardised(features: Floats, labels: Floats) -> tuple[Floats, Floats]:
    if not len(labels):
        return features[:0], labels
    spread = labels.std()
    return features - features.mean(axis=0), (labels - labels.mean()) / (spread or 1.0)


def _shares(evidence: Sequence[float]) -> Floats:
    logarithms: Floats = np.asarray(evidence, dtype=np.float64)
    powers = np.exp(logarithms - logarithms.max())
    return np.asarray(powers / powers.sum())


def _same_group(groups: Ints | None, *, count: int) -> list[Ints]:
    """Returns for each label the positions of those that are left out with it."""
    if groups is None:
        return [np.array([row]) for row in range(count)]
    members = {group: np.flatnonzero(groups == group) for group in set(groups.tolist())}
    return [
        np.array([row]) if group < 0 else members[group]
        for row, group in enumerate(groups.tolist())
    ]


def _sharing(texts: Ints | None, *, count: int) -> list[Ints]:
    """Returns for each pair the positions of those that share a text with it."""
    if texts is None:
        return [np.array([row]) for row in range(count)]
    return [np.flatnonzero(np.isin(texts, ends).any(axis=1)) for ends in texts]


def _left_out(
    left: Floats,
    shrinks: Sequence[Floats],
    share: Floats,
    *,
    residuals: Floats,
    together: Sequence[Ints],
    labelled: int,
) -> Floats:
    """Predicts each residual (N, K) without some others, averaged over the grid.

    Args:
        left: Left singular vectors of the features (N, r).
        shrinks: By setting of the grid, by how much each singular direction is kept (r,).
        share: Share of each setting.
        residuals: What is to be predicted.
        together: For each row the rows that are left out with it, and itself.
        labelled: Number of rows, the first ones, whose mean was fitted, too.
    """
    mean = np.zeros(len(left))
    mean[:labelled] = 1 / np.sqrt(max(labelled, 1))
    found = np.zeros_like(residuals)
    sets = _distinct(together)
    for shrink, part in zip(shrinks, share, strict=True):
        if part < _NEGLIGIBLE:
            continue
        errors = residuals - (left * shrink) @ (left.T @ residuals)
        leverage = np.minimum((left**2) @ shrink + mean**2, 0.99)
        apart = errors / (1 - leverage)[:, None]
        keeps = shrink > _NOTHING
        roots = np.concatenate([left[:, keeps] * np.sqrt(shrink[keeps]), mean[:, None]], axis=1)
        for others, members in sets:
            solved = _without(roots[others], errors[others], residuals[others])
            apart[members] = solved[np.searchsorted(others, members)]
        found += part * (residuals - apart)
    return np.asarray(found / share[share >= _NEGLIGIBLE].sum())


def _distinct(together: Sequence[Ints]) -> list[tuple[Ints, Ints]]:
    """Returns each set of several rows once, with the rows that are left out with all of it.

    Few items that many searches found give many pairs and few sets.
    """
    members: dict[bytes, list[int]] = {}
    for row, others in enumerate(together):
        if len(others) > 1:
            members.setdefault(others.tobytes(), []).append(row)
    return [(together[rows[0]], np.array(rows)) for rows in members.values()]


def _without(roots: Floats, errors: Floats, residuals: Floats) -> Floats:
    """Returns errors (n, K) of rows if these had not been learned from: (1 - R R') x = errors.

    Where the other rows hardly determine a prediction, nothing is predicted. The rows may be many,
    and the dimensions that they differ in few: the smaller matrix is decomposed.

    Args:
        roots: R (n, q); R R' is what the rows have in their own predictions.
        errors: Errors of predictions that they have a part in.
        residuals: Errors if nothing is predicted.
    """
    rows, dimensions = roots.shape
    few = rows <= dimensions
    own, vectors = np.linalg.eigh(roots @ roots.T if few else roots.T @ roots)
    if not few:
        vectors = roots @ vectors[:, own > _NOTHING] / np.sqrt(own[own > _NOTHING])
        own = own[own > _NOTHING]
    left = 1 - own
    known = np.abs(left) > _DETERMINED * (np.abs(left).max() if few else 1.0)
    along = vectors.T @ errors
    predicted = along / np.where(known, left, 1.0)[:, None]
    apart = np.where(known[:, None], predicted, vectors.T @ residuals)
    return np.asarray(errors + vectors @ (apart - along))


def _log_likelihood(scores: Floats, codes: Ints) -> float:
    chances = softmax(scores)[np.arange(len(codes)), codes]
    return float(np.log(np.maximum(chances, 1e-12)).mean())


def _correlation(predicted: Floats, targets: Floats) -> float:
    if len(targets) < 2 or not predicted.std() or not targets.std():
        return 0.0
    return float(np.corrcoef(predicted, targets)[0, 1])


def _trust(agreement: float, count: int, *, doubt: float, trusted: float = _TRUSTED) -> float:
    """Returns how far predictions of left-out labels can be trusted, from 0 to 1.

    Args:
        agreement: Correlation of the predictions with the labels.
        count: Number of labels.
        doubt: How many standard errors are taken off.
        trusted: Correlation at which they are trusted wholly.
    """
    return float(np.clip((agreement - doubt / np.sqrt(count)) / trusted, 0, 1))
