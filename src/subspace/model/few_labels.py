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

# The grid. Labels have standard deviation 1, features a mean squared length of 1.
_SIGNAL = (1e-6, 0.03, 0.1, 0.2, 0.4, 0.7)
_NOISE = (0.15, 0.3, 0.5, 0.8, 1.0)
# Ratios b / v for classes, whose scale is solved for.
_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# Expected correlation of a reference's score with the labels; chosen on corpora that the reference
# did not learn from (LOG.md).
_REFERENCE_SHARE = 0.4
# Predictions of left-out labels are trusted from a correlation of 0 to one of this, after half a
# standard error is taken off.
_TRUSTED = 0.3
# Settings of the grid with a smaller share are left out of the prediction of labels.
_NEGLIGIBLE = 1e-3
_SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class NumberFit:
    """A direction that orders texts.

    Attributes:
        weight: Weights of the features (p,).
        trust: From 0 (labels tell nothing that holds for other labels) to 1.
    """

    weight: Floats
    trust: float


@dataclass(frozen=True, eq=False)
class ClassFit:
    """Linear scores of classes.

    Attributes:
        weight: Weights of the features by class (K, p); they sum to 0 over the classes.
        sharpness: Factor of the scores in the softmax that gives the classes' probabilities.
        trust: From 0 (labels tell nothing that holds for other labels) to 1.
    """

    weight: Floats
    sharpness: float
    trust: float


def fit_numbers(
    features: Floats,
    labels: Floats,
    *,
    groups: Ints | None = None,
    pairs: Floats | None = None,
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
        reference: Direction that is believed before (p,), its scores with a standard deviation of
            1 among the texts; it keeps its share as far as the labels cannot be trusted.
        scale: Scores of the features of other texts are scaled to standard deviation 1 by this
            covariance of the features (p, p); None for that of `features`.
    """
    rows, targets = _standardised(features, labels)
    count = max(len(rows) - 1, 0)
    if pairs is not None and len(pairs):
        # The expected difference of two random labels of standard deviation 1.
        rows = np.concatenate([rows, pairs])
        targets = np.concatenate([targets, np.full(len(pairs), 2 / np.sqrt(np.pi))])
        count += len(pairs)
    if not count:
        return NumberFit(np.zeros(features.shape[1]) if reference is None else reference, 0.0)
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
    left_out = _left_out(left, shrinks, share, residuals=(targets - before)[:, None], groups=groups)
    trust = _trust(before + left_out[:, 0], targets, count, len(labels))
    if reference is None:
        return NumberFit(weight, trust)
    weight = weight + _REFERENCE_SHARE * reference
    covariance = np.cov(features.T) if scale is None else scale
    spread = float(np.sqrt(max(float(weight @ covariance @ weight), 0.0))) or 1.0
    return NumberFit(trust * weight / spread + (1 - trust) * reference, trust)


def fit_classes(features: Floats, codes: Ints, *, groups: Ints | None = None) -> ClassFit:
    """Fits linear scores of classes, by regression on their indicators.

    Args:
        features: Features of labelled texts (N, p), with a mean squared length of about 1.
        codes: Their classes (N,), numbers from 0; every class occurs.
        groups: As in `fit_numbers`.
    """
    classes, count = int(codes.max()) + 1, len(codes)
    targets = np.eye(classes)[codes]
    targets = targets - targets.mean(axis=0)
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
    left_out = _left_out(left, shrinks, share, residuals=targets, groups=groups)
    return ClassFit(
        weight=weight - weight.mean(axis=0),
        sharpness=max(_SHARPNESS, key=lambda one: _log_likelihood(one * left_out, codes)),
        trust=_trust(left_out.ravel(), targets.ravel(), count, count),
    )


def softmax(scores: Floats) -> Floats:
    """Returns probabilities (N, K) from scores (N, K)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _standardised(features: Floats, labels: Floats) -> tuple[Floats, Floats]:
    if not len(labels):
        return features[:0], labels
    spread = labels.std()
    return features - features.mean(axis=0), (labels - labels.mean()) / (spread or 1.0)


def _shares(evidence: Sequence[float]) -> Floats:
    logarithms: Floats = np.asarray(evidence, dtype=np.float64)
    powers = np.exp(logarithms - logarithms.max())
    return np.asarray(powers / powers.sum())


def _left_out(
    left: Floats,
    shrinks: Sequence[Floats],
    share: Floats,
    *,
    residuals: Floats,
    groups: Ints | None,
) -> Floats:
    """Predicts the residuals (N, K) of each group from all others, averaged over the grid.

    Args:
        left: Left singular vectors of the features (N, r).
        shrinks: By setting of the grid, by how much each singular direction is kept (r,).
        share: Share of each setting.
        residuals: What is to be predicted.
        groups: Group of the first texts (N' <= N,); the others are their own.
    """
    own = np.arange(len(left)) - len(left)  # below 0, so that they are in no group
    if groups is not None:
        own[: len(groups)] = np.where(groups >= 0, groups, own[: len(groups)])
    names, counts = np.unique(own, return_counts=True)
    several = [np.flatnonzero(own == name) for name in names[counts > 1]]
    found = np.zeros_like(residuals)
    for shrink, part in zip(shrinks, share, strict=True):
        if part < _NEGLIGIBLE:
            continue
        errors = residuals - (left * shrink) @ (left.T @ residuals)
        leverage = np.minimum((left**2) @ shrink + 1 / len(left), 0.99)
        apart = errors / (1 - leverage)[:, None]
        for rows in several:
            inside = (left[rows] * shrink) @ left[rows].T + 1 / len(left)
            apart[rows] = np.linalg.lstsq(np.eye(len(rows)) - inside, errors[rows], rcond=0.01)[0]
        found += part * (residuals - apart)
    return np.asarray(found / share[share >= _NEGLIGIBLE].sum())


def _log_likelihood(scores: Floats, codes: Ints) -> float:
    chances = softmax(scores)[np.arange(len(codes)), codes]
    return float(np.log(np.maximum(chances, 1e-12)).mean())


def _trust(predicted: Floats, targets: Floats, count: int, labels: int) -> float:
    """Returns how far predictions of left-out labels agree with them, from 0 to 1."""
    if not labels:  # comparisons alone: their targets are all alike, so the share in order counts
        agreement = 2 * float((predicted > 0).mean()) - 1
    elif predicted.std() and targets.std():
        agreement = float(np.corrcoef(predicted, targets)[0, 1])
    else:
        agreement = 0.0
    return float(np.clip((agreement - 0.5 / np.sqrt(count)) / _TRUSTED, 0, 1))
