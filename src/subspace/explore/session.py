"""Session: ranks queries under changing weights, and keeps the vectors of recent queries."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout
from subspace.data.comparisons import Comparison
from subspace.data.ratings import LIKED, Rating
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.explore.comparing import Turned, choose_pairs, learn
from subspace.model.score_spread import SPREAD_SAMPLE
from subspace.model.toward import make_direction
from subspace.retrieval import BlockIndex, Hit, Index, Results, Weights
from subspace.retrieval.directions import search_toward
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.hits import Scope
from subspace.retrieval.queries import Query
from subspace.retrieval.search_options import SearchOptions

T = TypeVar("T")

# Hits of a ranking: more than the page shows, so that it can tell the earlier rank of a hit.
DEPTH = 100
# Key of the direction of the page's ratings: no factor of a model has an empty name.
_RATED = ""
# Number of queries whose vectors are kept.
_KEPT = 32
# Weights at which a curve is measured, and hits that it is measured on.
_SWEPT: Floats = np.linspace(0, 1, 11)
_HITS = 10


@dataclass(frozen=True)
class ExplorerQuery:
    """The user's input: a text, and optionally another text for one of the blocks.

    Attributes:
        text: Text for all blocks, or for all except `block` if `other` is given.
        other: Text for `block` alone; may be empty.
        block: Name of a block.
    """

    text: str
    other: str = ""
    block: str = ""

    def to_query(self, layout: BlockLayout) -> Query | None:
        """Returns the query as `Index.search` takes it; None if both texts are empty."""
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
        average: Scores of an average text: its vector is the mean of the index's vectors, and it
            was never used.
    """

    found: Results
    average: Hit

    def ranks(self) -> dict[str, int]:
        """Returns the rank of each hit by id, from 1."""
        return {hit.id: rank for rank, hit in enumerate(self.found, start=1)}


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class WeightCurve:
    """What the weight of one block does to the ten best hits, all other weights being as they are.

    Attributes:
        block: Name of the block.
        weights: The weights of the block (S,).
        kept: Mean score of the hits under the default weights, above that of an average text,
            relative to the ranking by default weights (S,): the relevance that is kept.
        alike: Mean cosine of query and hits in the block above that of an average text, in
            standard deviations of the block's cosines between texts (S,).
    """

    block: str
    weights: Floats
    kept: Floats
    alike: Floats


@dataclass(frozen=True, eq=False)
class Liked:
    """What ratings of hits say of the texts that are liked.

    Attributes:
        direction: The direction toward them (layout.dim,); None if the ratings do not tell yet.
        told: What was learned, or why nothing was.
    """

    direction: Vectors | None
    told: str


