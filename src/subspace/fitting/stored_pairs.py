"""Stored pairs: queries and documents with judgements, whose embeddings lie in the store."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.records import Split
from subspace.data.retrieval_sets import RetrievalSet, find_retrieval_sets, read_retrieval_set
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.fitting.pair_moments import PairStatistics, collect_pairs, halves_scatter

# A half of a text has at least so many words.
_WORDS = 4


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class StoredPairs:
    """One set of queries and documents, encoded.

    Attributes:
        queries: Row in the store of each query (Q,).
        documents: Row of each document (N,).
        pairs: Positions of queries and of their relevant documents (P, 2).
        splits: The split of each query (Q,); `train` where the set names none.
        halves: Rows of the two halves (M, 2) of documents and of training queries that are long
            enough.
        sha256: Hash of queries and judgements.
    """

    queries: Ints
    documents: Ints
    pairs: Ints
    splits: tuple[str, ...]
    halves: Ints
    sha256: str

    def pairs_of(self, split: Split) -> Ints:
        """The pairs (P, 2) whose query is of a split."""
        chosen = np.flatnonzero([name == split for name in self.splits])
        return np.asarray(self.pairs[np.isin(self.pairs[:, 0], chosen)])


def read_pairs(paths: Iterable[Path | str]) -> dict[str, RetrievalSet]:
    """Reads every retrieval set (BEIR layout) at or below some folders, by name.

    Raises:
        ConfigError: A path holds none, two sets have the same name, or one has nothing to learn
            from.
        RecordError: With every wrong line.
    """
    sets: dict[str, RetrievalSet] = {}
    for path in paths:
        found = find_retrieval_sets([path])
        if not found:
            raise ConfigError(
                f"data.pairs: {path} holds no retrieval set (corpus.jsonl, queries.jsonl, and "
                "qrels.tsv or qrels/*.tsv)"
            )
        for name, folder in found.items():
            if name in sets:
                raise ConfigError(f"data.pairs: two sets are named '{name}'; rename a folder")
            sets[name] = read_retrieval_set(folder)
            _check_learnable(sets[name], name=name)
    return sets


def store_pairs(
    sets: Mapping[str, RetrievalSet], *, encoder: CachedEncoder, progress: bool = False
) -> dict[str, StoredPairs]:
    """Encodes what is not stored yet; interrupted, it goes on next time.

    Args:
        sets: By name.
        encoder: The frozen encoder and its store.
        progress: Shows bars.
    """
    return {
        name: _store_set(data, encoder=encoder, progress=progress) for name, data in sets.items()
    }


def training_pairs(
    stored: StoredPairs, *, vectors: Vectors
) -> tuple[PairStatistics, Floats | None]:
    """Statistics of the training queries, all documents, and their pairs; scatter of halves."""
    pairs = stored.pairs_of("train")
    asked, position = np.unique(pairs[:, 0], return_inverse=True)
    statistics = collect_pairs(
        vectors,
        queries=stored.queries[asked],
        documents=stored.documents,
        pairs=np.stack([position.reshape(-1), pairs[:, 1]], axis=1),
    )
    if not len(stored.halves):
        return statistics, None
    first, second = stored.halves.T
    return statistics, halves_scatter(vectors, first=first, second=second)


def _store_set(data: RetrievalSet, *, encoder: CachedEncoder, progress: bool) -> StoredPairs:
    column = {document.id: position for position, document in enumerate(data.documents)}
    pairs = [
        (row, column[document])
        for row, query in enumerate(data.queries)
        for document, grade in data.relevance.get(query, {}).items()
        if grade > 0
    ]
    splits = tuple(data.split(query) for query in data.queries)
    texts = [document.text for document in data.documents]
    asked = list(data.queries.values())
    training = [text for text, split in zip(asked, splits, strict=True) if split == "train"]
    halves = [half for text in (*texts, *training) for half in _halves(text)]
    return StoredPairs(
        queries=encoder.rows(asked, kind="query", progress=progress),
        documents=encoder.rows(texts, progress=progress),
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        splits=splits,
        halves=encoder.rows(halves, progress=progress).reshape(-1, 2),
        sha256=data.judgements_sha256,
    )


def _halves(text: str) -> tuple[str, ...]:
    """The first and the second half of a text's words; nothing if it is too short."""
    words = text.split()
    middle = len(words) // 2
    if middle < _WORDS:
        return ()
    return " ".join(words[:middle]), " ".join(words[middle:])


def _check_learnable(data: RetrievalSet, *, name: str) -> None:
    judged = [query for query, grades in data.relevance.items() if max(grades.values()) > 0]
    if any(data.split(query) == "train" for query in judged):
        return
    counts = Counter(data.split(query) for query in judged)
    said = ", ".join(f"{count} in {split!r}" for split, count in counts.items()) or "none at all"
    raise ConfigError(
        f"data.pairs: no query of '{name}' in the split 'train' has a relevant document ({said})"
    )
