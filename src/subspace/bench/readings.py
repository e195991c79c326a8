"""Readings: which pieces of a document are encoded, with one vector for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from subspace.arrays import Vectors
from subspace.bench.late_interaction import MultiVectors, pool_tokens
from subspace.data.records import Record
from subspace.encoder import Kind
from subspace.encoder.cached_encoder import CachedEncoder

Cut = Callable[[Record], list[str]]

# Texts per call that encodes tokens; the progress bar moves between calls.
_TEXTS = 64


class Source(Protocol):
    """A source of raw vectors: an `Encoder`, or one with a cache."""

    def encode(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Encodes each text to one vector (N, dim)."""
        ...

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """Encodes each text to one unit vector per token (tokens, hidden size)."""
        ...


class StoredVectors:
    """A source that stores vectors of texts on disk, and vectors of tokens in memory."""

    def __init__(self, encoder: CachedEncoder, *, progress: bool = False) -> None:
        """Takes an encoder; encodes nothing yet.

        Args:
            encoder: The encoder with its store.
            progress: Whether to show progress bars.
        """
        self._encoder = encoder
        self._progress = progress
        self._states: dict[tuple[Kind, str], Vectors] = {}

    def encode(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Encodes each text to one vector (N, dim); reads stored vectors from disk."""
        return self._encoder.encode(texts, kind=kind, progress=self._progress)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """Encodes each text to one unit vector per token; does so once for each text."""
        missing = [text for text in dict.fromkeys(texts) if (kind, text) not in self._states]
        silent = not self._progress or not missing
        with tqdm(total=len(missing), desc="tokens", unit="text", disable=silent or None) as bar:
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
        cut: Function that cuts a document into one or more pieces.
    """

    cut: Cut

    def read(self, documents: Sequence[Record], source: Source) -> MultiVectors:
        """Encodes all pieces of each document."""
        pieces = [self.cut(document) for document in documents]
        counts = np.array([len(piece) for piece in pieces], dtype=np.int64)
        return MultiVectors(source.encode([text for piece in pieces for text in piece]), counts)

    def ask(self, queries: Sequence[str], source: Source) -> MultiVectors:
        """Encodes each query to one vector."""
        return MultiVectors.single(source.encode(queries, kind="query"))


@dataclass(frozen=True)
class Tokens:
    """One vector for each token of a document and of a query.

    Attributes:
        pool: Mean number of a document's tokens that are pooled to one vector, 1 or more.
    """

    pool: int = 1

    def read(self, documents: Sequence[Record], source: Source) -> MultiVectors:
        """Encodes and pools the tokens of each document."""
        states = source.encode_tokens([document.text for document in documents])
        return MultiVectors.join([pool_tokens(state, factor=self.pool) for state in states])

    def ask(self, queries: Sequence[str], source: Source) -> MultiVectors:
        """Encodes the tokens of each query, without pooling."""
        return MultiVectors.join(source.encode_tokens(queries, kind="query"))


Reading = Pieces | Tokens
