"""Class statistics of embeddings, streamed once per source; everything closed-form needs.

Shapes: D is the embedding dimension, K a factor's number of classes, N a source's texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from subspace.labels import Ints, Labels

Matrix = npt.NDArray[np.float64]

# Rows per step: at 1,024 dimensions 32 MiB in float64.
_CHUNK = 4096


@dataclass(frozen=True)
class FactorStatistics:
    """How one factor's classes lie in one source.

    Attributes:
        counts: Texts per class (K,).
        means: Class means minus the mean of all labelled texts (K, D); a class without texts
            has zeros.
        paired_counts: Texts per class (K,) among the groups that hold more than one class.
        paired_means: Class means (K, D) of those texts after their group's mean has been taken
            away: what the factor changes while the content stays. Zeros if there are none.
    """

    counts: Matrix
    means: Matrix
    paired_counts: Matrix
    paired_means: Matrix

    @property
    def between(self) -> Matrix:
        """Between-class covariance (D, D): zero exactly if no linear probe beats a constant."""
        return _weighted_scatter(self.means, self.counts)

    @property
    def paired_between(self) -> Matrix | None:
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
    cross: Matrix
    covariance: Matrix


@dataclass(frozen=True)
class RewriteStatistics:
    """How rewriting one factor moves the embeddings of a source.

    Attributes:
        means: Mean change of each rule (R, D), by the name of the rule.
        second_moment: Mean outer product of the changes (D, D), every rule counting the same.
    """

    means: Mapping[str, Matrix]
    second_moment: Matrix


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
    mean: Matrix
    covariance: Matrix
    factors: Mapping[str, FactorStatistics]
    measures: MeasureStatistics | None = None
    rewrites: Mapping[str, RewriteStatistics] = field(default_factory=dict)


def collect_statistics(
    vectors: npt.NDArray[np.float32], *, rows: Ints, labels: Labels
) -> SourceStatistics:
    """Streams over one source's embeddings, whole groups at a time.

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
    dim = vectors.shape[1]
    # Moments about a point near the mean: squares of large means would cost digits.
    origin = vectors[np.sort(rows[:_CHUNK])].astype(np.float64).mean(axis=0)
    total, squares = np.zeros(dim), np.zeros((dim, dim))
    sums = {f: np.zeros((c.class_count, dim)) for f, c in labels.columns.items()}
    paired_sums = {f: np.zeros((c.class_count, dim)) for f, c in labels.columns.items()}
    paired_counts = {f: np.zeros(c.class_count) for f, c in labels.columns.items()}
    for positions in _group_chunks(labels.groups):
        x = vectors[rows[positions]].astype(np.float64) - origin
        total += x.sum(axis=0)
        squares += x.T @ x
        part = labels.take(positions)
        for factor, column in part.columns.items():
            known = column.labelled
            sums[factor] += _sum_by(column.codes[known], x[known], count=column.class_count)
            paired, centred = _centre_groups(x, groups=part.groups, codes=column.codes)
            paired_codes = column.codes[paired]
            paired_sums[factor] += _sum_by(paired_codes, centred, count=column.class_count)
            paired_counts[factor] += np.bincount(paired_codes, minlength=column.class_count)
    count = len(rows)
    offset = total / count
    return SourceStatistics(
        count=count,
        mean=origin + offset,
        covariance=squares / count - np.outer(offset, offset),
        factors={
            factor: _finish_factor(
                counts=np.bincount(
                    column.codes[column.labelled], minlength=column.class_count
                ).astype(np.float64),
                sums=sums[factor],
                paired_counts=paired_counts[factor],
                paired_sums=paired_sums[factor],
            )
            for factor, column in labels.columns.items()
        },
    )


def collect_measures(
    vectors: npt.NDArray[np.float32],
    *,
    rows: Ints,
    measures: Mapping[str, npt.NDArray[np.float32]],
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
    for start in range(0, len(rows), _CHUNK):
        # The measures are centred, so the embeddings need not be.
        cross += (
            vectors[rows[start : start + _CHUNK]].astype(np.float64).T
            @ (joined[start : start + _CHUNK])
        )
    return MeasureStatistics(
        columns=columns, cross=cross / len(rows), covariance=joined.T @ joined / len(rows)
    )


def collect_rewrites(
    vectors: npt.NDArray[np.float32], *, originals: Ints, rewritten: Ints, rules: Sequence[str]
) -> RewriteStatistics:
    """Streams over the rewrites of one factor in one source.

    Args:
        vectors: All stored embeddings (rows, D).
        originals: Row of the original of each of the M rewrites.
        rewritten: Row of each rewrite.
        rules: Name of the rule of each.
    """
    names = np.array(rules)
    means: dict[str, Matrix] = {}
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


def _finish_factor(
    *, counts: Matrix, sums: Matrix, paired_counts: Matrix, paired_sums: Matrix
) -> FactorStatistics:
    means = sums / np.maximum(counts, 1)[:, None]
    centre = sums.sum(axis=0) / max(counts.sum(), 1)
    return FactorStatistics(
        counts=counts,
        means=np.where(counts[:, None] > 0, means - centre, 0.0),
        paired_counts=paired_counts,
        paired_means=paired_sums / np.maximum(paired_counts, 1)[:, None],
    )


def _sum_by(codes: Ints, x: Matrix, *, count: int) -> Matrix:
    """Sums the rows of `x` (N, D) by their code, (count, D)."""
    sums = np.zeros((count, x.shape[1]))
    if len(codes):
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        sums[present] = np.add.reduceat(x[order], starts, axis=0)
    return sums


def _weighted_scatter(means: Matrix, counts: Matrix) -> Matrix:
    weights = counts / max(counts.sum(), 1)
    return np.asarray((means * weights[:, None]).T @ means)


def _group_chunks(groups: Ints) -> Iterator[Ints]:
    """Positions in chunks of about `_CHUNK`, never cutting a group in two."""
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    start = 0
    while start < len(order):
        end = min(start + _CHUNK, len(order))
        if end < len(order) and sorted_groups[end - 1] >= 0:
            end = int(np.searchsorted(sorted_groups, sorted_groups[end - 1], side="right"))
        yield order[start:end]
        start = end


def _centre_groups(x: Matrix, *, groups: Ints, codes: Ints) -> tuple[Ints, Matrix]:
    """The texts of groups that hold several classes, minus their group's mean.

    The mean is taken over classes, not texts, so that a class with two versions in a group does
    not pull it.

    Returns:
        Positions (M,) and centred vectors (M, D).
    """
    known = np.flatnonzero((groups >= 0) & (codes >= 0))
    if not len(known):
        return known, x[:0]
    _, group = np.unique(groups[known], return_inverse=True)
    width = int(codes.max()) + 1
    cells, cell = np.unique(group * width + codes[known], return_inverse=True)
    cell_means = _sum_by(cell, x[known], count=len(cells)) / np.bincount(cell)[:, None]
    group_of_cell = cells // width
    classes_per_group = np.bincount(group_of_cell)
    group_sums = _sum_by(group_of_cell, cell_means, count=len(classes_per_group))
    group_means = group_sums / classes_per_group[:, None]
    kept = classes_per_group[group] > 1
    return known[kept], x[known[kept]] - group_means[group[kept]]
