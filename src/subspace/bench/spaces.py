"""The vectors that a replay searches: raw, as blocks, and with a block learned from pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout, unit
from subspace.data.retrieval_sets import RetrievalSet
from subspace.errors import ConfigError
from subspace.fitting.pair_blocks import MATCH, FromPairs, Together, add_pair_blocks
from subspace.fitting.pair_moments import collect_pairs
from subspace.model.projection import Projection

WHOLE = "whole"
# One set of a few hundred pairs and nothing else to go by: much shrinkage.
_FROM_PAIRS = FromPairs(shrinkage=0.5)
_WIDTH = 128


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Space:
    """Documents and queries as unit blocks.

    Attributes:
        documents: (N, layout.dim).
        queries: (Q, layout.dim).
    """

    documents: Vectors
    queries: Vectors


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to cut up the embeddings.

    Attributes:
        name: For people.
        layout: The blocks of all its spaces.
        spaces: One, or one per fold.
        fold: Which of them each query is searched in (Q,): one that was fitted without it.
    """

    name: str
    layout: BlockLayout
    spaces: tuple[Space, ...]
    fold: Ints


def relevance_matrix(data: RetrievalSet) -> npt.NDArray[np.bool_]:
    """Whether each document is relevant to each query (Q, N).

    Raises:
        ConfigError: A query has no relevant document.
    """
    column = {document.id: position for position, document in enumerate(data.documents)}
    relevant = np.zeros((len(data.queries), len(data.documents)), dtype=bool)
    for row, query in enumerate(data.queries):
        for document, grade in data.relevance.get(query, {}).items():
            relevant[row, column[document]] = grade > 0
    if not relevant.any(axis=1).all():
        missing = list(data.queries)[int(np.flatnonzero(~relevant.any(axis=1))[0])]
        raise ConfigError(f"query '{missing}' has no relevant document, so nothing can succeed")
    return relevant


def check_folds(folds: int, *, queries: int) -> None:
    """Whether queries can be cut into so many parts.

    Raises:
        ConfigError: They cannot; 0, for no cut, is fine.
    """
    if folds == 1 or folds < 0 or folds > queries:
        raise ConfigError(f"folds must be 0 or between 2 and {queries}, the queries, got {folds}")
    if folds and queries - -(-queries // folds) < 2:
        raise ConfigError(
            f"{queries} queries in {folds} folds leave one to learn from: give more queries, or "
            "folds 0 for no block learned from judgements"
        )


def make_variants(
    *,
    documents: Vectors,
    queries: Vectors,
    relevant: npt.NDArray[np.bool_],
    projection: Projection,
    raw: slice,
    folds: int,
    seed: int,
) -> list[Variant]:
    """The raw embedding as one block, the projection's blocks, and these with a learned one.

    Args:
        documents: Embeddings (N, D).
        queries: Embeddings (Q, D).
        relevant: Which document is relevant to which query (Q, N).
        projection: To blocks.
        raw: The dimensions of the raw embedding, which are those of the last layer.
        folds: In how many parts the queries are cut; the block learned from pairs never saw the
            part that is searched in it. 0 leaves this variant out.
        seed: Of the cut.

    Raises:
        ConfigError: There are fewer queries than folds, or one fold only.
    """
    count = len(queries)
    check_folds(folds, queries=count)
    one = np.zeros(count, dtype=np.int64)
    whole = Space(unit(documents[:, raw]), unit(queries[:, raw]))
    layout = BlockLayout((WHOLE,), (whole.documents.shape[1],))
    blocks = Space(projection(documents), projection.queries(queries))
    variants = [
        Variant("raw embedding", layout, (whole,), one),
        Variant("blocks", projection.layout, (blocks,), one),
    ]
    if folds:
        fold = np.random.default_rng(seed).permutation(count) % folds
        learned = [
            _learn(documents, queries, relevant, train=np.flatnonzero(fold != part))
            for part in range(folds)
        ]
        variants.append(_append(blocks, projection.layout, learned, fold=fold))
    return variants


def _learn(
    documents: Vectors,
    queries: Vectors,
    relevant: npt.NDArray[np.bool_],
    *,
    train: Ints,
) -> Space:
    d, q = unit(documents), unit(queries)
    rows = np.arange(len(train) + len(d))
    statistics = collect_pairs(
        np.concatenate([q[train], d]),
        queries=rows[: len(train)],
        documents=rows[len(train) :],
        pairs=np.argwhere(relevant[train]),
    )
    learned = add_pair_blocks(
        None,
        layout=BlockLayout((MATCH,), (min(_WIDTH, d.shape[1]),)),
        together=Together(sets={"judgements": statistics}),
        settings=_FROM_PAIRS,
    )
    return Space(learned(d), learned.queries(q))


def _append(
    blocks: Space,
    layout: BlockLayout,
    learned: Sequence[Space],
    *,
    fold: Ints,
) -> Variant:
    width = learned[0].documents.shape[1]
    spaces = tuple(
        Space(
            np.concatenate([blocks.documents, part.documents], axis=1),
            np.concatenate([blocks.queries, part.queries], axis=1),
        )
        for part in learned
    )
    name = MATCH if MATCH not in layout.names else "judgements"
    wider = BlockLayout((*layout.names, name), (*layout.widths, width))
    return Variant(f"blocks and pairs, {len(learned)}-fold", wider, spaces, fold)