class Session:
    """An index whose work runs in one thread, whichever thread calls.

    A usage log can be read only in the thread that opened it, and the server has several threads.

    Attributes:
        index: The index.
        default_weights: The default weights of the index's model.
    """

    def __init__(self, open_index: Callable[[], Index]) -> None:
        """Opens the index in its thread, and encodes one text so that the encoder is loaded.

        Args:
            open_index: Opens the index; its errors are raised here.
        """
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._vectors: OrderedDict[ExplorerQuery, Vectors] = OrderedDict()
        self._liked: tuple[tuple[Rating, ...], Liked] = ((), Liked(None, ""))
        self._turned: dict[str, tuple[tuple[Comparison, ...], Turned]] = {}
        self._pairs: dict[str, list[tuple[Record, Record]]] = {}
        self._last: tuple[ExplorerQuery, Ranking] | None = None
        try:
            self.index = self.run(open_index)
            self.default_weights = self.index.blocks.weights(self.index.model.default_weights)
            self.run(lambda: self.index.embed(["a first text"]))
            self._average = self.run(lambda: _average_text(self.index.blocks))
        except BaseException:
            self._worker.shutdown()
            raise

    def __enter__(self) -> Self:
        """Returns the session itself."""
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

    def liked(self, ratings: Sequence[Rating]) -> Liked:
        """Learns from ratings of hits, in memory alone; the same ratings are learned from once."""
        known, liked = self._liked
        if tuple(ratings) != known:
            liked = self.run(lambda: self._learn(ratings))
            self._liked = (tuple(ratings), liked)
        return liked  # another page may have put its own in the place of this by now

    def _learn(self, ratings: Sequence[Rating]) -> Liked:
        if not ratings:
            return Liked(None, "")
        try:
            adapted = self.index.view().adapt(ratings=ratings)
        except ConfigError as error:
            return Liked(None, str(error))
        told = adapted.adapted["factors"][LIKED]
        if not told["trust"]:
            return Liked(None, f"{len(ratings)} ratings, which follow no pattern so far")
        follows = ", ".join(f"{name} {value:+.2f}" for name, value in told["follows"].items())
        said = f"{len(ratings)} ratings, trusted {told['trust']:.0%}"
        along = f"; what you like goes along with {follows}" if follows else ""
        return Liked(adapted.direction(LIKED), said + along)

    def pairs(self, factor: str) -> Sequence[tuple[Record, Record]]:
        """Returns the pairs to ask about, in order; none if the index has too few texts.

        Raises:
            QueryError: The model has no direction of the factor.
        """
        if factor not in self._pairs:  # not in the index's thread: rankings would wait for it
            self._pairs[factor] = choose_pairs(self.index, factor)
        return self._pairs[factor]

    def turned(self, comparisons: Sequence[Comparison]) -> dict[str, Turned]:
        """Learns from comparisons by factor, in memory; the same are learned from once."""
        return {
            factor: self._turn(factor, tuple(one for one in comparisons if one.factor == factor))
            for factor in dict.fromkeys(one.factor for one in comparisons)
        }

    def _turn(self, factor: str, comparisons: tuple[Comparison, ...]) -> Turned:
        known, turned = self._turned.get(factor, ((), Turned(None, "")))
        if comparisons != known:
            turned = self.run(lambda: learn(self.index, factor, comparisons))
            self._turned[factor] = (comparisons, turned)
        return turned  # another page may have put its own in the place of this by now

    def rank_default(self, query: ExplorerQuery, *, again: bool = True) -> Ranking | None:
        """Ranks the items as a search without weights; returns None if the query is empty.

        Args:
            query: The user's input.
            again: False to return the ranking that was made last if it is of the same query, as
                every move of a slider is compared with it.

        Raises:
            QueryError: The query names an unknown block.
        """
        last = self._last
        if not again and last is not None and last[0] == query:
            return last[1]
        ranking = self.rank(query)
        self._last = None if ranking is None else (query, ranking)
        return ranking

    def rank(
        self,
        query: ExplorerQuery,
        *,
        weights: Weights | None = None,
        scope: Scope = "block",
        toward: Mapping[str, float] | None = None,
        turned: Mapping[str, Vectors] | None = None,
        liked: Vectors | None = None,
        strength: float = 1.0,
    ) -> Ranking | None:
        """Ranks the items for a query; returns None if the query is empty.

        The hits are those of `Index.search`, but recent queries are not encoded again.

        Args:
            query: The user's input.
            weights: A table of weights; those of a search without weights if None.
            scope: `block` or `item`: how recency and importance are computed.
            toward: How much more (above 0) or less (below 0) of a factor or class is preferred, as
                in `Index.search`.
            turned: Directions (layout.dim,) by factor that are taken instead of the model's.
            liked: A direction (layout.dim,) that ratings gave; None for none.
            strength: How much of it; at 1, one standard deviation of it adds as much as one of
                relevance.

        Raises:
            ConfigError: Recency or importance has a weight, and there is no usage log.
            QueryError: The query names an unknown block, or `toward` a factor without a direction.
        """
        asked = query.to_query(self.layout)
        if asked is None:
            return None
        counts = {name: count for name, count in (toward or {}).items() if count}
        own = turned or {}
        directions = {
            name: own[name] if name in own else self.index.model.direction(name) for name in counts
        }
        if liked is not None and strength:
            counts[_RATED], directions[_RATED] = strength, liked
        table = weights or self._default(asked)
        scaled = table.scaled(self.index.model.score_scales)

        def search() -> Ranking:
            vector = self._embed(query, asked)
            found = self.index.blocks.search(vector, weights=scaled, scope=scope, k=DEPTH)
            (average,) = self._average.search(vector, weights=scaled, scope=scope, k=1)
            if counts:
                found = self._search_toward(vector, scaled, scope, counts, directions)
            return Ranking(replace(found, weights=table), average)

        return self.run(search)

    def _search_toward(
        self,
        vector: Vectors,
        weights: Weights,
        scope: Scope,
        counts: Mapping[str, float],
        directions: Mapping[str, Vectors],
    ) -> Results:
        made = make_direction(
            counts,
            directions=directions,
            sample=self.index.blocks.document_sample,
            relevance=weights.relevance,
        )
        options = SearchOptions.read({"scope": scope, "k": DEPTH})
        (found,) = search_toward(
            self.index.blocks,
            vector[None],
            weights=weights,
            direction=made,
            options=options,
            own=[()],
        )
        return found

    def curve(
        self,
        query: ExplorerQuery,
        block: str,
        *,
        blocks: Mapping[str, float],
        riv: Sequence[float] = (0.0, 0.0, 1.0),
        scope: Scope = "block",
    ) -> WeightCurve | None:
        """Measures what the weight of a block does; returns None if the query is empty.

        Args:
            query: The user's input.
            block: Name of the block.
            blocks: Weights by block; that of `block` is swept from 0 to 1.
            riv: Weights of recency, importance and relevance.
            scope: As in `rank`.

        Raises:
            ConfigError: Recency or importance has a weight, and there is no usage log.
            QueryError: The query names an unknown block.
            WeightsError: Recency, importance and relevance are all 0.
        """
        asked = query.to_query(self.layout)
        if asked is None:
            return None
        # A weight of 0 is refused if all others are 0, and ranks as a tiny one does.
        swept = [
            Weights.make(layout=self.layout, blocks={**blocks, block: max(one, 1e-6)}, riv=riv)
            for one in _SWEPT.tolist()
        ]
        return self.run(lambda: self._sweep(query, asked, block, swept, scope))

    def _sweep(
        self,
        query: ExplorerQuery,
        asked: Query,
        block: str,
        swept: Sequence[Weights],
        scope: Scope,
    ) -> WeightCurve:
        vector, blocks = self._embed(query, asked), self.index.blocks
        scales, place = self.index.model.score_scales, self.layout.slice(block)
        plain = self._default(asked).scaled(scales)
        average = self._average.engine.fetch(["average"]).vectors
        folded = plain.relevance_alone().fold(vector[None])[0]

        def measure(weights: Weights) -> tuple[float, float]:
            hits = blocks.search(vector, weights=weights, scope=scope, k=_HITS)
            found = blocks.engine.fetch([hit.id for hit in hits]).vectors
            above = found - average
            return float((above @ folded).mean()), float((above[:, place] @ vector[place]).mean())

        if not len(blocks):
            nothing = np.zeros(len(_SWEPT))
            return WeightCurve(block, _SWEPT, nothing, nothing)
        best, _ = measure(plain)
        kept, alike = np.array([measure(one.scaled(scales)) for one in swept]).T
        spread = blocks.score_spread.blocks[block] or 1.0
        return WeightCurve(block, _SWEPT, kept / (best or 1.0), alike / spread)

    def _default(self, asked: Query) -> Weights:
        """Returns the weights of a search without weights."""
        return self.index.blocks.weights(self.index.default_weights(asked))

    def _embed(self, query: ExplorerQuery, asked: Query) -> Vectors:
        if query not in self._vectors:
            self._vectors[query] = self.index.embed([asked])[0]
            if len(self._vectors) > _KEPT:
                self._vectors.popitem(last=False)
        return self._vectors[query]


def _average_text(index: BlockIndex) -> BlockIndex:
    """Makes an index of one unused text, whose vector is the mean of a sample of the index.

    Scores are linear in the vector, so its score is the average score of the sample.
    """
    engine = NumpyEngine(layout=index.layout, projection_digest=index.engine.projection_digest)
    vectors = index.engine.sample(SPREAD_SAMPLE).vectors
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(index.layout.dim, np.float32)
    engine.upsert([Record(id="average", text="average")], mean[None])
    average = BlockIndex(engine)
    average.histories = index.histories  # a new one would find no vectors of the used items
    return average
