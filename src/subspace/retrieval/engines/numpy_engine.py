"""NumpyEngine: an exact scan in this process, by one matrix product over all vectors.

There is no index structure, so no change of documents, weights or priors requires a rebuild. In a
batch, a query takes 5 to 8 times less time than alone. Blocks before the first and after the last
one that has a weight are not read.

Threads may search and change one engine at once: each search sees the documents before a change or
after it.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.errors import IndexFolderError
from subspace.model.centre import Centre
from subspace.retrieval.engines.engine import (
    ROUNDING,
    Candidates,
    Priors,
    check_k,
    check_queries,
)
from subspace.retrieval.engines.filters import Where
from subspace.retrieval.engines.folder_engine import FolderEngine

# Queries scored at once: the scores of each take 4 bytes per document.
_QUERIES = 64
# Rows converted from float16 at once: few enough to stay in the processor's cache.
_WIDEN_ROWS = 2048
# Exponent bits of a float16; all of them are set in infinity and NaN.
_ALL_ONES = 0x7C00


class NumpyEngine(FolderEngine):
    """An exact engine with documents and vectors in memory, or memory-mapped from a folder."""

    name = "numpy"

    def __init__(
        self,
        *,
        layout: BlockLayout,
        projection_digest: str,
        centre: Centre | None = None,
        dtype: str = "float32",
        folder: Path | str | None = None,
    ) -> None:
        """Creates an empty index; see `FolderEngine` for the arguments."""
        super().__init__(
            layout=layout,
            projection_digest=projection_digest,
            centre=centre,
            dtype=dtype,
            folder=folder,
        )
        # Held while rows of priors are noted.
        self._priors_lock = threading.Lock()
        self._forget_priors()

    @property
    def exact(self) -> bool:
        """Whether a search is guaranteed to find the best documents: always."""
        return True

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Candidates]:
        """Finds the best `k` for each query and ties with the last, in the order of adding."""
        k = check_k(k)
        check_queries(queries, layout=self._layout)
        with self._lock.shared():
            return self._find(queries, k=k, priors=priors, where=where)

    def _find(
        self, queries: Vectors, *, k: int, priors: Priors | None, where: Where | None
    ) -> list[Candidates]:
        mask = self._matching(where)
        added = None if priors is None else self._spread(priors)[0]
        found: list[Candidates] = []
        for start in range(0, len(queries), _QUERIES):
            part = queries[start : start + _QUERIES]
            scores = self._scores(part)
            if added is not None:
                scores += added
            if mask is not None:
                scores[:, ~mask] = -np.inf
            largest = 0.0 if added is None else float(np.abs(added).max(initial=0))
            margins = ROUNDING * (np.abs(part).sum(axis=1) + largest)
            wanted = k if mask is None else min(k, int(mask.sum()))
            for row, margin in zip(scores, margins, strict=True):
                found.append(self._hits(_best(row, k=wanted, margin=float(margin))))
        return found

    def _hits(self, rows: Ints) -> Candidates:
        """Returns the documents at these rows.

        Raises:
            IndexFolderError: One of their vectors holds NaN or infinity, if only in a block that
                has no weight.
        """
        found = self._take(rows)
        self._check_finite(found.vectors.T, rows)
        return found

    def _check_finite(self, values: Vectors, rows: Ints | None = None) -> None:
        """Raises if a column of `values` holds NaN or infinity; names the document of that row."""
        finite = np.isfinite(values)
        if finite.all():
            return
        first = int(np.flatnonzero(~finite.all(axis=0))[0])
        broken = self._documents[first if rows is None else int(rows[first])]
        raise IndexFolderError(
            f"the index is damaged: the vector of '{broken.id}' holds NaN or infinity; "
            "build it again"
        )

    def _scores(self, queries: Vectors) -> Vectors:
        """Computes inner products with all vectors (Q, count).

        Raises:
            IndexFolderError: A vector holds NaN or infinity in what was read of it.
        """
        asked = asked_dimensions(queries, layout=self._layout)
        queries = queries[:, asked]
        with np.errstate(all="ignore"):
            parts = [
                _inner(queries, piece[:, asked]) for piece in self._vectors.pieces() if len(piece)
            ]
        if len(parts) == 1:
            scores = parts[0]
        else:
            scores = np.concatenate([np.empty((len(queries), 0), np.float32), *parts], axis=1)
        if self._vectors.places is not None:
            scores = scores[:, self._vectors.places]
        self._check_finite(scores)
        return scores

    def _note_change(self) -> None:
        super()._note_change()
        self._forget_priors()

    def _forget_priors(self) -> None:
        self._prior_ids: list[str] = []
        self._prior_rows = np.empty(0, dtype=np.int64)

    def _spread(self, priors: Priors) -> tuple[Vectors, Ints]:
        """Returns the prior of every document (count,), and the rows of the priors' ids.

        The rows are remembered between calls; -1 stands for an id that is not there.
        """
        with self._priors_lock:
            if priors.ids is not self._prior_ids:
                self._forget_priors()
                self._prior_ids = priors.ids
            new = priors.ids[len(self._prior_rows) : len(priors.values)]
            rows = [self._rows.get(name, -1) for name in new]
            self._prior_rows = np.concatenate([self._prior_rows, np.array(rows, dtype=np.int64)])
            known = self._prior_rows[: len(priors.values)]
        added = np.full(len(self._documents), priors.default, dtype=np.float32)
        there = known >= 0
        added[known[there]] = priors.values[there]
        return added, known


def asked_dimensions(queries: Vectors, *, layout: BlockLayout) -> slice:
    """Returns the dimensions from the first to the last block that any query has a value in."""
    blocks = [layout.slice(name) for name in layout]
    used = [block for block in blocks if queries[:, block].any()]
    return slice(used[0].start, used[-1].stop) if used else slice(0, 0)


def _inner(queries: Vectors, vectors: npt.NDArray[Any]) -> Vectors:
    """Computes inner products (Q, count)."""
    if vectors.dtype == np.float32:
        return (vectors @ queries.T).T if len(queries) == 1 else queries @ vectors.T
    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    for start in range(0, len(vectors), _WIDEN_ROWS):
        rows = slice(start, start + _WIDEN_ROWS)
        scores[:, rows] = queries @ widen(vectors[rows]).T
    return scores


def widen(vectors: npt.NDArray[Any]) -> Vectors:
    """Converts float16 to float32, several times faster than numpy; infinity becomes NaN."""
    if vectors.dtype == np.float32:
        return vectors
    # Both formats order their bits as sign, exponent, fraction. Shifting aligns them; multiplying
    # by 2 ** (127 - 15) corrects the bias of the exponent.
    halves = vectors.view(np.int16)
    bits = halves.astype(np.int32)
    bits <<= 13
    bits &= ~np.int32(0x70001FFF)
    widened = bits.view(np.float32)
    widened *= np.float32(2.0**112)
    broken = (halves & np.int16(_ALL_ONES)) == _ALL_ONES
    if broken.any():
        widened[broken] = np.nan
    return widened


def _best(scores: Vectors, *, k: int, margin: float) -> Ints:
    """Returns the positions of scores that may be among the `k` best, ascending.

    The rounding of a matrix product depends on a row's position in the matrix, so scores of equal
    vectors can differ in the last digits. So scores down to `margin` below the k-th count.
    """
    if k >= len(scores):
        return np.arange(len(scores))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= kth - margin)
