"""nDCG and MRR follow their definition, over all orders of tied documents."""

from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.data.records import Record
from subspace.data.retrieval_sets import RetrievalSet
from subspace.evaluation.ranking import rank_score


def make_set(relevance: list[list[int]]) -> RetrievalSet:
    documents = [Record(id=f"d{n}", text="text") for n in range(len(relevance[0]))]
    return RetrievalSet(
        documents=tuple(documents),
        queries={f"q{row}": "query" for row in range(len(relevance))},
        relevance={
            f"q{row}": {f"d{n}": float(grade) for n, grade in enumerate(grades) if grade != 9}
            for row, grades in enumerate(relevance)
        },
    )


def slow_scores(scores: list[float], grades: list[int], k: int) -> tuple[float, float]:
    """Binary nDCG@k and reciprocal rank, averaged over all orders of tied documents."""
    count = len(scores)
    orders = [
        order
        for order in permutations(range(count))
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, sum(g > 0 for g in grades))))
    gains, reciprocal = [], []
    for order in orders:
        hits = [rank for rank, document in enumerate(order) if grades[document] > 0]
        gains.append(sum(1 / np.log2(rank + 2) for rank in hits if rank < k) / ideal)
        reciprocal.append(1 / (hits[0] + 1))
    return float(np.mean(gains)), float(np.mean(reciprocal))


def score(scores, relevance: list[list[int]], *, k: int = 10):
    data = make_set(relevance)
    return rank_score(np.array(scores), query_ids=list(data.queries), data=data, k=k)


@settings(max_examples=60, deadline=None)
@given(
    queries=st.lists(
        st.tuples(
            st.permutations([0.1, 0.2, 0.3, 0.4, 0.5]),
            st.lists(st.sampled_from([0, 1, 3]), min_size=5, max_size=5).filter(any),
        ),
        min_size=1,
        max_size=3,
    ),
    k=st.integers(1, 7),
)
def test_ndcg_and_mrr_follow_their_definition(queries, k):
    scores, grades = map(list, zip(*queries, strict=True))
    slow = np.mean([slow_scores(*query, k) for query in queries], axis=0)
    found = score(scores, grades, k=k)
    assert (found.ndcg, found.mrr) == pytest.approx(tuple(slow), rel=1e-9)
    assert (found.k, found.queries) == (k, len(queries))


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=5),
    grades=st.lists(st.sampled_from([0, 1]), min_size=5, max_size=5).filter(any),
    k=st.integers(1, 7),
)
def test_ndcg_is_the_mean_over_all_orders_of_tied_documents(scores, grades, k):
    found = score([scores], [grades], k=k)
    assert found.ndcg == pytest.approx(slow_scores(scores, grades, k)[0], rel=1e-9)


def test_constant_scores_are_worth_the_same_wherever_the_relevant_document_stands():
    """A block that says nothing must not gain from the order of the file."""
    found = [score(np.zeros((1, 5)), [np.eye(5, dtype=int)[place].tolist()]) for place in range(5)]
    expected = slow_scores([0.0] * 5, [1, 0, 0, 0, 0], 10)
    for place in range(5):
        assert found[place].ndcg == pytest.approx(expected[0], rel=1e-9)
        assert found[place].mrr == pytest.approx(expected[1], rel=1e-9)


def test_a_perfect_ranking_scores_one_and_the_reverse_does_not():
    grades = [[1, 1, 0, 0, 0]]
    best, worst = score([[5, 4, 3, 2, 1]], grades), score([[1, 2, 3, 4, 5]], grades)
    assert (best.ndcg, best.mrr) == (pytest.approx(1), 1)
    assert worst.ndcg < 0.7
    assert worst.mrr == 0.25


def test_grades_above_zero_count_alike_and_zero_not_at_all():
    scores = [[5, 4, 3, 2, 1]]
    assert score(scores, [[0, 3, 0, 1, 0]]) == score(scores, [[9, 1, 9, 2, 9]])


def test_queries_without_a_relevant_document_do_not_count():
    scores = [[1, 2, 3], [3, 2, 1]]
    assert score(scores, [[1, 0, 0], [0, 0, 0]]) == score(scores[:1], [[1, 0, 0]])
    with pytest.raises(ValueError, match="no query has a relevant document"):
        score(scores, [[0, 0, 0], [9, 9, 9]])


def test_a_single_document_that_is_relevant_is_found():
    found = score([[0.5]], [[1]])
    assert (found.ndcg, found.mrr) == (1, 1)


def tied_mrr(*, above: int, ties: int, relevant: int) -> float:
    """MRR where `ties` documents share a score and `above` irrelevant ones stand above them."""
    names = [str(number) for number in range(above + ties)]
    data = RetrievalSet(
        documents=tuple(Record(id=name, text="t") for name in names),
        queries={"q": "t"},
        relevance={"q": dict.fromkeys(names[above : above + relevant], 1.0)},
    )
    scores = np.repeat([1.0, 0.5], [above, ties])[None]
    return rank_score(scores, query_ids=["q"], data=data, k=10).mrr


def exact_mrr(*, above: int, ties: int, relevant: int) -> float:
    """By the rule of multiplication, in fractions: the first so many are all irrelevant."""
    total, none_before = Fraction(0), Fraction(1)
    for place in range(ties - relevant + 1):
        chance = none_before * Fraction(relevant, ties - place)
        total += chance / (above + place + 1)
        none_before -= chance
    return float(total)


@pytest.mark.parametrize(
    ("above", "ties", "relevant"),
    [(0, 1, 1), (3, 2, 1), (0, 6, 6), (2, 30, 7), (0, 1500, 500), (1, 5000, 200), (0, 20000, 1)],
)
def test_ties_are_averaged_over_all_orders_however_many(above, ties, relevant):
    case = {"above": above, "ties": ties, "relevant": relevant}
    assert tied_mrr(**case) == pytest.approx(exact_mrr(**case), rel=1e-9)
