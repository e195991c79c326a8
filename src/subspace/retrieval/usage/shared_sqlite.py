"""SQLite files that several processes read and write at the same time."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# Seconds that a writer waits for another one.
BUSY_S = 30.0
_PAUSE_S = 0.01


class HeldConnection(sqlite3.Connection):
    """A connection that threads use in turn, and whose commits can be delayed.

    Attributes:
        lock: To be held while the connection is used.
        opened: The file, as `open_shared` found it.
    """

    opened: "OpenedFile"
    _held = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Opens a file, as `sqlite3.connect` does."""
        super().__init__(*arguments, **options)
        self.lock = threading.RLock()

    def commit(self) -> None:
        """Commits, except within `holding`."""
        if not self._held:
            super().commit()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock.

        Raises:
            sqlite3.OperationalError: The file was moved, removed or replaced.
        """
        with self.lock:
            self.opened.check()
            yield

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Commits all changes within the block at its end; none of them if it raises."""
        with self.reading():
            outer, self._held = self._held, True
            try:
                yield
            except BaseException:
                self.rollback()
                raise
            finally:
                self._held = outer
            self.commit()


@dataclass(frozen=True)
class OpenedFile:
    """Which file a connection was opened on: SQLite would go on in one that has no name any more.

    Attributes:
        path: Absolute path of the file.
        identity: Its device and number; None for a database in memory.
    """

    path: Path
    identity: tuple[int, int] | None

    @classmethod
    def of(cls, path: Path | str) -> Self:
        """Looks at a file that was just opened.

        Raises:
            OSError: It is gone already.
        """
        if str(path) == ":memory:":
            return cls(Path(path), None)
        absolute = Path(path).absolute()
        return cls(absolute, _identity(absolute))

    def check(self) -> None:
        """Raises unless the path still leads to the file that was opened; takes microseconds.

        Raises:
            sqlite3.OperationalError: The file was moved, removed or replaced.
        """
        if self.identity is None:
            return
        try:
            same = _identity(self.path) == self.identity
        except OSError:
            same = False
        if not same:
            raise sqlite3.OperationalError(
                "it was moved, removed or replaced since it was opened; open it again"
            )


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def open_shared(path: Path | str) -> HeldConnection:
    """Opens a file; creates it and its folder if they do not exist.

    Raises:
        sqlite3.Error: The file cannot be opened.
        OSError: The folder cannot be created.
    """
    if str(path) != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=BUSY_S, factory=HeldConnection, check_same_thread=False
    )
    connection.opened = OpenedFile.of(path)
    return connection


def table_names(connection: sqlite3.Connection) -> set[str]:
    """Returns the names of all tables and indexes of a file; none if it is empty.

    Raises:
        sqlite3.Error: The file is not a database.
    """
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switches to write-ahead logging, so that readers need not wait for a writer.

    If several processes open a new file, SQLite refuses the switch at once, whatever the
    connection's timeout. So this function waits and tries again.

    Raises:
        sqlite3.Error: The file is not a database, cannot be written, or is locked for too long.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the primary code
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
