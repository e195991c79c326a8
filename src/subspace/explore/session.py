"""Session: a query is encoded once and ranked again under every weighting."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import Document
from subspace.model.score_spread import STEERING_SAMPLE
from subspace.retrieval import BlockIndex, Hit, Results, Searcher, Weights
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.hits import Scope
from subspace.retrieval.queries import Query

T = TypeVar("T")

# How deep a ranking goes; deeper than what is shown, to say from where a hit came.
DEPTH = 100
# Questions whose vectors are kept.
_KEPT = 32


@dataclass(frozen=True)
class Question:
    """What is typed: a text, and perhaps another one for one of the blocks.

    Attributes:
        text: For all blocks, or for all but `block` if `other` is given.
        other: For `block` alone.
        block: Its name.
    """

    text: str
    other: str = ""
    block: str = ""

    def to_query(self, layout: BlockLayout) -> Query | None:
        """The query as a `Searcher` takes it; None if nothing is typed."""
        text, other = self.text.strip(), self.other.strip()
        if not other:
            return text or None
        rest = {name: text for name in layout if name != self.block and text}
        return {**rest, self.block: other}


@dataclass(frozen=True)
class Ranking:
    """One question ranked by one table of weights.

    Attributes:
        found: The best `DEPTH`.
        average: What an average text of the index scores: the mean of all vectors, never used.
    """

    found: Results
    average: Hit

    def ranks(self) -> dict[str, int]:
        """Rank from 1 by id."""
        return {hit.id: rank for rank, hit in enumerate(self.found, start=1)}


class Session:
    """A searcher that one thread of its own works with, whoever asks.

    A usage log can be read in the thread alone that opened it, and a server has several.

    Attributes:
        searcher: What is asked.
    """

    def __init__(self, open_searcher: Callable[[], Searcher]) -> None:
        """Opens the searcher in its thread, and the encoder with a first text.

        Args:
            open_searcher: Opens it.
        """
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._vectors: OrderedDict[Question, Vectors] = OrderedDict()
        try:
            self.searcher = self.run(open_searcher)
            self.run(lambda: self.searcher.embed(["a first text"]))
            self._average = self.run(lambda: _average_text(self.searcher.index))
        except BaseException:
            self._worker.shutdown()
            raise

    @classmethod
    def open(cls, checkpoint: Path | str, index: Path | str, **options: Any) -> Self:
        """Opens a checkpoint and an index; arguments and errors as of `Searcher.open`."""
        return cls(lambda: Searcher.open(checkpoint, index, **options))

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the searcher."""
        self.run(self.searcher.close)
        self._worker.shutdown()

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.searcher.layout

    def run(self, work: Callable[[], T]) -> T:
        """Runs something in the searcher's thread."""
        return self._worker.submit(work).result()

    def rank(
        self,
        question: Question,
        *,
        weights: Weights | None = None,
        scope: Scope = "block",
        standardize: bool = False,
    ) -> Ranking | None:
        """Ranks what is in the index for a question; None if nothing is typed.

        What `Searcher.search` gives for the same query and weights, but a question is encoded
        once.

        Args:
            question: What is typed.
            weights: What counts how much; equal weights of relevance alone if None.
            scope: What recency and importance are of.
            standardize: Lets weights count in standard deviations of each block's scores.

        Raises:
            SubspaceError: As `Searcher.search`.
        """
        query = question.to_query(self.layout)
        if query is None:
            return None

        def search() -> Ranking:
            vector = self._embed(question, query)
            found = self.searcher.index.search(
                vector, weights=weights, scope=scope, standardize=standardize, k=DEPTH
            )
            (average,) = self._average.search(vector, weights=found.weights, scope=scope, k=1)
            return Ranking(found, average)

        return self.run(search)

    def _embed(self, question: Question, query: Query) -> Vectors:
        if question not in self._vectors:
            self._vectors[question] = self.searcher.embed([query])[0]
            if len(self._vectors) > _KEPT:
                self._vectors.popitem(last=False)
        return self._vectors[question]


def _average_text(index: BlockIndex) -> BlockIndex:
    """An index of one text, never used, whose vector is the mean of a sample of all.

    Scores are linear in the vector, so that it scores what the sample does on average.
    """
    engine = NumpyEngine(layout=index.layout, projection_digest=index.engine.projection_digest)
    vectors = index.engine.sample(STEERING_SAMPLE).vectors
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(index.layout.dim, np.float32)
    engine.upsert([Document(id="average", text="average")], mean[None])
    average = BlockIndex(engine)
    average.history = index.history
    return average
