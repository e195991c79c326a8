"""PgvectorEngine: an index in one table of PostgreSQL, with the extension pgvector.

Where it is: `postgresql://USER:PASSWORD@HOST:PORT/DB?parameters#TABLE`. The name of the table is
taken as it is and found along the `search_path`; all parameters are those of libpq. Its columns::

    id         text, the primary key
    seq        bigint, the order of adding: an updated document keeps its place
    text       text
    metadata   jsonb, flat
    embedding  vector(dim), unit blocks

The comment of the table says what the manifest of an index folder says: format version, layout,
projection and settings. A table without such a comment is never touched.

A search is one SQL statement: folded query, priors and filter together, so that nothing is built
anew when weights, recency or importance change. pgvector's inner products are sums in float32;
everything around them is double precision.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError, EngineError, LayoutError
from subspace.retrieval.engines.protocol import (
    ROUNDING,
    Found,
    Priors,
    Vectors,
    Where,
    check_documents,
    check_k,
    check_queries,
    check_where,
)
from subspace.retrieval_sets import Document, Scalar

if TYPE_CHECKING:
    from psycopg import Connection, sql

FORMAT_VERSION = 1

# What PostgreSQL and pgvector take.
_NAME_BYTES = 63
_ID_BYTES = 2600
_DIM = 16_000
_HNSW_DIM = 2000
_HNSW_CANDIDATES = 1000

# Documents of one INSERT; the transaction is around all of them.
_BATCH = 500
# Documents asked for beyond the k-th, to see which of them tie with it.
_SURPLUS = 32
# Items of the highest priors that HNSW candidates are joined by.
_POPULAR = 10_000
# Two processes that make an index at once do it one after the other ("subspace" as a number).
_MAKING = int.from_bytes(b"subspace"[:7])
# From here on Python writes floats as 1e+16, which PostgreSQL would give back as a whole number.
_EXPONENTS = 1e16

# Of the connection, where the address does not say otherwise: a server that cannot be reached, or
# is gone without a word, is noticed.
_CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "subspace",
}

_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE"

# No statement hangs for ever, unless the address, the user or the server has a limit of its own.
_TIMEOUT = """\
SELECT set_config('statement_timeout', '300s', false)
WHERE current_setting('statement_timeout') = '0'
"""

_LOOK_UP = """\
SELECT c.oid, n.nspname, c.relkind = 'r', obj_description(c.oid, 'pg_class'),
    (
        SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    )
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(quote_ident(%s))
"""

# Ids are compared byte by byte, whatever the database's language. Vectors and metadata stay in
# their rows: every search reads them all, which is 2-4 times faster than from beside the table.
_CREATE = (
    """\
CREATE TABLE {table} (
    id text COLLATE "C" PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    embedding vector({dim}) NOT NULL
)""",
    "ALTER TABLE {table} ALTER embedding SET STORAGE MAIN, ALTER metadata SET STORAGE MAIN",
    "COMMENT ON TABLE {table} IS {comment}",
)
# A graph of what is there already is built 8 times faster than one that grows row by row, so it is
# made at the end of the first upsert; and that may take its time.
_HAS_GRAPH = """\
SELECT 1 FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS a ON a.oid = c.relam WHERE i.indrelid = %s AND a.amname = 'hnsw'
"""
_CREATE_GRAPH = (
    "SET LOCAL statement_timeout = 0",
    """\
CREATE INDEX ON {table} USING hnsw (embedding vector_ip_ops) WITH (m = 16, ef_construction = 64)
""",
)

_UPSERT = """\
INSERT INTO {table} (id, text, metadata, embedding)
SELECT id, text, metadata, embedding
FROM unnest(%b::text[], %b::text[], %b::text[]::jsonb[], %b::vector[])
    WITH ORDINALITY AS given(id, text, metadata, embedding, place)
