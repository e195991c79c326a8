"""History: recency and importance of the items of an index, computed from a usage log."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.errors import ConfigError
from subspace.retrieval.engines import Engine, Priors
from subspace.retrieval.usage.decay import UNUSED, Decay, ItemHistory, ItemValues
from subspace.retrieval.usage.traces import Traces, check_floor, check_half_life
from subspace.retrieval.usage.usage_log import UsageLog, believed_until, present
from subspace.retrieval.usage.use_rows import Entry
from subspace.retrieval.weights import Weights

# Number of uses that are read at once; their vectors are in memory together.
_BATCH = 4096
_DAY_S = 86_400.0
# In item scope a confirmed item is never less recent than one that was never used.
RECENCY_FLOOR = UNUSED
# In block scope ten old successes count as much as one now.
IMPORTANCE_FLOOR = 0.1


@dataclass(frozen=True)
class HistorySettings:
    """How recency and importance are computed from uses.

    Attributes:
        recency: Decay of the recency of an item with age; if None, linear over 50 steps, or over
            50 days of wall-clock time.
        half_life: Age at which a use counts half in the traces; if None, 50 steps or 50 days.
        recency_floor: Item scope: recency in [0, 1] below which a confirmed item does not fall:
            max(decay(age), floor). An item is confirmed while its success rate is above that of an
            item without uses.
        importance_floor: Block scope: share in [0, 1] of its weight that a rating keeps in the
            importance trace at any age: the weight is floor + (1 - floor) 2 ** -(age / half_life);
            0 for none.

    Raises:
        ConfigError: The half-life is not above 0, or a floor is outside [0, 1].
    """

    recency: Decay | None = None
    half_life: float | None = None
    recency_floor: float = RECENCY_FLOOR
    importance_floor: float = IMPORTANCE_FLOOR

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.half_life is not None:
            check_half_life(self.half_life)
        check_floor(self.recency_floor, name="recency floor")
        check_floor(self.importance_floor, name="importance floor")


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class _Pins:
    """The pinned items, and the vectors of those that are in the index, in one of its states."""

    names: tuple[str, ...] = ()
    state: object = None
    found: tuple[str, ...] = ()
    vectors: Vectors | None = None


class History:
    """Recency and importance in one namespace, of single items and as traces in the blocks.

    `refresh` reads only the uses that were logged since the last time, by any process, and takes
    O(dim) for each. Traces keep the vector that an item had when its use was read. If items are
    changed or removed later, a new `History` of the same log has other traces. Threads may share a
    history.

    A pinned item counts as used just now: in item scope its recency is 1, in block scope its vector
    is in the recency trace with the weight of age 0. Its importance is not below that of an item
    that was used once, now, with success.

    A use that lies more than a day ahead of the clock was written by a wrong clock. Its success
    counts, and when it was is taken as not known: it is left out of the recency trace, has the
    lowest weight in the importance trace, and gives the item no recency of its own.

    Attributes:
        log: The usage log.
        namespace: Whose uses are counted.
    """

    def __init__(
        self,
        log: UsageLog,
        *,
        engine: Engine,
        settings: HistorySettings | None = None,
        namespace: str = "",
    ) -> None:
        """Starts without uses; `refresh` reads the log.

        Args:
            log: The usage log.
            engine: Keeps the items' vectors.
            settings: How recency and importance are computed; the defaults if None.
            namespace: Whose uses are counted.
        """
        self.log = log
        self.namespace = namespace
        self._engine = engine
        self._settings = settings or HistorySettings()
        self._decay = self._settings.recency or Decay.default(log.clock)
        default = 50.0 if log.clock == "steps" else 50 * _DAY_S
        given = self._settings.half_life
        self._half_life = default if given is None else given
        self._lock = threading.RLock()
        self._now = 0.0
        self._pins = _Pins()
        self._forget()

    def _forget(self) -> None:
        """Starts again without uses."""
        self._items = ItemHistory(half_life=self._half_life)
        self._traces = Traces(
            layout=self._engine.layout,
            half_life=self._half_life,
            floor=self._settings.importance_floor,
        )
        self._position, self._forgotten = 0, 0
        # The newest use that is believed, and the oldest of those from the future.
        self._newest: float | None = None
        self._ahead: float | None = None

    def refresh(self) -> None:
        """Reads the uses that were logged since the last call, the pins, and the current time.

        A use of an item that is not in the index has no vector, so it is left out of the traces.
        It counts for the item itself, should the item be added later.
        """
        with self._lock:
            until = believed_until(self.log.clock)
            came = self._ahead is not None and self._ahead <= until
            if came or (self._newest is not None and self._newest > until):
                self._forget()  # the clock was set, or the time of a use has come
            forgotten = self.log.forgotten
            if forgotten != self._forgotten:  # uses that were counted may be gone
                self._forget()
                self._forgotten = forgotten
            entries = self.log.entries(self._position, namespace=self.namespace)
            while batch := list(islice(entries, _BATCH)):
                self._read(batch, until=until)
            self._read_pins()
            self._now = present(self.log.clock, newest=self._newest)

    def _read(self, batch: Sequence[Entry], *, until: float) -> None:
        uses = [entry.use for entry in batch]
        times = [use.time for use in uses]
        ahead, believed = [t for t in times if t > until], [t for t in times if t <= until]
        if ahead:
            uses = [use if use.time <= until else replace(use, time=-np.inf) for use in uses]
        found = self._engine.fetch(list(dict.fromkeys(use.item for use in uses)))
        row = {document.id: n for n, document in enumerate(found.documents)}
        there = [place for place, use in enumerate(uses) if use.item in row]
        known = [uses[place] for place in there]
        again = np.array([batch[place].rates for place in there], dtype=bool)
        self._traces.add(known, found.vectors[[row[use.item] for use in known]], again=again)
        # Nothing fails from here on: if a line above does, the batch is read again.
        self._items.add(uses)
        self._items.weigh(known)
        if ahead:
            self._ahead = min(ahead) if self._ahead is None else min(self._ahead, *ahead)
        if believed:
            self._newest = max(believed) if self._newest is None else max(self._newest, *believed)
        self._position = batch[-1].position

    def _read_pins(self) -> None:
        names = self.log.pins(namespace=self.namespace)
        if not names:
            self._pins = _Pins()
            return
        # The state is asked for first: what changes while vectors are read is read again.
        state = self._engine.state()
        if names != self._pins.names or state is None or state != self._pins.state:
            found = self._engine.fetch(list(names))
            ids = tuple(document.id for document in found.documents)
            self._pins = _Pins(names, state, ids, found.vectors)

    @property
    def recency(self) -> Vectors:
        """Trace r of recently used items (dim,), unit blocks."""
        with self._lock:
            return self._traces.recency_at(self._now, pinned=self._pins.vectors)

    @property
    def importance(self) -> Vectors:
        """Trace m of successful items (dim,), unit blocks."""
        with self._lock:
            return self._traces.importance_at(
                self._now, pinned=self._pins.vectors, lift=self._lift()
            )

    def traces(self) -> tuple[Vectors, Vectors]:
        """Returns the traces of recency and of importance at one moment."""
        with self._lock:
            return self.recency, self.importance

    def _lift(self) -> Floats | None:
        """Returns what the pinned items lack of the weight of one success of age 0."""
        if not self._pins.found:
            return None
        floor = self._settings.importance_floor
        return np.maximum(0.0, 1 - self._items.net(self._pins.found, self._now, floor=floor))

    @property
    def items(self) -> ItemValues:
        """Recency and importance of single items when the log was last read."""
        with self._lock:
            return self._items.at(
                self._now,
                decay=self._decay,
                floor=self._settings.recency_floor,
                pinned=self._pins.names,
            )

    def item_values(self, ids: list[str]) -> tuple[Floats, Floats]:
        """Returns recency and importance in [0, 1] of single items."""
        return self.items.of(ids)


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
