"""Directions over the encoder's layers, beside those that labels give inside a block.

A block is a few hundred directions that many corpora share. With some hundred labels, what is
particular to one corpus can be told from chance, and much of it lies outside the block. So a second
direction is fitted on the raw vectors, with nothing believed before, and becomes a dimension of the
block in the place of its weakest one; for classes, one direction for each class. The two are added
as the labels that are left out say: with few labels of a number the block's own has all of the
share, with many the other one has most of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.model.few_labels import (
    ClassStack,
    NumberFit,
    fit_classes,
    fit_numbers,
    stack,
    stack_classes,
)

if TYPE_CHECKING:
    from subspace.model.model import Model
    from subspace.model.projection import Projection


# New dimensions of classes take at most this part of a block: with more, nearness in it changes.
_ROOM = 8


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class RawVectors:
    """Raw vectors of the encoder, for directions over its layers.

    Attributes:
        records: Those of the labelled texts (N, D).
        corpus: Those of texts of the same kind (M, D).
        centre: Mean of all texts of that kind (D,).
    """

    records: Vectors
    corpus: Vectors
    centre: Vectors


@dataclass(frozen=True, eq=False)
class LayerDirection:
    """A direction in a block, one of whose dimensions is new.

    Attributes:
        projection: The projection with that dimension.
        weight: The direction in the block (width,).
        trust: From 0 (labels tell nothing that holds for other labels) to 1.
        share: Share of the new dimension in the direction, from 0 to 1.
    """

    projection: "Projection"
    weight: Floats
    trust: float
    share: float


@dataclass(frozen=True, eq=False)
class LayerClasses:
    """Classes in a block that has a new dimension for each of them.

    Attributes:
        projection: The projection with these dimensions.
        weight: Weights of the block's dimensions by class (K, width).
        stack: How their scores and those of the block were added.
        records: Unit blocks of the labelled texts (N, width).
        corpus: Unit blocks of the corpus (M, width).
    """

    projection: "Projection"
    weight: Floats
    stack: ClassStack
    records: Vectors
    corpus: Vectors


def fit_layers(
    model: "Model",
    factor: str,
    *,
    raw: RawVectors,
    rows: Sequence[int],
    labels: Floats,
    groups: Ints,
    inside: NumberFit,
    reference: Floats | None,
) -> LayerDirection | None:
    """Fits a direction to numbers; None where the layers add nothing to what the block says.

    Args:
        model: The model to start from.
        factor: The factor, which has a block.
        raw: Raw vectors of the texts.
        rows: Positions of the labelled texts in `raw.records`.
        labels: Their labels (N,).
        groups: Their groups; see `fit_numbers`.
        inside: The fit in the block.
        reference: The direction that is believed before (width,).
    """
    around = raw.corpus.astype(np.float64) - raw.centre
    if not around.any():
        return None
    given, _ = _features(raw, rows, around=around)
    found = fit_numbers(given, labels, groups=groups)
    share, trust = stack(inside.predicted, found.predicted, labels=labels)
    if not share or not trust:
        return None
    place = model.layout.slice(factor)
    weight, spread = found.weight, float((around @ found.weight).std())
    if not spread:
        return None
    block = around @ model.projection.weight[place].T
    weakest = int(block.var(axis=0).argmin())
    # As large as a dimension of the block is on average, so that nearness in it hardly changes.
    size = float(np.sqrt((block**2).mean()))
    projection = model.projection.with_row(
        place.start + weakest, size / spread * weight, centre=raw.centre
    )
    centred = projection.centred([factor], documents=raw.centre, queries=raw.centre)
    z = centred(raw.corpus)[:, place]
    new = np.eye(z.shape[1])[weakest]
    direction = (1 - share) * _unit(inside.weight * (1 - new), z) + share * _unit(new, z)
    mixed = trust * _unit(direction, z)
    if reference is not None:
        mixed += (1 - trust) * _unit(reference * (1 - new), z)
    return LayerDirection(projection, mixed, trust, share)


def fit_class_layers(
    model: "Model",
    factor: str,
    *,
    raw: RawVectors,
    rows: Sequence[int],
    z: Floats,
    codes: Ints,
    groups: Ints,
) -> LayerClasses | None:
    """Fits scores of classes; None where the layers add nothing, or the block has no room.

    Args:
        model: The model to start from.
        factor: The factor, which has a block.
        raw: Raw vectors of the texts.
        rows: Positions of the labelled texts in `raw.records`.
        z: Their unit blocks (N, width).
        codes: Their classes (N,), numbers from 0.
        groups: Their groups; see `fit_classes`.
    """
    place = model.layout.slice(factor)
    classes, width = int(codes.max()) + 1, z.shape[1]
    around = raw.corpus.astype(np.float64) - raw.centre
    block = around @ model.projection.weight[place].T
    if classes > width // _ROOM or not block.any():
        return None
    weakest = np.argsort(block.var(axis=0))[:classes]
    kept = z.copy()
    kept[:, weakest] = 0
    inside = fit_classes(kept, codes, groups=groups)
    given, scale = _features(raw, rows, around=around)
    found = fit_classes(given, codes, groups=groups)
    spread = float(np.sqrt(((scale * around @ found.weight.T) ** 2).mean()))
    both = stack_classes(inside, found, codes)
    if both is None or not both.trust or not spread:
        return None
    # As large as dimensions of the block are on average, so that nearness in it hardly changes.
    size = float(np.sqrt((block**2).mean())) / spread
    projection = model.projection
    for row, direction in zip(weakest, found.weight, strict=True):
        projection = projection.with_row(
            place.start + int(row), size * scale * direction, centre=raw.centre
        )
    weight = both.factors[0] * inside.weight
    # A unit block is divided by its length, which is sqrt(width) such dimensions.
    weight[:, weakest] = both.factors[1] * spread * np.sqrt(width) * np.eye(classes)
    centred = projection.centred([factor], documents=raw.centre, queries=raw.centre)
    return LayerClasses(
        projection,
        weight,
        both,
        records=centred(raw.records[list(rows)])[:, place],
        corpus=centred(raw.corpus)[:, place],
    )


def _features(raw: RawVectors, rows: Sequence[int], *, around: Floats) -> tuple[Floats, float]:
    """Returns centred vectors of labelled texts (N, D), and by what they are scaled.

    The centred vectors of the corpus (`around`) have a mean squared length of 1 at that scale.
    """
    scale = float(1 / np.sqrt((around**2).sum(axis=1).mean()))
    return scale * (raw.records[list(rows)].astype(np.float64) - raw.centre), scale


def _unit(direction: Floats, z: Vectors) -> Floats:
    """Scales a direction so that scores of texts have standard deviation 1."""
    spread = float((z.astype(np.float64) @ direction).std())
    return np.asarray(direction / (spread or 1.0))