ORDER BY place
ON CONFLICT (id) DO UPDATE
SET text = excluded.text, metadata = excluded.metadata, embedding = excluded.embedding
"""

_OWN = {"id", "seq", "text", "metadata", "embedding"}
_COLUMNS = "t.id, t.text, t.metadata, t.embedding, t.seq, t.tableoid"
_SIMILARITY = "(t.embedding <#> %(query)b) * -1"

_SEARCH = f"""\
SELECT {_COLUMNS}, {_SIMILARITY} AS score
FROM {{table}} AS t WHERE {{filter}}
ORDER BY score DESC, t.seq LIMIT %(limit)b
"""
# With priors, scores are joined, and the rows of the best only are looked up then: on a table that
# was not analysed yet, the planner would otherwise sort all rows with their vectors for the join.
_PRIOR = """\
prior AS (
    SELECT id, value FROM unnest(%(ids)b::text[], %(values)b::float8[]) AS given(id, value)
)"""
_BEST = f"""\
best AS (
    SELECT scored.id, scored.similarity + coalesce(prior.value, %(default)b) AS score
    FROM scored LEFT JOIN prior USING (id)
    ORDER BY score DESC, scored.seq LIMIT %(limit)b
)
SELECT {_COLUMNS}, best.score
FROM best JOIN {{table}} AS t USING (id)
ORDER BY best.score DESC, t.seq
"""
_SEARCH_PRIORS = f"""\
WITH {_PRIOR},
scored AS MATERIALIZED (
    SELECT t.id, t.seq, {_SIMILARITY} AS similarity FROM {{table}} AS t WHERE {{filter}}
),
{_BEST}"""
_SEARCH_GRAPH = f"""\
WITH {_PRIOR},
near AS MATERIALIZED (
    SELECT t.id FROM {{table}} AS t WHERE {{filter}}
    ORDER BY t.embedding <#> %(query)b LIMIT %(candidates)b
),
popular AS (
    SELECT id FROM prior WHERE value > %(default)b ORDER BY value DESC LIMIT {_POPULAR}
),
candidate AS (SELECT id FROM near UNION SELECT id FROM popular),
scored AS MATERIALIZED (
    SELECT t.id, t.seq, {_SIMILARITY} AS similarity
    FROM candidate JOIN {{table}} AS t USING (id) WHERE {{filter}}
),
{_BEST}"""
_SET_CANDIDATES = "SELECT set_config('hnsw.ef_search', %s, true)"
_FETCH = f"""\
SELECT {_COLUMNS}
FROM unnest(%b::text[]) WITH ORDINALITY AS wanted(id, place) JOIN {{table}} AS t USING (id)
ORDER BY wanted.place
"""
_SAMPLE = f"SELECT {_COLUMNS} FROM {{table}} AS t ORDER BY md5(t.id), t.id LIMIT %b"
_DELETE = "DELETE FROM {table} WHERE id = ANY (%b::text[])"
_COUNT = "SELECT count(*) FROM {table} AS t WHERE {filter}"

# What to do, by the SQLSTATE of the refusal.
_ADVICE = {
    "42501": "ask an administrator for the right to do so",
    "40P01": "nothing was changed; try again",
    "57014": "give it more time: ?options=-cstatement_timeout%3D30min in the address",
}
_ENDED = {"57P01", "57P02", "57P03", "57P05"}


class _Row(NamedTuple):
    id: str
    text: str
    metadata: dict[str, Any]
    embedding: Any
    seq: int
    table: int
    score: float = 0.0


@dataclass(frozen=True)
class _Address:
    """Where an index is; as a text it names no user and no password.

    Attributes:
        parameters: Of the connection.
        table: The table.
    """

    parameters: Mapping[str, Any] = field(repr=False)
    table: str

    @classmethod
    def parse(cls, target: str) -> "_Address":
        """Reads `postgresql://...#TABLE`; no message repeats any of it but the table."""
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict
        except ImportError as error:
            raise _missing(error) from error

        uri, _, table = target.rpartition("#")
        if not uri or not table:
            raise EngineError(f"the address of an index in PostgreSQL has a table: {_FORM}")
        if not target.isprintable() or len(table.encode()) > _NAME_BYTES:
            raise EngineError(
                f"the name of a table has printable characters, at most {_NAME_BYTES} bytes of "
                f"them, got {table!r:.80}"
            )
        try:
            parameters = conninfo_to_dict(uri)
        except ProgrammingError:  # its message quotes pieces of the address
            parameters = None
        # After a # in a password, the rest of it would be taken for a table, or the first of it
        # for a port.
        if parameters is None or "@" in table:
            raise EngineError(
                f"PostgreSQL cannot read the address; it must be like {_FORM}, with %23 for # and "
                "%40 for @ in the password, and no @ in the name of the table"
            )
        return cls(parameters=parameters, table=table)

    @property
    def server(self) -> str:
        """Host and port."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the local socket"
        return f"{host}:{self.parameters.get('port', 5432)}"

    def __str__(self) -> str:
        return f"the index '{self.table}' in PostgreSQL at {self.server}"


