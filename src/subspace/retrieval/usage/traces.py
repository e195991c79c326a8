"""Traces: recency and importance per block, shared with items that are similar in the block.

For every block b, over the uses i of items with blocks d_i, at times t_i, with half-life h, floor g
and pinned items p::

    r_b = unit( sum_i 2 ** -((t - t_i) / h) d_ib  +  sum_p d_pb )
    m_b = unit( sum_i (g + (1 - g) 2 ** -((t - t_i) / h)) (2 s_i - 1) d_ib  +  sum_p l_p d_pb )

where t is the current time and s_i in [0, 1] the success of use i; uses without a rating are left
out of m. The score of an item d gets the terms wR <r_b, d_b> + wI <m_b, d_b>, which are folded into
the query. Where uses cancel (an item succeeded as often as it failed), the trace is 0.

With the floor g in [0, 1] a rating never counts less than g times what it counted when it was new,
so that an item that succeeded long ago does not fade behind new ones. A pinned item counts in r as
one more use of age 0. In m it gets what its own ratings lack (l_p = max(0, 1 - its sum of weights))
so that it counts there as one success of age 0 at least.

Each sum is kept as of its latest use, and adding a use takes O(dim), whatever the length of the
log. As traces are scaled to unit length, the current time t cancels where g is 0 and nothing is
pinned. Otherwise the sum is first faded to t, and added to one that does not decay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import ConfigError
from subspace.retrieval.usage.uses import Use

# A sum whose norm is below this share of its absolute weights is rounding error: its uses cancel.
_CANCELLED = 1e-9


@dataclass
class _Sum:
    """A weighted sum of vectors.

    Attributes:
        layout: The blocks.
        total: The sum (dim,).
        size: Sum of the absolute weights: the largest norm that a block of `total` can have.
    """

    layout: BlockLayout
    total: Floats = field(init=False)
    size: float = 0.0
    _unit: Vectors | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.layout.dim)

    def put(self, vectors: Vectors, weights: Floats) -> None:
        """Adds weighted vectors (N, dim)."""
        self.total = self.total + weights @ vectors
        self.size += float(np.abs(weights).sum())
        self._unit = None

    def plus(self, other: "_Sum", *, own: float, others: float) -> "_Sum":
        """Returns a new sum, of this one and another, each times a factor of 0 or more."""
        made = _Sum(self.layout)
        made.total = own * self.total + others * other.total
        made.size = own * self.size + others * other.size
        return made

    def unit(self) -> Vectors:
        """Returns the sum with each block scaled to unit length; 0 where the vectors cancel.

        It is kept until a vector is added, and not to be changed.
        """
        if self._unit is None:
            blocks = self.layout.split(self.total)
            kept = [np.linalg.norm(block) > _CANCELLED * self.size for block in blocks.values()]
            total = self.total * np.repeat(kept, self.layout.widths)
            self._unit = unit_blocks(total, layout=self.layout).astype(np.float32)
        return self._unit


@dataclass
class _DecayedSum(_Sum):
    """A sum of vectors that decay exponentially with age, as of the time of the latest vector."""

    half_life: float = np.inf
    latest: float = -np.inf

    def add(self, vectors: Vectors, *, weights: Floats, times: Floats) -> None:
        """Adds weighted vectors (N, dim) of some times; leaves out those of time -inf."""
        known = times > -np.inf
        if not known.all():
            vectors, weights, times = vectors[known], weights[known], times[known]
        if not len(times):
            return
        latest = max(self.latest, float(times.max()))
        fading = self.fading(latest)
        self.total = self.total * fading
        self.size = self.size * fading
        self.put(vectors, weights * self._fade(latest - times))
        self.latest = latest

    def fading(self, now: float) -> float:
        """Returns the factor that brings the sum to a time that is not before its latest vector."""
        return float(self._fade(now - self.latest)) if self.size else 0.0

    def _fade(self, age: npt.ArrayLike) -> Floats:
        return np.asarray(np.exp2(-np.asarray(age, dtype=np.float64) / self.half_life))


@dataclass
class Traces:
    """The traces r (recency) and m (importance).

    Attributes:
        layout: The blocks.
        half_life: Age at which a use counts half, in steps or seconds.
        floor: Share in [0, 1] of its weight that a rating keeps in m at any age.

    Raises:
        ConfigError: The half-life is not above 0, or the floor is outside [0, 1].
    """

    layout: BlockLayout
    half_life: float
    floor: float = 0.0
    _used: _DecayedSum = field(init=False)
    _rated: _DecayedSum = field(init=False)
    _ratings: _Sum = field(init=False)

    def __post_init__(self) -> None:
        """Checks the settings, and starts without uses."""
        check_half_life(self.half_life)
        check_floor(self.floor, name="importance floor")
        self._used = _DecayedSum(self.layout, half_life=self.half_life)
        self._rated = _DecayedSum(self.layout, half_life=self.half_life)
        self._ratings = _Sum(self.layout)

    @property
    def recency(self) -> Vectors:
        """The trace r (dim,) in unit blocks, without pins; 0 if nothing was used."""
        return self._used.unit()

    @property
    def importance(self) -> Vectors:
        """The trace m (dim,) in unit blocks at the time of the latest use, without pins.

        It is 0 if nothing was rated.
        """
        return self.importance_at(self._used.latest)

    def recency_at(self, now: float, *, pinned: Vectors | None = None) -> Vectors:
        """Returns the trace r (dim,) in unit blocks.

        Args:
            now: The current time, not before any use.
            pinned: Unit blocks of the pinned items (P, dim).
        """
        if pinned is None or not len(pinned):
            return self._used.unit()
        held = self._weighted(pinned, np.ones(len(pinned)))
        return held.plus(self._used, own=1.0, others=self._used.fading(now)).unit()

    def importance_at(
        self, now: float, *, pinned: Vectors | None = None, lift: Floats | None = None
    ) -> Vectors:
        """Returns the trace m (dim,) in unit blocks.

        Args:
            now: The current time, not before any use.
            pinned: Unit blocks of the pinned items (P, dim).
            lift: The weight l_p (P,) that each of them lacks.
        """
        if not self.floor and (lift is None or not lift.any()):
            return self._rated.unit()
        share = (1 - self.floor) * self._rated.fading(now)
        total = self._ratings.plus(self._rated, own=self.floor, others=share)
        if pinned is not None and lift is not None:
            total = total.plus(self._weighted(pinned, lift), own=1.0, others=1.0)
        return total.unit()

    def add(
        self, uses: Sequence[Use], vectors: Vectors, *, again: npt.NDArray[np.bool_] | None = None
    ) -> None:
        """Adds uses, in any order; a time of -inf stands for one that is not known.

        A use of unknown time counts in m as one of infinite age, and is left out of r.

        Args:
            uses: The uses.
            vectors: Unit blocks of the item of each use (len(uses), dim).
            again: Whether a use is there already, so that only its rating is added
                (len(uses),).
        """
        times = np.array([use.time for use in uses], dtype=np.float64)
        fresh = np.ones(len(uses), dtype=bool) if again is None else ~again
        self._used.add(vectors[fresh], weights=np.ones(int(fresh.sum())), times=times[fresh])
        ratings = np.array([0.0 if u.success is None else 2 * u.success - 1 for u in uses])
        rated = np.flatnonzero(ratings)
        self._rated.add(vectors[rated], weights=ratings[rated], times=times[rated])
        if self.floor:
            self._ratings.put(vectors[rated], ratings[rated])

    def _weighted(self, vectors: Vectors, weights: Floats) -> _Sum:
        made = _Sum(self.layout)
        made.put(vectors, weights)
        return made


def check_half_life(half_life: float) -> None:
    """Raises `ConfigError` unless a half-life is above 0."""
    if not half_life > 0:
        raise ConfigError(f"the half-life must be above 0, got {half_life}")


def check_floor(floor: float, *, name: str) -> None:
    """Raises `ConfigError` unless a floor is between 0 and 1."""
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= 1:
        raise ConfigError(f"the {name} must be between 0 and 1, got {floor!r:.60}")
