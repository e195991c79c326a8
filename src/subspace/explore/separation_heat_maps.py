"""Matrices of a separation report that `subspace probe` wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS
from subspace.model import Model
from subspace.model.separation_report import read_report


@dataclass(frozen=True)
class ProbeMatrix:
    """Scores of one kind of probe by block and factor, with confounds controlled.

    Attributes:
        model: Kind of fitted model: `in-corpus` or `cross-corpus`.
        probe: `linear`, `neighbours` or `network`.
        blocks: Names of the rows.
        factors: Names of the columns.
        values: Score on the block divided by the score on the raw embedding, by row; None where
            there is no score.
        selectivity: Mean retention minus mean leakage; None if unknown.
    """

    model: str
    probe: str
    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    selectivity: float | None


def read_matrices(folder: Path | str, *, model: Model) -> tuple[ProbeMatrix, ...]:
    """Reads the matrices with confounds controlled from `separation.json` in a folder.

    Args:
        folder: Folder that `subspace probe --output` wrote.
        model: The model that the report must be about.

    Raises:
        ConfigError: There is no report, or it is damaged or about another checkpoint.
    """
    report = read_report(folder, model=model)
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
