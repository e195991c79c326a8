"""Retrieval by block: how often nearest neighbours in a block share a label."""

from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Ints
from subspace.blocks import unit
from subspace.data.labels import Labels

NEIGHBOURS = 10
_MAX_QUERIES = 1000


@dataclass(frozen=True)
class Precision:
    """Precision@10 of one factor.

    Attributes:
        precision: Mean share of the 10 nearest texts that have the query's label; for numbers, its
            level.
        chance: The same share among all candidates.
    """

    precision: float
    chance: float


def precision_at_ten(z: AnyFloats, labels: Labels, *, factor: str) -> Precision | None:
    """Measures precision@10 of one factor among a source's test texts.

    Texts of the query's own group are versions of the same content and are no candidates.

    Args:
        z: One vector per text of the source (N, D).
        labels: Labels of the source.
        factor: The factor whose label is compared.

    Returns:
        The precision; None for 30 labelled test texts or fewer.
    """
    codes = labels.columns[factor].codes
    test = labels.positions("test")
    texts: Ints = test[codes[test] >= 0]
    if len(texts) <= 3 * NEIGHBOURS:
        return None
    rng = np.random.default_rng(0)
    queries = np.sort(rng.choice(len(texts), min(_MAX_QUERIES, len(texts)), replace=False))
    directions = unit(z[texts])
    groups = labels.groups[texts]
    cosines = directions[queries] @ directions.T
    own = groups[queries][:, None] == groups[None]
    barred = np.where(groups[queries][:, None] >= 0, own, False)
    barred[np.arange(len(queries)), queries] = True
    cosines = np.where(barred, -np.inf, cosines)
    nearest = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    same = codes[texts][queries][:, None] == codes[texts][None]
    candidates = ~barred
    return Precision(
        precision=float(np.take_along_axis(same, nearest, axis=1).mean()),
        chance=float(((same & candidates).sum(axis=1) / candidates.sum(axis=1)).mean()),
    )
