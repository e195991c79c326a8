"""Index: encodes and stores texts, searches them with weights, and logs which hits were used."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.comparisons import Comparison
from subspace.data.ratings import Rating
from subspace.data.records import Record
from subspace.errors import (
    ConfigError,
    EngineError,
    IndexFolderError,
    LayoutError,
    QueryError,
    WeightsError,
)
from subspace.files import sha256_bytes
from subspace.model import Model, load
from subspace.model.fold import compose
from subspace.model.toward import Toward, make_direction, read_toward
from subspace.retrieval.adapting import adapt_in_index, blocks_of_records
from subspace.retrieval.block_index import BlockIndex
from subspace.retrieval.directions import search_toward
from subspace.retrieval.engines import check_limits, check_target, create_engine
from subspace.retrieval.engines.engine import check_documents
from subspace.retrieval.engines.filters import Where
from subspace.retrieval.hits import Results, Scope
from subspace.retrieval.keywords import KeywordScores
from subspace.retrieval.listing import get_records, list_records
from subspace.retrieval.queries import Like, Query, blocks_of, items_of, read_unlike, texts_of
from subspace.retrieval.search_options import SearchKeywords, SearchOptions
from subspace.retrieval.usage.bandit import Bandit, learn, learn_from_hits
from subspace.retrieval.usage.decay import Decay
from subspace.retrieval.usage.history import IMPORTANCE_FLOOR, RECENCY_FLOOR, HistorySettings
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import Weights

AUTO = "auto"
WeightsLike = Weights | Mapping[str, Any] | str


class Index:
    """Texts that can be searched with a weight per block; made by `create` or `open`.

    Any number of threads may use one index at once, with its usage log and its bandit: each search
    sees the texts before a change or after it, and `save` writes all changes that were made before
    it was called. Any number of processes may open one index; see docs/reliability.md.

    Attributes:
        model: Encodes the texts; centred on the texts that the index was created with.
        blocks: The vectors and the usage history.
        bandit: Chooses the weights of `preset="auto"`; None if there is no bandit.
    """

    def __init__(self, model: Model, blocks: BlockIndex, *, bandit: Bandit | None = None) -> None:
        """Checks that model, vectors and bandit fit each other.

        Raises:
            IndexFolderError: The index was built with another model, or is damaged.
            WeightsError: The bandit has weights for a block that the model does not have.
        """
        blocks.check_projection(model.projection)
        given = model
        centre = blocks.engine.centre
        if centre is not None:
            try:
                model = model.centred_at(centre)
            except LayoutError as error:
                raise IndexFolderError(f"the index is damaged: its centre: {error}") from error
        if bandit is not None:
            bandit.check(blocks.layout)
        self.model, self._given = model, given
        self.blocks = blocks
        self.bandit = bandit
        # Changes so far, and how many of them are on disk.
        self._changes, self._saved = 0, 0
        self._closed = False
        self._lock, self._adapting = threading.Lock(), threading.Lock()

    @classmethod
    def create(
        cls,
        target: Path | str,
        model: Model | Path | str,
        records: Iterable[Record] = (),
        *,
        vectors: Vectors | None = None,
        centre_on: Vectors | None = None,
        engine: str | None = None,
        settings: Mapping[str, Any] | None = None,
        usage: Path | str | None = None,
        recency: Decay | None = None,
        half_life: float | None = None,
        recency_floor: float = RECENCY_FLOOR,
        importance_floor: float = IMPORTANCE_FLOOR,
        bandit: Bandit | None = None,
    ) -> Self:
        """Creates an index of some records, in place of an existing one.

        The blocks other than those of a plain search are centred on the records' mean, which the
        index keeps; see `Model.centred_on`. With no records they keep the model's own. An index in
        a folder is written by `save` or `close`; an existing one stays on disk until then. On a
        server it is replaced at once.

        Args:
            target: The folder; or `postgresql://USER@HOST/DB#TABLE`, `http://HOST:PORT#COLLECTION`
                (Milvus) or `FILE.db#COLLECTION` (Milvus, embedded).
            model: The model that encodes texts, or its name as `subspace.load` takes it.
            records: Records to begin with; see `add`.
            vectors: Raw embeddings of the records; see `add`.
            centre_on: Raw embeddings (N, D) of texts to centre the blocks on; those of `records`
                if None.
            engine: `numpy` (exact) or `faiss` (compressed) for a folder; if None, numpy for a
                folder and the matching engine for an address.
            settings: Settings of the engine, such as `{"dtype": "float16"}`.
            usage: File of the usage log, from which recency and importance are computed.
            recency: Decay of the recency of an item with age; see `HistorySettings`.
            half_life: Age at which a use counts half in the traces; see `HistorySettings`.
            recency_floor: Recency in [0, 1] below which a confirmed item does not fall; see
                `HistorySettings`.
            importance_floor: Share in [0, 1] of its weight that a rating keeps at any age; see
                `HistorySettings`.
            bandit: Chooses the weights of `preset="auto"`.

        Raises:
            CheckpointError: There is no such model.
            ConfigError: The engine does not fit the target, or a setting, the half-life or a
                floor is wrong.
            QueryError: An element is not a `Record`.
            EncoderError: A text is empty.
            LayoutError: The number of vectors is not that of the records, or a vector is not
                finite.
            IndexFolderError: The folder holds something other than an index.
            EngineError: A server cannot be reached or cannot keep a record, or the engine's package
                is not installed.
            UsageLogError: The usage log cannot be opened.
            WeightsError: The bandit has weights for a block that the model does not have.
        """
        loaded = _loaded(model)
        # Wrong arguments must be refused before an existing index is replaced.
        if bandit is not None:
            bandit.check(loaded.layout)
        counted = HistorySettings(recency, half_life, recency_floor, importance_floor)
        check_target(target, engine=engine, settings=settings)
        records = list(records)
        raw = _raw_vectors(loaded, records, vectors)
        centre_on = raw if centre_on is None else centre_on
        centre = loaded.centre_of(centre_on) if len(centre_on) else None
        centred = loaded if centre is None else loaded.centred_at(centre)
        documents, found = _documents(records), centred.project(raw).array
        check_documents(documents, found, layout=loaded.layout)
        check_limits(target, documents)
        with ExitStack() as stack:
            log = None if usage is None else stack.enter_context(UsageLog.open(usage))
            made = create_engine(
                target,
                layout=loaded.layout,
                projection_digest=loaded.projection.digest,
                centre=centre,
                engine=engine,
                settings=settings,
            )
            stack.callback(made.close)
            blocks = BlockIndex(made, usage=log, **vars(counted))
            index = cls(loaded, blocks, bandit=bandit)
            blocks.add(documents, found)
            stack.pop_all()  # open until the index is closed
        index._changes = 1
        return index

    @classmethod
    def open(
        cls,
        target: Path | str,
        model: Model | Path | str,
        *,
        usage: Path | str | None = None,
        recency: Decay | None = None,
        half_life: float | None = None,
        recency_floor: float = RECENCY_FLOOR,
        importance_floor: float = IMPORTANCE_FLOOR,
        bandit: Bandit | None = None,
    ) -> Self:
        """Opens an existing index.

        Args:
            target: As in `create`.
            model: The model that the index was built with, or its name as `subspace.load` takes
                it.
            usage: As in `create`.
            recency: As in `create`.
            half_life: As in `create`.
            recency_floor: As in `create`.
            importance_floor: As in `create`.
            bandit: As in `create`.

        Raises:
            CheckpointError: There is no such model.
            ConfigError: The target is of no known kind, or the half-life or a floor is wrong.
            IndexFolderError: There is no index, it is damaged, or was built with another model.
            EngineError: A server cannot be reached, or has no such index.
            UsageLogError: The usage log cannot be opened.
            WeightsError: The bandit has weights for a block that the model does not have.
        """
        loaded = _loaded(model)
        with ExitStack() as stack:
            log = None if usage is None else stack.enter_context(UsageLog.open(usage))
            counted = HistorySettings(recency, half_life, recency_floor, importance_floor)
            blocks = BlockIndex.open(target, usage=log, **vars(counted))
            stack.callback(blocks.close)
            index = cls(loaded, blocks, bandit=bandit)
            stack.pop_all()  # open until the index is closed
        return index

    def add(self, records: Iterable[Record], *, vectors: Vectors | None = None) -> None:
        """Encodes records and adds all of them or none; replaces records with the same ids.

        Args:
            records: The records; a search can filter by their `metadata` and `factors`.
            vectors: Raw embeddings of the records by the model's encoder (N, D), if they were
                computed before; then nothing is encoded.

        Raises:
            QueryError: An element is not a `Record`.
            EncoderError: A text is empty.
            EngineError: An id is empty or used twice, or the engine cannot write.
            LayoutError: The number of vectors is not that of the records, or a vector is not
                finite.
        """
        self._check_open()
        records = list(records)
        found = self.model.project(_raw_vectors(self.model, records, vectors))
        self.blocks.add(_documents(records), found.array)
        self._note_change()

    def adapt(
        self,
        records: Iterable[Record] = (),
        *,
        comparisons: Sequence[Comparison] = (),
        ratings: Sequence[Rating] = (),
    ) -> Model:
        """Adapts the model to a few labels of texts such as those of the index.

        The index uses the adapted model at once (a search in another thread may still use the one
        before), and needs not be built again: `save` the returned model, and open the index with
        it. Factors that are adapted again start from the model that the index was opened with. See
        `Model.adapt`.

        Args:
            records: Texts with labels (`factors`); those of the index are not encoded again.
            comparisons: Which of two of the records, or of the texts of the index, has more of a
                factor.
            ratings: How well texts of the index served as hits of a search. Ratings of texts that
                are not there any more are left out.

        Returns:
            The adapted model, with which the index can be opened.

        Raises:
            ConfigError: Labels are too few, all alike or of two kinds, or a comparison names a text
                that is not there.
            EncoderError: The encoder cannot be loaded, or a text is empty.
            EngineError: A server cannot be reached.
        """
        with self._adapting:
            adapted = adapt_in_index(
                self.blocks,
                list(records),
                now=self.model,
                before=self._given,
                comparisons=comparisons,
                ratings=ratings,
            )
            learned = set(adapted.adapted["factors"])
            self.model = adapted
        heads = {f: head for f, head in adapted.heads.items() if f in learned}
        return self._given.changed(
            heads={**self._given.heads, **heads},
            nearness=adapted.nearness,
            adapted={**adapted.adapted, "parent": self._given.digest},
        )

    def view(self) -> Self:
        """Returns another index of the same texts and the same log, to be adapted by itself.

        Several users can so search one index, each with what was learned of them. Change and close
        this one, not the view.
        """
        made = type(self)(self._given, self.blocks, bandit=self.bandit)
        made.model = self.model
        return made

    def update(self, records: Iterable[Record]) -> None:
        """Replaces records that are in the index; encodes only texts that have changed.

        Args:
            records: The records as they are to be, each with the id of one in the index.

        Raises:
            QueryError: An element is not a `Record`, or its id is not in the index.
            EncoderError: A text is empty.
            EngineError: An id is used twice, or the engine cannot write.
        """
        self._check_open()
        documents = _documents(list(records))
        self.get([document.id for document in documents])
        vectors = blocks_of_records(documents, blocks=self.blocks, model=self.model)
        self.blocks.add(documents, vectors)
        self._note_change()

    def delete(self, ids: Sequence[str]) -> int:
        """Removes records and returns how many were removed; ignores unknown ids.

        Raises:
            QueryError: `ids` is not a collection of texts.
            EngineError: The index is closed, or the engine cannot write.
        """
        self._check_open()
        removed = self.blocks.delete(ids)
        if removed:
            self._note_change()
        return removed

    def save(self) -> None:
        """Writes the changes to the index's folder; does nothing on a server.

        A server stores every change at once. A folder takes time for what was changed, not for all
        of the index, so that every change can be saved. What others have saved in the folder since
        this index was opened stays: the changes of this index are made to what lies there, and it
        has the others' changes from then on.

        Raises:
            IndexFolderError: The folder cannot be written, or the index was built again with other
                vectors, so that changes of this one cannot be made to it.
        """
        self._check_open()
        before = self._changes
        self.blocks.save()
        with self._lock:
            self._saved = max(self._saved, before)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Returns records by id, in the order of `ids`.

        Raises:
            QueryError: An id is not in the index.
            EngineError: A server cannot be reached.
        """
        return get_records(self.blocks.engine, ids)

    def refresh(self) -> bool:
        """Takes up what others have saved in the folder since it was opened, saved or refreshed.

        Changes of this index that were not saved are made on top. If nothing was saved it takes
        microseconds, so it can be called before every search; other threads may search meanwhile.

        Returns:
            Whether any record was changed; False on a server, whose changes are seen at once.

        Raises:
            IndexFolderError: The folder is gone or damaged, or the index was built again with other
                vectors: open it again.
        """
        return self.blocks.refresh()

    def _check_open(self) -> None:
        """Raises if the index was closed: a change would never be saved."""
        if self._closed:
            raise EngineError("this index is closed; open it again")

    def _note_change(self) -> None:
        with self._lock:
            self._changes += 1

    def __enter__(self) -> Self:
        """Returns the index itself."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Closes the index; saves changes first, unless the block raised an error."""
        if error is not None:
            self._saved = self._changes  # an incomplete change must not replace the index on disk
        self.close()

    def close(self) -> None:
        """Saves changes, and closes the index and its usage log; the bandit stays open."""
        try:
            if self._saved < self._changes:
                self.save()
        finally:
            self._closed = True
            self.blocks.close()

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self.blocks)

    def __repr__(self) -> str:
        """Returns the number of records, the engine and the blocks in one line."""
        engine = type(self.blocks.engine).__name__
        return f"Index({len(self)} records, {engine}, {self.model!r})"

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.blocks.layout

    def search(
        self,
        query: Query,
        *,
        weights: WeightsLike | None = None,
        preset: str | None = None,
        toward: Toward | str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results:
        """Returns the best records for a query.

        Args:
            query: A text; `Like(id)` for records similar to one of the index; or a mapping of
                either by block: `{"topic": "about this", "style": Like("id of another")}`.
            weights: Weights by block name, a text such as `topic=0.7,riv=0.1,0.2,0.7`, or a table
                of recency, importance and relevance by block. If None, or if they name no block,
                the model's default weights count; blocks that a composed query names have the
                largest of these at least.
                The scores of all blocks are scaled to the standard deviation of the first
                block's, so that equal weights have equal effect.
            preset: Name of a preset of recency, importance and relevance, applied to the block
                weights; or `auto` for weights that the bandit chooses.
            toward: Prefers more (above 0) or less (below 0) of a factor or of a class, as a text
                such as `complexity=-1,style:formal=0.5` or a mapping; see `Model.directions`.
                At 1, one standard deviation of it adds as much as one standard deviation of
                relevance. With `candidates` it only reorders these.
            options: `k`, `scope`, `candidates`, `where`, `exclude`, `namespace`, `keywords`,
                `unlike` and `unlike_weight`; see `SearchOptions`. Items in the query and in
                `unlike` are excluded as well.

        Raises:
            EncoderError: A text is empty.
            QueryError: The query names an unknown item or block, or `toward` a factor without a
                direction; or a filter is malformed, or no item has its metadata or values of its
                kind; or `unlike` names a block without a weight.
            ConfigError: An option is wrong; a usage log, a bandit or a package is needed and
                missing; or there are keywords, and the index is on a server.
            WeightsError: A weight is wrong, or the weights are for another layout.
        """
        return self.search_batch([query], weights=weights, preset=preset, toward=toward, **options)[
            0
        ]

    def search_batch(
        self,
        queries: Sequence[Query],
        *,
        weights: WeightsLike | None = None,
        preset: str | None = None,
        toward: Toward | str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> list[Results]:
        """Searches several queries at once; arguments as in `search`.

        With `preset="auto"` the bandit chooses an arm for each query.
        """
        read = SearchOptions.read(options)
        if preset == AUTO and weights is not None:
            raise WeightsError(f"preset '{AUTO}' chooses the weights: give none beside it")
        if preset == AUTO and toward is not None:
            raise ConfigError(f"toward goes with weights or a preset, not with '{AUTO}'")
        leaning = None if toward is None else read_toward(toward)
        vectors = self._away(self.embed(queries), read)
        without = [name for query in read.negatives for name in items_of(query)]
        own = [[*items_of(query), *without] for query in queries]
        words = self._words(queries) if read.keywords else [None] * len(queries)
        if preset == AUTO:
            return [
                self._search_auto(query, vector, own=ids, options=read, words=said)
                for query, vector, ids, said in zip(queries, vectors, own, words, strict=True)
            ]
        # Queries that name other blocks have other default weights.
        tables = [self._mix(weights, preset, query, options=read) for query in queries]
        results: dict[int, Results] = {}
        for given in dict.fromkeys(tables):
            rows = [row for row, table in enumerate(tables) if table == given]
            found = self._search_weighted(
                vectors[rows],
                given,
                leaning,
                options=read,
                own=[own[row] for row in rows],
                words=[words[row] for row in rows],
            )
            results |= dict(zip(rows, found, strict=True))
        return [results[row] for row in range(len(queries))]

    def _search_weighted(
        self,
        vectors: Vectors,
        given: Weights,
        leaning: Mapping[str, float] | None,
        *,
        options: SearchOptions,
        own: Sequence[Sequence[str]],
        words: Sequence[str | None],
    ) -> list[Results]:
        """Searches queries (Q, layout.dim) of equal weights."""
        _check_unlike(options.negatives, given)
        scaled = self._scaled(given)
        keywords = self._keyword_scores(words, given, options=options)
        if leaning is None:
            found = self.blocks.search_each(
                vectors, weights=scaled, options=options, own=own, keywords=keywords
            )
        else:
            directions = {factor: self.model.direction(factor) for factor in leaning}
            found = search_toward(
                self.blocks,
                vectors,
                weights=scaled,
                direction=make_direction(
                    leaning,
                    directions=directions,
                    sample=self.blocks.document_sample,
                    relevance=scaled.relevance,
                ),
                options=options,
                own=own,
                keywords=keywords,
            )
        return [replace(results, weights=given, toward=leaning) for results in found]

    def compare(
        self,
        query: Query,
        *,
        weights: WeightsLike | None = None,
        preset: str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> dict[Scope, Results]:
        """Searches once per scope, and returns the results by scope.

        Takes the arguments of `search` except `toward`, `scope` and the preset `auto`.
        """
        if preset == AUTO:
            raise WeightsError(f"preset '{AUTO}' learns from one scope: search in that one alone")
        scopes: tuple[Scope, Scope] = ("block", "item")
        found = {}
        for scope in scopes:
            options["scope"] = scope
            found[scope] = self.search(query, weights=weights, preset=preset, **options)
        return found

    def default_weights(
        self, query: Query, *, unlike: Query | Sequence[Query] | None = None
    ) -> dict[str, float]:
        """Returns the weights by block of a search without weights; see `search`."""
        named: list[str] = []
        if isinstance(query, Mapping):
            named = blocks_of([query, *read_unlike(unlike)])
        return self.model.default_weights_with(named)

    def embed(self, queries: Sequence[Query]) -> Vectors:
        """Returns the unit blocks of queries (Q, layout.dim); 0 in blocks that a query leaves out.

        Raises:
            EncoderError: A text is empty.
            QueryError: A query names an unknown item or block.
        """
        if isinstance(queries, str):
            raise QueryError("several queries are a list; give one text to `search`")
        texts = list(dict.fromkeys(text for query in queries for text in texts_of(query)))
        ids = list(dict.fromkeys(name for query in queries for name in items_of(query)))
        known: dict[str | Like, Vectors] = {}
        if texts:
            asked = self.model.near_classes(self.model.encode_query(texts).array)
            known.update(zip(texts, asked, strict=True))
        if ids:
            found = self.blocks.engine.fetch(ids)
            asked = self.model.near_classes(found.vectors)
            known.update(
                (Like(record.id), vector)
                for record, vector in zip(found.documents, asked, strict=True)
            )
        missing = [name for name in ids if Like(name) not in known]
        if missing:
            raise QueryError(f"not in the index: {', '.join(missing[:5])}")
        vectors = [self._compose(query, known) for query in queries]
        return np.array(vectors, dtype=np.float32).reshape(len(queries), self.layout.dim)

    def use(
        self,
        items: Mapping[str, float | None] | Iterable[str],
        *,
        query_id: str | None = None,
        namespace: str = "",
    ) -> int:
        """Logs that items were used now.

        Args:
            items: Ids, or a mapping of ids to their success in [0, 1] (None if unknown).
            query_id: `Results.query_id` of the search that found them. Each item of a query counts
                once, however often it is reported; a rating may follow later, once.
            namespace: Whose uses they are: they count in searches with the same namespace.

        Returns:
            How many counted: uses, and ratings of uses that were logged before.

        Raises:
            QueryError: An item is not in the index.
            UsageLogError: A success is outside [0, 1], the namespace is wrong, or the log cannot
                be written.
            ConfigError: There is no usage log.
        """
        if isinstance(items, str):
            raise QueryError("items are a list of ids, or success by id")
        log = self._log()
        successes = dict(items) if isinstance(items, Mapping) else dict.fromkeys(items)
        self._check_ids(successes)
        return log.add(successes.items(), query=query_id, namespace=namespace)

    def pin(self, ids: Iterable[str], *, namespace: str = "") -> int:
        """Pins items, which then count as used just now until they are unpinned.

        The importance of a pinned item does not fall below that of an item that was used with
        success. See `History`.

        Args:
            ids: Ids of items.
            namespace: Whose pins they are: they count in searches with the same namespace.

        Returns:
            How many were not pinned before.

        Raises:
            QueryError: An item is not in the index.
            UsageLogError: The namespace is wrong, or the log cannot be written.
            ConfigError: There is no usage log.
        """
        log, names = self._log(), _ids(ids)
        self._check_ids(names)
        return log.pin(names, namespace=namespace)

    def unpin(self, ids: Iterable[str], *, namespace: str = "") -> int:
        """Removes pins and returns how many there were; arguments and errors as in `pin`.

        Items that were pinned and have left the index can be unpinned.
        """
        log, names = self._log(), _ids(ids)
        pinned = set(log.pins(namespace=namespace))
        self._check_ids([name for name in names if name not in pinned])
        return log.unpin(names, namespace=namespace)

    def pins(self, *, namespace: str = "") -> tuple[str, ...]:
        """Returns the ids of the pinned items of a namespace, those pinned first at the front.

        Raises:
            UsageLogError: The namespace is wrong, or the log cannot be read.
            ConfigError: There is no usage log.
        """
        return self._log().pins(namespace=namespace)

    def _check_ids(self, ids: Iterable[str]) -> None:
        """Raises `QueryError` unless all of the ids are in the index."""
        names = list(ids)
        there = {record.id for record in self.blocks.engine.fetch(names).documents}
        unknown = [name for name in names if name not in there]
        if unknown:
            raise QueryError(f"not in the index: {', '.join(map(str, unknown[:5]))}")

    def feedback(
        self,
        query_id: str,
        ratings: Mapping[str, float] | float | None = None,
        *,
        hits: Mapping[str, float] | None = None,
        scale: tuple[float, float] = (1, 5),
        namespace: str = "",
    ) -> None:
        """Tells the bandit how good the hits of a search with `preset="auto"` were.

        A search can be rated only once: as a whole, or hit by hit, from which the bandit learns
        much faster.

        Args:
            query_id: `Results.query_id` of the search.
            ratings: One success in [0, 1], or ratings of `recency`, `importance` and `relevance`
                (at least one of them) on `scale`.
            hits: Success in [0, 1] by id of the hits, in place of `ratings`; hits that are left out
                had none.
            scale: The worst and the best rating.
            namespace: The namespace of the search.

        Raises:
            BanditError: A rating or a success is wrong, an id was not among the hits, or the
                bandit did not choose the search's weights.
            UsageLogError: The log has no such search in the namespace, or it was rated before.
            ConfigError: There is no usage log or no bandit, or not one of `ratings` and `hits`.
        """
        if self.bandit is None:
            raise ConfigError("there is no bandit to learn from feedback: give one")
        log = self._log()
        if hits is not None and ratings is None:
            learn_from_hits(
                self.bandit, log=log, query_id=query_id, successes=hits, namespace=namespace
            )
        elif ratings is not None and hits is None:
            learn(
                self.bandit,
                log=log,
                query_id=query_id,
                ratings=ratings,
                namespace=namespace,
                scale=scale,
            )
        else:
            raise ConfigError("give ratings of the search, or the success of its hits")

    def _mix(
        self,
        weights: WeightsLike | None,
        preset: str | None,
        query: Query,
        *,
        options: SearchOptions,
    ) -> Weights:
        """Returns the table of weights for `weights` and `preset`, before scaling."""
        default = self.default_weights(query, unlike=options.unlike)
        table = self.blocks.weights(weights, default=default)
        if preset is None:
            return table
        if table.uses_history:
            raise WeightsError("give a preset, or weights of recency and importance, not both")
        blocks = dict(zip(self.layout, table.relevance, strict=True))
        return Weights.make(layout=self.layout, blocks=blocks, preset=preset)

    def _scaled(self, weights: Weights) -> Weights:
        return weights.scaled(self.model.score_scales)

    def _away(self, vectors: Vectors, options: SearchOptions) -> Vectors:
        """Takes what hits are not to be like from the blocks of queries (Q, layout.dim).

        A block is taken from by the mean of those that have it.
        """
        if not options.negatives or not options.unlike_weight:
            return vectors
        found = self.embed(options.negatives)
        count = np.ones(self.layout.dim, dtype=np.float32)
        for name in self.layout:
            place = self.layout.slice(name)
            count[place] = max(1, int(found[:, place].any(axis=1).sum()))
        return np.asarray(vectors - np.float32(options.unlike_weight) * found.sum(axis=0) / count)

    def _words(self, queries: Sequence[Query]) -> list[str | None]:
        """Returns the text of each query whose words are searched for.

        Raises:
            QueryError: A composed query names no block that a search without weights uses.
        """
        default = self.model.default_weights
        names = list(dict.fromkeys(name for query in queries for name in items_of(query)))
        texts = {one.id: one.text for one in self.blocks.engine.fetch(names).documents}
        found: list[str | None] = []
        for query in queries:
            parts = [query]
            if isinstance(query, Mapping):
                parts = [query[name] for name in query if default.get(name)]
            if not parts:
                by = " or ".join(name for name in default if default[name])
                raise QueryError(
                    f"keywords are the words of a query's {by}, which it does not name"
                )
            said = [texts.get(one.id, "") if isinstance(one, Like) else str(one) for one in parts]
            found.append("\n".join(said))
        return found

    def _keyword_scores(
        self, words: Sequence[str | None], weights: Weights, *, options: SearchOptions
    ) -> list[KeywordScores] | None:
        """Returns what keywords add for each query; None if they do not count."""
        said = [text for text in words if text is not None]
        if not options.keywords:
            return None
        # As `_scaled` does for blocks, in standard deviations of the first block's scores.
        unit = self.model.score_spreads[self.layout.names[0]]
        weight = options.keywords * weights.relevance_share * unit
        return self.blocks.keyword_scores(said, weight=weight)

    def _search_auto(
        self,
        query: Query,
        vector: Vectors,
        *,
        own: Sequence[str],
        options: SearchOptions,
        words: str | None,
    ) -> Results:
        if self.bandit is None:
            raise ConfigError(f"there is no bandit to choose for preset '{AUTO}': give one")
        log = self._log()
        arm = self.bandit.choose()
        default = self.default_weights(query, unlike=options.unlike)
        tables = {
            name: self.bandit.weights(name, layout=self.layout, default=default)
            for name in self.bandit.rivals(arm)
        }
        _check_unlike(options.negatives, tables[arm])
        keywords = {
            name: self._keyword_scores([words], weights, options=options)
            for name, weights in tables.items()
        }
        (found,) = self.blocks.search_each(
            vector[None],
            weights=self._scaled(tables[arm]),
            options=options,
            own=[own],
            keywords=keywords[arm],
        )
        orders = self.blocks.orders(
            vector,
            [hit.id for hit in found],
            weights={name: self._scaled(weights) for name, weights in tables.items()},
            options=options,
            keywords={name: each[0] for name, each in keywords.items() if each} or None,
        )
        asked = sha256_bytes(np.round(vector, 3).tobytes() + options.namespace.encode())
        self.bandit.remember(found.query_id, orders, asked=asked)
        log.add_query(found.query_id, arm=arm, namespace=options.namespace)
        return replace(found, weights=tables[arm], arm=arm)

    def _log(self) -> UsageLog:
        if self.blocks.histories is None:
            raise ConfigError("there is no usage log to write to: give one")
        return self.blocks.histories.log

    def _compose(self, query: Query, known: Mapping[str | Like, Vectors]) -> Vectors:
        if not isinstance(query, Mapping):
            return known[query]
        return compose({block: known[part] for block, part in query.items()}, layout=self.layout)

    # The last method: after it, `list` in this class is no longer Python's own.
    def list(
        self, *, where: Where | None = None, after: str | None = None, limit: int | None = None
    ) -> list[Record]:
        """Returns a page of records by rising id, which changes elsewhere do not shift.

        Args:
            where: Metadata that the records must have, as in `search`.
            after: The last id of the page before; None for the first page.
            limit: Largest number of records; None for all.

        Raises:
            QueryError: A filter is malformed, or no item has its metadata or values of its kind.
            ConfigError: `limit` is no whole number of 1 or more.
            EngineError: A server cannot be reached.
        """
        return list_records(self.blocks.engine, where=where, after=after, limit=limit)


def _raw_vectors(model: Model, records: Sequence[Record], vectors: Vectors | None) -> Vectors:
    """Encodes records, unless their raw vectors are given."""
    _check_records(records)
    if vectors is None and not records:  # nothing that an encoder would have to be loaded for
        return np.empty((0, model.projection.input_dim), dtype=np.float32)
    if vectors is None:
        encoder = model.open_encoder()
        encoder.prepare()  # searches find it
        return encoder.encode([record.text for record in records])
    if len(vectors) != len(records):
        raise LayoutError(f"{len(records)} records, {len(vectors)} vectors")
    return vectors


def _check_unlike(unlike: Sequence[Query], weights: Weights) -> None:
    """Raises `QueryError` if examples by block name a block that does not count in a search."""
    counting = dict(zip(weights.layout, weights.relevance, strict=True))
    for name in blocks_of(unlike):
        if not counting.get(name):
            raise QueryError(
                f"unlike names the block '{name}', which has no weight in this search: give it one"
            )


def _ids(ids: Any) -> list[str]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise QueryError("items are a list of ids")
    return list(dict.fromkeys(ids))


def _documents(records: Sequence[Record]) -> list[Record]:
    """Returns the records with their factors among the metadata, so that filters know them."""
    _check_records(records)
    return [replace(one, metadata={**one.factors, **one.metadata}) for one in records]


def _check_records(records: Sequence[Record]) -> None:
    if not all(isinstance(record, Record) for record in records):
        raise QueryError("records are given as Record(id=..., text=..., metadata={...})")


def _loaded(model: Model | Path | str) -> Model:
    return model if isinstance(model, Model) else load(model)
