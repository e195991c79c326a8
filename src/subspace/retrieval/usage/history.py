"""History: what a usage log says of the items of an index, kept up to date use by use."""

from itertools import islice

from subspace.arrays import Floats, Vectors
from subspace.errors import ConfigError
from subspace.retrieval.engines import Engine, Priors
from subspace.retrieval.usage.decay import UNUSED, Decay, ItemHistory
from subspace.retrieval.usage.traces import Traces
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import Weights

# Uses that are counted at once: their vectors are in memory together.
_BATCH = 4096
_DAY_S = 86_400.0


class History:
    """Recency and importance of items, and of blocks, from one usage log.

    Reading goes on where it stopped: a use costs O(dim) once, whoever logged it. A use leaves the
    vector that its item had when it was read; after items were changed or removed, a history that
    is read anew goes by the vectors of now.

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
        """Reads nothing yet.

        Args:
            log: The usage log.
            engine: Where the items' vectors are.
            recency: How the recency of an item falls with age; a window of 50 steps, or of 50
                days of wall-clock time, if None.
            half_life: Age after which a use counts half in the traces of the blocks; 50 steps,
                or 50 days, if None.
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

    def refresh(self) -> None:
        """Counts what was logged since, and looks at the clock.

        Uses of items that are not in the index (any more) count for the item alone, should it
        come back: without a vector there is no trace.
        """
        uses = self.log.since(self._position)
        while batch := list(islice(uses, _BATCH)):
            logged = [use for _, use in batch]
            found = self._engine.fetch(list(dict.fromkeys(use.item for use in logged)))
            row = {document.id: n for n, document in enumerate(found.documents)}
            known = [use for use in logged if use.item in row]
            self._traces.add(known, found.vectors[[row[use.item] for use in known]])
            self._items.add(logged)  # after all that can fail, so that nothing is counted twice
            self._position = batch[-1][0]
        self._now = self.log.now()

    @property
    def recency(self) -> Vectors:
        """Trace r (dim,) of what was used lately, unit blocks."""
        return self._traces.recency

    @property
    def importance(self) -> Vectors:
        """Trace m (dim,) of what did well, unit blocks."""
        return self._traces.importance

    def item_values(self, ids: list[str]) -> tuple[Floats, Floats]:
        """Recency and importance in [0, 1] of items by themselves."""
        return self._items.of(ids, self._now, decay=self._decay)

    def priors(self, weights: Weights) -> Priors:
        """What recency and importance of the items by themselves add to their scores."""
        recency, importance = sum(weights.recency), sum(weights.importance)
        return Priors(
            ids=self._items.ids,
            values=recency * self._items.recency(self._now, decay=self._decay)
            + importance * self._items.importance(),
            default=(recency + importance) * UNUSED,
        )


def require(history: History | None) -> History:
    """A history, where recency and importance count.

    Raises:
        ConfigError: There is none.
    """
    if history is None:
        raise ConfigError(
            "recency and importance count, but there is no usage log to take them from: give one "
            "(`usage=` in Python, --usage on the command line), or weights of relevance alone"
        )
    return history
