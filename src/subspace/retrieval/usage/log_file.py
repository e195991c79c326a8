"""LogFile: the SQLite file of a usage log, which threads use in turn."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from subspace.errors import UsageLogError
from subspace.retrieval.usage.shared_sqlite import OpenedFile


class LogFile:
    """A connection whose statements and transactions wait for those of other threads.

    Attributes:
        path: The file.
        connection: The connection, without transactions of its own.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Takes over an open connection that any thread may use."""
        self.path = path
        self.connection = connection
        # Held while the connection is used: a transaction of one thread would otherwise hold
        # what another writes.
        self._lock = threading.RLock()
        self._opened = OpenedFile.of(path)

    @property
    def is_there(self) -> bool:
        """Whether the file is still where it was opened; not moved, removed or replaced."""
        try:
            self._opened.check()
        except sqlite3.OperationalError:
            return False
        return True

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self.connection.close()

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Runs a statement and returns all of its rows.

        Raises:
            UsageLogError: The file cannot be used.
        """
        with self._lock, translate_errors(self.path):
            self._opened.check()
            return self.connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Returns the first row of a query; None without one."""
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def change(self, statement: str, values: Iterable[Sequence[object]]) -> int:
        """Runs a statement once for each of several values; returns how many rows it changed."""
        with self._lock, translate_errors(self.path):
            return self.connection.executemany(statement, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Opens a write transaction; commits it after the block, or rolls it back on an error."""
        with self._lock:
            self.rows("BEGIN IMMEDIATE")
            try:
                yield
                self.rows("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite may have rolled back
                    # Also in a file that was moved, where others would wait for the lock.
                    with translate_errors(self.path):
                        self.connection.execute("ROLLBACK")
                raise


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and of the system into a `UsageLogError` that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: damaged files
        raise UsageLogError(f"the usage log {path} cannot be used: {error}") from error
