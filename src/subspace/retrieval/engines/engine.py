"""Engine: the interface of everything that stores vectors and searches them.

The score of an item is the inner product of its vector with the query, plus its value in `Priors`.
Weights, recency and importance of blocks are multiplied into the query before the search, so an
engine does not score block by block, and no change of them requires rebuilding an index.
"""

import operator
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout
from subspace.data.metadata import Value, find_fault, is_text, shown
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError, LayoutError
from subspace.model.centre import Centre
from subspace.retrieval.engines.filters import Where

# Bound on the error of a float32 inner product, relative to the query's L1 norm.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Priors:
    """Values that are added to the scores of items, the same for every query.

    Attributes:
        ids: Items that have a value of their own, each once. The list may grow at its end while
            `values` stays as it is; an engine may remember the rows of ids that it looked up.
        values: Value for each of the first ids (P,), same order.
        default: Value for all other items.
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
    """A store of documents and their vectors of unit blocks, searched by inner product."""

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        ...

    @property
    def projection_digest(self) -> str:
        """Digest of the projection that made the vectors, before it was centred."""
        ...

    @property
    def centre(self) -> Centre | None:
        """What the model's blocks were centred on; None for its own mean."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a search is guaranteed to find the best documents."""
        ...

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors; replaces documents with the same ids.

        If any document is refused, none is added.

        Raises:
            EngineError: An id is empty or given twice, or the engine cannot write.
            LayoutError: The vectors are not (len(documents), dim), or not finite.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and returns their number; unknown ids are ignored."""
        ...

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Candidates]:
        """Finds the best `k` documents for each query (Q, dim), in any order.

        Returns more than `k` if scores equal the k-th within rounding, and fewer if there are
        fewer documents.

        Raises:
            ConfigError: `k` is no whole number of 1 or more.
            LayoutError: The queries are not (Q, dim), or not finite.
            QueryError: `where` is not valid; see `filters`.
            EngineError: The engine cannot be reached.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Returns documents by id, in the order of `ids`; unknown ids are left out."""
        ...

    def sample(self, count: int) -> Candidates:
        """Returns about `count` documents from all over the index, or all if there are fewer."""
        ...

    def count(self, where: Where | None = None) -> int:
        """Counts all documents, or those whose metadata match `where`."""
        ...

    def state(self) -> Hashable:
        """Returns a value that differs after every change of the documents, whoever makes it.

        It is cheap to ask for. None if that cannot be told now, as others are writing.
        """
        ...

    def metadata(self) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Reads the id and the metadata of every document, in any order."""
        ...

    def save(self) -> None:
        """Writes changes to disk, in engines that do not write them at once.

        Raises:
            ConfigError: No folder to write to is known.
            IndexFolderError: The folder cannot be written.
        """
        ...

    def refresh(self) -> bool:
        """Takes up what others have saved since, in engines that do not see it at once.

        Changes that were not saved are made on top. It is cheap if nothing was saved, and other
        threads may search meanwhile.

        Returns:
            Whether any document was changed.

        Raises:
            IndexFolderError: The folder is gone or damaged, or the index was built again with other
                vectors; the message says to open it again.
        """
        ...

    def close(self) -> None:
        """Closes files and connections."""
        ...


def check_documents(documents: Sequence[Record], vectors: Vectors, *, layout: BlockLayout) -> None:
    """Raises unless documents and vectors meet the rules that all engines share.

    Raises:
        EngineError: A document is no `Record`, an id is given twice, or an id, text or metadata
            cannot be stored.
        LayoutError: The vectors are not (len(documents), dim), or not finite.
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
            if not value or not is_text(value):
                raise EngineError(
                    f"the {name} of a document must be a text that is not empty, without NUL and "
                    f"half surrogate pairs, got {value!r:.60}"
                )
        for name, value in document.metadata.items():
            fault = find_fault({name: value})
            if fault is not None:
                raise EngineError(
                    f"metadata {shown(name)} of document '{document.id:.60}' cannot be kept: "
                    f"{fault}"
                )
    counts = Counter(document.id for document in documents)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise EngineError(f"ids must differ; used more than once: {', '.join(twice[:5])}")


def check_queries(queries: Vectors, *, layout: BlockLayout) -> None:
    """Raises unless queries are (Q, dim) and finite.

    Raises:
        LayoutError: The queries have another shape, or hold NaN or infinity.
    """
    if queries.ndim != 2 or queries.shape[1] != layout.dim:
        raise LayoutError(f"queries have shape {queries.shape}, the index needs (Q, {layout.dim})")
    if not np.isfinite(queries).all():
        raise LayoutError("the query holds NaN or infinity")


def check_k(k: Any, *, name: str = "k") -> int:
    """Returns `k` as an int of 1 or more.

    Args:
        k: The value to check.
        name: Name of the value in the error message.

    Raises:
        ConfigError: `k` is no whole number, or below 1.
    """
    try:
        count = operator.index(k)
    except TypeError:
        count = 0
    if count < 1:
        raise ConfigError(f"{name} must be a whole number, 1 or more, got {k!r}")
    return count
