"""MilvusEngine: an index in Milvus: embedded in this process (milvus-lite), a server or a cluster.

All blocks are stored in one vector field, which is searched by inner product with the weighted
query. Milvus's own search over several vector fields computes another score: a document that is
not among the hits of a field gets nothing for that field. The fields of a collection (format 1):

========  ============  ===================================================================
id        VARCHAR       the primary key
seq       INT64         order of adding; a document that is replaced keeps its place
draw      INT64         a hash of the id, below 2 ** 32; the smallest values are a sample
tags      VARCHAR       a hash of each name and value (or member) of the metadata, for filters
text      VARCHAR       at most 65,535 bytes, as every text in Milvus
metadata  JSON
vector    FLOAT_VECTOR  unit blocks
========  ============  ===================================================================

`where` filters by tags, not by the field `metadata`: Milvus cannot filter by every name, and in
milvus-lite True equals 1 and filters on JSON are many times slower. Also, a hash needs no escaping.
For a range, the metadata of all documents are read, and those in the range are searched by id.

The metadata of the index are JSON in the collection's description. milvus-lite does not keep
descriptions, so in a file they are in a property `subspace` as well::

    {"subspace": 1, "projection": "...", "blocks": {"topic": 96, ...}, "index": "FLAT"}

A search in Milvus cannot add priors; the module `threshold` describes how they are added.
"""

import math
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.metadata import Value
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError, MissingIndexError
from subspace.model.centre import Centre
from subspace.retrieval.engines.engine import (
    Candidates,
    Priors,
    check_documents,
    check_k,
    check_queries,
)
from subspace.retrieval.engines.filters import Condition, Where, check_where
from subspace.retrieval.engines.milvus_connection import (
    INDEXES,
    Connection,
    IndexMetadata,
    Target,
    connected,
)
from subspace.retrieval.engines.milvus_rows import (
    DRAWS,
    MESSAGE_BYTES,
    Row,
    batches,
    can_be_id,
    has_tags,
    id_in,
    sliced,
    to_row,
    unpack,
    wanted_tags,
)
from subspace.retrieval.engines.threshold import search_by_similarity, search_with_priors

# Milvus's limits on the hits of one query, and on `ef`, the width of an HNSW search.
_MOST_HITS = 16_384
_MOST_EF = 32_768
_DIM = 32_768
# Seconds after which changes of other clients are noticed at the latest.
_NOTICED_S = 60.0
# Largest number of documents in the answer to one search, and to one query by ids.
_HITS, _IDS = 2048, 256
# Rows after which milvus-lite is flushed: until then it searches them row by row. A flush takes
# 20 ms.
_FLUSH_ROWS = 256
# Mean number of documents in a slice, of which a server gives 16,384 at most.
_SLICE = 4096


