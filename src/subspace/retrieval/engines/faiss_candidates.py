"""CompressedIndex: a faiss index of vectors, and the row of the engine that each belongs to.

Methods: `pq`, 4-bit codes of all vectors that are scanned without inverted lists; `hnsw`, a graph.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.errors import EngineError, IndexFolderError, install_command

Method = Literal["pq", "hnsw"]
METHODS: tuple[Method, ...] = get_args(Method)

# Number of training vectors, drawn with a fixed seed: faiss uses no more for 16 centroids.
_TRAINED = 4096
# Dimensions that share a code of 4 bits: with 8, a scan takes half the time, but so many queries
# need more candidates then that they take longer on average. A block has at least `_NARROW` codes,
# or one per dimension if it is narrower: searched alone, it must distinguish as many documents as a
# wide block.
_SHARED = 4
_NARROW = 32
# Of the graph: links per node (M), and width of the search for them (efConstruction).
_LINKS, _EFFORT = 32, 200
_FOR_THREADS = 16  # least number of queries that are searched by several threads
_ADDED = 16_384  # vectors added to faiss at once


class CompressedIndex:
    """A faiss index, and the current row of each of its vectors.

    A vector that was replaced or removed stays in faiss but has no row (-1). Rows without a vector
    in faiss are called fresh.
    """

    def __init__(self, index: Any, rows: Ints, *, layout: BlockLayout) -> None:
        """Takes a faiss `IndexIDMap`, and the row of each of its vectors, -1 for none."""
        faiss = import_faiss()
        self._mapped = index
        self._index = faiss.downcast_index(index.index)
        # faiss would multiply queries by the whole rotation, which has nothing beside its blocks.
        self._turn: _Rotation | None = None
        if isinstance(self._index, faiss.IndexPreTransform):
            self._turn = _Rotation.of(faiss, self._index, layout)
            self._index = faiss.downcast_index(self._index.index)
        self._rows = rows
        there = np.flatnonzero(rows >= 0)
        # For each row, the position of its vector in faiss; -1 if that vector was replaced.
        self._places = np.full(int(rows.max(initial=-1)) + 1, -1, dtype=np.int64)
        self._places[rows[there]] = there
        self._replaced: Ints | None = None

    @classmethod
    def build(
        cls, vectors: npt.NDArray[Any], *, layout: BlockLayout, method: Method
    ) -> "CompressedIndex":
        """Builds an index of vectors (N, dim); the same vectors give the same index.

        Raises:
            IndexFolderError: A vector is not finite.
        """
        faiss = import_faiss()
        rows = np.arange(len(vectors))
        drawn = np.random.default_rng(0).permutation(rows)[:_TRAINED]
        sample = _check_finite(vectors[np.sort(drawn)])
        make = _make_codes if method == "pq" else _make_graph
        index = faiss.IndexIDMap(make(faiss, sample, layout))
        # Before faiss 1.15, a graph that several threads build depends on their timing.
        ordered = method == "pq" or hasattr(faiss, "hnsw_add_vertices_deterministic")
        with _threads(faiss, None if ordered else 1):
            for start in range(0, len(vectors), _ADDED):
                part = slice(start, start + _ADDED)
                index.add_with_ids(_check_finite(vectors[part]), rows[part])
        return cls(index, rows, layout=layout)

    @classmethod
    def read(cls, path: Path, *, layout: BlockLayout, indexed: int, rows: int) -> "CompressedIndex":
        """Reads a file that `write` wrote.

        Args:
            path: The file.
            layout: The blocks of the vectors.
            indexed: Expected number of vectors in faiss.
            rows: Number of documents of the engine.

        Raises:
            IndexFolderError: faiss cannot read the file, or it was made for other vectors.
        """
        faiss = import_faiss()
        try:
            index = faiss.read_index(str(path))
        except (RuntimeError, MemoryError) as error:
            raise IndexFolderError(f"the index {path.parent} is damaged: {error}") from error
        fits = isinstance(index, faiss.IndexIDMap) and index.d == layout.dim
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
        try:
            return cls(index, found, layout=layout)
        except ValueError as error:
            raise IndexFolderError(
                f"the index {path.parent} is damaged: {path.name}: {error}; build it again"
            ) from error

    def write(self, path: Path) -> None:
        """Writes the index to one file.

        Raises:
            OSError: The file cannot be written.
        """
        faiss = import_faiss()
        faiss.copy_array_to_vector(self._rows, self._mapped.id_map)
        try:
            faiss.write_index(self._mapped, str(path))
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def __len__(self) -> int:
        """Counts the vectors in faiss, including replaced and removed ones."""
        return len(self._rows)

    @property
    def gone(self) -> int:
        """Number of vectors in faiss that were replaced or removed."""
        return int((self._rows < 0).sum())

    def fresh(self, count: int) -> Ints:
        """Returns the rows below `count` that have no vector in faiss, ascending."""
        if self._replaced is None:
            self._replaced = np.flatnonzero(self._places < 0)
        return np.concatenate([self._replaced, np.arange(len(self._places), count)])

    def search(self, queries: Vectors, *, count: int) -> tuple[Vectors, Ints]:
        """Returns the best `count` by faiss's own scores: scores and rows, both (Q, count).

        The row of a replaced or removed vector is -1. If faiss finds fewer vectors than `count`,
        the remaining places have the row -1 and an infinite score.
        """
        faiss, more = import_faiss(), {}
        if hasattr(self._index, "hnsw"):
            more["params"] = faiss.SearchParametersHNSW(efSearch=count)
        if self._turn is not None:
            queries = self._turn(queries)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        with faiss_threads(faiss, queries=len(queries)):
            guesses, places = self._index.search(queries, count, **more)
        return np.where(places < 0, np.inf, guesses), np.where(places < 0, -1, self._rows[places])

    def forget(self, rows: Ints) -> None:
        """Marks the vectors of these rows as replaced."""
        rows = rows[rows < len(self._places)]
        places = self._places[rows]
        self._rows[places[places >= 0]] = -1
        self._places[rows] = -1
        self._replaced = None

    def remove(self, rows: Ints) -> None:
        """Removes rows; all rows after them move up."""
        self.forget(rows)
        self._places = np.delete(self._places, rows[rows < len(self._places)])
        there = np.flatnonzero(self._places >= 0)
        self._rows[self._places[there]] = there


@dataclass(frozen=True, eq=False)
class _Rotation:
    """The rotation of `_turn`, block by block.

    Attributes:
        pieces: For each block its dimensions, and its rotation (D, width).
    """

    pieces: Sequence[tuple[slice, Vectors]]

    @classmethod
    def of(cls, faiss: Any, index: Any, layout: BlockLayout) -> Self:
        """Reads it from an index that `_make_codes` made.

        Raises:
            ValueError: It is not cut as the blocks are.
        """
        turn = faiss.downcast_VectorTransform(index.chain.at(0))
        whole = faiss.vector_to_array(turn.A).reshape(turn.d_out, turn.d_in)
        pieces, at = [], 0
        for name, width in layout.to_widths().items():
            place, rows = layout.slice(name), _SHARED * _codes_of(width)
            pieces.append((place, np.ascontiguousarray(whole[at : at + rows, place])))
            at += rows
        inside = sum(np.count_nonzero(piece) for _, piece in pieces)
        if at != len(whole) or inside != np.count_nonzero(whole):
            raise ValueError("it was made for other blocks, or by another version")
        return cls(pieces)

    def __call__(self, queries: Vectors) -> Vectors:
        """Rotates queries (Q, dim) to (Q, D).

        Not by a matrix product: its threads would go on waiting for more to do while those of faiss
        scan, which takes twice the time then.
        """
        turned = [np.vecdot(turn, queries[:, None, place]) for place, turn in self.pieces]
        return np.concatenate(turned, axis=1)


def _make_codes(faiss: Any, sample: Vectors, layout: BlockLayout) -> Any:
    """Makes a trained, empty index of 4-bit codes of rotated vectors."""
    turned = _turn(sample, layout)
    turn = faiss.LinearTransform(layout.dim, len(turned), False)
    faiss.copy_array_to_vector(turned.ravel(), turn.A)
    turn.is_trained = True
    codes = faiss.IndexPQFastScan(
        len(turned), len(turned) // _SHARED, 4, faiss.METRIC_INNER_PRODUCT
    )
    index = faiss.IndexPreTransform(turn, codes)
    # Training takes many small steps; threads that wait for each other make it 30 times slower.
    with _threads(faiss, 1):
        index.train(sample)
    return index


def _make_graph(faiss: Any, sample: Vectors, layout: BlockLayout) -> Any:
    """Makes a trained, empty graph over 8-bit vectors: a third faster than 32-bit, same recall."""
    index = faiss.IndexHNSWSQ(
        layout.dim, faiss.ScalarQuantizer.QT_8bit, _LINKS, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = _EFFORT
    index.train(sample)
    return index


def _turn(sample: Vectors, layout: BlockLayout) -> Vectors:
    """Computes a rotation (D, dim) to dimensions that are coded in groups of `_SHARED`.

    It keeps inner products. Every block is rotated to its principal axes, which are distributed so
    that all groups have similar variance and the codes carry similar amounts of
    information. Narrow blocks have more groups than their axes fill; the rest is zeros. Blocks
    share no group, so a search by one block has no errors from the others.
    """
    pieces = []
    for block in layout.split(sample.astype(np.float64)).values():
        width = block.shape[1]
        groups = _codes_of(width)
        _, axes = np.linalg.eigh(np.atleast_2d(np.cov(block.T)))
        turned = np.zeros((groups, _SHARED, width))
        # By falling variance, forwards through the groups and then backwards: balances their sums.
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


def _codes_of(width: int) -> int:
    """Returns the number of codes of a block."""
    return max(-(-width // _SHARED), min(width, _NARROW))


def _check_finite(vectors: npt.NDArray[Any]) -> Vectors:
    widened = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(widened).all():
        raise IndexFolderError(
            "the index is damaged: a vector holds NaN or infinity; build it again"
        )
    return widened


@contextmanager
def _threads(faiss: Any, count: int | None) -> Iterator[None]:
    """Limits faiss to `count` threads; keeps the present limit if None."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def faiss_threads(faiss: Any, *, queries: int) -> AbstractContextManager[None]:
    """Lets faiss use several threads, unless there are so few queries that one is faster."""
    return _threads(faiss, 1 if queries < _FOR_THREADS else None)


def import_faiss() -> Any:
    """Imports faiss.

    Raises:
        EngineError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise EngineError(
            f"the engine 'faiss' needs the package faiss-cpu: {install_command('faiss')}"
        ) from error
    return faiss
