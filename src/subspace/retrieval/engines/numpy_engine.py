"""NumpyEngine: an exact scan in this process, by one matrix product over all vectors.

There is no index structure, so no change of documents, weights or priors requires a rebuild. In a
batch, a query takes 5 to 8 times less time than alone.

Threads may search and change one engine at once: each search sees the documents before a change or
after it.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.data.metadata import Value
from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError
from subspace.model.centre import Centre
from subspace.retrieval.engines.engine import (
    ROUNDING,
    Candidates,
    Priors,
    check_documents,
    check_k,
    check_queries,
)
from subspace.retrieval.engines.filters import Where, check_where
from subspace.retrieval.engines.index_folder import (
    KINDS,
    FolderWriter,
    Stored,
    open_folder,
    writing,
)
from subspace.retrieval.engines.shared_lock import SharedLock

# Queries scored at once: the scores of each take 4 bytes per document.
_QUERIES = 64
# Rows converted from float16 at once: few enough to stay in the processor's cache.
_WIDEN_ROWS = 2048
# Exponent bits of a float16; all of them are set in infinity and NaN.
_ALL_ONES = 0x7C00


class NumpyEngine:
    """An exact engine with documents and vectors in memory, or memory-mapped from a folder.

    Changes by `upsert` and `delete` are written to disk by `save`. What other writers have saved
    in the same folder since it was opened is kept: changes are made to the index that lies there.
    """

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
        """Creates an empty index.

        Args:
            layout: The blocks of every vector.
            projection_digest: Digest of the projection of the vectors, before it is centred.
            centre: What the model's blocks were centred on, if anything.
            dtype: `float32`, or `float16` for half the memory at a rounding of 5e-4.
            folder: Folder that `save` writes to by default.

        Raises:
            ConfigError: `dtype` is neither of these.
        """
        if dtype not in KINDS:
            raise ConfigError(f"vectors are kept as {' or '.join(KINDS)}, not {dtype!r}")
        self._layout = layout
        self._projection_digest = projection_digest
        self._centre = centre
        self._documents: list[Record] = []
        self._rows: dict[str, int] = {}
        # Grown by doubling; the first len(_documents) rows are in use.
        self._buffer: npt.NDArray[Any] = np.empty((0, layout.dim), dtype=dtype)
        self._folder = None if folder is None else Path(folder)
        # State of the folder that the documents were read from or written to; None for an engine
        # that takes the place of what is there.
        self._stored_state: str | None = None
        # Ids of documents changed since then, and whether each was removed meanwhile.
        self._changed: dict[str, bool] = {}
        self._changes = 0
        # Held while documents are read and changed; by writers; while rows of priors are noted.
        self._lock, self._writers = SharedLock(), threading.RLock()
        self._priors_lock = threading.Lock()
        self._forget_priors()

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Opens an index that `save` wrote; its vectors are memory-mapped.

        Raises:
            IndexFolderError: The index is missing, damaged, or of another format version or engine.
        """
        return open_folder(
            folder,
            lambda stored: cls.from_stored(_of(cls.name, stored, folder=folder), folder=folder),
        )

    @classmethod
    def from_stored(cls, stored: Stored, *, folder: Path | str, **settings: Any) -> Self:
        """Creates an engine from the contents of a folder.

        Raises:
            IndexFolderError: An id is used more than once.
        """
        engine = cls(
            layout=stored.layout,
            projection_digest=stored.projection_digest,
            centre=stored.centre,
            dtype=str(stored.vectors.dtype),
            folder=folder,
            **settings,
        )
        engine._documents = list(stored.documents)
        engine._rows = {document.id: row for row, document in enumerate(stored.documents)}
        engine._buffer = stored.vectors
        engine._stored_state = stored.state
        if len(engine._rows) != len(stored.documents):
            raise IndexFolderError(f"the index {folder} is damaged: ids are used more than once")
        return engine

    def save(self, folder: Path | str | None = None) -> None:
        """Writes the whole index, or nothing if writing fails.

        If another writer has saved in the folder since it was read, the changes of this engine are
        made to what lies there now, and this engine has the others' changes from then on. An engine
        that was created, or is saved to another folder, takes the place of what is there.

        Args:
            folder: Folder to write; None for the one that was opened, created or last saved.

        Raises:
            ConfigError: No folder is known.
            IndexFolderError: The folder holds something other than an index or cannot be written,
                or the index was built again with other vectors.
        """
        target = folder or self._folder
        if target is None:
            raise ConfigError("say which folder the index is to be written to")
        with self._writers, writing(target) as writer:
            if self._folder is not None and Path(target).resolve() == self._folder.resolve():
                self._merge(writer, folder=target)
            self._prepare()
            stored = Stored(
                documents=self._documents,
                vectors=self.vectors,
                layout=self._layout,
                projection_digest=self._projection_digest,
                centre=self._centre,
                engine=self.name,
                settings=self._settings(),
            )
            self._stored_state = writer.write(stored, more=self._files())
            self._changed.clear()
            self._folder = Path(target)

    def _merge(self, writer: FolderWriter, *, folder: Path | str) -> None:
        """Makes the changes since the last reading or writing to what others have saved since."""
        if self._stored_state is None or writer.state in (None, self._stored_state):
            return
        stored = writer.read()
        if not self._fits(stored):
            raise IndexFolderError(
                f"the index {folder} was built again since it was opened here, with another "
                "checkpoint, centre or engine, so the changes made here cannot be saved into it: "
                "open it again and make them there"
            )
        theirs = type(self).from_stored(stored, folder=folder)
        theirs.delete([name for name, removed in self._changed.items() if removed])
        rows = np.array(sorted(self._rows[n] for n in self._changed if n in self._rows), np.int64)
        mine = self._take(rows)
        theirs.upsert(mine.documents, mine.vectors)
        with self._lock.exclusive():
            self._adopt(theirs)
            self._stored_state = stored.state

    def _fits(self, stored: Stored) -> bool:
        """Tells whether the vectors of a stored index can stand beside those of this engine."""
        mine, theirs = (
            None if centre is None else centre.to_json() for centre in (self._centre, stored.centre)
        )
        return (stored.engine, stored.layout, stored.projection_digest, theirs) == (
            self.name,
            self._layout,
            self._projection_digest,
            mine,
        )

    def _adopt(self, other: Self) -> None:
        """Takes over the documents of another engine of the same folder."""
        self._documents, self._rows, self._buffer = other._documents, other._rows, other._buffer
        self._note([])

    def _prepare(self) -> None:
        """Does what must be done before the index is written."""

    def _note(self, ids: Sequence[str], *, removed: bool = False) -> None:
        """Notes a change of documents."""
        self._changes += 1
        if self._stored_state is not None:
            for name in ids:
                self._changed[name] = removed or self._changed.get(name, False)
        self._forget_priors()

    def _settings(self) -> Mapping[str, Any]:
        """Returns the settings that the manifest records for the engine."""
        return {}

    def _files(self) -> Mapping[str, Callable[[Path], None]]:
        """Returns functions that write further files of the engine, by file name."""
        return {}

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        return self._layout

    @property
    def projection_digest(self) -> str:
        """Digest of the projection that made the vectors, before it was centred."""
        return self._projection_digest

    @property
    def centre(self) -> Centre | None:
        """What the model's blocks were centred on; None for its own mean."""
        return self._centre

    @property
    def exact(self) -> bool:
        """Whether a search is guaranteed to find the best documents: always."""
        return True

    @property
    def documents(self) -> Sequence[Record]:
        """All documents, in the order of adding."""
        return tuple(self._documents)

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """Vectors of the documents (count, dim), float32 or float16."""
        return self._buffer[: len(self._documents)]

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors; replaces documents with the same ids."""
        check_documents(documents, vectors, layout=self._layout)
        if not documents:
            return
        with self._writers, self._lock.exclusive():
            self._upsert(documents, vectors)

    def _upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        known = [(self._rows[d.id], n) for n, d in enumerate(documents) if d.id in self._rows]
        new = [n for n, d in enumerate(documents) if d.id not in self._rows]
        self._make_room(len(self._documents) + len(new))
        for row, position in known:
            self._documents[row] = documents[position]
            self._buffer[row] = vectors[position]
        start = len(self._documents)
        self._buffer[start : start + len(new)] = vectors[new]
        for position in new:
            self._rows[documents[position].id] = len(self._documents)
            self._documents.append(documents[position])
        self._note([document.id for document in documents])

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and returns their number; unknown ids are ignored."""
        with self._writers, self._lock.exclusive():
            gone = sorted({self._rows[name] for name in ids if name in self._rows})
            if gone:
                self._delete(np.array(gone, dtype=np.int64))
        return len(gone)

    def _delete(self, gone: Ints) -> None:
        names = [self._documents[row].id for row in gone]
        kept = np.delete(np.arange(len(self._documents)), gone)
        self._buffer = self._buffer[kept]
        self._documents = [self._documents[row] for row in kept]
        self._rows = {document.id: row for row, document in enumerate(self._documents)}
        self._note(names, removed=True)

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
                found.append(self._take(_best(row, k=wanted, margin=float(margin))))
        return found

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Returns documents by id, in the order of `ids`; unknown ids are left out."""
        with self._lock.shared():
            rows = [self._rows[name] for name in ids if name in self._rows]
            return self._take(np.array(rows, dtype=np.int64))

    def sample(self, count: int) -> Candidates:
        """Draws `count` documents with a fixed seed, or returns all if there are fewer."""
        with self._lock.shared():
            rows = np.arange(len(self._documents))
            if count < len(rows):
                rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
            return self._take(rows)

    def count(self, where: Where | None = None) -> int:
        """Counts all documents, or those whose metadata match `where`."""
        with self._lock.shared():
            mask = self._matching(where)
            return len(self._documents) if mask is None else int(mask.sum())

    def state(self) -> Hashable:
        """Returns the number of changes so far, which are all made through this engine."""
        return self._changes

    def metadata(self) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Yields the id and the metadata of every document."""
        for document in self._documents:
            yield document.id, document.metadata

    def close(self) -> None:
        """Does nothing, as no file or connection needs closing."""

    def _take(self, rows: Ints) -> Candidates:
        return Candidates(
            documents=tuple(self._documents[row] for row in rows),
            vectors=self.vectors[rows].astype(np.float32, copy=False),
        )

    def _scores(self, queries: Vectors) -> Vectors:
        """Computes inner products with all vectors (Q, count).

        Raises:
            IndexFolderError: A vector holds NaN or infinity; even a weight of 0 gives NaN for it.
        """
        vectors = self.vectors
        with np.errstate(all="ignore"):
            if vectors.dtype == np.float32:
                scores = (vectors @ queries.T).T if len(queries) == 1 else queries @ vectors.T
            else:
                scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
                for start in range(0, len(vectors), _WIDEN_ROWS):
                    rows = slice(start, start + _WIDEN_ROWS)
                    scores[:, rows] = queries @ widen(vectors[rows]).T
        finite = np.isfinite(scores)
        if not finite.all():
            broken = self._documents[int(np.flatnonzero(~finite.all(axis=0))[0])]
            raise IndexFolderError(
                f"the index is damaged: the vector of '{broken.id}' holds NaN or infinity; "
                "build it again"
            )
        return scores

    def _matching(self, where: Where | None) -> npt.NDArray[np.bool_] | None:
        conditions = check_where(where)
        if not conditions:
            return None
        return np.array(
            [
                all(one.holds(document.metadata.get(one.name)) for one in conditions)
                for document in self._documents
            ],
            dtype=bool,
        )

    def _make_room(self, count: int) -> None:
        """Ensures that the buffer is writable and has room for `count` rows."""
        if count <= len(self._buffer) and self._buffer.flags.writeable:
            return
        rows = len(self._buffer)
        larger = np.empty(
            (max(count, 2 * rows) if count > rows else rows, self._layout.dim),
            dtype=self._buffer.dtype,
        )
        larger[: len(self._documents)] = self.vectors
        self._buffer = larger

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


def _of(engine: str, stored: Stored, *, folder: Path | str) -> Stored:
    """Returns the contents of a folder; raises unless an engine of this name wrote it."""
    if stored.engine != engine:
        raise IndexFolderError(f"{folder} is an index of the engine '{stored.engine}'")
    return stored


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
