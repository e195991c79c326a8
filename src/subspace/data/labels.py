"""Labels: what the texts of one source are labelled with, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from subspace.arrays import AnyFloats, Floats, Ints
from subspace.data.records import SPLITS, Record, Split

# An ordered factor is cut at its quantiles into so many levels wherever classes are needed
# (between-class scatter, indicators of the guard); more levels would be noisier, fewer blind to
# what is not monotone.
LEVELS = 8
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Column:
    """One factor's labels over N texts.

    Attributes:
        codes: Class of each text (N,), -1 where it has no label. An ordered factor's classes are
            its levels between quantiles, in order.
        class_count: Number of classes.
        values: The numbers (N,), NaN where there is no label; None for categories.
        weights: How much the label of each text counts (N,), above 0; None if all count 1.
    """

    codes: Ints
    class_count: int
    values: Floats | None = None
    weights: Floats | None = None

    @property
    def ordered(self) -> bool:
        """Whether the labels are numbers."""
        return self.values is not None

    @property
    def labelled(self) -> Ints:
        """Positions of the texts that have a label."""
        return np.flatnonzero(self.codes >= 0)

    def take(self, positions: Ints) -> "Column":
        """The labels of some texts; classes keep their codes."""
        return replace(
            self,
            codes=self.codes[positions],
            values=None if self.values is None else self.values[positions],
            weights=None if self.weights is None else self.weights[positions],
        )


@dataclass(frozen=True)
class Labels:
    """All labels of one source's texts.

    Attributes:
        source: The source's name.
        columns: Labels by factor.
        groups: Group of each text (N,), -1 where it has none.
        splits: Position in `SPLITS` of each text's split (N,).
    """

    source: str
    columns: Mapping[str, Column]
    groups: Ints
    splits: Ints

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.groups)

    def take(self, positions: Ints) -> "Labels":
        """The labels of some texts, in the order of `positions`."""
        return Labels(
            source=self.source,
            columns={name: column.take(positions) for name, column in self.columns.items()},
            groups=self.groups[positions],
            splits=self.splits[positions],
        )

    def positions(self, split: Split) -> Ints:
        """Positions of the texts of one split."""
        return np.flatnonzero(self.splits == SPLITS.index(split))


def label_source(
    source: str, records: Sequence[Record], *, origin_weights: Mapping[str, float] | None = None
) -> Labels:
    """Turns the labels of one source's records into arrays.

    Quantiles of ordered factors come from the training part alone (from all if that is empty).

    Args:
        source: The source's name.
        records: Its records.
        origin_weights: How much labels count, by their origin (`checkpoint` stands for
            `checkpoint:NAME` too); 1 for human labels and where none is given, 0 leaves them out.
    """
    splits = np.array([SPLITS.index(record.split) for record in records], dtype=np.int64)
    names = dict.fromkeys(name for record in records for name in record.factors)
    labels = {name: [record.factors.get(name) for record in records] for name in names}
    weights = {name: _label_weights(records, name, origin_weights or {}) for name in names}
    for name, column in labels.items():
        labels[name] = [
            label if weight > 0 else None
            for label, weight in zip(column, weights[name], strict=True)
        ]
    return Labels(
        source=source,
        columns={
            name: replace(
                _make_column(column, in_train=splits == SPLITS.index("train")),
                weights=None if (weights[name] == 1).all() else weights[name],
            )
            for name, column in labels.items()
            if any(label is not None for label in column)
        },
        groups=_encode([record.group for record in records]),
        splits=splits,
    )


def control_labels(labels: AnyFloats, controls: Sequence[AnyFloats]) -> Floats:
    """Numbers (N,) without what the controls (N,) explain linearly; mean 0 and deviation 1.

    Numbers that the controls explain altogether become zeros.
    """
    given = np.asarray(labels, dtype=np.float64)
    design = np.stack([np.ones(len(given)), *controls], axis=1)
    fitted, *_ = np.linalg.lstsq(design, given, rcond=None)
    rest = given - design @ fitted
    deviation = rest.std()
    # Below this share of the numbers' own deviation there is nothing but rounding.
    if deviation <= _ROUNDING * max(float(given.std()), float(np.abs(given).max(initial=0.0))):
        return np.zeros(len(given))
    return np.asarray(rest / deviation)


def _label_weights(
    records: Sequence[Record], factor: str, origin_weights: Mapping[str, float]
) -> Floats:
    """How much each text's label counts (N,)."""
    origins = [record.origins.get(factor) or "" for record in records]
    kinds = [origin.partition(":")[0] for origin in origins]
    return np.array(
        [
            origin_weights.get(origin, origin_weights.get(kind, 1.0)) if origin else 1.0
            for origin, kind in zip(origins, kinds, strict=True)
        ]
    )


def _make_column(
    labels: Sequence[str | float | None], *, in_train: npt.NDArray[np.bool_]
) -> Column:
    if any(isinstance(label, str) for label in labels):
        codes = _encode(labels)
        return Column(codes=codes, class_count=int(codes.max()) + 1)
    values = np.array([np.nan if label is None else label for label in labels], dtype=np.float64)
    known = ~np.isnan(values)
    reference = values[known & in_train] if (known & in_train).any() else values[known]
    edges = _level_edges(reference)
    codes = np.where(known, np.searchsorted(edges, values, side="left"), -1)
    return Column(codes=codes, class_count=len(edges) + 1, values=values)


def _level_edges(values: Floats) -> Floats:
    """Inner edges of the levels: one level per value if there are few, quantiles otherwise.

    An edge lies midway between two neighbouring numbers, never on one. Where a quantile falls on
    a number (many texts can share it), the edge is the nearer end of that number's texts, the
    outer one if both are as near: a number that texts pile up at is told from the rest at the
    top of the range as at the bottom, and mirrored numbers get mirrored levels. (Only at the
    median is there no outer end; there the number goes to the lower level.)
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= LEVELS:
        return _midway(distinct[:-1], distinct[1:])
    below = np.cumsum(counts)[:-1]  # texts below each possible edge
    level = np.arange(1, LEVELS)
    wanted = (len(values) - 1) * level / LEVELS + 0.5  # where np.quantile looks
    right = np.searchsorted(below, wanted).clip(1, len(below) - 1)
    to_left, to_right = wanted - below[right - 1], below[right] - wanted
    leftwards = (to_left < to_right) | ((to_left == to_right) & (2 * level < LEVELS))
    edges = np.unique(np.where(leftwards, right - 1, right))
    return _midway(distinct[edges], distinct[edges + 1])


def _midway(lower: Floats, upper: Floats) -> Floats:
    """What separates two numbers, the lower one included in what lies below."""
    middle = lower / 2 + upper / 2
    # Between neighbouring floats there is nothing: rounding may give the upper one.
    return np.where(middle < upper, np.maximum(middle, lower), lower)


def _encode(labels: Sequence[str | float | None]) -> Ints:
    """Numbers texts in the order of their first occurrence; None becomes -1."""
    codes: dict[str | float, int] = {}
    return np.array(
        [-1 if label is None else codes.setdefault(label, len(codes)) for label in labels],
        dtype=np.int64,
    )
