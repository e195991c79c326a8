"""Scores are those of scikit-learn and scipy, and a bootstrap is that of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score

from subspace.data.labels import Column
from subspace.evaluation.scores import (
    bootstrap_weights,
    chance_of,
    interval,
    score_predictions,
)


def classes(codes) -> Column:
    return Column(codes=np.array(codes), class_count=5)


def numbers(values) -> Column:
    values = np.array(values, dtype=float)
    return Column(codes=np.zeros(len(values), dtype=int), class_count=1, values=values)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 60))
def test_scores_are_balanced_accuracy_and_spearman(seed, count):
    rng = np.random.default_rng(seed)
    codes, guesses = rng.integers(0, 5, (2, count))
    guesses = np.where(rng.random(count) < 0.5, codes, guesses)
    found = score_predictions(guesses[None], truth=classes(codes))
    known = np.isin(guesses, codes)
    if known.all() and len(set(codes)) > 1:  # scikit-learn warns of other cases
        assert found[0, 0] == pytest.approx(balanced_accuracy_score(codes, guesses))
    values = rng.integers(0, 9, count).astype(float)
    ranked = rng.normal(size=count).round(1)
    if np.ptp(values) > 0 and np.ptp(ranked) > 0:
        found = score_predictions(ranked[None], truth=numbers(values))
        assert found[0, 0] == pytest.approx(spearmanr(values, ranked).statistic, abs=1e-9)


def test_weights_count_texts_as_if_they_were_repeated():
    rng = np.random.default_rng(0)
    codes, guesses = rng.integers(0, 3, (2, 40))
    weights = rng.integers(1, 4, (6, 40))
    found = score_predictions(guesses[None], truth=classes(codes), weights=weights.astype(float))
    for replicate, weight in zip(found[0], weights, strict=True):
        repeated = np.repeat(np.arange(40), weight)
        expected = balanced_accuracy_score(codes[repeated], guesses[repeated])
        assert replicate == pytest.approx(expected)


def test_a_class_that_was_not_drawn_does_not_count():
    weights = np.array([[1.0, 1.0, 0.0]])
    found = score_predictions(np.array([[0, 1, 1]]), truth=classes([0, 0, 2]), weights=weights)
    assert found[0, 0] == 0.5


@pytest.mark.parametrize("predicted", [[0.0, 0.0, 0.0], [1e9, 1e9, 1e9]])
def test_a_constant_ranks_nothing(predicted):
    found = score_predictions(np.array([predicted]), truth=numbers([1, 2, 3]))
    assert found[0, 0] == 0


def test_chance_is_one_over_the_classes_that_occur():
    assert chance_of(classes([0, 0, 3, 4])) == pytest.approx(1 / 3)
    assert chance_of(numbers([1, 2])) == 0


def test_a_bootstrap_draws_as_many_clusters_as_there_are_and_keeps_them_whole():
    clusters = np.array([0, 0, 1, 1, 1, -1, -1])
    weights = bootstrap_weights(clusters, replicates=400, rng=np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, 5] != weights[:, 6]).any()
    drawn = weights[:, [0, 2, 5, 6]].sum(axis=1)
    assert (drawn == 4).all()
    assert weights.mean() == pytest.approx(1, abs=0.05)


def test_the_interval_of_a_mean_is_about_as_wide_as_theory_says():
    rng = np.random.default_rng(0)
    codes = np.zeros(400, dtype=int)
    guesses = (rng.random(400) < 0.3).astype(int)  # right in 70 %
    weights = bootstrap_weights(np.full(400, -1), replicates=2000, rng=rng)
    low, high = interval(score_predictions(guesses[None], truth=classes(codes), weights=weights))
    error = np.sqrt(0.7 * 0.3 / 400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
