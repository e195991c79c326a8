"""The heat map shows the matrices of a report, and only of the checkpoint that is explored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import PLANTED, RAW, cut, embedded, make_labels

from subspace.errors import ConfigError
from subspace.evaluation import IN_CORPUS, Report, read_factors
from subspace.evaluation.separation import RAW as RAW_MODEL
from subspace.explore.figures import heat_map
from subspace.explore.separation_heat_maps import read_matrices
from subspace.model.checkpoint import manifest


@pytest.fixture(scope="module")
def report(model, tmp_path_factory) -> Path:
    """Read in a world with planted factors, and written as if it were of the model."""
    folder = tmp_path_factory.mktemp("report")
    planted = cut(PLANTED)
    readings, _ = read_factors(
        {"known": embedded(make_labels(source="known", count=600))},
        models={IN_CORPUS: {"known": planted}},
        raw=RAW,
        seeds=1,
    )
    measured = Report(
        about={"checkpoint": manifest(model), "projection": model.projection.digest},
        blocks=planted.layout.names,
        readings=tuple(readings),
        models=(RAW_MODEL, IN_CORPUS),
    )
    measured.save(folder)
    return folder


def test_the_heat_map_is_the_matrix_of_the_report(report, model):
    matrices = read_matrices(report, model=model)
    assert (matrices[0].model, matrices[0].probe) == (IN_CORPUS, "linear")
    (trace,) = heat_map(matrices, probe="linear").data
    assert tuple(map(tuple, trace.z)) == matrices[0].values
    assert trace.z[0][0] > 0.8 > 0.3 > trace.z[0][1]  # the planted block holds its own factor


def test_a_report_of_another_checkpoint_or_none_is_refused(report, model, tmp_path):
    moved = replace(model.projection, mean=model.projection.mean + np.float32(1))
    with pytest.raises(ConfigError, match=r"of another checkpoint \(projection differ"):
        read_matrices(report, model=replace(model, projection=moved))
    other = replace(model.fingerprint, max_length=64)
    with pytest.raises(ConfigError, match=r"of another checkpoint \(encoder differ"):
        read_matrices(report, model=replace(model, fingerprint=other))
    with pytest.raises(ConfigError, match="`subspace probe --output"):
        read_matrices(tmp_path, model=model)
    for content in ('{"about": []}', '{"about": {"checkpoint": "text"}, "matrices": [1]}'):
        (tmp_path / "separation.json").write_text(content)
        with pytest.raises(ConfigError, match="no separation report"):
            read_matrices(tmp_path, model=model)
