"""One SQLite file that many processes read and write at once."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How long a writer waits for another one.
BUSY_S = 30.0
_PAUSE_S = 0.01


class HeldConnection(sqlite3.Connection):
    """A connection whose commits can be held, for what is to be written as a whole."""

    _held = False

    def commit(self) -> None:
        """Commits, unless commits are held."""
        if not self._held:
            super().commit()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """All that is written inside is committed at its end, or none of it."""
        self._held = True
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        finally:
            self._held = False
        self.commit()


def open_shared(path: Path | str) -> HeldConnection:
    """Opens a file, or makes it and its folder.

    Raises:
        sqlite3.Error: It cannot be opened.
        OSError: Its folder cannot be made.
    """
    if str(path) != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(path, timeout=BUSY_S, factory=HeldConnection)


def table_names(connection: sqlite3.Connection) -> set[str]:
    """Names of all tables of a file; none in an empty one.

    Raises:
        sqlite3.Error: It is no database.
    """
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Lets readers go on while one process writes.

    While several processes open a new file, SQLite refuses the switch at once, whatever the
    connection's timeout, so that waiting is left to us.

    Raises:
        sqlite3.Error: The file is no database, cannot be written, or is locked for too long.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the rest says why
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
