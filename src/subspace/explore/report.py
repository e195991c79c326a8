"""What a separation report says, for its heat map: read from the JSON of `subspace probe`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.errors import ConfigError
from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS

# What two manifests of one checkpoint share, wherever it lies and its encoder came from.
_IDENTITY = ("blocks", "input_dim", "data", "training")


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


def read_matrices(folder: Path | str, *, manifest: Mapping[str, Any]) -> tuple[ProbeMatrix, ...]:
    """Reads `separation.json` of a folder that `subspace probe` wrote.

    Args:
        folder: The folder.
        manifest: Of the checkpoint that is explored.

    Raises:
        ConfigError: There is none, it is damaged, or it is of another checkpoint.
    """
    path = Path(folder) / "separation.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        theirs = content["about"]["checkpoint"]
        matrices = tuple(
            _read(matrix)
            for matrix in content["matrices"]
            if matrix["controlled"] and matrix["model"] in (IN_CORPUS, CROSS_CORPUS)
        )
    except OSError as error:
        raise ConfigError(
            f"--report: cannot read {path}: {error}; `subspace probe --output {folder}` writes it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--report: {path} is no separation report ({error!r:.100}); write it again with "
            "`subspace probe`"
        ) from error
    if any(theirs.get(key) != manifest[key] for key in _IDENTITY):
        raise ConfigError(
            f"--report: {path} is of another checkpoint; write one of this with `subspace probe`"
        )
    return matrices


def _read(matrix: Mapping[str, Any]) -> ProbeMatrix:
    return ProbeMatrix(
        model=matrix["model"],
        probe=matrix["probe"],
        blocks=tuple(matrix["blocks"]),
        factors=tuple(matrix["factors"]),
        values=tuple(tuple(row) for row in matrix["values"]),
        selectivity=matrix["selectivity"],
    )
