"""Reading of a report for the model card, with a check that it is of the right checkpoint.

It is the report of `subspace probe`, or the tables of `subspace bench steer`, which are its first
part.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subspace.errors import ConfigError
from subspace.model.model import Model

REPORT, STEERING = "separation.json", "steering.json"

Report = Mapping[str, Any]

# Types: [of every item], {key: of its value}, {...: of every value}.
_NUMBER = int | float
_MATRIX = {
    "model": str,
    "probe": str,
    "controlled": bool,
    "blocks": [str],
    "factors": [str],
    "values": [[_NUMBER | None]],
    "retention": {...: _NUMBER},
    "leakage": {...: _NUMBER},
    "selectivity": _NUMBER | None,
    "selectivity_interval": list | None,
}
_BASE = {
    "name": str,
    "queries": int,
    "ndcg": _NUMBER,
    "raw_ndcg": _NUMBER,
    "relative": _NUMBER | None,
}
_ABOUT = {"projection": str, "checkpoint": {"encoder": {"fingerprint": dict}}}
_ROW = {
    "source": str,
    "factor": str,
    "kind": str,
    "contender": str,
    "in_corpus": bool,
    "gain": {...: _NUMBER},
}
_REPORT = {
    "about": _ABOUT,
    "matrices": [_MATRIX],
    "base_retrieval": [_BASE],
    "warnings": [str],
    "left_out": [str],
    "steering": [_ROW],
}


def read_report(folder: Path | str, *, model: Model) -> Report:
    """Reads `separation.json` or `steering.json` from a folder, the first if both are there.

    Args:
        folder: Folder that `subspace probe --output` or `subspace bench steer --output` wrote.
        model: The model that the report must describe.

    Raises:
        ConfigError: The report is missing, damaged or of another checkpoint.
    """
    path = Path(folder) / REPORT
    if not path.exists() and (Path(folder) / STEERING).exists():
        path = Path(folder) / STEERING
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"--report: cannot read {path}: {error}; write it with `subspace probe --output "
            f"{folder}`"
        ) from error
    if path.name == STEERING and _fits(report, {"about": _ABOUT, "rows": [_ROW]}):
        others = ("matrices", "base_retrieval", "warnings", "left_out")
        report = {
            "about": report["about"],
            "steering": report["rows"],
            **{name: [] for name in others},
        }
    if not _fits(report, _REPORT) or not all(map(_is_table, report["matrices"])):
        raise ConfigError(
            f"--report: {path} is no separation report, or is damaged; write it with `subspace "
            f"probe --output {folder}`"
        )
    about = report["about"]
    mine = {"projection": model.projection.digest, "encoder": model.fingerprint.to_json()}
    theirs = {
        "projection": about["projection"],
        "encoder": about["checkpoint"]["encoder"]["fingerprint"],
    }
    differing = [key for key in mine if theirs[key] != mine[key]]
    if differing:
        raise ConfigError(
            f"--report: {path} is of another checkpoint ({' and '.join(differing)} differ); "
            "measure this one with `subspace probe`"
        )
    return dict(report)


def _fits(value: Any, shape: Any) -> bool:
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(one, shape[0]) for one in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        wanted = dict.fromkeys(value, shape[...]) if ... in shape else shape
        return all(key in value and _fits(value[key], part) for key, part in wanted.items())
    return isinstance(value, shape)


def _is_table(matrix: Mapping[str, Any]) -> bool:
    """Tells whether a matrix has a row per block, a column per factor and an interval's ends."""
    interval = matrix["selectivity_interval"] or [None, None]
    return (
        len(matrix["values"]) == len(matrix["blocks"])
        and all(len(row) == len(matrix["factors"]) for row in matrix["values"])
        and len(interval) == 2
        and _fits(interval, [_NUMBER | None])
    )
