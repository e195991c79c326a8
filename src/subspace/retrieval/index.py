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
from typing import Any, Self

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError, IndexFolderError, LayoutError, WeightsError
from subspace.model.projection import Projection
from subspace.model.projection import digest_projection as digest_projection  # for others, too
from subspace.model.score_spread import STEERING_SAMPLE, Steering, measure_steering
from subspace.retrieval.engines import Engine, Found, NumpyEngine, Where, open_engine
from subspace.retrieval.engines.engine import check_k, check_queries
from subspace.retrieval.hits import SCOPES, Results, Scope
from subspace.retrieval.scoring import BlockScorer, ItemScorer, Scorer
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
        self._steering: tuple[int, Steering] | None = None
        self.history = (
            None
            if usage is None
            else History(usage, engine=engine, recency=recency, half_life=half_life)
        )

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        embeddings: Vectors,
        *,
        projection: Projection,
        engine: Engine | None = None,
        **options: Any,
    ) -> Self:
        """Projects raw embeddings (N, D) of `documents`.

        Args:
            documents: What can be found.
            embeddings: Their raw embeddings, same order.
            projection: To blocks.
            engine: Where to add them; a new `NumpyEngine` if None.
            options: Of the index, as the class takes them.

        Raises:
            EngineError: An id is empty or used twice.
            LayoutError: There are more or fewer embeddings than documents, or one is not finite.
            IndexFolderError: The engine is of another projection.
        """
        if engine is None:
            engine = NumpyEngine(
                layout=projection.layout, projection_digest=digest_projection(projection)
            )
        index = cls(engine, **options)
        index.add(documents, embeddings, projection=projection)
        return index

    def add(
        self, documents: Sequence[Document], embeddings: Vectors, *, projection: Projection
    ) -> None:
        """Adds documents, in the place of those with the same ids; all or none of them.

        Args:
            documents: What can be found.
            embeddings: Their raw embeddings (N, D), same order.
            projection: To blocks; the one that the index was built with.

        Raises:
            EngineError: An id is empty or used twice, or the engine cannot write.
            LayoutError: There are more or fewer embeddings than documents, or one is not finite.
            IndexFolderError: The projection is another.
        """
        if len(documents) != len(embeddings):
            raise LayoutError(f"{len(documents)} documents, {len(embeddings)} embeddings")
        self.check_projection(projection)
        self.engine.upsert(documents, _project(documents, embeddings, projection=projection))

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and gives their number; ids that are not there are passed over."""
        return self.engine.delete(ids)

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
        """Refuses queries of another projection than the documents'.

        Raises:
            IndexFolderError: They differ.
        """
        if digest_projection(projection) != self.engine.projection_digest:
            raise IndexFolderError(
                "the index was built with another checkpoint; build it again with this one"
            )

    def search(
        self,
        query: Vectors,
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        scope: Scope = "block",
        k: int = 10,
        candidates: int | None = None,
        where: Where | None = None,
        standardize: bool = False,
        exclude: Collection[str] = (),
    ) -> Results:
        """The best `k` documents by weighted score; exactly, if the engine is; ties in its order.

        Args:
            query: Unit blocks (layout.dim,).
            weights: A table, or what `Weights.from_mapping` or `Weights.parse` takes; equal
                weights of relevance alone if None.
            scope: What recency and importance are of: `block` or `item`.
            k: How many; more than there are gives all.
            candidates: If given, only this many best by relevance alone are scored in full.
            where: Metadata that hits must have: a value, or one of several, by name.
            standardize: Let weights count in standard deviations of each block's scores among
                the items of this index, so that blocks whose scores vary little steer as well.
            exclude: Ids that are not to be among the hits.

        Raises:
            ConfigError: `k` is no whole number from 1, or there is no usage log to take recency
                and importance from.
            LayoutError: The query has another dimension, or is not finite.
            WeightsError: A weight is wrong, or they are for another layout.
            IndexFolderError: The vectors are not finite.
        """
        query = _to_array(query)
        if query.ndim != 1:
            raise LayoutError(
                f"the query has shape {query.shape}, the index needs ({self.layout.dim},)"
            )
        return self.search_batch(
            query[None],
            weights=weights,
            scope=scope,
            k=k,
            candidates=candidates,
            where=where,
            standardize=standardize,
            exclude=[exclude],
        )[0]

    def search_batch(
        self,
        queries: Vectors,
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        scope: Scope = "block",
        k: int = 10,
        candidates: int | None = None,
        where: Where | None = None,
        standardize: bool = False,
        exclude: Sequence[Collection[str]] | None = None,
    ) -> list[Results]:
        """`search` of several queries (Q, layout.dim) in one pass over the vectors.

        Args:
            queries: Unit blocks.
            weights: As in `search`, the same for all queries.
            scope: As in `search`.
            k: As in `search`.
            candidates: As in `search`.
            where: As in `search`.
            standardize: As in `search`.
            exclude: For each query, ids that are not to be among its hits.
        """
        k = check_k(k)
        if scope not in SCOPES:
            raise ConfigError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
        if isinstance(exclude, str) or any(isinstance(ids, str) for ids in exclude or ()):
            raise ConfigError(f"exclude holds lists of ids, got {exclude!r:.60}")
        table = self.weights(weights)
        if standardize:
            if scope == "item" and table.uses_history:
                raise ConfigError(
                    "standardize is of cosines: in item scope recency and importance are none"
                )
            table = table.standardized(self.steering.blocks)
        queries = _to_array(queries)
        check_queries(queries, layout=self.layout)
        without = [frozenset(ids) for ids in exclude or [()] * len(queries)]
        if len(without) != len(queries):
            raise ConfigError(
                f"exclude needs the ids of each query: {len(queries)} queries, {len(without)} lists"
            )
        scorer = self._scorer(table, scope=scope)
        found = self._find(
            queries, scorer, k=k, candidates=candidates, where=where, exclude=without
        )
        return [
            Results(
                hits=scorer.hits(query, items, k=k),
                query_id=uuid.uuid4().hex,
                weights=table,
                scope=scope,
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
    def steering(self) -> Steering:
        """How much scores vary among the items; measured anew when their number changes."""
        count = self.engine.count()
        if self._steering is None or self._steering[0] != count:
            sample = self.engine.sample(STEERING_SAMPLE)
            self._steering = count, measure_steering(sample.vectors, layout=self.layout)
        return self._steering[1]

    def history_spread(self) -> dict[Part, dict[str, float]]:
        """How much recency and importance vary among the items, by block, on a sample.

        The standard deviation of R_b and I_b; under the name of no block, "item", that of the
        items' own. Where it is near 0 a weight moves nothing, as with `steering`.

        Raises:
            ConfigError: There is no usage log.
        """
        history = require(self.history)
        history.refresh()
        sample = self.engine.sample(STEERING_SAMPLE)
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
        k: int,
        candidates: int | None,
        where: Where | None,
        exclude: Sequence[Collection[str]],
    ) -> list[Found]:
        """What the engine finds, without what is excluded; the gate's best, if there is one."""
        more = max(map(len, exclude), default=0)
        if candidates is None:
            folded, count, priors = scorer.fold(queries), k, scorer.priors()
        else:
            if not any(scorer.weights.relevance):
                raise WeightsError(
                    "candidates are the best by relevance, which has no weight in any block"
                )
            folded = scorer.weights.relevance_alone().fold(queries)
            count, priors = check_k(candidates, name="candidates"), None
        found = self.engine.search(folded, k=count + more, priors=priors, where=where)
        kept = [_without(items, ids) for items, ids in zip(found, exclude, strict=True)]
        if candidates is None:
            return kept
        return [_keep_best(items, one, k=count) for items, one in zip(kept, folded, strict=True)]


def _to_array(queries: Any) -> Vectors:
    try:
        return np.asarray(queries, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise LayoutError(f"queries are arrays of numbers: {error}") from error


def _without(found: Found, ids: Collection[str]) -> Found:
    if not ids:
        return found
    rows = [row for row, document in enumerate(found.documents) if document.id not in ids]
    return Found(tuple(found.documents[row] for row in rows), found.vectors[rows])


def _keep_best(found: Found, folded: Vectors, *, k: int) -> Found:
    """The best `k` by inner product, in the order in which they were found."""
    if len(found.documents) <= k:
        return found
    scores = found.vectors.astype(np.float64) @ folded
    rows = np.sort(np.argsort(-scores, kind="stable")[:k])
    return Found(tuple(found.documents[row] for row in rows), found.vectors[rows])


def _project(
    documents: Sequence[Document], embeddings: Vectors, *, projection: Projection
) -> Vectors:
    try:
        return projection(embeddings)
    except LayoutError:
        for document, embedding in zip(documents, embeddings, strict=True):
            try:
                projection(embedding)
            except LayoutError as error:
                message = f"the embedding of document '{document.id}' cannot be used: {error}"
                raise LayoutError(message) from error
        raise
