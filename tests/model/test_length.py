"""Directions lose what follows the length of texts, and little else."""

import numpy as np
import pytest

from subspace.model.length import LengthTrend

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(2, 60, 4000)
TEXTS = ["word " * int(count) for count in COUNTS]
WORDS = np.log(COUNTS)
# Dimension 1 varies much and follows the words a little, dimension 2 the other way round.
VECTORS = RNG.normal(size=(4000, 6)) * [1, 3, 0.3, 1, 1, 1]
VECTORS[:, 1] += WORDS
VECTORS[:, 2] += WORDS
VECTORS[:, 5] -= WORDS
BLOCKS = [slice(0, 3), slice(3, 6)]
DIRECTION = np.array([1.0, 0.5, 1.0, 0, 0, 0])


def correlation(direction) -> float:
    return float(np.corrcoef(VECTORS @ direction, WORDS)[0, 1])


@pytest.mark.parametrize("direction", [DIRECTION, np.eye(6)[1], np.ones(6)])
def test_scores_are_not_correlated_with_length_any_more(direction):
    trend = LengthTrend.measure(VECTORS, TEXTS, blocks=BLOCKS)
    np.testing.assert_allclose(trend.covariance[2], WORDS.var(), rtol=0.1)
    assert abs(correlation(direction)) > 0.1
    found = trend.taken_out_of(direction)
    assert abs(correlation(found)) < 0.02
    assert found[3:].any() == direction[3:].any()  # a block that a direction does not use


def test_scores_become_almost_what_a_regression_on_the_words_leaves_of_them():
    scores = VECTORS @ DIRECTION
    fitted = np.polyval(np.polyfit(WORDS, scores, 1), WORDS)
    trend = LengthTrend.measure(VECTORS, TEXTS, blocks=BLOCKS)
    found = VECTORS @ trend.taken_out_of(DIRECTION)
    assert np.corrcoef(found, scores - fitted)[0, 1] > 0.95
    # Along the covariance itself, the dimension that varies most would change most.
    c = np.append(trend.covariance[:3], [0, 0, 0])
    along = VECTORS @ (DIRECTION - c * (c @ DIRECTION) / (c @ c))
    assert (found - scores).var() < 0.5 * (along - scores).var()


def test_few_texts_tell_little_and_texts_of_one_length_nothing():
    trend = LengthTrend.measure(VECTORS[:10], TEXTS[:10])
    change = trend.taken_out_of(DIRECTION) - DIRECTION
    along = trend.covariance @ DIRECTION / (trend.covariance @ trend.slope)
    np.testing.assert_allclose(change, -along * trend.slope / 6, rtol=1e-6)
    for nothing in (
        LengthTrend.measure(VECTORS, ["one two"] * 4000),
        LengthTrend.measure(VECTORS[:0], []),
        LengthTrend.measure(np.ones((4000, 6)), TEXTS),
    ):
        np.testing.assert_array_equal(nothing.taken_out_of(DIRECTION), DIRECTION)
