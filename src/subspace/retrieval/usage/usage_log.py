"""UsageLog: a record of which item was used when, and with what success.

The log is one SQLite file with a write-ahead log. Several processes may read and write it at the
same time, as may the threads of one; uses are on disk when `add` returns. See `log_schema` for its
tables.

Uses belong to a namespace: several agents or users can share one log, and each has its own uses,
steps and pins. The namespace with the empty name is the one that every log has.

Time is `wall` (seconds since 1970) or `steps` (a counter that grows by one with every call of
`add` in a namespace). A wall clock can be wrong or be set back:

- the current time is never before the newest use of the namespace, if that lies at most one day
  ahead of the clock. So a clock that is set back by up to a day makes no age negative, and uses
  that are added then do not count as older than those before;
- a use more than one day ahead of the clock was written by a wrong clock, so when it was is not
  known. Its success counts, but it is never recent; see `History`. No use is changed for it: if it
  is this machine's clock that is wrong, all is as before when it is right again.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

from subspace.errors import UsageLogError
from subspace.retrieval.usage.log_exchange import LogIdentity, add_lines, write_uses
from subspace.retrieval.usage.log_file import LogFile, translate_errors
from subspace.retrieval.usage.log_schema import FORMAT_VERSION, prepare
from subspace.retrieval.usage.shared_sqlite import BUSY_S, switch_to_wal, table_names
from subspace.retrieval.usage.use_rows import Entry, add_uses, read_entries
from subspace.retrieval.usage.uses import CLOCKS, Clock, Use, check_namespace, check_use, is_id

__all__ = ["CLOCKS", "Clock", "UsageLog", "Use"]

# Seconds that the time of a use may lie in the future, as clocks of two machines differ a little.
_AHEAD_S = 60.0
# Seconds ahead of the clock up to which the time of a use that is in the log is believed.
_BELIEVED_S = 86_400.0
# Largest number of steps: beyond it, a float cannot represent every integer.
_STEPS = 2.0**53


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
        self._identity = LogIdentity(own_id, clock)
        self._file = LogFile(path, connection)

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
        with translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with translate_errors(path):
                tables = table_names(connection)
                if tables and "uses" not in tables:
                    raise UsageLogError(f"{path} is a database, but no usage log")
                switch_to_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")  # uses survive a power failure
                found = prepare(connection, clock=clock or "wall")
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

    @property
    def is_there(self) -> bool:
        """Whether the file is still where it was opened; not moved, removed or replaced."""
        return self._file.is_there

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Returns the log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def now(self, *, namespace: str = "") -> float:
        """Returns the current time of a namespace.

        Seconds since 1970, or the step of the next `add`. Never before a use that is believed.
        """
        (newest,) = self._file.row(
            "SELECT max(time) FROM uses WHERE namespace = ? AND time <= ?",
            (namespace, believed_until(self.clock)),
        )
        return present(self.clock, newest=newest)

    def add(
        self,
        uses: Iterable[Use | tuple[str, float | None]],
        *,
        query: str | None = None,
        namespace: str = "",
    ) -> int:
        """Adds all of the uses or none; they are on disk when it returns.

        Of an item that a query found, one use counts: further ones are ignored, except that the
        first rating is added to a use without one. Uses without a query count every time.

        Args:
            uses: Uses, or pairs of item and success, which get the current time.
            query: Id of the query that found the items of the pairs.
            namespace: Namespace of the pairs.

        Returns:
            How many counted: uses, and ratings of uses that were logged before.

        Raises:
            UsageLogError: An id is empty, a success is outside [0, 1], a time is not finite or
                lies in the future, the namespace is wrong, or the file cannot be written.
        """
        uses, name = list(uses), check_namespace(namespace)
        with self._file.transaction():
            now = self.now(namespace=name)
            rows = [
                use if isinstance(use, Use) else Use(use[0], now, use[1], query, name)
                for use in uses
            ]
            latest = {name: self._latest(now)}
            for row in rows:
                own = check_namespace(row.namespace)
                if own not in latest:
                    latest[own] = self._latest(self.now(namespace=own))
                check_use(row, latest=latest[own])
            return add_uses(self._file, rows)

    def _latest(self, now: float) -> float:
        """Returns the largest time that is not in the future."""
        return now if self.clock == "steps" else max(now, time.time() + _AHEAD_S)

    def since(
        self, position: int = 0, *, namespace: str | None = None
    ) -> Iterator[tuple[int, Use]]:
        """Yields (position, use) of the uses after `position`, in the order they were added.

        Uses have the rating that they have now, also if it came later. Uses that are added
        meanwhile are left for the next call.

        Args:
            position: Position of the last use that is known; 0 for none.
            namespace: The namespace to read; all of them if None.
        """
        if namespace is not None:
            check_namespace(namespace)
        for entry in read_entries(self._file, position, namespace=namespace, whole=True):
            yield entry.position, entry.use

    def entries(self, position: int, *, namespace: str) -> Iterator[Entry]:
        """Yields the rows of a namespace after `position`: uses, and ratings that came later."""
        return read_entries(self._file, position, namespace=namespace, whole=False)

    def __len__(self) -> int:
        """Returns the number of uses in all namespaces."""
        (count,) = self._file.row("SELECT count(*) FROM uses WHERE repeat >= 0")
        return int(count)

    def forget(self, queries: Iterable[str], *, namespace: str = "") -> int:
        """Removes all uses that searches found, with their ratings, for good.

        Other processes that have the log open notice it at their next search.

        Args:
            queries: Ids of searches; those that the log does not have are ignored.
            namespace: Whose uses they are.

        Returns:
            The number of uses that were removed.

        Raises:
            UsageLogError: The namespace is wrong, or the file cannot be written.
        """
        name = check_namespace(namespace)
        ids = [(query, name) for query in dict.fromkeys(queries)]
        self._file.rows(
            "PRAGMA secure_delete = ON"
        )  # not all builds of SQLite overwrite by default
        with self._file.transaction():
            (before,) = self._file.row("SELECT count(*) FROM uses WHERE repeat >= 0")
            self._file.change("DELETE FROM uses WHERE query = ? AND namespace = ?", ids)
            self._file.change("DELETE FROM queries WHERE id = ? AND namespace = ?", ids)
            (after,) = self._file.row("SELECT count(*) FROM uses WHERE repeat >= 0")
            self._file.rows(
                "INSERT INTO about VALUES ('forgotten', '1') "
                "ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
            )
        # Removed rows would stay readable in the write-ahead log until it is used again.
        self._file.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(before - after)

    @property
    def forgotten(self) -> int:
        """How often `forget` was called: who counts uses as they come has to begin again."""
        row = self._file.row("SELECT value FROM about WHERE key = 'forgotten'")
        return 0 if row is None else int(row[0])

    def rated(self, *, namespace: str = "") -> tuple[int, int]:
        """Returns the number of rated hits of searches, and the position of the last one."""
        count, last = self._file.row(
            "SELECT count(*), max(id) FROM uses "
            "WHERE namespace = ? AND query IS NOT NULL AND success IS NOT NULL",
            (check_namespace(namespace),),
        )
        return int(count), int(last or 0)

    def pin(self, items: Iterable[str], *, namespace: str = "") -> int:
        """Pins items, all or none; they are on disk when it returns.

        Args:
            items: Ids of items; see `History` for what a pin does.
            namespace: Whose pins they are.

        Returns:
            How many were not pinned before.

        Raises:
            UsageLogError: An id is empty, the namespace is wrong, or the file cannot be written.
        """
        ids = _check_ids(items)
        with self._file.transaction():
            now = self.now(namespace=check_namespace(namespace))
            return self._file.change(
                "INSERT OR IGNORE INTO pins (namespace, item, time) VALUES (?, ?, ?)",
                [(namespace, item, now) for item in ids],
            )

    def unpin(self, items: Iterable[str], *, namespace: str = "") -> int:
        """Removes pins and returns how many there were; ignores items that are not pinned.

        Raises:
            UsageLogError: An id is empty, the namespace is wrong, or the file cannot be written.
        """
        ids, name = _check_ids(items), check_namespace(namespace)
        with self._file.transaction():
            return self._file.change(
                "DELETE FROM pins WHERE namespace = ? AND item = ?", [(name, item) for item in ids]
            )

    def pins(self, *, namespace: str = "") -> tuple[str, ...]:
        """Returns the ids of the pinned items of a namespace, those pinned first at the front."""
        rows = self._file.rows(
            "SELECT item FROM pins WHERE namespace = ? ORDER BY time, item",
            (check_namespace(namespace),),
        )
        return tuple(item for (item,) in rows)

    def add_query(self, query_id: str, *, arm: str | None, namespace: str = "") -> None:
        """Writes the id of a query, and the arm that the bandit chose for it."""
        name = check_namespace(namespace)
        with self._file.transaction():
            self._file.rows(
                "INSERT INTO queries (id, time, arm, namespace) VALUES (?, ?, ?, ?)",
                (query_id, self.now(namespace=name), arm, name),
            )

    def awaits_rating(self, query_id: str, *, namespace: str = "") -> bool:
        """Tells whether the bandit chose the weights of a query, and it was not rated yet.

        Args:
            query_id: Id of the query.
            namespace: Its namespace; no query of another one awaits a rating here.
        """
        row = self._file.row(
            "SELECT 1 FROM queries WHERE id = ? AND namespace = ? AND rated = 0 "
            "AND arm IS NOT NULL",
            (query_id, check_namespace(namespace)),
        )
        return row is not None

    @contextmanager
    def rating(self, query_id: str, *, namespace: str = "") -> Iterator[str | None]:
        """Marks a query as rated, and yields the arm that the bandit chose for it.

        If the block raises an error, the query is not marked.

        Args:
            query_id: Id of the query.
            namespace: Its namespace; a query of another one cannot be rated.

        Raises:
            UsageLogError: The log has no such query in the namespace, or it was rated before.
        """
        name = check_namespace(namespace)
        with self._file.transaction():
            row = self._file.row(
                "SELECT arm, rated FROM queries WHERE id = ? AND namespace = ?", (query_id, name)
            )
            if row is None:
                within = f"namespace '{name}' of " if name else ""
                raise UsageLogError(
                    f"no query '{query_id}' in {within}the usage log {self.path}, which keeps "
                    "those of preset 'auto'; a search is rated in its own namespace"
                )
            if row[1]:
                raise UsageLogError(f"query '{query_id}' was rated before")
            self._file.rows("UPDATE queries SET rated = 1 WHERE id = ?", (query_id,))
            yield None if row[0] is None else str(row[0])

    def export_jsonl(self, path: Path | str, *, namespace: str | None = None) -> int:
        """Writes every use, its identity and the log's clock as a line of JSON.

        Args:
            path: The file.
            namespace: The namespace to write; all of them if None.

        Returns:
            The number of lines.

        Raises:
            UsageLogError: The file cannot be written, or is the log itself.
        """
        if namespace is not None:
            check_namespace(namespace)
        return write_uses(self._file, Path(path), log=self._identity, namespace=namespace)

    def import_jsonl(self, path: Path | str, *, namespace: str = "") -> int:
        """Adds the uses of a JSONL file that the log does not have.

        A line holds `item`, and optionally `id` (the identity that `export_jsonl` wrote), `time`
        (the current time if left out), `success`, `query`, `namespace` and `clock`, which must be
        the log's clock. A wall-clock time is a number of seconds since 1970, or an ISO 8601 text
        with a time zone, such as `2026-11-29T10:00:00+01:00`.

        A line without `id` is known if the log has the same item, time, success, query and
        namespace, as often as the file up to that line. A line without `id` and `time` is new. Of
        an item that a query found, one use counts, as in `add`.

        Args:
            path: The file.
            namespace: Namespace of the lines that name none.

        Returns:
            How many counted: uses, and ratings of uses that were logged before.

        Raises:
            RecordError: Lines are wrong; the message names them. None of the file is added.
            UsageLogError: The namespace is wrong, or the log cannot be written.
        """

        @cache  # one moment for the whole file
        def now(name: str) -> float:
            return self.now(namespace=name)

        @cache
        def latest(name: str) -> float:
            return _STEPS if self.clock == "steps" else self._latest(now(name))

        return add_lines(
            self._file,
            Path(path),
            log=self._identity,
            namespace=check_namespace(namespace),
            now=now,
            latest=latest,
        )


def believed_until(clock: Clock) -> float:
    """Returns the largest time of a use that this machine's clock believes."""
    return time.time() + _BELIEVED_S if clock == "wall" else float("inf")


def present(clock: Clock, *, newest: float | None) -> float:
    """Returns the current time.

    Args:
        clock: Unit of time.
        newest: The largest time of a use that is believed; None without uses.
    """
    if clock == "wall":
        return time.time() if newest is None else max(time.time(), newest)
    return 0.0 if newest is None else newest + 1


def _check_ids(items: Iterable[str]) -> Sequence[str]:
    ids = [items] if isinstance(items, str) else list(dict.fromkeys(items))
    for item in ids:
        if not is_id(item):
            raise UsageLogError(f"a pin names the id of an item, got {item!r:.60}")
    return ids
