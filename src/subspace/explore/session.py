"""Session: encodes a query once, and ranks it again under every weighting."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.model.score_spread import SPREAD_SAMPLE
from subspace.retrieval import BlockIndex, Hit, Index, Results, Weights
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.hits import Scope
from subspace.retrieval.queries import Query

T = TypeVar("T")

# Hits of a ranking: more than the page shows, so that it can say where a hit was before.
DEPTH = 100
# Queries whose vectors are kept.
_KEPT = 32


@dataclass(frozen=True)
class ExplorerQuery:
    """What is typed: a text, and perhaps another text for one of the blocks.

    Attributes:
        text: For all blocks, or for all but `block` if `other` is given.
        other: For `block` alone.
        block: Name of a block.
    """

    text: str
    other: str = ""
    block: str = ""

    def to_query(self, layout: BlockLayout) -> Query | None:
        """Gives the query as `Index.search` takes it; None if nothing is typed."""
        text, other = self.text.strip(), self.other.strip()
        if not other:
            return text or None
        rest = {name: text for name in layout if name != self.block and text}
        return {**rest, self.block: other}


@dataclass(frozen=True)
class Ranking:
    """One query ranked under one table of weights.

    Attributes:
        found: The best `DEPTH` hits.
        average: Scores of an average text: the mean of the index's vectors, never used.
    """

    found: Results
    average: Hit

    def ranks(self) -> dict[str, int]:
        """Gives the rank of each hit, from 1, by id."""
        return {hit.id: rank for rank, hit in enumerate(self.found, start=1)}


class Session:
    """Works on an index in one thread, whichever thread asks.

    A usage log can be read only in the thread that opened it, and a server has several.

    Attributes:
        index: What is searched.
        default_weights: The default weights of the index's model.
    """

    def __init__(self, open_index: Callable[[], Index]) -> None:
        """Opens the index in its thread, and loads the encoder with a first text.

        Args:
            open_index: Opens the index; what it raises is raised here.
        """
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._vectors: OrderedDict[ExplorerQuery, Vectors] = OrderedDict()
        try:
            self.index = self.run(open_index)
            self.default_weights = self.index.blocks.weights(self.index.model.default_weights)
            self.run(lambda: self.index.embed(["a first text"]))
            self._average = self.run(lambda: _average_text(self.index.blocks))
        except BaseException:
            self._worker.shutdown()
            raise

    def __enter__(self) -> Self:
        """Gives the session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the index."""
        self.run(self.index.close)
        self._worker.shutdown()

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.index.layout

    def run(self, work: Callable[[], T]) -> T:
        """Runs a function in the index's thread, and waits for it."""
        return self._worker.submit(work).result()

    def rank(
        self, query: ExplorerQuery, *, weights: Weights | None = None, scope: Scope = "block"
    ) -> Ranking | None:
        """Ranks the index for a query; None if nothing is typed.

        Finds what `Index.search` finds, but encodes a query only once.

        Args:
            query: What is typed.
            weights: A table of weights; the model's default weights if None.
            scope: `block` or `item`: what recency and importance are computed for.

        Raises:
            ConfigError: Recency or importance has a weight, and there is no usage log.
            QueryError: The query names a block that is not there.
        """
        asked = query.to_query(self.layout)
        if asked is None:
            return None
        table = weights or self.default_weights
        scaled = table.scaled(self.index.model.score_scales)

        def search() -> Ranking:
            vector = self._embed(query, asked)
            found = self.index.blocks.search(vector, weights=scaled, scope=scope, k=DEPTH)
            (average,) = self._average.search(vector, weights=scaled, scope=scope, k=1)
            return Ranking(replace(found, weights=table), average)

        return self.run(search)

    def _embed(self, query: ExplorerQuery, asked: Query) -> Vectors:
        if query not in self._vectors:
            self._vectors[query] = self.index.embed([asked])[0]
            if len(self._vectors) > _KEPT:
                self._vectors.popitem(last=False)
        return self._vectors[query]


def _average_text(index: BlockIndex) -> BlockIndex:
    """Makes an index of one text, never used, whose vector is the mean of a sample of all.

    Scores are linear in the vector, so the text scores what the sample scores on average.
    """
    engine = NumpyEngine(layout=index.layout, projection_digest=index.engine.projection_digest)
    vectors = index.engine.sample(SPREAD_SAMPLE).vectors
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(index.layout.dim, np.float32)
    engine.upsert([Record(id="average", text="average")], mean[None])
    average = BlockIndex(engine)
    average.history = index.history  # a history of its own would read the uses without vectors
    return average
