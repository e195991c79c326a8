"""Labels: the labels of one source's texts, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from subspace.arrays import AnyFloats, Floats, Ints
from subspace.data.records import SPLITS, Record, Split

# Number of levels into which an ordered factor is cut at its quantiles where classes are needed
# (between-class scatter, indicators of the guard). More levels would be noisier; fewer would miss
# relations that are not monotone.
LEVELS = 8
_ROUNDING = 1e-9
# Numbers are equal up to rounding if they differ by no more than this share of the largest one.
_SAME = 4 * float(np.finfo(np.float64).eps)
# Training computes in single precision, and squares numbers. Those that are larger than the first
# of these, or smaller than one over it, or vary by a smaller share than the second, are
# standardised before.
_MOST, _LEAST_SHARE = 1e15, 1e-4


@dataclass(frozen=True)
class Column:
    """One factor's labels of N texts.

    Attributes:
        codes: Class of each text (N,), -1 where it has no label. The classes of an ordered factor
            are its levels between quantiles, in ascending order.
        class_count: Number of classes.
        values: The numbers (N,), NaN where there is no label; None for categories.
        weights: Weight of each text's label (N,), above 0 where there is one; None if all are 1.
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
        """Selects the labels of the texts at `positions`; classes keep their codes."""
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
        groups: Number of each text's group (N,), -1 where it has none.
        splits: Split of each text (N,), as its position in `SPLITS`.
    """

    source: str
    columns: Mapping[str, Column]
    groups: Ints
    splits: Ints

    def __len__(self) -> int:
        """Returns the number of texts."""
        return len(self.groups)

    def take(self, positions: Ints) -> "Labels":
        """Selects the labels of the texts at `positions`, in that order."""
        return Labels(
            source=self.source,
            columns={name: column.take(positions) for name, column in self.columns.items()},
            groups=self.groups[positions],
            splits=self.splits[positions],
        )

    def positions(self, split: Split) -> Ints:
        """Returns the positions of the texts of one split."""
        return np.flatnonzero(self.splits == SPLITS.index(split))


def label_source(
    source: str, records: Sequence[Record], *, origin_weights: Mapping[str, float] | None = None
) -> Labels:
    """Turns the labels of one source's records into arrays.

    Quantiles of ordered factors are taken from training texts only (from all texts if no training
    text has a label).

    Args:
        source: The source's name.
        records: Its records.
        origin_weights: Weight of labels by their origin; `checkpoint` also stands for
            `checkpoint:NAME`. Human labels and origins not named have weight 1; weight 0 leaves
            labels out.
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
                make_column(column, in_train=splits == SPLITS.index("train")),
                weights=None if (weights[name] == 1).all() else weights[name],
            )
            for name, column in labels.items()
            if any(label is not None for label in column)
        },
        groups=_encode([record.group for record in records]),
        splits=splits,
    )


def make_column(labels: Sequence[str | float | None], *, in_train: npt.NDArray[np.bool_]) -> Column:
    """Turns one factor's labels into arrays.

    Args:
        labels: Label of each text (N,): texts for categories, else numbers; None for no label.
        in_train: Which texts may be learned from (N,).
    """
    if any(isinstance(label, str) for label in labels):
        codes = _encode(labels)
        return Column(codes=codes, class_count=int(codes.max()) + 1)
    values = np.array([np.nan if label is None else label for label in labels], dtype=np.float64)
    known = ~np.isnan(values)
    values[known] = _carried(values[known])
    reference = values[known & in_train] if (known & in_train).any() else values[known]
    edges = _level_edges(reference)
    codes = np.where(known, np.searchsorted(edges, values, side="left"), -1)
    return Column(codes=codes, class_count=len(edges) + 1, values=values)


def control_labels(labels: AnyFloats, controls: Sequence[AnyFloats]) -> Floats:
    """Removes from labels (N,) the part that the controls (N,) explain linearly.

    The result has mean 0 and standard deviation 1. Labels that the controls explain completely
    become zeros.
    """
    given = standardise(labels)
    design = np.stack([np.ones(len(given)), *controls], axis=1)
    fitted, *_ = np.linalg.lstsq(design, given, rcond=None)
    rest = given - design @ fitted
    deviation = rest.std()
    # The labels have deviation 1: a residual this small is rounding error.
    if deviation <= _ROUNDING:
        return np.zeros(len(given))
    return np.asarray(rest / deviation)


def standardise(numbers: AnyFloats) -> Floats:
    """Scales numbers (N,) of any offset and size to mean 0 and standard deviation 1.

    Numbers that are equal up to rounding become zeros.
    """
    given = np.asarray(numbers, dtype=np.float64)
    _, exponent = np.frexp(np.abs(given).max(initial=0.0))
    # Neither a power of 2 nor the difference to a near number is rounded, and no square overflows.
    scaled = np.ldexp(given, -exponent)
    if not len(scaled) or np.ptp(scaled) <= _SAME:
        return np.zeros(len(scaled))
    centred = scaled - scaled[0]
    centred -= centred.mean()
    return np.asarray(centred / centred.std())


def _label_weights(
    records: Sequence[Record], factor: str, origin_weights: Mapping[str, float]
) -> Floats:
    """Returns the weight of each text's label (N,)."""
    origins = [record.origins.get(factor) or "" for record in records]
    kinds = [origin.partition(":")[0] for origin in origins]
    return np.array(
        [
            origin_weights.get(origin, origin_weights.get(kind, 1.0)) if origin else 1.0
            for origin, kind in zip(origins, kinds, strict=True)
        ]
    )


def _carried(numbers: Floats) -> Floats:
    """Standardises numbers that single precision could not carry; equal ones become the first."""
    standard = standardise(numbers)
    if not standard.any():
        return np.full(len(numbers), numbers[0]) if len(numbers) else numbers
    largest = float(np.abs(numbers).max())
    if 1 / _MOST < largest < _MOST and numbers.std() > _LEAST_SHARE * largest:
        return numbers
    return standard


def _level_edges(values: Floats) -> Floats:
    """Returns the inner edges of the levels: one level per value if there are few, or quantiles.

    An edge is midway between two neighbouring values, never on one. If a quantile falls on a value
    (which many texts can share), the edge moves to the nearer end of that value's texts; if both
    ends are equally near, to the one farther from the median. A value shared by many texts is thus
    separated from the rest at the top of the range just as at the bottom, and negating all values
    mirrors the levels. (At the median itself, the value goes to the lower level.)
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
    """Returns a threshold between each pair of numbers; the lower one does not exceed it."""
    middle = lower / 2 + upper / 2
    # Between adjacent floats there is no other, and rounding may give the upper one.
    return np.where(middle < upper, np.maximum(middle, lower), lower)


def _encode(labels: Sequence[str | float | None]) -> Ints:
    """Encodes labels as numbers, in the order of first occurrence; None becomes -1."""
    codes: dict[str | float, int] = {}
    return np.array(
        [-1 if label is None else codes.setdefault(label, len(codes)) for label in labels],
        dtype=np.int64,
    )
