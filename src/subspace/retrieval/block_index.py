"""BlockIndex: an engine's vectors searched with weights, recency and importance per block.

    score(q, d) = sum_b  w[V,b] <q_b, d_b>  +  w[R,b] R_b(d)  +  w[I,b] I_b(d)

In `block` scope R_b and I_b are inner products with traces of what was used, so that all of it is
one inner product with a folded query; in `item` scope they are the item's own recency and success
rate, added to the score of each item. Scores and their parts are computed in double precision from
the vectors of what the engine found, so that every engine gives the same scores.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import IndexFolderError, LayoutError, WeightsError
from subspace.model.projection import Projection
from subspace.model.score_spread import SPREAD_SAMPLE, ScoreSpread, measure_score_spread
from subspace.retrieval.engines import Candidates, Engine, open_engine
from subspace.retrieval.engines.engine import check_queries
from subspace.retrieval.hits import SCOPES, Results, Scope
from subspace.retrieval.scoring import BlockScorer, ItemScorer, Scorer
from subspace.retrieval.search_options import SearchKeywords, SearchOptions
from subspace.retrieval.usage.decay import Decay
from subspace.retrieval.usage.history import History, require
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import PARTS, Part, Weights


class BlockIndex:
    """Documents that can be found by their blocks.

    Attributes:
        engine: Where the vectors are.
        history: What was used; None without a usage log.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        usage: UsageLog | None = None,
        recency: Decay | None = None,
        half_life: float | None = None,
    ) -> None:
        """Searches an engine.

        Args:
            engine: Where the vectors are.
            usage: Which item was used when; needed where recency or importance count.
            recency: How the recency of an item falls with age; see `History`.
            half_life: Age at which a use counts half in a block; see `History`.
        """
        self.engine = engine
        self._score_spread: tuple[int, ScoreSpread] | None = None
        self.history = (
            None
            if usage is None
            else History(usage, engine=engine, recency=recency, half_life=half_life)
        )

    def add(self, records: Sequence[Record], vectors: Vectors) -> None:
        """Adds records, in the place of those with the same ids; all or none of them.

        Args:
            records: What can be found.
            vectors: Unit blocks (N, layout.dim), same order.

        Raises:
            EngineError: An id is empty or used twice, or the engine cannot write.
            LayoutError: The vectors have another shape, or are not finite.
        """
        self.engine.upsert(records, vectors)
        self._changed()

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and gives their number; ids that are not there are passed over."""
        removed = self.engine.delete(ids)
        self._changed()
        return removed

    def save(self) -> None:
        """Writes a folder's index to where it was opened from; a server has everything already.

        Raises:
            ConfigError: There is no folder.
            IndexFolderError: The disk refuses.
        """
        self.engine.save()

    @classmethod
    def open(cls, target: Path | str, **options: Any) -> Self:
        """Opens an index: a folder, or the address of a server (see `engines.choose`).

        Raises:
            IndexFolderError: There is none in that folder, or it is damaged.
            EngineError: A server cannot be reached, or has no such index.
        """
        return cls(open_engine(target), **options)

    def __enter__(self) -> Self:
        """The index itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Closes the engine, and the usage log if there is one."""
        self.engine.close()
        if self.history is not None:
            self.history.log.close()

    def __len__(self) -> int:
        """Number of documents."""
        return self.engine.count()

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.engine.layout

    def check_projection(self, projection: Projection) -> None:
        """Raises unless the documents were projected by this projection.

        Raises:
            IndexFolderError: They were projected by another.
        """
        if projection.digest != self.engine.projection_digest:
            raise IndexFolderError(
                "the index was built with another checkpoint; build it again with this one"
            )

    def search(
        self,
        query: Vectors,
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results:
        """The best documents by weighted score; exactly, if the engine is; ties in its order.

        Args:
            query: Unit blocks (layout.dim,).
            weights: A table, or what `Weights.from_mapping` or `Weights.parse` takes; equal
                weights of relevance alone if None.
            options: Of `SearchOptions`.

        Raises:
            ConfigError: An option is wrong, or there is no usage log to take recency and
                importance from.
            LayoutError: The query has another dimension, or is not finite.
            WeightsError: A weight is wrong, or they are for another layout.
            IndexFolderError: The vectors are not finite.
        """
        query = _to_array(query)
        if query.ndim != 1:
            raise LayoutError(
                f"the query has shape {query.shape}, the index needs ({self.layout.dim},)"
            )
        return self.search_batch(query[None], weights=weights, **options)[0]

    def search_batch(
        self,
        queries: Vectors,
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> list[Results]:
        """`search` of several queries (Q, layout.dim) in one pass over the vectors."""
        return self.search_each(
            queries, weights=self.weights(weights), options=SearchOptions.read(options)
        )

    def search_each(
        self,
        queries: Vectors,
        *,
        weights: Weights,
        options: SearchOptions,
        own: Sequence[Collection[str]] | None = None,
    ) -> list[Results]:
        """`search_batch` where some queries are items, which are not among their own hits.

        Args:
            queries: Unit blocks (Q, layout.dim).
            weights: The same for all queries.
            options: The same for all queries.
            own: For each query, ids that are not to be among its hits, beside `options.exclude`.
        """
        queries = _to_array(queries)
        check_queries(queries, layout=self.layout)
        without = [{*options.exclude, *ids} for ids in own or [()] * len(queries)]
        scorer = self._scorer(self.weights(weights), scope=options.scope)
        found = self._find(queries, scorer, options=options, exclude=without)
        return [
            Results(
                hits=scorer.hits(query, items, k=options.k),
                query_id=uuid.uuid4().hex,
                weights=weights,
                scope=options.scope,
            )
            for query, items in zip(queries, found, strict=True)
        ]

    def compare(self, query: Vectors, **options: Any) -> dict[Scope, Results]:
        """The same search in both scopes, side by side.

        Args:
            query: Unit blocks (layout.dim,).
            options: Of `search`, without `scope`.
        """
        return {scope: self.search(query, scope=scope, **options) for scope in SCOPES}

    def weights(self, weights: Weights | Mapping[str, Any] | str | None) -> Weights:
        """Weights for this index, in whatever form they are given.

        Raises:
            WeightsError: A name or a value is wrong, or they are for another layout.
        """
        if weights is None:
            return Weights.equal(self.layout)
        if isinstance(weights, str):
            return Weights.parse(weights, layout=self.layout)
        if not isinstance(weights, Weights | Mapping):
            raise WeightsError(f"weights are given by block name or as a text, got {weights!r:.60}")
        if not isinstance(weights, Weights):
            return Weights.from_mapping(weights, layout=self.layout)
        if weights.layout != self.layout:
            raise WeightsError(
                f"the weights are for the blocks {weights.layout.to_widths()}, the index has "
                f"{self.layout.to_widths()}"
            )
        return weights

    @property
    def score_spread(self) -> ScoreSpread:
        """How much scores vary among the items as they are now, on a sample."""
        count = self.engine.count()  # another process may have changed a server's index
        if self._score_spread is None or self._score_spread[0] != count:
            sample = self.engine.sample(SPREAD_SAMPLE)
            self._score_spread = count, measure_score_spread(sample.vectors, layout=self.layout)
        return self._score_spread[1]

    def _changed(self) -> None:
        """Forgets figures of the items as they were."""
        self._score_spread = None

    def history_spread(self) -> dict[Part, dict[str, float]]:
        """How much recency and importance vary among the items, by block, on a sample.

        The standard deviation of R_b and I_b; under the name of no block, "item", that of the
        items' own. Where it is near 0 a weight moves nothing, as with `score_spread`.

        Raises:
            ConfigError: There is no usage log.
        """
        history = require(self.history)
        history.refresh()
        sample = self.engine.sample(SPREAD_SAMPLE)
        own = history.item_values([document.id for document in sample.documents])
        traces = {"recency": history.recency, "importance": history.importance}
        spread: dict[Part, dict[str, float]] = {}
        for part, values in zip(PARTS[:2], own, strict=True):
            scores = self.layout.split(sample.vectors * traces[part])
            spread[part] = {
                name: float(block.sum(axis=1).std()) if len(block) else 0.0
                for name, block in scores.items()
            }
            spread[part]["item"] = float(values.std()) if len(values) else 0.0
        return spread

    def _scorer(self, weights: Weights, *, scope: Scope) -> Scorer:
        if not weights.uses_history:
            return Scorer(weights)
        history = require(self.history)
        history.refresh()
        return ItemScorer(weights, history) if scope == "item" else BlockScorer(weights, history)

    def _find(
        self,
        queries: Vectors,
        scorer: Scorer,
        *,
        options: SearchOptions,
        exclude: Sequence[Collection[str]],
    ) -> list[Candidates]:
        """What the engine finds, without what is excluded; the gate's best, if there is one."""
        more = max(map(len, exclude), default=0)
        if options.candidates is None:
            folded, count, priors = scorer.fold(queries), options.k, scorer.priors()
        else:
            if not any(scorer.weights.relevance):
                raise WeightsError(
                    "candidates are the best by relevance, which has no weight in any block"
                )
            folded = scorer.weights.relevance_alone().fold(queries)
            count, priors = options.candidates, None
        found = self.engine.search(folded, k=count + more, priors=priors, where=options.where)
        kept = [_without(items, ids) for items, ids in zip(found, exclude, strict=True)]
        if options.candidates is None:
            return kept
        return [_keep_best(items, one, k=count) for items, one in zip(kept, folded, strict=True)]


def _to_array(queries: Any) -> Vectors:
    try:
        return np.asarray(queries, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise LayoutError(f"queries are arrays of numbers: {error}") from error


def _without(found: Candidates, ids: Collection[str]) -> Candidates:
    if not ids:
        return found
    rows = [row for row, document in enumerate(found.documents) if document.id not in ids]
    return Candidates(tuple(found.documents[row] for row in rows), found.vectors[rows])


def _keep_best(found: Candidates, folded: Vectors, *, k: int) -> Candidates:
    """The best `k` by inner product, in the order in which they were found."""
    if len(found.documents) <= k:
        return found
    scores = found.vectors.astype(np.float64) @ folded
    rows = np.sort(np.argsort(-scores, kind="stable")[:k])
    return Candidates(tuple(found.documents[row] for row in rows), found.vectors[rows])