class MilvusEngine:
    """An engine with documents and vectors in one collection of Milvus."""

    name = "milvus"

    def __init__(self, connection: "Connection", about: "IndexMetadata") -> None:
        """Takes an open connection; use `open` or `create` instead."""
        self._connection = connection
        self._about = about
        self._last_seq = 0
        self._not_flushed = 0
        self._changes = 0
        self._lock = threading.RLock()

    @classmethod
    def open(cls, target: str) -> Self:
        """Opens an existing collection.

        Args:
            target: `http(s)://HOST:PORT#COLLECTION` or `PATH/FILE.db#COLLECTION`. The environment
                variable MILVUS_TOKEN may hold a server's token.

        Raises:
            ConfigError: The target has another form.
            EngineError: There is no such collection, it is no index of subspace, Milvus cannot be
                reached, or its client is not installed.
        """
        place = Target.parse(target)
        if place.file is not None and not place.file.exists():
            raise MissingIndexError(
                f"there is no index {place.address}; build one with `subspace index`"
            )
        with connected(place) as connection:
            about = connection.about()
            if about is None:
                raise MissingIndexError(
                    f"there is no collection '{place.collection}' in {place.address}; build it "
                    "with `subspace index`"
                )
            connection.call("load_collection")
            return cls(connection, about)

    @classmethod
    def create(
        cls,
        target: str,
        *,
        layout: BlockLayout,
        projection_digest: str,
        centre: Centre | None = None,
        index: str = "FLAT",
    ) -> Self:
        """Makes an empty collection, which replaces an index of the same name.

        Args:
            target: As in `open`; the parent folder of a file is made.
            layout: The blocks of every vector.
            projection_digest: Digest of the projection of the vectors, before it is centred.
            centre: What the model's blocks were centred on, if anything.
            index: `FLAT`, which is exact, or `HNSW`, which is faster.

        Raises:
            ConfigError: The target has another form, or there is no such type of index.
            EngineError: The collection exists and is no index of subspace, there are too many
                dimensions, Milvus cannot be reached, or its client is not installed.
        """
        if index not in INDEXES:
            raise ConfigError(f"index is one of {', '.join(INDEXES)}, not {index!r}")
        if layout.dim > _DIM:
            raise EngineError(f"Milvus keeps up to {_DIM} dimensions, the blocks have {layout.dim}")
        place = Target.parse(target)
        about = IndexMetadata(
            layout=layout, projection=projection_digest, index=index, centre=centre
        )
        place.make_folder()
        with connected(place) as connection:
            if connection.about() is not None:
                connection.call("drop_collection")
            connection.make(about)
            return cls(connection, about)

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        return self._about.layout

    @property
    def projection_digest(self) -> str:
        """Digest of the projection that made the vectors, before it was centred."""
        return self._about.projection

    @property
    def centre(self) -> Centre | None:
        """What the model's blocks were centred on; None for its own mean."""
        return self._about.centre

    @property
    def exact(self) -> bool:
        """Whether a search is guaranteed to find the best documents: only with FLAT."""
        return self._about.index == "FLAT"

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors; replaces documents with the same ids.

        All documents are checked before any is written. They are written in batches: if one fails,
        the earlier ones have been written.

        Raises:
            EngineError: An id is empty or given twice, an id, text or metadata cannot be stored in
                Milvus, or writing fails.
            LayoutError: The vectors are not (len(documents), dim), or not finite.
        """
        check_documents(documents, vectors, layout=self.layout)
        rows = [to_row(d, vector) for d, vector in zip(documents, vectors, strict=True)]
        with self._lock:
            self._check_collection()
            self._changes += 1
            self._upsert(rows)

    def _upsert(self, rows: list[Row]) -> None:
        places = {row["id"]: row["seq"] for row in self._rows([row["id"] for row in rows], "seq")}
        self._last_seq = max(self._last_seq, time.time_ns())
        for row in rows:
            self._last_seq += row["id"] not in places
            row["seq"] = places.get(row["id"], self._last_seq)
        written = 0
        for batch in batches(rows):
            try:
                self._connection.call("upsert", data=batch)
            except EngineError as error:
                raise EngineError(
                    f"{error} ({written} of {len(rows)} documents have been written; upsert all of "
                    "them again to complete it)"
                ) from error
            written += len(batch)
        self._flush(len(rows))

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and returns their number; unknown ids are ignored."""
        with self._lock:
            self._check_collection()
            self._changes += 1
            there = [row["id"] for row in self._rows(ids, "id")]
            for some in sliced(there, _IDS):
                self._connection.call("delete", filter=id_in(some))
        return len(there)

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Candidates]:
        """Finds the best `k` for each query and ties with the last, in the order of adding.

        Without priors this is one call to Milvus for all queries, unless more than 2,048 documents
        are read or many scores tie.

        Raises:
            ConfigError: `k` is no whole number of 1 or more.
            LayoutError: The queries are not (Q, dim), or not finite.
            QueryError: `where` is not valid; see `filters`.
            EngineError: `k` is above Milvus's limit of 16,384 hits, or Milvus cannot be reached.
        """
        k = check_k(k)
        check_queries(queries, layout=self.layout)
        conditions = check_where(where)
        among = self._in_ranges(conditions)
        if among == []:  # a list of no ids would be no condition
            return [self._found([])] * len(queries)
        scan = _Scan(self, queries.astype(np.float32, copy=False), conditions, among)
        if k > _MOST_HITS and self.count(where) > _MOST_HITS:
            raise EngineError(f"Milvus gives {_MOST_HITS:,} hits at most; ask for fewer than {k:,}")
        k = min(k, _MOST_HITS)
        if priors is None or not len(priors.values):
            found = search_by_similarity(scan.queries, k=k, nearest=scan.nearest, limit=_MOST_HITS)
        else:
            found = search_with_priors(
                scan.queries,
                k=k,
                priors=priors,
                nearest=scan.nearest,
                fetch=scan.fetch,
                limit=_MOST_HITS,
            )
        return [scan.in_order(items) for items in found]

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Returns documents by id, in the order of `ids`; unknown ids are left out."""
        rows = {row["id"]: row for row in self._rows(ids, *_Scan.FIELDS)}
        return self._found([rows[name] for name in ids if name in rows])

    def sample(self, count: int) -> Candidates:
        """Returns the `count` documents with the smallest hashes of ids; all if there are fewer."""
        total = self.count()
        # Four standard deviations above `count`: a smaller draw is less likely than 1 in 10,000.
        share = (count + 4 * math.sqrt(max(count, 0)) + 4) / max(total, 1)
        drawn = self._connection.call(
            "query",
            filter=f"draw < {min(DRAWS, math.ceil(share * DRAWS))}",
            output_fields=["id", "draw"],
        )
        drawn = sorted(drawn, key=lambda row: (row["draw"], row["id"]))[: max(count, 0)]
        rows = self._rows([row["id"] for row in drawn], *_Scan.FIELDS)
        return self._found(sorted(rows, key=lambda row: int(row["seq"])))

    def count(self, where: Where | None = None) -> int:
        """Counts all documents, or those whose metadata match `where`."""
        conditions = check_where(where)
        among = self._in_ranges(conditions)
        if among is not None:
            return len(among)
        condition = has_tags(wanted_tags(conditions))
        rows = self._connection.call("query", filter=condition, output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    def state(self) -> Hashable:
        """Returns the number of changes here and of documents, and the present minute.

        Milvus counts no changes, so it can take a minute until others' are noticed.
        """
        return self._changes, self.count(), time.monotonic() // _NOTICED_S

    def metadata(self) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Reads the id and the metadata of every document."""
        yield from self._read_metadata("")

    def save(self) -> None:
        """Does nothing: every call writes its changes before it returns."""

    def refresh(self) -> bool:
        """Does nothing: every call sees what others have changed."""
        return False

    def close(self) -> None:
        """Closes the connection; milvus-lite stops with the last connection to its file."""
        self._connection.close()

    def _check_collection(self) -> None:
        """Raises `EngineError` if another client has made the collection for other vectors."""
        now = self._connection.about()
        if now is None or now.to_json() != self._about.to_json():
            place = self._connection.place
            raise EngineError(
                f"the collection '{place.collection}' in {place.address} was made anew by somebody "
                "else; open it again"
            )

    def _in_ranges(self, conditions: Sequence[Condition]) -> list[str] | None:
        """Returns the ids of the documents that meet all conditions; None if none is a range."""
        if not any(condition.bounds for condition in conditions):
            return None
        return [
            name
            for name, metadata in self._read_metadata(has_tags(wanted_tags(conditions)))
            if _meets(conditions, metadata)
        ]

    def _read_metadata(self, condition: str) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Reads ids and metadata in slices of the field `draw`, as an answer has a limit."""
        slices = -(-self.count() // _SLICE) or 1
        edges = [DRAWS * number // slices for number in range(slices + 1)]
        for start, end in pairwise(edges):
            drawn = f"draw >= {start} and draw < {end}"
            rows = self._connection.call(
                "query",
                filter=" and ".join(filter(None, [drawn, condition])),
                output_fields=["id", "metadata"],
            )
            for row in rows:
                yield row["id"], unpack(row["metadata"])

    def _flush(self, count: int) -> None:
        """Flushes milvus-lite once enough rows were written.

        A server needs no flush: its collections are strongly consistent, and it limits flushes.
        """
        self._not_flushed += count
        if self._connection.place.file is not None and self._not_flushed >= _FLUSH_ROWS:
            self._connection.call("flush")
            self._not_flushed = 0

    def _rows(self, ids: Sequence[str], *fields: str) -> list[Row]:
        """Reads fields of documents by id, each document once."""
        names = list(dict.fromkeys(name for name in ids if can_be_id(name)))
        return [
            row
            for some in sliced(names, _IDS)
            for row in self._connection.call(
                "query", filter=id_in(some), output_fields=["id", *fields]
            )
        ]

    def _nearest(self, queries: Vectors, *, depth: int, condition: str) -> list[list[Row]]:
        """Returns the rows of the `depth` best documents for each query, best first."""
        most = min(_HITS, MESSAGE_BYTES // (4 * self.layout.dim))
        fields = _Scan.FIELDS if depth <= most else ()
        params = {} if self.exact else {"ef": min(max(128, 4 * depth), _MOST_EF)}
        answers = [
            [{**hit["entity"], "id": hit["id"]} for hit in hits]
            for some in sliced(queries, max(1, most // depth))
            for hits in self._connection.call(
                "search",
                data=list(some),
                filter=condition,
                limit=depth,
                output_fields=["id", *fields],
                search_params={"metric_type": "IP", "params": params},
            )
        ]
        if fields:
            return answers
        names = [row["id"] for rows in answers for row in rows]
        known = {row["id"]: row for row in self._rows(names, *_Scan.FIELDS)}
        return [[known[row["id"]] for row in rows if row["id"] in known] for rows in answers]

    def _found(self, rows: Sequence[Row]) -> Candidates:
        vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
        return Candidates(
            tuple(
                Record(id=row["id"], text=row["text"], metadata=unpack(row["metadata"]))
                for row in rows
            ),
            vectors.reshape(len(rows), self.layout.dim),
        )


@dataclass(frozen=True, eq=False)
class _Scan:
    """One search: its queries, its filter, and the `seq` of each document that it read.

    `among` are the documents that are searched; None for all that the conditions let through.
    """

    engine: MilvusEngine
    queries: Vectors
    conditions: Sequence[Condition]
    among: Sequence[str] | None = None
    seqs: dict[str, int] = field(default_factory=dict)

    FIELDS = ("seq", "text", "metadata", "vector")

    def nearest(self, rows: Sequence[int], depth: int, without: Sequence[str]) -> list[Candidates]:
        """Finds the most similar documents, as `Nearest` in `threshold` describes."""
        others = [name for name in without if can_be_id(name)]
        inside = has_tags(wanted_tags(self.conditions)) if self.among is None else id_in(self.among)
        condition = " and ".join(
            filter(None, [inside, id_in(others, negate=True) if others else ""])
        )
        read = self.engine._nearest(self.queries[list(rows)], depth=depth, condition=condition)
        return [self._noted(items) for items in read]

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Reads documents by id, as `Fetch` in `threshold` describes.

        Filters here, as Milvus is faster with a condition on ids alone.
        """
        rows = self.engine._rows(ids, *self.FIELDS)
        return self._noted(
            [row for row in rows if _meets(self.conditions, unpack(row["metadata"]))]
        )

    def in_order(self, found: Candidates) -> Candidates:
        """Sorts documents by the order of adding."""
        rows = sorted(
            range(len(found.documents)), key=lambda n: (self.seqs[found.documents[n].id], n)
        )
        return Candidates(tuple(found.documents[n] for n in rows), found.vectors[rows])

    def _noted(self, rows: Sequence[Row]) -> Candidates:
        self.seqs.update((row["id"], int(row["seq"])) for row in rows)
        return self.engine._found(rows)


def _meets(conditions: Sequence[Condition], metadata: Mapping[str, Value]) -> bool:
    return all(condition.holds(metadata.get(condition.name)) for condition in conditions)
