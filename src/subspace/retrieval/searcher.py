"""Searcher: texts in, weighted hits out, and what became of them back in."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import Document
from subspace.encoder import Encoder
from subspace.errors import ConfigError, QueryError, WeightsError
from subspace.model import Checkpoint, load_checkpoint
from subspace.model.linear_heads import BlockProbes, load_probes
from subspace.retrieval.directions import Toward, read_toward, search_toward
from subspace.retrieval.engines import Where
from subspace.retrieval.hits import Results, Scope
from subspace.retrieval.index import BlockIndex
from subspace.retrieval.queries import Like, Query, items_of, texts_of
from subspace.retrieval.usage.bandit import Bandit, learn
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import Weights

AUTO = "auto"


class Searcher:
    """Searches an index with the checkpoint that made it.

    Use one in each thread: connections to the usage log and to the bandit's file are of the thread
    that opened them.

    Attributes:
        index: What is searched.
        bandit: What chooses the weights of `preset="auto"`; None if nothing does.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        index: BlockIndex,
        *,
        encoder: Encoder,
        bandit: Bandit | None = None,
    ) -> None:
        """Checks that they belong together.

        Raises:
            CheckpointError: The encoder is not the one the checkpoint was trained on.
            IndexFolderError: The index was built with another checkpoint.
            WeightsError: The bandit has weights of blocks that are not there.
        """
        checkpoint.check_encoder(encoder.fingerprint)
        index.check_projection(checkpoint.projection)
        if bandit is not None:
            bandit.check(index.layout)
        self.index = index
        self.bandit = bandit
        self._projection = checkpoint.projection
        self._folder = checkpoint.folder
        self._encoder = encoder

    @classmethod
    def open(
        cls,
        checkpoint: Path | str,
        index: Path | str,
        *,
        usage: Path | str | None = None,
        bandit: Bandit | None = None,
        encoder_model: str | None = None,
        **options: Any,
    ) -> Self:
        """Opens a checkpoint and an index.

        Args:
            checkpoint: Folder, Lightning file or hub id.
            index: Folder written by `subspace index`, or the address of a server.
            usage: The usage log's file; recency and importance come from it.
            bandit: What chooses the weights of `preset="auto"`.
            encoder_model: Where the encoder lies, if not where the checkpoint says.
            options: `recency` and `half_life`, as `BlockIndex` takes them.
        """
        loaded = load_checkpoint(checkpoint)
        with ExitStack() as stack:
            log = None if usage is None else stack.enter_context(UsageLog.open(usage))
            opened = BlockIndex.open(index, usage=log, **options)
            stack.callback(opened.close)
            opened.check_projection(loaded.projection)  # before the encoder, which takes seconds
            encoder = Encoder(loaded.encoder_spec(model=encoder_model))
            searcher = cls(loaded, opened, encoder=encoder, bandit=bandit)
            stack.pop_all()  # open until the searcher is closed
        return searcher

    @cached_property
    def _probes(self) -> BlockProbes:
        return load_probes(self._folder, layout=self.layout)

    def add(self, documents: Sequence[Document]) -> None:
        """Encodes documents and adds them, in the place of those with the same ids.

        An index in a folder is written by `save`.

        Raises:
            EncoderError: A text is empty.
            EngineError: An id is empty or used twice, or the engine cannot write.
        """
        if not all(isinstance(document, Document) for document in documents):
            raise QueryError("documents are given as Document(id=..., text=..., metadata={...})")
        raw = self._encoder.encode([document.text for document in documents])
        self.index.add(documents, raw, projection=self._projection)

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and gives their number; ids that are not there are passed over."""
        return self.index.delete(ids)

    def save(self) -> None:
        """Writes an index in a folder to where it was opened from.

        Raises:
            IndexFolderError: The disk refuses.
        """
        self.index.save()

    def __enter__(self) -> Self:
        """The searcher itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Closes the index and the usage log, if there is one; the bandit is the caller's."""
        self.index.close()

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.index.layout

    def search(
        self,
        query: Query,
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        preset: str | None = None,
        scope: Scope = "block",
        k: int = 10,
        candidates: int | None = None,
        where: Where | None = None,
        standardize: bool = False,
        toward: Toward | str | None = None,
        exclude: Collection[str] = (),
    ) -> Results:
        """The best `k` documents for a query.

        Args:
            query: A text; `Like(id)` for more like an item; or a mapping of either by block:
                `{"topic": "about this", "style": Like("written like that")}`.
            weights: A 3 x B table, weights by block name, or a text such as
                `topic=0.7,riv=0.1,0.2,0.7`; equal weights of relevance alone if None.
            preset: A mix of recency, importance and relevance by name, for all blocks that
                `weights` names; or `auto`, for what the bandit chooses.
            scope: What recency and importance are of: `block` or `item`.
            k: How many; more than there are gives all.
            candidates: If given, only this many best by relevance alone are scored in full.
            where: Metadata that hits must have: a value, or one of several, by name.
            standardize: Let weights count in standard deviations of each block's scores.
            toward: More or less of a factor: `complexity=-1,specificity=0.5`, or such a mapping.
                A standard deviation of the factor weighs so many times one of relevance. With
                `candidates` it orders those alone.
            exclude: Ids that are not to be among the hits, beside those of items in the query.

        Raises:
            EncoderError: A text is empty.
            QueryError: An item or a block is not there.
            ConfigError: `k` is no number from 1, or there is no usage log or no bandit.
            WeightsError: A weight is wrong, or they are for another layout.
            CheckpointError: `toward` is asked for and the checkpoint has no probes.
        """
        return self.search_batch(
            [query],
            weights=weights,
            preset=preset,
            scope=scope,
            k=k,
            candidates=candidates,
            where=where,
            standardize=standardize,
            toward=toward,
            exclude=[exclude],
        )[0]

    def search_batch(
        self,
        queries: Sequence[Query],
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        preset: str | None = None,
        scope: Scope = "block",
        k: int = 10,
        candidates: int | None = None,
        where: Where | None = None,
        standardize: bool = False,
        toward: Toward | str | None = None,
        exclude: Sequence[Collection[str]] | None = None,
    ) -> list[Results]:
        """`search` of several queries, encoded and scored together.

        Args:
            queries: As `search` takes them.
            weights: As in `search`, the same for all queries.
            preset: As in `search`; `auto` chooses for each query.
            scope: As in `search`.
            k: As in `search`.
            candidates: As in `search`.
            where: As in `search`.
            standardize: As in `search`.
            toward: As in `search`.
            exclude: For each query, ids that are not to be among its hits.
        """
        options: dict[str, Any] = {
            "scope": scope,
            "k": k,
            "candidates": candidates,
            "where": where,
            "standardize": standardize,
        }
        if preset == AUTO and weights is not None:
            raise WeightsError(f"preset '{AUTO}' chooses the weights: give none beside it")
        table = None if preset == AUTO else self._mix(weights, preset)
        vectors = self.embed(queries)
        without = [
            {*items_of(query), *ids}
            for query, ids in zip(queries, exclude or [()] * len(queries), strict=True)
        ]
        if toward is not None:
            if table is None:
                raise ConfigError(f"toward goes with weights or a preset, not with '{AUTO}'")
            return search_toward(
                self.index,
                vectors,
                weights=table,
                toward=read_toward(toward),
                probes=self._probes,
                exclude=without,
                **options,
            )
        if table is not None:
            return self.index.search_batch(vectors, weights=table, exclude=without, **options)
        return [
            self._search_auto(vector, exclude=ids, **options)
            for vector, ids in zip(vectors, without, strict=True)
        ]

    def compare(
        self,
        query: Query,
        *,
        weights: Weights | Mapping[str, Any] | str | None = None,
        preset: str | None = None,
        k: int = 10,
        candidates: int | None = None,
        where: Where | None = None,
        standardize: bool = False,
    ) -> dict[Scope, Results]:
        """The same search in block and in item scope, side by side; arguments as in `search`."""
        return self.index.compare(
            self.embed([query])[0],
            weights=self._mix(weights, preset),
            exclude=items_of(query),
            k=k,
            candidates=candidates,
            where=where,
            standardize=standardize,
        )

    def embed(self, queries: Sequence[Query]) -> Vectors:
        """Unit blocks (Q, layout.dim) of queries; 0 in blocks that a query leaves out.

        Raises:
            EncoderError: A text is empty.
            QueryError: An item or a block is not there.
        """
        if isinstance(queries, str):
            raise QueryError("several queries are a list; give one text to `search`")
        texts = list(dict.fromkeys(text for query in queries for text in texts_of(query)))
        ids = list(dict.fromkeys(name for query in queries for name in items_of(query)))
        known: dict[str | Like, Vectors] = {}
        if texts:
            encoded = self._projection.queries(self._encoder.encode(texts, kind="query"))
            known.update(zip(texts, encoded, strict=True))
        if ids:
            found = self.index.engine.fetch(ids)
            known.update(
                (Like(document.id), vector)
                for document, vector in zip(found.documents, found.vectors, strict=True)
            )
        missing = [name for name in ids if Like(name) not in known]
        if missing:
            raise QueryError(f"not in the index: {', '.join(missing[:5])}")
        vectors = [self._compose(query, known) for query in queries]
        return np.array(vectors, dtype=np.float32).reshape(len(queries), self.layout.dim)

    def use(
        self, items: Mapping[str, float | None] | Iterable[str], *, query_id: str | None = None
    ) -> None:
        """Logs that items were used now.

        Args:
            items: Ids, or ids with the success of each in [0, 1] (None where nobody can say).
            query_id: `Results.query_id` of the search that found them.

        Raises:
            QueryError: An item is not in the index.
            UsageLogError: A success is outside [0, 1], or the log cannot be written.
            ConfigError: There is no usage log.
        """
        if isinstance(items, str):
            raise QueryError("items are a list of ids, or success by id")
        log = self._log()
        successes = dict(items) if isinstance(items, Mapping) else dict.fromkeys(items)
        there = {document.id for document in self.index.engine.fetch(list(successes)).documents}
        unknown = [name for name in successes if name not in there]
        if unknown:
            raise QueryError(f"not in the index: {', '.join(map(str, unknown[:5]))}")
        log.add(successes.items(), query=query_id)

    def feedback(
        self,
        query_id: str,
        ratings: Mapping[str, float] | float,
        *,
        scale: tuple[float, float] = (1, 5),
    ) -> None:
        """Tells the bandit how good the hits of a search with `preset="auto"` were; once.

        Args:
            query_id: `Results.query_id` of the search.
            ratings: Ratings of recency, importance and relevance (one of them or more) on
                `scale`, or one success in [0, 1].
            scale: The worst and the best rating: (1, 5), or (0, 1).

        Raises:
            BanditError: A rating is wrong, or the search was not the bandit's.
            UsageLogError: There was no such search, or it was rated before.
            ConfigError: There is no usage log or no bandit.
        """
        if self.bandit is None:
            raise ConfigError("there is no bandit to learn from feedback: give one")
        learn(self.bandit, log=self._log(), query_id=query_id, ratings=ratings, scale=scale)

    def _mix(
        self, weights: Weights | Mapping[str, Any] | str | None, preset: str | None
    ) -> Weights:
        if preset == AUTO:
            raise WeightsError(f"preset '{AUTO}' learns from one scope: search in that one alone")
        if preset is None:
            return self.index.weights(weights)
        if weights is None:
            return Weights.make(layout=self.layout, preset=preset)
        table = self.index.weights(weights)
        if table.uses_history:
            raise WeightsError("give a preset, or weights of recency and importance, not both")
        blocks = dict(zip(self.layout, table.relevance, strict=True))
        return Weights.make(layout=self.layout, blocks=blocks, preset=preset)

    def _search_auto(self, vector: Vectors, **options: Any) -> Results:
        if self.bandit is None:
            raise ConfigError(f"there is no bandit to choose for preset '{AUTO}': give one")
        log = self._log()
        arm = self.bandit.choose()
        weights = self.bandit.weights(arm, layout=self.layout)
        results = replace(self.index.search(vector, weights=weights, **options), arm=arm)
        log.add_query(results.query_id, arm=arm)
        return results

    def _log(self) -> UsageLog:
        if self.index.history is None:
            raise ConfigError("there is no usage log to write to: give one")
        return self.index.history.log

    def _compose(self, query: Query, known: Mapping[str | Like, Vectors]) -> Vectors:
        if not isinstance(query, Mapping):
            return known[query]
        if not query:
            raise QueryError("a composed query needs a text or an item for one block at least")
        composed = np.zeros(self.layout.dim, dtype=np.float32)
        for block, part in query.items():
            if block not in self.layout.names:
                raise QueryError(f"no block '{block}'; the blocks are {', '.join(self.layout)}")
            place = self.layout.slice(block)
            composed[place] = known[part][place]
        return composed
