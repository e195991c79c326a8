"""Effective rank, energy and spread of scores."""

import numpy as np
import pytest
from worlds import PLANTED, cut, embedded, make_labels, plant

from subspace.evaluation.geometry import effective_rank, measure_geometry


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_effective_rank_of_equal_directions_is_their_number(count):
    covariance = np.diag([2.0] * count + [0.0] * (8 - count))
    assert effective_rank(covariance) == pytest.approx(count)


def test_unequal_directions_count_less_and_none_count_nothing():
    assert 1 < effective_rank(np.diag([10.0, 1.0])) < 2
    assert effective_rank(np.zeros((3, 3))) == 0


def test_energy_is_the_share_of_the_variance_and_a_constant_block_has_none():
    labels = make_labels()
    x = plant(labels)
    x[:, 15] = 1
    source = embedded(labels, x)
    found = measure_geometry(cut({**PLANTED, "still": slice(15, 16)}), {"test": source})
    assert sum(part.energy for part in found.values()) == pytest.approx(1)
    assert found["still"].energy == 0
    assert found["still"].score_spread == 0
    assert found["still"].score_mean == pytest.approx(1)
    test = labels.positions("test")
    variances = x[test].var(axis=0)
    expected = variances[:4].sum() / (variances.sum() + variances[15])
    assert found["topic"].energy == pytest.approx(expected, rel=1e-3)
    assert found["topic"].score_spread > 0.1
