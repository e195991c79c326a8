"""Work: runs what clients ask for in a few threads, measures it, and gives up after a while."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from subspace.errors import EngineError, IndexFolderError, SubspaceError

T = TypeVar("T")

# Upper bounds of the histogram, in seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


# What clients are told of a defect, and no more.
FAILED = "the service failed; its log has the reason"

_log = logging.getLogger(__name__)


class FailedError(SubspaceError):
    """A request met a defect of the service, which is in its log."""


class TookTooLongError(SubspaceError):
    """A request took longer than the service allows."""


class Work:
    """Runs operations in threads, of which there are as many as the processor has cores.

    More threads would only wait for each other; requests beyond them wait in line.

    Attributes:
        registry: Counts and times of all operations, in the form that Prometheus reads.
    """

    def __init__(self, *, threads: int, seconds: float) -> None:
        """Starts without work.

        Args:
            threads: Operations that run at once.
            seconds: Longest time of an operation, waiting included.
        """
        self._limiter = anyio.CapacityLimiter(threads)
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

    async def run(self, operation: str, call: Callable[[], T]) -> T:
        """Runs one operation in a thread, and returns what it returns.

        A change that takes too long is not answered, but may still be made.

        Raises:
            TookTooLongError: It did not end in time.
            FailedError: It met a defect, which was logged.
            SubspaceError: As the operation raises it.
        """
        began, outcome = time.perf_counter(), "failed"
        try:
            with self._running.track_inprogress(), anyio.fail_after(self._seconds):
                found = await anyio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=self._limiter
                )
            outcome = "ok"
            return found
        except TimeoutError as error:
            outcome = "too_long"
            raise TookTooLongError(
                f"this took more than {self._seconds:g} seconds; ask for less at once, or later"
            ) from error
        except SubspaceError as error:
            outcome = "failed" if isinstance(error, EngineError | IndexFolderError) else "refused"
            raise
        except Exception as error:
            _log.exception("'%s' failed", operation)
            raise FailedError(FAILED) from error
        finally:
            self._count.labels(operation, outcome).inc()
            self._time.labels(operation).observe(time.perf_counter() - began)
