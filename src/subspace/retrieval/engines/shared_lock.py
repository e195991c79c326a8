"""SharedLock: many threads may read at once, and one may write while no other reads or writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class SharedLock:
    """A lock that readers share; a waiting writer comes before readers that come after it.

    A thread must not take it twice.
    """

    def __init__(self) -> None:
        """Starts free."""
        self._turn = Condition()
        self._readers = 0
        self._writers = 0  # waiting, or writing
        self._writes = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Holds the lock beside other readers."""
        with self._turn:
            self._turn.wait_for(lambda: not self._writers)
            self._readers += 1
        try:
            yield
        finally:
            with self._turn:
                self._readers -= 1
                self._turn.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the lock alone."""
        with self._turn:
            self._writers += 1
            try:
                self._turn.wait_for(lambda: not self._readers and not self._writes)
                self._writes = True
            except BaseException:
                self._writers -= 1
                self._turn.notify_all()
                raise
        try:
            yield
        finally:
            with self._turn:
                self._writes = False
                self._writers -= 1
                self._turn.notify_all()
