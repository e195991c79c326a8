"""The table of an index in PostgreSQL, and the metadata in its comment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from subspace.blocks import BlockLayout
from subspace.errors import EngineError, LayoutError
from subspace.model.centre import Centre
from subspace.retrieval.engines.pgvector_connection import Address, reason
from subspace.retrieval.engines.pgvector_values import compose, quote_literal, quote_name

if TYPE_CHECKING:
    from psycopg import Connection

FORMAT_VERSION = 1
# Key of the lock by which processes make indexes one after another (the first 7 bytes of "subspace"
# as a number).
MAKING = int.from_bytes(b"subspace"[:7])
_OWN = {"id", "seq", "text", "metadata", "embedding"}
_LOOK_UP = """\
SELECT c.oid, n.nspname, c.relkind = 'r', obj_description(c.oid, 'pg_class'),
    (
        SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    )
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(quote_ident(%s))
"""
# COLLATE "C" compares ids byte by byte, whatever the database's language. STORAGE MAIN keeps
# vectors and metadata in their rows: a search reads them 2 to 4 times faster than from a TOAST
# table.
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


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class IndexMetadata:
    """The metadata of an index, as the comment of its table holds them."""

    layout: BlockLayout
    projection_digest: str
    hnsw: bool
    centre: Centre | None = None

    def to_comment(self) -> str:
        """Writes the metadata as JSON that `from_comment` reads."""
        about = {
            "format_version": FORMAT_VERSION,
            "projection": self.projection_digest,
            "centre": None if self.centre is None else self.centre.to_json(),
            "blocks": self.layout.to_widths(),
            "hnsw": self.hnsw,
        }
        return json.dumps({"subspace": about})

    @classmethod
    def from_comment(cls, comment: str) -> "IndexMetadata":
        """Reads a comment; if it is damaged, raises the error of `json`, a mapping or a layout."""
        about = json.loads(comment)["subspace"]
        return cls(
            layout=BlockLayout.from_widths(about["blocks"]),
            projection_digest=str(about["projection"]),
            hnsw=bool(about["hnsw"]),
            centre=Centre.from_json(about.get("centre")),
        )


@dataclass(frozen=True)
class Table:
    """A table as PostgreSQL describes it."""

    oid: int
    schema: str
    is_table: bool
    comment: str | None
    columns: Mapping[str, str]

    @property
    def version(self) -> Any:
        """Format version in the comment; None if the table is no index of subspace."""
        if not self.is_table or not set(self.columns) >= _OWN:
            return None
        try:
            return json.loads(self.comment or "")["subspace"]["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def look_up(connection: "Connection[Any]", address: Address) -> Table | None:
    """Finds the table of an address; returns None if there is none."""
    row = connection.execute(_LOOK_UP, (address.table,)).fetchone()
    return None if row is None else Table(*row)


def read_about(table: Table, *, address: Address) -> IndexMetadata:
    """Reads the metadata from the comment of a table.

    Raises:
        EngineError: The table is no index of subspace, its comment is damaged or of another format
            version, or the comment and the table have different dimensions.
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
        about = IndexMetadata.from_comment(table.comment or "")
    except (ValueError, KeyError, TypeError, AttributeError, LayoutError) as error:
        raise EngineError(f"{address} has a damaged comment: {error!r}; build it again") from error
    if table.columns["embedding"] != f"vector({about.layout.dim})":
        raise EngineError(
            f"{address} is damaged: its comment says {about.layout.dim} dimensions, the table has "
            f"{table.columns['embedding']}; build it again"
        )
    return about


def make_extension(connection: "Connection[Any]", *, address: Address) -> None:
    """Adds the extension pgvector to the database if it is missing.

    Raises:
        EngineError: The user may not add it, or the server does not have it.
    """
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
            f"the server at {address.server} has no pgvector: {reason(error)}; ask an "
            "administrator to install pgvector there (https://github.com/pgvector/pgvector)"
        ) from error


def make_table(connection: "Connection[Any]", about: IndexMetadata, *, address: Address) -> None:
    """Makes an empty table, which replaces an index of the same name.

    Raises:
        EngineError: Something else has that name, or another client changed the table meanwhile.
    """
    from psycopg import sql

    old = look_up(connection, address)
    name = quote_name(address.table) if old is None else quote_name(old.schema, address.table)
    if old is not None:
        if old.version is None or set(old.columns) != _OWN:
            raise EngineError(
                f"there is a '{address.table}' at {address.server} that is not an index of "
                "subspace, or not that alone; choose another name, or remove it yourself"
            )
        connection.execute(compose("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", table=name), ())
        if look_up(connection, address) != old:
            raise EngineError(f"{address} was changed by somebody else meanwhile; try again")
        connection.execute(compose("DROP TABLE {table}", table=name), ())
    parts = {"dim": sql.SQL(str(about.layout.dim)), "comment": quote_literal(about.to_comment())}
    for statement in _CREATE:
        connection.execute(compose(statement, table=name, **parts), ())
