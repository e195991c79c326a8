"""Baselines are what they are called, in blocks of the same widths."""

import numpy as np
import pytest
from worlds import DIM, RAW, make_labels, plant

from subspace.blocks import BlockLayout
from subspace.evaluation.baselines import principal_components, random_rotation
from subspace.fitting.moments import collect_moments

LAYOUT = BlockLayout.from_widths({"topic": 4, "style": 2, "complexity": 2})


@pytest.fixture(scope="module")
def moments():
    labels = make_labels()
    rows = labels.positions("train")
    return {"test": collect_moments(plant(labels), rows=rows, labels=labels.take(rows))}


def test_a_rotation_is_orthonormal_reads_the_raw_part_alone_and_is_the_same_every_time():
    found = random_rotation(layout=LAYOUT, raw=slice(4, 14), dim=DIM)
    assert found.layout.names == ("topic", "style", "complexity")
    np.testing.assert_allclose(found.weight @ found.weight.T, np.eye(8), atol=1e-6)
    assert not found.weight[:, :4].any()
    assert not found.weight[:, 14:].any()
    again = random_rotation(layout=LAYOUT, raw=slice(4, 14), dim=DIM)
    assert (again.weight == found.weight).all()


def test_principal_components_come_in_the_order_of_their_variance(moments):
    found = principal_components(moments, layout=LAYOUT, raw=RAW)
    covariance = found.weight @ moments["test"].covariance @ found.weight.T
    variances = np.diag(covariance)
    assert (np.diff(variances) < 1e-6).all()
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-5)


def test_blocks_wider_than_the_raw_embedding_start_again():
    wide = BlockLayout.from_widths({"topic": 12, "style": 12})
    found = random_rotation(layout=wide, raw=RAW, dim=DIM)
    assert (found.weight[16:] == found.weight[:8]).all()
