"""Evidence: what is known of each factor, as scatter matrices of the embedding space.

Labels, measures and rewrites all come to the same thing: a positive semidefinite matrix (D, D)
that is large along the directions in which a factor shows. Each is scaled to trace 1, so that no
kind of evidence outweighs another by its units.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats
from subspace.fitting.moments import SourceStatistics

# Ridge when measures of one factor are explained by those of the others.
_RIDGE = 0.01


@dataclass(frozen=True)
class Evidence:
    """Scatter of one factor, (D, D) each and of trace 1; None where there is none.

    Attributes:
        paired: Between-class scatter of the labels, content held constant where groups allow.
        labels: Plain between-class scatter of the labels: what the guard has to close.
        measures: Scatter that the factor's measures explain.
        own_measures: The same after the other factors' measures have been regressed out.
        rewrites: Scatter of the mean changes that the factor's rules make.
        changes: Second moment of all those changes.
    """

    paired: Floats | None
    labels: Floats | None
    measures: Floats | None = None
    own_measures: Floats | None = None
    rewrites: Floats | None = None
    changes: Floats | None = None


def gather_evidence(statistics: Mapping[str, SourceStatistics]) -> dict[str, Evidence]:
    """Gathers the evidence on every factor; every source counts the same.

    The labels of a source count as much as one of them does on average.

    Args:
        statistics: By source.
    """
    factors = dict.fromkeys(f for source in statistics.values() for f in source.factors)
    measured = _measure_scatter(statistics)
    rewritten = _rewrite_scatter(statistics)
    return {
        factor: Evidence(
            paired=_between(statistics, factor=factor, paired=True),
            labels=_between(statistics, factor=factor, paired=False),
            measures=measured.get(factor, (None, None))[0],
            own_measures=measured.get(factor, (None, None))[1],
            rewrites=rewritten.get(factor, (None, None))[0],
            changes=rewritten.get(factor, (None, None))[1],
        )
        for factor in dict.fromkeys([*factors, *measured, *rewritten])
    }


def unit_trace(scatter: Floats) -> Floats:
    """Scaled to trace 1; zero stays zero."""
    trace = float(np.trace(scatter))
    return scatter / trace if trace > 0 else scatter


def _variance(source: SourceStatistics) -> float:
    return max(float(np.trace(source.covariance)), 1e-12)


def _between(
    statistics: Mapping[str, SourceStatistics], *, factor: str, paired: bool
) -> Floats | None:
    total = None
    for source in statistics.values():
        if factor in source.factors:
            classes = source.factors[factor]
            scatter = classes.paired_between if paired else None
            scatter = (classes.between if scatter is None else scatter) / _variance(source)
            scatter = classes.weight * scatter
            total = scatter if total is None else total + scatter
    return None if total is None else unit_trace(total)


def _measure_scatter(
    statistics: Mapping[str, SourceStatistics],
) -> dict[str, tuple[Floats, Floats]]:
    """By factor: the scatter of its measures, and of what the others leave of them."""
    sources = [source for source in statistics.values() if source.measures is not None]
    if not sources:
        return {}
    parts = [source.measures for source in sources if source.measures is not None]
    covariance = np.mean([part.covariance for part in parts], axis=0)
    scale = 1 / np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    covariance = covariance * np.outer(scale, scale)
    cross = scale * np.mean(
        [
            part.cross / np.sqrt(_variance(source))
            for source, part in zip(sources, parts, strict=True)
        ],
        axis=0,
    )
    columns = parts[0].columns
    scatter = {}
    for factor, own in columns.items():
        others = np.setdiff1d(np.arange(len(covariance)), np.arange(own.start, own.stop))
        ridge = covariance[np.ix_(others, others)] + _RIDGE * np.eye(len(others))
        explained = np.linalg.solve(ridge, covariance[others, own])
        rest = cross[:, own] - cross[:, others] @ explained
        scatter[factor] = (
            unit_trace(cross[:, own] @ cross[:, own].T),
            unit_trace(rest @ rest.T),
        )
    return scatter


def _rewrite_scatter(
    statistics: Mapping[str, SourceStatistics],
) -> dict[str, tuple[Floats, Floats]]:
    """By factor: the scatter of the rules' mean changes, and of all changes."""
    factors = dict.fromkeys(f for source in statistics.values() for f in source.rewrites)
    scatter = {}
    for factor in factors:
        sources = [source for source in statistics.values() if factor in source.rewrites]
        # Summed one by one: side by side they would take a matrix per source.
        means, moments = np.zeros_like(sources[0].covariance), np.zeros_like(sources[0].covariance)
        for source in sources:
            stacked = np.stack(list(source.rewrites[factor].means.values()))
            means += stacked.T @ (stacked / (len(stacked) * _variance(source)))
            moments += source.rewrites[factor].second_moment / _variance(source)
        scatter[factor] = (unit_trace(means), unit_trace(moments))
    return scatter
