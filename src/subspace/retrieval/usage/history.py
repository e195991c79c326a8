"""History: recency and importance of the items of an index, computed from a usage log."""

import threading
from itertools import islice

from subspace.arrays import Floats, Vectors
from subspace.errors import ConfigError
from subspace.retrieval.engines import Engine, Priors
from subspace.retrieval.usage.decay import UNUSED, Decay, ItemHistory, ItemValues
from subspace.retrieval.usage.traces import Traces
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import Weights

# Number of uses that are read at once; their vectors are in memory together.
_BATCH = 4096
_DAY_S = 86_400.0


class History:
    """Recency and importance, of single items and as traces in the blocks, from one usage log.

    `refresh` reads only the uses that were logged since the last time, by any process, and takes
    O(dim) for each. Traces keep the vector that an item had when its use was read. If items are
    changed or removed later, a new `History` of the same log has other traces. Threads may share a
    history.

    Attributes:
        log: The usage log.
    """

    def __init__(
        self,
        log: UsageLog,
        *,
        engine: Engine,
        recency: Decay | None = None,
        half_life: float | None = None,
    ) -> None:
        """Starts without uses; `refresh` reads the log.

        Args:
            log: The usage log.
            engine: Keeps the items' vectors.
            recency: Decay of the recency of an item with age; if None, linear over 50 steps, or
                over 50 days of wall-clock time.
            half_life: Age at which a use counts half in the traces; if None, 50 steps or 50
                days.

        Raises:
            ConfigError: The half-life is not above 0.
        """
        self.log = log
        self._engine = engine
        self._decay = recency or Decay.default(log.clock)
        self._items = ItemHistory()
        default = 50.0 if log.clock == "steps" else 50 * _DAY_S
        self._traces = Traces(
            layout=engine.layout, half_life=default if half_life is None else half_life
        )
        self._position = 0
        self._now = 0.0
        self._lock = threading.RLock()

    def refresh(self) -> None:
        """Reads the uses that were logged since the last call, and the current time.

        A use of an item that is not in the index has no vector, so it is left out of the traces.
        It counts for the item itself, should the item be added later.
        """
        with self._lock:
            uses = self.log.since(self._position)
            while batch := list(islice(uses, _BATCH)):
                logged = [use for _, use in batch]
                found = self._engine.fetch(list(dict.fromkeys(use.item for use in logged)))
                row = {document.id: n for n, document in enumerate(found.documents)}
                known = [use for use in logged if use.item in row]
                self._traces.add(known, found.vectors[[row[use.item] for use in known]])
                self._items.add(logged)  # last: if a line above fails, the batch is read again
                self._position = batch[-1][0]
            self._now = self.log.now()

    @property
    def recency(self) -> Vectors:
        """Trace r of recently used items (dim,), unit blocks."""
        with self._lock:
            return self._traces.recency

    @property
    def importance(self) -> Vectors:
        """Trace m of successful items (dim,), unit blocks."""
        with self._lock:
            return self._traces.importance

    @property
    def items(self) -> ItemValues:
        """Recency and importance of single items when the log was last read."""
        with self._lock:
            return self._items.at(self._now, decay=self._decay)

    def item_values(self, ids: list[str]) -> tuple[Floats, Floats]:
        """Returns recency and importance in [0, 1] of single items."""
        return self.items.of(ids)

    def priors(self, weights: Weights) -> Priors:
        """Returns what recency and importance of single items add to their scores."""
        return item_priors(self.items, weights=weights)


def item_priors(items: ItemValues, *, weights: Weights) -> Priors:
    """Returns what recency and importance of single items add to their scores."""
    recency, importance = sum(weights.recency), sum(weights.importance)
    return Priors(
        ids=items.ids,
        values=recency * items.recency + importance * items.importance,
        default=(recency + importance) * UNUSED,
    )


def require(history: History | None) -> History:
    """Returns the history; raises unless there is one.

    Raises:
        ConfigError: There is no history, as the index has no usage log.
    """
    if history is None:
        raise ConfigError(
            "recency and importance count, but there is no usage log to take them from: give one "
            "(`usage=` in Python, --usage on the command line), or weights of relevance alone"
        )
    return history
