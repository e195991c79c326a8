"""Work: runs what clients ask for in a few threads, measures it, and gives up after a while."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from subspace.errors import EngineError, IndexFolderError, SubspaceError

T = TypeVar("T")

# Upper bounds of the histogram, in seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# What clients are told of a defect, and no more.
FAILED = "the service failed; its log has the reason"
# What they are told of an index that cannot be used: its error names folders.
UNUSABLE = (
    "the memory cannot be read or written now; the service's log has the reason. A change that was "
    "not answered may be saved together with a later one"
)

# What errors that a client cannot mend come from.
_OF_FILES = (sqlite3.Error, OSError)

_log = logging.getLogger(__name__)


class FailedError(SubspaceError):
    """A request met a defect of the service, which is in its log."""


class UnusableError(SubspaceError):
    """The index cannot be read or written, as the log says."""


class TookTooLongError(SubspaceError):
    """A request took longer than the service allows."""


class Work:
    """Runs operations in threads; what finds no free thread waits in line.

    Changes have threads of their own, one fewer than other operations: while many wait for a slow
    disk, searches go on.

    Attributes:
        registry: Counts and times of all operations, in the form that Prometheus reads.
    """

    def __init__(self, *, threads: int, seconds: float) -> None:
        """Starts without work.

        Args:
            threads: Operations that run at once, without changes.
            seconds: Longest time of an operation, waiting included.
        """
        self._reading = ThreadPoolExecutor(threads, thread_name_prefix="subspace-read")
        self._writing = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="subspace-write")
        self._seconds = seconds
        self.registry = CollectorRegistry()
        self._count = Counter(
            "subspace_operations_total",
            "Operations by name and outcome (ok, refused, too_long, failed).",
            ["operation", "outcome"],
            registry=self.registry,
        )
        self._time = Histogram(
            "subspace_operation_seconds",
            "Time of an operation, waiting for a thread included.",
            ["operation"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._running = Gauge(
            "subspace_operations_running",
            "Operations that run or wait.",
            registry=self.registry,
        )

    def watch_items(self, count: Callable[[], int]) -> None:
        """Adds the number of items to what is measured."""
        Gauge("subspace_items", "Items of the memory.", registry=self.registry).set_function(
            lambda: float(count())
        )

    def close(self) -> None:
        """Waits for the operations that run, and drops those that wait."""
        for pool in (self._reading, self._writing):
            pool.shutdown(cancel_futures=True)

    async def run(self, operation: str, call: Callable[[], T], *, changes: bool = False) -> T:
        """Runs one operation in a thread, and returns what it returns.

        One that takes too long is not answered. If it has not begun, it never will; a change that
        has begun is still made.

        Args:
            operation: Its name among the figures.
            call: The operation.
            changes: Whether it changes something.

        Raises:
            TookTooLongError: It did not end in time.
            FailedError: It met a defect, which was logged.
            UnusableError: The index cannot be used, for a reason that was logged.
            SubspaceError: As the operation raises it.
        """
        began, outcome = time.perf_counter(), "failed"
        pool = self._writing if changes else self._reading
        try:
            with self._running.track_inprogress():
                async with asyncio.timeout(self._seconds):
                    found = await asyncio.wrap_future(pool.submit(call))
            outcome = "ok"
            return found
        except TimeoutError as error:
            outcome = "too_long"
            raise TookTooLongError(
                f"this took more than {self._seconds:g} seconds; ask for less at once, or later"
            ) from error
        except SubspaceError as error:
            # Errors of files name their place, which is nobody's business but the operator's.
            if isinstance(error, IndexFolderError) or isinstance(error.__cause__, _OF_FILES):
                _log.error("'%s': %s", operation, error)
                raise UnusableError(UNUSABLE) from error
            outcome = "failed" if isinstance(error, EngineError) else "refused"
            raise
        except Exception as error:
            _log.exception("'%s' failed", operation)
            raise FailedError(FAILED) from error
        finally:
            self._count.labels(operation, outcome).inc()
            self._time.labels(operation).observe(time.perf_counter() - began)
