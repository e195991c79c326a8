"""CompressedIndex: a faiss index of the vectors of some rows, and which row each of them is.

`pq`: 4-bit codes of all vectors that are scanned without inverted lists; `hnsw`: a graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.errors import EngineError, IndexFolderError, install_command

Method = Literal["pq", "hnsw"]
METHODS: tuple[Method, ...] = get_args(Method)

# Vectors that codes are trained on, drawn by a fixed seed: faiss takes no more for 16 centroids.
_TRAINED = 4096
# Dimensions that share 4 bits. A block as narrow as `_NARROW` has 4 bits for each: alone, it must
# tell as many documents apart as a wide one.
_SHARED = 4
_NARROW = 32
# Of the graph: links of a node, and how widely its neighbours are searched for.
_LINKS, _EFFORT = 32, 200
_FOR_THREADS = 16  # queries that are worth several threads
_ADDED = 16_384  # vectors given to faiss at once


class CompressedIndex:
    """A faiss index, and which row each of its vectors is now.

    A vector that is replaced or removed stays in faiss and has no row; rows without a vector in
    faiss are fresh.
    """

    def __init__(self, index: Any, rows: Ints) -> None:
        """Takes over a faiss `IndexIDMap` and the row of each of its vectors, -1 for none."""
        self._mapped = index
        self._index = import_faiss().downcast_index(index.index)
        self._rows = rows
        there = np.flatnonzero(rows >= 0)
        # Of each row that faiss was built with: its vector in faiss, -1 if it is another now.
        self._places = np.full(int(rows.max(initial=-1)) + 1, -1, dtype=np.int64)
        self._places[rows[there]] = there
        self._replaced: Ints | None = None

    @classmethod
    def build(
        cls, vectors: npt.NDArray[Any], *, layout: BlockLayout, method: Method
    ) -> "CompressedIndex":
        """Indexes vectors (N, dim); the same ones always alike.

        Raises:
            IndexFolderError: One is not finite.
        """
        faiss = import_faiss()
        rows = np.arange(len(vectors))
        drawn = np.random.default_rng(0).permutation(rows)[:_TRAINED]
        sample = _check_finite(vectors[np.sort(drawn)])
        make = _make_codes if method == "pq" else _make_graph
        index = faiss.IndexIDMap(make(faiss, sample, layout))
        # Before 1.15 several threads link a graph in the order in which they happen to come.
        ordered = method == "pq" or hasattr(faiss, "hnsw_add_vertices_deterministic")
        with _threads(faiss, None if ordered else 1):
            for start in range(0, len(vectors), _ADDED):
                part = slice(start, start + _ADDED)
                index.add_with_ids(_check_finite(vectors[part]), rows[part])
        return cls(index, rows)

    @classmethod
    def read(cls, path: Path, *, dim: int, indexed: int, rows: int) -> "CompressedIndex":
        """Reads what `write` wrote.

        Raises:
            IndexFolderError: faiss cannot read it, or it is not of these vectors.
        """
        faiss = import_faiss()
        try:
            index = faiss.read_index(str(path))
        except (RuntimeError, MemoryError) as error:
            raise IndexFolderError(f"the index {path.parent} is damaged: {error}") from error
        fits = isinstance(index, faiss.IndexIDMap) and index.d == dim
        found = faiss.vector_to_array(index.id_map) if fits else np.empty(0, dtype=np.int64)
        there = found[found >= 0]
        if (
            not fits
            or not len(found) == index.ntotal == index.index.ntotal == indexed
            or len(np.unique(there)) < len(there)
            or there.max(initial=-1) >= rows
        ):
            raise IndexFolderError(
                f"the index {path.parent} is damaged: {path.name} was made for other vectors; "
                "build it again"
            )
        return cls(index, found)

    def write(self, path: Path) -> None:
        """Writes one file.

        Raises:
            OSError: The disk refuses.
        """
        faiss = import_faiss()
        faiss.copy_array_to_vector(self._rows, self._mapped.id_map)
        try:
            faiss.write_index(self._mapped, str(path))
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def __len__(self) -> int:
        """Number of vectors in faiss, with those that are gone."""
        return len(self._rows)

    @property
    def gone(self) -> int:
        """Number of vectors in faiss that were replaced or removed."""
        return int((self._rows < 0).sum())

    def fresh(self, count: int) -> Ints:
        """Which of `count` rows faiss does not have, ascending."""
        if self._replaced is None:
            self._replaced = np.flatnonzero(self._places < 0)
        return np.concatenate([self._replaced, np.arange(len(self._places), count)])

    def search(self, queries: Vectors, *, count: int) -> tuple[Vectors, Ints]:
        """The best `count` by faiss's own scores: these, and their rows (Q, count) both.

        Vectors that are gone have the row -1; where faiss has no more, the score is infinite, too.
        """
        faiss, more = import_faiss(), {}
        if hasattr(self._index, "hnsw"):
            more["params"] = faiss.SearchParametersHNSW(efSearch=count)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        # A single query is done before threads have found together.
        with _threads(faiss, 1 if len(queries) < _FOR_THREADS else None):
            guesses, places = self._index.search(queries, count, **more)
        return np.where(places < 0, np.inf, guesses), np.where(places < 0, -1, self._rows[places])

    def forget(self, rows: Ints) -> None:
        """The vectors of these rows are others now."""
        rows = rows[rows < len(self._places)]
        places = self._places[rows]
        self._rows[places[places >= 0]] = -1
        self._places[rows] = -1
        self._replaced = None

    def remove(self, rows: Ints) -> None:
        """These rows are gone, and all after them move up."""
        self.forget(rows)
        self._places = np.delete(self._places, rows[rows < len(self._places)])
        there = np.flatnonzero(self._places >= 0)
        self._rows[self._places[there]] = there


def _make_codes(faiss: Any, sample: Vectors, layout: BlockLayout) -> Any:
    """A trained, empty scan of 4-bit codes, in turned dimensions."""
    turned = _turn(sample, layout)
    turn = faiss.LinearTransform(layout.dim, len(turned), False)
    faiss.copy_array_to_vector(turned.ravel(), turn.A)
    turn.is_trained = True
    codes = faiss.IndexPQFastScan(
        len(turned), len(turned) // _SHARED, 4, faiss.METRIC_INNER_PRODUCT
    )
    index = faiss.IndexPreTransform(turn, codes)
    # Its many small steps take 30 times as long where threads wait for one another.
    with _threads(faiss, 1):
        index.train(sample)
    return index


def _make_graph(faiss: Any, sample: Vectors, layout: BlockLayout) -> Any:
    """A trained, empty graph over 8-bit vectors: found as well as with 32, and a third faster."""
    index = faiss.IndexHNSWSQ(
        layout.dim, faiss.ScalarQuantizer.QT_8bit, _LINKS, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = _EFFORT
    index.train(sample)
    return index


def _turn(sample: Vectors, layout: BlockLayout) -> Vectors:
    """A matrix (D, dim) that keeps inner products, with dimensions ready to be coded in fours.

    Every block is turned to its principal axes, and these are dealt out so that all groups of four
    vary alike (a group for each axis where the block is narrow, filled up with zeros): a code has
    as much to say in each. Blocks stay apart, so that a search by one meets errors of no other.
    """
    pieces = []
    for block in layout.split(sample.astype(np.float64)).values():
        width = block.shape[1]
        groups = max(-(-width // _SHARED), min(width, _NARROW))
        _, axes = np.linalg.eigh(np.atleast_2d(np.cov(block.T)))
        turned = np.zeros((groups, _SHARED, width))
        # To and fro, from the axis along which they vary most to that along which they do least.
        for number, axis in enumerate(axes.T[::-1]):
            turn, place = divmod(number, groups)
            turned[place if turn % 2 == 0 else groups - 1 - place, turn] = axis
        pieces.append(turned.reshape(-1, width))
    whole = np.zeros((sum(map(len, pieces)), layout.dim), dtype=np.float32)
    at = 0
    for piece, start in zip(pieces, layout.starts, strict=True):
        whole[at : at + len(piece), start : start + piece.shape[1]] = piece
        at += len(piece)
    return whole


def _check_finite(vectors: npt.NDArray[Any]) -> Vectors:
    widened = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(widened).all():
        raise IndexFolderError(
            "the index is damaged: a vector holds NaN or infinity; build it again"
        )
    return widened


@contextmanager
def _threads(faiss: Any, count: int | None) -> Iterator[None]:
    """Lets faiss use only so many threads; as many as before if None."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def import_faiss() -> Any:
    """The package.

    Raises:
        EngineError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise EngineError(
            f"the engine 'faiss' needs the package faiss-cpu: {install_command('faiss')}"
        ) from error
    return faiss
