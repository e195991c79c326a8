"""Ties: the reciprocal rank is the mean over all orders, however many there are."""

from fractions import Fraction

import numpy as np
import pytest

from subspace.evaluation.ranking import rank_score
from subspace.retrieval_sets import Document, RetrievalSet


def tied_mrr(*, above: int, ties: int, relevant: int) -> float:
    """MRR where `ties` documents share a score and `above` irrelevant ones stand above them."""
    names = [str(number) for number in range(above + ties)]
    data = RetrievalSet(
        documents=tuple(Document(id=name, text="t") for name in names),
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
