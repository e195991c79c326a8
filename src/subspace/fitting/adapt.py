"""Adapts a model's search to queries, and to documents that answer them.

Queries and documents are different kinds of texts: a task is short and asks, a skill is long and
explains. Two things are learned for each block that a search without weights uses, which is topic
unless the model says otherwise:

- **Means of their own.** Queries are centred on the mean query, documents on the mean document.
  This needs no judgements.
- **What pairs have in common**, if there are judgements. With S the scatter within pairs of a query
  and a relevant document, each centred, scaled to trace 1 and shrunk towards a multiple of the
  identity, the block becomes the leading principal directions of S^(-p / 2) x: directions in which
  texts that belong together differ are held down (within-class covariance normalisation, Hatch et
  al. 2006, at half its power). A block that was learned from labels keeps its directions.

All other blocks stay as they are, to the bit.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.linalg import eigh

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.retrieval_sets import RetrievalSet, query_key
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError, check_type
from subspace.fitting.closed_form import power
from subspace.fitting.fitting_data import DEFAULT_STORE
from subspace.fitting.recipe import Recipe
from subspace.fitting.scatter import unit_trace
from subspace.model.model import Model
from subspace.model.projection import Projection
from subspace.model.score_spread import measure_score_spread

# Exponent p, chosen among 0, 0.5 and 1 (LOG.md), and the least share of the identity in S.
_POWER, _SHRINKAGE = 0.5, 0.2
# Weight of the block as it was beside the covariance of the texts, which may be few.
_BEFORE = 0.01
# A mean over fewer texts is mostly chance.
_MIN_TEXTS = 5

_log = logging.getLogger(__name__)


def adapt(
    model: Model,
    data: RetrievalSet,
    *,
    name: str = "queries",
    store: Path | str = DEFAULT_STORE,
    progress: bool = False,
) -> Model:
    """Adapts the search of a model to given queries and documents.

    Learns from the queries of the split `train` (all if the set has no splits) and from all
    documents. An index has to be built again with the new model.

    Args:
        model: The model to start from.
        data: Queries and documents; judgements are optional.
        name: Name of the set, under which the new model's recipe keeps the queries' hashes.
        store: Folder of stored embeddings; those that it holds are not computed again.
        progress: Whether to show progress bars.

    Returns:
        A new model. It has no heads for the blocks that changed. The score spreads of all blocks
        are those of the documents.

    Raises:
        ConfigError: An argument is of another type, there are fewer than 5 training queries or
            documents, or all queries or all documents have the same embedding.
        CheckpointError: The model does not say how it was fitted, which tells the blocks that were
            learned from labels; or it was made for another encoder.
        EncoderError: The encoder cannot be loaded.
        StoreError: The store cannot be used.
    """
    check_type(model, Model, name="model", hint="load it with subspace.load")
    check_type(data, RetrievalSet, name="data", hint="read it with read_retrieval_set")
    recipe = Recipe.from_json(model.recipe)
    training = [query for query in data.queries if data.split(query) == "train"]
    counts = {"queries in the split 'train'": len(training), "documents": len(data.documents)}
    for what, count in counts.items():
        if count < _MIN_TEXTS:
            raise ConfigError(f"'{name}' has {count} {what}, needs {_MIN_TEXTS} or more")
    encoder = CachedEncoder.open(model.encoder, root=store)
    model.check_encoder(encoder.encoder.fingerprint)
    documents = encoder.encode([one.text for one in data.documents], progress=progress)
    asked = [data.queries[query] for query in training]
    queries = encoder.encode(asked, kind="query", progress=progress)
    for what, vectors in (("queries", queries), ("documents", documents)):
        if not np.ptp(vectors, axis=0).any():
            raise ConfigError(f"all {what} of '{name}' have the same embedding")
    blocks = [block for block, weight in model.default_weights.items() if weight]
    pairs = _relevant_pairs(data, training)
    _warn_of_judgements(data, training, pairs=pairs, name=name)
    projection = model.projection
    if len(pairs):
        principal = [block for block in blocks if _is_principal(recipe, block)]
        projection = hold_down(
            projection, blocks=principal, queries=queries, documents=documents, pairs=pairs
        )
    projection = projection.centred(
        blocks,
        documents=documents.mean(axis=0, dtype=np.float64),
        queries=queries.mean(axis=0, dtype=np.float64),
    )
    spreads = measure_score_spread(projection(documents), layout=model.layout).blocks
    learned = dict.fromkeys([*recipe.queries.get(name, ()), *map(query_key, asked)])
    return replace(
        model,
        projection=projection,
        heads={
            factor: head
            for factor, head in model.heads.items()
            if factor in model.layout.names and factor not in blocks
        },
        score_spreads=spreads if all(spreads.values()) else model.score_spreads,
        recipe=replace(recipe, queries={**recipe.queries, name: list(learned)}).to_json(),
        folder=None,
    )


def _is_principal(recipe: Recipe, block: str) -> bool:
    """Tells whether a block is principal directions: neither filtered by labels nor trained."""
    spec = recipe.blocks.get(block)
    return recipe.solver == "closed_form" and (spec is None or not spec.signal_power)


def hold_down(
    projection: Projection,
    *,
    blocks: Sequence[str],
    queries: Vectors,
    documents: Vectors,
    pairs: Ints,
) -> Projection:
    """Solves some blocks so that directions count less in which relevant pairs differ.

    Args:
        projection: The projection to start from.
        blocks: Names of the blocks to solve.
        queries: Raw vectors of queries (Q, D).
        documents: Raw vectors of documents (N, D).
        pairs: Positions of queries and of their relevant documents (P, 2), at least one.
    """
    asked, found = _centred(queries), _centred(documents)
    total, apart = np.concatenate([asked, found]), asked[pairs[:, 0]] - found[pairs[:, 1]]
    query, weight = projection.query, projection.weight.copy()
    query_weight = weight if query is None else query.weight.copy()
    for block in blocks:
        rows = projection.layout.slice(block)
        weight[rows] = _solve_rows(weight[rows], total=total, apart=apart)
        query_weight[rows] = weight[rows]
    query = query and replace(query, weight=query_weight)
    return replace(projection, weight=weight, query=query)


def _relevant_pairs(data: RetrievalSet, queries: Sequence[str]) -> Ints:
    place = {document.id: position for position, document in enumerate(data.documents)}
    pairs = [
        (row, place[document])
        for row, query in enumerate(queries)
        for document in data.relevant(query)
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _warn_of_judgements(
    data: RetrievalSet, queries: Sequence[str], *, pairs: Ints, name: str
) -> None:
    """Says where judgements do not tell which document belongs to which query."""
    judged = sum(bool(data.relevance.get(query)) for query in queries)
    if judged and not len(pairs):
        _log.warning(
            "'%s': the judgements of %d queries are all 0 or below, so that no document is "
            "relevant: texts alone were learned from",
            name,
            judged,
        )
    elif len(pairs) > 1 and len(np.unique(pairs[:, 1])) == 1:
        _log.warning(
            "'%s': all %d relevant pairs are of one document, '%s', which does not tell queries "
            "apart: judge others, too",
            name,
            len(pairs),
            data.documents[int(pairs[0, 1])].id,
        )


def _solve_rows(rows: Vectors, *, total: Floats, apart: Floats) -> Vectors:
    """Returns new rows (width, D) of a block, which reads the same dimensions as before.

    Args:
        rows: The block's rows of the projection (width, D).
        total: Centred vectors of all texts (Q + N, D).
        apart: Differences within pairs (P, D).
    """
    dims = np.flatnonzero(rows.any(axis=0))
    width, count = len(rows), len(dims)
    total, apart, before = total[:, dims], apart[:, dims], rows[:, dims].astype(np.float64)
    # Few pairs tell few directions: the others are left to the identity.
    share = max(_SHRINKAGE, count / (count + 4 * len(apart)))
    within = (1 - share) * unit_trace(apart.T @ apart) + share * np.eye(count) / count
    change = power(within, -_POWER / 2)
    texts = unit_trace(total.T @ total) + _BEFORE * unit_trace(before.T @ before)
    _, vectors = eigh(change @ texts @ change, subset_by_index=(count - width, count - 1))
    found = np.zeros(rows.shape, dtype=np.float32)
    found[:, dims] = vectors[:, ::-1].T @ change
    return found


def _centred(vectors: Vectors) -> Floats:
    x = vectors.astype(np.float64)
    return np.asarray(x - x.mean(axis=0))
