"""Readings: what of a document is put through the encoder, and what comes out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from subspace.arrays import Vectors
from subspace.bench.late_interaction import Bags, pool_tokens
from subspace.data.retrieval_sets import Document
from subspace.encoder import Kind
from subspace.encoder.cached_encoder import CachedEncoder

Cut = Callable[[Document], list[str]]

# Token states are computed in calls of so many texts, to show progress between them.
_TEXTS = 64


class Source(Protocol):
    """Where embeddings come from: an `Encoder`, or one with a memory."""

    def encode(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """One vector per text (N, dim)."""
        ...

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """One unit vector per token (tokens, hidden size), text by text."""
        ...


class StoredSource:
    """Vectors of texts from the store on disk; states of tokens kept in memory for the run."""

    def __init__(self, encoder: CachedEncoder, *, progress: bool = False) -> None:
        """Opens nothing by itself."""
        self._encoder = encoder
        self._progress = progress
        self._states: dict[tuple[Kind, str], Vectors] = {}

    def encode(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """See `Source`."""
        return self._encoder.encode(texts, kind=kind, progress=self._progress)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """See `Source`."""
        missing = [text for text in dict.fromkeys(texts) if (kind, text) not in self._states]
        silent = not self._progress or not missing
        with tqdm(total=len(missing), desc="tokens", unit="text", disable=silent) as bar:
            for start in range(0, len(missing), _TEXTS):
                part = missing[start : start + _TEXTS]
                states = self._encoder.encoder.encode_tokens(part, kind=kind)
                self._states.update({(kind, t): s for t, s in zip(part, states, strict=True)})
                bar.update(len(part))
        self._encoder.report_truncation()
        return [self._states[kind, text] for text in texts]


@dataclass(frozen=True)
class Pieces:
    """One vector for each piece of a document.

    Attributes:
        cut: A document to its pieces, one at least.
    """

    cut: Cut

    def read(self, documents: Sequence[Document], source: Source) -> Bags:
        """The encoder's vectors of all pieces."""
        pieces = [self.cut(document) for document in documents]
        counts = np.array([len(piece) for piece in pieces], dtype=np.int64)
        return Bags(source.encode([text for piece in pieces for text in piece]), counts)

    def ask(self, queries: Sequence[str], source: Source) -> Bags:
        """The encoder's vector of each query."""
        return Bags.single(source.encode(queries, kind="query"))


@dataclass(frozen=True)
class Tokens:
    """One vector for each token of a document and of a query.

    Attributes:
        pool: How many of a document's tokens become one vector, on average.
    """

    pool: int = 1

    def read(self, documents: Sequence[Document], source: Source) -> Bags:
        """States of the tokens, pooled."""
        states = source.encode_tokens([document.text for document in documents])
        return Bags.join([pool_tokens(state, factor=self.pool) for state in states])

    def ask(self, queries: Sequence[str], source: Source) -> Bags:
        """States of the tokens, each by itself."""
        return Bags.join(source.encode_tokens(queries, kind="query"))


Reading = Pieces | Tokens
