"""Recency and importance per block: credit that spreads to items that are alike in the block.

For every block b, over the uses i of items with blocks d_i, at times t_i, with half-life h::

    r_b = unit( sum_i 2 ** -((t - t_i) / h) d_ib )
    m_b = unit( sum_i 2 ** -((t - t_i) / h) (2 s_i - 1) d_ib )

where s_i in [0, 1] is the success of use i; uses that nobody rated count in r alone. The score of
an item d is then wR <r_b, d_b> + wI <m_b, d_b>, which folds into the query. As traces are scaled to
unit length, time itself changes nothing: only how the uses stand to one another counts. So each
sum is kept for the time of its latest use, and a use costs O(dim), whatever the length of the
log. Where uses cancel (an item that did well as often as badly), the trace is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import ConfigError
from subspace.retrieval.usage.usage_log import Use

# A sum this small beside what went into it is what rounding left of uses that cancel.
_CANCELLED = 1e-9


@dataclass
class _DecayedSum:
    """A sum of vectors that fade, as of the latest of them: later it is the same but for scale."""

    layout: BlockLayout
    half_life: float
    latest: float = -np.inf
    total: Floats = field(init=False)
    # The same of absolute weights: how long the sum of a block were if nothing cancelled.
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
        """The sum in unit blocks; a block in which everything cancels is 0."""
        blocks = self.layout.split(self.total)
        kept = [np.linalg.norm(block) > _CANCELLED * self.size for block in blocks.values()]
        total = self.total * np.repeat(kept, self.layout.widths)
        return unit_blocks(total, layout=self.layout).astype(np.float32)

    def _fade(self, age: npt.ArrayLike) -> Floats:
        return np.asarray(np.exp2(-np.asarray(age, dtype=np.float64) / self.half_life))


@dataclass
class Traces:
    """The decayed sums of what was used, and of how well it did.

    Attributes:
        layout: The blocks.
        half_life: Time after which a use counts half, in steps or seconds.

    Raises:
        ConfigError: The half-life is not above 0.
    """

    layout: BlockLayout
    half_life: float
    _used: _DecayedSum = field(init=False)
    _rated: _DecayedSum = field(init=False)

    def __post_init__(self) -> None:
        """Starts from nothing."""
        if not self.half_life > 0:
            raise ConfigError(f"the half-life must be above 0, got {self.half_life}")
        self._used = _DecayedSum(self.layout, self.half_life)
        self._rated = _DecayedSum(self.layout, self.half_life)

    @property
    def recency(self) -> Vectors:
        """The trace r (dim,): unit blocks, 0 where nothing was used."""
        return self._used.unit()

    @property
    def importance(self) -> Vectors:
        """The trace m (dim,): unit blocks, 0 where nothing was rated."""
        return self._rated.unit()

    def add(self, uses: Sequence[Use], vectors: Vectors) -> None:
        """Counts uses, in any order.

        Args:
            uses: The uses.
            vectors: Unit blocks (len(uses), dim) of the item of each use.
        """
        times = np.array([use.time for use in uses], dtype=np.float64)
        self._used.add(vectors, weights=np.ones(len(uses)), times=times)
        ratings = np.array([0.0 if u.success is None else 2 * u.success - 1 for u in uses])
        rated = np.flatnonzero(ratings)
        self._rated.add(vectors[rated], weights=ratings[rated], times=times[rated])
