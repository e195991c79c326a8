"""Histories: the history of each namespace of a usage log, made when it is first asked for."""

import threading
from collections import OrderedDict

from subspace.retrieval.engines import Engine
from subspace.retrieval.usage.history import History, HistorySettings
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.usage.uses import check_namespace

# Number of namespaces whose histories are in memory.
NAMESPACES = 256


class Histories:
    """Histories by namespace; the one that was asked for longest ago is dropped when full.

    A history that was dropped is read from the log again when it is asked for. Threads may share
    one object.

    Attributes:
        log: The usage log.
    """

    def __init__(
        self,
        log: UsageLog,
        *,
        engine: Engine,
        settings: HistorySettings,
        most: int = NAMESPACES,
    ) -> None:
        """Starts without histories.

        Args:
            log: The usage log.
            engine: Keeps the items' vectors.
            settings: How recency and importance are computed.
            most: Largest number of histories in memory.
        """
        self.log = log
        self._engine = engine
        self._settings = settings
        self._most = most
        self._made: OrderedDict[str, History] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, namespace: str = "") -> History:
        """Returns the history of a namespace, as it was when it was last refreshed.

        Raises:
            UsageLogError: The name is not that of a namespace.
        """
        with self._lock:
            found = self._made.get(namespace) if isinstance(namespace, str) else None
            if found is None:
                found = self._made[namespace] = History(
                    self.log,
                    engine=self._engine,
                    settings=self._settings,
                    namespace=check_namespace(namespace),
                )
                if len(self._made) > self._most:
                    self._made.popitem(last=False)
            self._made.move_to_end(namespace)
            return found

    def __len__(self) -> int:
        """Returns the number of histories in memory."""
        return len(self._made)
