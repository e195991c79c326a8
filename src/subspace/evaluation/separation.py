"""Separation: probe scores of every factor in every block, relative to the raw embedding."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from subspace.arrays import Floats, Vectors
from subspace.blocks import unit
from subspace.data.labels import Labels
from subspace.data.records import Record
from subspace.evaluation.probes import PROBES
from subspace.evaluation.scores import (
    bootstrap_weights,
    chance_of,
    interval,
    score_predictions,
)
from subspace.evaluation.tasks import (
    ProbeTask,
    control_columns,
    find_ties,
    make_tasks,
    partial_out,
    why_not,
    word_counts,
)
from subspace.model.projection import Projection

RAW = "raw"
# The input of the projection, if it is more than the last layer.
ALL_LAYERS = "all layers"
# If the raw embedding scores less than this above chance, ratios to its score are noise.
MIN_ABOVE_CHANCE = 0.05
# Smallest denominator of a replicate or seed, as a share of the raw score above chance over all
# texts: with few texts, the raw embedding falls to chance in some replicates.
_FLOOR = 0.1
_REPLICATES = 300


@dataclass(frozen=True, eq=False)
class EmbeddedSource:
    """One labelled source and its embeddings.

    Attributes:
        records: The texts.
        labels: Their labels, in the same order.
        x: Their embeddings (N, D), in the same order.
    """

    records: Sequence[Record]
    labels: Labels
    x: Vectors


@dataclass(frozen=True, eq=False)
class Reading:
    """Result of one probe for one factor of one source in one block.

    Attributes:
        source: The source of the texts.
        factor: The factor.
        model: The projection of the block: `in-corpus`, `cross-corpus` or a baseline; or `raw`
            (the encoder's last layer) or `all layers`.
        block: Name of the block; empty if the model has no blocks.
        probe: `linear`, `neighbours` or `network`.
        controlled: Whether confounds were controlled: length is partialled out, and a tied factor
            is probed within levels of the other.
        scores: Balanced accuracy or Spearman's rank correlation on test texts, one per seed.
        chance: Score of guessing.
        control: Mean score on control labels, which a probe can only memorise; None if it was not
            measured.
        relative: Score above chance over that of the raw embedding. This is retention for the
            block's own factor, and leakage for any other factor.
        by_seed: `relative` for every seed (S,).
        replicates: `relative` for every bootstrap replicate (R,).
        low: Lower end of the 95 % bootstrap interval of the score, which can be below chance.
        high: Upper end of the interval.
    """

    source: str
    factor: str
    model: str
    block: str
    probe: str
    controlled: bool
    scores: tuple[float, ...]
    chance: float
    control: float | None
    relative: float
    by_seed: Floats
    replicates: Floats
    low: float = float("nan")
    high: float = float("nan")

    @property
    def score(self) -> float:
        """Mean score over the seeds."""
        return float(np.mean(self.scores))

    def to_json(self) -> dict[str, Any]:
        """Returns the result, JSON-ready; the replicates are given as their interval."""
        low, high = interval(self.replicates)
        return {
            "source": self.source,
            "factor": self.factor,
            "model": self.model,
            "block": self.block,
            "probe": self.probe,
            "controlled": self.controlled,
            "scores": list(self.scores),
            "score_low": self.low,
            "score_high": self.high,
            "chance": self.chance,
            "control": self.control,
            "relative": self.relative,
            "relative_low": low,
            "relative_high": high,
        }


@dataclass(frozen=True, eq=False)
class Matrix:
    """Block x factor matrix: means of `relative` over sources; NaN where nothing was measured.

    The methods that take values use `values` by default; they take those of a seed or replicate
    (B, F) as well.

    Attributes:
        blocks: Names of the rows.
        factors: Names of the columns: first the factors that blocks are named after, in the order
            of the blocks.
        values: Means (B, F).
        by_seed: Means for every seed (S, B, F).
        replicates: Means for every bootstrap replicate (R, B, F).
    """

    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    values: Floats
    by_seed: Floats
    replicates: Floats

    def retention(self, values: Floats | None = None) -> dict[str, float]:
        """Returns the retention of each block's own factor; leaves out blocks without one."""
        values = self.values if values is None else values
        return {
            block: float(values[row, self.factors.index(block)])
            for row, block in enumerate(self.blocks)
            if block in self.factors and not np.isnan(values[row, self.factors.index(block)])
        }

    def leakage(self, values: Floats | None = None) -> dict[str, float]:
        """Returns the mean leakage of all other factors into each block."""
        values = self.values if values is None else values
        leakage = {}
        for row, block in enumerate(self.blocks):
            others = [values[row, c] for c, f in enumerate(self.factors) if f != block]
            known = [value for value in others if not np.isnan(value)]
            if known:
                leakage[block] = float(np.mean(known))
        return leakage

    def selectivity(self, values: Floats | None = None) -> float:
        """Returns the mean over blocks of retention minus leakage; NaN if there is none.

        The raw embedding has 0.
        """
        retention, leakage = self.retention(values), self.leakage(values)
        both = [retention[block] - leakage[block] for block in retention if block in leakage]
        return float(np.mean(both)) if both else float("nan")

    def mean_retention(self, values: Floats | None = None) -> float:
        """Returns the mean retention over the blocks that are named after a factor."""
        return float(np.mean(list(self.retention(values).values()) or [np.nan]))

    def mean_leakage(self, values: Floats | None = None) -> float:
        """Returns the mean leakage over the blocks that are named after a factor."""
        leakage = self.leakage(values)
        return float(
            np.mean([leakage[b] for b in self.retention(values) if b in leakage] or [np.nan])
        )

    def selectivity_interval(self) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval of the selectivity over test texts.

        The sources are taken as fixed.
        """
        return interval([self.selectivity(replicate) for replicate in self.replicates])

    def to_json(self) -> dict[str, Any]:
        """Returns the matrix and its means, JSON-ready; missing cells are None."""
        low, high = np.full_like(self.values, np.nan), np.full_like(self.values, np.nan)
        for cell in np.argwhere(~np.isnan(self.values)):
            low[tuple(cell)], high[tuple(cell)] = interval(self.replicates[(slice(None), *cell)])
        known = not np.isnan(self.selectivity())
        return {
            "blocks": list(self.blocks),
            "factors": list(self.factors),
            "values": _nullable(self.values),
            "low": _nullable(low),
            "high": _nullable(high),
            "retention": self.retention(),
            "leakage": self.leakage(),
            "selectivity": self.selectivity() if known else None,
            "selectivity_interval": list(self.selectivity_interval()) if known else None,
            "selectivity_by_seed": [self.selectivity(v) for v in self.by_seed] if known else None,
        }


def read_factors(
    sources: Mapping[str, EmbeddedSource],
    *,
    models: Mapping[str, Mapping[str, Projection]],
    raw: slice,
    seeds: int = 5,
    thorough: Sequence[str] = (),
    controls: Sequence[str] = (),
    progress: bool = False,
) -> tuple[list[Reading], list[str]]:
    """Probes every factor of every source in every block of every model.

    Args:
        sources: Labelled texts and their embeddings, by source.
        models: By name of a model, the projection for each source; sources without a projection
            are left out.
        raw: Dimensions of an embedding that hold the raw embedding.
        seeds: Number of training samples and initialisations of each probe.
        thorough: Models that are also probed by the small network, which takes longest.
        controls: Models that are also probed with control labels.
        progress: Whether to show a progress bar.

    Returns:
        The readings, and `source/factor: reason` for factors that could not be measured.
    """
    readings: list[Reading] = []
    left_out: list[str] = []
    jobs = [(name, factor) for name in sources for factor in sources[name].labels.columns]
    for name, factor in tqdm(jobs, desc="probing", unit="factor", disable=not progress or None):
        source = sources[name]
        spaces = {(RAW, ""): unit(source.x[:, raw])}
        if raw != slice(0, source.x.shape[1]):
            spaces[ALL_LAYERS, ""] = source.x
        for model, projections in models.items():
            if name in projections:
                projection = projections[name]
                for block, z in projection.layout.split(projection(source.x)).items():
                    spaces[model, block] = z
        found, reason = _read_source(
            source,
            factor=factor,
            spaces=spaces,
            seeds=seeds,
            thorough={RAW, *thorough},
            controls={RAW, *controls},
        )
        readings.extend(found)
        if reason:
            left_out.append(f"{name}/{factor}: {reason}")
    return readings, left_out


def make_matrix(readings: Iterable[Reading], *, model: str, probe: str, controlled: bool) -> Matrix:
    """Returns the block x factor matrix of one model, probe and condition: means over sources."""
    chosen = [r for r in readings if (r.model, r.probe, r.controlled) == (model, probe, controlled)]
    blocks = tuple(dict.fromkeys(reading.block for reading in chosen))
    factors = {reading.factor for reading in chosen}
    # Factors in the order of the blocks, so that the retention is on the diagonal.
    ordered = tuple([f for f in blocks if f in factors] + sorted(factors - set(blocks)))
    values = np.full((len(blocks), len(ordered)), np.nan)
    seeds = len(chosen[0].by_seed) if chosen else 0
    count = len(chosen[0].replicates) if chosen else 0
    by_seed, replicates = (np.full((size, *values.shape), np.nan) for size in (seeds, count))
    for row, block in enumerate(blocks):
        for column, factor in enumerate(ordered):
            cell = [r for r in chosen if (r.block, r.factor) == (block, factor)]
            if cell:
                values[row, column] = np.mean([reading.relative for reading in cell])
                by_seed[:, row, column] = np.mean([r.by_seed for r in cell], axis=0)
                replicates[:, row, column] = np.mean([r.replicates for r in cell], axis=0)
    return Matrix(blocks, ordered, values, by_seed, replicates)


@dataclass(frozen=True, eq=False)
class _Outcome:
    """Scores of one space for one factor.

    Over the levels of a tied factor, scores, replicates, chance and control are means, and scores
    above chance are sums. Only what is above chance is cut off there: ratios are made of it.
    """

    scores: Floats
    replicates: Floats
    chance: float
    control: float | None
    above: float
    above_by_seed: Floats
    above_replicates: Floats
    levels: int = 1

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval of the mean score over seeds and levels."""
        return interval(self.replicates)


def _read_source(
    source: EmbeddedSource,
    *,
    factor: str,
    spaces: Mapping[tuple[str, str], Vectors],
    seeds: int,
    thorough: set[str],
    controls: set[str],
) -> tuple[list[Reading], str]:
    readings: list[Reading] = []
    plain = make_tasks(source.labels, factor=factor, seeds=seeds)
    if not plain:
        return [], why_not(source.labels.columns[factor], labels=source.labels)
    held = make_tasks(source.labels, factor=factor, seeds=seeds, ties=find_ties(source.labels))
    for controlled, tasks in ((False, plain), (True, held)):
        if not tasks:
            continue
        prepared = [_prepare(source, task, spaces=spaces, controlled=controlled) for task in tasks]
        weights = [
            bootstrap_weights(task.groups[task.test], replicates=_REPLICATES, rng=task.rng)
            for task in tasks
        ]
        for probe in PROBES:
            outcomes: dict[tuple[str, str], _Outcome] = {}
            for space in spaces:
                if probe == "network" and space[0] not in thorough:
                    continue
                if probe != "linear" and space[0] == ALL_LAYERS:
                    continue
                outcomes[space] = _measure(
                    [
                        (task, vectors[space], drawn)
                        for task, vectors, drawn in zip(tasks, prepared, weights, strict=True)
                    ],
                    probe=probe,
                    records=source.records if space[0] in controls and not controlled else None,
                )
            base = outcomes[RAW, ""]
            if base.above / base.levels < MIN_ABOVE_CHANCE or not base.interval()[0] > base.chance:
                if probe == "linear" and not controlled:
                    return [], (
                        "the raw embedding itself is at chance: it scores "
                        f"{base.scores.mean():.2f} ({_range(*base.interval())}), chance is "
                        f"{base.chance:.2f}, and a share of nothing would say nothing"
                    )
                continue
            readings.extend(
                _to_reading(
                    outcome,
                    base,
                    source=source.labels.source,
                    factor=factor,
                    space=space,
                    probe=probe,
                    controlled=controlled,
                )
                for space, outcome in outcomes.items()
            )
    return readings, ""


def _prepare(
    source: EmbeddedSource,
    task: ProbeTask,
    *,
    spaces: Mapping[tuple[str, str], Vectors],
    controlled: bool,
) -> Mapping[tuple[str, str], Vectors]:
    if not controlled:
        return spaces
    lengths = word_counts(source.records)
    return {space: partial_out(x, lengths, train=task.train) for space, x in spaces.items()}


def _measure(
    tasks: Iterable[tuple[ProbeTask, Vectors, Floats]],
    *,
    probe: str,
    records: Sequence[Record] | None,
) -> _Outcome:
    parts = [
        _measure_task(task, x, weights=weights, probe=probe, records=records)
        for task, x, weights in tasks
    ]
    controls = [part.control for part in parts if part.control is not None]
    return _Outcome(
        scores=np.mean([part.scores for part in parts], axis=0),
        replicates=np.mean([part.replicates for part in parts], axis=0),
        chance=float(np.mean([part.chance for part in parts])),
        control=float(np.mean(controls)) if controls else None,
        above=sum(part.above for part in parts),
        above_by_seed=np.sum([part.above_by_seed for part in parts], axis=0),
        above_replicates=np.sum([part.above_replicates for part in parts], axis=0),
        levels=len(parts),
    )


def _measure_task(
    task: ProbeTask, x: Vectors, *, weights: Floats, probe: str, records: Sequence[Record] | None
) -> _Outcome:
    truth = task.truth
    chance = chance_of(truth)
    predicted = PROBES[probe](x, task)
    scores = score_predictions(predicted, truth=truth)[:, 0]
    replicates = score_predictions(predicted, truth=truth, weights=weights).mean(axis=0)
    control = None
    if records is not None:
        columns = control_columns(task, first_words=[_first_word(r.text) for r in records])
        guesses = PROBES[probe](x, task, columns=columns)
        control = float(
            np.mean(
                [
                    score_predictions(guess[None], truth=column.take(task.test))[0, 0]
                    for guess, column in zip(guesses, columns, strict=True)
                ]
            )
        )
    return _Outcome(
        scores=scores,
        replicates=replicates,
        chance=chance,
        control=control,
        # A score below chance counts as chance.
        above=max(float(scores.mean()) - chance, 0.0),
        above_by_seed=np.maximum(scores - chance, 0.0),
        above_replicates=np.maximum(replicates - chance, 0.0),
    )


def _to_reading(
    outcome: _Outcome,
    base: _Outcome,
    *,
    source: str,
    factor: str,
    space: tuple[str, str],
    probe: str,
    controlled: bool,
) -> Reading:
    low, high = outcome.interval()
    return Reading(
        source=source,
        factor=factor,
        model=space[0],
        block=space[1],
        probe=probe,
        controlled=controlled,
        scores=tuple(map(float, outcome.scores)),
        chance=outcome.chance,
        control=outcome.control,
        relative=outcome.above / base.above,
        by_seed=outcome.above_by_seed / np.maximum(base.above_by_seed, _FLOOR * base.above),
        replicates=outcome.above_replicates
        / np.maximum(base.above_replicates, _FLOOR * base.above),
        low=low,
        high=high,
    )


def _range(low: float, high: float) -> str:
    return f"95 % interval {low:.2f} to {high:.2f}"


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0].lower() if text.split() else ""


def _nullable(values: Floats) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]
