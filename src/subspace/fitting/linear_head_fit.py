"""Fits the probes that go with a checkpoint, on its training texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.fitting.stored_sources import StoredSource
from subspace.model.linear_heads import BlockProbes, Head
from subspace.model.projection import Projection

# Ridge strengths tried by leave-one-out; features and labels have unit variance.
_RIDGES = (1.0, 10.0, 100.0, 1000.0)
_CHUNK = 10_000


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Training texts of one source that have a label: unit blocks, labels and their weights."""

    z: Vectors
    labels: Sequence[str | float]
    weights: Floats


def fit_probes(
    projection: Projection, sources: Mapping[str, StoredSource], *, vectors: Vectors
) -> BlockProbes:
    """One head per block whose factor is labelled among the training texts.

    Of numbers every source counts the same, of categories every class; labels count by their
    weights. Numbers of several sources are brought to mean 0 and deviation 1 in each, as their
    scales differ; those of one source stay in its units. Of categories those are learned that occur
    among validation texts as well, where there are any: where the ids of documents serve as
    classes, they are not told apart.

    Args:
        projection: The checkpoint's.
        sources: Labelled texts by source.
        vectors: All stored embeddings (rows, D).
    """
    heads = {}
    for factor in projection.layout:
        parts = [
            part
            for source in sources.values()
            if (part := _labelled(factor, source, projection=projection, vectors=vectors))
        ]
        head = _fit_head(parts)
        if head is not None:
            heads[factor] = head
    return BlockProbes(layout=projection.layout, heads=heads)


def _labelled(
    factor: str, source: StoredSource, *, projection: Projection, vectors: Vectors
) -> _Labelled | None:
    column = source.labels.columns.get(factor)
    if column is None:
        return None
    train = np.intersect1d(source.labels.positions("train"), column.labelled)
    if not column.ordered:
        held = column.codes[np.intersect1d(source.labels.positions("validation"), column.labelled)]
        if len(held):
            train = train[np.isin(column.codes[train], held)]
    if len(train) < 2:
        return None
    place = projection.layout.slice(factor)
    rows = source.rows[train]
    chunks = [
        projection(np.asarray(vectors[rows[start : start + _CHUNK]], np.float32))[:, place]
        for start in range(0, len(rows), _CHUNK)
    ]
    weights = np.ones(len(train)) if column.weights is None else column.weights[train]
    return _Labelled(
        z=np.concatenate(chunks),
        labels=[source.records[position].factors[factor] for position in train],
        weights=weights / len(train),
    )


def _fit_head(parts: Sequence[_Labelled]) -> Head | None:
    labels = [label for part in parts for label in part.labels]
    if len(set(labels)) < 2:
        return None
    z = np.concatenate([part.z for part in parts]).astype(np.float64)
    weights = np.concatenate([part.weights for part in parts])
    weights *= len(weights) / weights.sum()
    mean, scale = z.mean(axis=0), z.std(axis=0)
    scale = np.where(scale > 1e-8, scale, np.inf)  # what does not vary says nothing
    x = (z - mean) / scale
    if isinstance(labels[0], str):
        weight, bias, classes = _fit_classes(x, [str(label) for label in labels], weights)
    else:
        weight, bias = _fit_numbers(x, parts, weights)
        classes = None
    weight = weight / scale
    return Head(
        weight=weight.astype(np.float32),
        bias=(bias - weight @ mean).astype(np.float32),
        classes=classes,
    )


def _fit_numbers(x: Floats, parts: Sequence[_Labelled], weights: Floats) -> tuple[Floats, Floats]:
    from sklearn.linear_model import RidgeCV

    columns = [np.array(part.labels, dtype=np.float64) for part in parts]
    scaled = [(column - column.mean()) / (column.std() or 1.0) for column in columns]
    fitted = RidgeCV(alphas=_RIDGES).fit(x, np.concatenate(scaled), sample_weight=weights)
    weight, bias = fitted.coef_[None], np.atleast_1d(fitted.intercept_)
    if len(columns) > 1:
        return weight, bias
    unit = columns[0].std() or 1.0
    return unit * weight, unit * bias + columns[0].mean()


def _fit_classes(
    x: Floats, labels: Sequence[str], weights: Floats
) -> tuple[Floats, Floats, tuple[str, ...]]:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(class_weight="balanced", max_iter=2000).fit(
        x, labels, sample_weight=weights
    )
    weight, bias = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps the difference of the two alone
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias, tuple(map(str, fitted.classes_))
