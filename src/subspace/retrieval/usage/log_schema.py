"""The tables of a usage log (format 3), and how logs of formats 1 and 2 are brought to it.

::

    uses     id (in order of writing), item, time, success (NULL if not rated), query, origin,
             namespace, repeat
    queries  id, time, arm (that the bandit chose), rated, namespace
    pins     namespace, item, time
    about    key, value: format version, the log's own id, and the clock

A use has an identity, so that importing it again adds nothing: `origin` if it was imported, else
the log's id and its number there, as `LOG:NUMBER`.

Of an item that a query found there is one use, with `repeat` 0. If it is rated later, a second row
with `repeat` -1 and the time of the use holds the rating. Formats 1 and 2 counted each report as a
use of its own; those rows are kept, and numbered from 1.
"""

import sqlite3
import uuid

from subspace.retrieval.usage.shared_sqlite import table_names
from subspace.retrieval.usage.uses import Clock

FORMAT_VERSION = 3

_INDEXES = (
    # The first is also what uses of one namespace are read by, in the order of their ids.
    "CREATE INDEX uses_namespace ON uses (namespace)",
    "CREATE INDEX uses_time ON uses (namespace, time)",
    "CREATE UNIQUE INDEX uses_once ON uses (query, item, namespace, repeat) "
    "WHERE query IS NOT NULL",
)
_PINS = """\
CREATE TABLE pins (
    namespace TEXT NOT NULL, item TEXT NOT NULL, time REAL NOT NULL, PRIMARY KEY (namespace, item)
) STRICT, WITHOUT ROWID"""
_ORIGIN = "CREATE UNIQUE INDEX uses_origin ON uses (origin) WHERE origin IS NOT NULL"
_TABLES = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    """\
CREATE TABLE uses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item TEXT NOT NULL,
    time REAL NOT NULL,
    success REAL CHECK (success BETWEEN 0 AND 1),
    query TEXT,
    origin TEXT,
    namespace TEXT NOT NULL DEFAULT '',
    repeat INTEGER NOT NULL DEFAULT 0
) STRICT""",
    """\
CREATE TABLE queries (
    id TEXT PRIMARY KEY, time REAL NOT NULL, arm TEXT, rated INTEGER NOT NULL DEFAULT 0,
    namespace TEXT NOT NULL DEFAULT ''
) STRICT""",
    _PINS,
    _ORIGIN,
    *_INDEXES,
)
# Statements that bring a log to the next format.
_UPGRADES = {
    "1": ("ALTER TABLE uses ADD COLUMN origin TEXT", _ORIGIN),
    "2": (
        "ALTER TABLE uses ADD COLUMN namespace TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE uses ADD COLUMN repeat INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE queries ADD COLUMN namespace TEXT NOT NULL DEFAULT ''",
        """\
UPDATE uses SET repeat = number FROM (
    SELECT id AS of, row_number() OVER (PARTITION BY query, item ORDER BY id) - 1 AS number
    FROM uses WHERE query IS NOT NULL
) WHERE of = id AND number > 0""",
        "DROP INDEX uses_time",
        _PINS,
        *_INDEXES,
    ),
}


def prepare(connection: sqlite3.Connection, *, clock: Clock) -> dict[str, str]:
    """Creates the tables if the file is empty, renews old formats, and returns what `about` holds.

    A transaction makes sure that only one of several processes does it.

    Args:
        connection: The file, without a transaction.
        clock: Clock of a new log.

    Raises:
        sqlite3.Error: The file cannot be used.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not table_names(connection):
            _create(connection, clock=clock)
        found = dict(connection.execute("SELECT key, value FROM about").fetchall())
        while (version := found.get("format_version")) in _UPGRADES:
            for statement in _UPGRADES[version]:
                connection.execute(statement)
            found["format_version"] = str(int(version) + 1)
            connection.execute(
                "UPDATE about SET value = ? WHERE key = 'format_version'",
                (found["format_version"],),
            )
        if version == str(FORMAT_VERSION) and "log" not in found:
            found["log"] = uuid.uuid4().hex
            connection.execute("INSERT INTO about VALUES ('log', ?)", (found["log"],))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found


def _create(connection: sqlite3.Connection, *, clock: Clock) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO about VALUES (?, ?)",
        [("format_version", str(FORMAT_VERSION)), ("clock", clock)],
    )
