"""What a separation report says, for its heat map: read from the JSON of `subspace probe`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS
from subspace.model import Checkpoint
from subspace.model.projection import digest_projection
from subspace.model.separation_report import read_report


@dataclass(frozen=True)
class ProbeMatrix:
    """Block x factor, of one kind of probe, confounds controlled.

    Attributes:
        model: `in-corpus` or `cross-corpus`.
        probe: `linear`, `neighbours` or `network`.
        blocks: Names of the rows.
        factors: Names of the columns.
        values: Share of the raw embedding's score; None where nothing was read.
        selectivity: Mean retention minus mean leakage; None if unknown.
    """

    model: str
    probe: str
    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    selectivity: float | None


def read_matrices(folder: Path | str, *, checkpoint: Checkpoint) -> tuple[ProbeMatrix, ...]:
    """Reads `separation.json` of a folder that `subspace probe` wrote.

    Args:
        folder: The folder.
        checkpoint: What is explored.

    Raises:
        ConfigError: There is none, it is damaged, or it is of another checkpoint.
    """
    report = read_report(
        folder, manifest=checkpoint.manifest(), digest=digest_projection(checkpoint.projection)
    )
    return tuple(
        _read(matrix)
        for matrix in report["matrices"]
        if matrix["controlled"] and matrix["model"] in (IN_CORPUS, CROSS_CORPUS)
    )


def _read(matrix: Mapping[str, Any]) -> ProbeMatrix:
    return ProbeMatrix(
        model=matrix["model"],
        probe=matrix["probe"],
        blocks=tuple(matrix["blocks"]),
        factors=tuple(matrix["factors"]),
        values=tuple(tuple(row) for row in matrix["values"]),
        selectivity=matrix["selectivity"],
    )
