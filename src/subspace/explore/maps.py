"""BlockMaps: each block of a sample of the index in two dimensions, and labels for colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Floats
from subspace.blocks import BlockLayout
from subspace.data.metadata import Scalar, Value, is_scalar
from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError
from subspace.retrieval.engines import Engine

# Largest number of items that are drawn; each is a point in the map of every block.
SAMPLE = 2000
# Labels with more categories are left out: they are usually ids or file names.
_MOST_CATEGORIES = 200


@dataclass(frozen=True, eq=False)
class BlockMap:
    """The map of one block in two dimensions.

    Attributes:
        points: Coordinates on the first two principal components (N, 2).
        explained: Share of the block's variance on each of the two components.
    """

    points: Floats
    explained: tuple[float, float]


@dataclass(frozen=True, eq=False)
class BlockMaps:
    """Maps of all blocks, of a sample of an index.

    Attributes:
        count: Number of items in the index.
        documents: The N sampled items.
        blocks: Map of each block by name.
        labels: By name of the label, its value for each of the N items; None where unknown.
    """

    count: int
    documents: tuple[Record, ...]
    blocks: Mapping[str, BlockMap]
    labels: Mapping[str, tuple[Scalar | None, ...]]


def make_maps(engine: Engine, *, labelled: Sequence[Record] | None = None) -> BlockMaps:
    """Samples at most `SAMPLE` items of an engine, and makes the map of each block.

    Args:
        engine: Keeps the items.
        labelled: Labels by id, in `factors` and `metadata`; the items' own metadata if None.

    Raises:
        ConfigError: `labelled` has labels for none of the sampled items.
        IndexFolderError: A vector is not finite.
    """
    sample = engine.sample(SAMPLE)
    if not np.isfinite(sample.vectors).all():
        raise IndexFolderError(
            "the index is damaged: a vector holds NaN or infinity; build it again"
        )
    known = {document.id: document.metadata for document in sample.documents}
    if labelled is not None:
        given = {one.id: {**one.factors, **one.metadata} for one in labelled if one.id in known}
        known = {name: labels for name, labels in given.items() if labels}
        if not known:
            raise ConfigError("--data: there are labels for none of the texts in the index")
    return BlockMaps(
        count=engine.count(),
        documents=sample.documents,
        blocks={
            name: map_block(vectors)
            for name, vectors in engine.layout.split(sample.vectors.astype(np.float64)).items()
        },
        labels=_label(sample.documents, known=known, layout=engine.layout),
    )


def map_block(vectors: AnyFloats) -> BlockMap:
    """Projects one block (N, width) to its first two principal components; a constant one to 0."""
    centred = vectors - vectors.mean(axis=0) if len(vectors) else vectors
    variances, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    first = axes[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    total = float(variances.sum())
    shares = [float(share) / total if total > 0 else 0.0 for share in variances[::-1][:2]]
    if len(shares) < 2:  # a block of one dimension
        return BlockMap(np.column_stack([centred @ first, np.zeros(len(vectors))]), (shares[0], 0))
    return BlockMap(np.asarray(centred @ first), (shares[0], shares[1]))


def _label(
    documents: tuple[Record, ...],
    *,
    known: Mapping[str, Mapping[str, Value]],
    layout: BlockLayout,
) -> dict[str, tuple[Scalar | None, ...]]:
    """Collects labels by name, those named like a block first.

    Leaves out labels with more than `_MOST_CATEGORIES` categories.
    """
    names = dict.fromkeys(name for labels in known.values() for name in labels)
    found = {}
    for name in sorted(names, key=lambda name: name not in layout.names):
        given = (known.get(document.id, {}).get(name) for document in documents)
        values = tuple(value if is_scalar(value) else None for value in given)
        categories = {value for value in values if isinstance(value, str | bool)}
        some = any(value is not None for value in values)  # lists and objects have no colour
        if some and len(categories) <= _MOST_CATEGORIES:
            found[name] = values
    return found
