"""UsageLog: a record of which item was used when, and with what success.

The log is one SQLite file with a write-ahead log. Several processes may read and write it at the
same time, as may the threads of one; uses are on disk when `add` returns. It has two tables
(format 2)::

    uses     id (in order of writing), item, time, success (NULL if not rated), query, origin
    queries  id, time, arm (that the bandit chose), rated

and a third, `about`, with the format version, the log's own id, and the clock: `wall` (seconds
since 1970) or `steps` (a counter that grows by one with every call of `add`).

A use has an identity, so that importing it again adds nothing: `origin` if it was imported, else
the log's id and its number there, as `LOG:NUMBER`. Logs of format 1 get both when they are opened.
"""

import json
import math
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

from subspace.errors import UsageLogError
from subspace.files import Problems, read_lines, sha256_bytes, whole_file
from subspace.retrieval.usage.shared_sqlite import BUSY_S, switch_to_wal, table_names

Clock = Literal["wall", "steps"]
CLOCKS: tuple[Clock, ...] = ("wall", "steps")
FORMAT_VERSION = 2

# Seconds that the time of a use may lie in the future, as clocks of two machines differ a little.
_AHEAD_S = 60.0
# Largest number of steps: beyond it, a float cannot represent every integer.
_STEPS = 2.0**53

_TABLES = """\
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE uses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item TEXT NOT NULL,
    time REAL NOT NULL,
    success REAL CHECK (success BETWEEN 0 AND 1),
    query TEXT,
    origin TEXT
) STRICT;
CREATE TABLE queries (
    id TEXT PRIMARY KEY, time REAL NOT NULL, arm TEXT, rated INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX uses_time ON uses (time);
CREATE UNIQUE INDEX uses_origin ON uses (origin) WHERE origin IS NOT NULL;
"""
_FROM_1 = (
    "ALTER TABLE uses ADD COLUMN origin TEXT",
    "CREATE UNIQUE INDEX uses_origin ON uses (origin) WHERE origin IS NOT NULL",
    "UPDATE about SET value = '2' WHERE key = 'format_version'",
)
_SAME = "item = ? AND time = ? AND success IS ? AND query IS ?"
# Number of uses that are read at once.
_BATCH = 4096


@dataclass(frozen=True)
class Use:
    """One use of one item.

    Attributes:
        item: The item's id.
        time: Seconds since 1970, or the number of the step.
        success: Success in [0, 1]; None if it was not rated.
        query: Id of the query that found the item; None if unknown.
    """

    item: str
    time: float
    success: float | None = None
    query: str | None = None


