"""Class statistics of embeddings, streamed once per source; everything closed-form needs.

Shapes: D is the embedding dimension, K a factor's number of classes, N a source's texts.

Sums of vectors are taken in float64. Products are float32 inside a chunk, about a point near the
mean, and added up in float64: half the time of float64, and off by less than 1e-6 of the standard
deviations' product (docs/performance.md).
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.labels import Column, Labels

# Rows per step: at 1,024 dimensions 16 MiB in float32.
_CHUNK = 4096


@dataclass(frozen=True)
class FactorStatistics:
    """How one factor's classes lie in one source.

    Attributes:
        counts: Texts per class (K,); a text counts its label's weight, here and below.
        means: Class means minus the mean of all labelled texts (K, D); a class without texts
            has zeros.
        paired_counts: Texts per class (K,) among the groups that hold more than one class.
        paired_means: Class means (K, D) of those texts after their group's mean has been taken
            away: what the factor changes while the content stays. Zeros if there are none.
        weight: Mean weight of the labels: what the source counts against others.
    """

    counts: Floats
    means: Floats
    paired_counts: Floats
    paired_means: Floats
    weight: float = 1.0

    @property
    def between(self) -> Floats:
        """Between-class covariance (D, D): zero exactly if no linear probe beats a constant."""
        return _weighted_scatter(self.means, self.counts)

    @property
    def paired_between(self) -> Floats | None:
        """The same with content held constant, or None without groups that cross classes."""
        if not self.paired_counts.any():
            return None
        return _weighted_scatter(self.paired_means, self.paired_counts)


@dataclass(frozen=True)
class MeasureStatistics:
    """How the measures of a source's texts go with their embeddings.

    Attributes:
        columns: Which of the K measures speak of which factor.
        cross: Covariance of embeddings and measures (D, K).
        covariance: Covariance of the measures (K, K).
    """

    columns: Mapping[str, slice]
    cross: Floats
    covariance: Floats


@dataclass(frozen=True)
class RewriteStatistics:
    """How rewriting one factor moves the embeddings of a source.

    Attributes:
        means: Mean change of each rule (R, D), by the name of the rule.
        second_moment: Mean outer product of the changes (D, D), every rule counting the same.
    """

    means: Mapping[str, Floats]
    second_moment: Floats


@dataclass(frozen=True)
class SourceStatistics:
    """First and second moments of one source, and its factors' class means.

    Attributes:
        count: Number of texts N.
        mean: Mean embedding (D,).
        covariance: Total covariance (D, D).
        factors: Class statistics by factor.
        measures: What the measures of its texts say, if they were taken.
        rewrites: What rewriting its texts does, by factor, if they were rewritten.
    """

    count: int
    mean: Floats
    covariance: Floats
    factors: Mapping[str, FactorStatistics]
    measures: MeasureStatistics | None = None
    rewrites: Mapping[str, RewriteStatistics] = field(default_factory=dict)


def collect_statistics(vectors: Vectors, *, rows: Ints, labels: Labels) -> SourceStatistics:
    """Streams over one source's embeddings once, in the order of their rows.

    Memory does not depend on N beyond the labels: (D, D) once, (K, D) per factor.

    Args:
        vectors: All stored embeddings (rows, D), for instance memory-mapped.
        rows: Row in `vectors` of each of the source's N texts.
        labels: Their labels, same order.

    Raises:
        ValueError: The source has no texts.
    """
    if not len(rows):
        raise ValueError(f"source '{labels.source}' has no texts to take statistics of")
    count, dim = len(rows), vectors.shape[1]
    own = {f: _class_weights(column) for f, column in labels.columns.items()}
    paired = {f: _paired_weights(c, groups=labels.groups) for f, c in labels.columns.items()}
    # Every sum is a weighted sum of the vectors: one product gives them all.
    tables = [sparse.csr_array(np.ones((count, 1))), *own.values(), *paired.values()]
    weights = sparse.hstack(tables, format="csr")
    sums, squares = np.zeros((weights.shape[1], dim)), np.zeros((dim, dim))
    # Moments about a point near the mean: squares of large means would cost digits.
    origin = vectors[np.sort(rows)[:_CHUNK]].mean(axis=0, dtype=np.float64).astype(np.float32)
    for positions, x in _stream(vectors, rows):
        sums += weights[positions].T @ x
        centred = x - origin
        squares += centred.T @ centred
    total, *parts = np.split(sums, np.cumsum([table.shape[1] for table in tables])[:-1])
    mean = total[0] / count
    offset = mean - origin
    return SourceStatistics(
        count=count,
        mean=mean,
        covariance=squares / count - np.outer(offset, offset),
        factors={
            factor: _finish_factor(
                labels.columns[factor],
                sums=parts[place],
                paired=paired[factor],
                paired_sums=parts[len(own) + place],
            )
            for place, factor in enumerate(own)
        },
    )


def collect_measures(
    vectors: Vectors,
    *,
    rows: Ints,
    measures: Mapping[str, Vectors],
) -> MeasureStatistics:
    """Streams over one source's embeddings and the measures of its texts.

    Args:
        vectors: All stored embeddings (rows, D).
        rows: Row in `vectors` of each of the source's N texts.
        measures: Measures (N, K_f) by factor, same order of texts.
    """
    ends = np.cumsum([part.shape[1] for part in measures.values()])
    columns = {
        factor: slice(int(end) - part.shape[1], int(end))
        for (factor, part), end in zip(measures.items(), ends, strict=True)
    }
    joined = np.concatenate(list(measures.values()), axis=1).astype(np.float64)
    joined -= joined.mean(axis=0)
    cross = np.zeros((vectors.shape[1], joined.shape[1]))
    for positions, x in _stream(vectors, rows):
        # The measures are centred, so the embeddings need not be.
        cross += x.T.astype(np.float64) @ joined[positions]
    return MeasureStatistics(
        columns=columns, cross=cross / len(rows), covariance=joined.T @ joined / len(rows)
    )


def collect_rewrites(
    vectors: Vectors, *, originals: Ints, rewritten: Ints, rules: Sequence[str]
) -> RewriteStatistics:
    """Streams over the rewrites of one factor in one source.

    Args:
        vectors: All stored embeddings (rows, D).
        originals: Row of the original of each of the M rewrites.
        rewritten: Row of each rewrite.
        rules: Name of the rule of each.
    """
    names = np.array(rules)
    means: dict[str, Floats] = {}
    moment = np.zeros((vectors.shape[1], vectors.shape[1]))
    for rule in sorted(set(rules)):
        positions = np.flatnonzero(names == rule)
        total = np.zeros(vectors.shape[1])
        part = np.zeros_like(moment)
        for start in range(0, len(positions), _CHUNK):
            chunk = positions[start : start + _CHUNK]
            before = vectors[originals[chunk]].astype(np.float64)
            change = vectors[rewritten[chunk]].astype(np.float64) - before
            total += change.sum(axis=0)
            part += change.T @ change
        means[rule] = total / len(positions)
        moment += part / len(positions)
    return RewriteStatistics(means=means, second_moment=moment / max(len(means), 1))


def _stream(vectors: Vectors, rows: Ints) -> Iterator[tuple[Ints, Vectors]]:
    """Positions in `rows` and their vectors (M, D), chunk by chunk in the order of the file."""
    order = np.argsort(rows, kind="stable")
    for start in range(0, len(order), _CHUNK):
        positions = order[start : start + _CHUNK]
        chunk = rows[positions]
        if (np.diff(chunk) == 1).all():  # neighbours need not be copied
            yield positions, np.asarray(vectors[chunk[0] : chunk[-1] + 1], dtype=np.float32)
        else:
            yield positions, np.asarray(vectors[chunk], dtype=np.float32)
        # What was read of a mapped file need not stay in memory; the file may be larger. (Where
        # the system knows how: Linux and macOS.)
        release = getattr(vectors.base, "madvise", None)
        if release and not vectors.flags.writeable:
            release(mmap.MADV_DONTNEED)


def _finish_factor(
    column: Column, *, sums: Floats, paired: sparse.csr_array, paired_sums: Floats
) -> FactorStatistics:
    weights = _weights_of(column)
    labelled = column.labelled
    counts = np.bincount(
        column.codes[labelled], weights=weights[labelled], minlength=column.class_count
    )
    means = sums / _where_positive(counts)[:, None]
    centre = sums.sum(axis=0) / _where_positive(counts.sum())
    # Texts have weights in their row if their group holds several classes.
    counted = np.diff(paired.indptr) > 0
    paired_counts = np.bincount(
        column.codes[counted], weights=weights[counted], minlength=column.class_count
    )
    return FactorStatistics(
        counts=counts.astype(np.float64),
        means=np.where(counts[:, None] > 0, means - centre, 0.0),
        paired_counts=paired_counts.astype(np.float64),
        paired_means=paired_sums / _where_positive(paired_counts)[:, None],
        weight=float(weights[labelled].mean()) if len(labelled) else 0.0,
    )


def _weights_of(column: Column) -> Floats:
    return np.ones(len(column.codes)) if column.weights is None else column.weights


def _where_positive(counts: npt.ArrayLike) -> Floats:
    """What sums can be divided by: those of nothing stay zero."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.where(counts > 0, counts, 1.0)


