"""Linear heads of a model, fitted on its training texts by ridge and logistic regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.labels import control_labels
from subspace.fitting.stored_sources import StoredSource
from subspace.model.linear_heads import LinearHead
from subspace.model.projection import Projection

# Ridge penalties among which leave-one-out cross-validation chooses; features and labels have unit
# variance.
_RIDGES = tuple(10.0**power for power in range(7))
# Classes with fewer training texts are not learned.
_MIN_TEXTS = 5
# With more classes than this, the labels of a source probably identify single documents.
_MAX_CLASSES = 100
# Largest number of texts to fit a classifier on; more take longer and hardly improve it.
_MAX_TEXTS = 10_000
_CHUNK = 10_000
# A block whose dimensions have a smaller standard deviation than this is treated as constant.
_STILL = 1e-8


@dataclass(frozen=True, eq=False)  # comparing arrays gives an array, not a bool
class LabelledBlock:
    """Texts of one source that are labelled with one factor.

    Attributes:
        z: Unit vectors of the texts in the factor's block (N, width).
        labels: Labels of the texts.
        lengths: Logarithm of the number of words of each text (N,).
        weights: Weight of each text in the fit (N,).
    """

    z: Vectors
    labels: Sequence[str | float]
    lengths: Floats
    weights: Floats


def fit_heads(
    projection: Projection,
    sources: Mapping[str, StoredSource],
    *,
    vectors: Vectors,
    pseudo_labels: Mapping[str, Mapping[str, Floats]] | None = None,
    pseudo_weight: float = 0.0,
    numbers_only: bool = False,
) -> dict[str, LinearHead]:
    """Fits one head for each block whose factor is labelled among the training texts.

    If labels are numbers, every source counts the same. The logarithm of the number of words is
    regressed out of the labels of each source, since longer texts are rated harder and more
    specific whatever they say. The rest is scaled to mean 0 and standard deviation 1.

    If labels are categories, every class counts the same. If a source has labelled validation
    texts, only the classes that occur among them are learned. This leaves out labels that identify
    single documents.

    Args:
        projection: Projection of the model.
        sources: Labelled texts by source.
        vectors: All stored embeddings (rows, D).
        pseudo_labels: A number for every training text (N,), by factor and source, such as a score
            that is counted in the text. Not used for a factor that is labelled with categories.
        pseudo_weight: Weight of the pseudo-labels of a source; its labels have weight 1.
        numbers_only: Skips categories, whose heads take most of the time.
    """
    heads = {}
    for factor in projection.layout:
        columns = [source.labels.columns.get(factor) for source in sources.values()]
        categories = any(column is not None and not column.ordered for column in columns)
        if categories and numbers_only:
            continue
        parts = []
        for name, source in sources.items():
            part = labelled_block(factor, source, projection=projection, vectors=vectors)
            if part is not None:
                parts.append(part)
            numbers = (pseudo_labels or {}).get(factor, {}).get(name)
            if numbers is not None and pseudo_weight and not categories:
                parts.append(
                    _pseudo_labelled(
                        factor,
                        source,
                        numbers=numbers,
                        weight=pseudo_weight,
                        projection=projection,
                        vectors=vectors,
                    )
                )
        head = fit_head(parts)
        if head is not None:
            heads[factor] = head
    return heads


def labelled_block(
    factor: str, source: StoredSource, *, projection: Projection, vectors: Vectors
) -> LabelledBlock | None:
    """Returns the training texts of a source that are labelled with a factor.

    Leaves out classes with fewer than `_MIN_TEXTS` training texts, and those that do not occur
    among the validation texts. Returns None if fewer than two texts or more than `_MAX_CLASSES`
    classes are left.
    """
    column = source.labels.columns.get(factor)
    if column is None:
        return None
    train = np.intersect1d(source.labels.positions("train"), column.labelled)
    if not column.ordered:
        held_out = np.intersect1d(source.labels.positions("validation"), column.labelled)
        if len(held_out):
            train = train[np.isin(column.codes[train], column.codes[held_out])]
        counts = np.bincount(column.codes[train], minlength=1)
        train = train[counts[column.codes[train]] >= _MIN_TEXTS]
        if len(np.unique(column.codes[train])) > _MAX_CLASSES:
            return None
    if len(train) < 2:
        return None
    weights = np.ones(len(train)) if column.weights is None else column.weights[train]
    return LabelledBlock(
        z=_project(source, train, factor, projection=projection, vectors=vectors),
        labels=[source.records[position].factors[factor] for position in train],
        lengths=np.log([len(source.records[position].text.split()) for position in train]),
        weights=weights / len(train),
    )


def fit_head(parts: Sequence[LabelledBlock]) -> LinearHead | None:
    """Fits one head on the texts of some sources.

    Returns:
        The head. None if all labels are equal, the number of words explains them, or the block is
        constant.
    """
    labels = [label for part in parts for label in part.labels]
    if len(set(labels)) < 2:
        return None
    z = np.concatenate([part.z for part in parts]).astype(np.float64)
    weights = np.concatenate([part.weights for part in parts])
    weights *= len(weights) / weights.sum()
    mean = z.mean(axis=0)
    # One scale for all dimensions keeps the relative lengths that the solver gave them.
    scale = float(np.sqrt(z.var(axis=0).mean()))
    if not scale > _STILL:
        return None
    x = (z - mean) / scale
    if isinstance(labels[0], str):
        weight, bias, classes = _fit_classes(x, [str(label) for label in labels], weights)
    else:
        parted = [control_labels(np.array(part.labels, float), [part.lengths]) for part in parts]
        if not any(numbers.any() for numbers in parted):
            return None  # the number of words explains all labels
        weight, bias = _fit_numbers(x, np.concatenate(parted), weights)
        classes = None
    weight = weight / scale
    return LinearHead(
        weight=weight.astype(np.float32),
        bias=(bias - weight @ mean).astype(np.float32),
        classes=classes,
    )


def _project(
    source: StoredSource,
    positions: Ints,
    factor: str,
    *,
    projection: Projection,
    vectors: Vectors,
) -> Vectors:
    block = projection.block(factor)
    rows = source.rows[positions]
    chunks = [
        block(np.asarray(vectors[rows[start : start + _CHUNK]], np.float32))
        for start in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(chunks)


def _pseudo_labelled(
    factor: str,
    source: StoredSource,
    *,
    numbers: Floats,
    weight: float,
    projection: Projection,
    vectors: Vectors,
) -> LabelledBlock:
    train = source.labels.positions("train")
    return LabelledBlock(
        z=_project(source, train, factor, projection=projection, vectors=vectors),
        labels=[float(number) for number in numbers],
        lengths=np.log([len(source.records[position].text.split()) for position in train]),
        weights=np.full(len(train), weight / max(len(train), 1)),
    )


def _fit_numbers(x: Floats, labels: Floats, weights: Floats) -> tuple[Floats, Floats]:
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(alphas=_RIDGES).fit(x, labels, sample_weight=weights)
    return fitted.coef_[None], np.atleast_1d(fitted.intercept_)


def _fit_classes(
    x: Floats, labels: Sequence[str], weights: Floats
) -> tuple[Floats, Floats, tuple[str, ...]]:
    from sklearn.linear_model import LogisticRegression

    if len(x) > _MAX_TEXTS:
        taken = np.random.default_rng(0).permutation(len(x))[:_MAX_TEXTS]
        x, labels, weights = x[taken], [labels[place] for place in taken], weights[taken]
    # A loose tolerance saves time; more digits do not separate the classes better.
    fitted = LogisticRegression(class_weight="balanced", max_iter=200, C=0.1, tol=1e-2).fit(
        x, labels, sample_weight=weights
    )
    weight, bias = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn gives only the difference of the two classes
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias, tuple(map(str, fitted.classes_))
