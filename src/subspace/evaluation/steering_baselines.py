"""Baselines of steering: scores that need no blocks, and the bound of a fit inside the source."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.blocks import unit
from subspace.data.labels import Column, control_labels
from subspace.errors import ConfigError
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.stored_sources import StoredSource
from subspace.fitting.weak.feature_scores import score_features

_RIDGES = tuple(10.0**power for power in range(-2, 5))
# Most training texts of one source that a ridge regression is fitted on.
_RIDGE_TEXTS = 500


def control_length(
    source: StoredSource, column: Column, positions: Ints, *, chosen: Ints | None = None
) -> Floats:
    """Regresses the number of words out of some labels.

    Args:
        source: The source of the texts.
        column: Numeric labels.
        positions: Positions of the texts in `column`.
        chosen: Positions in `source` of the texts of `column`; None if it has all of them.
    """
    assert column.values is not None
    texts = positions if chosen is None else chosen[positions]
    words = np.log([len(source.records[position].text.split()) for position in texts])
    return control_labels(column.values[positions], [words])


def other_numbers(source: StoredSource, factor: str, *, chosen: Ints) -> dict[str, Floats]:
    """Returns the numbers of words, as `length (words)`, and numeric labels of other factors.

    Each is scaled to mean 0 and standard deviation 1; NaN where a text has no label. Words are
    counted on a logarithmic scale.

    Args:
        source: The source of the texts.
        factor: The factor that is left out.
        chosen: Positions of the texts in `source`.
    """
    words = [len(source.records[position].text.split()) for position in chosen]
    found = {"length (words)": np.log(words)}
    for name, column in source.labels.take(chosen).columns.items():
        if name != factor and column.values is not None:
            found[name] = column.values
    return {
        name: (values - np.nanmean(values)) / (np.nanstd(values) or 1)
        for name, values in found.items()
        if np.isfinite(values).any()
    }


def early_layers(x: Vectors, *, width: int, deepest: int) -> Vectors:
    """Returns all layers but the deepest, or an only layer, centred and scaled to unit length."""
    rest = np.delete(x, np.arange(deepest, deepest + width), axis=1)
    return unit(rest - rest.mean(axis=0)) if rest.shape[1] else unit(x - x.mean(axis=0))


def counted_scores(texts: Sequence[str]) -> Mapping[str, Floats]:
    """Counts features of texts; returns scores (N,) by factor, none without word frequencies."""
    try:
        return score_features(texts)
    except ConfigError:  # the word frequencies are not installed
        return {}


def ridge_directions(data: FittingData, factors: Iterable[str]) -> dict[str, Floats]:
    """Fits a ridge regression on embeddings for each numeric factor; returns directions (D,)."""
    directions = {}
    for factor in factors:
        x, y = [], []
        for source in data.sources.values():
            column = source.labels.columns.get(factor)
            if column is not None and column.values is not None:
                train = np.intersect1d(source.labels.positions("train"), column.labelled)
                train = train[:: max(1, len(train) // _RIDGE_TEXTS)]
                if len(train) > 1:
                    vectors = data.encoder.store.read(source.rows[train])
                    x.append(vectors - vectors.mean(axis=0))
                    y.append(control_length(source, column, train))
        if x:
            directions[factor] = _ridge(np.concatenate(x), np.concatenate(y))
    return directions


def fitted_inside(x: Vectors, labels: Floats, known: Ints) -> Floats:
    """Scores each half of the texts by a ridge regression that is fitted on the other half (N,)."""
    scores = np.zeros(len(x))
    half = np.random.default_rng(0).permutation(len(x)) % 2
    for part in (0, 1):
        train = known[half[known] != part]
        centre = x[train].mean(axis=0)
        direction = _ridge(x[train] - centre, labels[train])
        scores[half == part] = (x[half == part] - centre) @ direction
    return scores


def classified_inside(x: Vectors, column: Column, known: Ints) -> Vectors:
    """Returns class probabilities (N, K); a discriminant analysis of each half scores the other."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    found = np.zeros((len(x), column.class_count), dtype=np.float32)
    half = np.random.default_rng(0).permutation(len(x)) % 2
    for part in (0, 1):
        train = known[half[known] != part]
        counts = np.bincount(column.codes[train], minlength=column.class_count)
        train = train[counts[column.codes[train]] > 1]  # one text has no covariance
        inside = np.flatnonzero(half == part)
        if len(np.unique(column.codes[train])) < 2:  # nothing to tell apart: all are alike
            continue
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
        fitted.fit(x[train], column.codes[train])
        found[np.ix_(inside, fitted.classes_)] = fitted.predict_proba(x[inside])
    return found


def _ridge(x: Vectors, y: Floats) -> Floats:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(alphas=_RIDGES).fit(x, y).coef_, dtype=np.float64)
