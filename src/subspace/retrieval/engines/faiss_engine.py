"""FaissEngine: faiss finds candidates, and their scores are computed exactly.

Documents and vectors are stored as in `NumpyEngine`, with a faiss index beside them: `pq`, 4-bit
codes of all vectors that are scanned without inverted lists (the cells of such lists follow equal
weights of the blocks, and a search by one block would have hits in too many of them), or `hnsw`, a
graph. faiss returns candidates; their scores are computed from the vectors.

The candidates show how large the errors of faiss's own scores are. First the best quarter of them
is scored. If the k-th best score is less than 3 standard deviations of these errors above the
documents that were left out, all are scored, and then 4 times as many; if that is not enough, the
query is scanned exactly. Searches by a narrow block alone need this, as their scores lie close
together. An exact scan is also used where it costs less: with few documents, or for a batch of
queries on a moderate number of documents or dimensions. The errors say nothing about documents that
a graph does not reach, so recall is measured whenever the index is built, and a warning is logged
if it is low.

Some documents are always scored exactly: those added or replaced after the index was built, and
those with a prior of their own, so that no recent or popular document is missed. A search with
`where` is an exact scan, as the scan of codes cannot leave out rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError
from subspace.model.centre import Centre
from subspace.retrieval.engines.candidate_scores import score_own_rows, score_rows
from subspace.retrieval.engines.engine import (
    ROUNDING,
    Candidates,
    Priors,
    check_k,
)
from subspace.retrieval.engines.faiss_candidates import (
    METHODS,
    CompressedIndex,
    Method,
    import_faiss,
)
from subspace.retrieval.engines.filters import Where, check_where
from subspace.retrieval.engines.folder_writer import FolderWriter
from subspace.retrieval.engines.index_folder import Seen, Stored
from subspace.retrieval.engines.numpy_engine import NumpyEngine, asked_dimensions
from subspace.retrieval.engines.recall import RecallReport, measure_recall, warn_if_low

INDEX = "candidates.faiss"
# With fewer documents than this, no faiss index is built (training PQ takes 624 vectors).
_FEW = 2000
# Scoring a candidate costs as much as so many rows of an exact scan, for a single query and for
# each of a batch, whose exact scan is one matrix product. For a batch, the codes of a row cost as
# much as this share of the row. Measured with 1,024 dimensions.
_COST, _COST_BATCHED, _CODES_BATCHED = 15, 30, 0.16
# `save` rebuilds the index if more than this share of its rows was added, replaced or removed.
_OUTDATED = 0.1
# Scoring scattered rows costs several times as much as a scan: above this share, all are scanned.
_SCATTERED = 0.25
# Number of candidates that are scored exactly, and at least how many per hit.
_RESCORE: Mapping[Method, int] = {"pq": 500, "hnsw": 128}
_PER_HIT = 4
# A `_FEWER`-th of them is scored first, as what costs time is to read the vectors, and `_MORE`
# times as many at last, while the k-th score is less than `_CERTAIN` standard deviations of faiss's
# errors above the documents that were left out.
_FEWER, _MORE = 4, 4
_CERTAIN = 3.0
# Below this number of standard deviations more candidates do not help: 4 times as many add 1.
_HOPELESS = 1.5
# Least number of candidates from which the errors of faiss's scores are estimated.
_ESTIMATED = 30
_QUERIES = 64  # searched at once
_MEASURED = 50  # queries to measure recall, each under about ten weightings


@dataclass(frozen=True, eq=False)
class _Apart:
    """Rows that are scored exactly whatever faiss finds.

    Attributes:
        rows: The rows (P,), ascending.
        scores: Scores for each query (Q, P), priors included.
        among: Whether each row of the index is one of them (count,).
        default: Prior of all other rows.
        largest: Largest absolute prior of any row.
    """

    rows: Ints
    scores: Vectors
    among: npt.NDArray[np.bool_]
    default: float
    largest: float


@dataclass(frozen=True)
class _About:
    """Settings of the engine in a folder.

    Attributes:
        method: `pq` or `hnsw`.
        rescore: Number of candidates per query that are scored exactly.
        indexed: Number of vectors in faiss; 0 without a faiss index.
        recall: Recall when the faiss index was built.
    """

    method: Method
    rescore: int
    indexed: int
    recall: RecallReport | None

    @classmethod
    def read(cls, stored: Stored, *, folder: Path | str) -> Self:
        """Reads them; raises `IndexFolderError` if they are damaged."""
        about = stored.settings
        try:
            recall = about["recall"]
            return cls(
                method=_check_method(about["method"]),
                rescore=check_k(about["rescore"], name="rescore"),
                indexed=int(about["indexed"]),
                recall=RecallReport.from_json(recall) if recall else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IndexFolderError(f"the index {folder} is damaged: {error!r}") from error


class FaissEngine(NumpyEngine):
    """The exact engine with a faiss index beside it, which `build` or `save` makes.

    Attributes:
        method: `pq` or `hnsw`.
        rescore: Number of candidates per query that are scored exactly.
    """

    name = "faiss"

    def __init__(
        self,
        *,
        layout: BlockLayout,
        projection_digest: str,
        centre: Centre | None = None,
        dtype: str = "float32",
        folder: Path | str | None = None,
        method: str = "pq",
        rescore: int | None = None,
    ) -> None:
        """Creates an empty index.

        Args:
            layout: The blocks of every vector.
            projection_digest: Digest of the projection of the vectors, before it is centred.
            centre: What the model's blocks were centred on, if anything.
            dtype: `float32`, or `float16` for half the memory at a rounding of 5e-4.
            folder: Folder that `save` writes to by default.
            method: `pq` (an eighth of a byte per dimension; indexes 100,000 documents in seconds)
                or `hnsw` (a byte per dimension and 270 per document; in minutes).
            rescore: Number of candidates that are scored exactly, at least 4 for each hit; for
                `hnsw` also the width of the search (efSearch). None for 500 (`pq`) or 128 (`hnsw`).

        Raises:
            ConfigError: `dtype` or `method` is unknown, or `rescore` is no whole number of 1 or
                more.
            EngineError: faiss is not installed.
        """
        super().__init__(
            layout=layout,
            projection_digest=projection_digest,
            centre=centre,
            dtype=dtype,
            folder=folder,
        )
        self.method = _check_method(method)
        self.rescore = check_k(
            _RESCORE[self.method] if rescore is None else rescore, name="rescore"
        )
        self._candidates: CompressedIndex | None = None
        self._recall: RecallReport | None = None
        # Whether the faiss index was built since the last save, and the settings in that.
        self._is_new, self._saved_settings = False, self._settings()
        import_faiss()

    @classmethod
    def from_stored(cls, stored: Stored, *, folder: Path | str, **settings: Any) -> Self:
        """Creates an engine from the contents of a folder; warns if its measured recall is low.

        Raises:
            IndexFolderError: The settings or the faiss index are damaged.
        """
        about = _About.read(stored, folder=folder)
        own = {"method": about.method, "rescore": about.rescore, **settings}
        engine = super().from_stored(stored, folder=folder, **own)
        if about.recall is not None:
            warn_if_low(about.recall)
        return engine

    def _begin(self, stored: Stored) -> None:
        super()._begin(stored)
        folder = Path() if stored.seen is None else stored.seen.folder
        about = _About.read(stored, folder=folder)
        self._recall = about.recall
        if about.indexed:
            self._candidates = CompressedIndex.read(
                stored.files.get(INDEX, folder / INDEX),
                layout=stored.layout,
                indexed=about.indexed,
                rows=len(stored.documents),
            )
        self._saved_settings = self._settings()

    def _settings(self) -> Mapping[str, Any]:
        return {
            "method": self.method,
            "rescore": self.rescore,
            "indexed": 0 if self._candidates is None else len(self._candidates),
            "recall": None if self._recall is None else self._recall.to_json(),
        }

    def _files(self) -> Mapping[str, Callable[[Path], None]]:
        return {} if self._candidates is None else {INDEX: self._candidates.write}

    @property
    def exact(self) -> bool:
        """Whether a search is guaranteed to find the best documents: only without a faiss index."""
        return self._candidates is None

    @property
    def recall(self) -> RecallReport | None:
        """Recall when the faiss index was built; None without a faiss index."""
        return self._recall

    def build(self) -> None:
        """Builds the faiss index from all documents, and measures its recall.

        The same vectors give the same index. No index is built for fewer than 2,000 documents, or
        fewer than 15 per candidate (7,500 for `pq` by default), as an exact scan is faster.

        Raises:
            IndexFolderError: A vector is not finite.
        """
        with self._writers:
            self._candidates = self._recall = None
            self._is_new = True
            if self._are_few():
                return
            self._candidates = CompressedIndex.build(
                self.vectors, layout=self._layout, method=self.method
            )
            self._recall = measure_recall(
                self, self._exact_scan(), layout=self._layout, queries=_MEASURED
            )
        warn_if_low(self._recall)

    def _prepare(self) -> None:
        if self._is_outdated():
            self.build()

    def _is_due(self) -> bool:
        outdated = self._is_outdated() and not (self._candidates is None and self._are_few())
        return (
            outdated
            or self._is_new
            or self._settings() != self._saved_settings
            or super()._is_due()
        )

    def _write(self, writer: FolderWriter) -> Seen:
        seen = super()._write(writer)
        self._is_new, self._saved_settings = False, self._settings()
        return seen

    def _adopt(self, other: Self) -> None:
        super()._adopt(other)
        self._candidates, self._recall = other._candidates, other._recall
        self._is_new, self._saved_settings = other._is_new, other._saved_settings

    def _put(self, documents: Sequence[Record], vectors: npt.NDArray[Any]) -> None:
        super()._put(documents, vectors)
        if self._candidates is not None:
            self._candidates.forget(self._rows_of([document.id for document in documents]))

    def _remove(self, gone: Ints) -> None:
        super()._remove(gone)
        if self._candidates is not None:
            self._candidates.remove(gone)

    def _find(
        self, queries: Vectors, *, k: int, priors: Priors | None, where: Where | None
    ) -> list[Candidates]:
        candidates = self._candidates
        if candidates is None or check_where(where):
            return super()._find(queries, k=k, priors=priors, where=where)
        found: list[Candidates] = []
        for start in range(0, len(queries), _QUERIES):
            part = queries[start : start + _QUERIES]
            found.extend(self._search(part, candidates=candidates, k=k, priors=priors))
        return found

    def _search(
        self, queries: Vectors, *, candidates: CompressedIndex, k: int, priors: Priors | None
    ) -> list[Candidates]:
        """Searches by candidates, then by more candidates, and at last by an exact scan."""
        found: dict[int, Candidates] = {}
        left = np.arange(len(queries))
        asked = asked_dimensions(queries, layout=self._layout)
        share = (asked.stop - asked.start) / self._layout.dim
        apart: _Apart | None = None
        guesses, rows, have = np.empty((0, 0), np.float32), np.empty((0, 0), np.int64), 0
        set_apart = self._set_apart(priors, candidates=candidates)
        for count, scored in self._steps(k):
            if set_apart is None or not len(left):
                break
            if count > have:
                if self._costs_more(count, queries=len(left), asked=share):
                    break
                guesses, rows = candidates.search(queries[left], count=count)
                have = count
            if apart is None:  # after the scan: the threads of a matrix product would slow it down
                apart = self._score_apart(queries, *set_apart, priors=priors)
            sifted = self._sift_each(
                queries, left, guesses[:, :scored], rows[:, :scored], k=k, apart=apart
            )
            unsure = []
            for place, (best, certainty) in enumerate(sifted):
                if certainty >= _CERTAIN:
                    found[int(left[place])] = self._hits(best)
                elif certainty >= _HOPELESS or scored < count:
                    unsure.append(place)
            left, guesses, rows = left[unsure], guesses[unsure], rows[unsure]
        others = [number for number in range(len(queries)) if number not in found]
        if others:
            scanned = super()._find(queries[others], k=k, priors=priors, where=None)
            found.update(zip(others, scanned, strict=True))
        return [found[number] for number in range(len(queries))]

    def _steps(self, k: int) -> list[tuple[int, int]]:
        """Returns how many candidates are taken from faiss, and how many of them are scored."""
        wanted = max(self.rescore, _PER_HIT * k)
        few = max(wanted // _FEWER, _PER_HIT * k, _ESTIMATED)
        first = [(wanted, few)] if few < wanted else []
        return [*first, (wanted, wanted), (_MORE * wanted, _MORE * wanted)]

    def _sift_each(
        self,
        queries: Vectors,
        numbers: Ints,
        guesses: Vectors,
        rows: Ints,
        *,
        k: int,
        apart: _Apart,
    ) -> list[tuple[Ints, float]]:
        """Calls `_sift` for some of the queries, given by their numbers."""
        with np.errstate(all="ignore"):
            scores = score_own_rows(queries[numbers], self._vectors, rows)
        return [
            self._sift(queries[number], *three, number=number, k=k, apart=apart)
            for number, *three in zip(numbers.tolist(), guesses, scores, rows, strict=True)
        ]

    def _costs_more(self, count: int, *, queries: int, asked: float = 1.0) -> bool:
        """Tells whether scoring `count` candidates per query costs more than an exact scan.

        Args:
            count: Number of candidates.
            queries: Number of queries.
            asked: Share of the dimensions that an exact scan reads.
        """
        rows = len(self._documents)
        if queries == 1:  # a quarter of each row takes half the time of all of it
            return _COST * count > (1 + asked) / 2 * rows
        return _COST_BATCHED * count > (asked - _CODES_BATCHED) * rows

    def _set_apart(
        self, priors: Priors | None, *, candidates: CompressedIndex
    ) -> tuple[Ints, Vectors | None] | None:
        """Returns the rows that are always scored exactly, and the priors of all rows.

        None if the rows are too many.
        """
        rows, added = candidates.fresh(len(self._documents)), None
        if priors is not None:
            added, own = self._spread(priors)
            rows = np.union1d(rows, own[own >= 0])
        return None if len(rows) > _SCATTERED * len(self._documents) else (rows, added)

    def _score_apart(
        self, queries: Vectors, rows: Ints, added: Vectors | None, *, priors: Priors | None
    ) -> _Apart:
        """Scores the rows that are set apart.

        Raises:
            IndexFolderError: One of their vectors holds NaN or infinity.
        """
        among = np.zeros(len(self._documents), dtype=bool)
        among[rows] = True
        with np.errstate(all="ignore"):
            scores = score_rows(queries, self._vectors, rows)
        self._check_finite(scores, rows)
        if added is not None:
            scores += added[rows]
        return _Apart(
            rows=rows,
            scores=scores,
            among=among,
            default=0.0 if priors is None else priors.default,
            largest=0.0 if added is None else float(np.abs(added).max(initial=0)),
        )

    def _sift(
        self,
        query: Vectors,
        guesses: Vectors,
        scores: Vectors,
        rows: Ints,
        *,
        number: int,
        k: int,
        apart: _Apart,
    ) -> tuple[Ints, float]:
        """Returns the rows of the best `k`, ascending, and a certainty that faiss left none out.

        The certainty is the number of standard deviations of faiss's errors by which the k-th score
        is above the documents that faiss left out.
        """
        there = rows >= 0
        near, scores = rows[there], scores[there]
        if len(near) < max(k, _ESTIMATED):
            return np.sort(near), _HOPELESS
        with np.errstate(all="ignore"):
            errors = scores.astype(np.float64) - guesses[there]
            mean, deviation = float(errors.mean()), float(errors.std())
        others = ~apart.among[near]
        near = np.concatenate([apart.rows, near[others]])
        scores = np.concatenate([apart.scores[number], scores[others] + np.float32(apart.default)])
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        lowest = float(kth - ROUNDING * (np.abs(query).sum() + apart.largest))
        above = lowest - (float(guesses.min()) + mean + apart.default)
        best = np.sort(near[scores >= lowest])
        # This holds for NaN, too: the exact scan that follows names the vector that holds it.
        if not above > 0:
            return best, 0.0
        # If the errors are mostly below 0, faiss overestimated these rows and may have chosen them
        # for that alone: rows that it left out can be as good.
        certainty = above / deviation if deviation > 0 else np.inf
        return best, certainty if mean >= -deviation else min(certainty, _HOPELESS)

    def _are_few(self) -> bool:
        count = len(self._documents)
        return count < _FEW or self._costs_more(self.rescore, queries=1)

    def _is_outdated(self) -> bool:
        count = len(self._documents)
        if self._candidates is None or self._are_few():
            return True
        fresh, gone = len(self._candidates.fresh(count)), self._candidates.gone
        return fresh > _OUTDATED * count or gone > _OUTDATED * len(self._candidates)

    def _exact_scan(self) -> NumpyEngine:
        """Returns an exact engine that shares the documents and vectors of this one."""
        scan = NumpyEngine(layout=self._layout, projection_digest=self._projection_digest)
        scan._documents, scan._rows, scan._vectors = self._documents, self._rows, self._vectors
        return scan


def _check_method(method: Any) -> Method:
    if method not in METHODS:
        raise ConfigError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    return "pq" if method == "pq" else "hnsw"
