"""What of a projection is exported: which blocks, how many of their dimensions, which weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.model.projection import Projection, QuerySide


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Selection:
    """The blocks that are kept, and what each is multiplied by once it has unit length.

    Attributes:
        projection: Of the kept blocks and dimensions alone.
        scale: One factor per kept block; 1 without weights. With weights w it is
            sqrt(w / sum of w) on both sides, so that vectors have unit length and their inner
            product is the weighted mean of the blocks' cosines.
    """

    projection: Projection
    scale: Mapping[str, float]

    @classmethod
    def make(
        cls,
        projection: Projection,
        *,
        weights: Mapping[str, float] | None = None,
        dims: Mapping[str, int] | None = None,
    ) -> "Selection":
        """Chooses.

        Args:
            projection: Of the checkpoint.
            weights: Weight by block, not negative; those of weight 0 are left out. None keeps
                every block as it is.
            dims: How many leading dimensions to keep, by block; all where none is named.

        Raises:
            ConfigError: A block is unknown, a number of dimensions is not one that it has, or no
                weight is above 0.
        """
        layout, weights = projection.layout, dict(weights or {})
        for option, named in (("weights", weights), ("dims", dims or {})):
            unknown = [name for name in named if name not in layout.names]
            if unknown:
                raise ConfigError(
                    f"{option}: no block {', '.join(unknown)}; the blocks are {', '.join(layout)}"
                )
        if weights and not (min(weights.values()) >= 0 < sum(weights.values()) < np.inf):
            raise ConfigError("weights: must be finite, 0 or more, and one of them above 0")
        kept = [name for name in layout if not weights or weights.get(name, 0) > 0]
        widths = {name: dict(dims or {}).get(name, layout.to_widths()[name]) for name in kept}
        for name in dims or {}:
            widest = layout.to_widths()[name]
            if name not in kept or not 1 <= widths[name] <= widest:
                raise ConfigError(
                    f"dims: '{name}' must be a block that is kept, with 1 to {widest} dimensions"
                )
        total = sum(weights.values())
        return cls(
            projection=_cut(projection, layout=BlockLayout.from_widths(widths)),
            scale={name: sqrt(weights[name] / total) if weights else 1.0 for name in kept},
        )

    def is_complete(self, projection: Projection) -> bool:
        """Whether it keeps all of a projection as it is."""
        return self.projection.layout == projection.layout and {*self.scale.values()} == {1.0}

    def __call__(self, x: Vectors, *, queries: bool) -> Vectors:
        """What the export must give for embeddings (N, D): (N, kept dimensions)."""
        z = self.projection.queries(x) if queries else self.projection(x)
        return z * self.scales

    @property
    def scales(self) -> Vectors:
        """The factor of every dimension."""
        return np.repeat(
            np.array(list(self.scale.values()), dtype=np.float32), self.projection.layout.widths
        )


def _cut(projection: Projection, *, layout: BlockLayout) -> Projection:
    starts = [projection.layout.slice(name).start for name in layout]
    rows = np.concatenate(
        [np.arange(start, start + n) for start, n in zip(starts, layout.widths, strict=True)]
    )
    query = projection.query
    return Projection(
        weight=projection.weight[rows],
        mean=projection.mean,
        layout=layout,
        offset=None if projection.offset is None else projection.offset[rows],
        query=None if query is None else QuerySide(query.weight[rows], query.offset[rows]),
    )
