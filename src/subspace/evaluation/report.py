"""The separation report: all measurements of one projection."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from subspace.blocks import unit
from subspace.data.labels import Column
from subspace.evaluation.base_retrieval import BaseRetrieval
from subspace.evaluation.disentanglement import Disentanglement, measure_disentanglement
from subspace.evaluation.geometry import BlockGeometry, measure_geometry
from subspace.evaluation.neighbours import precision_at_ten
from subspace.evaluation.probes import PROBES
from subspace.evaluation.result_files import finite
from subspace.evaluation.separation import (
    RAW,
    EmbeddedSource,
    Matrix,
    Reading,
    make_matrix,
    read_factors,
)
from subspace.evaluation.source_probe import probe_sources
from subspace.evaluation.steering_run import SteeringRow
from subspace.evaluation.swap import draw_triples, swap_accuracy
from subspace.evaluation.tasks import Tie, association, find_ties, word_counts
from subspace.model.projection import Projection

# The two models that every report is about; others are baselines.
IN_CORPUS = "in-corpus"
CROSS_CORPUS = "cross-corpus"
# Swap accuracy from fewer triples would be noise.
_MIN_TRIPLES = 30
# A block whose scores spread less than this differs between texts by rounding only.
_NO_SPREAD = 1e-6


@dataclass(frozen=True)
class SwapReading:
    """Swap accuracy of one factor of one source in one block."""

    source: str
    factor: str
    model: str
    block: str
    accuracy: float
    triples: int


@dataclass(frozen=True)
class PrecisionReading:
    """Precision@10 of one factor of one source in one block."""

    source: str
    factor: str
    model: str
    block: str
    precision: float
    chance: float


@dataclass(frozen=True, eq=False)
class Report:
    """All measurements.

    Attributes:
        about: Checkpoint, data and seeds, JSON-ready.
        blocks: Names of the blocks, in order.
        readings: Results of all probes.
        models: The models that were probed, the raw embedding first.
        swaps: Swap accuracies, where texts have groups.
        precisions: Precision@10 by block.
        base: Base retrieval, one per retrieval set.
        steering: Steering by the blocks and by the baselines.
        disentanglement: DCI, MIG and SAP; None if no factor could be probed.
        geometry: Geometry by block.
        source_probe: Balanced accuracy of the source probe, by block and for `raw`.
        ties: Pairs of associated factors.
        lengths: Association of each label with the number of words, by `source/factor`.
        warnings: Warnings for the reader of the report.
        left_out: Factors that could not be measured, with the reason.
    """

    about: Mapping[str, Any]
    blocks: tuple[str, ...]
    readings: tuple[Reading, ...]
    models: tuple[str, ...]
    swaps: tuple[SwapReading, ...] = ()
    precisions: tuple[PrecisionReading, ...] = ()
    base: tuple[BaseRetrieval, ...] = ()
    steering: tuple[SteeringRow, ...] = ()
    disentanglement: Disentanglement | None = None
    geometry: Mapping[str, BlockGeometry] = field(default_factory=dict)
    source_probe: Mapping[str, float] = field(default_factory=dict)
    ties: tuple[Tie, ...] = ()
    lengths: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def matrix(self, model: str, *, probe: str = "linear", controlled: bool = True) -> Matrix:
        """Returns the block x factor matrix of one model, probe and condition."""
        return make_matrix(self.readings, model=model, probe=probe, controlled=controlled)

    def __str__(self) -> str:
        """Returns a summary in a few lines for a terminal."""
        from subspace.evaluation.report_tables import summary

        return summary(self)

    def save(self, folder: Path | str) -> None:
        """Writes separation.json, .md, .png and .html: whole, or not at all.

        Raises:
            ConfigError: The folder cannot be written to.
        """
        from subspace.evaluation.report_tables import write_report

        write_report(self, folder=Path(folder))

    def to_html(self, path: Path | str) -> None:
        """Writes the report as one HTML page that needs no other file.

        Raises:
            ConfigError: The file cannot be written.
        """
        from subspace.evaluation.report_tables import write_html

        write_html(self, Path(path))

    def to_json(self) -> dict[str, Any]:
        """Returns all measurements as JSON types; missing figures are None or NaN."""
        matrices = [
            {"model": model, "probe": probe, "controlled": controlled}
            | self.matrix(model, probe=probe, controlled=controlled).to_json()
            for model in self.models
            if model != RAW
            for controlled in (False, True)
            for probe in PROBES
        ]
        report = {
            "about": dict(self.about),
            "blocks": list(self.blocks),
            "matrices": [matrix for matrix in matrices if matrix["blocks"]],
            "swaps": [asdict(swap) for swap in self.swaps],
            "precisions": [asdict(precision) for precision in self.precisions],
            "base_retrieval": [{**asdict(base), "relative": base.relative} for base in self.base],
            "steering": [row.to_json() for row in self.steering],
            "disentanglement": self.disentanglement.to_json() if self.disentanglement else None,
            "geometry": {block: asdict(part) for block, part in self.geometry.items()},
            "source_probe": dict(self.source_probe),
            "ties": [asdict(tie) for tie in self.ties],
            "lengths": dict(self.lengths),
            "warnings": list(self.warnings),
            "left_out": list(self.left_out),
            "readings": [reading.to_json() for reading in self.readings],
        }
        found: dict[str, Any] = finite(report)
        return found


def measure_report(
    projection: Projection,
    *,
    sources: Mapping[str, EmbeddedSource],
    raw: slice,
    seen: Iterable[str],
    cross_corpus: Mapping[str, Projection] | None = None,
    baselines: Mapping[str, Projection] | None = None,
    base: Sequence[BaseRetrieval] = (),
    steering: Sequence[SteeringRow] = (),
    about: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    seeds: int = 5,
    progress: bool = False,
) -> Report:
    """Measures a projection, except for base retrieval and steering, and makes the report.

    Args:
        projection: The projection to measure.
        sources: Labelled texts and their embeddings, by source.
        raw: Dimensions of an embedding that hold the raw embedding.
        seen: Names of the sources that the projection was fitted on. It is measured in-corpus on
            these and cross-corpus on all others.
        cross_corpus: By source it was fitted on, the projection fitted without this source.
        baselines: Projections to compare with, by name.
        base: Base retrieval, measured before.
        steering: Steering, measured before.
        about: Details for the report, JSON-ready.
        warnings: Warnings for the report, in addition to those found here.
        seeds: Number of training samples and initialisations of each probe.
        progress: Whether to show progress bars.
    """
    seen = [name for name in sources if name in set(seen)]
    models: dict[str, Mapping[str, Projection]] = {
        IN_CORPUS: dict.fromkeys(seen, projection),
        CROSS_CORPUS: {name: projection for name in sources if name not in seen}
        | {name: part for name, part in (cross_corpus or {}).items() if name in sources},
    }
    for name, baseline in (baselines or {}).items():
        models[name] = dict.fromkeys(sources, baseline)
    readings, left_out = read_factors(
        sources,
        models=models,
        raw=raw,
        seeds=seeds,
        thorough=(IN_CORPUS, CROSS_CORPUS),
        controls=(IN_CORPUS,),
        progress=progress,
    )
    swaps, precisions = _read_neighbourhoods(sources, models=models, raw=raw, progress=progress)
    geometry = measure_geometry(projection, sources)
    own = [r for r in readings if r.model == IN_CORPUS and r.probe == "linear" and not r.controlled]
    own = own or [
        r for r in readings if r.model == CROSS_CORPUS and r.probe == "linear" and not r.controlled
    ]
    return Report(
        about={**(about or {}), "seeds": seeds},
        blocks=projection.layout.names,
        readings=tuple(readings),
        models=tuple(dict.fromkeys(reading.model for reading in readings)),
        swaps=tuple(swaps),
        precisions=tuple(precisions),
        base=tuple(base),
        steering=tuple(steering),
        disentanglement=measure_disentanglement(projection, sources, readings=own),
        geometry=geometry,
        source_probe=probe_sources(projection, sources, raw=raw),
        ties=tuple(tie for source in sources.values() for tie in find_ties(source.labels)),
        lengths=_length_associations(sources),
        warnings=(*warnings, *_blocks_that_do_not_vary(geometry)),
        left_out=tuple(left_out),
    )


def _blocks_that_do_not_vary(geometry: Mapping[str, BlockGeometry]) -> list[str]:
    return [
        f"block {name!r} scores all texts alike, so that a weight on it moves nothing"
        for name, block in geometry.items()
        if block.score_spread < _NO_SPREAD
    ]


def _read_neighbourhoods(
    sources: Mapping[str, EmbeddedSource],
    *,
    models: Mapping[str, Mapping[str, Projection]],
    raw: slice,
    progress: bool,
) -> tuple[list[SwapReading], list[PrecisionReading]]:
    swaps: list[SwapReading] = []
    precisions: list[PrecisionReading] = []
    for name, source in tqdm(
        sources.items(),
        desc="neighbours",
        unit="source",
        disable=not progress or None,
        leave=False,
    ):
        spaces = {(RAW, ""): unit(source.x[:, raw])}
        for model, projections in models.items():
            if name in projections:
                z = projections[name](source.x)
                parts = projections[name].layout.split(z)
                spaces.update({(model, block): part for block, part in parts.items()})
        for factor in source.labels.columns:
            triples = draw_triples(source.labels, factor=factor)
            for (model, block), z in spaces.items():
                if len(triples) >= _MIN_TRIPLES:
                    accuracy = swap_accuracy(z, triples)
                    swaps.append(SwapReading(name, factor, model, block, accuracy, len(triples)))
                shown = model in (RAW, IN_CORPUS, CROSS_CORPUS)
                found = precision_at_ten(z, source.labels, factor=factor) if shown else None
                if found:
                    precisions.append(
                        PrecisionReading(name, factor, model, block, found.precision, found.chance)
                    )
    return swaps, precisions


def _length_associations(sources: Mapping[str, EmbeddedSource]) -> dict[str, float]:
    lengths = {}
    for name, source in sources.items():
        words = word_counts(source.records)[:, 0]
        train = source.labels.positions("train")
        length = Column(np.zeros(len(words), dtype=np.int64), class_count=1, values=words)
        for factor, column in source.labels.columns.items():
            lengths[f"{name}/{factor}"] = association(column.take(train), length.take(train))
    return lengths