def _weighted_scatter(means: Floats, counts: Floats) -> Floats:
    weights = counts / _where_positive(counts.sum())
    return np.asarray((means * weights[:, None]).T @ means)


def _class_weights(column: Column) -> sparse.csr_array:
    """Weights (N, K) by which texts add up to the sums of their classes."""
    labelled = column.labelled
    return sparse.csr_array(
        (_weights_of(column)[labelled], (labelled, column.codes[labelled])),
        shape=(len(column.codes), column.class_count),
    )


def _paired_weights(column: Column, *, groups: Ints) -> sparse.csr_array:
    """Weights (N, K) by which texts add up to the sums of classes less the mean of their group.

    Only groups that hold several classes count. The mean is taken over classes, not texts, so
    that a class with two versions in a group does not pull it: a text of group g that has c
    classes, n versions of its own and m of class k adds 1 / (c n) to the mean, which class k
    loses m times. A text of weight w is w texts.
    """
    shape = (len(groups), column.class_count)
    known = np.flatnonzero((groups >= 0) & (column.codes >= 0))
    codes = column.codes[known]
    _, group = np.unique(groups[known], return_inverse=True)
    weights = _weights_of(column)[known]
    cells, cell = np.unique(group * column.class_count + codes, return_inverse=True)
    versions: Floats = np.bincount(cell, weights=weights).astype(np.float64)
    group_of_cell, class_of_cell = np.divmod(cells, column.class_count)
    classes = np.bincount(group_of_cell)
    kept = classes[group] > 1
    known, codes, group, cell = known[kept], codes[kept], group[kept], cell[kept]
    weights = weights[kept]
    own: sparse.csr_array = sparse.csr_array((weights, (known, codes)), shape=shape)
    means = sparse.csr_array(
        (weights / (classes[group] * versions[cell]), (known, group)),
        shape=(len(groups), len(classes)),
    )
    members = sparse.csr_array(
        (versions, (group_of_cell, class_of_cell)),
        shape=(len(classes), column.class_count),
    )
    rest: sparse.csr_array = own - means @ members
    return rest
