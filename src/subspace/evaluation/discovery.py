"""Discovery: finds the raw dimensions of an embedding that carry a factor, and how much of it."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.blocks import unit
from subspace.data.records import Record
from subspace.evaluation.dimensions import (
    DimensionStatistics,
    correct,
    measure_dimensions,
    predict_each,
)
from subspace.evaluation.rank_agreement import RankAgreement, compare_rankings, rank_dimensions
from subspace.evaluation.retained_share import BLOCK, Measure, RetainedShare, measure_retained_share
from subspace.evaluation.samples import Sample
from subspace.evaluation.scores import score_predictions
from subspace.model.projection import Projection

SIGNIFICANT = 0.05
_ENDS = 5
# Dimensions with a smaller standard deviation are set to 0. MiniLM has one of about 1e-33: its
# rounding noise would still rank texts, but it does not change any inner product.
_DEAD = 1e-8


@dataclass(frozen=True, eq=False)
class Finding:
    """One factor of one source, and every dimension of the embedding.

    Attributes:
        source: The source of the texts.
        factor: The factor.
        texts: Number of training texts that ranked the dimensions.
        chance: Score of guessing.
        full: Score of the linear probe on all dimensions, on test texts.
        training: Statistics of every dimension on training texts; their score ranks the
            dimensions.
        p: p values of `training`, adjusted for all dimensions and findings (D,).
        scores: Score of the linear probe on each dimension alone, on test texts (D,).
        length: Rank correlation of the best dimension with the number of words.
        held: Share of the score that the first dimensions of several spaces retain.
        highest: Test texts with the highest values of the best dimension.
        lowest: Test texts with the lowest values of the best dimension.
    """

    source: str
    factor: str
    texts: int
    chance: float
    full: float
    training: DimensionStatistics
    p: Floats
    scores: Floats
    length: float
    held: tuple[RetainedShare, ...]
    highest: tuple[Record, ...]
    lowest: tuple[Record, ...]

    @property
    def order(self) -> Ints:
        """All dimensions, ordered by their score on training texts, the best first (D,)."""
        return rank_dimensions(self.training.score)

    @property
    def best(self) -> int:
        """The best dimension."""
        return int(self.order[0])

    @property
    def significant(self) -> Ints:
        """Dimensions with a significant association, in the order of `order`."""
        return self.order[self.p[self.order] < SIGNIFICANT]

    def find(self, space: str, count: int) -> RetainedShare:
        """Returns the share that the first `count` dimensions of a space retain."""
        return next(h for h in self.held if (h.space, h.count) == (space, count))

    @property
    def block(self) -> RetainedShare | None:
        """Share that the factor's block retains; None if there is no such block."""
        return next((h for h in self.held if h.space == BLOCK), None)


@dataclass(frozen=True, eq=False)
class Pair:
    """Agreement of two sources that label the same factor."""

    factor: str
    sources: tuple[str, str]
    agreement: RankAgreement


@dataclass(frozen=True, eq=False)
class Discovery:
    """Findings of all factors and sources.

    Attributes:
        dim: Number of dimensions of the raw embedding.
        findings: One per factor and source.
        left_out: Factors of sources that could not be studied, with the reason.
        trained_on: Sources whose training texts were used to fit the blocks.
    """

    dim: int
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()

    @property
    def factors(self) -> list[str]:
        """All factors, in the order of the findings."""
        return list(dict.fromkeys(finding.factor for finding in self.findings))

    def pairs(self) -> list[Pair]:
        """Compares the rankings of every two sources that label the same factor."""
        return [
            Pair(one.factor, (one.source, two.source), _agreement(one, two))
            for one, two in combinations(self.findings, 2)
            if one.factor == two.factor
        ]

    def unlike(self) -> list[RankAgreement]:
        """Compares the rankings of different factors of different sources.

        This is the baseline for `pairs`: sources agree on a factor only if they agree more than
        this.
        """
        return [
            _agreement(one, two)
            for one, two in combinations(self.findings, 2)
            if one.factor != two.factor and one.source != two.source
        ]


def discover(
    samples: Sequence[Sample],
    *,
    vectors: Iterable[Vectors],
    raw: slice,
    projection: Projection | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Discovery:
    """Studies every sample.

    Args:
        samples: Samples from `draw_samples`, at least one.
        vectors: Embeddings of each sample's texts (N, D).
        raw: Dimensions of an embedding that hold the raw embedding, which is studied.
        projection: If given, the block named after a factor is measured too.
        seed: Seed of halves, random dimensions, bootstraps and mutual information.
        progress: Whether to show a progress bar.
    """
    findings = []
    with tqdm(total=len(samples), desc="discovering", disable=not progress or None) as bar:
        for sample, x in zip(samples, vectors, strict=True):
            bar.set_postfix_str(f"{sample.task.factor} of {sample.task.source}")
            findings.append(_study(sample, x, raw=raw, projection=projection, seed=seed))
            bar.update()
    adjusted = correct(np.stack([finding.p for finding in findings]))
    return Discovery(
        dim=len(findings[0].p),
        findings=tuple(replace(f, p=p) for f, p in zip(findings, adjusted, strict=True)),
    )


def _study(
    sample: Sample, embeddings: Vectors, *, raw: slice, projection: Projection | None, seed: int
) -> Finding:
    task, x = sample.task, unit(embeddings[:, raw])
    x = np.where(x[task.train].std(axis=0) > _DEAD, x, 0)
    rng = np.random.default_rng([seed, zlib.crc32(f"{task.source}/{task.factor}".encode())])
    train, column = x[task.train], task.column.take(task.train)
    statistics = measure_dimensions(
        train, column, groups=task.groups[task.train], seed=seed, rng=rng
    )
    order = rank_dimensions(statistics.score)
    measure = Measure(x, task, rng=rng)
    held = [*measure_retained_share(x, task, order=order, measure=measure, rng=rng)]
    if projection is not None and task.factor in projection.layout:
        z = projection.layout.split(projection(embeddings))[task.factor]
        held.append(measure([z], space=BLOCK, count=z.shape[1]))
    predicted = predict_each(train, column, unseen=x[task.test])
    by_value = task.test[np.argsort(x[task.test, order[0]], kind="stable")]
    return Finding(
        source=task.source,
        factor=task.factor,
        texts=len(train),
        chance=measure.chance,
        full=measure.full,
        training=statistics,
        p=statistics.p,
        scores=score_predictions(predicted, truth=task.truth)[:, 0],
        length=_length_correlation(sample, x[:, order[0]]),
        held=tuple(held),
        highest=tuple(_take(sample.records, by_value[::-1][:_ENDS])),
        lowest=tuple(_take(sample.records, by_value[:_ENDS])),
    )


def _length_correlation(sample: Sample, values: AnyFloats) -> float:
    words = [len(record.text.split()) for record in sample.records]
    if np.ptp(words) == 0 or np.ptp(values) == 0:
        return 0.0
    return float(spearmanr(words, values).statistic)


def _agreement(one: Finding, two: Finding) -> RankAgreement:
    return compare_rankings(one.training.score, two.training.score)


def _take(records: Sequence[Record], positions: Ints) -> Iterator[Record]:
    return (records[position] for position in positions)