class UsageLog:
    """The log in one file; close it, or use it in a `with` statement.

    Any number of threads may use one log; those that write wait for each other.

    Attributes:
        path: The file.
        clock: Unit of time: `wall` (seconds since 1970) or `steps`.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, clock: Clock, own_id: str
    ) -> None:
        """Takes over an open connection that any thread may use; call `open` instead."""
        self.path = path
        self.clock = clock
        self._connection = connection
        self._own_id = own_id
        # Held while the connection is used: a transaction of one thread would otherwise hold
        # what another writes.
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path | str, *, clock: Clock | None = None, create: bool = True) -> Self:
        """Opens a log; creates an empty one if the file does not exist.

        Args:
            path: The file; its folder is created.
            clock: `wall` or `steps`; if None, the clock of the file, and `wall` for a new file.
            create: Whether to create a file that does not exist; if False, it is an error.

        Raises:
            UsageLogError: The file is damaged or not a usage log, cannot be written, or has
                another clock.
        """
        path = Path(path)
        if clock is not None and clock not in CLOCKS:
            raise UsageLogError(f"a usage log's clock is one of {', '.join(CLOCKS)}, not {clock!r}")
        if not create and not path.exists():
            raise UsageLogError(f"there is no usage log {path}; `subspace feedback` makes it")
        with _said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _said(path):
                tables = table_names(connection)
                if tables and "uses" not in tables:
                    raise UsageLogError(f"{path} is a database, but no usage log")
                switch_to_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")  # uses survive a power failure
                found = _prepare(connection, clock=clock or "wall")
            if found.get("format_version") != str(FORMAT_VERSION):
                raise UsageLogError(
                    f"the usage log {path} has format version {found.get('format_version')}, this "
                    f"version of subspace reads {FORMAT_VERSION}"
                )
            own: Clock = "steps" if found.get("clock") == "steps" else "wall"
            if clock is not None and clock != own:
                raise UsageLogError(f"the usage log {path} counts {own}, not {clock}")
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, clock=own, own_id=found["log"])

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        """Returns the log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def now(self) -> float:
        """Returns the current time: seconds since 1970, or the step of the next `add`."""
        if self.clock == "wall":
            return time.time()
        (last,) = self._row("SELECT max(time) FROM uses")
        return 0.0 if last is None else last + 1

    def add(
        self, uses: Iterable[Use | tuple[str, float | None]], *, query: str | None = None
    ) -> None:
        """Adds all of the uses or none; they are on disk when it returns.

        Args:
            uses: Uses, or pairs of item and success, which get the current time.
            query: Id of the query that found the items of the pairs.

        Raises:
            UsageLogError: An id is empty, a success is outside [0, 1], a time is not finite or
                lies in the future, or the file cannot be written.
        """
        uses = list(uses)
        with self._transaction():
            now = self.now()
            rows = [
                use if isinstance(use, Use) else Use(use[0], now, use[1], query) for use in uses
            ]
            for row in rows:
                self._check(row, now=now)
            self._insert((row, None) for row in rows)

    def since(self, position: int = 0) -> Iterator[tuple[int, Use]]:
        """Yields (position, use) of the uses after `position`, in the order they were added.

        Uses that are added meanwhile are left for the next call.
        """
        for number, use, _ in self._read(position):
            yield number, use

    def _read(self, position: int) -> Iterator[tuple[int, Use, str | None]]:
        """Yields position, use and origin of the uses after `position`."""
        rows, last = self._batch(position), math.inf
        if len(rows) == _BATCH:
            last = self._row("SELECT max(id) FROM uses")[0]
        while rows:
            for number, *values, origin in rows:
                use = Use(*values)
                try:
                    self._check(use, now=math.inf)
                except UsageLogError as error:  # SQLite reads zeros from a cut page
                    raise UsageLogError(f"the usage log {self.path} is damaged: {error}") from error
                yield number, use, origin
            if len(rows) < _BATCH:
                return
            rows = [row for row in self._batch(rows[-1][0]) if row[0] <= last]

    def _batch(self, position: int) -> list[Any]:
        return self._rows(
            "SELECT id, item, time, success, query, origin FROM uses WHERE id > ? ORDER BY id "
            "LIMIT ?",
            (position, _BATCH),
        )

    def __len__(self) -> int:
        """Returns the number of uses."""
        (count,) = self._row("SELECT count(*) FROM uses")
        return int(count)

    def add_query(self, query_id: str, *, arm: str | None) -> None:
        """Writes the id of a query, and the arm that the bandit chose for it."""
        with self._transaction():
            self._run(
                "INSERT INTO queries (id, time, arm) VALUES (?, ?, ?)", (query_id, self.now(), arm)
            )

    @contextmanager
    def rating(self, query_id: str) -> Iterator[str | None]:
        """Marks a query as rated, and yields the arm that the bandit chose for it.

        If the block raises an error, the query is not marked.

        Raises:
            UsageLogError: The log has no such query, or it was rated before.
        """
        with self._transaction():
            row = self._row("SELECT arm, rated FROM queries WHERE id = ?", (query_id,))
            if row is None:
                raise UsageLogError(
                    f"no query '{query_id}' in the usage log {self.path}, which keeps those of "
                    "preset 'auto'"
                )
            if row[1]:
                raise UsageLogError(f"query '{query_id}' was rated before")
            self._run("UPDATE queries SET rated = 1 WHERE id = ?", (query_id,))
            yield None if row[0] is None else str(row[0])

    def export_jsonl(self, path: Path | str) -> int:
        """Writes every use, its identity and the log's clock as a line of JSON.

        Returns:
            The number of lines.

        Raises:
            UsageLogError: The file cannot be written, or is the log itself.
        """
        path, count = Path(path), 0
        if path.exists() and path.samefile(self.path):
            raise UsageLogError(f"{path} is the usage log itself; choose another file")
        try:
            with whole_file(path) as stream:
                for number, use, origin in self._read(0):
                    own = origin or f"{self._own_id}:{number}"
                    line = {"id": own, **asdict(use), "clock": self.clock}
                    stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                    count += 1
        except OSError as error:
            raise UsageLogError(f"cannot write {path}: {error}") from error
        return count

    def import_jsonl(self, path: Path | str) -> int:
        """Adds the uses of a JSONL file that the log does not have, and returns their number.

        A line holds `item`, and optionally `id` (the identity that `export_jsonl` wrote), `time`
        (the current time if left out), `success`, `query` and `clock`, which must be the log's
        clock. A line without `id` is known if the log has the same item, time, success and query,
        as often as the file up to that line. A line without `id` and `time` is always new.

        Raises:
            RecordError: Lines are wrong; the message names them. None of the file is added.
            UsageLogError: The log cannot be written.
        """
        problems = Problems()
        now, uses = self.now(), []
        for line in read_lines(Path(path), problems=problems):
            try:
                self._check_line(line.value)
                use = Use(
                    item=line.value.get("item", ""),
                    time=line.value.get("time", now),
                    success=line.value.get("success"),
                    query=line.value.get("query"),
                )
                self._check(use, now=_STEPS if self.clock == "steps" else now)
                uses.append((use, line.value.get("id"), "time" in line.value))
            except UsageLogError as error:
                problems.add(line.where, str(error))
        problems.raise_if_any()
        with self._transaction():
            before = len(self)
            seen: Counter[Use] = Counter()
            for use, identity, timed in uses:
                if identity is not None:
                    known = self._knows(use, identity)
                elif timed:
                    seen[use] += 1
                    identity, known = _content_id(use, count=seen[use]), self._has(use, seen[use])
                else:
                    known = False
                if not known:
                    self._insert([(use, identity)])
            return len(self) - before

    def _knows(self, use: Use, identity: str) -> bool:
        """Tells whether the log has the use of an identity."""
        if self._row("SELECT 1 FROM uses WHERE origin = ?", (identity,)) is not None:
            return True
        own, _, number = identity.rpartition(":")
        if own != self._own_id or not number.isdecimal():
            return False
        # A copy of the log may have gone on with the same numbers for other uses.
        found = self._row(f"SELECT 1 FROM uses WHERE id = ? AND {_SAME}", (number, *_values(use)))
        return found is not None

    def _has(self, use: Use, count: int) -> bool:
        """Tells whether the log has a use like this at least `count` times."""
        (found,) = self._row(f"SELECT count(*) FROM uses WHERE {_SAME}", _values(use))
        return bool(found >= count)

    def _check_line(self, line: Mapping[str, object]) -> None:
        unknown = set(line) - {"id", "item", "time", "success", "query", "clock"}
        if unknown:
            raise UsageLogError(f"a use has no {', '.join(map(repr, sorted(unknown)))}")
        if line.get("id") is not None and not _is_id(line["id"]):
            raise UsageLogError(f"the id of a use must be a text, got {line['id']!r:.60}")
        if line.get("clock", self.clock) != self.clock:
            raise UsageLogError(f"its time counts {line['clock']!r:.60}, the log {self.clock}")

    def _insert(self, uses: Iterable[tuple[Use, str | None]]) -> None:
        rows = [(*_values(use), origin) for use, origin in uses]
        with self._lock, _said(self.path):
            self._connection.executemany(
                "INSERT INTO uses (item, time, success, query, origin) VALUES (?, ?, ?, ?, ?)", rows
            )

    def _check(self, use: Use, *, now: float) -> None:
        if not _is_id(use.item):
            raise UsageLogError(f"the item of a use must be its id, got {use.item!r:.60}")
        if not _is_number(use.time):
            raise UsageLogError(
                f"the time of a use of '{use.item}' must be a finite number, got {use.time!r:.60}"
            )
        if use.time > now + (_AHEAD_S if self.clock == "wall" else 0):
            raise UsageLogError(
                f"the use of '{use.item}' lies in the future: at {use.time}, and now is {now}"
            )
        if use.success is not None and not (_is_number(use.success) and 0 <= use.success <= 1):
            raise UsageLogError(
                f"the success of '{use.item}' must be between 0 and 1, got {use.success!r:.60}"
            )
        if use.query is not None and not _is_id(use.query):
            raise UsageLogError(f"the query of a use must be its id, got {use.query!r:.60}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Opens a write transaction; commits it after the block, or rolls it back on an error."""
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have rolled back
                    self._run("ROLLBACK")
                raise

    def _run(self, statement: str, values: Sequence[object] = ()) -> None:
        self._rows(statement, values)

    def _row(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Returns the first row of a query; None without one."""
        rows = self._rows(statement, values)
        return rows[0] if rows else None

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock, _said(self.path):
            return self._connection.execute(statement, values).fetchall()


def _prepare(connection: sqlite3.Connection, *, clock: Clock) -> dict[str, str]:
    """Creates the tables if the file is empty, renews format 1, and returns what `about` holds.

    A transaction makes sure that only one of several processes creates them.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not table_names(connection):
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO about VALUES (?, ?)",
                [("format_version", str(FORMAT_VERSION)), ("clock", clock)],
            )
        found = dict(connection.execute("SELECT key, value FROM about").fetchall())
        if found.get("format_version") == "1":
            for statement in _FROM_1:
                connection.execute(statement)
            found["format_version"] = "2"
        if found.get("format_version") == str(FORMAT_VERSION) and "log" not in found:
            found["log"] = uuid.uuid4().hex
            connection.execute("INSERT INTO about VALUES ('log', ?)", (found["log"],))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found


def _values(use: Use) -> tuple[str, float, float | None, str | None]:
    """Returns what the table keeps of a use."""
    success = None if use.success is None else float(use.success)
    return use.item, float(use.time), success, use.query


def _content_id(use: Use, *, count: int) -> str:
    """Returns an identity for a use without one: the `count`-th of its content."""
    return "content:" + sha256_bytes(json.dumps([*_values(use), count]).encode())


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _is_id(value: object) -> bool:
    """Tells whether a value is a string that is not empty and can be encoded as UTF-8."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and of the system into a `UsageLogError` that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: damaged files
        raise UsageLogError(f"the usage log {path} cannot be used: {error}") from error