@dataclass(frozen=True)
class _About:
    """What the comment of a table says."""

    layout: BlockLayout
    projection_digest: str
    hnsw: bool

    def to_comment(self) -> str:
        about = {
            "format_version": FORMAT_VERSION,
            "projection": self.projection_digest,
            "blocks": self.layout.to_widths(),
            "hnsw": self.hnsw,
        }
        return json.dumps({"subspace": about})

    @classmethod
    def from_comment(cls, comment: str) -> "_About":
        """Reads it; raises what `json`, a mapping or a layout raises if it is damaged."""
        about = json.loads(comment)["subspace"]
        return cls(
            layout=BlockLayout.from_widths(about["blocks"]),
            projection_digest=str(about["projection"]),
            hnsw=bool(about["hnsw"]),
        )


@dataclass(frozen=True)
class _Table:
    """What the database says of a table."""

    oid: int
    schema: str
    is_table: bool
    comment: str | None
    columns: Mapping[str, str]

    @property
    def version(self) -> Any:
        """The format version that its comment tells; None if it is no index of ours."""
        if not self.is_table or not set(self.columns) >= _OWN:
            return None
        try:
            return json.loads(self.comment or "")["subspace"]["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


class PgvectorEngine:
    """Documents and vectors in a table; what a call has written when it returns is kept.

    A lost connection is an `EngineError`, and the next call connects again. Calls of several
    threads wait for each other.
    """

    name = "pgvector"

    def __init__(
        self,
        address: _Address,
        connection: "Connection[Any]",
        *,
        table: _Table,
        about: _About,
    ) -> None:
        """Takes over an open connection; use `open` or `create`."""
        self._address = address
        self._connection: Connection[Any] | None = connection
        self._table = table
        self._about = about
        self._lock = threading.RLock()

    @classmethod
    def open(cls, target: str) -> Self:
        """Opens an index that is there.

        Args:
            target: `postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE`.

        Raises:
            EngineError: The server cannot be reached, there is no such table, it is not an index,
                or is damaged, or a package is not installed.
        """
        address = _Address.parse(target)
        with _opening(address) as connection:
            table = _look_up(connection, address)
            if table is None:
                raise EngineError(f"there is no {str(address)[4:]}; build it with `subspace index`")
            about = _read_about(table, address=address)
            _register(connection)
        return cls(address, connection, table=table, about=about)

    @classmethod
    def create(
        cls, target: str, *, layout: BlockLayout, projection_digest: str, hnsw: bool = False
    ) -> Self:
        """Makes an empty index, in the place of one of that name: whole, or not at all.

        Args:
            target: `postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE`.
            layout: The blocks of every vector.
            projection_digest: Identifies the projection that makes the vectors.
            hnsw: Search a graph (HNSW, m 16, ef_construction 64), which finds nearly all of the
                best, and at once, among millions; up to 2,000 dimensions. Otherwise every search
                reads all vectors, and is exact.

        Raises:
            ConfigError: `hnsw` is no truth value, or there are too many dimensions for it.
            EngineError: The server cannot be reached or refuses, the table is something else,
                there are more than 16,000 dimensions, or a package is not installed.
        """
        _check_settings(hnsw=hnsw, dim=layout.dim)
        about = _About(layout=layout, projection_digest=projection_digest, hnsw=hnsw)
        address = _Address.parse(target)
        with _opening(address) as connection:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
                _make_extension(connection, address=address)
                _make_table(connection, about, address=address)
            table = _look_up(connection, address)
            if table is None:
                raise EngineError(f"{address} was removed by somebody else; make it again")
            _register(connection)
        return cls(address, connection, table=table, about=about)

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        return self._about.layout

    @property
    def projection_digest(self) -> str:
        """Identifies the projection that made the vectors."""
        return self._about.projection_digest

    @property
    def exact(self) -> bool:
        """Whether a search finds the best for certain: without HNSW."""
        return not self._about.hnsw

    def upsert(self, documents: Sequence[Document], vectors: Vectors) -> None:
        """Adds documents with their vectors, in the place of those with the same ids.

        All of them or, if any is refused or the connection is lost, none. One writer at a time;
        who searches meanwhile finds what was there before.

        Raises:
            EngineError: An id is empty, too long or given twice, metadata cannot be kept, the index
                was made anew by somebody else, or the server refuses or is gone.
            LayoutError: The vectors have another shape, or are not finite.
        """
        check_documents(documents, vectors, layout=self.layout)
        _check_ids(documents)
        if not documents:
            return
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        with self._session() as connection, connection.transaction():
            connection.execute(self._sql("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"), ())
            now = _look_up(connection, self._address)
            if now is None or (now.oid, now.comment) != (self._table.oid, self._table.comment):
                raise self._replaced()
            for start in range(0, len(documents), _BATCH):
                part = slice(start, start + _BATCH)
                given = (
                    [document.id for document in documents[part]],
                    [document.text for document in documents[part]],
                    [_write_json(document.metadata) for document in documents[part]],
                    list(rows[part]),
                )
                connection.execute(self._sql(_UPSERT), given)
            if self._about.hnsw:
                self._make_graph(connection)

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and gives their number; ids that are not there are passed over.

        Raises:
            EngineError: The server refuses or is gone.
        """
        with self._session() as connection:
            return connection.execute(self._sql(_DELETE), (_storable(ids),)).rowcount

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Found]:
        """The best `k` of each query, and what ties with the last, in the order of adding.

        With HNSW, candidates are the nearest by inner product, four times `k` and at least 100,
        together with the items of the highest priors. Where these are not enough (a filter leaves
        too few, or `k` is above 250) all vectors are read.

        Raises:
            ConfigError: `k` is no whole number from 1.
            LayoutError: The queries have another shape, or are not finite.
            QueryError: `where` is not what it must be.
            EngineError: The server refuses or is gone, or the index was made anew.
        """
        k = check_k(k)
        check_queries(queries, layout=self.layout)
        condition, values = _compose_filter(where)
        parameters = {**values, **_spread(priors), "limit": min(k + _SURPLUS, 2**62)}
        exact = self._sql(_SEARCH if priors is None else _SEARCH_PRIORS, filter=condition)
        near = None
        candidates = max(100, 4 * k)
        found: list[list[_Row]] = []
        with self._session() as connection, ExitStack() as stack:
            if not self.exact and candidates <= _HNSW_CANDIDATES:
                near = self._sql(_SEARCH_GRAPH, filter=condition)
                parameters["candidates"] = candidates
                stack.enter_context(connection.transaction())
                connection.execute(_SET_CANDIDATES, (str(candidates),))
            for query in queries:
                parameters["query"] = query
                rows = [] if near is None else self._select(connection, near, parameters)
                if len(rows) < k:
                    rows = self._select(connection, exact, parameters)
                found.append(rows)
        largest = _largest(priors)
        return [
            self._take(_best(rows, k=k, margin=ROUNDING * (float(np.abs(query).sum()) + largest)))
            for rows, query in zip(found, queries, strict=True)
        ]

    def fetch(self, ids: Sequence[str]) -> Found:
        """Documents by id, in the order asked for; ids that are not there are left out.

        Raises:
            EngineError: The server refuses or is gone, or the index was made anew.
        """
        with self._session() as connection:
            return self._take(self._select(connection, self._sql(_FETCH), (_storable(ids),)))

    def sample(self, count: int) -> Found:
        """`count` documents, the same every time, from all over; all, if there are no more.

        Raises:
            EngineError: The server refuses or is gone, or the index was made anew.
        """
        with self._session() as connection:
            rows = self._select(connection, self._sql(_SAMPLE), (count,))
        return self._take(sorted(rows, key=lambda row: row.seq))

    def count(self, where: Where | None = None) -> int:
        """Number of documents, or of those with such metadata.

        Raises:
            QueryError: `where` is not what it must be.
            EngineError: The server refuses or is gone.
        """
        condition, values = _compose_filter(where)
        with self._session() as connection:
            row = connection.execute(self._sql(_COUNT, filter=condition), values).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Closes the connection; what was written is kept."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _session(self) -> Iterator["Connection[Any]"]:
        """The connection, for one call; a new one, if the last was lost.

        Raises:
            EngineError: The engine was closed, or the server refuses or is gone.
        """
        with self._lock:
            if self._connection is None:
                raise EngineError(f"{self._address} was closed; open it again")
            if self._connection.closed:
                with _opening(self._address) as connection:
                    _register(connection)
                self._connection = connection
            with _said(self._address, self._connection):
                yield self._connection

    def _make_graph(self, connection: "Connection[Any]") -> None:
        if connection.execute(_HAS_GRAPH, (self._table.oid,)).fetchone() is None:
            for statement in _CREATE_GRAPH:
                connection.execute(self._sql(statement), ())

    def _select(self, connection: "Connection[Any]", query: Any, parameters: Any) -> list[_Row]:
        from psycopg.rows import args_row

        with connection.cursor(row_factory=args_row(_Row), binary=True) as cursor:
            rows = cursor.execute(query, parameters).fetchall()
        # The vectors of another projection must not be taken for ours.
        if any(row.table != self._table.oid for row in rows):
            raise self._replaced()
        return rows

    def _take(self, rows: Sequence[_Row]) -> Found:
        vectors = np.empty((len(rows), self.layout.dim), dtype=np.float32)
        for place, row in enumerate(rows):
            vectors[place] = _to_array(row.embedding)
        return Found(
            documents=tuple(
                Document(id=row.id, text=row.text, metadata=row.metadata) for row in rows
            ),
            vectors=vectors,
        )

    def _sql(self, template: str, **parts: Any) -> "sql.Composed":
        return _compose(template, table=_name(self._table.schema, self._address.table), **parts)

    def _replaced(self) -> EngineError:
        return EngineError(f"{self._address} was made anew by somebody else; open it again")


def _check_settings(*, hnsw: Any, dim: int) -> None:
    if not isinstance(hnsw, bool):
        raise ConfigError(f"hnsw must be true or false, got {hnsw!r:.60}")
    if hnsw and dim > _HNSW_DIM:
        raise ConfigError(
            f"hnsw takes up to {_HNSW_DIM} dimensions, the blocks have {dim} together; make the "
            "index without hnsw, or the blocks narrower"
        )
    if dim > _DIM:
        raise EngineError(f"pgvector keeps up to {_DIM} dimensions, the blocks have {dim} together")


def _check_ids(documents: Sequence[Document]) -> None:
    for document in documents:
        size = len(document.id.encode())
        if size > _ID_BYTES:
            raise EngineError(
                f"the id {document.id:.60}... has {size} bytes; PostgreSQL finds documents by ids "
                f"of up to {_ID_BYTES}"
            )


# Connections.


def _missing(error: ImportError) -> EngineError:
    return EngineError(
        f"PostgreSQL needs packages that are not there ({error}): pip install 'subspace[pgvector]'"
    )


def _connect(address: _Address) -> "Connection[Any]":
    try:
        import pgvector.psycopg  # noqa: F401  # said before there is a connection
        import psycopg
    except ImportError as error:
        raise _missing(error) from error
    settings = {**_CONNECTION, **address.parameters, "client_encoding": "utf8"}
    try:
        # Statements are not prepared on the server: poolers take that badly, and a plan made for
        # one filter or one set of priors is not good for all.
        connection = psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise EngineError(
            f"cannot connect to PostgreSQL at {address.server}: {_reason(error)}; see that the "
            "server runs there, and that user, password and database are right"
        ) from error
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


@contextmanager
def _opening(address: _Address) -> Iterator["Connection[Any]"]:
    """A new connection, closed again if what is done with it fails."""
    connection = _connect(address)
    try:
        with _said(address, connection):
            connection.execute(_TIMEOUT)
            yield connection
    except BaseException:
        connection.close()
        raise


@contextmanager
def _said(address: _Address, connection: "Connection[Any]") -> Iterator[None]:
    """What PostgreSQL refuses, as an error that names the index, and says what to do."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        if connection.closed or error.sqlstate in _ENDED:
            connection.close()
            raise EngineError(
                f"{address}: the connection was lost ({_reason(error)}); what was being written "
                "is there as a whole or not at all, and the next call connects again"
            ) from error
        advice = _ADVICE.get(error.sqlstate or "")
        message = f"{address} cannot be used: {_reason(error)}"
        raise EngineError(f"{message}; {advice}" if advice else message) from error


def _reason(error: Any) -> str:
    """The first thing that PostgreSQL says; what follows it can quote rows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return str(error.diag.message_primary or (lines[0] if lines else type(error).__name__))


def _register(connection: "Connection[Any]") -> None:
    from pgvector.psycopg import register_vector

    register_vector(connection)


# The table.


def _look_up(connection: "Connection[Any]", address: _Address) -> _Table | None:
    row = connection.execute(_LOOK_UP, (address.table,)).fetchone()
    return None if row is None else _Table(*row)


def _read_about(table: _Table, *, address: _Address) -> _About:
    """What the comment says.

    Raises:
        EngineError: It is not one of ours, of another format version, damaged, or says another
            dimension than the table has.
    """
    if table.version is None:
        raise EngineError(
            f"the table '{address.table}' at {address.server} is not an index of subspace, or its "
            "comment, which says so, is damaged; build the index under another name"
        )
    if table.version != FORMAT_VERSION:
        raise EngineError(
            f"{address} has format version {table.version!r}, this version of subspace reads "
            f"{FORMAT_VERSION}; build it again"
        )
    try:
        about = _About.from_comment(table.comment or "")
    except (ValueError, KeyError, TypeError, AttributeError, LayoutError) as error:
        raise EngineError(f"{address} has a damaged comment: {error!r}; build it again") from error
    if table.columns["embedding"] != f"vector({about.layout.dim})":
        raise EngineError(
            f"{address} is damaged: its comment says {about.layout.dim} dimensions, the table has "
            f"{table.columns['embedding']}; build it again"
        )
    return about


def _make_extension(connection: "Connection[Any]", *, address: _Address) -> None:
    import psycopg

    if connection.execute("SELECT to_regtype('vector')").fetchone() != (None,):
        return
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.InsufficientPrivilege as error:
        raise EngineError(
            f"the database at {address.server} has no pgvector, and this user may not add it; ask "
            "an administrator to run, in that database: CREATE EXTENSION vector"
        ) from error
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        raise EngineError(
            f"the server at {address.server} has no pgvector: {_reason(error)}; ask an "
            "administrator to install pgvector there (https://github.com/pgvector/pgvector)"
        ) from error


def _make_table(connection: "Connection[Any]", about: _About, *, address: _Address) -> None:
    """An empty table in the place of what is there, if that is ours."""
    from psycopg import sql

    old = _look_up(connection, address)
    name = _name(address.table) if old is None else _name(old.schema, address.table)
    if old is not None:
        if old.version is None or set(old.columns) != _OWN:
            raise EngineError(
                f"there is a '{address.table}' at {address.server} that is not an index of "
                "subspace, or not that alone; choose another name, or remove it yourself"
            )
        connection.execute(_compose("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", table=name), ())
        if _look_up(connection, address) != old:
            raise EngineError(f"{address} was changed by somebody else meanwhile; try again")
        connection.execute(_compose("DROP TABLE {table}", table=name), ())
    parts = {"dim": sql.SQL(str(about.layout.dim)), "comment": _literal(about.to_comment())}
    for statement in _CREATE:
        connection.execute(_compose(statement, table=name, **parts), ())


# Statements and values.


def _compose(template: str, **parts: Any) -> "sql.Composed":
    from psycopg import sql

    return sql.SQL(template).format(**parts)


def _name(*parts: str) -> "sql.Identifier":
    """A quoted name; psycopg looks for placeholders in what is composed, so % is doubled."""
    from psycopg import sql

    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def _literal(text: str) -> "sql.Literal":
    """A quoted text, where PostgreSQL takes no parameter."""
    from psycopg import sql

    return sql.Literal(text.replace("%", "%%"))


def _compose_filter(where: Where | None) -> tuple["sql.Composable", dict[str, Any]]:
    """The condition that metadata must meet, and the values of its placeholders."""
    from psycopg import sql

    conditions, values = [sql.Composed([sql.SQL("true")])], {}
    for number, (name, several) in enumerate(check_where(where).items()):
        key = f"where{number}"
        condition = "t.metadata @> ANY ({allowed}::text[]::jsonb[])"
        conditions.append(_compose(condition, allowed=sql.Placeholder(key)))
        values[key] = [_write_json({name: value}) for value in several]
    return sql.SQL(" AND ").join(conditions), values


def _spread(priors: Priors | None) -> dict[str, Any]:
    """Priors as placeholders take them."""
    if priors is None:
        return {"ids": [], "values": [], "default": 0.0}
    values = priors.values.tolist()
    ids = priors.ids[: len(values)]  # it grows meanwhile
    kept = _storable(ids)
    if len(kept) < len(ids):
        storable = set(kept)
        values = [value for name, value in zip(ids, values, strict=True) if name in storable]
    return {"ids": kept, "values": values, "default": float(priors.default)}


def _largest(priors: Priors | None) -> float:
    if priors is None:
        return 0.0
    return max(abs(priors.default), float(np.abs(priors.values).max(initial=0)))


def _best(rows: Sequence[_Row], *, k: int, margin: float) -> list[_Row]:
    """The first `k` of rows by falling score, and what ties with the last, in order of adding."""
    if len(rows) > k:
        least = rows[k - 1].score - margin
        rows = [row for row in rows if row.score >= least]
    return sorted(rows, key=lambda row: row.seq)


def _storable(ids: Sequence[str]) -> list[str]:
    """Those ids that can be in a database at all: without NUL and half surrogate pairs."""
    together = "".join(ids)
    if together.isascii() and "\0" not in together:
        return list(ids)
    return [name for name in ids if "\0" not in name and _is_whole(name)]


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_json(metadata: Mapping[str, Scalar]) -> str:
    """An object of JSON in which every number stays what it is, and equals what it equals."""
    pairs = [f"{json.dumps(name)}: {_write_scalar(value)}" for name, value in metadata.items()]
    return "{" + ", ".join(pairs) + "}"


def _write_scalar(value: Scalar) -> str:
    if isinstance(value, float) and abs(value) >= _EXPONENTS:
        return f"{value:.1f}"
    return json.dumps(value)


def _to_array(embedding: Any) -> Vectors:
    """A vector as pgvector's package gives it: an array of numpy, or an object that makes one."""
    return np.asarray(embedding if isinstance(embedding, np.ndarray) else embedding.to_numpy())
