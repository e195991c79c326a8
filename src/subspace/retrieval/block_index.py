"""BlockIndex: searches the vectors of an engine with a weight per part and block.

    score(q, d) = sum_b  w[V,b] <q_b, d_b>  +  w[R,b] R_b(d)  +  w[I,b] I_b(d)

The parts are relevance V, recency R and importance I. In `block` scope R_b and I_b are inner
products of d_b with traces of the used items, so the whole score is one inner product with a folded
query. In `item` scope they are the recency and the success rate of the item itself, the same in all
blocks. Scores are computed in double precision from the vectors that the engine returns, so every
engine gives an item the same score.
"""

import threading
import uuid
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np

from subspace.arrays import AnyFloats, Vectors
from subspace.blocks import BlockLayout, Blocks
from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError, LayoutError, QueryError, WeightsError
from subspace.model.document_sample import DocumentSample
from subspace.model.projection import Projection
from subspace.model.score_spread import SPREAD_SAMPLE, ScoreSpread
from subspace.retrieval.engines import Candidates, Engine, Priors, open_engine
from subspace.retrieval.engines.engine import check_queries
from subspace.retrieval.engines.filters import Where, explain_nothing
from subspace.retrieval.hits import SCOPES, Results, Scope
from subspace.retrieval.keywords import KeywordIndex, KeywordScores
from subspace.retrieval.scoring import BlockScorer, ItemScorer, Scorer
from subspace.retrieval.search_options import SearchKeywords, SearchOptions, is_ids
from subspace.retrieval.usage.decay import Decay
from subspace.retrieval.usage.histories import Histories
from subspace.retrieval.usage.history import (
    IMPORTANCE_FLOOR,
    RECENCY_FLOOR,
    History,
    HistorySettings,
    require,
)
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import PARTS, Part, Weights


@dataclass(frozen=True)
class HistorySpread:
    """How much recency or importance varies among the items.

    Attributes:
        blocks: Standard deviation in `block` scope, by block.
        items: Standard deviation in `item` scope, where it is the same in all blocks.
    """

    blocks: Mapping[str, float]
    items: float


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class _Measured:
    """A sample of the items in one state of the engine, on which it is measured."""

    state: Hashable
    found: Candidates
    sample: DocumentSample


