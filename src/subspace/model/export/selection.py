"""The part of a projection to export: its blocks, their dimensions, and their weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.model.class_nearness import ClassNearness
from subspace.model.projection import Projection, QuerySide


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class Selection:
    """The kept blocks, and a scale for each, applied after the block has unit length.

    Attributes:
        projection: Projection to the kept blocks and dimensions.
        scale: One factor per kept block; 1 without weights. With weights w it is
            sqrt(w / sum of w) for documents and queries, so that vectors have unit length and
            their inner product is the weighted mean of the blocks' cosines.
        nearness: By kept block, how queries prefer texts of their own classes.
    """

    projection: Projection
    scale: Mapping[str, float]
    nearness: Mapping[str, ClassNearness] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        projection: Projection,
        *,
        weights: Mapping[str, float] | None = None,
        dims: Mapping[str, int] | None = None,
        nearness: Mapping[str, ClassNearness] | None = None,
    ) -> "Selection":
        """Selects blocks and dimensions of a projection.

        Args:
            projection: Projection of the checkpoint.
            weights: Weight by block, 0 or more; blocks of weight 0 or without a weight are left
                out. None keeps every block unscaled.
            dims: Number of leading dimensions to keep, by block; all for blocks not named.
            nearness: That of the model.

        Raises:
            ConfigError: A block is unknown, a number of dimensions is out of range, no weight is
                above 0, or a block with classes would be cut.
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
            if nearness and name in nearness and widths[name] < widest:
                raise ConfigError(
                    f"dims: the classes that '{name}' learned from labels need all of its {widest} "
                    "dimensions"
                )
        total = sum(weights.values())
        return cls(
            projection=_cut(projection, layout=BlockLayout.from_widths(widths)),
            scale={name: sqrt(weights[name] / total) if weights else 1.0 for name in kept},
            nearness={name: near for name, near in (nearness or {}).items() if name in kept},
        )

    def is_complete(self, projection: Projection) -> bool:
        """Tells whether it keeps all blocks and dimensions of a projection, unscaled."""
        return self.projection.layout == projection.layout and {*self.scale.values()} == {1.0}

    def __call__(self, x: Vectors, *, queries: bool) -> Vectors:
        """Computes the export's vectors (N, kept dimensions) of embeddings (N, D)."""
        if not queries:
            return self.projection(x) * self.scales
        z = self.projection.queries(x)
        for name, near in self.nearness.items():
            place = self.projection.layout.slice(name)
            z[:, place] = near(z[:, place])
        return z * self.scales

    @property
    def scales(self) -> Vectors:
        """The scale of every kept dimension."""
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
