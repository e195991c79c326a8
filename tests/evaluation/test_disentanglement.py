"""DCI, MIG and SAP: 1 or near it when planted, 0 when constant or when blocks are copies."""

import numpy as np
import pytest
from worlds import PLANTED, RAW, cut, embedded, make_labels, plant

from subspace.evaluation.disentanglement import concentration, gap, measure_disentanglement
from subspace.evaluation.separation import read_factors

COPIES = {"topic": slice(0, 16), "style": slice(0, 16), "complexity": slice(0, 16)}


def measure(places):
    projection, sources = cut(places), {"test": embedded(make_labels())}
    readings, _ = read_factors(sources, models={"model": {"test": projection}}, raw=RAW, seeds=1)
    own = [r for r in readings if r.model == "model" and r.probe == "linear" and not r.controlled]
    return measure_disentanglement(projection, sources, readings=own)


@pytest.fixture(scope="module")
def planted():
    return measure(PLANTED)


def test_planted_blocks_are_disentangled_and_complete(planted):
    assert planted.blocks == planted.factors == ("topic", "style", "complexity")
    assert (planted.importance.argmax(axis=0) == [0, 1, 2]).all()
    np.testing.assert_allclose(planted.importance.sum(axis=0), 1)
    for name in planted.factors:
        assert planted.disentanglement[name] > 0.5
        assert planted.completeness[name] > 0.5
        assert planted.mig[name] > 0.15
        assert planted.sap[name] > 0.5


def test_copies_of_everything_are_not(planted):
    copies = measure(COPIES)
    for name in copies.factors:
        assert copies.completeness[name] < 0.1 < planted.completeness[name]
        assert copies.mig[name] < 0.1 < planted.mig[name]
        assert copies.sap[name] < 0.05 < planted.sap[name]
    assert max(copies.disentanglement.values()) < 0.1


def test_a_constant_block_says_nothing():
    labels = make_labels()
    x = plant(labels)
    x[:, 15] = 1
    projection = cut({"topic": slice(0, 4), "style": slice(15, 16)})
    found = measure_disentanglement(projection, {"test": embedded(labels, x)}, readings=[])
    assert found.importance[1].max() == 0
    assert found.information[1].max() == 0


def test_nothing_to_read_has_no_scores():
    labels = make_labels(count=60)
    assert measure_disentanglement(cut(PLANTED), {"test": embedded(labels)}, readings=[]) is None


def test_concentration_and_gap():
    assert concentration(np.array([0.0, 1.0, 0.0])) == pytest.approx(1)
    assert concentration(np.array([1.0, 1.0, 1.0])) == pytest.approx(0)
    assert concentration(np.zeros(3)) == 0
    assert gap(np.array([0.1, 0.9, 0.5])) == pytest.approx(0.4)
    assert gap(np.array([0.3])) == 0.3
