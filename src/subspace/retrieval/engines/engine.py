"""Engine: what a search needs of whatever keeps the vectors.

The score of an item is the inner product of its vector with the query, plus what a `Priors` adds
to it. Weights, recency and importance are folded into the query before it gets here, so an engine
knows nothing of blocks, and none of them ever makes it build anything anew.
"""

import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record, Scalar
from subspace.errors import ConfigError, EngineError, LayoutError, QueryError

# Error of a float32 inner product, relative to the sum of the query's entries.
ROUNDING = 1e-6

_SCALARS = "a text, a truth value, a finite number or a whole one of 64 bits"

# Metadata that an item must have: a value, or one of several, by name.
Where = Mapping[str, Scalar | Sequence[Scalar]]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Priors:
    """What is added to the score of each item, whatever the query.

    Attributes:
        ids: Items that have a value of their own, each once; a list that only ever grows at its
            end, so that an engine may remember where the first of them are.
        values: What is added for each of them, same order.
        default: What is added for all others.
    """

    ids: list[str]
    values: Floats
    default: float


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items found by one query.

    Attributes:
        documents: The items.
        vectors: Their vectors (len(documents), dim), float32.
    """

    documents: tuple[Record, ...]
    vectors: Vectors


class Engine(Protocol):
    """Keeps documents and their unit blocks, and finds the best by inner product."""

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        ...

    @property
    def projection_digest(self) -> str:
        """Identifies the projection that made the vectors."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a search finds the best for certain."""
        ...

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors, in the place of those with the same ids.

        All of them or, if any is refused, none.

        Raises:
            EngineError: An id is empty or given twice, or the engine cannot write.
            LayoutError: The vectors have another shape, or are not finite.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and gives their number; ids that are not there are passed over."""
        ...

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Candidates]:
        """The best `k` of each query (Q, dim), in any order.

        More may come: those whose score cannot be told from that of the last. With fewer
        documents, all of them.

        Raises:
            ConfigError: `k` is no whole number from 1.
            LayoutError: The queries have another shape, or are not finite.
            QueryError: `where` is not what it must be.
            EngineError: The engine cannot be reached.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Documents by id, in the order asked for; ids that are not there are left out."""
        ...

    def sample(self, count: int) -> Candidates:
        """About `count` documents from all over the index; all, if there are no more."""
        ...

    def count(self, where: Where | None = None) -> int:
        """Number of documents, or of those with such metadata."""
        ...

    def save(self) -> None:
        """Writes what was changed to disk, where that is not done at once.

        Raises:
            ConfigError: There is no place to write to.
            IndexFolderError: The disk refuses.
        """
        ...

    def close(self) -> None:
        """Gives back files and connections."""
        ...


def check_documents(documents: Sequence[Record], vectors: Vectors, *, layout: BlockLayout) -> None:
    """Refuses what no engine may take in.

    Raises:
        EngineError: An id is given twice, or an id, text or metadata cannot be kept.
        LayoutError: Not one vector per document, of another dimension, or not finite.
    """
    wrong = [document for document in documents if not isinstance(document, Record)]
    if wrong:
        raise EngineError(f"an index takes Records, got {wrong[0]!r:.60}")
    if vectors.shape != (len(documents), layout.dim):
        raise LayoutError(
            f"{len(documents)} documents need vectors of shape ({len(documents)}, {layout.dim}), "
            f"got {vectors.shape}"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        broken = documents[int(np.flatnonzero(~finite)[0])]
        raise LayoutError(f"the vector of document '{broken.id}' holds NaN or infinity")
    for document in documents:
        for name, value in (("id", document.id), ("text", document.text)):
            if not value or not _is_text(value):
                raise EngineError(
                    f"the {name} of a document must be a text that is not empty, without NUL and "
                    f"half surrogate pairs, got {value!r:.60}"
                )
        for name, label in document.metadata.items():
            if not _is_text(name) or not _is_scalar(label):
                raise EngineError(
                    f"metadata {name!r:.60} of document '{document.id:.60}' must be {_SCALARS}, "
                    f"got {_shown(label)}"
                )
    counts = Counter(document.id for document in documents)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise EngineError(f"ids must differ; used more than once: {', '.join(twice[:5])}")


def check_queries(queries: Vectors, *, layout: BlockLayout) -> None:
    """Refuses queries that are not (Q, dim) and finite.

    Raises:
        LayoutError: They are not.
    """
    if queries.ndim != 2 or queries.shape[1] != layout.dim:
        raise LayoutError(f"queries have shape {queries.shape}, the index needs (Q, {layout.dim})")
    if not np.isfinite(queries).all():
        raise LayoutError("the query holds NaN or infinity")


def check_k(k: Any, *, name: str = "k") -> int:
    """`k` as a number of hits.

    Raises:
        ConfigError: It is no whole number from 1.
    """
    try:
        count = operator.index(k)
    except TypeError:
        count = 0
    if count < 1:
        raise ConfigError(f"{name} must be a whole number, 1 or more, got {k!r}")
    return count


def check_where(where: Where | None) -> dict[str, tuple[Scalar, ...]]:
    """The values that are allowed, by name of the metadata.

    Raises:
        QueryError: A name is empty, no value is given, or a value is no text, number or truth
            value.
    """
    if where is not None and not isinstance(where, Mapping):
        raise QueryError(f"metadata is filtered by name, as {{'lang': 'en'}}, got {where!r:.60}")
    allowed: dict[str, tuple[Scalar, ...]] = {}
    for name, values in (where or {}).items():
        if not name or not _is_text(name):
            raise QueryError(f"metadata is filtered by its name, got {name!r:.60}")
        several = tuple(values) if isinstance(values, list | tuple | set) else (values,)
        wrong = [value for value in several if not _is_scalar(value)]
        if wrong:
            raise QueryError(f"metadata '{name}' can be {_SCALARS}, not {_shown(wrong[0])}")
        if not several:
            raise QueryError(f"no value is given that metadata '{name}' may have")
        allowed[name] = several
    return allowed


def _is_scalar(value: Any) -> bool:
    """Whether every engine can keep a value, and tell it from others."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return math.isfinite(value) if isinstance(value, float) else _is_text(value)


def _shown(value: Any) -> str:
    """The beginning of a value's text; Python writes no whole number of more than 4,300 digits."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return f"a number of {value.bit_length()} bits"


def _is_text(value: Any) -> bool:
    """A text that every engine and file takes: without NUL and half surrogate pairs."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
