"""Probe tasks: the labels and texts of a probe, and the confounds that it could use."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import cluster

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.data.labels import Column, Labels
from subspace.data.records import SPLITS, Record

# A split with fewer labelled texts measures noise.
MIN_TEXTS = 30
# Factors with a stronger association than this in a source are tied: each is probed within levels
# of the other.
TIED = 0.1
# Most texts of each split that a probe uses; more make it slower, but hardly better.
MAX_TEXTS = {"train": 2000, "validation": 500, "test": 1000}


@dataclass(frozen=True, eq=False)
class ProbeTask:
    """Task to predict one factor of one source, possibly within a level of another factor.

    Attributes:
        source: Name of the source.
        factor: The factor to predict.
        within: Level of another factor that all texts have, such as `style=literary`; empty if the
            task has texts of all levels.
        column: The factor's labels for all texts of the source (N,).
        draws: Positions of the training texts of each seed (S, M).
        validation: Positions of the texts that choose a probe's settings.
        test: Positions of the texts that score a probe.
        groups: Group of every text of the source (N,), -1 for none.
    """

    source: str
    factor: str
    within: str
    column: Column
    draws: Ints
    validation: Ints
    test: Ints
    groups: Ints

    @property
    def truth(self) -> Column:
        """Labels of the test texts."""
        return self.column.take(self.test)

    @property
    def train(self) -> Ints:
        """Positions of the training texts of all seeds, without duplicates."""
        return np.unique(self.draws)

    @property
    def rng(self) -> np.random.Generator:
        """Generator that is seeded by the names of the source and the factor."""
        return np.random.default_rng(zlib.crc32(f"{self.source}/{self.factor}".encode()))


@dataclass(frozen=True)
class Tie:
    """Two factors that are associated in one source.

    Attributes:
        source: Name of the source.
        factor: The factor to probe.
        other: The factor that it is tied to.
        strength: Their association, in [0, 1]; see `association`.
    """

    source: str
    factor: str
    other: str
    strength: float


def can_probe(column: Column, *, labels: Labels) -> bool:
    """Tells whether a probe can be trained on the training texts and tested on the test texts.

    Every split needs enough labelled texts and more than one class. Categories also need every
    test class among the training texts, which is not the case if each article is a class.
    """
    codes = {split: column.codes[labels.positions(split)] for split in SPLITS}
    known = {split: split_codes[split_codes >= 0] for split, split_codes in codes.items()}
    if any(len(part) < MIN_TEXTS or len(np.unique(part)) < 2 for part in known.values()):
        return False
    return column.ordered or set(known["test"]) <= set(known["train"])


def why_not(column: Column, *, labels: Labels) -> str:
    """Returns the reason why `can_probe` is false, with the number of texts in each split."""
    counts = [int((column.codes[labels.positions(split)] >= 0).sum()) for split in SPLITS]
    return (
        f"a probe needs {MIN_TEXTS} labelled texts and two classes in each of {', '.join(SPLITS)} "
        f"(there are {', '.join(map(str, counts))} texts), and test classes that training has seen"
    )


def make_tasks(
    labels: Labels, *, factor: str, seeds: int, ties: Sequence[Tie] = ()
) -> list[ProbeTask]:
    """Makes the tasks for one factor of a source; leaves out tasks that no probe can be tested on.

    Args:
        labels: All labels of the source.
        factor: The factor to predict.
        seeds: Number of samples of training texts to draw.
        ties: If the factor is tied, there is one task per level of the factor with the strongest
            tie. Numbers have two levels, split at the median of the training texts.
    """
    own = [tie for tie in ties if (tie.source, tie.factor) == (labels.source, factor)]
    parts: Iterator[tuple[str, npt.NDArray[np.bool_]]]
    if own:
        other = max(own, key=lambda tie: tie.strength).other
        parts = _levels(labels, factor=other)
    else:
        parts = iter([("", np.ones(len(labels), dtype=bool))])
    tasks = []
    for within, kept in parts:
        codes = np.where(kept, labels.columns[factor].codes, -1)
        column = Column(
            codes=codes,
            class_count=labels.columns[factor].class_count,
            values=labels.columns[factor].values,
        )
        if can_probe(column, labels=labels):
            tasks.append(_draw(labels, factor=factor, column=column, within=within, seeds=seeds))
    return tasks


def find_ties(labels: Labels) -> list[Tie]:
    """Finds all ordered pairs of tied factors of a source, by its training texts."""
    train = labels.take(labels.positions("train"))
    ties = []
    for factor, column in train.columns.items():
        for other, other_column in train.columns.items():
            if factor != other:
                strength = association(column, other_column)
                if strength > TIED:
                    ties.append(Tie(labels.source, factor, other, strength))
    return ties


def association(first: Column, second: Column) -> float:
    """Returns the association of two labels, in [0, 1].

    It is the absolute rank correlation of two numbers, the correlation ratio of a number and a
    class, or Cramér's V of two classes. The last two are corrected for the bias with many classes
    (Cramér's V: Bergsma 2013). It is 0 for too few texts with both labels.
    """
    both = (first.codes >= 0) & (second.codes >= 0)
    if both.sum() < MIN_TEXTS:
        return 0.0
    first, second = first.take(np.flatnonzero(both)), second.take(np.flatnonzero(both))
    if first.values is not None and second.values is not None:
        if np.ptp(first.values) == 0 or np.ptp(second.values) == 0:
            return 0.0
        return abs(float(spearmanr(first.values, second.values).statistic))
    if first.values is None and second.values is None:
        return _cramers_v(first.codes, second.codes)
    numbers, classes = (first, second) if first.values is not None else (second, first)
    assert numbers.values is not None
    return _correlation_ratio(numbers.values, classes.codes)


def word_counts(records: Sequence[Record]) -> Floats:
    """Returns the logarithm of the number of words and its square (N, 2)."""
    counts = np.log([max(len(record.text.split()), 1) for record in records])
    return np.stack([counts, np.square(counts)], axis=1)


def partial_out(x: AnyFloats, nuisance: Floats, *, train: Ints) -> Vectors:
    """Regresses `nuisance` (N, K) out of `x` (N, D), and keeps the mean of `x`.

    The coefficients are fitted on the training texts.
    """
    centred = nuisance - nuisance[train].mean(axis=0)
    deviation = x[train] - x[train].mean(axis=0)
    coefficients = np.linalg.lstsq(centred[train], deviation, rcond=None)[0]
    return np.asarray(x - centred @ coefficients, dtype=np.float32)


def control_columns(task: ProbeTask, *, first_words: Sequence[str]) -> list[Column]:
    """Draws control labels for each seed: random, but the same for texts with the same first word.

    A probe can predict them only by memorising words, so its score on them shows its own capacity
    (Hewitt and Liang 2019, with texts in place of words). They are distributed like the labels.
    """
    labelled = task.train
    words = sorted(set(first_words))
    position = {word: index for index, word in enumerate(words)}
    word = np.array([position[first] for first in first_words])
    columns = []
    for seed in range(len(task.draws)):
        rng = np.random.default_rng([seed, zlib.crc32(f"{task.source}/{task.factor}".encode())])
        drawn = rng.choice(labelled, size=len(words))[word]
        column = task.column.take(drawn)
        columns.append(column)
    return columns


def _draw(labels: Labels, *, factor: str, column: Column, within: str, seeds: int) -> ProbeTask:
    key = zlib.crc32(f"{labels.source}/{factor}/{within}".encode())
    known = {
        split: positions[column.codes[positions] >= 0]
        for split, positions in ((split, labels.positions(split)) for split in SPLITS)
    }
    # With few texts, each seed takes a part of them, so that the seeds differ.
    size = min(MAX_TEXTS["train"], max(MIN_TEXTS, int(0.8 * len(known["train"]))))
    draws = [
        np.sort(np.random.default_rng([seed, key]).choice(known["train"], size, replace=False))
        for seed in range(seeds)
    ]
    rng = np.random.default_rng(key)
    held = {
        split: np.sort(
            rng.choice(known[split], min(MAX_TEXTS[split], len(known[split])), replace=False)
        )
        for split in ("validation", "test")
    }
    return ProbeTask(
        source=labels.source,
        factor=factor,
        within=within,
        column=column,
        draws=np.stack(draws),
        validation=held["validation"],
        test=held["test"],
        groups=labels.groups,
    )


def _levels(labels: Labels, *, factor: str) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    column = labels.columns[factor]
    if column.values is None:
        for code in range(column.class_count):
            yield f"{factor}={code}", column.codes == code
        return
    train = labels.positions("train")
    middle = np.nanmedian(column.values[train])
    with np.errstate(invalid="ignore"):
        yield f"{factor} up to {middle:.2g}", column.values <= middle
        yield f"{factor} above {middle:.2g}", column.values > middle


def _cramers_v(first: Ints, second: Ints) -> float:
    table = np.asarray(cluster.contingency_matrix(first, second), dtype=np.float64)
    count, (rows, columns) = table.sum(), table.shape
    if min(rows, columns) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / count
    phi = float((np.square(table - expected) / expected).sum() / count)
    phi = max(phi - (rows - 1) * (columns - 1) / (count - 1), 0.0)
    rows_left = rows - (rows - 1) ** 2 / (count - 1)
    columns_left = columns - (columns - 1) ** 2 / (count - 1)
    return float(np.sqrt(phi / max(min(rows_left, columns_left) - 1, 1e-9)))


def _correlation_ratio(values: Floats, codes: Ints) -> float:
    _, codes = np.unique(codes, return_inverse=True)
    classes = int(codes.max()) + 1
    variance = float(values.var())
    if classes < 2 or variance == 0 or len(values) <= classes:
        return 0.0
    means = np.bincount(codes, values) / np.bincount(codes)
    within = float(np.square(values - means[codes]).sum()) / (len(values) - classes)
    return float(np.sqrt(max(1 - within / (variance * len(values) / (len(values) - 1)), 0.0)))
