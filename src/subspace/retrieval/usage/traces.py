"""Traces: recency and importance per block, shared with items that are similar in the block.

For every block b, over the uses i of items with blocks d_i, at times t_i, with half-life h::

    r_b = unit( sum_i 2 ** -((t - t_i) / h) d_ib )
    m_b = unit( sum_i 2 ** -((t - t_i) / h) (2 s_i - 1) d_ib )

where t is the current time and s_i in [0, 1] the success of use i; uses without a rating are left
out of m. The score of an item d gets the terms wR <r_b, d_b> + wI <m_b, d_b>, which are folded into
the query. As traces are scaled to unit length, the current time t cancels. So each sum is kept as
of its latest use, and adding a use takes O(dim), whatever the length of the log. Where uses cancel
(an item succeeded as often as it failed), the trace is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import ConfigError
from subspace.retrieval.usage.usage_log import Use

# A sum whose norm is below this share of its absolute weights is rounding error: its uses cancel.
_CANCELLED = 1e-9


@dataclass
class _DecayedSum:
    """A sum of vectors that decay exponentially with age, as of the time of the latest vector."""

    layout: BlockLayout
    half_life: float
    latest: float = -np.inf
    total: Floats = field(init=False)
    # Decayed sum of the absolute weights: the largest norm that a block of `total` can have.
    size: float = 0.0

    def __post_init__(self) -> None:
        self.total = np.zeros(self.layout.dim)

    def add(self, vectors: Vectors, *, weights: Floats, times: Floats) -> None:
        if not len(times):
            return
        latest = max(self.latest, float(times.max()))
        fading = float(self._fade(latest - self.latest)) if self.size else 0.0
        weights = weights * self._fade(latest - times)
        self.total = self.total * fading + weights @ vectors
        self.size = self.size * fading + float(np.abs(weights).sum())
        self.latest = latest

    def unit(self) -> Vectors:
        """Returns the sum with each block scaled to unit length; 0 where the vectors cancel."""
        blocks = self.layout.split(self.total)
        kept = [np.linalg.norm(block) > _CANCELLED * self.size for block in blocks.values()]
        total = self.total * np.repeat(kept, self.layout.widths)
        return unit_blocks(total, layout=self.layout).astype(np.float32)

    def _fade(self, age: npt.ArrayLike) -> Floats:
        return np.asarray(np.exp2(-np.asarray(age, dtype=np.float64) / self.half_life))


@dataclass
class Traces:
    """The traces r (recency) and m (importance).

    Attributes:
        layout: The blocks.
        half_life: Age at which a use counts half, in steps or seconds.

    Raises:
        ConfigError: The half-life is not above 0.
    """

    layout: BlockLayout
    half_life: float
    _used: _DecayedSum = field(init=False)
    _rated: _DecayedSum = field(init=False)

    def __post_init__(self) -> None:
        """Checks the half-life, and starts without uses."""
        if not self.half_life > 0:
            raise ConfigError(f"the half-life must be above 0, got {self.half_life}")
        self._used = _DecayedSum(self.layout, self.half_life)
        self._rated = _DecayedSum(self.layout, self.half_life)

    @property
    def recency(self) -> Vectors:
        """The trace r (dim,) in unit blocks; 0 if nothing was used."""
        return self._used.unit()

    @property
    def importance(self) -> Vectors:
        """The trace m (dim,) in unit blocks; 0 if nothing was rated."""
        return self._rated.unit()

    def add(self, uses: Sequence[Use], vectors: Vectors) -> None:
        """Adds uses, in any order.

        Args:
            uses: The uses.
            vectors: Unit blocks of the item of each use (len(uses), dim).
        """
        times = np.array([use.time for use in uses], dtype=np.float64)
        self._used.add(vectors, weights=np.ones(len(uses)), times=times)
        ratings = np.array([0.0 if u.success is None else 2 * u.success - 1 for u in uses])
        rated = np.flatnonzero(ratings)
        self._rated.add(vectors[rated], weights=ratings[rated], times=times[rated])
