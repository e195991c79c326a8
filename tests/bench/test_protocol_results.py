"""Measures and tests of results are what their definitions say."""

import itertools

import numpy as np
import pytest

from subspace.bench.protocol_results import (
    MEASURES,
    Cost,
    Result,
    adjust,
    recall_one,
    score_queries,
)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_recall_is_its_mean_over_the_orders_of_tied_documents(k):
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    relevant = np.array([False, True, False, True, True])
    shares = []
    for order in itertools.permutations(range(5)):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            shares.append(sum(relevant[n] for n in order[:k]) / 3)
    assert recall_one(scores, relevant=relevant, k=k) == pytest.approx(np.mean(shares))


def make_result(ndcg: np.ndarray) -> Result:
    scores = dict.fromkeys(MEASURES, ndcg)
    return Result(name="a", family="single", about="", scores=scores, cost=Cost(4, 1, 1, 1))


def test_the_p_value_is_the_share_of_sign_flips_that_go_as_far():
    difference = np.array([0.3, 0.1, -0.05, 0.2, 0.4, 0.25])
    one, other = make_result(0.5 + difference), make_result(np.full(6, 0.5))
    flips = [abs(np.mean(difference * s)) for s in itertools.product((1, -1), repeat=6)]
    wanted = np.mean([flip >= abs(difference.mean()) - 1e-12 for flip in flips])
    assert one.p_value(other) == pytest.approx(wanted)
    assert one.p_value(one) == 1
    low, high = one.interval("mrr")
    assert low < one.mean("mrr") < high
    assert other.interval("mrr") == (0.5, 0.5)


def test_p_values_are_adjusted_for_their_number():
    np.testing.assert_allclose(adjust([0.01, 0.02, 0.5]), [0.03, 0.03, 0.5])
    assert len(adjust([])) == 0


def test_measures_of_a_perfect_and_a_reversed_ranking():
    scores, relevant = np.arange(200.0)[None], np.zeros((1, 200), dtype=bool)
    relevant[0, -1] = True
    assert all(values == [1] for values in score_queries(scores, relevant=relevant).values())
    worst = score_queries(-scores, relevant=relevant)
    assert worst["recall@100"] == worst["ndcg@10"] == [0]
    assert worst["mrr"] == [1 / 200]


def test_one_query_has_an_interval_and_proves_nothing():
    one, other = make_result(np.array([0.5])), make_result(np.array([0.7]))
    assert one.p_value(other) == 1
    assert one.interval("ndcg@10") == (0.5, 0.5)