class BlockIndex:
    """Documents that can be searched with a weight per block.

    Attributes:
        engine: Keeps the documents and their vectors.
        histories: Recency and importance from the usage log, by namespace; None without a usage
            log.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        usage: UsageLog | None = None,
        recency: Decay | None = None,
        half_life: float | None = None,
        recency_floor: float = RECENCY_FLOOR,
        importance_floor: float = IMPORTANCE_FLOOR,
    ) -> None:
        """Takes over an open engine and usage log; `close` closes both.

        Args:
            engine: Keeps the documents and their vectors.
            usage: The usage log; needed by searches with weights of recency or importance.
            recency: Decay of the recency of an item with age; see `HistorySettings`.
            half_life: Age at which a use counts half in the traces; see `HistorySettings`.
            recency_floor: Recency below which a confirmed item does not fall; see
                `HistorySettings`.
            importance_floor: Share of its weight that a rating keeps; see `HistorySettings`.
        """
        self.engine = engine
        self._measured: _Measured | None = None
        self._keywords: KeywordIndex | None = None
        self._keywords_lock = threading.Lock()
        settings = HistorySettings(recency, half_life, recency_floor, importance_floor)
        self.histories = (
            None if usage is None else Histories(usage, engine=engine, settings=settings)
        )

    @property
    def history(self) -> History | None:
        """History of the namespace that every log has; None without a usage log."""
        return None if self.histories is None else self.histories.of()

    def history_of(self, namespace: str) -> History:
        """Returns the history of a namespace, with all that was logged until now.

        Raises:
            ConfigError: There is no usage log.
            UsageLogError: The name is not that of a namespace, or the log cannot be read.
        """
        history = require(None if self.histories is None else self.histories.of(namespace))
        history.refresh()
        return history

    def add(self, records: Sequence[Record], vectors: Vectors) -> None:
        """Adds all of the records or none; replaces records with the same ids.

        Args:
            records: The records.
            vectors: Unit blocks (N, layout.dim), same order.

        Raises:
            EngineError: An id is empty or used twice, or the engine cannot write.
            LayoutError: The vectors have another shape, or are not finite.
        """
        self.engine.upsert(records, vectors)

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and returns how many were removed; ignores unknown ids.

        Raises:
            QueryError: `ids` is not a collection of texts.
        """
        if not is_ids(ids):  # the letters of one id may be ids
            raise QueryError(f"ids are a list of texts, such as ['a', 'b'], got {ids!r:.60}")
        return self.engine.delete(ids)

    def save(self) -> None:
        """Writes the changes to the index's folder; does nothing on a server.

        A server stores every change at once.

        Raises:
            ConfigError: The engine was made without a folder.
            IndexFolderError: The folder cannot be written.
        """
        self.engine.save()

    def refresh(self) -> bool:
        """Takes up what others have saved in the folder; see `Engine.refresh`.

        Returns:
            Whether any document was changed; False on a server, whose changes are seen at once.

        Raises:
            IndexFolderError: The folder is gone or damaged, or the index was built again with other
                vectors.
        """
        return self.engine.refresh()

    @classmethod
    def open(cls, target: Path | str, **options: Any) -> Self:
        """Opens an existing index.

        Args:
            target: A folder, or the address of a server; see `engines.choose`.
            options: Keyword arguments of the constructor.

        Raises:
            IndexFolderError: The folder holds no index, or the index is damaged.
            EngineError: A server cannot be reached, or has no such index.
        """
        engine = open_engine(target)
        try:
            return cls(engine, **options)
        except BaseException:
            engine.close()
            raise

    def __enter__(self) -> Self:
        """Returns the index itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the index."""
        self.close()

    def close(self) -> None:
        """Closes the engine, and the usage log if there is one."""
        self.engine.close()
        if self.histories is not None:
            self.histories.log.close()

    def __len__(self) -> int:
        """Returns the number of documents."""
        return self.engine.count()

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.engine.layout

    def check_projection(self, projection: Projection) -> None:
        """Raises unless the documents were projected by this projection.

        Raises:
            IndexFolderError: The documents were projected by another one.
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
        """Returns the best documents by weighted score.

        An approximate engine may miss some of them. Ties keep the engine's order.

        Args:
            query: Unit blocks (layout.dim,).
            weights: A table, or a mapping or text as `Weights.from_mapping` or `Weights.parse`
                takes it; equal weights of relevance alone if None.
            options: Fields of `SearchOptions`.

        Raises:
            ConfigError: An option is wrong, or recency or importance has a weight and there is
                no usage log.
            LayoutError: The query has another dimension, or is not finite.
            WeightsError: A weight is wrong, or the weights are for another layout.
            IndexFolderError: A vector that was read, or a hit, is not finite.
            QueryError: A filter is malformed, or no item has its metadata or values of its kind.
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
        """Searches several queries (Q, layout.dim) in one call of the engine; see `search`."""
        read = SearchOptions.read(options)
        if read.keywords or read.unlike:
            raise ConfigError("keywords and unlike go with queries that are texts: Index.search")
        return self.search_each(queries, weights=self.weights(weights), options=read)

    def search_each(
        self,
        queries: Vectors,
        *,
        weights: Weights,
        options: SearchOptions,
        own: Sequence[Collection[str]] | None = None,
        keywords: Sequence[KeywordScores] | None = None,
    ) -> list[Results]:
        """Searches several queries, each with its own excluded ids.

        Args:
            queries: Unit blocks (Q, layout.dim).
            weights: The weights of all queries.
            options: The options of all queries.
            own: For each query, ids that are left out of its hits, in addition to
                `options.exclude`.
            keywords: For each query, what keywords add to the scores of the items; made by
                `keyword_scores`. The best items are found whether by vector, keywords or both.
        """
        queries = _to_array(queries)
        check_queries(queries, layout=self.layout)
        without = [{*options.exclude, *ids} for ids in own or [()] * len(queries)]
        scorer = self._scorer(self.weights(weights), options=options)
        words = [None] * len(queries) if keywords is None else list(keywords)
        found = self._find(queries, scorer, options=options, exclude=without, keywords=keywords)
        return [
            Results(
                hits=scorer.hits(query, items, k=options.k, keywords=each),
                query_id=uuid.uuid4().hex,
                weights=weights,
                scope=options.scope,
                namespace=options.namespace,
                keywords=options.keywords,
                unlike=options.negatives,
            )
            for query, items, each in zip(queries, found, words, strict=True)
        ]

    def keyword_scores(self, queries: Sequence[str], *, weight: float) -> list[KeywordScores]:
        """Returns what the words of queries add to the scores of the items; see `KeywordIndex`.

        Args:
            queries: Texts.
            weight: What one standard deviation of BM25 adds.

        Raises:
            ConfigError: The index is on a server, or the package bm25s is not installed.
        """
        with self._keywords_lock:
            if self._keywords is None:
                self._keywords = KeywordIndex(self.engine)
        return self._keywords.scores(queries, weight=weight)

    def orders(
        self,
        query: Vectors,
        ids: Sequence[str],
        *,
        weights: Mapping[str, Weights],
        options: SearchOptions | None = None,
        keywords: Mapping[str, KeywordScores] | None = None,
    ) -> dict[str, tuple[str, ...]]:
        """Orders the same items by several weights, best first.

        Args:
            query: Unit blocks (layout.dim,).
            ids: The items; unknown ids are left out.
            weights: Weights by name.
            options: The options of the search: its scope and its namespace count.
            keywords: What keywords add under each of the weights, by name, if they count.

        Returns:
            The ids in the order of each of the weights, by name.
        """
        items = self.engine.fetch(ids)
        ones = Weights(self.layout, *[(1.0,) * len(self.layout)] * len(PARTS))
        if not any(one.uses_history for one in weights.values()):
            ones = ones.relevance_alone()
        # The parts are computed once; every order is a weighted sum of them.
        scorer = self._scorer(ones, options=options or SearchOptions())
        hits = scorer.hits(query, items, k=len(ids))
        if not hits:
            return dict.fromkeys(weights, ())
        parts = np.array([[[h.parts[b][p] for b in self.layout] for p in PARTS] for h in hits])
        orders = {}
        for name, one in weights.items():
            scores = np.tensordot(parts, [getattr(one, part) for part in PARTS], axes=2)
            if keywords is not None:
                scores = scores + keywords[name].of([hit.id for hit in hits])
            orders[name] = tuple(hits[row].id for row in np.argsort(-scores, kind="stable"))
        return orders

    def compare(self, query: Vectors, **options: Any) -> dict[Scope, Results]:
        """Searches once in each scope and returns the results by scope.

        Args:
            query: Unit blocks (layout.dim,).
            options: Keyword arguments of `search`, without `scope`.
        """
        return {scope: self.search(query, scope=scope, **options) for scope in SCOPES}

    def weights(
        self,
        weights: Weights | Mapping[str, Any] | str | None,
        *,
        default: Mapping[str, float] | None = None,
    ) -> Weights:
        """Converts weights, in any form that `search` takes, to a table for this index.

        Args:
            weights: The weights.
            default: Weights of the blocks where `weights` names none; equal ones if None.

        Raises:
            WeightsError: A name or a value is wrong, or the table is for another layout.
        """
        if weights is None:
            return Weights.make(layout=self.layout, blocks=default)
        if isinstance(weights, str):
            return Weights.parse(weights, layout=self.layout, default=default)
        if not isinstance(weights, Weights | Mapping):
            raise WeightsError(f"weights are given by block name or as a text, got {weights!r:.60}")
        if not isinstance(weights, Weights):
            return Weights.from_mapping(weights, layout=self.layout, default=default)
        if weights.layout != self.layout:
            raise WeightsError(
                f"the weights are for the blocks {weights.layout.to_widths()}, the index has "
                f"{self.layout.to_widths()}"
            )
        return weights

    @property
    def score_spread(self) -> ScoreSpread:
        """Standard deviations of the blocks' cosines between items, measured on a sample."""
        return self._measure().sample.score_spread

    @property
    def sample(self) -> Candidates:
        """Some items from all over the index, on which it is measured."""
        return self._measure().found

    @property
    def document_sample(self) -> DocumentSample:
        """The items of `sample`, and what is measured on them."""
        return self._measure().sample

    def _measure(self) -> "_Measured":
        """Returns what was measured in the engine's present state; reads a sample if it is new."""
        state, measured = self.engine.state(), self._measured
        if measured is None or state is None or measured.state != state:
            # The state is asked for first: what changes while the sample is read is measured again.
            found = self.engine.sample(SPREAD_SAMPLE)
            texts = [document.text for document in found.documents]
            sample = DocumentSample(texts, Blocks(found.vectors, self.layout))
            self._measured = measured = _Measured(state, found, sample)
        return measured

    def history_spread(self, *, namespace: str = "") -> dict[Part, HistorySpread]:
        """Measures how much recency and importance vary among the items, on a sample.

        A weight on a part with a standard deviation near 0 hardly changes a ranking.

        Args:
            namespace: Whose uses recency and importance come from.

        Returns:
            The standard deviations of recency and of importance.

        Raises:
            ConfigError: There is no usage log.
        """
        history = self.history_of(namespace)
        sample = self.sample
        own = history.item_values([document.id for document in sample.documents])
        traces = {"recency": history.recency, "importance": history.importance}
        spread: dict[Part, HistorySpread] = {}
        for part, values in zip(PARTS[:2], own, strict=True):
            scores = self.layout.split(sample.vectors * traces[part])
            spread[part] = HistorySpread(
                blocks={name: _deviation(block.sum(axis=1)) for name, block in scores.items()},
                items=_deviation(values),
            )
        return spread

    def _scorer(self, weights: Weights, *, options: SearchOptions) -> Scorer:
        if not weights.uses_history:
            return Scorer(weights)
        history = self.history_of(options.namespace)
        scorer = ItemScorer if options.scope == "item" else BlockScorer
        return scorer(weights, history)

    def _find(
        self,
        queries: Vectors,
        scorer: Scorer,
        *,
        options: SearchOptions,
        exclude: Sequence[Collection[str]],
        keywords: Sequence[KeywordScores] | None,
    ) -> list[Candidates]:
        """Finds candidates without the excluded ids.

        With `options.candidates`, these are the best by relevance (and keywords) alone.
        """
        more = max(map(len, exclude), default=0)
        if options.candidates is None:
            folded, count, priors = scorer.fold(queries), options.k, scorer.priors()
        else:
            if not any(scorer.weights.relevance):  # nor have keywords, which have its share
                raise WeightsError(
                    "candidates are the best by relevance, which has no weight in any block"
                )
            folded = queries * scorer.weights.per_dimension("relevance")
            count, priors = options.candidates, None
        found = self._candidates(folded, count + more, priors, keywords, where=options.where)
        if options.where and not any(items.documents for items in found):
            self._check_filter(options)
        kept = [_without(items, ids) for items, ids in zip(found, exclude, strict=True)]
        if options.candidates is None:
            return kept
        words = [None] * len(queries) if keywords is None else keywords
        return [
            _keep_best(items, one, k=count, keywords=each)
            for items, one, each in zip(kept, folded, words, strict=True)
        ]

    def _candidates(
        self,
        folded: Vectors,
        k: int,
        priors: Priors | None,
        keywords: Sequence[KeywordScores] | None,
        *,
        where: Where | None,
    ) -> list[Candidates]:
        """Searches the engine; with keywords query by query, as each adds other values."""
        if keywords is None:
            return self.engine.search(folded, k=k, priors=priors, where=where)
        return [
            found
            for one, each in zip(folded, keywords, strict=True)
            for found in self.engine.search(one[None], k=k, priors=each.priors(priors), where=where)
        ]

    def _check_filter(self, options: SearchOptions) -> None:
        """Raises if a filter finds nothing because of a name or a kind of value.

        Raises:
            QueryError: No item has such metadata, or metadata of that kind.
        """
        if len(self):
            reason = explain_nothing(options.where, (one for _, one in self.engine.metadata()))
            if reason is not None:
                raise QueryError(f"where: {reason}")


def _deviation(values: AnyFloats) -> float:
    return float(values.std()) if len(values) else 0.0


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


def _keep_best(
    found: Candidates, folded: Vectors, *, k: int, keywords: KeywordScores | None
) -> Candidates:
    """Keeps the best `k` candidates by inner product and keywords, in the order of `found`."""
    if len(found.documents) <= k:
        return found
    scores = found.vectors.astype(np.float64) @ folded
    if keywords is not None:
        scores = scores + keywords.of([document.id for document in found.documents])
    rows = np.sort(np.argsort(-scores, kind="stable")[:k])
    return Candidates(tuple(found.documents[row] for row in rows), found.vectors[rows])
