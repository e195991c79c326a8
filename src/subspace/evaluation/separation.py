"""Separation: what every block holds of every factor, next to the raw embedding."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from subspace.blocks import unit
from subspace.evaluation.probes import MIN_TEXTS, ProbeScore, can_probe, linear_probe
from subspace.labels import Column, Labels
from subspace.projection import Projection
from subspace.records import SPLITS

RAW = "raw"
# Where the raw embedding itself is this close to guessing, ratios to it are noise.
MIN_ABOVE_CHANCE = 0.05


@dataclass(frozen=True)
class Reading:
    """One probe: a factor of one source, read from one block or from the raw embedding.

    Attributes:
        source: Where the texts come from.
        factor: What is read.
        space: Name of the block, or `raw` for the encoder's last layer.
        score: Balanced accuracy or Spearman's rank correlation on test texts.
        chance: What guessing reaches.
        relative: Score above chance over the raw embedding's: the retention of the block's own
            factor, the leakage of another.
    """

    source: str
    factor: str
    space: str
    score: float
    chance: float
    relative: float


@dataclass(frozen=True)
class Separation:
    """All readings, and their means.

    Attributes:
        blocks: The blocks in order.
        factors: The factors that could be read, in order.
        readings: One per source, factor and space.
        left_out: `source/factor: why` for labels that no probe can be tested on.
    """

    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    readings: tuple[Reading, ...]
    left_out: tuple[str, ...]

    def matrix(self) -> npt.NDArray[np.float64]:
        """Mean of `relative` over sources (blocks, factors); NaN where nothing was read."""
        matrix = np.full((len(self.blocks), len(self.factors)), np.nan)
        for row, block in enumerate(self.blocks):
            for column, factor in enumerate(self.factors):
                values = [
                    reading.relative
                    for reading in self.readings
                    if reading.space == block and reading.factor == factor
                ]
                if values:
                    matrix[row, column] = np.mean(values)
        return matrix

    def retention(self) -> dict[str, float]:
        """Retention of each block's own factor."""
        matrix = self.matrix()
        return {
            block: float(matrix[row, self.factors.index(block)])
            for row, block in enumerate(self.blocks)
            if block in self.factors
        }

    def leakage(self) -> dict[str, float]:
        """Mean leakage of the other factors into each block."""
        matrix = self.matrix()
        leakage = {}
        for row, block in enumerate(self.blocks):
            others = [matrix[row, c] for c, f in enumerate(self.factors) if f != block]
            if others:
                leakage[block] = float(np.mean(others))
        return leakage

    def selectivity(self) -> float:
        """Mean over blocks of retention minus leakage; the raw embedding has 0."""
        retention, leakage = self.retention(), self.leakage()
        both = [retention[block] - leakage[block] for block in retention if block in leakage]
        return float(np.mean(both)) if both else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready; what could not be read is null."""
        return {
            "blocks": list(self.blocks),
            "factors": list(self.factors),
            "matrix": [
                [None if np.isnan(value) else float(value) for value in row]
                for row in self.matrix()
            ],
            "retention": self.retention(),
            "leakage": self.leakage(),
            "selectivity": None if np.isnan(self.selectivity()) else self.selectivity(),
            "readings": [asdict(reading) for reading in self.readings],
            "left_out": list(self.left_out),
        }


def measure_separation(
    projection: Projection,
    *,
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    labels: Mapping[str, Labels],
    raw: slice,
    progress: bool = False,
) -> Separation:
    """Trains linear probes on the training texts and scores them on the test texts.

    Args:
        projection: Gives the blocks.
        embeddings: Embeddings (N, D) by source.
        labels: Labels by source, same order of texts.
        raw: Which dimensions of an embedding are the raw baseline.
        progress: Shows a bar.
    """
    readings: list[Reading] = []
    left_out: list[str] = []
    jobs = [(source, factor) for source in labels for factor in labels[source].columns]
    for source, factor in tqdm(jobs, desc="probing", unit="probe", disable=not progress):
        column = labels[source].columns[factor]
        if not can_probe(column, labels=labels[source]):
            left_out.append(f"{source}/{factor}: {_why_not(column, labels=labels[source])}")
            continue
        x = embeddings[source]
        baseline = linear_probe(unit(x[:, raw]), column=column, labels=labels[source])
        if baseline.above_chance < MIN_ABOVE_CHANCE:
            left_out.append(f"{source}/{factor}: the raw embedding itself is at chance")
            continue
        spaces = {RAW: baseline}
        for block, z in projection.layout.split(projection(x)).items():
            spaces[block] = linear_probe(z, column=column, labels=labels[source])
        readings.extend(_readings(source, factor, spaces=spaces, baseline=baseline))
    factors = {reading.factor for reading in readings}
    blocks = projection.layout.names
    return Separation(
        blocks=blocks,
        # Own factors in the blocks' order, so that the diagonal of the matrix is the retention.
        factors=tuple([f for f in blocks if f in factors] + sorted(factors - set(blocks))),
        readings=tuple(readings),
        left_out=tuple(left_out),
    )


def _why_not(column: Column, *, labels: Labels) -> str:
    counts = [int((column.codes[labels.positions(split)] >= 0).sum()) for split in SPLITS]
    return (
        f"a probe needs {MIN_TEXTS} labelled texts and two classes in each of {', '.join(SPLITS)} "
        f"(there are {', '.join(map(str, counts))} texts), and test classes that training has seen"
    )


def _readings(
    source: str, factor: str, *, spaces: Mapping[str, ProbeScore], baseline: ProbeScore
) -> Sequence[Reading]:
    return [
        Reading(
            source=source,
            factor=factor,
            space=space,
            score=probe.score,
            chance=probe.chance,
            relative=probe.above_chance / baseline.above_chance,
        )
        for space, probe in spaces.items()
    ]
