"""BlockMaps: every block of a sample of the index in two dimensions, with labels to colour by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Floats
from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import Document, Scalar
from subspace.errors import ConfigError, IndexFolderError
from subspace.retrieval.engines import Engine

# Of more items, this many are drawn: a page holds a point for each in every block.
SAMPLE = 2000
# More categories cannot be told apart by what they are for: those of ids, say.
_MOST_CATEGORIES = 200


@dataclass(frozen=True, eq=False)
class BlockMap:
    """One block in two dimensions.

    Attributes:
        points: Coordinates on the first two principal components (N, 2).
        explained: Share of the block's variance that each of them holds.
    """

    points: Floats
    explained: tuple[float, float]


@dataclass(frozen=True, eq=False)
class BlockMaps:
    """A sample of an index.

    Attributes:
        count: Number of items in the index.
        documents: Those that are drawn.
        blocks: Their maps by block name.
        labels: What they can be coloured by: a value per document by name, None where unknown.
    """

    count: int
    documents: tuple[Document, ...]
    blocks: Mapping[str, BlockMap]
    labels: Mapping[str, tuple[Scalar | None, ...]]


def make_maps(engine: Engine, *, labelled: Sequence[Document] | None = None) -> BlockMaps:
    """Maps of what an engine keeps.

    Args:
        engine: What is drawn.
        labelled: What labels come from, by id, instead of what the index keeps.

    Raises:
        ConfigError: Nothing of what is drawn is labelled by them.
        IndexFolderError: A vector is not finite.
    """
    sample = engine.sample(SAMPLE)
    if not np.isfinite(sample.vectors).all():
        raise IndexFolderError(
            "the index is damaged: a vector holds NaN or infinity; build it again"
        )
    known = {document.id: document.metadata for document in sample.documents}
    if labelled is not None:
        given = {d.id: d.metadata for d in labelled if d.id in known and d.metadata}
        if not given:
            raise ConfigError("--data: there are labels for none of the texts in the index")
        known = given
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
    """Principal components of one block (N, width); 0 where there is nothing to tell apart."""
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
    documents: tuple[Document, ...],
    *,
    known: Mapping[str, Mapping[str, Scalar]],
    layout: BlockLayout,
) -> dict[str, tuple[Scalar | None, ...]]:
    """Labels by name: those named like a block first, and none that cannot be told apart."""
    names = dict.fromkeys(name for labels in known.values() for name in labels)
    found = {}
    for name in sorted(names, key=lambda name: name not in layout.names):
        values = tuple(known.get(document.id, {}).get(name) for document in documents)
        categories = {value for value in values if isinstance(value, str | bool)}
        if len(categories) <= _MOST_CATEGORIES:
            found[name] = values
    return found
