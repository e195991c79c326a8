"""Keyword search: BM25 over the texts of an index, as one more part of a score.

BM25 (Robertson et al. 1994, in Lucene's form, with k1 = 1.5 and b = 0.75) counts the words that a
text shares with the query, rare words more. What a text adds to its score is its BM25 score in
standard deviations of the query's BM25 scores among all texts; a text without any of the words adds
nothing. The best text has 8 at most: a word that one text of a million has would otherwise have a
thousand.

The words of the texts are kept in memory. They are counted at the first search with keywords; after
a change of the index only new texts are split into words, and what depends on all is computed anew.
"""

import logging
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace.arrays import Floats
from subspace.errors import ConfigError, install_command
from subspace.retrieval.engines import Engine, Priors
from subspace.retrieval.engines.folder_engine import FolderEngine

# Name of the part in `Hit.parts`, beside the blocks.
KEYWORDS = "keywords"
# Standard deviations that the best text has at most. It has 5.6 to 7.6 in the mean of three sets.
_MOST = 8.0
_WORD = r"(?u)\b\w+\b"


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class KeywordScores:
    """What keywords add to the scores of the items for one query.

    Attributes:
        ids: All items; the same list for all queries between two changes of the index.
        rows: Position of each of them by id.
        values: What is added to the score of each (len(ids),), 0 or more.
    """

    ids: list[str]
    rows: Mapping[str, int]
    values: Floats

    def of(self, ids: Sequence[str]) -> Floats:
        """Returns what is added to the scores of some items (len(ids),); 0 for unknown ones."""
        rows = np.array([self.rows.get(name, -1) for name in ids], dtype=np.int64)
        return np.where(rows < 0, 0.0, np.append(self.values, 0.0)[rows])

    def priors(self, beside: Priors | None) -> Priors:
        """Returns them as an engine adds them, together with other values of items."""
        if beside is None:
            return Priors(ids=self.ids, values=self.values, default=0.0)
        values = self.values + beside.default
        for name, value in zip(beside.ids, beside.values.tolist(), strict=False):
            row = self.rows.get(name)
            if row is not None:
                values[row] += value - beside.default
        return Priors(ids=self.ids, values=values, default=beside.default)


@dataclass(frozen=True, eq=False)
class _Counted:
    """The words of all texts in one state of the engine; `bm25` is None if there are none."""

    state: Hashable
    ids: list[str]
    rows: Mapping[str, int]
    bm25: Any | None


class KeywordIndex:
    """The words of all texts of an engine, which follow its changes, whoever makes them.

    Any number of threads may search.
    """

    def __init__(self, engine: Engine) -> None:
        """Counts nothing yet.

        Raises:
            ConfigError: The engine is a server, which keeps the texts to itself, or the package
                bm25s is not installed.
        """
        if not isinstance(engine, FolderEngine):
            raise ConfigError(
                "keywords are counted in the texts of a folder (engines numpy and faiss); this "
                "index is on a server, whose texts would have to be fetched after every change: "
                "search without keywords, or use the server's own full-text search beside it"
            )
        self._engine = engine
        self._bm25s = _import()
        self._tokenizer = self._bm25s.tokenization.Tokenizer(splitter=_WORD, stopwords="english")
        self._words: dict[str, list[int]] = {}
        self._counted: _Counted | None = None
        self._lock = threading.Lock()

    def scores(self, queries: Sequence[str], *, weight: float) -> list[KeywordScores]:
        """Returns what the words of each query add to the scores of the items.

        Args:
            queries: Texts; common English words and words that no item has add nothing.
            weight: What one standard deviation of BM25 adds.
        """
        with self._lock:
            counted = self._update()
            words = self._split(queries, more=False)
        return [
            KeywordScores(counted.ids, counted.rows, weight * _standardised(counted, each))
            for each in words
        ]

    def _update(self) -> _Counted:
        """Returns the words of the engine's present texts."""
        # The state is asked for first: what changes meanwhile is counted by the next search.
        state, counted = self._engine.state(), self._counted
        if counted is not None and counted.state == state:
            return counted
        documents = self._engine.documents
        texts = [document.text for document in documents]
        new = list(dict.fromkeys(text for text in texts if text not in self._words))
        known = self._words | dict(zip(new, self._split(new, more=True), strict=True))
        self._words = {text: known[text] for text in texts}
        ids = [document.id for document in documents]
        rows = {name: row for row, name in enumerate(ids)}
        bm25 = self._count([self._words[text] for text in texts])
        self._counted = _Counted(state, ids, rows, bm25)
        return self._counted

    def _count(self, words: list[list[int]]) -> Any | None:
        """Returns BM25 over texts, each given by its words."""
        if not any(words):
            return None
        bm25 = self._bm25s.BM25(backend="numpy", csc_backend="scipy")  # not numba
        vocabulary = self._tokenizer.get_vocab_dict()
        bm25.index((words, vocabulary), create_empty_token=False, show_progress=False)
        return bm25

    def _split(self, texts: Sequence[str], *, more: bool) -> list[list[int]]:
        """Returns the words of each text as numbers; new words get one if `more`."""
        found: list[list[int]] = self._tokenizer.tokenize(
            list(texts), update_vocab=more, allow_empty=False, show_progress=False
        )
        return found


def _standardised(counted: _Counted, words: list[int]) -> Floats:
    """Returns the BM25 score of each text in standard deviations."""
    if counted.bm25 is None or not words:
        return np.zeros(len(counted.ids))
    scores = counted.bm25.get_scores_from_ids(words).astype(np.float64)
    unit = max(float(scores.std()), float(scores.max()) / _MOST)
    return np.asarray(scores / unit if unit > 0 else scores)


def _import() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise ConfigError(
            f"keywords need the package bm25s: {install_command('keywords')}"
        ) from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it lets every detail through
    return bm25s
