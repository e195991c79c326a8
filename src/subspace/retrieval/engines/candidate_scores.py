"""Exact scores of a few rows: the same rows for all queries, or other rows for each query."""

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.retrieval.engines.faiss_candidates import faiss_threads, import_faiss
from subspace.retrieval.engines.numpy_engine import widen
from subspace.retrieval.engines.vector_rows import VectorRows

_WIDENED = 16_384  # vectors scored at once


def score_rows(queries: Vectors, vectors: VectorRows, rows: Ints) -> Vectors:
    """Computes inner products (Q, len(rows)) with the vectors at `rows`, which are ascending."""
    scores = np.empty((len(queries), len(rows)), dtype=np.float32)
    for start in range(0, len(rows), _WIDENED):
        part = rows[start : start + _WIDENED]
        some = widen(vectors.read(part))
        # For one query, starting the threads of a matrix product would take longer than np.vecdot.
        scores[:, start : start + len(part)] = (
            np.vecdot(some, queries[0]) if len(queries) == 1 else queries @ some.T
        )
    return scores


def score_own_rows(queries: Vectors, vectors: VectorRows, rows: Ints) -> Vectors:
    """Computes inner products (Q, n) of each query with the vectors at its own rows (Q, n).

    The score of row -1 is -inf.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    whole = vectors.in_one_array()
    if whole is None or whole.dtype != np.float32 or not whole.flags.c_contiguous:
        each = zip(queries, np.maximum(rows, 0), strict=True)
        found = [np.vecdot(widen(vectors.take(own)), query) for query, own in each]
        return np.where(rows < 0, np.float32(-np.inf), np.stack(found))
    # faiss reads the vectors where they lie: in the time that a copy of them would take.
    faiss = import_faiss()
    rows = np.ascontiguousarray(rows)
    scores = np.empty(rows.shape, dtype=np.float32)
    pointers = (faiss.swig_ptr(array) for array in (scores, queries, whole, rows))
    with faiss_threads(faiss, queries=len(queries)):
        faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    return scores
