"""Directions lose what follows the length of texts, and nothing else."""

import numpy as np

from subspace.model.length import length_covariance, without_length

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(2, 60, 4000)
TEXTS = ["word " * int(count) for count in COUNTS]
WORDS = np.log(COUNTS)
VECTORS = RNG.normal(size=(4000, 6))
VECTORS[:, 2] += WORDS
VECTORS[:, 5] -= WORDS


def correlation(direction) -> float:
    return float(np.corrcoef(VECTORS @ direction, WORDS)[0, 1])


def test_scores_are_not_correlated_with_length_any_more():
    direction = np.array([1.0, 0.5, 1.0, 0, 0, 0])
    covariance = length_covariance(VECTORS, TEXTS)
    np.testing.assert_allclose(covariance[2], WORDS.var(), rtol=0.1)
    found = without_length(direction, covariance, count=4000)
    assert abs(correlation(direction)) > 0.4
    assert abs(correlation(found)) < 0.01
    assert not found[3:].any()  # dimensions that a direction does not use
    apart = np.linalg.norm(found[[0, 1]] - direction[[0, 1]])
    assert apart < 0.1  # dimensions that know nothing of length


def test_few_texts_tell_little_and_texts_of_one_length_nothing():
    direction = np.array([1.0, 0.5, 1.0, 0, 0, 0])
    covariance = length_covariance(VECTORS[:10], TEXTS[:10])
    whole = without_length(direction, covariance, count=10**9)
    few = without_length(direction, covariance, count=10)
    np.testing.assert_allclose(few - direction, (whole - direction) / 6, rtol=1e-6)
    equal = length_covariance(VECTORS, ["one two"] * 4000)
    np.testing.assert_array_equal(without_length(direction, equal, count=4000), direction)
    assert not length_covariance(VECTORS[:0], []).any()
