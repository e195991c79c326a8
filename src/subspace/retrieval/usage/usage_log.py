"""UsageLog: a record of which item was used when, and with what success.

The log is one SQLite file with a write-ahead log. Several processes may read and write it at the
same time, and uses are on disk when `add` returns. It has two tables (format 1)::

    uses     id (in order of writing), item, time, success (NULL if not rated), query
    queries  id, time, arm (that the bandit chose), rated

and a third, `about`, with the format version and the clock: `wall` (seconds since 1970) or `steps`
(a counter that grows by one with every call of `add`).
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, Self

from subspace.errors import UsageLogError
from subspace.files import Problems, read_lines
from subspace.retrieval.usage.shared_sqlite import BUSY_S, switch_to_wal, table_names

Clock = Literal["wall", "steps"]
CLOCKS: tuple[Clock, ...] = ("wall", "steps")
FORMAT_VERSION = 1

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
    query TEXT
) STRICT;
CREATE TABLE queries (
    id TEXT PRIMARY KEY, time REAL NOT NULL, arm TEXT, rated INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX uses_time ON uses (time);
"""


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

    Attributes:
        path: The file.
        clock: Unit of time: `wall` (seconds since 1970) or `steps`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, clock: Clock) -> None:
        """Takes over an open connection; call `open` instead."""
        self.path = path
        self.clock = clock
        self._connection = connection

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
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
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
        return cls(path, connection, clock=own)

    def close(self) -> None:
        """Closes the file."""
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
        (last,) = self._run("SELECT max(time) FROM uses").fetchone()
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
            self._insert(rows)

    def since(self, position: int = 0) -> Iterator[tuple[int, Use]]:
        """Yields (position, use) of the uses after `position`, in the order they were added."""
        with _said(self.path):
            for row in self._connection.execute(
                "SELECT id, item, time, success, query FROM uses WHERE id > ? ORDER BY id",
                (position,),
            ):
                use = Use(item=row[1], time=row[2], success=row[3], query=row[4])
                try:
                    self._check(use, now=math.inf)
                except UsageLogError as error:  # SQLite reads zeros from a cut page
                    raise UsageLogError(f"the usage log {self.path} is damaged: {error}") from error
                yield row[0], use

    def __len__(self) -> int:
        """Returns the number of uses."""
        (count,) = self._run("SELECT count(*) FROM uses").fetchone()
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
            row = self._run("SELECT arm, rated FROM queries WHERE id = ?", (query_id,)).fetchone()
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
        """Writes every use and the log's clock as a line of JSON; returns the number of lines.

        Raises:
            UsageLogError: The file cannot be written, or is the log itself.
        """
        path, count = Path(path), 0
        if path.exists() and path.samefile(self.path):
            raise UsageLogError(f"{path} is the usage log itself; choose another file")
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("w", encoding="utf-8") as stream:
                for _, use in self.since():
                    line = {**asdict(use), "clock": self.clock}
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    count += 1
            partial.replace(path)
        except OSError as error:
            raise UsageLogError(f"cannot write {path}: {error}") from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        return count

    def import_jsonl(self, path: Path | str) -> int:
        """Adds all uses of a JSONL file or none, and returns their number.

        A line holds `item`, and optionally `time` (the current time if left out), `success`,
        `query` and `clock`, which must be the log's clock.

        Raises:
            RecordError: Lines are wrong; the message names them.
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
                uses.append(use)
            except UsageLogError as error:
                problems.add(line.where, str(error))
        problems.raise_if_any()
        with self._transaction():
            self._insert(uses)
        return len(uses)

    def _check_line(self, line: Mapping[str, object]) -> None:
        unknown = set(line) - {"item", "time", "success", "query", "clock"}
        if unknown:
            raise UsageLogError(f"a use has no {', '.join(map(repr, sorted(unknown)))}")
        if line.get("clock", self.clock) != self.clock:
            raise UsageLogError(f"its time counts {line['clock']!r:.60}, the log {self.clock}")

    def _insert(self, uses: Iterable[Use]) -> None:
        rows = [
            (
                use.item,
                float(use.time),
                None if use.success is None else float(use.success),
                use.query,
            )
            for use in uses
        ]
        with _said(self.path):
            self._connection.executemany(
                "INSERT INTO uses (item, time, success, query) VALUES (?, ?, ?, ?)", rows
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
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite may have rolled back
                self._run("ROLLBACK")
            raise

    def _run(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with _said(self.path):
            return self._connection.execute(statement, values)


def _prepare(connection: sqlite3.Connection, *, clock: Clock) -> dict[str, str]:
    """Creates the tables if the file is empty, and returns the contents of `about`.

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
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return found


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
